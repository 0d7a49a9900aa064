"""Products with a quantized weight in Triton: it crosses DRAM as int8 or int4 and is widened in registers.

For the few rows of a decode step DRAM is the limit, as long as instructions keep up: an H200 delivers 42 int4 weights
per clock to an SM, which issues 128 lane instructions in that time. So everything here saves instructions per weight:

- A 16-bit float with exponent 0 or 1 counts in units of its last bit: up to 255 (bf16) or 2047 (fp16) the bits of a
  whole number are that number. One AND takes two weights, 16 bits apart, out of a word. One fused multiply-add lifts
  the pair out of the denormals and subtracts the offset. Both are exact.
- Weights 16 bits apart are not neighbors along k. The order along k is free as long as x has the same, so x, which is
  small beside the weight, is rearranged.
- int4's scales, one per 128 weights, multiply fp32 partial products; int8's multiply the result.
- The weight is the left operand: eight rows of x, not sixteen, fill a tensor-core instruction.

Functions raise ValueError for other shapes, and Unsupported for dtypes, strides and devices that no kernel takes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from types import MappingProxyType

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.constants import ARCHITECTURES, EIGHT_BIT, INT4_GROUP
from kernels.precision import TORCH_DTYPES, dtype_name
from kernels.shapes import MatmulSizes, check_dtype, w4a16_sizes, w8a16_sizes
from kernels.triton.launcher import Launcher, Planned
from kernels.triton.matmul import plan_reduction, tiles
from kernels.triton.plan import (
    WIDE_PRODUCT_ROWS,
    Launch,
    Target,
    cdiv,
    check_tile_strides,
    find_target,
    product_opcodes,
)
from kernels.unsupported import Unsupported

SUPPORTED_DTYPES = ("bf16", "fp16")
UNSUPPORTED_DTYPES: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("fp64", "fp32", "tf32"), "quantized weights are unpacked to 16 bits: x is bf16 or fp16"),
        **dict.fromkeys(EIGHT_BIT, "x is bf16 or fp16; matmul_scaled multiplies 8 bits by 8 bits"),
    }
)
SUPPORTED_ARCHITECTURES = ARCHITECTURES

_BARRIER_BYTES = 64  # barriers that wait for tensor memory, aligned
_UNIT_BYTES = 64  # of a row of the weight: 64 int8, or 128 int4 with one scale


@dataclass(frozen=True, slots=True)
class QuantizedConfig:
    """block_n rows of the weight pass block_m rows of x, row_bytes of each weight row per step. split_k programs share
    the reduction of a tile; 0 chooses by the shape."""

    block_m: int
    block_n: int
    row_bytes: int
    num_warps: int
    num_stages: int
    split_k: int = 0

    @property
    def name(self) -> str:
        """As in records: 8x64x128B-w2-s3."""
        split = f"-split{self.split_k}" if self.split_k else ""
        return f"{self.block_m}x{self.block_n}x{self.row_bytes}B-w{self.num_warps}-s{self.num_stages}{split}"

    @property
    def units(self) -> int:
        """Units of a row per step."""
        return self.row_bytes // _UNIT_BYTES

    def block_k(self, bits: int) -> int:
        """Weights of a row per step."""
        return self.row_bytes * 8 // bits

    def shared_bytes(self, bits: int) -> int:
        """Most shared memory of a program: weights, scales and x of the steps in flight, and the unit of x that
        products of a warp group read there."""
        scales = 2 * self.units * self.block_n if bits == 4 else 0
        x_unit = 2 * self.block_m * _UNIT_BYTES * 8 // bits
        step = self.block_n * self.row_bytes + self.units * x_unit + scales
        return max(1, self.num_stages - 1) * step + (x_unit if self.block_m > 8 else 0) + _BARRIER_BYTES


# Up to 8 rows: a warp converts 32 or 64 rows of the weight, at 1.93 or 1.78 instructions per int4 weight (2.38 or 2.17
# per int8) and in 80 or 190 registers. With two steps in shared memory, Hopper holds eight or five programs per SM: 64
# KiB and more in flight, where latency x bandwidth needs 40.
ROWS_8 = QuantizedConfig(8, 64, 128, 2, 3)
ROWS_8_WIDE = QuantizedConfig(8, 128, 128, 2, 3)
# Up to 16 rows: x is as large as 64 rows of int4 and comes from L2 for every tile, so tiles are wider where shared
# memory allows. On Hopper four warps multiply by WGMMA, which reads x from shared memory, at 2.05 instructions per int4
# weight. Elsewhere each warp has all of x in registers, so 64 rows of the weight per warp (2.0) beat 32 (2.3). Ampere
# has instructions to spare. Datacenter Blackwell takes two warps, by HMMA, and does not wait for its tensor memory at
# every group.
ROWS_16 = QuantizedConfig(16, 128, 128, 4, 3)
ROWS_16_BLACKWELL = QuantizedConfig(16, 128, 128, 2, 3)
ROWS_16_SMALL_SHARED = QuantizedConfig(16, 64, 128, 2, 3)
# More rows: x fills shared memory, so steps are short. Partial products of int4 fill the registers beside the sums, and
# without WGMMA or tensor memory x is there too: eight warps share them.
ROWS_32 = QuantizedConfig(32, 128, 64, 4, 3)
ROWS_64 = QuantizedConfig(64, 128, 64, 4, 3)
ROWS_64_HMMA = QuantizedConfig(64, 128, 64, 8, 3)
ROWS_128 = QuantizedConfig(128, 128, 64, 8, 3)

CONFIGS = (
    ROWS_8,
    ROWS_8_WIDE,
    replace(ROWS_8, num_stages=4),
    replace(ROWS_8_WIDE, num_stages=4),
    replace(ROWS_8, row_bytes=256),
    QuantizedConfig(8, 128, 128, 4, 3),
    QuantizedConfig(8, 32, 128, 1, 3),
    ROWS_16,
    ROWS_16_BLACKWELL,
    ROWS_16_SMALL_SHARED,
    replace(ROWS_16, num_stages=4),
    QuantizedConfig(16, 256, 64, 4, 3),
    ROWS_32,
    ROWS_64,
    ROWS_64_HMMA,
    ROWS_128,
)

_MAX_SPLIT_K = 16
_MIN_STEPS_PER_SPLIT = 2  # fewer cannot overlap reading and computing
_REDUCTION_BYTES = 8e6  # DRAM delivers them in the time of a second launch: 2 us at 4 TB/s
_STAGES = (3, 4, 6)
_BUSY_WARPS = 8  # of an SM: two per scheduler hide each other's waits
_BYTES_IN_FLIGHT = 48 * 1024  # to an SM of an H200: its share of DRAM's rate for 1.3 us, more than a latency
_L2_OVER_DRAM = 1.3  # least rate of L2 relative to DRAM, on the supported GPUs with HBM
_MOST_UNITS_INT4 = 2  # whose scales one split takes apart

# One for each kind of configuration: one row, few rows, 16, 32, 64 and many.
_AHEAD_OF_TIME_ROWS = (1, 8, 16, 32, 64, 1024)
_AHEAD_OF_TIME_WEIGHT = (28672, 8192)


def choose_config(m: int, n: int, k: int, *, bits: int, target: Target) -> QuantizedConfig:
    """The configuration for a shape: the lowest tile that holds all rows, with the width, stages and split-K that end
    soonest."""
    choices = _tiles_for(m, bits, target)
    if bits == 4 and k // INT4_GROUP % 2:  # scales of two groups would start between two words
        choices = tuple(replace(each, row_bytes=_UNIT_BYTES) for each in choices)
    configs = [replace(each, num_stages=stages) for each in choices for stages in _STAGES]
    fitting = [config for config in configs if why_not(config, bits, target) is None]
    return min(fitting, key=lambda config: _best_split(m, n, k, bits=bits, config=config, target=target)[0])


@Launcher
def matmul_w8a16(x: Tensor, weight: Tensor, scale: Tensor, *, config: QuantizedConfig | None = None) -> Planned[Tensor]:
    """x: (m, k), weight: (n, k) int8, scale: (n,). Returns x @ (weight * scale)^T: (m, n) in x's dtype. The weight is
    contiguous along k; other strides are free. Fast where the weight's rows start at multiples of 16 bytes."""
    op = "matmul_w8a16"
    sizes = w8a16_sizes(x, weight, scale)
    words = weight.view(torch.int32) if _has_words(weight) else weight
    return _plan(op, x, words, scale, sizes, bits=8, config=config)


