"""The command: a run, tables and public measurements judged together, and what it refuses."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from predict.errors import BadRecord, BadRun
from reports.__main__ import app
from reports.commands import scorecard
from reports.scorecard.beside import BEGIN, END
from reports.scorecard.knees import knees_of, knees_png
from reports.scorecard.points import of_points
from reports.scorecard.records import of_records
from tests.reports.accuracy.test_endtoend import judged, point, row, written
from tests.reports.run.test_calibrate import matmul_run
from tests.reports.scorecard.test_kernels import by_bound, matmuls

RUNNER = CliRunner()
ROOT = Path(__file__).resolve().parents[3]
CPU_RUN = ROOT / "reports" / "data" / "cpu-amd-epyc" / "2026-11-29-standard"


def run(*arguments):
    return RUNNER.invoke(app, ["scorecard", *map(str, arguments)])


def test_public_measurements_judge_times_and_throughputs():
    times = [point("tpot", "s", measured) for measured in (0.007, 0.0075, 0.008)]
    found = of_points(judged(*times, point("static_tps", "tokens/s", 400)))
    assert len(found[19].measured) == 3
    assert "3 public times (tpot)" in found[19].sentence
    assert "none beat the bound" in found[19].sentence
    assert found[18] == "1 public throughputs with an expected one; 3 are needed"
    assert found[10] == "no public logs of engines that say how many tokens fit; 3 are needed"
    rooms = judged(*(point("kv_tokens", "tokens", measured) for measured in (80_000, 90_000, 100_000)))
    fitting = of_points(rooms)[10]
    assert list(fitting.measured) == [80_000, 90_000, 100_000]
    assert list(fitting.predicted) == [each.expected for each in rooms]
    assert of_points([])[18] == "no public throughputs with an expected one; 3 are needed"


def test_a_runs_matmuls_of_several_batches_are_held_to_their_bounds():
    found = of_records(matmul_run())
    # Of the made-up run each weight of OTHERS has the batches 1, 48, 384 and 3000, by two implementations.
    assert len(found[12].measured) >= 2 * 3 * 3
    assert found[1].predicted.max() < found[1].measured.max()
    assert "no pair of stable rows tells: KV cache" in found[8]
    assert found[14] == "no stable decode attention over a cache with and without pages; suite full has such rows"


def test_the_command_prints_writes_and_says_what_is_missing(tmp_path):
    points = written(tmp_path, row(), row(measured="0.012"), row(kind="ttft", measured="0.05"))
    result = run("--endtoend", points, "--out", tmp_path / "card.md")
    assert result.exit_code == 0, result.output
    assert "19. A pass of a whole model takes the sum of its kernels." in result.output
    assert "Not measured" in result.output
    text = (tmp_path / "card.md").read_text(encoding="utf-8")
    assert text.startswith("# Scorecard")
    assert "\n- a\n" in text  # the publisher: the first word of the source
    entries = json.loads(run("--endtoend", points, "--json").output)
    assert {entry["claim"] for entry in entries} == set(range(1, 20))
    (nineteen,) = [entry for entry in entries if entry["claim"] == 19]
    assert (nineteen["machine"], nineteen["rows"]) == ("h100-sxm", 3)
    assert run("--endtoend", points, "--csv").output.startswith("claim,name,machine,verdict")


def test_a_place_that_cannot_be_written_is_refused_before_anything_is_judged(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    result = run("nowhere", "--out", tmp_path / "file" / "card.md")
    assert isinstance(result.exception, BadRun)
    assert "cannot write to" in str(result.exception)


def test_tables_with_a_knee_get_its_figure_beside_the_scorecard(tmp_path, monkeypatch):
    monkeypatch.setattr(scorecard.reading, "read_sides", lambda paths, *, skip_broken: ())
    monkeypatch.setattr(scorecard.claims, "groups_of_sides", lambda sides: {"h100-sxm": [matmuls(by_bound)]})
    result = run("--tables", "a.parquet", "--out", tmp_path / "card.md")
    assert result.exit_code == 0, result.output
    assert "![" in (tmp_path / "card.md").read_text(encoding="utf-8")
    assert "(figures/knees.png)" in (tmp_path / "card.md").read_text(encoding="utf-8")
    assert (tmp_path / "figures" / "knees.png").read_bytes() == knees_png(knees_of([matmuls(by_bound)]))
    assert result.output.splitlines()[-2:] == [str(tmp_path / "card.md"), str(tmp_path / "figures" / "knees.png")]


def test_a_run_is_put_beside_the_gpus_of_a_document(tmp_path):
    (tmp_path / "docs").mkdir()
    shutil.copy(ROOT / "docs" / "scorecard.md", tmp_path / "docs")
    document = tmp_path / "page.md"
    document.write_text(f"{BEGIN}\n{END}\n", encoding="utf-8")
    result = run(CPU_RUN, "--write-docs", document, "--markdown")
    assert result.exit_code == 0, result.output
    text = document.read_text(encoding="utf-8")
    assert "| A100 | H100 | H200 | B200 | L40S | AMD EPYC |" in text
    assert "| 4 | backward is twice forward |  |  |  |  |  | holds" in text


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        (("runs/a", "--tables", "a.jsonl"), BadRun, "a.jsonl is a run, and --tables takes tables alone"),
        (("--endtoend", "a.csv", "--write-docs", "page.md"), BadRecord, "a.csv"),
        ((), BadRun, "give runs or tables, or --endtoend"),
        (("a", "b"), BadRecord, "a: no such file"),
        ((".", "."), BadRecord, "no such file; give the folder of a run"),
        (("nowhere",), BadRecord, "no such file or folder"),
        (("nowhere.parquet",), BadRecord, "no such file"),
        (("--endtoend", "nowhere.csv"), BadRecord, "nowhere.csv"),
    ],
)
def test_what_cannot_be_judged_is_refused_in_a_line(arguments, error, said):
    found = run(*arguments).exception
    assert isinstance(found, error)
    assert said in str(found)
