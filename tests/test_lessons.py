"""Every worked example of the two lessons, sentence by sentence, and docs/lessons.md, which tabulates them.

"The efficiency lesson" counts GPT-2 small and a 7B model on an A100; "the napkin-math lesson" a 70B model on H100s. A
test asserts what is right; where a lesson is not, the name of the test says what it prints.
"""

import functools
import json
import re
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from predict.__main__ import app
from predict.errors import BadQuantity
from predict.formulas import memory, money, parallel, serving, speculation
from predict.formulas.memory import WEIGHT_FORMATS, Recompute, training_state
from predict.gpus import resolve, ridge_flop_per_byte
from predict.model.attention import Attention
from predict.model.layout import Layout
from predict.model.linear import Component
from predict.model.mlp import Mlp
from predict.model.passes import Mask, decode_step, forward, kv_bytes, kv_bytes_per_token, training_step, uncached_step
from predict.model.presets import find_model
from predict.model.replica import Replica
from predict.model.transformer import Block, Model
from predict.resources import Ceiling, Resource
from predict.roofline import predict
from predict.units import GB, MIB, find_dtype
from predict.workloads import make_workload

GPT_2, LLAMA_7B, LLAMA_70B = find_model("gpt-2-small"), find_model("llama-2-7b"), find_model("llama-3-70b")
LLAMA_405B = find_model("llama-3.1-405b")
S, H, LAYERS = 1024, 768, 12  # GPT-2 small: sequence, hidden, layers; batch 1
SBH = S * H  # 786,432
PARAMS = 124_439_808

MLP, PROJECTIONS, SCORES, VOCAB = (
    Component.MLP,
    Component.ATTENTION_PROJECTIONS,
    Component.ATTENTION_SCORES,
    Component.VOCAB,
)


def roofs(flop_per_s, bytes_per_s):
    """Peaks as a lesson rounds them."""
    return {
        Resource.TENSOR_BF16: Ceiling(flop_per_s, "the lesson"),
        Resource.DRAM: Ceiling(bytes_per_s, "the lesson"),
    }


A100, H100 = roofs(312e12, 2.0e12), roofs(990e12, 3.35e12)


def share_of_peak(work, machine):
    """FLOP/s that the bandwidth allows, over the peak."""
    times = {term.resource: term.time_s for term in predict(work.amounts(), machine).terms}
    return times[Resource.TENSOR_BF16] / times[Resource.DRAM]


def matmul(m, n, k):
    return make_workload("matmul", {"m": m, "n": n, "k": k}, find_dtype("bf16")).amounts


def gpt_2_forward():
    return forward(GPT_2, 1, S, mask=Mask.FULL)


# The efficiency lesson, chapter 1: FLOP


def test_200_tokens_per_second_are_more_than_one_a100_reads_a_7b_model_in_16_bits():
    # 40 tokens/s are 25 ms a token, 200 are 5. The weights that multiply, 6,738,415,616 - 32000*4096 = 6,607,343,616,
    # are 13.215 GB: over 2.039 TB/s 6.48 ms, 154 tokens/s.
    step_s = Replica(LLAMA_7B, resolve("a100")).decode(1, context=1).napkin_s
    assert step_s == pytest.approx(6.48e-3, rel=1e-3)
    assert 1 / 200 < step_s < 1 / 40


def test_a_single_token_uses_a_156th_of_an_a100_where_the_lesson_says_100x():
    # 2 FLOP for each weight of 2 bytes: 1 FLOP per byte, where the machine offers 156 (an H100: 295.5).
    assert 1 / share_of_peak(decode_step(LLAMA_7B, 1, 0), A100) == pytest.approx(156, rel=1e-3)
    assert 1 / share_of_peak(decode_step(LLAMA_7B, 1, 0), H100) == pytest.approx(295.5, rel=1e-3)


def test_2mkn_is_one_addition_more_than_an_output_needs():
    # K multiplications and K-1 additions: M*N*(2K-1), 1535/1536 of 2MKN for K = 768.
    flop = matmul(1024, 3072, 768).flop
    assert flop == 2 * 1024 * 3072 * 768
    assert 1024 * 3072 * (2 * 768 - 1) / flop == pytest.approx(1535 / 1536)


@pytest.mark.parametrize(
    ("component", "a_layer", "printed"),
    [
        # 1024*768^2 = 603,979,776; 1024^2*768 = 805,306,368.
        (MLP, 9_663_676_416, 9.66e9),  # 16 of the first
        (PROJECTIONS, 4_831_838_208, 4.83e9),  # 8 of it
        (SCORES, 3_221_225_472, 3.22e9),  # 4 of the second
    ],
)
def test_a_layer_of_gpt_2_has_the_flop_that_the_lesson_prints(component, a_layer, printed):
    assert gpt_2_forward().component_flop(component) == LAYERS * a_layer
    assert a_layer == pytest.approx(printed, abs=0.005e9)


