"""The order of a suite's cases: the most telling first, so that a run that is cut off anywhere is worth reading."""

import math
from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from types import MappingProxyType

from bench.cases import compiles, stores_scores
from bench.lab import Job
from predict.expected.probes import PROBES, probe_workloads
from predict.workloads import Workload


class Rank(IntEnum):
    """Which cases come first. Cases of one rank keep the order of their suite, so that implementations of one workload
    share its inputs and reference."""

    HEADLINE = 0  # one size of each headline, by our kernel and the vendor's
    CALIBRATION = 1  # the probes of expected times, by the same
    EVERY_FOURTH = 2  # shape of each op: a thin sweep first, then the shapes between
    EVERY_SECOND = 3
    EVERY = 4
    SLOW = 5  # stores its scores
    COMPILED = 6  # each shape by itself, for seconds


OURS_AND_VENDORS = frozenset({"triton", "torch", "sdpa_flash", "sdpa_cudnn"})

# The sizes that a reader asks for first; each suite has one nearby. Product and prefill are compute-bound, the decodes'
# cache is far larger than L2, and at this context a token with and without a cache differs clearly.
HEADLINES: Mapping[str, Mapping[str, int]] = MappingProxyType(
    {
        "matmul": {"m": 4096, "n": 4096, "k": 4096},
        "attention_prefill": {"batch": 1, "seq": 4096, "heads": 32, "kv_heads": 8, "head_dim": 128},
        "attention_decode": {"batch": 64, "context": 4096, "heads": 32, "kv_heads": 8, "head_dim": 128},
        "generate_cached": {"batch": 1, "context": 2048, "heads": 32, "kv_heads": 32, "head_dim": 128},
        "generate_uncached": {"batch": 1, "context": 2048, "heads": 32, "kv_heads": 32, "head_dim": 128},
    }
)


def arrange(jobs: Iterable[Job]) -> tuple[Job, ...]:
    """The jobs of a suite by rank."""
    jobs = tuple(jobs)
    workloads = tuple({job.workload.id: job.workload for job in jobs}.values())
    headlines, calibration = _headlines(workloads), _calibration(workloads)
    density = _density(workloads, calibration)

    def rank(job: Job) -> Rank:
        if compiles(job.workload.op, job.implementation):
            return Rank.COMPILED
        if job.implementation in OURS_AND_VENDORS:
            if job.workload.id in headlines:
                return Rank.HEADLINE
            if job.workload.id in calibration:
                return Rank.CALIBRATION
        elif stores_scores(job.workload.op, job.implementation):
            return Rank.SLOW
        return density[job.workload.id]

    def place(job: Job) -> tuple[Rank, int]:
        found = rank(job)
        return found, headlines.index(job.workload.id) if found is Rank.HEADLINE else 0

    return tuple(sorted(jobs, key=place))


def _headlines(workloads: Sequence[Workload]) -> tuple[str, ...]:
    """The workload that is nearest in size to each headline; the first if several are."""
    by_op = {op: [workload for workload in workloads if workload.op == op] for op in HEADLINES}
    return tuple(min(sizes, key=_distance).id for sizes in by_op.values() if sizes)


def _distance(workload: Workload) -> float:
    """Doublings between a workload and the headline of its op, summed over the dimensions."""
    wanted = HEADLINES[workload.op]
    return sum(abs(math.log2(workload.dims[name] / size)) for name, size in wanted.items())


def _calibration(workloads: Sequence[Workload]) -> frozenset[str]:
    """The probes of expected time of each op that has all of them here: fewer calibrate nothing."""
    held = {workload.id for workload in workloads}
    found: set[str] = set()
    for op, dtype in {(workload.op, workload.dtype) for workload in workloads if workload.op in PROBES}:
        probes = {workload.id for workload in probe_workloads(op, dtype)}
        if probes <= held:
            found |= probes
    return frozenset(found)


def _density(workloads: Sequence[Workload], calibration: frozenset[str]) -> dict[str, Rank]:
    """Each workload's place in the sweep of its op, to which probes of expected time do not belong."""
    ranks = dict.fromkeys((workload.id for workload in workloads), Rank.EVERY)
    for op in dict.fromkeys(workload.op for workload in workloads):
        sweep = [workload.id for workload in workloads if workload.op == op and workload.id not in calibration]
        ranks.update(dict.fromkeys(sweep[::2], Rank.EVERY_SECOND))
        ranks.update(dict.fromkeys(sweep[::4], Rank.EVERY_FOURTH))
    return ranks
