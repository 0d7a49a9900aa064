"""The figures of a run, each drawn from the frame and the roofs alone."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter
from matplotlib.typing import LineStyleType

from bench.record import RoofSet
from predict.errors import MissingCeiling
from predict.resources import Resource, Roofs, find_ceiling, matmul_unit
from predict.roofline import predict
from predict.units import find_dtype, si
from predict.workloads import FloatArray, sweep_amounts
from reports.figures import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PINK,
    RED,
    SERIES_MARKERS,
    SKY,
    STYLES,
    NothingToDraw,
    count_text,
    house_style,
    legend_line,
    log_axis,
    make_figure,
    series_color,
    tick_duration,
)
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
        "matmul": Look(BLUE, "o"),
        "matmul_scaled": Look(BLUE, "p"),
        "matmul_w8a16": Look(BLUE, "$8$"),
        "matmul_w4a16": Look(BLUE, "$4$"),
        "linear_backward": Look(BLUE, "$B$"),
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
        "rmsnorm": Look(BLACK, "h"),
        "add_rmsnorm": Look(BLACK, "d"),
        "softmax": Look(BLACK, "$S$"),
        "swiglu": Look(BLACK, "$G$"),
        "rope": Look(BLACK, "$R$"),
        "stream_read": Look(SKY, "<"),
        "stream_write": Look(SKY, ">"),
        "stream_copy": Look(SKY, "P"),
        "stream_triad": Look(SKY, "X"),
        "launch": Look(GREY, "*"),
    }
)
_UNIT_COLORS = (BLUE, RED, GREEN, PINK, ORANGE, SKY)
_MATMUL_PANELS = 6


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure of the report: its file name without .png, what it shows and what to see in it."""

    name: str
    draw: Callable[[Run], Figure]
    alt: str
    caption: str


@house_style()
def draw_roofline(run: Run) -> Figure:
    """Attainable FLOP/s against FLOP per byte: the roofs of each unit, and every measured row that does arithmetic."""
    rows = _measured(run)
    rows = rows[(rows["flop"] > 0) & (rows["bytes"] > 0)]
    if rows.empty:
        raise NothingToDraw("no measured row does arithmetic on data from memory")
    units = [unit for unit in Resource if unit in set(rows["unit"])]
    colors = dict(zip(units, _UNIT_COLORS * 2, strict=False))
    figure, (axes,) = make_figure(run.machine, "Memory (slope) and arithmetic (flat) limit what every kernel can reach")
    intensity = rows["arithmetic_intensity"]
    span = (min(intensity.min(), 0.3) / 2, max(intensity.max(), 1000.0) * 3)
    handles = _draw_roofs(axes, run.roofs.datasheet, "datasheet", span=span, colors=colors, style="-")
    handles += _draw_roofs(axes, run.roofs.measured, "measured", span=span, colors=colors, style="--")
    for (unit, op), group in groups_of(rows, ["unit", "op"]):
        axes.plot(
            group["arithmetic_intensity"], group["flop"] / group["time_s"],
            linestyle="none", marker=LOOKS[op].marker, color=colors[unit], alpha=0.75, markeredgewidth=0,
        )  # fmt: skip
    ops = [op for op in LOOKS if op in set(rows["op"])]
    markers = [legend_line(_op_name(op), color=GREY, marker=LOOKS[op].marker, linestyle="none") for op in ops]
    log_axis(axes, "x", lambda value: f"{value:g}")
    log_axis(axes, "y", lambda value: si(value, "FLOP/s", digits=1))
    axes.set_xlim(*span)
    axes.set_xlabel("arithmetic intensity (FLOP per byte of memory traffic)")
    axes.set_ylabel("performance (FLOP per second)")
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0)
    figure.legend(handles=markers, loc="outside lower center", ncols=min(6, len(markers)))
    return figure


