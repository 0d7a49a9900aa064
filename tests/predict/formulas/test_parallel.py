"""Collectives and parallelism against counts by hand and the numbers of the lessons and papers."""

import math
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from predict.errors import BadQuantity
from predict.formulas import parallel

H100_FLOP_PER_S = 990e12
NVLINK_4 = 450e9  # bytes per second of one GPU, one direction

COLLECTIVES = (parallel.all_gather_s, parallel.reduce_scatter_s, parallel.all_reduce_s, parallel.all_to_all_s)
ring_all_reduce_s = partial(parallel.all_reduce_s, in_switch=False)


@pytest.mark.parametrize(
    ("link", "gbit_per_s"),
    [(parallel.INFINIBAND_HDR, 200), (parallel.INFINIBAND_NDR, 400), (parallel.INFINIBAND_XDR, 800)],
)
def test_infiniband_moves_an_eighth_of_its_bits_in_bytes(link, gbit_per_s):
    assert link.bytes_per_s == gbit_per_s * 1e9 / 8
    assert f"{gbit_per_s} Gbit/s" in link.source


def test_nvlink_is_nine_times_infiniband_and_not_eighteen():
    # H100: 450 against 50 GB/s, both one direction. A100: 300 against 25.
    assert parallel.link_gap(NVLINK_4, parallel.INFINIBAND_NDR.bytes_per_s) == 9
    assert parallel.link_gap(300e9, parallel.INFINIBAND_HDR.bytes_per_s) == 12
    # Measured 8-GPU all-reduce: 418 to 431 GB/s.
    assert parallel.link_gap(np.array([418e9, 431e9]), 50e9).tolist() == pytest.approx([8.4, 8.6], abs=0.05)


def test_a_ring_all_reduce_moves_nearly_twice_the_buffer():
    # 8 GPUs, 1 GB, 100 GB/s, 10 us a step: 14 steps * 10 us + 14/8 * 10 ms.
    assert ring_all_reduce_s(1e9, 8, 100e9) == pytest.approx(17.5e-3)
    assert ring_all_reduce_s(1e9, 8, 100e9, latency_s=10e-6) == pytest.approx(17.64e-3)


def test_the_least_is_a_switch_that_takes_the_buffer_once_and_the_reduced_eighth():
    # 9/8 of 2**33 bytes at 450e9 bytes/s: 21.5 ms, where the ring's 7/4 take 33.4; NCCL is measured at 31.2.
    assert parallel.all_reduce_s(2**33, 8, 450e9) == pytest.approx(21.5e-3, rel=2e-3)
    assert ring_all_reduce_s(2**33, 8, 450e9) == pytest.approx(33.4e-3, rel=1e-3)
    # To the switch and back: two latencies, where the ring has 14.
    assert parallel.all_reduce_s(0, 8, 450e9, 1e-6) == pytest.approx(2e-6)
    assert ring_all_reduce_s(0, 8, 450e9, 1e-6) == pytest.approx(14e-6)


def test_a_switch_never_makes_an_all_reduce_send_more():
    # The ring's 2(n-1)/n: 0, 1, 4/3, 3/2; the switch's 1 + 1/n: 2, 3/2, 4/3, 5/4.
    sent = parallel.all_reduce_bytes(12.0, np.array([1.0, 2.0, 3.0, 4.0]))
    assert sent == pytest.approx([0, 12, 16, 15])
    assert parallel.all_reduce_s(1e9, 1, 450e9, 1e-6) == 0


@pytest.mark.parametrize("collective", [parallel.all_gather_s, parallel.reduce_scatter_s, parallel.all_to_all_s])
def test_the_other_collectives_take_half_of_it(collective):
    assert collective(1e9, 8, 100e9) == pytest.approx(8.75e-3)
    assert collective(1e9, 8, 100e9, latency_s=10e-6) == pytest.approx(8.82e-3)


@pytest.mark.parametrize("collective", COLLECTIVES)
def test_one_gpu_has_nobody_to_talk_to(collective):
    assert collective(1e9, 1, 100e9, latency_s=10e-6) == 0


messages = st.floats(1, 1e12)
counts = st.integers(1, 1024)
rates = st.floats(1e9, 1e12)
latencies = st.floats(0, 1e-3)


