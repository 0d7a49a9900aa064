"""What each op accepts: the sizes of its tensors, or a ValueError in one line that says what is wrong.

Shapes are written as a spec: "q: batch heads head_dim; k, v: batch kv_heads context head_dim". See `bind`.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor

from kernels.constants import INT4_GROUP
from kernels.precision import TORCH_DTYPES, dtype_name
from kernels.unsupported import Unsupported

_Layout = tuple[torch.Size, torch.dtype, torch.device]


@dataclass(frozen=True, slots=True)
class MatmulSizes:
    """Sizes of C[m,n] = A[m,k] @ B[k,n]."""

    m: int
    n: int
    k: int


@dataclass(frozen=True, slots=True)
class ExpertSizes:
    """Sizes of a product of rows (rows, k) in groups, each with the weight (n, k) of its expert."""

    rows: int
    experts: int
    n: int
    k: int


@dataclass(frozen=True, slots=True)
class RowSizes:
    """Sizes of an op that works on each row of a matrix by itself."""

    rows: int
    cols: int


@dataclass(frozen=True, slots=True)
class RopeSizes:
    """Sizes of a rotary embedding: each token has `heads` vectors of head_dim numbers."""

    tokens: int
    heads: int
    head_dim: int


@dataclass(frozen=True, slots=True)
class MlaSizes:
    """Sizes of latent attention: all heads read one vector of latent + rope numbers per token."""

    batch: int
    context: int
    heads: int
    latent: int
    rope: int


@dataclass(frozen=True, slots=True)
class AttentionSizes:
    """Sizes of attention: `queries` positions attend over `keys` positions; heads/kv_heads heads share K and V."""

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
class BlockSizes(AttentionSizes):
    """Sizes of a transformer block: those of its attention, the width of its MLP, the width of the residual stream,
    and the matrices of the MLP: 3 for Llama's block (gate, up, down), 2 for GPT-2's (up, down)."""

    inner: int
    hidden: int
    matrices: int = 3

    @property
    def width(self) -> int:
        """Numbers that attention makes of a token: those of all heads."""
        return self.heads * self.head_dim

    @property
    def norm_shape(self) -> tuple[int, ...]:
        """Shape of a norm's weights: an RMSNorm has a weight for each number, a LayerNorm a weight and a bias."""
        return (self.hidden,) if self.matrices == 3 else (2, self.hidden)

    @property
    def weight_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of `BlockWeights`."""
        return (
            self.norm_shape,
            (self.width + 2 * self.kv_heads * self.head_dim, self.hidden),
            (self.hidden, self.width),
            self.norm_shape,
            ((self.matrices - 1) * self.inner, self.hidden),
            (self.hidden, self.inner),
        )

    @property
    def parameters(self) -> int:
        """Elements of all weights."""
        return sum(math.prod(shape) for shape in self.weight_shapes)


class BlockWeights(NamedTuple):
    """Weights of a transformer block: norms `BlockSizes.norm_shape`, the others (outputs, inputs). Rows of `qkv`: those
    of Q, then K, then V. Rows of `gate_up`: those of the gate, then up; those of up alone where the MLP has two
    matrices."""

    attention_norm: Tensor
    qkv: Tensor
    out: Tensor
    mlp_norm: Tensor
    gate_up: Tensor
    down: Tensor


_BLOCK_WEIGHTS = len(BlockWeights._fields)


def split_block(others: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], BlockWeights]:
    """The inputs of a block beside its hidden states and caches, as its angles and its weights. A block with three
    matrices in its MLP has a rotary embedding: cos and sin; one with two has none."""
    return others[:-_BLOCK_WEIGHTS], BlockWeights(*others[-_BLOCK_WEIGHTS:])


@dataclass(frozen=True, slots=True)
class ModelSizes:
    """Sizes of a whole model: those of each of its layers, how many there are, and of the vocabulary."""

    block: BlockSizes
    layers: int
    vocab: int

    @property
    def weight_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of the weights: `BlockWeights`, each of all layers in one tensor; the final norm; the vocabulary."""
        layers = ((self.layers, *shape) for shape in self.block.weight_shapes)
        return *layers, self.block.norm_shape, (self.vocab, self.block.hidden)


