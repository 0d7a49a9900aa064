import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from predict.errors import BadWorkload
from predict.expert_rows import RULES, even_rows, expert_rows, skewed_rows
from predict.peak_memory import idle_bytes, peak_bytes
from predict.resources import Resource
from predict.units import find_dtype
from predict.workloads import Amounts, make_workload, sweep_amounts

BF16 = find_dtype("bf16")


def test_even_rows_differ_by_one_at_most():
    assert even_rows(4, 5, 2).tolist() == [3, 3, 2, 2]  # 10 rows
    assert even_rows(8, 1, 2).tolist() == [1, 1, 0, 0, 0, 0, 0, 0]


def test_skewed_rows_follow_the_law_and_become_whole_by_largest_remainder():
    # 22 rows over 1, 1/2, 1/3: shares of 12, 6 and 4.
    assert skewed_rows(3, 22, 1).tolist() == [12, 6, 4]
    # 10 rows: 5.45, 2.73, 1.82. The largest remainders are .82 and .73.
    assert skewed_rows(3, 10, 1).tolist() == [5, 3, 2]


def test_no_expert_gets_a_token_twice():
    # 8 rows of 4 tokens over 1, 1/2, 1/3: 4.36 is over 4, so the other 4 go by 1/2 and 1/3: 2.4 and 1.6.
    assert skewed_rows(3, 4, 2).tolist() == [4, 2, 2]
    assert skewed_rows(5, 7, 5).tolist() == [7] * 5


@given(st.integers(1, 300), st.integers(1, 5000), st.data())
def test_all_rows_are_given_and_none_twice_to_an_expert(experts, tokens, data):
    active = data.draw(st.integers(1, experts))
    for rule in RULES.values():
        rows = rule(experts, tokens, active)
        assert len(rows) == experts
        assert rows.sum() == tokens * active
        assert 0 <= rows.min() <= rows.max() <= tokens
        assert (np.diff(rows) <= 0).all()


def test_a_grouped_product_reads_the_weights_of_experts_that_have_rows():
    """3 tokens for 2 of 8 experts: 6 rows of 10, in 2 bytes; weights of 4 x 10; 9 offsets of 4 bytes."""
    dims = {"tokens": 3, "experts": 8, "active": 2, "n": 4, "k": 10}
    even = make_workload("moe_experts", dims, BF16)
    assert even.amounts == Amounts({Resource.TENSOR_BF16: 2 * 6 * 4 * 10}, 120 + 6 * 80 + 36, 6 * 4 * 2)
    # 6 rows over 1 ... 1/8, whose sum is 2.718: 2.21, 1.10, .74, .55, .44, .37, .32, .28. After 2 + 1 three are left,
    # for .74, .55 and .44. So five experts have rows.
    assert expert_rows("moe_experts_skewed", dims).tolist() == [2, 1, 1, 1, 1, 0, 0, 0]
    skewed = make_workload("moe_experts_skewed", dims, BF16)
    assert skewed.amounts == Amounts(even.amounts.flop_by_unit, 120 + 5 * 80 + 36, 48)


def test_experts_without_rows_take_memory_all_the_same():
    # 6 of 8 experts have rows, or 5: two or three weights of 80 bytes are only held.
    for op, idle in (("moe_experts", 2), ("moe_experts_skewed", 3)):
        workload = make_workload(op, {"tokens": 3, "experts": 8, "active": 2, "n": 4, "k": 10}, BF16)
        assert idle_bytes(workload) == idle * 80
        assert peak_bytes(workload) == 120 + 8 * 80 + 36 + 48
    assert idle_bytes(make_workload("matmul", {"m": 1, "n": 2, "k": 3}, BF16)) == 0


@pytest.mark.parametrize("op", RULES)
def test_a_sweep_of_mixtures_has_the_amounts_of_its_points(op):
    tokens, experts = np.array([1, 3, 40]), np.array([[4], [64]])
    fixed = {"active": 3, "n": 5, "k": 7}
    found = sweep_amounts(op, {"tokens": tokens, "experts": experts, **fixed}, BF16)
    for (row, column), read in np.ndenumerate(found.bytes_read):
        dims = {"tokens": int(tokens[column]), "experts": int(experts[row, 0]), **fixed}
        assert read == make_workload(op, dims, BF16).amounts.bytes_read


def test_a_token_cannot_go_to_more_experts_than_there_are():
    with pytest.raises(BadWorkload, match="moe_experts: active=9 is more than experts=8"):
        make_workload("moe_experts", {"tokens": 1, "experts": 8, "active": 9, "n": 4, "k": 4}, BF16)
