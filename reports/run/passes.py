"""A model's pass as its run measured it: each kernel beside its bound and expected time, the sum, and the whole.

A kernel's time is that of the fastest implementation that the run has of it, times how often the pass runs it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from bench.passes import ModelPass, Whole
from bench.record import Record, Status
from bench.stats import doubts, summarize
from predict.errors import MissingCeiling
from predict.model.model_kernel import ModelKernel
from predict.resources import Roofs
from predict.roofline import predict
from predict.table import Column, Table, cell
from predict.units import Unit, duration, percent
from predict.workloads import Amounts
from reports.run.frame import OVER
from reports.run.load import Run
from reports.run.tables import OVER_MARK, UNSTABLE_MARK

COLUMNS = (
    Column("kernel", "kernel", is_key=True),
    Column("count", "times", Unit.COUNT),
    Column("bound_s", "bound", Unit.SECONDS),
    Column("bound_by", "by"),
    Column("expected_s", "expected", Unit.SECONDS),
    Column("measured_s", "measured", Unit.SECONDS),
    Column("share", "share", Unit.SHARE),
    Column("of_bound", "% of roof", Unit.SHARE),
    Column("implementation", "fastest"),
    Column("component", "part of"),
)
# The same for several passes in one table.
PASS_COLUMNS = (
    Column("model", "model", is_key=True),
    Column("phase", "phase"),
    Column("batch", "batch", Unit.COUNT),
    Column("tokens", "tokens", Unit.COUNT),
    Column("layout", "layout"),
    Column("dtype", "dtype"),
    *COLUMNS,
    Column("workload", "workload"),
    Column("is_unstable", "unstable"),
    Column("reason", "why not measured"),
)
WHOLE_COLUMNS = (
    Column("what", "the whole pass", is_key=True),
    Column("implementation", "by", is_key=True),
    Column("time_s", "time", Unit.SECONDS),
    Column("of_bound", "% of roof", Unit.SHARE),
)


_WHOLE_MODEL = "model measured whole"


@dataclass(frozen=True, slots=True)
class PassRow:
    """One kernel, all of its runs in the pass together."""

    component: str
    kernel: str
    count: int
    workload: str | None  # id; None: no op computes it
    bound_s: float | None  # None: its work is not counted, or a roof is not known
    bound_by: str | None
    expected_s: float | None
    measured_s: float | None  # None: no implementation was measured
    implementation: str | None  # the fastest
    reason: str  # why nothing was measured
    share: float | None = None  # of what was measured of the pass
    is_unstable: bool = False  # the time of the fastest is

    @property
    def of_bound(self) -> float | None:
        """Share of the roof that is reached."""
        return self.bound_s / self.measured_s if self.bound_s and self.measured_s else None


@dataclass(frozen=True, slots=True)
class WholeRow:
    """The pass as a whole, predicted or measured in another way."""

    what: str
    implementation: str
    time_s: float
    is_unstable: bool = False  # the time, or one that it is the sum of
    is_complete: bool = True  # no kernel of the pass is missing in it


@dataclass(frozen=True, slots=True)
class MeasuredPass:
    """A pass with what the run measured of it."""

    asked: ModelPass
    rows: tuple[PassRow, ...]  # in the order of the pass
    wholes: tuple[WholeRow, ...]
    bound_s: float | None  # of the pass, as `predict model` says without links
    notes: tuple[str, ...]

    @property
    def measured_s(self) -> float:
        """The kernels that were measured, one after the other."""
        return sum(row.measured_s for row in self.rows if row.measured_s)

    @property
    def whole_s(self) -> float | None:
        """The least time of the model measured as one; None if no op is the whole model, or no time is stable."""
        times_s = [row.time_s for row in self.wholes if row.what == _WHOLE_MODEL and not row.is_unstable]
        return min(times_s, default=None)

    @property
    def sentences(self) -> tuple[str, ...]:
        """Which kernel is the bottleneck, and how far from its roof; where most time is lost; what the sum lacks."""
        timed = [row for row in self.rows if row.measured_s]
        if not timed:
            return ("no kernel of this pass was measured: the notes say why",)
        return tuple(_sentences(timed))

    def table(self) -> Table:
        """A row for each kernel, and their sum, with the marks of a run's tables."""
        rows = [{column.key: getattr(row, column.key) for column in COLUMNS} for row in self.rows]
        marked = [_with_marks(cells, row.is_unstable) for cells, row in zip(rows, self.rows, strict=True)]
        total = _with_marks(self._sum(), any(row.is_unstable for row in self.rows))
        return Table(COLUMNS, (*marked, total)).without_empty()

    def whole_table(self) -> Table:
        """The whole: predicted, as the sum of its kernels, and measured as one."""
        rows = [
            _with_marks(
                {
                    "what": row.what,
                    "implementation": row.implementation,
                    "time_s": row.time_s,
                    "of_bound": self.bound_s / row.time_s if self.bound_s and row.is_complete else None,
                },
                row.is_unstable,
            )
            for row in self.wholes
        ]
        return Table(WHOLE_COLUMNS, tuple(rows)).without_empty()

    def flat_rows(self) -> Iterator[dict[str, object]]:
        """A row for each kernel, with what the pass is; times are those of all its runs together."""
        asked = self.asked
        names = {
            **{name: getattr(asked, name) for name in ("model", "phase", "batch", "tokens", "layout")},
            "dtype": asked.dtype.name,
        }
        for row in self.rows:
            yield {**names, **{each.key: getattr(row, each.key) for each in PASS_COLUMNS if each.key not in names}}

    def json(self) -> dict[str, object]:
        """All that the page says."""
        return {
            "title": self.asked.title,
            "bound_s": self.bound_s,
            "expected_s": self.asked.expected_s,
            "measured_s": self.measured_s or None,
            "kernels": list(self.flat_rows()),
            "whole": [asdict(row) for row in self.wholes],
            "says": list(self.sentences),
            "notes": list(self.notes),
        }

    def _sum(self) -> dict[str, object]:
        """The last row. A sum that lacks a kernel says of how many it is."""
        missing = sum(row.measured_s is None for row in self.rows)
        timed = [row for row in self.rows if row.measured_s]
        bound_s = _total(row.bound_s for row in timed)
        return {
            "kernel": f"{len(timed)} of {len(self.rows)}" if missing else "all",
            "component": "sum of what was measured" if missing else "sum",
            "count": sum(row.count for row in timed),
            "bound_s": bound_s,
            "expected_s": _total(row.expected_s for row in timed),
            "measured_s": self.measured_s or None,
            "share": 1.0 if timed else None,
            "of_bound": bound_s / self.measured_s if bound_s and self.measured_s else None,
        }