class ModelWeights(NamedTuple):
    """Weights of a whole model: of each layer, views of tensors that hold all layers'; of the final norm, as
    `BlockSizes.norm_shape`; and the vocabulary matrix, (vocab, hidden)."""

    layers: tuple[BlockWeights, ...]
    norm: Tensor
    vocabulary: Tensor


def split_model(others: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], ModelWeights]:
    """The inputs of a model beside its hidden states and caches, as its angles, which all layers share, and its
    weights."""
    angles, layers = split_layers(others[:-2])
    return angles, ModelWeights(layers, *others[-2:])


def split_layers(others: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], tuple[BlockWeights, ...]]:
    """The angles of blocks, which all layers share, and the weights of each layer, views of tensors that hold all
    layers'."""
    angles, stacked = split_block(others)
    return angles, tuple(BlockWeights(*each) for each in zip(*(every.unbind() for every in stacked), strict=True))


def bind(op: str, spec: str, *tensors: Tensor) -> Mapping[str, int]:
    """Return the size of every dimension that `spec` names.

    The spec gives each of `tensors`, in order, a name and its dimensions: "x: m k; int8 weight: n k; scale: n". A
    dimension of one name has one size in all tensors; "k/8" and "batch*seq" are made of sizes of earlier tensors. All
    tensors have the format of the first, except where a format stands before a name. Raises ValueError for a tensor of
    another rank, format, device or size, and for a dimension of size 0.
    """
    return _bind(op, spec, tuple((each.shape, each.dtype, each.device) for each in tensors))


@functools.lru_cache(maxsize=1024)  # the checks would cost the host more than PyTorch's own call
def _bind(op: str, spec: str, tensors: tuple[_Layout, ...]) -> Mapping[str, int]:
    named = [(*names, *layout) for names, layout in zip(_parse(spec), tensors, strict=True)]
    first, _, _, _, model, place = named[0]
    for name, _, dims, shape, _, _ in named:
        if len(shape) != len(dims):
            raise ValueError(f"{op}: {name} must have shape ({', '.join(dims)}), not {tuple(shape)}")
    for name, own, _, _, dtype, device in named:
        if own is not None and dtype_name(dtype) != own:
            raise ValueError(f"{op}: {name} must be {own}, not {dtype_name(dtype)}")
        if own is None and dtype != model:
            found = f"{name} is {dtype_name(dtype)} but {first} is {dtype_name(model)}"
            raise ValueError(f"{op}: {found}; all tensors must share one dtype")
        if device != place:
            raise ValueError(f"{op}: {name} is on {device} but {first} is on {place}")
    for name, _, _, shape, _, _ in named:
        if 0 in shape:
            raise ValueError(f"{op}: {name} has shape {tuple(shape)}; every dimension must be at least 1")
    sizes: dict[str, int] = {}
    for name, _, dims, shape, _, _ in named:
        wanted = [_wanted(op, dim, sizes) for dim in dims]
        if any(size not in (dim, found) for size, dim, found in zip(wanted, dims, shape, strict=True)):
            expected = ", ".join(map(str, wanted)) + ("," if len(wanted) == 1 else "")
            raise ValueError(f"{op}: {name} must have shape ({expected}), not {tuple(shape)}")
        sizes.update(zip(dims, shape, strict=True))
    return MappingProxyType(sizes)


def check_dtype(op: str, dtype: torch.dtype, supported: Sequence[str]) -> None:
    """Raise Unsupported when `dtype` stores none of the `supported` formats."""
    if dtype not in {TORCH_DTYPES[name] for name in supported}:
        raise Unsupported(f"{op} does not support {dtype_name(dtype)}; supported: {', '.join(supported)}")


def matmul_sizes(a: Tensor, b: Tensor) -> MatmulSizes:
    """Sizes of a (m, k) times b (k, n). Raises ValueError for other shapes."""
    return _matmul(bind("matmul", "a: m k; b: k n", a, b))


