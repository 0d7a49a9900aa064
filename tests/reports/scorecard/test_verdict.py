"""Claims as data, and verdicts by their tolerances."""

from dataclasses import replace

import numpy as np
import pytest

from reports.scorecard.card import judge_all, merged
from reports.scorecard.claims import read_claims
from reports.scorecard.page import document, in_terminal, matrix, unmeasured
from reports.scorecard.verdict import Evidence, Verdict, judge

CLAIM = replace(read_claims()[0], number=1, name="a claim", tolerance=0.1, at_most=0.3)


def evidence(*ratios):
    """Measured ones, predicted as `ratios` of them."""
    return Evidence(np.ones(len(ratios)), np.array(ratios, dtype=float), "What was measured.")


def test_the_issue_names_nineteen_claims_and_each_says_all():
    claims = read_claims()
    assert [claim.number for claim in claims] == list(range(1, 20))
    assert len({claim.name for claim in claims}) == 19
    for claim in claims:
        assert 0 < claim.tolerance < claim.at_most
        texts = (claim.says, claim.lesson, claim.predicted, claim.measured_by, claim.missing)
        assert all(len(text) > 10 for text in texts)


@pytest.mark.parametrize(
    ("ratios", "verdict", "text"),
    [
        ((1.05, 0.95, 1.4), Verdict.HOLDS, "holds (5.00 %)"),  # the median of 5, 5 and 40 %
        ((1.2, 0.8, 1.0), Verdict.WITHIN, "holds within 20.0 %"),
        ((1.5, 0.5), Verdict.FAILS, "fails (50.0 %)"),
    ],
)
def test_the_median_error_decides(ratios, verdict, text):
    found = judge(CLAIM, "a machine", evidence(*ratios))
    assert (found.verdict, found.text) == (verdict, text)
    assert found.row()["rows"] == len(ratios)
    assert found.sentence == "What was measured."


def test_without_evidence_the_reason_stands():
    found = judge(CLAIM, "a machine", "no rows")
    assert (found.verdict, found.error, found.sentence) == (Verdict.UNKNOWN, None, "no rows")
    assert (found.row()["median_error"], found.row()["verdict"]) == (None, "not measured")


def test_evidence_goes_before_reasons_whatever_the_order():
    here, there = {"a": {1: "no rows", 2: evidence(1.0)}}, {"a": {1: evidence(1.0), 2: "no rows"}, "b": {}}
    for both in (merged(here, there), merged(there, here)):
        assert isinstance(both["a"][1], Evidence)
        assert isinstance(both["a"][2], Evidence)
        assert set(both) == {"a", "b"}


def test_pages_have_the_matrix_what_was_said_and_what_was_not_measured():
    judgments = judge_all({"a100": {2: evidence(1.0)}, "h100": {2: evidence(0.5), 1: "no rows"}})
    assert len(judgments) == 2 * 19
    found = matrix(judgments)
    assert found.titles == ("", "claim", "a100", "h100")
    assert found.rows == (("2", "a batch's knee is the ridge", "holds (0 %)", "fails (50.0 %)"),)
    assert len(unmeasured(judgments)) == 18
    for width in (60, 120):
        lines = "\n".join(in_terminal(judgments, width)).splitlines()
        assert max(map(len, lines)) <= width
    text = document(judgments, ["`a_table`"])
    assert "## 2. A batch's knee is the ridge" in text
    assert "- **h100**: fails (50.0 %). What was measured." in text
    assert "- `a_table`" in text
    assert "- 5. 16 bytes a parameter: " in text
