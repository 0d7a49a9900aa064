"""The napkin of napkin-bench: predicts times from FLOP and bytes and a machine's roofs. Needs no GPU and no PyTorch.

`from predict import estimate` is `python -m predict model` as a function. It is loaded when it is asked for, so that
every other module loads alone.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from predict.answers.estimate import Estimate, estimate

__all__ = ["Estimate", "estimate"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from predict.answers import estimate as module  # noqa: PLC0415 - every module of predict loads this one first

    return getattr(module, name)
