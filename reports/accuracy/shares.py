"""Compares two GPUs: the share of the roofline that each reaches on the shapes measured on both."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from predict.expected.calibrations import DATA_CENTER
from predict.expected.collective import COLLECTIVES
from predict.expected.kernel import TIME_MODELS
from predict.expected.time_model import Machine
from predict.gpus import GPUS, NVIDIA_GPUS
from predict.units import DTYPES, duration, percent
from reports.accuracy.validate import Group
from reports.calibration.fit import Positions
from reports.tables import TextTable

NAPKIN_ENDS_S = (1e-7, 1e-6, 1e-5, 1e-4, 1e-3)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two groups of one op and format, on two GPUs, and the shapes that both have."""

    a: Group
    b: Group
    common: pd.DataFrame  # columns of a end in _a, of b in _b

    @property
    def classes(self) -> Positions:
        """The index of each shape's class, by its napkin on the first GPU."""
        return np.searchsorted(np.array(NAPKIN_ENDS_S), self.common["napkin_s_a"].to_numpy())


def telling_gpus(groups: Sequence[Group]) -> list[tuple[str, str]]:
    """The GPUs to compare: two as they are; of more, a data center GPU of each generation with one of the next."""
    gpus = list(dict.fromkeys(group.gpu for group in groups))
    if len(gpus) > 2:
        made = {name: NVIDIA_GPUS[name].architecture.sm for name in gpus}
        made = {name: sm for name, sm in made.items() if sm in DATA_CENTER}
        gpus = [min(name for name in made if made[name] == sm) for sm in sorted(set(made.values()))]
    return list(itertools.pairwise(gpus))


def find_pairs(groups: Sequence[Group], gpus: tuple[str, str]) -> list[Pair]:
    """The pairs of plain groups of two GPUs that share shapes, collectives left out: of each op and format the two
    groups that share the most."""
    pairs: dict[tuple[str, str], Pair] = {}
    first, second = ([group for group in groups if group.gpu == gpu and group.is_plain] for gpu in gpus)
    for a, b in ((a, b) for a in first for b in second if (a.op, a.dtype) == (b.op, b.dtype)):
        if a.op in COLLECTIVES:
            continue
        common = a.rows.merge(b.rows, on=list(TIME_MODELS[a.op].dims), suffixes=("_a", "_b"))
        known = pairs.get((a.op, a.dtype))
        if len(common) > (0 if known is None else len(known.common)):
            pairs[a.op, a.dtype] = Pair(a, b, common)
    return list(pairs.values())


def share_table(pairs: Sequence[Pair]) -> TextTable:
    """Median shares of the roofline, by the napkin time on the first GPU; `pairs` is not empty."""
    a, b = pairs[0].a.gpu, pairs[0].b.gpu
    rows = []
    for pair in pairs:
        shares = [pair.common[f"napkin_s_{side}"] / pair.common[f"time_s_{side}"] for side in "ab"]
        times = pair.common["time_s_b"] / pair.common["time_s_a"]
        for place in np.unique(pair.classes):
            inside = pair.classes == place
            reached = (percent(share[inside].median()) for share in shares)
            size = (_napkin_class(int(place)), f"{inside.sum():,}")
            rows.append((pair.a.op, pair.a.dtype, *size, *reached, f"{times[inside].median():.2f}"))
    titles = ("op", "dtype", f"napkin on {a}", "common shapes", f"{a}, % of roofline", f"{b}, % of roofline", "time")
    return TextTable(f"{a} against {b}", titles, tuple(rows))


def matmul_sentence(pair: Pair) -> str:
    """What the second GPU changes for matmuls: peak, bandwidth, launch, ridge, and the share that is compute-bound."""
    a, b = (Machine.of(GPUS[group.gpu], DTYPES[group.dtype]) for group in (pair.a, pair.b))
    floors = [duration(group.calibration.constants["launch_s"]) for group in (pair.a, pair.b)]
    shortest = pair.common[pair.classes == pair.classes.min()]
    time, napkin = ((shortest[f"{name}_b"] / shortest[f"{name}_a"]).median() for name in ("time_s", "napkin_s"))
    flop = 2 * pair.common["m"] * pair.common["n"] * pair.common["k"]
    bound = [
        percent(float((flop / machine.flop_per_s >= 0.999 * pair.common[f"napkin_s_{side}"]).mean()))
        for machine, side in ((a, "a"), (b, "b"))
    ]
    return (
        f"**matmul {pair.a.dtype}**: the second GPU has {b.flop_per_s / a.flop_per_s:.1f}x the peak and"
        f" {b.bytes_per_s / a.bytes_per_s:.1f}x the bandwidth, but an empty call takes {floors[0]} on the first and"
        f" {floors[1]} on the second: the shortest products take {time:.2f}x the time, although their bound is"
        f" {napkin:.2f}x. The ridge moves from {a.flop_per_s / a.bytes_per_s:.0f} to"
        f" {b.flop_per_s / b.bytes_per_s:.0f} FLOP a byte, so a batch must grow by the same factor to reach the peak:"
        f" {bound[0]} of these shapes are compute-bound on the first GPU, {bound[1]} on the second."
    )


def _napkin_class(place: int) -> str:
    if place == len(NAPKIN_ENDS_S):
        return f"over {duration(NAPKIN_ENDS_S[-1], 1)}"
    return f"up to {duration(NAPKIN_ENDS_S[place], 1)}"
