"""The command: runs and tables mixed, its forms and files, and what it refuses.

Bounds of 16 x 4096 x 4096 in bf16 are derived in tests/reports/accuracy/test_compare.py: 33,816,576 bytes."""

import dataclasses
import json

import pandas as pd
import pytest
from typer.testing import CliRunner

from bench import store
from bench.record import RoofSet, Status
from reports.__main__ import app
from reports.palette import side_colors
from tests.factories import MEASURED, make_environment, make_record, unstable

A100, H100 = "a100-sxm-80gb", "h100-sxm"
THIN = {"m": 16, "n": 4096, "k": 4096}
CPU = {"device": "cpu", "gpu": None, "name": "Some CPU"}
RUNNER = CliRunner()


def write_table(path, device="NVIDIA A100-SXM4-80GB", latency=0.04, **dims):
    texts = {"device": device, "op_name": "gemm", "kernel_source": "k", "gemm_dtype": "bfloat16"}
    pd.DataFrame([{**texts, **THIN, **dims, "latency": latency}]).to_parquet(path)
    return str(path)


def write_run(folder, *records, **environment):
    folder.mkdir(parents=True, exist_ok=True)
    for record in records or (make_record(dims=THIN, time_s=1e-5, environment=make_environment(**environment)),):
        store.append(folder / store.RECORDS, record)
    return str(folder)


@pytest.fixture
def tables(tmp_path):
    return [write_table(tmp_path / "a.parquet"), write_table(tmp_path / "h.parquet", "NVIDIA H100 80GB HBM3", 0.02)]


def compare(*arguments):
    return RUNNER.invoke(app, ["compare", *map(str, arguments)], catch_exceptions=False)


def compared(*arguments):
    return json.loads(compare(*arguments, "--json").stdout)


def test_tables_need_no_option_and_fit_a_terminal(tables):
    text = compare(*tables).output
    assert all(part in text for part in (f"A: {A100}", f"B: {H100}", "matmul", "41.5 %", "50.5 %", "0.50x"))
    assert max(map(len, text.splitlines())) <= 100


def test_a_run_against_itself_changes_nothing_and_each_side_has_a_name(tmp_path):
    run = write_run(tmp_path / "run")
    found = compared(run, f"{run}/records.jsonl")
    assert [row["verdict"] for row in found["rows"]] == ["no difference seen"]
    assert len({each["machine"] for each in found["claims"]}) == 2
    assert compare(run, run).exit_code == 0


def test_a_run_stands_beside_a_table_in_the_order_of_the_paths(tables, tmp_path):
    run = write_run(tmp_path / "run")
    found = compared(run, tables[0])
    assert [side["name"] for side in found["sides"]] == ["h200-sxm", A100]
    assert [each["time_ratio"] for each in found["shares"]] == [1.0, pytest.approx(4.0)]  # 40 us over 10 us
    assert any("runs are timed by this project, tables by others" in note for note in found["notes"])


def test_runs_of_one_machine_are_told_apart_by_their_folders(tmp_path):
    runs = [write_run(tmp_path / name) for name in ("monday", "tuesday")]
    assert [side["name"] for side in compared(*runs, write_table(tmp_path / "t.parquet"))["sides"]] == [
        "monday",
        "tuesday",
        A100,
    ]
    same = [write_run(tmp_path / name / "run") for name in ("a", "b")]
    names = [side["name"] for side in compared(*same, write_table(tmp_path / "t.parquet"))["sides"]]
    assert names == [*same, A100]


def test_a_run_and_a_table_of_one_machine_are_two_sides(tmp_path, tables):
    run = write_run(tmp_path / "mine", gpu=A100, name="NVIDIA A100-SXM4-80GB")
    assert [side["name"] for side in compared(run, tables[0])["sides"]] == ["mine", A100]


def test_two_runs_are_compared_row_by_row(tmp_path):
    a, b = (write_run(tmp_path / name, make_record(time_s=time_s)) for name, time_s in (("a", 2.0), ("b", 1.0)))
    found = compared(a, b)
    assert [row["verdict"] for row in found["rows"]] == ["B faster"]
    assert {claim["machine"] for claim in found["claims"]} == {"a", "b"}
    text = compare(a, b).output
    assert "time of B over A, geometric mean by op: matmul 0.50x" in text
    assert "A: a (h200-sxm, run " in text


