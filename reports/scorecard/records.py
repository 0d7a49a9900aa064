"""What the records of one run say about claims: the evidence of each, or why there is none."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import pandas as pd

from predict.guess_rule import verified
from predict.serving_loop import served
from predict.units import percent, times
from reports.run.frame import settled
from reports.run.load import Run
from reports.run.passes import measured_passes
from reports.run.rules import SCORES, Ratio, ratios
from reports.scorecard.matmuls import batches, ends, fewer_bits, knees, said_of
from reports.scorecard.training import forwards, parameters, recomputed
from reports.scorecard.verdict import Evidence

# Claim -> the rules of thumb of a run (`reports.run.rules`) that judge it.
_RULES: Mapping[int, tuple[str, ...]] = MappingProxyType(
    {
        4: ("linear backward", "attention backward", "training step"),
        8: ("KV cache",),
        15: (SCORES,),
    }
)


_HINT = "; suite full has such rows"  # behind a reason


def of_records(run: Run) -> dict[int, Evidence | str]:
    """The evidence of each claim that a run's records can judge, or why they do not, by the claim's number."""
    rows = run.frame[(run.frame["status"] == "measured") & (run.frame["napkin_s"] > 0)]
    if rows.empty:
        return {}
    found = [each for each in ratios(run.frame, run.roofs.primary) if each.is_stable]
    fastest = _fastest(rows)
    evidence = {
        **{number: _ratios(found, rules) for number, rules in _RULES.items()},
        **{number: find(fastest) for number, find in _FINDERS.items()},
        2: knees(fastest, run.roofs.primary),
        6: recomputed(fastest, found),
        11: _guesses(fastest, found),
        12: batches(rows),
        13: _served(fastest, found),
        14: _paging(fastest, found),
        16: fewer_bits(fastest, [each for each in found if each.rule == "fp8 cache"]),
        19: _sums(run),
    }
    return {number: f"{each}{_HINT}" if isinstance(each, str) else each for number, each in evidence.items()}


def _fastest(rows: pd.DataFrame) -> pd.DataFrame:
    """The fastest row of each workload, where it is stable."""
    stable = settled(rows)
    return stable.loc[stable.groupby("workload")["time_s"].idxmin()]


def _bounds(fastest: pd.DataFrame) -> Evidence | str:
    """Claim 1: every workload."""
    if fastest.empty:
        return "no stable row"
    measured, bound = (fastest[name].to_numpy(dtype=float) for name in ("time_s", "napkin_s"))
    near = float((np.abs(bound / measured - 1) <= 0.3).mean())
    known = fastest[fastest["expected_s"].notna()]
    expected = ""
    if len(known):
        share = float((np.abs(known["expected_s"] / known["time_s"] - 1) <= 0.3).mean())
        expected = f", {percent(share)} of {len(known)} of their expected time"
    return Evidence(
        measured,
        bound,
        f"Of {len(fastest)} workloads {percent(near)} are within 30 % of their bound{expected}. The median one takes"
        f" {times(float(np.median(measured / bound)))} its bound.",
    )


def _regimes(fastest: pd.DataFrame) -> Evidence | str:
    """Claim 7: what attention over prompts reaches of the peak, and over a cache of the bandwidth."""
    of_bound = fastest["napkin_s"] / fastest["time_s"]
    is_memory = fastest["bound"].str.startswith("dram")
    prefill = of_bound[(fastest["op"] == "attention_prefill") & ~is_memory].to_numpy(dtype=float)
    decode = of_bound[(fastest["op"] == "attention_decode") & is_memory].to_numpy(dtype=float)
    if not len(prefill) or not len(decode):
        return "no stable attention of prefill that FLOP bind, or of decode that memory binds"
    shares = np.concatenate([prefill, decode])
    return Evidence(
        shares,
        np.ones_like(shares),
        f"Attention over prompts uses {percent(float(np.median(prefill)))} of the peak, over a cache"
        f" {percent(float(np.median(decode)))} of the bandwidth (medians).",
    )


def _shared_heads(fastest: pd.DataFrame) -> Evidence | str:
    """Claim 9: decode attention with fewer KV heads over one for each query head."""
    rows = fastest[fastest["op"] == "attention_decode"]
    same = ["batch", "context", "heads", "head_dim", "dtype"]
    both = rows[rows["kv_heads"] < rows["heads"]].merge(rows[rows["kv_heads"] == rows["heads"]], on=same)
    if both.empty:
        return "no stable decode attention of equal query heads with and without shared KV heads"
    measured, predicted = ((both[f"{name}_x"] / both[f"{name}_y"]).to_numpy() for name in ("time_s", "napkin_s"))
    return Evidence(
        measured,
        predicted,
        f"Over {len(both)} pairs the time falls to {percent(float(np.median(measured)))}, the bytes to"
        f" {percent(float(np.median(predicted)))} (medians).",
    )


def _guesses(fastest: pd.DataFrame, found: Sequence[Ratio]) -> Evidence | str:
    """Claim 11: several queries over one, and a loop that drafts and verifies over one that does not."""
    evidence = _ratios(found, ("verification", "speculation"))
    loops = fastest[fastest["op"] == "generate_drafted"]
    if isinstance(evidence, str) or loops.empty:
        return evidence
    said = []
    for row in loops.to_dict(orient="records"):
        tokens, guesses, accepted = (int(row[name]) for name in ("tokens", "guesses", "accepted"))
        right = accepted / 100
        a_step = tokens / verified(tokens, guesses, accepted).steps
        formula = guesses + 1 if right == 1 else (1 - right ** (guesses + 1)) / (1 - right)
        gains = [1 / each.measured for each in found if each.workload == row["workload"]]
        faster = f", {times(gains[0])} as fast" if gains else ""
        said.append(f"{guesses} guesses, {accepted} % right: {a_step:.2f} tokens a step ({formula:.2f}){faster}")
    return Evidence(evidence.measured, evidence.predicted, f"{evidence.sentence} {'; '.join(said)}.")


def _served(fastest: pd.DataFrame, found: Sequence[Ratio]) -> Evidence | str:
    """Claim 13: static over continuous batching."""
    evidence = _ratios(found, ("continuous batching",))
    if isinstance(evidence, str):
        return evidence
    shares = []
    for op in ("serve_static", "serve_continuous"):
        row = fastest[fastest["op"] == op].iloc[0]
        slots, requests, long, short = (int(row[name]) for name in ("slots", "requests", "long", "short"))
        made = (requests + 1) // 2 * long + requests // 2 * short
        shares.append(percent(made / (slots * served(op, slots, requests, long, short).steps)))
    return Evidence(
        evidence.measured,
        evidence.predicted,
        f"{shares[0]} of slots make a token in static batches, {shares[1]} where they are refilled:"
        f" {times(float(np.median(evidence.measured)))} the time, {times(float(np.median(evidence.predicted)))} by the"
        " bound.",
    )


def _paging(fastest: pd.DataFrame, found: Sequence[Ratio]) -> Evidence | str:
    """Claim 14: a cache in pages over one in one piece, by one implementation; where none reads both, the fastest."""
    evidence = _ratios(found, ("paging",))
    if isinstance(evidence, Evidence):
        return evidence
    same = ["batch", "context", "heads", "kv_heads", "head_dim", "dtype"]
    paged, plain = (fastest[fastest["op"] == op] for op in ("attention_paged", "attention_decode"))
    both = paged.merge(plain, on=same)
    if both.empty:
        return "no stable decode attention over a cache with and without pages"
    measured, predicted = ((both[f"{name}_x"] / both[f"{name}_y"]).to_numpy() for name in ("time_s", "napkin_s"))
    names = " and ".join(dict.fromkeys((*both["implementation_x"], *both["implementation_y"])))
    said = said_of(measured, predicted, "pair of rows", "pairs of rows")
    return Evidence(
        measured, predicted, f"{said} No implementation here reads both, so these are the fastest: {names}."
    )


def _prices(fastest: pd.DataFrame) -> Evidence | str:
    """Claim 18: whole models and training steps, whose throughput gives the price of a token at any price an hour."""
    wholes = fastest[fastest["op"].isin(["model_forward", "model_decode", "block_train"])]
    if wholes.empty:
        return "no stable row of a whole model or a training step"
    known = wholes["expected_s"].notna()
    predicted = wholes["expected_s"].where(known, wholes["napkin_s"])
    basis = "the expected time" if known.all() else "the bound" if not known.any() else "expected time or bound"
    return Evidence(
        wholes["time_s"].to_numpy(dtype=float),
        predicted.to_numpy(dtype=float),
        f"A token of {len(wholes)} whole passes and training steps costs"
        f" {times(float((wholes['time_s'] / predicted).median()))} what {basis} says (median), at any price an hour.",
    )


def _sums(run: Run) -> Evidence | str:
    """Claim 19: a pass measured whole, over the sum of its kernels."""
    measured: list[float] = []
    summed: list[float] = []
    for each in measured_passes(run):
        whole_s = each.whole_s
        if whole_s is not None and all(row.measured_s and not row.is_unstable for row in each.rows):
            measured.append(whole_s)
            summed.append(each.measured_s)
    if not measured:
        return "no pass whose kernels and whole were measured, all stable"
    ratio = np.array(measured) / np.array(summed)
    return Evidence(
        np.array(measured),
        np.array(summed),
        f"{len(ratio)} {'pass' if len(ratio) == 1 else 'passes'} measured whole: {ends(ratio)} the sum of the kernels.",
    )


def _ratios(found: Sequence[Ratio], rules: tuple[str, ...]) -> Evidence | str:
    """The evidence of rules of thumb: ratios of two rows of one implementation."""
    own = [each for each in found if each.rule in rules]
    if not own:
        return f"no pair of stable rows tells: {', '.join(rules)}"
    measured, predicted = (np.array([getattr(each, name) for each in own]) for name in ("measured", "predicted"))
    return Evidence(measured, predicted, said_of(measured, predicted, "pair of rows", "pairs of rows"))


# Claim -> what finds its evidence in the fastest rows alone.
_FINDERS: Mapping[int, Callable[[pd.DataFrame], Evidence | str]] = MappingProxyType(
    {1: _bounds, 3: forwards, 5: parameters, 7: _regimes, 9: _shared_heads, 18: _prices}
)