def test_gpt_2_forward_is_291_6_gflop_where_the_lesson_adds_rounded_parts_to_291():
    # A layer 9,663,676,416 + 4,831,838,208 + 3,221,225,472 = 17,716,740,096; 12 of them 212,600,881,152 (212); logits
    # 2*1024*768*50,257 = 79,047,426,048 (79.0).
    work = gpt_2_forward()
    assert work.component_flop(VOCAB) == 79_047_426_048
    assert work.flop == 12 * 17_716_740_096 + 79_047_426_048 == 291_648_307_200
    assert round(work.flop / 1e9) == 292


def test_causal_attention_needs_272_gflop_where_the_lesson_counts_the_full_square():
    # 4BS^2H counts keys that no query sees; 2BS(S+1)H a layer is 1,612,185,600, and 12 of them 19,346,227,200.
    assert forward(GPT_2, 1, S).component_flop(SCORES) == 19_346_227_200
    assert forward(GPT_2, 1, S).flop == 291_648_307_200 - 12 * 3_221_225_472 + 19_346_227_200


def test_24bsh2_is_60_percent_of_gpt_2_small_where_the_lesson_says_it_dominates():
    # GPT-2 small: 12*(9.664 + 4.832) = 173.9 of 291.6 GFLOP, logits 79.05. Llama-3-70B at 4096 tokens: 80 layers of
    # 855,638,016 parameters, 2*68,451,041,280*4096 = 560.75 of 613.34 TFLOP.
    for work, share in ((gpt_2_forward(), 0.5964), (forward(LLAMA_70B, 1, 4096, mask=Mask.FULL), 0.9143)):
        layers = work.component_flop(MLP) + work.component_flop(PROJECTIONS)
        assert layers / work.flop == pytest.approx(share, abs=5e-5)
    assert gpt_2_forward().component_flop(VOCAB) / gpt_2_forward().flop == pytest.approx(0.271, abs=5e-4)


def test_2pt_is_254_9_gflop_where_the_lesson_prints_254():
    # 2*124e6*1024 = 253.95e9, but P is 124.44e6: 254.85e9. The exact count is 1.144 of it.
    assert 2 * GPT_2.params * S == 254_852_726_784
    assert gpt_2_forward().flop / (2 * GPT_2.params * S) == pytest.approx(1.144, abs=5e-4)


def test_the_rule_misses_the_scores_less_what_it_counts_for_positions_biases_and_norms():
    # 291,648,307,200 - 254,852,726,784 = 36,795,580,416: scores 38,654,705,664, less 2T times the 786,432 positions
    # (1,610,612,736) and 121,344 biases and norms (248,512,512), which are not multiplied.
    scores = gpt_2_forward().component_flop(SCORES)
    assert scores == 38_654_705_664
    assert GPT_2.position_params == 786_432
    assert gpt_2_forward().flop - 2 * GPT_2.params * S == scores - 2 * S * (786_432 + 121_344) == 36_795_580_416


@pytest.mark.parametrize(("name", "share"), [("llama-3-8b", 0.0654), ("qwen2.5-7b", 0.0716), ("llama-2-7b", 0.0195)])
def test_2pt_counts_the_input_embedding_of_models_that_do_not_share_it(name, share):
    # V*H of P: 128256*4096 of 8.030e9, 152064*3584 of 7.616e9, 32000*4096 of 6.738e9. No token is multiplied by it.
    model = find_model(name)
    matrices = forward(model, 1, 1).flop - forward(model, 1, 1).component_flop(SCORES)
    assert 1 - matrices / (2 * model.params) == pytest.approx(share, abs=2e-4)


# Chapter 2: training


def test_backward_is_twice_forward_and_2_07_times_with_flash_attention():
    # 2BHN forward, 2BHN for dW and 2BHN for dx. FlashAttention's backward does 5 matmuls for 2, 2.5 times its forward:
    # 2 + 0.5*38.65/291.65 for GPT-2.
    once = gpt_2_forward().flop
    assert training_step(GPT_2, 1, S, mask=Mask.FULL).flop - once == 2 * once
    flash = training_step(GPT_2, 1, S, mask=Mask.FULL, recompute=Recompute.FLASH).flop
    assert flash / once - 1 == pytest.approx(2.0663, abs=1e-4)


def test_a_training_step_of_gpt_2_is_874_9_gflop_where_the_lesson_prints_873_and_762():
    # 3*291,648,307,200. The chapter takes 3*291, the summary 6*124e6*1024 = 761.9e9: 12.6 % less with the exact P.
    step = training_step(GPT_2, 1, S, mask=Mask.FULL).flop
    assert step == 874_944_921_600
    assert money.train_flop(124_000_000, S) == 761_856_000_000
    assert 1 - money.train_flop(GPT_2.params, S) / step == pytest.approx(0.126, abs=5e-4)


