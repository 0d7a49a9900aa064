"""Any number of sides: shares of the roof by size, what bounds each shape, and what changed from the first side on."""

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from predict.errors import BadRecord
from predict.units import percent, times
from predict.workloads import FloatArray
from reports.accuracy.compare import (
    ShareComparison,
    dropped_notes,
    op_tables,
    roof_notes,
    share_rows,
    side_letter,
    with_common,
)
from reports.accuracy.shapes import COMPUTE, LAUNCH, LINK, MEMORY, in_order, scale_of, shape_text, shapes_of, sizes
from reports.accuracy.validate import only_possible
from reports.comparison.sides import Side
from reports.run.compare import refuse_harnesses
from reports.run.frame import DIMS_OF_OP, settled
from reports.run.load import Run
from reports.tables import TextTable

TOLD = 8  # groups of shapes that sentences tell of
SHORT_S = 10e-6  # a kernel whose napkin is shorter is told by what launching takes
CHANGES = ("op", "format", "bound", "base", "side", "shapes", "time_ratio", "napkin_ratio")


@dataclass(frozen=True, slots=True)
class Many:
    """Several sides compared, over shapes that every side with the op and format has.

    `changes` has a row for each op, format, kind of shape and side but the first that has them: op, format, bound (what
    bounds these shapes on the base; `LAUNCH` for those whose napkin is under `SHORT_S` on a side; empty where a roof is
    not known), base (that first side), side, shapes, time_ratio (geometric mean of its time over the base's),
    napkin_ratio (the same of their napkins; NaN where a roof is not known). `moves` has an entry for each way in which
    bounds differ between sides.
    """

    sides: tuple[Side, ...]
    shares: ShareComparison
    changes: pd.DataFrame
    moves: tuple["Move", ...]
    notes: tuple[str, ...]

    @property
    def tables(self) -> list[TextTable]:
        """What changed, which bounds differ, and the shares of each op."""
        found = [self._changes_table(), self._moves_table(), *op_tables(self.shares)]
        return [table for table in found if table.rows]

    def _changes_table(self) -> TextTable:
        rows = tuple(
            (
                row["op"],
                row["format"],
                row["bound"],
                row["side"],
                row["base"],
                f"{row['shapes']:,}",
                times(row["time_ratio"]),
                *_by_roofs(row),
            )
            for row in self.changes.to_dict(orient="records")
        )
        titles = ("op", "format", "bound", "side", "over", "shapes", "time", "by the roofs", "beyond the roofs")
        return TextTable("What changed", titles, rows, "geometric means of time ratios", names=4)

    def _moves_table(self) -> TextTable:
        names = [side.name for side in self.sides]
        rows = tuple(
            (
                move.op,
                move.format,
                *(move.bounds.get(name, "") for name in names),
                f"{move.shapes:,} of {move.of:,}",
                move.example,
            )
            for move in self.moves
        )
        titles = ("op", "format", *(side_letter(place) for place in range(len(names))), "shapes", "workload")
        return TextTable("Shapes whose bound differs", titles, rows, "the last column is one of them", names=2)


@dataclass(frozen=True, slots=True)
class Move:
    """Shapes of one op and format that one resource bounds on one side, and another one on another side."""

    op: str
    format: str
    bounds: Mapping[str, str]  # by side
    shapes: int
    of: int  # the shapes that the sides have in common
    example: str


