"""Roughly how long the cases of a run will take, to choose a suite and a time limit.

    a case = overhead + sampling + inputs + reference + building

overhead   binding, checking, a graph or two
sampling   warm-up and samples: a share of the budget, or FEWEST launches if those take longer
inputs     random numbers, in enough sets to keep caches cold; like the reference, once for each workload in a row
reference  fp64 and low precision: REFERENCE times the launch
building   Triton's or torch.compile's, if any

A launch takes SLOWER times its napkin. The CPU's constants come from two threads of an EPYC with 32 MiB of L3: they
give 36 s for its smoke suite, which took 42 s, and 85 s for its quick one, which took 91 s, and three times that beside
other work. What torch.compile takes there is a round number; the GPU's are guesses until a card is timed.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from bench.cases import compiles
from bench.lab import Job
from bench.record import Environment
from bench.sampling import Budget
from bench.timer import CACHES_TO_EXCEED, MAX_INPUT_SETS
from predict.errors import MissingCeiling
from predict.gpus import NVIDIA_GPUS
from predict.peak_memory import idle_bytes, operand_bytes
from predict.resources import Ceiling, Resource, Roofs
from predict.roofline import predict
from predict.workloads import Workload


@dataclass(frozen=True, slots=True)
class Costs:
    """What a case costs beside its sampled launches; the terms of the formula above."""

    overhead_s: float
    sampled: float  # share of the budget that sampling takes
    fewest: int  # launches, timed or before, however long they take
    inputs_bytes_per_s: float
    reference: float  # as many launches take as long
    slower: float  # a launch over its napkin
    triton_s: float
    compile_s: float


CPU_COSTS = Costs(0.1, 1.0, 12, 250e6, reference=10, slower=2.0, triton_s=0.0, compile_s=20.0)
GPU_COSTS = Costs(0.2, 0.5, 30, 100e9, reference=50, slower=1.5, triton_s=0.5, compile_s=8.0)


def forecast_s(jobs: Iterable[Job], here: Environment, budget: Budget) -> tuple[float | None, ...]:
    """Seconds of each job, in the order in which they run; None if a roof that it needs is unknown."""
    jobs, roofs = tuple(jobs), nominal_roofs(here)
    workloads = [None, *(job.workload.id for job in jobs)]
    fresh = [before != now for before, now in pairwise(workloads)]
    return tuple(_job_s(job, here, budget, roofs, fresh=new) for job, new in zip(jobs, fresh, strict=True))


def least_case_s(workload: Workload, roofs: Roofs) -> float | None:
    """Seconds of the fewest launches of a case on a CPU, and of its reference; None if a roof is unknown."""
    try:
        launch_s = CPU_COSTS.slower * float(predict(workload.amounts, roofs).napkin_s)
    except MissingCeiling:
        return None
    return (CPU_COSTS.fewest + CPU_COSTS.reference) * launch_s


def nominal_roofs(here: Environment) -> Roofs:
    """A GPU's datasheet, empty if the table lacks it. For a CPU, whose roofs are not measured yet, round numbers: 40
    GFLOP/s a thread in fp32 and twice that in narrower formats, 10 GB/s."""
    if here.device == "cuda":
        return NVIDIA_GPUS[here.gpu].roofs if here.gpu else {}
    threads = here.threads or 1
    narrow = (Resource.TENSOR_BF16, Resource.TENSOR_FP16, Resource.TENSOR_FP8, Resource.TENSOR_INT8)
    return {
        Resource.VECTOR_FP32: Ceiling(40e9 * threads, "nominal"),
        **dict.fromkeys(narrow, Ceiling(80e9 * threads, "nominal")),
        Resource.DRAM: Ceiling(10e9, "nominal"),
    }


def _job_s(job: Job, here: Environment, budget: Budget, roofs: Roofs, *, fresh: bool) -> float | None:
    if not roofs:
        return None
    costs = GPU_COSTS if here.device == "cuda" else CPU_COSTS
    try:
        launch_s = costs.slower * float(predict(job.workload.amounts, roofs).napkin_s)
    except MissingCeiling:
        return None
    time_s = costs.overhead_s + max(costs.sampled * (budget.warmup_s + budget.time_s), costs.fewest * launch_s)
    if fresh:
        cache_bytes = 0 if job.warm else here.last_level_cache_bytes or 0
        time_s += _input_bytes(job.workload, cache_bytes) / costs.inputs_bytes_per_s + costs.reference * launch_s
    if compiles(job.workload.op, job.implementation):
        return time_s + costs.compile_s
    return time_s + (costs.triton_s if job.implementation.startswith("triton") else 0.0)


def _input_bytes(workload: Workload, cache_bytes: int) -> float:
    """Bytes of all input sets; one is enough if it exceeds the cache often enough by itself."""
    touched_bytes = operand_bytes(workload) - idle_bytes(workload)
    if not touched_bytes:
        return 0.0
    sets = min(max(1, math.ceil(CACHES_TO_EXCEED * cache_bytes / touched_bytes)), MAX_INPUT_SETS)
    return sets * (touched_bytes + idle_bytes(workload))
