"""Expected time of a training step: forward and backward kernels, the optimizer, and what the GPUs send each other.

    t = ((products + element-wise + loss) / sustained + attention + sums) x (1 + waiting) + optimizer / sustained
        + weights and gradients

Products are those of `training_products`. Attention runs by kernels of training: its backward pass takes 2.5 times the
FLOP of the forward pass (Dao 2023), and where neither the GPU nor the format needs new kernels, it has instructions of
Ampere's. Messages do not hide (`training_exchange`): what overlaps with them slows down by about as much.

Two constants, the same for all GPUs, models and frameworks, hold the rest. The plan is the fastest that fits
(`predict.model.training_plan`), or a simpler one that takes almost as long.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass

from predict.errors import MissingCeiling
from predict.expected.calibrations import find_known
from predict.expected.training_exchange import gradients_s, sums_s
from predict.expected.training_products import WIDE, matmuls, times_s
from predict.formulas.memory import Recompute
from predict.formulas.parallel import pipeline_overhead
from predict.gpus import Gpu, NvidiaGpu
from predict.model.attention import Attention, LatentAttention
from predict.model.kernels import prefill_kernels
from predict.model.kinds import KernelKind
from predict.model.passes import Logits, Mask
from predict.model.replica import Replica
from predict.model.training_plan import Plan, Training, plans
from predict.resources import Resource, find_ceiling
from predict.units import DType, Formats

AS_FAST = 1.1  # a simpler plan is taken if it takes at most this much longer
MMA_FLOP_PER_CLOCK_PER_SM = 2048  # of 16-bit products by instructions of one warp, on Ampere and Hopper
NEW_KERNELS_FROM = 100  # compute capability x 10 from which attention by such instructions is of no use
BACKWARD_SCORES = 2.5  # FLOP of attention's backward pass over those of its forward pass
BACKWARD_TRAFFIC = 2.0  # element-wise, the same of bytes: a gradient is read beside the input, and one is written
CHUNKS = 2  # of layers on a stage, which take turns (Narayanan et al. 2021, section 2.2)
LOSS_BYTES = 28  # of one logit: made fp32 (2 + 4), softmax (4 + 4), its gradient (4 + 4), made 16 bits (4 + 2)


@dataclass(frozen=True, slots=True)
class TrainingConstants:
    """What training makes of calibrated kernels."""

    sustained_share: float  # of a kernel's rate alone: clocks under lasting load, gaps, kernels that are not fused
    attention_share: float  # of the tensor cores' rate, in both passes of attention


FITTED = TrainingConstants(sustained_share=0.78, attention_share=0.32)


@dataclass(frozen=True, slots=True)
class ExpectedStep:
    """Expected time of a training step by kind of kernel."""

    times: Mapping[KernelKind, float]  # in seconds; kinds that the step does not have are left out
    plan: Plan
    measured_on: str  # the GPU whose matrix products are calibrated

    @property
    def time_s(self) -> float:
        """One after the other."""
        return sum(self.times.values())


@functools.lru_cache(maxsize=32)
def expected_training(training: Training, constants: TrainingConstants = FITTED) -> ExpectedStep:
    """The step by the plan that people choose. Raises MissingCeiling without a calibration, BadModel for layers whose
    memory is not known."""
    found = expected_steps(training, constants)
    fastest_s = min(step.time_s for step in found)
    able = [step for step in found if step.time_s <= AS_FAST * fastest_s]
    return min(able, key=lambda step: (step.plan.models, step.time_s))


def expected_steps(training: Training, constants: TrainingConstants = FITTED) -> list[ExpectedStep]:
    """The step by each plan that fits. Errors as for `expected_training`."""
    planned, work = plans(training), _Work.of(training)
    products = [[*matmuls(training, plan)] for plan in planned]
    times = iter(times_s(training.gpu, [each for listed in products for each in listed]))
    found = []
    for plan, listed in zip(planned, products, strict=True):
        alone = dict.fromkeys(KernelKind, 0.0)
        for each in listed:
            alone[each.kind] += next(times) * each.count
        found.append(_step(training, plan, work, alone, constants))
    return found


@dataclass(frozen=True, slots=True)
class _Work:
    """What a sequence needs in all layers besides products: forward passes, and backward passes at their factor."""

    scores_flop: float
    moved_bytes: float  # by element-wise kernels
    launches: float  # of these kernels
    loss_bytes: float

    @classmethod
    def of(cls, training: Training) -> "_Work":
        """Raises MissingCeiling for layers that mix tokens otherwise than by attention."""
        model, again = training.model, training.recompute
        flop = 0.0
        for block in model.blocks:
            if not isinstance(block.mixer, Attention | LatentAttention):
                what = block.mixer.text if block.mixer else "layers without attention"
                raise MissingCeiling(f"the kernels of {model.name} ({what}) are not calibrated in training")
            mixing = block.mixer.mixing(training.seq, 0, square=training.mask is Mask.FULL)
            flop += block.layers * sum(float(each.flop) for each in mixing)
        replica = Replica(model, training.gpu, formats=Formats(weight_bits=WIDE.bits))
        kernels = prefill_kernels(replica, 1, training.seq, Logits.ALL, WIDE)
        between = [each for each in kernels if each.kind is KernelKind.ELEMENTWISE]
        moved = sum(each.count * float(each.amounts.bytes) for each in between if each.amounts)
        forward = 2.0 if again is Recompute.FULL else 1.0
        scores = 2.0 if again in (Recompute.FULL, Recompute.SELECTIVE) else 1.0
        return cls(
            scores_flop=flop * (scores + BACKWARD_SCORES),
            moved_bytes=moved * (forward + BACKWARD_TRAFFIC),
            launches=(forward + 1) * sum(each.count for each in between),
            loss_bytes=LOSS_BYTES * training.seq * model.outputs,
        )


def _step(
    training: Training, plan: Plan, work: _Work, alone: dict[KernelKind, float], constants: TrainingConstants
) -> ExpectedStep:
    """All of a step. `alone` holds the products' times by kind."""
    layout = plan.layout
    known = find_known(training.gpu, "matmul", WIDE.name)
    matmul = known.calibration.constants
    dram = find_ceiling(Resource.DRAM, training.gpu.roofs).per_s * matmul["dram_share"]
    sequences = plan.micro_batch * plan.micro_steps / plan.parts / layout.model_parallel  # of a GPU in a step
    launched_s = work.launches * matmul["launch_s"] * plan.micro_steps / layout.pipeline_parallel
    alone[KernelKind.ELEMENTWISE] += sequences * work.moved_bytes / dram + launched_s
    alone[KernelKind.VOCAB] += sequences * work.loss_bytes / dram
    times = {kind: time_s / constants.sustained_share for kind, time_s in alone.items()}
    rate = constants.attention_share * _attention_peak(training.gpu, training.compute)
    times[KernelKind.SCORES] += sequences * work.scores_flop / rate
    times[KernelKind.LINK] += sums_s(training, plan) * plan.micro_steps / layout.pipeline_parallel
    stages = layout.pipeline_parallel
    chunks = min(CHUNKS, max(training.model.layers // stages, 1))
    waiting = float(pipeline_overhead(stages, plan.micro_steps, chunks))
    times[KernelKind.IDLE] = waiting * sum(times.values())
    times[KernelKind.LINK] += gradients_s(training, plan)
    times[KernelKind.OPTIMIZER] = _optimizer_bytes(training, plan) / dram / constants.sustained_share
    return ExpectedStep({kind: time_s for kind, time_s in times.items() if time_s}, plan, known.shipped.gpu)


def _attention_peak(gpu: Gpu, compute: DType) -> float:
    """FLOP/s of the tensor cores for attention's kernels in 16 bits. Frameworks that train in narrow formats bring
    kernels for the GPU that has them; otherwise attention's are FlashAttention's first two versions."""
    if not isinstance(gpu, NvidiaGpu):
        raise MissingCeiling(f"the multiprocessors and clocks of {gpu.name} are not known")
    peak = find_ceiling(Resource.TENSOR_BF16, gpu.roofs).per_s
    if compute.bits < WIDE.bits or gpu.architecture.sm >= NEW_KERNELS_FROM:
        return peak
    return min(peak, gpu.sm_count * gpu.max_hz * MMA_FLOP_PER_CLOCK_PER_SM)


def _optimizer_bytes(training: Training, plan: Plan) -> float:
    """Bytes that the optimizer moves on one GPU: its state read and written, gradients read, weights written."""
    layout, optimizer = plan.layout, training.optimizer
    shards = layout.model_parallel * (layout.data_parallel if layout.zero_stage else 1)
    each = 2 * optimizer.optimizer_bytes + optimizer.gradient_bytes + optimizer.weight_bytes
    return training.model.params / shards * each
