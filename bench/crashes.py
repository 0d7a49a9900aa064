"""What crashed twice alike is not tried a third time: its other shapes would crash too, each for seconds or minutes."""

from collections import Counter
from dataclasses import dataclass, field

from bench.lab import Job, Outcome
from bench.record import Status

ENOUGH = 2
_LOST_PROCESS = "the process was lost"  # stands for every reason: each such crash costs a new worker

Kind = tuple[str, str, str]  # op, implementation, what happened


@dataclass(slots=True)
class Crashes:
    """The crashes of one run. Those of earlier runs into the same folder do not count: what caused them may be mended,
    and trying again is what `resume` is asked for."""

    _count: Counter[Kind] = field(default_factory=Counter)
    _given_up: dict[tuple[str, str], str] = field(default_factory=dict)  # with the latest reason

    def add(self, job: Job, outcome: Outcome) -> None:
        """Note what became of a job. Two crashes are alike that give the same reason, or that both cost the process."""
        if outcome.status not in (Status.CRASHED, Status.TIMEOUT):
            return
        who, reason = _who(job), outcome.reason or ""
        kind = (*who, _LOST_PROCESS if outcome.poisoned else reason)
        self._count[kind] += 1
        if self._count[kind] >= ENOUGH:
            self._given_up[who] = reason

    def given_up(self, job: Job) -> str | None:
        """Why this job is not worth trying, if so: the reason of the last of its op and implementation's crashes."""
        return self._given_up.get(_who(job))


def _who(job: Job) -> tuple[str, str]:
    return (job.workload.op, job.implementation)
