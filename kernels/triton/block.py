"""A transformer block made of our Triton kernels: Llama's in ten launches over a prompt, GPT-2's, which turns nothing,
in nine; for one token one more, which appends to the caches.

`prepare_` and `capture_` functions raise ValueError for other shapes and Unsupported for what a kernel refuses, before
anything is launched or appended.
"""

import functools
from collections.abc import Callable

from torch import Tensor

from kernels.constants import ARCHITECTURES, ATTENTION_DTYPES
from kernels.implementation import CUDA, Implementation, Prepare, Result
from kernels.pytorch.block import Step, capture, issue, issue_prompt
from kernels.shapes import (
    BlockSizes,
    BlockWeights,
    block_decode_sizes,
    block_forward_sizes,
    check_dtype,
    split_block,
)
from kernels.triton import rowwise
from kernels.triton.attention.decode import Cache, attention_decode, check_cache
from kernels.triton.attention.prefill import attention_prefill, check_heads
from kernels.triton.generation import append, append_kernel
from kernels.triton.matmul import matmul
from kernels.triton.plan import find_target

SUPPORTED_DTYPES = ATTENTION_DTYPES
SUPPORTED_ARCHITECTURES = ARCHITECTURES


def prepare_forward(x: Tensor, *others: Tensor, head_dim: int) -> tuple[Step]:
    """x: (batch, seq, hidden), others: cos, sin: (batch*seq, head_dim/2) if the MLP has three matrices, then those of
    `BlockWeights`; head_dim 64 or 128. The step returns x's shape."""
    sizes = block_forward_sizes(x, *others, head_dim=head_dim)
    _check("block_forward", x, sizes)
    angles, held = split_block(others)
    call = functools.partial(_forward, x, angles, held, sizes)
    return (Step(call, sum(each.nbytes for each in (x, *others))),)


def prepare_decode(x: Tensor, *others: Tensor) -> tuple[Step]:
    """x: (batch, hidden), others: cos, sin: (batch, head_dim/2) if the MLP has three matrices, those of `BlockWeights`,
    and the caches: (batch, kv_heads, context, head_dim); head_dim 64 or 128. The step writes the new token's K and V at
    position context-1 of the caches in place. It returns (batch, hidden), and what it appended to each cache: (batch,
    kv_heads, head_dim)."""
    sizes = block_decode_sizes(x, *others)
    *given, k_cache, v_cache = others
    _check("block_decode", x, sizes, k_cache, v_cache)
    angles, held = split_block(tuple(given))
    appended = (k_cache[:, :, -1], v_cache[:, :, -1])
    call = functools.partial(_decode, x, angles, held, sizes, (k_cache, v_cache), appended)
    return (Step(call, sum(each.nbytes for each in (x, *others))),)


def capture_forward(x: Tensor, *others: Tensor, head_dim: int) -> tuple[Step]:
    """The step of `prepare_forward` as a CUDA graph; each run overwrites the result of the last."""
    return (capture(*prepare_forward(x, *others, head_dim=head_dim), x.device),)


def capture_decode(*inputs: Tensor) -> tuple[Step]:
    """The step of `prepare_decode` as a CUDA graph; capturing already writes to the caches."""
    return (capture(*prepare_decode(*inputs), inputs[0].device),)


def _forward(x: Tensor, angles: tuple[Tensor, ...], weights: BlockWeights, sizes: BlockSizes) -> Tensor:
    rows = x.reshape(-1, sizes.hidden)
    projected = matmul(_attend(rows, angles, weights, sizes), weights.out.t())
    return _add_mlp(projected, rows, weights).view(x.shape)


def _decode(
    x: Tensor,
    angles: tuple[Tensor, ...],
    weights: BlockWeights,
    sizes: BlockSizes,
    caches: tuple[Tensor, Tensor],
    appended: tuple[Tensor, Tensor],
) -> tuple[Tensor, ...]:
    projected = matmul(_attend_cached(x, angles, weights, sizes, caches), weights.out.t())
    return _add_mlp(projected, x, weights), *appended


# Each returns only what the next one reads, so that the rest is freed before that begins.


