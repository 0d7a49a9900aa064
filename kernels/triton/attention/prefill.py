"""Attention of many queries in Triton (FlashAttention's forward pass): the tile for an op, and its launches.

Functions raise ValueError for other shapes, and Unsupported for dtypes, strides, head dimensions and devices that the
kernel does not take.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from kernels.constants import ARCHITECTURES, ATTENTION_DTYPES, NOT_ATTENTION_DTYPES
from kernels.precision import TORCH_DTYPES, dtype_name
from kernels.shapes import AttentionSizes, check_dtype, chunk_sizes, packed_sizes, prefill_sizes
from kernels.triton.attention.decode import MAX_QUERIES, attention_verify
from kernels.triton.attention.prefill_tiles import attention_kernel, merge_parts_kernel
from kernels.triton.launcher import Launcher, Planned
from kernels.triton.plan import (
    Descriptor,
    Launch,
    Target,
    cdiv,
    check_tile_strides,
    find_target,
    is_describable,
    product_opcodes,
    strides_of,
)
from kernels.unsupported import Unsupported

SUPPORTED_DTYPES = ATTENTION_DTYPES
UNSUPPORTED_DTYPES = NOT_ATTENTION_DTYPES
SUPPORTED_ARCHITECTURES = ARCHITECTURES
SUPPORTED_HEAD_DIMS = (64, 128)  # of generation and blocks
PREFILL_HEAD_DIMS = (64, 128, 256)
SECTION_BYTES = 24e6  # of heads that run together: half the L2 of an A100 (40 MB) or an H100 (50 MB)

Operands = Literal["pointers", "descriptors", "own_descriptors"]
Order = Literal["loops", "one_loop", "overlapped"]
Mask = Literal["causal", "full", "window"]


@dataclass(frozen=True, slots=True)
class AttentionConfig:
    """block_m queries stay on chip while blocks of block_n keys pass.

    `operands`: keys and values come by pointers, by the host's descriptors, or by descriptors that each program makes.
    `order`: blocks at the edges of the mask have their own loops, or one loop branches for them; overlapped, that loop
    multiplies the values of a block while it takes the exponentials of the next. Specialized warps load, multiply, or
    take exponentials.
    """

    block_m: int
    block_n: int
    num_warps: int
    num_stages: int
    operands: Operands = "pointers"
    order: Order = "loops"
    warp_specialize: bool = False

    @property
    def name(self) -> str:
        """As in records: 128x128-w8-s3-descriptors-overlapped."""
        parts = [
            f"{self.block_m}x{self.block_n}",
            f"w{self.num_warps}",
            f"s{self.num_stages}",
            *([] if self.operands == "pointers" else [self.operands]),
            *([] if self.order == "loops" else [self.order]),
            *(["specialized"] if self.warp_specialize else []),
        ]
        return "-".join(parts)


@dataclass(frozen=True, slots=True)
class Variant:
    """Which keys a query meets: those that `mask` shows, the last `window` of them, and with `offsets` (varlen) those
    of its own sequence. `pack` heads of a group are rows of one block. A program takes keys_per_part keys, or all where
    that is None."""

    mask: Mask = "causal"
    window: int = 0
    offsets: Tensor | None = None
    pack: int = 1
    keys_per_part: int | None = None

    @property
    def label(self) -> str:
        """What distinguishes compiled kernels: causal varlen."""
        parts = [
            self.mask,
            *([] if self.offsets is None else ["varlen"]),
            *([] if self.pack == 1 else [f"heads{self.pack}"]),
            *([] if self.keys_per_part is None else ["parts"]),
        ]
        return " ".join(parts)


CAUSAL = Variant()

# Hopper: at head_dim 64 two programs of eight warps share an SM, and one takes exponentials while the other multiplies.
# At 128, sums, scores and weights of 128 rows fill the registers, so one program overlaps its own. At 256 no registers
# are left for that.
HOPPER_64 = AttentionConfig(128, 64, 8, 3, "descriptors", "one_loop")
HOPPER_128 = AttentionConfig(128, 128, 8, 3, "descriptors", "overlapped")
HOPPER_256 = AttentionConfig(128, 64, 8, 2, "descriptors", "one_loop")
HOPPER_SPECIALIZED = AttentionConfig(128, 128, 4, 2, "own_descriptors", warp_specialize=True)
# Blackwell has its sums in tensor memory, and its warps can specialize with the host's descriptors.
BLACKWELL_64 = AttentionConfig(128, 128, 8, 3, "descriptors", "one_loop", warp_specialize=True)
BLACKWELL_128 = AttentionConfig(128, 128, 8, 2, "descriptors", "one_loop", warp_specialize=True)
# Ampere and Ada have queries, weights and sums in registers.
AMPERE_64 = AttentionConfig(128, 64, 4, 3)
AMPERE_128 = AttentionConfig(128, 64, 8, 3)
AMPERE_256 = AttentionConfig(64, 64, 8, 2)
ADA_128 = AttentionConfig(128, 32, 8, 3)  # 99 KiB of shared memory
ADA_256 = AttentionConfig(64, 32, 8, 2)
POINTERS_256 = AttentionConfig(128, 32, 8, 2)  # Hopper and Blackwell, for strides that no descriptor takes
# sm120 multiplies as Ampere does and has as much shared memory as Ada.
SMALL_SHARED_64 = AttentionConfig(128, 64, 4, 2, "descriptors")
SMALL_SHARED_128 = AttentionConfig(128, 64, 8, 2, "descriptors")
SMALL_SHARED_256 = AttentionConfig(64, 32, 8, 2, "descriptors")
VECTOR = AttentionConfig(64, 16, 8, 2)  # IEEE fp32: no tensor core takes it
VECTOR_VARLEN = replace(VECTOR, order="one_loop")  # two loops spill
VECTOR_256 = AttentionConfig(32, 16, 8, 2)

CONFIGS = (
    HOPPER_64,
    HOPPER_128,
    HOPPER_256,
    replace(HOPPER_64, order="loops"),
    replace(HOPPER_256, order="loops"),
    AttentionConfig(128, 128, 8, 2, "descriptors", "overlapped"),
    AttentionConfig(128, 128, 8, 3, "descriptors", "one_loop"),
    AttentionConfig(128, 64, 8, 3, "descriptors", "overlapped"),
    AttentionConfig(64, 128, 4, 2, "descriptors", "overlapped"),
    HOPPER_SPECIALIZED,
    AttentionConfig(128, 64, 4, 3, "own_descriptors", warp_specialize=True),
    BLACKWELL_64,
    BLACKWELL_128,
    replace(BLACKWELL_64, operands="own_descriptors"),
    replace(BLACKWELL_128, operands="own_descriptors"),
    AMPERE_64,
    AMPERE_128,
    AMPERE_256,
    ADA_128,
    ADA_256,
    POINTERS_256,
    SMALL_SHARED_64,
    SMALL_SHARED_256,
    VECTOR,
    VECTOR_VARLEN,
    VECTOR_256,
)

_AMPERE = {64: AMPERE_64, 128: AMPERE_128, 256: AMPERE_256}
_ADA = {64: AMPERE_128, 128: ADA_128, 256: ADA_256}
_HOPPER = {64: HOPPER_64, 128: HOPPER_128, 256: HOPPER_256}
_POINTERS = {64: AMPERE_128, 128: AMPERE_128, 256: POINTERS_256}
_BLACKWELL = {64: BLACKWELL_64, 128: BLACKWELL_128, 256: HOPPER_256}
_SMALL_SHARED = {64: SMALL_SHARED_64, 128: SMALL_SHARED_128, 256: SMALL_SHARED_256}

_MOST_VECTOR_SCORES = 64 * 64
_PROGRAMS_PER_SM = 2
_MAX_PARTS = 64
_MIN_KEYS_PER_PART = 256
_MERGE_ROWS = 16
_MOST_VERIFIED = 64 * 128  # numbers of a group's queries
_MOST_VERIFIED_VECTOR = 32 * 128
_AHEAD_OF_TIME_SEQ = 4096


def choose_config(
    *, head_dim: int, dtype: str, target: Target, variant: Variant = CAUSAL, describable: bool = True
) -> AttentionConfig:
    """The configuration for a head dimension. `describable`: the strides of k and v allow descriptors."""
    family, varlen = target.family, variant.offsets is not None
    if dtype == "fp32" and head_dim != 256:
        return VECTOR_VARLEN if varlen else VECTOR
    if dtype == "fp32":
        return VECTOR_256
    if family == 8:
        return (_AMPERE if target.has_large_shared else _ADA)[head_dim]
    if family == 12:
        return (_SMALL_SHARED if describable else _ADA)[head_dim]
    if not describable or (family == 9 and varlen and head_dim == 256):
        return _POINTERS[head_dim]  # varlen masks values in registers, where 256 columns leave no room
    chosen, in_parts = (_HOPPER if family == 9 else _BLACKWELL)[head_dim], variant.keys_per_part is not None
    if family != 9 and (variant.mask == "window" or in_parts):
        return HOPPER_256 if head_dim == 256 else HOPPER_64  # a loop that begins anywhere spills where warps specialize
    if chosen.order == "overlapped" and (in_parts or variant.pack > 1):
        return replace(chosen, order="one_loop")  # no register is left for the start of a part, or for heads in rows
    if varlen and chosen.order == "one_loop":
        return replace(chosen, operands="own_descriptors") if chosen.warp_specialize else replace(chosen, order="loops")
    return chosen


def why_not(config: AttentionConfig, dtype: str, target: Target, variant: Variant = CAUSAL) -> str | None:
    """Why this configuration cannot serve a format on an architecture, or None where it can."""
    family = target.family
    if dtype == "fp32" and (config.operands != "pointers" or config.block_m * config.block_n > _MOST_VECTOR_SCORES):
        return "IEEE fp32 is computed without tensor cores, by pointers and in blocks of at most 64 x 64"
    if config.operands != "pointers" and family < 9:
        return f"sm{target.architecture} has no hardware for descriptors"
    if config.operands == "own_descriptors" and variant.pack > 1:
        return "rows of several heads need queries by pointers"
    if config.order == "overlapped" and (family != 9 or config.operands == "pointers"):
        return "only sm90 overlaps products with exponentials, of blocks that come by descriptors"
    if not config.warp_specialize:
        shared = variant.offsets is not None and config.operands == "descriptors"
        return "varlen by the host's descriptors needs loops" if shared and config.order == "one_loop" else None
    if family not in (9, 10):
        return "only sm90 and sm100 specialize warps of attention"
    if family == 9 and (config.num_warps != 4 or config.operands == "descriptors" or variant.offsets is not None):
        return "Hopper specializes four warps with descriptors of their own, and not for varlen"
    if config.operands == "descriptors" and variant.offsets is not None:
        return "varlen is specialized with descriptors of each program"
    return None


def contends(config: AttentionConfig, dims: Mapping[str, int]) -> bool:
    """Whether a tuner should try a configuration: not where most rows are padding, nor a low block for many rows, nor
    where sums and scores do not fit in registers."""
    tokens = dims.get("seq") or dims.get("queries") or dims["tokens"]
    rows = tokens * dims["heads"] // dims["kv_heads"] if "queries" in dims else tokens
    threads = 32 * (2 * config.num_warps if config.warp_specialize else config.num_warps)
    blocks = 2 if config.order == "overlapped" else 1  # scores, and weights that wait
    numbers = config.block_m * (dims["head_dim"] + blocks * config.block_n) // threads
    return min(rows, 64) <= config.block_m <= max(16, 2 * rows) and numbers <= 192


@Launcher
def attention_prefill(q: Tensor, k: Tensor, v: Tensor, *, config: AttentionConfig | None = None) -> Planned[Tensor]:
    """q: (batch, heads, seq, head_dim), k, v: (batch, kv_heads, seq, head_dim); head_dim 64, 128 or 256 and of stride
    1, other strides are free. Causal, scale 1/sqrt(head_dim). Returns q's shape, laid out in memory like q."""
    return _plan("attention_prefill", prefill_sizes(q, k, v), q, k, v, config=config)


