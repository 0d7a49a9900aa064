"""7. When does guessing pay: tokens of a step, speed-up, best depth, and the batch at which it stops paying."""

from collections.abc import Iterator

import numpy as np

from predict.answers.question import Question
from predict.answers.sections.speculation import LONGEST_DRAFT, Drafted, drafted, speculation, speedup
from predict.formulas import speculation as drafts
from predict.guess_rule import accepted_guesses
from predict.units import Unit, times
from reports.explore.answered import Answered, Formula, Number, Row, bar, mark, numbers_of, texts_of
from reports.explore.charts import BOUND, EXPECTED, Axis, Series, bars, curves, log_sizes
from reports.explore.section import Section
from reports.explore.state import State
from reports.palette import GREEN, GREY, ORANGE, PINK, RED

OWN = ("draft", "accept")
FREE = Series("checking costs one step", PINK, (6, 3))
DRAFTED = Series("this draft, bound", BOUND.color)
WITH_EXPECTED = Series("this draft, expected", EXPECTED.color, EXPECTED.dash)
OVER_BATCH = Series("bound, at this depth", BOUND.color)
ROUNDS_OF_TOKENS = 24
DEPTHS = curves(
    "depths", "Speed-up over tokens drafted", Axis("tokens drafted"), Axis("speed-up"), (FREE, DRAFTED, WITH_EXPECTED)
)
BATCHES = curves("gains", "Speed-up of this draft over the batch", log_sizes("batch"), Axis("speed-up"), (OVER_BATCH,))
ROUNDS = bars(
    "rounds",
    "Guesses kept, step by step, at this acceptance",
    Axis("tokens of a step"),
    ("kept", "rejected", "not read", "the target's own"),
    (GREEN, RED, GREY, ORANGE),
)


def answer(state: State) -> Answered:
    """The formula's answer for a draft of any cost, and that of a draft model if one is chosen."""
    share, cost = state.share("accept"), state.share("cost")
    depth = state.size("depth", 1, 64)
    alpha, c, k = f"{share:g}", f"{cost:g}", str(depth)
    best = drafts.best_k(share, cost, LONGEST_DRAFT)
    formulas = (
        Formula("speculation.expected_tokens", {"alpha": alpha, "k": k}),
        Formula("speculation.speedup", {"alpha": alpha, "k": k, "c": c}),
        Formula("speculation.best_k", {"alpha": alpha, "c": c, "limit": str(LONGEST_DRAFT)}),
    )
    q = state.question(*OWN)
    found, both = list(speculation(q)), drafted(q)
    bound, expected = both or (None, None)
    any_draft = f"A draft whose step costs {cost:.0%}, right {share:.0%} of the time"
    gain = f"drafting {depth} makes {formulas[0].value:.3g} tokens a step, {times(formulas[1].value)} as fast"
    pays = f"best is to draft {best}" if best else "no depth pays: a guess costs more than its chance is worth"
    return Answered(
        says=(
            *_drafted(q, bound, expected),
            f"{any_draft}: {gain}; {pays}.",
        ),
        commands=(*(each.command for each in formulas), *([state.command(*OWN)] if found else [])),
        numbers=(
            *_numbers(formulas, alpha, k, c),
            *numbers_of(found, command=len(formulas), group=f"Draft model {q.draft.name}" if q.draft else ""),
        ),
        data={
            "depths": [*_depths(share, cost), *_depths_of(bound, DRAFTED), *_depths_of(expected, WITH_EXPECTED)],
            "depths_marks": [_mark(depth, "this depth", 0), *_best_marks(best, bound)],
            "gains": list(_gains(q, depth)),
            "gains_marks": [_mark(q.batch, "this batch", 0)] if bound else [],
            "rounds": list(_rounds(depth, round(share * 100))),
        },
        notes=texts_of(found),
    )