@pytest.mark.parametrize(
    "collective", [parallel.all_gather_s, parallel.reduce_scatter_s, ring_all_reduce_s, parallel.all_to_all_s]
)
@given(message=messages, gpus=counts, rate=rates, latency=latencies)
def test_more_of_anything_but_bandwidth_never_takes_less_time(collective, message, gpus, rate, latency):
    time_s = collective(message, gpus, rate, latency)
    slack = 1 - 1e-12
    assert collective(2 * message, gpus, rate, latency) >= time_s * slack
    assert collective(message, gpus + 1, rate, latency) >= time_s * slack
    assert collective(message, gpus, rate, 2 * latency) >= time_s * slack
    assert collective(message, gpus, 2 * rate, latency) <= time_s / slack


@given(messages, st.integers(2, 1024), rates)
def test_bus_bandwidth_of_a_predicted_all_reduce_is_the_link(message, gpus, rate):
    time_s = ring_all_reduce_s(message, gpus, rate)
    assert parallel.bus_bandwidth_bytes_per_s(message, gpus, time_s) == pytest.approx(rate)


def test_bus_bandwidth_counts_as_nccl_tests_do():
    # 1 GB in 4 ms on 8 GPUs: algorithm bandwidth 250 GB/s, times 2*7/8.
    assert parallel.bus_bandwidth_bytes_per_s(1e9, 8, 4e-3) == pytest.approx(437.5e9)


def test_two_levels_spread_the_slow_network_over_all_links_of_a_node():
    # 4 nodes of 8, 1 GB. Inside twice 7/8 GB at 450 GB/s: 3.889 ms. Between: 125 MB, 2*3/4 at 50 GB/s: 3.75 ms.
    found = parallel.hierarchical_all_reduce_s(1e9, 4, 8, 450e9, 50e9, in_switch=False)
    assert found == pytest.approx(2 * 7 / 8 * 1e9 / 450e9 + 3.75e-3)
    # 10 us a step: 7 + 7 inside, 2*3 between.
    slower = parallel.hierarchical_all_reduce_s(1e9, 4, 8, 450e9, 50e9, latency_s=10e-6, in_switch=False)
    assert slower - found == pytest.approx(200e-6)
    # Switches that reduce: 9/8 GB inside, 2.5 ms; 5/4 of 125 MB between, 3.125 ms.
    assert parallel.hierarchical_all_reduce_s(1e9, 4, 8, 450e9, 50e9) == pytest.approx(5.625e-3)


@given(messages, st.integers(1, 64), st.integers(1, 16), rates, latencies)
def test_one_level_alone_is_a_plain_all_reduce(message, nodes, gpus, rate, latency):
    one_node = parallel.hierarchical_all_reduce_s(message, 1, gpus, rate, 1.0, latency)
    assert one_node == pytest.approx(parallel.all_reduce_s(message, gpus, rate, latency))
    one_gpu_each = parallel.hierarchical_all_reduce_s(message, nodes, 1, 1.0, rate, latency)
    assert one_gpu_each == pytest.approx(parallel.all_reduce_s(message, nodes, rate, latency))
    # Around rings over equal links two levels move as much as one: (g-1)/g + (n-1)/(n*g) = (n*g-1)/(n*g).
    both = parallel.hierarchical_all_reduce_s(message, nodes, gpus, rate, rate, in_switch=False)
    assert both == pytest.approx(ring_all_reduce_s(message, nodes * gpus, rate))


def test_tensor_parallelism_sums_the_hidden_states_twice_a_layer():
    # 4096 tokens of 8192 in 2 bytes: 64 MiB. 80 layers, 2 all-reduces, 2*7/8 over 450 GB/s: 41.76 ms.
    assert parallel.tensor_parallel_message_bytes(4096, 8192) == 2**26
    expected = 160 * 1.75 * 2**26 / 450e9
    assert parallel.tensor_parallel_comm_s(80, 4096, 8192, 8, NVLINK_4, in_switch=False) == pytest.approx(expected)
    assert expected == pytest.approx(41.76e-3, rel=1e-3)
    # Through a switch that reduces 9/8: 26.84 ms.
    assert parallel.tensor_parallel_comm_s(80, 4096, 8192, 8, NVLINK_4) == pytest.approx(26.84e-3, rel=1e-3)


