"""Money: training, generated tokens and prompt tokens in dollars."""

from collections.abc import Iterator

from predict.answers.lines import Line, Note, Unit
from predict.answers.question import Question
from predict.answers.sections.training import train_days
from predict.formulas import money


def training_money(q: Question) -> Iterator[Line | Note]:
    """Cost of the training."""
    hours = train_days(q) * 24 * q.gpus
    arithmetic = f"{hours:,.0f} x {q.usd_per_gpu_hour:g}"
    yield Line("train_gpu_hours", "training", hours, Unit.GPU_HOURS, "GPUs x days x 24")
    yield Line("train_usd", "training", hours * q.usd_per_gpu_hour, Unit.USD, "GPU-hours x price", arithmetic)


def serving_money(q: Question) -> Iterator[Line | Note]:
    """Cost of generated and of prompt tokens, and the break-even."""
    if not q.serves:
        return
    replica = q.replica()
    rate = q.batch / float(replica.decode(q.batch, q.context).napkin_s)
    prompts = q.batch * q.seq / float(replica.time(q.forward(), q.batch * q.seq).napkin_s)
    cost = float(money.usd_per_1m_tokens(q.usd_per_gpu_hour, rate, q.gpus))
    formula = "GPUs x price / (tokens/s x 3600) x 1e6"
    arithmetic = f"{q.gpus} x {q.usd_per_gpu_hour:g} / ({rate:,.1f} x 3600) x 1e6"
    yield Line("usd_per_1m_tokens", "1M tokens out", cost, Unit.USD, formula, arithmetic)
    cost_in = float(money.usd_per_1m_tokens(q.usd_per_gpu_hour, prompts, q.gpus))
    arithmetic = f"{prompts:,.1f} tokens/s"
    yield Line(
        "usd_per_1m_prompt_tokens", "1M tokens in", cost_in, Unit.USD, "the same with prefill's rate", arithmetic
    )
    if (price := q.token_price_usd_per_1m) is not None:
        pays = float(money.break_even_tokens_per_s(q.usd_per_gpu_hour, price, q.gpus))
        formula = f"GPUs x price / ${price:g} per 1M tokens out"
        yield Line("break_even_tokens_per_s", "pays from", pays, Unit.TOKENS_PER_S, formula)
        busy = float(money.break_even_utilization(cost, price))
        yield Line("break_even_utilization", "busy at least", busy, Unit.SHARE, "cost / price; above 100 %: never pays")
