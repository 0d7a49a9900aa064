"""What training keeps of a layer for its backward pass, from the layer's own matrices.

Convention: bytes of 16-bit activations without dropout. A tensor that several ops need counts once. The rules are those
of PyTorch's autograd on the code of `transformers`: a matrix keeps its input, a norm and an activation function keep
what their gradients need, FlashAttention keeps Q, K, V, its output and the log-sum-exp of each query. The indices of
routed tokens, under 0.3 % of a layer, are left out.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from predict import checks
from predict.formulas.memory import Recompute
from predict.model.attention import Attention, LatentAttention
from predict.model.elementwise import Elementwise
from predict.model.mlp import Experts, Mlp
from predict.model.transformer import Block, Model
from predict.workloads import Count, Number

ELEMENT_BYTES = 2
FP32_BYTES = 4


class Kernels(StrEnum):
    """How the ops between the matrices run. It decides what they keep."""

    EAGER = "eager"  # op by op, as the code of `transformers` is written
    FUSED = "fused"  # each norm, SwiGLU and set of experts is one kernel (Liger-Kernel, torch.compile, Megatron)


@dataclass(frozen=True, slots=True)
class Kept:
    """Tensors that one layer keeps of one token."""

    what: str
    bytes: Number
    split: bool = False  # tensor parallelism divides it; the rest is whole on every GPU, unless the sequence is divided


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
        Kept("input of attention" if not block.elementwise.parallel else "input of both", hidden),
        *_mixer(block, scores, kernels),
        *(() if block.elementwise.parallel else (Kept("input of the MLP", hidden),)),
        *_mlp(block, kernels),
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


def _norms(block: Block, kernels: Kernels) -> Iterator[Kept]:
    """The norms of the residual stream, and their statistics: 4 bytes a norm."""
    norm = block.elementwise.norm
    count = round(block.norm_params / (norm.params * block.hidden))
    each = norm.fused_bytes if kernels is Kernels.FUSED else norm.eager_bytes
    yield Kept(f"{count} norms", count * (each * block.hidden + FP32_BYTES))


def _mixer(block: Block, scores: Count | None, kernels: Kernels) -> Iterator[Kept]:
    if isinstance(block.mixer, LatentAttention):
        yield from _latent(block.mixer, block.elementwise, scores, kernels)
    elif isinstance(block.mixer, Attention):
        yield from _attention(block.mixer, block.elementwise, scores, kernels)
    elif block.mixer:
        outputs = sum(linear.outputs for linear in block.mixer.linears(block.hidden))
        yield Kept("outputs of the mixer's matrices", ELEMENT_BYTES * outputs, split=True)


def _attention(
    attention: Attention, elementwise: Elementwise, scores: Count | None, kernels: Kernels
) -> Iterator[Kept]:
    width, kv_width = attention.heads * attention.head_dim, attention.kv_heads * attention.head_dim
    if attention.qk_norm:
        heads = attention.heads + attention.kv_heads
        norm = elementwise.norm.fused_bytes if kernels is Kernels.FUSED else elementwise.norm.eager_bytes
        yield Kept("norms of Q and K", norm * (width + kv_width) + FP32_BYTES * heads, split=True)
    yield Kept("Q, K, V and attention's output", ELEMENT_BYTES * (2 * width + 2 * kv_width), split=True)
    yield _scores(attention.heads, elementwise, scores)


def _latent(
    attention: LatentAttention, elementwise: Elementwise, scores: Count | None, kernels: Kernels
) -> Iterator[Kept]:
    """Each latent is normed and enters a matrix. K is put together from two parts; V stays in what it was cut from."""
    latents = [attention.kv_rank] + ([attention.query_rank] if attention.query_rank else [])
    norm = elementwise.norm.fused_bytes if kernels is Kernels.FUSED else elementwise.norm.eager_bytes
    yield Kept("latents and their norms", sum((norm + ELEMENT_BYTES) * width + FP32_BYTES for width in latents))
    query = attention.heads * (attention.nope_dim + attention.rope_dim)
    output = attention.heads * attention.value_dim
    expanded = attention.expansion.outputs
    yield Kept("Q, K, V and attention's output", ELEMENT_BYTES * (2 * query + expanded + output), split=True)
    yield _scores(attention.heads, elementwise, scores)


def _scores(heads: int, elementwise: Elementwise, keys: Count | None) -> Kept:
    """Eager attention keeps the softmax of all keys; FlashAttention the log-sum-exp in fp32."""
    if keys is None:
        return Kept("log-sum-exp", FP32_BYTES * heads, split=True)
    each = ELEMENT_BYTES if elementwise.softmax_bits == 16 else FP32_BYTES + ELEMENT_BYTES
    return Kept("attention scores", each * heads * keys, split=True)


def _mlp(block: Block, kernels: Kernels) -> Iterator[Kept]:
    if isinstance(block.mlp, Experts):
        yield from _experts(block.mlp, block.hidden, block.elementwise, kernels)
    elif block.mlp:
        yield Kept("inside the MLP", _inside(block.mlp, block.elementwise, kernels), split=True)


def _inside(mlp: Mlp, elementwise: Elementwise, kernels: Kernels) -> int:
    """The widened tensors: gate, its activation, up and their product, or up and its activation."""
    gated = 3 if kernels is Kernels.FUSED else 4
    plain = 1 if elementwise.relu else 2
    return (gated if mlp.gated else plain) * ELEMENT_BYTES * mlp.intermediate


def _experts(experts: Experts, hidden: int, elementwise: Elementwise, kernels: Kernels) -> Iterator[Kept]:
    """Every chosen expert takes a copy of the token, and its result is kept to be weighed. A loop over experts keeps
    the weighed result as well, which one kernel for all experts does not."""
    yield Kept("router", FP32_BYTES * experts.copies)
    copies = 2 if kernels is Kernels.FUSED else 3
    yield Kept("copies for experts", experts.active * copies * ELEMENT_BYTES * hidden)
    inside = experts.active * _inside(Mlp(experts.intermediate, gated=True), elementwise, kernels)
    if experts.shared:
        inside += _inside(experts.shared, elementwise, kernels)
    yield Kept("inside the experts", inside, split=True)


def _kept_by_ops(block: Block) -> Iterator[Kept]:
    """Source: torchtitan (e7c0cae), `_apply_ac_to_transformer_block` with the policy "op"."""
    yield Kept("the layer's input", ELEMENT_BYTES * block.hidden)
    attention = block.mixer
    if isinstance(attention, Attention | LatentAttention):
        dim = attention.value_dim if isinstance(attention, LatentAttention) else attention.head_dim
        yield Kept("attention's output", attention.heads * (ELEMENT_BYTES * dim + FP32_BYTES), split=True)
    every_second = list(block.linears())[::2]
    outputs = sum(linear.active * linear.outputs for linear in every_second)
    yield Kept("outputs of every second matrix", ELEMENT_BYTES * outputs, split=True)
