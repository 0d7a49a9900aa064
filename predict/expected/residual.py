"""What the forms of expected time leave over: a factor by shape, read off lattices that `python -m reports ship` fits.

    log(factor) = sum over the op's lattices of the value at the shape, at most log 2 either way

A lattice has nodes at even steps in log2 of two to four sizes. Between nodes its value is multilinear. Beyond the last
node it falls to 0 within a step, so the factor is 1 where nothing was measured.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from math import prod
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from predict.expected.time_model import Dims
from predict.workloads import FloatArray

LARGEST = float(np.log(2.0))  # of the log of the factor: a form that is off by more is wrong, and no factor mends it
UNIT = 0.01  # a stored value of 1 is this much of log(factor), so 127 is 3.6 times
TILE_ROWS = 128  # of a matrix product; rows beyond its multiples are padding

# The sizes that span lattices, by name; all others are dimensions of the op.
DERIVED: Mapping[str, Callable[[Dims], FloatArray]] = MappingProxyType(
    {
        "sequences": lambda dims: dims["batch"] * dims["kv_heads"],
        "group": lambda dims: dims["heads"] / dims["kv_heads"],
        "padding": lambda dims: np.ceil(dims["m"] / TILE_ROWS) * TILE_ROWS / dims["m"],
    }
)


@dataclass(frozen=True, slots=True)
class Axis:
    """Nodes of a lattice along log2 of one size."""

    size: str
    low: float  # log2 of the size at the first node
    step: float
    nodes: int


@dataclass(frozen=True, slots=True)
class Corners:
    """The nodes around each row, and their weights: arrays of shape [corners, rows]. Weights add up to at most 1."""

    nodes: NDArray[np.intp]
    weights: FloatArray


@dataclass(frozen=True, slots=True)
class Lattice:
    """A value at each combination of the axes' nodes; the last axis runs fastest."""

    axes: tuple[Axis, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Nodes along each axis."""
        return tuple(axis.nodes for axis in self.axes)

    @property
    def nodes(self) -> int:
        """Nodes in all."""
        return prod(self.shape)

    def corners(self, dims: Dims) -> Corners:
        """The nodes around each row. A corner outside the lattice has weight 0."""
        nodes: NDArray[np.intp] = np.zeros((1, 1), dtype=np.intp)
        weights: FloatArray = np.ones((1, 1))
        for axis in self.axes:
            place = (np.log2(_size(axis.size, dims)) - axis.low) / axis.step
            below = np.floor(place)
            sides = np.stack([below, below + 1])
            inside = (sides >= 0) & (sides < axis.nodes)
            share = np.where(inside, np.stack([below + 1 - place, place - below]), 0)
            places = np.where(inside, sides, 0).astype(np.intp)
            pairs = list(product(range(len(nodes)), range(2)))
            nodes = np.stack([nodes[old] * axis.nodes + places[side] for old, side in pairs])
            weights = np.stack([weights[old] * share[side] for old, side in pairs])
        return Corners(nodes, weights)


def _lattice(*axes: tuple[str, float, float, int]) -> Lattice:
    return Lattice(tuple(Axis(*axis) for axis in axes))


def _attention(length: str) -> tuple[Lattice, ...]:
    """How full the SMs are by the group, by the width of a head; and the batch apart from the KV heads."""
    return (
        _lattice(("sequences", 0, 2, 8), (length, 0, 1, 18), ("group", 0, 1, 7)),
        _lattice(("sequences", 0, 2, 8), (length, 0, 1, 18), ("head_dim", 6, 1, 4)),
        _lattice(("batch", 0, 2, 6), ("kv_heads", 0, 1, 7), (length, 0, 2, 9)),
    )


def _windowed(length: str) -> tuple[Lattice, ...]:
    return (
        _lattice(("sequences", 0, 2, 8), (length, 0, 2, 9), ("group", 0, 1, 7)),
        _lattice(("sequences", 0, 2, 8), (length, 0, 1, 18), ("head_dim", 6, 1, 3), ("window", 7, 3, 3)),
        _lattice(("batch", 0, 2, 6), ("kv_heads", 0, 1, 7), (length, 0, 2, 9)),
    )


def _latent(length: str) -> tuple[Lattice, ...]:
    """All heads share one latent, so batch, length and heads say all. Finer steps do no better on shapes kept back."""
    return (_lattice(("batch", 0, 2, 6), (length, 0, 2, 9), ("heads", 0, 2, 4)),)


_MESSAGES = (_lattice(("gpus", 1, 1, 4), ("message_bytes", 8, 2, 12)),)
# By op, and whether attention has a window: at most about 2,000 nodes.
LATTICES: Mapping[tuple[str, bool], tuple[Lattice, ...]] = MappingProxyType(
    {
        ("matmul", False): (
            _lattice(("m", 0, 2, 9), ("n", 5, 1, 13), ("k", 5, 1, 13)),
            _lattice(("m", 4, 1, 12), ("padding", 0, 0.25, 5)),
        ),
        ("attention_prefill", False): _attention("seq"),
        ("attention_decode", False): _attention("context"),
        ("attention_prefill", True): _windowed("seq"),
        ("attention_decode", True): _windowed("context"),
        ("attention_mla_prefill", False): _latent("seq"),
        ("attention_mla", False): _latent("context"),
        **{(op, False): _MESSAGES for op in ("all_reduce", "all_gather", "reduce_scatter", "all_to_all")},
    }
)


def lattices(op: str, *, window: bool = False) -> tuple[Lattice, ...]:
    """The lattices of an op; none for an op without."""
    return LATTICES.get((op, window), ())


def nodes(op: str, *, window: bool = False) -> int:
    """How many values a residual of this op has."""
    return sum(lattice.nodes for lattice in lattices(op, window=window))


def log_factor(op: str, dims: Dims, values: NDArray[np.int8], *, window: bool = False) -> FloatArray:
    """The log of the factor of each row. `dims` are arrays of one shape; `values` are those of all lattices in order,
    in `UNIT`s."""
    total, start = np.zeros(1), 0
    for lattice in lattices(op, window=window):
        found = lattice.corners(dims)
        total = total + (found.weights * values[start : start + lattice.nodes][found.nodes]).sum(axis=0) * UNIT
        start += lattice.nodes
    return np.clip(total, -LARGEST, LARGEST)


def _size(name: str, dims: Dims) -> FloatArray:
    return DERIVED[name](dims) if name in DERIVED else dims[name]
