"""A launch of a Triton kernel as data, so that what runs on a GPU is what is compiled ahead of time.

Every Triton module has `plan_...` functions that return launches. `launcher` runs them; `compile` compiles those of
`ahead_of_time(target, dtype)`, which are made of tensors on PyTorch's meta device.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType
from typing import Any

import torch
import triton
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from kernels.constants import ARCHITECTURES
from kernels.precision import dtype_name
from kernels.unsupported import Unsupported

# Opcodes of tensor-core products in machine code, by format; these are of at least 64 rows, the next of fewer. Triton
# does not know Blackwell's own int8 product (UTCIMMA).
_WIDE_PRODUCT: Mapping[str, Mapping[int, str]] = MappingProxyType(
    {
        "bf16": {80: "HMMA", 86: "HMMA", 89: "HMMA", 90: "HGMMA", 100: "UTCHMMA", 120: "HMMA"},
        "fp8": {89: "QMMA", 90: "QGMMA", 100: "UTCQMMA", 120: "QMMA"},
        "int8": {80: "IMMA", 86: "IMMA", 89: "IMMA", 90: "IGMMA", 100: "IMMA", 120: "IMMA"},
    }
)
# Triton widens fp8 operands of a narrow product to fp16 where its instruction does not take fp8.
_NARROW_PRODUCT: Mapping[str, Mapping[int, str]] = MappingProxyType(
    {
        "bf16": dict.fromkeys(ARCHITECTURES, "HMMA"),
        "fp8": {89: "QMMA", 90: "HMMA", 100: "HMMA", 120: "QMMA"},
        "int8": dict.fromkeys(ARCHITECTURES, "IMMA"),
    }
)
WIDE_PRODUCT_ROWS = 64
_DESCRIPTORS_FROM = 90  # the first architecture with hardware for descriptors

_MAX_TILE_STRIDE = 2**22  # so that offsets over 2 * 256 rows stay below 2**31
ALIGNMENT_BYTES = 16  # of tensors behind descriptors
_INTERPRETED_SM_COUNT = 4  # fixed, so that interpreted results do not depend on the machine


@dataclass(frozen=True, slots=True)
class SmLimits:
    """The most that an SM holds."""

    warps: int
    programs: int
    shared_bytes: int


# CUDA C++ Programming Guide, table "Technical Specifications per Compute Capability".
_SM_LIMITS: Mapping[int, SmLimits] = MappingProxyType(
    {
        80: SmLimits(64, 32, 164 * 1024),
        86: SmLimits(48, 16, 100 * 1024),
        89: SmLimits(48, 24, 100 * 1024),
        90: SmLimits(64, 32, 228 * 1024),
        120: SmLimits(48, 24, 100 * 1024),
    }
)
_REGISTERS, _REGISTER_UNIT = 65536, 256  # of an SM; of a warp, in multiples of the unit
_RESERVED_SHARED_BYTES = 1024  # of each program, by the system
_LARGE_SHARED_BYTES = 128 * 1024


@dataclass(frozen=True, slots=True)
class Target:
    """The GPU that a configuration is chosen for: compute capability (90 for 9.0) and number of SMs."""

    architecture: int
    sm_count: int

    @property
    def family(self) -> int:
        """The first digits of the compute capability: 8 (Ampere, Ada), 9 (Hopper), 10 and 12 (Blackwell)."""
        return self.architecture // 10

    @property
    def shared_bytes(self) -> int:
        """Shared memory that one program may use."""
        return _SM_LIMITS[self._known].shared_bytes - _RESERVED_SHARED_BYTES

    @property
    def has_large_shared(self) -> bool:
        """Whether a program may use 163 KiB and more, as on datacenter GPUs; elsewhere 99 KiB."""
        return self.shared_bytes >= _LARGE_SHARED_BYTES

    def occupancy(self, registers: int, shared_bytes: int, warps: int) -> float:
        """Share of an SM's warps that are resident, for programs of `warps` warps, `registers` per thread and
        `shared_bytes`. Source: CUDA C++ Programming Guide, technical specifications by compute capability."""
        limits = _SM_LIMITS[self._known]
        warp_registers = cdiv(registers * 32, _REGISTER_UNIT) * _REGISTER_UNIT
        programs = min(
            limits.warps // warps,
            limits.programs,
            _REGISTERS // warp_registers // warps,
            limits.shared_bytes // (shared_bytes + _RESERVED_SHARED_BYTES),
        )
        return programs * warps / limits.warps

    @property
    def _known(self) -> int:
        """The architecture whose limits apply: the latest known one that is not later than this."""
        return max(known for known in _SM_LIMITS if known <= self.architecture)


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A tensor that the hardware (TMA) moves in blocks: contiguous rows, a multiple of 16 bytes apart."""

    tensor: Tensor
    block: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Launch:
    """One launch. `arguments` are tensors and numbers known at run time, and None for a tensor that is absent;
    `constants` are compiled in; `config` names the configuration; `opcodes` maps architectures to instructions that the
    machine code must contain."""

    kernel: Any
    grid: tuple[int, ...]
    arguments: Mapping[str, Tensor | Descriptor | int | float | None]
    constants: Mapping[str, Any]
    num_warps: int
    num_stages: int = 1
    config: str = ""
    opcodes: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    needs_scratch: bool = False  # global memory for descriptors that the kernel makes

    def run(self) -> None:
        """Queue the kernel on the current device."""
        self.start(
            [
                TensorDescriptor.from_tensor(value.tensor, list(value.block))
                if isinstance(value, Descriptor)
                else value
                for value in self.values()
            ]
        )

    def values(self) -> list[Any]:
        """All arguments in the kernel's order, which costs the host less than passing names."""
        values = {**self.arguments, **self.constants}
        names = self.kernel.arg_names
        assert len(values) == len(names), f"{self.kernel.__name__} takes {', '.join(names)}; not {', '.join(values)}"
        return [values[name] for name in names]

    def start(self, values: Sequence[Any]) -> None:
        """Queue the kernel with these arguments in place of `values()`."""
        if self.needs_scratch:
            triton.set_allocator(_allocate_scratch)
        self.kernel[self.grid](*values, num_warps=self.num_warps, num_stages=self.num_stages)