# Chapter 3: memory of training


def test_12lh2_are_the_matrices_of_the_layers():
    # 4H^2 of attention and 8H^2 of the MLP: 12*12*768^2 = 84,934,656 = 84.9M; one token multiplies each once.
    token = forward(GPT_2, 1, 1)
    assert token.component_flop(PROJECTIONS) + token.component_flop(MLP) == 2 * 84_934_656
    # ~170 MB in fp16; with embeddings, biases and norms 2*124,439,808 = 248.9 MB, printed as 248.
    assert memory.weight_bytes(84_934_656) == 169_869_312
    assert memory.weight_bytes(GPT_2.params) == 248_879_616


def test_the_adam_table_adds_up_to_1_984_gb_for_124_million_parameters():
    # 248 + 248 + 496 + 496 + 496 MB; the lesson prints 1.98 GB. "Two extra copies" are the moments; the master is more.
    state = training_state(124_000_000)
    assert (state.weight_bytes, state.gradient_bytes, state.optimizer_bytes) == (248e6, 248e6, 3 * 496e6)
    assert state.total_bytes == 1_984_000_000
    assert training_state(GPT_2.params).total_bytes == 1_991_036_928


def test_training_7b_needs_two_cards_of_80_gb():
    # 16*7e9 = 112 GB: 1.4 cards.
    assert training_state(7_000_000_000).total_bytes == 112 * GB
    assert memory.min_gpus(112 * GB, 80 * GB) == 2


def test_a_layer_of_gpt_2_keeps_89_65_mb_where_the_lesson_prints_about_54_mb_per_layer():
    # sbh(34 + 5as/h) = 786,432*(34 + 80) with dropout; 32sbh + 2as^2b + 8sb = 50.34 MB without. Nothing gives 54.
    kept = memory.activation_bytes_per_layer(1, S, H, 12)
    assert kept == 786_432 * 114 == 89_653_248
    assert memory.activation_bytes_per_layer(1, S, H, 12, dropout=False) == 32 * SBH + 2 * 12 * S * S + 8 * S
    assert 54e6 / memory.activation_bytes_per_layer(1, S, H, 12, dropout=False) == pytest.approx(1.073, abs=5e-4)


def test_12_layers_keep_1_076_gb_where_the_lesson_prints_648_mb():
    # 12*89,653,248; a flash kernel keeps no scores: 12*34sbh = 320.9 MB.
    per_layer = {how: memory.activation_bytes_per_layer(1, S, H, 12, recompute=how) for how in Recompute}
    assert LAYERS * per_layer[Recompute.NONE] == 1_075_838_976
    assert LAYERS * per_layer[Recompute.FLASH] == 320_864_256


# Chapter 4: prefill and decode


def test_156_is_the_ridge_of_the_80_gb_card_and_201_that_of_the_40_gb_card_of_chapter_5():
    # 312e12/2e12; the 80 GB card has 2.039e12 B/s (153.0), the 40 GB card 1.555e12 (200.6).
    assert ridge_flop_per_byte(A100, Resource.TENSOR_BF16) == 156
    for name, found in (("a100-sxm-80gb", 153.0), ("a100-sxm-40gb", 200.6)):
        assert ridge_flop_per_byte(resolve(name).roofs, Resource.TENSOR_BF16) == pytest.approx(found, abs=0.05)


@pytest.mark.parametrize(("batch", "intensity"), [(1, 0.9995), (32, 31.51), (156, 144.96)])
def test_intensity_is_a_little_less_than_the_batch_of_the_lesson(batch, intensity):
    # B/(1 + 2B/4096): the activations are bytes as well.
    assert matmul(batch, 4096, 4096).arithmetic_intensity == pytest.approx(intensity, rel=1e-4)


@pytest.mark.parametrize(("hidden", "batch"), [(4096, 169), (768, 263)])
def test_a_matmul_saturates_an_a100_from_169_rows_on_where_the_lesson_prints_156(hidden, batch):
    # 156/(1 - 2*156/4096) = 168.9; for the 768 of GPT-2 156/(1 - 312/768) = 262.7.
    assert predict(matmul(batch - 1, hidden, hidden), A100).bound is Resource.DRAM
    assert predict(matmul(batch, hidden, hidden), A100).bound is Resource.TENSOR_BF16


def test_decoding_uses_less_than_5_percent_of_the_peak_up_to_a_batch_of_7():
    # B/156 without a cache: 4.5 % at 7, 5.1 % at 8.
    assert share_of_peak(decode_step(LLAMA_7B, 1, 0), A100) == pytest.approx(0.0064, abs=1e-4)
    assert share_of_peak(decode_step(LLAMA_7B, 7, 0), A100) < 0.05 < share_of_peak(decode_step(LLAMA_7B, 8, 0), A100)


