"""Draws the figures of a run, from its frame and its roofs alone."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.typing import LineStyleType

from predict.errors import MissingCeiling
from predict.resources import Resource, Roofs, find_ceiling, matmul_unit
from predict.roofline import predict
from predict.units import find_dtype, si
from predict.workloads import OPS, FloatArray, sweep_amounts
from reports import figures
from reports.palette import BLACK, BLUE, GREEN, GREY, ORANGE, PINK, RED, SKY, series_color, series_marker, series_style
from reports.run.compare import Comparison
from reports.run.frame import DIMS_OF_OP, dims_text, groups_of
from reports.run.load import Run


@dataclass(frozen=True, slots=True)
class Look:
    """How an op is drawn in every figure."""

    color: str
    marker: str


LOOKS: Mapping[str, Look] = MappingProxyType(
    {
        **{op: Look(GREY, f"${op.replace('_', '')[:4]}$") for op in OPS},  # where none is chosen below
        "matmul": Look(BLUE, "o"),
        "matmul_scaled": Look(BLUE, "p"),
        "matmul_w8a16": Look(BLUE, "$8$"),
        "matmul_w4a16": Look(BLUE, "$4$"),
        "linear_backward": Look(BLUE, "$B$"),
        "moe_experts": Look(BLUE, "$M$"),
        "moe_experts_skewed": Look(BLUE, "$Z$"),
        "attention_prefill": Look(RED, "^"),
        "attention_full": Look(RED, "$A$"),
        "attention_window": Look(RED, "$W$"),
        "attention_packed": Look(RED, "$V$"),
        "attention_chunk": Look(RED, "$C$"),
        "attention_backward": Look(RED, r"$\nabla$"),
        "attention_decode": Look(GREEN, "v"),
        "attention_decode_fp8": Look(GREEN, "$E$"),
        "attention_paged": Look(GREEN, "$P$"),
        "attention_mla": Look(GREEN, "$L$"),
        "generate_cached": Look(ORANGE, "s"),
        "generate_uncached": Look(PINK, "D"),
        "block_forward": Look(RED, "$F$"),
        "block_decode": Look(GREEN, "$D$"),
        "block_train": Look(PINK, "$T$"),
        "model_forward": Look(RED, "$Q$"),
        "model_decode": Look(GREEN, "$N$"),
        "serve_static": Look(ORANGE, "$I$"),
        "serve_continuous": Look(ORANGE, "$J$"),
        "generate_tokens": Look(PINK, "$O$"),
        "generate_drafted": Look(PINK, "$K$"),
        "rmsnorm": Look(BLACK, "h"),
        "add_rmsnorm": Look(BLACK, "d"),
        "layernorm": Look(BLACK, "H"),
        "add_layernorm": Look(BLACK, "8"),
        "softmax": Look(BLACK, "$S$"),
        "swiglu": Look(BLACK, "$G$"),
        "gelu": Look(BLACK, "$g$"),
        "rope": Look(BLACK, "$R$"),
        "stream_read": Look(SKY, "<"),
        "stream_write": Look(SKY, ">"),
        "stream_copy": Look(SKY, "P"),
        "stream_triad": Look(SKY, "X"),
        "launch": Look(GREY, "*"),
    }
)
FUNCTION_LOOK = Look(GREY, "$f$")  # of a user's function, measured by itself
_UNIT_COLORS = (BLUE, RED, GREEN, PINK, ORANGE, SKY)
_MATMUL_PANELS = 6


@figures.house_style()
def draw_roofline(run: Run) -> Figure:
    """FLOP/s against FLOP per byte: the roofs of each unit, and every measured row that does arithmetic."""
    rows = _measured(run)
    rows = rows[(rows["flop"] > 0) & (rows["bytes"] > 0)]
    if rows.empty:
        raise figures.NothingToDraw("no measured row does arithmetic on data from memory")
    units = [unit for unit in Resource if unit in set(rows["unit"])]
    colors = dict(zip(units, _UNIT_COLORS * 2, strict=False))
    figure, (axes,) = figures.make_figure(
        run.machine, "Memory (slope) and arithmetic (flat) limit what every kernel can reach"
    )
    intensity = rows["arithmetic_intensity"]
    span = (min(intensity.min(), 0.3) / 2, max(intensity.max(), 1000.0) * 3)
    handles = _draw_roofs(axes, run.roofs.datasheet, "datasheet", span=span, colors=colors, style="-")
    handles += _draw_roofs(axes, run.roofs.measured, "measured", span=span, colors=colors, style="--")
    for (unit, op), group in groups_of(rows, ["unit", "op"]):
        performance = group["flop"] / group["time_s"]
        _draw_points(axes, group["arithmetic_intensity"], performance, colors[unit], _look(op).marker)
    figures.log_panel(
        axes, "", x=("arithmetic intensity (FLOP per byte of memory traffic)", lambda value: f"{value:g}"),
        y=("performance (FLOP per second)", lambda value: si(value, "FLOP/s", digits=1)),
    )  # fmt: skip
    axes.set_xlim(*span)
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0)
    markers = [figures.legend_points(_op_name(op), color=GREY, marker=_look(op).marker) for op in _ops_of(rows)]
    figures.legend_below(figure, markers, columns=5)
    return figure


@figures.house_style()
def draw_matmul(run: Run) -> Figure:
    """Time against batch M: a panel for each weight matrix and dtype, with memory line, compute line and ridge."""
    rows = _measured(run)
    rows = rows[(rows["op"] == "matmul") & rows["napkin_s"].notna()]  # without a roof there is nothing to compare with
    groups = [group for _, group in groups_of(rows, ["n", "k", "dtype"]) if group["m"].nunique() > 1]
    if not groups:
        raise figures.NothingToDraw("no weight matrix was multiplied at two batch sizes or more")
    groups = sorted(groups, key=lambda group: -group["m"].nunique())[:_MATMUL_PANELS]
    title = "Time against batch: the napkin is flat up to the ridge, and grows with M beyond it"
    title = f"{title} ({_primary_name(run)} roofs)"
    figure, panels = figures.make_figure(run.machine, title, panels=len(groups))
    implementations = sorted(set(rows["implementation"]))
    for axes, group in zip(panels, groups, strict=True):
        _draw_matmul_panel(axes, group, run.roofs.primary, implementations)
    handles = [
        figures.legend_line("predicted: reading and writing memory", color=GREEN, linestyle="--"),
        figures.legend_line("predicted: arithmetic", color=RED, linestyle="-."),
        figures.legend_line("napkin: the larger of both", color="black", width=2.5, alpha=0.35),
        figures.legend_line("ridge: where both are equal", color=GREY, linestyle=":"),
        *(
            figures.legend_points(f"measured: {name}", color=series_color(index), marker=series_marker(index))
            for index, name in enumerate(implementations)
        ),
    ]
    figures.legend_below(figure, handles)
    return figure


@figures.house_style()
def draw_phases(run: Run) -> Figure:
    """The share of the compute roof and of the memory roof that prefill and decode attention use, against tokens."""
    rows = _measured(run)
    rows = rows[rows["op"].isin(["attention_prefill", "attention_decode"])]
    if rows["op"].nunique() < 2:
        missing = {"attention_prefill", "attention_decode"} - set(rows["op"])
        raise figures.NothingToDraw(f"no measured row of {' and of '.join(sorted(missing))}: both phases are needed")
    figure, panels = figures.make_figure(
        run.machine, "Which of the two roofs do prefill and decode attention use?", panels=2, share_y=True
    )
    implementations = sorted(set(rows["implementation"]))
    handles = []
    for op, phase, size in (("attention_prefill", "prefill", "seq"), ("attention_decode", "decode", "context")):
        for index, (label, group) in enumerate(_configurations(rows[rows["op"] == op], op, size)):
            handles.append(figures.legend_line(f"{phase}{label}", color=_look(op).color, linestyle=series_style(index)))
            _draw_phase(panels, group.assign(size=group[size]), _look(op), series_style(index), implementations)
    for axes, rate, side in zip(panels, ("FLOP", "bytes"), ("compute", "memory"), strict=True):
        axes.axhline(100, color="black", linewidth=1)
        figures.log_axis(axes, "x", figures.count_text)
        axes.set_title(f"{rate} per second, in % of the {_primary_name(run)} {side} roof")
        axes.set_xlabel("tokens: prompt length of prefill, context length of decode")
        axes.set_ylim(0, None)
        figures.percent_ticks(axes.yaxis)
    handles.append(figures.legend_line("the roof", color="black"))
    handles += [
        figures.legend_points(name, color=GREY, marker=series_marker(index))
        for index, name in enumerate(implementations)
    ]
    figures.legend_below(figure, handles)
    return figure


@figures.house_style()
def draw_cache(run: Run) -> Figure:
    """Time to make token N with and without a KV cache, and the ratio of both."""
    group = cache_rows(_measured(run))
    dims = {name: int(group[name].iloc[0]) for name in DIMS_OF_OP["generate_cached"] if name != "context"}
    dtype = group["dtype"].iloc[0]
    figure, (time_axes, ratio_axes) = figures.make_figure(
        run.machine, "Without a KV cache every token pays for the whole past again", panels=2
    )
    context = np.geomspace(float(group["context"].min()), float(group["context"].max()), 100).round()
    napkin_s: list[FloatArray] = []
    flop: list[FloatArray] = []
    for op, name in (("generate_cached", "with cache"), ("generate_uncached", "without cache")):
        amounts = sweep_amounts(op, {**dims, "context": context}, find_dtype(dtype))
        napkin_s.append(np.asarray(predict(amounts, run.roofs.primary).napkin_s))
        flop.append(np.asarray(amounts.flop))
        rows, look = _fastest(group[group["op"] == op], "context"), _look(op)
        measured = rows["context"].astype(float), rows["time_s"]
        time_axes.plot(*measured, look.marker, color=look.color, label=f"{name}, measured")
        label = f"{name}, napkin ({_primary_name(run)} roofs)"
        time_axes.plot(context, napkin_s[-1], "--", color=look.color, label=label)
    ratios = cache_ratios(group)
    ratio_axes.plot(context, flop[1] / flop[0], ":", color=GREY, label="ratio of FLOP")
    ratio_axes.plot(context, napkin_s[1] / napkin_s[0], "--", color=BLUE, label="ratio of napkin times")
    ratio_axes.plot(ratios.index.astype(float), ratios, "o", color=BLUE, label="ratio of measured times")
    x = ("context: number of the token that is made", figures.count_text)
    figures.log_panel(
        time_axes, f"{dims_text(dims)}, {dtype}", x=x, y=("time for one token in one layer", figures.tick_duration)
    )
    title = "How many times longer it takes without the cache"
    figures.log_panel(ratio_axes, title, x=x, y=("without cache / with cache", lambda value: f"{value:g}x"))
    for axes in (time_axes, ratio_axes):
        axes.legend(loc="upper left")
        axes.set_ylim(top=axes.get_ylim()[1] * 8)  # room for the legend
    return figure


@figures.house_style()
def draw_parity(run: Run) -> Figure:
    """Measured against predicted time for every row: one panel for the napkin, one for any expected times."""
    rows = _measured(run)
    rows = rows[rows["napkin_s"] > 0]
    if rows.empty:
        raise figures.NothingToDraw("no measured row has a predicted time above zero")
    sides = [("napkin_s", f"napkin: lower bound ({_primary_name(run)} roofs)")]
    if rows["expected_s"].notna().any():
        sides.append(("expected_s", "expected: best guess of the calibrated model"))
    figure, panels = figures.make_figure(
        run.machine, "How far each case is above its napkin, the least time that its roofs allow", panels=len(sides)
    )
    for axes, (side, title) in zip(panels, sides, strict=True):
        times = pd.concat([rows[side], rows["time_s"]]).dropna()
        span = np.array([times.min() / 2, times.max() * 2])
        axes.plot(span, span, color="black", linewidth=1)
        axes.fill_between(span, span * 0.7, span * 1.3, color="black", alpha=0.1, linewidth=0)
        for (op,), group in groups_of(rows, ["op"]):
            _draw_points(axes, group[side], group["time_s"], _look(op).color, _look(op).marker)
        figures.log_panel(
            axes,
            title,
            x=("predicted time", figures.tick_duration),
            y=("measured time (median)", figures.tick_duration),
        )
        axes.set(xlim=span, ylim=span, aspect="equal")
    handles = [
        figures.legend_points(_op_name(op), color=_look(op).color, marker=_look(op).marker) for op in _ops_of(rows)
    ]
    handles.append(figures.legend_line("measured = predicted; band: within 30 %", color="black"))
    figures.legend_below(figure, handles)
    return figure


DRAWINGS: tuple[figures.Drawing[Callable[[Run], Figure]], ...] = (
    figures.Drawing(
        "roofline",
        draw_roofline,
        "Roofline: performance against arithmetic intensity",
        "Left of a ridge (ring) the slope is the limit: work with few FLOP per byte waits for memory. Right of it the "
        "flat roof is the limit. Solid lines are the datasheet's roofs, dashed lines those of this machine's roof "
        "probes. Work without arithmetic (copy, write, launch) is not shown.",
    ),
    figures.Drawing(
        "matmul",
        draw_matmul,
        "Time of a matrix multiplication against its batch size",
        "Left of the dotted ridge the napkin hardly grows, because every batch reads the same weights; right of it "
        "each row adds time. If the points follow the napkin, batching up to the ridge is almost free.",
    ),
    figures.Drawing(
        "phases",
        draw_phases,
        "Prefill and decode: share of the compute roof and of the memory roof",
        "The two phases of attention. Compute-bound rows are high on the left, memory-bound rows on the right: decode "
        "reads the whole cache to make one token. A row that is low on both sides reaches neither roof.",
    ),
    figures.Drawing(
        "cache",
        draw_cache,
        "Time to make one token with and without a KV cache",
        "The FLOP that a cache saves grow with the context, but it saves less time than FLOP: memory (or the launch) "
        "bounds the work that is left, and FLOP do not count there.",
    ),
    figures.Drawing(
        "parity",
        draw_parity,
        "Measured time against predicted time",
        "On the line the measurement equals the prediction. The distance of a point above it is what the napkin leaves "
        "out (launch, tiles, waves, latency). A point below it would be faster than the roof allows.",
    ),
)


@figures.house_style()
def draw_comparison(comparison: Comparison) -> Figure:
    """Share of the roof that each common row reaches in both runs, one panel per op."""
    rows = comparison.rows.dropna(subset=["of_roof_a", "of_roof_b"])
    ops = _ops_of(rows)
    if not ops:
        raise figures.NothingToDraw("no common row has a roof in both runs")
    title = f"Share of its roof that each row reaches: {comparison.machine_a} against {comparison.machine_b}"
    figure, panels = figures.make_figure("on the diagonal both machines are used equally well", title, panels=len(ops))
    for axes, op in zip(panels, ops, strict=True):
        group = rows[rows["op"] == op]
        top = max(1.05, group[["of_roof_a", "of_roof_b"]].max().max() * 1.05) * 100
        axes.plot([0, top], [0, top], color="black", linewidth=1)
        for index, ((name,), of_name) in enumerate(groups_of(group, ["implementation"])):
            axes.plot(
                of_name["of_roof_a"] * 100, of_name["of_roof_b"] * 100, linestyle="none", alpha=0.8,
                marker=series_marker(index), color=series_color(index), label=figures.words(name),
            )  # fmt: skip
        axes.set_title(_op_name(op))
        axes.set_xlabel(figures.words(f"A: {comparison.machine_a} (% of roof)"))
        axes.set_ylabel(figures.words(f"B: {comparison.machine_b} (% of roof)"))
        axes.set_aspect("equal")
        axes.legend(loc="upper left")
    return figure


def ridge_batch(roofs: Roofs, *, n: int, k: int, dtype: str) -> float:
    """The batch M at which a matmul takes as long to compute as to move, infinite where it never does.

    2 M n k / F = (M k + k n + M n) s / B, solved for M. Raises MissingCeiling.
    """
    kind = find_dtype(dtype)
    flop_s = 2.0 * n * k / find_ceiling(matmul_unit(kind), roofs).per_s
    prediction = predict(sweep_amounts("matmul", {"m": 1, "n": n, "k": k}, kind), roofs)
    byte_s = next(1 / float(term.per_s) for term in prediction.terms if not term.resource.is_compute) * kind.bytes
    per_row_s = flop_s - (n + k) * byte_s
    return n * k * byte_s / per_row_s if per_row_s > 0 else math.inf


def cache_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of both generation ops at the model shape and batch with the most rows; raises NothingToDraw."""
    both = rows[rows["op"].isin(["generate_cached", "generate_uncached"]) & rows["napkin_s"].notna()]
    shape = [name for name in DIMS_OF_OP["generate_cached"] if name != "context"]
    groups = [group for _, group in groups_of(both, [*shape, "dtype"]) if not cache_ratios(group).empty]
    if not groups:
        raise figures.NothingToDraw("no token was made both with and without a cache at the same size")
    return max(groups, key=len)


