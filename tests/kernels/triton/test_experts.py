import random

import pytest
import torch

from bench.check import check_all
from kernels import reference
from kernels.precision import TORCH_DTYPES
from kernels.shapes import ExpertSizes
from kernels.unsupported import Unsupported
from predict.units import find_dtype

pytest.importorskip("triton")
from kernels.triton import experts
from kernels.triton.experts import ROWS_16_NARROW, choose_config, contends, most_tiles
from kernels.triton.matmul import (
    ROWS_16,
    ROWS_32,
    ROWS_64,
    ROWS_64_SMALL_SHARED,
    SQUARE,
    SQUARE_AMPERE,
    SQUARE_SMALL_SHARED,
    VECTOR,
    VECTOR_ROWS_16,
    WIDE,
    WIDE_AMPERE,
    WIDE_POINTERS,
    MatmulConfig,
)
from kernels.triton.plan import Launch, Target, cdiv

DTYPES = ("fp32", "fp16", pytest.param("bf16", marks=pytest.mark.gpu))
H200, A100, RTX_5090 = Target(90, 132), Target(80, 108), Target(120, 170)
# Lengths of groups: some empty, among them the first and the last; one expert; one row each; more than a tile.
DESCRIBED = MatmulConfig(16, 16, 128, 4, 2, "descriptors")
SPREADS = ([0, 5, 0, 17, 3, 0], [20], [1] * 7, [33, 2, 40], [0, 0, 9])


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def describes(monkeypatch, device):
    """The interpreter runs descriptors though its own target has none; a GPU before Hopper does not."""
    if device.type == "cpu":
        monkeypatch.setattr(experts, "find_target", lambda *_: H200)
    elif torch.cuda.get_device_capability(device) < (9, 0):
        pytest.skip("no hardware for descriptors")


def inputs_of(lengths, n, k, *, dtype, device):
    offsets = [sum(lengths[:count]) for count in range(len(lengths) + 1)]
    x = torch.randn(sum(lengths), k, dtype=TORCH_DTYPES[dtype], device=device)
    weight = torch.randn(len(lengths), n, k, dtype=x.dtype, device=device)
    return x, weight, torch.tensor(offsets, dtype=torch.int32, device=device)


def is_right(inputs, result, dtype):
    truth, plain = reference.moe_experts(*inputs), reference.moe_experts(*inputs, precision=dtype)
    return check_all((result,), (truth,), (plain,), find_dtype(dtype)).passed


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("lengths", SPREADS, ids=str)
def test_every_row_meets_the_weight_of_its_expert(lengths, dtype, device):
    inputs = inputs_of(lengths, 40, 64, dtype=dtype, device=device)
    out = experts.moe_experts(*inputs)
    assert out.is_contiguous()
    assert is_right(inputs, out, dtype)


@pytest.mark.parametrize(("n", "k"), [(1, 1), (7, 100), (70, 33), (130, 16)])
def test_columns_and_sums_need_not_fill_a_tile(n, k, device):
    inputs = inputs_of([3, 0, 18], n, k, dtype="fp16", device=device)
    assert is_right(inputs, experts.moe_experts(*inputs), "fp16")


@pytest.mark.parametrize("config", experts.CONFIGS, ids=lambda config: config.name)
def test_every_configuration(config, describes, device):
    dtype = "fp32" if config in (VECTOR, VECTOR_ROWS_16) else "fp16"
    if config in (WIDE_AMPERE, WIDE_POINTERS, WIDE) and device.type == "cpu":
        pytest.skip("a tile of 128 x 256 takes the interpreter seconds; smaller ones are the same kernel")
    inputs = inputs_of([1, 0, config.block_m + 1, 2], config.block_n + 8, 200, dtype=dtype, device=device)
    assert is_right(inputs, experts.moe_experts(*inputs, config=config), dtype)


def test_tiles_of_an_expert_are_taken_in_groups_of_rows(device):
    """Three tiles of rows in groups of two, and two tiles of columns."""
    config = MatmulConfig(16, 16, 64, 4, 2, group_m=2)
    inputs = inputs_of([4, 41, 0, 30], 30, 40, dtype="fp16", device=device)
    assert is_right(inputs, experts.moe_experts(*inputs, config=config), "fp16")


@pytest.mark.parametrize("config", [None, DESCRIBED], ids=("pointers", "descriptors"))
def test_rows_and_weights_may_lie_apart(config, describes, device):
    x, weight, offsets = inputs_of([5, 4], 24, 80, dtype="fp16", device=device)
    inputs = (x[:, :48], weight[:, ::2, 16:64], offsets)
    assert is_right(inputs, experts.moe_experts(*inputs, config=config), "fp16")


def test_what_a_block_reads_of_the_next_expert_is_not_stored(describes, device):
    """Rows and weights of the others are NaN; a block of 16 reaches 11 rows and 8 columns into them."""
    x, weight, offsets = inputs_of([5, 11], 8, 64, dtype="fp16", device=device)
    x[5:], weight[1] = float("nan"), float("nan")
    for config in (MatmulConfig(16, 16, 128, 4, 2), DESCRIBED):
        out = experts.moe_experts(x, weight, offsets, config=config)
        assert out[:5].isfinite().all()
        assert out[5:].isnan().all()


def test_weights_with_gaps_have_no_descriptor(describes, device):
    x, weight, offsets = inputs_of([5, 4], 24, 64, dtype="fp16", device=device)
    with pytest.raises(Unsupported, match="needs rows 16 bytes or a multiple apart, and weights without gaps"):
        experts.moe_experts(x, weight[:, :20], offsets, config=DESCRIBED)
    assert is_right((x, weight[:, :20], offsets), experts.moe_experts(x, weight[:, :20], offsets), "fp16")


