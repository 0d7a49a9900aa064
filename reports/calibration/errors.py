"""How far predicted times are from measured ones."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

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
    napkin = rows["napkin_s"].to_numpy()
    return Errors(
        rows=len(rows),
        mape_napkin=float(np.abs(napkin / measured - 1).mean()),
        mape_expected=float(expected.mean()),
        median_error=float(np.median(expected)),
        p90_error=float(np.quantile(expected, 0.9)),
        within_30_percent=float((expected <= NEAR).mean()),
        faster_than_bound=int((measured < napkin).sum()),
    )
