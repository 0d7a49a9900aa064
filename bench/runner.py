"""Runs a plan: measures the machine's roofs, then every case, and appends one record after the other.

Each record of the plan is on disk before the next case begins; a run that was stopped goes on with `resume`. The
probes of the roofs are written together, when all are done.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from bench import store
from bench.cases import compiles, implementation_names
from bench.ceilings import faster_dtype, measured_roofs
from bench.lab import Job, Outcome
from bench.physics import impossibility
from bench.record import HARNESS, SCHEMA, Environment, Record, RoofSet, Status
from bench.suites import BF16, Target, check_suite, l2_probe, probes, suite
from bench.worker import Bench
from predict.errors import BadRecord, BadRun, MissingCeiling
from predict.gpus import GPUS
from predict.resources import Roofs
from predict.roofline import predict
from predict.workloads import Workload

# A record with one of these is an answer; with any other, `resume` tries the case again.
FINAL = frozenset({Status.MEASURED, Status.INCORRECT, Status.IMPOSSIBLE})
# A run that holds one of these has failed: its other numbers deserve no trust until it is understood.
FAILED = frozenset({Status.INCORRECT, Status.IMPOSSIBLE, Status.CRASHED, Status.TIMEOUT})

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run once the roofs are known, what to call it, and where its records go."""

    name: str
    jobs: Callable[[Target], Iterable[Job]]
    out: Path
    resume: bool = False
    time_limit_s: float | None = None  # no case is begun after it


class Progress:
    """Hears how the run goes on; this one says nothing."""

    def phase(self, name: str, jobs: int) -> None:
        """A phase of `jobs` jobs begins."""

    def begin(self, job: Job) -> None:
        """A job begins."""

    def end(self, outcome: Outcome) -> None:
        """The job that began last has ended."""


