import dataclasses
import math

import pytest
import torch

from kernels import reference
from kernels.constants import LAYERNORM_EPS, RMSNORM_EPS
from kernels.precision import TORCH_DTYPES, dtype_name
from kernels.unsupported import Unsupported

pytest.importorskip("triton")
from kernels.triton import rowwise
from kernels.triton.plan import Launch, Target
from kernels.triton.rowwise import RowConfig

DTYPES = ("fp64", "fp32", "fp16", pytest.param("bf16", marks=pytest.mark.gpu))
LOOPED = RowConfig(1, 64, 1)  # rows of more than 64 columns are read twice
SHORT = RowConfig(8, 64, 2)
REDUCTIONS = ("rmsnorm", "add_rmsnorm", "layernorm", "add_layernorm", "softmax")
ROW_OPS = (*REDUCTIONS, "swiglu", "gelu")
H200 = Target(90, 132)

# NumPy, which interprets, warns of what IEEE 754 defines and these tests are about.
ieee = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def random(*shape, dtype, device):
    return torch.randn(shape, dtype=TORCH_DTYPES[dtype], device=device)


def row_inputs(op, rows, cols, *, dtype, device):
    matrices = 2 if op.startswith("add_") or op == "swiglu" else 1
    tensors = [random(rows, cols, dtype=dtype, device=device) for _ in range(matrices)]
    if "norm" in op:
        tensors.append(random(cols, dtype=dtype, device=device).abs() + 0.5)
    if "layernorm" in op:
        tensors.append(random(cols, dtype=dtype, device=device))
    return tuple(tensors)


def rope_inputs(tokens, heads, head_dim, *, dtype, device):
    angles = 2 * math.pi * torch.rand(tokens, head_dim // 2, device=device)
    table = (angles.cos().to(TORCH_DTYPES[dtype]), angles.sin().to(TORCH_DTYPES[dtype]))
    return random(tokens, heads, head_dim, dtype=dtype, device=device), *table


def outputs(result):
    return result if isinstance(result, tuple) else (result,)


def error(actual, truth):
    return (actual.double() - truth).abs().max().item()


def is_right(op, inputs, result):
    """Within twice the error of the same computation, step by step, in the same precision, and one rounding more.

    In fp64 that computation is the truth itself, whose error is unknown: four roundings of an element, and one for each
    doubling of the terms of a sum, on either side.
    """
    dtype, run = dtype_name(inputs[0].dtype), getattr(reference, op)
    roundings = 2 * (4 + math.log2(inputs[0].shape[-1])) if dtype == "fp64" else 1
    for actual, truth, plain in zip(*map(outputs, (result, run(*inputs), run(*inputs, dtype))), strict=True):
        assert actual.shape == truth.shape
        assert actual.dtype == inputs[0].dtype
        rounding = torch.finfo(inputs[0].dtype).eps / 2 * truth.abs().max().item()
        if not error(actual, truth) <= 2 * error(plain, truth) + roundings * rounding:  # not so for NaN either
            return False
    return True


def assert_right(op, inputs, config=None):
    result = getattr(rowwise, op)(*inputs, config=config)
    assert all(each.is_contiguous() for each in outputs(result))
    assert is_right(op, inputs, result)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "cols"), [(1, 1), (3, 100), (2, 4096), (3, 5000), (70, 33)])
@pytest.mark.parametrize("op", ROW_OPS)
def test_row_ops(op, rows, cols, dtype, device):
    assert_right(op, row_inputs(op, rows, cols, dtype=dtype, device=device))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cols", [65, 128, 200])
@pytest.mark.parametrize("op", REDUCTIONS)
def test_rows_longer_than_a_block_are_read_twice(op, cols, dtype, device):
    assert_right(op, row_inputs(op, 3, cols, dtype=dtype, device=device), LOOPED)


@pytest.mark.parametrize("op", REDUCTIONS)
def test_rows_longer_than_registers_are_read_twice_by_default(op, device):
    assert_right(op, row_inputs(op, 2, 20_000, dtype="fp16", device=device))


@pytest.mark.parametrize("op", ROW_OPS)
def test_the_last_block_of_rows_may_be_ragged(op, device):
    for rows in (1, 8, 17):
        assert_right(op, row_inputs(op, rows, 50, dtype="fp32", device=device), SHORT)