@Launcher
def attention_full(q: Tensor, k: Tensor, v: Tensor, *, config: AttentionConfig | None = None) -> Planned[Tensor]:
    """attention_prefill without a mask: every query meets every key."""
    return _plan("attention_full", prefill_sizes(q, k, v), q, k, v, variant=Variant("full"), config=config)


@Launcher
def attention_window(
    q: Tensor, k: Tensor, v: Tensor, *, window: int, config: AttentionConfig | None = None
) -> Planned[Tensor]:
    """attention_prefill where a query meets the last `window` keys up to its own. Raises ValueError for window < 1."""
    sizes = prefill_sizes(q, k, v)
    if window < 1:
        raise ValueError(f"attention_window: window={window} must be at least 1")
    variant = Variant("window", min(window, sizes.keys))
    return _plan("attention_window", sizes, q, k, v, variant=variant, config=config)


def attention_packed(
    q: Tensor, k: Tensor, v: Tensor, offsets: Tensor, *, config: AttentionConfig | None = None
) -> Tensor:
    """q: (tokens, heads, head_dim), k, v: (tokens, kv_heads, head_dim), offsets: (sequences + 1,) int32, ascending from
    0 to tokens; head_dim as in attention_prefill. Varlen: causal attention of each sequence by itself; a sequence may
    be empty. Returns q's shape, laid out like q. The host never waits for the offsets."""
    return _attend_packed(q, k, v, offsets.contiguous(), config)