def scaled_sizes(a: Tensor, b: Tensor, a_scale: Tensor, b_scale: Tensor) -> MatmulSizes:
    """Sizes of a (m, k) times b (k, n), 8 bits each, with contiguous fp32 scales (m,) and (n,). Raises ValueError for
    others."""
    op = "matmul_scaled"
    size = bind(op, "a: m k; b: k n; fp32 a_scale: m; fp32 b_scale: n", a, b, a_scale, b_scale)
    _check_contiguous(op, a_scale=a_scale, b_scale=b_scale)
    return _matmul(size)


def w8a16_sizes(x: Tensor, weight: Tensor, scale: Tensor) -> MatmulSizes:
    """Sizes of x (m, k) times an int8 weight (n, k) with a contiguous scale (n,) in x's dtype. Raises ValueError for
    others."""
    op = "matmul_w8a16"
    size = bind(op, "x: m k; int8 weight: n k; scale: n", x, weight, scale)
    _check_contiguous(op, scale=scale)
    return _matmul(size)


def w4a16_sizes(x: Tensor, packed: Tensor, scales: Tensor) -> MatmulSizes:
    """Sizes of x (m, k) times an int4 weight packed into int32 (n, k/8), with contiguous scales (n, k/128) in x's
    dtype. Raises Unsupported for k that is no multiple of 128, ValueError for other tensors."""
    op = "matmul_w4a16"
    k = bind(op, "x: m k", x)["k"]
    if k % INT4_GROUP:
        raise Unsupported(f"{op}: k={k} is not supported; supported: multiples of {INT4_GROUP}, a scale for each")
    size = bind(op, "x: m k; int32 packed: n k/8; scales: n k/128", x, packed, scales)
    _check_contiguous(op, scales=scales)
    return _matmul(size)


def linear_backward_sizes(grad: Tensor, x: Tensor, weight: Tensor) -> MatmulSizes:
    """Sizes of the gradients of x (m, k) @ weight (n, k)^T; grad is (m, n). Raises ValueError for other shapes."""
    return _matmul(bind("linear_backward", "grad: m n; x: m k; weight: n k", grad, x, weight))


def expert_sizes(x: Tensor, weight: Tensor, offsets: Tensor) -> ExpertSizes:
    """Sizes of x (rows, k), the rows of one expert together; weight (experts, n, k); offsets (experts + 1,) int32,
    contiguous: where the rows of each expert begin, and the end. Raises ValueError for others."""
    op = "moe_experts"
    size = bind(op, "x: rows k; weight: experts n k; int32 offsets: bounds", x, weight, offsets)
    _check_shape(op, "offsets", offsets, (size["experts"] + 1,))
    _check_contiguous(op, offsets=offsets)
    return ExpertSizes(size["rows"], size["experts"], size["n"], size["k"])


def row_sizes(
    op: str, x: Tensor, *others: Tensor, weight: Tensor | None = None, bias: Tensor | None = None
) -> RowSizes:
    """Sizes of x and `others` (rows, cols), and of `weight` and `bias` (cols,). Raises ValueError for other shapes."""
    names = ", ".join(["x", *(f"input {index}" for index in range(1, 1 + len(others)))])
    if weight is None:
        size = bind(op, f"{names}: rows cols", x, *others)
    elif bias is None:
        size = bind(op, f"{names}: rows cols; weight: cols", x, *others, weight)
    else:
        size = bind(op, f"{names}: rows cols; weight, bias: cols", x, *others, weight, bias)
    return RowSizes(size["rows"], size["cols"])


def rope_sizes(x: Tensor, cos: Tensor, sin: Tensor) -> RopeSizes:
    """Sizes of x (tokens, heads, head_dim) with the angles cos and sin (tokens, head_dim/2). Raises ValueError for
    other shapes and an odd head_dim."""
    size = bind("rope", "x: tokens heads head_dim; cos, sin: tokens head_dim/2", x, cos, sin)
    return RopeSizes(size["tokens"], size["heads"], size["head_dim"])


def prefill_sizes(q: Tensor, k: Tensor, v: Tensor) -> AttentionSizes:
    """Sizes of attention of whole sequences: q (batch, heads, seq, head_dim); k, v (batch, kv_heads, seq, head_dim).
    Raises ValueError for other shapes, and heads that are no multiple of kv_heads."""
    op = "attention_prefill"
    size = bind(op, "q: batch heads seq head_dim; k, v: batch kv_heads seq head_dim", q, k, v)
    return _attention(op, size, queries=size["seq"], keys=size["seq"])


