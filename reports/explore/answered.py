"""What a section answers: numbers with their formulas, rows for its charts, and the commands that print the same."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from predict.answers.lines import Line, Note
from predict.formulas.catalog import evaluate
from predict.units import Unit, show
from reports.explore.state import PROGRAM

Row = Mapping[str, str | float]
Data = Mapping[str, Sequence[Row]]


def bar(row: str, span: tuple[float, float], group: str, text: str, says: str) -> Row:
    """A bar of a chart, from here to there."""
    return {"row": row, "start": span[0], "end": span[1], "group": group, "text": text, "says": says}


def mark(x: float, label: str, says: str, line: int = 0) -> Row:
    """An upright of a chart of curves. Its label stands on this line, so that near ones do not meet."""
    return {"x": x, "label": "\n" * line + label, "says": says}


@dataclass(frozen=True, slots=True)
class Number:
    """A number as the page shows it."""

    key: str  # in the JSON of the command
    label: str
    text: str
    value: float | str
    formula: str
    arithmetic: str  # the formula with the numbers put in
    command: int = 0  # which of the section's commands prints it
    group: str = ""  # a heading over it and those that follow


@dataclass(frozen=True, slots=True)
class Stops:
    """What a control may be set to here, and what it is while it says nothing."""

    shown: str
    stops: tuple[str, ...] = ()
    choices: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Grid:
    """A table of texts."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer of a section."""

    says: tuple[str, ...]  # the answer to its question, in sentences
    commands: tuple[str, ...]
    numbers: tuple[Number, ...] = ()
    data: Data = field(default_factory=dict)  # rows by the name that a chart has for them
    notes: tuple[str, ...] = ()
    is_alarm: bool = False  # it does not fit
    controls: Mapping[str, Stops] = field(default_factory=dict)
    grids: tuple[Grid, ...] = ()

    def to_json(self) -> bytes:
        """What the page reads. Raises ValueError for a number that is none."""
        found = {
            "says": self.says,
            "alarm": self.is_alarm,
            "commands": self.commands,
            "numbers": [
                [each.key, each.label, each.text, each.value, each.formula, each.arithmetic, each.command, each.group]
                for each in self.numbers
            ],
            "data": {name: list(map(dict, rows)) for name, rows in self.data.items()},
            "notes": self.notes,
            "controls": {
                name: {"shown": each.shown, "stops": each.stops, "choices": each.choices}
                for name, each in self.controls.items()
            },
            "grids": [[each.title, each.headings, each.rows, each.remark] for each in self.grids],
        }
        return json.dumps(found, allow_nan=False, separators=(",", ":")).encode()


def numbers_of(
    found: Iterable[Line | Note], keys: Sequence[str] | None = None, command: int = 0, group: str = ""
) -> Iterator[Number]:
    """The lines with these keys, in the order of the keys; an absent one is left out, and its note says why. Without
    keys, all."""
    lines = {each.key: each for each in found if isinstance(each, Line)}
    for line in (lines[key] for key in (keys or lines) if key in lines):
        yield Number(line.key, line.label, line.text, line.value, line.formula, line.arithmetic, command, group)


def texts_of(found: Iterable[Line | Note]) -> tuple[str, ...]:
    """The notes among them, the weightiest first."""
    notes = [each for each in found if isinstance(each, Note)]
    return tuple(dict.fromkeys(note.text for note in sorted(notes, key=lambda note: note.weight)))


@dataclass(frozen=True, slots=True)
class Formula:
    """A formula of `predict formula` at some values."""

    name: str
    arguments: Mapping[str, str]

    @property
    def value(self) -> float:
        """Its value. Raises BadQuantity for a value out of range."""
        return float(evaluate(self.name, self.arguments))  # type: ignore[arg-type]

    @property
    def command(self) -> str:
        """The command that prints it."""
        return " ".join([PROGRAM, "formula", self.name, *(f"{name}={text}" for name, text in self.arguments.items())])

    def number(self, label: str, unit: Unit, formula: str, arithmetic: str, command: int) -> Number:
        """The value as the page shows it."""
        value = self.value
        return Number(self.name, label, show(value, unit), value, formula, arithmetic, command)
