"""GPU-hours and dollars of training and serving. Prices are arguments because a table of prices would soon be wrong."""

from predict import checks
from predict.workloads import Number

SECONDS_PER_HOUR = 3600
SECONDS_PER_DAY = 86400


def train_flop(params: Number, tokens: Number, flop_per_param_token: Number = 6) -> Number:
    """FLOP of a training run: 6*params*tokens, 2 for the forward and 4 for the backward pass. Recomputing every
    activation makes the factor 8. Attention scores are not counted. Source: Kaplan et al. 2020, section 2.1; Narayanan
    et al. 2021, eq. 4 for 8."""
    checks.positive(params=params, tokens=tokens, flop_per_param_token=flop_per_param_token)
    return flop_per_param_token * params * tokens


def train_s(flop: Number, gpus: Number, peak_flop_per_s: Number, mfu: Number) -> Number:
    """Time of a training run: flop / (gpus*peak*mfu) seconds."""
    _check_run(flop, peak_flop_per_s, mfu)
    checks.whole(gpus=gpus)
    return flop / (gpus * peak_flop_per_s * mfu)


def gpu_hours(flop: Number, peak_flop_per_s: Number, mfu: Number) -> Number:
    """GPU-hours of a training run: flop / (peak*mfu*3600), for any number of GPUs."""
    _check_run(flop, peak_flop_per_s, mfu)
    return flop / (peak_flop_per_s * mfu * SECONDS_PER_HOUR)


def train_usd(flop: Number, peak_flop_per_s: Number, mfu: Number, usd_per_gpu_hour: Number) -> Number:
    """Price of a training run: flop * price / (3600*peak*mfu) dollars. Source: the napkin-math lesson, section 7; its
    number includes the 3600, its formula does not."""
    return usd_for_gpu_hours(gpu_hours(flop, peak_flop_per_s, mfu), usd_per_gpu_hour)


def usd_for_gpu_hours(gpu_hours: Number, usd_per_gpu_hour: Number) -> Number:
    """Price of GPU-hours: hours * price, in dollars."""
    checks.not_negative(gpu_hours=gpu_hours, usd_per_gpu_hour=usd_per_gpu_hour)
    return gpu_hours * usd_per_gpu_hour


def usd_per_1m_tokens(usd_per_gpu_hour: Number, tokens_per_s: Number, gpus: Number = 1) -> Number:
    """Cost of a million tokens: gpus*price / (3600*tokens_per_s) * 1e6 dollars. The GPUs together make `tokens_per_s`
    all the time. Source: the napkin-math lesson, section 7."""
    checks.not_negative(usd_per_gpu_hour=usd_per_gpu_hour)
    checks.positive(tokens_per_s=tokens_per_s)
    checks.whole(gpus=gpus)
    return gpus * usd_per_gpu_hour / (SECONDS_PER_HOUR * tokens_per_s) * 1e6


def break_even_tokens_per_s(usd_per_gpu_hour: Number, usd_per_1m_tokens: Number, gpus: Number = 1) -> Number:
    """Token rate at which sales pay for the GPUs: gpus*price / (3600*usd_per_1m_tokens) * 1e6 tokens per second."""
    checks.not_negative(usd_per_gpu_hour=usd_per_gpu_hour)
    checks.positive(usd_per_1m_tokens=usd_per_1m_tokens)
    checks.whole(gpus=gpus)
    return gpus * usd_per_gpu_hour / (SECONDS_PER_HOUR * usd_per_1m_tokens) * 1e6


def break_even_utilization(cost_usd_per_1m_tokens: Number, price_usd_per_1m_tokens: Number) -> Number:
    """Share of the time that GPUs must be fully used to pay for themselves: cost / price. The cost is that of tokens
    made on fully used GPUs. Above 1 the GPUs never pay."""
    checks.not_negative(cost_usd_per_1m_tokens=cost_usd_per_1m_tokens)
    checks.positive(price_usd_per_1m_tokens=price_usd_per_1m_tokens)
    return cost_usd_per_1m_tokens / price_usd_per_1m_tokens


def _check_run(flop: Number, peak_flop_per_s: Number, mfu: Number) -> None:
    checks.positive(flop=flop, peak_flop_per_s=peak_flop_per_s)
    checks.efficiency(mfu=mfu)