def test_a_prompt_is_compute_bound_from_157_tokens_on():
    # Each weight is read once for N tokens: N FLOP per byte, and the cache that is written lifts 156 to 157.
    assert predict(forward(LLAMA_7B, 1, 156).amounts(), A100).bound is Resource.DRAM
    assert predict(forward(LLAMA_7B, 1, 157).amounts(), A100).bound is Resource.TENSOR_BF16


# Chapter 5: the KV cache


def test_without_a_cache_the_whole_layer_is_redone_where_the_lesson_counts_q_k_and_v():
    # 6d^2 for Q, K and V; with the output and the MLP 24d^2 a layer with a cache, 24000d^2 at token 1000 without.
    cached, uncached = decode_step(GPT_2, 1, 999), uncached_step(GPT_2, 1, 999)
    for work, flop in ((cached, 24 * H**2), (uncached, 24_000 * H**2)):
        assert work.component_flop(MLP) + work.component_flop(PROJECTIONS) == LAYERS * flop


def test_a_7b_model_caches_524_288_bytes_a_token_and_512_mib_for_1024():
    # 2*2*32*4096; the lesson's 0.5 MB and 512 MB are MiB: 536.9 MB.
    assert kv_bytes_per_token(LLAMA_7B) == 524_288 == MIB // 2
    assert kv_bytes(LLAMA_7B, 1, 1024) == 536_870_912 == 512 * MIB


def test_26_gb_hold_49_591_tokens_where_the_lesson_prints_52_000():
    # 40 - 14 = 26 GB; 26e9/524,288 = 49,591.06. Dividing by 0.5e6 gives 52,000.
    free = memory.free_bytes(1, 40 * GB, memory.weight_bytes(7_000_000_000))
    assert free == 26 * GB
    assert memory.kv_capacity_tokens(free, kv_bytes_per_token(LLAMA_7B)) == 49_591


def test_a_40_gb_card_serves_48_or_49_requests_where_the_lesson_prints_50():
    # 26e9/536,870,912 = 48.4; with the exact 13.477 GB of Llama-2-7B 26.523e9/536.9e6 = 49.4.
    assert memory.max_requests(26 * GB, kv_bytes(LLAMA_7B, 1, 1024)) == 48
    card = Replica(LLAMA_7B, resolve("a100-sxm-40gb"), hbm_bytes=40e9)
    assert card.max_batch(1024) == 49
    # CUDA context and workspaces take 3.5 GB: 23.02/0.5369 = 42.9.
    assert replace(card, overhead_bytes=memory.RUNTIME_OVERHEAD_BYTES).max_batch(1024) == 42


def test_reading_the_cache_is_less_than_reading_weights_while_n_is_below_d_where_the_lesson_says_for_large_d():
    # A layer's cache: 2*2*N*d bytes; W_K and W_V: 2*d^2 of 2 bytes. Equal at N = d = 4096, whatever d.
    weights = memory.weight_bytes(2 * 4096**2)
    assert kv_bytes(LLAMA_7B, 1, 4096) / 32 == weights == 67_108_864
    # Time: 4Nd^2 FLOP over 312e12 against 4Nd bytes over 2e12 is d/156 = 26.26 times as long.
    recompute_s = matmul(1000, 2 * 4096, 4096).flop / 312e12
    assert recompute_s / (kv_bytes(LLAMA_7B, 1, 1000) / 32 / 2e12) == pytest.approx(26.26, abs=5e-3)


def test_a_step_without_a_cache_reads_each_weight_once_where_the_lesson_says_n_times():
    # All N tokens go through a matrix together, so the 13.215 GB are the same; what grows are FLOP, and from 159 tokens
    # on the step is compute-bound: the cache does not save it "from becoming even more memory-bound".
    assert uncached_step(LLAMA_7B, 1, 999).weight_bytes == decode_step(LLAMA_7B, 1, 999).weight_bytes
    assert predict(uncached_step(LLAMA_7B, 1, 157).amounts(), A100).bound is Resource.DRAM
    assert predict(uncached_step(LLAMA_7B, 1, 158).amounts(), A100).bound is Resource.TENSOR_BF16
    assert predict(decode_step(LLAMA_7B, 1, 999).amounts(), A100).bound is Resource.DRAM


def test_the_cache_slider_turns_red_beyond_50_588_tokens_of_a_7b_model():
    # (40e9 - 13,476,831,232)/524,288 = 50,588.9.
    free = memory.free_bytes(1, 40 * GB, memory.weight_bytes(LLAMA_7B.params))
    assert memory.max_context(free, kv_bytes_per_token(LLAMA_7B), 1) == 50_588


# Chapter 6: speculative decoding


