"""The answer as a page for a terminal: sections of numbers and formulas, decode by batch size, and notes.

The layout uses no table library, because importing one would take a fifth of the time allowed for the whole answer.
"""

import textwrap
from collections.abc import Iterator

import typer

from predict.answers.batching import BatchRow
from predict.answers.lines import Answer, Line
from predict.answers.question import Question
from predict.units import duration

LABEL_WIDTH, VALUE_WIDTH = 25, 25
INDENT = "  "
BATCH_HEADINGS = ("batch", "FLOP", "weights", "KV cache", "link", "step", "tokens/s", "per user", "$ / 1M", "fits")


def page(question: Question, answer: Answer, batches: list[BatchRow], *, explain: bool, width: int) -> str:
    """Lay out the whole page, `width` columns wide. With `explain`, the arithmetic follows each line."""
    lines = [*_head(question, width)]
    for section in answer.sections:
        lines += ["", _bold(section.title)]
        for line in section.lines:
            lines += _row(line, width, explain=explain)
    if batches:
        title = f"Decode over the batch, {question.context} cached tokens each: latency against throughput"
        lines += ["", _bold(title), *_batch_table(batches)]
    lines += ["", _bold("Notes")]
    for note in answer.notes:
        lines += textwrap.wrap(note, width, initial_indent=f"{INDENT}- ", subsequent_indent=f"{INDENT}  ")
    return "\n".join(lines)


def _head(q: Question, width: int) -> Iterator[str]:
    yield _bold(f"{q.model.name} on {q.gpus} x {q.gpu.name}")
    yield from textwrap.wrap(q.model.text, width)
    reached = ", ".join(f"{name} {value:g}" for name, value in (("MFU", q.mfu), ("MBU", q.mbu)) if value is not None)
    said = f", as {q.storage.origin} says" if q.storage and q.storage.origin else ""
    assumed = (
        f"assumed: weights {q.weights_name}{said}, KV {q.kv_dtype.name}, multiplied in {q.compute_dtype.name}; "
        f"{q.mask} attention; "
        f"{reached or 'no MFU or MBU: times are lower bounds'}; ${q.usd_per_gpu_hour:g} per GPU-hour; "
        f"{q.tokens:.4g} training tokens ({q.tokens_source}); recompute {q.recompute}; {q.optimizer.name}; "
        f"{q.memory_bytes:.5g} bytes per GPU, of which the runtime takes {q.overhead_bytes:g}"
    )
    yield from textwrap.wrap(assumed, width)


def _row(line: Line, width: int, *, explain: bool) -> Iterator[str]:
    left = f"{INDENT}{line.label:<{LABEL_WIDTH}}  {line.text:<{VALUE_WIDTH}}  "
    texts = [line.formula, f"= {line.arithmetic}"] if explain and line.arithmetic else [line.formula]
    wrapped = [part for text in texts for part in textwrap.wrap(text, max(20, width - len(left)))] or [""]
    for number, part in enumerate(wrapped):
        yield f"{left if number == 0 else ' ' * len(left)}{part}".rstrip()


def _batch_table(rows: list[BatchRow]) -> Iterator[str]:
    cells = [BATCH_HEADINGS, *map(_batch_cells, rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        yield INDENT + "   ".join(f"{cell:>{column}}" for cell, column in zip(row, widths, strict=True))


def _batch_cells(row: BatchRow) -> tuple[str, ...]:
    step = row.step
    times = (step.compute_s, step.weights_s, step.dram_s - step.weights_s, step.link_s, step.napkin_s)
    return (
        f"{row.batch:,}",
        *(duration(float(time_s)) for time_s in times),
        f"{row.tokens_per_s:,.0f}",
        f"{row.tokens_per_s / row.batch:,.3g}",
        f"{row.usd_per_1m_tokens:,.3g}",
        "yes" if row.fits else "no",
    )


def _bold(text: str) -> str:
    """Bold on a terminal. `typer.echo` removes it if the output is piped."""
    return typer.style(text, bold=True)