@Launcher
def matmul_w4a16(
    x: Tensor, packed: Tensor, scales: Tensor, *, config: QuantizedConfig | None = None
) -> Planned[Tensor]:
    """x: (m, k), packed: (n, k/8) int32, scales: (n, k/128). Returns x @ W^T: (m, n) in x's dtype, where W is what
    `kernels.reference.unpack_int4` returns. packed is contiguous along k; other strides are free."""
    op = "matmul_w4a16"
    sizes = w4a16_sizes(x, packed, scales)
    return _plan(op, x, packed, scales, sizes, bits=4, config=config)


def plan_quantized(
    x: Tensor, weight: Tensor, scale: Tensor, out: Tensor, *, bits: int, config: QuantizedConfig, target: Target
) -> tuple[Launch, ...]:
    """The launches that set out: (m, n) to the product of x: (m, k) and a weight (n, words) of int32, or (n, k) of int8
    where its rows are not whole words. With split-K, partial sums go to fp32 memory and are then reduced."""
    (m, k), n = x.shape, len(weight)
    block_k = config.block_k(bits)
    split_k = config.split_k or _best_split(m, n, k, bits=bits, config=config, target=target)[1]
    split_k = min(split_k, cdiv(k, block_k))
    sums = out if split_k == 1 else torch.empty(split_k, m, n, dtype=torch.float32, device=x.device)
    product = Launch(
        kernel=quantized_matmul_kernel,
        grid=(tiles(m, n, config.block_m, config.block_n), split_k),
        arguments={
            "x_ptr": x,
            "weight_ptr": weight,
            "scale_ptr": scale,
            "out_ptr": sums,
            "m": m,
            "n": n,
            "k": k,
            "stride_xm": x.stride(0),
            "stride_xk": x.stride(1),
            "stride_wn": weight.stride(0),
        },
        constants={
            "BITS": bits,
            "BLOCK_M": config.block_m,
            "BLOCK_N": config.block_n,
            "UNITS": config.units,
            "EVEN_K": k % block_k == 0,
            "STAGES": config.num_stages,
        },
        num_warps=config.num_warps,
        num_stages=config.num_stages,
        config=f"{config.name}-int{bits}",
        opcodes=product_opcodes(dtype_name(x.dtype), WIDE_PRODUCT_ROWS if _is_wide_product(config, target) else 1),
    )
    return (product,) if split_k == 1 else (product, plan_reduction(sums, out))