def decode_sizes(q: Tensor, k: Tensor, v: Tensor) -> AttentionSizes:
    """Sizes of one query per sequence: q (batch, heads, head_dim); k, v (batch, kv_heads, context, head_dim). Raises
    ValueError as `prefill_sizes` does."""
    op = "attention_decode"
    size = bind(op, "q: batch heads head_dim; k, v: batch kv_heads context head_dim", q, k, v)
    return _attention(op, size, queries=1, keys=size["context"])


def chunk_sizes(op: str, q: Tensor, k: Tensor, v: Tensor) -> AttentionSizes:
    """Sizes of attention of the last queries of a context: q (batch, heads, queries, head_dim); k, v (batch, kv_heads,
    context, head_dim). Raises ValueError as `prefill_sizes` does, and for more queries than context."""
    size = bind(op, "q: batch heads queries head_dim; k, v: batch kv_heads context head_dim", q, k, v)
    queries, context = size["queries"], size["context"]
    if queries > context:
        raise ValueError(f"{op}: {queries} queries are more than the context of {context} that holds them")
    return _attention(op, size, queries=queries, keys=context)


def packed_sizes(q: Tensor, k: Tensor, v: Tensor, offsets: Tensor) -> AttentionSizes:
    """Sizes of varlen attention: q (tokens, heads, head_dim); k, v (tokens, kv_heads, head_dim), sequences end to end;
    offsets (sequences + 1,) int32, where each sequence begins, and the end. `batch` is the number of sequences,
    `queries` and `keys` are all tokens. Raises ValueError as `prefill_sizes` does."""
    op = "attention_packed"
    size = bind(op, "q: tokens heads head_dim; k, v: tokens kv_heads head_dim", q, k, v)
    if offsets.dim() != 1 or len(offsets) < 2 or offsets.dtype != torch.int32 or offsets.device != q.device:
        raise ValueError(f"{op}: offsets must have shape (sequences + 1,), int32 on {q.device}")
    size = {**size, "batch": len(offsets) - 1}
    return _attention(op, size, queries=size["tokens"], keys=size["tokens"])


def fp8_cache_sizes(q: Tensor, k: Tensor, v: Tensor, k_scale: Tensor, v_scale: Tensor) -> AttentionSizes:
    """Sizes of one query per sequence over an fp8 cache: q (batch, heads, head_dim); k, v (batch, kv_heads, context,
    head_dim) e4m3; k_scale, v_scale (kv_heads,) fp32, contiguous. Raises ValueError as `prefill_sizes` does."""
    op = "attention_decode_fp8"
    spec = "q: batch heads head_dim; fp8 k, v: batch kv_heads context head_dim; fp32 k_scale, v_scale: kv_heads"
    size = bind(op, spec, q, k, v, k_scale, v_scale)
    _check_contiguous(op, k_scale=k_scale, v_scale=v_scale)
    return _attention(op, size, queries=1, keys=size["context"])


def paged_sizes(q: Tensor, k: Tensor, v: Tensor, table: Tensor, lengths: Tensor) -> AttentionSizes:
    """Sizes of one query per sequence over a cache in pages: q (batch, heads, head_dim); k, v (pages, kv_heads, page,
    head_dim); table (batch, most) int32, the pages of each sequence in order; lengths (batch,) int32. `keys` is the
    longest that the table can hold. Raises ValueError as `prefill_sizes` does."""
    op = "attention_paged"
    size = bind(op, "q: batch heads head_dim; k, v: pages kv_heads page head_dim", q, k, v)
    batch = size["batch"]
    for name, tensor, rank in (("table", table, 2), ("lengths", lengths, 1)):  # a table may have no columns
        if tensor.dim() != rank or len(tensor) != batch or tensor.dtype != torch.int32 or tensor.device != q.device:
            raise ValueError(f"{op}: {name} must have {rank} dimensions, the first {batch}, int32 on {q.device}")
    return _attention(op, size, queries=1, keys=table.shape[1] * size["page"])