@house_style()
def draw_matmul(run: Run) -> Figure:
    """Time against batch M, one panel for each weight matrix and dtype: memory line, compute line and their ridge."""
    rows = _measured(run)
    rows = rows[rows["op"] == "matmul"]
    rows = rows[rows["napkin_s"].notna()]  # without a roof there is nothing to compare with
    groups = [group for _, group in groups_of(rows, ["n", "k", "dtype"]) if group["m"].nunique() > 1]
    if not groups:
        raise NothingToDraw("no weight matrix was multiplied at two batch sizes or more")
    groups = sorted(groups, key=lambda group: -group["m"].nunique())[:_MATMUL_PANELS]
    figure, panels = make_figure(
        run.machine,
        "Time against batch: the napkin is flat up to the ridge, and grows with M beyond it"
        f" ({_primary_name(run.roofs)} roofs)",
        panels=len(groups),
    )
    implementations = sorted(set(rows["implementation"]))
    for axes, group in zip(panels, groups, strict=True):
        _draw_matmul_panel(axes, group, run.roofs.primary, implementations)
    handles = [
        legend_line("predicted: reading and writing memory", color=GREEN, linestyle="--"),
        legend_line("predicted: arithmetic", color=RED, linestyle="-."),
        legend_line("napkin: the larger of both", color="black", width=2.5, alpha=0.35),
        legend_line("ridge: where both are equal", color=GREY, linestyle=":"),
        *_series_handles(implementations, "measured: "),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(4, len(handles)))
    return figure


@house_style()
def draw_phases(run: Run) -> Figure:
    """How much of the compute roof and of the memory roof prefill and decode attention use, against tokens."""
    rows = _measured(run)
    rows = rows[rows["op"].isin(["attention_prefill", "attention_decode"])]
    if rows["op"].nunique() < 2:
        missing = {"attention_prefill", "attention_decode"} - set(rows["op"])
        raise NothingToDraw(f"no measured row of {' and of '.join(sorted(missing))}: both phases are needed")
    roof = _primary_name(run.roofs)
    figure, panels = make_figure(
        run.machine, "Which of the two roofs do prefill and decode attention use?", panels=2, share_y=True
    )
    titles = (
        f"FLOP per second, in % of the {roof} compute roof",
        f"bytes per second, in % of the {roof} memory roof",
    )
    implementations = sorted(set(rows["implementation"]))
    phases = []
    for op, phase, size in (("attention_prefill", "prefill", "seq"), ("attention_decode", "decode", "context")):
        for index, (label, group) in enumerate(_configurations(rows[rows["op"] == op], op, size)):
            style = STYLES[index % len(STYLES)]
            phases.append(legend_line(f"{phase}{label}", color=LOOKS[op].color, linestyle=style))
            _draw_phase(panels, group, size=size, look=LOOKS[op], style=style, implementations=implementations)
    for axes, title in zip(panels, titles, strict=True):
        axes.axhline(100, color="black", linewidth=1)
        log_axis(axes, "x", count_text)
        axes.set_title(title)
        axes.set_xlabel("tokens: prompt length of prefill, context length of decode")
        axes.set_ylim(0, None)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))
    markers = [
        legend_line(name, color=GREY, marker=SERIES_MARKERS[index % 8], linestyle="none")
        for index, name in enumerate(implementations)
    ]
    handles = [*phases, legend_line("the roof", color="black"), *markers]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(4, len(handles)))
    return figure


