"""Ranges that quantities must keep. Each check takes numbers or arrays by name and raises BadQuantity naming the first
that is out of range: `positive(gpus=0)` says "gpus must be positive, not 0"."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from predict.errors import BadQuantity


def positive(**quantities: ArrayLike) -> None:
    """Raise BadQuantity unless every quantity is finite and above zero."""
    for name, value in quantities.items():
        numbers = _floats(name, value)
        _refuse(name, numbers, (numbers > 0) & np.isfinite(numbers), "must be positive")


def not_negative(**quantities: ArrayLike) -> None:
    """Raise BadQuantity unless every quantity is finite and zero or more."""
    for name, value in quantities.items():
        numbers = _floats(name, value)
        _refuse(name, numbers, (numbers >= 0) & np.isfinite(numbers), "must not be negative")


def count(**quantities: ArrayLike) -> None:
    """Raise BadQuantity unless every quantity is a whole number, 0 or more."""
    for name, value in quantities.items():
        numbers = _floats(name, value)
        good = (numbers >= 0) & np.isfinite(numbers) & (np.floor(numbers) == numbers)
        _refuse(name, numbers, good, "must be a whole number, 0 or more")


def whole(**quantities: ArrayLike) -> None:
    """Raise BadQuantity unless every quantity is a whole number of at least 1."""
    for name, value in quantities.items():
        numbers = _floats(name, value)
        good = (numbers >= 1) & np.isfinite(numbers) & (np.floor(numbers) == numbers)
        _refuse(name, numbers, good, "must be a positive whole number")


def efficiency(**quantities: ArrayLike) -> None:
    """Raise BadQuantity unless every quantity is above 0 and at most 1: an MFU, an MBU, a utilization."""
    for name, value in quantities.items():
        numbers = _floats(name, value)
        _refuse(name, numbers, (numbers > 0) & (numbers <= 1), "must be above 0 and at most 1")


def probability(**quantities: ArrayLike) -> None:
    """Raise BadQuantity unless every quantity is from 0 to 1."""
    for name, value in quantities.items():
        numbers = _floats(name, value)
        _refuse(name, numbers, (numbers >= 0) & (numbers <= 1), "must be from 0 to 1")


def _floats(name: str, value: ArrayLike) -> NDArray[np.float64]:
    """As floats, since a Python int may be larger than NumPy's."""
    try:
        return np.asarray(value, dtype=np.float64)
    except OverflowError:
        raise BadQuantity(f"{name} is too large a number") from None


def _refuse(name: str, numbers: NDArray[np.float64], good: NDArray[np.bool_], rule: str) -> None:
    bad = np.logical_not(good)
    if np.any(bad):
        raise BadQuantity(f"{name} {rule}, not {numbers[bad].flat[0]:g}")