def test_short_messages_of_tensor_parallelism_are_all_latency():
    # One token: 160 all-reduces of 16 KiB, 14 steps of 1 us each: 2.24 ms against 10 us for the bytes.
    found = parallel.tensor_parallel_comm_s(80, 1, 8192, 8, NVLINK_4, latency_s=1e-6, in_switch=False)
    assert found == pytest.approx(2.24e-3 + 160 * 1.75 * 16384 / 450e9)


@pytest.mark.parametrize(("bytes_per_s", "share"), [(900e9, 0.04476), (50e9, 0.8057)])
def test_the_lesson_s_tax_is_ours_without_the_division_of_compute(bytes_per_s, share):
    # Companion lesson 07a: peak/(3*bandwidth*h), 4.5 % at 900 GB/s and 80 % at 50, h = 8192: 990e12/(3*900e9*8192).
    # Ours at t = 2 has t-1 = 1, which is the same number.
    assert parallel.tensor_parallel_tax(H100_FLOP_PER_S, bytes_per_s, 8192, 2) == pytest.approx(share, rel=1e-4)


def test_the_tax_of_eight_gpus_is_63_percent_of_compute():
    # 990e12 * 7 / (3 * 450e9 * 8192) = 0.6266; at 40 % MFU compute takes longer: 0.2507.
    assert parallel.tensor_parallel_tax(H100_FLOP_PER_S, NVLINK_4, 8192, 8) == pytest.approx(0.627, abs=5e-4)
    at_40 = parallel.tensor_parallel_tax(H100_FLOP_PER_S, NVLINK_4, 8192, 8, mfu=0.4)
    assert at_40 == pytest.approx(0.25, abs=1e-3)


@given(st.integers(1, 10_000), st.integers(64, 20_000), st.integers(1, 64), rates, st.floats(0.1, 1))
def test_the_tax_is_communication_over_compute(tokens, hidden, gpus, rate, mfu):
    compute_s = 24 * tokens * hidden**2 / (gpus * H100_FLOP_PER_S * mfu)
    communication_s = parallel.tensor_parallel_comm_s(1, tokens, hidden, gpus, rate, in_switch=False)
    tax = parallel.tensor_parallel_tax(H100_FLOP_PER_S, rate, hidden, gpus, mfu)
    assert tax == pytest.approx(communication_s / compute_s)


def test_a_part_is_needed_unless_it_holds_none_of_the_chosen_experts():
    # 4 experts in 2 parts, 2 chosen: only one of the 6 pairs lies in the other half.
    assert parallel.expert_hit_share(4, 2, 2) == pytest.approx(5 / 6)
    assert parallel.expert_hit_share(4, 2, 1) == 1
    assert parallel.expert_hit_share(256, 8, 256) == pytest.approx(8 / 256)
    # Large numbers choose almost independently: 1 - (7/8)^8 = 0.656.
    assert parallel.expert_hit_share(256, 8, 8) == pytest.approx(0.656, abs=0.01)


def test_groups_of_experts_keep_tokens_together():
    # DeepSeek-V3: 4 of 8 groups of 32, one on each of 8 GPUs. Half of the GPUs come into question, and 8 of 128 experts
    # leave one of them out with chance C(96, 8) / C(128, 8) = 0.0927.
    missed = math.comb(96, 8) / math.comb(128, 8)
    assert parallel.expert_hit_share(256, 8, 8, 8, 4) == pytest.approx((1 - missed) / 2)
    # Two groups on each of 4 GPUs: none of them chosen with chance C(6, 4)/C(8, 4) = 15/70, one with 40/70, two 15/70.
    both = math.comb(64, 8) / math.comb(128, 8)
    assert parallel.expert_hit_share(256, 8, 4, 8, 4) == pytest.approx(1 - (15 + 40 * missed + 15 * both) / 70)
    # Half a group on each of 16 GPUs.
    half = math.comb(112, 8) / math.comb(128, 8)
    assert parallel.expert_hit_share(256, 8, 16, 8, 4) == pytest.approx((1 - half) / 2)


