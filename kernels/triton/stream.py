"""Reading, writing, copying and combining long vectors in Triton, at the speed of DRAM.

Each function raises ValueError for tensors that differ or are not contiguous, Unsupported for other dtypes and devices.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.constants import ARCHITECTURES, EIGHT_BIT, FILL_VALUE, TRIAD_SCALE
from kernels.precision import TORCH_DTYPES
from kernels.shapes import check_dtype, stream_size
from kernels.triton.launcher import Launcher, Planned
from kernels.triton.plan import Launch, Target, cdiv, find_target

SUPPORTED_DTYPES = ("fp64", "fp32", "bf16", "fp16")
UNSUPPORTED_DTYPES: Mapping[str, str] = MappingProxyType(
    {
        "tf32": "only tensor cores know it; in memory it is fp32",
        **dict.fromkeys(EIGHT_BIT, "bytes are bytes: bf16 shows the same"),
    }
)
SUPPORTED_ARCHITECTURES = ARCHITECTURES
_VECTOR_BYTES = 16  # widest load of a thread


@dataclass(frozen=True, slots=True)
class StreamConfig:
    """A program moves `block_bytes` of each operand at a time. The programs of a read, at most `programs_per_sm`, loop,
    so that they leave few partial sums."""

    block_bytes: int
    num_warps: int
    programs_per_sm: int = 24  # whole rounds of 3, 4, 6 or 8 resident programs

    @property
    def name(self) -> str:
        """As in records: block16384-w8-p24."""
        return f"block{self.block_bytes}-w{self.num_warps}-p{self.programs_per_sm}"


DEFAULT = StreamConfig(block_bytes=16384, num_warps=8)

# Two to eight 16-byte loads of each operand per thread.
CONFIGS = tuple(
    StreamConfig(bytes_per_thread * 32 * num_warps, num_warps)
    for num_warps in (4, 8, 16)
    for bytes_per_thread in (32, 64, 128)
)


def choose_config(*, target: Target) -> StreamConfig:  # noqa: ARG001  (one configuration serves every target so far)
    """The configuration for a device: four 16-byte loads per thread and operand."""
    return DEFAULT


def stream_read(x: Tensor, *, config: StreamConfig | None = None) -> Tensor:
    """x: (n,), contiguous. Reads x once. Returns its sum, a scalar in fp32 (fp64 for fp64)."""
    return _partial_sums(x, config).sum()


@Launcher
def stream_write(out: Tensor, *, config: StreamConfig | None = None) -> Planned[Tensor]:
    """out: (n,), contiguous. Writes FILL_VALUE everywhere, once. Returns out."""
    target = _check("stream_write", stream_write_kernel, out)
    return Planned(out, (plan_write(out, config=config or choose_config(target=target)),))


@Launcher
def stream_copy(x: Tensor, out: Tensor, *, config: StreamConfig | None = None) -> Planned[Tensor]:
    """x, out: (n,), contiguous. Reads x once, writes out once. Returns out."""
    target = _check("stream_copy", stream_copy_kernel, x, out)
    return Planned(out, (plan_copy(x, out, config=config or choose_config(target=target)),))


@Launcher
def stream_triad(a: Tensor, b: Tensor, out: Tensor, *, config: StreamConfig | None = None) -> Planned[Tensor]:
    """a, b, out: (n,), contiguous. Reads a and b once, writes out = a + TRIAD_SCALE*b once. Returns out."""
    target = _check("stream_triad", stream_triad_kernel, a, b, out)
    return Planned(out, (plan_triad(a, b, out, config=config or choose_config(target=target)),))


def plan_read(x: Tensor, partials: Tensor, *, config: StreamConfig) -> Launch:
    """The launch that reads x: (n,) and leaves one sum per program in partials: (programs,)."""
    block = _block_elements(x, config)
    lanes = min(block, config.num_warps * 32 * _VECTOR_BYTES // x.element_size())
    return Launch(
        kernel=stream_read_kernel,
        grid=(len(partials),),
        arguments={"x_ptr": x, "partials_ptr": partials, "n": len(x)},
        constants={"STEPS": block // lanes, "LANES": lanes},
        num_warps=config.num_warps,
        config=config.name,
    )


def plan_write(out: Tensor, *, config: StreamConfig) -> Launch:
    """The launch that fills out: (n,) with FILL_VALUE."""
    return _plan_blocks(stream_write_kernel, {"out_ptr": out}, {"VALUE": FILL_VALUE}, config)


def plan_copy(x: Tensor, out: Tensor, *, config: StreamConfig) -> Launch:
    """The launch that copies x: (n,) to out."""
    return _plan_blocks(stream_copy_kernel, {"x_ptr": x, "out_ptr": out}, {}, config)


def plan_triad(a: Tensor, b: Tensor, out: Tensor, *, config: StreamConfig) -> Launch:
    """The launch that sets out to a + TRIAD_SCALE*b, each (n,)."""
    return _plan_blocks(stream_triad_kernel, {"a_ptr": a, "b_ptr": b, "out_ptr": out}, {"SCALE": TRIAD_SCALE}, config)


def ahead_of_time(target: Target, dtype: str) -> tuple[Launch, ...]:
    """Launches of the default configuration."""
    return _launches(dtype, choose_config(target=target))


def every_configuration(target: Target, dtype: str) -> tuple[Launch, ...]:  # noqa: ARG001  (every target has the same)
    """Launches of each of CONFIGS."""
    return tuple(launch for config in CONFIGS for launch in _launches(dtype, config))


def _launches(dtype: str, config: StreamConfig) -> tuple[Launch, ...]:
    x = torch.empty(2**28, dtype=TORCH_DTYPES[dtype], device="meta")
    partials = torch.empty(1024, dtype=torch.float64 if dtype == "fp64" else torch.float32, device="meta")
    return (
        plan_read(x, partials, config=config),
        plan_write(x, config=config),
        plan_copy(x, x, config=config),
        plan_triad(x, x, x, config=config),
    )


@triton.jit
def stream_read_kernel(x_ptr, partials_ptr, n, STEPS: tl.constexpr, LANES: tl.constexpr):
    """x: (n,), partials: (programs,). Reads x once, each program a block of STEPS*LANES in turn, and writes one sum per
    program. A thread adds up its steps at once: one sum per lane takes fewer registers than one per number of a block,
    so more programs are resident."""
    stride = tl.num_programs(0).to(tl.int64) * (STEPS * LANES)
    offsets = tl.arange(0, STEPS)[:, None] * LANES + tl.arange(0, LANES)[None, :]
    totals = tl.zeros((LANES,), dtype=partials_ptr.dtype.element_ty)
    for start in range(tl.program_id(0).to(tl.int64) * (STEPS * LANES), n, stride):
        x = tl.load(x_ptr + start + offsets, mask=start + offsets < n, other=0.0)
        totals += tl.sum(x.to(partials_ptr.dtype.element_ty), 0)
    tl.store(partials_ptr + tl.program_id(0), tl.sum(totals, 0))


@triton.jit
def stream_write_kernel(out_ptr, n, VALUE: tl.constexpr, BLOCK: tl.constexpr):
    """out: (n,). Writes out once."""
    offsets = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out_ptr + offsets, tl.full((BLOCK,), VALUE, out_ptr.dtype.element_ty), mask=offsets < n)


@triton.jit
def stream_copy_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    """x, out: (n,). Reads x once, writes out once."""
    offsets = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = offsets < n
    tl.store(out_ptr + offsets, tl.load(x_ptr + offsets, mask=inside), mask=inside)


@triton.jit
def stream_triad_kernel(a_ptr, b_ptr, out_ptr, n, SCALE: tl.constexpr, BLOCK: tl.constexpr):
    """a, b, out: (n,). Reads a and b once, writes out once; 16-bit inputs are combined in fp32 and rounded once."""
    offsets = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = offsets < n
    a = tl.load(a_ptr + offsets, mask=inside)
    b = tl.load(b_ptr + offsets, mask=inside)
    if a_ptr.dtype.element_ty == tl.float64:  # noqa: SIM108  (the branch is taken when compiling)
        out = a + b * SCALE
    else:
        out = a.to(tl.float32) + b.to(tl.float32) * SCALE
    tl.store(out_ptr + offsets, out.to(out_ptr.dtype.element_ty), mask=inside)


@Launcher
def _partial_sums(x: Tensor, config: StreamConfig | None) -> Planned[Tensor]:
    """x: (n,). Reads x once. Returns one sum per program."""
    target = _check("stream_read", stream_read_kernel, x)
    config = config or choose_config(target=target)
    programs = min(cdiv(len(x), _block_elements(x, config)), config.programs_per_sm * target.sm_count)
    sum_dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    partials = torch.empty(programs, dtype=sum_dtype, device=x.device)
    return Planned(partials, (plan_read(x, partials, config=config),))


def _check(op: str, kernel: object, *tensors: Tensor) -> Target:
    stream_size(op, *tensors)
    check_dtype(op, tensors[0].dtype, SUPPORTED_DTYPES)
    return find_target(op, kernel, tensors[0])


def _plan_blocks(
    kernel: object, tensors: Mapping[str, Tensor], constants: Mapping[str, float], config: StreamConfig
) -> Launch:
    """One program per block of equally long tensors."""
    first = next(iter(tensors.values()))
    block = _block_elements(first, config)
    return Launch(
        kernel=kernel,
        grid=(cdiv(len(first), block),),
        arguments={**tensors, "n": len(first)},
        constants={**constants, "BLOCK": block},
        num_warps=config.num_warps,
        config=config.name,
    )


def _block_elements(x: Tensor, config: StreamConfig) -> int:
    return config.block_bytes // x.element_size()
