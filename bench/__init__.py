"""The experiment of napkin-bench: checks and times implementations of an op, or a function of yours, on this machine.

`from bench import measure` is `python -m bench run --callable` in the process that asks. It is loaded when it is asked
for, because it loads torch.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.function import WrongResult, measure
    from bench.measured import Measured

__all__ = ["Measured", "WrongResult", "measure"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from bench import function  # noqa: PLC0415 - records are read where there is no torch

    return getattr(function, name)
