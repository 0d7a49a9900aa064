"""Runs a plan: measures the machine's roofs, then every case, and appends a record for each.

    bench = WorkerBench(make_lab, settings, job_limit_s=120)
    records = Runner(plan_of(of_suite("quick"), Path("runs/h100")), bench).run()

writes runs/h100/records.jsonl and returns what it holds: one record per workload and implementation, measured or with
the reason why not. Each record is on disk before the next case begins; a stopped run goes on with `resume`. Only the
records of roof probes are written together, once all have run.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from bench import store
from bench.cases import implementation_names
from bench.ceilings import faster_dtype, measured_roofs
from bench.crashes import Crashes
from bench.forecast import least_case_s
from bench.judgment import datasheet_roofs, judge, make_record
from bench.lab import Job, Outcome
from bench.machine import difference
from bench.record import HARNESS, Environment, Record, RoofSet, Status
from bench.selection import Selection
from bench.suites import BF16, Limits, l2_roof_probe, roof_probes
from bench.worker import Bench, WorkerLost
from predict.errors import BadRecord, BadRun
from predict.resources import Roofs
from predict.units import duration
from predict.workloads import Workload

# A record with one of these is final; with any other, `resume` tries the case again.
FINAL = frozenset({Status.MEASURED, Status.INCORRECT, Status.IMPOSSIBLE})
# One of these fails the run: do not trust its other numbers until the cause is known.
FAILED = frozenset({Status.INCORRECT, Status.IMPOSSIBLE, Status.CRASHED, Status.TIMEOUT})

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run, and where its records go."""

    name: str  # of the phase after the roof probes, for the progress bar
    jobs: Callable[[Limits], Iterable[Job]]  # called when the roofs are known
    out: Path  # folder of the records
    resume: bool = False  # go on with the records that it holds
    time_limit_s: float | None = None  # begin no case after it
    probes: Callable[[Limits], Iterable[Job]] = lambda _: ()  # of roofs, besides the machine's usual ones
    case_limit_s: float | None = None  # on a CPU, begin no case that must take longer


class Progress:
    """Progress callbacks; this default ignores them."""

    def phase(self, name: str, jobs: int) -> None:
        """A phase of `jobs` jobs begins."""

    def begin(self, job: Job) -> None:
        """A job begins."""

    def end(self, outcome: Outcome) -> None:
        """The job has ended."""