@house_style()
def draw_cache(run: Run) -> Figure:
    """Time to make token N with and without a KV cache, and how many times longer it takes without."""
    group = cache_rows(_measured(run))
    dims = {name: int(group[name].iloc[0]) for name in DIMS_OF_OP["generate_cached"] if name != "context"}
    figure, (time_axes, ratio_axes) = make_figure(
        run.machine, "Without a KV cache every token pays for the whole past again", panels=2
    )
    context = np.geomspace(float(group["context"].min()), float(group["context"].max()), 100).round()
    predicted: dict[str, FloatArray] = {}
    flop: dict[str, FloatArray] = {}
    for op, name in (("generate_cached", "with cache"), ("generate_uncached", "without cache")):
        amounts = sweep_amounts(op, {**dims, "context": context}, find_dtype(group["dtype"].iloc[0]))
        predicted[op] = np.asarray(predict(amounts, run.roofs.primary).napkin_s)
        flop[op] = np.asarray(amounts.flop)
        rows = _fastest(group[group["op"] == op], "context")
        look = LOOKS[op]
        time_axes.plot(
            rows["context"].astype(float), rows["time_s"], look.marker, color=look.color, label=f"{name}, measured"
        )
        time_axes.plot(
            context, predicted[op], "--", color=look.color, label=f"{name}, napkin ({_primary_name(run.roofs)} roofs)"
        )
    ratios = cache_ratios(group)
    ratio_axes.plot(
        context, flop["generate_uncached"] / flop["generate_cached"], ":", color=GREY, label="ratio of FLOP"
    )
    napkin_ratio = predicted["generate_uncached"] / predicted["generate_cached"]
    ratio_axes.plot(context, napkin_ratio, "--", color=BLUE, label="ratio of napkin times")
    ratio_axes.plot(ratios.index.astype(float), ratios, "o", color=BLUE, label="ratio of measured times")
    time_axes.set_title(f"{dims_text(dims)}, {group['dtype'].iloc[0]}")
    time_axes.set_ylabel("time for one token in one layer")
    ratio_axes.set_title("How many times longer it takes without the cache")
    ratio_axes.set_ylabel("without cache / with cache")
    log_axis(time_axes, "y", tick_duration)
    log_axis(ratio_axes, "y", lambda value: f"{value:g}x")
    for axes in (time_axes, ratio_axes):
        log_axis(axes, "x", count_text)
        axes.set_xlabel("context: number of the token that is made")
        axes.legend(loc="upper left")
        axes.set_ylim(top=axes.get_ylim()[1] * 8)  # room for the legend
    return figure


@house_style()
def draw_parity(run: Run) -> Figure:
    """Measured against predicted time for every row: the napkin, and beside it the expected time where there is one."""
    rows = _measured(run)
    rows = rows[rows["napkin_s"] > 0]
    if rows.empty:
        raise NothingToDraw("no measured row has a predicted time above zero")
    sides = [("napkin_s", f"napkin: lower bound ({_primary_name(run.roofs)} roofs)")]
    if rows["expected_s"].notna().any():
        sides.append(("expected_s", "expected: best guess of the calibrated model"))
    figure, panels = make_figure(
        run.machine, "How far each case is above its napkin, the least time that its roofs allow", panels=len(sides)
    )
    for axes, (side, title) in zip(panels, sides, strict=True):
        times = pd.concat([rows[side], rows["time_s"]]).dropna()
        span = np.array([times.min() / 2, times.max() * 2])
        axes.plot(span, span, color="black", linewidth=1)
        axes.fill_between(span, span * 0.7, span * 1.3, color="black", alpha=0.1, linewidth=0)
        for (op,), group in groups_of(rows, ["op"]):
            look = LOOKS[op]
            axes.plot(
                group[side], group["time_s"],
                linestyle="none", marker=look.marker, color=look.color, alpha=0.75, markeredgewidth=0,
            )  # fmt: skip
        for axis in ("x", "y"):
            log_axis(axes, axis, tick_duration)
        axes.set_xlim(*span)
        axes.set_ylim(*span)
        axes.set_aspect("equal")
        axes.set_title(title)
        axes.set_xlabel("predicted time")
        axes.set_ylabel("measured time (median)")
    handles = [_op_handle(op) for op in LOOKS if op in set(rows["op"])]
    handles.append(legend_line("measured = predicted; band: within 30 %", color="black"))
    figure.legend(handles=handles, loc="outside lower center", ncols=min(4, len(handles)))
    return figure


