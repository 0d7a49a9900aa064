"""Gradients of causal attention in Triton (FlashAttention's backward pass): tiles and launches."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kernels.constants import ARCHITECTURES, ATTENTION_DTYPES, NOT_ATTENTION_DTYPES
from kernels.precision import TORCH_DTYPES, dtype_name
from kernels.shapes import backward_sizes, check_dtype
from kernels.triton.attention.backward_tiles import (
    attention_backward_keys_kernel,
    attention_backward_queries_kernel,
    attention_delta_kernel,
)
from kernels.triton.attention.prefill import (
    PREFILL_HEAD_DIMS,
    SECTION_BYTES,
    check_heads,
    empty_rows,
)
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


@dataclass(frozen=True, slots=True)
class BackwardConfig:
    """block_keys keys stay on chip while blocks of block_passing queries pass; then block_queries queries stay while
    keys pass. What passes comes by pointers, or where `described` by the host's descriptors."""

    block_keys: int
    block_queries: int
    block_passing: int
    num_warps: int
    num_stages: int
    described: bool = False

    @property
    def name(self) -> str:
        """As in records: k128-q128-by64-w8-s2-descriptors."""
        tile = f"k{self.block_keys}-q{self.block_queries}-by{self.block_passing}-w{self.num_warps}-s{self.num_stages}"
        return f"{tile}-descriptors" if self.described else tile


# Sums of two gradients and two products share registers: 128 keys where products read shared memory.
HOPPER = BackwardConfig(128, 128, 64, 8, 3, described=True)
HOPPER_128 = BackwardConfig(128, 128, 32, 8, 3, described=True)  # by 64, Triton 3.6 spills two registers
HOPPER_256 = BackwardConfig(32, 64, 64, 8, 2, described=True)
BLACKWELL_128 = BackwardConfig(64, 128, 64, 8, 3, described=True)
BLACKWELL_256 = BackwardConfig(32, 64, 32, 8, 2, described=True)
AMPERE_64 = BackwardConfig(128, 128, 64, 8, 2)
AMPERE_128 = BackwardConfig(64, 128, 32, 8, 2)
AMPERE_256 = BackwardConfig(32, 64, 32, 8, 2)
SMALL_SHARED_128 = BackwardConfig(64, 64, 32, 8, 2)
SMALL_SHARED_256 = BackwardConfig(32, 32, 32, 8, 2)
# IEEE fp32: no tensor core takes it.
VECTOR_64 = BackwardConfig(32, 32, 32, 8, 2)
VECTOR_128 = BackwardConfig(32, 32, 16, 4, 2)
VECTOR_256 = BackwardConfig(32, 16, 16, 8, 2)

CONFIGS = (
    HOPPER,
    HOPPER_128,
    HOPPER_256,
    BLACKWELL_128,
    BLACKWELL_256,
    BackwardConfig(64, 64, 64, 4, 2, described=True),
    AMPERE_64,
    AMPERE_128,
    AMPERE_256,
    SMALL_SHARED_128,
    SMALL_SHARED_256,
    VECTOR_64,
    VECTOR_128,
    VECTOR_256,
)

_HOPPER = {64: HOPPER, 128: HOPPER_128, 256: HOPPER_256}
_BLACKWELL = {64: HOPPER, 128: BLACKWELL_128, 256: BLACKWELL_256}
_AMPERE = {64: AMPERE_64, 128: AMPERE_128, 256: AMPERE_256}
_POINTERS = {64: AMPERE_64, 128: AMPERE_128, 256: SMALL_SHARED_256}
_VECTOR = {64: VECTOR_64, 128: VECTOR_128, 256: VECTOR_256}
_SMALL_SHARED = {64: AMPERE_64, 128: SMALL_SHARED_128, 256: SMALL_SHARED_256}

_MOST_VECTOR_SCORES = 32 * 32
_DELTA_ROWS = 32


def choose_config(*, head_dim: int, dtype: str, target: Target, describable: bool = True) -> BackwardConfig:
    """The configuration for a head dimension. `describable`: the strides of q, k, v and grad allow descriptors."""
    if dtype == "fp32":
        return _VECTOR[head_dim]
    family = target.family
    if family == 12 or (family == 8 and not target.has_large_shared):
        return (_SMALL_SHARED if family == 12 else _POINTERS)[head_dim]
    if family == 8:
        return _AMPERE[head_dim]
    return ((_HOPPER if family == 9 else _BLACKWELL) if describable else _POINTERS)[head_dim]


