"""Where expected time fails, and why: the known weaknesses that the numbers confirm, and the worst rows."""

import math
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from predict.expected.kernel import TIME_MODELS
from predict.units import duration, percent
from reports.accuracy.plots import FAMILIES, TITLES
from reports.accuracy.validate import Group, bar_of, worst_rows
from reports.calibration.errors import errors
from reports.tables import TextTable

WORST = 3  # rows shown of each group that a bar applies to; of any other group one
WORST_SHARE = 0.02  # of a small group at most this share of the rows is shown
BEARS_OUT = 1.15  # the numbers confirm a weakness if its error is at least this many times the error elsewhere
HARDER = 1.2  # a size is hard if its error is over this many times the mean error
FEW_VALUES = 8  # a dimension with at most this many sizes is read size by size, else by octave


@dataclass(frozen=True, slots=True)
class Weakness:
    """A region where expected time is off, and the reason."""

    table: str
    groups: tuple[str, ...]  # titles of groups of the table
    where: str  # a condition on their columns
    because: str
    kernel: str = ""  # part of a kernel's name, to tell apart groups that share a title

    def is_of(self, group: Group) -> bool:
        """Whether this weakness is about the group."""
        return self.table == group.table and group.title in self.groups and self.kernel in group.kernel_source


def read_weaknesses(file: Path) -> tuple[Weakness, ...]:
    """The weaknesses of the file, in order."""
    entries = tomllib.loads(file.read_text(encoding="utf-8"))["weakness"]
    return tuple(Weakness(**{**entry, "groups": tuple(entry["groups"])}) for entry in entries)


WEAKNESSES = read_weaknesses(Path(__file__).with_name("weaknesses.toml"))


@dataclass(frozen=True, slots=True)
class Failures:
    """The failures of one family of ops."""

    title: str
    said: tuple[tuple[str, tuple[str, ...]], ...]  # for each group its name, and sentences about its failures
    worst: TextTable  # the worst rows of all groups


def find_failures(groups: Sequence[tuple[Group, str]]) -> Iterator[Failures]:
    """The failures of each family of the groups; `groups` has each group with its label."""
    for family, ops in FAMILIES.items():
        named = [
            (group, f"{group.gpu}, {f'{group.op}, ' if len(ops) > 1 else ''}{label}")
            for group, label in groups
            if group.op in ops
        ]
        if named:
            said = ((name, (*find_weaknesses(group), *hardest_sizes(group))) for group, name in named)
            worst = _worst_table(named)
            yield Failures(TITLES[family], tuple((name, points) for name, points in said if points), worst)


def find_weaknesses(group: Group, weaknesses: Sequence[Weakness] = WEAKNESSES) -> Iterator[str]:
    """A sentence for each weakness of this group that its numbers confirm."""
    rows = group.judged
    for weakness in (each for each in weaknesses if each.is_of(group)):
        inside = np.asarray(rows.eval(weakness.where), dtype=bool)
        there, elsewhere = rows[inside], rows[~inside]
        if there.empty:
            continue
        error, against = errors(there).mape_expected, ""
        if len(elsewhere):
            other = errors(elsewhere).mape_expected
            if error < BEARS_OUT * other:
                continue
            against = f", {percent(other)} elsewhere"
        ratio = (there["time_s"] / there["expected_s"]).median()
        yield (
            f"`{weakness.where}` ({_shapes(len(there))}): off by {percent(error)}{against}; the median of measured over"
            f" expected is {ratio:.2f}x. {weakness.because}"
        )


def hardest_sizes(group: Group, count: int = 2) -> list[str]:
    """One sentence that names up to `count` sizes, or octaves of sizes, with the largest errors; no sentence where none
    stands out. A size counts if it has at least 1 % of the shapes, and at least 5."""
    rows = group.judged
    error = np.abs(rows["expected_s"] / rows["time_s"] - 1)
    found: list[tuple[float, str]] = []
    for name in TIME_MODELS[group.op].dims:
        few = rows[name].nunique() <= FEW_VALUES
        classes = rows[name] if few else np.floor(np.log2(rows[name].clip(lower=1)))
        for low, (mean, size) in error.groupby(classes).agg(["mean", "size"]).iterrows():
            if size >= max(5, 0.01 * len(rows)) and mean > HARDER * error.mean():
                text = f"{low:g}" if few else _octave(int(low))
                found.append((mean, f"{name} {text} ({percent(mean)} over {_shapes(size)})"))
    hardest = [text for _, text in sorted(found, reverse=True)[:count]]
    return [f"Errors by size are largest at {' and at '.join(hardest)}."] if hardest else []


def _worst_table(groups: Sequence[tuple[Group, str]]) -> TextTable:
    """The worst rows of each group of one family."""
    dims = TIME_MODELS[groups[0][0].op].dims
    rows = tuple(
        (
            name,
            *(f"{row[dim]:.0f}" if dim != "window" or group.window else "" for dim in dims),
            *(duration(row[time]) for time in ("time_s", "expected_s")),
            *(f"{row[ratio]:.2f}" for ratio in ("ratio", "neighbors")),
            str(row["largest_term"]),
            "row" if row["why"].startswith("this row alone") else "region",
        )
        for group, name in groups
        for row in worst_rows(group, _shown(group)).to_dict("records")
    )
    titles = ("group", *dims, "measured", "expected", "ratio", "neighbors", "largest term", "what is off")
    return TextTable("worst rows", titles, rows).without_empty_columns()


def _shown(group: Group) -> int:
    """How many of its worst rows are shown."""
    return min(1 if bar_of(group) is None else WORST, math.ceil(WORST_SHARE * len(group.judged)))


def _octave(exponent: int) -> str:
    return f"{2**exponent} to {2 ** (exponent + 1) - 1}" if exponent else "1"


def _shapes(count: float) -> str:
    return f"{count:,.0f} shape{'' if count == 1 else 's'}"
