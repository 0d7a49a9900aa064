"""What each op accepts: the sizes read off its tensors, or a ValueError that names what is supported."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from kernels.constants import INT4_GROUP, INT4_PER_WORD
from kernels.precision import TORCH_DTYPES, dtype_name
from kernels.unsupported import Unsupported


@dataclass(frozen=True, slots=True)
class MatmulSizes:
    """Sizes of C[m,n] = A[m,k] @ B[k,n]."""

    m: int
    n: int
    k: int


@dataclass(frozen=True, slots=True)
class RowSizes:
    """Sizes of an op on each row of a matrix by itself."""

    rows: int
    cols: int


@dataclass(frozen=True, slots=True)
class RopeSizes:
    """Sizes of a rotary embedding: `heads` vectors of head_dim numbers for each token."""

    tokens: int
    heads: int
    head_dim: int


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


@dataclass(frozen=True, slots=True)
class BlockSizes:
    """Sizes of a transformer block: `queries` tokens of each sequence go through it and attend over `keys` tokens."""

    batch: int
    queries: int
    keys: int
    heads: int
    kv_heads: int
    head_dim: int
    inner: int

    @property
    def hidden(self) -> int:
        """Width of the residual stream."""
        return self.heads * self.head_dim

    @property
    def weight_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of `BlockWeights`."""
        return (
            (self.hidden,),
            ((self.heads + 2 * self.kv_heads) * self.head_dim, self.hidden),
            (self.hidden, self.hidden),
            (self.hidden,),
            (2 * self.inner, self.hidden),
            (self.hidden, self.inner),
        )

    @property
    def parameters(self) -> int:
        """Elements of all weights."""
        return sum(math.prod(shape) for shape in self.weight_shapes)


class BlockWeights(NamedTuple):
    """The weights of a transformer block, (outputs, inputs) each; the norms' are (hidden,). The last of `qkv`'s rows
    are K's and V's, the first half of `gate_up`'s rows is the gate's."""

    attention_norm: Tensor
    qkv: Tensor
    out: Tensor
    mlp_norm: Tensor
    gate_up: Tensor
    down: Tensor


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
    if tensor.dim() != dims.count(" ") + 1:
        raise ValueError(f"{op}: {name} must have shape ({dims.replace(' ', ', ')}), not {tuple(tensor.shape)}")


def matmul_sizes(a: Tensor, b: Tensor) -> MatmulSizes:
    """Sizes of a (m, k) times b (k, n)."""
    return _product_sizes("matmul", a, b)


def scaled_sizes(a: Tensor, b: Tensor, a_scale: Tensor, b_scale: Tensor) -> MatmulSizes:
    """Sizes of a (m, k) times b (k, n), 8 bits each, with fp32 scales of shape (m,) and (n,)."""
    op = "matmul_scaled"
    sizes = _product_sizes(op, a, b)
    for name, scale, length in (("a_scale", a_scale, sizes.m), ("b_scale", b_scale, sizes.n)):
        _check_scale(op, name, scale, (length,), torch.float32, a.device)
    return sizes


def w8a16_sizes(x: Tensor, weight: Tensor, scale: Tensor) -> MatmulSizes:
    """Sizes of x (m, k) times an int8 weight (n, k) with scale (n,) in x's dtype."""
    op = "matmul_w8a16"
    check_rank(op, "x", x, "m k")
    check_rank(op, "weight", weight, "n k")
    check_alike(op, x=x)
    m, k = x.shape
    _check_weight(op, weight, k, torch.int8, x.device)
    _check_scale(op, "scale", scale, (len(weight),), x.dtype, x.device)
    return MatmulSizes(m, len(weight), k)


