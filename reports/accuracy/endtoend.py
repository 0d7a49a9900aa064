"""Whole models held against measurements of others: expected times, and bounds that nothing may beat.

Each point is a question of `python -m predict model`. Sizes of memory have no time: the prediction itself is judged.
A point that cannot be asked or has no expected time counts with its reason.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from predict.answers.question import Question
from predict.errors import NapkinError
from predict.suggest import no_choice
from reports.accuracy.endtoend_kinds import KINDS
from reports.accuracy.endtoend_points import Point

AskOf = Callable[[str], Question]
ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Judged:
    """A point with what is predicted for it, in its own unit."""

    point: Point
    gpu: str  # the name in the table of GPUs; that of the file where the question cannot be asked
    bound: float | None = None
    expected: float | None = None
    reason: str = ""  # why `expected` is None
    beats_bound: bool = False

    @property
    def ratio(self) -> float | None:
        """Expected over measured."""
        return None if self.expected is None else self.expected / self.point.measured

    @property
    def error(self) -> float | None:
        """|expected / measured - 1|."""
        return None if self.ratio is None else abs(self.ratio - 1)


@dataclass(frozen=True, slots=True)
class Tally:
    """The points of one kind on one GPU."""

    kind: str
    gpu: str
    judged: tuple[Judged, ...]

    @property
    def errors(self) -> list[float]:
        """The errors of the points with an expected time."""
        return [each.error for each in self.judged if each.error is not None]

    @property
    def median_error(self) -> float | None:
        """None without an expected time."""
        return float(np.median(self.errors)) if self.errors else None

    @property
    def mean_error(self) -> float | None:
        """None without an expected time."""
        return float(np.mean(self.errors)) if self.errors else None

    @property
    def beat_bound(self) -> int:
        """Points that are faster than their bound."""
        return sum(each.beats_bound for each in self.judged)

    @property
    def reasons(self) -> dict[str, int]:
        """Why points have no expected time, each with its number."""
        found: dict[str, int] = {}
        for each in self.judged:
            if each.reason:
                found[each.reason] = found.get(each.reason, 0) + 1
        return found

    def row(self) -> dict[str, object]:
        """Flat, for tables and JSON."""
        return {
            "kind": self.kind,
            "gpu": self.gpu,
            "points": len(self.judged),
            "with_expected": len(self.errors),
            "median_error": self.median_error,
            "mean_error": self.mean_error,
            "beat_bound": self.beat_bound,
        }


def judge(points: Sequence[Point], ask_of: AskOf) -> list[Judged]:
    """Every point with its prediction. `ask_of` makes a question of a point's arguments, or raises a NapkinError."""
    return [_judge(point, ask_of) for point in points]


def tallies(judged: Sequence[Judged]) -> list[Tally]:
    """The points by kind and GPU, in the order of `KINDS`; unknown kinds last."""
    kinds = list(KINDS)
    found: dict[tuple[str, str], list[Judged]] = {}
    for each in judged:
        found.setdefault((each.point.kind, each.gpu), []).append(each)
    known = sorted((key for key in found if key[0] in kinds), key=lambda key: (kinds.index(key[0]), key[1]))
    order = [*known, *(key for key in found if key[0] not in kinds)]
    return [Tally(*key, tuple(found[key])) for key in order]


def over_kinds(judged: Sequence[Judged]) -> Iterator[Tally]:
    """The points of each kind on all GPUs together."""
    for kind in dict.fromkeys(tally.kind for tally in tallies(judged)):
        yield Tally(kind, "all", tuple(each for each in judged if each.point.kind == kind))


def _judge(point: Point, ask_of: AskOf) -> Judged:
    kind = KINDS.get(point.kind)
    if kind is None:
        return Judged(point, point.gpu, reason=no_choice("kind", point.kind, KINDS))
    if point.unit not in kind.units:
        return Judged(point, point.gpu, reason=f"{point.kind} in {point.unit!r}: it is read in {', '.join(kind.units)}")
    if math.isnan(point.measured):
        return Judged(point, point.gpu, reason="the measured number is missing or not positive")
    gpu = point.gpu
    try:
        q = ask_of(point.arguments)
        gpu = q.gpu.name
        found, one = kind.foretell(q, point), kind.units[point.unit](q)
    except NapkinError as error:
        return Judged(point, gpu, reason=str(error))
    bound, expected = found.bound / one, None if found.expected is None else found.expected / one
    ratio = point.measured / bound if kind.is_rate else bound / point.measured
    beats = not kind.is_size and ratio > 1 + ROUNDING
    return Judged(point, gpu, bound, expected, found.reason if expected is None else "", beats)
