"""Attention over a cache in Triton, for one query per sequence or a few. Programs take parts, and a second launch
merges.

The cache has the queries' format or fp8, in one piece or in pages. `kernels.triton.attention.mla` splits and merges by
the same functions. Functions raise ValueError for other shapes, and Unsupported for dtypes, strides, head dimensions,
row counts and devices that the kernel does not take.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

import torch
from torch import Tensor

from kernels.constants import ARCHITECTURES, ATTENTION_DTYPES, NOT_ATTENTION_DTYPES
from kernels.precision import TORCH_DTYPES, dtype_name
from kernels.shapes import (
    AttentionSizes,
    check_dtype,
    chunk_sizes,
    decode_sizes,
    fp8_cache_sizes,
    paged_sizes,
)
from kernels.triton.attention.decode_tiles import attention_decode_kernel, attention_merge_kernel
from kernels.triton.launcher import Launcher, Planned
from kernels.triton.plan import (
    WIDE_PRODUCT_ROWS,
    Launch,
    Target,
    check_tile_strides,
    find_target,
    next_power_of_2,
    product_opcodes,
    reads_operands_in_place,
    strides_of,
)
from kernels.unsupported import Unsupported

SUPPORTED_DTYPES = ATTENTION_DTYPES
UNSUPPORTED_DTYPES: Mapping[str, str] = MappingProxyType(
    {**NOT_ATTENTION_DTYPES, "fp8": "attention_decode_fp8 reads an fp8 cache, for queries of 16 bits"}
)
SUPPORTED_ARCHITECTURES = ARCHITECTURES
SUPPORTED_HEAD_DIMS = (64, 128, 256)
MAX_QUERIES = 16  # of a sequence; for more, prefill's kernel is faster and reads no more
MAX_SPLITS = 256  # the merge holds all parts of a row at once
PAGES = (16, 32, 64, 128, 256)


@dataclass(frozen=True, slots=True)
class DecodeConfig:
    """Blocks of block_n keys pass the rows (heads of a group times queries); num_stages - 1 blocks are in flight."""

    block_n: int
    num_warps: int
    num_stages: int

    @property
    def name(self) -> str:
        """As in records: 64-w4-s3."""
        return f"{self.block_n}-w{self.num_warps}-s{self.num_stages}"


# Up to 32 rows: keys and values of a block are 32 KiB in 16 bits at every head dimension, half of that in fp8 or with
# 99 KiB of shared memory. Two blocks are in flight, in two to four programs per SM.
BLOCK_128 = DecodeConfig(128, 4, 3)
BLOCK_64 = DecodeConfig(64, 4, 3)
BLOCK_32 = DecodeConfig(32, 4, 3)
BLOCK_32_SMALL_SHARED = DecodeConfig(32, 4, 2)  # 99 KiB hold two programs with one block of head_dim 256
# Four warps share 64 rows, eight share 128; more would compute scores twice.
ROWS_64_AMPERE = DecodeConfig(64, 4, 2)
ROWS_128 = DecodeConfig(64, 8, 3)
ROWS_128_SMALL_SHARED = DecodeConfig(32, 8, 3)
ROWS_64_FP8 = DecodeConfig(64, 8, 2)
# At head_dim 256, 64 rows need eight warps for their registers.
ROWS_64_WIDE = DecodeConfig(32, 8, 4)
ROWS_64_WIDE_SMALL_SHARED = DecodeConfig(32, 8, 2)
VECTOR = DecodeConfig(16, 8, 3)  # IEEE fp32: no tensor core takes it

CONFIGS = (
    BLOCK_128,
    BLOCK_64,
    BLOCK_32,
    BLOCK_32_SMALL_SHARED,
    ROWS_64_AMPERE,
    ROWS_128,
    ROWS_128_SMALL_SHARED,
    ROWS_64_FP8,
    ROWS_64_WIDE,
    ROWS_64_WIDE_SMALL_SHARED,
    VECTOR,
    DecodeConfig(64, 4, 4),
    DecodeConfig(128, 4, 2),
)

_MIN_ROWS = 16  # of a tensor-core product
_MAX_ROWS = 128
# Sums that fit in registers beside what a step needs, by format of the cache: fp8 is converted in registers, and fp32
# uses no tensor cores.
_MAX_SUMS: Mapping[str, int] = MappingProxyType(
    {"bf16": 128 * 128, "fp16": 128 * 128, "fp8": 64 * 128, "fp32": 32 * 128}
)
_MAX_VECTOR_KEYS = 32
_REGISTERS = 65536  # of an SM
_REGISTERS_BESIDE_SUMS = 104  # of a thread, about; fewer where products read an operand in place
_REGISTERS_BESIDE_SUMS_IN_PLACE = 96
# Share of the programs that all SMs hold which keeps DRAM busy: with 32 rows, 1.3 us per block of 32 KiB.
_BUSY_SHARE = 0.75
_RESERVED_SHARED_BYTES = 1024  # of each program
_MERGE_BYTES = 8e6  # DRAM delivers them in the time of a second launch: 2 us at 4 TB/s
_MERGE_TILE = 4096  # numbers that a program of the merge holds
_MERGE_TILE_PER_WARP = 1024
_MERGE_MIN_WIDTH = 32  # numbers of a row: 128 bytes
_FP8_CONVERSION_ARCHITECTURE = 89  # the first with instructions for e4m3
_FP8_PER_WORD = 4


@dataclass(frozen=True, slots=True, eq=False)
class Cache:
    """k, v: (batch, kv_heads, context, head_dim); with table (batch, most) and lengths (batch,): (pages, kv_heads,
    page, head_dim). With scales (kv_heads,) they are fp8, or words of four fp8 numbers."""

    k: Tensor
    v: Tensor
    scales: tuple[Tensor, Tensor] | None = None
    table: Tensor | None = None
    lengths: Tensor | None = None

    @property
    def capacity(self) -> int:
        """Most keys of a sequence."""
        return self.k.shape[2] * (1 if self.table is None else self.table.shape[1])

    @property
    def kind(self) -> str:
        """The cache in the name of a launch: " page 16"; empty for a plain cache."""
        if self.table is not None:
            return f" page {self.k.shape[2]}"
        if self.scales is not None:
            return " fp8" if self.k.dtype == torch.float8_e4m3fn else " fp8 in words"
        return ""


@dataclass(frozen=True, slots=True)
class Tile:
    """A program streams block_bytes per step; `resident` programs share an SM."""

    block_bytes: int
    resident: int


def choose_config(*, rows: int, head_dim: int, dtype: str, target: Target) -> DecodeConfig:
    """The configuration for a number of rows; `dtype` is the cache's. As many bytes in flight as shared memory holds
    for two or three programs per SM."""
    if dtype == "fp32":
        return VECTOR
    if rows >= WIDE_PRODUCT_ROWS:
        return _choose_many_rows(rows, head_dim, dtype, target)
    large = target.has_large_shared
    if head_dim == 256:
        return BLOCK_32 if large or dtype == "fp8" else BLOCK_32_SMALL_SHARED
    if head_dim == 128:
        return BLOCK_64 if large else BLOCK_32
    return BLOCK_128 if large else BLOCK_64


def _choose_many_rows(rows: int, head_dim: int, dtype: str, target: Target) -> DecodeConfig:
    large = target.has_large_shared
    if dtype == "fp8":
        return ROWS_64_FP8
    if head_dim == 256:
        return ROWS_64_WIDE if large else ROWS_64_WIDE_SMALL_SHARED
    if rows > WIDE_PRODUCT_ROWS:
        return ROWS_128 if large else ROWS_128_SMALL_SHARED
    if not large:
        return BLOCK_32_SMALL_SHARED
    return BLOCK_64 if target.family in (9, 10) else ROWS_64_AMPERE


def why_not(config: DecodeConfig, *, rows: int, head_dim: int, dtype: str, target: Target) -> str | None:
    """Why a configuration cannot serve these rows and this format of the cache, or None where it can."""
    if dtype == "fp32" and config.block_n > _MAX_VECTOR_KEYS:
        return f"IEEE fp32 is computed without tensor cores, in blocks of at most {_MAX_VECTOR_KEYS} keys"
    needed = _shared_bytes(config, rows, head_dim, dtype, target)
    if needed > target.shared_bytes:
        return f"its blocks need {needed} bytes of shared memory, of which there are {target.shared_bytes}"
    return None


@Launcher
def attention_decode(
    q: Tensor, k: Tensor, v: Tensor, *, splits: int | None = None, config: DecodeConfig | None = None
) -> Planned[Tensor]:
    """q: (batch, heads, head_dim), k, v: (batch, kv_heads, context, head_dim); head_dim 64, 128 or 256 and of stride 1,
    other strides are free. Scale 1/sqrt(head_dim). `splits` defaults to what fills the device. Returns q's shape,
    contiguous."""
    sizes = decode_sizes(q, k, v)
    return _plan("attention_decode", q, Cache(k, v), sizes, splits=splits, config=config)


@Launcher
def attention_verify(q: Tensor, k: Tensor, v: Tensor, *, config: DecodeConfig | None = None) -> Planned[Tensor]:
    """q: (batch, heads, queries, head_dim), the last 1 to 16 tokens of k, v: (batch, kv_heads, context, head_dim), and
    causal; queries * heads / kv_heads at most 128, 64 at head_dim 256. Returns q's shape, contiguous."""
    sizes = chunk_sizes("attention_verify", q, k, v)
    return _plan("attention_verify", q, Cache(k, v), sizes, config=config)


