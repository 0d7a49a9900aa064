"""Fits the residual of a kernel family: what its form leaves over, as values on the lattices of its op.

    minimize sum of soft_l1((log(measured / expected) - log(factor)) / NOISE)
             + RIDGE * sum of values^2 + SMOOTH * sum of (differences of neighboring nodes)^2

A node that few rows support stays near 0 and near its neighbors, so noise does not pass for a property of the kernel.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from predict.expected.residual import UNIT, Lattice, lattices, nodes
from predict.workloads import FloatArray

RIDGE = 0.3  # rows that pull a node to 0
SMOOTH = 0.3  # rows that pull two neighbors together
NOISE = 0.05  # deviation of log(measured / expected) from which on a row counts less: one odd row decides nothing
ROUNDS = 3  # of reweighting


def fit_residual(
    op: str, columns: Mapping[str, FloatArray], log_ratio: FloatArray, *, window: bool = False
) -> NDArray[np.int8]:
    """The values that `predict.expected.residual.log_factor` takes, of log(measured / expected) at each row."""
    found = lattices(op, window=window)
    design = sparse.hstack([_design(lattice, columns, len(log_ratio)) for lattice in found], format="csr")
    pull = RIDGE * np.eye(nodes(op, window=window)) + SMOOTH * sparse.block_diag([_differences(each) for each in found])
    weights = np.ones(len(log_ratio))
    for _ in range(ROUNDS):
        weighted = design.multiply(weights[:, np.newaxis]).tocsr()
        values = np.linalg.solve(np.asarray(design.T @ weighted + pull), weighted.T @ log_ratio)
        weights = 1 / np.hypot(1, (log_ratio - design @ values) / NOISE)
    return np.clip(np.rint(values / UNIT), -127, 127).astype(np.int8)


def _design(lattice: Lattice, columns: Mapping[str, FloatArray], rows: int) -> "sparse.csr_matrix":
    """The weight of each node in each row."""
    corners = lattice.corners(columns)
    row = np.broadcast_to(np.arange(rows), corners.nodes.shape)
    entries = (corners.weights.ravel(), (row.ravel(), corners.nodes.ravel()))
    return sparse.csr_matrix(entries, shape=(rows, lattice.nodes))


def _differences(lattice: Lattice) -> "sparse.csr_matrix":
    """The matrix of the sum of squared differences between neighbors, over all axes."""
    places = np.arange(lattice.nodes).reshape(lattice.shape)
    total = sparse.csr_matrix((lattice.nodes, lattice.nodes))
    for axis, count in enumerate(lattice.shape):
        lower, upper = (np.take(places, span, axis).ravel() for span in (range(count - 1), range(1, count)))
        rows = np.tile(np.arange(len(lower)), 2)
        signs = np.repeat([-1.0, 1.0], len(lower))
        step = sparse.csr_matrix((signs, (rows, np.concatenate([lower, upper]))), shape=(len(lower), lattice.nodes))
        total = total + step.T @ step
    return total
