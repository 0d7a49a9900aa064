"""`python -m predict model ... --by-kernel`: the kernels of each pass, in a form."""

import json
from collections.abc import Iterator

from predict.answers.kernel_table import CSV_COLUMNS, KernelTable, kernel_tables
from predict.answers.question import Question
from predict.forms import Form
from predict.table import Table
from predict.terminal import terminal_width, wrapped


def kernels_text(question: Question, form: Form) -> str:
    """The kernels of prefill and of a decode step. The JSON is a list with a row for each kernel, the CSV one table."""
    tables = kernel_tables(question)
    match form:
        case Form.JSON:
            return json.dumps([row for each in tables for row in each.flat()], indent=2, allow_nan=False)
        case Form.CSV:
            return Table(CSV_COLUMNS, tuple(row for each in tables for row in each.flat())).csv()
        case Form.MARKDOWN:
            return "\n\n".join(part for each in tables for part in _markdown(each))
        case Form.PAGE:
            return "\n\n".join("\n".join(_page(each, terminal_width())) for each in tables)


def _markdown(table: KernelTable) -> Iterator[str]:
    yield f"## {table.title}"
    yield table.table().markdown()
    yield "\n".join(f"- {remark}" for remark in table.remarks)


def _page(table: KernelTable, width: int) -> Iterator[str]:
    yield from wrapped(table.title, width)
    yield table.table().text(width)
    for remark in table.remarks:
        yield from wrapped(remark, width, others="  ")
