"""What a search found, as a page, as tables and as flat JSON."""

import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from predict.answers.lines import Unit, show
from predict.answers.search import Search
from predict.answers.table import Column, Table, cell
from predict.answers.targets import Point
from predict.errors import MissingCeiling
from predict.expected.server import expected_load
from predict.units import duration

FRONT_POINTS = 8  # of each GPU on the page
_NAMES = (
    Column("gpu", "GPU", is_key=True),
    Column("gpus", "n", Unit.GPUS, is_key=True),
    Column("layout", "layout", is_key=True),
    Column("weights", "weights", is_key=True),
)
_SETTINGS = (Column("batch", "batch", Unit.REQUESTS), Column("chunk", "chunk", Unit.TOKENS))
_RATES = (
    Column("tokens_per_s_per_user", "/s/user", Unit.TOKENS_PER_S),
    Column("tokens_per_s_per_gpu", "/s/GPU", Unit.TOKENS_PER_S),
    Column("usd_per_1m_tokens", "$/1M", Unit.USD),
    Column("bound", "bound"),
)
MACHINE_COLUMNS = (
    *_NAMES,
    Column("replicas", "copies", Unit.GPUS),
    *_SETTINGS,
    Column("ttft_s", "TTFT", Unit.SECONDS),
    Column("ttft_expected_s", "exp.", Unit.SECONDS),
    Column("tpot_s", "TPOT", Unit.SECONDS),
    Column("tpot_expected_s", "exp.", Unit.SECONDS),
    *_RATES[1:],
)
FRONT_COLUMNS = (
    *_NAMES,
    *_SETTINGS,
    Column("ttft_s", "TTFT", Unit.SECONDS),
    Column("tpot_s", "TPOT", Unit.SECONDS),
    *_RATES,
)
# Lines about the best point: label, unit, key of the bound, key of the expected value, formula.
BEST_LINES = (
    (
        "mixed step",
        Unit.SECONDS,
        "mixed_step_s",
        "mixed_step_expected_s",
        "reads prompt tokens, and decodes the other requests",
    ),
    ("decode step", Unit.SECONDS, "decode_step_s", "decode_step_expected_s", "decodes the whole batch"),
    ("TTFT", Unit.SECONDS, "ttft_s", "ttft_expected_s", "the steps that read the prompt; no queue"),
    ("TPOT", Unit.SECONDS, "tpot_s", "tpot_expected_s", "(batch / requests/s - TTFT) / (tokens out - 1)"),
    ("requests/s", Unit.TOKENS_PER_S, "requests_per_s", "requests_per_s_expected", "1 / time of the steps per request"),
    ("tokens/s", Unit.TOKENS_PER_S, "tokens_per_s", "tokens_per_s_expected", "requests/s x tokens out"),
    ("tokens/s/GPU", Unit.TOKENS_PER_S, "tokens_per_s_per_gpu", "tokens_per_s_per_gpu_expected", "tokens/s / GPUs"),
    ("tokens/s/user", Unit.TOKENS_PER_S, "tokens_per_s_per_user", "tokens_per_s_per_user_expected", "1 / TPOT"),
    ("bound by", Unit.NAME, "bound", "", "what takes longest of all steps together"),
)
EXPECTED_KEYS = (
    *("mixed_step_expected_s", "decode_step_expected_s"),
    *("ttft_expected_s", "tpot_expected_s", "requests_per_s_expected", "tokens_per_s_expected"),
    *("tokens_per_s_per_gpu_expected", "tokens_per_s_per_user_expected"),
)
BEST_COLUMNS = (
    Column("label", "", is_key=True),
    Column("bound", "bound"),
    Column("expected", "expected"),
    Column("formula", ""),
)


def point_values(point: Point) -> dict[str, object]:
    """Every bound of a point by its key, in SI units, and its configuration."""
    q = point.question
    layout = point.server.replica.layout
    return {
        "gpu": q.gpu.name,
        "gpus": q.gpus,
        "layout": layout.text,
        "tp": layout.tp,
        "dp": layout.dp,
        "ep": layout.ep,
        "weights": q.weights_name,
        "kv": q.kv_dtype.name,
        "compute": q.compute_dtype.name,
        "chunk": point.chunk,
        "batch": point.batch,
        "replicas": point.replicas,
        "total_gpus": point.gpus,
        "mixed_step_s": float(point.steady.mixed_s[0]),
        "mixed_steps_per_request": float(point.steady.steps.mixed[0]),
        "decode_step_s": float(point.steady.decode_s[0]),
        "decode_steps_per_request": float(point.steady.steps.decode[0]),
        "ttft_s": point.ttft_s,
        "tpot_s": point.tpot_s,
        "requests_per_s": point.requests_per_s,
        "tokens_per_s": point.tokens_per_s,
        "tokens_per_s_per_gpu": point.tokens_per_s_per_gpu,
        "tokens_per_s_per_user": point.tokens_per_s_per_user,
        "bound": str(point.bound),
        "usd_per_gpu_hour": q.usd_per_gpu_hour,
        "usd_per_hour": point.usd_per_hour,
        "usd_per_1m_tokens": point.usd_per_1m_tokens,
    }


