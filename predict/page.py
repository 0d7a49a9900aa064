"""The answer as a page for a terminal: sections of number and formula, decode over the batch, and the notes."""

from collections.abc import Iterable

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from predict.batching import BatchRow
from predict.lines import Answer, Line, Section
from predict.question import Question
from predict.units import duration

LABEL_WIDTH, VALUE_WIDTH = 25, 25
INDENT = "  "  # in the text: rich's own padding renders everything once more


def page(question: Question, answer: Answer, batches: Iterable[BatchRow], *, explain: bool) -> RenderableType:
    """Lay out the whole page; with `explain` each line is followed by its arithmetic."""
    blocks: list[RenderableType] = [_head(question)]
    blocks += [_section(section, explain=explain) for section in answer.sections]
    if rows := list(batches):
        blocks += [_batch_table(question, rows)]
    blocks += [Text("\nNotes", style="bold"), _notes(answer.notes)]
    return Group(*blocks)


def _head(q: Question) -> RenderableType:
    title = Text(f"{q.model.name} on {q.gpus} x {q.gpu.name}", style="bold")
    reached = ", ".join(f"{name} {value:g}" for name, value in (("MFU", q.mfu), ("MBU", q.mbu)) if value is not None)
    assumed = (
        f"assumed: weights {q.weights.name}, KV {q.kv.name}, multiplied in {q.compute.name}; {q.mask} attention; "
        f"{reached or 'no MFU or MBU: times are lower bounds'}; ${q.usd_per_gpu_hour:g} per GPU-hour; "
        f"{q.tokens:.4g} training tokens ({q.tokens_source}); recompute {q.recompute}; {q.optimizer.name}; "
        f"{q.memory_bytes:.5g} bytes a GPU, {q.overhead_bytes:g} of them the runtime's"
    )
    return Group(title, Text(q.model.text), Text(assumed, style="dim"))


def _section(section: Section, *, explain: bool) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    table.add_column(width=LABEL_WIDTH + len(INDENT), no_wrap=True)
    table.add_column(min_width=VALUE_WIDTH, no_wrap=True, justify="left")
    table.add_column(style="dim", overflow="fold")
    for line in section.lines:
        table.add_row(INDENT + line.label, line.text, _formula(line, explain=explain))
    return Group(Text(f"\n{section.title}", style="bold"), table)


def _formula(line: Line, *, explain: bool) -> str:
    return f"{line.formula}\n= {line.arithmetic}" if explain and line.arithmetic else line.formula


def _batch_table(q: Question, rows: list[BatchRow]) -> RenderableType:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for heading in ("batch", "FLOP", "weights", "KV cache", "link", "step", "tokens/s", "a user", "$ / 1M", "fits"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        times = (row.compute_s, row.weights_s, row.cache_s, row.link_s, row.step_s)
        table.add_row(
            f"{row.batch:,}",
            *(duration(time_s) for time_s in times),
            f"{row.tokens_per_s:,.0f}",
            f"{row.tokens_per_s / row.batch:,.3g}",
            f"{row.usd_per_1m_tokens:,.3g}",
            "yes" if row.fits else "no",
        )
    title = f"\nDecode over the batch, {q.context} cached tokens each: latency against throughput"
    return Group(Text(title, style="bold"), table)


def _notes(notes: Iterable[str]) -> RenderableType:
    table = Table.grid(padding=(0, 1))
    table.add_column(width=len(INDENT) + 1)
    table.add_column(overflow="fold")
    for note in notes:
        table.add_row(f"{INDENT}-", note)
    return table