DRAWINGS: tuple[Drawing, ...] = (
    Drawing(
        "roofline",
        draw_roofline,
        "Roofline: performance against arithmetic intensity",
        "Left of a ridge (ring) the slope decides: work that does few FLOP per byte waits for memory. Right of it the "
        "flat roof does. Solid lines are the datasheet, dashed lines what this machine reached in its own probes. Work "
        "without arithmetic (copy, write, launch) has no place here.",
    ),
    Drawing(
        "matmul",
        draw_matmul,
        "Time of a matrix multiplication against its batch size",
        "Left of the dotted ridge the napkin hardly moves, because the same weights are read whatever the batch; right "
        "of it every further row costs. Where the points follow it, batching up to the ridge is almost free.",
    ),
    Drawing(
        "phases",
        draw_phases,
        "Prefill and decode: share of the compute roof and of the memory roof",
        "The same attention in its two phases. What is bound by arithmetic stands high on the left, what is bound by "
        "memory on the right: decode reads the whole cache to make one token. Low on both sides means at neither roof.",
    ),
    Drawing(
        "cache",
        draw_cache,
        "Time to make one token with and without a KV cache",
        "The FLOP that a cache saves grow with the context, but the time saved is less than the FLOP saved: the work "
        "that is left is bound by memory (or by the launch), where FLOP do not count.",
    ),
    Drawing(
        "parity",
        draw_parity,
        "Measured time against predicted time",
        "On the line the measurement equals the prediction; how far a point stands above it is what the napkin leaves "
        "out (launch, tiles, waves, latency). Below it would be faster than the roof allows.",
    ),
)


@house_style()
def draw_comparison(comparison: Comparison) -> Figure:
    """Share of the roof that each common row reaches in both runs, one panel per op."""
    rows = comparison.rows.dropna(subset=["of_roof_a", "of_roof_b"])
    ops = [op for op in LOOKS if op in set(rows["op"])]
    if not ops:
        raise NothingToDraw("no common row has a roof in both runs")
    title = f"Share of its roof that each row reaches: {comparison.machine_a} against {comparison.machine_b}"
    figure, panels = make_figure("on the diagonal both machines are used equally well", title, panels=len(ops))
    for axes, op in zip(panels, ops, strict=True):
        group = rows[rows["op"] == op]
        top = max(1.05, group[["of_roof_a", "of_roof_b"]].max().max() * 1.05) * 100
        axes.plot([0, top], [0, top], color="black", linewidth=1)
        for index, ((name,), of_name) in enumerate(groups_of(group, ["implementation"])):
            axes.plot(
                of_name["of_roof_a"] * 100, of_name["of_roof_b"] * 100, linestyle="none", alpha=0.8,
                marker=SERIES_MARKERS[index % 8], color=series_color(index), label=name,
            )  # fmt: skip
        axes.set_title(_op_name(op))
        axes.set_xlabel(f"A: {comparison.machine_a} (% of roof)")
        axes.set_ylabel(f"B: {comparison.machine_b} (% of roof)")
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
    """The rows of both generation ops at the one model shape and batch that has most; raises NothingToDraw."""
    both = rows[rows["op"].isin(["generate_cached", "generate_uncached"]) & rows["napkin_s"].notna()]
    shape = [name for name in DIMS_OF_OP["generate_cached"] if name != "context"]
    groups = [group for _, group in groups_of(both, [*shape, "dtype"]) if not cache_ratios(group).empty]
    if not groups:
        raise NothingToDraw("no token was made both with and without a cache at the same size")
    return max(groups, key=len)


def cache_ratios(group: pd.DataFrame) -> "pd.Series[float]":
    """Uncached over cached median time by context, the fastest implementation of each; contexts with both only."""
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
    """The memory slope and the flat roof of each unit from its ridge on; returns what the legend says of them."""
    memory = _best_memory(roofs)
    if memory is None:
        return []
    handles, ridges = [legend_line(f"memory, {name}: {si(memory, 'B/s')}", color="black", linestyle=style)], []
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
        handles.append(legend_line(label, color=color, linestyle=style))
    top = max(ridges, default=span[1])
    axes.plot([span[0], top], [span[0] * memory, top * memory], color="black", linestyle=style, linewidth=1.3)
    return handles


def _best_memory(roofs: Roofs) -> float | None:
    """The vendor's bandwidth, or the best of the measured mixes, in bytes/s."""
    if Resource.DRAM in roofs:
        return roofs[Resource.DRAM].per_s
    return max((ceiling.per_s for name, ceiling in roofs.items() if name.value.startswith("dram.")), default=None)