def test_files_are_written_whole_and_the_page_needs_no_other(tables, tmp_path):
    out = tmp_path / "out"
    result = compare(*tables, "--out", out)
    names = ["comparison.png", "comparison.md", "comparison.html"]
    assert result.output.splitlines()[-3:] == [str(out / name) for name in names]
    assert (out / "comparison.png").read_bytes().startswith(b"\x89PNG")
    text = (out / "comparison.md").read_text(encoding="utf-8")
    assert text.startswith(f"# Comparison of {A100} and {H100}\n")
    assert "![Median share of the roof" in text
    page = (out / "comparison.html").read_text(encoding="utf-8")
    assert 'src="data:image/png;base64,' in page
    assert 'alt="Median share' in page
    assert "http:" not in page
    assert "https:" not in page
    assert "prefers-color-scheme: dark" in page
    assert "@media print" in page


def test_more_sides_than_the_palette_has_colors_are_drawn_apart(tmp_path):
    assert len(set(side_colors(12))) == 12
    runs = [write_run(tmp_path / f"run{number}") for number in range(12)]
    result = compare(*runs, "--out", tmp_path / "out")
    assert result.exit_code == 0
    assert "L: run11" in result.output
    assert (tmp_path / "out" / "comparison.png").stat().st_size > 0


