"""What a search found, as a page, as tables and as flat JSON."""

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from predict.answers.points import all_values, expected_key, expected_values, point_values
from predict.answers.search import Search
from predict.answers.targets import Measure, Point
from predict.table import Column, Table, cell
from predict.terminal import wrapped
from predict.units import Unit, duration, show

FRONT_POINTS = 8  # of each GPU on the page
_NAMES = (
    Column("gpu", "GPU", is_key=True),
    Column("gpus", "n", Unit.GPUS, is_key=True),
    Column("layout", "layout", is_key=True),
    Column("weights", "weights", is_key=True),
)
_SETTINGS = (Column("batch", "batch", Unit.REQUESTS), Column("chunk", "chunk", Unit.TOKENS))
_BOTH = (
    Column("ttft_s", "TTFT", Unit.SECONDS),
    Column("ttft_expected_s", "exp.", Unit.SECONDS),
    Column("tpot_s", "TPOT", Unit.SECONDS),
    Column("tpot_expected_s", "exp.", Unit.SECONDS),
)
_COPIES, _BOUND = Column("replicas", "copies", Unit.GPUS), Column("bound", "bound")
# Lines about the best point: label, unit, key, formula.
BEST_LINES = (
    ("mixed step", Unit.SECONDS, "mixed_step_s", "reads prompt tokens, and decodes for the other requests"),
    ("decode step", Unit.SECONDS, "decode_step_s", "decodes for all"),
    ("TTFT", Unit.SECONDS, "ttft_s", "the steps that read the prompt; no queue"),
    ("TPOT", Unit.SECONDS, "tpot_s", "(batch / requests/s - TTFT) / (tokens out - 1)"),
    ("requests/s", Unit.TOKENS_PER_S, "requests_per_s", "1 / time of the steps per request"),
    ("tokens/s", Unit.TOKENS_PER_S, "tokens_per_s", "requests/s x tokens out"),
    ("tokens/s/GPU", Unit.TOKENS_PER_S, "tokens_per_s_per_gpu", "tokens/s / GPUs"),
    ("tokens/s/user", Unit.TOKENS_PER_S, "tokens_per_s_per_user", "1 / TPOT"),
    ("$ per 1M out", Unit.USD, "usd_per_1m_tokens", "GPUs x price / tokens/s; prompts included"),
    ("bound by", Unit.NAME, "bound", "what takes longest of all steps together"),
)
BEST_COLUMNS = (
    Column("label", "", is_key=True),
    Column("bound", "bound"),
    Column("expected", "expected"),
    Column("formula", ""),
)


def search_json(found: Search) -> dict[str, object]:
    """The targets and the best point, flat; then lists of the best of each machine and of the points on the fronts."""
    targets, points = found.targets, all_values(found.points)
    return {
        "model": found.best.question.model.name,
        "isl": targets.isl,
        "osl": targets.osl,
        "ttft_target_s": targets.ttft_s,
        "tpot_target_s": targets.tpot_s,
        "requests_per_s_target": targets.requests_per_s,
        "by": targets.by,
        **points[0],
        "machines": points,
        "front": front_values(found),
        "notes": list(search_notes(found)),
    }


def front_values(found: Search) -> list[dict[str, object]]:
    """The points on the fronts: their bounds, and expected values where these are what is compared."""
    if found.targets.by is Measure.EXPECTED:
        return all_values(found.fronts)
    return [point_values(point) for point in found.fronts]


def machines_table(found: Search) -> Table:
    """The best of each machine with its main numbers, the cheapest first."""
    rates = _by(found, "tokens_per_s_per_gpu", "usd_per_1m_tokens")
    return _table((*_NAMES, _COPIES, *_SETTINGS, *_BOTH, *rates, _BOUND), all_values(found.points))


def machines_csv(found: Search) -> str:
    """Every number of the best of each machine, in SI units."""
    return to_csv(all_values(found.points))


def front_csv(found: Search) -> str:
    """Every number of the points on the fronts."""
    return to_csv(front_values(found))


def front_table(found: Search) -> Table:
    """Points of the fronts with their main numbers, a few of each GPU."""
    times = _by(found, "ttft_s", "tpot_s")
    rates = _by(found, "tokens_per_s_per_user", "tokens_per_s_per_gpu", "usd_per_1m_tokens")
    return _table((*_NAMES, *_SETTINGS, *times, *rates, _BOUND), spread(front_values(found)))


def to_csv(points: Sequence[Mapping[str, object]]) -> str:
    """Every value of each point under its key."""
    return Table(tuple(Column(key, key) for key in points[0]), tuple(points)).csv()


