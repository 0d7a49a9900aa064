"""Products with a quantized weight in Triton: it crosses the memory as int8 or int4 and is widened in registers.

For the few rows of a decode step the memory is the limit as long as instructions keep up: an H200 brings an SM 42 int4
weights per clock, in which it issues 128 instructions of a lane. Everything here serves instructions per weight:

- A 16-bit float whose exponent is 0 or 1 counts in units of its last bit: up to 255 (bf16) or 2047 (fp16) the bits of a
  whole number are that number. One AND takes two weights, 16 bits apart, out of a word; one fused multiply-add lifts
  the pair out of the denormals and takes off the offset. Both are exact.
- Weights 16 bits apart are not neighbors along k. Which k a place of the product belongs to is free as long as x
  agrees, so x is rearranged: it is little beside the weight.
- int4's scales, one for each 128 weights, multiply fp32 partial products; int8's multiply the result.
- The weight is the left operand: eight rows of x, not sixteen, fill an instruction of the tensor cores.
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

_BARRIER_BYTES = 64  # that tensor memory is awaited at, and their alignment
_UNIT_BYTES = 64  # of a row of the weight: 64 of int8, or the 128 of int4 that share a scale


@dataclass(frozen=True, slots=True)
class QuantizedConfig:
    """block_n rows of the weight pass by block_m rows of x, row_bytes of each row of the weight in a step. split_k
    programs share one tile's reduction; 0 leaves that to the shape."""

    block_m: int
    block_n: int
    row_bytes: int
    num_warps: int
    num_stages: int
    split_k: int = 0

    @property
    def name(self) -> str:
        """8x64x128B-w2-s3."""
        split = f"-split{self.split_k}" if self.split_k else ""
        return f"{self.block_m}x{self.block_n}x{self.row_bytes}B-w{self.num_warps}-s{self.num_stages}{split}"

    @property
    def units(self) -> int:
        """Units of a row in a step."""
        return self.row_bytes // _UNIT_BYTES

    def block_k(self, bits: int) -> int:
        """Weights of a row in a step."""
        return self.row_bytes * 8 // bits

    def shared_bytes(self, bits: int) -> int:
        """Shared memory of a program, at most: weights, scales and x of the steps that are on their way or waiting, and
        the unit of x that products of a warp group read there."""
        scales = 2 * self.units * self.block_n if bits == 4 else 0
        x_unit = 2 * self.block_m * _UNIT_BYTES * 8 // bits
        step = self.block_n * self.row_bytes + self.units * x_unit + scales
        return max(1, self.num_stages - 1) * step + (x_unit if self.block_m > 8 else 0) + _BARRIER_BYTES


# Up to 8 rows: a warp converts 32 or 64 rows of the weight, at 1.93 or 1.78 instructions for each int4 weight (2.38 or
# 2.17 for int8) and in 80 or 190 registers. Two steps in shared memory leave room for eight or five programs on Hopper:
# 64 KiB and more on their way, where latency x bandwidth asks for 40.
ROWS_8 = QuantizedConfig(8, 64, 128, 2, 3)
ROWS_8_WIDE = QuantizedConfig(8, 128, 128, 2, 3)
# Up to 16 rows x weighs as much as 64 rows of int4, and comes from L2 again for every tile: wider tiles where there is
# shared memory for them. Four warps multiply by WGMMA on Hopper, which takes x from shared memory, at 2.05 instructions
# for each int4 weight. Elsewhere each warp has all of x in registers, for which 64 rows of the weight (2.0) pay better
# than 32 (2.3): Ampere has instructions to spare, and datacenter Blackwell takes two warps, by HMMA, rather than wait
# for its tensor memory at every group.
ROWS_16 = QuantizedConfig(16, 128, 128, 4, 3)
ROWS_16_BLACKWELL = QuantizedConfig(16, 128, 128, 2, 3)
ROWS_16_SMALL_SHARED = QuantizedConfig(16, 64, 128, 2, 3)
# More rows: x fills the shared memory, so steps are short; partial products of int4 fill the registers beside the
# accumulator, and without WGMMA or tensor memory x stands there too: eight warps share that.
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
_MIN_STEPS_PER_SPLIT = 2  # fewer do not overlap reading with computing
_REDUCTION_BYTES = 8e6  # what could have been read in the time of a second launch, 2 us at 4 TB/s
_STAGES = (3, 4, 6)
_BUSY_WARPS = 8  # of an SM: two for each of its schedulers hide each other's waiting
_BYTES_ON_THEIR_WAY = 48 * 1024  # to an SM of an H200: its share of the memory's rate for 1.3 us, more than a latency
_L2_OVER_MEMORY = 1.3  # the least that L2 delivers beside the memory, on the supported GPUs with HBM
_MOST_UNITS_INT4 = 2  # whose scales are taken apart by one split