def _with_marks(cells: Mapping[str, object], is_unstable: bool) -> dict[str, object]:  # noqa: FBT001 - of a row
    """The cells of a row with a mark before a time that is unstable, and before a share of a roof over 100 %."""
    marks = {key: UNSTABLE_MARK for key in ("measured_s", "time_s") if is_unstable and cells.get(key) is not None}
    of_bound = cells.get("of_bound")
    if isinstance(of_bound, float) and of_bound > OVER:
        marks["of_bound"] = OVER_MARK
    units = {"of_bound": Unit.SHARE}
    return {**cells, **{key: f"{mark}{cell(cells[key], units.get(key, Unit.SECONDS))}" for key, mark in marks.items()}}


def passes_table(found: Iterable[MeasuredPass]) -> Table:
    """The kernels of all passes in one table, for other programs."""
    return Table(PASS_COLUMNS, tuple(row for each in found for row in each.flat_rows()))


def measured_passes(run: Run) -> tuple[MeasuredPass, ...]:
    """The passes of the run, each with its measured kernels."""
    timed = _timed(run.records)
    return tuple(_measured(asked, run, timed) for asked in run.passes)


@dataclass(frozen=True, slots=True)
class _Timed:
    """A measured row: one run of a workload by one implementation."""

    implementation: str
    time_s: float
    expected_s: float | None
    is_unstable: bool


def _timed(records: Iterable[Record]) -> dict[str, list[_Timed]]:
    """The measured rows of each workload, the fastest first. Configurations of a tuner are left out."""
    found: dict[str, list[_Timed]] = {}
    for record in records:
        if record.status is Status.MEASURED and record.measurement and "@" not in record.implementation:
            summary = summarize(record.measurement.times_s)
            is_unstable = any(doubt.unsettles for doubt in doubts(record.measurement.times_s, summary))
            expected_s = record.prediction.expected_s if record.prediction else None
            expected_s = None if expected_s is None else float(expected_s)
            row = _Timed(record.implementation, summary.median_s, expected_s, is_unstable)
            found.setdefault(record.workload.id, []).append(row)
    return {workload: sorted(rows, key=lambda row: row.time_s) for workload, rows in found.items()}


def _measured(asked: ModelPass, run: Run, timed: Mapping[str, list[_Timed]]) -> MeasuredPass:
    roofs = run.roofs.primary
    rows = [_row(kernel, roofs, timed, run.records) for kernel in asked.kernels]
    total_s = sum(row.measured_s for row in rows if row.measured_s)
    shared = tuple(replace(row, share=row.measured_s / total_s if row.measured_s else None) for row in rows)
    bound_s = _bound(asked.amounts, roofs)[0]
    wholes = tuple(_wholes(asked, timed, bound_s, shared))
    notes = (*_notes(asked, shared), *_unmeasured_wholes(asked, timed, run.records))
    return MeasuredPass(asked, shared, wholes, bound_s, notes)


