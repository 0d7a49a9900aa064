"""Whether the experts of a measured layer have a gate, which aiconfigurator's tables do not say.

An expert without a gate has two matrices, one with a gate three, so it takes two thirds of the time where reading
weights decides. Within one kernel, that shows beside the other layers: most have a gate.
"""

import numpy as np
import pandas as pd

from predict.expected.expert_load import expert_load
from predict.workloads import FloatArray

GATED, UNGATED = 3, 2
LAYER = ("hidden", "intermediate", "active", "experts")  # the dimensions of a layer
FEW_ROWS = 32  # for each expert: on every GPU reading an expert takes longer than multiplying so many rows
LARGE_WEIGHTS = 2**27  # elements of a matrix of all experts: reading more takes longer than the launches
FASTEST = 0.1  # the quantile of a layer's times per weight that tells it
LIMIT = (2 / 3) ** 0.5  # of the median over layers: halfway between both kinds
LEAST_LAYERS = 3


def matrices(layers: pd.DataFrame) -> FloatArray:
    """The matrices of an expert in each row: 2 where its layer takes so much less time for each weight than most layers
    of the same `kernel`, however the tokens fall; else 3. Needs the dimensions of moe_layer, `kernel` and `time_s`."""
    found = pd.Series(GATED, index=layers.index)
    sizes = layers[["tokens", "tp", "ep", *LAYER]].to_numpy(dtype=np.float64)
    complete = (sizes > 0).all(axis=1) & (layers[["skew", "time_s"]].to_numpy(dtype=np.float64) >= 0).all(axis=1)
    telling = _per_weight(layers.loc[np.flatnonzero(complete)])
    for kernel, rows in telling.groupby("kernel"):
        fastest = rows.groupby([*LAYER, "skew"])["per_weight"].quantile(FASTEST)
        of_most = (fastest / fastest.groupby("skew").transform("median")).groupby(list(LAYER)).max()
        if len(of_most) >= LEAST_LAYERS:
            ungated = pd.MultiIndex.from_frame(layers[list(LAYER)]).isin(of_most[of_most < LIMIT].index)
            found[(layers["kernel"] == kernel) & ungated] = UNGATED
    return np.asarray(found, dtype=np.float64)


def _per_weight(layers: pd.DataFrame) -> pd.DataFrame:
    """The rows that read many weights and multiply them by few rows, with their time for each weight of a matrix."""
    columns = (layers[name].to_numpy(dtype=np.float64) for name in ("tokens", "active", "experts", "ep", "skew"))
    load = expert_load(*columns, gathers=False)
    hidden, intermediate, tp, time_s = (
        layers[name].to_numpy(dtype=np.float64) for name in ("hidden", "intermediate", "tp", "time_s")
    )
    weights = load.touched * hidden * intermediate / tp
    telling = (load.rows <= FEW_ROWS * load.touched) & (weights >= LARGE_WEIGHTS)
    found: pd.DataFrame = layers.assign(per_weight=time_s / weights).loc[telling]
    return found
