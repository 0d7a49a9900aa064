"""Gives up an implementation that crashed twice alike: other shapes would crash too, after seconds or minutes each."""

from collections import Counter
from dataclasses import dataclass, field

from bench.lab import Job, Outcome
from bench.record import Status

ENOUGH = 2
_LOST_PROCESS = "the process was lost"  # the reason of all crashes that cost a worker

Kind = tuple[str, str, str]  # op, implementation, what happened


@dataclass(slots=True)
class Crashes:
    """The crashes of one run. Those of earlier runs into the same folder do not count: their cause may be fixed, and
    `resume` asks to try again."""

    _count: Counter[Kind] = field(default_factory=Counter)
    _given_up: dict[tuple[str, str], str] = field(default_factory=dict)  # with the latest reason

    def add(self, job: Job, outcome: Outcome) -> None:
        """Note the outcome of a job. Two crashes are alike if they have the same reason, or both cost the process."""
        if outcome.status not in (Status.CRASHED, Status.TIMEOUT):
            return
        who, reason = _who(job), outcome.reason or ""
        kind = (*who, _LOST_PROCESS if outcome.poisoned else reason)
        self._count[kind] += 1
        if self._count[kind] >= ENOUGH:
            self._given_up[who] = reason

    def given_up(self, job: Job) -> str | None:
        """Why this job is not worth trying, or None: the reason of the last crash of its op and implementation."""
        return self._given_up.get(_who(job))


def _who(job: Job) -> tuple[str, str]:
    return (job.workload.op, job.implementation)
