"""The claims that hardware judges, as data: claims.toml."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).with_name("claims.toml")


@dataclass(frozen=True, slots=True)
class Claim:
    """A rule of thumb, how it is predicted and measured, and how far off it may be."""

    number: int
    name: str
    says: str
    lesson: str  # where a lesson says it
    predicted: str
    measured_by: str
    tolerance: float  # largest median of |predicted / measured - 1| with which it holds
    at_most: float  # up to this it holds within what was measured
    missing: str  # what it takes to measure it, said where nothing did


def read_claims(file: Path = FILE) -> tuple[Claim, ...]:
    """The claims of the file, in the order of their numbers."""
    entries = tomllib.loads(file.read_text(encoding="utf-8"))["claim"]
    return tuple(sorted((Claim(**entry) for entry in entries), key=lambda claim: claim.number))
