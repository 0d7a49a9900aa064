"""A residual is a smooth and bounded factor by shape, and 1 where nothing was measured."""

import numpy as np
import pytest

from predict.expected.calibrations import RESIDUALS, shipped
from predict.expected.residual import LARGEST, LATTICES, Axis, Lattice, lattices, log_factor, nodes


def at(**dims):
    return {name: np.atleast_1d(np.asarray(size, dtype=float)) for name, size in dims.items()}


def values_of(op, node_of_lattice, window=False):
    """Values that are 0 but at one node of one lattice: {(lattice, node along each axis): value}."""
    found, start = np.zeros(nodes(op, window=window), dtype=np.int8), 0
    for number, lattice in enumerate(lattices(op, window=window)):
        for (which, places), value in node_of_lattice.items():
            if which == number:
                found[start + np.ravel_multi_index(places, lattice.shape)] = value
        start += lattice.nodes
    return found


def test_between_nodes_the_value_is_multilinear():
    lattice = Lattice((Axis("m", 0, 2, 3), Axis("n", 5, 1, 2)))  # m at 1, 4, 16; n at 32, 64
    corners = lattice.corners(at(m=8, n=32 * 2**0.25))
    # log2(m) = 3 lies half way from 4 to 16, log2(n) = 5.25 a quarter from 32 to 64.
    weights = dict(zip(corners.nodes[:, 0].tolist(), corners.weights[:, 0].tolist(), strict=True))
    assert weights == pytest.approx({1 * 2 + 0: 0.375, 1 * 2 + 1: 0.125, 2 * 2 + 0: 0.375, 2 * 2 + 1: 0.125})


def test_the_factor_is_one_beyond_the_lattice_and_falls_to_it_within_a_step():
    # The last node of n is 2^17; that of m = 16 and k = 4096 is (2, 12, 7) at steps of 4, 2 and 2.
    values = values_of("matmul", {(0, (2, 12, 7)): 20})
    n = 2.0 ** np.array([17.0, 17.5, 18.0, 25.0])
    rows = at(m=np.full(4, 16), n=n, k=np.full(4, 4096))
    assert log_factor("matmul", rows, values) == pytest.approx([0.20, 0.10, 0.0, 0.0])


def test_the_factor_is_at_most_two_either_way():
    for value, log in ((127, LARGEST), (-127, -LARGEST)):
        values = np.full(nodes("matmul"), value, dtype=np.int8)
        assert log_factor("matmul", at(m=256, n=4096, k=4096), values) == pytest.approx(log)


@pytest.mark.parametrize("key", LATTICES, ids=str)
def test_an_op_has_about_two_thousand_values_at_most(key):
    assert nodes(key[0], window=key[1]) <= 2200
    assert len({lattice.axes for lattice in LATTICES[key]}) == len(LATTICES[key])


def test_what_ships_is_one_array_that_the_calibrations_share():
    stored = np.load(RESIDUALS)
    assert stored.dtype == np.int8
    used = [each for each in shipped() if each.residual is not None]
    assert sum(len(each.residual) for each in used) == len(stored)
    for each in used:
        assert len(each.residual) == nodes(each.calibration.op, window=each.window)
        assert each.refined_error is not None
    assert RESIDUALS.stat().st_size < 400_000