def mla_sizes(q: Tensor, cache: Tensor, latent: int) -> MlaSizes:
    """Sizes of one query per sequence over latents: q (batch, heads, latent + rope); cache (batch, context, latent +
    rope). Raises ValueError for other shapes, and for a latent that leaves no rope."""
    op = "attention_mla"
    size = bind(op, "q: batch heads width; cache: batch context width", q, cache)
    width = size["width"]
    if not 1 <= latent < width:
        raise ValueError(f"{op}: latent={latent} must be from 1 to {width - 1}: the rest is the rotary part")
    return MlaSizes(size["batch"], size["context"], size["heads"], latent, width - latent)


def backward_sizes(q: Tensor, k: Tensor, v: Tensor, out: Tensor, grad: Tensor, lse: Tensor) -> AttentionSizes:
    """Sizes of the gradients of causal attention: q, out, grad (batch, heads, seq, head_dim); k, v (batch, kv_heads,
    seq, head_dim); lse (batch, heads, seq) fp32. Raises ValueError as `prefill_sizes` does."""
    op = "attention_backward"
    heads, kv_heads = "batch heads seq head_dim", "batch kv_heads seq head_dim"
    spec = f"q: {heads}; k, v: {kv_heads}; out, grad: {heads}; fp32 lse: batch heads seq"
    size = bind(op, spec, q, k, v, out, grad, lse)
    return _attention(op, size, queries=size["seq"], keys=size["seq"])


def generate_cached_sizes(x: Tensor, w_qkv: Tensor, k_cache: Tensor, v_cache: Tensor) -> AttentionSizes:
    """Sizes of one step with a cache: x (batch, hidden); w_qkv ((heads + 2*kv_heads)*head_dim, hidden); k_cache,
    v_cache (batch, kv_heads, context, head_dim). Raises ValueError for others."""
    op = "generate_cached"
    spec = "x: batch hidden; w_qkv: projected hidden; k_cache, v_cache: batch kv_heads context head_dim"
    size = bind(op, spec, x, w_qkv, k_cache, v_cache)
    return _projected(op, size, queries=1)


def generate_uncached_sizes(x: Tensor, w_qkv: Tensor, kv_heads: int, head_dim: int) -> AttentionSizes:
    """Sizes of one step without a cache: x (batch, context, hidden); w_qkv ((heads + 2*kv_heads)*head_dim, hidden).
    Raises ValueError for others."""
    op = "generate_uncached"
    size = bind(op, "x: batch context hidden; w_qkv: projected hidden", x, w_qkv)
    if kv_heads < 1 or head_dim < 1:
        raise ValueError(f"{op}: kv_heads and head_dim must be at least 1, not {kv_heads} and {head_dim}")
    return _projected(op, {**size, "kv_heads": kv_heads, "head_dim": head_dim}, queries=size["context"])


def block_forward_sizes(x: Tensor, *others: Tensor, head_dim: int) -> BlockSizes:
    """Sizes of a block over prompts: x (batch, seq, hidden); others: cos, sin (batch*seq, head_dim/2) if its MLP has
    three matrices, and weights as `BlockWeights` says. Raises ValueError for others."""
    op = "block_forward"
    size = bind(op, f"x: batch seq hidden; {_block_spec(len(others), 'batch*seq')}", x, *others)
    return _block_sizes(op, {**size, "head_dim": head_dim}, others, queries=size["seq"], keys=size["seq"])


def block_decode_sizes(x: Tensor, *others: Tensor) -> BlockSizes:
    """Sizes of a block that makes one token per sequence: x (batch, hidden); others: cos, sin (batch, head_dim/2) if
    its MLP has three matrices, weights as `BlockWeights` says, and k_cache, v_cache (batch, kv_heads, context,
    head_dim), whose last position is the new token's. Raises ValueError for others."""
    op = "block_decode"
    caches = "k_cache, v_cache: batch kv_heads context head_dim"
    size = bind(op, f"x: batch hidden; {_block_spec(len(others) - 2, 'batch')}; {caches}", x, *others)
    sizes = _block_sizes(op, size, others[:-2], queries=1, keys=size["context"])
    _check_shape(op, "k_cache", others[-2], (sizes.batch, sizes.kv_heads, sizes.keys, sizes.head_dim))
    return sizes


