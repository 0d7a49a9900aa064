"""How far predicted times are from measured ones."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from predict.workloads import FloatArray

NEAR = 0.3  # the largest error of a usable estimate


@dataclass(frozen=True, slots=True)
class Errors:
    """How far predictions are from measured times; all errors are fractions, not percentages."""

    rows: int
    mape_napkin: float
    mape_expected: float
    median_error: float
    p90_error: float
    within_30_percent: float
    faster_than_bound: int


def errors(rows: pd.DataFrame) -> Errors:
    """Errors of the rows, relative to the measured time."""
    measured = rows["time_s"].to_numpy()
    expected = np.abs(rows["expected_s"].to_numpy() / measured - 1)
    napkin_s = rows["napkin_s"].to_numpy()
    return Errors(
        rows=len(rows),
        mape_napkin=mean_error(napkin_s, measured),
        mape_expected=mean_error(rows["expected_s"].to_numpy(), measured),
        median_error=float(np.median(expected)),
        p90_error=float(np.quantile(expected, 0.9)),
        within_30_percent=float((expected <= NEAR).mean()),
        faster_than_bound=int((measured < napkin_s).sum()),
    )


def mean_error(predicted_s: FloatArray, measured_s: FloatArray) -> float:
    """Mean of |predicted / measured - 1|."""
    return float(np.abs(predicted_s / measured_s - 1).mean())