@Launcher
def attention_decode_fp8(
    q: Tensor, k: Tensor, v: Tensor, k_scale: Tensor, v_scale: Tensor, *, config: DecodeConfig | None = None
) -> Planned[Tensor]:
    """q: (batch, heads, head_dim) bf16 or fp16, k, v: (batch, kv_heads, context, head_dim) fp8 e4m3, scales:
    (kv_heads,) fp32. attention_decode over k * k_scale and v * v_scale. Returns q's shape, contiguous."""
    op = "attention_decode_fp8"
    sizes = fp8_cache_sizes(q, k, v, k_scale, v_scale)
    check_dtype(op, q.dtype, ("bf16", "fp16"))
    return _plan(op, q, Cache(k, v, scales=(k_scale, v_scale)), sizes, config=config)


@Launcher
def attention_paged(
    q: Tensor, k: Tensor, v: Tensor, table: Tensor, lengths: Tensor, *, config: DecodeConfig | None = None
) -> Planned[Tensor]:
    """q: (batch, heads, head_dim), k, v: (pages, kv_heads, page, head_dim), page a power of two from 16 to 256; table:
    (batch, most), lengths: (batch,), int32, contiguous. attention_decode over the first `lengths` tokens of each
    sequence's pages, zeros for none. Reads no entry of the table beyond them. Returns q's shape, contiguous."""
    op = "attention_paged"
    sizes = paged_sizes(q, k, v, table, lengths)
    if k.shape[2] not in PAGES:
        raise Unsupported(f"{op} does not support page={k.shape[2]}; supported: {', '.join(map(str, PAGES))}")
    if table.stride(1) != 1 or not lengths.is_contiguous():
        raise Unsupported(f"{op}: rows of the table and lengths must be contiguous")
    return _plan(op, q, Cache(k, v, table=table, lengths=lengths), sizes, config=config)


