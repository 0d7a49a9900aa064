"""Speculative decoding: the best number of drafted tokens, its speed-up, and where it stops paying."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from predict.answers.arithmetic import number, seconds
from predict.answers.lines import Line, Note, Weight
from predict.answers.question import Question
from predict.answers.sections.decode import LARGEST_BATCH, first_batch
from predict.answers.times import check_times, decode_times, draft_times
from predict.formulas import speculation as drafts
from predict.model.replica import Replica
from predict.units import Unit
from predict.workloads import Count, FloatArray, Number

LONGEST_DRAFT = 16
SPEEDUP = "tokens x step / (k x draft step + check of k+1)"


@dataclass(frozen=True, slots=True)
class Drafted:
    """Times in seconds of what drafting is made of, at the question's batch: the bounds, or the expected times."""

    acceptance: float
    step_s: float  # of the target model, without drafting
    draft_s: float  # of the draft model
    checks_s: Mapping[int, float]  # of the target model, by the tokens that were drafted

    def gain(self, k: int) -> float:
        """The speed-up of drafting k tokens."""
        return float(drafts.batch_speedup(self.acceptance, k, self.step_s, self.draft_s, self.checks_s[k]))

    @property
    def best(self) -> int:
        """The k with the largest speed-up; the smallest of equals."""
        return max(self.checks_s, key=self.gain)

    @property
    def arithmetic(self) -> str:
        """The best speed-up with its numbers put in."""
        tokens = float(drafts.expected_tokens(self.acceptance, self.best))
        spent = f"{self.best} x {seconds(self.draft_s)} + {seconds(self.checks_s[self.best])}"
        return f"{number(tokens)} x {seconds(self.step_s)} / ({spent})"


def drafted(q: Question) -> tuple[Drafted, Drafted | None] | None:
    """By bounds and by expected times, where all parts have them; None without a draft model or a replica."""
    if q.draft is None or not q.serves:
        return None
    step, draft = decode_times(q), draft_times(q)
    checks = {k: check_times(q, k) for k in range(1, LONGEST_DRAFT + 1)}
    bound = Drafted(q.acceptance, step.bound_s, draft.bound_s, {k: each.bound_s for k, each in checks.items()})
    expected = {k: each.expected_s for k, each in checks.items() if each.expected_s is not None}
    if step.expected_s is None or draft.expected_s is None or len(expected) < len(checks):
        return bound, None
    return bound, Drafted(q.acceptance, step.expected_s, draft.expected_s, expected)


def speculation(q: Question) -> Iterator[Line | Note]:
    """Speculative decoding: the best number of drafted tokens, the speed-up, and the batch at which it stops paying."""
    if (found := drafted(q)) is None:
        return
    bound, expected = found
    target, draft, best = q.replica(), draft_times(q).replica, bound.best
    formula = f"the k of 1 to {LONGEST_DRAFT} with the largest speed-up"
    yield Line("speculation_k", "tokens to draft", best, Unit.TOKENS, formula)
    tokens = float(drafts.expected_tokens(q.acceptance, best))
    yield Line("speculation_tokens", "tokens of a step", tokens, Unit.TOKENS, "(1 - a^(k+1)) / (1 - a)")
    label = f"speed-up at batch {q.batch:,}"
    yield Line("speculation_speedup", label, bound.gain(best), Unit.TIMES, SPEEDUP, bound.arithmetic)
    yield _tpot("speculation_tpot_s", "TPOT", bound)
    yield from _where_it_pays(lambda batch: np.asarray(speedup(q, target, best, batch)) > 1, best)
    yield from _expected(q, expected)
    if draft.gpus < target.layout.stage_gpus:
        heads = f"{draft.model.heads} heads of {draft.model.name}"
        yield Note(f"the {heads} are split over {draft.layout.tp} of {target.layout.tp} GPUs that share a layer")


def _expected(q: Question, found: Drafted | None) -> Iterator[Line | Note]:
    """The same from expected times, where both models have them."""
    if found is None:
        parts = (decode_times(q), draft_times(q), check_times(q, LONGEST_DRAFT))
        reason = next(each.reason for each in parts if each.reason)
        yield Note(f"no expected speed-up by speculation: {reason}", Weight.ABSENT)
        return
    formula = f"the k of 1 to {LONGEST_DRAFT} with the largest expected speed-up"
    yield Line("speculation_k_expected", "tokens to draft, expected", found.best, Unit.TOKENS, formula)
    gain = found.gain(found.best)
    yield Line("speculation_speedup_expected", "speed-up, expected", gain, Unit.TIMES, SPEEDUP, found.arithmetic)
    yield _tpot("speculation_tpot_expected_s", "TPOT, expected", found)


def _tpot(key: str, label: str, found: Drafted) -> Line:
    gain = found.gain(found.best)
    arithmetic = f"{seconds(found.step_s)} / {number(gain)}"
    return Line(key, label, found.step_s / gain, Unit.SECONDS, "TPOT / speed-up", arithmetic)


def _where_it_pays(pays: Callable[[FloatArray], NDArray[np.bool_]], k: int) -> Iterator[Line | Note]:
    """From the first batch that pays to the first larger one that does not. A mixture need not pay at a small batch,
    where tokens to check read experts that no other token chose."""
    starts, formula = first_batch(pays), f"speed-up 1 with k = {k}"
    if starts is None:
        yield Note(f"speculation pays at no batch up to {LARGEST_BATCH:,} with k = {k}")
        return
    if starts > 1:
        yield Line("speculation_starts_at_batch", "pays from", starts, Unit.REQUESTS, formula)
    stops = first_batch(lambda batch: (batch > starts) & ~pays(batch))
    if stops is not None:
        yield Line("speculation_stops_at_batch", "stops paying at", stops, Unit.REQUESTS, formula)
    elif starts == 1:
        yield Note(f"speculation pays at every batch up to {LARGEST_BATCH:,} with k = {k}")


def speedup(q: Question, target: Replica, k: int, batch: Count) -> Number:
    """Speed-up of drafting k tokens with the draft beside `target`. Both models hold the same context; the target
    checks k + 1 tokens per request."""
    draft = target.beside
    assert draft is not None
    target_s = target.decode(batch, q.context).napkin_s
    draft_s = draft.decode(batch, q.context).napkin_s
    check_s = target.decode(batch, q.context, k + 1).napkin_s
    return drafts.batch_speedup(q.acceptance, k, target_s, draft_s, check_s)
