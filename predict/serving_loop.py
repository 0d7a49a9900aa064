"""Which token of which request each slot of a serving loop makes at each step, under static and continuous batching.

Both are rules, so that every run serves the same: requests come in order, and make `long` and `short` tokens in turn.
"""

import functools
import heapq
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Slot:
    """What a slot works on in one step. Where its request has ended, that is the request's last token again."""

    request: int
    token: int  # of the request's own, from 0


Step = tuple[Slot, ...]
Rule = Callable[[int, int, int, int], Iterator[Step]]


def request_lengths(requests: int, long: int, short: int) -> tuple[int, ...]:
    """Tokens that each request makes."""
    return tuple(short if index % 2 else long for index in range(requests))


def static_steps(slots: int, requests: int, long: int, short: int) -> Iterator[Step]:
    """Requests are served in batches of `slots`; a batch ends when its longest request does. In the last one, slots
    without a request do as the first slot does."""
    lengths = request_lengths(requests, long, short)
    for first in range(0, requests, slots):
        batch = [request if request < requests else first for request in range(first, first + slots)]
        for token in range(max(lengths[request] for request in batch)):
            yield tuple(Slot(request, min(token, lengths[request] - 1)) for request in batch)


def continuous_steps(slots: int, requests: int, long: int, short: int) -> Iterator[Step]:
    """A slot whose request has ended takes the next one that waits; it idles when none does."""
    lengths = request_lengths(requests, long, short)
    waiting = iter(range(slots, requests))
    working = [(request, 0) for request in range(slots)]
    while any(token < lengths[request] for request, token in working):
        yield tuple(Slot(request, min(token, lengths[request] - 1)) for request, token in working)
        for slot, (request, token) in enumerate(working):
            is_over = token + 1 >= lengths[request]
            following = next(waiting, None) if is_over else None
            working[slot] = (request, token + 1) if following is None else (following, 0)


# The rule of each op that serves requests.
RULES: Mapping[str, Rule] = MappingProxyType({"serve_static": static_steps, "serve_continuous": continuous_steps})


@dataclass(frozen=True, slots=True)
class Served:
    """What a loop does in all."""

    steps: int
    positions: int  # sum of `Slot.token` over all slots and steps


@functools.lru_cache(maxsize=4096)
def served(op: str, slots: int, requests: int, long: int, short: int) -> Served:
    """What the loop of `op`, one of RULES, does in all: request by request, since steps may be many."""
    lengths = request_lengths(requests, long, short)
    if op == "serve_static":
        batches = [lengths[first : first + slots] for first in range(0, requests, slots)]
        totals = [_batch(batch, slots) for batch in batches]
        return Served(sum(each.steps for each in totals), sum(each.positions for each in totals))
    return _refilled(lengths, slots)


def _batch(lengths: tuple[int, ...], slots: int) -> Served:
    """A static batch. Slots without a request do as the first one does."""
    steps = max(lengths)
    positions = sum(_positions(length, steps) for length in lengths)
    return Served(steps, positions + (slots - len(lengths)) * _positions(lengths[0], steps))


def _refilled(lengths: tuple[int, ...], slots: int) -> Served:
    """Slots that take requests one after the other: each goes to the slot that is free first."""
    free = [(length, slot, length) for slot, length in enumerate(lengths[:slots])]  # when, which, its request's length
    heapq.heapify(free)
    positions = 0
    for length in lengths[slots:]:
        time, slot, before = free[0]
        positions += _positions(before, before)
        heapq.heapreplace(free, (time + length, slot, length))
    steps = max(time for time, _, _ in free)
    return Served(steps, positions + sum(_positions(length, steps - time + length) for time, _, length in free))


def _positions(length: int, steps: int) -> int:
    """Sum of the tokens that a slot makes in `steps` steps with one request of `length` tokens."""
    return length * (length - 1) // 2 + (steps - length) * (length - 1)