def compare_many(sides: Sequence[Side]) -> Many:
    """Compare the sides. Raises BadRecord for fewer than two, for runs of different harnesses, for a side without a
    stable row, and where no two sides have an op and format in common."""
    if len(sides) < 2:
        raise BadRecord(f"nothing to compare: all is of {sides[0].name}; give another run or table")
    refuse_harnesses([side.run for side in sides if side.run is not None])
    parts, notes = [], [*_roof_warnings(sides)]
    for side in sides:
        shapes, said = _shapes_of(side)
        parts.append(shapes)
        notes += said
    shapes = pd.concat(parts, ignore_index=True)
    measured_by = shapes.groupby(["op", "format"])["side"].nunique()
    if measured_by.max() < 2:
        raise BadRecord(
            "no op is measured by two of the sides in one format; compare runs of one suite, or like tables"
        )
    shapes, alone = _on_several(shapes)
    notes += [f"measured on one side only, and left out: {', '.join(alone)}"] if alone else []
    common = {key: (every := with_common(_of(shapes, *key)))[every["is_common"]] for key in _keys(shapes)}
    notes += _uncommon(shapes, common)
    names = tuple(side.name for side in sides)
    changes = pd.DataFrame(
        [row for key, rows in common.items() for row in _changes(*key, rows, names)], columns=CHANGES
    )
    moves = tuple(move for key, rows in common.items() for move in _moves(*key, rows, names))
    return Many(tuple(sides), ShareComparison(names, share_rows(shapes, names), ()), changes, moves, tuple(notes))


