"""A log beside the napkin, with numbers worked out by hand for Llama 3 8B on an H100: 3.35 TB/s, 989.4 TFLOP/s."""

import itertools
from dataclasses import replace

import pytest

from predict.errors import BadModel, BadRun, UnknownGpu
from reports.served.asked import ask_about
from reports.served.comparison import Group, compare_log
from reports.served.load import Given
from reports.served.log import ServedLog, Spread

DRAM, FLOPS = 3.35e12, 989.4e12
LAYERS, HIDDEN, MLP, VOCAB, KV = 32, 4096, 14336, 128256, 1024
IN_LAYERS = LAYERS * (2 * HIDDEN * HIDDEN + 2 * HIDDEN * KV + 3 * HIDDEN * MLP)  # elements of matrices
WEIGHTS = 2 * (IN_LAYERS + HIDDEN * VOCAB + (2 * LAYERS + 1) * HIDDEN)  # bytes that a step reads
TOKEN = LAYERS * 2 * KV * 2  # bytes of a cached token
ISL, OSL = 1024, 128
CONTEXT = 1087  # 1024 + 126 / 2
# FLOP of a query that sees so many keys: two products of 2 x 4096 in each layer.
PAIR = 2 * 2 * HIDDEN * LAYERS
PROMPT_FLOP = 2 * IN_LAYERS * ISL + 2 * HIDDEN * VOCAB + PAIR * ISL * (ISL + 1) / 2


def served(**fields):
    """20 requests/s in a closed loop of 64: TTFT 200 ms, TPOT 22 ms, so that 20 x 127 x 0.022 = 55.88 decode."""
    known = {
        "file": "log.json",
        "form": "a tool",
        "model": "meta-llama/Meta-Llama-3-8B-Instruct",
        "requests": 6400,
        "duration_s": 320.0,
        "isl": float(ISL),
        "osl": float(OSL),
        "requests_per_s": 20.0,
        "output_tokens_per_s": 2560.0,
        "total_tokens_per_s": 23_040.0,
        "ttft": Spread(0.2),
        "tpot": Spread(0.022),
        "most_in_flight": 64.0,
    }
    return ServedLog(**{**known, **fields})


def compared(given=None, *, gpu="h100", fields=None, **changed):
    asked = ask_about(served(**changed), given or Given(), None, {"gpu": gpu, **(fields or {})})
    return compare_log(asked.log, asked.load, asked.question, asked.notes)


def least_step_s(decoding, copies=1):
    """Each copy reads the weights, and the caches of its requests, and writes a token of each."""
    return (WEIGHTS + decoding / copies * (CONTEXT + 1) * TOKEN) / DRAM


def test_the_bound_of_tpot_is_a_step_of_the_requests_that_decode():
    found = compared()
    assert found.decoding == pytest.approx(55.88)
    assert found.row("tpot_s").bound == pytest.approx(least_step_s(55.88))
    assert found.row("tpot_s").of_bound == pytest.approx(least_step_s(55.88) / 0.022)


def test_the_bound_of_ttft_is_one_prompt_by_itself():
    assert compared().row("ttft_s").bound == pytest.approx(PROMPT_FLOP / FLOPS)


def test_the_bound_of_the_rate_has_every_flop_of_a_request():
    # With 60 requests in flight FLOP take longer than bytes, so the rate is that of the FLOP of prompt and 127 steps.
    steps = (OSL - 1) * (2 * (IN_LAYERS + HIDDEN * VOCAB) + PAIR * (CONTEXT + 1))
    row = compared().row("tokens_per_s")
    assert row.bound == pytest.approx(OSL * FLOPS / (PROMPT_FLOP + steps))
    assert row.of_bound == pytest.approx(2560 / row.bound)
    both = compared().row("total_tokens_per_s")
    assert both.bound == pytest.approx(row.bound * (ISL + OSL) / OSL)


def test_parts_are_bytes_by_hand_and_add_up_to_the_measured_step():
    found = compared()
    times = {part.key: part.time_s for part in found.parts}
    assert times["weights"] == pytest.approx(WEIGHTS / DRAM)
    assert times["cache"] == pytest.approx(55.88 * (CONTEXT + 1) * TOKEN / DRAM)
    assert sum(times.values()) == pytest.approx(0.022)
    assert sum(part.share for part in found.parts) == pytest.approx(1)
    assert times["rest"] > 0


def test_a_large_rest_is_told_what_it_may_be():
    # 55.88 requests decode in 6.86 ms at the least and 15 ms as expected: 22 ms leave a third, 15.5 ms little.
    said = "not explained may be"
    assert any(said in note for note in compared().notes)
    assert not any(said in note for note in compared(tpot=Spread(0.0155), requests_per_s=20 * 22 / 15.5).notes)


