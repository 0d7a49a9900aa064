"""A comparison as a page, as Markdown, as CSV and as JSON; several runs as a table."""

from collections.abc import Iterator, Sequence

from predict.answers.points import expected_key
from predict.answers.question import Question
from predict.command_line import typed_here
from predict.gpus import GPUS
from predict.model.presets import PRESETS
from predict.table import Column, Table, cell
from predict.terminal import wrapped
from predict.units import Unit, duration
from reports.served.comparison import Comparison, Group, Row
from reports.served.log import Spread

INDENT = "  "
ROWS = (
    Column("label", "", is_key=True),
    Column("measured", "measured", Unit.SECONDS),  # or tokens/s, in texts
    Column("bound", "bound", Unit.SECONDS),
    Column("of_bound", "of roof", Unit.SHARE),
    Column("expected", "expected", Unit.SECONDS),
    Column("of_expected", "of exp.", Unit.SHARE),
)
PARTS = (
    Column("label", "", is_key=True),
    Column("time_s", "time", Unit.SECONDS),
    Column("share", "share", Unit.SHARE),
    Column("group", "what"),
)
RUNS = (
    Column("run", "run", Unit.REQUESTS, is_key=True),
    Column("in_flight", "in flight", Unit.REQUESTS),
    Column("isl", "in", Unit.TOKENS),
    Column("osl", "out", Unit.TOKENS),
    Column("ttft_s", "TTFT", Unit.SECONDS),
    Column("ttft_bound_s", "bound", Unit.SECONDS),
    Column("tpot_s", "TPOT", Unit.SECONDS),
    Column("tpot_bound_s", "bound", Unit.SECONDS),
    Column("tokens_per_s", "tokens/s", Unit.TOKENS_PER_S),
    Column("tokens_per_s_bound", "bound", Unit.TOKENS_PER_S),
    Column("tokens_per_s_of_bound", "of roof", Unit.SHARE),
    Column("tokens_per_s_of_expected", "of exp.", Unit.SHARE),
)
CAUSES = (
    "lengths (--isl, --osl), a prefix cache (--prefix), speculative decoding (--tokens-per-step), formats (--weights, "
    "--kv, --compute), a layout (--tp, --pp, --dp, --ep) or GPUs (--gpu, --gpus) that are not those that ran"
)


def comparison_page(found: Comparison, width: int) -> str:
    """What ran, how far it is from its roof, both tables and the notes, at most `width` columns wide."""
    lines = [line for text in (title(found), *verdict(found)) for line in wrapped(text, width, "", INDENT)]
    lines += ["", *_indented(rows_table(found), width)]
    if found.parts:
        lines += ["", *wrapped(parts_title(found), width), *_indented(parts_table(found), width)]
    lines += ["", "Notes"]
    for note in notes(found):
        lines += wrapped(note, width, f"{INDENT}- ", f"{INDENT}  ")
    return "\n".join(lines)


def comparison_markdown(found: Comparison) -> str:
    """The same in Markdown."""
    parts = [f"# {title(found)}", _list(verdict(found)), rows_table(found).markdown()]
    if found.parts:
        parts.append(f"## {parts_title(found)}\n\n{parts_table(found).markdown()}")
    return "\n\n".join([*parts, f"## Notes\n\n{_list(notes(found))}"])


def comparison_csv(found: Comparison) -> str:
    """Both tables in SI units."""
    columns = ("key", "label", "unit", "measured", "bound", "of_bound", "expected", "of_expected")
    rows = [{name: getattr(row, name) for name in columns} for row in found.rows]
    tables = [
        Table(tuple(Column(name, name) for name in columns), tuple({**row, "unit": str(row["unit"])} for row in rows))
    ]
    if found.parts:
        names = ("key", "label", "group", "time_s", "share")
        parts = [{name: getattr(part, name) for name in names} for part in found.parts]
        tables.append(Table(tuple(Column(name, name) for name in names), tuple(parts)))
    return "\n\n".join(table.csv() for table in tables)