@Launcher
def attention_chunk(q: Tensor, k: Tensor, v: Tensor, *, config: AttentionConfig | None = None) -> Planned[Tensor]:
    """q: (batch, heads, queries, head_dim), k, v: (batch, kv_heads, context, head_dim); head_dim as in
    attention_prefill. The queries are the last of the context and attend causally. Few queries go to attention_verify,
    unless there is a `config`. Returns q's shape."""
    sizes = chunk_sizes("attention_chunk", q, k, v)
    dtype, target = _check("attention_chunk", sizes, q, k, v)
    if config is not None:
        variant = split_chunk(sizes, config, target)
    elif is_verification(sizes, dtype):
        return attention_verify.plan(q, k, v)
    else:
        config, variant = choose_chunk(sizes, dtype=dtype, target=target, describable=_describable(k, v))
    return _plan("attention_chunk", sizes, q, k, v, variant=variant, config=config)


@Launcher
def attention_forward(
    q: Tensor, k: Tensor, v: Tensor, *, config: AttentionConfig | None = None
) -> Planned[tuple[Tensor, Tensor]]:
    """attention_prefill's output, and the log-sum-exp of each row, (batch, heads, seq) fp32, for the backward pass."""
    sizes = prefill_sizes(q, k, v)
    lse = torch.empty(q.shape[:3], dtype=torch.float32, device=q.device)
    planned = _plan("attention_forward", sizes, q, k, v, lse=lse, config=config)
    return Planned((planned.result, lse), planned.launches)


