"""Each check lets through what its docstring allows and names what it refuses, in numbers and in arrays alike."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from predict import checks
from predict.errors import BadQuantity

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("check", "good"),
    [
        (checks.positive, [1, 1e-300, 80e9, 2**62]),
        (checks.not_negative, [0, 0.0, 1, 1e-300]),
        (checks.whole, [1, 2, 3.0, 2**62]),
        (checks.efficiency, [1e-9, 0.5, 1, 1.0]),
        (checks.probability, [0, 0.0, 0.5, 1]),
    ],
)
def test_what_is_in_range_passes_alone_and_in_arrays(check, good):
    for value in good:
        check(quantity=value)
    check(quantity=np.array(good, dtype=np.float64))
    check(quantity=good)


@pytest.mark.parametrize(
    ("check", "bad", "rule"),
    [
        (checks.positive, [0, -1, -0.5, NAN, INF, -INF], "must be positive"),
        (checks.not_negative, [-1, -1e-9, NAN, INF, -INF], "must not be negative"),
        (checks.whole, [0, -1, 0.5, 1.5, NAN, INF, -INF], "must be a positive whole number"),
        (checks.efficiency, [0, -0.1, 1.0001, NAN, INF], "must be above 0 and at most 1"),
        (checks.probability, [-0.1, 1.0001, NAN, INF], "must be from 0 to 1"),
    ],
)
def test_what_is_out_of_range_is_refused_with_its_name_and_value(check, bad, rule):
    for value in bad:
        with pytest.raises(BadQuantity, match=rf"^gpus {rule}, not {value:g}$"):
            check(gpus=value)
        with pytest.raises(BadQuantity, match=rf"^gpus {rule}, not {value:g}$"):
            check(gpus=np.array([1.0, value, 1.0]))


def test_the_first_bad_quantity_is_named_and_the_good_ones_before_it_are_not():
    with pytest.raises(BadQuantity, match=r"^seq must be a positive whole number, not 0$"):
        checks.whole(batch=1, seq=0, hidden=0)


def test_the_first_bad_element_of_a_grid_is_shown():
    with pytest.raises(BadQuantity, match=r"not -3$"):
        checks.positive(price=[[1, 2], [-3, -4]])


@pytest.mark.parametrize("check", [checks.positive, checks.not_negative, checks.whole])
def test_whole_numbers_above_64_bits_are_numbers_like_any_other(check):
    # 6 FLOP x 70e9 parameters x 15e12 tokens, the napkin-math lesson's run, is 6.3e24: more than 2**64.
    check(flop=6 * 70 * 10**9 * 15 * 10**12)


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=5))
def test_an_array_is_refused_exactly_if_one_of_its_elements_is(values):
    for check in (checks.positive, checks.not_negative, checks.whole, checks.efficiency, checks.probability):
        assert passes(check, np.array(values)) == all(passes(check, value) for value in values)


def passes(check, value):
    try:
        check(quantity=value)
    except BadQuantity:
        return False
    return True
