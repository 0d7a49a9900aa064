"""Whole models in docs/accuracy.md: counts, reasons that the numbers confirm, and the worst points."""

from dataclasses import replace

import pytest
from typer.testing import CliRunner

from reports.__main__ import app
from reports.accuracy.endtoend import Judged
from reports.accuracy.endtoend_document import Reason, read_reasons, whole_models
from reports.accuracy.endtoend_kinds import KINDS
from reports.accuracy.endtoend_points import Point
from tests.reports.accuracy.test_endtoend import row, written

POINT = Point(2, "someone/repo@1234567 README.md", "llama-3-8b", "h100", "tpot", "batch 1", "s", 0.01, "", "")
DRAFTED = Reason("drafted", ("tpot",), 'workload.str.contains("MTP")', "long", "They check drafts.")


def judged(ratio, **point):
    """A point whose expected number is `ratio` times the measured one."""
    found = replace(POINT, **point)
    return Judged(found, "h100-sxm", found.measured / 10, None if ratio is None else ratio * found.measured)


USUAL = [judged(ratio) for ratio in (0.9, 1.0, 1.1)]


def test_the_text_counts_points_and_names_who_published_them():
    points = [*USUAL, replace(judged(None, kind="train_tps"), reason="no kernel"), judged(2.0, kind="kv_tokens")]
    text = whole_models(points, ()).text
    assert "for 5 published measurements" in text
    assert "3 of 4 timed ones have an expected time, and none beats its bound" in text
    assert "- someone/repo (5)" in text
    assert "- train_tps, 1: no kernel" in text
    assert "| tpot | h100-sxm | 3 | 3 | 10.0 % |" in text
    beaten = whole_models([*USUAL, replace(judged(1.0), beats_bound=True)], ()).text
    assert "and 1 beat their bound" in beaten


@pytest.mark.parametrize(
    ("ratio", "too", "is_said"),
    [(2.5, "long", True), (2.5, "short", False), (2.5, "either", True), (0.4, "short", True), (1.1, "long", False)],
)
def test_a_reason_is_said_only_where_the_numbers_confirm_it(ratio, too, is_said):
    # 150 % or 60 % off are more than the median of the others, 10 %; 10 % are not.
    points = [*USUAL, judged(ratio, workload="batch 1, MTP 3")]
    text = whole_models(points, [replace(DRAFTED, too=too)]).text
    assert ("*drafted* (tpot; 1 point)" in text) is is_said
    (line,) = [line for line in text.splitlines() if "| batch 1, MTP 3 |" in line]
    assert ("not explained" not in line) is is_said


def test_a_rate_that_is_too_low_is_a_time_that_is_too_long():
    points = [judged(0.5, kind="train_tps", workload="MTP"), *(judged(1.0, kind="train_tps") for _ in range(3))]
    text = whole_models(points, [replace(DRAFTED, kinds=("train_tps",))]).text
    assert "the expected time is 2.00x the measured one. They check drafts." in text
    assert "| train_tps | h100-sxm | llama-3-8b | MTP | 2.00x | drafted |" in text


def test_the_worst_points_of_each_kind_come_first():
    points = [judged(ratio, workload=f"is {ratio}") for ratio in (1.0, 1.5, 0.7, 2.0)]
    lines = [
        line for line in whole_models(points, ()).text.splitlines() if line.startswith("| tpot") and " is " in line
    ]
    assert [line.split(" | ")[3] for line in lines] == ["is 2.0", "is 1.5", "is 0.7"]


def test_kinds_of_few_points_or_of_one_source_are_named():
    many = [judged(1.0) for _ in range(12)] + [judged(1.0, source="docs.x.com/a/b/c") for _ in range(8)]
    text = whole_models([*many, judged(1.0, kind="ttft")], ()).text
    assert "12 of 20 of tpot are from someone/repo; ttft has 1." in text


def test_the_reasons_that_ship_are_of_known_kinds_and_their_conditions_can_be_read():
    reasons = read_reasons()
    assert {kind for reason in reasons for kind in reason.kinds} <= KINDS.keys()
    assert {reason.too for reason in reasons} <= {"long", "short", "either"}
    assert len({reason.name for reason in reasons}) == len(reasons)
    whole_models(USUAL, reasons)  # every condition is evaluated


def test_the_command_writes_the_section(tmp_path):
    table = tmp_path / "table.csv"
    shapes = [(m, n, k) for m in (1, 16, 256, 4096) for n in range(64, 576, 64) for k in range(64, 576, 64)]
    lines = [f"{m},{n},{k},NVIDIA H100 80GB HBM3,gemm,a_kernel,bfloat16,{0.01 + m * 1e-6}" for m, n, k in shapes]
    table.write_text("\n".join(["m,n,k,device,op_name,kernel_source,gemm_dtype,latency", *lines]), encoding="utf-8")
    points = written(tmp_path, row(), row(kind="ttft"))
    asked = ["accuracy", str(table), "--endtoend", str(points), "--out", str(tmp_path / "docs")]
    result = CliRunner().invoke(app, asked)
    assert result.exit_code == 0, result.output
    text = (tmp_path / "docs" / "accuracy.md").read_text(encoding="utf-8")
    assert "## Whole models\n" in text
    assert "for 2 published measurements" in text
    refused = CliRunner().invoke(app, [*asked[:2], "--endtoend", str(tmp_path / "nowhere.csv")])
    assert isinstance(refused.exception, Exception)
