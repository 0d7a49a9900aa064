"""The scorecard of a run in its report."""

from reports.report.page import render
from reports.report.verdicts import badges, judgments_of, scorecard_table, scorecard_unmeasured
from reports.run.load import Run
from tests.factories import make_record

# 134,742,016 bytes at 1 TB/s are 134.7 us: 160 us is 1.19 times that, which is 15.8 % off; 10 ms is 74 times.
NEAR, FAR = (Run((make_record(time_s=time_s),)) for time_s in (160e-6, 10e-3))


def test_a_badge_tells_its_verdict_by_sign_and_words_not_by_color_alone():
    (near,), (far,) = badges(judgments_of(NEAR)), badges(judgments_of(FAR))
    assert (near.kind, near.sign, near.verdict) == ("holds", "✓", "holds (15.8 %)")
    assert (far.kind, far.sign, far.verdict) == ("fails", "✕", "fails (98.7 %)")


def test_a_badge_opens_to_claim_prediction_measurement_and_tolerance():
    (badge,) = badges(judgments_of(NEAR))
    details = dict(badge.details)
    assert details["predicted over measured"] == "0.84x in the median of 1; median error 15.8 %"
    assert details["tolerance"] == "holds up to 30.0 %, holds within its error up to 60.0 %"
    assert details["claim"].startswith("A kernel takes the larger of")


def test_the_report_has_a_line_for_each_judged_claim_and_the_reasons_of_the_others():
    judgments = judgments_of(NEAR)
    assert [row[:2] for row in scorecard_table(judgments).rows] == [("1. time is the larger of two", "holds (15.8 %)")]
    text = render(NEAR, ())
    section = text.partition("## Scorecard\n")[2].partition("\n## ")[0]
    assert "| 1. time is the larger of two | holds (15.8 %) | Of 1 workloads 100 % are within 30 %" in section
    assert section.count("\n- ") == len(scorecard_unmeasured(judgments)) == len(judgments) - 1
    assert "- a cache saves the context: no pair of stable rows tells: KV cache; suite full has such rows" in section
    assert text.index("## What it says") < text.index("## Scorecard") < text.index("## Figures")