def _by(found: Search, *keys: str) -> Iterator[Column]:
    """Columns of the measure that the search compares by."""
    known = {
        "ttft_s": ("TTFT", Unit.SECONDS),
        "tpot_s": ("TPOT", Unit.SECONDS),
        "tokens_per_s_per_user": ("/s/user", Unit.TOKENS_PER_S),
        "tokens_per_s_per_gpu": ("/s/GPU", Unit.TOKENS_PER_S),
        "usd_per_1m_tokens": ("$/1M", Unit.USD),
    }
    for key in keys:
        yield Column(key if found.targets.by is Measure.BOUND else expected_key(key), *known[key])


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
    times = "bounds" if targets.by is Measure.BOUND else "expected times"
    front = f"Pareto front of each GPU by {times}: tokens/s of a user against tokens/s of a GPU"
    notes = [line for note in search_notes(found) for line in wrapped(note, width, "  - ", "    ")]
    return "\n".join(
        [
            *wrapped(f"{best.question.model.name}: {'; '.join(asked)}", width),
            *wrapped(f"Best: {replicas}{best.name}; {price}", width),
            *("", _best_table(best, explain=explain).text(width)),
            *("", *wrapped(f"Best of each machine by {times}, the cheapest first", width)),
            *("", machines_table(found).text(width)),
            *("", *wrapped(front, width), "", front_table(found).text(width)),
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
    if targets.by is Measure.BOUND:
        yield "times are bounds of a steady state without a queue, no server is faster: --mfu and --mbu lower the roofs"
    else:
        yield "machines are compared by expected times of a steady state without a queue; others than these have none"
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
    missed = [
        f"{name} {duration(time_s)}"
        for name, limit_s, key in limits
        if limit_s is not None and (time_s := expected[key]) is not None and time_s > limit_s
    ]
    if missed:
        yield f"the best is in time by its bounds only: {' and '.join(missed)} expected; see --by expected"
    rate = expected["requests_per_s_expected"]
    if targets.requests_per_s is not None and rate is not None:
        needed = math.ceil(targets.requests_per_s / rate * (1 - 1e-9))
        if needed > best.replicas:
            yield f"at expected times {needed} replicas ({needed * best.question.gpus} GPUs) serve these requests"


def _arithmetic(best: Point) -> Mapping[str, str]:
    """The formulas of the bounds of the best point with the numbers put in, by key."""
    least, osl = best.least, best.targets.osl
    mixed, decode = float(least.steps.mixed[0]), float(least.steps.decode[0])
    mixed_s, decode_s, ttft_s, tpot_s, latency_s = (
        duration(float(each[0]))
        for each in (least.mixed_s, least.decode_s, least.ttft_s, least.tpot_s, least.batch * least.period_s)
    )
    requests_per_s, tokens_per_s = float(least.requests_per_s[0]), float(least.tokens_per_s[0])
    return {
        "ttft_s": f"{max(1, mixed):.4g} mixed steps x {mixed_s}",
        "tpot_s": f"({latency_s} - {ttft_s}) / {osl - 1:,}",
        "requests_per_s": f"{least.steps.copies} / ({mixed:.4g} x {mixed_s} + {decode:.4g} x {decode_s})",
        "tokens_per_s": f"{requests_per_s:.4g} x {osl:,}",
        "tokens_per_s_per_gpu": f"{tokens_per_s:,.0f} / {best.question.gpus}",
        "tokens_per_s_per_user": f"1 / {tpot_s}",
    }


def _best_table(best: Point, *, explain: bool) -> Table:
    (values,) = all_values([best])
    arithmetic = _arithmetic(best) if explain else {}
    rows = (
        {
            "label": label,
            "bound": cell(values[key], unit),
            "expected": None if (other := values.get(expected_key(key))) is None else cell(other, unit),
            "formula": arithmetic.get(key, formula),
        }
        for label, unit, key, formula in BEST_LINES
    )
    return Table(BEST_COLUMNS, tuple(rows)).without_empty()


def spread(points: Sequence[dict[str, object]]) -> list[dict[str, object]]:
    """At most `FRONT_POINTS` points of each GPU, even along its front on the figure's logarithmic axes."""
    shown = []
    for name in dict.fromkeys(point["gpu"] for point in points):
        mine = [point for point in points if point["gpu"] == name]
        speeds = [[point["tokens_per_s_per_user"], point["tokens_per_s_per_gpu"]] for point in mine]
        steps = np.hypot(*np.diff(np.log(np.array(speeds, dtype=float)), axis=0).T)
        along = np.concatenate([[0.0], np.cumsum(steps)])
        marks = np.linspace(0, along[-1], FRONT_POINTS)
        places = np.unique(np.abs(along - marks[:, np.newaxis]).argmin(axis=1))
        shown += [mine[place] for place in places]
    return shown