@pytest.mark.parametrize(("alpha", "best", "gain"), [(0.7, 5, 2.206), (0.8, 7, 2.837)])
def test_a_draft_of_a_15th_gains_2_to_3_times_at_70_to_80_percent(alpha, best, gain):
    # (1 - .7^6)/.3 = 2.9412 over 1 + 5/15; (1 - .8^8)/.2 = 4.1611 over 1 + 7/15.
    assert speculation.best_k(alpha, 1 / 15) == best
    assert speculation.speedup(alpha, best, 1 / 15) == pytest.approx(gain, abs=5e-4)


def test_checking_5_tokens_is_free_for_one_request_and_takes_twice_as_long_for_64():
    # 64*5 = 320 rows over a ridge of 153: 2.09 times the step of 64, less the cache. The lesson: "almost the same".
    replica = Replica(LLAMA_7B, resolve("a100"))
    times = {
        batch: replica.prefill(batch, 5, cached=1).napkin_s / replica.decode(batch, 1).napkin_s for batch in (1, 64)
    }
    assert times[1] == pytest.approx(1, abs=1e-3)
    assert times[64] == pytest.approx(2.09, abs=0.02)
    assert speculation.batch_speedup(0.8, 4, 1, 1 / 15, times[64]) == pytest.approx(3.3616 / (4 / 15 + 2.08), abs=0.02)


# Chapter 7: batching


def test_compute_and_memory_lines_cross_at_157_and_never_with_the_cache_of_1024_tokens():
    # The widget: 2PB/312e12 against 2P/2e12. The cache adds 0.537 GB a request, so that intensity ends at
    # 2*6.607e9/536.9e6 = 24.6 FLOP per byte, and with the FLOP of the scores at 25.6.
    batch = np.arange(1.0, 65_537)
    assert int(batch[share_of_peak(decode_step(LLAMA_7B, batch, 0), A100) >= 1][0]) == 157
    assert np.max(share_of_peak(decode_step(LLAMA_7B, batch, 1024), A100)) * 156 < 25.7


def test_naive_batching_idles_490_steps_of_the_slot_of_10_tokens():
    # 500 + 10 of 2*500 slot-steps; the other 490 make no token. With 50 requests of 10 waiting no slot is ever idle.
    assert (1 - serving.static_batch_utilization([500, 10])) * 2 * 500 == pytest.approx(490)
    assert serving.continuous_batch_utilization([500] + 50 * [10], slots=2) == 1


def test_pages_hold_2_5_to_4_7_times_as_many_requests_where_the_lesson_prints_2_to_4():
    # 96 % of the cache used instead of 38.2 or 20.4 % (vLLM paper); its 2-4x is throughput. 180 of 187.5 tokens: 96 %.
    gains = [serving.kv_slots_gain(180, 180 / share, 16) for share in (0.382, 0.204)]
    assert gains == pytest.approx([2.51, 4.71], abs=5e-3)


# Chapter 8: summary


def test_gpt2_kv_cache_per_token_is_36864_bytes_where_the_lesson_prints_73_7_kb():
    # Its own 4Ld: 4*12*768.
    assert kv_bytes_per_token(GPT_2) == 36_864
    assert kv_bytes_per_token(GPT_2, kv_bits=32) == 73_728


# The napkin-math lesson, section 1: compute


def test_2n_per_token_counts_1_5_percent_too_much_for_llama_3_70b():
    # 128256*8192 = 1.051e9 of 70.554e9 parameters are a look-up: 2*69.50e9 FLOP.
    token = forward(LLAMA_70B, 1, 1)
    assert token.flop / (2 * LLAMA_70B.params) == pytest.approx(0.985, abs=5e-4)


def test_scores_of_a_70b_model_cost_as_much_as_its_layers_at_104_448_tokens():
    # "Negligible until context lengths get long": 4*S^2*8192 a layer meets 2*S*855,638,016 at S = 52,224, the causal
    # half at twice that. At 4096 tokens it is 3.7 %.
    for mask, seq in ((Mask.FULL, 52_224), (Mask.CAUSAL, 104_448 - 1)):
        work = forward(LLAMA_70B, 1, seq, mask=mask)
        assert work.component_flop(SCORES) == work.component_flop(MLP) + work.component_flop(PROJECTIONS)
    work = forward(LLAMA_70B, 1, 4096)
    assert work.component_flop(SCORES) / work.flop == pytest.approx(0.037, abs=5e-4)


def test_the_pretraining_box_takes_1_554e7_seconds_where_the_lesson_prints_1_56e7():
    # 6*70e9*15e12 = 6.3e24 FLOP over 1024*990e12*0.4 = 4.055e17 (4.05 printed): 179.8 days.
    flop = money.train_flop(70e9, 15e12)
    seconds = money.train_s(flop, 1024, 990e12, 0.4)
    assert (flop, flop / seconds) == pytest.approx((6.3e24, 4.055e17), rel=1e-4)
    assert (seconds, seconds / money.SECONDS_PER_DAY) == pytest.approx((1.554e7, 179.8), rel=1e-3)


