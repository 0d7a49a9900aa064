"""Rules of thumb on made-up runs whose ratios can be worked out by hand."""

import dataclasses

import pytest

from bench.record import RoofSet, Status
from predict.gpus import GPUS
from predict.workloads import OPS
from reports.report import page
from reports.run.frame import to_frame
from reports.run.load import Run
from reports.run.rules import RULES, broken_table, ratios, rule_table
from reports.run.terminal import run_page
from tests.factories import MEASURED, make_record, unstable

ROOFS = RoofSet(GPUS["h200-sxm"].roofs, MEASURED)
HEADS = {"heads": 32, "kv_heads": 8, "head_dim": 128}
CACHE = {"batch": 64, "context": 8192, **HEADS}
PROMPT = {"batch": 1, "seq": 4096, **HEADS}
LINEAR = {"m": 8192, "n": 8192, "k": 8192}


def record(op, dims, time_s, implementation="triton", peak_bytes=None, **others):
    made = make_record(op, dims, implementation=implementation, time_s=time_s, roofs=ROOFS, **others)
    if peak_bytes is None:
        return made
    return dataclasses.replace(made, measurement=dataclasses.replace(made.measurement, peak_bytes=peak_bytes))


def found(*records):
    return ratios(to_frame(records), ROOFS.primary)


def test_two_products_for_one():
    (ratio,) = found(record("matmul", LINEAR, 1e-3), record("linear_backward", LINEAR, 2.1e-3))
    assert ratio.rule == "linear backward"
    assert ratio.measured == pytest.approx(2.1)
    assert ratio.predicted == pytest.approx(2.0)  # FLOP decides at this size
    assert ratio.off == pytest.approx(0.05)
    assert ratio.holds
    (broken,) = found(record("matmul", LINEAR, 1e-3), record("linear_backward", LINEAR, 2.3e-3))
    assert not broken.holds


def test_a_ratio_of_an_unstable_row_does_not_count():
    small = {**LINEAR, "m": 4096}
    pairs = (
        record("matmul", LINEAR, 1e-3), record("linear_backward", LINEAR, 2.1e-3),
        record("matmul", small, 1e-3), unstable(record("linear_backward", small, 9e-3)),
    )  # fmt: skip
    both = found(*pairs)
    assert [ratio.is_stable for ratio in both] == [True, False]
    (row,) = rule_table(both).rows
    assert row[3:5] == ("1", "2.10x")
    assert row[-2:] == ("1 of 1 within 10.0 %", "1")
    assert broken_table(both).rows == ()
    (row,) = rule_table(both[1:]).rows
    assert row[3:] == ("0", "1")


def test_guesses_are_held_against_one_query_and_a_chunk_is_not():
    def chunk(queries, time_s, **others):
        return record("attention_chunk", {**CACHE, "queries": queries}, time_s, **others)

    times_s = {1: 1e-3, 4: 1.1e-3, 8: 1.2e-3, 16: 1.0e-3, 512: 9e-3}
    chunks = [chunk(queries, time_s) for queries, time_s in times_s.items()]
    one, eight, many = found(*chunks, chunk(8, 1e-3, implementation="flex"))
    assert [each.measured for each in (one, eight, many)] == pytest.approx([1.1, 1.2, 1.0])
    assert one.predicted == pytest.approx(1.0, abs=0.01)
    assert [each.holds for each in (one, eight, many)] == [True, False, True]
    assert eight.base == one.base == "attention_chunk-batch64-queries1-context8192-heads32-kv_heads8-head_dim128-bf16"


def test_a_cache_in_pages_and_one_in_fp8_are_held_against_decode():
    decode = record("attention_decode", CACHE, 1e-3)
    paged = record("attention_paged", {**CACHE, "page": 16}, 1.04e-3)
    fp8 = record("attention_decode_fp8", CACHE, 0.9e-3)
    first, second = found(decode, paged, fp8)
    assert (first.rule, second.rule) == ("paging", "fp8 cache")
    assert first.predicted == pytest.approx(1.0, abs=0.002)
    assert first.holds
    assert second.predicted == pytest.approx(0.5, abs=0.02)
    assert not second.holds


