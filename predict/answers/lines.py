"""The parts of an answer: lines with numbers and formulas, sections, notes."""

from dataclasses import dataclass
from enum import IntEnum, StrEnum

from predict.units import Unit, show


@dataclass(frozen=True, slots=True)
class Line:
    """One number of an answer."""

    key: str  # in the JSON
    label: str
    value: float | str
    unit: Unit
    formula: str
    arithmetic: str = ""  # the formula with the numbers put in: an expression whose value is `value`
    is_detail: bool = False  # the page shows it only with --explain

    @property
    def text(self) -> str:
        """The value as shown on the page."""
        return show(self.value, self.unit)


class Use(StrEnum):
    """What a model is used for. A page shows the sections and notes of one use or of both."""

    SERVE = "serve"
    TRAIN = "train"


BOTH = frozenset(Use)
SERVING = frozenset({Use.SERVE})
TRAINING = frozenset({Use.TRAIN})


class Weight(IntEnum):
    """How much a note matters. The notes of a page are sorted by it."""

    DECISION = 0  # it changes what a reader decides: does not fit, over the limit, no engine does this
    ABSENT = 1  # why a number is absent
    ASSUMPTION = 2  # what the numbers assume


@dataclass(frozen=True, slots=True)
class Note:
    """A remark in words: no keys of the JSON. A section sets `uses` for what it yields."""

    text: str
    weight: Weight = Weight.ASSUMPTION
    uses: frozenset[Use] = BOTH
    in_verdict: bool = False  # the page leaves it out, because its verdict says it


@dataclass(frozen=True, slots=True)
class Section:
    """Lines under one title."""

    title: str
    lines: tuple[Line, ...]
    uses: frozenset[Use] = BOTH


@dataclass(frozen=True, slots=True)
class Answer:
    """The sections of the page in order, and the notes, those that change a decision first."""

    sections: tuple[Section, ...]
    remarks: tuple[Note, ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """The texts of all notes."""
        return tuple(note.text for note in self.remarks)

    def shown(self, uses: frozenset[Use]) -> "Answer":
        """The part of the answer that any of `uses` needs, below a verdict."""
        return Answer(
            tuple(section for section in self.sections if section.uses & uses),
            tuple(note for note in self.remarks if note.uses & uses and not note.in_verdict),
        )


def plain(value: object) -> float:
    """Convert any number to a Python number for JSON; whole numbers become ints."""
    number = float(value)  # type: ignore[arg-type]
    if isinstance(value, int):
        return value
    return int(number) if number.is_integer() else number