def cache_ratios(group: pd.DataFrame) -> "pd.Series[float]":
    """Uncached over cached median time, by context with both; the fastest implementation of each counts."""
    cached, uncached = (
        _fastest(group[group["op"] == op], "context").set_index("context")["time_s"]
        for op in ("generate_cached", "generate_uncached")
    )
    return (uncached / cached).dropna()


def _draw_roofs(
    axes: Axes,
    roofs: Roofs,
    name: str,
    *,
    span: tuple[float, float],
    colors: Mapping[Resource, str],
    style: LineStyleType,
) -> list[Line2D]:
    """Draw the memory slope, and the flat roof of each unit from its ridge on; return their legend entries."""
    memory = best_memory(roofs)
    if memory is None:
        return []
    handles, ridges = [figures.legend_line(f"memory, {name}: {si(memory, 'B/s')}", color="black", linestyle=style)], []
    for unit, color in colors.items():
        try:
            flop_per_s = find_ceiling(unit, roofs).per_s
        except MissingCeiling:
            continue
        ridge = flop_per_s / memory
        ridges.append(ridge)
        axes.plot([ridge, span[1]], [flop_per_s, flop_per_s], color=color, linestyle=style, linewidth=1.3)
        axes.plot([ridge], [flop_per_s], marker="o", markersize=8, markerfacecolor="none", color=color)
        label = f"{unit}, {name}: {si(flop_per_s, 'FLOP/s')}\n(ring: ridge at {ridge:.3g} FLOP per byte)"
        handles.append(figures.legend_line(label, color=color, linestyle=style))
    top = max(ridges, default=span[1])
    axes.plot([span[0], top], [span[0] * memory, top * memory], color="black", linestyle=style, linewidth=1.3)
    return handles


