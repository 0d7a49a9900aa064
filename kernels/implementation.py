"""What an implementation of an op is: a function, where and in which dtypes it runs, and what says that it is right."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

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


@dataclass(frozen=True, slots=True)
class Implementation:
    """One way to compute `op` in any of `dtypes`, and the function of `kernels.reference` that says what is right.

    `devices` are those it is measured on: Triton's interpreter runs on a CPU too, for tests. `architectures` is empty
    where PyTorch decides. `configs` are what a Triton launcher takes as `config`, by name; what it takes where none is
    given is its own choice. `contends` says of a configuration and dimensions whether a tuner need try it.

    `prepare` turns the op's inputs into what `run` takes, where that is another format: a weight packed otherwise, a
    step that is checked, compiled or captured. It is called once for each set of inputs, before checking and timing,
    and is never timed; it takes dimensions by keyword where `run` does. It leaves its arguments alone, which other
    implementations are given too, and keeps a given output in its place. `package` is what is installed to have this
    implementation, as package indices name it. `compiles` says that each shape is compiled when it first comes, which
    takes seconds. `captures` says that a call can be captured in a CUDA graph, as one can that neither waits for the
    GPU nor works on a stream of its own.
    """

    op: str
    name: str
    run: Callable[..., Result]
    reference: Callable[..., Result]
    dtypes: tuple[str, ...] = FLOATS
    devices: tuple[str, ...] = EVERYWHERE
    architectures: tuple[int, ...] = ()
    configs: Mapping[str, Any] = field(default_factory=dict)
    contends: Callable[[Any, Mapping[str, int]], bool] = always
    prepare: Prepare | None = None
    package: str = "torch"
    compiles: bool = False
    captures: bool = True
