"""The forms of expected time on numbers that a person can follow, their limits, and what they may never do."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from predict.errors import MissingCeiling
from predict.expected.kernel import TIME_MODELS, expect
from predict.expected.time_model import Calibration, Machine
from predict.gpus import GPUS
from predict.units import Formats, find_dtype
from tests.calibrations import CALIBRATIONS

BF16 = find_dtype("bf16")
# Round numbers: an SM does 1e12 FLOP/s, DRAM 1e12 B/s.
TOY = Machine(sm=80, sm_count=100, clock_hz=1e9, flop_per_s=1e14, bytes_per_s=1e12, l2_bytes=1e6, link_bytes_per_s=1e11)


def calibrated(op, switches=(), **constants):
    model = TIME_MODELS[op]
    on = {name: name in switches for name in model.switches}
    return Calibration(op, {**model.priors(), **constants}, on, 16, "made up")


def time_of(op, calibration, machine=TOY, **dims):
    return float(expect(dims, machine, Formats(), calibration).time_s[0])


MATMUL = calibrated(
    "matmul", ("whole_waves", "fixed_tiles"), launch_s=1e-6, math_share=1.0, dram_share=1.0, tile_edge=20.0, join_s=1e-6
)


def p4(a, b):
    return (a**4 + b**4) ** 0.25


def together(a, b):
    """Two times that hide each other, but for 1 us of the shorter one at most."""
    return p4(a, b) + 1 / (1 / min(a, b) + 1 / 1e-6)


def test_one_tile_of_a_matmul_by_hand():
    # m = 128 fixes the height at 128. Tiles 128x64: 64 of them on 100 SMs, one wave.
    # math: 2*128*64*4096 / 1e12 = 67.1 us; load: 128 + 64 elements of 4096 at 20e-12 s; 128 steps of 72 clocks are
    # shorter; store: 128*64*5/2 elements. DRAM: B of 32 MiB, A of 1 MiB once cold, and C of 1 MiB at 1.2.
    terms = expect({"m": 128, "n": 4096, "k": 4096}, TOY, Formats(), MATMUL)
    sms = p4(67.108864e-6, 192 * 4096 * 20e-12) + 0.4096e-6
    dram = (4096 * 4096 * 2 + 128 * 4096 * 2 + 1.2 * 128 * 4096 * 2) / 1e12
    assert terms.parts["sms"][0] == pytest.approx(sms)
    assert terms.parts["memory"][0] == pytest.approx(dram)
    assert terms.time_s[0] == pytest.approx(1e-6 + together(sms, dram))


def test_a_column_more_than_the_sms_hold_costs_a_wave():
    # Tiles of 256x128: m = 2560 and 1280 columns are 100 of them, one wave. With a column more the best is 256x64: 210
    # tiles in three waves of half the work.
    one, two = (time_of("matmul", MATMUL, m=2560, n=n, k=8192) for n in (1280, 1281))
    assert two == pytest.approx(1.5 * one, rel=0.02)
    spread = calibrated("matmul", launch_s=1e-6, math_share=1.0, dram_share=1.0, tile_edge=20.0)
    smooth = [time_of("matmul", spread, m=2560, n=n, k=8192) for n in (1280, 1281)]
    assert smooth[1] < 1.15 * smooth[0]


def test_a_deep_and_small_product_is_split_over_idle_sms():
    deep = {"m": 64, "n": 64, "k": 65536}
    constants = {"launch_s": 1e-6, "math_share": 1.0, "dram_share": 1.0, "tile_edge": 20.0, "join_s": 1e-6}
    whole, split = (calibrated("matmul", on, **constants) for on in ((), ("splits_k",)))
    assert time_of("matmul", split, **deep) < time_of("matmul", whole, **deep) / 4
    assert expect(deep, TOY, Formats(), split).parts["join"][0] > 1e-6
    fixed = calibrated("matmul", ("splits_k", "fixed_tiles"), **constants)  # k stays whole where tiles are fixed
    assert expect(deep, TOY, Formats(), fixed).parts["join"][0] == 0


def test_a_step_over_k_takes_its_latency():
    # An SM does 1e14 FLOP/s: a tile of 64x32 takes 2*64*32*32768 / 1e14 = 1.3 us of products, but waits 72 clocks of
    # 1 ns in each of 1024 steps of 32 elements.
    fast = Machine(
        sm=80, sm_count=100, clock_hz=1e9, flop_per_s=1e16, bytes_per_s=1e15, l2_bytes=1e6, link_bytes_per_s=None
    )
    assert expect({"m": 1, "n": 1, "k": 32768}, fast, Formats(), MATMUL).parts["sms"][0] == pytest.approx(
        1024 * 72e-9, rel=1e-3
    )


def test_a_launch_that_the_cpu_needs_hides_the_work():
    slow, quick, quicker = (calibrated("matmul", launch_s=launch_s) for launch_s in (100e-6, 15e-6, 5e-6))
    assert time_of("matmul", slow, m=16, n=1024, k=1024) == pytest.approx(100e-6)
    # A launch of at most 20 us is the GPU's own, and the work follows it.
    longer, shorter = (time_of("matmul", each, m=16, n=1024, k=1024) for each in (quick, quicker))
    assert longer - shorter == pytest.approx(10e-6)


def test_weights_of_few_sets_stay_in_an_l2_that_holds_them():
    # L2 of 1 MB, of which 0.8 MB is enough to find everything again. B is 0.25 MB, A and C are 2 KiB each: three sets
    # stay, six do not. L2 gives 0.37 * 100 SMs * 2 B / 20e-12 s = 3.7 TB/s.
    dims = {"m": 2, "n": 512, "k": 256}
    b, a, c = 512 * 256 * 2, 2 * 256 * 2, 2 * 512 * 2
    kept, lost, unknown = (
        expect({**dims, **sets}, TOY, Formats(), MATMUL).parts["memory"][0]
        for sets in ({"weight_sets": 3}, {"weight_sets": 6}, {})
    )
    assert kept == pytest.approx((a + b + 2 * c) / 3.7e12)
    assert lost == pytest.approx(b / 1e12 + (a + 2 * c) / 3.7e12)
    assert unknown == lost


def test_narrowing_activations_costs_time_only_where_they_are_narrowed():
    fp8 = Formats.of(find_dtype("fp8"))
    assert fp8 == Formats(weight_bits=8, kv_bits=8, compute=find_dtype("fp8"))
    assert (fp8.activation, fp8.narrows, Formats().narrows) == (BF16, True, False)
    dims = {"m": 1000, "n": 512, "k": 1000}
    # A million elements of 2 B and of 1 B are more than L2 holds: 3 B each are 3 us; 1000 rows are 10 or 1 us.
    for token_s, narrow_s in ((1e-8, 1e-5), (1e-9, 3e-6)):
        calibration = calibrated("matmul", token_s=token_s, narrow_bytes=3.0, dram_share=1.0)
        assert expect(dims, TOY, fp8, calibration).parts["narrow"][0] == pytest.approx(narrow_s)
        assert expect(dims, TOY, Formats(), calibration).parts["narrow"][0] == 0


def test_weights_alone_in_4_bits_move_a_quarter_of_the_bytes():
    narrow = Formats.of(BF16, find_dtype("int4"))
    assert (narrow.weight_bits, narrow.compute.bits, narrow.narrows, narrow.widens) == (4, 16, False, True)
    wide_s = expect({"m": 1, "n": 8192, "k": 8192}, TOY, Formats(), MATMUL).parts["memory"][0]
    assert expect({"m": 1, "n": 8192, "k": 8192}, TOY, narrow, MATMUL).parts["memory"][0] == pytest.approx(
        wide_s / 4, rel=0.01
    )


def test_weights_are_widened_before_they_are_multiplied():
    # Tiles 64x64: 100 of them, one wave. math: 2*64*64*4096 / 1e12 = 33.55 us. A column of 4 bits is a quarter of one
    # of 16: 16 columns of 4096 elements are widened, 2 B each at 16 B a clock: 8.19 us. load: 80 * 4096 at 20e-12 s.
    constants = {"launch_s": 1e-6, "math_share": 1.0, "dram_share": 1.0, "tile_edge": 20.0, "widen_bytes": 16.0}
    calibration = calibrated("matmul", ("whole_waves", "fixed_tiles"), **constants)
    terms = expect({"m": 64, "n": 6400, "k": 4096}, TOY, Formats.of(BF16, find_dtype("int4")), calibration)
    math, load, store = 33.554432e-6 + 8.192e-6, 80 * 4096 * 20e-12, 64 * 64 * 2.5 * 20e-12
    assert terms.parts["sms"][0] == pytest.approx(p4(math, load) + store)


def test_an_all_reduce_by_hand():
    calibration = calibrated(
        "all_reduce", start_s=5e-6, step_s=1e-6, link_share=0.5, shard_share=0.5, doubling_share=1.0, fill_s=2e-6
    )
    # 4 GPUs, 100 MB: each sends 1.5 times that at 50 GB/s: 3 ms; its own 25 MB at 0.5 TB/s: 50 us;
    # start 5 us + 3 steps of 1 us; fill 2 sqrt(2e-6 * 3.05e-3).
    expected = 5e-6 + 3e-6 + 3e-3 + 50e-6 + 2 * np.sqrt(2e-6 * 3.05e-3)
    assert time_of("all_reduce", calibration, gpus=4, message_bytes=1e8) == pytest.approx(expected)


def test_an_engines_own_all_reduce_by_hand():
    constants = {"start_s": 5e-6, "step_s": 1e-6, "link_share": 0.5, "shard_share": 0.5, "doubling_share": 1.0}
    direct, library = (calibrated("all_reduce", on, fill_s=2e-6, **constants) for on in (("direct",), ()))
    # 4 GPUs, 100 kB: each reads the 300 kB of the others at 50 GB/s, 6 us. Reading shards twice is half of that, and
    # 50 ns for its own, but waits for another 5 us.
    assert time_of("all_reduce", direct, gpus=4, message_bytes=1e5) == pytest.approx(8e-6 + 6e-6)
    # 1 MB: 60 us at once; shards are 30 us of wire, 0.5 us of their own, and 5 us of waiting.
    assert time_of("all_reduce", direct, gpus=4, message_bytes=1e6) == pytest.approx(8e-6 + 30e-6 + 0.5e-6 + 5e-6)
    large = {"gpus": 4, "message_bytes": 2.0**23}  # more than its buffer holds
    assert time_of("all_reduce", direct, **large) == time_of("all_reduce", library, **large)


def test_a_collective_launched_by_the_cpu_takes_the_longer_of_launch_and_work():
    constants = {"start_s": 47e-6, "step_s": 1e-6, "link_share": 0.5, "shard_share": 0.5, "doubling_share": 1.0}
    eager = calibrated("all_reduce", ("direct", "hidden_by_launch"), **constants)
    assert time_of("all_reduce", eager, gpus=4, message_bytes=1e5) == pytest.approx(50e-6)  # 6 us of work
    assert time_of("all_reduce", eager, gpus=4, message_bytes=1e6) == pytest.approx(60e-6)  # 60 us, read at once


DECODING = {
    "launch_s": 10e-6, "dram_share": 0.5, "tile_s": 1e-6, "stream_bytes_per_s": 1e10, "combine_s": 1e-6,
    "sequence_s": 1e-9, "l2_gain": 1.0,
}  # fmt: skip


def test_decoding_one_request_by_hand():
    calibration = calibrated("attention_decode", ("splits_keys", "packs_groups"), **DECODING)
    # 12,800 keys are 100 tiles of 128; one block of the only KV head, so 32 splits at most: 25 of 4 tiles on 100 SMs,
    # one wave: a tile of K and V is 65,536 B, Q and O of 8 heads are 2*2*128*8 = 4096 B: 26.6 us at 10 GB/s.
    tiles = (4 * 65536 + 4096) / 1e10
    # DRAM at half the bandwidth: 2*12800*128*2 B of cache and 4096 B: 13.1 us. Combining: 25 parts of 8 rows of fp32.
    dram = (2 * 12800 * 128 * 2 + 4096) / 0.5e12
    combine = 1e-6 + 25 * 8 * 4 * 128 / 1e10
    expected = 10e-6 + 1e-9 + (tiles**3 + dram**3) ** (1 / 3) + combine
    dims = {"batch": 1, "context": 12800, "heads": 8, "kv_heads": 1, "head_dim": 128}
    assert time_of("attention_decode", calibration, **dims) == pytest.approx(expected)
    window = time_of("attention_decode", calibration, window=128, **dims)
    assert window < expected / 1.5  # one tile is left


def test_query_heads_in_place_of_rows_split_keys_further_and_need_copies():
    on = ("splits_keys", "packs_groups", "swaps_groups")
    calibration = calibrated("attention_decode", on, **DECODING)
    dims = {"batch": 1, "context": 12800, "heads": 8, "kv_heads": 1, "head_dim": 128}
    terms = expect(dims, TOY, Formats(), calibration)
    assert terms.parts["tiles"][0] == pytest.approx((65536 + 4096) / 1e10)  # 100 splits of a tile
    assert terms.parts["copies"][0] == 0  # of one request, and of one KV head
    several = expect({**dims, "batch": 4, "heads": 16, "kv_heads": 2}, TOY, Formats(), calibration)
    # Launches of 1.2 us; Q and O of 64 heads of 128, read and written: 64 KiB at 0.5 TB/s.
    assert several.parts["copies"][0] == pytest.approx(1.2e-6 + 2 * 2 * 2 * 64 * 128 / 0.5e12)


def test_a_cache_stays_in_l2_only_between_calls_that_come_back_to_it():
    calibration = calibrated("attention_decode", ("packs_groups",), **{**DECODING, "l2_gain": 2.0})
    # 400 tokens of one head: 2*400*128*2 B and Q and O of 512 B each fit into L2 of 1 MB whole.
    dims = {"batch": 1, "context": 400, "heads": 1, "kv_heads": 1, "head_dim": 128}
    cold, warm = (
        expect({**dims, **told}, TOY, Formats(), calibration).parts["traffic"][0] for told in ({}, {"warm": 1})
    )
    assert cold == pytest.approx((2 * 400 * 128 * 2 + 512) / 0.5e12)
    assert warm == pytest.approx(cold / 2)


def test_attention_that_reads_dram_is_never_faster_than_its_bound():
    machine = Machine.of(GPUS["l40s"], BF16)  # 96 MB of L2
    dims = {"batch": 4, "context": 4096, "heads": 32, "kv_heads": 8, "head_dim": 128}
    cold, warm = (
        time_of("attention_decode", CALIBRATIONS["l40s", "attention_decode", "bf16"], machine, **dims, warm=warm)
        for warm in (0, 1)
    )
    assert warm < 2 * 4 * 4096 * 8 * 128 * 2 / 864e9 < cold


def test_query_heads_that_do_not_share_a_block_read_the_cache_again():
    packed, alone = (calibrated("attention_decode", on, **DECODING) for on in (("packs_groups",), ()))
    dims = {"batch": 2, "context": 12800, "heads": 8, "kv_heads": 2, "head_dim": 128}
    once, again = (expect(dims, TOY, Formats(), each).parts for each in (packed, alone))
    # Each of 2 KV heads holds 2 requests * 2 * 12800 * 128 * 2 B, more than L2; 6 heads read theirs again.
    more = 6 * 2 * 2 * 12800 * 128 * 2 / 0.5e12
    assert again["traffic"][0] - once["traffic"][0] == pytest.approx(more)


def test_more_query_heads_than_an_instruction_multiplies_take_longer_a_tile():
    calibration = calibrated("attention_decode", ("packs_groups",), wide_s=1e-6, **DECODING)
    shape = {"batch": 1, "context": 1280, "kv_heads": 1, "head_dim": 128}
    narrow, wide = (
        expect({**shape, "heads": heads}, TOY, Formats(), calibration).parts["tiles"][0] for heads in (16, 32)
    )
    assert wide - narrow == pytest.approx(10 * 1e-6 + 16 * 512 / 1e10)  # ten tiles; Q and O of 16 heads more


def test_a_prompt_meets_half_of_the_tiles():
    constants = {"launch_s": 1e-6, "math_share": 1.0, "softmax": 1.0, "tile_s": 1e-7, "write_bytes_per_s": 1e15}
    dims = {"batch": 1, "seq": 8192, "heads": 64, "kv_heads": 64, "head_dim": 128}
    # 64 heads of 8192 tokens: 128 blocks of 64 rows a head (sm 80), 8192 blocks in 82 waves; on average a block meets
    # 32.5 of 64 tiles: a tile is 4*64*128*128/1e12 = 4.19 us of products and 64*128/(16*1e9) = 0.51 us of exp.
    step = np.hypot(4 * 64 * 128 * 128 / 1e12, 64 * 128 / (16 * 1e9))
    tiles_s = 82 * (1e-7 + 32.5 * step) - 1e-7
    sorted_first = calibrated("attention_prefill", ("longest_first",), overlap=4.0, **constants)
    assert expect(dims, TOY, Formats(), sorted_first).parts["tiles"][0] == pytest.approx(tiles_s)
    # Else SMs wait for the longest block of their last wave: 0.8 of 64 - 32.5 tiles.
    as_they_come = calibrated("attention_prefill", overlap=4.0, **constants)
    assert expect(dims, TOY, Formats(), as_they_come).parts["tiles"][0] == pytest.approx(tiles_s + 0.8 * 31.5 * step)


def test_prompts_of_one_token_copy_the_heads_that_kernels_do_not_pack():
    dims = {"batch": 4, "seq": 1, "heads": 16, "kv_heads": 2, "head_dim": 128}
    packs, copies = (calibrated("attention_prefill", on, combine_s=1e-6) for on in (("packs_groups",), ()))
    assert expect(dims, TOY, Formats(), packs).parts["copies"][0] == 0
    assert expect(dims, TOY, Formats(), copies).parts["copies"][0] > 1.2e-6
    assert expect({**dims, "seq": 2}, TOY, Formats(), copies).parts["copies"][0] == 0


sizes = st.integers(1, 2**14)


@given(sizes, sizes, sizes, st.sampled_from(["a100-sxm-80gb", "h100-sxm"]))
def test_a_matmul_never_takes_less_than_its_flop_or_its_weights(m, n, k, gpu):
    machine, calibration = Machine.of(GPUS[gpu], BF16), CALIBRATIONS[gpu, "matmul", "bf16"]
    least = max(2 * m * n * k / machine.flop_per_s, (n * k + m * n) * 2 / machine.bytes_per_s)
    assert time_of("matmul", calibration, machine, m=m, n=n, k=k) > least


@given(st.integers(1, 512), st.integers(1, 2**17), st.sampled_from([1, 2, 8, 32]), st.sampled_from([64, 128, 256]))
def test_attention_never_beats_its_flop(batch, tokens, kv_heads, head_dim):
    machine = Machine.of(GPUS["h100-sxm"], BF16)
    dims = {"batch": batch, "heads": 32, "kv_heads": kv_heads, "head_dim": head_dim}
    decode = time_of(
        "attention_decode", CALIBRATIONS["h100-sxm", "attention_decode", "bf16"], machine, context=tokens, **dims
    )
    assert decode > 4 * batch * 32 * head_dim * tokens / machine.flop_per_s
    seq = min(tokens, 4096)
    prefill = time_of(
        "attention_prefill", CALIBRATIONS["h100-sxm", "attention_prefill", "bf16"], machine, seq=seq, **dims
    )
    assert prefill > 4 * batch * 32 * head_dim * seq * (seq + 1) / 2 / machine.flop_per_s


@pytest.mark.parametrize("op", TIME_MODELS)
def test_arrays_are_what_single_rows_are(op):
    dims = {
        "matmul": {"m": [1, 128, 5000], "n": 4096, "k": [64, 512, 100]},
        "attention_prefill": {
            "batch": [1, 8, 3],
            "seq": [1, 500, 9000],
            "heads": 32,
            "kv_heads": [32, 8, 1],
            "head_dim": 128,
        },
        "attention_decode": {
            "batch": [1, 8, 300],
            "context": [1, 500, 9000],
            "heads": 32,
            "kv_heads": [32, 8, 1],
            "head_dim": 64,
        },
        "attention_mla": {"batch": [1, 8, 300], "context": [1, 500, 9000], "heads": 16, "latent": 512, "rope": 64},
        "attention_mla_prefill": {
            "batch": [1, 8, 3],
            "seq": [1, 500, 9000],
            "heads": 16,
            "latent": 512,
            "rope": 64,
            "head_dim": 128,
        },
        "moe_layer": {
            "tokens": [1, 100, 9000],
            "hidden": 4096,
            "intermediate": 1536,
            "active": 8,
            "experts": [64, 128, 128],
            "tp": [1, 4, 1],
            "ep": [8, 1, 16],
            "skew": [1.01, 0, 1.2],
        },
    }.get(op, {"gpus": [2, 4, 8], "message_bytes": [1024, 1e6, 1e9]})
    calibration = calibrated(op)
    together = expect(dims, TOY, Formats(), calibration).time_s
    for row in range(3):
        alone = {name: value[row] if isinstance(value, list) else value for name, value in dims.items()}
        assert time_of(op, calibration, **alone) == pytest.approx(together[row], rel=1e-12)


@pytest.mark.parametrize("key", CALIBRATIONS, ids="-".join)
def test_what_ships_is_within_its_ranges_and_names_its_source(key):
    model, calibration = TIME_MODELS[key[1]], CALIBRATIONS[key]
    for name, value in calibration.constants.items():
        assert model.constants[name].low <= value <= model.constants[name].high
    assert len(calibration.constants) <= 8
    assert calibration.switches.keys() == model.switches.keys()
    assert len(calibration.switches) <= 3
    assert calibration.probes == 16
    assert "aiconfigurator 095f58a" in calibration.source


def test_a_machine_tells_whether_its_l2_is_one():
    parts = {name: Machine.of(GPUS[name], BF16).l2_partitions for name in ("a100-sxm-80gb", "h100-sxm", "b200", "l40s")}
    assert parts == {"a100-sxm-80gb": 2, "h100-sxm": 2, "b200": 2, "l40s": 1}


def test_a_fact_that_nobody_published_raises():
    unknown = Machine(80, 100, 1e9, 1e14, 1e12, 1e6, None)
    with pytest.raises(MissingCeiling, match="link"):
        time_of("all_reduce", calibrated("all_reduce"), unknown, gpus=2, message_bytes=1)