# Section 2: four tenants


@pytest.mark.parametrize(("model", "gigabytes"), [(LLAMA_7B, 13.48), (LLAMA_70B, 141.1), (LLAMA_405B, 811.7)])
def test_the_models_behind_7b_70b_and_405b_differ_by_up_to_4_percent(model, gigabytes):
    # 2*6.738e9, 2*70.554e9, 2*405.853e9; the lesson prints 14, 140, 810.
    assert memory.weight_bytes(model.params) == pytest.approx(gigabytes * GB, rel=5e-4)


@pytest.mark.parametrize(("name", "bits"), [("int8", 8), ("int4", 4.125), ("int4-zero", 4.25), ("int4-g32", 5)])
def test_int4_takes_more_than_n_over_2_for_its_scales(name, bits):
    # 16 bits for 128 weights; a scale and a zero point for 128; both for 32.
    assert memory.weight_bytes(70e9, WEIGHT_FORMATS[name].bits_per_weight) == 70e9 * bits / 8


def test_405b_needs_11_h100s_of_80e9_bytes_and_10_of_what_nvml_reports():
    # 811.7/80 = 10.15; 811.7/85.52 = 9.49, and 9.90 beside a runtime of 3.5 GB.
    weights, card = memory.weight_bytes(LLAMA_405B.params), resolve("h100").memory.bytes
    assert memory.min_gpus(weights, 80e9) == 11
    assert memory.min_gpus(weights, card) == memory.min_gpus(weights, card, memory.RUNTIME_OVERHEAD_BYTES) == 10


def test_7b_leaves_66_gb_of_an_h100_for_the_cache():
    assert memory.free_bytes(1, 80 * GB, memory.weight_bytes(7_000_000_000)) == 66 * GB


def test_training_state_is_8_times_the_weights_where_the_heading_says_10():
    # 4 + 4 + 4 + 2 + 2 = 16 bytes a parameter against 2.
    assert training_state(70e9).total_bytes / memory.weight_bytes(70e9) == 8


def test_optimizer_and_gradients_are_14n_where_the_lesson_prints_12_to_16():
    # 4 + 4 + 4 of the optimizer and 2 of the gradient; with the weights it is 16.
    state = training_state(1)
    assert state.optimizer_bytes + state.gradient_bytes == 14


def test_training_70b_holds_1_12_tb_and_the_exact_70_55b_needs_a_15th_card():
    # 16*70e9 = 1.12e12 = 14.0 cards of 80e9; 16*70,553,706,496 = 1.129e12 = 14.11.
    assert training_state(70_000_000_000).total_bytes == 1_120 * GB
    assert memory.min_gpus(1_120 * GB, 80 * GB) == 14
    assert memory.min_gpus(training_state(LLAMA_70B.params).total_bytes, 80 * GB) == 15


def test_fsdp_leaves_16n_over_dp_on_each_rank():
    # 16*70e9/64 = 17.5 GB; ZeRO-1 and 2 leave more: 4N + 12N/64 = 293.1 GB, 2N + 14N/64 = 155.3 GB.
    shards = [memory.sharded_state(70_000_000_000, stage, 64).total_bytes / GB for stage in (1, 2, 3)]
    assert shards == [293.125, 155.3125, 17.5]


# Section 3: the KV cache


def test_8k_tokens_of_llama_3_70b_are_2_684_gb_where_the_lesson_prints_2_6():
    # 2*80*8*128*2 = 327,680 = 320 KiB; times 8192 it is 2.5 GiB.
    assert kv_bytes_per_token(LLAMA_70B) == 327_680
    assert kv_bytes(LLAMA_70B, 1, 8192) == 2_684_354_560


def test_the_cache_belongs_to_kv_heads_and_would_be_8_times_as_large_for_query_heads():
    attention = replace(LLAMA_70B.blocks[0].mixer, kv_heads=64)
    every_head = replace(LLAMA_70B, blocks=(replace(LLAMA_70B.blocks[0], mixer=attention),))
    assert kv_bytes_per_token(every_head) == 8 * 327_680


@pytest.mark.parametrize(
    ("gpu", "gpus", "hbm_bytes", "free_gb", "requests"),
    [
        ("h100", 1, 80e9, -61.1, 0),
        ("h100", 2, 80e9, 18.9, 7),  # 18.89/2.684 = 7.04
        ("h200", 2, 141e9, 140.9, 52),  # 52.49
        ("h100", 4, 80e9, 178.9, 66),  # 66.64
    ],
)
def test_two_h200s_serve_52_requests_where_the_lesson_has_an_h100_with_140_gb_left(
    gpu, gpus, hbm_bytes, free_gb, requests
):
    # 141.107 GB of weights; 140 GB is their size, not what they leave.
    replica = Replica(LLAMA_70B, resolve(gpu), Layout(gpus), hbm_bytes=hbm_bytes)
    assert replica.free_bytes == pytest.approx(free_gb * GB, abs=0.05 * GB)
    assert replica.max_batch(8192) == requests


