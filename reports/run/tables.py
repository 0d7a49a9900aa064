"""Rich tables for the terminal: one per op, predicted beside measured, and what failed with its reason."""

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass

import pandas as pd
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from bench.record import Environment, RoofSet
from predict.resources import Resource, Roofs
from predict.units import binary_bytes, duration, energy, percent, si
from predict.workloads import OPS
from reports.run.compare import Comparison
from reports.run.load import DIMS_OF_OP, Loaded, dims_text, to_frame
from reports.run.rules import Ratio, ratios
from reports.run.standings import LIBRARY, Standing, against_peers, standings

NO_DATASHEET = "no datasheet roof: roofs were measured on this machine"
# What a terminal that is too narrow does without, first to last: a column less is better than a number cut in two.
DISPENSABLE = (
    "energy per TFLOP",
    "energy per token",
    "host per call",
    "of held clock",
    "predicted memory",
    "peak memory",
    "bound",
    "expected",
    "ratio",
    "predicted",
)
RULE_TITLES = ("rule", "of", "implementation", "rows", "measured", "predicted", "off at most", "holds")
STANDING_TITLES = ("op", "dtype", "shapes", "ours / best peer", "as fast or faster", f"ours / {LIBRARY} (cuBLAS)")


@dataclass(frozen=True, slots=True)
class Column:
    """One column of an op's table: where its number comes from and how it becomes text. Left out where it is empty, or
    the column that it stands `beside` is."""

    title: str
    source: str
    text: Callable[[float], str]
    beside: str | None = None


@dataclass(frozen=True, slots=True)
class OpTable:
    """The rows of one op as text, by size; what all rows share stands in `shared` rather than in a column."""

    op: str
    shared: str
    titles: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def times(ratio: float) -> str:
    """Format a ratio: times(1.5) == "1.50x"."""
    return f"{ratio:.2f}x" if ratio < 9.995 else f"{ratio:.3g}x" if ratio < 999.5 else f"{ratio:.0f}x"


COLUMNS: tuple[Column, ...] = (
    Column("bound", "bound", str),
    Column("predicted", "napkin_s", duration),
    Column("expected", "expected_s", duration),
    Column("measured", "time_s", duration),
    Column("ratio", "ratio", times),
    Column("of datasheet", "of_datasheet", percent),
    Column("of measured", "of_measured", percent),
    Column("of held clock", "of_held_clock", percent),
    Column("predicted memory", "predicted_peak_bytes", binary_bytes, beside="peak_bytes"),
    Column("peak memory", "peak_bytes", binary_bytes),
    Column("host per call", "host_s", duration),
    Column("energy per token", "joules_per_token", energy),
    Column("energy per TFLOP", "joules_per_tflop", energy),
)


def op_tables(frame: pd.DataFrame) -> list[OpTable]:
    """One table per op that the frame holds, in the order of `predict.workloads.OPS`."""
    return [_op_table(op, frame[frame["op"] == op]) for op in OPS if (frame["op"] == op).any()]


def failures(frame: pd.DataFrame) -> list[tuple[str, str, str, str]]:
    """Workload, implementation, status and reason of each row that is not a plain measurement."""
    failed = frame[frame["status"] != "measured"]
    return list(
        zip(failed["workload"], failed["implementation"], failed["status"], failed["reason"].fillna(""), strict=True)
    )