def _on_several(shapes: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The shapes of ops that several sides measured, and the other ops."""
    several = shapes.groupby("op")["side"].transform("nunique") > 1
    return shapes[several].reset_index(drop=True), in_order(shapes.loc[~several, "op"])


def sentences(many: Many) -> Iterator[str]:
    """What the comparison says: for each op the speed beside what the roofs say, and the shapes whose bound differs."""
    told = _told(many.changes)
    for (op, name, bound), rows in told:
        said = ", ".join(_speed(row) for row in rows.to_dict(orient="records"))
        count, base = int(rows["shapes"].iloc[0]), rows["base"].iloc[0]
        kind = f"{bound}-bound shape" if bound else "shape"
        kind = kind if count == 1 else f"{kind}s"
        yield f"{op} in {name}, {count:,} {kind} in common, in times the speed of {base}: {said}."
    for op, name in dict.fromkeys((op, name) for (op, name, _), _ in told):
        found = [move for move in many.moves if (move.op, move.format) == (op, name)]
        if found:
            share = percent(sum(move.shapes for move in found) / found[0].of)
            yield f"{share} of the shapes of {op} in {name} change their bound, most often so: {_where(found[0])}."


def _where(move: Move) -> str:
    by_bound: dict[str, list[str]] = {}
    for side, bound in move.bounds.items():
        by_bound.setdefault(bound, []).append(side)
    return ", ".join(f"{bound} on {' and '.join(on)}" for bound, on in by_bound.items())


def _told(changes: pd.DataFrame) -> list[tuple[tuple[str, str, str], pd.DataFrame]]:
    """The groups that sentences tell of, in the order of the table: of each op the format that most sides have in
    common, and of its shapes those that launching does not decide, where there are any."""
    sides = changes.groupby(["op", "format"], sort=False)["side"].nunique()
    shapes = changes.groupby(["op", "format"], sort=False)["shapes"].sum()
    formats: dict[str, str] = {}
    for op, name in sorted(sides.index, key=lambda key: (-sides[key], -shapes[key])):
        formats.setdefault(op, name)
    told = []
    for op in dict.fromkeys(changes["op"]):
        own = changes[(changes["op"] == op) & (changes["format"] == formats[op])]
        long = own[own["bound"] != LAUNCH]
        for bound, rows in (own if long.empty else long).groupby("bound", sort=False):
            told.append(((op, formats[op], str(bound)), rows))
    return told[:TOLD]


def _speed(row: Mapping[Hashable, Any]) -> str:
    """A side's speed beside what its roofs say: h100-sxm 1.50x (roofs: 1.64x)."""
    said = f"{row['side']} {times(1 / row['time_ratio'])}"
    return said if math.isnan(row["napkin_ratio"]) else f"{said} (roofs: {times(1 / row['napkin_ratio'])})"


def _by_roofs(row: Mapping[Hashable, Any]) -> tuple[str, str]:
    """The ratio that the roofs say, and the measured one over it; empty where a roof is not known."""
    if math.isnan(row["napkin_ratio"]):
        return "", ""
    return times(row["napkin_ratio"]), times(row["time_ratio"] / row["napkin_ratio"])


def _shapes_of(side: Side) -> tuple[pd.DataFrame, list[str]]:
    """The shapes of a side as `reports.accuracy.shapes.shapes_of` returns them, and what must be said of them."""
    if isinstance(side.source, Run):
        return _of_run(side, side.source)
    tables = only_possible(side.source)
    shapes, missing = shapes_of(tables.frame.assign(side=side.name))
    beaten = [f"{side.name}: {note}" for note in roof_notes(shapes, {})]
    return shapes, [*dropped_notes(tables.dropped), *roof_notes(shapes.iloc[:0], missing), *beaten]


def _of_run(side: Side, run: Run) -> tuple[pd.DataFrame, list[str]]:
    """The shapes of a run by its fastest stable rows. Raises BadRecord if it has none."""
    measured = run.frame[run.frame["status"] == "measured"]
    rows = settled(measured)
    if rows.empty:
        raise BadRecord(f"{side.what}: no stable row; measure it again on a quiet machine")
    rows = rows.loc[rows.groupby("workload", sort=False)["time_s"].idxmin()]
    rows = rows.assign(window=rows.get("window", pd.Series(0, index=rows.index)), kv_dtype=rows["dtype"])
    parts = [
        pd.DataFrame(
            {
                "side": side.name,
                "op": op,
                "format": of_op["dtype"],
                "place": scale_of(str(op)).class_of(sizes(str(op), of_op.fillna({"window": 0}))),
                "shape": _shape(str(op), of_op),
                "time_s": of_op["time_s"],
                "napkin_s": of_op["napkin_s"].where(of_op["napkin_s"] > 0),
                "bound": [_bound(*sides_s) for sides_s in of_op[["compute_s", "memory_s"]].to_numpy()],
            }
        )
        for op, of_op in rows.groupby("op", sort=False)
    ]
    left_out = measured["workload"].nunique() - len(rows)
    said = [f"{side.name}: {left_out} workloads left out, whose fastest time is unstable"] if left_out else []
    return pd.concat(parts, ignore_index=True), said


def _shape(op: str, rows: pd.DataFrame) -> "pd.Series[str]":
    """The dimensions of each row as tables of kernel times have them, too."""
    from_id = rows["workload"].str.removeprefix(f"{op}-").str.rpartition("-")[0]
    dims = list(DIMS_OF_OP.get(op, ()))
    return from_id if not dims or rows[dims].isna().any(axis=None) else shape_text(rows, dims)


def _bound(compute_s: float, memory_s: float) -> str:
    """What bounds a row, by the two sides of its napkin; a row that has neither measures launching."""
    if np.isnan(compute_s) and np.isnan(memory_s):
        return LAUNCH
    return COMPUTE if np.nan_to_num(compute_s) >= np.nan_to_num(memory_s) else MEMORY


def _roof_warnings(sides: Sequence[Side]) -> Iterator[str]:
    """Where shares are of different roofs, and where times were taken in different ways."""
    measured = [side.name for side in sides if not side.has_datasheet]
    if measured and len(measured) < len(sides):
        yield (
            f"{', '.join(measured)}: no datasheet roofs: % of roof there are of measured ones, and are not comparable"
            " with those of the others, nor are ratios by the roofs"
        )
    if len({side.run is None for side in sides}) > 1:
        yield "runs are timed by this project, tables by others: small differences may come from how they were timed"
    runs = [side.run for side in sides if side.run is not None]
    if len({run.environment.warm_cache for run in runs}) > 1:
        yield "warm_cache differs between the runs: some times are of operands that were in a cache"
    for side in sides:
        if side.run is not None:
            env = side.run.environment
            if env.forced:
                yield f"{side.name}: the run was forced: its roofs may be another card's"
            yield from (f"{side.name}: the driver contradicts the GPU table: {why}" for why in env.mismatches)


def _keys(shapes: pd.DataFrame) -> list[tuple[str, str]]:
    """Op and format of every group, in the order of pages."""
    return [
        (op, str(name))
        for op in in_order(shapes["op"])
        for name in sorted(shapes.loc[shapes["op"] == op, "format"].unique())
    ]


def _of(shapes: pd.DataFrame, op: str, name: str) -> pd.DataFrame:
    return shapes[(shapes["op"] == op) & (shapes["format"] == name)]


def _uncommon(shapes: pd.DataFrame, common: Mapping[tuple[str, str], pd.DataFrame]) -> Iterator[str]:
    """Ops that several sides measured without a shape that all of them have."""
    for (op, name), rows in common.items():
        sides = list(dict.fromkeys(_of(shapes, op, name)["side"]))
        if rows.empty and len(sides) > 1:
            pairs = [pair for pair in combinations(sides, 2) if _share_shapes(_of(shapes, op, name), pair)]
            hint = f"; {' and '.join(pairs[0])} have some" if pairs and len(sides) > 2 else ""
            yield f"{op} in {name}: no shape in common to {', '.join(sides)}{hint}: only their shares can be read"


def _share_shapes(shapes: pd.DataFrame, pair: tuple[str, str]) -> bool:
    first, second = (set(shapes.loc[shapes["side"] == side, "shape"]) for side in pair)
    return not first.isdisjoint(second)


def _changes(op: str, name: str, rows: pd.DataFrame, sides: Sequence[str]) -> Iterator[dict[str, object]]:
    """The rows of `Many.changes` of one op and format."""
    present = set(rows["side"])
    base, *others = [side for side in sides if side in present] or [""]
    kinds = _kinds(rows, base)
    for kind in (MEMORY, COMPUTE, LINK, LAUNCH, ""):
        inside = rows[rows["shape"].map(kinds) == kind]
        of_side = {side: found.set_index("shape").sort_index() for side, found in inside.groupby("side")}
        for side in others if of_side else ():
            yield {
                "op": op,
                "format": name,
                "bound": kind,
                "base": base,
                "side": side,
                "shapes": len(of_side[side]),
                "time_ratio": _mean(of_side[side]["time_s"] / of_side[base]["time_s"]),
                "napkin_ratio": _mean(of_side[side]["napkin_s"] / of_side[base]["napkin_s"]),
            }


def _kinds(rows: pd.DataFrame, base: str) -> "pd.Series[str]":
    """The kind of each shape, as `Many.changes` has it in `bound`."""
    kinds = rows[rows["side"] == base].set_index("shape")["bound"].fillna("")
    shortest_s = rows.groupby("shape")["napkin_s"].min()
    return kinds.mask(shortest_s.reindex(kinds.index) < SHORT_S, LAUNCH)


def _mean(ratios: "pd.Series[float]") -> float:
    """The geometric mean; NaN where a ratio is not known."""
    logs: FloatArray = np.log(ratios.to_numpy(dtype=float))
    return float(np.exp(logs.mean()))


def _moves(op: str, name: str, rows: pd.DataFrame, sides: Sequence[str]) -> Iterator[Move]:
    """The ways in which the bounds of one op and format differ between sides, those of most shapes first."""
    known = rows[rows["bound"].notna()]
    if known.empty:
        return
    bounds = known.pivot(index="shape", columns="side", values="bound").dropna()
    own = [side for side in sides if side in bounds]
    differ = bounds[bounds[own].nunique(axis=1) > 1]
    for pattern, found in sorted(differ.groupby(own), key=lambda group: -len(group[1])):
        values = pattern if isinstance(pattern, tuple) else (pattern,)
        yield Move(
            op, name, dict(zip(own, map(str, values), strict=True)), len(found), len(bounds), str(found.index[0])
        )
