"""Measurements of whole models that others published: a CSV with a row for each, and the arguments that describe it.

Columns: source, model, gpu, gpus, kind, workload, measured quantity, unit, measured, arguments, note. Only `kind`,
`unit`, `measured` and `arguments` are needed; the arguments are those of `python -m predict model`.
"""

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from predict.errors import BadRecord

NEEDED = ("kind", "unit", "measured", "arguments")


@dataclass(frozen=True, slots=True)
class Point:
    """One measurement."""

    line: int  # in the file
    source: str
    model: str
    gpu: str  # as the file names it
    kind: str
    workload: str
    unit: str
    measured: float  # in `unit`; NaN where the file has no positive number
    arguments: str
    note: str

    @property
    def publisher(self) -> str:
        """Who published it: a repository without its commit, or a site."""
        return "/".join(self.source.partition("@")[0].partition(" ")[0].split("/")[:2]) or "not named"


def read_points(file: Path) -> list[Point]:
    """The points of a file, in its order. Raises BadRecord for one that cannot be read or lacks a column."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is no text in UTF-8"
        raise BadRecord(f"{file}: {reason}; --endtoend takes a CSV of points") from None
    reader = csv.DictReader(text.splitlines(keepends=True))
    missing = [name for name in NEEDED if name not in (reader.fieldnames or ())]
    if missing:
        raise BadRecord(f"{file} has no column {' and no '.join(missing)}: it is no table of points")
    try:
        found = list(_points(reader))
    except csv.Error as error:
        raise BadRecord(f"{file}: line {reader.line_num}: {error}") from None
    if not found:
        raise BadRecord(f"{file} has a heading and no points below it")
    return found


def _points(reader: "csv.DictReader[str]") -> Iterator[Point]:
    for row in reader:
        cell = {name: (value or "").strip() for name, value in row.items() if isinstance(name, str)}
        texts = {name: cell.get(name, "") for name in ("source", "model", "gpu", "kind", "workload", "unit", "note")}
        yield Point(reader.line_num, **texts, measured=_number(cell["measured"]), arguments=cell["arguments"])


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        return math.nan
    return number if 0 < number < math.inf else math.nan
