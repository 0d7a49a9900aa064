"""Judged points as tables: by kind and GPU, and the points that are furthest off."""

from collections.abc import Iterator, Sequence

from predict.table import Column, Table
from predict.terminal import wrapped
from predict.units import Unit
from reports.accuracy.endtoend import Judged, Tally, over_kinds, tallies
from reports.accuracy.endtoend_kinds import KINDS

TITLE = "Whole models: expected against measured"
COLUMNS = (
    Column("kind", "kind", is_key=True),
    Column("gpu", "GPU", is_key=True),
    Column("points", "points", Unit.COUNT),
    Column("with_expected", "with expected", Unit.COUNT),
    Column("median_error", "median error", Unit.SHARE),
    Column("mean_error", "mean error", Unit.SHARE),
    Column("beat_bound", "beat the bound", Unit.COUNT),
)


def tally_table(judged: Sequence[Judged], *, totals: bool) -> Table:
    """A row for each kind on each GPU, and with `totals` one for each kind on several."""
    rows: list[Tally] = []
    for total in over_kinds(judged):
        found = [tally for tally in tallies(judged) if tally.kind == total.kind]
        rows += found
        if totals and len(found) > 1:
            rows.append(total)
    return Table(COLUMNS, tuple(tally.row() for tally in rows))


def tally_json(judged: Sequence[Judged]) -> list[dict[str, object]]:
    """A row for each kind on each GPU, with the reasons of points without an expected time and those that beat their
    bound."""
    return [
        {
            **tally.row(),
            "is_size": tally.kind in KINDS and KINDS[tally.kind].is_size,
            "without_expected": tally.reasons,
            "faster_than_bound": [_named(each) for each in tally.judged if each.beats_bound],
        }
        for tally in tallies(judged)
    ]


def remarks(judged: Sequence[Judged], width: int) -> Iterator[str]:
    """What to say below the table: sizes, reasons, and what beats its bound."""
    sizes = [tally.kind for tally in over_kinds(judged) if tally.kind in KINDS and KINDS[tally.kind].is_size]
    if sizes:
        yield from wrapped(f"{', '.join(sizes)}: sizes have no time; the predicted size is judged.", width)
    for total in over_kinds(judged):
        for reason, count in total.reasons.items():
            yield from wrapped(f"{total.kind}: {count} without an expected time: {reason}", width)
    for each in judged:
        if each.beats_bound:
            yield from wrapped(f"beats its bound: {_named(each)}", width)


def _named(each: Judged) -> str:
    point = each.point
    said = f"; {point.note}" if point.note else ""
    return f"line {point.line}, {point.kind} of {point.model} on {each.gpu}, {point.workload}{said}"
