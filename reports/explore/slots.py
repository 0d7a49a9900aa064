"""Which request each slot works on, under static and under continuous batching of requests of given lengths."""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Span:
    """A slot works on a request from one step to another, or on none: it idles."""

    slot: int
    start: int
    end: int
    request: int | None


def static_spans(lengths: Sequence[int], slots: int) -> Iterator[Span]:
    """A batch takes `slots` requests and ends when its longest does; slots that are done before wait for it."""
    start = 0
    for first in range(0, len(lengths), slots):
        batch = lengths[first : first + slots]
        end = start + max(batch)
        for slot in range(slots):
            length = batch[slot] if slot < len(batch) else 0
            if length:
                yield Span(slot, start, start + length, first + slot)
            if start + length < end:
                yield Span(slot, start + length, end, None)
        start = end


def continuous_spans(lengths: Sequence[int], slots: int) -> Iterator[Span]:
    """A request takes the slot that is free first. Slots idle only at the end, when none waits."""
    free = [(0, slot) for slot in range(slots)]
    for request, length in enumerate(lengths):
        start, slot = heapq.heappop(free)
        yield Span(slot, start, start + length, request)
        heapq.heappush(free, (start + length, slot))
    last = max(end for end, _ in free)
    yield from (Span(slot, end, last, None) for end, slot in free if end < last)
