"""Every op but attention and experts through PyTorch's own kernels, on any device.

No implementation falls back to another. Functions raise ValueError for shapes that `kernels.shapes` refuses, and
Unsupported for what a kernel of PyTorch does not take.
"""

import functools

import torch
import torch.nn.functional as F  # noqa: N812  (PyTorch's own convention)
from torch import Tensor

from kernels import reference
from kernels.constants import FILL_VALUE, INT4_GROUP, INT4_PER_WORD, LAYERNORM_EPS, RMSNORM_EPS, TRIAD_SCALE
from kernels.implementation import CPU, CUDA, FLOATS, HALF, Implementation
from kernels.precision import fp32_matmul_precision
from kernels.pytorch.attention import fold_group
from kernels.shapes import (
    MatmulSizes,
    check_dtype,
    check_launch,
    generate_cached_sizes,
    generate_uncached_sizes,
    linear_backward_sizes,
    matmul_sizes,
    rope_sizes,
    row_sizes,
    scaled_sizes,
    stream_size,
    w4a16_sizes,
    w8a16_sizes,
)
from kernels.unsupported import Unsupported, check_capability

_NO_ROW_SCALES = "only supports per-tensor scaling"  # error of an older PyTorch on a CPU

_INT8PACK_K = 64  # PyTorch's CPU kernel reads past the end of rows of other lengths
_INT4PACK_N = 16

_DOT_CHUNK = 2**20  # elements; BLAS adds them in sequence, which loses accuracy in fp32


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """a: (m, k), b: (k, n), any strides. Returns a @ b: (m, n); fp32 in full precision."""
    matmul_sizes(a, b)
    with fp32_matmul_precision("ieee"):
        return a @ b


def matmul_transposed(a: Tensor, b: Tensor) -> Tensor:
    """a: (m, k), b: (k, n), any strides. Returns a @ b as (b^T @ a^T)^T, a view of an (n, m) tensor. CPU libraries read
    the weight faster as the left operand where m is small."""
    return matmul(b.t(), a.t()).t()


def matmul_tf32(a: Tensor, b: Tensor) -> Tensor:
    """a: (m, k), b: (k, n), fp32 on a CUDA device. Returns a @ b: (m, n) through tf32 tensor cores."""
    matmul_sizes(a, b)
    check_dtype("matmul_tf32", a.dtype, ("tf32",))
    if a.device.type != "cuda":
        raise Unsupported(f"matmul_tf32: tf32 needs a CUDA device, not {a.device}")
    with fp32_matmul_precision("tf32"):
        return a @ b


def matmul_scaled(a: Tensor, b: Tensor, a_scale: Tensor, b_scale: Tensor, *, fast_accum: bool = False) -> Tensor:
    """a: (m, k), b: (k, n), fp8, a_scale: (m,), b_scale: (n,), fp32. Returns (a @ b) * a_scale * b_scale: (m, n) in
    bf16, scaled inside the kernel. `fast_accum` lets tensor cores sum with fewer bits."""
    sizes = scaled_sizes(a, b, a_scale, b_scale)
    check_dtype("matmul_scaled", a.dtype, ("fp8",))
    _check_scaled_mm(sizes, a, b)
    rows, columns = a_scale[:, None], b_scale[None, :]
    try:
        return torch._scaled_mm(
            a, b, scale_a=rows, scale_b=columns, out_dtype=torch.bfloat16, use_fast_accum=fast_accum
        )
    except RuntimeError as error:
        if _NO_ROW_SCALES not in str(error):
            raise
        raise Unsupported(
            "matmul_scaled: this PyTorch has no fp8 with a scale a row on a CPU; supported: CUDA"
        ) from None


def matmul_scaled_int8(a: Tensor, b: Tensor, a_scale: Tensor, b_scale: Tensor) -> Tensor:
    """a: (m, k), b: (k, n), int8, a_scale: (m,), b_scale: (n,), fp32. Returns (a @ b) * a_scale * b_scale: (m, n) in
    bf16. The int32 product and each scaling of it go through memory."""
    check_int_mm(a, b, a_scale, b_scale)
    return (torch._int_mm(a, b) * a_scale[:, None] * b_scale).to(torch.bfloat16)


