"""The kernels between the matrices: norms with and without a residual, norms of Q and K, positions, activations."""

from collections.abc import Iterator

from predict.model.attention import Attention, LatentAttention
from predict.model.gpu_share import GpuShare
from predict.model.kinds import KernelKind
from predict.model.mixer import Mixer
from predict.model.model_kernel import ModelKernel, of_op, without_op
from predict.model.products import heads_on_gpu
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


def mixer_elementwise(mixer: Mixer, share: GpuShare, count: int, *, rotary: bool) -> Iterator[ModelKernel]:
    """Norms of Q, K and latents, and rotary positions."""
    match mixer:
        case Attention():
            yield from _of_attention(mixer, share, count, rotary=rotary)
        case LatentAttention():
            latents = {"q_latent_norm": mixer.query_rank, "kv_latent_norm": mixer.kv_rank}
            for name, rank in latents.items():
                if rank:
                    dims = {"rows": share.tokens, "cols": rank}
                    yield of_op(KIND, name, "rmsnorm", dims, share.dtype, count=count)
            if mixer.rope_dim:
                rotated = {"tokens": share.tokens, "heads": mixer.heads / share.tp + 1, "head_dim": mixer.rope_dim}
                yield of_op(KIND, "rope", "rope", rotated, share.dtype, count=count)


def _of_attention(attention: Attention, share: GpuShare, count: int, *, rotary: bool) -> Iterator[ModelKernel]:
    heads, kv_heads = heads_on_gpu(attention, share.tp)
    groups = {"q_norm": heads} if attention.shares_cache else {"q_norm": heads, "k_norm": kv_heads}
    if attention.qk_norm:
        for name, each in groups.items():
            dims = {"rows": share.tokens * each, "cols": attention.head_dim}
            yield of_op(KIND, name, "rmsnorm", dims, share.dtype, count=count)
    if rotary:
        rotated = {"tokens": share.tokens, "heads": sum(groups.values()), "head_dim": attention.head_dim}
        yield of_op(KIND, "rope", "rope", rotated, share.dtype, count=count)


def gate_kernel(attention: Attention, share: GpuShare, count: int) -> ModelKernel:
    """The gate on attention's output, which Q's matrix makes too."""
    dims = {"rows": share.tokens, "cols": attention.heads * attention.head_dim / share.tp}
    reason = "no op multiplies by a sigmoid"
    return without_op(KIND, "attention_gate", reason, share.dtype, count=count, dims=dims)


def activation_kernel(name: str, rows: float, cols: float, share: GpuShare, count: int, *, gated: bool) -> ModelKernel:
    """The activation function of `cols` elements a row, times the other half of the first product if `gated`."""
    op = "swiglu" if gated else "gelu"
    return of_op(KIND, name, op, {"rows": rows, "cols": cols}, share.dtype, count=count)
