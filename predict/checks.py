"""Ranges that quantities must keep. Each check takes numbers or arrays by name and raises BadQuantity naming the first
that is out of range: `positive(gpus=0)` says "gpus must be positive, not 0"."""

import numpy as np
from numpy.typing import ArrayLike

from predict.errors import BadQuantity


def positive(**quantities: ArrayLike) -> None:
    """Raise BadQuantity unless every quantity is finite and above zero."""
    for name, value in quantities.items():
        _refuse(name, value, np.greater(value, 0) & np.isfinite(value), "must be positive")


def not_negative(**quantities: ArrayLike) -> None:
    """Raise BadQuantity unless every quantity is finite and zero or more."""
    for name, value in quantities.items():
        _refuse(name, value, np.greater_equal(value, 0) & np.isfinite(value), "must not be negative")


def whole(**quantities: ArrayLike) -> None:
    """Raise BadQuantity unless every quantity is a whole number of at least 1."""
    for name, value in quantities.items():
        good = np.greater_equal(value, 1) & np.isfinite(value) & (np.floor(value) == value)
        _refuse(name, value, good, "must be a positive whole number")


def efficiency(**quantities: ArrayLike) -> None:
    """Raise BadQuantity unless every quantity is above 0 and at most 1: an MFU, an MBU, a utilisation."""
    for name, value in quantities.items():
        _refuse(name, value, np.greater(value, 0) & np.less_equal(value, 1), "must be above 0 and at most 1")


def probability(**quantities: ArrayLike) -> None:
    """Raise BadQuantity unless every quantity is from 0 to 1."""
    for name, value in quantities.items():
        _refuse(name, value, np.greater_equal(value, 0) & np.less_equal(value, 1), "must be from 0 to 1")


def _refuse(name: str, value: ArrayLike, good: ArrayLike, rule: str) -> None:
    bad = np.logical_not(good)
    if np.any(bad):
        first = np.asarray(value)[bad].flat[0] if np.ndim(value) else value
        raise BadQuantity(f"{name} {rule}, not {first:g}")
