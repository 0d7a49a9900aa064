"""What people measure of a whole model, against the passes that it is made of."""

from dataclasses import replace

import pytest

from predict.answers import measured
from predict.answers.asking import ask
from predict.answers.times import decode_times, prefill_times


def question(gpu="h100", **asked):
    return ask("llama-3-8b", {"gpu": gpu, "batch": 16, "seq": 1000, "context": 1100, **asked})


def test_a_token_and_a_first_token_are_their_passes():
    q = question()
    step, prompt = decode_times(q), prefill_times(q, 1)
    assert (measured.tpot_s(q).bound, measured.tpot_s(q).expected) == (step.bound_s, step.expected_s)
    assert (measured.ttft_s(q).bound, measured.ttft_s(q).expected) == (prompt.bound_s, prompt.expected_s)


def test_a_static_batch_reads_its_prompts_and_then_decodes_at_its_mean_context():
    q, found = question(), measured.static_latency_s(question(), 512, 101)
    prompts, step = prefill_times(replace(q, seq=512)), decode_times(replace(q, context=562))
    assert found.bound == pytest.approx(prompts.bound_s + 100 * step.bound_s)
    assert found.expected == pytest.approx(prompts.expected_s + 100 * step.expected_s)
    rate = measured.static_tokens_per_s(q, 512, 101)
    assert rate.bound == pytest.approx(16 * 101 / found.bound)
    assert rate.expected == pytest.approx(16 * 101 / found.expected)


def test_no_server_in_flight_is_over_its_bound():
    for isl, osl, batch in ((128, 128, 600), (128, 2048, 100), (2048, 128, 40), (2000, 2, 8)):
        found = measured.in_flight_tokens_per_s(question(batch=batch), isl, osl)
        assert found.expected < found.bound


def test_where_no_kernel_is_calibrated_the_reason_is_told():
    q = question("mi300x")
    for found in (measured.tpot_s(q), measured.static_latency_s(q, 128, 128), measured.in_flight_tokens_per_s(q, 9, 9)):
        assert found.expected is None
        assert found.reason == "no calibration of matmul in bf16 for mi300x is known"
