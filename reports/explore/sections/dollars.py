"""10. What does it cost: a training, and a million tokens."""

from collections.abc import Iterator

import numpy as np

from predict.answers.lines import Use
from predict.answers.question import Question
from predict.answers.sections.money import serving_money, training_money
from predict.answers.sections.training import training
from predict.formulas import money
from predict.model.passes import training_step
from predict.units import Unit, people_count, percent, show
from reports.explore.answered import Answered, Row, Stops, mark, numbers_of, texts_of
from reports.explore.charts import BOUND, DOLLARS, EXPECTED, SHARE, Axis, Series, curves, log_sizes
from reports.explore.section import Section
from reports.explore.state import State
from reports.explore.steps import Steps, decode_steps, steps_of
from reports.explore.unfit import unfit

TRAINING = ("price", "mfu", "tokens", "train_gpus", "train_batch", "recompute")
SERVING = ("price",)
TRAIN_KEYS = (
    *("train_days", "train_days_expected", "train_gpu_hours", "train_usd"),
    *("train_gpu_hours_expected", "train_usd_expected", "train_mfu_expected"),
)
TOKENS = curves(
    "tokens",
    "A million tokens out, over the batch",
    log_sizes("batch"),
    Axis("$ per 1M tokens", DOLLARS, is_log=True),
    (BOUND, EXPECTED),
)
AT_MFU = Series("training", BOUND.color)
RUN = curves("run", "The training, over the MFU", Axis("MFU", SHARE), Axis("$", DOLLARS), (AT_MFU,))


def answer(state: State) -> Answered:
    """Dollars of the training on its GPUs, and of tokens on the page's."""
    trains, q = state.question(*TRAINING), state.question(*SERVING)
    trained = [*training(trains), *training_money(trains)]
    served = list(serving_money(q))
    numbers = (*numbers_of(trained, TRAIN_KEYS), *numbers_of(served, command=1))
    texts = {each.key: each.text for each in numbers}
    assert trains.mfu is not None  # the control has a default
    assumed = f"at an assumed MFU of {percent(trains.mfu)}"
    says = [*unfit(trains, Use.TRAIN), f"The training costs {texts['train_usd']} {assumed}: {texts['train_days']}."]
    if "train_usd_expected" in texts:
        mfu = texts["train_mfu_expected"]
        says.append(f"Expected are {texts['train_usd_expected']} and {texts['train_days_expected']}, an MFU of {mfu}.")
    if q.serves:
        says += unfit(q, Use.SERVE)
        says.append(f"A million tokens out cost {texts['usd_per_1m_tokens']} at batch {q.batch:,}, at best.")
        steps = steps_of(state.with_texts(batch="1").asked(*SERVING))
    return Answered(
        says=tuple(says),
        commands=(state.command(*TRAINING, option="--train"), state.command(*SERVING)),
        numbers=numbers,
        data={
            "tokens": [*_tokens(q, steps), *_tokens(q, decode_steps(q, [q.batch]))] if q.serves else [],
            "tokens_marks": [mark(q.batch, "this batch", f"batch {q.batch:,}")],
            "run": list(_run(trains)),
            "run_marks": [mark(trains.mfu, "this MFU", percent(trains.mfu))],
        },
        notes=texts_of([*trained, *served]),
        controls={"tokens": Stops(people_count(trains.tokens))},
    )


def _tokens(q: Question, steps: Steps) -> Iterator[Row]:
    for series, times_s in ((BOUND, steps.bound_s), (EXPECTED, steps.expected_s)):
        if times_s is None:
            continue
        tokens_per_s = np.array(steps.batches, dtype=np.float64) / times_s
        usd = np.asarray(money.usd_per_1m_tokens(q.usd_per_gpu_hour, tokens_per_s, q.gpus))
        for batch, cost in zip(steps.batches, usd.tolist(), strict=True):
            says = f"batch {batch:,}, {series.name}: {show(cost, Unit.USD)}"
            yield {"x": batch, "y": cost, "series": series.name, "says": says}


def _run(q: Question) -> Iterator[Row]:
    """The training's price at every MFU."""
    step = training_step(q.model, q.batch, q.seq, mask=q.mask)
    flop = q.tokens / (q.batch * q.seq) * float(step.flop)
    shares = np.arange(1, 21) / 20
    usd = np.asarray(money.train_usd(flop, q.training_flop_per_s, shares, q.usd_per_gpu_hour))
    for share, cost in zip(shares.tolist(), usd.tolist(), strict=True):
        yield {"x": share, "y": cost, "series": AT_MFU.name, "says": f"MFU {percent(share)}: {show(cost, Unit.USD)}"}


COSTS = Section(
    "dollars",
    "What does it cost?",
    "Change the price, the MFU and the tokens of a training. For tokens out the batch decides: it shares the weights'"
    " traffic among more requests.",
    answer,
    controls=TRAINING,
    charts=(TOKENS, RUN),
)