def _draw_matmul_panel(axes: Axes, group: pd.DataFrame, roofs: Roofs, names: Sequence[str]) -> None:
    """The rows of one weight matrix and dtype over both sides of its napkin."""
    n, k, dtype = int(group["n"].iloc[0]), int(group["k"].iloc[0]), str(group["dtype"].iloc[0])
    m = np.unique(np.geomspace(float(group["m"].min()), float(group["m"].max()), 200).round())
    napkin = predict(sweep_amounts("matmul", {"m": m, "n": n, "k": k}, find_dtype(dtype)), roofs)
    for term in napkin.terms:
        color, style = (RED, "-.") if term.resource.is_compute else (GREEN, "--")
        axes.plot(m, np.asarray(term.time_s), color=color, linestyle=style, linewidth=1.3)
    axes.plot(m, np.asarray(napkin.napkin_s), color="black", linewidth=4, alpha=0.25)
    ridge = ridge_batch(roofs, n=n, k=k, dtype=dtype)
    if m[0] <= ridge <= m[-1]:
        axes.axvline(ridge, color=GREY, linestyle=":")
        axes.annotate(
            f"ridge\nM = {ridge:.0f}", (ridge, 0), xycoords=("data", "axes fraction"),
            xytext=(4, 4), textcoords="offset points", color=GREY, fontsize=8,
        )  # fmt: skip
    for index, name in enumerate(names):
        rows = group[group["implementation"] == name].sort_values("m")
        axes.errorbar(
            rows["m"].astype(float), rows["time_s"],
            yerr=[rows["time_s"] - rows["low_s"], rows["high_s"] - rows["time_s"]],
            fmt=SERIES_MARKERS[index % 8], color=series_color(index), markersize=5, linewidth=1,
        )  # fmt: skip
    log_axis(axes, "x", count_text)
    log_axis(axes, "y", tick_duration)
    # The arithmetic of a single row takes next to no time: without a floor it would squeeze everything else.
    axes.set_ylim(bottom=min(group["time_s"].min(), float(np.min(napkin.napkin_s))) / 5)
    axes.set_title(f"weights {k} x {n}, {dtype}")
    axes.set_xlabel("batch M (rows of activations)")
    axes.set_ylabel("time")


def _measured(run: Run) -> pd.DataFrame:
    return run.frame[run.frame["status"] == "measured"]


def _fastest(rows: pd.DataFrame, by: str) -> pd.DataFrame:
    """The fastest implementation at each size, in order of size."""
    return rows.sort_values("time_s", kind="stable").drop_duplicates(by).sort_values(by)


def _configurations(rows: pd.DataFrame, op: str, size: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """Rows that differ in `size` and implementation only, each with the dimensions that set it apart from the rest."""
    keys = [*(name for name in DIMS_OF_OP[op] if name != size), "dtype"]
    varying = [key for key in keys if rows[key].nunique() > 1]
    for _, group in groups_of(rows, keys):
        yield "".join(f", {key} {group[key].iloc[0]}" for key in varying), group.sort_values(size)


def _draw_phase(
    panels: Sequence[Axes],
    group: pd.DataFrame,
    *,
    size: str,
    look: Look,
    style: LineStyleType,
    implementations: Sequence[str],
) -> None:
    """One configuration in both panels: its share of the compute roof, and of the memory roof."""
    for (name,), line in groups_of(group, ["implementation"]):
        marker = SERIES_MARKERS[implementations.index(name) % 8]
        for axes, side in zip(panels, ("compute_s", "memory_s"), strict=True):
            axes.plot(
                line[size].astype(float), line[side] / line["time_s"] * 100,
                color=look.color, marker=marker, linestyle=style, linewidth=1, alpha=0.8,
            )  # fmt: skip


def _primary_name(roofs: RoofSet) -> str:
    return "datasheet" if roofs.datasheet else "measured"


def _series_handles(names: Sequence[str], prefix: str) -> list[Line2D]:
    return [
        legend_line(f"{prefix}{name}", color=series_color(index), marker=SERIES_MARKERS[index % 8], linestyle="none")
        for index, name in enumerate(names)
    ]


def _op_handle(op: str) -> Line2D:
    return legend_line(_op_name(op), color=LOOKS[op].color, marker=LOOKS[op].marker, linestyle="none")


def _op_name(op: str) -> str:
    return op.replace("_", " ")
