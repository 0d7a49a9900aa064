"""Money: training, generated tokens and prompt tokens in dollars."""

from collections.abc import Iterator

from predict.answers.arithmetic import product
from predict.answers.lines import Line, Note
from predict.answers.question import Question
from predict.answers.sections.training import days, expected_step_s, train_days
from predict.answers.times import decode_times, prefill_times
from predict.formulas import money
from predict.units import Unit


def training_money(q: Question) -> Iterator[Line | Note]:
    """Cost of the training."""
    step_s = expected_step_s(q)
    yield from _of_days(q, train_days(q), "training", "")
    if step_s is not None:
        yield from _of_days(q, days(q, step_s), "training, expected", "_expected")


def _of_days(q: Question, of_days: float, label: str, suffix: str) -> Iterator[Line]:
    """GPU-hours and dollars of a training of so many days."""
    hours = of_days * 24 * q.gpus
    arithmetic = product(q.gpus, of_days, 24)
    yield Line(f"train_gpu_hours{suffix}", label, hours, Unit.GPU_HOURS, "GPUs x days x 24", arithmetic)
    usd, arithmetic = hours * q.usd_per_gpu_hour, product(hours, q.usd_per_gpu_hour)
    yield Line(f"train_usd{suffix}", label, usd, Unit.USD, "GPU-hours x price", arithmetic)


def serving_money(q: Question) -> Iterator[Line | Note]:
    """Cost of generated and of prompt tokens, and the break-even."""
    if not q.serves:
        return
    lines: list[Line] = []
    for key, label, tokens, times, how in (
        ("usd_per_1m_tokens", "1M tokens out", q.batch, decode_times(q), "GPUs x price / (tokens/s x 3600) x 1e6"),
        ("usd_per_1m_prompt_tokens", "1M tokens in", q.batch * q.seq, prefill_times(q), "the same at prefill's rate"),
    ):
        lines.append(_price(q, key, label, tokens / times.bound_s, how))
        if times.expected_s is not None:
            formula = "the same at the expected rate"
            lines.append(_price(q, f"{key}_expected", f"{label}, expected", tokens / times.expected_s, formula))
    yield from lines
    cost = float(lines[0].value)
    if (price := q.token_price_usd_per_1m) is not None:
        pays = float(money.break_even_tokens_per_s(q.usd_per_gpu_hour, price, q.gpus))
        formula = f"GPUs x price / ${price:g} per 1M tokens out"
        yield Line("break_even_tokens_per_s", "pays from", pays, Unit.TOKENS_PER_S, formula)
        busy = float(money.break_even_utilization(cost, price))
        yield Line("break_even_utilization", "busy at least", busy, Unit.SHARE, "cost / price; above 100 %: never pays")


def _price(q: Question, key: str, label: str, tokens_per_s: float, formula: str) -> Line:
    """The price of a million tokens at a rate."""
    usd = float(money.usd_per_1m_tokens(q.usd_per_gpu_hour, tokens_per_s, q.gpus))
    arithmetic = f"{product(q.gpus, q.usd_per_gpu_hour)} / ({product(tokens_per_s, 3600)}) x 1,000,000"
    return Line(key, label, usd, Unit.USD, formula, arithmetic)