def comparison_json(found: Comparison) -> dict[str, object]:
    """Every number, flat, in SI units; then the parts of a step, and the texts."""
    log, load, q = found.log, found.load, found.question
    times = {"ttft": log.ttft, "tpot": log.tpot, "latency": log.latency}
    return {
        "file": log.file,
        "run": log.run,
        "form": log.form,
        "named_model": log.model,
        **_machine(q),
        "requests": log.requests,
        "failed": log.failed,
        "duration_s": log.duration_s,
        "isl": load.isl,
        "osl": load.osl,
        "prefix": load.cached,
        "tokens_per_step": load.tokens_per_step,
        "requests_per_s": log.requests_per_s,
        "asked_requests_per_s": log.asked_per_s,
        "most_in_flight": log.most_in_flight,
        "in_flight": load.in_flight,
        "decoding": load.decoding,
        "running": found.running,
        **row_values(found),
        **{key: value for name, spread in times.items() for key, value in _spread(name, spread)},
        "step_s": found.step_s,
        "parts": [
            {"key": part.key, "label": part.label, "group": part.group, "time_s": part.time_s, "share": part.share}
            for part in found.parts
        ],
        "verdict": list(verdict(found)),
        "beaten": [row.key for row in found.beaten],
        "notes": list(notes(found)),
    }


def runs_table(found: Sequence[Comparison]) -> Table:
    """A row for each run of a file."""
    rows = (
        {
            "run": each.log.run,
            "in_flight": each.load.in_flight,
            "isl": each.load.isl,
            "osl": each.load.osl,
            **row_values(each),
        }
        for each in found
    )
    return Table(RUNS, tuple(rows)).without_empty()


def runs_page(found: Sequence[Comparison], width: int) -> str:
    """The table of all runs, the alarms of each, and the notes that all have."""
    first = found[0]
    name = first.log.file.partition(", run ")[0]
    q = first.question
    heading = f"{q.model.name} on {q.gpus:,} x {q.gpu.name}: {name}, {len(found)} runs of {first.log.form}"
    lines = [*wrapped(heading, width), "", *_indented(runs_table(found), width), "", "Notes"]
    told = [f"run {each.log.run}: {alarm}" for each in found for alarm in alarms(each)]
    told += [note for note in first.notes if all(note in each.notes for each in found)]
    for note in (f"--run {first.log.run} shows where a token's time goes in that run", *told):
        lines += wrapped(note, width, f"{INDENT}- ", f"{INDENT}  ")
    return "\n".join(lines)


def title(found: Comparison) -> str:
    """Model, machine, file and tool."""
    q, log = found.question, found.log
    return f"{q.model.name} on {q.gpus:,} x {q.gpu.name}: {log.file} ({log.form})"


def verdict(found: Comparison) -> Iterator[str]:
    """What ran, the share of its roof, and where a token's time goes; alarms first."""
    yield from alarms(found)
    yield _ran(found)
    rate = found.row("tokens_per_s")
    assert rate.of_bound is not None
    expected = "" if rate.expected is None else f"; {_text(rate, rate.expected)} expected"
    allowed = f"{_text(rate, rate.measured)} tokens/s out, where this load allows {_text(rate, rate.bound)}{expected}"
    yield f"{100 * rate.of_bound:.0f} % of its roof: {allowed}."
    if found.parts:
        what = "token" if found.load.tokens_per_step == 1 else "step"
        shares = ", ".join(f"{part.label} {100 * part.share:.0f} %" for part in found.parts)
        yield f"Of a {what}'s {duration(found.step_s)}: {shares}."


def alarms(found: Comparison) -> Iterator[str]:
    """A line for bounds that are beaten: no machine does that, so an assumption is wrong."""
    if not found.beaten:
        return
    said = " and ".join(
        f"{row.label} {_text(row, row.measured)} beats its bound {_text(row, row.bound)}" for row in found.beaten
    )
    q, likely = found.question, CAUSES
    if not q.roomiest_replica().max_batch(found.load.context):
        likely = f"{q.model.name} does not fit on {q.gpus:,} x {q.gpu.name}, so more GPUs or narrower formats ran"
    yield f"Impossible: {said}. Likely causes: {likely}."


def notes(found: Comparison) -> Iterator[str]:
    """The notes, and the command that shows the same step."""
    yield from found.notes
    if command := predict_command(found.question):
        yield typed_here(f"this step by kernels: {command}")


