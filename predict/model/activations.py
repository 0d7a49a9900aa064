"""What training keeps of a layer for its backward pass, from the layer's own matrices.

Convention: bytes of 16-bit activations without dropout. A tensor that several ops need counts once. `kept` holds the
rules for mixers and MLPs.
"""

from collections.abc import Iterator

from predict import checks
from predict.formulas.memory import Recompute
from predict.model.attention import Attention, LatentAttention
from predict.model.kept import ELEMENT_BYTES, FP32_BYTES, Kept, Kernels, mixer_tensors, mlp_tensors, norm_bytes
from predict.model.transformer import Block, Model
from predict.workloads import Count, Number


def kept(block: Block, seq: Count, *, recompute: Recompute, kernels: Kernels = Kernels.EAGER) -> tuple[Kept, ...]:
    """What one layer of `block` keeps of one token, in a sequence of `seq` tokens.

    NONE keeps everything, the attention scores included. SELECTIVE and FLASH recompute the scores. OPS keeps what
    torchtitan's selective policy does: the layer's input, attention's output and the output of every second matrix.
    FULL keeps the layer's input.
    """
    checks.whole(seq=seq)
    hidden = ELEMENT_BYTES * block.hidden
    if recompute is Recompute.FULL:
        return (Kept("the layer's input", hidden),)
    if recompute is Recompute.OPS:
        return tuple(_kept_by_ops(block))
    scores = seq if recompute is Recompute.NONE else None
    return (
        *_norms(block, kernels),
        *_inputs(block),
        *(mixer_tensors(block.mixer, block.elementwise, scores, kernels) if block.mixer else ()),
        *(mlp_tensors(block.mlp, block.hidden, block.elementwise, kernels) if block.mlp else ()),
    )


def layer_bytes(
    block: Block,
    batch: Count,
    seq: Count,
    *,
    recompute: Recompute,
    kernels: Kernels = Kernels.EAGER,
    tensor_parallel: int = 1,
    sequence_parallel: bool = True,
) -> Number:
    """Bytes that one layer of `block` keeps of `batch` sequences on each of `tensor_parallel` GPUs. They divide all of
    it with sequence parallelism (Korthikanti et al. 2022, section 4.2.2), otherwise only what `Kept.split` marks."""
    checks.whole(batch=batch, tensor_parallel=tensor_parallel)
    found = kept(block, seq, recompute=recompute, kernels=kernels)
    split = sum(each.bytes for each in found if each.split or sequence_parallel)
    whole = sum(each.bytes for each in found) - split
    return batch * seq * (whole + (split if tensor_parallel == 1 else split / tensor_parallel))


def activation_bytes(
    model: Model,
    batch: Count,
    seq: Count,
    *,
    recompute: Recompute,
    kernels: Kernels = Kernels.EAGER,
    tensor_parallel: int = 1,
    sequence_parallel: bool = True,
) -> Number:
    """`layer_bytes` of all layers."""
    total: Number = 0
    for block in model.blocks:
        total = total + block.layers * layer_bytes(
            block,
            batch,
            seq,
            recompute=recompute,
            kernels=kernels,
            tensor_parallel=tensor_parallel,
            sequence_parallel=sequence_parallel,
        )
    return total


def _inputs(block: Block) -> Iterator[Kept]:
    """Inputs of the matrices that read the residual stream."""
    parts = [name for name, part in (("mixer", block.mixer), ("MLP", block.mlp)) if part]
    for name in ["both"] if len(parts) == 2 and block.elementwise.parallel else parts:
        yield Kept(f"input of the {name}" if name != "both" else "input of both", ELEMENT_BYTES * block.hidden)
    if block.extra:
        yield Kept("inputs of other matrices", ELEMENT_BYTES * sum(linear.inputs for linear in block.extra))


def _norms(block: Block, kernels: Kernels) -> Iterator[Kept]:
    """The norms of the residual stream, and their statistics: 4 bytes a norm."""
    count = block.norm_params // (block.elementwise.norm.params * block.hidden)
    each = norm_bytes(block.elementwise.norm, kernels) * block.hidden + FP32_BYTES
    yield Kept(f"{count} norm{'' if count == 1 else 's'}", count * each)


def _kept_by_ops(block: Block) -> Iterator[Kept]:
    """Source: torchtitan (e7c0cae), `_apply_ac_to_transformer_block` with the policy "op"."""
    yield Kept("the layer's input", ELEMENT_BYTES * block.hidden)
    attention = block.mixer
    if isinstance(attention, Attention | LatentAttention):
        dim = attention.value_dim if isinstance(attention, LatentAttention) else attention.head_dim
        yield Kept("attention's output", attention.heads * (ELEMENT_BYTES * dim + FP32_BYTES), split=True)
    every_second = block.linears[::2]
    outputs = sum(linear.active * linear.outputs for linear in every_second)
    yield Kept("outputs of every second matrix", ELEMENT_BYTES * outputs, split=True)
