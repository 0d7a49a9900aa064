"""7. When does guessing pay: tokens of a step, speed-up, best depth, and the batch at which it stops paying."""

from collections.abc import Iterator

import numpy as np

from predict.answers.question import Question
from predict.answers.sections.speculation import LONGEST_DRAFT, speculation, speedup
from predict.formulas import speculation as drafts
from predict.guess_rule import accepted_guesses
from predict.units import Unit, times
from reports.explore.answered import Answered, Formula, Number, Row, bar, mark, numbers_of, texts_of
from reports.explore.charts import BOUND, Axis, Series, bars, curves, log_sizes
from reports.explore.section import Section
from reports.explore.state import State
from reports.palette import BLUE, GREEN, GREY, ORANGE, RED

OWN = ("draft", "accept")
FREE = Series("checking costs one step", BLUE, (6, 3))
DRAFTED = Series("this draft, at this batch", BOUND.color)
ROUNDS_OF_TOKENS = 24
DEPTHS = curves("depths", "Speed-up over tokens drafted", Axis("tokens drafted"), Axis("speed-up"), (FREE, DRAFTED))
BATCHES = curves("gains", "Speed-up of this draft over the batch", log_sizes("batch"), Axis("speed-up"), (DRAFTED,))
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
    found = list(speculation(q))
    gain = (
        f"At {share:.0%} a step that drafts {depth} makes {formulas[0].value:.3g} tokens: {times(formulas[1].value)}."
    )
    pays = f"Best is to draft {best}." if best else "No depth pays: a guess costs more than its chance is worth."
    return Answered(
        says=(gain, pays, *_drafted(q)),
        commands=(*(each.command for each in formulas), *([state.command(*OWN)] if found else [])),
        numbers=(*_numbers(formulas, alpha, k, c), *numbers_of(found, command=len(formulas))),
        data={
            "depths": [*_depths(share, cost), *_drafted_depths(q)],
            "depths_marks": [_mark(depth, "this depth", 0), *([_mark(best, "best", 1)] if best else [])],
            "gains": list(_gains(q, depth)),
            "gains_marks": [_mark(q.batch, "this batch", 0)] if q.draft and q.serves else [],
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


def _drafted(q: Question) -> Iterator[str]:
    if q.draft is None:
        yield "Choose a draft model to see what its steps and its batch do to that."
    elif not q.serves:
        yield f"Cannot serve: {q.unserved}."


def _depths(share: float, cost: float) -> Iterator[Row]:
    depths = np.arange(1.0, LONGEST_DRAFT + 1)
    for depth, gain in zip(depths.tolist(), np.asarray(drafts.speedup(share, depths, cost)).tolist(), strict=True):
        yield {"x": depth, "y": gain, "series": FREE.name, "says": f"{depth:.0f} drafted: {times(gain)}"}


def _drafted_depths(q: Question) -> Iterator[Row]:
    if q.draft is None or not q.serves:
        return
    target = q.replica()
    for depth in range(1, LONGEST_DRAFT + 1):
        gain = float(speedup(q, target, depth, q.batch))
        yield {"x": depth, "y": gain, "series": DRAFTED.name, "says": f"{depth} drafted: {times(gain)}"}


def _gains(q: Question, depth: int) -> Iterator[Row]:
    if q.draft is None or not q.serves:
        return
    batches = np.array([2.0**power for power in range(13)])
    gains = np.broadcast_to(speedup(q, q.replica(), depth, batches), batches.shape)
    for batch, gain in zip(batches.tolist(), gains.tolist(), strict=True):
        yield {"x": batch, "y": gain, "series": DRAFTED.name, "says": f"batch {batch:,.0f}: {times(gain)}"}


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