# Section 4: activations


def test_activations_are_34_sbh_or_194_where_the_lesson_prints_10_to_35():
    # 34 without scores (a flash kernel); 34 + 5*64*4096/8192 with them, for 70B at 4096 tokens; 2 if all is recomputed.
    factors = {
        how: memory.activation_bytes_per_layer(1, 4096, 8192, 64, recompute=how) / (4096 * 8192) for how in Recompute
    }
    assert factors[Recompute.NONE] == 194
    assert factors[Recompute.FLASH] == factors[Recompute.SELECTIVE] == 34
    assert factors[Recompute.FULL] == 2


def test_gradient_checkpointing_computes_a_third_more_in_the_layers_and_33_percent_in_all():
    # 2N + 4N + 2N of 6N. Logits are not done again: 2*4096*8192*128256 = 8.607 of 591.35 TFLOP, 1 + (1 - 0.01456)/3.
    once, again = (training_step(LLAMA_70B, 1, 4096, recompute=how) for how in (Recompute.NONE, Recompute.FULL))
    assert again.component_flop(MLP) / once.component_flop(MLP) == pytest.approx((2 + 4 + 2) / 6)
    assert again.flop / once.flop == pytest.approx(1.3285, abs=1e-4)


# Sections 5 and 6: roofline and spec sheet


def test_prefill_of_70b_is_right_of_the_ridge_and_decode_left_of_it_at_every_batch_of_8k_tokens():
    # Batching moves decode rightward, but each request brings 2.684 GB: intensity ends at 2*70.55e9/2.684e9 = 52.6 FLOP
    # per byte, or 59.8 with the FLOP of the scores (4*80*8192*8192 a token), of the ridge of 295.5.
    assert predict(forward(LLAMA_70B, 1, 2048).amounts(), H100).bound is Resource.TENSOR_BF16
    batch = np.array([1.0, 64.0, 1024.0, 1e6])
    intensity = share_of_peak(decode_step(LLAMA_70B, batch, 8192), H100) * 990 / 3.35
    assert np.all(np.diff(intensity) > 0)
    assert intensity[0] == pytest.approx(1.13, abs=0.01)
    assert intensity[-1] == pytest.approx((2 * 69.503e9 + 4 * 80 * 8192**2) / 2_684_354_560, rel=1e-3)


@pytest.mark.parametrize(
    ("gpu", "flop_per_s", "bytes_per_s", "memory_gb", "printed", "ridge"),
    [
        ("a100", 312e12, 2.039e12, 85.9, 156, 153.0),
        ("h100", 989.4e12, 3.35e12, 85.5, 295, 295.3),
        ("h200", 989.5e12, 4.8e12, 150.8, 206, 206.1),
        ("b200", 2250e12, 7.7e12, 192.3, 280, 292.2),
    ],
)
def test_the_spec_sheet_rounds_what_the_data_sheets_say(gpu, flop_per_s, bytes_per_s, memory_gb, printed, ridge):
    # 80 GiB = 85.9e9 bytes, of which NVML reports 81,559 MiB on an H100; B200: 7.7 TB/s on the HGX board, 8.0 printed.
    found = resolve(gpu)
    assert (found.roofs[Resource.TENSOR_BF16].per_s, found.roofs[Resource.DRAM].per_s) == (flop_per_s, bytes_per_s)
    assert found.memory.bytes == pytest.approx(memory_gb * GB, abs=0.05 * GB)
    assert ridge_flop_per_byte(found.roofs, Resource.TENSOR_BF16) == pytest.approx(ridge, abs=0.05)
    assert ridge == pytest.approx(printed, rel=0.05)


@pytest.mark.parametrize(
    ("gpu", "link", "gap"), [("h100", parallel.INFINIBAND_NDR, 9), ("a100", parallel.INFINIBAND_HDR, 12)]
)
def test_each_direction_of_a_link_is_9_times_faster_where_the_lesson_prints_18x_between_nvlink_and_infiniband(
    gpu, link, gap
):
    # 450/50 GB/s: NVLink's 900 are both directions, InfiniBand's 400 Gbit/s one. Of its day an A100 had 300/25.
    assert parallel.link_gap(resolve(gpu).link_bytes_per_s, link.bytes_per_s) == gap


# Section 7: dollars