def _row(kernel: ModelKernel, roofs: Roofs, timed: Mapping[str, list[_Timed]], records: Iterable[Record]) -> PassRow:
    workload = kernel.workload.id if kernel.workload else None
    bound_s, bound_by = _bound(kernel.amounts, roofs)
    fastest = next(iter(timed.get(workload or "", ())), None)
    count = kernel.count
    return PassRow(
        component=kernel.kind,
        kernel=kernel.name,
        count=count,
        workload=workload,
        bound_s=None if bound_s is None else count * bound_s,
        bound_by=bound_by,
        expected_s=count * fastest.expected_s if fastest and fastest.expected_s else None,
        measured_s=count * fastest.time_s if fastest else None,
        implementation=fastest.implementation if fastest else None,
        reason="" if fastest else kernel.reason or _why_not(workload, records),
        is_unstable=fastest is not None and fastest.is_unstable,
    )


def _bound(amounts: Amounts | None, roofs: Roofs) -> tuple[float | None, str | None]:
    """The bound and what binds; None where work or roof is not known."""
    if amounts is None:
        return None, None
    try:
        found = predict(amounts, roofs)
    except MissingCeiling:
        return None, None
    return float(found.napkin_s), found.bound


def _why_not(workload: str | None, records: Iterable[Record]) -> str:
    """The reason of the first record of a workload that was not measured."""
    first = next((record for record in records if record.workload.id == workload), None)
    return f"{first.implementation}: {first.status}: {first.reason}" if first else "not part of this run"


def _wholes(
    asked: ModelPass, timed: Mapping[str, list[_Timed]], bound_s: float | None, rows: Sequence[PassRow]
) -> Iterator[WholeRow]:
    if bound_s is not None:
        yield WholeRow("predict model", "bound", bound_s)
    if asked.expected_s is not None:
        yield WholeRow("predict model", "expected", asked.expected_s)
    measured = [row.measured_s for row in rows if row.measured_s]
    if measured:
        what = "sum of the kernels" if len(measured) == len(rows) else f"sum of {len(measured)} of {len(rows)} kernels"
        is_unstable = any(row.is_unstable for row in rows)
        yield WholeRow(what, "the fastest of each", sum(measured), is_unstable, len(measured) == len(rows))
    for whole in asked.wholes:
        for each in timed.get(whole.workload or "", ()):
            yield WholeRow(_what(whole), each.implementation, whole.count * each.time_s, each.is_unstable)


def _what(whole: Whole) -> str:
    return f"{whole.name} measured whole" if whole.count == 1 else f"{whole.count} x {whole.name} measured whole"


def _notes(asked: ModelPass, rows: Sequence[PassRow]) -> Iterator[str]:
    """What the pass asked says, and why kernels or wholes were not measured."""
    yield from asked.notes
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if row.measured_s is None:
            reasons.setdefault(row.reason, []).append(row.kernel)
    for reason, names in reasons.items():
        yield f"not measured: {', '.join(names)}: {reason}"
    if unstable := [row.kernel for row in rows if row.is_unstable]:
        yield f"unstable, so another run may find other times: {', '.join(unstable)}"


def _unmeasured_wholes(asked: ModelPass, timed: Mapping[str, list[_Timed]], records: Iterable[Record]) -> Iterator[str]:
    for whole in asked.wholes:
        if whole.workload not in timed:
            yield f"the {whole.name} as a whole: {whole.reason or _why_not(whole.workload, records)}"


def _sentences(timed: Sequence[PassRow]) -> Iterator[str]:
    slowest = max(timed, key=lambda row: row.measured_s or 0)
    if slowest.is_unstable:
        yield f"No sentence on the bottleneck: the time of {slowest.kernel}, the longest here, is unstable."
        return
    reaches = f", at {percent(slowest.of_bound)} of its roof" if slowest.of_bound else ""
    yield (
        f"The bottleneck is {slowest.component}, {slowest.kernel}: {percent(slowest.share or 0)} of the kernels' time"
        f"{reaches}."
    )
    over = {row: row.measured_s - row.bound_s for row in timed if row.measured_s and row.bound_s is not None}
    if over:
        worst = max(over, key=lambda row: over[row])
        lost_s = sum(each for each in over.values() if each > 0)
        if over[worst] > 0 and worst is not slowest and not worst.is_unstable:
            yield (
                f"Most time over its roof is lost in {worst.component}, {worst.kernel}: {duration(over[worst])} of"
                f" {duration(lost_s)}."
            )


def _total(values: Iterable[float | None]) -> float | None:
    """The sum; None where one is not known."""
    known = list(values)
    return None if None in known or not known else sum(each for each in known if each is not None)
