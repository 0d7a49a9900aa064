"""The answer as a page for a terminal: a verdict, sections of numbers and formulas, where the time goes, decode by
batch size, and notes.

The layout uses no table library, because importing one would take a fifth of the time allowed for the whole answer.
"""

import textwrap
from collections.abc import Iterator, Mapping, Sequence

import typer

from predict.answers.batching import BatchRow, batch_rows
from predict.answers.breakdown import Breakdown, breakdowns
from predict.answers.lines import Answer, Line, Section, Unit, Use
from predict.answers.question import Question
from predict.answers.table import Column, Table
from predict.answers.verdict import verdicts
from predict.units import duration, people_count, si

INDENT = "  "
OVERLAPPED = 1.01  # the parts' bounds over the pass's from which the page says that they overlap
LEAST_FORMULA = 24  # columns for a formula; a narrower rest of a line moves it to a line of its own
BATCH_COLUMNS = (
    Column("batch", "batch", Unit.REQUESTS, is_key=True),
    Column("compute_s", "FLOP", Unit.SECONDS),
    Column("weights_s", "weights", Unit.SECONDS),
    Column("cache_s", "KV cache", Unit.SECONDS),
    Column("link_s", "link", Unit.SECONDS),
    Column("step_s", "step", Unit.SECONDS),
    Column("expected_s", "expected", Unit.SECONDS),
    Column("tokens_per_s", "tokens/s", Unit.TOKENS_PER_S),
    Column("tokens_per_s_per_user", "per user", Unit.TOKENS_PER_S),
    Column("usd_per_1m_tokens", "$ / 1M", Unit.USD),
    Column("fits", "fits"),
    Column("layout", "layout"),  # only where batches differ in it
)
TITLES = {Use.SERVE: "Serving", Use.TRAIN: "Training"}  # of the verdicts of a page that has both
BREAKDOWN_COLUMNS = (
    Column("component", "", is_key=True),
    Column("bound_s", "bound", Unit.SECONDS),
    Column("bound_share", "share", Unit.SHARE),
    Column("bound_by", "by"),
    Column("expected_s", "expected", Unit.SECONDS),
    Column("expected_share", "share", Unit.SHARE),
)


def page(
    question: Question,
    answer: Answer,
    uses: frozenset[Use],
    remarks: Sequence[str] = (),
    *,
    explain: bool,
    width: int,
) -> str:
    """The sections and notes that any of `uses` needs, `width` columns wide. `remarks` stand before the notes. With
    `explain`, the arithmetic follows each line."""
    shown = answer.shown(uses)
    lines = [_bold(f"{question.model.name} on {question.gpus:,} x {question.gpu.name}")]
    for verdict in verdicts(question, uses):
        first, *others = verdict.lines
        named = first if len(uses) == 1 else f"{TITLES[verdict.use]}: {first}"
        lines += [line for text in (named, *others) for line in _wrapped(text, width, "", INDENT)]
    lines += ["", *textwrap.wrap(question.model.text, width), *textwrap.wrap(_assumed(question, uses), width)]
    columns = _columns(shown.sections)
    for section in shown.sections:
        lines += ["", _bold(section.title)]
        for line in (line for line in section.lines if explain or not line.is_detail):
            lines += _row(line, columns, width, explain=explain)
    lines += _breakdowns([each for each in breakdowns(question) if each.use in uses], width)
    if Use.SERVE in uses:
        lines += _batches(question, width)
    lines += ["", _bold("Notes")]
    for note in (*remarks, *shown.notes):
        lines += _wrapped(note, width, f"{INDENT}- ", f"{INDENT}  ")
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
        yield left.rstrip()
        for text in texts:
            yield from _wrapped(text, width, 2 * INDENT, 2 * INDENT)
        return
    parts = [part for text in texts for part in textwrap.wrap(text, width - len(left))] or [""]
    for number, part in enumerate(parts):
        yield f"{left if number == 0 else ' ' * len(left)}{part}".rstrip()


def _breakdowns(found: Sequence[Breakdown], width: int) -> Iterator[str]:
    for each in found:
        expected = "" if each.expected_s is None else f", expected {duration(each.expected_s)}"
        yield from ("", _bold(f"Where the time goes: {each.name}, at least {duration(each.bound_s)}{expected}"))
        table = Table(BREAKDOWN_COLUMNS, tuple(each.rows())).without_empty()
        yield from _indented(table, width)
        if (together_s := sum(share.bound_s for share in each.shares)) > each.bound_s * OVERLAPPED:
            overlap = f"Their own bounds add up to {duration(together_s)}: in the pass they overlap."
            yield from _wrapped(overlap, width, INDENT, INDENT)


def _batches(q: Question, width: int) -> Iterator[str]:
    rows = batch_rows(q)
    if not rows:
        return
    title = f"Decode over the batch, {q.context:,} cached tokens each: latency against throughput"
    yield from ("", _bold(title))
    cells = [_batch_cells(row) for row in rows]
    if len({row.step.replica.layout for row in rows}) > 1:
        cells = [{**each, "layout": row.step.replica.layout.text} for each, row in zip(cells, rows, strict=True)]
    yield from _indented(Table(BATCH_COLUMNS, tuple(cells)).without_empty(), width)


def _batch_cells(row: BatchRow) -> Mapping[str, object]:
    step = row.step.bound
    return {
        "batch": row.batch,
        "compute_s": float(step.compute_s),
        "weights_s": float(step.weights_s),
        "cache_s": float(step.dram_s - step.weights_s),
        "link_s": float(step.link_s) or None,
        "step_s": row.step.bound_s,
        "expected_s": row.step.expected_s,
        "tokens_per_s": row.tokens_per_s,
        "tokens_per_s_per_user": row.tokens_per_s / row.batch,
        "usd_per_1m_tokens": row.usd_per_1m_tokens,
        "fits": row.fits,
    }


def _indented(table: Table, width: int) -> Iterator[str]:
    for line in table.text(width - len(INDENT)).splitlines():
        yield f"{INDENT}{line}".rstrip()


def _wrapped(text: str, width: int, first: str, others: str) -> list[str]:
    return textwrap.wrap(text, width, initial_indent=first, subsequent_indent=others)


def _bold(text: str) -> str:
    """Bold on a terminal. `typer.echo` removes it if the output is piped."""
    return typer.style(text, bold=True)
