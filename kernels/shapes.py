"""What each op accepts: the sizes read off its tensors, or a ValueError that names what is supported."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.precision import TORCH_DTYPES, dtype_name
from kernels.unsupported import Unsupported


@dataclass(frozen=True, slots=True)
class MatmulSizes:
    """Sizes of C[m,n] = A[m,k] @ B[k,n]."""

    m: int
    n: int
    k: int


@dataclass(frozen=True, slots=True)
class AttentionSizes:
    """Sizes of attention: `queries` positions attend over `keys` positions, heads/kv_heads heads share K and V."""

    batch: int
    queries: int
    keys: int
    heads: int
    kv_heads: int
    head_dim: int

    @property
    def group(self) -> int:
        """Query heads that share one K and V head."""
        return self.heads // self.kv_heads


def check_dtype(op: str, dtype: torch.dtype, supported: Sequence[str]) -> None:
    """Raise Unsupported when `dtype` is the storage of none of the `supported` formats."""
    if dtype not in {TORCH_DTYPES[name] for name in supported}:
        raise Unsupported(f"{op} does not support {dtype_name(dtype)}; supported: {', '.join(supported)}")


def check_alike(op: str, **tensors: Tensor) -> None:
    """Raise ValueError unless all tensors share a dtype and a device and none has a dimension of size 0."""
    (first, model), *others = tensors.items()
    for name, tensor in others:
        if tensor.dtype != model.dtype:
            raise ValueError(
                f"{op}: {name} is {dtype_name(tensor.dtype)} but {first} is {dtype_name(model.dtype)}; "
                "all tensors must share one dtype"
            )
        if tensor.device != model.device:
            raise ValueError(f"{op}: {name} is on {tensor.device} but {first} is on {model.device}")
    for name, tensor in tensors.items():
        if not tensor.numel():
            raise ValueError(f"{op}: {name} has shape {tuple(tensor.shape)}; every dimension must be at least 1")


def check_rank(op: str, name: str, tensor: Tensor, dims: str) -> None:
    """Raise ValueError unless `tensor` has as many dimensions as `dims` ("m k") names."""
    names = dims.split()
    if tensor.dim() != len(names):
        raise ValueError(f"{op}: {name} must have shape ({', '.join(names)}), not {tuple(tensor.shape)}")


def matmul_sizes(a: Tensor, b: Tensor) -> MatmulSizes:
    """Sizes of a (m, k) times b (k, n)."""
    check_rank("matmul", "a", a, "m k")
    check_rank("matmul", "b", b, "k n")
    check_alike("matmul", a=a, b=b)
    (m, k), (rows, n) = a.shape, b.shape
    if k != rows:
        raise ValueError(f"matmul: a has {k} columns but b has {rows} rows; they must be equal")
    return MatmulSizes(m, n, k)


def prefill_sizes(q: Tensor, k: Tensor, v: Tensor) -> AttentionSizes:
    """Sizes of causal attention: q (batch, heads, seq, head_dim); k, v (batch, kv_heads, seq, head_dim)."""
    op = "attention_prefill"
    check_rank(op, "q", q, "batch heads seq head_dim")
    check_rank(op, "k", k, "batch kv_heads seq head_dim")
    check_alike(op, q=q, k=k, v=v)
    batch, heads, seq, head_dim = q.shape
    kv_heads = k.shape[1]
    _check_kv(op, k, v, (batch, kv_heads, seq, head_dim))
    _check_group(op, heads, kv_heads)
    return AttentionSizes(batch, seq, seq, heads, kv_heads, head_dim)


def decode_sizes(q: Tensor, k: Tensor, v: Tensor) -> AttentionSizes:
    """Sizes of one query per sequence: q (batch, heads, head_dim); k, v (batch, kv_heads, context, head_dim)."""
    op = "attention_decode"
    check_rank(op, "q", q, "batch heads head_dim")
    check_rank(op, "k", k, "batch kv_heads context head_dim")
    check_alike(op, q=q, k=k, v=v)
    batch, heads, head_dim = q.shape
    kv_heads, context = k.shape[1:3]
    _check_kv(op, k, v, (batch, kv_heads, context, head_dim))
    _check_group(op, heads, kv_heads)
    return AttentionSizes(batch, 1, context, heads, kv_heads, head_dim)


def generate_cached_sizes(x: Tensor, w_qkv: Tensor, k_cache: Tensor, v_cache: Tensor) -> AttentionSizes:
    """Sizes of one step with a cache: x (batch, hidden); w_qkv ((heads + 2*kv_heads)*head_dim, hidden);
    k_cache, v_cache (batch, kv_heads, context, head_dim)."""
    op = "generate_cached"
    check_rank(op, "x", x, "batch hidden")
    check_rank(op, "k_cache", k_cache, "batch kv_heads context head_dim")
    check_alike(op, x=x, w_qkv=w_qkv, k_cache=k_cache, v_cache=v_cache)
    batch, hidden = x.shape
    kv_heads, context, head_dim = k_cache.shape[1:]
    _check_kv(op, k_cache, v_cache, (batch, kv_heads, context, head_dim))
    heads = _projection_heads(op, hidden, w_qkv, kv_heads, head_dim)
    return AttentionSizes(batch, 1, context, heads, kv_heads, head_dim)


def generate_uncached_sizes(x: Tensor, w_qkv: Tensor, kv_heads: int, head_dim: int) -> AttentionSizes:
    """Sizes of one step without a cache: x (batch, context, hidden); w_qkv ((heads + 2*kv_heads)*head_dim, hidden)."""
    op = "generate_uncached"
    check_rank(op, "x", x, "batch context hidden")
    check_alike(op, x=x, w_qkv=w_qkv)
    if kv_heads < 1 or head_dim < 1:
        raise ValueError(f"{op}: kv_heads and head_dim must be at least 1, not {kv_heads} and {head_dim}")
    batch, context, hidden = x.shape
    heads = _projection_heads(op, hidden, w_qkv, kv_heads, head_dim)
    return AttentionSizes(batch, context, context, heads, kv_heads, head_dim)


def stream_size(op: str, *tensors: Tensor) -> int:
    """Number of elements of equally long, contiguous, one-dimensional tensors."""
    check_alike(op, **{f"input {index}": tensor for index, tensor in enumerate(tensors)})
    for tensor in tensors:
        check_rank(op, "input", tensor, "n")
        if not tensor.is_contiguous():
            raise ValueError(f"{op}: inputs must be contiguous, not of stride {tensor.stride(0)}")
        if tensor.shape != tensors[0].shape:
            raise ValueError(f"{op}: inputs differ in length: {len(tensors[0])} and {len(tensor)}")
    return tensors[0].numel()


def check_launch(x: Tensor) -> None:
    """Raise ValueError unless x has shape (1,)."""
    if x.shape != (1,):
        raise ValueError(f"launch: x must have shape (1,), not {tuple(x.shape)}")


def _check_kv(op: str, k: Tensor, v: Tensor, expected: tuple[int, ...]) -> None:
    for name, tensor in (("k", k), ("v", v)):
        if tuple(tensor.shape) != expected:
            raise ValueError(
                f"{op}: {name} must have shape {expected} to match the other tensors, not {tuple(tensor.shape)}"
            )


def _check_group(op: str, heads: int, kv_heads: int) -> None:
    if heads % kv_heads:
        raise ValueError(f"{op}: heads={heads} must be a multiple of kv_heads={kv_heads}")


def _projection_heads(op: str, hidden: int, w_qkv: Tensor, kv_heads: int, head_dim: int) -> int:
    """Return heads = hidden / head_dim, once w_qkv is known to project to Q, K and V of that many heads."""
    heads, rest = divmod(hidden, head_dim)
    if rest:
        raise ValueError(f"{op}: hidden={hidden} must be a multiple of head_dim={head_dim}")
    _check_group(op, heads, kv_heads)
    expected = ((heads + 2 * kv_heads) * head_dim, hidden)
    if tuple(w_qkv.shape) != expected:
        raise ValueError(f"{op}: w_qkv must have shape {expected}, not {tuple(w_qkv.shape)}")
    return heads