class Runner:
    """One run of one plan into one folder."""

    def __init__(self, plan: Plan, bench: Bench, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Claim the folder. Raises BadRun where it cannot be written, holds records already and `resume` is off, or
        holds another machine's."""
        self._plan, self._bench, self._clock = plan, bench, clock
        self._progress = Progress()
        self._gpu = GPUS[bench.environment.gpu] if bench.environment.gpu else None
        self._roofs = RoofSet(datasheet=self._gpu.roofs if self._gpu else {}, measured={})
        self._file = plan.out / store.RECORDS
        self._records: dict[Key, Record] = {record.key: record for record in _claim(plan, bench.environment)}
        self._start_s = clock()

    def run(self, progress: Progress | None = None) -> tuple[Record, ...]:
        """Measure the roofs, then what the plan has; return every record of the folder."""
        self._progress = progress or Progress()
        environment = self._bench.environment
        self._measure_roofs(probe_jobs(target_of(environment, {})))
        pending = self._pending(self._plan.jobs(target_of(environment, self._roofs.measured)))
        self._progress.phase(self._plan.name, len(pending))
        for job in pending:
            self._write(job, self._attempt(job))
        return tuple(self._records.values())

    def _measure_roofs(self, jobs: Iterable[Job]) -> None:
        """Run the probes. They are written together when all are done, since each is judged by the roofs they find."""
        jobs = tuple(jobs)
        pending = self._pending(jobs)
        self._progress.phase("roofs of this machine", len(pending))
        outcomes = [(job, self._attempt(job)) for job in pending]
        known = [self._records[_key(job)] for job in jobs if _key(job) in self._records]
        found = [self._record(job, outcome) for job, outcome in outcomes]
        self._roofs = RoofSet(self._roofs.datasheet, measured_roofs([*known, *found]))
        for job, outcome in outcomes:
            self._write(job, outcome)

    def _pending(self, jobs: Iterable[Job]) -> tuple[Job, ...]:
        """The jobs that have no final record yet."""
        return tuple(
            job for job in jobs if _key(job) not in self._records or self._records[_key(job)].status not in FINAL
        )

    def _attempt(self, job: Job) -> Outcome:
        """Run a job, unless the time is up, and hold its time against physics."""
        limit_s = self._plan.time_limit_s
        if limit_s is not None and self._clock() - self._start_s > limit_s:
            outcome = Outcome(Status.SKIPPED, f"the time limit of {limit_s:g} s was reached; --resume runs the rest")
        else:
            self._progress.begin(job)
            outcome = self._bench.run(job)
            outcome = self._judge(job, outcome)
        self._progress.end(outcome)
        return outcome

    def _judge(self, job: Job, outcome: Outcome) -> Outcome:
        """Call a time impossible that this card cannot have reached; a card that was forced is not this card."""
        environment = self._bench.environment
        l2_bytes = environment.last_level_cache_bytes
        if outcome.status is not Status.MEASURED or outcome.measurement is None:
            return outcome
        if self._gpu is None or environment.forced or l2_bytes is None:
            return outcome
        try:
            why = impossibility(job.workload.amounts, outcome.measurement, self._gpu, l2_bytes=l2_bytes)
        except MissingCeiling:
            return outcome  # computed by other means than the unit that the card lacks
        return outcome if why is None else Outcome(Status.IMPOSSIBLE, why, outcome.check, outcome.measurement)

    def _write(self, job: Job, outcome: Outcome) -> None:
        record = self._record(job, outcome)
        store.append(self._file, record)
        self._records[record.key] = record

    def _record(self, job: Job, outcome: Outcome) -> Record:
        try:
            prediction = predict(job.workload.amounts, self._roofs.primary)
        except MissingCeiling:
            prediction = None  # the table and the probes lack this roof; the time is worth keeping all the same
        return Record(
            schema=SCHEMA,
            harness=HARNESS,
            workload=job.workload,
            implementation=job.implementation,
            status=outcome.status,
            reason=outcome.reason,
            prediction=prediction,
            roofs=self._roofs,
            check=outcome.check,
            measurement=outcome.measurement,
            environment=self._bench.environment,
        )


def suite_plan(name: str, out: Path, *, resume: bool = False, time_limit_s: float | None = None) -> Plan:
    """Every workload of suite `name` by every implementation. Raises BadRun where there is no such suite."""
    check_suite(name)
    return Plan(
        f"suite {name}",
        lambda target: jobs_of(suite(name, target), target.device),
        out,
        resume=resume,
        time_limit_s=time_limit_s,
    )


def jobs_of(workloads: Iterable[Workload], device: str, *, warm: bool = False) -> tuple[Job, ...]:
    """Every implementation that the device can run of every workload; those that compile each shape come last, so that
    a time limit cuts off no other row for the seconds that they take."""
    jobs = [Job(workload, name, warm) for workload in workloads for name in implementation_names(workload.op, device)]
    return tuple(sorted(jobs, key=lambda job: compiles(job.workload.op, job.implementation)))


def probe_jobs(target: Target) -> tuple[Job, ...]:
    """The jobs that measure the machine's roofs."""
    warm_reads = [l2_probe(target)] if target.device == "cuda" else []
    return (
        *jobs_of(probes(target), target.device),
        *jobs_of([read for read in warm_reads if read is not None], target.device, warm=True),
    )


def target_of(environment: Environment, measured: Roofs) -> Target:
    """What suites are fitted to on this machine; `measured` is empty before its roofs are known."""
    return Target(
        device=environment.device,
        memory_bytes=environment.memory_bytes,
        last_level_cache_bytes=environment.last_level_cache_bytes,
        dtype=BF16 if environment.device == "cuda" else faster_dtype(measured),
        roofs=measured or None,
    )


def _key(job: Job) -> Key:
    return (job.workload.id, job.implementation)


def _claim(plan: Plan, environment: Environment) -> tuple[Record, ...]:
    """Make the folder and return the records it holds; raises BadRun where they must not be added to."""
    file = plan.out / store.RECORDS
    try:
        plan.out.mkdir(parents=True, exist_ok=True)
        file.touch()
    except OSError as error:
        raise BadRun(f"cannot write {file}: {error.strerror}; choose another --out") from None
    try:
        records = store.read(file).records
    except BadRecord as error:
        raise BadRun(
            f"cannot go on with {str(error).partition(';')[0]}; remove that line, or choose another --out"
        ) from None
    if records and not plan.resume:
        raise BadRun(
            f"{file} already holds {len(records)} records; --resume goes on with them, or choose another --out"
        )
    for record in records:
        if difference := _difference(record, environment):
            raise BadRun(f"{file} holds records of {difference}; choose another --out")
    return records


def _difference(record: Record, here: Environment) -> str | None:
    """Why a record must not stand in one file with records of this machine, or None."""
    there = record.environment
    if record.harness != HARNESS:
        return f"harness {record.harness}, this is {HARNESS}"
    if there.name != here.name:
        return f"{there.name}, this is {here.name}"
    for name in ("gpu", "device", "torch", "triton", "driver", "warm_cache"):
        if getattr(there, name) != getattr(here, name):
            return f"{there.name}, whose {name} is {getattr(there, name)}, not {getattr(here, name)}"
    return None