def why_not(config: BackwardConfig, dtype: str, target: Target) -> str | None:
    """Why this configuration cannot serve a format on an architecture, or None where it can."""
    if dtype == "fp32" and (
        config.described or max(config.block_keys, config.block_queries) * config.block_passing > _MOST_VECTOR_SCORES
    ):
        return "IEEE fp32 is computed without tensor cores, by pointers and in blocks of at most 32 x 32"
    if config.described and target.architecture < 90:
        return f"sm{target.architecture} has no hardware for descriptors"
    return None


def contends(config: BackwardConfig, dims: Mapping[str, int]) -> bool:
    """Whether a tuner should try a configuration: not where the sums of keys and values do not fit in registers, nor
    where they leave most of them empty."""
    sums = 2 * config.block_keys * dims["head_dim"] // (32 * config.num_warps)
    return 32 <= sums <= 128


def attention_backward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    grad: Tensor,
    lse: Tensor,
    *,
    config: BackwardConfig | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """q, out, grad: (batch, heads, seq, head_dim), k, v: (batch, kv_heads, seq, head_dim), lse: (batch, heads, seq)
    fp32; head_dim 64, 128 or 256 and of stride 1, other strides are free. `out` and `lse` are attention_forward's.
    Returns the gradients of q, k and v, each laid out like its tensor. Raises ValueError for other shapes, Unsupported
    for dtypes, strides, head dimensions and devices that the kernels do not take."""
    return _backward(q, k, v, out, grad, lse.contiguous(), config)


def plan_backward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    grad: Tensor,
    lse: Tensor,
    gradients: tuple[Tensor, Tensor, Tensor],
    *,
    config: BackwardConfig,
) -> tuple[Launch, ...]:
    """The launches that set `gradients` to those of q, k and v; shapes as in `attention_backward`, lse contiguous."""
    delta = torch.empty_like(lse)
    dq, dk, dv = gradients
    read = {"q": q, "k": k, "v": v, "grad": grad, "lse": lse, "delta": delta}
    keys = {**read, "dk": dk, "dv": dv}
    return (
        _plan_delta(out, grad, delta),
        _plan_gradients(attention_backward_keys_kernel, keys, passing=("q", "grad"), config=config),
        _plan_gradients(attention_backward_queries_kernel, {**read, "dq": dq}, passing=("k", "v"), config=config),
    )


def ahead_of_time(target: Target, dtype: str) -> tuple[Launch, ...]:
    """Launches of the default configurations in each head dimension; the small first kernel once."""
    launches: dict[object, Launch] = {}
    for head_dim in PREFILL_HEAD_DIMS:
        config = choose_config(head_dim=head_dim, dtype=dtype, target=target)
        for launch in _plan_meta(head_dim, dtype, config):
            name = None if launch.kernel is attention_delta_kernel else launch.config
            launches.setdefault((launch.kernel, name), launch)
    return tuple(launches.values())


def every_configuration(target: Target, dtype: str) -> tuple[Launch, ...]:
    """Launches of each configuration that fits this architecture."""
    configs = (config for config in CONFIGS if why_not(config, dtype, target) is None)
    return tuple(launch for config in configs for launch in _plan_meta(128, dtype, config)[1:])


@Launcher
def _backward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    grad: Tensor,
    lse: Tensor,
    config: BackwardConfig | None,
) -> Planned[tuple[Tensor, Tensor, Tensor]]:
    """attention_backward, lse contiguous."""
    op = "attention_backward"
    sizes = backward_sizes(q, k, v, out, grad, lse)
    check_heads(op, sizes, q, k, v, out, grad, supported=PREFILL_HEAD_DIMS)
    check_dtype(op, q.dtype, SUPPORTED_DTYPES)
    dtype, target = dtype_name(q.dtype), find_target(op, attention_backward_keys_kernel, q)
    gradients = empty_rows(q), empty_rows(k), empty_rows(v)
    check_tile_strides(op, *(tensor.stride(2) for tensor in (q, k, v, out, grad, *gradients)))
    describable = all(is_describable(tensor) for tensor in (q, k, v, grad))
    if config is None:
        config = choose_config(head_dim=sizes.head_dim, dtype=dtype, target=target, describable=describable)
    elif reason := why_not(config, dtype, target):
        raise Unsupported(f"{op}: {config.name} is not supported: {reason}")
    elif config.described and not describable:
        raise Unsupported(f"{op}: {config.name} needs rows and heads that are 16 bytes or a multiple apart")
    return Planned(gradients, plan_backward(q, k, v, out, grad, lse, gradients, config=config))