def model_forward_sizes(x: Tensor, *others: Tensor, head_dim: int) -> ModelSizes:
    """Sizes of a whole model over prompts: x (batch, seq, hidden); others: cos, sin (batch*seq, head_dim/2) if its MLPs
    have three matrices, and weights as `ModelSizes.weight_shapes` says. Raises ValueError for others."""
    op = "model_forward"
    size = bind(op, f"x: batch seq hidden; {_model_spec(len(others), 'batch*seq')}", x, *others)
    size = {**size, "head_dim": head_dim}
    return _model_sizes(op, size, others, queries=size["seq"], keys=size["seq"])


def model_decode_sizes(x: Tensor, *others: Tensor) -> ModelSizes:
    """Sizes of a whole model that makes one token per sequence: x (batch, hidden); others: cos, sin (batch, head_dim/2)
    if its MLPs have three matrices, weights as `ModelSizes.weight_shapes` says, and k_caches, v_caches (layers, batch,
    kv_heads, context, head_dim), whose last position is the new token's. Raises ValueError for others."""
    op = "model_decode"
    caches = "k_caches, v_caches: layers batch kv_heads context head_dim"
    size = bind(op, f"x: batch hidden; {_model_spec(len(others) - 2, 'batch')}; {caches}", x, *others)
    sizes = _model_sizes(op, size, others[:-2], queries=1, keys=size["context"])
    block = sizes.block
    shape = (sizes.layers, block.batch, block.kv_heads, block.keys, block.head_dim)
    _check_shape(op, "k_caches", others[-2], shape)
    return sizes


def serve_sizes(op: str, x: Tensor, schedule: Tensor, *others: Tensor) -> BlockSizes:
    """Sizes of a block that serves requests, whose `keys` are those of a prompt: x (requests, longest, hidden), the
    tokens of each request; schedule (steps, slots, 2) int32; others: cos, sin (longest, head_dim/2), weights as
    `BlockWeights` says, and k_prompts, v_prompts (requests, kv_heads, context, head_dim). Raises ValueError for
    others."""
    caches = "k_prompts, v_prompts: requests kv_heads context head_dim"
    spec = f"x: requests longest hidden; int32 schedule: steps slots pair; {_block_spec(len(others) - 2, 'longest')}"
    size = bind(op, f"{spec}; {caches}", x, schedule, *others)
    _check_shape(op, "schedule", schedule, (size["steps"], size["slots"], 2))
    sizes = _block_sizes(op, {**size, "batch": 1}, others[:-2], queries=size["longest"], keys=size["context"])
    _check_shape(op, "k_prompts", others[-2], (len(x), sizes.kv_heads, sizes.keys, sizes.head_dim))
    return sizes


def generate_sizes(op: str, x: Tensor, *others: Tensor) -> BlockSizes:
    """Sizes of blocks that make tokens one after the other, whose `keys` are those of a prompt: x (tokens, hidden), the
    inputs of all tokens; others: cos, sin (tokens, head_dim/2), weights as `BlockWeights` says, each of all layers in
    one tensor, and k_prompts, v_prompts (layers, kv_heads, context, head_dim). Raises ValueError for others."""
    caches = "k_prompts, v_prompts: layers kv_heads context head_dim"
    spec = f"x: tokens hidden; {_stacked_spec(len(others) - 2, 'tokens')}; {caches}"
    size = {**bind(op, spec, x, *others), "batch": 1}
    angles, layers = split_layers(others[:-2])
    sizes = _block_sizes(op, size, (*angles, *layers[0]), queries=len(x), keys=size["context"])
    _check_shape(op, "k_prompts", others[-2], (len(layers), sizes.kv_heads, sizes.keys, sizes.head_dim))
    return sizes


