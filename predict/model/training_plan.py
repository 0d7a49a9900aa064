"""How a training step is spread over its GPUs: the layouts and micro-batches among which people choose the fastest.

A layout is dp x tp x pp GPUs. Each sequence may be cut into `parts` on as many of the dp GPUs (context parallelism), so
that these train `batch` x `parts` pieces of a sequence.
"""

import bisect
import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from predict import checks
from predict.formulas.memory import Optimizer, Recompute
from predict.gpus import Gpu
from predict.model.kept import Kernels
from predict.model.layout import divisors
from predict.model.passes import Mask
from predict.model.training_memory import TrainingLayout, sequences_per_gpu, training_memory
from predict.model.transformer import Model
from predict.units import DType

MOST_STAGES = 16  # of a pipeline that nobody asked for
MOST_PARTS = 8  # of a sequence
STAGE_OF_PIPELINES = 1  # of ZeRO, at most: a pipeline needs its weights for every micro-batch, and keeps them whole


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Training:
    """A training step of `batch` sequences on `gpus` GPUs, and what is asked of its layout."""

    model: Model
    gpu: Gpu
    gpus: int
    batch: int
    seq: int
    compute: DType  # of the matrix products
    mask: Mask
    recompute: Recompute
    kernels: Kernels
    optimizer: Optimizer
    zero: int  # stage of ZeRO; 3 is FSDP
    usable_bytes: float  # memory of a GPU without what the runtime keeps
    network_bytes_per_s: float | None  # of a GPU to other nodes, one direction
    tensor_parallel: int | None = None  # None: what is fastest
    pipeline_parallel: int | None = None
    micro_batch: int | None = None  # sequences that a GPU trains at once; None: as many as fit

    def __post_init__(self) -> None:
        checks.whole(gpus=self.gpus, batch=self.batch, seq=self.seq)

    @property
    def node(self) -> int:
        """GPUs of one node that train together; all of them where it is not known how many a node has."""
        return min(self.gpu.gpus_per_node or self.gpus, self.gpus)


@dataclass(frozen=True, slots=True)
class Plan:
    """A layout, and what each of its GPUs trains at once."""

    layout: TrainingLayout
    parts: int  # of each sequence, on as many GPUs
    micro_batch: int  # pieces of a sequence that a GPU trains at once
    micro_steps: int  # of a step
    held_bytes: float  # on the fullest GPU

    @property
    def models(self) -> int:
        """GPUs that work on the same sequence: the larger, the more a framework has to arrange."""
        return self.layout.model_parallel * self.parts

    @property
    def text(self) -> str:
        """One line for a person: "dp 16, tp 4, cp 2, ZeRO-1, 8 micro-batches of 1"."""
        layout = self.layout
        sizes = {"dp": layout.data_parallel // self.parts, "tp": layout.tensor_parallel, "pp": layout.pipeline_parallel}
        found = [f"{name} {size}" for name, size in {**sizes, "cp": self.parts}.items() if size > 1]
        if layout.data_parallel > 1:
            found.append(f"ZeRO-{layout.zero_stage}")
        steps = "1 micro-batch" if self.micro_steps == 1 else f"{self.micro_steps:,} micro-batches"
        return ", ".join([*found, f"{steps} of {self.micro_batch:,}"])


def plans(training: Training) -> tuple[Plan, ...]:
    """The plans whose memory holds the step; if none does, the one that needs the least memory."""
    found = [*_plans(training)] or [_plan(training, TrainingLayout(training.gpus, zero_stage=training.zero), 1)]
    able = [plan for plan in found if plan.held_bytes <= training.usable_bytes]
    return tuple(able) or (min(found, key=lambda plan: plan.held_bytes),)


def _plans(training: Training) -> Iterator[Plan]:
    """Tensor parallelism inside a node, all else over any GPUs. Of several numbers of stages, only the least that fits:
    more only wait longer."""
    tensors = [training.tensor_parallel] if training.tensor_parallel else [*_powers(training.node)]
    stages = [training.pipeline_parallel] if training.pipeline_parallel else [*_powers(MOST_STAGES)]
    for tp, parts in itertools.product(tensors, _powers(MOST_PARTS)):
        for pp in stages:
            if not _is_possible(training, tp, pp, parts):
                continue
            found = [
                _plan(training, TrainingLayout(training.gpus // (tp * pp), tp, pp, zero), parts)
                for zero in _zero_stages(training, pp)
            ]
            yield from found
            if pp > 1 and found[0].held_bytes <= training.usable_bytes:
                break


def _is_possible(training: Training, tp: int, pp: int, parts: int) -> bool:
    """Whether the sizes divide GPUs, heads and tokens, and every GPU has a piece of a sequence. Sequences are cut only
    where there are more GPUs than sequences, or beside a pipeline, whose micro-batch is one sequence."""
    model, copies = training.model, training.gpus // (tp * pp * parts)
    divides = training.gpus % (tp * pp * parts) == 0 and model.heads % tp == 0 and training.seq % parts == 0
    needed = parts == 1 or pp > 1 or training.gpus > training.batch
    return divides and needed and pp <= model.layers and copies <= training.batch


def _zero_stages(training: Training, pp: int) -> tuple[int, ...]:
    """The stage that is asked for, and the one that gathers no weights for each micro-batch, if that is another."""
    once = min(training.zero, STAGE_OF_PIPELINES)
    return (once,) if pp > 1 or training.zero == once else (training.zero, once)


def _powers(most: int) -> Iterator[int]:
    """1, 2, 4, ... up to `most`."""
    return (2**power for power in range(most.bit_length()))


def _plan(training: Training, layout: TrainingLayout, parts: int) -> Plan:
    """The plan with the largest micro-batch that fits; with one piece if none does. A pipeline takes one at a time, so
    that its stages wait less."""
    share = sequences_per_gpu(training.batch * parts, layout.data_parallel)

    @functools.cache
    def held_bytes(size: int) -> float:
        return _held(training, layout, parts, size)

    if training.micro_batch is not None:
        sizes = [min(training.micro_batch, share)]
    else:
        sizes = [1] if layout.pipeline_parallel > 1 else divisors(share)[::-1]
    first = bisect.bisect_left(sizes, 1, key=lambda size: int(held_bytes(size) <= training.usable_bytes))
    size = sizes[min(first, len(sizes) - 1)]
    return Plan(layout, parts, size, -(-share // size), held_bytes(size))


def _held(training: Training, layout: TrainingLayout, parts: int, micro_batch: int) -> float:
    """Bytes on the fullest GPU, with attention that keeps no scores, as that of all frameworks."""
    how = Recompute.FLASH if training.recompute is Recompute.NONE else training.recompute
    held = training_memory(
        training.model,
        layout,
        training.batch * parts,
        training.seq // parts,
        micro_batch=micro_batch,
        optimizer=training.optimizer,
        recompute=how,
        kernels=training.kernels,
    )
    return float(held.total_bytes)
