"""The calls by which tokens see other tokens, and what is computed around them: norms of heads, positions, gates.

Attention with keys and values of its own, and with latents, has forms. States of recurrent layers, convolutions, the
scores of an index and attention to chosen or compressed entries have none: they take the bytes and FLOP that a pass
counts for them, as `Unmeasured` kernels do.
"""

from collections.abc import Iterator

import numpy as np

from predict.expected.calls import Call, Family, Unmeasured
from predict.expected.share import Attending, Share
from predict.model.attention import Attention, LatentAttention
from predict.model.compressed import CompressedAttention
from predict.model.kinds import KernelKind, kind_of_component
from predict.model.linear import Linear
from predict.model.linear_attention import GatedDeltaNet, KimiDelta, Lightning
from predict.model.mixer import Mixer, Mixing
from predict.model.passes import read_bits
from predict.model.products import heads_on_gpu
from predict.model.reach import Chunk, Reach, TopK, Window
from predict.model.side_by_side import SideBySide
from predict.model.state_space import Mamba2
from predict.model.storage import wide_format
from predict.units import DTYPES, Formats
from predict.workloads import Number, stored_bytes

BF16, FP8 = DTYPES["bf16"], DTYPES["fp8"]
LATENT_DECODE, LATENT_PREFILL = "attention_mla", "attention_mla_prefill"
GATED_NORMS = GatedDeltaNet | KimiDelta | Lightning | Mamba2  # what these make goes through a norm and a gate


def mixer_calls(mixer: Mixer, share: Share, count: int) -> Iterator[Call | Unmeasured]:
    """The calls of a mixer between its matrices, in `count` layers."""
    match mixer:
        case SideBySide():
            for each in mixer.mixers:
                yield from mixer_calls(each, share, count)
        case Attention():
            yield from _around_attention(mixer, share, count)
            for attending in share.attending:
                yield from _attention(mixer, attending, share, count)
        case LatentAttention() if _has_form(mixer):
            yield from _around_latents(mixer, share, count)
            for attending in share.attending:
                yield from _latent_attention(mixer, attending, share, count)
        case _:
            yield from _around_others(mixer, share, count)
            for attending in share.attending:
                yield from _unmeasured(mixer, attending, share, count)


def is_inside(mixer: Mixer | None, linear: Linear) -> bool:
    """Whether the matrix is the expansion of a latent, which the kernels of latent attention multiply too."""
    return isinstance(mixer, LatentAttention) and linear.name == mixer.expansion.name and _has_form(mixer)


def _has_form(mixer: LatentAttention) -> bool:
    """Attention to chosen latents was measured nowhere."""
    return not isinstance(mixer.reach, TopK)


def _attention(mixer: Attention, attending: Attending, share: Share, count: int) -> Iterator[Call | Unmeasured]:
    """Softmax attention of this GPU's heads. A prompt after cached tokens takes as long as the whole prompt takes
    longer than these, and a prompt of two tokens."""
    heads, kv_heads = heads_on_gpu(mixer, share.tp)
    shape: dict[str, Number] = {"kv_heads": kv_heads, "head_dim": mixer.head_dim}
    window = mixer.reach.tokens if isinstance(mixer.reach, Window) else 0
    shape["window"] = window
    times = count * attending.share
    if not attending.is_prompt:
        family = attention_family("attention_decode", share, mixer.head_dim, window=window > 0)
        sizes = {"batch": attending.batch, "context": _seen(mixer.reach, attending), "heads": heads * attending.new}
        reads = 1 + share.reread * (heads / kv_heads - 1)
        yield Call(KernelKind.SCORES, family, {**sizes, **shape}, times * reads)
        return
    family = attention_family("attention_prefill", share, mixer.head_dim, window=window > 0)
    for seq, sign in _lengths(attending):
        batch, each = _chunks(mixer.reach, attending.batch, seq)
        yield Call(KernelKind.SCORES, family, {"batch": batch, "seq": each, "heads": heads, **shape}, sign * times)


def attention_family(op: str, share: Share, head_dim: float, *, window: bool) -> Family:
    """The kernels of attention: they multiply in 16 bits, also where the matrices are narrower. For a narrow cache an
    engine takes the faster of those measured with one and those of a 16-bit cache, which read less of it: one
    library's kernels for fp8 are slower than its others, another's are not."""
    bits = share.formats.kv_bits
    caches = (BF16.name,) if bits >= BF16.bits else (FP8.name, BF16.name)
    formats = Formats(kv_bits=bits, compute=wide_format(share.replica.gpu))
    return Family(op, formats, ((BF16.name,),), caches, window, head_dim)