def check_heads(
    op: str, sizes: AttentionSizes, *tensors: Tensor, supported: Sequence[int] = SUPPORTED_HEAD_DIMS
) -> None:
    """Raise Unsupported for a head dimension that is not in `supported`, or of a stride other than 1."""
    if sizes.head_dim not in supported:
        names = ", ".join(map(str, supported))
        raise Unsupported(f"{op} does not support head_dim={sizes.head_dim}; supported: {names}")
    for tensor in tensors:
        if tensor.stride(-1) != 1:
            raise Unsupported(f"{op}: head_dim must have stride 1, not {tensor.stride(-1)}")


def is_verification(sizes: AttentionSizes, dtype: str) -> bool:
    """Whether a chunk has so few rows that decode's kernel, which streams a cache past them, is faster."""
    most = _MOST_VERIFIED_VECTOR if dtype == "fp32" else _MOST_VERIFIED
    return sizes.queries <= MAX_QUERIES and sizes.queries * sizes.group * sizes.head_dim <= most


def choose_chunk(
    sizes: AttentionSizes, *, dtype: str, target: Target, describable: bool
) -> tuple[AttentionConfig, Variant]:
    """For a chunk that decode's kernel does not take: the configuration, and its heads per block and parts."""
    choose = partial(choose_config, head_dim=sizes.head_dim, dtype=dtype, target=target, describable=describable)
    variant = split_chunk(sizes, choose(), target)
    return choose(variant=variant), variant


def split_chunk(sizes: AttentionSizes, config: AttentionConfig, target: Target) -> Variant:
    """The heads per block and the parts of a chunk. Few queries share a block with those of the other heads of their
    group, so that keys and values are read once. A context is cut until the SMs hold all programs at once."""
    pack = sizes.group if 2 * sizes.queries <= config.block_m and config.operands != "own_descriptors" else 1
    programs = sizes.batch * sizes.heads // pack * cdiv(sizes.queries * pack, config.block_m)
    parts = min(_PROGRAMS_PER_SM * target.sm_count // programs, sizes.keys // _MIN_KEYS_PER_PART, _MAX_PARTS)
    if parts <= 1:
        return Variant(pack=pack)
    return Variant(pack=pack, keys_per_part=cdiv(cdiv(sizes.keys, parts), config.block_n) * config.block_n)


def plan_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    *,
    config: AttentionConfig,
    variant: Variant = CAUSAL,
    lse: Tensor | None = None,
) -> tuple[Launch, ...]:
    """The launches that set out to the attention of q over k and v, all (batch, heads, tokens, head_dim), and `lse`,
    (batch, heads, tokens) fp32, where given; not where keys are in parts."""
    if variant.keys_per_part is None:
        return (_plan_rows(q, k, v, out, lse, config, variant),)
    parts = cdiv(k.shape[2], variant.keys_per_part)
    batch, *rest = q.shape
    partial_out = torch.empty(parts * batch, *rest, dtype=torch.float32, device=q.device)
    partial_lse = torch.empty(parts * batch, *rest[:2], dtype=torch.float32, device=q.device)
    attend = _plan_rows(q, k, v, partial_out, partial_lse, config, variant)
    return attend, _plan_merge(partial_out, partial_lse, out, parts)


