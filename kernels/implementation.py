"""An implementation of an op: a function, the devices and dtypes it runs with, and the reference it must match."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from torch import Tensor

from kernels import reference

EVERYWHERE = ("cuda", "cpu")
CUDA = ("cuda",)
CPU = ("cpu",)
Result = Tensor | tuple[Tensor, ...]
Prepare = Callable[..., tuple[Any, ...]]  # returns tensors, or objects that hold tensors and have `nbytes`
FLOATS = ("fp64", "fp32", "bf16", "fp16")
TO_FP32 = ("fp32", "bf16", "fp16")  # of fused back ends; only a call tells which of them a device takes
HALF = ("bf16", "fp16")


def always(config: Any, dims: Mapping[str, int]) -> bool:  # noqa: ARG001
    """The default of `Implementation.contends`: a tuner tries every configuration."""
    return True


class Intermediate(Enum):
    """An intermediate that an implementation of attention writes to memory, beside its result."""

    SCORES = auto()  # the scores and their softmax, in the op's format
    WIDE_SCORES = auto()  # SCORES in at least fp32, and K and V copied for each query head: PyTorch's math back end
    POSSIBLE_SCORES = auto()  # SCORES, unless the compiler keeps them on chip
    MASK = auto()  # a number for each pair of a query and a key, made from two booleans
    TRUTH_VALUES = auto()  # three booleans for each pair, from which FlexAttention makes its block mask
    CACHE = auto()  # a copy of K and V, in 16 bits or in another order


@dataclass(frozen=True, slots=True)
class Implementation:
    """One way to compute `op`. Raises ValueError if it has no reference."""

    op: str
    name: str
    run: Callable[..., Result]
    dtypes: tuple[str, ...] = FLOATS
    # The devices it is measured on; Triton's interpreter also runs on a CPU, but only for tests.
    devices: tuple[str, ...] = EVERYWHERE
    # The architectures it supports; empty where PyTorch decides.
    architectures: tuple[int, ...] = ()
    # The values that a Triton launcher takes as `config`, by name; without `config` it chooses itself.
    configs: Mapping[str, Any] = field(default_factory=dict)
    # Whether a tuner need try a configuration at these dimensions.
    contends: Callable[[Any, Mapping[str, int]], bool] = always
    # Turns the op's inputs into those of `run`, where these differ: a repacked weight; a checked, compiled or captured
    # step. It is called once for each set of inputs, before checking and timing, and never timed. It takes dimensions
    # by keyword where `run` does. It must not change its arguments, which other implementations get too, and must keep
    # an output argument at its position.
    prepare: Prepare | None = None
    # The package that provides it, by its name in package indices.
    package: str = "torch"
    # Whether it compiles each new shape, which takes seconds.
    compiles: bool = False
    # Whether a CUDA graph can capture a call: it must neither wait for the GPU nor use a stream of its own.
    captures: bool = True
    # What it writes to memory that a fused kernel would not.
    writes: tuple[Intermediate, ...] = ()
    # The reference, where `kernels.reference` has no function named after the op or its result has another form.
    own_reference: Callable[..., Result] | None = None
    # Whether it is a user's: then it is also checked that it leaves its inputs as they are and computes at every call.
    foreign: bool = False

    def __post_init__(self) -> None:
        if self.own_reference is None and not hasattr(reference, self.op):
            raise ValueError(f"{self.op} by {self.name}: kernels/reference.py has no {self.op}; give it own_reference")

    @property
    def reference(self) -> Callable[..., Result]:
        """The function whose result `run` must match: takes the op's inputs, `run`'s keywords, and `precision`."""
        found: Callable[..., Result] = self.own_reference or getattr(reference, self.op)
        return found
