"""Latent attention on numbers that a person can follow; its bound, and what the host hides."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from predict.expected.kernel import TIME_MODELS, expect
from predict.expected.time_model import Calibration, Machine
from predict.units import Formats, find_dtype

# Round numbers: an SM does 1e12 FLOP/s, DRAM 1e12 B/s.
TOY = Machine(sm=80, sm_count=100, clock_hz=1e9, flop_per_s=1e14, bytes_per_s=1e12, l2_bytes=1e6, link_bytes_per_s=1e11)
WIDTHS = {"latent": 512, "rope": 64}
FP8_CACHE = Formats(kv_bits=8)
PLAIN = {"host_s": 1e-9, "start_s": 10e-6, "math_share": 1.0, "tile_s": 1e-6}
DECODE = {**PLAIN, "dram_share": 1.0, "stream_bytes_per_s": 1e11, "absorbed": 1e-12}
PREFILL = {**PLAIN, "copies": 1.0, "absorbed_copies": 1.0, "absorbed_tile_s": 1e-6}


def terms_of(op, given_constants, switches=(), formats=None, **dims):
    model = TIME_MODELS[op]
    on = {name: name in switches for name in model.switches}
    calibration = Calibration(op, {**model.priors(), **given_constants}, on, 16, "made up")
    return expect({**WIDTHS, **dims}, TOY, formats or Formats(), calibration)


def decode(switches=(), formats=None, *, batch, context, heads, **constants):
    return terms_of(
        "attention_mla", {**DECODE, **constants}, switches, formats, batch=batch, context=context, heads=heads
    )


def prefill(switches=(), *, batch, seq, heads, **constants):
    return terms_of(
        "attention_mla_prefill", {**PREFILL, **constants}, switches, batch=batch, seq=seq, heads=heads, head_dim=128
    )


def test_one_wave_of_decode_by_hand():
    # 100 requests, 64 heads in one block each, two tiles of 64 latents. A tile: 2*64*64*(576+512) FLOP at 1e12, and
    # 64*576*2 bytes at 1e11. DRAM: 100 requests read (128 latents + 64 queries) of 576 elements and write 64 of 512.
    terms = decode(batch=100, context=128, heads=64)
    tiles = 2 * np.hypot(8.912896e-6, 0.73728e-6) + 1e-6
    dram = 100 * ((128 + 64) * 576 + 64 * 512) * 2 / 1e12
    assert terms.parts["tiles"][0] == pytest.approx(tiles)
    assert terms.parts["traffic"][0] == pytest.approx(dram)
    assert terms.parts["combine"][0] == 0
    assert terms.time_s[0] == pytest.approx(10e-6 + (tiles**4 + dram**4) ** 0.25)


def test_few_blocks_split_their_keys_over_idle_sms_and_combine_the_parts():
    # One block of 64 heads and 100 tiles: 100 parts of one tile, each 64 x 512 results in fp32, written and read.
    terms = decode(batch=1, context=6400, heads=64)
    assert terms.parts["tiles"][0] == pytest.approx(np.hypot(8.912896e-6, 0.73728e-6) + 1e-6)
    assert terms.parts["combine"][0] == pytest.approx(8 * 64 * 100 * 512 / 1e12)


def test_small_blocks_take_16_heads_and_make_four_parts():
    # 32 heads are two blocks; 256 latents in four parts of 64 are two tiles of 32 each.
    terms = decode(("small_blocks",), batch=1, context=256, heads=32)
    tile = np.hypot(2 * 16 * 32 * 1088 / 1e12, 32 * 576 * 2 / 1e11)
    assert terms.parts["tiles"][0] == pytest.approx(2 * tile + 1e-6)
    assert terms.parts["combine"][0] == pytest.approx(8 * 32 * 4 * 512 / 1e12)


def test_one_head_has_a_kernel_of_its_own_among_small_blocks_only():
    one, two = (decode(("small_blocks",), batch=500, context=4096, heads=heads).time_s[0] for heads in (1, 2))
    assert one > two
    one, two = (decode(batch=500, context=4096, heads=heads).time_s[0] for heads in (1, 2))
    assert one < two


def test_wide_blocks_compute_rows_that_no_head_fills():
    narrow, wide = (decode(on, batch=1000, context=4096, heads=64) for on in ((), ("wide_blocks",)))
    assert wide.parts["tiles"][0] > 1.9 * narrow.parts["tiles"][0]


def test_absorbed_projections_count_as_often_as_the_constant_says():
    # W_UK and W_UV of 64 heads have 2*128*512 elements each head; a query goes from 128 to 576, a result from 512 to
    # 128 elements: 1344 for each head of a request.
    terms = decode(batch=10, context=128, heads=64, absorbed=3.0)
    assert terms.parts["projections"][0] == pytest.approx(3 * 64 * (2 * 128 * 512 + 10 * 1344) * 2 / 1e12)


def test_a_slow_host_hides_the_work():
    terms = decode(batch=1, context=128, heads=16, host_s=100e-6)
    assert terms.time_s[0] == pytest.approx(100e-6)
    assert terms.parts["waiting"][0] == pytest.approx(100e-6 - decode(batch=1, context=128, heads=16).time_s[0])
    long = {"batch": 1000, "context": 8192, "heads": 16}
    assert decode(**long, host_s=100e-6).time_s[0] == decode(**long).time_s[0]


def test_a_cache_in_8_bits_is_half_of_the_traffic():
    whole, half = (decode((), formats, batch=100, context=8192, heads=1) for formats in (Formats(), FP8_CACHE))
    assert half.parts["traffic"][0] == pytest.approx(0.5 * whole.parts["traffic"][0], rel=1e-3)


def test_a_prompt_by_hand():
    # 100 prompts of one block: 2*128*128*(192+128) FLOP at 1e12. Each of 12,800 tokens moves 192+128 elements a head
    # and its latents of 576 twice; expanding takes 2*128*512 multiply-adds a token at 0.8e14, and reads these weights.
    terms = prefill(batch=100, seq=128, heads=1)
    assert terms.parts["tiles"][0] == pytest.approx(10.48576e-6)
    assert terms.parts["copies"][0] == pytest.approx(12800 * (320 + 2 * 576) * 2 / 1e12)
    assert terms.parts["projections"][0] == pytest.approx(131072 * 2 / 1e12 + 2 * 12800 * 131072 / 0.8e14)
    assert terms.time_s[0] == pytest.approx(
        10e-6 + sum(terms.parts[name][0] for name in ("tiles", "copies", "projections"))
    )


def test_a_short_prompt_may_attend_to_the_latents():
    # A head's 128 rows are two blocks of 64, each over (128+1)/2 latents in whole tiles of 64: 128. 12,800 tokens of up
    # to 64 heads are as many blocks of 1 us.
    terms = prefill(("absorbs_short",), batch=100, seq=128, heads=1)
    assert terms.parts["tiles"][0] == pytest.approx((200 * 128 * 2 * 64 * 1088 / 1e12 + 12800 * 1e-6) / 100)
    assert terms.parts["copies"][0] == pytest.approx(12800 * (1088 + 2 * 576) * 2 / 1e12)


@pytest.mark.parametrize(
    ("seq", "switch"), [(128, "absorbs_short"), (129, "absorbs_middle"), (512, "absorbs_middle"), (513, None)]
)
def test_each_switch_holds_for_its_lengths(seq, switch):
    plain = prefill(batch=8, seq=seq, heads=16).time_s[0]
    changed = {
        each
        for each in ("absorbs_short", "absorbs_middle")
        if prefill((each,), batch=8, seq=seq, heads=16).time_s[0] != plain
    }
    assert changed == ({switch} if switch else set())


def test_the_bounds_by_hand():
    decode_s = TIME_MODELS["attention_mla"].napkin_s
    rows = {
        name: np.array([float(value)]) for name, value in {**WIDTHS, "batch": 2, "context": 1000, "heads": 1}.items()
    }
    assert decode_s(rows, TOY, FP8_CACHE)[0] == pytest.approx((2 * 1000 * 576 + 2 * (576 + 512) * 2) / 1e12)
    prompt_s = TIME_MODELS["attention_mla_prefill"].napkin_s
    rows = {**rows, "seq": np.array([4.0]), "head_dim": np.array([128.0])}
    assert prompt_s(rows, TOY, Formats())[0] == pytest.approx(2 * 4 * (192 + 128 + 576) * 2 / 1e12)
    long = {**rows, "seq": np.array([1e6])}
    assert prompt_s(long, TOY, Formats())[0] == pytest.approx(2 * 2 * 1e6 * (1e6 + 1) / 2 * (192 + 128) / 1e14)


@given(
    st.integers(1, 512),
    st.integers(1, 40000),
    st.integers(1, 128),
    st.sets(st.sampled_from(["small_blocks", "wide_blocks", "absorbs_short", "absorbs_middle"])),
    st.sampled_from(["low", "prior", "high"]),
)
def test_no_expected_time_is_under_the_bound(batch, tokens, heads, switches, end):
    for op, size in (("attention_mla", "context"), ("attention_mla_prefill", "seq")):
        model = TIME_MODELS[op]
        constants = {name: getattr(each, end) for name, each in model.constants.items()}
        dims = {**WIDTHS, "batch": batch, size: tokens, "heads": heads}
        if op == "attention_mla_prefill":
            dims["head_dim"] = 128
        for formats in (Formats(), FP8_CACHE):
            time_s = terms_of(op, constants, switches, formats, **dims).time_s
            rows = {name: np.array([float(value)]) for name, value in dims.items()}
            assert time_s[0] >= 0.999 * model.napkin_s(rows, TOY, formats)[0]


def test_only_hopper_has_kernels_for_short_prompts_of_latents_by_default():
    defaults = TIME_MODELS["attention_mla_prefill"].default_switches
    assert not any(defaults(TOY).values())
    assert all(defaults(Machine(90, 132, 1.8e9, 9.9e14, 3.3e12, 5e7, None)).values())


@pytest.mark.parametrize("op", ["attention_mla", "attention_mla_prefill"])
def test_a_hundred_thousand_rows_take_less_than_two_seconds(op):
    random = np.random.default_rng(1)
    dims = {name: random.integers(1, 4096, 100_000) for name in TIME_MODELS[op].dims}
    started = time.perf_counter()
    assert np.isfinite(terms_of(op, {}, **dims).time_s).all()
    assert time.perf_counter() - started < 2


def test_constants_and_switches_are_few():
    for op in ("attention_mla", "attention_mla_prefill"):
        assert len(TIME_MODELS[op].constants) <= 8
        assert len(TIME_MODELS[op].switches) <= 3
        assert TIME_MODELS[op].fitted(Formats.of(find_dtype("fp8"))) == tuple(TIME_MODELS[op].constants)