def plan_decode(q: Tensor, cache: Cache, out: Tensor, *, splits: int, config: DecodeConfig) -> tuple[Launch, ...]:
    """The launches that set out to the attention of q: (batch, heads, queries, head_dim), the last tokens of each
    sequence, over the cache: one for all of it, or one for the splits and one that merges them."""
    batch, heads, queries, head_dim = q.shape
    kv_heads = cache.k.shape[1]
    group = heads // kv_heads
    rows = _padded(group * queries)
    k_scale, v_scale = cache.scales or (None, None)
    attended, merge = plan_split(out, cache.capacity, cache.lengths, splits=splits)
    attend = Launch(
        kernel=attention_decode_kernel,
        grid=(batch * kv_heads, splits),
        arguments={
            "q_ptr": q,
            "k_ptr": cache.k,
            "v_ptr": cache.v,
            "k_scale_ptr": k_scale,
            "v_scale_ptr": v_scale,
            "table_ptr": cache.table,
            "lengths_ptr": cache.lengths,
            **attended,
            **strides_of("bhs", q=q, k=cache.k, v=cache.v),
            "stride_tb": 0 if cache.table is None else cache.table.stride(0),
            "kv_heads": kv_heads,
            "capacity": cache.capacity,
            "scale_log2": math.log2(math.e) / math.sqrt(head_dim),
        },
        constants={
            "QUERIES": queries,
            "GROUP": group,
            "HEAD_DIM": head_dim,
            "ROWS": rows,
            "BLOCK_N": config.block_n,
            "PAGE": 0 if cache.table is None else cache.k.shape[2],
        },
        num_warps=config.num_warps,
        num_stages=config.num_stages,
        config=f"{config.name} head_dim {head_dim} rows {rows}{cache.kind}{'' if splits == 1 else ' split'}",
        opcodes=product_opcodes(dtype_name(q.dtype), rows),
    )
    return (attend, *merge)


