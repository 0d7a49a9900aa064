"""Checks a result against fp64, before anything is timed.

The allowed error is a small multiple of the error of an independent, plain computation in the same precision on the
same inputs, so it scales with depth, magnitude and dtype, plus a few units of the dtype's rounding.
"""

from collections.abc import Sequence

import torch

from bench.record import Check
from predict.units import DType

ERROR_FACTOR = 3.0  # a right kernel rounds in other places than the baseline; a wrong one is far off

# The relative error of one rounding: half the distance between 1 and the next number.
UNIT_ROUNDOFF = {
    "fp64": 2.0**-53,
    "fp32": 2.0**-24,
    "tf32": 2.0**-11,
    "fp16": 2.0**-11,
    "bf16": 2.0**-8,
    "fp8": 2.0**-4,
}

# The relative error of summing thousands of terms in another order, by accumulator.
ACCUMULATION_FP32, ACCUMULATION_FP64 = 1e-5, 1e-13


def check_all(
    actual: Sequence[torch.Tensor], reference: Sequence[torch.Tensor], baseline: Sequence[torch.Tensor], dtype: DType
) -> Check:
    """Compare each tensor of a result with its reference. Returns the check that is nearest to, or farthest beyond,
    its bounds."""
    return worst([check(*each, dtype) for each in zip(actual, reference, baseline, strict=True)])


def worst(checks: Sequence[Check]) -> Check:
    """The check that is nearest to, or farthest beyond, its bounds."""
    return max(checks, key=lambda each: max(each.relative_error / each.relative_bound, each.max_error / each.max_bound))


def check(actual: torch.Tensor, reference: torch.Tensor, baseline: torch.Tensor, dtype: DType) -> Check:
    """Compare `actual` with the fp64 `reference`, allowing for the error of the low-precision `baseline`.

    One rounding and one reordering are allowed even if the baseline is exact. A wrong shape, NaN or infinity exceeds
    every bound.
    """
    accumulation = ACCUMULATION_FP64 if dtype.name == "fp64" else ACCUMULATION_FP32
    allowance = UNIT_ROUNDOFF[dtype.name] + accumulation
    base_relative, base_max = _errors(baseline, reference)
    relative, largest = _errors(actual, reference)
    return Check(
        relative_error=relative,
        max_error=largest,
        relative_bound=ERROR_FACTOR * base_relative + allowance,
        max_bound=ERROR_FACTOR * base_max + allowance * _peak_over_rms(reference),
    )


WRONG = 1e30  # error of a result that is not finite or has the wrong shape; JSON has no infinity


def _errors(actual: torch.Tensor, reference: torch.Tensor) -> tuple[float, float]:
    """(relative error in the Frobenius norm, largest error over the root mean square of the reference)."""
    if actual.shape != reference.shape or not bool(torch.isfinite(actual).all()):
        return WRONG, WRONG
    difference = (actual.double() - reference.double()).abs()
    norm = reference.double().norm().item()
    if norm == 0:
        raise ValueError("the reference is all zeros: such inputs cannot show an error")
    rms = norm / float(reference.numel()) ** 0.5
    return difference.norm().item() / norm, difference.max().item() / rms


def _peak_over_rms(reference: torch.Tensor) -> float:
    """Largest element over the rms: rounding is relative to an element, the largest error to the rms."""
    values = reference.double()
    rms = values.square().mean().sqrt()
    return (values.abs().max() / rms).item()