@pytest.mark.parametrize("config", rowwise.CONFIGS, ids=lambda config: config.name)
def test_every_configuration(config, device):
    for op in ("add_rmsnorm", "add_layernorm", "softmax", "swiglu", "gelu"):
        assert_right(op, row_inputs(op, 3, 1500, dtype="fp16", device=device), config)
    assert_right("rope", rope_inputs(5, 6, 64, dtype="fp16", device=device), config)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("tokens", "heads", "head_dim"), [(1, 1, 2), (5, 3, 6), (33, 2, 100), (3, 32, 128), (2, 12, 96)]
)
def test_rope(tokens, heads, head_dim, dtype, device):
    assert_right("rope", rope_inputs(tokens, heads, head_dim, dtype=dtype, device=device))


def test_rope_whose_heads_and_halves_take_several_programs(device):
    assert_right("rope", rope_inputs(3, 5, 12, dtype="fp32", device=device), RowConfig(1, 8, 1))


@pytest.mark.parametrize("config", [None, LOOPED, SHORT], ids=("held", "looped", "short"))
@pytest.mark.parametrize("op", ROW_OPS)
def test_rows_may_lie_anywhere(op, config, device):
    """Every second row; rows that do not start at a multiple of 16 bytes; one row, again and again."""
    wide = row_inputs(op, 8, 160, dtype="fp16", device=device)
    for view in (
        lambda x: x[::2, :96] if x.dim() == 2 else x[:96],
        lambda x: x[..., 1:98],
        lambda x: x[2:3].expand(4, -1) if x.dim() == 2 else x,
    ):
        assert_right(op, tuple(map(view, wide)), config)


def test_swiglu_of_the_halves_of_one_matrix(device):
    both = random(5, 96, dtype="fp32", device=device)
    assert_right("swiglu", both.chunk(2, dim=1))


def test_rope_of_a_part_of_a_larger_tensor(device):
    qkv, cos, sin = rope_inputs(4, 8, 32, dtype="fp16", device=device)
    assert_right("rope", (qkv[:, 2:5], cos, sin))
    assert_right("rope", (qkv.transpose(0, 1)[:4], cos.repeat(2, 1)[::2], sin.repeat(2, 1)[::2]))  # heads come first


def far_rows(x, storage, start):
    """x copied to rows 2**31 + 16 elements apart, beginning at `start`."""
    far = storage.as_strided(x.shape, (2**31 + 16, *x.stride()[1:]), start)
    far.copy_(x)
    return far


@pytest.mark.parametrize("config", [RowConfig(1, 128, 1), RowConfig(2, 128, 1), LOOPED], ids=lambda each: each.name)
def test_addresses_do_not_overflow(config, device):
    """Two rows further apart than 2**31 elements, of inputs and outputs. Memory that nobody touches is never there."""
    storage = torch.empty(2**31 + 4096, dtype=torch.float16, device=device)
    x, residual, weight = row_inputs("add_rmsnorm", 2, 80, dtype="fp16", device=device)
    x_far, residual_far = (far_rows(each, storage, 128 * index) for index, each in enumerate((x, residual)))
    first, second = (far_rows(torch.zeros_like(x), storage, 128 * index) for index in (2, 3))
    rowwise.plan_rmsnorm(x_far, weight, first, residual=residual_far, total=second, config=config).run()
    assert is_right("add_rmsnorm", (x, residual, weight), (first, second))
    bias = weight - 1
    rowwise.plan_layernorm(x_far, weight, bias, first, residual=residual_far, total=second, config=config).run()
    assert is_right("add_layernorm", (x, residual, weight, bias), (first, second))
    for op, inputs, far in (
        ("layernorm", (x, weight, bias), (x_far, weight, bias)),
        ("gelu", (x,), (x_far,)),
        ("rmsnorm", (x, weight), (x_far, weight)),
        ("softmax", (x,), (x_far,)),
        ("swiglu", (x, residual), (x_far, residual_far)),
    ):
        getattr(rowwise, f"plan_{op}")(*far, first, config=config).run()
        assert is_right(op, inputs, first)