def test_expected_tpot_is_what_the_parts_explain():
    found = compared()
    explained_s = sum(part.time_s for part in found.parts if part.group is not Group.REST)
    assert found.row("tpot_s").expected == pytest.approx(explained_s)


def test_a_gpu_without_calibration_leaves_launches_in_what_is_not_explained():
    found = compared(gpu="mi300x")
    assert [part.key for part in found.parts] == ["weights", "cache", "prompts", "rest"]
    assert [row.expected for row in found.rows] == [None] * 4
    assert any("launches are part of what is not explained" in note for note in found.notes)


def test_prompts_add_the_flop_that_do_not_hide_behind_bytes():
    # MI300X: 5.325 TB/s, 1307.4 TFLOP/s. A step reads 55.88 / 127 prompts, but those of the 59.88 requests in flight
    # that the run begins with were read before, and one of 64 is a request's own.
    found = compared(gpu="mi300x")
    share = (1 - 59.88 / 6400) * (1 - 1 / 64)
    prompts = share * 55.88 / (OSL - 1)
    flop = 55.88 * (2 * (IN_LAYERS + HIDDEN * VOCAB) + PAIR * (CONTEXT + 1)) + prompts * PROMPT_FLOP
    decode_s = (WEIGHTS + 55.88 * (CONTEXT + 1) * TOKEN) / 5.325e12
    times = {part.key: part.time_s for part in found.parts}
    assert times["prompts"] == pytest.approx(flop / 1307.4e12 - decode_s)


def test_one_request_at_a_time_sees_no_other_prompt():
    fields = {"output_tokens_per_s": 128.0, "total_tokens_per_s": 1152.0, "requests_per_s": 1.0}
    alone = compared(most_in_flight=1.0, **fields)
    assert "prompts" not in {part.key for part in alone.parts}
    # 1/s x 2.794 s decode in an open loop: others come while one decodes.
    crowd = compared(most_in_flight=None, asked_per_s=1.0, **fields)
    assert "prompts" in {part.key for part in crowd.parts}


def test_fewer_than_one_request_in_flight_leave_the_server_idle():
    fields = {"requests_per_s": 0.1, "output_tokens_per_s": 12.8, "total_tokens_per_s": 115.2, "asked_per_s": 0.1}
    found = compared(most_in_flight=None, **fields)
    # 0.1/s x (0.2 + 127 x 0.022) s = 0.2994 in flight; a decode step is that of one request.
    assert found.running == pytest.approx(0.2994)
    assert found.row("tpot_s").bound == pytest.approx(least_step_s(1))
    full = compared(Given(concurrency=1.0), most_in_flight=None, **fields).row("tokens_per_s").bound
    assert found.row("tokens_per_s").bound == pytest.approx(0.2994 * full)


def test_copies_of_the_model_share_the_requests():
    fields = {"gpus": "2", "dp": "2"}
    assert compared(fields=fields).row("tpot_s").bound == pytest.approx(least_step_s(55.88, copies=2))


def test_without_tpot_a_step_is_requests_in_flight_over_the_rate_of_their_tokens():
    found = compared(ttft=None, tpot=None, latency=Spread(2.5))
    # 20/s x 2.5 s = 50 in flight; 2560 tokens/s, of which 127 of 128 are decoded.
    assert found.step_s == pytest.approx(50 * 128 / 127 / 2560)
    assert [row.measured for row in found.rows[:2]] == [None, None]
    assert [row.of_bound for row in found.rows[:2]] == [None, None]
    assert any("TTFT and TPOT are not in the file" in note for note in found.notes)


def test_requests_that_memory_does_not_hold_wait():
    # H100: 81,559 MiB less the engine's own; far fewer than 5000 caches of 1087 tokens (0.71 TB).
    found = compared(ttft=None, tpot=None, latency=None, most_in_flight=5000.0)
    held = 81_559 * 2**20 - WEIGHTS
    assert found.running < held / (CONTEXT * TOKEN)
    assert any("the others wait" in note for note in found.notes)
    unknown = compared(ttft=None, tpot=None, most_in_flight=None)
    assert unknown.running == found.running
    assert any("--concurrency gives them" in note for note in unknown.notes)


def test_requests_that_did_decode_count_even_if_memory_should_not_hold_them():
    # 200/s x 127 x 0.1 s = 2540 decoding.
    found = compared(requests_per_s=200.0, output_tokens_per_s=25_600.0, tpot=Spread(0.1))
    assert found.running == found.decoding == pytest.approx(2540)


def test_speculation_makes_a_step_of_several_tpot():
    found = compared(Given(tokens_per_step=2.5))
    assert found.step_s == pytest.approx(2.5 * 0.022)
    assert found.row("tpot_s").bound == pytest.approx(least_step_s(55.88) / 2.5)
    assert sum(part.time_s for part in found.parts) == pytest.approx(0.055)