def empty_rows(x: Tensor) -> Tensor:
    """An empty tensor laid out like x, but with contiguous rows even where x's overlap."""
    out = torch.empty_like(x)
    return out if out.stride(-1) == 1 else torch.empty(x.shape, dtype=x.dtype, device=x.device)


def ahead_of_time(target: Target, dtype: str) -> tuple[Launch, ...]:
    """Launches of the default configurations: a prompt in each head dimension; in one of them every other variant, and
    strides that no descriptor takes."""
    offsets = torch.empty(9, dtype=torch.int32, device="meta")
    variants = (CAUSAL, Variant("full"), Variant("window", 1024), Variant(offsets=offsets))
    cases = [(128, variant, True) for variant in variants] + [(64, CAUSAL, True), (256, CAUSAL, True)]
    cases += [(128, CAUSAL, False)] if dtype != "fp32" and target.architecture >= 90 else []
    launches: list[Launch] = []
    for head_dim, variant, describable in cases:
        config = choose_config(head_dim=head_dim, dtype=dtype, target=target, variant=variant, describable=describable)
        launches += _plan_meta(head_dim, dtype, config, variant)
    sizes = AttentionSizes(batch=1, queries=32, keys=_AHEAD_OF_TIME_SEQ, heads=32, kv_heads=8, head_dim=128)
    config, variant = choose_chunk(sizes, dtype=dtype, target=target, describable=True)
    return (*launches, *_plan_meta(128, dtype, config, variant))


def every_configuration(target: Target, dtype: str) -> tuple[Launch, ...]:
    """Launches of each configuration that fits this architecture, for a prompt."""
    configs = (config for config in CONFIGS if why_not(config, dtype, target) is None)
    return tuple(launch for config in configs for launch in _plan_meta(128, dtype, config, CAUSAL))


@Launcher
def _attend_packed(q: Tensor, k: Tensor, v: Tensor, offsets: Tensor, config: AttentionConfig | None) -> Planned[Tensor]:
    """attention_packed, offsets contiguous."""
    sizes = packed_sizes(q, k, v, offsets)
    q, k, v = (tensor.transpose(0, 1).unsqueeze(0) for tensor in (q, k, v))
    planned = _plan("attention_packed", sizes, q, k, v, variant=Variant(offsets=offsets), config=config)
    return Planned(planned.result[0].transpose(0, 1), planned.launches)


def _plan(
    op: str,
    sizes: AttentionSizes,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    variant: Variant = CAUSAL,
    lse: Tensor | None = None,
    config: AttentionConfig | None = None,
) -> Planned[Tensor]:
    """The attention by `config`, or by what suits the shape. Raises Unsupported where that is impossible."""
    dtype, target = _check(op, sizes, q, k, v)
    describable = _describable(k, v)
    if config is None:
        config = choose_config(
            head_dim=sizes.head_dim, dtype=dtype, target=target, variant=variant, describable=describable
        )
    elif reason := why_not(config, dtype, target, variant):
        raise Unsupported(f"{op}: {config.name} is not supported: {reason}")
    elif config.operands != "pointers" and not (describable and (_describable(q) or config.operands == "descriptors")):
        raise Unsupported(f"{op}: {config.name} needs rows and heads that are 16 bytes or a multiple apart")
    out = empty_rows(q)
    check_tile_strides(op, out.stride(2))
    return Planned(out, plan_attention(q, k, v, out, config=config, variant=variant, lse=lse))