def check_int_mm(a: Tensor, b: Tensor, a_scale: Tensor, b_scale: Tensor) -> None:
    """a: (m, k), b: (k, n), a_scale: (m,), b_scale: (n,). Raise Unsupported for what torch._int_mm does not multiply on
    a GPU (ATen/native/cuda/Blas.cpp)."""
    sizes = scaled_sizes(a, b, a_scale, b_scale)
    check_dtype("matmul_scaled", a.dtype, ("int8",))
    if a.device.type != "cpu" and (sizes.m <= 16 or sizes.n % 8 or sizes.k % 8):
        raise Unsupported(
            f"matmul_scaled: torch._int_mm does not support m={sizes.m}, n={sizes.n}, k={sizes.k};"
            " supported: m over 16, n and k multiples of 8"
        )


def matmul_w8a16_dequantize(x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """x: (m, k), weight: (n, k) int8, scale: (n,). Returns x @ (weight * scale)^T: (m, n). The weight goes through
    memory in x's format, which undoes what 8 bits save."""
    w8a16_sizes(x, weight, scale)
    with fp32_matmul_precision("ieee"):
        return F.linear(x, weight.to(x.dtype).mul_(scale[:, None]))


def matmul_w8a16_int8pack(x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """x: (m, k), weight: (n, k) int8, scale: (n,), on a CPU. Returns x @ (weight * scale)^T: (m, n). Reads the weight
    as int8."""
    sizes = w8a16_sizes(x, weight, scale)
    if sizes.k % _INT8PACK_K:
        raise Unsupported(f"torch._weight_int8pack_mm: k={sizes.k} is not safe; supported: multiples of {_INT8PACK_K}")
    return torch._weight_int8pack_mm(x, weight, scale)


def matmul_w4a16_dequantize(x: Tensor, packed: Tensor, scales: Tensor) -> Tensor:
    """x: (m, k), packed: (n, k/8) int32, scales: (n, k/128). Returns x @ W^T: (m, n), where W is what
    `reference.unpack_int4` returns. The weight goes through memory twice, as integers and in x's format."""
    sizes = w4a16_sizes(x, packed, scales)
    groups = unpack_nibbles(packed).sub_(8).to(x.dtype).view(sizes.n, -1, INT4_GROUP)
    with fp32_matmul_precision("ieee"):
        return F.linear(x, groups.mul_(scales[:, :, None]).view(sizes.n, sizes.k))


def matmul_w4a16_int4pack(x: Tensor, weight: Tensor, scales_and_zeros: Tensor) -> Tensor:
    """Takes what `prepare_int4pack` returns, on a CPU. Returns (m, n). Reads the weight as it is packed."""
    return torch._weight_int4pack_mm_for_cpu(x, weight, INT4_GROUP, scales_and_zeros)


def prepare_int4pack(x: Tensor, packed: Tensor, scales: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """x: (m, k), packed: (n, k/8) int32, scales: (n, k/128), on a CPU. Returns x, the weight as PyTorch's CPU kernel
    packs it, and the scales with their zeros."""
    sizes = w4a16_sizes(x, packed, scales)
    if sizes.n % _INT4PACK_N:
        raise Unsupported(f"torch._weight_int4pack_mm_for_cpu: n={sizes.n}; supported: multiples of {_INT4PACK_N}")
    return x, torch._convert_weight_to_int4pack_for_cpu(unpack_nibbles(packed), 1), pair_with_zeros(scales)


def unpack_nibbles(packed: Tensor) -> Tensor:
    """packed: (n, k/8) int32. Returns (n, k) int32 from 0 to 15, in the order of k: the weights plus 8."""
    shifts = torch.arange(0, 32, 4, dtype=torch.int32, device=packed.device).view(-1, 1)
    groups = packed.view(len(packed), -1, 1, INT4_GROUP // INT4_PER_WORD)
    return groups.bitwise_right_shift(shifts).bitwise_and_(0xF).view(len(packed), -1)


def pair_with_zeros(scales: Tensor) -> Tensor:
    """scales: (n, k/128). Returns (k/128, n, 2) for PyTorch's int4 kernels: each scale and a zero of 0; weights are
    (q - 8)*scale + zero (gpt-fast, quantize.py)."""
    return torch.stack((scales.t(), torch.zeros_like(scales.t())), dim=-1).contiguous()


def rmsnorm(x: Tensor, weight: Tensor) -> Tensor:
    """x: (rows, cols), weight: (cols,). Returns x / sqrt(mean(x^2) + RMSNORM_EPS) * weight."""
    row_sizes("rmsnorm", x, weight=weight)
    return F.rms_norm(x, weight.shape, weight, RMSNORM_EPS)


def add_rmsnorm(x: Tensor, residual: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """x, residual: (rows, cols), weight: (cols,). Returns the rmsnorm of their rounded sum, and the sum: two kernels,
    the second of which reads the sum again."""
    row_sizes("add_rmsnorm", x, residual, weight=weight)
    total = x + residual
    return F.rms_norm(total, weight.shape, weight, RMSNORM_EPS), total


def layernorm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x: (rows, cols), weight, bias: (cols,). Returns (x - mean) / sqrt(variance + LAYERNORM_EPS) * weight + bias."""
    row_sizes("layernorm", x, weight=weight, bias=bias)
    return F.layer_norm(x, weight.shape, weight, bias, LAYERNORM_EPS)


def add_layernorm(x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """x, residual: (rows, cols), weight, bias: (cols,). Returns the layernorm of their rounded sum, and the sum: two
    kernels, the second of which reads the sum again."""
    row_sizes("add_layernorm", x, residual, weight=weight, bias=bias)
    total = x + residual
    return F.layer_norm(total, weight.shape, weight, bias, LAYERNORM_EPS), total


def softmax(x: Tensor) -> Tensor:
    """x: (rows, cols). Returns exp(x - max) / sum(exp(x - max)), row by row."""
    row_sizes("softmax", x)
    return torch.softmax(x, dim=-1)


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """gate, up: (rows, cols). Returns gate / (1 + exp(-gate)) * up: two kernels."""
    row_sizes("swiglu", gate, up)
    return F.silu(gate) * up


def gelu(x: Tensor) -> Tensor:
    """x: (rows, cols). Returns x * (1 + tanh(sqrt(2/pi) * (x + GELU_CUBIC*x^3))) / 2: one kernel."""
    row_sizes("gelu", x)
    return F.gelu(x, approximate="tanh")


def rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x: (tokens, heads, head_dim), cos, sin: (tokens, head_dim/2). Returns x with each pair (x[i], x[i + head_dim/2])
    turned: one kernel for each product, each sum, and the concatenation."""
    rope_sizes(x, cos, sin)
    lower, upper = x.chunk(2, dim=-1)
    cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
    return torch.cat((lower * cos - upper * sin, upper * cos + lower * sin), dim=-1)


def linear_backward(grad: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """grad: (m, n), x: (m, k), weight: (n, k). Returns grad @ weight: (m, k), and grad^T @ x: (n, k): two matmuls."""
    linear_backward_sizes(grad, x, weight)
    with fp32_matmul_precision("ieee"):
        return grad @ weight, grad.t() @ x


def generate_cached(x: Tensor, w_qkv: Tensor, k_cache: Tensor, v_cache: Tensor) -> Tensor:
    """x: (batch, hidden), w_qkv: ((heads + 2*kv_heads)*head_dim, hidden), caches: (batch, kv_heads, context, head_dim).

    Projects the new token, writes its K and V at position context-1 of the caches in place, and attends over all
    `context` positions. Returns (batch, hidden). PyTorch chooses the backend of attention, as in a model.
    """
    sizes = generate_cached_sizes(x, w_qkv, k_cache, v_cache)
    with fp32_matmul_precision("ieee"):
        heads = F.linear(x, w_qkv).view(sizes.batch, -1, sizes.head_dim)
        q, k, v = heads.split((sizes.heads, sizes.kv_heads, sizes.kv_heads), dim=1)
        k_cache[:, :, -1] = k
        v_cache[:, :, -1] = v
        return F.scaled_dot_product_attention(fold_group(q, sizes), k_cache, v_cache).reshape(x.shape)


def generate_uncached(x: Tensor, w_qkv: Tensor, *, kv_heads: int, head_dim: int) -> Tensor:
    """x: (batch, context, hidden), w_qkv: ((heads + 2*kv_heads)*head_dim, hidden).

    Projects Q, K and V of every token and attends causally for all of them. Returns (batch, context, hidden).
    """
    sizes = generate_uncached_sizes(x, w_qkv, kv_heads, head_dim)
    with fp32_matmul_precision("ieee"):
        heads = F.linear(x, w_qkv).view(sizes.batch, sizes.keys, -1, head_dim).transpose(1, 2)
        q, k, v = heads.split((sizes.heads, kv_heads, kv_heads), dim=1)
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=sizes.group > 1)
    return out.transpose(1, 2).reshape(x.shape)


def stream_read(x: Tensor) -> Tensor:
    """x: (n,). Reads x once. Returns its sum, a scalar in fp32 (fp64 for fp64)."""
    stream_size("stream_read", x)
    return x.sum(dtype=_sum_dtype(x))


def stream_read_dot(x: Tensor) -> Tensor:
    """x: (n,), n even, fp32 or fp64. Reads x once as two halves. Returns their dot product, a scalar of x's dtype:
    often a CPU's fastest way to read memory, but not the sum that `stream_read` returns."""
    n = stream_size("stream_read_dot", x)
    check_dtype("stream_read_dot", x.dtype, ("fp32", "fp64"))  # 16-bit sums would be too coarse to check
    if n % 2:
        raise ValueError(f"stream_read_dot: n={n} must be even")
    lower, upper = x[: n // 2].split(_DOT_CHUNK), x[n // 2 :].split(_DOT_CHUNK)
    return torch.stack([torch.dot(a, b) for a, b in zip(lower, upper, strict=True)]).sum()


def stream_write(out: Tensor) -> Tensor:
    """out: (n,). Writes FILL_VALUE everywhere, once. Returns out."""
    stream_size("stream_write", out)
    return out.fill_(FILL_VALUE)


def stream_copy(x: Tensor, out: Tensor) -> Tensor:
    """x, out: (n,). Reads x once, writes out once. Returns out."""
    stream_size("stream_copy", x, out)
    return out.copy_(x)


def stream_triad(a: Tensor, b: Tensor, out: Tensor) -> Tensor:
    """a, b, out: (n,). Reads a and b once, writes out = a + TRIAD_SCALE*b once. Returns out."""
    stream_size("stream_triad", a, b, out)
    return torch.add(a, b, alpha=TRIAD_SCALE, out=out)


def launch(x: Tensor) -> Tensor:
    """x: (1,), FILL_VALUE. The smallest PyTorch kernel: writes the same value again. Returns x."""
    check_launch(x)
    return x.fill_(FILL_VALUE)


def _check_scaled_mm(sizes: MatmulSizes, a: Tensor, b: Tensor) -> None:
    """Raise Unsupported for what torch._scaled_mm does not multiply on a GPU (ATen/native/cuda/ScaledBlas.cpp)."""
    if a.device.type == "cpu":
        return
    capability = torch.cuda.get_device_capability()
    if capability < (8, 9):
        raise Unsupported(
            f"matmul_scaled: compute capability {capability[0]}.{capability[1]} has no fp8; supported: 8.9 and later"
        )
    if sizes.n % 16 or sizes.k % 16:
        raise Unsupported(
            f"matmul_scaled: torch._scaled_mm does not support n={sizes.n}, k={sizes.k}; supported: multiples of 16"
        )
    if not (a.is_contiguous() and b.t().is_contiguous()):
        raise Unsupported("matmul_scaled: torch._scaled_mm supports a stored by rows and b stored by columns only")


def _sum_dtype(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


_TINYGEMM_INNER_K_TILES = 8  # of 16, the most that the kernel reads at once; so k is a multiple of 128


def tinygemm(x: Tensor, weight: Tensor, scales_and_zeros: Tensor) -> Tensor:
    """Takes what `prepare_tinygemm` returns. Returns (m, n) in bf16."""
    return torch._weight_int4pack_mm(x, weight, INT4_GROUP, scales_and_zeros)


def prepare_tinygemm(x: Tensor, packed: Tensor, scales: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """x: (m, k) bf16, packed: (n, k/8) int32, scales: (n, k/128). Returns x, the weight as ATen/native/cuda/int4mm.cu
    packs it, and the scales with their zeros. The packing takes two weights per byte, the even one in the upper half
    (torchao, int4_tile_packed_to_4d_tensor.py)."""
    op, sizes = "matmul_w4a16", w4a16_sizes(x, packed, scales)
    check_dtype(op, x.dtype, ("bf16",))
    if sizes.n % 8:
        raise Unsupported(f"{op}: tinygemm does not support n={sizes.n}; supported: multiples of 8")
    check_capability(f"{op}: tinygemm", (8, 0))
    q = unpack_nibbles(packed)
    pairs = (q[:, ::2] << 4 | q[:, 1::2]).to(torch.uint8)
    weight = torch._convert_weight_to_int4pack(pairs, _TINYGEMM_INNER_K_TILES)
    return x, weight, pair_with_zeros(scales)


IMPLEMENTATIONS = (
    Implementation("matmul", "torch", matmul),
    Implementation("matmul", "torch", matmul_tf32, ("tf32",), CUDA),
    Implementation("matmul", "torch_transposed", matmul_transposed, FLOATS, CPU),
    Implementation("matmul_scaled", "torch", matmul_scaled, ("fp8",)),
    Implementation("matmul_scaled", "torch", matmul_scaled_int8, ("int8",)),
    Implementation(
        "matmul_scaled", "torch_fast_accum", functools.partial(matmul_scaled, fast_accum=True), ("fp8",), CUDA
    ),
    Implementation("matmul_w8a16", "torch_dequantize", matmul_w8a16_dequantize, HALF),
    Implementation("matmul_w8a16", "torch_int8pack", matmul_w8a16_int8pack, HALF, CPU),
    Implementation("matmul_w4a16", "torch_dequantize", matmul_w4a16_dequantize, HALF),
    Implementation("matmul_w4a16", "torch_int4pack", matmul_w4a16_int4pack, HALF, CPU, prepare=prepare_int4pack),
    Implementation("rmsnorm", "torch", rmsnorm),
    Implementation("add_rmsnorm", "torch", add_rmsnorm),
    Implementation("layernorm", "torch", layernorm),
    Implementation("add_layernorm", "torch", add_layernorm),
    Implementation("softmax", "torch", softmax),
    Implementation("swiglu", "torch", swiglu),
    Implementation("gelu", "torch", gelu),
    Implementation("rope", "torch", rope),
    Implementation("linear_backward", "torch", linear_backward),
    Implementation("generate_cached", "torch", generate_cached),
    Implementation("generate_uncached", "torch", generate_uncached),
    Implementation("stream_read", "torch", stream_read),
    Implementation(
        "stream_read", "torch_dot", stream_read_dot, ("fp64", "fp32"), own_reference=reference.stream_read_dot
    ),
    Implementation("stream_write", "torch", stream_write),
    Implementation("stream_copy", "torch", stream_copy),
    Implementation("stream_triad", "torch", stream_triad),
    Implementation("launch", "torch", launch, ("fp32",)),
)

TINYGEMM = Implementation("matmul_w4a16", "tinygemm", tinygemm, ("bf16",), CUDA, prepare=prepare_tinygemm)