# One for each kind of configuration: one row, few rows, 16, 32, 64 and many.
_AHEAD_OF_TIME_ROWS = (1, 8, 16, 32, 64, 1024)
_AHEAD_OF_TIME_WEIGHT = (28672, 8192)


def choose_config(m: int, n: int, k: int, *, bits: int, target: Target) -> QuantizedConfig:
    """The configuration for a shape: the lowest tile that holds all rows, and of its widths, stages and split-K those
    that end soonest."""
    choices = _tiles_for(m, bits, target)
    if bits == 4 and k // INT4_GROUP % 2:  # scales of two groups would start between two words
        choices = tuple(replace(each, row_bytes=_UNIT_BYTES) for each in choices)
    configs = [replace(each, num_stages=stages) for each in choices for stages in _STAGES]
    fitting = [config for config in configs if why_not(config, bits, target) is None]
    return min(fitting, key=lambda config: _best_split(m, n, k, bits=bits, config=config, target=target)[0])


@Launcher
def matmul_w8a16(x: Tensor, weight: Tensor, scale: Tensor, *, config: QuantizedConfig | None = None) -> Planned[Tensor]:
    """x: (m, k), weight: (n, k) int8, scale: (n,). Returns x @ (weight * scale)^T: (m, n) in x's dtype. The weight is
    contiguous along k, other strides are free; fast where its rows start at multiples of 16 bytes."""
    op = "matmul_w8a16"
    sizes = w8a16_sizes(x, weight, scale)
    words = weight.view(torch.int32) if _has_words(weight) else weight
    return _plan(op, x, words, scale, sizes, bits=8, config=config)


@Launcher
def matmul_w4a16(
    x: Tensor, packed: Tensor, scales: Tensor, *, config: QuantizedConfig | None = None
) -> Planned[Tensor]:
    """x: (m, k), packed: (n, k/8) int32, scales: (n, k/128). Returns x @ W^T: (m, n) in x's dtype;
    `kernels.reference.unpack_int4` says what W is. packed is contiguous along k, other strides are free."""
    op = "matmul_w4a16"
    sizes = w4a16_sizes(x, packed, scales)
    return _plan(op, x, packed, scales, sizes, bits=4, config=config)


def plan_quantized(
    x: Tensor, weight: Tensor, scale: Tensor, out: Tensor, *, bits: int, config: QuantizedConfig, target: Target
) -> tuple[Launch, ...]:
    """The launches that set out: (m, n) to the product of x: (m, k) and a weight (n, ...) of int32 words, or of int8
    where its rows are not whole words. With split-K partial sums go to an fp32 workspace and are then reduced."""
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
    """Whether a tuner need try a configuration: not where most of a tile would be padding, or far more rows wait."""
    rows = dims["m"]
    return min(rows, ROWS_64.block_m) <= config.block_m <= max(ROWS_16.block_m, 2 * rows)


def ahead_of_time(target: Target, dtype: str) -> tuple[Launch, ...]:
    """What the default configurations launch, each tile once for both widths, and the reduction."""
    launches: dict[object, Launch] = {}
    for bits in (8, 4):
        for m in _AHEAD_OF_TIME_ROWS:
            config = choose_config(m, *_AHEAD_OF_TIME_WEIGHT, bits=bits, target=target)
            product, *reduction = _plan_meta(m, dtype=dtype, bits=bits, config=config, target=target)
            launches.setdefault((bits, config), product)
            launches.update((launch.kernel, launch) for launch in reduction)
    return tuple(launches.values())