def unstable(frame: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Workload, implementation and stability warnings of each row that has one."""
    doubtful = frame[frame["warnings"].fillna("") != ""]
    return list(zip(doubtful["workload"], doubtful["implementation"], doubtful["warnings"], strict=True))


def run_tables(loaded: Loaded, *, width: int) -> RenderableType:
    """Everything about a run that fits a terminal of `width` columns: header, a table per op, failures."""
    frame = to_frame(loaded.records)
    parts: list[RenderableType] = [_header(loaded, frame)]
    op_parts = op_tables(frame)
    parts += [_rich_op_table(table, width=width) for table in op_parts]
    if any(len(_fitting(table, width)) < len(table.titles) for table in op_parts):
        parts.append(Text("some columns are left out: this terminal is too narrow for them\n", "dim"))
    if found := standings(against_peers(frame)):
        parts.append(_rich_standings(found))
    if rules := ratios(frame, loaded.roofs.primary):
        parts.append(_rich_rules(rules))
    if failed := failures(frame):
        parts.append(_failure_list(failed))
    if doubtful := unstable(frame):
        parts.append(Text(f"{len(doubtful)} rows are unstable; `python -m reports render` lists them", "yellow"))
    return Group(*parts)


def machine_lines(environment: Environment) -> tuple[str, ...]:
    """Who this machine is, in two lines: device and clocks, then versions."""
    hardware = [environment.name]
    if environment.gpu and environment.gpu != environment.name:
        hardware.append(f"SKU {environment.gpu}")
    if environment.sm_count:
        hardware.append(f"{environment.sm_count} SMs")
    if environment.threads:
        hardware.append(f"{environment.threads} threads")
    if environment.cpus is not None and environment.cpus < 1:
        hardware.append(f"{environment.cpus:g} of a CPU")
    if environment.max_sm_hz:
        hardware.append(f"SM clock up to {si(environment.max_sm_hz, 'Hz', 4)}")
    if environment.power_limit_w:
        hardware.append(f"power limit {environment.power_limit_w:g} W")
    software = [
        f"{name} {version}"
        for name, version in (
            ("driver", environment.driver),
            ("CUDA", environment.cuda),
            ("torch", environment.torch),
            ("Triton", environment.triton),
            ("Python", environment.python),
            *sorted(environment.packages.items()),
        )
        if version
    ]
    if environment.commit:
        software.append(f"commit {environment.commit}{' with local changes' if environment.dirty else ''}")
    return ", ".join(hardware), ", ".join(software)


def loud_lines(loaded: Loaded) -> tuple[str, ...]:
    """What makes the run doubtful as a whole: mismatches, --force, a warm cache, several harnesses or machines, broken
    lines."""
    environment = loaded.environment
    lines = [f"the driver contradicts the GPU table: {mismatch}" for mismatch in environment.mismatches]
    if environment.forced:
        lines.append("forced: this is not the machine that --gpu named, so the roofs may be another card's")
    if environment.warm_cache:
        lines.append("warm cache: operands may sit in the last-level cache, so a time may beat the DRAM roof")
    if environment.mig:
        judge = "the roofs of the whole card" if environment.gpu else "the roofs that it measured itself"
        lines.append(f"MIG is on: this is a slice of a card, judged by {judge}")
    if environment.unknown:
        lines.append(f"the driver does not tell: {', '.join(environment.unknown)}")
    if len(loaded.harnesses) > 1:
        lines.append(f"the records were taken by harness {loaded.harnesses_text}, whose times are not comparable")
    if len(loaded.environments) > 1:
        lines.append(f"the records come from {len(loaded.environments)} different environments; the last one is shown")
    if loaded.broken:
        lines.append(f"{len(loaded.broken)} broken lines were skipped, the first: {loaded.broken[0]}")
    return tuple(lines)


def expected_lines(loaded: Loaded) -> tuple[str, ...]:
    """Where the expected times come from, an op and format a line; none where nothing is calibrated."""
    return tuple(
        f"{op} in {dtype}: calibrated from {each.probes} measured rows, {each.source}"
        for (op, dtype), each in sorted(loaded.calibrations.items())
    )


def roof_rows(roofs: RoofSet) -> list[tuple[str, str, str, str]]:
    """Resource, datasheet rate, measured rate and where the figures come from, for every roof known."""
    rows: list[tuple[str, str, str, str]] = []
    for resource in Resource:
        if resource in roofs.datasheet or resource in roofs.measured:
            kinds = (("datasheet", roofs.datasheet), ("measured", roofs.measured))
            named = [(kind, known[resource].source) for kind, known in kinds if resource in known]
            sources = "; ".join(source if source.startswith(kind) else f"{kind}: {source}" for kind, source in named)
            rows.append((resource.value, _rate(resource, roofs.datasheet), _rate(resource, roofs.measured), sources))
    return rows


def standing_rows(found: Iterable[Standing]) -> list[tuple[str, ...]]:
    """A line of `STANDING_TITLES` for each op and dtype."""
    return [
        (
            each.op,
            each.dtype,
            str(each.shapes),
            times(each.ratio),
            percent(each.share),
            "" if each.library_ratio is None else times(each.library_ratio),
        )
        for each in found
    ]


def rule_rows(found: Iterable[Ratio]) -> list[tuple[str, ...]]:
    """A line of `RULE_TITLES` for each rule and implementation."""
    groups: dict[tuple[str, str, str], list[Ratio]] = {}
    for each in found:
        groups.setdefault((each.rule, each.of, each.implementation), []).append(each)
    return [
        (
            *key,
            str(len(group)),
            _range([each.measured for each in group]),
            _range([each.predicted for each in group]),
            signed_percent(max((each.off for each in group), key=abs)),
            f"{sum(each.holds for each in group)} of {len(group)} within {percent(group[0].tolerance)}",
        )
        for key, group in groups.items()
    ]


def _range(ratios: list[float]) -> str:
    """The least and the most; one where they read the same."""
    return " to ".join(dict.fromkeys((times(min(ratios)), times(max(ratios)))))


def signed_percent(share: float) -> str:
    """Format how far something is off: signed_percent(0.031) == "+3.1 %"."""
    return f"{100 * share:+.3g} %"


def peer_tables(rows: pd.DataFrame) -> list[OpTable]:
    """One table per op of the rows of `reports.run.standings.against_peers`: our time beside the fastest peer's."""
    return [_peer_table(op, rows[rows["op"] == op]) for op in OPS if (rows["op"] == op).any()]


def clock_text(frame: pd.DataFrame) -> str:
    """The SM clocks that were held during the measurements; empty where the machine cannot tell."""
    clocks = frame["sm_hz"].dropna()
    if clocks.empty:
        return ""
    low, middle, high = clocks.min(), clocks.median(), clocks.max()
    return f"SM clock held: median {si(middle, 'Hz', 4)}, from {si(low, 'Hz', 4)} to {si(high, 'Hz', 4)}"


def _op_table(op: str, rows: pd.DataFrame) -> OpTable:
    varying, shared = _split_keys(op, rows)
    rows = rows.sort_values([*varying, "implementation"], kind="stable")
    columns = [
        column for column in COLUMNS if rows[column.beside or column.source].notna().any() or column.source == "time_s"
    ]
    failed = bool((rows["status"] != "measured").any())
    return OpTable(
        op,
        _shared_text(shared),
        (*varying, "implementation", *(column.title for column in columns), *(["status"] if failed else [])),
        tuple(
            _op_row(row, [*varying, "implementation"], columns, failed=failed) for row in rows.to_dict(orient="records")
        ),
    )


def _peer_table(op: str, rows: pd.DataFrame) -> OpTable:
    varying, shared = _split_keys(op, rows)
    rows = rows.sort_values(varying, kind="stable") if varying else rows
    return OpTable(
        op,
        _shared_text(shared),
        (*varying, "ours", "best peer", "peer", "ours / best peer"),
        tuple(
            (
                *(str(row[key]) for key in varying),
                duration(row["our_s"]),
                duration(row["peer_s"]),
                str(row["peer"]),
                times(row["ratio"]),
            )
            for row in rows.to_dict(orient="records")
        ),
    )


def _split_keys(op: str, rows: pd.DataFrame) -> tuple[list[str], dict[str, object]]:
    """Dimensions and dtype: the names of those that vary, and what all rows share. What varies least stands left, so
    that a sweep reads down the table."""
    keys = [*DIMS_OF_OP[op], "dtype"]
    varying = sorted((key for key in keys if rows[key].nunique() > 1), key=lambda key: rows[key].nunique())
    return varying, {key: rows[key].iloc[0] for key in keys if key not in varying}


def _shared_text(shared: Mapping[str, object]) -> str:
    dims = {name: size for name, size in shared.items() if name != "dtype"}
    return ", ".join(text for text in (dims_text(dims), str(shared.get("dtype", ""))) if text)


def _op_row(row: Mapping[Hashable, object], keys: list[str], columns: list[Column], *, failed: bool) -> tuple[str, ...]:
    cells = [_cell(row[column.source], column) for column in columns]
    if failed:
        cells.append("" if row["status"] == "measured" else str(row["status"]))
    return (*(str(row[key]) for key in keys), *cells)


def _cell(value: object, column: Column) -> str:
    return "" if pd.isna(value) else column.text(value)  # type: ignore[call-overload,arg-type]


def _rate(resource: Resource, roofs: Roofs) -> str:
    if resource not in roofs:
        return ""
    return si(roofs[resource].per_s, "FLOP/s" if resource.is_compute else "B/s")


def _header(loaded: Loaded, frame: pd.DataFrame) -> RenderableType:
    parts: list[RenderableType] = [Text(line, "bold red") for line in loud_lines(loaded)]
    parts += [Text(line) for line in machine_lines(loaded.environment)]
    if clocks := clock_text(frame):
        parts.append(Text(clocks))
    if not loaded.roofs.datasheet:
        parts.append(Text(NO_DATASHEET, "bold yellow"))
    parts.append(Padding(_rich_roofs(loaded.roofs), (1, 0)))
    parts += [Text(f"expected {line}", "dim") for line in expected_lines(loaded)]
    if loaded.calibrations:
        parts.append(Text(""))
    return Group(*parts)


def _rich_roofs(roofs: RoofSet) -> Table:
    rows = roof_rows(roofs)
    titles = ["roof", "datasheet", "measured"] if roofs.datasheet else ["roof", "measured"]
    table = Table(title="roofs", title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
    for title in titles:
        table.add_column(title, justify="left" if title == "roof" else "right", no_wrap=True)
    for resource, datasheet, measured, _ in rows:
        table.add_row(*([resource, datasheet, measured] if roofs.datasheet else [resource, measured]))
    return table


def _rich_op_table(op_table: OpTable, *, width: int) -> RenderableType:
    title = f"{op_table.op}  ({op_table.shared})" if op_table.shared else op_table.op
    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
    kept = _fitting(op_table, width)
    for name in (op_table.titles[index] for index in kept):
        left = name in ("implementation", "dtype", "bound", "status")
        table.add_column(_two_lines(name), justify="left" if left else "right", no_wrap=True)
    for row in op_table.rows:
        table.add_row(*(row[index] for index in kept))
    return Padding(table, (0, 0, 1, 0))


def _two_lines(title: str) -> str:
    """Two-word titles break at the space; numbers never do."""
    return title.replace("of ", "% of\n").replace(" memory", "\nmemory").replace(" per ", "\nper ")


def _fitting(op_table: OpTable, width: int) -> list[int]:
    """Indices of the columns that fit `width` without cutting a number, given up in the order of `DISPENSABLE`."""
    kept = list(range(len(op_table.titles)))
    widths = [
        max(len(part) for part in (*_two_lines(op_table.titles[index]).split("\n"), *cells)) + 2
        for index, cells in enumerate(zip(*op_table.rows, strict=True))
    ]
    for name in DISPENSABLE:
        if sum(widths[index] for index in kept) <= width:
            break
        kept = [index for index in kept if op_table.titles[index] != name]
    return kept


def _rich_standings(found: Iterable[Standing]) -> RenderableType:
    title = "ours against the best peer: time over time, geometric mean over shapes; under 1.00x ours is faster"
    rows = standing_rows(found)
    # Without a column that no row fills.
    kept = [index for index in range(len(STANDING_TITLES)) if any(row[index] for row in rows)]
    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
    for index in kept:
        name = STANDING_TITLES[index].replace(" / ", "\n/ ").replace("as fast ", "as fast\n")
        table.add_column(name, justify="left" if index < 2 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(row[index] for index in kept))
    return Padding(table, (0, 0, 1, 0))


def _rich_rules(found: Iterable[Ratio]) -> RenderableType:
    title = "rules of thumb: what one row takes over another of this run, beside the same ratio of the napkin"
    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
    for name in RULE_TITLES:
        table.add_column(name, justify="left" if name in RULE_TITLES[:3] else "right", overflow="fold")
    for row in rule_rows(found):
        table.add_row(*row)
    return Padding(table, (0, 0, 1, 0))


def _failure_list(failed: list[tuple[str, str, str, str]]) -> RenderableType:
    lines: list[RenderableType] = [Text(f"{len(failed)} rows are not plain measurements", "bold")]
    for workload, implementation, status, reason in failed:
        lines.append(Text(f"{workload} {implementation}: {status}"))
        lines.append(Padding(Text(reason, "dim"), (0, 0, 0, 4)))
    lines.append(Text(""))
    return Group(*lines)


def comparison_tables(comparison: Comparison) -> RenderableType:
    """Two runs side by side: a table per op, then geometric means and what could not be compared."""
    parts: list[RenderableType] = [
        Text(f"A: {comparison.machine_a}    B: {comparison.machine_b}", "bold"),
        *(Text(warning, "yellow") for warning in comparison.warnings),
        Text(""),
    ]
    parts += [_comparison_table(op, comparison) for op in OPS if op in set(comparison.rows["op"])]
    means = ", ".join(f"{op} {times(ratio)}" for op, ratio in comparison.by_op.items())
    parts.append(Text(f"time of B over A, geometric mean by op: {means}"))
    for side, names in (("A", comparison.only_a), ("B", comparison.only_b)):
        if names:
            parts.append(Text(f"{len(names)} rows measured in {side} only, such as {names[0]}", "dim"))
    return Group(*parts)


def _comparison_table(op: str, comparison: Comparison) -> RenderableType:
    rows = comparison.rows[comparison.rows["op"] == op]
    parts = [workload.split("-")[1:] for workload in rows["workload"]]
    # What all rows share stands in the title, so that a line fits.
    shared = [part for part in parts[0] if len(parts) > 1 and all(part in others for others in parts)]
    title = f"{op}  ({', '.join(shared)})" if shared else op
    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
    for name in ("workload", "implementation", "A", "B", "% of roof\nA", "% of roof\nB", "B/A", "verdict"):
        left = name in ("workload", "implementation", "verdict")
        table.add_column(name, justify="left" if left else "right", no_wrap=name != "workload", overflow="fold")
    for row, own in zip(rows.to_dict(orient="records"), parts, strict=True):
        table.add_row(
            " ".join(part for part in own if part not in shared),
            row["implementation"],
            duration(row["time_s_a"]),
            duration(row["time_s_b"]),
            "" if pd.isna(row["of_roof_a"]) else percent(row["of_roof_a"]),
            "" if pd.isna(row["of_roof_b"]) else percent(row["of_roof_b"]),
            times(row["ratio"]),
            row["verdict"],
        )
    return Padding(table, (0, 0, 1, 0))
