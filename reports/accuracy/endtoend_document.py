"""The part of docs/accuracy.md about whole models: how far expected times are off, and why the worst ones are."""

import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from predict.units import percent
from reports.accuracy.document import Section
from reports.accuracy.endtoend import Judged, over_kinds
from reports.accuracy.endtoend_kinds import KINDS
from reports.accuracy.endtoend_tables import tally_table
from reports.accuracy.failures import BEARS_OUT
from reports.files import template
from reports.tables import TextTable

TEMPLATE = Path(__file__).with_name("whole_models.md.jinja")
REASONS = Path(__file__).with_name("endtoend_reasons.toml")
WORST = 3  # points of each kind that are shown
TELLING = 3  # so many points outside a reason are needed to compare with
FEW = 20  # a kind with fewer points, or one source with most of them, is named


@dataclass(frozen=True, slots=True)
class Reason:
    """Why expected times of some points are off."""

    name: str
    kinds: tuple[str, ...]
    where: str  # a condition on the columns of points
    too: str  # "long" or "short": what the expected time is; "either"
    because: str


@dataclass(frozen=True, slots=True)
class Explained:
    """A reason that the numbers confirm, and the points that it is about."""

    reason: Reason
    members: tuple[Judged, ...]
    sentence: str


def read_reasons(file: Path = REASONS) -> tuple[Reason, ...]:
    """The reasons of the file, in order."""
    entries = tomllib.loads(file.read_text(encoding="utf-8"))["reason"]
    return tuple(Reason(**{**entry, "kinds": tuple(entry["kinds"])}) for entry in entries)


def whole_models(judged: Sequence[Judged], reasons: Sequence[Reason] | None = None) -> Section:
    """The section about `judged`."""
    explained = list(_explained(judged, read_reasons() if reasons is None else reasons))
    timed = [each for each in judged if (kind := KINDS.get(each.point.kind)) is not None and not kind.is_size]
    text = template(TEMPLATE).render(
        count=f"{len(judged):,}",
        timed=f"{len(timed):,}",
        expected=f"{sum(each.ratio is not None for each in timed):,}",
        beaten=sum(each.beats_bound for each in judged),
        tally=tally_table(judged, totals=True).markdown(),
        sources=Counter(each.point.publisher for each in judged).most_common(),
        reasons=[
            (tally.kind, count, reason) for tally in over_kinds(judged) for reason, count in tally.reasons.items()
        ],
        explained=[each.sentence for each in explained],
        worst=_worst_table(timed, explained),
        few="; ".join(_few(timed)) or "none of these",
    )
    return Section("Whole models", text.strip())


def _explained(judged: Sequence[Judged], reasons: Sequence[Reason]) -> Iterator[Explained]:
    """The reasons whose points are further off than others of their kinds, and to the side that the reason says."""
    rows = pd.DataFrame([asdict(each.point) | {"gpu": each.gpu} for each in judged])
    for reason in reasons:
        meant = np.asarray(rows.eval(reason.where, engine="python"), dtype=bool)
        of_kinds = [
            (each, bool(is_meant))
            for each, is_meant in zip(judged, meant, strict=True)
            if each.point.kind in reason.kinds and each.ratio is not None
        ]
        there = [each for each, is_meant in of_kinds if is_meant]
        elsewhere = [each for each, is_meant in of_kinds if not is_meant]
        if there and (sentence := _sentence(reason, there, elsewhere)):
            yield Explained(reason, tuple(there), sentence)


def _sentence(reason: Reason, there: Sequence[Judged], elsewhere: Sequence[Judged]) -> str:
    """What the numbers say about a reason; "" if they do not confirm it."""
    error, times = _median_error(there), float(np.median([_too_long(each) for each in there]))
    if reason.too != "either" and (times > 1) != (reason.too == "long"):
        return ""
    against = ""
    if len(elsewhere) >= TELLING:
        other = _median_error(elsewhere)
        if error < BEARS_OUT * other:
            return ""
        against = f", {percent(other)} elsewhere"
    count = f"{len(there)} point{'' if len(there) == 1 else 's'}"
    return (
        f"*{reason.name}* ({', '.join(reason.kinds)}; {count}): median error {percent(error)}{against}; the expected"
        f" time is {times:.2f}x the measured one. {reason.because}"
    )


def _median_error(judged: Sequence[Judged]) -> float:
    return float(np.median([each.error for each in judged]))


def _too_long(each: Judged) -> float:
    """How many times the measured time is expected."""
    assert each.ratio is not None
    return 1 / each.ratio if KINDS[each.point.kind].is_rate else each.ratio


def _worst_table(timed: Sequence[Judged], explained: Sequence[Explained]) -> TextTable:
    """The points of each kind that are furthest off, each with its reason."""
    known = [each for each in timed if each.error is not None]
    worst = [
        each
        for kind in KINDS
        for each in sorted((one for one in known if one.point.kind == kind), key=lambda one: -(one.error or 0))[:WORST]
    ]
    lines = tuple(
        (
            each.point.kind,
            each.gpu,
            each.point.model,
            each.point.workload,
            f"{_too_long(each):.2f}x",
            next((found.reason.name for found in explained if each in found.members), "not explained"),
        )
        for each in worst
    )
    return TextTable("worst points", ("kind", "GPU", "model", "workload", "expected / measured time", "reason"), lines)


def _few(timed: Sequence[Judged]) -> Iterator[str]:
    """What to know of each kind before its median is believed."""
    for kind in KINDS:
        found = Counter(each.point.publisher for each in timed if each.point.kind == kind)
        if not found:
            continue
        (publisher, most), count = found.most_common(1)[0], found.total()
        if count < FEW:
            yield f"{kind} has {count}"
        elif most > count / 2:
            yield f"{most} of {count} of {kind} are from {publisher}"
