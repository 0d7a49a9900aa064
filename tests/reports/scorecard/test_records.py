"""Claims on made-up runs, whose evidence can be worked out by hand. Roofs: 100 TFLOP/s, 1 TB/s."""

import dataclasses

import pytest

from bench.passes import Whole
from predict.peak_memory import peak_bytes
from reports.run.load import Run
from reports.scorecard.card import judge_all, of_run
from reports.scorecard.records import of_records
from tests.factories import make_record, unstable
from tests.reports.run import test_passes as passes

BLOCK = {"heads": 32, "kv_heads": 8, "head_dim": 128, "inner": 14336}
PARAMETERS = 2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14336  # of the block's matrices
TRAINED = {"batch": 1, "seq": 16, **BLOCK}


def record(op, dims, time_s, nbytes=None, **others):
    made = make_record(op, dims, time_s=time_s, **others)
    if nbytes is None:
        return made
    return dataclasses.replace(made, measurement=dataclasses.replace(made.measurement, peak_bytes=nbytes))


def found(*records):
    return of_records(Run(records))


def judged(number, *records):
    (judgment,) = [each for each in judge_all(of_run(Run(records))) if each.claim.number == number]
    return judgment


def test_a_forward_pass_is_held_to_the_rate_of_the_best_matmul():
    # 8192^3 in 20 ms: 2*8192^3 / 0.02 FLOP/s. A slower matmul does not count.
    matmul, slower = (record("matmul", {"m": 8192, "n": 8192, "k": 8192 // part}, 20e-3) for part in (1, 2))
    least_s = 2 * PARAMETERS * 4096 / (2 * 8192**3 / 20e-3)
    prompt = {"batch": 1, "seq": 4096, **BLOCK}
    evidence = found(matmul, slower, record("block_forward", prompt, 1.25 * least_s))[3]
    assert evidence.predicted == pytest.approx([least_s])
    assert evidence.errors == pytest.approx([0.2])  # 1 - 1 / 1.25
    assert "1.25x 2PT" in evidence.sentence
    assert found(record("block_forward", prompt, 1e-2))[3].startswith("no stable whole pass that FLOP bind")


def test_a_parameter_is_held_to_16_bytes_where_activations_are_few():
    few = record("block_train", TRAINED, 1e-2, nbytes=int(20 * PARAMETERS))
    many = record("block_train", {**TRAINED, "seq": 8192}, 1e-2, nbytes=int(50 * PARAMETERS))
    assert found(few, many)[5].measured == pytest.approx([20.0])
    judgment = judged(5, few, many)
    assert (judgment.text, judgment.error) == ("holds within 20.0 %", pytest.approx(0.2))
    assert isinstance(found(many)[5], str)


def test_recomputation_is_held_to_a_third_more_time_and_to_the_tensors_that_are_kept():
    def step(seq, forwards, time_s, nbytes):
        return record("block_train", {**TRAINED, "seq": seq, "layers": 4, "forwards": forwards}, time_s, nbytes)

    gib = 2**30
    kept = [step(16, 1, 1e-2, 10 * gib), step(4096, 1, 1.0, 14 * gib)]
    again = [step(16, 2, 1.1e-2, 10 * gib), step(4096, 2, 1.4, 11 * gib)]
    evidence = found(*kept, *again)[6]
    # Times of both lengths, then what 4080 tokens more add: 1 GiB instead of 4.
    assert evidence.measured == pytest.approx([1.1, 1.4, 0.25])
    assert evidence.predicted[1] == pytest.approx(4 / 3, rel=0.02)  # attention is 18/14
    grown = [peak_bytes(long.workload) - peak_bytes(short.workload) for short, long in (kept, again)]
    assert evidence.predicted[2] == pytest.approx(grown[1] / grown[0])
    assert isinstance(found(*kept)[6], str)


def test_the_knee_of_a_weight_is_where_its_two_lines_meet():
    # 8192 x 8192 in bf16: 2*8192*8192 bytes by 1 TB/s against 2*8192*8192 FLOP a row by 100 TFLOP/s, and the bytes of
    # a row: 100 / (1 - 100*2*2*8192 / (2*8192*8192)) rows.
    ridge = 100 / (1 - 100 * 2 / 8192)
    weight = {"n": 8192, "k": 8192}
    rows = [record("matmul", {"m": m, **weight}, 150e-6) for m in (1, 4, 16)]
    rows += [record("matmul", {"m": m, **weight}, m * 1e-6) for m in (1024, 8192)]
    evidence = found(*rows)[2]
    assert evidence.measured == pytest.approx([150])
    assert evidence.predicted == pytest.approx([ridge])
    assert isinstance(found(*rows[:3])[2], str)


def test_prefill_and_decode_are_held_to_their_roofs():
    heads = {"heads": 32, "kv_heads": 8, "head_dim": 128}
    prompt = record("attention_prefill", {"batch": 1, "seq": 8192, **heads}, 1.0)
    cache = record("attention_decode", {"batch": 64, "context": 8192, **heads}, 1.0)
    prompt, cache = (
        record(each.workload.op, dict(each.workload.dims), float(each.prediction.napkin_s) / share)
        for each, share in ((prompt, 0.5), (cache, 0.8))
    )
    evidence = found(prompt, cache)[7]
    assert evidence.measured == pytest.approx([0.5, 0.8])
    assert "50.0 % of the peak" in evidence.sentence
    assert "80.0 % of the bandwidth" in evidence.sentence
    assert isinstance(found(prompt)[7], str)


def test_shared_heads_are_held_to_the_bytes_that_they_save():
    def decode(kv_heads, time_s, **others):
        dims = {"batch": 64, "context": 8192, "heads": 32, "kv_heads": kv_heads, "head_dim": 128}
        return record("attention_decode", dims, time_s, **others)

    evidence = found(decode(32, 8e-3), decode(8, 2.4e-3), decode(8, 2e-3, implementation="triton"))[9]
    assert evidence.measured == pytest.approx([0.25])  # the faster of two
    assert evidence.predicted == pytest.approx([0.25], rel=1e-3)  # K and V are nearly all
    assert isinstance(found(decode(32, 8e-3), unstable(decode(8, 2e-3)))[9], str)


def test_refilled_slots_are_held_to_the_steps_that_they_save():
    dims = {"slots": 2, "requests": 4, "long": 3, "short": 1, "context": 1024, **BLOCK}
    evidence = found(record("serve_static", dims, 7e-3), record("serve_continuous", dims, 5e-3))[13]
    assert evidence.measured == pytest.approx([1.4])
    # 6 steps against 4: 8 tokens in 12 and in 8 slots.
    assert evidence.predicted == pytest.approx([1.5], rel=0.02)
    assert evidence.sentence.startswith("66.7 % of slots make a token in static batches, 100 % where")


def test_drafting_is_held_to_the_steps_that_it_saves():
    dims = {"context": 1024, "tokens": 8, "layers": 4, **BLOCK}
    drafted = {**dims, "guesses": 3, "accepted": 100}
    evidence = found(record("generate_tokens", dims, 8e-3), record("generate_drafted", drafted, 4e-3))[11]
    assert evidence.measured == pytest.approx([0.5])
    # 2 steps, each of 3 drafts by one of 4 layers and a verification by all: 2 * (3/4 + 1) = 3.5 of 8 passes.
    assert evidence.predicted == pytest.approx([3.5 / 8], rel=0.01)
    assert "3 guesses, 100 % right: 4.00 tokens a step (4.00), 2.00x as fast" in evidence.sentence


def test_pages_are_held_to_a_cache_in_one_piece():
    cache = {"batch": 64, "context": 8192, "heads": 32, "kv_heads": 8, "head_dim": 128}
    plain = [record("attention_decode", cache, 1e-3), record("attention_decode", cache, 0.9e-3, implementation="flash")]
    paged = {**cache, "page": 16}
    assert found(*plain, record("attention_paged", paged, 1.1e-3))[14].measured == pytest.approx([1.1])
    # By no implementation in common: the fastest of each.
    evidence = found(*plain, record("attention_paged", paged, 1.8e-3, implementation="gather"))[14]
    assert evidence.measured == pytest.approx([2.0])
    assert evidence.predicted == pytest.approx([1.0], rel=1e-3)
    assert evidence.sentence.endswith("so these are the fastest: gather and flash.")
    assert isinstance(found(*plain)[14], str)


def test_fewer_bits_are_held_to_the_bytes_that_they_save():
    weight = {"m": 1, "n": 8192, "k": 8192}
    evidence = found(record("matmul", weight, 1e-3), record("matmul_w8a16", weight, 0.6e-3))[16]
    assert evidence.measured == pytest.approx([0.6])
    assert evidence.predicted == pytest.approx([0.5], rel=1e-3)
    assert evidence.sentence == "Times over 16 bits: matmul_w8a16 0.60x (0.50x by the bound)."
    large = {**weight, "m": 8192}  # FLOP bind
    assert isinstance(found(record("matmul", large, 1e-2), record("matmul_w8a16", large, 1e-2))[16], str)


def test_whole_passes_give_the_price_of_a_token_whatever_an_hour_costs():
    model = {"layers": 2, "vocab": 50_000, **BLOCK}
    decode = record("model_decode", {"batch": 8, "context": 1024, **model}, 1.0)
    bound_s = float(decode.prediction.napkin_s)
    evidence = found(record("model_decode", dict(decode.workload.dims), 1.5 * bound_s))[18]
    assert evidence.measured / evidence.predicted == pytest.approx([1.5])
    assert "costs 1.50x what the bound says" in evidence.sentence


def test_a_pass_measured_whole_is_held_to_the_sum_of_its_kernels():
    whole = (Whole("model", 1, passes.LAYER.id, ""),)
    asked = passes.asked(passes.kernel("qkv", passes.QKV, 4), wholes=whole)
    rows = (passes.record(passes.QKV, "torch", 10e-6), passes.record(passes.LAYER, "torch", 50e-6))
    evidence = of_records(Run(rows, passes=(asked,)))[19]
    assert (evidence.predicted, evidence.measured) == (pytest.approx([40e-6]), pytest.approx([50e-6]))
    assert evidence.sentence == "1 pass measured whole: 1.25x the sum of the kernels."
    incomplete = passes.asked(passes.kernel("qkv", passes.QKV, 4), passes.SCAN, wholes=whole)
    assert isinstance(of_records(Run(rows, passes=(incomplete,)))[19], str)


def test_every_claim_of_a_run_has_evidence_or_a_reason():
    judgments = judge_all(of_run(Run((record("matmul", {"m": 16, "n": 8192, "k": 8192}, 1e-3),))))
    assert [each.claim.number for each in judgments] == list(range(1, 20))
    assert all(each.evidence is not None or each.reason for each in judgments)
    assert sum(each.evidence is not None for each in judgments) == 1  # the first