def _attend(x: Tensor, angles: tuple[Tensor, ...], weights: BlockWeights, sizes: BlockSizes) -> Tensor:
    """x: (tokens, hidden). Returns (tokens, heads*head_dim), a view: attention's output has the layout of its
    queries."""
    q, k, v = (
        heads.unflatten(0, (sizes.batch, sizes.queries)).transpose(1, 2)
        for heads in _project(x, angles, weights, sizes)
    )
    return attention_prefill(q, k, v).transpose(1, 2).reshape(len(x), sizes.width)


def _attend_cached(
    x: Tensor,
    angles: tuple[Tensor, ...],
    weights: BlockWeights,
    sizes: BlockSizes,
    caches: tuple[Tensor, Tensor],
) -> Tensor:
    """x: (batch, hidden). Returns (batch, heads*head_dim); appends K and V."""
    q, k, v = _project(x, angles, weights, sizes)
    append(k, v, *caches)
    return attention_decode(q, *caches).reshape(len(x), sizes.width)


def _project(
    x: Tensor, angles: tuple[Tensor, ...], weights: BlockWeights, sizes: BlockSizes
) -> tuple[Tensor, Tensor, Tensor]:
    """x: (tokens, hidden) -> Q: (tokens, heads, head_dim), K and V: (tokens, kv_heads, head_dim). One launch turns Q
    and K, if there are angles."""
    projected = matmul(_norm(x, weights.attention_norm), weights.qkv.t()).unflatten(1, (-1, sizes.head_dim))
    turned, v = projected.split((sizes.heads + sizes.kv_heads, sizes.kv_heads), dim=1)
    if angles:
        turned = rowwise.rope(turned, *angles)
    q, k = turned.split((sizes.heads, sizes.kv_heads), dim=1)
    return q, k, v


def _norm(x: Tensor, weights: Tensor) -> Tensor:
    """x: (tokens, hidden), weights: `BlockSizes.norm_shape`. Returns x's shape."""
    return rowwise.rmsnorm(x, weights) if weights.dim() == 1 else rowwise.layernorm(x, *weights.unbind())


def _add_norm(x: Tensor, residual: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """The norm of x + residual, and x + residual: (tokens, hidden) each."""
    if weights.dim() == 1:
        return rowwise.add_rmsnorm(x, residual, weights)
    return rowwise.add_layernorm(x, residual, *weights.unbind())


def _add_mlp(projected: Tensor, x: Tensor, weights: BlockWeights) -> Tensor:
    """projected, x: (tokens, hidden). Returns total = projected + x, plus the MLP of its norm, added by PyTorch."""
    normed, total = _add_norm(projected, x, weights.mlp_norm)
    return matmul(_activate(normed, weights), weights.down.t()).add_(total)


def _activate(x: Tensor, weights: BlockWeights) -> Tensor:
    """x: (tokens, hidden) -> (tokens, inner): SwiGLU, or GELU where there is no gate."""
    made = matmul(x, weights.gate_up.t())
    return rowwise.gelu(made) if made.shape[1] == weights.down.shape[1] else rowwise.swiglu(*made.chunk(2, dim=1))


def _check(op: str, x: Tensor, sizes: BlockSizes, *caches: Tensor) -> None:
    """Raise Unsupported for what a kernel would refuse, before anything is launched or appended."""
    check_dtype(op, x.dtype, SUPPORTED_DTYPES)
    check_heads(op, sizes)
    if caches:
        k_cache, v_cache = caches
        check_cache(op, sizes, Cache(k_cache, v_cache), x.dtype)
    find_target(op, append_kernel, x)


def _row(op: str, name: str, issue: Callable[..., Result], prepare: Prepare) -> Implementation:
    return Implementation(
        op, name, issue, SUPPORTED_DTYPES, CUDA, SUPPORTED_ARCHITECTURES, prepare=prepare, package="triton"
    )


IMPLEMENTATIONS = (
    _row("block_forward", "triton", issue_prompt, prepare_forward),
    _row("block_decode", "triton", issue, prepare_decode),
    _row("block_forward", "triton_graph", issue_prompt, capture_forward),
    _row("block_decode", "triton_graph", issue, capture_decode),
)
