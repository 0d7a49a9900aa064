"""Tests rules of thumb: each compares a ratio of two rows of one run with the napkin's ratio.

A ratio of two times on one machine does not depend on its roofs, so it tests a rule more sharply than a time does.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from predict.errors import MissingCeiling
from predict.materialized import MATERIALIZED_OPS, materialized_amounts
from predict.resources import Roofs
from predict.roofline import predict
from predict.units import find_dtype, percent, times
from predict.workloads import make_workload
from reports.run.frame import DIMS_OF_OP
from reports.tables import TextTable

Dims = Mapping[str, int]
Row = Mapping[Hashable, Any]
Rows = Mapping[tuple[str, str], Row]  # by workload and implementation
Base = tuple[str, dict[str, int]]  # op and dimensions of the row that another is compared with

MOST_GUESSES = 16  # a chunk of more queries does not count as verification
MATERIALIZED = "naive"
FUSED = ("triton", "sdpa_flash")  # our kernel, or PyTorch's where ours does not run


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of thumb that compares a row of `op` with another row of the same implementation."""

    name: str
    says: str  # the rule in words
    op: str
    base: Callable[[Dims], Base | None]  # which row to compare with; None where the rule does not apply
    tolerance: float  # the rule is broken if the measured ratio is further off the napkin's; 0.1 is 10 %


@dataclass(frozen=True, slots=True)
class Ratio:
    """One row of a run compared with another."""

    rule: str
    workload: str
    implementation: str
    base: str  # the row compared with: its workload, or in the rule `SCORES` its implementation
    of: str  # "time" or "memory"
    measured: float  # measured over measured
    predicted: float  # predicted over predicted
    tolerance: float
    is_stable: bool  # both rows are

    @property
    def off(self) -> float:
        """How far the measured ratio is off the predicted one; 0.1 means 10 % more."""
        return self.measured / self.predicted - 1

    @property
    def holds(self) -> bool:
        """Whether the measured ratio is within the tolerance."""
        return abs(self.off) <= self.tolerance


def _one_query(dims: Dims) -> Base | None:
    return ("attention_chunk", {**dims, "queries": 1}) if 1 < dims["queries"] <= MOST_GUESSES else None


def _one_forward(dims: Dims) -> Base | None:
    return _same("block_forward")(dims) if dims.get("layers", 1) == dims.get("forwards", 1) == 1 else None


def _keeping(dims: Dims) -> Base | None:
    """The step that keeps its activations, of one that runs its forward pass twice."""
    return ("block_train", {**dims, "forwards": 1}) if dims.get("forwards") == 2 else None


def _same(op: str) -> Callable[[Dims], Base]:
    """The row of another op with the same dimensions; those that the other op lacks are dropped."""
    return lambda dims: (op, {name: dims[name] for name in DIMS_OF_OP[op] if name in dims})


# The napkin itself is good to 30 %; rules that compare two kernels of one kind have tighter tolerances.
RULES: tuple[Rule, ...] = (
    Rule("verification", "several guesses cost what one token costs", "attention_chunk", _one_query, 0.15),
    Rule("paging", "a cache in pages is read as fast as one piece", "attention_paged", _same("attention_decode"), 0.05),
    Rule("fp8 cache", "half the bytes, half the time", "attention_decode_fp8", _same("attention_decode"), 0.15),
    Rule("sliding window", "time follows the pairs kept", "attention_window", _same("attention_prefill"), 0.30),
    Rule("linear backward", "two products for one", "linear_backward", _same("matmul"), 0.10),
    Rule("attention backward", "five products for two", "attention_backward", _same("attention_prefill"), 0.30),
    Rule("training step", "three forward passes", "block_train", _one_forward, 0.30),
    Rule("recomputing", "a forward pass more, for memory", "block_train", _keeping, 0.15),
    Rule("continuous batching", "slots that are refilled do not idle", "serve_static", _same("serve_continuous"), 0.15),
    Rule("speculation", "fewer steps where guesses are right", "generate_drafted", _same("generate_tokens"), 0.30),
    Rule("KV cache", "one token's work, not all tokens'", "generate_uncached", _same("generate_cached"), 0.30),
)
SCORES = "scores in memory"  # the rule that compares two implementations
SCORES_SAY = "the time and memory that a fused kernel saves grow with the prompt"
SCORES_TOLERANCE = 0.30


def ratios(frame: pd.DataFrame, roofs: Roofs) -> tuple[Ratio, ...]:
    """Every ratio that the measured rows of a run allow, rule by rule in the order of `RULES`."""
    measured = frame[(frame["status"] == "measured") & (frame["napkin_s"] > 0)]
    by_key = {(row["workload"], row["implementation"]): row for row in measured.to_dict(orient="records")}
    found = [ratio for rule in RULES for ratio in _of_rule(rule, by_key)]
    return (*found, *_of_scores(by_key, roofs))


