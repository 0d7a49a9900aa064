"""The answer as a page for a terminal: a verdict, sections of numbers and formulas, where the time goes, decode by
batch size, and notes.

The layout uses no table library, because importing one would take a fifth of the time allowed for the whole answer.
"""

from collections.abc import Iterator, Sequence

from predict.answers.batching import batch_table, batch_title
from predict.answers.breakdown import Breakdown, breakdowns
from predict.answers.lines import Answer, Line, Section, Use
from predict.answers.question import Question
from predict.answers.verdict import verdict_lines
from predict.table import Table
from predict.terminal import PROSE_WIDTH, bold, wrapped
from predict.units import people_count, si

INDENT = "  "
LEAST_FORMULA = 24  # columns for a formula; a narrower rest of a line moves it to a line of its own


def page(
    question: Question,
    answer: Answer,
    uses: frozenset[Use],
    remarks: Sequence[str] = (),
    *,
    explain: bool,
    width: int,
) -> str:
    """The sections and notes that any of `uses` needs: tables at most `width` columns wide, all else at most
    `PROSE_WIDTH`. `remarks` stand before the notes. With `explain`, the arithmetic follows each line."""
    shown = answer.shown(uses)
    lines = [bold(f"{question.model.name} on {question.gpus:,} x {question.gpu.name}")]
    lines += [line for text in verdict_lines(question, uses) for line in wrapped(text, width, "", INDENT)]
    lines += ["", *wrapped(question.model.text, width), *wrapped(_assumed(question, uses), width)]
    columns = _columns(shown.sections)
    for section in shown.sections:
        lines += ["", *map(bold, wrapped(section.title, width))]
        for line in (line for line in section.lines if explain or not line.is_detail):
            lines += _row(line, columns, min(width, PROSE_WIDTH), explain=explain)
    lines += _breakdowns([each for each in breakdowns(question) if each.use in uses], width)
    if Use.SERVE in uses:
        lines += _batches(question, width)
    lines += ["", bold("Notes")]
    for note in (*remarks, *shown.notes):
        lines += wrapped(note, width, f"{INDENT}- ", f"{INDENT}  ")
    return "\n".join(lines)


def _assumed(q: Question, uses: frozenset[Use]) -> str:
    """What the numbers assume, in one sentence."""
    reached = ", ".join(f"{name} {value:g}" for name, value in (("MFU", q.mfu), ("MBU", q.mbu)) if value is not None)
    kept = f"{si(q.reserved_bytes, 'B')} of it kept by the engine"
    if Use.SERVE not in uses:
        kept = f"{si(q.training_reserved_bytes, 'B')} of it kept by the runtime"
    memory = f"{si(q.memory_bytes, 'B', 4)} of memory per GPU, {kept}"
    formats = f"weights {q.weights_name}{_said(q)}, KV {q.kv_dtype.name}, multiplied in {q.compute_dtype.name}"
    assumed = [
        *([formats] if Use.SERVE in uses else []),
        f"{q.mask} attention",
        *([reached] if reached else []),
        f"${q.usd_per_gpu_hour:g} per GPU-hour",
        memory,
    ]
    if Use.TRAIN in uses:
        tokens = f"{people_count(q.tokens)} training tokens ({q.tokens_source})"
        assumed += [f"trained in {q.training_dtype.name}", tokens, f"recompute {q.recompute}", q.optimizer.name]
    return f"Assumed: {'; '.join(assumed)}."


def _columns(sections: Sequence[Section]) -> tuple[int, int]:
    """Widths of labels and of values, the same in every section."""
    lines = [line for section in sections for line in section.lines]
    return max(len(line.label) for line in lines), max(len(line.text) for line in lines)


def _said(q: Question) -> str:
    """What says that the weights have their format, if anything does."""
    return f" (as {q.storage.origin} says)" if q.storage is not None and q.storage.origin else ""


def _row(line: Line, columns: tuple[int, int], width: int, *, explain: bool) -> Iterator[str]:
    label, value = columns
    left = f"{INDENT}{line.label:<{label}}  {line.text:<{value}}  "
    texts = [line.formula, f"= {line.arithmetic}"] if explain and line.arithmetic else [line.formula]
    if width - len(left) < LEAST_FORMULA:
        if len(left.rstrip()) > width:
            yield from (f"{INDENT}{line.label}", f"{2 * INDENT}{line.text}")
        else:
            yield left.rstrip()
        for text in texts:
            yield from wrapped(text, width, 2 * INDENT, 2 * INDENT)
        return
    parts = [part for text in texts for part in wrapped(text, width - len(left))] or [""]
    for number, part in enumerate(parts):
        yield f"{left if number == 0 else ' ' * len(left)}{part}".rstrip()


def _breakdowns(found: Sequence[Breakdown], width: int) -> Iterator[str]:
    for each in found:
        yield from ("", *map(bold, wrapped(each.title, width)), *_indented(each.table(), width))
        yield from wrapped(each.overlap, width, INDENT, INDENT)


def _batches(q: Question, width: int) -> Iterator[str]:
    if (table := batch_table(q)) is not None:
        yield from ("", *map(bold, wrapped(batch_title(q), width)), *_indented(table, width))


def _indented(table: Table, width: int) -> Iterator[str]:
    for line in table.text(width - len(INDENT)).splitlines():
        yield f"{INDENT}{line}".rstrip()