def test_training_costs_8_8_million_where_the_formula_of_training_dollars_without_3600_prints_3_2e10():
    # GPU-hours are GPU-seconds/3600: 6.3e24/(990e12*0.4) = 1.591e10 GPU-s, 4.419e6 GPU-h, at $2 $8.838e6. As printed,
    # 6ND/(gpus*peak*MFU)*gpus*$, it is $3.182e10; the number of GPUs cancels.
    flop = money.train_flop(70e9, 15e12)
    assert money.gpu_hours(flop, 990e12, 0.4) == pytest.approx(4.419e6, rel=1e-3)
    assert money.train_usd(flop, 990e12, 0.4, 2) == pytest.approx(8.838e6, rel=1e-4)
    printed = money.train_s(flop, 1024, 990e12, 0.4) * 1024 * 2
    assert printed == pytest.approx(3.182e10, rel=1e-3)
    assert printed / money.train_usd(flop, 990e12, 0.4, 2) == pytest.approx(3600)


def test_an_mfu_of_20_percent_doubles_the_bill_and_one_of_nothing_is_refused():
    # $17.68M. The widget's label stops at 15 %, but its cost goes on to 0 and below: infinite, then negative dollars.
    flop = money.train_flop(70e9, 15e12)
    assert money.train_usd(flop, 990e12, 0.2, 2) == pytest.approx(17.677e6, rel=1e-4)
    for mfu in (0, -0.05):
        with pytest.raises(BadQuantity, match="mfu must be above 0"):
            money.train_usd(flop, 990e12, mfu, 2)


def test_6000_tokens_a_second_cost_9_cents_a_million_and_so_do_48_000_on_eight_gpus():
    # 2/(6000*3600)*1e6 = $0.0926; eight such GPUs together make 48,000.
    assert money.usd_per_1m_tokens(2, 6000) == pytest.approx(0.0926, rel=1e-3)
    assert money.usd_per_1m_tokens(2, 48_000, gpus=8) == money.usd_per_1m_tokens(2, 6000)


# The companion lessons, where no other test has them


@pytest.mark.parametrize(("mask", "seq"), [(Mask.FULL, 49_152), (Mask.CAUSAL, 98_303)])
def test_scores_meet_projections_and_mlp_at_6d_tokens_and_12d_where_they_are_causal(mask, seq):
    # Companion lesson 06: 4s^2d = 24sd^2 at s = 6d = 49K for d = 8192; 2s(s+1)d meets it at s = 12d - 1.
    block = Block(1, 8192, Attention(64, 64, 128), Mlp(4 * 8192, gated=False), 0)
    model = Model("4h", "gpt2", 8192, 1, (block,), tied=True, final_norm_params=0, context_limit=None)
    work = forward(model, 1, seq, mask=mask)
    assert work.component_flop(SCORES) == work.component_flop(MLP) + work.component_flop(PROJECTIONS)


# docs/lessons.md


DOCUMENT = (Path(__file__).parent.parent / "docs" / "lessons.md").read_text(encoding="utf-8")
COMMAND, FORMULA = "python -m predict ", "python -m predict formula "
NAMED = {name: line for line, name in re.findall(rf"^{COMMAND}(model .*?) +# (\w+)$", DOCUMENT, re.MULTILINE)}
SCALES = {"MB": 1e6, "GB": 1e9, "TB": 1e12, "GFLOP": 1e9, "TFLOP": 1e12, "%": 0.01, "ms": 1e-3, "million": 1e6}


def claims():
    """Number, command and JSON key of each source in the tables: `name.key` of a named command, or a formula."""
    for line in DOCUMENT.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|") or len(cells) != 5:
            continue
        spans = re.findall(r"`([^`]+)`", cells[4])
        sources = [span for span in spans if span.startswith(FORMULA) or span.partition(".")[0] in NAMED]
        numbers = [number.strip() for number in cells[2].split(";")]
        for number, source in zip(numbers[: len(sources)], sources, strict=True):
            name, _, key = source.partition(".")
            yield (number, NAMED[name], key) if name in NAMED else (number, f"{source} --json", "value")


CLAIMS = list(claims())


@functools.cache
def printed_by(command):
    result = CliRunner().invoke(app, command.removeprefix(COMMAND).split())
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


def test_the_tables_have_numbers_to_check():
    assert len(CLAIMS) > 80
    assert {command for _, command, _ in CLAIMS} >= set(NAMED.values())


@pytest.mark.parametrize(("number", "command", "key"), CLAIMS, ids=[f"{key}-{number}" for number, _, key in CLAIMS])
def test_what_the_document_says_is_what_the_command_prints(number, command, key):
    # "12 x 9.664 GFLOP": right to the last digit printed.
    times, digits, unit = re.fullmatch(r"(?:(\d+) x )?([\d,.]+(?:e\d+)?) ?(\S*).*", number).groups()
    printed, scale = Decimal(digits.replace(",", "")), int(times or 1) * SCALES.get(unit, 1)
    last_digit = Decimal(1).scaleb(printed.as_tuple().exponent)
    assert abs(Decimal(printed_by(command)[key]) / Decimal(scale) - printed) <= last_digit / 2
