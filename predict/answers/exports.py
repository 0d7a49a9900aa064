"""An answer about one machine as CSV and as Markdown: a line for each number."""

from collections.abc import Iterator

from predict.answers.lines import Answer
from predict.answers.table import Column, Table, to_csv

LINE_COLUMNS = (Column("label", "number", is_key=True), Column("value", "value"), Column("formula", "formula"))


def answer_csv(answer: Answer) -> str:
    """Every line: section, key (as in the JSON), label, value in SI units, unit, formula."""
    heading = ("section", "key", "label", "value", "unit", "formula")
    lines = (
        (section.title, line.key, line.label, line.value, line.unit, line.formula)
        for section in answer.sections
        for line in section.lines
    )
    return to_csv([heading, *lines])


def answer_markdown(answer: Answer) -> str:
    """A table for each section, values as on the page, and the notes as a list."""
    return "\n\n".join(_parts(answer))


def _parts(answer: Answer) -> Iterator[str]:
    for section in answer.sections:
        rows = ({"label": line.label, "value": line.text, "formula": line.formula} for line in section.lines)
        yield f"## {section.title}\n\n{Table(LINE_COLUMNS, tuple(rows)).markdown()}"
    yield "\n".join(["## Notes", "", *(f"- {note}" for note in answer.notes)])