@pytest.mark.parametrize(("microbatches", "share"), [(8, 0.4667), (64, 0.09859154929577464)])
def test_eight_stages_idle_half_the_time_or_a_tenth(microbatches, share):
    # Companion lesson 07: 7/15, printed as 47 %, and 7/71, printed as 10 %.
    assert parallel.pipeline_bubble(8, microbatches) == pytest.approx(share, rel=1e-4)


def test_interleaving_divides_the_bubble():
    # 4 stages, 8 microbatches: 3/8 of the ideal time; in 2 chunks per stage 3/16, of the total 3/19.
    assert parallel.pipeline_overhead(4, 8) == 3 / 8
    assert parallel.pipeline_overhead(4, 8, interleave=2) == 3 / 16
    assert parallel.pipeline_bubble(4, 8, interleave=2) == 3 / 19
    assert parallel.pipeline_step_s(16.0, 4, 8, interleave=2) == 19.0


def test_interleaving_costs_memory():
    # GPT-3's 8 stages in 3 chunks each: 1 + 7/24. Plain 1F1B keeps as many activations as there are stages: 1.
    assert parallel.pipeline_memory_factor(8, 3) == pytest.approx(1 + 7 / 24)
    assert parallel.pipeline_memory_factor(8, 1) == 1
    assert parallel.pipeline_memory_factor(8, np.array([1, 3])).tolist() == pytest.approx([1, 1 + 7 / 24])


@given(st.floats(1e-3, 100), st.integers(1, 64), st.integers(1, 512), st.integers(1, 8))
def test_the_bubble_is_the_part_of_the_step_that_is_not_ideal(ideal_s, stages, microbatches, interleave):
    step_s = parallel.pipeline_step_s(ideal_s, stages, microbatches, interleave)
    bubble = parallel.pipeline_bubble(stages, microbatches, interleave)
    assert step_s * (1 - bubble) == pytest.approx(ideal_s)
    assert parallel.pipeline_step_s(ideal_s, stages, 2 * microbatches, interleave) <= step_s
    assert parallel.pipeline_step_s(ideal_s, 1, microbatches, interleave) == ideal_s


def test_gradients_hide_from_7920_tokens_per_gpu():
    # Companion lesson 07a, H100 at 40 % over 50 GB/s: 990e12*0.4/50e9, printed as 7,900.
    assert parallel.data_parallel_min_tokens(H100_FLOP_PER_S, 50e9, mfu=0.4) == pytest.approx(7920)


@given(st.floats(1e8, 1e12), st.integers(2, 4096), rates, st.floats(0.1, 1))
def test_from_that_many_tokens_on_communication_is_hidden(params, gpus, rate, mfu):
    tokens = parallel.data_parallel_min_tokens(H100_FLOP_PER_S, rate, mfu)
    forward_s = 2 * params * tokens / (H100_FLOP_PER_S * mfu)
    backward_s = 2 * forward_s
    replicated = parallel.data_parallel_step_s(forward_s, backward_s, 2 * params, gpus, rate, in_switch=False)
    sharded = parallel.fully_sharded_step_s(forward_s, backward_s, 2 * params, gpus, rate)
    assert (replicated, sharded) == pytest.approx((3 * forward_s, 3 * forward_s))
    # With half the tokens and many GPUs it is not.
    short = parallel.data_parallel_step_s(forward_s / 2, backward_s / 2, 2 * params, 4096, rate, in_switch=False)
    assert short > 1.5 * forward_s * (1 + 1e-6)


def test_a_data_parallel_step_waits_for_the_longer_of_backward_and_all_reduce():
    # 8 GPUs, 8 GB of gradients at 100 GB/s: 140 ms around a ring, 90 through a switch that reduces.
    ring_step_s = partial(parallel.data_parallel_step_s, in_switch=False)
    assert ring_step_s(0.1, 0.2, 8e9, 8, 100e9) == pytest.approx(0.3)
    assert ring_step_s(0.05, 0.1, 8e9, 8, 100e9) == pytest.approx(0.19)
    assert ring_step_s(0.1, 0.2, 8e9, 8, 100e9, overlap=False) == pytest.approx(0.44)
    assert parallel.data_parallel_step_s(0.1, 0.2, 8e9, 8, 100e9, overlap=False) == pytest.approx(0.39)
    # 14 steps of 1 ms on top.
    assert ring_step_s(0.1, 0.2, 8e9, 8, 100e9, 1e-3, overlap=False) == pytest.approx(0.454)