def _plan_delta(out: Tensor, grad: Tensor, delta: Tensor) -> Launch:
    batch, heads, seq, head_dim = out.shape
    return Launch(
        kernel=attention_delta_kernel,
        grid=(cdiv(seq, _DELTA_ROWS) * batch * heads,),
        arguments={
            "out_ptr": out,
            "grad_ptr": grad,
            "delta_ptr": delta,
            **strides_of("bhs", out=out, grad=grad),
            "heads": heads,
            "seq": seq,
        },
        constants={"HEAD_DIM": head_dim, "BLOCK_M": _DELTA_ROWS},
        num_warps=4,
        config=f"{_DELTA_ROWS} d{head_dim}",
    )


def _plan_gradients(
    kernel: Any, tensors: Mapping[str, Tensor], *, passing: tuple[str, str], config: BackwardConfig
) -> Launch:
    """The launch of a kernel that keeps blocks of queries or of keys on chip while two other tensors pass. `tensors` by
    the kernel's names: q, k, v, grad, lse, delta and the gradients that it writes."""
    q, k = tensors["q"], tensors["k"]
    batch, heads, seq, head_dim = q.shape
    group = heads // k.shape[1]
    if "q" in passing:  # past keys; those of one K/V head meet the queries of all heads of its group
        pairs, shared = batch * k.shape[1], _sharing(q, group)
        rows, blocks = config.block_keys, {"BLOCK_M": config.block_passing, "BLOCK_N": config.block_keys}
    else:
        pairs, shared = batch * heads, _sharing(k, 1) * group
        rows, blocks = config.block_queries, {"BLOCK_M": config.block_queries, "BLOCK_N": config.block_passing}
    block = (1, 1, config.block_passing, head_dim)
    return Launch(
        kernel=kernel,
        grid=(cdiv(seq, rows) * pairs,),
        arguments={
            **{f"{name}_ptr": tensor for name, tensor in tensors.items() if name not in passing},
            **{
                f"{name}_source": Descriptor(tensors[name], block) if config.described else tensors[name]
                for name in passing
            },
            **strides_of("bhs", **{name: tensor for name, tensor in tensors.items() if tensor.dim() == 4}),
            "heads": heads,
            "seq": seq,
            "section": min(pairs, shared),
            "scale": 1 / math.sqrt(head_dim),
        },
        constants={
            "GROUP": group,
            "HEAD_DIM": head_dim,
            **blocks,
            "OPERANDS": "descriptors" if config.described else "pointers",
        },
        num_warps=config.num_warps,
        num_stages=config.num_stages,
        config=f"{config.name} d{head_dim}",
        opcodes=product_opcodes(dtype_name(q.dtype), rows, *(("UTMALDG",) if config.described else ())),
    )


def _sharing(tensor: Tensor, heads: int) -> int:
    """How many times `heads` heads of what passes, two tensors like this one, fit in the share of L2 for them."""
    return max(1, int(SECTION_BYTES / (2 * heads * tensor.shape[2] * tensor.shape[3] * tensor.element_size())))


def _plan_meta(head_dim: int, dtype: str, config: BackwardConfig) -> tuple[Launch, ...]:
    """The launches for grouped heads, on tensors without memory."""
    q = torch.empty(2, 32, 4096, head_dim, dtype=TORCH_DTYPES[dtype], device="meta")
    k = torch.empty(2, 8, 4096, head_dim, dtype=TORCH_DTYPES[dtype], device="meta")
    lse = torch.empty(2, 32, 4096, dtype=torch.float32, device="meta")
    return plan_backward(q, k, k, q, q, lse, (q, k, k), config=config)
