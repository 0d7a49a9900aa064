"""How many rows each expert of a layer gets on the busiest of the GPUs that share them: evenly, or by a power law.

A power law here is one of loads, as in aiconfigurator's measurements (collector/helper.py, power_law_logits_v3): the
load x of an expert has the density x^-skew, between 0.01 and 2 up to one row per expert, beyond that between 1 and
0.8 * tokens. Rows are in proportion to loads, and no expert gets more rows than there are tokens. aiconfigurator draws
the loads at random; here they are quantiles of the law, so that the same shape always gives the same rows.

The busiest GPU has the square root of its experts as hot ones, each the busiest of as many experts as there are GPUs;
its others are like all experts. For loads of a normal law this gives the expected largest sum, and where each GPU has
one expert it gives the busiest of all experts under any law.
"""

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from predict.workloads import FloatArray

POINTS = 32  # quantiles of the law
SPARSE_LOADS = (0.01, 2.0)  # range of the loads up to one row per expert
LARGEST_LOAD = 0.8  # of the tokens, with more rows
FEW = 64  # rows whose load is remembered
ROWS_AT_ONCE = 4096  # limits memory and keeps temporaries in cache


@dataclass(frozen=True, slots=True)
class ExpertLoad:
    """The experts of each distinct shape in classes of equal rows, and which shape each row of a table has."""

    place: NDArray[np.intp]  # of each row of the table among the distinct shapes
    counts: FloatArray  # [shape, class]: rows of an expert
    here: FloatArray  # [shape, class]: experts on the busiest GPU
    everywhere: FloatArray  # [shape, class]: experts on all GPUs

    @property
    def rows(self) -> FloatArray:
        """Rows that the busiest GPU multiplies."""
        return self._sum(self.here, self.counts)

    @property
    def touched(self) -> FloatArray:
        """Experts of the busiest GPU that have a row."""
        return self._sum(self.here, self.counts > 0)

    def tiles(self, height: int) -> FloatArray:
        """Tiles of `height` rows on the busiest GPU; no tile has rows of two experts."""
        return self._sum(self.here, np.ceil(self.counts / height))

    def all_tiles(self, height: int) -> FloatArray:
        """Tiles of `height` rows of all experts, wherever they are."""
        return self._sum(self.everywhere, np.ceil(self.counts / height))

    def _sum(self, experts: FloatArray, each: FloatArray | NDArray[np.bool_]) -> FloatArray:
        return np.asarray(np.maximum((experts * each).sum(axis=1), 1)[self.place])


def expert_load(
    tokens: FloatArray, active: FloatArray, experts: FloatArray, gpus: FloatArray, skew: FloatArray, *, gathers: bool
) -> ExpertLoad:
    """The load of each row, whose `tokens` go to `active` of `experts` each, which `gpus` GPUs share; skew 0: evenly.

    Few rows under a power law leave most experts with less than half a row, and these are rounded away. They go to
    experts without a row, one each: on all GPUs alike, or with `gathers` on the busiest one first.
    """
    table = np.stack([tokens, active, experts, gpus, skew], axis=1)
    return _remembered(table.tobytes(), gathers) if len(table) <= FEW else _load(table, gathers)


@functools.lru_cache(maxsize=64)
def _remembered(table: bytes, gathers: bool) -> ExpertLoad:  # noqa: FBT001
    """The load of few rows: a fit asks for that of its probes thousands of times."""
    return _load(np.frombuffer(table, dtype=np.float64).reshape(-1, 5), gathers)


def _load(table: FloatArray, gathers: bool) -> ExpertLoad:  # noqa: FBT001
    """The load of each row of `table`: tokens, active, experts, gpus, skew."""
    shapes, place = np.unique(table, axis=0, return_inverse=True)
    classes = np.zeros((3, len(shapes), POINTS + 1))
    even = shapes[:, 4] == 0
    classes[:, even, :2] = _even(shapes[even])
    (skewed,) = np.nonzero(~even)
    for start in range(0, len(skewed), ROWS_AT_ONCE):
        chunk = skewed[start : start + ROWS_AT_ONCE]
        classes[:, chunk] = _skewed(shapes[chunk], gathers=gathers)
    return ExpertLoad(place.reshape(-1), *classes)