def test_rows_of_other_implementations_dtypes_or_without_a_time_are_not_mixed():
    matmul = record("matmul", LINEAR, 1e-3)
    assert not found(matmul, record("linear_backward", LINEAR, 2e-3, implementation="torch"))
    assert not found(matmul, record("linear_backward", LINEAR, 2e-3, dtype="fp16"))
    assert not found(matmul, record("linear_backward", LINEAR, 2e-3, status=Status.INCORRECT))


def test_scores_in_memory_cost_time_and_memory():
    fused = record("attention_prefill", PROMPT, 1e-3, peak_bytes=10**8)
    naive = record("attention_prefill", PROMPT, 13e-3, "naive", peak_bytes=23 * 10**8)
    time, memory = found(fused, naive)
    assert (time.of, memory.of) == ("time", "memory")
    assert (time.measured, memory.measured) == (pytest.approx(13), pytest.approx(23))
    # Q, K, V, O: 2.5 * 4096*32*128 numbers of 2 bytes; scores 2 * 32*4096^2 of them.
    operands, scores = 2.5 * 4096 * 32 * 128, 2 * 32 * 4096**2
    assert memory.predicted == pytest.approx((operands + scores) / operands)
    # Scores pass 8 times: 8.6e9 bytes and the operands at 4.8 TB/s, over 2*128*32*4096*4097 FLOP at 989.5e12 per s.
    napkin_s = (8 * 32 * 4096**2 + operands) * 2 / 4.8e12
    assert time.predicted == pytest.approx(napkin_s / (2 * 128 * 32 * 4096 * 4097 / 989.4e12), rel=1e-3)
    # Where ours does not run, PyTorch's; and a CPU does not tell its memory.
    flash, naive = (record("attention_prefill", PROMPT, 1e-3, name) for name in ("sdpa_flash", "naive"))
    (alone,) = found(flash, naive)
    assert alone.base == "sdpa_flash"
    assert alone.of == "time"


def test_every_rule_is_about_known_ops():
    for rule in RULES:
        assert rule.op in OPS
        dims = (
            dict.fromkeys(("batch", "context", "seq", "window", "queries", "page", "inner", "m", "n", "k"), 4) | HEADS
        )
        if rule.name == "recomputing":
            dims["forwards"] = 2
        op, base = rule.base(dims)
        assert op in OPS
        assert base.keys() <= dims.keys()


def test_report_and_terminal_say_what_holds_and_what_does_not(tmp_path):
    records = (
        record("matmul", LINEAR, 1e-3),
        record("linear_backward", LINEAR, 2.5e-3),
        record("attention_decode", CACHE, 1e-3),
        record("attention_paged", {**CACHE, "page": 16}, 1.02e-3),
        record("attention_paged", {**CACHE, "page": 64}, 0.98e-3),
    )
    paging, backward = rule_table(found(*records)).rows
    assert paging[:5] == ("paging", "time", "triton", "2", "0.98x to 1.02x")
    assert paging[-1] == "2 of 2 within 5.00 %"
    assert backward[4:] == ("2.50x", "2.00x", "+25 %", "0 of 1 within 10.0 %")
    text = page.write_report(Run(records), tmp_path).read_text()
    assert "## Rules of thumb" in text
    assert "- **paging**: a cache in pages is read as fast as one piece" in text
    assert "| linear backward (time) | linear_backward-m8192-n8192-k8192-bf16 | triton | matmul-" in text
    assert "further off than their rule allows" in text
    assert "rules of thumb" in run_page(Run(records), 110)


def test_a_run_without_pairs_says_nothing_of_rules(tmp_path):
    text = page.write_report(Run((record("matmul", LINEAR, 1e-3),)), tmp_path).read_text()
    assert "Rules of thumb" not in text