def _numbers(formulas: tuple[Formula, Formula, Formula], alpha: str, k: str, c: str) -> Iterator[Number]:
    tokens, speed, best = formulas
    arithmetic = f"(1 - {alpha}^({k}+1)) / (1 - {alpha})" if float(alpha) < 1 else f"{k} + 1: every guess is right"
    yield tokens.number("tokens of a step", Unit.TOKENS, "(1 - a^(k+1)) / (1 - a)", arithmetic, 0)
    yield speed.number("speed-up", Unit.TIMES, "tokens / (k c + 1)", f"{tokens.value:.6g} / ({k} x {c} + 1)", 1)
    yield best.number("best depth", Unit.TOKENS, "the k with the largest speed-up; 0: none pays", "", 2)


def _drafted(q: Question, bound: Drafted | None, expected: Drafted | None) -> Iterator[str]:
    """What the draft model brings."""
    if q.draft is None:
        yield "Choose a draft model to see what its steps and its batch do."
    elif bound is None:
        yield f"Cannot serve: {q.unserved}."
    else:
        told = (
            f"With {q.draft.name} at batch {q.batch:,}, best is to draft {bound.best}: {times(bound.gain(bound.best))}"
        )
        more = f"; expected {expected.best}: {times(expected.gain(expected.best))}" if expected else ""
        yield f"{told} by the bounds{more}."


def _depths(share: float, cost: float) -> Iterator[Row]:
    depths = np.arange(1.0, LONGEST_DRAFT + 1)
    for depth, gain in zip(depths.tolist(), np.asarray(drafts.speedup(share, depths, cost)).tolist(), strict=True):
        yield {"x": depth, "y": gain, "series": FREE.name, "says": f"{depth:.0f} drafted: {times(gain)}"}


def _depths_of(found: Drafted | None, series: Series) -> Iterator[Row]:
    if found is None:
        return
    for depth in found.checks_s:
        gain = found.gain(depth)
        yield {"x": depth, "y": gain, "series": series.name, "says": f"{depth} drafted, {series.name}: {times(gain)}"}


def _best_marks(best: int, bound: Drafted | None) -> Iterator[Row]:
    """The best depth of the draft model, if there is one; else that of the formula."""
    if bound is not None:
        yield _mark(bound.best, "best with this draft", 1)
    elif best:
        yield _mark(best, "best", 1)


def _gains(q: Question, depth: int) -> Iterator[Row]:
    """Over the batch, at this depth."""
    if q.draft is None or not q.serves:
        return
    batches = np.array([2.0**power for power in range(13)])
    gains = np.broadcast_to(speedup(q, q.replica(), depth, batches), batches.shape)
    for batch, gain in zip(batches.tolist(), gains.tolist(), strict=True):
        yield {"x": batch, "y": gain, "series": OVER_BATCH.name, "says": f"batch {batch:,.0f}: {times(gain)}"}


def _mark(x: int, label: str, place: int) -> Row:
    return mark(x, label, f"{label}: {x:,}", place)


def _rounds(depth: int, percent: int) -> Iterator[Row]:
    """Steps that make `ROUNDS_OF_TOKENS` tokens: guesses up to the first wrong one are kept, then comes one token of
    the target's own."""
    for step, kept in enumerate(accepted_guesses(ROUNDS_OF_TOKENS, depth, percent), start=1):
        row = f"step {step}: {kept + 1} token{'s' if kept else ''}"
        for guess in range(depth):
            group = "kept" if guess < kept else "rejected" if guess == kept else "not read"
            text = {"kept": "✓", "rejected": "✗", "not read": "·"}[group]
            says = f"guess {guess + 1} of step {step}: {group}"
            yield bar(row, (guess, guess + 1), group, text, says)
        says = f"step {step}: the target model adds one token"
        yield bar(row, (depth, depth + 1), "the target's own", "+1", says)


SPECULATION = Section(
    "speculation",
    "When does guessing pay?",
    "Change how often a guess is right, how many are made, and what a guess costs. Choose a draft model to let the"
    " roofs say what it costs.",
    answer,
    controls=("accept", "depth", "cost", "draft"),
    charts=(DEPTHS, BATCHES, ROUNDS),
)
