"""Writes docs/accuracy.md from measured tables: how far expected time is off, where and why.

    python -m reports accuracy tables/*.parquet --out docs

writes docs/accuracy.md, a page for each family of ops and their figures in docs/accuracy/; the same tables give the
same bytes. This module computes the numbers; the templates and weaknesses.toml hold the prose: accuracy.md.jinja what
all ops share, family.md.jinja the page of a family, tried.md.jinja what was tried. A `Section` comes from elsewhere.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from predict.errors import BadRecord
from predict.expected.calibrations import shipped
from predict.expected.kernel import TIME_MODELS
from predict.gpus import NVIDIA_GPUS
from predict.resources import Resource, find_ceiling
from predict.table import Bold
from predict.units import DTYPES, binary_bytes, duration, percent, si
from reports.accuracy.compare import compare_tables, draw_shares
from reports.accuracy.failures import find_failures
from reports.accuracy.importers import MeasuredTables
from reports.accuracy.plots import FAMILIES, TITLES, DrawnFile, draw_files, labels
from reports.accuracy.shares import find_pairs, matmul_sentence, share_table, telling_gpus
from reports.accuracy.validate import Group, Validation, bar_of, usual_heads
from reports.calibration.errors import Errors, errors
from reports.figures import NothingToDraw, to_small_png
from reports.files import template, write_file
from reports.tables import TextTable

TEMPLATE = Path(__file__).with_name("accuracy.md.jinja")
FAMILY_TEMPLATE = Path(__file__).with_name("family.md.jinja")
FOLDER = "accuracy"  # of the families' pages and the figures, beside accuracy.md
FASTEST = 3  # how many of the rows that beat the bound are shown


@dataclass(frozen=True, slots=True)
class Section:
    """A part of accuracy.md that another module writes: whole models, GPUs without a measurement."""

    title: str
    text: str  # Markdown


@dataclass(frozen=True, slots=True)
class Entry:
    """One group as the document shows it."""

    group: Group
    label: str
    found: Errors  # over all judged rows
    bar: float | None  # the largest mean error that passes
    usual: Errors  # over `usual_heads`; the bar applies to these

    @property
    def is_met(self) -> bool:
        """Whether expected time is within the bar; true without a bar."""
        return self.bar is None or self.usual.mape_expected <= self.bar


def write_accuracy(
    measured_tables: MeasuredTables, validation: Validation, out: Path, sections: Sequence[Section] = ()
) -> list[Path]:
    """Write out/accuracy.md, out/accuracy/*.md and *.png, each file in one step; return their paths."""
    groups = _in_order(validation.groups)
    folder = out / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    drawn = draw_files([group for group in groups if group.is_plain], folder)
    compared = folder / "roofline_share.png"
    notes = _draw_comparison(measured_tables, compared)
    entries = _entries(groups)
    pages = []
    for family in FAMILIES:
        path = folder / f"{family}.md"
        if text := _family_page(family, entries, drawn):
            write_file(path, text.encode())
            pages.append(path)
        else:
            path.unlink(missing_ok=True)  # an old page, of other tables
    document = out / "accuracy.md"
    write_file(document, render(entries, validation.skipped, notes, sections).encode())
    return [document, *pages, *(each.path for each in drawn), *([compared] if notes is not None else [])]


def render(
    entries: Sequence[Entry],
    skipped: Mapping[tuple[str, str], int],
    notes: Sequence[str] | None,
    sections: Sequence[Section],
) -> str:
    """The text of accuracy.md. `notes` belong to the comparison figure; None where it was not drawn."""
    groups = [entry.group for entry in entries]
    return template(TEMPLATE).render(
        entries=entries,
        shapes=f"{sum(entry.found.rows for entry in entries):,}",
        tables=table_lines(groups),
        is_published=any(_source(group.table) for group in groups),
        skipped=[f"{table}: {rows:,} rows left out: {reason}" for (table, reason), rows in skipped.items()],
        overview=_overview(entries),
        missed=[entry for entry in entries if not entry.is_met],
        pages=[(TITLES[family], f"{FOLDER}/{family}.md") for family in _families(entries)],
        sections=sections,
        comparisons=[_comparison(groups, gpus) for gpus in telling_gpus(groups)],
        comparison_notes=notes,
        comparison=f"{FOLDER}/roofline_share.png",
    )


def _family_page(family: str, every: Sequence[Entry], drawn: Sequence[DrawnFile]) -> str:
    """The page of one family of ops; "" if no group is of it."""
    entries = [entry for entry in every if entry.group.op in FAMILIES[family]]
    if not entries:
        return ""
    figures = [each for each in drawn if each.family == family]
    constants, meanings = _constants(family, entries)
    (failures,) = find_failures([(entry.group, entry.label) for entry in entries])
    return template(FAMILY_TEMPLATE).render(
        title=TITLES[family],
        errors=_errors_table(entries),
        faster=[(_faster_sentence(each), _faster_table(each)) for each in entries if each.found.faster_than_bound],
        figures=[
            (f"{TITLES[family]}: {each.drawing.alt}", each.path.name, each.drawing.alt, each.drawing.caption)
            for each in figures
        ],
        constants=constants,
        meanings=meanings,
        failures=failures,
    )


def _overview(entries: Sequence[Entry]) -> TextTable:
    """Mean errors of expected time by kind of kernel and GPU, over all shapes of a kind's groups, with their bars."""
    kinds: dict[tuple[str, str], dict[str, list[Entry]]] = {}
    for entry in entries:
        large = ", heads over 256" if usual_heads(entry.group.rows).empty else ""
        kind = kinds.setdefault((entry.group.op, f"{entry.group.formats}{large}"), {})
        kind.setdefault(entry.group.gpu, []).append(entry)
    gpus = [name for name in NVIDIA_GPUS if any(entry.group.gpu == name for entry in entries)]
    rows = tuple((*kind, *(_mean(of_gpu.get(gpu, [])) for gpu in gpus)) for kind, of_gpu in kinds.items())
    return TextTable("Errors", ("op", "format", *gpus), rows)


def _mean(entries: Sequence[Entry]) -> str:
    """Mean error over the shapes of all entries, in bold where one misses its bar; "" without entries."""
    if not entries:
        return ""
    rows = sum(entry.found.rows for entry in entries)
    text = percent(sum(entry.found.mape_expected * entry.found.rows for entry in entries) / rows)
    return text if all(entry.is_met for entry in entries) else Bold(text)


def _comparison(groups: Sequence[Group], gpus: tuple[str, str]) -> tuple[tuple[str, str], list[str], TextTable | None]:
    """Two GPUs side by side: their names, what the second changes, and the shares of the roofline."""
    pairs = find_pairs(groups, gpus)
    matmuls = [matmul_sentence(pair) for pair in pairs if pair.a.op == "matmul" and pair.a.dtype in DTYPES]
    return gpus, matmuls, share_table(pairs) if pairs else None


def _in_order(groups: Sequence[Group]) -> list[Group]:
    ops = list(TIME_MODELS)
    return sorted(groups, key=lambda group: (ops.index(group.op), group.gpu))


def _entries(groups: Sequence[Group]) -> list[Entry]:
    entries = []
    for group, label in zip(groups, labels(groups), strict=True):
        found, bar = errors(group.judged), bar_of(group)
        usual = found if bar is None else errors(usual_heads(group.judged))
        entries.append(Entry(group, label, found, bar, usual))
    return entries


def _families(entries: Sequence[Entry]) -> list[str]:
    held = {entry.group.op for entry in entries}
    return [family for family, ops in FAMILIES.items() if held.intersection(ops)]


def _source(table: str) -> str:
    """Who measured a table; "" for a table that no shipped calibration comes from."""
    sources = (each.calibration.source for each in shipped())
    return next((source.partition("; ")[2] for source in sources if source.startswith(f"{table},")), "")


def table_lines(groups: Sequence[Group]) -> list[str]:
    """The tables of the groups, each with who measured it, if that is known."""
    names = dict.fromkeys(group.table for group in groups)
    return [f"`{name}`" + (f", {source}" if (source := _source(name)) else "") for name in names]


def _errors_table(entries: Sequence[Entry]) -> TextTable:
    titles = (
        "GPU", "op", "dtype", "KV cache", "window", "kernel", "rows", "napkin MAPE", "expected MAPE", "median", "p90",
        "within 30 %", "beat the bound", "bar",
    )  # fmt: skip
    rows = []
    for entry in entries:
        group, found = entry.group, entry.found
        what = (group.gpu, group.op, group.dtype, group.kv_dtype or "", "yes" if group.window else "")
        mean = (found.mape_napkin, found.mape_expected)
        shares = map(percent, (*mean, found.median_error, found.p90_error, found.within_30_percent))
        bar = "" if entry.bar is None else f"{percent(entry.bar)}, {'met' if entry.is_met else 'not met'}"
        shown = bar if entry.is_met else Bold(bar)
        counts = (f"{found.rows:,}", *shares, f"{found.faster_than_bound:,}")
        rows.append((*what, group.kernel_source, *counts, shown))
    return TextTable("Errors", titles, tuple(rows)).without_empty_columns()


def _faster_sentence(entry: Entry) -> str:
    """How many rows beat the napkin, by how much, and whether L2 can hold what they move."""
    group = entry.group
    under = group.judged[group.judged["time_s"] < group.judged["napkin_s"]]
    furthest = (under["time_s"] / under["napkin_s"]).min()
    sentence = (
        f"{group.title}, {group.kernel_source}: {len(under):,} of {entry.found.rows:,} rows beat the bound; the"
        f" furthest takes {furthest:.2f} of its bound."
    )
    gpu = NVIDIA_GPUS[group.gpu]
    most_bytes = float(under["napkin_s"].max()) * find_ceiling(Resource.DRAM, gpu.roofs).per_s
    if group.op != "matmul" or gpu.l2_bytes is None or most_bytes > gpu.l2_bytes:
        return sentence
    return (
        f"{sentence} Each of them moves at most {binary_bytes(round(most_bytes))}, and L2 holds"
        f" {binary_bytes(gpu.l2_bytes)}: the operands were still in L2 from the previous call."
    )


def _faster_table(entry: Entry) -> TextTable:
    """The `FASTEST` rows below the napkin, relative to it."""
    dims = TIME_MODELS[entry.group.op].dims
    rows = entry.group.judged.assign(of_bound=lambda rows: rows["time_s"] / rows["napkin_s"])
    lines = (
        (
            *(f"{row[name]:.0f}" for name in dims),
            *(duration(row[name]) for name in ("time_s", "napkin_s")),
            f"{row['of_bound']:.2f}",
        )
        for row in rows[rows["of_bound"] < 1].nsmallest(FASTEST, "of_bound").to_dict("records")
    )
    return TextTable(entry.group.title, (*dims, "measured", "napkin", "of the napkin"), tuple(lines))


def _constants(family: str, entries: Sequence[Entry]) -> tuple[TextTable, list[str]]:
    """The constants of a family of ops, and the meaning of each; the ops of a family share one model."""
    ops = FAMILIES[family]
    model = TIME_MODELS[ops[0]]
    rows = tuple(
        (
            entry.group.gpu,
            f"{entry.group.op}, {entry.label}" if len(ops) > 1 else entry.label,
            *(_constant_text(entry.group, name) for name in model.constants),
            *("yes" if entry.group.calibration.switches[name] else "no" for name in model.switches),
        )
        for entry in entries
        if entry.group.op in ops
    )
    meanings = [f"`{name}` ({each.unit}): {each.meaning}" for name, each in model.constants.items()]
    meanings += [f"`{name}` (yes or no): {each.meaning}" for name, each in model.switches.items()]
    return TextTable(TITLES[family], ("GPU", "group", *model.constants, *model.switches), rows), meanings


def _constant_text(group: Group, name: str) -> str:
    constant, value = TIME_MODELS[group.op].constants[name], group.calibration.constants.get(name)
    if value is None or (constant.only_narrowed and not group.rows["term_narrow"].any()):
        return ""
    if constant.unit == "s":
        return duration(value)
    return si(value, "B/s") if constant.unit == "B/s" else f"{value:.3g}"


def _draw_comparison(measured_tables: MeasuredTables, path: Path) -> list[str] | None:
    """Draw the GPUs side by side; return the notes, or None where there is nothing to compare."""
    try:
        comparison = compare_tables(measured_tables)
        write_file(path, to_small_png(draw_shares(comparison)))
    except (BadRecord, NothingToDraw):
        path.unlink(missing_ok=True)  # an old figure, drawn from other tables
        return None
    return list(comparison.notes)
