import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from bench import store
from reports.__main__ import app
from tests.factories import make_environment, make_record

RUNNER = CliRunner()


@pytest.fixture
def runs(tmp_path):
    for name, gpu, time_s in (("a", "a100-sxm-80gb", 4e-4), ("b", "h200-sxm", 2e-4)):
        (tmp_path / name).mkdir()
        record = make_record(time_s=time_s, environment=make_environment(gpu=gpu))
        store.append(tmp_path / name / store.RECORDS, record)
    return tmp_path / "a", tmp_path / "b"


def test_render_writes_beside_the_records_and_says_where(runs):
    result = RUNNER.invoke(app, ["render", str(runs[0])])
    assert result.output.strip() == str(runs[0] / "report.md")
    assert (runs[0] / "report.md").exists()
    assert "a100-sxm-80gb" in (runs[0] / "report.html").read_text(encoding="utf-8")
    assert (runs[0] / "figures" / "roofline.png").read_bytes().startswith(b"\x89PNG")


def test_show_prints_a_table_or_json(runs):
    text = RUNNER.invoke(app, ["show", str(runs[0])]).output
    # 134,742,016 bytes at 1 TB/s in 400 us: 33.7 % of the roof.
    assert all(part in text for part in ("a100-sxm-80gb", "datasheet", "400 us", "33.7 %"))
    (row,) = json.loads(RUNNER.invoke(app, ["show", str(runs[0]), "--json"]).output)
    assert (row["workload"], row["time_s"], row["machine"]) == ("matmul-m16-n8192-k8192-bf16", 4e-4, "a100-sxm-80gb")


def test_compare_prints_a_table_json_and_a_figure(runs, tmp_path):
    text = RUNNER.invoke(app, ["compare", *map(str, runs)]).output
    assert "A: a100-sxm-80gb (run " in text
    assert "B: h200-sxm (run " in text
    assert "0.50x" in text
    result = RUNNER.invoke(app, ["compare", *map(str, runs), "--json", "--out", str(tmp_path / "out")])
    data = json.loads(result.stdout)
    assert data["time_ratio_by_op"] == {"matmul": pytest.approx(0.5)}
    assert data["rows"][0]["verdict"] == "B faster"
    assert (tmp_path / "out" / "comparison.png").read_bytes().startswith(b"\x89PNG")


def test_skipped_lines_are_named_on_stderr(runs):
    with (runs[0] / store.RECORDS).open("a") as lines:
        lines.write("garbage\n")
    result = RUNNER.invoke(app, ["show", str(runs[0]), "--skip-broken", "--json"])
    assert "records.jsonl:2: not JSON" in result.stderr
    assert len(json.loads(result.stdout)) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["render", "nowhere"], "no such file"),
        (["show", "{a}"], "records.jsonl:2: not JSON"),
        (["compare", "{a}", "{b}"], "--skip-broken reads the rest"),
    ],
)
def test_bad_input_is_one_line_and_exit_status_2(runs, refusal, arguments, message):
    with (runs[0] / store.RECORDS).open("a") as lines:
        lines.write("garbage\n")
    filled = [argument.format(a=runs[0], b=runs[1]) for argument in arguments]
    assert message in refusal(app, *filled)


def test_bad_input_ends_the_program_in_the_same_way():
    command = [sys.executable, "-m", "reports", "render", "nowhere"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (2, "")
    assert "no such file" in result.stderr
    assert len(result.stderr.splitlines()) == 1