def plan_split(
    out: Tensor, capacity: int, lengths: Tensor | None, *, splits: int
) -> tuple[dict[str, Tensor | None], tuple[Launch, ...]]:
    """The tensors that a kernel writes when it attends in `splits` parts, and the launch that merges the parts into
    out: (batch, ..., width), contiguous. A single part goes to out itself and needs no launch."""
    if splits == 1:
        return {"out_ptr": out, "max_ptr": None, "sum_ptr": None}, ()
    width = out.shape[-1]
    rows = out.numel() // width
    parts = torch.empty(rows, splits, width, dtype=torch.float32, device=out.device)
    maxima, sums = (torch.empty(rows, splits, dtype=torch.float32, device=out.device) for _ in range(2))
    block_s = next_power_of_2(splits)
    block_d = min(width, max(_MERGE_MIN_WIDTH, _MERGE_TILE // block_s))
    merge = Launch(
        kernel=attention_merge_kernel,
        grid=(rows, width // block_d),
        arguments={
            "parts_ptr": parts,
            "max_ptr": maxima,
            "sum_ptr": sums,
            "lengths_ptr": lengths,
            "out_ptr": out,
            "capacity": capacity,
            "splits": splits,
            "rows_per_sequence": rows // out.shape[0],
        },
        constants={"WIDTH": width, "BLOCK_S": block_s, "BLOCK_D": block_d},
        num_warps=min(8, max(1, block_s * block_d // _MERGE_TILE_PER_WARP)),
        config=f"{block_s}x{block_d} of {width}{'' if lengths is None else ' lengths'}",
    )
    return {"out_ptr": parts, "max_ptr": maxima, "sum_ptr": sums}, (merge,)


@lru_cache(maxsize=4096)
def choose_splits(programs: int, blocks: int, *, part_bytes: int, tile: Tile, sm_count: int) -> int:
    """The number of parts of each cache of `blocks` blocks with which all end soonest; the unit of cost is a step of
    all resident programs.

    One part each makes `programs` programs. They run in rounds of as many as the SMs hold. A last round of fewer ends
    sooner, as long as enough of them keep DRAM busy; where one program fills an SM, all are needed. Each waits a step
    for its first keys. Several parts are written and read, `part_bytes` each, and merged by a second launch.
    """
    slots = tile.resident * sm_count
    fewest = _BUSY_SHARE * slots if tile.resident > 1 else slots

    def cost(splits: int) -> float:
        rounds, rest = divmod(programs * splits, slots)
        last = max(rest, fewest) / slots if rest else 0.0
        merge = (_MERGE_BYTES + 2 * splits * part_bytes) / (slots * tile.block_bytes) if splits > 1 else 0.0
        return (rounds + last) * (math.ceil(blocks / splits) + 1) + merge

    best = min(range(1, min(blocks, MAX_SPLITS) + 1), key=cost)
    return _without_empty(best, blocks)


def resident_programs(*, shared_bytes: int, sums: int, num_warps: int, in_place: bool, target: Target) -> int:
    """Programs that share an SM, by shared memory and by registers, which hold the sums. `in_place`: products read an
    operand in shared memory."""
    by_shared = (target.shared_bytes + _RESERVED_SHARED_BYTES) // (shared_bytes + _RESERVED_SHARED_BYTES)
    threads = 32 * num_warps
    beside = _REGISTERS_BESIDE_SUMS_IN_PLACE if in_place else _REGISTERS_BESIDE_SUMS
    by_registers = _REGISTERS // (threads * (beside + sums // threads))
    return max(1, min(by_shared, by_registers))


def check_cache(op: str, sizes: AttentionSizes, cache: Cache, dtype: torch.dtype) -> None:
    """Raise Unsupported for what the kernel cannot hold in one block of rows, or cannot address. `dtype` is the
    queries'."""
    check_dtype(op, dtype, SUPPORTED_DTYPES)
    if sizes.head_dim not in SUPPORTED_HEAD_DIMS:
        supported = ", ".join(map(str, SUPPORTED_HEAD_DIMS))
        raise Unsupported(f"{op} does not support head_dim={sizes.head_dim}; supported: {supported}")
    _check_unit_strides(op, cache.k, cache.v)
    check_tile_strides(op, cache.k.stride(2), cache.v.stride(2))
    if sizes.queries > MAX_QUERIES:
        raise Unsupported(f"{op}: {sizes.queries} queries are not supported; supported: 1 to {MAX_QUERIES}")
    held = _cache_dtype(dtype, cache)
    rows, most = sizes.queries * sizes.group, min(_MAX_ROWS, _MAX_SUMS[held] // sizes.head_dim)
    if rows > most:
        raise Unsupported(
            f"{op}: {sizes.queries} queries of {sizes.group} heads for each K/V head are {rows} rows; supported in"
            f" {held} at head_dim={sizes.head_dim}: to {most}"
        )


def ahead_of_time(target: Target, dtype: str) -> tuple[Launch, ...]:
    """Launches of the default configurations: each head dimension and kind of cache, few rows and many, whole and in
    few or many splits."""
    launches: dict[object, Launch] = {}
    for group, queries, head_dim, page, splits in _AHEAD_OF_TIME:
        if group * queries * head_dim <= _MAX_SUMS[dtype]:
            cache = _meta_cache(dtype, head_dim, page=page)
            for launch in _plan_meta(cache, dtype, group, queries, splits=splits, target=target):
                launches[launch.kernel, launch.config] = launch
    if dtype != "fp32":
        for head_dim in _AHEAD_OF_TIME_FP8:
            cache = _meta_cache("fp8", head_dim, words=target.architecture < _FP8_CONVERSION_ARCHITECTURE)
            (attend,) = _plan_meta(cache, dtype, 4, 1, splits=1, target=target)
            launches[attend.kernel, attend.config] = attend
    return tuple(launches.values())


def every_configuration(target: Target, dtype: str) -> tuple[Launch, ...]:
    """Launches of each configuration that fits this architecture, for one query."""
    cache = _meta_cache(dtype, 128)
    return tuple(
        _plan_meta(cache, dtype, 4, 1, splits=8, target=target, config=config)[0]
        for config in CONFIGS
        if why_not(config, rows=_MIN_ROWS, head_dim=128, dtype=dtype, target=target) is None
    )


# Heads of a group, queries, head dimension, page (0: in one piece) and splits.
_AHEAD_OF_TIME = (
    (4, 1, 64, 0, 1),
    (4, 1, 128, 0, 1),
    (4, 1, 256, 0, MAX_SPLITS),
    (4, 8, 128, 0, 8),
    (8, 8, 128, 0, 8),
    (8, 16, 128, 0, 8),
    (4, 1, 128, 16, 1),
    (4, 1, 128, 64, 8),
)
_AHEAD_OF_TIME_FP8 = (128, 256)


def _plan(
    op: str,
    q: Tensor,
    cache: Cache,
    sizes: AttentionSizes,
    *,
    splits: int | None = None,
    config: DecodeConfig | None = None,
) -> Planned[Tensor]:
    """The attention by `config`, or by what suits the shape; q: (batch, heads, head_dim) or (batch, heads, queries,
    head_dim). Raises Unsupported where that is impossible."""
    check_cache(op, sizes, cache, q.dtype)
    _check_unit_strides(op, q)
    target = find_target(op, attention_decode_kernel, q)
    if cache.scales is not None and target.architecture < _FP8_CONVERSION_ARCHITECTURE:
        k, v = (_as_words(op, each) for each in (cache.k, cache.v))
        cache = Cache(k, v, scales=cache.scales)
    rows = _padded(sizes.group * sizes.queries)
    dtype = _cache_dtype(q.dtype, cache)
    if config is None:
        config = choose_config(rows=rows, head_dim=sizes.head_dim, dtype=dtype, target=target)
    elif reason := why_not(config, rows=rows, head_dim=sizes.head_dim, dtype=dtype, target=target):
        raise Unsupported(f"{op}: {config.name} is not supported: {reason}")
    if splits is None:
        splits = _splits_of(sizes, config, dtype, target)
    elif not 1 <= splits <= MAX_SPLITS:
        raise Unsupported(f"{op}: splits={splits} is not supported; supported: 1 to {MAX_SPLITS}")
    else:
        splits = _without_empty(splits, _blocks(sizes.keys, config))
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    q_rows, out_rows = (each if each.dim() == 4 else each.unsqueeze(2) for each in (q, out))
    return Planned(out, plan_decode(q_rows, cache, out_rows, splits=splits, config=config))


def _check_unit_strides(op: str, *tensors: Tensor) -> None:
    for tensor in tensors:
        if tensor.stride(-1) != 1:
            raise Unsupported(f"{op}: head_dim must have stride 1, not {tensor.stride(-1)}")


def _blocks(keys: int, config: DecodeConfig) -> int:
    """Steps through all keys; one where there are none, as with a table without columns."""
    return max(1, math.ceil(keys / config.block_n))


def _without_empty(splits: int, blocks: int) -> int:
    """The fewest splits with parts of this size."""
    return math.ceil(blocks / math.ceil(blocks / splits))


def _padded(rows: int) -> int:
    return max(_MIN_ROWS, next_power_of_2(rows))


def _as_words(op: str, cache: Tensor) -> Tensor:
    """A view as words of four fp8 numbers, for architectures that cannot convert one."""
    if any(number % _FP8_PER_WORD for number in (cache.storage_offset(), *cache.stride()[:-1])):
        raise Unsupported(f"{op}: before sm89 rows of k and v must begin at multiples of {_FP8_PER_WORD} bytes")
    return cache.view(torch.int32)


def _cache_dtype(dtype: torch.dtype, cache: Cache) -> str:
    return dtype_name(dtype) if cache.scales is None else "fp8"


def _shared_bytes(config: DecodeConfig, rows: int, head_dim: int, dtype: str, target: Target) -> int:
    """Shared memory of a program: blocks in flight, queries and weights, and the conversion of fp8."""
    operand_bytes = 4 if dtype == "fp32" else 2
    blocks = max(1, config.num_stages - 1) * _block_bytes(config, head_dim, dtype)
    operands = rows * (head_dim + config.block_n) * operand_bytes
    if dtype == "fp8":
        return blocks + operands + config.block_n * head_dim * operand_bytes
    if reads_operands_in_place(rows, dtype, target.architecture):
        # The block that is read comes on top of those in flight, and the weights come from registers.
        return config.num_stages * _block_bytes(config, head_dim, dtype) + rows * head_dim * operand_bytes
    return blocks + operands


def _block_bytes(config: DecodeConfig, head_dim: int, dtype: str) -> int:
    return 2 * config.block_n * head_dim * TORCH_DTYPES[dtype].itemsize


def _splits_of(sizes: AttentionSizes, config: DecodeConfig, dtype: str, target: Target) -> int:
    rows = _padded(sizes.group * sizes.queries)
    shared_bytes = _shared_bytes(config, rows, sizes.head_dim, dtype, target)
    resident = resident_programs(
        shared_bytes=shared_bytes,
        sums=rows * sizes.head_dim,
        num_warps=config.num_warps,
        in_place=reads_operands_in_place(rows, dtype, target.architecture),
        target=target,
    )
    return choose_splits(
        sizes.batch * sizes.kv_heads,
        _blocks(sizes.keys, config),
        part_bytes=sizes.batch * sizes.heads * sizes.queries * sizes.head_dim * 4,
        tile=Tile(_block_bytes(config, sizes.head_dim, dtype), resident),
        sm_count=target.sm_count,
    )


def _meta_cache(dtype: str, head_dim: int, *, page: int = 0, words: bool = False) -> Cache:
    """Four sequences of 4096 keys and eight heads, without memory."""
    shape = (4, 8, 4096, head_dim) if not page else (4 * 4096 // page, 8, page, head_dim)
    k = torch.empty(shape, dtype=TORCH_DTYPES[dtype], device="meta")
    k = k.view(torch.int32) if words else k
    scale = torch.empty(8, device="meta")
    if not page:
        return Cache(k, k, scales=(scale, scale) if dtype == "fp8" else None)
    table = torch.empty(4, 4096 // page, dtype=torch.int32, device="meta")
    return Cache(k, k, table=table, lengths=torch.empty(4, dtype=torch.int32, device="meta"))


def _plan_meta(
    cache: Cache,
    dtype: str,
    group: int,
    queries: int,
    *,
    splits: int,
    target: Target,
    config: DecodeConfig | None = None,
) -> tuple[Launch, ...]:
    numbers_per_element = _FP8_PER_WORD if cache.k.dtype == torch.int32 else 1
    head_dim = cache.k.shape[3] * numbers_per_element
    q = torch.empty(4, 8 * group, queries, head_dim, dtype=TORCH_DTYPES[dtype], device="meta")
    config = config or choose_config(
        rows=_padded(group * queries), head_dim=head_dim, dtype=_cache_dtype(q.dtype, cache), target=target
    )
    return plan_decode(q, cache, q, splits=splits, config=config)