def expected_values(point: Point) -> dict[str, float | None]:
    """The expected times and rates of a point by their keys; None where its kernels are not calibrated."""
    try:
        load = expected_load(point.server, point.batch)
    except MissingCeiling:
        return dict.fromkeys(EXPECTED_KEYS)
    requests_per_s, tokens_per_s, tpot_s = (
        float(each[0]) for each in (load.requests_per_s, load.tokens_per_s, load.tpot_s)
    )
    rates = (requests_per_s, tokens_per_s, tokens_per_s / point.question.gpus, 1 / tpot_s)
    steps_s = (float(load.mixed_s[0]), float(load.decode_s[0]))
    return dict(zip(EXPECTED_KEYS, (*steps_s, float(load.ttft_s[0]), tpot_s, *rates), strict=True))


def search_json(found: Search) -> dict[str, object]:
    """The targets and the best point, flat; then lists of the best of each machine and of the points on the fronts."""
    targets, points = found.targets, _values(found)
    return {
        "model": found.best.question.model.name,
        "isl": targets.isl,
        "osl": targets.osl,
        "ttft_target_s": targets.ttft_s,
        "tpot_target_s": targets.tpot_s,
        "requests_per_s_target": targets.requests_per_s,
        **points[0],
        "machines": points,
        "front": [point_values(point) for point in found.fronts],
        "notes": list(search_notes(found)),
    }


def machines_table(found: Search) -> Table:
    """The best of each machine with its main numbers, the cheapest first."""
    return _table(MACHINE_COLUMNS, _values(found))


def machines_csv(found: Search) -> str:
    """Every number of the best of each machine, in SI units."""
    return to_csv(_values(found))


def front_table(points: Sequence[Point]) -> Table:
    """Points of a front with their main numbers."""
    return _table(FRONT_COLUMNS, [point_values(point) for point in points])


def to_csv(points: Sequence[Mapping[str, object]]) -> str:
    """Every value of each point under its key."""
    return Table(tuple(Column(key, key) for key in points[0]), tuple(points)).csv()


def _values(found: Search) -> list[dict[str, object]]:
    return [{**point_values(point), **expected_values(point)} for point in found.points]


def _table(columns: Sequence[Column], rows: Sequence[Mapping[str, object]]) -> Table:
    """The columns that differ: what all rows share stands above the table."""
    shared = {key for key in ("weights", "replicas") if len({row[key] for row in rows}) == 1}
    if all(row["dp"] == 1 for row in rows):  # all GPUs share every layer
        shared.add("layout")
    kept = tuple(column for column in columns if column.key not in shared)
    short = tuple({**row, "bound": str(row["bound"]).partition(".")[0]} for row in rows)
    return Table(kept, short).without_empty()


def search_page(found: Search, width: int, *, explain: bool = False) -> str:
    """The best configuration, the best of each machine, the fronts and the notes, at most `width` columns wide. With
    `explain`, the formulas of the best have the numbers put in."""
    best, targets = found.best, found.targets
    asked = [f"{targets.isl:,} tokens in, {targets.osl:,} out"]
    asked += [f"{targets.text} at most"] if targets.text else []
    asked += [f"{targets.requests_per_s:g} requests/s"] if targets.requests_per_s else []
    replicas = f"{best.replicas} replicas ({best.gpus} GPUs) of " if best.replicas > 1 else ""
    price = f"{show(best.usd_per_1m_tokens, Unit.USD)} per 1M tokens out, {show(best.usd_per_hour, Unit.USD)} an hour"
    front = "Pareto front of each GPU: tokens/s of a user against tokens/s of a GPU"
    notes = [
        line
        for note in search_notes(found)
        for line in textwrap.wrap(note, width, initial_indent="  - ", subsequent_indent="    ")
    ]
    return "\n".join(
        [
            *textwrap.wrap(f"{best.question.model.name}: {'; '.join(asked)}", width),
            *textwrap.wrap(f"Best: {replicas}{best.name}; {price}", width),
            *("", _best_table(best, explain=explain).text(width)),
            *("", "Best of each machine, the cheapest first", "", machines_table(found).text(width)),
            *("", front, "", front_table(_spread(found.fronts)).text(width)),
            *("", "Notes", *notes),
        ]
    )