def contends(config: QuantizedConfig, dims: Mapping[str, int]) -> bool:
    """Whether a tuner should try a configuration: not where most of a tile is padding, nor a low tile for many rows."""
    rows = dims["m"]
    return min(rows, ROWS_64.block_m) <= config.block_m <= max(ROWS_16.block_m, 2 * rows)


def ahead_of_time(target: Target, dtype: str) -> tuple[Launch, ...]:
    """Launches of the default configurations: each tile once for both widths, and the reduction."""
    launches: dict[object, Launch] = {}
    for bits in (8, 4):
        for m in _AHEAD_OF_TIME_ROWS:
            config = choose_config(m, *_AHEAD_OF_TIME_WEIGHT, bits=bits, target=target)
            product, *reduction = _plan_meta(m, dtype=dtype, bits=bits, config=config, target=target)
            launches.setdefault((bits, config), product)
            launches.update((launch.kernel, launch) for launch in reduction)
    return tuple(launches.values())


def every_configuration(target: Target, dtype: str) -> tuple[Launch, ...]:
    """Launches of each configuration that fits this architecture, for both widths."""
    launches: list[Launch] = []
    for bits in (8, 4):
        for config in CONFIGS:
            if why_not(config, bits, target) is None:
                launches += _plan_meta(config.block_m, dtype=dtype, bits=bits, config=config, target=target)[:1]
    return tuple(launches)


def why_not(config: QuantizedConfig, bits: int, target: Target) -> str | None:
    """Why this configuration cannot serve weights of `bits` on an architecture, or None where it can."""
    if bits == 4 and config.units > _MOST_UNITS_INT4:
        return f"a step of int4 takes at most {_MOST_UNITS_INT4 * _UNIT_BYTES} bytes of a row"
    if config.shared_bytes(bits) > target.shared_bytes:
        return f"it needs {config.shared_bytes(bits)} bytes of shared memory, of which there are {target.shared_bytes}"
    return None


