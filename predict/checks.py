"""Range checks. Each check takes numbers or arrays by name and raises BadQuantity for the first one out of range:
`positive(gpus=0)` raises "gpus must be positive, not 0"."""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from predict.errors import BadQuantity

FloatArray = NDArray[np.float64]
Truths = NDArray[np.bool_]
EXACT = 2**53  # float64 holds every whole number up to here


def positive(**quantities: ArrayLike) -> None:
    """Raise BadQuantity unless every quantity is finite and above zero."""
    _check(quantities, "must be positive", lambda numbers: (numbers > 0) & np.isfinite(numbers))


def not_negative(**quantities: ArrayLike) -> None:
    """Raise BadQuantity unless every quantity is finite and zero or more."""
    _check(quantities, "must not be negative", lambda numbers: (numbers >= 0) & np.isfinite(numbers))


def count(**quantities: ArrayLike) -> None:
    """Raise BadQuantity unless every quantity is a whole number of at least 0."""
    _check(quantities, "must be a whole number, 0 or more", lambda numbers: (numbers >= 0) & _is_whole(numbers))


def whole(**quantities: ArrayLike) -> None:
    """Raise BadQuantity unless every quantity is a whole number of at least 1."""
    if all(_is_plain(each) for each in quantities.values()):
        return  # nearly every call: it needs no arrays
    _check(quantities, "must be a positive whole number", lambda numbers: (numbers >= 1) & _is_whole(numbers))


def efficiency(**quantities: ArrayLike) -> None:
    """Raise BadQuantity unless every quantity is above 0 and at most 1, such as an MFU or MBU."""
    _check(quantities, "must be above 0 and at most 1", lambda numbers: (numbers > 0) & (numbers <= 1))


def probability(**quantities: ArrayLike) -> None:
    """Raise BadQuantity unless every quantity is from 0 to 1."""
    _check(quantities, "must be from 0 to 1", lambda numbers: (numbers >= 0) & (numbers <= 1))


def _is_plain(value: object) -> bool:
    return isinstance(value, int) and 1 <= value <= EXACT


def _is_whole(numbers: FloatArray) -> Truths:
    return np.asarray(np.isfinite(numbers) & (np.floor(numbers) == numbers))


def _check(quantities: Mapping[str, ArrayLike], rule: str, keeps: Callable[[FloatArray], Truths]) -> None:
    """Raise BadQuantity naming the first quantity for which `keeps` is false."""
    for name, value in quantities.items():
        try:
            numbers = np.asarray(value, dtype=np.float64)
        except OverflowError:  # a Python int may not fit into float64
            raise BadQuantity(f"{name} is too large a number") from None
        bad = np.logical_not(keeps(numbers))
        if np.any(bad):
            raise BadQuantity(f"{name} {rule}, not {numbers[bad].flat[0]:g}")