def test_rope_addresses_do_not_overflow(device):
    storage = torch.empty(2**31 + 8192, dtype=torch.float16, device=device)
    x, cos, sin = rope_inputs(2, 3, 32, dtype="fp16", device=device)
    far = [far_rows(each, storage, 1024 * index) for index, each in enumerate((x, cos, sin, torch.zeros_like(x)))]
    rowwise.plan_rope(*far, config=RowConfig(1, 256, 1)).run()
    assert is_right("rope", (x, cos, sin), far[3])
    heads_far = storage.as_strided((2, 2, 32), (32, 2**31 + 16, 1), 4096)
    heads_far.copy_(x[:, :2])
    assert is_right("rope", (x[:, :2], cos, sin), rowwise.rope(heads_far, cos, sin))


@ieee
@pytest.mark.parametrize("config", [None, LOOPED], ids=("held", "looped"))
@pytest.mark.parametrize("op", ROW_OPS)
def test_nan_stays_in_its_row(op, config, device):
    inputs = row_inputs(op, 3, 100, dtype="fp32", device=device)
    clean = outputs(getattr(rowwise, op)(*inputs, config=config))
    inputs[0][1, 40] = math.nan
    for actual, before in zip(outputs(getattr(rowwise, op)(*inputs, config=config)), clean, strict=True):
        assert torch.equal(actual[::2], before[::2])
        assert actual[1, 40].isnan()
    if op in REDUCTIONS:  # which have no number left in that row
        assert outputs(getattr(rowwise, op)(*inputs, config=config))[0][1].isnan().all()


def test_nan_stays_in_its_pair(device):
    x, cos, sin = rope_inputs(3, 2, 8, dtype="fp32", device=device)
    x[1, 0, 2] = math.nan
    assert rowwise.rope(x, cos, sin).isnan().nonzero().tolist() == [[1, 0, 2], [1, 0, 6]]


@ieee
@pytest.mark.parametrize("config", [None, LOOPED], ids=("held", "looped"))
@pytest.mark.parametrize("dtype", ["fp64", "fp32", "fp16"])
def test_softmax_of_extremes(dtype, config, device):
    x = random(8, 100, dtype=dtype, device=device)
    largest = torch.finfo(x.dtype).max
    x[0, 7] = largest  # all weight on it
    x[1] = -math.inf  # no weight anywhere
    x[2] = largest
    x[3] = -largest
    x[4, ::2] = -math.inf  # no weight on those
    x[5, 99] = math.inf
    x[6] = -math.inf
    x[6, 80] = -largest
    out = rowwise.softmax(x, config=config)
    assert out[0].tolist() == [0.0] * 7 + [1.0] + [0.0] * 92
    assert out[[1, 5]].isnan().all()
    equal = torch.full((2, 100), 0.01, dtype=torch.float64, device=device)
    torch.testing.assert_close(out[[2, 3]].double(), equal, rtol=2 * torch.finfo(x.dtype).eps, atol=0)
    assert not out[4, ::2].any()
    assert is_right("softmax", (x[[4, 7]],), out[[4, 7]])
    assert out[6].tolist() == [0.0] * 80 + [1.0] + [0.0] * 19
    torch.testing.assert_close(out, torch.softmax(x, dim=1), equal_nan=True)


@pytest.mark.parametrize("config", [None, LOOPED], ids=("held", "looped"))
@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_rmsnorm_of_extremes(dtype, config, device):
    weight = row_inputs("rmsnorm", 1, 100, dtype=dtype, device=device)[1]
    numbers = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=weight.dtype, device=device).repeat(25)
    # The squares of the last would overflow in fp16, and fit in fp32.
    for scale in (0.0, torch.finfo(weight.dtype).smallest_normal / 16, 1e4 if dtype == "fp16" else 1e17):
        x = (numbers * scale)[None]
        out = rowwise.rmsnorm(x, weight, config=config)
        assert out.isfinite().all()
        assert is_right("rmsnorm", (x, weight), out)
        assert out.any() == (scale > 0)