def test_a_name_opens_no_tag(tmp_path, tables):
    run = write_run(tmp_path / "<b>run")
    compare(run, tables[0], write_run(tmp_path / "other"), "--out", tmp_path / "out")
    page = (tmp_path / "out" / "comparison.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;run" in page
    assert "<b>" not in page


def test_no_figure_is_drawn_where_no_roof_is_known_and_an_old_one_goes(tmp_path):
    launch = make_record("launch", {}, dtype="fp32", time_s=2e-6)
    runs = [write_run(tmp_path / name, launch) for name in "abc"]
    out = tmp_path / "out"
    out.mkdir()
    (out / "comparison.png").write_bytes(b"old")
    result = compare(*runs, "--out", out)
    assert result.exit_code == 0
    assert not (out / "comparison.png").exists()
    assert "![" not in (out / "comparison.md").read_text(encoding="utf-8")
    assert "<img" not in (out / "comparison.html").read_text(encoding="utf-8")


def test_small_tables_judge_no_claim_and_say_why(tables):
    found = compared(*tables)
    assert f"{A100}: its tables judge no claim: nothing can be validated" in " ".join(found["notes"])
    assert {claim["verdict"] for claim in found["claims"]} == {"not measured"}
    assert compared(*tables, "--no-claims")["claims"] == []


def test_a_cpu_beside_a_gpu_has_other_roofs_and_that_is_said(tmp_path, tables):
    cpu = make_record(dims=THIN, roofs=RoofSet({}, MEASURED), environment=make_environment(**CPU))
    run = write_run(tmp_path / "cpu", cpu)
    notes = compared(run, *tables)["notes"]
    assert any(note.startswith("Some CPU: no datasheet roofs") for note in notes)
    assert any("not comparable" in note for note in notes)
    both = compared(run, write_run(tmp_path / "gpu"))["warnings"]
    assert any("their % of roof are not comparable" in note for note in both)


def test_runs_with_warm_and_with_cold_caches_are_told_of(tmp_path, tables):
    warm = write_run(tmp_path / "warm", warm_cache=True)
    assert any("warm_cache differs" in note for note in compared(warm, write_run(tmp_path / "cold"), *tables)["notes"])


def test_two_runs_of_one_machine_have_a_column_each_in_the_scorecard(tmp_path):
    runs = [write_run(tmp_path / name) for name in ("monday", "tuesday")]
    judged = json.loads(RUNNER.invoke(app, ["scorecard", *runs, "--json"]).stdout)
    assert {each["machine"] for each in judged} == {"monday", "tuesday"}
    # One time of 10 us, whose bound is 33,816,576 bytes over the made-up 1 TB/s.
    first = [each for each in judged if each["claim"] == 1]
    assert [each["measured"] for each in first] == [1e-5, 1e-5]
    assert [each["predicted"] for each in first] == pytest.approx([33.816576e-6] * 2)


def test_a_time_that_is_not_stable_is_left_out_and_counted(tmp_path, tables):
    run = write_run(tmp_path / "run", make_record(dims=THIN), unstable(make_record(dims={**THIN, "m": 32})))
    found = compared(run, *tables)
    assert "h200-sxm: 1 workloads left out, whose fastest time is unstable" in found["notes"]
    assert [each["shapes"] for each in found["shares"] if each["side"] == "h200-sxm"] == [1]


def test_shapes_that_only_some_sides_have_are_not_compared_on_time(tmp_path, tables):
    other = write_table(tmp_path / "other.parquet", "NVIDIA B200", m=17)
    found = compared(*tables, other)
    assert found["changes"] == []
    assert (
        f"matmul in bf16: no shape in common to {A100}, {H100}, b200; {A100} and {H100} have some: only their shares"
        " can be read" in found["notes"]
    )


@pytest.fixture
def bad(tmp_path):
    """Files that no comparison takes."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / store.RECORDS).write_text("", encoding="utf-8")
    (tmp_path / "folder").mkdir()
    (tmp_path / "foreign.json").write_text('{"a": 1}', encoding="utf-8")
    (tmp_path / "foreign.jsonl").write_text('{"a": 1}\n', encoding="utf-8")
    (tmp_path / "foreign.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "foreign.parquet")
    (tmp_path / "torn.parquet").write_bytes(b"PAR1")
    (tmp_path / "notes.md").write_text("", encoding="utf-8")
    write_table(tmp_path / "unknown.parquet", "Some Card 9000")
    write_table(tmp_path / "timeless.parquet", latency=-1.0)
    h100 = make_environment(gpu=H100, name="NVIDIA H100")
    write_run(tmp_path / "mixed", make_record(dims=THIN), make_record(environment=h100))
    write_run(tmp_path / "failed", make_record(status=Status.CRASHED))
    write_run(tmp_path / "shaky", unstable(make_record()))
    write_run(tmp_path / "old", dataclasses.replace(make_record(dims=THIN), harness=1))
    write_run(tmp_path / "good")
    return tmp_path


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["good"], "compare takes two or more runs or tables, not 1"),
        (["a.parquet", "a.parquet"], "is given twice; a comparison takes each table once"),
        (["good", "empty"], "no record (the file is empty)"),
        (["good", "folder"], "no such file; give the folder of a run"),
        (["good", "nowhere"], "no such file or folder"),
        (["good", "foreign.json"], "not a pytest-benchmark file"),
        (["good", "foreign.jsonl"], "foreign.jsonl:1"),
        (["good", "foreign.csv"], "unknown kind of table"),
        (["good", "foreign.parquet"], "unknown kind of table"),
        (["good", "torn.parquet"], "not a table"),
        (["good", "notes.md"], "unknown kind of file"),
        (["good", "unknown.parquet"], "unknown.parquet: device 'Some Card 9000'"),
        (["good", "timeless.parquet"], "no usable row (time is not a positive number)"),
        (["good", "mixed"], "its records are of several machines (h200-sxm, h100-sxm)"),
        (["good", "failed"], "no measured row"),
        (["good", "shaky", "a.parquet"], "no stable row"),
        (["good", "old", "a.parquet"], "whose times are not comparable"),
        (["good", "old"], "whose times are not comparable"),
        (["good", "copy", "launched"], "no op is measured by two of the sides"),
        (["good", "copy"], "no measured workload and implementation in common"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_a_line(refusal, bad, names, said):
    write_table(bad / "a.parquet")
    write_run(bad / "copy", make_record("stream_copy", {"n": 1024}))
    write_run(bad / "launched", make_record("launch", {}, dtype="fp32"))
    assert said in refusal(app, "compare", *(bad / name for name in names))


def test_an_option_holds_paths_to_be_tables(refusal, bad):
    assert "good is a run, and --tables takes tables alone" in refusal(app, "compare", "--tables", bad / "good", "x")
