"""Writes the report of a run from its records alone; the same records give the same bytes.

    python -m reports render runs/h100

writes runs/h100/report.md (what the numbers say, figures, roofs, a table per op, the leaderboard, rules of thumb, what
failed and what is doubtful) and runs/h100/figures/*.png.
"""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from bench.record import RoofSet
from predict.units import duration, percent, times
from predict.workloads import OPS
from reports.figures import NothingToDraw, to_png
from reports.files import template, write_file
from reports.run.frame import dims_text, groups_of, settled
from reports.run.leaderboard import against_peers, leaderboard, leaderboard_table, peer_tables
from reports.run.load import Run
from reports.run.machine import clock_text, expected_lines, machine_lines, roof_table, slow_bf16, warning_lines
from reports.run.passes import measured_passes
from reports.run.plots import DRAWINGS, cache_ratios, cache_rows, ridge_batch
from reports.run.rules import broken_table, ratios, rule_table, rules_say
from reports.run.tables import doubtful, failures, mark_lines, op_tables

TEMPLATE = Path(__file__).with_name("report.md.jinja")
AT_THE_ROOF = 0.9  # a result that reaches at least this share is "at" its roof
FLAT = 1.25  # times are flat while they are at most this many times that of the smallest M


@dataclass(frozen=True, slots=True)
class Shown:
    """A figure of the report, or the reason why it is missing."""

    name: str
    alt: str
    caption: str
    png: bytes | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Subject:
    """What a sentence of the report is about."""

    name: str
    ops: tuple[str, ...]  # whose rows it rests on
    tell: Callable[[pd.DataFrame], str]  # the sentence that measured rows give; "" if they give none
    of_fastest: bool = False  # it compares the fastest rows of sizes


def write_report(run: Run, out: Path) -> Path:
    """Write out/report.md and out/figures/*.png, each file in one step; return the report's path."""
    shown = draw_all(run)
    (out / "figures").mkdir(parents=True, exist_ok=True)
    for figure in shown:
        file = out / "figures" / f"{figure.name}.png"
        if figure.png is not None:
            write_file(file, figure.png)
        else:
            file.unlink(missing_ok=True)  # an old figure, drawn from other records
    report = out / "report.md"
    write_file(report, render(run, shown).encode())
    return report


def draw_all(run: Run) -> tuple[Shown, ...]:
    """Every figure; one that the run has no rows for has a reason instead of a PNG."""
    shown = []
    for drawing in DRAWINGS:
        try:
            png, reason = to_png(drawing.draw(run)), None
        except NothingToDraw as error:
            png, reason = None, str(error)
        shown.append(Shown(drawing.name, drawing.alt, drawing.caption, png, reason))
    return tuple(shown)


def render(run: Run, shown: tuple[Shown, ...]) -> str:
    """The text of report.md."""
    frame, roofs = run.frame, run.roofs
    rows, rules = against_peers(frame), ratios(frame, roofs.primary)
    return template(TEMPLATE).render(
        run=run,
        warnings=warning_lines(run),
        machine=machine_lines(run.environment),
        clocks=clock_text(frame),
        counts=sorted(Counter(frame["status"]).items()),
        story=story(frame, roofs),
        passes=measured_passes(run),
        roofs=roof_table(roofs).without_empty_columns(),
        expected=expected_lines(run),
        refined=bool(run.frame["refined_s"].notna().any()),
        tables=op_tables(frame),
        leaderboard=leaderboard_table(leaderboard(rows)).without_empty_columns(),
        peer_tables=peer_tables(rows),
        rules=rule_table(rules),
        rules_say=rules_say(rules),
        broken=broken_table(rules),
        shown=shown,
        failures=failures(frame),
        methods=method_lines(frame),
        marks=mark_lines(frame),
        slow_bf16=slow_bf16(run),
        doubtful=doubtful(frame),
    )


def story(frame: pd.DataFrame, roofs: RoofSet) -> tuple[str, ...]:
    """Sentences on what the numbers say: at most one on each subject, none that rests on an unstable row. Where too few
    rows of a subject are settled, a sentence says that instead."""
    measured = frame[frame["status"] == "measured"]
    prefill, decode = "attention_prefill", "attention_decode"
    subjects: tuple[Subject, ...] = (
        Subject("batching", ("matmul",), lambda rows: _matmul_story(rows, roofs), of_fastest=True),
        Subject("prefill attention", (prefill,), lambda rows: _phase_story(rows, prefill, "Prefill attention")),
        Subject("decode attention", (decode,), lambda rows: _phase_story(rows, decode, "Decode attention")),
        Subject("the KV cache", ("generate_cached", "generate_uncached"), _cache_story, of_fastest=True),
        Subject("the napkin as a whole", tuple(OPS), _parity_story),
    )
    told = (_tell(subject, measured[measured["op"].isin(subject.ops)]) for subject in subjects)
    return tuple(sentence for sentence in told if sentence)


