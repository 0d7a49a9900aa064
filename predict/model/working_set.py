"""What an engine keeps of a GPU's memory besides weights and KV cache."""

from predict import checks
from predict.formulas.memory import runtime_overhead_bytes
from predict.model.linear import Linear
from predict.model.transformer import Block, Model
from predict.units import GIB

ELEMENT_BYTES = 2

# Tokens of one pass, to which engines cut longer prompts: vLLM's max_num_batched_tokens of a server, from 70 GiB of
# memory on and below (EngineArgs.get_batch_defaults, 2025; an A100 of 80 GB has the smaller one too).
LARGE_PASS, SMALL_PASS, LARGE_MEMORY_BYTES = 8192, 2048, 70 * GIB


def engine_bytes(model: Model, memory_bytes: float, tensor_parallel: int = 1) -> float:
    """Bytes of a GPU of `memory_bytes` that an engine keeps: the runtime's own, and the activations of a pass."""
    runtime = float(runtime_overhead_bytes(memory_bytes))
    return runtime + pass_bytes(model, pass_tokens(memory_bytes), tensor_parallel)


def pass_tokens(memory_bytes: float) -> int:
    """Tokens of one pass on a GPU of `memory_bytes`."""
    return LARGE_PASS if memory_bytes >= LARGE_MEMORY_BYTES else SMALL_PASS


def pass_bytes(model: Model, tokens: int, tensor_parallel: int = 1) -> float:
    """Bytes of activations that are alive at once while `tokens` tokens go through the widest part of a layer, each in
    16 bits: the residual stream, its norm, what every matrix of the part makes and what its last one reads. The GPUs of
    tensor parallelism divide the part."""
    checks.whole(tokens=tokens, tensor_parallel=tensor_parallel)
    widest = max((_elements(part) for block in model.blocks for part in _parts(block)), default=0)
    return ELEMENT_BYTES * tokens * (2 * model.hidden + widest / tensor_parallel)


def _parts(block: Block) -> list[list[Linear]]:
    return [list(part.linears(block.hidden)) for part in (block.mixer, block.mlp) if part]


def _elements(part: list[Linear]) -> int:
    """Outputs of all matrices, and inputs of the last."""
    return sum(linear.active * linear.outputs for linear in part) + part[-1].active * part[-1].inputs