def test_a_time_under_its_bound_is_an_alarm_and_has_no_parts():
    # 55.88 / (127 x 0.004) = 110 requests/s decode at 4 ms, but weights and caches take 6.9 ms.
    found = compared(tpot=Spread(0.004), requests_per_s=110.0)
    assert found.row("tpot_s").is_beaten
    assert found.parts == ()
    assert compared().beaten == ()


def test_a_step_that_is_faster_than_expected_has_a_negative_rest():
    found = compared(tpot=Spread(0.012), requests_per_s=20 * 22 / 12)
    rest = found.parts[-1]
    assert (rest.label, rest.time_s < 0) == ("faster than expected", True)
    assert sum(part.time_s for part in found.parts) == pytest.approx(0.012)


def test_formats_that_engines_name_are_counted():
    fields = {"weights": "FP8", "kv": "FP8"}
    found = compared(**fields)
    assert found.question.weights_name == found.question.kv_dtype.name == found.question.compute_dtype.name == "fp8"
    assert any("weights are fp8, because the log says FP8" in note for note in found.notes)
    asked = compared(fields={"weights": "bf16", "kv": "bf16"}, **fields)
    assert asked.question.weights_name == asked.question.kv_dtype.name == "bf16"
    only = compared(weights="W8A16").question
    assert (only.weights_name, only.compute_dtype.name) == ("int8", "bf16")
    assert any("format 'Q9' is not known here" in note for note in compared(weights="Q9").notes)


def test_a_format_in_the_name_is_told_but_not_taken():
    found = compared(model="nvidia/Llama-3.1-8B-Instruct-FP8")
    assert found.question.weights_name == "bf16"
    assert any("its name says fp8, and weights count as bf16" in note for note in found.notes)


def test_machine_and_model_come_from_the_log_where_nobody_asks():
    log = served(gpu="NVIDIA H100 80GB HBM3", gpus=2)
    asked = ask_about(log, Given(), None, {})
    assert (asked.question.model.name, asked.question.gpu.name, asked.question.gpus) == ("llama-3-8b", "h100-sxm", 2)
    assert any("2 GPUs, because the log says so" in note for note in asked.notes)


@pytest.mark.parametrize(
    ("changed", "model", "fields", "error", "message"),
    [
        ({}, "llama-3-70b", {"gpu": "h100"}, BadModel, "another model than --model llama-3-70b"),
        ({"model": None}, None, {"gpu": "h100"}, BadModel, "does not name its model: give --model"),
        ({"model": "prod"}, None, {"gpu": "h100"}, BadModel, "calls its model 'prod', which is no preset"),
        ({}, None, {}, UnknownGpu, "does not name its GPU: give --gpu"),
        ({"gpu": "Voodoo 2"}, None, {}, UnknownGpu, "was measured on 'Voodoo 2', which is not in the table"),
        ({"gpu": "NVIDIA H200"}, None, {"gpu": "h100"}, BadRun, "NVIDIA H200, which is h200-sxm, not h100-sxm"),
        ({"gpus": 8}, None, {"gpu": "h100", "gpus": "4"}, BadRun, "ran on 8 GPUs, not on 4: say --gpus 8"),
        ({"gpus": 8}, None, {"gpu": "h100", "tp": "2"}, BadRun, "ran on 8 GPUs, not on 2"),
    ],
)
def test_a_log_that_contradicts_what_is_asked_is_refused(changed, model, fields, error, message):
    with pytest.raises(error, match=message):
        ask_about(served(**changed), Given(), model, fields)


def test_a_prefix_that_is_cached_is_not_read_again():
    whole, cached = compared().row("ttft_s"), compared(Given(prefix=512)).row("ttft_s")
    new = 512
    flop = 2 * IN_LAYERS * new + 2 * HIDDEN * VOCAB + PAIR * (ISL * (ISL + 1) - new * (new + 1)) / 2
    assert cached.bound == pytest.approx(flop / FLOPS)
    assert cached.bound < cached.expected < whole.expected


def test_more_requests_never_lower_the_bound_of_the_rate():
    asked = ask_about(served(tpot=None, ttft=None), Given(concurrency=1.0), None, {"gpu": "h100"})
    bounds = []
    for in_flight in (0.5, 1, 1.5, 7, 64, 300):
        load = replace(asked.load, in_flight=float(in_flight))
        bounds.append(compare_log(asked.log, load, asked.question).row("tokens_per_s").bound)
    assert all(low <= high for low, high in itertools.pairwise(bounds))


def test_a_token_goes_through_all_stages_of_a_pipeline_with_its_part_of_the_batch():
    # 55 or 56 requests are two parts of up to 28, and a part reads each half of the weights once.
    found = compared(fields={"gpus": "2", "pp": "2"})
    assert found.row("tpot_s").bound == pytest.approx((WEIGHTS + 28 * (CONTEXT + 1) * TOKEN) / DRAM)
    assert any("pipelines are not calibrated" in note for note in found.notes)
