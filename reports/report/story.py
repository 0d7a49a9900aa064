"""What the numbers of a run say, in sentences."""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from bench.record import RoofSet
from predict.units import duration, percent, times
from predict.workloads import OPS
from reports.figures import NothingToDraw
from reports.run.frame import dims_text, groups_of, settled
from reports.run.plots import cache_ratios, cache_rows, ridge_batch

AT_THE_ROOF = 0.9  # a result that reaches at least this share is "at" its roof
FLAT = 1.25  # times are flat while they are at most this many times that of the smallest M


@dataclass(frozen=True, slots=True)
class Subject:
    """What a sentence of the report is about."""

    name: str
    ops: tuple[str, ...]  # whose rows it rests on
    tell: Callable[[pd.DataFrame], str]  # the sentence that measured rows give; "" if they give none
    of_fastest: bool = False  # it compares the fastest rows of sizes


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
