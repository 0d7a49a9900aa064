"""Tuning: every configuration of a Triton kernel on a list of shapes, and how far each is from the fastest.

It reads ordinary records and changes no launcher: a person reads the ranking and chooses.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import geometric_mean

from bench import cases
from bench.cases import CONFIGURED, find_implementation
from bench.lab import Job
from bench.record import Record, Status
from bench.runner import Plan
from bench.stats import Summary, summarize
from bench.suites import tuning_workloads
from kernels.unsupported import Unsupported
from predict.errors import BadRun
from predict.units import DType
from predict.workloads import Workload, find_op

LAUNCHER = "triton"  # the implementation that has configurations; under this name it chooses one itself
DEFAULT = "default"  # the name of that choice here


@dataclass(frozen=True, slots=True)
class Row:
    """One configuration on one shape. Numbers are None if it was not measured."""

    configuration: str
    rank: int | None  # among the measured configurations, equal times alike; None for the default, which is one of them
    time_s: float | None  # median
    half_width: float | None  # of the 95 % interval of the median, over the median
    times_best: float | None  # time over that of the fastest configuration
    of_roof: float | None  # napkin over time
    relative_error: float | None
    relative_bound: float | None  # the most relative_error allowed
    status: Status
    reason: str | None  # why it was not measured


@dataclass(frozen=True, slots=True)
class Ranking:
    """Every configuration on one shape."""

    workload: str
    roof: str  # that `of_roof` is of: "datasheet", or "measured" if there is none
    rows: tuple[Row, ...]  # the measured ones, fastest first, then the others


@dataclass(frozen=True, slots=True)
class Score:
    """One configuration over all shapes."""

    configuration: str
    times_best: float | None  # geometric mean over the measured shapes; None over none
    measured: int  # shapes
    best_at: int  # shapes at which no configuration was faster


@dataclass(frozen=True, slots=True)
class Tuning:
    """One op in one dtype."""

    op: str
    dtype: str
    rankings: tuple[Ranking, ...]  # one for each shape
    scores: tuple[Score, ...]  # every configuration, best first
    default: Score  # of what the launcher chooses


def find_workloads(op: str, dtype: DType | None) -> tuple[Workload, ...]:
    """The shapes that `op` is tuned on. Raises BadWorkload for an unknown op, and BadRun if its launcher has no
    configurations, naming the ops that have some, or does not take `dtype`."""
    find_op(op)
    tunable = dict.fromkeys(row.op for row in cases.IMPLEMENTATIONS if row.name == LAUNCHER and row.configs)
    if op not in tunable:
        raise BadRun(f"{op} has no configurations to tune; ops that have some: {', '.join(tunable) or 'none'}")
    workloads = tuning_workloads(op, dtype)
    for workload in workloads:
        try:
            row = find_implementation(workload, LAUNCHER, "cuda")
        except Unsupported as error:
            raise BadRun(str(error)) from None
        if not row.configs:
            raise BadRun(f"{op} has no configurations to tune in {workload.dtype.name}")
    return workloads


def tuning_plan(
    workloads: Sequence[Workload], out: Path, *, resume: bool = False, time_limit_s: float | None = None
) -> Plan:
    """Each workload by what the launcher chooses, then by every configuration."""
    name = f"tuning {workloads[0].op}"
    return Plan(name, lambda limits: tuning_jobs(workloads, limits.device), out, resume, time_limit_s)


def tuning_jobs(workloads: Iterable[Workload], device: str) -> tuple[Job, ...]:
    """Shape by shape, so that all configurations of one share a reference; without those that the kernel rules out for
    a shape."""
    return tuple(Job(workload, name) for workload in workloads for name in _contenders(workload, device))


def _contenders(workload: Workload, device: str) -> tuple[str, ...]:
    row = find_implementation(workload, LAUNCHER, device)
    names = (name for name, config in row.configs.items() if row.contends(config, workload.dims))
    return (LAUNCHER, *(f"{LAUNCHER}{CONFIGURED}{name}" for name in names))


def read_tunings(records: Iterable[Record], workloads: Iterable[Workload]) -> tuple[Tuning, ...]:
    """What the records say of these workloads, in their order: one for each dtype. Workloads without records and other
    implementations are left out."""
    by_workload: dict[str, list[Record]] = {workload.id: [] for workload in workloads}
    for record in records:
        if record.workload.id in by_workload and record.implementation.partition(CONFIGURED)[0] == LAUNCHER:
            by_workload[record.workload.id].append(record)
    groups: dict[tuple[str, str], list[Ranking]] = {}
    for found in by_workload.values():
        if found:
            workload = found[0].workload
            groups.setdefault((workload.op, workload.dtype.name), []).append(rank(found))
    return tuple(_tuning(op, dtype, rankings) for (op, dtype), rankings in groups.items())


def rank(records: Sequence[Record]) -> Ranking:
    """Order the records of one workload by their times; each is of a configuration or of the default choice."""
    measured_s = {_configuration(record): found.median_s for record in records if (found := _summary(record))}
    ranked_s = sorted(time_s for configuration, time_s in measured_s.items() if configuration != DEFAULT)
    rows = [_row(record, ranked_s) for record in records]
    rows.sort(key=lambda row: (row.time_s is None, row.time_s))
    roof = "datasheet" if records[0].roofs.datasheet else "measured"
    return Ranking(records[0].workload.id, roof, tuple(rows))


def _row(record: Record, ranked_s: Sequence[float]) -> Row:
    """`ranked_s`: the times of all measured configurations, ascending."""
    configuration, summary = _configuration(record), _summary(record)
    time_s = summary.median_s if summary else None
    napkin_s = float(record.prediction.napkin_s) if record.prediction else 0.0
    return Row(
        configuration=configuration,
        rank=ranked_s.index(time_s) + 1 if time_s and configuration != DEFAULT else None,
        time_s=time_s,
        half_width=summary.relative_half_width if summary else None,
        times_best=time_s / ranked_s[0] if time_s and ranked_s else None,
        of_roof=napkin_s / time_s if time_s and napkin_s else None,
        relative_error=record.check.relative_error if record.check else None,
        relative_bound=record.check.relative_bound if record.check else None,
        status=record.status,
        reason=record.reason,
    )


def _tuning(op: str, dtype: str, rankings: Sequence[Ranking]) -> Tuning:
    ratios: dict[str, list[float]] = {DEFAULT: []}
    for row in (row for ranking in rankings for row in ranking.rows):
        found = ratios.setdefault(row.configuration, [])
        if row.times_best is not None:
            found.append(row.times_best)
    default = _score(DEFAULT, ratios.pop(DEFAULT))
    scores = sorted(
        (_score(name, found) for name, found in ratios.items()),
        key=lambda score: (score.times_best is None, score.times_best, -score.measured, score.configuration),
    )
    return Tuning(op, dtype, tuple(rankings), tuple(scores), default)


def _score(configuration: str, ratios: Sequence[float]) -> Score:
    times_best = geometric_mean(ratios) if ratios else None
    return Score(configuration, times_best, len(ratios), sum(ratio <= 1 for ratio in ratios))


def _configuration(record: Record) -> str:
    return record.implementation.partition(CONFIGURED)[2] or DEFAULT


def _summary(record: Record) -> Summary | None:
    """None unless the status is `measured`: an impossible or throttled time is none to choose by."""
    return summarize(record.measurement.times_s) if record.status is Status.MEASURED and record.measurement else None
