"""Tries users' functions before a run begins, so that a mistyped one costs a line and no records."""

from collections.abc import Iterable
from dataclasses import replace

from bench.callables import BadCallable, is_callable
from bench.lab import Job, Outcome, Trial
from bench.record import Status
from bench.worker import Bench
from predict.workloads import Workload


def try_callables(jobs: Iterable[Job], bench: Bench) -> None:
    """Import each user's function among the jobs, and call it once on the smallest workload of each of its ops.

    Raises BadCallable for one that cannot be imported, is not callable, takes other arguments or returns other tensors.
    What it raises or hangs on when it is called is for the run to record.
    """
    smallest: dict[tuple[str, str], Job] = {}
    for job in jobs:
        key = (job.implementation, job.workload.op)
        if is_callable(job.implementation):
            smallest[key] = min(smallest.get(key, job), job, key=lambda each: _size(each.workload))
    for name, job in {job.implementation: job for job in smallest.values()}.items():
        outcome = bench.run(replace(job, trial=Trial.IMPORT))
        if outcome.status is not Status.SKIPPED:
            raise BadCallable(_reason(name, outcome))
    for job in smallest.values():
        outcome = bench.run(replace(job, trial=Trial.CALL))
        if outcome.refused:
            raise BadCallable(str(outcome.reason))


def _size(workload: Workload) -> float:
    return float(workload.amounts.flop) + float(workload.amounts.bytes)


def _reason(name: str, outcome: Outcome) -> str:
    """Why an import failed; a process that ended over it does not say so itself."""
    return str(outcome.reason) if outcome.refused else f"--callable {name}: importing it failed: {outcome.reason}"
