"""The command: a run, tables and public measurements judged together, and what it refuses."""

import json

import pytest
from typer.testing import CliRunner

from predict.errors import BadRecord, BadRun
from reports.__main__ import app
from reports.scorecard.points import of_points
from reports.scorecard.records import of_records
from tests.reports.accuracy.test_endtoend import judged, point, row, written
from tests.reports.run.test_calibrate import matmul_run

RUNNER = CliRunner()


def run(*arguments):
    return RUNNER.invoke(app, ["scorecard", *map(str, arguments)])


def test_public_measurements_judge_times_and_throughputs():
    times = [point("tpot", "s", measured) for measured in (0.007, 0.0075, 0.008)]
    found = of_points(judged(*times, point("static_tps", "tokens/s", 400)))
    assert len(found[19].measured) == 3
    assert "3 public times (tpot)" in found[19].sentence
    assert "none beat the bound" in found[19].sentence
    assert found[18] == "1 public throughputs with an expected one; 3 are needed"
    assert of_points([])[18] == "no public throughputs with an expected one; 3 are needed"


def test_a_runs_matmuls_of_several_batches_are_held_to_their_bounds():
    found = of_records(matmul_run())
    # Of the made-up run each weight of OTHERS has the batches 1, 48, 384 and 3000, by two implementations.
    assert len(found[12].measured) >= 2 * 3 * 3
    assert found[1].predicted.max() < found[1].measured.max()
    assert "no pair of stable rows tells: paging" in found[14]


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


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ((), BadRun, "give runs or tables, or --endtoend"),
        (("a", "b"), BadRecord, "a: no such file"),
        ((".", "."), BadRun, ". is given twice"),
        (("nowhere",), BadRecord, "no such file or folder"),
        (("nowhere.parquet",), BadRecord, "no such file"),
        (("--endtoend", "nowhere.csv"), BadRecord, "nowhere.csv"),
    ],
)
def test_what_cannot_be_judged_is_refused_in_a_line(arguments, error, said):
    found = run(*arguments).exception
    assert isinstance(found, error)
    assert said in str(found)
