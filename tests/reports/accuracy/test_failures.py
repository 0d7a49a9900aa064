"""Where expected time fails, said of groups made by hand."""

import numpy as np
import pandas as pd
import pytest

from reports.accuracy.failures import WEAKNESSES, Weakness, find_failures, find_weaknesses, hardest_sizes
from tests.reports.accuracy.test_plots import make_group


def test_a_weakness_is_said_only_where_the_numbers_bear_it_out():
    rows = make_group().rows
    rows.loc[rows["m"] == 1, "expected_s"] = 5e-6  # off by half, where the others are off by a tenth
    group = make_group(rows=rows)
    there = Weakness("a_table", (group.title,), "m == 1", "A reason.")
    assert list(find_weaknesses(group, [there])) == [
        "`m == 1` (4 shapes): off by 50.0 %, 10.0 % elsewhere; the median of measured over expected is 2.00x. A reason."
    ]
    elsewhere = Weakness("a_table", (group.title,), "m == 64", "A reason.")
    of_others = Weakness("another_table", (group.title,), "m == 1", "A reason.")
    other_kernel = Weakness("a_table", (group.title,), "m == 1", "A reason.", "fa4")
    no_rows = Weakness("a_table", (group.title,), "m == 3", "A reason.")
    assert list(find_weaknesses(group, [elsewhere, of_others, other_kernel, no_rows])) == []


@pytest.mark.parametrize("weakness", WEAKNESSES, ids=lambda weakness: f"{weakness.groups[0]}: {weakness.where}")
def test_every_weakness_is_a_condition_on_columns_of_its_op(weakness):
    for title in weakness.groups:
        rows = make_group(title.partition(" ")[0]).rows
        assert np.asarray(rows.eval(weakness.where)).dtype == bool


def test_the_hardest_sizes_are_named_with_their_errors():
    rows = pd.concat([make_group().rows] * 10, ignore_index=True)
    rows.loc[rows["m"] == 64, "expected_s"] = 6e-6
    # m has few values, each by itself: 0.4 over 10 x 2 x 2 shapes.
    assert hardest_sizes(make_group(rows=rows)) == ["Errors by size are largest at m 64 (40.0 % over 40 shapes)."]
    spread = rows.assign(m=np.arange(1, len(rows) + 1), expected_s=1e-5)
    spread.loc[spread["m"].between(64, 127), "expected_s"] = 8e-6
    # Of 120 values of m the octave from 64 on holds 64 to 120.
    (sentence,) = hardest_sizes(make_group(rows=spread))
    assert sentence == "Errors by size are largest at m 64 to 127 (20.0 % over 57 shapes)."


def test_the_worst_rows_of_each_group_stand_in_the_table_of_their_family():
    rows = pd.concat([make_group().rows] * 10, ignore_index=True)  # 120: 2 % of them are more than two
    rows.loc[rows.index[:2], "expected_s"] = 5e-6, 4e-6  # measured 10 us: ratios of 2 and 2.5; all others 10 / 9
    found = list(find_failures([(make_group(rows=rows), "bf16"), (make_group("all_reduce"), "fp16")]))
    assert [family.title for family in found] == ["Matmul", "Collectives"]
    worst = found[0].worst
    ratio, name = worst.titles.index("ratio"), worst.titles.index("group")
    assert [(row[name], row[ratio]) for row in worst.rows] == [
        ("h100-sxm, bf16", "2.50"), ("h100-sxm, bf16", "2.00"), ("h100-sxm, bf16", "1.11"),
    ]  # fmt: skip
    assert found[1].worst.rows[0][0] == "h100-sxm, all_reduce, fp16"
