"""The verdicts of a run beside those of a written scorecard, as a table inside a document, between two marks."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from predict.errors import BadRun
from reports.files import write_file
from reports.scorecard.page import matrix
from reports.scorecard.verdict import Judgment, Verdict
from reports.tables import TextTable, markdown

BEGIN, END = "<!-- scorecard: begin -->", "<!-- scorecard: end -->"
SCORECARD = Path("docs", "scorecard.md")  # from the document's folder
# The columns of the scorecard that the table shows, and what they are called there.
GPUS: Mapping[str, str] = MappingProxyType(
    {"a100-sxm-80gb": "A100", "h100-sxm": "H100", "h200-sxm": "H200", "b200": "B200", "l40s": "L40S"}
)


def write_beside(document: Path, judgments: Sequence[Judgment]) -> None:
    """Replace what stands between the marks of `document`. Raises BadRun where a mark, a file or a GPU is missing."""
    texts = []
    for path in (document, document.parent / SCORECARD):
        try:
            texts.append(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise BadRun(f"cannot read {path}: {error.strerror}") from error
    before, begin, rest = texts[0].partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise BadRun(f"{document} has no place for the scorecard: it needs the lines {BEGIN} and {END}")
    write_file(document, f"{before}{BEGIN}\n{render(texts[1], judgments)}\n{END}{after}".encode())


def render(scorecard: str, judgments: Sequence[Judgment]) -> str:
    """A row for each claim that a GPU of the text `scorecard`, or the run of `judgments`, judges; a cell without a
    verdict is empty. Raises BadRun for a scorecard without one of the GPUs."""
    of_gpus, of_run = _read(scorecard), matrix(judgments)
    judged = {**_verdicts(of_run)}
    for claim, found in _verdicts(of_gpus).items():
        judged[claim] = {**judged.get(claim, {}), **found}
    machines = (*GPUS, *of_run.titles[2:])
    rows = [
        (str(number), name, *(found.get(machine, "") for machine in machines))
        for (number, name), found in sorted(judged.items())
    ]
    titles = ("", "claim", *GPUS.values(), *of_run.titles[2:])
    return markdown(TextTable(of_run.name, titles, tuple(rows), names=2))


def _read(scorecard: str) -> TextTable:
    """The matrix of a written scorecard: its first table."""
    lines = re.findall(r"^\| (.*) \|$", scorecard, re.MULTILINE)
    titles, *rows = (tuple(cell.strip() for cell in line.split(" | ")) for line in lines or [""])
    if missing := [gpu for gpu in GPUS if gpu not in titles]:
        raise BadRun(f"the scorecard has no column {missing[0]}: write it again from tables of all GPUs")
    return TextTable("Verdicts", titles, tuple(rows), names=2)


def _verdicts(table: TextTable) -> dict[tuple[int, str], dict[str, str]]:
    """By number and name of each claim: verdicts by machine, without those that nothing measured."""
    return {
        (int(number), name): {
            machine: text
            for machine, text in zip(table.titles[2:], texts, strict=True)
            if text and text != Verdict.UNKNOWN
        }
        for number, name, *texts in table.rows
    }
