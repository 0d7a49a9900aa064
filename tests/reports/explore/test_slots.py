"""Requests in the slots of a server."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from predict.formulas import serving
from reports.explore.slots import Span, continuous_spans, static_spans

LENGTHS = st.lists(st.integers(1, 50), min_size=1, max_size=20)


def test_the_short_request_of_a_static_batch_waits_for_the_long_one():
    """The lesson's 500 and 10 tokens: 490 steps idle."""
    assert list(static_spans([500, 10], 2)) == [Span(0, 0, 500, 0), Span(1, 0, 10, 1), Span(1, 10, 500, None)]


def test_a_freed_slot_takes_the_next_request():
    spans = list(continuous_spans([5, 2, 4], 2))
    assert spans == [Span(0, 0, 5, 0), Span(1, 0, 2, 1), Span(1, 2, 6, 2), Span(0, 5, 6, None)]


@pytest.mark.parametrize(
    ("spans", "share"),
    [(static_spans, serving.static_batch_utilization), (continuous_spans, serving.continuous_batch_utilization)],
)
@given(lengths=LENGTHS, slots=st.integers(1, 6))
def test_slots_work_as_large_a_share_as_the_formula_says(spans, share, lengths, slots):
    found = list(spans(lengths, slots))
    steps = max(span.end for span in found)
    worked = sum(span.end - span.start for span in found if span.request is not None)
    assert worked == sum(lengths)
    assert worked / (slots * steps) == pytest.approx(share(lengths, slots))


@pytest.mark.parametrize("spans", [static_spans, continuous_spans])
@given(lengths=LENGTHS, slots=st.integers(1, 6))
def test_every_request_has_one_slot_to_itself_and_no_slot_has_a_gap(spans, lengths, slots):
    found = list(spans(lengths, slots))
    requests = {span.request: span.end - span.start for span in found if span.request is not None}
    assert requests == dict(enumerate(lengths))
    for slot in range(slots):
        own = sorted((span.start, span.end) for span in found if span.slot == slot)
        assert [start for start, _ in own] == [0, *(end for _, end in own[:-1])]