def every_configuration(target: Target, dtype: str) -> tuple[Launch, ...]:
    """What each configuration launches that this architecture can hold, for both widths."""
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
    """x: (m, k), weight: (n, k), packed into int32 or int8, scale: (n, k/128) for 4 BITS, (n,) for 8, out: (splits, m,
    n) row-major. Reads the weight m/BLOCK_M times, x n/BLOCK_N times, mostly from L2, and writes each out once: program
    (tile, s) sums the s-th part of the reduction."""
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

    # Where a tile starts can exceed 2**31 elements, so that is int64; offsets inside a tile are 32-bit.
    offs_m = tl.arange(0, BLOCK_M)
    offs_n = tl.arange(0, BLOCK_N)
    offs_word = tl.arange(0, 16)
    rows_left = m - tile_m * BLOCK_M
    columns_left = n - tile_n * BLOCK_N
    in_n = offs_n[:, None] < columns_left

    # x is read in the order in which lanes take it out of shared memory, 8 (int4) or 16 bytes at a time: pieces of 16
    # or 8 along k, those that are taken together of all rows behind each other, so that no two are in the same bank.
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
    # Written as a multiple of UNITS, so that the scales of a step are known to lie at a multiple of their size.
    scales_per_row = steps * UNITS if EVEN_K else units
    scale_base = scale_ptr + tile_n.to(tl.int64) * BLOCK_N * scales_per_row + first_step * UNITS
    scale_tile = offs_n[:, None] * scales_per_row + tl.arange(0, UNITS)[None, :]

    accumulator = tl.zeros((BLOCK_N, BLOCK_M), dtype=tl.float32)
    # With num_stages here, loads that feed no product, of scales, are pipelined too.
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
    """Pointers: (BLOCK_N, 16) to words, or to their lowest bytes; first_k: (1, 16). Returns the words, 0 outside."""
    if pointers.dtype.element_ty == tl.int32:
        return tl.load(pointers, mask=in_n if EVEN_K else in_n & (first_k < k_left), other=0)
    words = tl.zeros(pointers.shape, dtype=tl.int32)
    for byte in tl.static_range(4):
        loaded = tl.load(pointers + byte, mask=in_n & (first_k + byte < k_left), other=0)
        words |= (loaded.to(tl.int32) & 0xFF) << (8 * byte)
    return words


@triton.jit
def _lift(words, SHIFT: tl.constexpr, OFFSET: tl.constexpr, MASK: tl.constexpr, dtype: tl.constexpr):
    """words: (...), each half with a whole number times 2**SHIFT in the bits of MASK, at most 0xFF. Returns (..., 2):
    them less OFFSET, times 2**-6 (bf16) or 2**-9 (fp16), to where one multiplication reaches from the denormals."""
    LARGEST: tl.constexpr = 2.0**127 if dtype == tl.bfloat16 else 2.0**15
    UNIT: tl.constexpr = 2.0**-6 if dtype == tl.bfloat16 else 2.0**-9
    # Masked as halves, not as a word: LLVM puts the pair together again only where it can do so before the masking.
    halves = tl.join(words.to(tl.int16), (words >> 16).to(tl.int16)) & MASK
    pairs = halves.to(dtype, bitcast=True)
    factor = tl.full(pairs.shape, LARGEST / 2**SHIFT, dtype)
    return tl.fma(pairs, factor, tl.full(pairs.shape, -OFFSET * UNIT, dtype))


@triton.jit
def _unpack_int4(words, BLOCK_N: tl.constexpr, dtype: tl.constexpr):
    """words: (BLOCK_N, 16), of a group. Returns its weights: (BLOCK_N, 128), in the order of _arrange_for_int4.

    Nibble i of half h of word j is weight 64h + 16i + j. Bits of i are i1 i0, of j t (two), q1 and q0: in the layouts
    of products lanes differ in t and own the four words of q1 q0, which is one 16-byte load from shared memory.
    """
    upper = words >> 8
    even = _lift(tl.join(words, upper), 0, 8, 0xF, dtype)
    odd = _lift(tl.join(words, upper), 4, 8, 0xF0, dtype)
    weights = tl.join(even, odd).reshape(BLOCK_N, 4, 2, 2, 2, 2, 2)  # n t q1 q0 i1 h i0
    return weights.permute(0, 4, 6, 3, 1, 2, 5).reshape(BLOCK_N, 128)  # n i1 i0 q0 t q1 h


@triton.jit
def _arrange_for_int4(x, BLOCK_M: tl.constexpr, dtype: tl.constexpr):
    """x: (8 * BLOCK_M, 16), pieces of 16 along k of all rows behind each other. Returns (128, BLOCK_M).

    As int16, so that there is a bitcast between the change of shape and the product: on Hopper Triton moves a change of
    shape into shared memory, where it may not fit the blocks of WGMMA, and stops with "Illegal shared layout".
    """
    x = x.to(tl.int16, bitcast=True).reshape(2, 2, 2, BLOCK_M, 4, 2, 2)  # h i1 i0 m t q1 q0
    x = x.permute(3, 1, 2, 6, 4, 5, 0).reshape(BLOCK_M, 128)  # m i1 i0 q0 t q1 h
    return x.trans().to(dtype, bitcast=True)


