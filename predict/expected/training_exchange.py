"""What the GPUs of a training step send each other: sums of tensor parallelism, keys and values of sequences that are
cut, weights and gradients of data parallelism.

Weights are sent in 16 bits and gradients in fp32, as PyTorch's FSDP and Megatron-LM do by default, layer by layer: each
layer is a message of its own. Inside a node the calibrated collectives answer. Between nodes a ring sends as much of
its link, and each further GPU adds a step.
"""

from predict.errors import MissingCeiling
from predict.expected.calibrations import find_known
from predict.expected.kernel import expect
from predict.expected.time_model import Calibration, Machine
from predict.formulas.memory import Recompute
from predict.model.layout import Layout
from predict.model.traffic import all_reduces
from predict.model.training_plan import Plan, Training
from predict.units import DTYPES, Formats

WIDE = DTYPES["bf16"]
FP32_BYTES = 4
CUT_PASSES = 3  # of keys and values: gathered forward and backward, and their gradients summed


def sums_s(training: Training, plan: Plan) -> float:
    """Time of a micro-batch's messages between the GPUs that share a sequence, all layers together: the sums of
    tensor parallelism in both passes and in what is recomputed, and the keys and values of its parts."""
    layout, tokens = Layout(plan.layout.tensor_parallel), plan.micro_batch * training.seq / plan.parts
    total_s = 0.0
    if layout.tp > 1:
        message_bytes = tokens * training.model.hidden * WIDE.bytes
        passes = 3 if training.recompute is Recompute.FULL else 2
        sums = sum(block.layers * all_reduces(block, layout) for block in training.model.blocks)
        total_s += passes * sums * _collective_s(training, "all_reduce", layout.tp, message_bytes)
    if plan.parts > 1:
        elements = training.model.kv_elements_per_token / layout.tp
        message_bytes = plan.parts * tokens * elements * WIDE.bytes
        messages = training.model.layers
        total_s += CUT_PASSES * _ring_s(training, "all_gather", plan.parts, layout.tp, message_bytes, messages)
    return total_s


def gradients_s(training: Training, plan: Plan) -> float:
    """Time that weights and gradients take in a step. With ZeRO-3 every micro-batch gathers the weights for both passes
    and scatters its gradients; otherwise the step does so once, and gathers the weights that it updated."""
    layout = plan.layout
    if layout.data_parallel == 1:
        return 0.0
    params = training.model.params / layout.model_parallel
    gpus, apart = layout.data_parallel, layout.tensor_parallel
    messages = training.model.layers / layout.pipeline_parallel + 1
    gather_s = _ring_s(training, "all_gather", gpus, apart, params * WIDE.bytes, messages)
    scatter_s = _ring_s(training, "reduce_scatter", gpus, apart, params * FP32_BYTES, messages)
    if layout.zero_stage == 3:
        return plan.micro_steps * (2 * gather_s + scatter_s)
    return gather_s + scatter_s


def _ring_s(training: Training, op: str, gpus: int, apart: int, size_bytes: float, messages: float) -> float:
    """`size_bytes` in equal messages over a ring of `gpus` GPUs, of which every `apart`-th of a node is one."""
    here = max(1, min(gpus, training.node // apart))  # of them in one node
    inside_s = messages * _collective_s(training, op, here, size_bytes / messages) if here > 1 else 0.0
    nodes = -(-gpus // here)
    if nodes == 1:
        return inside_s
    if training.network_bytes_per_s is None:
        name = training.gpu.name
        raise MissingCeiling(f"{name}: the bandwidth between nodes is not known; give --link-between-nodes")
    constants = _calibration(training, op).constants
    between_s = (nodes - 1) / nodes * size_bytes / here / (training.network_bytes_per_s * constants["link_share"])
    return max(inside_s, between_s) + messages * (gpus - here) * constants["step_s"]


def _collective_s(training: Training, op: str, gpus: int, message_bytes: float) -> float:
    dims = {"gpus": gpus, "message_bytes": message_bytes}
    found = expect(dims, Machine.of(training.gpu, WIDE), Formats(), _calibration(training, op))
    return float(found.time_s[0])


def _calibration(training: Training, op: str) -> Calibration:
    return find_known(training.gpu, op, "bf16").calibration