class Runner:
    """One run of one plan into one folder."""

    def __init__(self, plan: Plan, bench: Bench, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Claim the folder. Raises BadRun if it cannot be written, holds records without `resume`, or holds those of
        another machine."""
        self._plan, self._bench, self._clock = plan, bench, clock
        self._progress = Progress()
        self._environment = bench.environment
        self._roofs = RoofSet(datasheet_roofs(self._environment), measured={})
        self._file = plan.out / store.RECORDS
        self._records: dict[Key, Record] = {record.key: record for record in _claim(plan, self._environment)}
        self._crashes = Crashes()
        self.lost: str | None = None  # why no further job can run; None if one can
        self._start_s = clock()

    def run(self, progress: Progress | None = None) -> tuple[Record, ...]:
        """Measure the roofs, then the plan's jobs; return every record of the folder."""
        self._progress = progress or Progress()
        unmeasured = limits_of(self._environment, {})
        self._measure_roofs([*roof_probe_jobs(unmeasured), *self._plan.probes(unmeasured)])
        pending = self._pending(self._plan.jobs(limits_of(self._environment, self._roofs.measured)))
        self._progress.phase(self._plan.name, len(pending))
        for job in pending:
            self._write(job, self._attempt(job))
        return tuple(self._records.values())

    def _measure_roofs(self, jobs: Iterable[Job]) -> None:
        """Run the roof probes. Their records wait until all have run: each is judged by the roofs that they find."""
        jobs = tuple(jobs)
        pending = self._pending(jobs)
        self._progress.phase("roofs of this machine", len(pending))
        outcomes = [(job, self._attempt(job)) for job in pending]
        known = [self._records[job.key] for job in jobs if job.key in self._records]
        found = [self._record(job, outcome) for job, outcome in outcomes]
        self._roofs = RoofSet(self._roofs.datasheet, measured_roofs([*known, *found]))
        for job, outcome in outcomes:
            self._write(job, outcome)

    def _pending(self, jobs: Iterable[Job]) -> tuple[Job, ...]:
        """The jobs that have no final record yet."""
        return tuple(job for job in jobs if job.key not in self._records or self._records[job.key].status not in FINAL)

    def _attempt(self, job: Job) -> Outcome:
        """Run a job if it is worth trying."""
        reason = self._not_tried(job)
        outcome = self._try(job) if reason is None else Outcome(Status.SKIPPED, reason)
        self._progress.end(outcome)
        return outcome

    def _not_tried(self, job: Job) -> str | None:
        """Why this job is not begun, or None."""
        limit_s = self._plan.time_limit_s
        if self.lost is not None:
            return f"not tried: {self.lost}; --resume runs the rest"
        if limit_s is not None and self._clock() - self._start_s > limit_s:
            return f"the time limit of {limit_s:g} s was reached; --resume runs the rest"
        if reason := self._crashes.given_up(job):
            return f"not tried: crashed twice alike: {reason}; --resume tries again"
        return self._too_long(job)

    def _too_long(self, job: Job) -> str | None:
        """Why a CPU cannot end this job within the limit of a case, or None. A GPU's jobs are left to the limit."""
        limit_s, roofs = self._plan.case_limit_s, self._roofs.measured
        if limit_s is None or self._environment.device != "cpu" or not roofs:
            return None
        least_s = least_case_s(job.workload, roofs)
        if least_s is None or least_s <= limit_s:
            return None
        return f"not tried: takes this CPU about {duration(least_s, 2)}; --case-limit-s is {limit_s:g}"

    def _try(self, job: Job) -> Outcome:
        """Run a job, and check its time against physics."""
        self._progress.begin(job)
        try:
            outcome = self._bench.run(job)
        except WorkerLost as error:
            self.lost = str(error)
            return Outcome(Status.CRASHED, self.lost)  # not skipped: this fails the run
        self._crashes.add(job, outcome)
        return judge(job.workload, outcome, self._environment)

    def _write(self, job: Job, outcome: Outcome) -> None:
        record = self._record(job, outcome)
        store.append(self._file, record)
        self._records[record.key] = record

    def _record(self, job: Job, outcome: Outcome) -> Record:
        return make_record(job.workload, job.implementation, outcome, self._roofs, self._environment)


def plan_of(
    selection: Selection,
    out: Path,
    *,
    resume: bool = False,
    time_limit_s: float | None = None,
    case_limit_s: float | None = None,
) -> Plan:
    """A run of what was selected."""
    return Plan(selection.name, selection.jobs, out, resume, time_limit_s, selection.probes, case_limit_s)


def jobs_of(workloads: Iterable[Workload], device: str, *, warm: bool = False) -> tuple[Job, ...]:
    """Each workload by every implementation that runs on the device."""
    return tuple(
        Job(workload, name, warm) for workload in workloads for name in implementation_names(workload.op, device)
    )


def roof_probe_jobs(limits: Limits) -> tuple[Job, ...]:
    """The jobs that measure the machine's roofs."""
    warm_read = l2_roof_probe(limits) if limits.device == "cuda" else None
    warm_reads = [] if warm_read is None else [warm_read]
    return (*jobs_of(roof_probes(limits), limits.device), *jobs_of(warm_reads, limits.device, warm=True))


def limits_of(environment: Environment, measured: Roofs) -> Limits:
    """The machine that suites are sized for; `measured` is empty before its roofs are known."""
    return Limits(
        device=environment.device,
        memory_bytes=environment.memory_bytes,
        last_level_cache_bytes=environment.last_level_cache_bytes,
        dtype=BF16 if environment.device == "cuda" else faster_dtype(measured),
        roofs=measured or None,
        gpu=environment.gpu,
    )


def _claim(plan: Plan, environment: Environment) -> tuple[Record, ...]:
    """Make the folder and return the records it holds. Raises BadRun if none may be added to them."""
    file = plan.out / store.RECORDS
    try:
        plan.out.mkdir(parents=True, exist_ok=True)
        file.touch()
        records = store.read(file).records
    except OSError as error:
        raise BadRun(f"cannot write {file}: {error.strerror}; choose another --out") from None
    except BadRecord as error:
        broken = str(error).partition(";")[0]
        raise BadRun(f"cannot go on with {broken}; remove that line, or choose another --out") from None
    if records and not plan.resume:
        raise BadRun(f"{file} already holds {len(records)} records; --resume adds to them, or choose another --out")
    for record in records:
        if record.harness != HARNESS:
            raise BadRun(f"{file} holds records of harness {record.harness}, this is {HARNESS}; choose another --out")
        if other := difference(record.environment, environment):
            raise BadRun(f"{file} holds records of {other}; choose another --out")
    return records