def test_the_same_launch_serves_any_offsets(device):
    """A second call with other groups, by the recorded launch: nothing of the offsets is known to the host."""
    x, weight, _ = inputs_of([6, 0, 10], 20, 32, dtype="fp32", device=device)
    for lengths in ([6, 0, 10], [0, 16, 0], [1, 14, 1]):
        ends = torch.tensor([0, *torch.tensor(lengths).cumsum(0)], dtype=torch.int32, device=device)
        assert is_right((x, weight, ends), experts.moe_experts(x, weight, ends), "fp32")


def test_a_wrong_expert_is_caught(device):
    x, weight, offsets = inputs_of([8, 8], 20, 32, dtype="fp32", device=device)
    out = experts.moe_experts(x, weight.flip(0).contiguous(), offsets)
    assert not is_right((x, weight, offsets), out, "fp32")


def test_no_spread_of_rows_needs_more_tiles_than_are_launched():
    draw = random.Random(0)
    for _ in range(200):
        count, rows, block = draw.randint(1, 12), draw.randint(1, 100), draw.choice((1, 16, 64))
        cuts = sorted(draw.randint(0, rows) for _ in range(count - 1))
        lengths = [last - first for first, last in zip([0, *cuts], [*cuts, rows], strict=True)]
        assert sum(cdiv(length, block) for length in lengths) <= most_tiles(rows, count, block)
    # Reached where each of 4 experts has one row more than whole tiles: 3 + 1 + 1 + 1 tiles.
    assert most_tiles(33 + 1 + 1 + 1, 4, 16) == 6


def test_choice_of_configurations():
    def chosen(rows, count, n, k, target=H200, dtype="bf16", describable=True):
        return choose_config(ExpertSizes(rows, count, n, k), dtype=dtype, target=target, describable=describable)

    assert chosen(2, 8, 28672, 4096) == ROWS_16  # 2 x 448 programs
    assert chosen(8, 128, 1536, 2048) == ROWS_16_NARROW  # 8 x 24 programs are fewer than two per SM
    assert chosen(128 * 16, 128, 1536, 2048) == ROWS_16
    assert chosen(128 * 16 + 1, 128, 1536, 2048) == ROWS_32
    assert chosen(8 * 64, 8, 28672, 4096) == ROWS_64
    assert chosen(8 * 64, 8, 28672, 4096, RTX_5090) == ROWS_64_SMALL_SHARED
    assert chosen(8 * 1024, 8, 28672, 4096) == WIDE  # 8 x 8 x 112 tiles
    assert chosen(8 * 1024, 8, 28672, 4096, describable=False) == WIDE_POINTERS
    assert chosen(8 * 1024, 8, 28672, 4096, A100, describable=False) == WIDE_AMPERE
    assert chosen(8 * 1024, 8, 28672, 4096, RTX_5090) == SQUARE_SMALL_SHARED
    assert chosen(8 * 128, 8, 2048, 2048) == SQUARE  # 8 x 8 wide tiles are fewer than two per SM
    assert chosen(8 * 128, 8, 2048, 2048, describable=False) == SQUARE_AMPERE
    assert chosen(8, 8, 64, 64, dtype="fp32") == VECTOR_ROWS_16
    assert chosen(8 * 64, 8, 64, 64, dtype="fp32") == VECTOR


def test_a_tuner_leaves_out_tiles_that_would_be_padding():
    few, many = ({"tokens": tokens, "experts": 8, "active": 2, "n": 64, "k": 64} for tokens in (1, 4096))
    assert [contends(config, few) for config in (ROWS_16, ROWS_32, WIDE_POINTERS)] == [True, False, False]
    assert [contends(config, many) for config in (ROWS_16, ROWS_64, WIDE_POINTERS)] == [False, True, True]


@pytest.mark.parametrize("dtype", experts.SUPPORTED_DTYPES)
def test_what_is_compiled_ahead_of_time(dtype):
    # Four tiles for few rows; wide and square by pointers, and where there is hardware for descriptors by these.
    for target, count in ((H200, 8), (A100, 6), (RTX_5090, 7)):
        names = [launch.config for launch in experts.ahead_of_time(target, dtype)]
        assert len(names) == len(set(names)) == (2 if dtype == "fp32" else count)
    # Without tensor cores, a larger tile than 64 x 64 would spill.
    fitting = [each for each in experts.CONFIGS if dtype != "fp32" or each.block_m * each.block_n <= 64 * 64]
    fitting = [each for each in fitting if dtype != "fp32" or each.operands == "pointers"]
    assert len(fitting) >= 11
    assert [launch.config for launch in experts.every_configuration(H200, dtype)] == [each.name for each in fitting]


def test_unsupported_inputs_are_refused_before_a_launch(monkeypatch, device):
    monkeypatch.setattr(Launch, "start", lambda launch, values: pytest.fail("launched"))
    x, weight, offsets = inputs_of([3, 1], 8, 16, dtype="fp32", device=device)
    for inputs, message in (
        ((x.double(), weight.double(), offsets), "does not support fp64; supported: fp32, bf16, fp16"),
        ((x, weight.transpose(1, 2).contiguous().transpose(1, 2), offsets), "x and weight contiguous along k"),
    ):
        with pytest.raises(Unsupported, match=message):
            experts.moe_experts(*inputs)
    for inputs, message in (
        ((x, weight[:, :, :8], offsets), r"weight must have shape \(2, 8, 16\)|weight must have shape"),
        ((x, weight, offsets[:2]), r"offsets must have shape \(3,\), not \(2,\)"),
        ((x, weight, offsets.long()), "offsets must be int32"),
    ):
        with pytest.raises(ValueError, match=message):
            experts.moe_experts(*inputs)