def rule_table(found: Iterable[Ratio]) -> TextTable:
    """A line for each rule and implementation. A ratio of an unstable row does not count."""
    groups: dict[tuple[str, str, str], list[Ratio]] = {}
    for each in found:
        groups.setdefault((each.rule, each.of, each.implementation), []).append(each)
    rows = tuple((*key, *_sums([each for each in group if each.is_stable], group)) for key, group in groups.items())
    name = "rules of thumb: one row of this run over another, measured and by the napkin"
    titles = ("rule", "of", "implementation", "rows", "measured", "predicted", "off at most", "holds", "unstable rows")
    return TextTable(name, titles, rows, names=3).without_empty_columns()


def _sums(stable: list[Ratio], group: list[Ratio]) -> tuple[str, ...]:
    """The cells of one rule behind its name."""
    count, left_out = str(len(stable)), str(len(group) - len(stable) or "")
    if not stable:
        return (count, "", "", "", "", left_out)
    return (
        count,
        _range([each.measured for each in stable]),
        _range([each.predicted for each in stable]),
        signed_percent(max((each.off for each in stable), key=abs)),
        f"{sum(each.holds for each in stable)} of {len(stable)} within {percent(stable[0].tolerance)}",
        left_out,
    )


def broken_table(found: Iterable[Ratio]) -> TextTable:
    """One line for each ratio of stable rows that breaks its rule."""
    rows = tuple(
        (
            f"{each.rule} ({each.of})",
            each.workload,
            each.implementation,
            each.base,
            times(each.measured),
            times(each.predicted),
            signed_percent(each.off),
        )
        for each in found
        if each.is_stable and not each.holds
    )
    titles = ("rule", "workload", "implementation", "over", "measured", "predicted", "off")
    return TextTable("broken rules", titles, rows)


def rules_say(found: Iterable[Ratio]) -> tuple[tuple[str, str], ...]:
    """Name and words of each rule that the run has rows for."""
    words = {**{rule.name: rule.says for rule in RULES}, SCORES: SCORES_SAY}
    return tuple((name, words[name]) for name in dict.fromkeys(each.rule for each in found))


def signed_percent(share: float) -> str:
    """A fraction as signed percent: signed_percent(0.031) == "+3.1 %"."""
    return f"{100 * share:+.3g} %"


def _range(ratios: list[float]) -> str:
    """The least and the largest ratio as text; one of them where both read the same."""
    return " to ".join(dict.fromkeys((times(min(ratios)), times(max(ratios)))))


def _of_rule(rule: Rule, by_key: Rows) -> Iterator[Ratio]:
    for (workload, implementation), row in by_key.items():
        base = rule.base(_dims(row)) if row["op"] == rule.op else None
        under = by_key.get((_id(*base, row["dtype"]), implementation)) if base else None
        if under:
            sides = row["time_s"] / under["time_s"], row["napkin_s"] / under["napkin_s"]
            names = rule.name, workload, implementation, under["workload"]
            yield Ratio(*names, "time", *sides, rule.tolerance, _are_stable(row, under))


def _of_scores(by_key: Rows, roofs: Roofs) -> Iterator[Ratio]:
    for (workload, implementation), row in by_key.items():
        fused = next((by_key[workload, name] for name in FUSED if (workload, name) in by_key), None)
        if implementation != MATERIALIZED or row["op"] not in MATERIALIZED_OPS or not fused:
            continue
        names = SCORES, workload, implementation, fused["implementation"]
        try:
            amounts = materialized_amounts(make_workload(row["op"], _dims(row), find_dtype(row["dtype"])))
            predicted = float(predict(amounts, roofs).napkin_s) / row["napkin_s"]
        except MissingCeiling:
            continue
        sides = row["time_s"] / fused["time_s"], predicted
        yield Ratio(*names, "time", *sides, SCORES_TOLERANCE, _are_stable(row, fused))
        if row["peak_bytes"] > 0 and fused["peak_bytes"] > 0:  # not on a CPU
            memory = (
                row["peak_bytes"] / fused["peak_bytes"],
                row["predicted_peak_bytes"] / fused["predicted_peak_bytes"],
            )
            yield Ratio(*names, "memory", *memory, SCORES_TOLERANCE, is_stable=True)


def _are_stable(*rows: Row) -> bool:
    return all(pd.isna(row["unstable"]) for row in rows)


def _dims(row: Row) -> dict[str, int]:
    return {name: int(row[name]) for name in DIMS_OF_OP[row["op"]] if not pd.isna(row[name])}


def _id(op: str, dims: Dims, dtype: str) -> str:
    return make_workload(op, dims, find_dtype(dtype)).id