def test_a_fully_sharded_step_gathers_in_both_passes():
    # 8 GB: 70 ms to gather, 70 ms to scatter. max(.1, .07) + max(.2, .14); max(.05, .07) + max(.1, .14).
    assert parallel.fully_sharded_step_s(0.1, 0.2, 8e9, 8, 100e9) == pytest.approx(0.3)
    assert parallel.fully_sharded_step_s(0.05, 0.1, 8e9, 8, 100e9) == pytest.approx(0.21)
    assert parallel.fully_sharded_step_s(0.1, 0.2, 8e9, 8, 100e9, overlap=False) == pytest.approx(0.51)


@given(messages, counts, rates, latencies)
def test_sharding_communicates_half_as_much_again(message, gpus, rate, latency):
    sharded = parallel.fully_sharded_comm_s(message, gpus, rate, latency)
    assert sharded == pytest.approx(1.5 * ring_all_reduce_s(message, gpus, rate, latency))


@pytest.mark.parametrize("step", [parallel.data_parallel_step_s, parallel.fully_sharded_step_s])
@given(st.floats(0, 10), st.floats(0, 10), messages, counts, rates)
def test_overlap_never_slows_and_at_best_halves_a_step(step, forward_s, backward_s, message, gpus, rate):
    with_overlap = step(forward_s, backward_s, message, gpus, rate)
    without = step(forward_s, backward_s, message, gpus, rate, overlap=False)
    assert without / 2 * (1 - 1e-12) <= with_overlap <= without * (1 + 1e-12)