def best_memory(roofs: Roofs) -> float | None:
    """The vendor's bandwidth, or the best of the measured mixes, in bytes/s."""
    if Resource.DRAM in roofs:
        return roofs[Resource.DRAM].per_s
    return max((ceiling.per_s for name, ceiling in roofs.items() if name.value.startswith("dram.")), default=None)


def _draw_matmul_panel(axes: Axes, group: pd.DataFrame, roofs: Roofs, names: Sequence[str]) -> None:
    """Draw one weight matrix and dtype: its measured rows over the two lines of its napkin."""
    n, k, dtype = int(group["n"].iloc[0]), int(group["k"].iloc[0]), str(group["dtype"].iloc[0])
    m = np.unique(np.geomspace(float(group["m"].min()), float(group["m"].max()), 200).round())
    napkin = predict(sweep_amounts("matmul", {"m": m, "n": n, "k": k}, find_dtype(dtype)), roofs)
    for term in napkin.terms:
        color, style = (RED, "-.") if term.resource.is_compute else (GREEN, "--")
        axes.plot(m, np.asarray(term.time_s), color=color, linestyle=style, linewidth=1.3)
    axes.plot(m, np.asarray(napkin.napkin_s), color="black", linewidth=4, alpha=0.25)
    ridge = ridge_batch(roofs, n=n, k=k, dtype=dtype)
    if m[0] <= ridge <= m[-1]:
        figures.annotate_ridge(axes, ridge, f"ridge\nM = {ridge:.0f}")
    for index, name in enumerate(names):
        rows = group[group["implementation"] == name].sort_values("m")
        axes.errorbar(
            rows["m"].astype(float), rows["time_s"],
            yerr=[rows["time_s"] - rows["low_s"], rows["high_s"] - rows["time_s"]],
            fmt=series_marker(index), color=series_color(index), markersize=5, linewidth=1,
        )  # fmt: skip
    figures.log_panel(
        axes,
        f"weights {k} x {n}, {dtype}",
        x=("batch M (rows of activations)", figures.count_text),
        y=("time", figures.tick_duration),
    )
    # The arithmetic of one row takes almost no time; without a floor it would squeeze the other lines.
    axes.set_ylim(bottom=min(group["time_s"].min(), float(np.min(napkin.napkin_s))) / 5)


