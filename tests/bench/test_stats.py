import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.stats import doubts, summarize


def test_the_interval_of_ten_samples_is_the_second_to_the_ninth():
    # P(binomial(10, 1/2) <= 1) = 11/1024 = 1.1 % on each side, <= 2 would be 5.5 %: ranks 2 and 9 enclose 97.9 %.
    summary = summarize([float(i) for i in range(1, 11)])
    assert (summary.low_s, summary.median_s, summary.high_s) == (2.0, 5.5, 9.0)
    assert summary.samples == 10


def test_the_interval_of_a_hundred_samples_is_the_fortieth_to_the_sixty_first():
    summary = summarize([float(i) for i in range(1, 101)])
    assert (summary.low_s, summary.high_s) == (40.0, 61.0)


def test_five_samples_have_no_better_interval_than_their_extremes():
    assert (summarize([3.0, 1.0, 2.0, 5.0, 4.0]).low_s, summarize([3.0, 1.0, 2.0, 5.0, 4.0]).high_s) == (1.0, 5.0)


@pytest.mark.parametrize("times_s", [[], [0.0, 1.0], [-1.0], [float("nan")]])
def test_times_that_are_not_positive_are_refused(times_s):
    with pytest.raises(ValueError, match="times must be positive"):
        summarize(times_s)


@given(st.lists(st.floats(1e-9, 1e3), min_size=1, max_size=200))
def test_the_median_lies_in_its_interval_and_order_does_not_matter(times_s):
    summary = summarize(times_s)
    assert summary.low_s <= summary.median_s <= summary.high_s
    assert summary == summarize(times_s[::-1])


def warnings_of(times_s):
    return tuple(f"{doubt.reason}: {doubt.remedy}" for doubt in doubts(times_s, summarize(times_s)))


def test_quantiles_interpolate_between_neighbors():
    # Five samples stand at 0, 25, 50, 75 and 100 %: 10 % lies 0.4 of the way from the first to the second.
    summary = summarize([10.0, 20.0, 30.0, 40.0, 50.0])
    assert (summary.p10_s, summary.median_s, summary.p90_s) == pytest.approx((14.0, 30.0, 46.0))
    assert summarize([1.0, 2.0]).median_s == 1.5
    assert summarize([7.0]) == summarize((7.0,))


def test_steady_samples_give_no_warning():
    assert warnings_of([1.0, 1.001] * 20) == ()


@pytest.mark.parametrize(
    ("times_s", "message"),
    [
        ([1.0, 1.0, 1.0], "only 3 samples"),
        ([1.0, 1.3] * 5, "is known to"),
        ([1.0] * 30 + [2.0] * 10, "other processes"),
        ([1.0] * 10 + [1.1] * 10 + [1.2] * 10, "20% off the first"),
    ],
)
def test_each_kind_of_doubt_is_named_with_a_remedy(times_s, message):
    assert any(message in warning for warning in warnings_of(times_s))


@pytest.mark.parametrize(
    ("times_s", "unsettled"),
    [
        ([1.0, 1.0, 1.0], True),  # no interval
        ([1.0, 1.3] * 5, True),  # of 10 samples the 2nd to the 9th: 1.0 to 1.3 around 1.15, +-13 %
        ([1.0] * 10 + [1.1] * 10 + [1.2] * 10, True),
        (([1.0] * 4 + [2.0]) * 8, False),  # every fifth sample is slow, and the median stays where it is
        ([1.0, 1.001] * 20, False),
    ],
)
def test_a_median_is_unsettled_by_a_wide_interval_or_drift_but_not_by_outliers(times_s, unsettled):
    assert any(doubt.unsettles for doubt in doubts(times_s, summarize(times_s))) == unsettled


def test_outliers_are_kept():
    assert summarize([1.0] * 9 + [100.0]).samples == 10
