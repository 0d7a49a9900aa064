"""A run's verdicts beside those of the GPUs, inside a document: which cells, what stays, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest

from predict.errors import BadRun
from reports.scorecard.beside import BEGIN, END, render, write_beside
from reports.scorecard.claims import read_claims
from reports.scorecard.verdict import Evidence, judge

FIRST, SECOND, THIRD = (
    replace(read_claims()[0], number=number, name=name, tolerance=0.1, at_most=0.3)
    for number, name in ((1, "one"), (2, "two"), (4, "four"))
)
SCORECARD = """# Scorecard

|  | claim | a100-sxm-80gb | b200 | h100-sxm | h200-sxm | l40s | gb200 |
|--:|---|--:|--:|--:|--:|--:|--:|
| 1 | one | holds (1.00 %) | holds (4.00 %) | holds (2.00 %) | holds (3.00 %) | not measured | holds (9.00 %) |
| 2 | two | not measured | not measured | fails (90.0 %) | not measured | not measured | not measured |

More | text.
"""
# A run that judges 1 (a quarter off) and 4 (right), and not 2.
OF_RUN = [
    judge(FIRST, "a CPU", Evidence(np.ones(1), np.array([1.25]), "Measured.")),
    judge(SECOND, "a CPU", "no rows"),
    judge(THIRD, "a CPU", Evidence(np.ones(1), np.ones(1), "Measured.")),
]
TABLE = """|  | claim | A100 | H100 | H200 | B200 | L40S | a CPU |
|--:|---|--:|--:|--:|--:|--:|--:|
| 1 | one | holds (1.00 %) | holds (2.00 %) | holds (3.00 %) | holds (4.00 %) |  | holds within 25.0 % |
| 2 | two |  | fails (90.0 %) |  |  |  |  |
| 4 | four |  |  |  |  |  | holds (0 %) |"""


def placed(folder, text):
    (folder / "docs").mkdir()
    (folder / "docs" / "scorecard.md").write_text(SCORECARD, encoding="utf-8")
    document = folder / "README.md"
    document.write_text(text, encoding="utf-8")
    return document


def test_each_claim_that_a_gpu_or_the_run_judges_is_a_row():
    assert render(SCORECARD, OF_RUN) == TABLE


def test_the_table_replaces_what_stands_between_the_marks_and_nothing_else(tmp_path):
    document = placed(tmp_path, f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write_beside(document, OF_RUN)
    written = f"before\n{BEGIN}\n{TABLE}\n{END}\nafter\n"
    assert document.read_text(encoding="utf-8") == written
    write_beside(document, OF_RUN)
    assert document.read_text(encoding="utf-8") == written


@pytest.mark.parametrize("text", ["no mark", f"{BEGIN} alone", f"{END} before {BEGIN}"])
def test_a_document_without_marks_is_refused_and_kept(tmp_path, text):
    document = placed(tmp_path, text)
    with pytest.raises(BadRun, match=r"has no place for the scorecard: it needs the lines"):
        write_beside(document, OF_RUN)
    assert document.read_text(encoding="utf-8") == text


def test_a_missing_file_and_a_missing_gpu_are_said(tmp_path):
    with pytest.raises(BadRun, match=r"cannot read .*README\.md: No such file"):
        write_beside(tmp_path / "README.md", OF_RUN)
    document = placed(tmp_path, f"{BEGIN}\n{END}")
    (tmp_path / "docs" / "scorecard.md").write_text(SCORECARD.replace("l40s", "l4"), encoding="utf-8")
    with pytest.raises(BadRun, match="the scorecard has no column l40s: write it again"):
        write_beside(document, OF_RUN)
    with pytest.raises(BadRun, match="the scorecard has no column"):
        render("no table", OF_RUN)