def _measured(run: Run) -> pd.DataFrame:
    return run.frame[run.frame["status"] == "measured"]


def _fastest(rows: pd.DataFrame, by: str) -> pd.DataFrame:
    """The fastest implementation at each size, in order of size."""
    return rows.sort_values("time_s", kind="stable").drop_duplicates(by).sort_values(by)


def _configurations(rows: pd.DataFrame, op: str, size: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """Groups of rows that differ only in `size` and implementation, each with the dimensions that tell it apart."""
    keys = [*(name for name in DIMS_OF_OP[op] if name != size), "dtype"]
    varying = [key for key in keys if rows[key].nunique() > 1]
    for _, group in groups_of(rows, keys):
        yield "".join(f", {key} {group[key].iloc[0]}" for key in varying), group.sort_values(size)


def _draw_phase(
    panels: Sequence[Axes], group: pd.DataFrame, look: Look, style: LineStyleType, implementations: Sequence[str]
) -> None:
    """Draw one configuration in both panels, against `size`: its share of the compute roof and of the memory roof."""
    for (name,), line in groups_of(group, ["implementation"]):
        marker = series_marker(implementations.index(name))
        for axes, side in zip(panels, ("compute_s", "memory_s"), strict=True):
            axes.plot(
                line["size"].astype(float), line[side] / line["time_s"] * 100,
                color=look.color, marker=marker, linestyle=style, linewidth=1, alpha=0.8,
            )  # fmt: skip


def _draw_points(axes: Axes, x: "pd.Series[float]", y: "pd.Series[float]", color: str, marker: str) -> None:
    axes.plot(x, y, linestyle="none", marker=marker, color=color, alpha=0.75, markeredgewidth=0)


def _primary_name(run: Run) -> str:
    return "datasheet" if run.roofs.datasheet else "measured"


def _ops_of(rows: pd.DataFrame) -> list[str]:
    """The ops of the rows, in the order of `LOOKS`; then users' functions."""
    found = set(rows["op"])
    return [*(op for op in LOOKS if op in found), *sorted(found.difference(LOOKS))]


def _look(op: str) -> Look:
    """How an op, or a user's function, is drawn."""
    return LOOKS.get(op, FUNCTION_LOOK)


def _op_name(op: str) -> str:
    return op.replace("packed", "varlen").replace("_", " ")
