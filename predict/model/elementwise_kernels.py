"""The kernels between the matrices: norms with and without a residual, norms of Q and K, positions, activations."""

from collections.abc import Iterator, Mapping

from predict.model.attention import Attention, LatentAttention
from predict.model.compressed import CompressedAttention
from predict.model.elementwise import Norm
from predict.model.gpu_share import GpuShare
from predict.model.kinds import KernelKind
from predict.model.linear_attention import GatedDeltaNet, KimiDelta, Lightning
from predict.model.mixer import Mixer
from predict.model.model_kernel import ModelKernel, of_op, without_op
from predict.model.products import heads_on_gpu
from predict.model.state_space import Mamba, Mamba2
from predict.model.transformer import Block, Model

KIND = KernelKind.ELEMENTWISE


def norm_kernels(block: Block, share: GpuShare) -> Iterator[ModelKernel]:
    """The norms on the residual stream of the layers of `block`. Each addition to the stream is part of the norm that
    follows: one of what the mixer makes and one of what the MLP makes, or one of both where they read the same input.
    So the first norm of the model adds nothing, and its last norm adds what the last layer makes; the counts are the
    same as if every layer began with what it adds."""
    parts = (block.mixer is not None) + (block.mlp is not None)
    additions = min(parts, 1) if block.elementwise.parallel else parts
    norms = block.norm_params // (block.hidden * block.elementwise.norm.params)
    fused = min(norms, additions)
    for name, times in (("add_norm", fused), ("norm", norms - fused)):
        if times:
            yield _norm(block, name, share, block.layers * times)


def outer_norm_kernels(model: Model, share: GpuShare) -> Iterator[ModelKernel]:
    """The norms outside the layers: the last one, and BLOOM's of the embedding."""
    block = model.blocks[-1]
    if norms := model.final_norm_params // (model.hidden * block.elementwise.norm.params):
        yield _norm(block, "norm", share, norms)


def _norm(block: Block, name: str, share: GpuShare, count: int) -> ModelKernel:
    op = name.replace("norm", "layernorm" if block.elementwise.norm.centered else "rmsnorm")
    dims = {"rows": share.tokens, "cols": block.hidden}
    return of_op(KIND, name, op, dims, share.dtype, count=count)


def mixer_elementwise(mixer: Mixer, norm: Norm, share: GpuShare, count: int) -> Iterator[ModelKernel]:
    """Norms of Q, K and latents, rotary positions, and norms of what a recurrence makes."""
    match mixer:
        case Attention():
            yield from _of_attention(mixer, norm, share, count)
        case LatentAttention():
            yield from _latent_norms({"q_latent_norm": mixer.query_rank, "kv_latent_norm": mixer.kv_rank}, share, count)
            if mixer.indexer:
                dims: dict[str, float] = {"rows": share.tokens, "cols": mixer.indexer.head_dim}
                yield of_op(KIND, "indexer_k_norm", "layernorm", dims, share.dtype, count=count)
            if mixer.rope_dim:
                yield _rope(mixer.heads / share.tp + 1, mixer.rope_dim, share, count)
        case CompressedAttention():
            yield from _latent_norms({"q_latent_norm": mixer.query_rank, "kv_norm": mixer.head_dim}, share, count)
        case Mamba(norms=True):
            widths = {"step_norm": mixer.step_rank, "b_norm": mixer.state_dim, "c_norm": mixer.state_dim}
            yield from _latent_norms(widths, share, count)
        case GatedDeltaNet() | KimiDelta() | Lightning() | Mamba2(norm=True):
            dims = {"rows": share.tokens, "cols": mixer.width / share.tp}
            reason = "no op computes a norm and a gate"
            yield without_op(KIND, "gated_norm", reason, share.dtype, count=count, dims=dims)


def _latent_norms(widths: Mapping[str, int | None], share: GpuShare, count: int) -> Iterator[ModelKernel]:
    for name, width in widths.items():
        if width:
            yield of_op(KIND, name, "rmsnorm", {"rows": share.tokens, "cols": width}, share.dtype, count=count)


def _of_attention(attention: Attention, norm: Norm, share: GpuShare, count: int) -> Iterator[ModelKernel]:
    heads, kv_heads = heads_on_gpu(attention, share.tp)
    groups = {"q_norm": heads} if attention.shares_cache else {"q_norm": heads, "k_norm": kv_heads}
    if attention.qk_norm or attention.has_wide_norms:
        op = "layernorm" if norm.centered else "rmsnorm"
        for name, each in groups.items():
            dims = {"rows": share.tokens * each, "cols": attention.head_dim}
            if attention.has_wide_norms:
                dims = {"rows": share.tokens, "cols": each * attention.head_dim}
            yield of_op(KIND, name, op, dims, share.dtype, count=count)
    if rotated := round(attention.head_dim * attention.rotary):
        yield _rope(sum(groups.values()), rotated, share, count)


def _rope(heads: float, rotated: int, share: GpuShare, count: int) -> ModelKernel:
    """Rotary positions of Q and K in one kernel; `rotated`: elements of a head."""
    dims = {"tokens": share.tokens, "heads": heads, "head_dim": rotated}
    return of_op(KIND, "rope", "rope", dims, share.dtype, count=count)


def gate_kernel(attention: Attention, share: GpuShare, count: int) -> ModelKernel:
    """The gate on attention's output, which Q's matrix makes too."""
    dims = {"rows": share.tokens, "cols": attention.heads * attention.head_dim / share.tp}
    reason = "no op multiplies by a sigmoid"
    return without_op(KIND, "attention_gate", reason, share.dtype, count=count, dims=dims)


def activation_kernel(name: str, rows: float, cols: float, share: GpuShare, count: int, *, gated: bool) -> ModelKernel:
    """The activation function of `cols` elements a row, times the other half of the first product if `gated`."""
    op = "swiglu" if gated else "gelu"
    return of_op(KIND, name, op, {"rows": rows, "cols": cols}, share.dtype, count=count)
