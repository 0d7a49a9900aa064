"""Where expected time fails, and why: the known weaknesses that the numbers bear out, and the worst rows."""

import math
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from predict.expected.kernel import TIME_MODELS
from predict.units import duration, percent
from reports.accuracy.plots import FAMILIES, TITLES
from reports.accuracy.validate import Group, worst_rows
from reports.calibration.errors import errors
from reports.tables import TextTable

WORST = 3
WORST_SHARE = 0.02  # of the rows of a small group at most
BEARS_OUT = 1.15  # a region is a weakness from this many times the error elsewhere on
HARDER = 1.2  # a size is hard from this many times the mean error on
FEW_VALUES = 8  # up to so many sizes are shown one by one, more by octaves


@dataclass(frozen=True, slots=True)
class Weakness:
    """A region where expected time is off, and what that is put down to.

    `groups`: titles of groups of `table`; `where`: a condition on their columns; `kernel`: part of a kernel's name, for
    a title that several share.
    """

    table: str
    groups: tuple[str, ...]
    where: str
    because: str
    kernel: str = ""

    def is_of(self, group: Group) -> bool:
        """Whether this was written about that group."""
        return self.table == group.table and group.title in self.groups and self.kernel in group.kernel_source


def read_weaknesses(file: Path) -> tuple[Weakness, ...]:
    """What was written about public tables, in order."""
    entries = tomllib.loads(file.read_text(encoding="utf-8"))["weakness"]
    return tuple(Weakness(**{**entry, "groups": tuple(entry["groups"])}) for entry in entries)


WEAKNESSES = read_weaknesses(Path(__file__).with_name("weaknesses.toml"))


@dataclass(frozen=True, slots=True)
class Failures:
    """The failures of one family of ops: by group what can be said of them; and the worst rows of all groups."""

    title: str
    said: tuple[tuple[str, tuple[str, ...]], ...]
    worst: TextTable


def find_failures(groups: Sequence[tuple[Group, str]]) -> Iterator[Failures]:
    """The failures of each family that the groups, each with its label, hold."""
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
    """A sentence for each weakness of this group that its numbers bear out."""
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
            f"`{weakness.where}` ({_shapes(len(there))}): off by {percent(error)}{against}; measured is"
            f" {ratio:.2f}x expected in the median. {weakness.because}"
        )


def hardest_sizes(group: Group, count: int = 2) -> list[str]:
    """One sentence on the sizes of a dimension, one by one or by octave, with the largest errors: at most `count` of
    them, each of at least 1 % of the shapes; none where no size stands out."""
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
        for row in worst_rows(group, min(WORST, math.ceil(WORST_SHARE * len(group.judged)))).to_dict("records")
    )
    titles = ("group", *dims, "measured", "expected", "ratio", "neighbors", "largest term", "what is off")
    return TextTable("worst rows", titles, rows).without_empty_columns()


def _octave(exponent: int) -> str:
    return f"{2**exponent} to {2 ** (exponent + 1) - 1}" if exponent else "1"


def _shapes(count: float) -> str:
    return f"{count:,.0f} shape{'' if count == 1 else 's'}"