def block_train_sizes(
    x: Tensor,
    grad: Tensor,
    cos: Tensor,
    sin: Tensor,
    weights: Tensor,
    master: Tensor,
    m: Tensor,
    v: Tensor,
    *,
    kv_heads: int,
    layers: int,
) -> BlockSizes:
    """Sizes of a layer in a training step: x, grad (batch, seq, hidden); cos, sin (batch*seq, head_dim/2); weights
    (parameters,) in x's dtype, the `BlockWeights` of each of `layers` end to end; master, m, v (parameters,) fp32; the
    last four contiguous. Raises ValueError for others."""
    op = "block_train"
    size = bind(
        op, "x, grad: batch seq hidden; cos, sin: batch*seq half; weights: parameters", x, grad, cos, sin, weights
    )
    batch, seq, hidden, head_dim = size["batch"], size["seq"], size["hidden"], 2 * size["half"]
    if kv_heads < 1 or hidden % (kv_heads * head_dim):
        raise ValueError(f"{op}: hidden={hidden} must be a multiple of kv_heads={kv_heads} times head_dim={head_dim}")
    rest = len(weights) // layers - hidden * (2 + 2 * hidden + 2 * kv_heads * head_dim)
    inner = rest // (3 * hidden)
    sizes = BlockSizes(batch, seq, seq, hidden // head_dim, kv_heads, head_dim, inner, hidden)
    if inner < 1 or layers * sizes.parameters != len(weights):
        blocks = f"{layers} blocks" if layers > 1 else "a block"
        raise ValueError(f"{op}: {len(weights)} weights do not make {blocks} with hidden={hidden}, kv_heads={kv_heads}")
    bind(op, "weights: parameters; fp32 master, m, v: parameters", weights, master, m, v)
    _check_contiguous(op, weights=weights, master=master, m=m, v=v)
    return sizes


def split_block_weights(flat: Tensor, sizes: BlockSizes) -> tuple[BlockWeights, ...]:
    """flat: (parameters,), those of some layers end to end. Returns the parts of each layer as views."""
    layers = flat.view(-1, sizes.parameters).split([math.prod(shape) for shape in sizes.weight_shapes], dim=1)
    shaped = (part.view(-1, *shape) for part, shape in zip(layers, sizes.weight_shapes, strict=True))
    return tuple(BlockWeights(*each) for each in zip(*(part.unbind() for part in shaped), strict=True))


def stream_size(op: str, *tensors: Tensor) -> int:
    """Elements of each of the tensors (n,). Raises ValueError unless they are alike and contiguous."""
    names = ", ".join(f"input {index}" for index in range(len(tensors)))
    size = bind(op, f"{names}: n", *tensors)
    for tensor in tensors:
        if not tensor.is_contiguous():
            raise ValueError(f"{op}: inputs must be contiguous, not of stride {tensor.stride(0)}")
    return size["n"]


def check_launch(x: Tensor) -> None:
    """Raise ValueError unless x has shape (1,)."""
    _check_shape("launch", "x", x, (1,))


def _parse(spec: str) -> tuple[tuple[str, str | None, tuple[str, ...]], ...]:
    """Name, format where it has its own, and dimensions of each tensor of a spec."""
    parsed: list[tuple[str, str | None, tuple[str, ...]]] = []
    for part in spec.split("; "):
        names, _, dims = part.partition(": ")
        dtype, _, rest = names.partition(" ")
        own = dtype in TORCH_DTYPES or dtype == "int32"
        each = (rest if own else names).split(", ")
        parsed += [(name, dtype if own else None, tuple(dims.split(" "))) for name in each]
    return tuple(parsed)


def _wanted(op: str, dim: str, sizes: Mapping[str, int]) -> int | str:
    """The size that a dimension must have; its name where nothing has bound it."""
    if dim in sizes:
        return sizes[dim]
    product, _, divisor = dim.partition("/")
    names = product.split("*")
    if any(name not in sizes for name in names):
        return dim
    size = math.prod(sizes[name] for name in names)
    if size % int(divisor or 1):
        raise ValueError(f"{op}: {product}={size} must be a multiple of {divisor}")
    return size // int(divisor or 1)


def _check_shape(op: str, name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(tensor.shape) != shape:
        raise ValueError(f"{op}: {name} must have shape {shape}, not {tuple(tensor.shape)}")


def _check_contiguous(op: str, **tensors: Tensor) -> None:
    for name, tensor in tensors.items():
        if not tensor.is_contiguous():
            raise ValueError(f"{op}: {name} must be contiguous, not of strides {tensor.stride()}")


def _matmul(size: Mapping[str, int]) -> MatmulSizes:
    return MatmulSizes(size["m"], size["n"], size["k"])


def _attention(op: str, size: Mapping[str, int], *, queries: int, keys: int) -> AttentionSizes:
    heads, kv_heads = size["heads"], size["kv_heads"]
    if heads % kv_heads:
        raise ValueError(f"{op}: heads={heads} must be a multiple of kv_heads={kv_heads}")
    return AttentionSizes(size["batch"], queries, keys, heads, kv_heads, size["head_dim"])


def _projected(op: str, size: Mapping[str, int], *, queries: int) -> AttentionSizes:
    """Sizes of attention behind w_qkv, which must project `hidden` to Q of hidden/head_dim heads, K and V."""
    hidden, head_dim = size["hidden"], size["head_dim"]
    heads, rest = divmod(hidden, head_dim)
    if rest:
        raise ValueError(f"{op}: hidden={hidden} must be a multiple of head_dim={head_dim}")
    sizes = _attention(op, {**size, "heads": heads}, queries=queries, keys=size["context"])
    expected, found = (heads + 2 * sizes.kv_heads) * head_dim, size["projected"]
    if found != expected:
        raise ValueError(f"{op}: w_qkv must have shape {(expected, hidden)}, not {(found, hidden)}")
    return sizes


def _block_spec(tensors: int, tokens: str) -> str:
    """The spec of a block's angles, if it has any, and of its weights: `tensors` in all."""
    rotary = tensors > _BLOCK_WEIGHTS
    angles, norm = (f"cos, sin: {tokens} half; ", "hidden") if rotary else ("", "two hidden")
    return (
        f"{angles}attention_norm: {norm}; qkv: projected hidden; out: hidden width; mlp_norm: {norm};"
        " gate_up: rows hidden; down: hidden inner"
    )


def _model_spec(tensors: int, tokens: str) -> str:
    """The spec of a model's angles, if it has any, and of its weights: `tensors` in all."""
    stacked = _stacked_spec(tensors - 2, tokens)
    norm = "norm: hidden" if stacked.startswith("cos") else "norm: two hidden"
    return f"{stacked}; {norm}; vocabulary: vocab hidden"


def _stacked_spec(tensors: int, tokens: str) -> str:
    """The spec of the angles of blocks, if they have any, and of the weights of all layers: `tensors` in all."""
    angles, _, weights = _block_spec(tensors, tokens).rpartition("attention_norm: ")
    return angles + f"attention_norm: {weights}".replace(": ", ": layers ")


def _model_sizes(
    op: str, size: Mapping[str, int], others: tuple[Tensor, ...], *, queries: int, keys: int
) -> ModelSizes:
    """Sizes of a model, once the projections of its layers are known to fit their heads."""
    angles, weights = split_model(others)
    block = _block_sizes(op, size, (*angles, *weights.layers[0]), queries=queries, keys=keys)
    _check_shape(op, "norm", weights.norm, block.norm_shape)
    return ModelSizes(block, size["layers"], size["vocab"])


def _block_sizes(
    op: str, size: Mapping[str, int], others: tuple[Tensor, ...], *, queries: int, keys: int
) -> BlockSizes:
    """Sizes of a block, once its projections are known to fit its heads."""
    angles, weights = split_block(others)
    head_dim = size["head_dim"]
    for name, tensor in zip(("cos", "sin"), angles, strict=False):
        _check_shape(op, name, tensor, (size["batch"] * queries, head_dim // 2))
    heads, ragged = divmod(size["width"], head_dim)
    kv_heads = (size["projected"] // head_dim - heads) // 2
    if ragged or heads < 1 or kv_heads < 1:
        shapes = f"qkv of shape {tuple(weights.qkv.shape)} and out of shape {tuple(weights.out.shape)}"
        raise ValueError(f"{op}: {shapes} do not make heads of {head_dim}")
    if heads % kv_heads:
        raise ValueError(f"{op}: heads={heads} must be a multiple of kv_heads={kv_heads}")
    sizes = BlockSizes(
        size["batch"], queries, keys, heads, kv_heads, head_dim, size["inner"], size["hidden"], 3 if angles else 2
    )
    for name, tensor, shape in zip(weights._fields, weights, sizes.weight_shapes, strict=True):
        _check_shape(op, name, tensor, shape)
    return sizes