def cdiv(number: int, divisor: int) -> int:
    """The quotient rounded up. Triton's own takes the host 2 us, since it serves kernels too."""
    return -(-number // divisor)


def next_power_of_2(number: int) -> int:
    """The smallest power of two that is at least `number`, from 1 on; as Triton's, in less time."""
    return 1 << (number - 1).bit_length()


@cache
def product_opcodes(dtype: str, rows: int, *extra: str) -> Mapping[int, tuple[str, ...]]:
    """The opcodes that a product of `rows` rows in `dtype` must compile to, by architecture. `extra` opcodes are those
    of descriptors and warp specialization: with them, architectures from sm90 on. Empty for fp32 and fp64, which use no
    tensor cores."""
    if dtype in ("fp32", "fp64"):
        return MappingProxyType({})
    kind = dtype if dtype in _WIDE_PRODUCT else "bf16"  # fp16 and tf32 share bf16's opcodes
    opcodes = (_WIDE_PRODUCT if rows >= WIDE_PRODUCT_ROWS else _NARROW_PRODUCT)[kind]
    return MappingProxyType(
        {known: (opcode, *extra) for known, opcode in opcodes.items() if known >= _DESCRIPTORS_FROM or not extra}
    )


def strides_of(dims: str, **tensors: Tensor) -> dict[str, int]:
    """Strides of the leading dimensions of tensors as kernels name them: strides_of("bh", q=q) has stride_qb and
    stride_qh."""
    return {
        f"stride_{name}{dim}": tensor.stride(index)
        for name, tensor in tensors.items()
        for index, dim in enumerate(dims)
    }


def reads_operands_in_place(rows: int, dtype: str, architecture: int) -> bool:
    """Whether a product of `rows` rows reads its second operand from shared memory, as wide ones on Hopper and
    datacenter Blackwell do; others read it from registers."""
    return rows >= WIDE_PRODUCT_ROWS and architecture // 10 in (9, 10) and dtype != "fp32"


def missing_unit(dtype: str, architecture: int) -> str | None:
    """Why an architecture cannot multiply in `dtype`, or None where it can, as all later ones then can."""
    known = _WIDE_PRODUCT.get(dtype)
    if known is None or architecture >= min(known):
        return None
    return f"sm{architecture} has no {dtype} tensor cores; supported: {', '.join(f'sm{each}' for each in known)}"


def is_interpreted(kernel: Any) -> bool:
    """Whether Triton's interpreter runs this kernel; its decorator decided that."""
    return not isinstance(kernel, triton.JITFunction)


def find_target(op: str, kernel: Any, x: Tensor) -> Target:
    """The target of x's device. Raises Unsupported where the kernel cannot run there in x's dtype."""
    if is_interpreted(kernel):
        if x.dtype == torch.bfloat16:
            raise Unsupported(f"{op}: Triton's interpreter computes bf16 products wrongly; use fp16 or fp32 there")
        return Target(ARCHITECTURES[0], _INTERPRETED_SM_COUNT)
    if x.device.type != "cuda":
        raise Unsupported(f"{op}: the Triton kernel needs CUDA tensors, not {x.device} (or TRITON_INTERPRET=1)")
    target = _device_target(x.device)
    if target.architecture < ARCHITECTURES[0]:
        raise Unsupported(
            f"{op}: compute capability {target.architecture / 10} is not supported; supported: 8.0 and later"
        )
    if reason := missing_unit(dtype_name(x.dtype), target.architecture):
        raise Unsupported(f"{op}: {reason}")
    return target


def is_describable(x: Tensor) -> bool:
    """Whether a descriptor can stand for x: contiguous rows that start at multiples of 16 bytes."""
    *strides, last = x.stride()
    starts = [number * x.element_size() for number in (*strides, x.storage_offset())]
    return last == 1 and all(strides) and not any(start % ALIGNMENT_BYTES for start in starts)


def check_tile_strides(op: str, *strides: int) -> None:
    """Raise Unsupported for a stride with which offsets inside a tile might not fit in 32 bits."""
    if max(strides) > _MAX_TILE_STRIDE:
        raise Unsupported(
            f"{op} does not support a stride of {max(strides)} elements; supported: to {_MAX_TILE_STRIDE}"
        )


def _allocate_scratch(size: int, alignment: int, stream: int | None) -> Tensor:  # noqa: ARG001  (Triton's signature)
    """Memory for one launch, from PyTorch's allocator: aligned to 512 bytes, reused in stream order."""
    return torch.empty(size, dtype=torch.int8, device="cuda")


@cache
def _device_target(device: torch.device) -> Target:
    properties = torch.cuda.get_device_properties(device)
    return Target(10 * properties.major + properties.minor, properties.multi_processor_count)
