"""The scorecard of one run, as its report shows it: a line for each rule of thumb that its records judge."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from predict.units import percent, times
from reports.run.load import Run
from reports.scorecard import card, page
from reports.scorecard.claims import Claim
from reports.scorecard.verdict import Judgment, Verdict
from reports.tables import TextTable

SIGNS: Mapping[Verdict, str] = MappingProxyType(
    {Verdict.HOLDS: "✓", Verdict.WITHIN: "≈", Verdict.FAILS: "✕"}  # told apart without color
)


@dataclass(frozen=True, slots=True)
class Badge:
    """One judged claim, in words."""

    number: int
    name: str
    kind: str  # holds, within or fails: what the style sheet knows
    sign: str
    verdict: str  # holds (4.1 %)
    sentence: str  # what was measured
    details: tuple[tuple[str, str], ...]  # name and words of what the verdict rests on


def judgments_of(run: Run) -> list[Judgment]:
    """Every claim, judged by the records of a run."""
    return card.judge_all(card.of_run(run))


def badges(judgments: Sequence[Judgment]) -> tuple[Badge, ...]:
    """The claims that were judged, in the order of their numbers."""
    return tuple(
        Badge(
            each.claim.number,
            each.claim.name,
            each.verdict.name.lower(),
            SIGNS[each.verdict],
            each.text,
            each.sentence,
            _details(each),
        )
        for each in judgments
        if each.evidence is not None
    )


def scorecard_table(judgments: Sequence[Judgment]) -> TextTable:
    """Claim, verdict and what was measured, a line for each judged claim."""
    rows = tuple((f"{each.number}. {each.name}", each.verdict, each.sentence) for each in badges(judgments))
    return TextTable("scorecard", ("claim", "verdict", "what was measured"), rows)


def scorecard_unmeasured(judgments: Sequence[Judgment]) -> list[tuple[Claim, str]]:
    """The claims that the run does not judge, each with the reason."""
    return page.unmeasured(judgments)


def _details(judgment: Judgment) -> tuple[tuple[str, str], ...]:
    claim, evidence, error = judgment.claim, judgment.evidence, judgment.error
    assert evidence is not None
    assert error is not None
    ratio = times(float(np.median(evidence.predicted / evidence.measured)))
    return (
        ("claim", claim.says),
        ("predicted", claim.predicted),
        ("measured", claim.measured_by),
        (
            "predicted over measured",
            f"{ratio} in the median of {len(evidence.measured)}; median error {percent(error)}",
        ),
        ("tolerance", f"holds up to {percent(claim.tolerance)}, holds within its error up to {percent(claim.at_most)}"),
        ("lesson", claim.lesson),
    )
