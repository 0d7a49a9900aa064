"""Continuous batching, held against steps counted by hand and against a server simulated step by step."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from predict.errors import BadQuantity
from predict.formulas import continuous


def tokens_per_s_ttft_tpot(batch, prompt, generated, chunk, mixed_s, decode_s):
    mixed = continuous.mixed_steps(batch, prompt, generated, chunk)
    period = continuous.period_s(mixed, mixed_s, continuous.decode_steps(batch, generated, mixed), decode_s)
    ttft = continuous.ttft_s(mixed, mixed_s)
    return generated / period, ttft, continuous.tpot_s(batch, generated, period, ttft)


def test_one_request_reads_its_prompt_and_then_decodes_alone():
    # Two chunks of 3 s, then 9 decode steps of 1 s: 10 tokens in 15 s.
    rate, ttft, tpot = tokens_per_s_ttft_tpot(1, 200, 10, 100, mixed_s=3, decode_s=1)
    assert (rate, ttft, tpot) == pytest.approx((10 / 15, 6, 1))


def test_four_requests_wait_for_each_others_prompts():
    # Of the 9 tokens that a request decodes, 3 fall into the mixed steps of the three others, and 6 into decode steps:
    # it takes 3 + 3 * 3 + 6 * 1 = 18 s, and four such requests make 40 tokens in 18 s.
    rate, ttft, tpot = tokens_per_s_ttft_tpot(4, 100, 10, 100, mixed_s=3, decode_s=1)
    assert (rate, ttft, tpot) == pytest.approx((40 / 18, 3, (3 * 3 + 6) / 9))
    # A quarter of a life: one mixed step, and 6/4 decode steps.
    assert continuous.decode_steps(4, 10, 1.0) == 1.5


def test_as_many_requests_as_tokens_leave_no_step_without_a_prompt():
    # Ten requests of ten tokens: every step one begins and one ends.
    assert continuous.mixed_steps(10, 100, 10, 100) == 1
    assert continuous.decode_steps(10, 10, 1.0) == 0
    # Twenty: every step two begin, so that a life of ten steps has half a mixed step for each of 20.
    assert continuous.mixed_steps(20, 100, 10, 200) == 0.5
    assert continuous.prompts_per_mixed_step(0.5) == 2
    rate, ttft, tpot = tokens_per_s_ttft_tpot(20, 100, 10, 200, mixed_s=3, decode_s=1)
    assert (rate, ttft, tpot) == pytest.approx((20 * 10 / 30, 3, 3))


def test_a_chunk_feeds_a_batch_that_reads_no_more_prompt_than_it_decodes():
    # 50 of 100 prompt tokens a step: a prompt every 2 steps. A request of 2 + 9 steps meets 11/2 prompts: 1 + 9/2.
    assert continuous.largest_batch(100, 10, 50) == 5.5
    # Two prompts a step, lives of ten steps: 20.
    assert continuous.largest_batch(100, 10, 200) == 20
    assert continuous.largest_batch(np.array([100, 100]), 10, np.array([50, 200])).tolist() == [5.5, 20]


def test_what_has_no_steady_state_is_refused():
    with pytest.raises(BadQuantity, match=r"chunk=50 prompt tokens per step keep no batch over 5.5 running"):
        continuous.mixed_steps(6, 100, 10, 50)
    with pytest.raises(BadQuantity, match="generated must be at least 2"):
        continuous.mixed_steps(1, 100, 1, 100)
    with pytest.raises(BadQuantity, match="chunk must be a positive whole number, not 0"):
        continuous.chunks(100, 0)


@given(st.integers(1, 40), st.integers(1, 4), st.integers(2, 40), st.floats(1, 10), st.floats(0.1, 1))
def test_tokens_latency_and_batch_agree_as_little_says(batch, parts, generated, mixed_s, decode_s):
    """A server that makes r tokens a second with B requests of g tokens holds each for B*g/r seconds."""
    chunk = max(1, 120 // parts)
    batch = min(batch, int(continuous.largest_batch(120, generated, chunk)))
    rate, ttft, tpot = tokens_per_s_ttft_tpot(batch, 120, generated, chunk, mixed_s, decode_s)
    assert ttft + (generated - 1) * tpot == pytest.approx(batch * generated / rate)
    assert tpot >= decode_s * (1 - 1e-9)


@pytest.mark.parametrize(
    ("batch", "parts", "generated"), [(1, 1, 2), (1, 3, 7), (2, 2, 9), (4, 1, 13), (4, 3, 13), (7, 2, 13), (13, 1, 13)]
)
def test_a_server_simulated_step_by_step_takes_that_long(batch, parts, generated):
    """Requests begin evenly spread; each reads its prompt in `parts` mixed steps, one prompt at a time."""
    mixed_s, decode_s, prompts = 5.0, 1.0, 200
    waiting, running, done, now, ends = 0, [], 0, 0.0, []
    # Each request joins when the one `batch` before it ends; the first ones are spread over a life.
    starts = [number * generated // batch for number in range(batch)]
    step = 0
    while done < prompts:
        waiting += sum(start == step for start in starts)
        reading = next((each for each in running if each["read"] < parts), None)
        if reading is None and waiting:
            reading = {"read": 0, "made": 0}
            running.append(reading)
            waiting -= 1
        now += mixed_s if reading else decode_s
        for each in list(running):
            if each is reading:
                each["read"] += 1
                each["made"] += each["read"] == parts
            elif each["read"] == parts:
                each["made"] += 1
            if each["made"] == generated:
                running.remove(each)
                ends.append(now)
                done += 1
                waiting += 1
        step += 1
    half = len(ends) // 2
    measured = (ends[-1] - ends[half]) / (len(ends) - 1 - half)
    mixed = continuous.mixed_steps(batch, 100 * parts, generated, 100)
    period = continuous.period_s(mixed, mixed_s, continuous.decode_steps(batch, generated, mixed), decode_s)
    assert measured == pytest.approx(period, rel=0.03)