def w4a16_sizes(x: Tensor, packed: Tensor, scales: Tensor) -> MatmulSizes:
    """Sizes of x (m, k) times an int4 weight packed into int32 (n, k/8), with scales (n, k/128) in x's dtype."""
    op = "matmul_w4a16"
    check_rank(op, "x", x, "m k")
    check_rank(op, "packed", packed, "n k/8")
    check_alike(op, x=x)
    m, k = x.shape
    if k % INT4_GROUP:
        raise Unsupported(f"{op}: k={k} is not supported; supported: multiples of {INT4_GROUP}, a scale for each")
    _check_weight(op, packed, k // INT4_PER_WORD, torch.int32, x.device)
    _check_scale(op, "scales", scales, (len(packed), k // INT4_GROUP), x.dtype, x.device)
    return MatmulSizes(m, len(packed), k)


def row_sizes(op: str, x: Tensor, *others: Tensor, weight: Tensor | None = None) -> RowSizes:
    """Sizes of x (rows, cols); `others` are alike, `weight` has shape (cols,)."""
    tensors = {"x": x, **{f"input {index}": other for index, other in enumerate(others, 1)}}
    for name, tensor in tensors.items():
        check_rank(op, name, tensor, "rows cols")
        if tensor.shape != x.shape:
            raise ValueError(f"{op}: {name} must have shape {tuple(x.shape)}, not {tuple(tensor.shape)}")
    if weight is not None:
        tensors["weight"] = weight
        if weight.shape != x.shape[1:]:
            raise ValueError(f"{op}: weight must have shape {tuple(x.shape[1:])}, not {tuple(weight.shape)}")
    check_alike(op, **tensors)
    return RowSizes(*x.shape)


def rope_sizes(x: Tensor, cos: Tensor, sin: Tensor) -> RopeSizes:
    """Sizes of x (tokens, heads, head_dim), turned by cos and sin (tokens, head_dim/2)."""
    op = "rope"
    check_rank(op, "x", x, "tokens heads head_dim")
    check_alike(op, x=x, cos=cos, sin=sin)
    tokens, heads, head_dim = x.shape
    if head_dim % 2:
        raise ValueError(f"{op}: head_dim={head_dim} must be even")
    for name, tensor in (("cos", cos), ("sin", sin)):
        if tensor.shape != (tokens, head_dim // 2):
            raise ValueError(f"{op}: {name} must have shape {(tokens, head_dim // 2)}, not {tuple(tensor.shape)}")
    return RopeSizes(tokens, heads, head_dim)


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


def chunk_sizes(op: str, q: Tensor, k: Tensor, v: Tensor) -> AttentionSizes:
    """Sizes of attention of the last queries of a context: q (batch, heads, queries, head_dim); k, v (batch, kv_heads,
    context, head_dim), context at least as long as queries."""
    check_rank(op, "q", q, "batch heads queries head_dim")
    check_rank(op, "k", k, "batch kv_heads context head_dim")
    check_alike(op, q=q, k=k, v=v)
    batch, heads, queries, head_dim = q.shape
    kv_heads, context = k.shape[1:3]
    _check_kv(op, k, v, (batch, kv_heads, context, head_dim))
    _check_group(op, heads, kv_heads)
    if queries > context:
        raise ValueError(f"{op}: {queries} queries are more than the context of {context} that holds them")
    return AttentionSizes(batch, queries, context, heads, kv_heads, head_dim)


def packed_sizes(q: Tensor, k: Tensor, v: Tensor, offsets: Tensor) -> AttentionSizes:
    """Sizes of prompts packed end to end: q (tokens, heads, head_dim); k, v (tokens, kv_heads, head_dim); offsets
    (sequences + 1,) int32: where each sequence begins, and the end. `batch` is the number of sequences, and `queries`
    and `keys` are all tokens."""
    op = "attention_packed"
    check_rank(op, "q", q, "tokens heads head_dim")
    check_rank(op, "k", k, "tokens kv_heads head_dim")
    check_alike(op, q=q, k=k, v=v)
    tokens, heads, head_dim = q.shape
    kv_heads = k.shape[1]
    _check_kv(op, k, v, (tokens, kv_heads, head_dim))
    _check_group(op, heads, kv_heads)
    if offsets.dim() != 1 or len(offsets) < 2 or offsets.dtype != torch.int32 or offsets.device != q.device:
        raise ValueError(f"{op}: offsets must have shape (sequences + 1,), int32 on {q.device}")
    return AttentionSizes(len(offsets) - 1, tokens, tokens, heads, kv_heads, head_dim)


def fp8_cache_sizes(q: Tensor, k: Tensor, v: Tensor, k_scale: Tensor, v_scale: Tensor) -> AttentionSizes:
    """Sizes of one query per sequence over a cache in fp8: q (batch, heads, head_dim); k, v (batch, kv_heads, context,
    head_dim) e4m3; k_scale, v_scale (kv_heads,) fp32."""
    op = "attention_decode_fp8"
    check_rank(op, "q", q, "batch heads head_dim")
    check_rank(op, "k", k, "batch kv_heads context head_dim")
    check_alike(op, k=k, v=v)
    check_alike(op, q=q)
    batch, heads, head_dim = q.shape
    kv_heads, context = k.shape[1:3]
    if k.dtype != torch.float8_e4m3fn or k.device != q.device:
        raise ValueError(f"{op}: k and v must be fp8 on {q.device}, not {dtype_name(k.dtype)} on {k.device}")
    _check_kv(op, k, v, (batch, kv_heads, context, head_dim))
    _check_group(op, heads, kv_heads)
    for name, scale in (("k_scale", k_scale), ("v_scale", v_scale)):
        _check_scale(op, name, scale, (kv_heads,), torch.float32, q.device)
    return AttentionSizes(batch, 1, context, heads, kv_heads, head_dim)


def paged_sizes(q: Tensor, k: Tensor, v: Tensor, table: Tensor, lengths: Tensor) -> AttentionSizes:
    """Sizes of one query per sequence over a cache in pages: q (batch, heads, head_dim); k, v (pages, kv_heads, page,
    head_dim); table (batch, most) int32: which page holds each part of a sequence; lengths (batch,) int32. `keys` is
    the longest that the table can hold."""
    op = "attention_paged"
    check_rank(op, "q", q, "batch heads head_dim")
    check_rank(op, "k", k, "pages kv_heads page head_dim")
    check_alike(op, q=q, k=k, v=v)
    batch, heads, head_dim = q.shape
    pages, kv_heads, page = k.shape[:3]
    _check_kv(op, k, v, (pages, kv_heads, page, head_dim))
    _check_group(op, heads, kv_heads)
    for name, tensor, rank in (("table", table, 2), ("lengths", lengths, 1)):
        if tensor.dim() != rank or len(tensor) != batch or tensor.dtype != torch.int32 or tensor.device != q.device:
            raise ValueError(f"{op}: {name} must have {rank} dimensions, the first {batch}, int32 on {q.device}")
    return AttentionSizes(batch, 1, table.shape[1] * page, heads, kv_heads, head_dim)


@dataclass(frozen=True, slots=True)
class MlaSizes:
    """Sizes of latent attention: all heads meet one vector of latent + rope numbers a token."""

    batch: int
    context: int
    heads: int
    latent: int
    rope: int


def mla_sizes(q: Tensor, cache: Tensor, latent: int) -> MlaSizes:
    """Sizes of one query per sequence over latents: q (batch, heads, latent + rope); cache (batch, context, latent +
    rope)."""
    op = "attention_mla"
    check_rank(op, "q", q, "batch heads width")
    check_rank(op, "cache", cache, "batch context width")
    check_alike(op, q=q, cache=cache)
    batch, heads, width = q.shape
    if cache.shape[0] != batch or cache.shape[2] != width:
        raise ValueError(f"{op}: cache must have shape ({batch}, context, {width}), not {tuple(cache.shape)}")
    if not 1 <= latent < width:
        raise ValueError(f"{op}: latent={latent} must be from 1 to {width - 1}: the rest is the rotary part")
    return MlaSizes(batch, cache.shape[1], heads, latent, width - latent)


def linear_backward_sizes(grad: Tensor, x: Tensor, weight: Tensor) -> MatmulSizes:
    """Sizes of the gradients of x (m, k) @ weight (n, k)^T: grad is (m, n)."""
    op = "linear_backward"
    for name, tensor, dims in (("grad", grad, "m n"), ("x", x, "m k"), ("weight", weight, "n k")):
        check_rank(op, name, tensor, dims)
    check_alike(op, grad=grad, x=x, weight=weight)
    (m, n), k = grad.shape, x.shape[1]
    if tuple(x.shape) != (m, k) or tuple(weight.shape) != (n, k):
        raise ValueError(
            f"{op}: x must have shape ({m}, k) and weight ({n}, k), not {tuple(x.shape)} and {tuple(weight.shape)}"
        )
    return MatmulSizes(m, n, k)


def backward_sizes(q: Tensor, k: Tensor, v: Tensor, out: Tensor, grad: Tensor, lse: Tensor) -> AttentionSizes:
    """Sizes of the gradients of causal attention: q, out, grad (batch, heads, seq, head_dim); k, v (batch, kv_heads,
    seq, head_dim); lse (batch, heads, seq) fp32."""
    op = "attention_backward"
    sizes = chunk_sizes(op, q, k, v)
    check_alike(op, q=q, out=out, grad=grad)
    if sizes.queries != sizes.keys or out.shape != q.shape or grad.shape != q.shape:
        raise ValueError(f"{op}: q, out and grad must have one shape, and k and v their sequence length")
    if lse.shape != q.shape[:3] or lse.dtype != torch.float32 or lse.device != q.device:
        raise ValueError(f"{op}: lse must have shape {tuple(q.shape[:3])}, fp32 on {q.device}")
    return sizes


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


def block_forward_sizes(x: Tensor, cos: Tensor, sin: Tensor, weights: BlockWeights) -> BlockSizes:
    """Sizes of a block over prompts: x (batch, seq, hidden); cos, sin (batch*seq, head_dim/2); weights as
    `BlockWeights` says."""
    op = "block_forward"
    check_rank(op, "x", x, "batch seq hidden")
    seq = x.shape[1]
    return _block_sizes(op, x, cos, sin, weights, queries=seq, keys=seq)


def block_decode_sizes(
    x: Tensor, cos: Tensor, sin: Tensor, weights: BlockWeights, k_cache: Tensor, v_cache: Tensor
) -> BlockSizes:
    """Sizes of a block that makes one token a sequence: x (batch, hidden); cos, sin (batch, head_dim/2); k_cache,
    v_cache (batch, kv_heads, context, head_dim), the last position being the new token's."""
    op = "block_decode"
    check_rank(op, "x", x, "batch hidden")
    check_rank(op, "k_cache", k_cache, "batch kv_heads context head_dim")
    sizes = _block_sizes(op, x, cos, sin, weights, queries=1, keys=k_cache.shape[2])
    check_alike(op, x=x, k_cache=k_cache, v_cache=v_cache)
    _check_kv(op, k_cache, v_cache, (sizes.batch, sizes.kv_heads, sizes.keys, sizes.head_dim))
    return sizes


def block_train_sizes(
    x: Tensor, grad: Tensor, cos: Tensor, sin: Tensor, weights: Tensor, *state: Tensor, kv_heads: int
) -> BlockSizes:
    """Sizes of a training step of a block: x, grad (batch, seq, hidden); cos, sin (batch*seq, head_dim/2); weights
    (parameters,) in x's dtype: `BlockWeights` end to end; `state`, master weights and both moments, (parameters,) in
    fp32."""
    op = "block_train"
    check_rank(op, "x", x, "batch seq hidden")
    check_rank(op, "cos", cos, "tokens head_dim/2")
    check_rank(op, "weights", weights, "parameters")
    check_alike(op, x=x, grad=grad, cos=cos, sin=sin, weights=weights)
    batch, seq, hidden = x.shape
    head_dim = 2 * cos.shape[1]
    if grad.shape != x.shape:
        raise ValueError(f"{op}: grad must have shape {tuple(x.shape)}, not {tuple(grad.shape)}")
    if kv_heads < 1 or hidden % (kv_heads * head_dim):
        raise ValueError(f"{op}: hidden={hidden} must be a multiple of kv_heads={kv_heads} times head_dim={head_dim}")
    rest = len(weights) - hidden * (2 + 2 * hidden + 2 * kv_heads * head_dim)
    inner = rest // (3 * hidden)
    sizes = BlockSizes(batch, seq, seq, hidden // head_dim, kv_heads, head_dim, inner)
    if inner < 1 or sizes.parameters != len(weights):
        raise ValueError(f"{op}: {len(weights)} weights do not make a block with hidden={hidden}, kv_heads={kv_heads}")
    _check_rotary(op, cos, sin, (batch * seq, head_dim // 2))
    for tensor in state:
        if tensor.shape != weights.shape or tensor.dtype != torch.float32 or tensor.device != x.device:
            raise ValueError(f"{op}: master weights and moments must have shape {tuple(weights.shape)} in fp32")
    if not all(tensor.is_contiguous() for tensor in (weights, *state)):
        raise ValueError(f"{op}: weights, master weights and moments must be contiguous")
    return sizes


def split_block_weights(flat: Tensor, sizes: BlockSizes) -> BlockWeights:
    """flat: (parameters,). Returns its parts as views."""
    parts = flat.split([math.prod(shape) for shape in sizes.weight_shapes])
    return BlockWeights(*(part.view(shape) for part, shape in zip(parts, sizes.weight_shapes, strict=True)))


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


def _product_sizes(op: str, a: Tensor, b: Tensor) -> MatmulSizes:
    check_rank(op, "a", a, "m k")
    check_rank(op, "b", b, "k n")
    check_alike(op, a=a, b=b)
    (m, k), (rows, n) = a.shape, b.shape
    if k != rows:
        raise ValueError(f"{op}: a has {k} columns but b has {rows} rows; they must be equal")
    return MatmulSizes(m, n, k)


def _check_weight(op: str, weight: Tensor, columns: int, dtype: torch.dtype, device: torch.device) -> None:
    """Raise ValueError unless a quantized weight is a (n, columns) tensor of `dtype` on `device`."""
    if weight.dtype != dtype or weight.device != device:
        wanted, given = f"{dtype_name(dtype)} on {device}", f"{dtype_name(weight.dtype)} on {weight.device}"
        raise ValueError(f"{op}: the weight must be {wanted}, not {given}")
    if weight.shape[1] != columns or not weight.numel():
        raise ValueError(f"{op}: the weight must have shape (n, {columns}), not {tuple(weight.shape)}")


def _check_scale(
    op: str, name: str, scale: Tensor, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device
) -> None:
    """Raise ValueError unless `scale` is a contiguous tensor of this shape, dtype and device."""
    if tuple(scale.shape) != shape or scale.dtype != dtype or scale.device != device or not scale.is_contiguous():
        raise ValueError(
            f"{op}: {name} must be contiguous, of shape {shape} and {dtype_name(dtype)} on {device}; it is of shape"
            f" {tuple(scale.shape)} and {dtype_name(scale.dtype)} on {scale.device}"
        )


def _check_kv(op: str, k: Tensor, v: Tensor, expected: tuple[int, ...]) -> None:
    for name, tensor in (("k", k), ("v", v)):
        if tuple(tensor.shape) != expected:
            raise ValueError(
                f"{op}: {name} must have shape {expected} to match the other tensors, not {tuple(tensor.shape)}"
            )


def _check_group(op: str, heads: int, kv_heads: int) -> None:
    if heads % kv_heads:
        raise ValueError(f"{op}: heads={heads} must be a multiple of kv_heads={kv_heads}")


def _block_sizes(
    op: str, x: Tensor, cos: Tensor, sin: Tensor, weights: BlockWeights, *, queries: int, keys: int
) -> BlockSizes:
    """Sizes of a block whose x is (batch, hidden) or (batch, queries, hidden)."""
    check_rank(op, "cos", cos, "tokens head_dim/2")
    check_alike(op, x=x, cos=cos, sin=sin, **weights._asdict())
    batch, hidden, head_dim = x.shape[0], x.shape[-1], 2 * cos.shape[1]
    heads, ragged = divmod(hidden, head_dim)
    kv_heads = (weights.qkv.shape[0] // head_dim - heads) // 2
    if ragged or kv_heads < 1:
        raise ValueError(f"{op}: qkv of shape {tuple(weights.qkv.shape)} does not make heads of {head_dim} of {hidden}")
    _check_group(op, heads, kv_heads)
    sizes = BlockSizes(batch, queries, keys, heads, kv_heads, head_dim, weights.down.shape[-1])
    for name, tensor, shape in zip(weights._fields, weights, sizes.weight_shapes, strict=True):
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{op}: {name} must have shape {shape}, not {tuple(tensor.shape)}")
    _check_rotary(op, cos, sin, (batch * queries, head_dim // 2))
    return sizes


def _check_rotary(op: str, cos: Tensor, sin: Tensor, shape: tuple[int, int]) -> None:
    for name, tensor in (("cos", cos), ("sin", sin)):
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{op}: {name} must have shape {shape}, not {tuple(tensor.shape)}")


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