@pytest.mark.parametrize("collective", COLLECTIVES)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1, 8, 1e9, 0), "message_bytes must not be negative, not -1"),
        ((1, 0, 1e9, 0), "gpus must be a positive whole number, not 0"),
        ((1, 2.5, 1e9, 0), "gpus must be a positive whole number, not 2.5"),
        ((1, 8, 0, 0), "bytes_per_s must be positive, not 0"),
        ((1, 8, 1e9, -1e-6), "latency_s must not be negative"),
    ],
)
def test_collectives_refuse_quantities_out_of_range(collective, arguments, message):
    with pytest.raises(BadQuantity, match=message):
        collective(*arguments)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: parallel.bus_bandwidth_bytes_per_s(-1, 8, 1), "message_bytes"),
        (lambda: parallel.bus_bandwidth_bytes_per_s(1, 0, 1), "gpus"),
        (lambda: parallel.bus_bandwidth_bytes_per_s(1, 8, 0), "time_s"),
        (lambda: parallel.hierarchical_all_reduce_s(1, 0, 8, 1, 1), "nodes"),
        (lambda: parallel.hierarchical_all_reduce_s(1, 1, 0, 1, 1), "gpus_per_node"),
        (lambda: parallel.hierarchical_all_reduce_s(1, 1, 1, 0, 1), "intra_bytes_per_s"),
        (lambda: parallel.hierarchical_all_reduce_s(1, 1, 1, 1, 0), "inter_bytes_per_s"),
        (lambda: parallel.hierarchical_all_reduce_s(-1, 1, 1, 1, 1), "message_bytes"),
        (lambda: parallel.link_gap(0, 1), "intra_bytes_per_s"),
        (lambda: parallel.link_gap(1, 0), "inter_bytes_per_s"),
        (lambda: parallel.tensor_parallel_message_bytes(0, 1), "tokens"),
        (lambda: parallel.tensor_parallel_message_bytes(1, 0), "hidden"),
        (lambda: parallel.tensor_parallel_message_bytes(1, 1, 0), "bytes_per_element"),
        (lambda: parallel.tensor_parallel_comm_s(0, 1, 1, 1, 1), "layers"),
        (lambda: parallel.tensor_parallel_comm_s(1, 1, 1, 0, 1), "gpus"),
        (lambda: parallel.tensor_parallel_tax(0, 1, 1, 1), "peak_flop_per_s"),
        (lambda: parallel.tensor_parallel_tax(1, 0, 1, 1), "bytes_per_s"),
        (lambda: parallel.tensor_parallel_tax(1, 1, 0, 1), "hidden"),
        (lambda: parallel.tensor_parallel_tax(1, 1, 1, 0), "gpus"),
        (lambda: parallel.tensor_parallel_tax(1, 1, 1, 1, mfu=0), "mfu"),
        (lambda: parallel.expert_hit_share(0, 1, 1), "experts"),
        (lambda: parallel.expert_hit_share(8, 9, 1), "active"),
        (lambda: parallel.expert_hit_share(8, 2, 9), "parts"),
        (lambda: parallel.expert_hit_share(8, 2, 2, 2, 3), "active_groups"),
        (lambda: parallel.pipeline_bubble(0, 1), "stages"),
        (lambda: parallel.pipeline_bubble(1, 0), "microbatches"),
        (lambda: parallel.pipeline_overhead(1, 1, 0), "interleave"),
        (lambda: parallel.pipeline_step_s(-1, 1, 1), "ideal_s"),
        (lambda: parallel.pipeline_step_s(1, 1, 0), "microbatches"),
        (lambda: parallel.pipeline_memory_factor(0, 1), "stages"),
        (lambda: parallel.pipeline_memory_factor(1, 0), "interleave"),
        (lambda: parallel.data_parallel_min_tokens(0, 1), "peak_flop_per_s"),
        (lambda: parallel.data_parallel_min_tokens(1, 0), "bytes_per_s"),
        (lambda: parallel.data_parallel_min_tokens(1, 1, 2), "mfu"),
        (lambda: parallel.data_parallel_step_s(-1, 1, 1, 1, 1), "forward_s"),
        (lambda: parallel.data_parallel_step_s(1, -1, 1, 1, 1), "backward_s"),
        (lambda: parallel.data_parallel_step_s(1, 1, -1, 1, 1), "gradient_bytes"),
        (lambda: parallel.data_parallel_step_s(1, 1, 1, 0, 1), "gpus"),
        (lambda: parallel.fully_sharded_comm_s(-1, 1, 1), "parameter_bytes"),
        (lambda: parallel.fully_sharded_step_s(1, -1, 1, 1, 1), "backward_s"),
        (lambda: parallel.fully_sharded_step_s(1, 1, -1, 1, 1), "parameter_bytes"),
    ],
)
def test_quantities_out_of_range_are_refused_by_name(call, name):
    with pytest.raises(BadQuantity, match=name):
        call()


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        *((collective, (1e9, 8, 450e9, 1e-6)) for collective in COLLECTIVES),
        (parallel.bus_bandwidth_bytes_per_s, (1e9, 8, 4e-3)),
        (parallel.hierarchical_all_reduce_s, (1e9, 4, 8, 450e9, 50e9, 1e-6)),
        (parallel.link_gap, (450e9, 50e9)),
        (parallel.tensor_parallel_message_bytes, (4096, 8192, 2)),
        (parallel.tensor_parallel_comm_s, (80, 4096, 8192, 8, 450e9, 1e-6, 2)),
        (parallel.tensor_parallel_tax, (990e12, 450e9, 8192, 8, 0.4)),
        (parallel.pipeline_bubble, (8, 64, 2)),
        (parallel.pipeline_overhead, (8, 64, 2)),
        (parallel.pipeline_step_s, (1.5, 8, 64, 2)),
        (parallel.pipeline_memory_factor, (8, 2)),
        (parallel.data_parallel_min_tokens, (990e12, 50e9, 0.4)),
        (parallel.data_parallel_step_s, (0.05, 0.1, 8e9, 8, 100e9, 1e-6)),
        (parallel.fully_sharded_comm_s, (8e9, 8, 100e9, 1e-6)),
        (parallel.fully_sharded_step_s, (0.05, 0.1, 8e9, 8, 100e9, 1e-6)),
    ],
)
def test_arrays_give_what_scalars_give(function, arguments):
    rows = [arguments, tuple(2 * value for value in arguments)]
    swept = function(*(np.array(column, dtype=np.float64) for column in zip(*rows, strict=True)))
    assert swept.tolist() == pytest.approx([function(*row) for row in rows], rel=1e-12)
