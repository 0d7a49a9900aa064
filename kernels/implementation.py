"""What an implementation of an op is: a function, where and in which dtypes it runs, and what says that it is right."""

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
Prepare = Callable[..., tuple[Any, ...]]  # tensors, or what holds some and knows their nbytes
FLOATS = ("fp64", "fp32", "bf16", "fp16")
TO_FP32 = ("fp32", "bf16", "fp16")  # fused backends; which of them a device really takes, PyTorch says when asked
HALF = ("bf16", "fp16")


def always(config: Any, dims: Mapping[str, int]) -> bool:  # noqa: ARG001
    """What `contends` is where every configuration need be tried."""
    return True


class Intermediate(Enum):
    """What an implementation of attention writes to memory beside its result."""

    SCORES = auto()  # in the op's format, and their softmax
    WIDE_SCORES = auto()  # in fp32 at least, beside K and V for each query head, as PyTorch's math back end does
    POSSIBLE_SCORES = auto()  # as SCORES, unless the compiler keeps them on chip
    MASK = auto()  # a number for each pair of a query and a key, made of two truth values
    TRUTH_VALUES = auto()  # three for each pair, of which FlexAttention makes its blocks
    CACHE = auto()  # K and V once more, in 16 bits or in another order


@dataclass(frozen=True, slots=True)
class Implementation:
    """One way to compute `op` in any of `dtypes`.

    `devices` are those it is measured on: Triton's interpreter runs on a CPU too, for tests. `architectures` is empty
    where PyTorch decides. `configs` are what a Triton launcher takes as `config`, by name; without one it chooses by
    itself. `contends` says of a configuration and dimensions whether a tuner need try it.

    `prepare` turns the op's inputs into what `run` takes, where that is another format: a weight packed otherwise, a
    step that is checked, compiled or captured. It is called once for each set of inputs, before checking and timing,
    and is never timed; it takes dimensions by keyword where `run` does. It leaves its arguments alone, which other
    implementations are given too, and keeps a given output in its place. `package` is what is installed to have this
    implementation, as package indices name it. `compiles` says that each shape is compiled when it first comes, which
    takes seconds. `captures` says that a call can be captured in a CUDA graph, as one can that neither waits for the
    GPU nor works on a stream of its own. `writes` is what it writes to memory that a fused kernel would not.

    `own_reference` says what is right where `kernels.reference` has no function called as the op, or where the result
    has another form. Raises ValueError where there is neither.
    """

    op: str
    name: str
    run: Callable[..., Result]
    dtypes: tuple[str, ...] = FLOATS
    devices: tuple[str, ...] = EVERYWHERE
    architectures: tuple[int, ...] = ()
    configs: Mapping[str, Any] = field(default_factory=dict)
    contends: Callable[[Any, Mapping[str, int]], bool] = always
    prepare: Prepare | None = None
    package: str = "torch"
    compiles: bool = False
    captures: bool = True
    writes: tuple[Intermediate, ...] = ()
    own_reference: Callable[..., Result] | None = None

    def __post_init__(self) -> None:
        if self.own_reference is None and not hasattr(reference, self.op):
            raise ValueError(f"{self.op} by {self.name}: kernels/reference.py has no {self.op}; give it own_reference")

    @property
    def reference(self) -> Callable[..., Result]:
        """What the result is held against: takes the inputs, the dimensions that `run` takes, and `precision`."""
        found: Callable[..., Result] = self.own_reference or getattr(reference, self.op)
        return found
