"""The load of experts and the time of a MoE layer on numbers that a person can follow."""

import numpy as np
import pytest

from predict.expected.expert_load import expert_load
from predict.expected.kernel import TIME_MODELS, expect
from predict.expected.time_model import Machine
from predict.units import Formats, find_dtype
from tests.predict.expected.test_kernel import TOY, calibrated

LAYER = {"tokens": 8, "hidden": 1024, "intermediate": 512, "active": 2, "experts": 8, "tp": 1, "ep": 1}
ROUND = {"launch_s": 1e-5, "math_share": 1.0, "dram_share": 1.0, "tile_s": 1e-6, "move_share": 1.0, "row_s": 1e-9}


def load_of(tokens, active, experts, gpus=1, skew=0.0, *, gathers=False):
    shape = (np.array([each], dtype=float) for each in (tokens, active, experts, gpus, skew))
    return expert_load(*shape, gathers=gathers)


def terms_of(switches=(), *, machine=TOY, formats=None, constants=(), **changed):
    calibration = calibrated("moe_layer", switches, **{**ROUND, **dict(constants)})
    return expect({**LAYER, **changed}, machine, formats or Formats(), calibration)


def together(sms_s, dram_s):
    return (sms_s**2.5 + dram_s**2.5) ** 0.4


def test_rows_fall_evenly_as_far_as_whole_numbers_allow():
    load = load_of(5, 2, 4)  # 10 rows: 2, 2, 3, 3
    assert (load.rows[0], load.touched[0]) == (10, 4)
    assert (load.tiles(2)[0], load.tiles(3)[0]) == (1 + 1 + 2 + 2, 4)


def test_the_busiest_gpu_has_its_part_of_the_longer_experts():
    load = load_of(3, 2, 8, gpus=4)  # 6 rows on 8 experts, two on each GPU: one GPU at least has two rows
    assert (load.rows[0], load.touched[0], load.tiles(16)[0], load.all_tiles(16)[0]) == (2, 2, 2, 6)
    assert load_of(8, 2, 8, gpus=4).rows[0] == 4


def test_an_exponent_of_1_is_between_its_neighbors():
    below, at, above = (load_of(4096, 8, 128, gpus=8, skew=skew).rows[0] for skew in (0.999, 1.0, 1.001))
    assert below == pytest.approx(at, rel=0.01)
    assert above == pytest.approx(at, rel=0.01)
    assert at > 1.05 * load_of(4096, 8, 128, gpus=8).rows[0]


def test_rows_follow_the_quantiles_of_the_law():
    # As many experts as quantiles. The density x^-2 from 1 to 8e5 has the quantiles 1 / (1 - u (1 - 1 / 8e5)).
    load = load_of(10**6, 1, 32, skew=2.0)
    least, most = (1 / (1 - u * (1 - 1 / 8e5)) for u in (0.5 / 32, 31.5 / 32))
    counts = load.counts[0, :32]
    assert counts[-1] / counts[0] == pytest.approx(most / least, rel=1e-3)
    assert load.rows[0] == pytest.approx(10**6, abs=16)  # each expert rounds half a row at most


def test_no_expert_gets_more_rows_than_there_are_tokens():
    load = load_of(100, 7, 8, skew=1.2)  # 700 rows on 8 experts of at most 100
    assert load.counts.max() == 100
    assert load.rows[0] == pytest.approx(700, rel=0.01)


def test_one_token_reaches_one_expert_of_each_gpu_or_gathers_on_one():
    spread, gathered = (load_of(1, 8, 256, gpus=32, skew=1.01, gathers=gathers) for gathers in (False, True))
    assert (spread.rows[0], spread.touched[0]) == (1, 1)
    assert (gathered.rows[0], gathered.touched[0]) == (8, 8)


@pytest.mark.parametrize("gpus", [2, 8, 64])
def test_the_busiest_gpu_has_more_than_its_part_under_a_power_law(gpus):
    busiest, even = (load_of(4096, 8, 64, gpus=gpus, skew=skew).rows[0] for skew in (1.2, 0.0))
    assert even == 4096 * 8 / gpus
    assert even < busiest <= 4096 * min(8, 64 / gpus)


def test_a_layer_by_hand():
    # 16 rows, 2 of each expert: 8 tiles of 16 rows. Up 1024 columns, 8 tiles wide: 64 tiles, less than one wave.
    terms = terms_of()
    up_s = together(2 * 16 * 128 * 1024 / 1e12 + 1e-6, (8 * 1024 * 1024 + 16 * (1024 + 1024)) * 2 / 1e12)
    down_s = together(2 * 16 * 128 * 512 / 1e12 + 1e-6, (8 * 512 * 1024 + 16 * (512 + 1024)) * 2 / 1e12)
    move_s = (16 * (1024 + 512 + 1024) + 8 * 1024) * 2 / 1e12
    assert [float(part[0]) for part in terms.parts.values()] == pytest.approx([1e-5, 0, up_s, down_s, move_s, 16e-9])
    assert terms.time_s[0] == pytest.approx(1e-5 + up_s + down_s + move_s + 16e-9)


def test_tiles_beyond_one_wave_take_their_part_of_another():
    # 1024 rows on 8 experts: a tile of 128 each, 64 of them up, of 16 columns with 2048: 128 tiles on 100 SMs.
    wide = terms_of(tokens=512, intermediate=1024).parts["up"][0]
    dram_s = (8 * 2048 * 1024 + 1024 * (2048 + 1024)) * 2 / 1e12
    assert wide == pytest.approx(together(1.28 * (2 * 128 * 128 * 1024 / 1e12 + 1e-6), dram_s))