def predict_command(q: Question) -> str:
    """The command that predicts the same step; empty for a model or a GPU of the user's own."""
    if q.model.name not in PRESETS or q.gpu.name not in GPUS:
        return ""
    asked = {"gpu": q.gpu.name, "gpus": q.gpus, **q.asked_sizes}
    formats = {"weights": q.weights, "kv": q.kv, "compute": q.compute}
    asked |= {name: each.name for name, each in formats.items() if each is not None}
    asked |= {"batch": q.batch, "seq": q.seq, "context": q.context}
    return " ".join(
        [f"python -m predict model {q.model.name}", *(f"--{name} {value}" for name, value in asked.items())]
    )


def rows_table(found: Comparison) -> Table:
    """Measured, bound and expected, a row for each number."""
    rows = (
        {
            "label": row.label,
            "measured": None if row.measured is None else _text(row, row.measured),
            "bound": _text(row, row.bound),
            "of_bound": row.of_bound,
            "expected": None if row.expected is None else _text(row, row.expected),
            "of_expected": row.of_expected,
        }
        for row in found.rows
    )
    return Table(ROWS, tuple(rows)).without_empty()


def parts_title(found: Comparison) -> str:
    """The title of `parts_table`."""
    what = "token" if found.load.tokens_per_step == 1 else "step"
    return f"Where a {what}'s time goes: {duration(found.step_s)}, {_count(found.decoding)} requests decoding"


def parts_table(found: Comparison) -> Table:
    """The parts of a step; their times add up to it."""
    words = {Group.REST: ""}
    rows = [
        {
            "label": part.label,
            "time_s": part.time_s,
            "share": part.share,
            "group": words.get(part.group, str(part.group)),
        }
        for part in found.parts
    ]
    total: dict[str, object] = {"label": "measured", "time_s": found.step_s, "share": 1.0, "group": ""}
    return Table(PARTS, (*rows, total))


def row_values(found: Comparison) -> dict[str, float | None]:
    """Every number of the rows by its key: ttft_s, ttft_bound_s, ttft_expected_s, ttft_of_bound."""
    values: dict[str, float | None] = {}
    for row in found.rows:
        base = row.key.removesuffix("_s") if row.unit is Unit.SECONDS else row.key
        bound = f"{base}_bound_s" if row.unit is Unit.SECONDS else f"{base}_bound"
        values |= {row.key: row.measured, bound: row.bound, expected_key(row.key): row.expected}
        values |= {f"{base}_of_bound": row.of_bound, f"{base}_of_expected": row.of_expected}
    return values


def _ran(found: Comparison) -> str:
    """What ran, in one sentence."""
    log, load = found.log, found.load
    requests = "requests" if log.requests is None else f"{log.requests:,} requests"
    time = "" if log.duration_s is None else f" in {duration(log.duration_s)}"
    sent = []
    if log.asked_per_s is not None:
        sent.append(f"{log.asked_per_s:.4g} sent per second")
    if log.most_in_flight is not None:
        sent.append(f"at most {_count(log.most_in_flight)} at once")
    if load.in_flight is not None:
        decoding = "" if load.decoding is None else f" ({_count(load.decoding)} decoding)"
        sent.append(f"{_count(load.in_flight)} in flight on average{decoding}")
    said = f"; {', '.join(sent)}" if sent else ""
    return f"Ran: {requests} of {load.isl:,} tokens in and {load.osl:,} out{time}{said}."


def _machine(q: Question) -> dict[str, object]:
    return {
        "model": q.model.name,
        "gpu": q.gpu.name,
        "gpus": q.gpus,
        "layout": q.replica().layout.text,
        "weights": q.weights_name,
        "kv": q.kv_dtype.name,
        "compute": q.compute_dtype.name,
    }


def _spread(name: str, spread: Spread | None) -> Iterator[tuple[str, float | None]]:
    if name == "latency":
        yield "latency_s", spread.mean_s if spread else None
    yield f"{name}_median_s", spread.median_s if spread else None
    yield f"{name}_p99_s", spread.p99_s if spread else None


def _count(requests: float) -> str:
    """A mean number of requests: "59.9", "1,200"."""
    return f"{requests:.3g}" if requests < 100 else f"{requests:,.0f}"


def _text(row: Row, value: float | None) -> str:
    return cell(value, row.unit)


def _indented(table: Table, width: int) -> Iterator[str]:
    for line in table.text(width - len(INDENT)).splitlines():
        yield f"{INDENT}{line}".rstrip()


def _list(texts: Iterator[str]) -> str:
    return "\n".join(f"- {text}" for text in texts)
