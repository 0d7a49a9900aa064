"""What the fullest GPU holds at the peak of a training step: state, gathered weights, activations and logits."""

from dataclasses import dataclass

from predict import checks
from predict.errors import BadQuantity
from predict.formulas import memory
from predict.formulas.memory import OPTIMIZERS, Optimizer, Recompute
from predict.model.activations import activation_bytes, layer_bytes
from predict.model.kept import Kernels
from predict.model.transformer import Model
from predict.workloads import Number

GATHERED_LAYERS = 2  # FSDP gathers the next layer's weights while this one computes (PyTorch FSDP2, implicit prefetch)


@dataclass(frozen=True, slots=True)
class TrainingLayout:
    """How a training step is spread over data_parallel * tensor_parallel * pipeline_parallel GPUs.

    Tensor parallelism is taken with sequence parallelism, which divides all activations (Korthikanti et al. 2022).
    """

    data_parallel: int = 1
    tensor_parallel: int = 1
    pipeline_parallel: int = 1
    zero_stage: int = 3  # over the data-parallel GPUs; 3 is FSDP

    def __post_init__(self) -> None:
        checks.whole(dp=self.data_parallel, tp=self.tensor_parallel, pp=self.pipeline_parallel)
        if self.zero_stage not in (0, 1, 2, 3):
            raise BadQuantity(f"zero must be 0, 1, 2 or 3, not {self.zero_stage}")

    @property
    def model_parallel(self) -> int:
        """GPUs that share one copy of the model."""
        return self.tensor_parallel * self.pipeline_parallel


@dataclass(frozen=True, slots=True)
class TrainingMemory:
    """Bytes on one GPU at the peak of a step."""

    state_bytes: Number  # weights, gradients and optimizer state after sharding
    gathered_bytes: Number  # weights of the layers at work, where they are sharded
    activation_bytes: Number  # kept of all layers, micro-batches in flight included
    recomputed_bytes: Number  # what one layer keeps besides while it is recomputed
    logits_bytes: Number  # of one micro-batch

    @property
    def total_bytes(self) -> Number:
        """Everything together."""
        held = self.state_bytes + self.gathered_bytes
        return held + self.activation_bytes + self.recomputed_bytes + self.logits_bytes


def sequences_per_gpu(batch: int, data_parallel: int) -> int:
    """Sequences of a step that one GPU trains, at least one."""
    return -(-batch // data_parallel)


def sequences_at_once(layout: TrainingLayout, batch: int, micro_batch: int | None) -> int:
    """Sequences that a GPU trains together: `micro_batch`, or its share of the batch; 1 in a pipeline. Raises
    BadQuantity if `micro_batch` is not a whole number."""
    share = sequences_per_gpu(batch, layout.data_parallel)
    usual = share if layout.pipeline_parallel == 1 else 1
    found = usual if micro_batch is None else micro_batch
    checks.whole(micro_batch=found)
    return min(share, found)


def training_memory(
    model: Model,
    layout: TrainingLayout,
    batch: int,
    seq: int,
    *,
    micro_batch: int | None = None,
    optimizer: Optimizer = OPTIMIZERS["adam"],
    recompute: Recompute = Recompute.NONE,
    kernels: Kernels = Kernels.EAGER,
) -> TrainingMemory:
    """Memory of a step of `batch` sequences, `sequences_at_once` of them together.

    The first of pp pipeline stages keeps up to pp micro-batches of its 1/pp of the layers (Narayanan et al. 2021,
    section 2.2), so that the whole depth counts once; the logits are on the last stage, which keeps one. The fuller of
    both counts. Raises BadQuantity for sizes that are not whole numbers.
    """
    checks.whole(batch=batch, seq=seq)
    share, stages = sequences_per_gpu(batch, layout.data_parallel), layout.pipeline_parallel
    at_once = sequences_at_once(layout, batch, micro_batch)
    tensor = layout.tensor_parallel
    stage = activation_bytes(model, at_once, seq, recompute=recompute, kernels=kernels, tensor_parallel=tensor) / stages
    first = stage * min(stages, -(-share // at_once))
    logits = memory.logits_bytes(at_once, seq, model.outputs) / tensor if model.outputs else 0
    last_is_fuller = stages == 1 or stage + logits > first
    state = memory.sharded_state(model.params, layout.zero_stage, layout.data_parallel, optimizer).total_bytes
    return TrainingMemory(
        state_bytes=state / layout.model_parallel,
        gathered_bytes=_gathered(model, layout),
        activation_bytes=stage if last_is_fuller else first,
        recomputed_bytes=_recomputed(model, at_once, seq, recompute, kernels, tensor),
        logits_bytes=logits if last_is_fuller else 0,
    )


def _gathered(model: Model, layout: TrainingLayout) -> Number:
    """16-bit weights of two of the largest layers, which ZeRO-3 gathers from the other GPUs."""
    if layout.zero_stage < 3 or layout.data_parallel == 1:
        return 0
    largest = max(block.params // block.layers for block in model.blocks)
    return GATHERED_LAYERS * memory.weight_bytes(largest) / layout.tensor_parallel


def _recomputed(
    model: Model, batch: int, seq: int, recompute: Recompute, kernels: Kernels, tensor_parallel: int
) -> Number:
    """What the largest layer keeps for its backward pass, less what it kept all along."""
    if recompute not in (Recompute.OPS, Recompute.FULL):
        return 0

    def largest(how: Recompute) -> float:
        return max(
            float(layer_bytes(block, batch, seq, recompute=how, kernels=kernels, tensor_parallel=tensor_parallel))
            for block in model.blocks
        )

    return largest(Recompute.FLASH) - largest(recompute)