def _check(op: str, sizes: AttentionSizes, q: Tensor, k: Tensor, v: Tensor) -> tuple[str, Target]:
    """The format and the target. Raises Unsupported for head_dim, dtype, device or strides."""
    check_heads(op, sizes, q, k, v, supported=PREFILL_HEAD_DIMS)
    check_dtype(op, q.dtype, SUPPORTED_DTYPES)
    target = find_target(op, attention_kernel, q)
    check_tile_strides(op, *(tensor.stride(2) for tensor in (q, k, v)))
    return dtype_name(q.dtype), target


def _describable(*tensors: Tensor) -> bool:
    return all(is_describable(tensor) for tensor in tensors)


def _plan_rows(
    q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor | None, config: AttentionConfig, variant: Variant
) -> Launch:
    """The launch in which each program attends with a block of rows to all keys or to a part."""
    batch, heads, queries, head_dim = q.shape
    kv_heads, keys = k.shape[1:3]
    group, dtype = heads // kv_heads, dtype_name(q.dtype)
    blocks = cdiv(queries * variant.pack, config.block_m)
    if variant.offsets is not None:
        blocks += len(variant.offsets) - 1  # a number that no length changes
    pairs = batch * heads // variant.pack
    shared_heads = max(1, int(SECTION_BYTES / (2 * keys * head_dim * k.element_size())))
    keys_per_part = variant.keys_per_part or keys
    block = (1, 1, config.block_n, head_dim)
    sources = [Descriptor(each, block) if config.operands == "descriptors" else each for each in (k, v)]
    return Launch(
        kernel=attention_kernel,
        grid=(blocks * pairs, cdiv(keys, keys_per_part)),
        arguments={
            "q_ptr": q,
            "k_source": sources[0],
            "v_source": sources[1],
            "out_ptr": out,
            "lse_ptr": lse,
            "offsets_ptr": variant.offsets,
            **strides_of("bhs", q=q, k=k, v=v, out=out),
            "batch_size": batch,
            "heads": heads,
            "queries": queries,
            "keys": keys,
            "window": variant.window,
            "keys_per_part": keys_per_part,
            "section": min(pairs, shared_heads * (group // variant.pack)),
            "scale_log2": math.log2(math.e) / math.sqrt(head_dim),
        },
        constants={
            "GROUP": group,
            "PACK": variant.pack,
            "HEAD_DIM": head_dim,
            "BLOCK_M": config.block_m,
            "BLOCK_N": config.block_n,
            "MASK": variant.mask,
            "IN_PARTS": variant.keys_per_part is not None,
            "OPERANDS": config.operands,
            "ORDER": config.order,
            "WARP_SPECIALIZE": config.warp_specialize,
        },
        num_warps=config.num_warps,
        num_stages=config.num_stages,
        config=f"{config.name} {variant.label}{' lse' if lse is not None else ''} d{head_dim}",
        opcodes=product_opcodes(
            dtype,
            config.block_m,
            *(() if config.operands == "pointers" else ("UTMALDG",)),
            *(("USETMAXREG",) if config.warp_specialize else ()),
        ),
        needs_scratch=config.operands == "own_descriptors",
    )


def _plan_merge(partial_out: Tensor, partial_lse: Tensor, out: Tensor, parts: int) -> Launch:
    """The launch that merges the parts into out."""
    batch, heads, queries, head_dim = out.shape
    rows = batch * heads * queries
    return Launch(
        kernel=merge_parts_kernel,
        grid=(cdiv(rows, _MERGE_ROWS),),
        arguments={
            "partial_out_ptr": partial_out,
            "partial_lse_ptr": partial_lse,
            "out_ptr": out,
            **strides_of("bhs", out=out),
            "heads": heads,
            "queries": queries,
            "rows": rows,
            "parts": parts,
        },
        constants={"HEAD_DIM": head_dim, "BLOCK_M": _MERGE_ROWS},
        num_warps=4,
        num_stages=2,
        config=f"{_MERGE_ROWS} d{head_dim}",
    )


def _plan_meta(head_dim: int, dtype: str, config: AttentionConfig, variant: Variant) -> tuple[Launch, ...]:
    """The launches for grouped heads, on tensors without memory."""
    batch = 1 if variant.offsets is not None else 2
    q = torch.empty(batch, 32, _AHEAD_OF_TIME_SEQ, head_dim, dtype=TORCH_DTYPES[dtype], device="meta")
    k = q[:, :8]
    return plan_attention(q, k, k, q, config=config, variant=variant)