def _lengths(attending: Attending) -> Iterator[tuple[Number, int]]:
    """Prompts whose times add up to that of the new tokens, each with its sign. Two tokens stand for the launch, which
    the difference loses: one would take the way of decode."""
    yield attending.context, 1
    if np.any(attending.cached):
        yield attending.cached, -1
        yield 2 * np.ones_like(attending.cached), 1


def _seen(reach: Reach, attending: Attending) -> Number:
    """Tokens that a decoding query attends to; a window is the kernel's own matter."""
    return attending.cached % reach.tokens + attending.new if isinstance(reach, Chunk) else attending.context


def _chunks(reach: Reach, batch: Number, seq: Number) -> tuple[Number, Number]:
    """Sequences and their length: each chunk of a prompt is one of its own."""
    if not isinstance(reach, Chunk):
        return batch, seq
    return batch * np.maximum(seq / reach.tokens, 1), np.minimum(seq, reach.tokens)


def _latent_attention(
    mixer: LatentAttention, attending: Attending, share: Share, count: int
) -> Iterator[Call | Unmeasured]:
    """Latent attention of this GPU's heads, the products with its expansion included. A prompt after cached tokens
    takes as long as the whole prompt takes longer than these, and a prompt of two tokens."""
    bits, heads = share.formats.kv_bits, mixer.heads / share.tp
    caches = (BF16.name,) if bits >= BF16.bits else (FP8.name, BF16.name)
    formats = Formats(kv_bits=bits, compute=wide_format(share.replica.gpu))
    shape: dict[str, Number] = {"batch": attending.batch, "latent": mixer.kv_rank, "rope": mixer.rope_dim}
    times = count * attending.share
    if not attending.is_prompt:
        family = Family(LATENT_DECODE, formats, ((BF16.name,),), caches)
        dims = {**shape, "context": attending.context, "heads": heads * attending.new}
        yield Call(KernelKind.SCORES, family, dims, times)
        return
    family = Family(LATENT_PREFILL, formats, ((BF16.name,),), caches)
    shape |= {"heads": heads, "head_dim": mixer.value_dim}
    for seq, sign in _lengths(attending):
        yield Call(KernelKind.SCORES, family, {**shape, "seq": seq}, sign * times)


def _around_attention(mixer: Attention, share: Share, count: int) -> Iterator[Unmeasured]:
    """Rotary positions of Q and K, norms of their heads, and the gate of the output: each reads and writes."""
    heads, kv_heads = heads_on_gpu(mixer, share.tp)
    rotated = (heads + (0 if mixer.shares_cache else kv_heads)) * mixer.head_dim
    if mixer.rotary:
        yield _moved(2 * rotated, share, count)
    if mixer.qk_norm or mixer.has_wide_norms:
        yield _moved(2 * rotated, share, count)
    if mixer.gated:
        yield _moved(3 * heads * mixer.head_dim, share, count)


def _around_latents(mixer: LatentAttention, share: Share, count: int) -> Iterator[Unmeasured]:
    """Norms of the latents, and rotary positions of Q and of the one key."""
    yield _moved(2 * ((mixer.query_rank or 0) + mixer.kv_rank), share, count)
    if mixer.rope_dim:
        yield _moved(2 * (mixer.heads / share.tp + 1) * mixer.rope_dim, share, count)


def _around_others(mixer: Mixer, share: Share, count: int) -> Iterator[Unmeasured]:
    """The norm and gate of what a recurrence makes; norms and positions of compressed attention and of an index."""
    if isinstance(mixer, GATED_NORMS):
        yield _moved(3 * mixer.width / share.tp, share, count)
    elif isinstance(mixer, LatentAttention):
        yield from _around_latents(mixer, share, count)
    elif isinstance(mixer, CompressedAttention):
        yield _moved(2 * (mixer.query_rank + mixer.head_dim), share, count)


def _unmeasured(mixer: Mixer, attending: Attending, share: Share, count: int) -> Iterator[Unmeasured]:
    """A kernel for each kind of work that a pass counts, with its activations."""
    for work in mixer.mixing(attending.new, attending.cached, square=False):
        kind = kind_of_component(work.component)
        flop, moved = attending.batch * work.flop / share.tp, attending.batch * _work_bytes(work, share)
        yield Unmeasured(kind, count * attending.share, moved, flop)


def _work_bytes(work: Mixing, share: Share) -> Number:
    """Bytes that one sequence moves on this GPU."""
    moved = work.activations / share.tp * share.activation_bytes
    if work.held is None:
        return moved
    held = stored_bytes(work.held.elements, read_bits(work.held, share.formats)) / min(share.tp, work.held.shards)
    return moved + (work.reads + work.writes) * held


def _moved(elements: float, share: Share, count: int) -> Unmeasured:
    """An element-wise kernel that moves so many elements a token."""
    return Unmeasured(KernelKind.ELEMENTWISE, count, elements * share.tokens * share.activation_bytes)
