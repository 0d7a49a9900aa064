"""What people measure of a whole model, against the passes that it is made of."""

from dataclasses import replace

import pytest

from predict.answers import measured
from predict.answers.asking import ask
from predict.answers.times import decode_times, prefill_times
from predict.expected.server import expected_full_load_s
from predict.expected.whole_model import REQUEST_S, REREAD, SERVED_S, SUSTAINED, TOKEN_S
from predict.model.kinds import KernelKind
from predict.model.server import Request


def question(gpu="h100", **asked):
    return ask("llama-3-8b", {"gpu": gpu, "batch": 16, "seq": 1000, "context": 1100, **asked})


def test_a_token_and_a_first_token_are_their_passes_and_the_hosts_part():
    q = question()
    step, prompt = decode_times(q), prefill_times(q, 1)
    assert (measured.tpot_s(q).bound, measured.tpot_s(q).expected) == (step.bound_s, step.expected_s)
    assert measured.ttft_s(q).bound == prompt.bound_s
    assert measured.ttft_s(q).expected == pytest.approx(prompt.expected_s + REQUEST_S)
    # Through a server kernels keep a share of their rates, and every request costs its process time.
    served = measured.tpot_s(q, served=True).expected
    assert served == pytest.approx(step.expected_s / SUSTAINED + 16 * TOKEN_S)
    served = measured.ttft_s(q, served=True).expected
    assert served == pytest.approx(prompt.expected_s / SUSTAINED + REQUEST_S + SERVED_S)


def test_a_static_batch_reads_its_prompts_and_then_decodes_at_its_mean_context():
    q, found = question(), measured.static_latency_s(question(), 512, 101)
    prompts, step = prefill_times(replace(q, seq=512)), decode_times(replace(q, context=562))
    assert found.bound == pytest.approx(prompts.bound_s + 100 * step.bound_s)
    # Four query heads share a KV head: engines of 2023 read the cache again for some of the other three.
    scores_s = step.expected.times[KernelKind.SCORES]
    assert found.expected == pytest.approx(prompts.expected_s + 100 * (step.expected_s + REREAD * 3 * scores_s))
    rate = measured.static_tokens_per_s(q, 512, 101)
    assert rate.bound == pytest.approx(16 * 101 / found.bound)
    assert rate.expected == pytest.approx(16 * 101 / found.expected)


def test_no_server_in_flight_is_over_its_bound():
    for isl, osl, batch in ((128, 128, 600), (128, 2048, 100), (2048, 128, 40), (2000, 2, 8)):
        found = measured.in_flight_tokens_per_s(question(batch=batch), isl, osl)
        assert found.expected < found.bound


def test_a_server_in_flight_runs_what_memory_holds_at_full_length():
    q = question(batch=10**5)
    running = int(q.replicas[0].max_batch(2048 + 1024))
    step_s = expected_full_load_s(q.replicas[0], Request(q.model, 2048, 1024, 2048), running)
    found = measured.in_flight_tokens_per_s(q, 2048, 1024).expected
    assert found == pytest.approx(running / step_s * 1024 / 1023)


def test_where_no_kernel_is_calibrated_the_reason_is_told():
    q = question("mi300x")
    for found in (measured.tpot_s(q), measured.static_latency_s(q, 128, 128), measured.in_flight_tokens_per_s(q, 9, 9)):
        assert found.expected is None
        assert found.reason == "no calibration of matmul in bf16 for mi300x is known"
