"""Speculative decoding: the best number of drafted tokens, its speed-up, and where it stops paying."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from predict.answers.arithmetic import number, seconds
from predict.answers.lines import Line, Note, Weight
from predict.answers.question import Question
from predict.answers.sections.decode import LARGEST_BATCH, first_batch
from predict.errors import MissingCeiling
from predict.expected.model_pass import expected_check, expected_decode
from predict.formulas import speculation as drafts
from predict.model.replica import Replica
from predict.units import Unit
from predict.workloads import Count, FloatArray, Number

LONGEST_DRAFT = 16
SPEEDUP = "tokens x step / (k x draft step + check of k+1)"


def speculation(q: Question) -> Iterator[Line | Note]:
    """Speculative decoding: the best number of drafted tokens, the speed-up, and the batch at which it stops paying."""
    if q.draft is None or not q.serves:
        return
    target = q.replica()
    draft = target.beside
    assert draft is not None
    gains = {k: float(speedup(q, target, k, q.batch)) for k in range(1, LONGEST_DRAFT + 1)}
    best = max(gains, key=lambda k: gains[k])
    tokens = float(drafts.expected_tokens(q.acceptance, best))
    step_s = float(target.decode(q.batch, q.context).napkin_s)
    formula = f"the k of 1 to {LONGEST_DRAFT} with the largest speed-up"
    yield Line("speculation_k", "tokens to draft", best, Unit.TOKENS, formula)
    yield Line("speculation_tokens", "tokens of a step", tokens, Unit.TOKENS, "(1 - a^(k+1)) / (1 - a)")
    draft_s = float(draft.decode(q.batch, q.context).napkin_s)
    check_s = float(target.decode(q.batch, q.context, best + 1).napkin_s)
    label, arithmetic = f"speed-up at batch {q.batch:,}", _of_times(tokens, step_s, best, draft_s, check_s)
    yield Line("speculation_speedup", label, gains[best], Unit.TIMES, SPEEDUP, arithmetic)
    arithmetic = f"{seconds(step_s)} / {number(gains[best])}"
    yield Line("speculation_tpot_s", "TPOT", step_s / gains[best], Unit.SECONDS, "TPOT / speed-up", arithmetic)
    yield from _where_it_pays(lambda batch: np.asarray(speedup(q, target, best, batch)) > 1, best)
    yield from _expected(q, target, draft)
    if draft.gpus < target.layout.stage_gpus:
        heads = f"{q.draft.heads} heads of {q.draft.name}"
        yield Note(f"the {heads} are split over {draft.layout.tp} of {target.layout.tp} GPUs that share a layer")


def _expected(q: Question, target: Replica, draft: Replica) -> Iterator[Line | Note]:
    """The same from expected times, where both models have them."""
    try:
        step_s = expected_decode(target, q.batch, q.context).time_s
        draft_s = expected_decode(draft, q.batch, q.context).time_s
        checks = {k: expected_check(target, q.batch, k + 1, q.context).time_s for k in range(1, LONGEST_DRAFT + 1)}
    except MissingCeiling as error:
        yield Note(f"no expected speed-up by speculation: {error}", Weight.ABSENT)
        return
    gains = {k: float(drafts.batch_speedup(q.acceptance, k, step_s, draft_s, check_s)) for k, check_s in checks.items()}
    best = max(gains, key=lambda k: gains[k])
    formula = f"the k of 1 to {LONGEST_DRAFT} with the largest expected speed-up"
    yield Line("speculation_k_expected", "tokens to draft, expected", best, Unit.TOKENS, formula)
    tokens = float(drafts.expected_tokens(q.acceptance, best))
    arithmetic = _of_times(tokens, step_s, best, draft_s, checks[best])
    yield Line("speculation_speedup_expected", "speed-up, expected", gains[best], Unit.TIMES, SPEEDUP, arithmetic)
    arithmetic = f"{seconds(step_s)} / {number(gains[best])}"
    tpot_s = step_s / gains[best]
    yield Line("speculation_tpot_expected_s", "TPOT, expected", tpot_s, Unit.SECONDS, "TPOT / speed-up", arithmetic)


def _of_times(tokens: float, step_s: float, k: int, draft_s: float, check_s: float) -> str:
    """A speed-up with its numbers put in."""
    return f"{number(tokens)} x {seconds(step_s)} / ({k} x {seconds(draft_s)} + {seconds(check_s)})"


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