def _even(shapes: FloatArray) -> FloatArray:
    """Two classes: `short` rows, and one row more. The longer experts are spread over the GPUs too."""
    tokens, active, experts, gpus, _ = shapes.T
    short = np.floor(tokens * active / experts)
    longer = tokens * active - short * experts
    longer_here = np.ceil(longer / gpus)
    counts = np.stack([short, short + 1], axis=1)
    here = np.stack([experts / gpus - longer_here, longer_here], axis=1)
    return np.stack([counts, here, np.stack([experts - longer, longer], axis=1)])


def _skewed(shapes: FloatArray, *, gathers: bool) -> FloatArray:
    """A class for each quantile of the law, and one of the experts whose only row comes from rounding."""
    tokens, active, experts, gpus, skew = shapes.T[:, :, np.newaxis]
    own = experts / gpus
    hot = np.where(gpus > 1, np.sqrt(own), 0)
    counts = np.rint(_shares(tokens, active, experts, skew))
    everywhere = np.broadcast_to(experts / POINTS, counts.shape)
    here = (own - hot) / POINTS + hot * _chance_of_largest(gpus)
    lost = np.maximum(tokens * active - (everywhere * counts).sum(axis=1, keepdims=True), 0)
    busy = (everywhere * (counts > 0)).sum(axis=1, keepdims=True)
    idle_here = (here * (counts == 0)).sum(axis=1, keepdims=True)
    last_here = np.minimum(lost if gathers else np.ceil(lost / gpus), idle_here)
    last = np.minimum(lost, experts - busy)
    return np.stack(
        [
            np.concatenate([counts, np.ones_like(last)], axis=1),
            np.concatenate([here, last_here], axis=1),
            np.concatenate([everywhere, last], axis=1),
        ]
    )


def _shares(tokens: FloatArray, active: FloatArray, experts: FloatArray, skew: FloatArray) -> FloatArray:
    """Rows of an expert at each quantile, from the fewest to the most, before rounding. What an expert would get beyond
    the number of tokens lifts those with the fewest rows to a common level."""
    rows, power = tokens * active, 1 - skew
    low = np.where(rows > experts, 1, SPARSE_LOADS[0])
    high = np.where(rows > experts, LARGEST_LOAD * tokens, SPARSE_LOADS[1])
    quantiles = np.clip((np.arange(POINTS) + 0.5) / POINTS, 0.5 / experts, 1 - 0.5 / experts)
    # At an exponent of 1 the law's quantiles are those of the logarithm.
    safe = np.where(power == 0, 1.0, power)
    loads = (quantiles * (high**safe - low**safe) + low**safe) ** (1 / safe)
    loads = np.where(power == 0, low * (high / low) ** quantiles, loads)
    shares = loads * (rows / (experts * loads.mean(axis=1, keepdims=True)))
    over = np.maximum(shares - tokens, 0).sum(axis=1, keepdims=True)
    shares = np.minimum(shares, tokens)
    levels = (np.cumsum(shares, axis=1) + over) / np.arange(1, POINTS + 1)
    above = np.concatenate([shares[:, 1:], np.full_like(over, np.inf)], axis=1)
    level = np.where(levels <= above, levels, np.inf).min(axis=1, keepdims=True)
    return np.asarray(np.where(over > 0, np.maximum(shares, level), shares))


def _chance_of_largest(draws: FloatArray) -> FloatArray:
    """The chance that the largest of so many draws lies in each class of quantiles."""
    edges = np.arange(POINTS + 1) / POINTS
    return np.diff(edges**draws, axis=1)