@triton.jit
def _unpack_int8(words, BLOCK_N: tl.constexpr, dtype: tl.constexpr):
    """words: (BLOCK_N, 16). Returns their bytes: (BLOCK_N, 64), in the order of _arrange_for_int8.

    Byte b of half h of word j is weight 4j + 2h + b; bits of j are named as for int4.
    """
    words = words ^ -0x7F7F7F80  # 0x80 in each byte: two's complement becomes offset 128
    # A right shift by 8, as a multiplication: LLVM takes a word that it sees shifted apart into bytes before it pairs
    # them, at 0.5 instructions a weight.
    upper = tl.umulhi(words.to(tl.uint32, bitcast=True), tl.full(words.shape, 1 << 24, tl.uint32))
    even = _lift(words, 0, 128, 0xFF, dtype)
    odd = _lift(upper.to(tl.int32, bitcast=True), 0, 128, 0xFF, dtype)
    weights = tl.join(even, odd).reshape(BLOCK_N, 4, 2, 2, 2, 2)  # n t q1 q0 h b
    return weights.permute(0, 5, 3, 1, 2, 4).reshape(BLOCK_N, 64)  # n b q0 t q1 h


@triton.jit
def _arrange_for_int8(x, BLOCK_M: tl.constexpr, dtype: tl.constexpr):
    """x: (8 * BLOCK_M, 8), pieces of 8 along k: every other one of all rows, then the rest. Returns (64, BLOCK_M)."""
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
    """Check and choose."""
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
    """Whether rows of bytes are rows of whole 4-byte words."""
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
    """Whether Triton multiplies by the instruction of a warp group, which Hopper and datacenter Blackwell have."""
    fits = config.num_warps >= 4 and config.block_n >= 64 and config.block_m >= 16
    return fits and target.architecture // 10 in (9, 10)


def _tiles_for(m: int, bits: int, target: Target) -> tuple[QuantizedConfig, ...]:
    """Tiles to choose from: as low as m allows."""
    family = target.architecture // 10
    if m <= 8:  # a B200 brings an SM 57 int4 weights per clock: no instruction to spare
        return (ROWS_8_WIDE,) if bits == 4 and family == 10 else (ROWS_8, ROWS_8_WIDE)
    if m <= 16:
        small = ROWS_16_SMALL_SHARED if target.shared_bytes < 128 * 1024 else ROWS_16
        return (ROWS_16_BLACKWELL if family == 10 else small,)
    if m <= 32:
        return (ROWS_32,)
    if family in (9, 10):
        return (ROWS_64,) if m <= 64 else (ROWS_128,)
    return (ROWS_128,) if m > 64 and bits == 8 else (ROWS_64_HMMA,)


@lru_cache(maxsize=1024)
def _best_split(m: int, n: int, k: int, *, bits: int, config: QuantizedConfig, target: Target) -> tuple[float, int]:
    """Cost and parts of the split of the reduction that ends soonest."""
    steps = cdiv(k, config.block_k(bits))
    most = max(1, min(steps // _MIN_STEPS_PER_SPLIT, _MAX_SPLIT_K))
    return min(
        (_cost_bytes(m, n, k, split, bits=bits, config=config, target=target), split) for split in range(1, most + 1)
    )


def _cost_bytes(m: int, n: int, k: int, split: int, *, bits: int, config: QuantizedConfig, target: Target) -> float:
    """What the memory could have delivered in the time of this configuration with this split-K.

    Programs run in rounds of as many as the SMs hold; a round with few of them has too few bytes on their way or too
    few warps. x comes from L2 for each tile anew. A second launch reads what the first has written in fp32.
    """
    programs = tiles(m, n, config.block_m, config.block_n) * split
    slots = target.sm_count * max(1, target.shared_bytes // config.shared_bytes(bits))
    full_rounds, rest = divmod(programs, slots)
    rounds = full_rounds * slots / _rate(slots / target.sm_count, config)
    if rest:
        rounds += rest / _rate(rest / target.sm_count, config)
    x_bytes_per_weight_byte = min(m, config.block_m) * 16 / (bits * config.block_n)
    slow_l2 = max(1.0, (1 + x_bytes_per_weight_byte) / _L2_OVER_MEMORY)
    weight_bytes = n * k * bits / 8 * cdiv(m, config.block_m)
    reduction_bytes = _REDUCTION_BYTES + 2 * split * m * n * 4 if split > 1 else 0.0
    return weight_bytes * slow_l2 * rounds / programs + reduction_bytes


def _rate(programs_per_sm: float, config: QuantizedConfig) -> float:
    """Share of the memory's rate that so many programs reach."""
    bytes_on_their_way = (config.num_stages - 1.5) * config.block_n * config.row_bytes  # one step is half computed
    return min(
        1.0,
        programs_per_sm * bytes_on_their_way / _BYTES_ON_THEIR_WAY,
        programs_per_sm * config.num_warps / _BUSY_WARPS,
    )