def _tell(subject: Subject, rows: pd.DataFrame) -> str:
    """The sentence that the rows give which it may rest on, if those are at least half of `rows`."""
    kept = settled(rows) if subject.of_fastest else rows[rows["unstable"].isna()]
    left_out = len(rows) - len(kept)
    sentence = subject.tell(kept) if left_out <= len(kept) else ""
    if not left_out:
        return sentence
    why = (
        "their times, or the fastest of their sizes, are unstable" if subject.of_fastest else "their times are unstable"
    )
    if sentence:
        return f"{sentence} (Left out: {left_out} of {len(rows)} rows, since {why}.)"
    return f"No sentence on {subject.name}: of its {len(rows)} rows {left_out} do not count, since {why}."


def method_lines(frame: pd.DataFrame) -> tuple[str, ...]:
    """How the times were taken, counted over the rows."""
    timed = frame[frame["time_s"].notna()]
    if timed.empty:
        return ("nothing was timed",)
    lines = [f"{count} rows by `{method}`" for method, count in sorted(Counter(timed["method"]).items())]
    samples = timed["samples"].astype(int)
    lines.append(f"samples per row: median {samples.median():.0f}, from {samples.min()} to {samples.max()}")
    stops = Counter(timed["stop"])
    lines.append(f"{stops['converged']} rows stopped when their median was known, {stops['budget']} when time was up")
    cold = Counter("unknown" if pd.isna(each) else "cold" if each else "warm" for each in timed["cold_l2"])
    lines.append(
        f"operands in the last-level cache: {cold['cold']} rows cold, {cold['warm']} possibly warm,"
        f" {cold['unknown']} not known"
    )
    energies = int(timed["energy_j"].notna().sum())
    if energies:
        lines.append(f"energy of {energies} rows: the power of the card while it worked, times the time of a call")
    return tuple(lines)


def _matmul_story(measured: pd.DataFrame, roofs: RoofSet) -> str:
    """How far the batch of the largest swept weight is free, beside the ridge that the napkin predicts."""
    sweeps = [
        (int(n) * int(k), int(n), int(k), str(dtype), group)
        for (n, k, dtype), group in groups_of(measured[measured["op"] == "matmul"], ["n", "k", "dtype"])
        if group["m"].nunique() > 2 and group["napkin_s"].notna().all()
    ]
    if not sweeps:
        return ""
    _, n, k, dtype, group = max(sweeps, key=lambda sweep: sweep[:4])
    fastest = group.groupby("m")["time_s"].min()
    first, first_s = fastest.index[0], fastest.iloc[0]
    flat = fastest[(fastest > FLAT * first_s).cumsum() == 0]  # up to the first that takes longer
    if len(flat) > 1:
        seen = (
            f"stays within {percent(FLAT - 1)} of that of M = {first} ({duration(first_s)}) up to M = {flat.index[-1]}"
        )
    else:
        second = fastest.index[1]
        seen = f"grows from the start: M = {second} takes {times(fastest[second] / first_s)} as long as M = {first}"
    ridge = ridge_batch(roofs.primary, n=n, k=k, dtype=dtype)
    predicted = f"the napkin puts the ridge at M = {ridge:.0f}" if math.isfinite(ridge) else "the napkin sees no ridge"
    return f"Batching: with a {k} x {n} weight in {dtype} the time {seen}; {predicted}."


def _phase_story(measured: pd.DataFrame, op: str, name: str) -> str:
    """The best share of the measured roof that a phase reaches, and which roof bounds it."""
    rows = measured[(measured["op"] == op) & measured["of_measured"].notna()]
    if rows.empty:
        return ""
    best = rows.sort_values("of_measured", kind="stable").iloc[-1]
    bounds = sorted(Counter(rows["bound"]).items(), key=lambda each: -each[1])
    verb = "is at" if best["of_measured"] >= AT_THE_ROOF else "reaches"
    share = f" {percent(best['of_measured'])} of" if verb == "reaches" else ""
    shared = f" ({percent(best['of_measured'])})" if verb == "is at" else ""
    return (
        f"{name} is bound by {bounds[0][0]} in {bounds[0][1]} of {len(rows)} rows; at its best it {verb}{share} its"
        f" measured roof{shared}: {best['workload']} by {best['implementation']}."
    )


def _cache_story(measured: pd.DataFrame) -> str:
    """What the KV cache saves at the longest context, in FLOP and in time."""
    try:
        group = cache_rows(measured)
    except NothingToDraw:
        return ""
    ratios = cache_ratios(group)
    context = int(ratios.index.max())
    at_longest = group[group["context"] == context].groupby("op")["flop"].first()
    flop_ratio = at_longest["generate_uncached"] / at_longest["generate_cached"]
    heads = int(group["heads"].iloc[0])
    return (
        f"KV cache: making token {context} of one layer ({dims_text({'heads': heads})}) without it takes"
        f" {times(ratios[context])} as long and does {times(flop_ratio)} the FLOP."
    )


def _parity_story(measured: pd.DataFrame) -> str:
    """How far the napkin is from the measurements as a whole."""
    ratios = measured["ratio"].dropna()
    if ratios.empty:
        return ""
    within = ratios.between(1 / 1.3, 1.3).mean()
    return (
        f"The napkin is a lower bound: measured times are {times(ratios.median())} it in the median,"
        f" and {percent(within)} of {len(ratios)} rows lie within 30 % of it."
    )
