"""An answer about one machine as CSV and as Markdown: a line for each number."""

from collections.abc import Iterable, Iterator

from predict.answers.batching import batch_table, batch_title
from predict.answers.breakdown import breakdowns
from predict.answers.lines import Answer, Use
from predict.answers.question import Question
from predict.answers.verdict import verdict_lines
from predict.table import Column, Table, to_csv

LINE_COLUMNS = (Column("label", "number", is_key=True), Column("value", "value"), Column("formula", "formula"))


def answer_csv(answer: Answer) -> str:
    """Every line: section, key (as in the JSON), label, value in SI units, unit, formula. A share is of 1, as in the
    JSON, though a page shows percent."""
    heading = ("section", "key", "label", "value", "unit", "formula")
    lines = (
        (section.title, line.key, line.label, line.value, "1" if line.unit == "%" else line.unit, line.formula)
        for section in answer.sections
        for line in section.lines
    )
    return to_csv([heading, *lines])


def answer_markdown(question: Question, answer: Answer, uses: frozenset[Use]) -> str:
    """What the page of `uses` shows: the verdict and the notes as lists, a table for each section, for where the time
    goes, and for decode by batch size."""
    return "\n\n".join(_parts(question, answer.shown(uses), uses))


def _parts(question: Question, shown: Answer, uses: frozenset[Use]) -> Iterator[str]:
    yield f"# {question.model.name} on {question.gpus:,} x {question.gpu.name}"
    yield _list(verdict_lines(question, uses))
    for section in shown.sections:
        rows = ({"label": line.label, "value": line.text, "formula": line.formula} for line in section.lines)
        yield f"## {section.title}\n\n{Table(LINE_COLUMNS, tuple(rows)).markdown()}"
    for each in breakdowns(question):
        if each.use in uses:
            yield f"## {each.title}\n\n{each.table().markdown()}"
    if Use.SERVE in uses and (table := batch_table(question)) is not None:
        yield f"## {batch_title(question)}\n\n{table.markdown()}"
    yield f"## Notes\n\n{_list(shown.notes)}"


def _list(texts: Iterable[str]) -> str:
    return "\n".join(f"- {text}" for text in texts)
