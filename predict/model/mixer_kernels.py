"""The kernels by which tokens see other tokens: attention in all its forms, and the states of recurrent layers."""

from collections.abc import Iterator

from predict.model.attention import Attention, LatentAttention
from predict.model.gpu_share import GpuShare
from predict.model.kinds import KernelKind, kind_of_component
from predict.model.mixer import Mixer, Mixing
from predict.model.model_kernel import ModelKernel, of_op, without_op
from predict.model.passes import read_bits
from predict.model.products import heads_on_gpu
from predict.model.reach import Chunk, Reach, TopK, Window
from predict.resources import matmul_unit
from predict.workloads import Amounts, stored_bytes

FP8_BITS = 8
NAMES = {"attention.scores": "attention"}
WITHOUT_OP = {
    "conv": "a short convolution",
    "indexer.scores": "the scores of an index",
    "attention.entries": "attention to compressed entries",
}


def mixing_kernels(mixer: Mixer, share: GpuShare, count: int) -> Iterator[ModelKernel]:
    """What a mixer does between its matrices, without norms and positions."""
    for work in mixer.mixing(share.new, share.cached, square=False):
        amounts = _mixed(work, share)
        if not amounts.flop:
            continue  # an index that would choose all tokens
        match mixer, work.name:
            case Attention(), _:
                yield _attention(mixer, share, count, amounts)
            case LatentAttention(), "attention.scores":
                yield _latent(mixer, share, count, amounts)
            case _:
                kind, name = kind_of_component(work.component), NAMES.get(work.name, work.name.replace(".", "_"))
                what = WITHOUT_OP.get(work.name, f"the {name} of {mixer.text.split(',')[0]}")
                reason = f"no op computes {what}"
                yield without_op(kind, name, reason, share.dtype, count=count, amounts=amounts)


def _attention(attention: Attention, share: GpuShare, count: int, amounts: Amounts) -> ModelKernel:
    """Softmax attention of this GPU's heads."""
    heads, kv_heads = heads_on_gpu(attention, share.tp)
    shape = {"heads": heads, "kv_heads": kv_heads, "head_dim": attention.head_dim}
    found = _op_and_sizes(attention.reach, share)
    if isinstance(found, str):
        return without_op(KernelKind.SCORES, "attention", found, share.dtype, count=count, dims=shape, amounts=amounts)
    op, sizes = found
    dims = {**sizes, **shape}
    return of_op(KernelKind.SCORES, "attention", op, dims, share.dtype, count=count, otherwise=amounts)


def _op_and_sizes(reach: Reach, share: GpuShare) -> tuple[str, dict[str, float]] | str:
    """The op for what queries see, and its sizes without those of the heads; or why there is none."""
    batch, new, context, bits = share.batch, share.new, share.cached + share.new, share.formats.kv_bits
    is_narrow = share.cached > 0 and bits <= FP8_BITS
    if is_narrow and (bits < FP8_BITS or new > 1):
        return f"no op lets {'a query' if new == 1 else 'several queries'} attend to a cache of {bits:g} bits"
    if new == 1:
        op = "attention_decode_fp8" if is_narrow else "attention_decode"
        return op, {"batch": batch, "context": int(reach.seen(share.cached)) + 1}
    fits = reach.limit is None or context <= reach.limit
    if share.cached:
        chunk: dict[str, float] = {"batch": batch, "queries": new, "context": context}
        return ("attention_chunk", chunk) if fits else f"no op attends to a cache within a {reach.text}"
    match reach:
        case _ if fits:
            return "attention_prefill", {"batch": batch, "seq": new}
        case Window():
            return "attention_window", {"batch": batch, "seq": new, "window": reach.tokens}
        case Chunk() if new % reach.tokens == 0:  # each chunk is a sequence of its own
            return "attention_packed", {"sequences": batch * new // reach.tokens, "tokens": batch * new}
    return f"no op attends within {reach.text} to {new:,} tokens, which are no whole chunks"


def _latent(latent: LatentAttention, share: GpuShare, count: int, amounts: Amounts) -> ModelKernel:
    """Attention over latents with absorbed projections in decode, over expanded keys and values in a prompt."""
    heads, kind, context = latent.heads / share.tp, KernelKind.SCORES, share.cached + share.new
    reason = ""
    if isinstance(latent.reach, TopK) and context > latent.reach.tokens:
        reason = f"no op attends to {latent.reach.text}"
    elif share.formats.kv_bits <= FP8_BITS and share.cached:
        reason = f"no op attends to latents of {share.formats.kv_bits:g} bits"
    elif share.new == 1:
        dims = {"batch": share.batch, "context": context, "heads": heads}
        dims |= {"latent": latent.kv_rank, "rope": latent.rope_dim}
        return of_op(kind, "attention", "attention_mla", dims, share.dtype, count=count, otherwise=amounts)
    elif share.cached or latent.nope_dim + latent.rope_dim != latent.value_dim:
        reason = f"no op attends with keys of {latent.nope_dim + latent.rope_dim} and values of {latent.value_dim}"
    else:
        dims = {"batch": share.batch, "seq": share.new, "heads": heads, "kv_heads": heads, "head_dim": latent.value_dim}
        return of_op(kind, "attention", "attention_prefill", dims, share.dtype, count=count, otherwise=amounts)
    return without_op(kind, "attention", reason, share.dtype, count=count, dims={"heads": heads}, amounts=amounts)


def _mixed(work: Mixing, share: GpuShare) -> Amounts:
    """The work on this GPU as a pass counts it, for all its requests, with the activations that go in and come out."""
    moved = share.batch * work.activations / share.tp * share.dtype.bytes / 2
    read = written = moved
    if work.held:
        held = share.batch * stored_bytes(work.held.elements, read_bits(work.held, share.formats))
        held = held / min(share.tp, work.held.shards)
        read, written = read + work.reads * held, written + work.writes * held
    return Amounts({matmul_unit(share.dtype): share.batch * work.flop / share.tp}, read, written)
