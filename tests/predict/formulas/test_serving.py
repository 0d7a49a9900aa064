"""Serving formulas against numbers worked out by hand, printed in the lessons, or published."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from predict.errors import BadQuantity
from predict.formulas import serving

H100_FLOP_PER_S, H100_BYTES_PER_S = 990e12, 3.35e12
A100_FLOP_PER_S, A100_BYTES_PER_S = 312e12, 2.0e12
LLAMA_3_8B_KV = 131_072  # bytes per token: 2 * 32 layers * 8 KV heads * 128 * 2 bytes


def test_prefill_of_2000_tokens_by_8b_takes_65_ms():
    # Companion lesson 03a: 2*8e9*2000 = 3.2e13 FLOP over 990e12 * 0.5 = 4.95e14 FLOP/s.
    assert serving.prefill_s(8e9, 2000, H100_FLOP_PER_S, mfu=0.5) == pytest.approx(64.6465e-3, rel=1e-5)
    # Companion lesson 03b: 30,900 prompt tokens per second = 4.95e14 / 16e9 = 30,937.5.
    assert 2000 / serving.prefill_s(8e9, 2000, H100_FLOP_PER_S, mfu=0.5) == pytest.approx(30_937.5)


def test_prefill_of_nothing_takes_no_time():
    assert serving.prefill_s(8e9, 0, H100_FLOP_PER_S) == 0


def test_decode_floor_of_70b_is_42_ms():
    # Companion lesson 01: 140e9 / 3.35e12 = 41.79 ms, at 70 % MBU 59.70 ms.
    assert serving.decode_step_s(140e9, 0, H100_BYTES_PER_S) == pytest.approx(41.79e-3, rel=1e-4)
    assert serving.decode_step_s(140e9, 0, H100_BYTES_PER_S, mbu=0.7) == pytest.approx(59.70e-3, rel=1e-4)


def test_decode_of_8b_makes_147_tokens_per_second():
    # Companion lesson 03a: 16e9 / (3.35e12 * 0.7) = 6.82303 ms.
    tpot_s = serving.decode_step_s(16e9, 0, H100_BYTES_PER_S, mbu=0.7)
    assert tpot_s == pytest.approx(6.82303e-3, rel=1e-5)
    assert 1 / tpot_s == pytest.approx(146.6, rel=1e-3)


def test_decode_of_13b_has_a_floor_of_17_ms_that_90_percent_bandwidth_brings_near_the_measured_22_ms():
    # kipply, "Transformer Inference Arithmetic", A100-40GB: 12*40*5120^2 = 12.583e9 parameters of 2 bytes over
    # 1.5e12 B/s. FasterTransformer takes 22.0 ms there, of which kipply explains a part by 90 % of the bandwidth.
    weight_bytes = 2 * 12 * 40 * 5120**2
    assert serving.decode_step_s(weight_bytes, 0, 1.5e12) == pytest.approx(16.777e-3, rel=1e-3)
    assert serving.decode_step_s(weight_bytes, 0, 1.5e12, mbu=0.9) == pytest.approx(22.0e-3, rel=0.3)


def test_mixed_step_of_a_30b_int8_model_takes_21_ms():
    # "How to Scale Your Model", quiz: 16 TPU v5e, 256 requests of 819 MB cache. 256*819e6/12.96e12 = 16.18 ms, and the
    # weights max(2*256*30e9/3152e12 = 4.87 ms, 30e9/12.96e12 = 2.31 ms): 21.05 ms.
    found = serving.mixed_step_s(30e9, 256, 30e9, 256 * 819e6, 3152e12, 12.96e12)
    assert found == pytest.approx(21.0e-3, rel=5e-3)


@pytest.mark.parametrize(("batch", "step_s"), [(1, 4.98e-3), (240, 249.1e-3)])
def test_mixed_step_of_llama_2_13b_on_eight_v5e_is_that_of_the_scaling_book(batch, step_s):
    # "How to Scale Your Model", table of Llama-2-13B: 26 GB of weights, 6.7 GB of cache per request of 8192 tokens.
    # B = 1: 6.7e9/6.56e12 + 26e9/6.56e12 = 1.021 + 3.963 = 4.985 ms. B = 240: 245.12 + 3.963 = 249.09 ms.
    found = serving.mixed_step_s(13e9, batch, 26e9, batch * 6.7e9, 8 * 197e12, 8 * 820e9)
    assert found == pytest.approx(step_s, rel=1e-3)


def test_compute_and_weights_cross_at_batch_156_on_an_a100():
    # The efficiency lesson's widget, 7B, no cache: 2*B*7e9/312e12 = 14e9/2e12 at B = 312/2 = 156. Below, weights: 7 ms.
    below, at, twice = (
        serving.mixed_step_s(7e9, batch, 14e9, 0, A100_FLOP_PER_S, A100_BYTES_PER_S) for batch in (1, 156, 312)
    )
    assert (below, at, twice) == pytest.approx((7e-3, 7e-3, 14e-3))


def test_end_to_end_latency_counts_the_first_token_once():
    # 65 ms + 499 steps of 7 ms.
    assert serving.latency_s(0.065, 0.007, 500) == pytest.approx(0.065 + 3.493)
    assert serving.latency_s(0.065, 0.007, 1) == 0.065


def test_an_offline_job_of_100_000_requests_takes_two_hours():
    # Companion lesson 03a: ceil(100000/256) = 391 waves. A step: (16e9 + 256*2000*131072) / (3.35e12*0.7) = 35.44 ms;
    # a wave: 65 ms + 499 steps = 17.75 s; 391 * 17.75 s = 6940 s = 1.93 h, printed as 1.9 h.
    tpot_s = serving.decode_step_s(16e9, 256 * 2000 * LLAMA_3_8B_KV, H100_BYTES_PER_S, mbu=0.7)
    wave_s = serving.latency_s(0.065, tpot_s, 500)
    assert serving.makespan_s(100_000, 256, wave_s) / 3600 == pytest.approx(1.93, abs=0.01)


def test_makespan_counts_waves_exactly():
    assert serving.makespan_s(256, 256, 10) == 10
    assert serving.makespan_s(257, 256, 10) == 20


def test_decode_ceiling_of_8b_is_8945_tokens_per_second():
    # Companion lesson 03b: 3.35e12*0.7 / (2000*131072), printed as 8,950.
    found = serving.decode_ceiling_tokens_per_s(2000, LLAMA_3_8B_KV, H100_BYTES_PER_S, mbu=0.7)
    assert found == pytest.approx(8945.47, rel=1e-5)


def test_caches_outweigh_the_weights_of_8b_from_61_requests():
    # Companion lesson 03a: 16e9 / (2000*131072) = 61.04.
    assert serving.kv_crossover_batch(16e9, 2000, LLAMA_3_8B_KV) == pytest.approx(61.035, rel=1e-4)


def test_the_knee_of_8b_at_25_ms_is_160_requests():
    # Companion lesson 03b prints 160 and 6,300 tokens/s: (25e-3*3.35e12*0.7 - 16e9) / (2048*131072) = 158.8, /25 ms.
    batch = serving.max_decode_batch(25e-3, 16e9, 2048, LLAMA_3_8B_KV, H100_BYTES_PER_S, mbu=0.7)
    assert batch == pytest.approx(158.8, abs=0.05)
    assert batch / 25e-3 == pytest.approx(6352, abs=1)


def test_no_batch_is_fast_enough_where_the_weights_alone_are_too_slow():
    # 16e9 bytes take 4.78 ms.
    assert serving.max_decode_batch(4e-3, 16e9, 2048, LLAMA_3_8B_KV, H100_BYTES_PER_S) == 0


@pytest.mark.parametrize(
    ("free_bytes", "context", "kv_bytes_per_token", "requests"),
    [
        (26e9, 1024, 500_000, 50.78),  # efficiency lesson, chapter 7: 26 GB over 512 MB
        (26e9, 1024, 524_288, 48.43),  # the same with the cache of 512 MiB that its formula gives
        (140e9, 8192, 327_680, 52.15),  # napkin-math lesson, section 3: "140/2.6 = 50"; 140e9 / 2.684e9
        (60e9, 2000, 131_072, 228.9),  # companion lesson 04: 80 - 16 - 4 GB; it prints 234
        (60e9, 8192, 131_072, 55.88),  # and 56 at 8K
    ],
)
def test_requests_that_fit_are_free_memory_over_one_cache(free_bytes, context, kv_bytes_per_token, requests):
    assert serving.kv_slots(free_bytes, context, kv_bytes_per_token) == pytest.approx(requests, rel=2e-4)


def test_decode_of_7b_at_1024_tokens_never_reaches_the_ridge_of_an_a100():
    # 2*7e9 / (1024*524288) = 26.08 FLOP per byte, against 156.
    assert serving.decode_intensity_limit(7e9, 1024, 524_288) == pytest.approx(26.08, abs=0.01)


def test_batch_to_saturate_is_the_ridge_for_endless_weights():
    assert serving.batch_to_saturate(156) == 156
    # A W4A16 weight moves a quarter of the bytes: 156 * 4/16.
    assert serving.batch_to_saturate(156, weight_bits=4) == 39


@pytest.mark.parametrize(("hidden", "batch"), [(4096, 168.862579), (768, 262.737)])
def test_batch_to_saturate_counts_the_activations(hidden, batch):
    # 156 / (1 - 2*156/4096) = 156 / 0.923828; 156 / (1 - 2*156/768) = 156 / 0.59375.
    assert serving.batch_to_saturate(156, hidden, hidden) == pytest.approx(batch, rel=1e-6)


def test_a_weight_that_no_batch_saturates_is_refused():
    # 256*256/(256+256) = 128 FLOP per byte at most; 312: exactly the ridge.
    for size in (256, 312):
        with pytest.raises(BadQuantity, match=r"no batch saturates: .* n\*k/\(n\+k\)"):
            serving.batch_to_saturate(156, size, size)
    with pytest.raises(BadQuantity, match="no batch saturates"):
        serving.batch_to_saturate(np.array([100.0, 156.0]), 256, 256)


@given(st.floats(1, 500), st.integers(1200, 20_000), st.integers(1200, 20_000), st.sampled_from([4, 4.5, 8, 16]))
def test_at_the_batch_that_saturates_the_intensity_is_the_ridge(ridge, n, k, weight_bits):
    m = serving.batch_to_saturate(ridge, n, k, weight_bits)
    moved = weight_bits / 8 * n * k + 2 * m * k + 2 * m * n
    assert 2 * m * n * k / moved == pytest.approx(ridge)


@given(st.floats(1, 500), st.integers(1200, 20_000))
def test_more_activations_need_a_larger_batch(ridge, size):
    both, one = serving.batch_to_saturate(ridge, size, size), serving.batch_to_saturate(ridge, size)
    assert both > one > serving.batch_to_saturate(ridge) == pytest.approx(ridge)


@pytest.mark.parametrize(("batch", "intensity"), [(1, 0.9995), (32, 31.51), (156, 144.95825771)])
def test_gemm_intensity_is_a_little_less_than_the_batch(batch, intensity):
    # The efficiency lesson says 1, 32 and 156; m/(1 + 2m/4096): 156/1.076172.
    assert serving.gemm_intensity(batch, 4096, 4096) == pytest.approx(intensity, rel=1e-4)
    assert serving.gemm_intensity(156, 4096, 4096) == pytest.approx(144.95825771, rel=1e-8)
    assert serving.gemm_intensity(156, 4096, 4096, bytes_per_element=1) == pytest.approx(289.91651542, rel=1e-8)


@pytest.mark.parametrize(
    ("m", "n", "tile_m", "tile_n", "sms", "tiles", "waves"),
    [
        # NVIDIA's matmul guide, A100: 1792 = 7*256 = 14*128 gives 98 tiles; 1793 gives 8*15 = 120.
        (1792, 1792, 256, 128, 108, 98, 1),
        (1793, 1793, 256, 128, 108, 120, 2),
        # stas00, "Machine Learning Engineering", B300: 64 * 56 = 3584 blocks over 148 SMs, 24.2 rounds.
        (8192, 14336, 128, 256, 148, 3584, 25),
    ],
)
def test_tiles_come_in_whole_waves(m, n, tile_m, tile_n, sms, tiles, waves):
    assert serving.gemm_tiles(m, n, tile_m, tile_n) == tiles
    found = serving.gemm_waves(m, n, tile_m, tile_n, sms)
    assert (found, type(found)) == (waves, int)
    assert serving.wave_efficiency(m, n, tile_m, tile_n, sms) == pytest.approx(tiles / (waves * sms))


def test_littles_law_gives_requests_and_bytes():
    assert serving.concurrency(10, 2.5) == 25  # 10 requests per second that stay 2.5 s each
    # H100: 3.35e12 B/s * 375 ns = 1.256 MB, over 132 SMs 9.5 KB.
    in_flight = serving.bytes_in_flight(H100_BYTES_PER_S, 375e-9)
    assert in_flight == pytest.approx(1.256e6, rel=1e-3)
    assert in_flight / 132 == pytest.approx(9.5e3, rel=5e-3)


@pytest.mark.parametrize(
    ("flop_per_token", "share"),
    [(3_277_734_806_784, 0.462), (6 * 540.35e9, 0.457)],  # with attention, 6N + 12LHQT, and without
)
def test_palm_540b_trains_at_46_percent_mfu(flop_per_token, share):
    # PaLM, appendix B: 238,300 tokens per second on 6144 TPU v4 of 275 TFLOP/s.
    assert serving.mfu(flop_per_token * 238_300 / 6144, 1.0, 275e12) == pytest.approx(share, rel=2e-3)


@pytest.mark.parametrize(
    ("params", "tokens", "hours", "share"),
    [(70e9, 15e12, 6.4e6, 0.276), (405_853_388_800, 15.6e12, 30.84e6, 0.346)],
)
def test_published_h100_hours_of_llama_3_mean_an_mfu_near_30_percent(params, tokens, hours, share):
    # 6*70e9*15e12 / (6.4e6*3600*990e12) = 6.3e24 / 2.281e25. 3.799e25 / (30.84e6*3600*990e12 = 1.0991e26).
    assert serving.mfu(6 * params * tokens, hours * 3600, H100_FLOP_PER_S) == pytest.approx(share, abs=5e-4)


def test_gpt_fast_reaches_an_mbu_of_68_percent():
    # gpt-fast's README, Llama-2-7B on an A100: 1397 GB/s of 2039.
    assert serving.mbu(1397e9, 1.0, 2.039e12) == pytest.approx(0.685, abs=5e-4)


@given(st.floats(1e9, 1e12), st.floats(0, 1e12), st.floats(1e11, 1e13), st.floats(0.1, 1))
def test_mbu_of_a_predicted_step_is_what_was_put_in(weight_bytes, kv_bytes, bandwidth, share):
    step_s = serving.decode_step_s(weight_bytes, kv_bytes, bandwidth, mbu=share)
    assert serving.mbu(weight_bytes + kv_bytes, step_s, bandwidth) == pytest.approx(share)


@given(st.floats(1e9, 1e12), st.floats(1, 1e5), st.floats(0.1, 1))
def test_mfu_of_a_predicted_prefill_is_what_was_put_in(params, tokens, share):
    time_s = serving.prefill_s(params, tokens, H100_FLOP_PER_S, mfu=share)
    assert serving.mfu(2 * params * tokens, time_s, H100_FLOP_PER_S) == pytest.approx(share)


@given(st.floats(1e9, 1e12), st.floats(1, 1e5), st.floats(1e3, 1e7), st.floats(1, 1e6))
def test_throughput_rises_with_the_batch_towards_the_ceiling(weight_bytes, context, kv, batch):
    ceiling = serving.decode_ceiling_tokens_per_s(context, kv, H100_BYTES_PER_S)
    one, two = (b / serving.decode_step_s(weight_bytes, b * context * kv, H100_BYTES_PER_S) for b in (batch, 2 * batch))
    assert one < two <= ceiling * (1 + 1e-9)
    # At the crossover half of the bytes are weights: half the ceiling.
    crossover = serving.kv_crossover_batch(weight_bytes, context, kv)
    step_s = serving.decode_step_s(weight_bytes, crossover * context * kv, H100_BYTES_PER_S)
    assert crossover / step_s == pytest.approx(ceiling / 2)


@given(st.floats(1e9, 1e12), st.floats(1, 1e5), st.floats(1e3, 1e7), st.floats(1.001, 100))
def test_a_step_at_the_largest_batch_takes_the_time_allowed(weight_bytes, context, kv, slack):
    tpot_s = slack * serving.decode_step_s(weight_bytes, 0, H100_BYTES_PER_S)
    batch = serving.max_decode_batch(tpot_s, weight_bytes, context, kv, H100_BYTES_PER_S)
    assert serving.decode_step_s(weight_bytes, batch * context * kv, H100_BYTES_PER_S) == pytest.approx(tpot_s)


@given(st.floats(1, 2000), st.floats(0, 1e12))
def test_mixed_step_is_never_faster_than_the_memory_bound_one(batch, kv_bytes):
    mixed = serving.mixed_step_s(7e9, batch, 14e9, kv_bytes, A100_FLOP_PER_S, A100_BYTES_PER_S)
    assert mixed >= serving.decode_step_s(14e9, kv_bytes, A100_BYTES_PER_S) * (1 - 1e-12)


def test_one_long_request_keeps_a_short_one_s_slot_idle():
    # Efficiency lesson, chapter 7: 500 and 10 tokens; 510 of 1000 slot-steps.
    assert serving.static_batch_utilization([500, 10]) == pytest.approx(0.51)


def test_static_batches_form_in_order_of_arrival_and_the_last_occupies_all_slots():
    # Batches (4, 2), (1, 3), (2): maxima 4 + 3 + 2 = 9 steps of 2 slots, 12 tokens.
    assert serving.static_batch_utilization([4, 2, 1, 3, 2], slots=2) == pytest.approx(12 / 18)
    assert serving.static_batch_utilization([3], slots=4) == pytest.approx(1 / 4)


def test_continuous_batching_refills_a_slot_at_once():
    # Slot A: 4, then 3 (from 4 to 7). Slot B: 2, 1 (to 3), 3 (to 6)... in order: 4->A, 2->B, 1->B at 2, 3->B at 3 (to
    # 6), 2->A at 4 (to 6). Makespan 6, 12 tokens: no slot is ever idle.
    assert serving.continuous_batch_utilization([4, 2, 1, 3, 2], slots=2) == pytest.approx(1)
    # 500 and 10 and nothing to follow: as bad as static.
    assert serving.continuous_batch_utilization([500, 10], slots=2) == pytest.approx(0.51)


@pytest.mark.parametrize(("batch", "share"), [(1, 1.0), (2, 2 / 3), (8, 0.368), (32, 0.246), (64, 0.211)])
def test_exponential_lengths_use_one_over_the_harmonic_number(batch, share):
    # H_2 = 1 + 1/2; H_8 = 2.71786; H_32 = 4.05850; H_64 = 4.74389.
    assert serving.static_utilization_exponential(batch) == pytest.approx(share, abs=5e-4)


def test_uniform_lengths_use_half_of_a_large_batch():
    assert serving.static_utilization_uniform(1) == 1
    assert serving.static_utilization_uniform(8) == 9 / 16


def test_expected_utilizations_are_those_of_drawn_lengths():
    draw = np.random.default_rng(0)
    for lengths, expected in (
        (draw.exponential(100, 80_000), serving.static_utilization_exponential(8)),
        (draw.uniform(0, 100, 80_000), serving.static_utilization_uniform(8)),
    ):
        assert serving.static_batch_utilization(lengths, slots=8) == pytest.approx(expected, rel=0.02)


lengths_of_requests = st.lists(st.integers(1, 1000), min_size=1, max_size=60)


@given(lengths_of_requests, st.integers(1, 12))
def test_continuous_batching_is_never_worse_than_static(lengths, slots):
    continuous = serving.continuous_batch_utilization(lengths, slots)
    assert serving.static_batch_utilization(lengths, slots) <= continuous * (1 + 1e-12)
    assert continuous <= 1 + 1e-12
    # Graham's bound: makespan <= total/slots + (1 - 1/slots)*longest.
    assert continuous >= sum(lengths) / (sum(lengths) + (slots - 1) * max(lengths)) * (1 - 1e-12)


@given(lengths_of_requests)
def test_one_slot_is_always_busy_and_one_batch_is_mean_over_max(lengths):
    assert serving.static_batch_utilization(lengths, slots=1) == 1
    assert serving.continuous_batch_utilization(lengths, slots=1) == 1
    assert serving.static_batch_utilization(lengths) == pytest.approx(np.mean(lengths) / max(lengths))


def test_pages_waste_at_most_the_last_block():
    # 1000 tokens in 63 blocks of 16: 1000/1008.
    assert serving.paged_kv_utilization(1000, 16) == pytest.approx(0.9920634920634921, rel=1e-9)
    assert serving.paged_kv_utilization(1024, 16) == 1
    assert serving.paged_kv_utilization(1, 16) == 1 / 16


def test_a_reservation_is_used_as_far_as_requests_are_long():
    assert serving.contiguous_kv_utilization(204, 1000) == 0.204


@pytest.mark.parametrize(("reserved_share", "gain"), [(0.382, 2.51), (0.204, 4.71)])
def test_pages_fit_as_many_more_requests_as_the_vllm_paper_s_utilizations_say(reserved_share, gain):
    # vLLM paper: 20.4-38.2 % of the cache in use before, about 96 % with pages. 180 tokens in blocks of 16 waste 7.5 on
    # average: 180/187.5 = 96 %. 0.96/0.382 = 2.513, 0.96/0.204 = 4.706.
    assert serving.kv_slots_gain(180, 180 / reserved_share, 16) == pytest.approx(gain, abs=5e-3)


@given(st.integers(1, 64), st.integers(1, 50))
def test_the_average_page_waste_is_half_a_block(block, blocks):
    lengths = np.arange(blocks * block + 1.0, (blocks + 1) * block + 1)  # every remainder once
    pages = lengths / serving.paged_kv_utilization(lengths, block)
    assert pages.mean() - lengths.mean() == pytest.approx((block - 1) / 2)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: serving.prefill_s(0, 1, 1), "params"),
        (lambda: serving.prefill_s(1, -1, 1), "tokens"),
        (lambda: serving.prefill_s(1, 1, 0), "peak_flop_per_s"),
        (lambda: serving.prefill_s(1, 1, 1, mfu=1.5), "mfu"),
        (lambda: serving.decode_step_s(0, 0, 1), "weight_bytes"),
        (lambda: serving.decode_step_s(1, -1, 1), "kv_bytes"),
        (lambda: serving.decode_step_s(1, 0, np.array([1.0, 0.0])), "bandwidth_bytes_per_s must be positive, not 0"),
        (lambda: serving.decode_step_s(1, 0, 1, mbu=0), "mbu"),
        (lambda: serving.mixed_step_s(1, 0, 1, 0, 1, 1), "batch"),
        (lambda: serving.mixed_step_s(1, 1, 1, -1, 1, 1), "kv_bytes"),
        (lambda: serving.latency_s(-1, 1, 1), "ttft_s"),
        (lambda: serving.latency_s(1, 1, 0), "generated"),
        (lambda: serving.makespan_s(1.5, 1, 1), "requests"),
        (lambda: serving.makespan_s(1, 0, 1), "batch"),
        (lambda: serving.makespan_s(1, 1, -1), "latency_s"),
        (lambda: serving.decode_ceiling_tokens_per_s(0, 1, 1), "context"),
        (lambda: serving.decode_ceiling_tokens_per_s(1, 1, 1, mbu=2), "mbu"),
        (lambda: serving.kv_crossover_batch(1, 1, 0), "kv_bytes_per_token"),
        (lambda: serving.max_decode_batch(0, 1, 1, 1, 1), "tpot_s"),
        (lambda: serving.max_decode_batch(1, 1, 1, 1, 1, mbu=0), "mbu"),
        (lambda: serving.kv_slots(-1, 1, 1), "free_bytes"),
        (lambda: serving.kv_slots(1, 0, 1), "context"),
        (lambda: serving.decode_intensity_limit(0, 1, 1), "params"),
        (lambda: serving.batch_to_saturate(0), "ridge_flop_per_byte"),
        (lambda: serving.batch_to_saturate(1, weight_bits=0), "weight_bits"),
        (lambda: serving.batch_to_saturate(1, n=0), "n must be a positive whole number, not 0"),
        (lambda: serving.batch_to_saturate(1, k=2.5), "k must be a positive whole number, not 2.5"),
        (lambda: serving.gemm_intensity(1, 0, 1), "n must"),
        (lambda: serving.gemm_intensity(1, 1, 1, bytes_per_element=0), "bytes_per_element"),
        (lambda: serving.gemm_tiles(1, 1, 0, 1), "tile_m"),
        (lambda: serving.gemm_waves(1, 1, 1, 1, 0), "sms"),
        (lambda: serving.wave_efficiency(1, 1, 1, 1.5, 1), "tile_n"),
        (lambda: serving.concurrency(-1, 1), "rate_per_s"),
        (lambda: serving.bytes_in_flight(1, -1), "latency_s"),
        (lambda: serving.mfu(-1, 1, 1), "flop"),
        (lambda: serving.mfu(1, 0, 1), "time_s"),
        (lambda: serving.mbu(-1, 1, 1), "bytes_moved"),
        (lambda: serving.mbu(1, 1, float("inf")), "bandwidth_bytes_per_s"),
        (lambda: serving.static_batch_utilization([]), "lengths must be a list of at least one request"),
        (lambda: serving.static_batch_utilization([[1, 2]]), "lengths must be a list"),
        (lambda: serving.static_batch_utilization([1, 0]), "lengths must be positive, not 0"),
        (lambda: serving.static_batch_utilization([1], slots=0), "slots"),
        (lambda: serving.continuous_batch_utilization([], 1), "lengths"),
        (lambda: serving.continuous_batch_utilization([1], 0), "slots"),
        (lambda: serving.static_utilization_exponential(0), "batch"),
        (lambda: serving.static_utilization_uniform(0), "batch"),
        (lambda: serving.paged_kv_utilization(0, 16), "length"),
        (lambda: serving.paged_kv_utilization(1, 0), "block"),
        (lambda: serving.contiguous_kv_utilization(0, 1), "mean_length"),
        (lambda: serving.contiguous_kv_utilization(2, 1), "mean_length must be at most max_length"),
        (lambda: serving.kv_slots_gain(2, 1, 16), "mean_length must be at most max_length"),
        (lambda: serving.kv_slots_gain(1, 2, 0), "block"),
        (lambda: serving.kv_slots_gain(-7.5, 2, 16), "mean_length must be positive"),
    ],
)
def test_quantities_out_of_range_are_refused_by_name(call, name):
    with pytest.raises(BadQuantity, match=name):
        call()


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (serving.prefill_s, (8e9, 2000, 990e12, 0.5)),
        (serving.decode_step_s, (16e9, 1e9, 3.35e12, 0.7)),
        (serving.mixed_step_s, (7e9, 200, 14e9, 1e9, 312e12, 2e12)),
        (serving.latency_s, (0.065, 0.007, 500)),
        (serving.makespan_s, (1000, 256, 3.5)),
        (serving.decode_ceiling_tokens_per_s, (2000, 131072, 3.35e12, 0.7)),
        (serving.kv_crossover_batch, (16e9, 2000, 131072)),
        (serving.max_decode_batch, (0.025, 16e9, 2048, 131072, 3.35e12, 0.7)),
        (serving.kv_slots, (26e9, 1024, 524288)),
        (serving.decode_intensity_limit, (7e9, 1024, 524288)),
        (serving.batch_to_saturate, (156, 4096, 8192, 8)),
        (serving.gemm_intensity, (16, 4096, 8192, 2)),
        (serving.gemm_tiles, (1793, 1793, 256, 128)),
        (serving.gemm_waves, (1793, 1793, 256, 128, 108)),
        (serving.wave_efficiency, (1793, 1793, 256, 128, 108)),
        (serving.concurrency, (10, 2.5)),
        (serving.bytes_in_flight, (3.35e12, 375e-9)),
        (serving.mfu, (1e12, 0.01, 990e12)),
        (serving.mbu, (1e9, 0.01, 3.35e12)),
        (serving.static_utilization_exponential, (8,)),
        (serving.static_utilization_uniform, (8,)),
        (serving.paged_kv_utilization, (1000, 16)),
        (serving.contiguous_kv_utilization, (204, 1000)),
        (serving.kv_slots_gain, (204, 1000, 16)),
    ],
)
def test_arrays_give_what_scalars_give(function, arguments):
    # Doubling leaves whole numbers whole; shares stay as they are.
    doubled = tuple(value if isinstance(value, float) and value < 1 else 2 * value for value in arguments)
    rows = [arguments, doubled]
    swept = function(*(np.array(column, dtype=np.float64) for column in zip(*rows, strict=True)))
    assert swept.tolist() == pytest.approx([function(*row) for row in rows], rel=1e-12)