@pytest.mark.parametrize("config", [None, LOOPED], ids=("held", "looped"))
@pytest.mark.parametrize("away", [0.0, 1e3, -1e6])
def test_layernorm_of_rows_far_from_zero(away, config, device):
    """The mean square minus the squared mean would be wrong by more than the variance, 1, where the mean is 1e6: an
    fp32 number near 1e12 is rounded to a multiple of 65536."""
    x = torch.tensor([1.0, -1.0], device=device).repeat(50)[None] + away
    ones = torch.ones(100, device=device)
    expected = (x - away) / math.sqrt(1 + LAYERNORM_EPS)  # whole numbers: x, its mean and its variance are exact
    torch.testing.assert_close(rowwise.layernorm(x, ones, 0 * ones, config=config), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("config", [None, LOOPED], ids=("held", "looped"))
def test_layernorm_of_equal_numbers_is_the_bias(config, device):
    x, weight, bias = row_inputs("layernorm", 3, 100, dtype="fp32", device=device)
    assert torch.equal(rowwise.layernorm(torch.full_like(x, 4.0), weight, bias, config=config), bias.expand(3, -1))


@ieee
def test_gelu_of_extremes(device):
    x = torch.tensor([[-math.inf, -1e4, -100.0, 0.0, 100.0, 1e4, math.inf]], device=device)
    out = rowwise.gelu(x)
    assert out[0, 0].isnan()  # -inf times 0, as the formula has it
    assert out[0, 1:].tolist() == [0.0, 0.0, 0.0, 100.0, 1e4, math.inf]


@ieee
def test_swiglu_of_extremes(device):
    gate = torch.tensor([[-math.inf, -1e4, -100.0, 0.0, 100.0, 1e4, math.inf]], device=device)
    out = rowwise.swiglu(gate, torch.full_like(gate, 2.0))
    assert out[0, 0].isnan()  # -inf times 0, as the formula has it
    torch.testing.assert_close(out[0, 1:].tolist(), [0.0, 0.0, 0.0, 200.0, 2e4, math.inf], atol=1e-40, rtol=1e-6)


def test_fused_equals_unfused(device):
    x, residual, weight = row_inputs("add_rmsnorm", 16, 96, dtype="fp32", device=device)
    normed, total = rowwise.add_rmsnorm(x, residual, weight)
    assert torch.equal(total, x + residual)
    unfused = rowwise.rmsnorm(total, weight)  # in fp32 the sum is rounded either way
    torch.testing.assert_close(normed, unfused, rtol=4 * torch.finfo(torch.float32).eps, atol=0)


def test_the_fused_norm_is_of_the_unrounded_sum(device):
    inputs = row_inputs("add_rmsnorm", 16, 96, dtype="fp16", device=device)
    for config in (None, LOOPED):
        normed, total = rowwise.add_rmsnorm(*inputs, config=config)
        assert torch.equal(total, inputs[0] + inputs[1])
        exact = reference.add_rmsnorm(*inputs)[0].half()
        unfused = rowwise.rmsnorm(total, inputs[2], config=config)
        assert (normed != exact).double().mean() < 0.01  # fp32 decides a tie of fp16 otherwise, once in a while
        assert (unfused != exact).double().mean() > 0.1


@pytest.mark.parametrize("config", [None, LOOPED], ids=("held", "looped"))
def test_wrong_results_are_caught(config, device):
    """An epsilon that is ten times too large, or one row never computed."""
    x, weight = row_inputs("rmsnorm", 3, 100, dtype="fp32", device=device)
    normed = torch.full_like(x, math.nan)
    launch = rowwise.plan_rmsnorm(x, weight, normed, config=config or RowConfig(1, 128, 1))
    launch.run()
    assert is_right("rmsnorm", (x, weight), normed)
    assert launch.constants["EPS"] == RMSNORM_EPS
    dataclasses.replace(launch, constants={**launch.constants, "EPS": 1e-5}).run()
    assert not is_right("rmsnorm", (x, weight), normed)
    normed.zero_()
    dataclasses.replace(launch, grid=(2,)).run()
    assert not is_right("rmsnorm", (x, weight), normed)


def test_unsupported_inputs_are_refused_before_a_launch(monkeypatch, device):
    monkeypatch.setattr(Launch, "start", lambda launch, values: pytest.fail("launched"))
    ones = torch.ones(4, 8, device=device)
    cases = [
        ("softmax", (ones.int(),), "softmax does not support int32; supported: fp64, fp32, bf16, fp16"),
        ("softmax", (ones.t(),), "softmax does not support a last dimension of stride 8; supported: 1"),
        ("swiglu", (ones[:, ::2], ones[:, ::2]), "swiglu does not support a last dimension of stride 2"),
        ("rmsnorm", (ones, ones[0, :1].expand(8)), "rmsnorm does not support a last dimension of stride 0"),
        ("rope", (ones.view(4, 1, 8), ones[:, ::2], ones[:, :4]), "rope does not support a last dimension of stride 2"),
        ("softmax", (torch.empty(1, 2**26 + 1, device=device),), "does not support rows of 67108865 numbers"),
    ]
    for op, inputs, message in cases:
        with pytest.raises(Unsupported, match=message):
            getattr(rowwise, op)(*inputs)
    for op, inputs, message in (
        ("softmax", (ones[0],), r"x must have shape \(rows, cols\)"),
        ("rmsnorm", (ones, ones[:, 0]), r"weight must have shape \(8,\)"),
        ("add_rmsnorm", (ones, ones[:2], ones[0]), r"must have shape \(4, 8\), not \(2, 8\)"),
        ("swiglu", (ones, ones.double()), "all tensors must share one dtype"),
        ("rope", (ones.view(4, 8, 1), ones, ones), "head_dim=1 must be a multiple of 2"),
    ):
        with pytest.raises(ValueError, match=message):
            getattr(rowwise, op)(*inputs)


def test_names_of_configurations():
    assert RowConfig(4, 1024, 4).name == "rows4-cols1024-w4"
    names = [config.name for config in rowwise.CONFIGS]
    assert len(set(names)) == len(names)
    assert not any(" " in name for name in names)


def test_choice_of_configurations():
    """32 numbers a thread, 32 threads a warp; 32 KiB of a row are held, and 128 KiB shared by two programs of an SM."""
    assert rowwise.choose_config(4096, dtype="bf16") == RowConfig(1, 4096, 4)
    assert rowwise.choose_config(5000, dtype="bf16") == RowConfig(1, 8192, 8)
    assert rowwise.choose_config(100, dtype="bf16") == RowConfig(32, 128, 4)
    assert rowwise.choose_config(16384, dtype="fp16") == RowConfig(1, 16384, 16)
    assert rowwise.choose_config(16385, dtype="fp16") == RowConfig(1, 16384, 16)  # looped: longer than a block
    assert rowwise.choose_config(8192, dtype="fp32") == RowConfig(1, 8192, 8)
    assert rowwise.choose_config(8193, dtype="fp32") == RowConfig(1, 8192, 16)
    assert rowwise.choose_config(131072, dtype="bf16") == RowConfig(1, 32768, 32)
    assert rowwise.choose_config(4096, dtype="fp64") == RowConfig(1, 4096, 8)
    assert rowwise.choose_elementwise_config(dtype="bf16") == RowConfig(1, 4096, 8)
    assert rowwise.choose_layernorm_config(4096, dtype="bf16") == RowConfig(1, 4096, 4)
    assert rowwise.choose_layernorm_config(131072, dtype="bf16") == RowConfig(1, 16384, 32)  # half of the others'
    assert rowwise.choose_layernorm_config(131072, dtype="fp64") == RowConfig(1, 4096, 16)


@pytest.mark.parametrize("dtype", rowwise.SUPPORTED_DTYPES)
def test_what_is_compiled_ahead_of_time(dtype):
    defaults = rowwise.ahead_of_time(H200, dtype)
    every = rowwise.every_configuration(H200, dtype)
    for launches in (defaults, every):
        assert len({(launch.kernel, launch.config, tuple(launch.constants.items())) for launch in launches}) == len(
            launches
        )
        kernels = {f"{op}{end}_kernel" for op in ("rmsnorm", "layernorm", "softmax") for end in ("", "_long")}
        kernels |= {"swiglu_kernel", "gelu_kernel", "rope_kernel"}
        assert {launch.kernel.__name__ for launch in launches} == kernels
        assert all(90 in launch.opcodes for launch in launches)
        assert (
            sum(launch.config.endswith(" add") for launch in launches)
            == sum(launch.arguments.get("total_ptr") is not None for launch in launches)
            > 0
        )
    assert {launch.config.removesuffix(" add") for launch in every} == {config.name for config in rowwise.CONFIGS}
