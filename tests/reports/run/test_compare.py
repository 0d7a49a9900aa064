import dataclasses
import math

import pytest

from bench.record import RoofSet, Status
from predict.errors import BadRecord
from reports.run.compare import Verdict, compare, comparison_tables
from reports.run.load import Run
from tests.factories import MEASURED, make_environment, make_record, unstable


def run(*records):
    return Run(tuple(records))


def test_times_and_shares_of_the_roof_stand_side_by_side():
    a, b = run(make_record(time_s=4e-3)), run(make_record(time_s=1e-3))
    (row,) = compare(a, b).rows.to_dict(orient="records")
    assert (row["time_s_a"], row["time_s_b"], row["ratio"]) == (4e-3, 1e-3, 0.25)
    assert row["of_roof_b"] == pytest.approx(4 * row["of_roof_a"])
    assert row["of_roof_a"] == pytest.approx(134_742_016 / 1e12 / 4e-3)


@pytest.mark.parametrize(
    ("time_a_s", "time_b_s", "verdict"),
    [
        (1.0, 0.5, Verdict.FASTER),
        (0.5, 1.0, Verdict.SLOWER),
        (1.0, 1.0, Verdict.UNCLEAR),
        # Six samples span 0.96 to 1.04 times the time: 0.96..1.04 and 1.008..1.092 overlap.
        (1.0, 1.05, Verdict.UNCLEAR),
        # 0.96..1.04 and 1.056..1.144 do not.
        (1.0, 1.1, Verdict.SLOWER),
    ],
)
def test_a_difference_is_claimed_only_where_the_intervals_are_apart(time_a_s, time_b_s, verdict):
    rows = compare(run(make_record(time_s=time_a_s)), run(make_record(time_s=time_b_s))).rows
    assert rows["verdict"].tolist() == [verdict]


def test_the_mean_by_op_is_geometric():
    shapes = [{"m": m, "n": 8, "k": 8} for m in (1, 2)]
    a = run(*(make_record(dims=dims, time_s=1.0) for dims in shapes))
    b = run(make_record(dims=shapes[0], time_s=4.0), make_record(dims=shapes[1], time_s=1.0))
    assert compare(a, b).by_op.to_dict() == pytest.approx({"matmul": 2.0})


def test_an_unstable_row_is_told_and_no_mean_counts_it():
    shapes = [{"m": m, "n": 8, "k": 8} for m in (1, 2)]
    a = run(*(make_record(dims=dims, time_s=1.0) for dims in shapes))
    b = run(make_record(dims=shapes[0], time_s=3.0), unstable(make_record(dims=shapes[1], time_s=9.0)))
    comparison = compare(a, b)
    assert comparison.by_op.to_dict() == pytest.approx({"matmul": 3.0})
    assert comparison.rows["unstable_a"].tolist() == [None, None]
    assert comparison.rows["unstable_b"].tolist() == [None, "the median is known to +-20% only"]
    (table,) = comparison_tables(comparison)
    assert [row[3] for row in table.rows] == ["3.00 s", "~9.00 s"]


def test_rows_of_one_run_only_are_named_and_failed_rows_are_not_compared():
    a = run(make_record(), make_record(implementation="triton"), make_record(implementation="naive"))
    b = run(make_record(), make_record(implementation="triton", status=Status.CRASHED))
    comparison = compare(a, b)
    assert comparison.rows["implementation"].tolist() == ["torch"]
    assert [name.split()[1] for name in comparison.only_a] == ["triton", "naive"]
    assert comparison.only_b == ()


def test_two_machines_are_compared_on_their_own_roofs():
    cpu = make_environment(device="cpu", gpu=None, name="Some CPU")
    b = run(make_record(roofs=RoofSet({}, MEASURED), environment=cpu))
    comparison = compare(run(make_record()), b)
    assert (comparison.machine_a, comparison.machine_b) == ("h200-sxm", "Some CPU")
    (row,) = comparison.rows.to_dict(orient="records")
    assert (row["roof_a"], row["roof_b"]) == ("datasheet", "measured")
    assert any("their % of roof are not comparable" in warning for warning in comparison.warnings)


@pytest.mark.parametrize("mixed", [True, False])
def test_times_of_different_harnesses_are_refused(mixed):
    """Also where both runs hold the same two: one row's may be one's, the other's the other's."""
    new = dataclasses.replace(make_record(), harness=8)
    old = dataclasses.replace(make_record(implementation="triton"), harness=7)
    a, b = (Run((new, old)), Run((new, old))) if mixed else (Run((old,)), Run((new,)))
    with pytest.raises(BadRecord, match=r"harness 7.* and .*8, whose times are not comparable"):
        compare(a, b)


def test_runs_without_a_common_row_are_refused():
    with pytest.raises(BadRecord, match="no measured workload and implementation in common"):
        compare(run(make_record()), run(make_record(implementation="triton")))


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        ({"driver": "999"}, "driver differs: 580.0 and 999"),
        ({"warm_cache": True}, "warm_cache differs"),
        ({"forced": True}, "run B was forced"),
        ({"mismatches": ("16 SMs",)}, "run B: the driver contradicts the GPU table: 16 SMs"),
    ],
)
def test_other_circumstances_that_differ_are_warned_of(changes, warning):
    comparison = compare(run(make_record()), run(make_record(environment=make_environment(**changes))))
    assert any(warning in each for each in comparison.warnings)


def test_rows_without_a_roof_are_compared_on_time():
    launch = make_record("launch", {}, dtype="fp32", time_s=2e-6)
    (row,) = compare(run(launch), run(launch)).rows.to_dict(orient="records")
    assert row["ratio"] == 1.0
    assert math.isnan(row["of_roof_a"])
