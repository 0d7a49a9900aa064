"""Verdicts: how far measured numbers are from what a claim predicts, held to the claim's tolerance."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from predict.units import percent
from predict.workloads import FloatArray
from reports.scorecard.claims import Claim


class Verdict(StrEnum):
    """What measured numbers say about a claim."""

    HOLDS = "holds"
    WITHIN = "holds within"
    FAILS = "fails"
    UNKNOWN = "not measured"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a claim predicts and what was measured: arrays of one size, in one unit or as ratios."""

    measured: FloatArray
    predicted: FloatArray
    sentence: str  # what the numbers say, for a person

    @property
    def errors(self) -> FloatArray:
        """|predicted / measured - 1| of each."""
        return np.abs(self.predicted / self.measured - 1)


@dataclass(frozen=True, slots=True)
class Judgment:
    """A claim on one machine."""

    claim: Claim
    machine: str
    evidence: Evidence | None
    reason: str = ""  # why there is no evidence

    @property
    def error(self) -> float | None:
        """The median of |predicted / measured - 1|; None without evidence."""
        return None if self.evidence is None else float(np.median(self.evidence.errors))

    @property
    def verdict(self) -> Verdict:
        """What the error says by the claim's tolerance."""
        if self.error is None:
            return Verdict.UNKNOWN
        if self.error <= self.claim.tolerance:
            return Verdict.HOLDS
        return Verdict.WITHIN if self.error <= self.claim.at_most else Verdict.FAILS

    @property
    def text(self) -> str:
        """The verdict in a cell: holds (4.1 %)."""
        if self.error is None:
            return str(self.verdict)
        if self.verdict is Verdict.WITHIN:
            return f"{self.verdict} {percent(self.error)}"
        return f"{self.verdict} ({percent(self.error)})"

    @property
    def sentence(self) -> str:
        """What the numbers say, or why there are none."""
        return self.reason if self.evidence is None else self.evidence.sentence

    def row(self) -> dict[str, object]:
        """Flat, for tables and JSON."""
        evidence = self.evidence
        return {
            "claim": self.claim.number,
            "name": self.claim.name,
            "machine": self.machine,
            "verdict": str(self.verdict),
            "median_error": self.error,
            "tolerance": self.claim.tolerance,
            "rows": None if evidence is None else len(evidence.measured),
            "measured": None if evidence is None else float(np.median(evidence.measured)),
            "predicted": None if evidence is None else float(np.median(evidence.predicted)),
            "sentence": self.sentence,
        }


def judge(claim: Claim, machine: str, found: Evidence | str) -> Judgment:
    """The verdict on a claim by evidence, or the reason why there is none."""
    if isinstance(found, str):
        return Judgment(claim, machine, None, found)
    return Judgment(claim, machine, found)