@triton.jit
def quantized_matmul_kernel(
    x_ptr,
    weight_ptr,
    scale_ptr,
    out_ptr,
    m,
    n,
    k,
    stride_xm,
    stride_xk,
    stride_wn,
    BITS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    UNITS: tl.constexpr,
    EVEN_K: tl.constexpr,
    STAGES: tl.constexpr,
):
    """x: (m, k), weight: (n, k) in words of int32, or int8, scale: (n, k/128) for 4 BITS, (n,) for 8, out: (splits, m,
    n) row-major. Program (tile, s) sums the s-th part of the reduction. Reads the weight m/BLOCK_M times, and x
    n/BLOCK_N times, mostly from L2. Writes each out once."""
    dtype: tl.constexpr = x_ptr.dtype.element_ty
    UNIT_K: tl.constexpr = 512 // BITS  # weights of a row in a unit of 16 words
    WORD_STEP: tl.constexpr = 4 if weight_ptr.dtype.element_ty == tl.int8 else 1
    tiles_m = tl.cdiv(m, BLOCK_M)
    tile_m = tl.program_id(0) % tiles_m  # neighbors share rows of the weight in L2
    tile_n = tl.program_id(0) // tiles_m
    split = tl.program_id(1)
    units = tl.cdiv(k, UNIT_K)
    steps = tl.cdiv(units, UNITS)
    first_step = split * steps // tl.num_programs(1)
    last_step = (split + 1) * steps // tl.num_programs(1)

    # A tile may start beyond 2**31 elements, so its start is int64; offsets inside a tile are 32-bit.
    offs_m = tl.arange(0, BLOCK_M)
    offs_n = tl.arange(0, BLOCK_N)
    offs_word = tl.arange(0, 16)
    rows_left = m - tile_m * BLOCK_M
    columns_left = n - tile_n * BLOCK_N
    in_n = offs_n[:, None] < columns_left

    # x is stored in the order in which lanes read it from shared memory, 8 (int4) or 16 bytes at a time: in pieces of
    # 16 or 8 along k. Pieces that lanes read together, one of each row, lie side by side, so no two share a bank.
    piece = tl.arange(0, 8 * BLOCK_M)
    if BITS == 4:
        x_row = piece % BLOCK_M
        x_k = (piece // BLOCK_M * 16)[:, None] + tl.arange(0, 16)[None, :]
    else:
        x_row = piece // 4 % BLOCK_M
        x_k = (piece % 4 * 16 + piece // (4 * BLOCK_M) * 8)[:, None] + tl.arange(0, 8)[None, :]
    x_tile = x_row[:, None] * stride_xm + x_k * stride_xk
    weight_tile = offs_n[:, None] * stride_wn + offs_word[None, :] * WORD_STEP
    x_base = x_ptr + tile_m.to(tl.int64) * BLOCK_M * stride_xm + first_step.to(tl.int64) * (UNITS * UNIT_K) * stride_xk
    weight_base = weight_ptr + tile_n.to(tl.int64) * BLOCK_N * stride_wn
    weight_base += first_step.to(tl.int64) * (UNITS * 16 * WORD_STEP)
    x_step = tl.cast(UNITS * UNIT_K, tl.int64) * stride_xk
    # A multiple of UNITS, so that the compiler knows the alignment of the scales of a step.
    scales_per_row = steps * UNITS if EVEN_K else units
    scale_base = scale_ptr + tile_n.to(tl.int64) * BLOCK_N * scales_per_row + first_step * UNITS
    scale_tile = offs_n[:, None] * scales_per_row + tl.arange(0, UNITS)[None, :]

    accumulator = tl.zeros((BLOCK_N, BLOCK_M), dtype=tl.float32)
    # num_stages here also pipelines the loads of scales, which feed no product.
    for step in tl.range(first_step, last_step, num_stages=STAGES):
        if BITS == 4:
            in_scales = in_n if EVEN_K else in_n & (step * UNITS + tl.arange(0, UNITS)[None, :] < units)
            scales = tl.load(scale_base + scale_tile, mask=in_scales, other=0.0).to(tl.float32)
            if UNITS == 2:
                scale, next_scale = tl.split(scales)
            else:
                scale = scales.reshape(BLOCK_N)
                next_scale = scale
            scale_base += UNITS
        for unit in tl.static_range(UNITS):
            k_left = k - (step * UNITS + unit) * UNIT_K
            in_x = x_row[:, None] < rows_left if EVEN_K else (x_row[:, None] < rows_left) & (x_k < k_left)
            x = tl.load(x_base + unit * UNIT_K * stride_xk + x_tile, mask=in_x, other=0.0)
            unit_base = weight_base + unit * 16 * WORD_STEP
            words = _load_words(unit_base + weight_tile, in_n, offs_word[None, :] * (32 // BITS), k_left, EVEN_K)
            if BITS == 4:
                left = _unpack_int4(words, BLOCK_N, dtype)
                right = _arrange_for_int4(x, BLOCK_M, dtype)
                accumulator += tl.dot(left, right) * (scale if unit == 0 else next_scale)[:, None]
            else:
                left = _unpack_int8(words, BLOCK_N, dtype)
                right = _arrange_for_int8(x, BLOCK_M, dtype)
                accumulator = tl.dot(left, right, accumulator)
        x_base += x_step
        weight_base += UNITS * 16 * WORD_STEP

    accumulator *= 2.0**6 if dtype == tl.bfloat16 else 2.0**9  # what _lift leaves out
    if BITS == 8:
        scale = tl.load(scale_ptr + tile_n * BLOCK_N + offs_n, mask=offs_n < columns_left, other=0.0)
        accumulator *= scale.to(tl.float32)[:, None]
    out_base = out_ptr + (split.to(tl.int64) * m + tile_m * BLOCK_M) * n + tile_n * BLOCK_N
    in_out = (offs_m[:, None] < rows_left) & (offs_n[None, :] < columns_left)
    out = accumulator.trans().to(out_ptr.dtype.element_ty)
    tl.store(out_base + offs_m[:, None] * n + offs_n[None, :], out, mask=in_out)


@triton.jit
def _load_words(pointers, in_n, first_k, k_left, EVEN_K: tl.constexpr):
    """Load words by pointers (BLOCK_N, 16) to them or to their lowest bytes; first_k: (1, 16). Zeros outside."""
    if pointers.dtype.element_ty == tl.int32:
        return tl.load(pointers, mask=in_n if EVEN_K else in_n & (first_k < k_left), other=0)
    words = tl.zeros(pointers.shape, dtype=tl.int32)
    for byte in tl.static_range(4):
        loaded = tl.load(pointers + byte, mask=in_n & (first_k + byte < k_left), other=0)
        words |= (loaded.to(tl.int32) & 0xFF) << (8 * byte)
    return words


@triton.jit
def _lift(words, SHIFT: tl.constexpr, OFFSET: tl.constexpr, MASK: tl.constexpr, dtype: tl.constexpr):
    """words: (...), each half a whole number times 2**SHIFT in the bits of MASK, at most 0xFF. Returns (..., 2): the
    numbers less OFFSET, times 2**-6 (bf16) or 2**-9 (fp16), as far as one multiplication lifts a denormal."""
    LARGEST: tl.constexpr = 2.0**127 if dtype == tl.bfloat16 else 2.0**15
    UNIT: tl.constexpr = 2.0**-6 if dtype == tl.bfloat16 else 2.0**-9
    # Mask halves, not words: LLVM joins the pair again only where it can do so before masking.
    halves = tl.join(words.to(tl.int16), (words >> 16).to(tl.int16)) & MASK
    pairs = halves.to(dtype, bitcast=True)
    factor = tl.full(pairs.shape, LARGEST / 2**SHIFT, dtype)
    return tl.fma(pairs, factor, tl.full(pairs.shape, -OFFSET * UNIT, dtype))


@triton.jit
def _unpack_int4(words, BLOCK_N: tl.constexpr, dtype: tl.constexpr):
    """words: (BLOCK_N, 16), of a group. Returns its weights: (BLOCK_N, 128), in the order of _arrange_for_int4.

    Nibble i of half h of word j is weight 64h + 16i + j. The bits of i are i1 i0; those of j are t (two), q1 and q0. In
    the layouts of products, lanes differ in t and own the four words of q1 q0: one 16-byte load from shared memory.
    """
    upper = words >> 8
    even = _lift(tl.join(words, upper), 0, 8, 0xF, dtype)
    odd = _lift(tl.join(words, upper), 4, 8, 0xF0, dtype)
    weights = tl.join(even, odd).reshape(BLOCK_N, 4, 2, 2, 2, 2, 2)  # n t q1 q0 i1 h i0
    return weights.permute(0, 4, 6, 3, 1, 2, 5).reshape(BLOCK_N, 128)  # n i1 i0 q0 t q1 h


@triton.jit
def _arrange_for_int4(x, BLOCK_M: tl.constexpr, dtype: tl.constexpr):
    """x: (8 * BLOCK_M, 16), pieces of 16 along k, those of all rows side by side. Returns (128, BLOCK_M).

    As int16, so that a bitcast stands between the change of shape and the product. On Hopper, Triton would move the
    change of shape into shared memory, where it may not fit WGMMA's blocks: "Illegal shared layout".
    """
    x = x.to(tl.int16, bitcast=True).reshape(2, 2, 2, BLOCK_M, 4, 2, 2)  # h i1 i0 m t q1 q0
    x = x.permute(3, 1, 2, 6, 4, 5, 0).reshape(BLOCK_M, 128)  # m i1 i0 q0 t q1 h
    return x.trans().to(dtype, bitcast=True)


@triton.jit
def _unpack_int8(words, BLOCK_N: tl.constexpr, dtype: tl.constexpr):
    """words: (BLOCK_N, 16). Returns their bytes: (BLOCK_N, 64), in the order of _arrange_for_int8.

    Byte b of half h of word j is weight 4j + 2h + b. The bits of j are named as for int4.
    """
    words = words ^ -0x7F7F7F80  # 0x80 in each byte: two's complement becomes offset 128
    # A right shift by 8, as a multiplication. LLVM would take apart a word that is shifted into bytes and pair them, at
    # 0.5 instructions per weight.
    upper = tl.umulhi(words.to(tl.uint32, bitcast=True), tl.full(words.shape, 1 << 24, tl.uint32))
    even = _lift(words, 0, 128, 0xFF, dtype)
    odd = _lift(upper.to(tl.int32, bitcast=True), 0, 128, 0xFF, dtype)
    weights = tl.join(even, odd).reshape(BLOCK_N, 4, 2, 2, 2, 2)  # n t q1 q0 h b
    return weights.permute(0, 5, 3, 1, 2, 4).reshape(BLOCK_N, 64)  # n b q0 t q1 h


@triton.jit
def _arrange_for_int8(x, BLOCK_M: tl.constexpr, dtype: tl.constexpr):
    """x: (8 * BLOCK_M, 8), pieces of 8 along k: every other piece of all rows, then the rest. Returns (64, BLOCK_M)."""
    x = x.to(tl.int16, bitcast=True).reshape(2, BLOCK_M, 4, 2, 2, 2)  # q1 m t q0 h b
    x = x.permute(1, 5, 3, 2, 0, 4).reshape(BLOCK_M, 64)  # m b q0 t q1 h
    return x.trans().to(dtype, bitcast=True)


def _plan(
    op: str,
    x: Tensor,
    weight: Tensor,
    scale: Tensor,
    sizes: MatmulSizes,
    *,
    bits: int,
    config: QuantizedConfig | None,
) -> Planned[Tensor]:
    """The product by `config`, or by what suits the shape. Raises Unsupported where that is impossible."""
    check_dtype(op, x.dtype, SUPPORTED_DTYPES)
    if weight.stride(1) != 1:
        raise Unsupported(f"{op} does not support a weight of strides {weight.stride()}; supported: contiguous along k")
    target = find_target(op, quantized_matmul_kernel, x)
    check_tile_strides(op, *x.stride(), weight.stride(0), sizes.n)
    if config is None:
        config = choose_config(sizes.m, sizes.n, sizes.k, bits=bits, target=target)
    elif reason := why_not(config, bits, target):
        raise Unsupported(f"{op}: {config.name} is not supported: {reason}")
    out = torch.empty(sizes.m, sizes.n, dtype=x.dtype, device=x.device)
    return Planned(out, plan_quantized(x, weight, scale, out, bits=bits, config=config, target=target))


def _has_words(weight: Tensor) -> bool:
    """Whether the rows of an int8 weight are whole, aligned words of 4 bytes."""
    starts_and_length = (weight.shape[1], weight.stride(0), weight.storage_offset())
    return weight.stride(1) == 1 and not any(count % 4 for count in starts_and_length)


def _plan_meta(m: int, *, dtype: str, bits: int, config: QuantizedConfig, target: Target) -> tuple[Launch, ...]:
    """The launches for m rows and a large weight, on tensors without memory."""
    n, k = _AHEAD_OF_TIME_WEIGHT
    x, out = (torch.empty(m, length, dtype=TORCH_DTYPES[dtype], device="meta") for length in (k, n))
    weight = torch.empty(n, k * bits // 32, dtype=torch.int32, device="meta")
    scales = torch.empty((n, k // INT4_GROUP) if bits == 4 else n, dtype=x.dtype, device="meta")
    return plan_quantized(x, weight, scales, out, bits=bits, config=config, target=target)


def _is_wide_product(config: QuantizedConfig, target: Target) -> bool:
    """Whether Triton multiplies by a warp group's instruction, which Hopper and datacenter Blackwell have."""
    fits = config.num_warps >= 4 and config.block_n >= 64 and config.block_m >= 16
    return fits and target.family in (9, 10)


def _tiles_for(m: int, bits: int, target: Target) -> tuple[QuantizedConfig, ...]:
    """Candidate tiles, as low as m allows."""
    family = target.family
    if m <= 8:  # 57 int4 weights per clock and SM of a B200: no instruction to spare
        return (ROWS_8_WIDE,) if bits == 4 and family == 10 else (ROWS_8, ROWS_8_WIDE)
    if m <= 16:
        small = ROWS_16 if target.has_large_shared else ROWS_16_SMALL_SHARED
        return (ROWS_16_BLACKWELL if family == 10 else small,)
    if m <= 32:
        return (ROWS_32,)
    if family in (9, 10):
        return (ROWS_64,) if m <= 64 else (ROWS_128,)
    return (ROWS_128,) if m > 64 and bits == 8 else (ROWS_64_HMMA,)


@lru_cache(maxsize=1024)
def _best_split(m: int, n: int, k: int, *, bits: int, config: QuantizedConfig, target: Target) -> tuple[float, int]:
    """Cost and number of parts of the split that ends soonest."""
    steps = cdiv(k, config.block_k(bits))
    most = max(1, min(steps // _MIN_STEPS_PER_SPLIT, _MAX_SPLIT_K))
    return min(
        (_cost_bytes(m, n, k, split, bits=bits, config=config, target=target), split) for split in range(1, most + 1)
    )


def _cost_bytes(m: int, n: int, k: int, split: int, *, bits: int, config: QuantizedConfig, target: Target) -> float:
    """The time of this configuration and split-K, as the bytes that DRAM could deliver in it.

    Programs run in rounds of as many as the SMs hold; a round with few of them has too few bytes in flight or too few
    warps. x comes from L2 for each tile. A second launch reads what the first has written in fp32.
    """
    programs = tiles(m, n, config.block_m, config.block_n) * split
    slots = target.sm_count * max(1, target.shared_bytes // config.shared_bytes(bits))
    full_rounds, rest = divmod(programs, slots)
    rounds = full_rounds * slots / _rate(slots / target.sm_count, config)
    if rest:
        rounds += rest / _rate(rest / target.sm_count, config)
    x_bytes_per_weight_byte = min(m, config.block_m) * 16 / (bits * config.block_n)
    slow_l2 = max(1.0, (1 + x_bytes_per_weight_byte) / _L2_OVER_DRAM)
    weight_bytes = n * k * bits / 8 * cdiv(m, config.block_m)
    reduction_bytes = _REDUCTION_BYTES + 2 * split * m * n * 4 if split > 1 else 0.0
    return weight_bytes * slow_l2 * rounds / programs + reduction_bytes


def _rate(programs_per_sm: float, config: QuantizedConfig) -> float:
    """Share of DRAM's rate that so many programs reach."""
    in_flight_bytes = (config.num_stages - 1.5) * config.block_n * config.row_bytes  # one step is half computed
    return min(
        1.0,
        programs_per_sm * in_flight_bytes / _BYTES_IN_FLIGHT,
        programs_per_sm * config.num_warps / _BUSY_WARPS,
    )
