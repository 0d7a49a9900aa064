"""GPU-hours and dollars against the lessons' boxes and published runs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from predict.errors import BadQuantity
from predict.formulas import money

H100_FLOP_PER_S = 990e12
LLAMA_3_70B_FLOP = 6.3e24  # napkin-math lesson: 6 * 70e9 * 15e12


def test_six_flop_per_parameter_and_token_is_exact_for_whole_numbers():
    found = money.train_flop(70 * 10**9, 15 * 10**12)
    assert (found, type(found)) == (63 * 10**23, int)


@pytest.mark.parametrize(
    ("params", "tokens", "flop"),
    [
        (174.6e9, 300e9, 3.14e23),  # GPT-3 paper, table D.1
        (405_853_388_800, 15.6e12, 3.8e25),  # Llama 3 paper
    ],
)
def test_train_flop_are_those_that_the_papers_print(params, tokens, flop):
    assert money.train_flop(params, tokens) == pytest.approx(flop, rel=2e-3)


def test_1024_h100_train_llama_3_70b_in_180_days():
    # Napkin-math lesson: 1024*990e12*0.4 = 4.055e17 FLOP/s; 6.3e24 over it 1.554e7 s = 179.8 days.
    time_s = money.train_s(LLAMA_3_70B_FLOP, 1024, H100_FLOP_PER_S, 0.4)
    assert LLAMA_3_70B_FLOP / time_s == pytest.approx(4.055e17, rel=1e-4)
    assert time_s == pytest.approx(1.554e7, rel=1e-3)
    assert time_s / money.SECONDS_PER_DAY == pytest.approx(179.817, rel=1e-4)


@pytest.mark.parametrize(
    ("params", "tokens", "gpus", "rate", "days"),
    [
        # Narayanan et al. 2021, equation 4, every activation recomputed: 8*175e9*300e9 / (1024*140e12) = 33.9 days.
        (175e9, 300e9, 1024, 140e12, 34),
        # 1T parameters, 450e9 tokens, 3072 GPUs at 163 TFLOP/s: 3.6e24 / 5.007e17 = 83.2 days, printed as 84.
        (1e12, 450e9, 3072, 163e12, 84),
    ],
)
def test_recomputing_runs_take_the_days_that_megatron_printed(params, tokens, gpus, rate, days):
    time_s = money.train_s(money.train_flop(params, tokens, flop_per_param_token=8), gpus, rate, 1.0)
    assert time_s / money.SECONDS_PER_DAY == pytest.approx(days, rel=0.012)


def test_llama_3_70b_costs_nine_million_dollars():
    # Napkin-math lesson: 6.3e24 / (990e12*0.4*3600) = 4.42M GPU-hours at $2. At 20 % MFU twice that.
    assert money.gpu_hours(LLAMA_3_70B_FLOP, H100_FLOP_PER_S, 0.4) == pytest.approx(4.42e6, rel=1e-3)
    assert money.train_usd(LLAMA_3_70B_FLOP, H100_FLOP_PER_S, 0.4, 2) == pytest.approx(8_838_383.84, rel=1e-4)
    assert money.train_usd(LLAMA_3_70B_FLOP, H100_FLOP_PER_S, 0.2, 2) == pytest.approx(17.68e6, rel=1e-3)
    # Its 180 days: 1024*24*180*2.
    assert money.usd_for_gpu_hours(1024 * 24 * 180, 2) == 8_847_360


def test_the_lesson_s_formula_lacks_the_seconds_of_an_hour():
    # As printed, 6ND/(peak*MFU) * price = 3.182e10 dollars.
    as_printed = money.train_usd(LLAMA_3_70B_FLOP, H100_FLOP_PER_S, 0.4, 2) * money.SECONDS_PER_HOUR
    assert as_printed == pytest.approx(3.182e10, rel=1e-3)


def test_deepseek_v3_cost_what_its_paper_says():
    # DeepSeek-V3 paper, table 1: 2.788M H800-hours at $2.
    assert money.usd_for_gpu_hours(2_788_000, 2) == 5_576_000


def test_6000_tokens_per_second_cost_nine_cents_a_million():
    # Companion lesson 03b: 2/(6000*3600)*1e6, printed as $0.093.
    assert money.usd_per_1m_tokens(2, 6000) == pytest.approx(0.0925926, rel=1e-5)
    assert money.usd_per_1m_tokens(2, 6000, gpus=8) == pytest.approx(0.740741, rel=1e-5)


def test_tokens_sold_at_a_dollar_pay_a_two_dollar_gpu_at_556_per_second():
    # $2 an hour is 2e6 tokens at $1 the million: 2e6/3600.
    assert money.break_even_tokens_per_s(2, 1) == pytest.approx(555.556, rel=1e-5)
    assert money.break_even_tokens_per_s(2, 1, gpus=8) == pytest.approx(4444.44, rel=1e-5)


def test_tokens_at_a_quarter_of_their_price_pay_at_a_quarter_of_the_load():
    assert money.break_even_utilization(0.1, 0.4) == pytest.approx(0.25)
    assert money.break_even_utilization(0.8, 0.4) == 2  # never


def test_an_hour_and_a_day_have_their_seconds():
    assert (money.SECONDS_PER_HOUR, money.SECONDS_PER_DAY) == (60 * 60, 24 * 60 * 60)


flops = st.floats(1e18, 1e27)
shares = st.floats(0.05, 1)
prices = st.floats(0.01, 100)


@given(flops, st.integers(1, 100_000), shares, prices)
def test_the_bill_does_not_depend_on_the_number_of_gpus(flop, gpus, mfu, price):
    hours = gpus * money.train_s(flop, gpus, H100_FLOP_PER_S, mfu) / money.SECONDS_PER_HOUR
    assert hours == pytest.approx(money.gpu_hours(flop, H100_FLOP_PER_S, mfu))
    assert hours * price == pytest.approx(money.train_usd(flop, H100_FLOP_PER_S, mfu, price))


@given(prices, prices, st.integers(1, 1000))
def test_tokens_made_at_the_break_even_rate_cost_their_price(gpu_price, token_price, gpus):
    rate = money.break_even_tokens_per_s(gpu_price, token_price, gpus)
    assert money.usd_per_1m_tokens(gpu_price, rate, gpus) == pytest.approx(token_price)


@given(prices, prices, st.floats(1, 1e6))
def test_at_the_break_even_load_the_tokens_made_pay_the_gpu(gpu_price, token_price, tokens_per_s):
    share = money.break_even_utilization(money.usd_per_1m_tokens(gpu_price, tokens_per_s), token_price)
    assert share * tokens_per_s == pytest.approx(money.break_even_tokens_per_s(gpu_price, token_price))


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: money.train_flop(0, 1), "params must be positive, not 0"),
        (lambda: money.train_flop(1, -1), "tokens"),
        (lambda: money.train_flop(1, 1, 0), "flop_per_param_token"),
        (lambda: money.train_s(0, 1, 1, 1), "flop must"),
        (lambda: money.train_s(1, 0, 1, 1), "gpus must be a positive whole number"),
        (lambda: money.train_s(1, 1, 0, 1), "peak_flop_per_s"),
        (lambda: money.train_s(1, 1, 1, 0), "mfu must be above 0 and at most 1"),
        (lambda: money.gpu_hours(1, 1, np.array([0.4, 40.0])), "mfu must be above 0 and at most 1, not 40"),
        (lambda: money.gpu_hours(-1, 1, 1), "flop must"),
        (lambda: money.train_usd(1, 1, 1, -2), "usd_per_gpu_hour"),
        (lambda: money.usd_for_gpu_hours(-1, 2), "gpu_hours"),
        (lambda: money.usd_per_1m_tokens(-2, 1), "usd_per_gpu_hour"),
        (lambda: money.usd_per_1m_tokens(2, 0), "tokens_per_s"),
        (lambda: money.usd_per_1m_tokens(2, 1, 0), "gpus"),
        (lambda: money.break_even_tokens_per_s(-2, 1), "usd_per_gpu_hour"),
        (lambda: money.break_even_tokens_per_s(2, 0), "usd_per_1m_tokens"),
        (lambda: money.break_even_tokens_per_s(2, 1, 1.5), "gpus"),
        (lambda: money.break_even_utilization(-1, 1), "cost_usd_per_1m_tokens"),
        (lambda: money.break_even_utilization(1, 0), "price_usd_per_1m_tokens"),
    ],
)
def test_quantities_out_of_range_are_refused_by_name(call, name):
    with pytest.raises(BadQuantity, match=name):
        call()


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (money.train_flop, (70e9, 15e12, 6)),
        (money.train_s, (6.3e24, 1024, 990e12, 0.4)),
        (money.gpu_hours, (6.3e24, 990e12, 0.4)),
        (money.train_usd, (6.3e24, 990e12, 0.4, 2)),
        (money.usd_for_gpu_hours, (2_788_000, 2)),
        (money.usd_per_1m_tokens, (2, 6000, 8)),
        (money.break_even_tokens_per_s, (2, 1, 8)),
        (money.break_even_utilization, (0.1, 0.4)),
    ],
)
def test_arrays_give_what_scalars_give(function, arguments):
    rows = [arguments, tuple(2 * value for value in arguments)]
    swept = function(*(np.array(column, dtype=np.float64) for column in zip(*rows, strict=True)))
    assert swept.tolist() == pytest.approx([function(*row) for row in rows], rel=1e-12)
