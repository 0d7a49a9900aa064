"""Layers whose times say how many matrices their experts have."""

import numpy as np
import pandas as pd

from reports.accuracy.gates import matrices

SHAPES = ((4096, 2048), (2048, 4096), (8192, 2048), (4096, 1024))


def layers(factors, kernel="some kernel"):
    """A time for each batch of each layer, in proportion to its weights and a factor."""
    rows = [
        {
            "tokens": tokens, "hidden": hidden, "intermediate": intermediate, "active": 8, "experts": 64, "tp": 1,
            "ep": 1, "skew": skew, "kernel": kernel, "time_s": hidden * intermediate * 1e-10 * factors(hidden, skew),
        }
        for hidden, intermediate in SHAPES
        for tokens in (64, 96, 128)
        for skew in (0.0, 1.2)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_a_layer_that_takes_two_thirds_of_the_time_has_two_matrices():
    table = layers(lambda hidden, _: 2 / 3 if hidden == 8192 else 1.0)
    assert np.array_equal(matrices(table), np.where(table["hidden"] == 8192, 2, 3))


def test_a_layer_that_is_fast_for_one_distribution_alone_has_a_gate():
    assert (matrices(layers(lambda hidden, skew: 0.6 if hidden == 8192 and skew == 0 else 1.0)) == 3).all()


def test_other_kernels_tell_nothing_and_two_layers_too_little():
    slow, fast = layers(lambda *_: 3.0, "slow"), layers(lambda *_: 1.0, "fast")
    assert (matrices(pd.concat([slow, fast], ignore_index=True)) == 3).all()
    two = layers(lambda hidden, _: 2 / 3 if hidden == 8192 else 1.0)
    assert (matrices(two[two["hidden"].isin([8192, 2048])].reset_index(drop=True)) == 3).all()


def test_rows_that_lack_a_size_are_no_evidence():
    table = layers(lambda hidden, _: 2 / 3 if hidden == 8192 else 1.0)
    table.loc[0, "tokens"] = np.nan
    assert np.array_equal(matrices(table), np.where(table["hidden"] == 8192, 2, 3))