def search_notes(found: Search) -> Iterator[str]:
    """Why machines are absent, where expected times miss the targets, and what the numbers assume."""
    best, targets = found.best, found.targets
    q, total = best.question, targets.isl + targets.osl
    yield from found.reasons
    yield from _misses(best)
    if q.model.context_limit and total > q.model.context_limit:
        yield f"{total:,} tokens are over the {q.model.context_limit:,} that {q.model.name} supports"
    yield "times are bounds of a steady state without a queue, no server is faster: --mfu and --mbu lower the roofs"
    yield "chunk: prompt tokens that a step reads, one prompt at a time if it can; a step also decodes for the batch"
    whole = int(best.server.replica.max_batch(total))
    yield f"caches count at the mean of a request's life: reserved at full length, the best holds {whole:,} requests"
    gpus = {point.question.gpu.name for point in found.points}
    prices = {point.question.usd_per_gpu_hour for point in found.points}
    if len(gpus) > 1 == len(prices):
        yield f"every GPU costs ${q.usd_per_gpu_hour:g} an hour here: --price h100=2.5,h200=3.5 gives each its price"
    if q.weights is None:
        yield f"weights are {q.weights_name}, as the model ships: --weights bf16,fp8 compares formats"
    bare = [point for point in found.points if expected_values(point)["tpot_expected_s"] is None]
    if names := dict.fromkeys(point.question.gpu.name for point in bare):
        yield f"{', '.join(names)}: bounds only, because these kernels are not calibrated there"


def _misses(best: Point) -> Iterator[str]:
    """Where the expected numbers of the best point do not meet the targets that its bounds meet."""
    expected, targets = expected_values(best), best.targets
    limits = (("TTFT", targets.ttft_s, "ttft_expected_s"), ("TPOT", targets.tpot_s, "tpot_expected_s"))
    for name, limit_s, key in limits:
        time_s = expected[key]
        if limit_s is not None and time_s is not None and time_s > limit_s:
            yield f"the best meets its {name} by the bound only: {duration(time_s)} is expected"
    rate = expected["requests_per_s_expected"]
    if targets.requests_per_s is not None and rate is not None:
        needed = math.ceil(targets.requests_per_s / rate)
        if needed > best.replicas:
            yield f"at expected times {needed} replicas ({needed * best.question.gpus} GPUs) serve these requests"


def _arithmetic(best: Point) -> Mapping[str, str]:
    """The formulas of the best point's lines with the numbers put in, by key."""
    steady, osl = best.steady, best.targets.osl
    mixed_s, decode_s = duration(float(steady.mixed_s[0])), duration(float(steady.decode_s[0]))
    mixed, decode, period_s = float(steady.steps.mixed[0]), float(steady.steps.decode[0]), float(steady.period_s[0])
    copies = steady.steps.copies
    latency, ttft = duration(best.batch * period_s), duration(best.ttft_s)
    return {
        "ttft_s": f"{max(1, mixed):.4g} mixed steps x {mixed_s}",
        "tpot_s": f"({latency} - {ttft}) / {osl - 1:,}",
        "requests_per_s": f"{copies} / ({mixed:.4g} x {mixed_s} + {decode:.4g} x {decode_s})",
        "tokens_per_s": f"{best.requests_per_s:.4g} x {osl:,}",
        "tokens_per_s_per_gpu": f"{best.tokens_per_s:,.4g} / {best.question.gpus}",
        "tokens_per_s_per_user": f"1 / {duration(best.tpot_s)}",
    }


def _best_table(best: Point, *, explain: bool) -> Table:
    values: Mapping[str, object] = {**point_values(best), **expected_values(best)}
    arithmetic = _arithmetic(best) if explain else {}
    rows = (
        {
            "label": label,
            "bound": cell(values[key], unit),
            "expected": None if values.get(other) is None else cell(values[other], unit),
            "formula": arithmetic.get(key, formula),
        }
        for label, unit, key, other, formula in BEST_LINES
    )
    return Table(BEST_COLUMNS, tuple(rows)).without_empty()


def _spread(points: Sequence[Point]) -> list[Point]:
    """At most `FRONT_POINTS` points of each GPU, spread over its front."""
    shown = []
    for name in dict.fromkeys(point.question.gpu.name for point in points):
        mine = [point for point in points if point.question.gpu.name == name]
        places = np.unique(np.linspace(0, len(mine) - 1, FRONT_POINTS).round().astype(int))
        shown += [mine[place] for place in places]
    return shown