def test_untuned_tiles_have_16_rows_or_64():
    few, more = (terms_of(["coarse_tiles"], tokens=tokens) for tokens in (8, 9))
    assert few.parts["up"][0] == terms_of().parts["up"][0]
    dram_s = (8 * 1024 * 1024 + 18 * (1024 + 1024)) * 2 / 1e12  # 18 rows: 2 or 3 of each expert
    assert more.parts["up"][0] == pytest.approx(together(2 * 64 * 128 * 1024 / 1e12 + 1e-6, dram_s))


def test_gpus_that_share_experts_have_their_part():
    # Two experts of 8 on each of 4 GPUs: 4 rows, 2 tiles, a quarter of the weights; finding them takes its time.
    terms = terms_of(ep=4, constants={"share_s": 3e-6})
    dram_s = (2 * 1024 * 1024 + 4 * (1024 + 1024)) * 2 / 1e12
    assert terms.parts["share"][0] == 3e-6
    assert terms.parts["up"][0] == pytest.approx(together(2 * 16 * 128 * 1024 / 1e12 + 1e-6, dram_s))
    assert terms.parts["move"][0] == pytest.approx((4 * 2560 + 8 * 1024) * 2 / 1e12)
    # A kernel that does not know its rows moves all 16 and starts the 6 tiles of 8 columns of other GPUs too.
    whole = terms_of(["whole_group"], ep=4)
    sms_s = 2 * 16 * 128 * 1024 / 1e12 + 1e-6 + 6 * 8 / 100 * 1e-6
    assert whole.parts["up"][0] == pytest.approx(together(sms_s, dram_s))
    assert whole.parts["move"][0] == pytest.approx((16 * 2560 + 8 * 1024) * 2 / 1e12)


def test_parts_of_an_expert_whose_rows_are_no_multiple_of_16_elements_are_read_slowly():
    odd, even = (terms_of(intermediate=1152, tp=tp, constants={"uneven": 3.0}).parts["down"][0] for tp in (48, 72))
    sms_s = 2 * 16 * 128 * 24 / 1e12 + 1e-6
    assert odd == pytest.approx(together(sms_s, (3 * 8 * 24 * 1024 + 16 * (24 + 1024)) * 2 / 1e12))
    assert even == pytest.approx(
        together(2 * 16 * 128 * 16 / 1e12 + 1e-6, (8 * 16 * 1024 + 16 * (16 + 1024)) * 2 / 1e12)
    )


def test_experts_without_a_gate_read_half_as_much_up():
    gated, without = (terms_of(matrices=matrices).parts for matrices in (3, 2))
    dram_s = (8 * 512 * 1024 + 16 * (512 + 1024)) * 2 / 1e12
    assert without["up"][0] == pytest.approx(together(2 * 16 * 128 * 1024 / 1e12 + 1e-6, dram_s))
    assert without["down"][0] == gated["down"][0]


def test_narrow_weights_move_fewer_bytes_and_multiply_as_before():
    narrow = terms_of(formats=Formats(weight_bits=4)).parts["up"][0]
    dram_s = (8 * 1024 * 1024 / 2 + 16 * (1024 + 1024) * 2) / 1e12
    assert narrow == pytest.approx(together(2 * 16 * 128 * 1024 / 1e12 + 1e-6, dram_s))


def bound_of(**dims):
    model = TIME_MODELS["moe_layer"]
    given = {**LAYER, "skew": 0.0, "matrices": 3, **dims}
    return float(model.napkin_s({name: np.array([float(given[name])]) for name in model.dims}, TOY, Formats())[0])


def test_the_bound_reads_what_every_distribution_reads():
    weights, token = 3 * 1024 * 512 * 2, 2 * 1024 * 2
    assert bound_of() == pytest.approx((8 * weights + 8 * token) / 1e12)
    assert bound_of(skew=1.2) == pytest.approx((2 * weights + 8 * token) / 1e12)  # all tokens may choose the same two
    # 4 GPUs: the busiest has at least 4 rows, for two experts, of two tokens that chose both.
    assert bound_of(ep=4) == pytest.approx((2 * weights + 2 * token) / 1e12)
    assert bound_of(tokens=10**6) == pytest.approx(2 * 2 * 10**6 * 3 * 1024 * 512 / 1e14)


def test_a_hundred_thousand_shapes_are_one_call():
    tokens = np.arange(1, 100_001, dtype=float)
    calibration = calibrated("moe_layer")
    time_s = expect({**LAYER, "tokens": tokens, "skew": 1.2}, TOY, Formats(), calibration).time_s
    assert time_s.shape == tokens.shape
    assert np.isfinite(time_s).all()
    assert time_s[-1] > time_s[0] > 0


def test_narrow_products_run_at_their_own_peak():
    fast = Machine(
        sm=90, sm_count=100, clock_hz=1e9, flop_per_s=2e14, bytes_per_s=1e12, l2_bytes=1e6, link_bytes_per_s=None
    )
    fp8 = Formats.of(find_dtype("fp8"))
    up = terms_of(tokens=8192, machine=fast, formats=fp8).parts["up"][0]  # 2048 rows each: 16 tiles of 8 columns
    dram_s = (8 * 1024 * 1024 + 16384 * 2048 * 2) / 1e12  # rows move in 16 bits
    assert up == pytest.approx(together(16 * 8 * 8 / 100 * (2 * 128 * 128 * 1024 / 2e12 + 1e-6), dram_s))
