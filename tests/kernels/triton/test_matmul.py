from dataclasses import replace
from functools import partial

import pytest
import torch

from kernels import reference
from kernels.precision import TORCH_DTYPES
from kernels.pytorch import eager

pytest.importorskip("triton")
from triton.runtime.errors import OutOfResources

from kernels.triton import matmul as triton_matmul
from kernels.triton.plan import Target
from kernels.unsupported import Unsupported

DTYPES = ("fp32", "fp16", pytest.param("bf16", marks=pytest.mark.gpu))
TORCH = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
SHAPES = ((1, 70, 300), (17, 65, 40), (33, 1, 16), (70, 130, 33), (1, 1, 1), (64, 64, 64))
TINY = triton_matmul.MatmulConfig(16, 16, 64, 4, 1, group_m=2)
HOPPER, BLACKWELL = Target(90, 3), Target(100, 3)  # of three SMs, so that a program takes several tiles
DESCRIBED = triton_matmul.MatmulConfig(32, 32, 64, 4, 2, "descriptors", group_m=2)
OWN = triton_matmul.MatmulConfig(32, 32, 64, 4, 2, "own_descriptors", warp_specialize=True, group_m=2)
FP8 = torch.float8_e4m3fn
BF16_ULP = 2**-8 if torch.cuda.is_available() else 2**-7

interpreted = pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU needs tiles of its own architecture")


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def allowed_error(a, b, dtype):
    """Twice what a plain computation in this format is off by, and the rounding of the output."""
    truth = reference.matmul(a, b)
    plain = (reference.matmul(a, b, dtype).double() - truth).abs().max()
    return 2 * plain + 2 * torch.finfo(TORCH[dtype]).eps * truth.abs().max()


def check(actual, a, b, dtype):
    assert actual.dtype == a.dtype
    assert (actual.double() - reference.matmul(a, b)).abs().max() <= allowed_error(a, b, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("m", "n", "k"), SHAPES)
def test_awkward_shapes(m, n, k, dtype, device):
    a = torch.randn(m, k, dtype=TORCH[dtype], device=device)
    weight = torch.randn(n, k, dtype=TORCH[dtype], device=device)
    check(triton_matmul.matmul(a, weight.t()), a, weight.t(), dtype)
    check(eager.matmul(a, weight.t()), a, weight.t(), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_strides(dtype, device):
    a = torch.randn(40, 2 * 34, dtype=TORCH[dtype], device=device).t()[::2]
    b = torch.randn(40, 3 * 50, dtype=TORCH[dtype], device=device)[:, 5:145:3]
    assert not a.is_contiguous()
    assert not b.is_contiguous()
    check(triton_matmul.matmul(a, b), a, b, dtype)


def persistent(a, b, config=DESCRIBED, scales=None, dtype=None, target=HOPPER):
    """What the persistent kernel makes of a @ b: the interpreter runs it though its own target has no descriptors."""
    out = torch.full((len(a), b.shape[1]), torch.nan, dtype=torch.bfloat16 if scales else a.dtype, device=a.device)
    launches = triton_matmul.plan_matmul(a, b, out, scales, dtype=dtype or "fp16", config=config, target=target)
    for launch in launches:
        launch.run()
    return out


@interpreted
@pytest.mark.parametrize("config", [DESCRIBED, OWN], ids=lambda config: config.operands)
@pytest.mark.parametrize(("m", "n", "k"), [(100, 72, 104), (1, 8, 8), (33, 200, 64), (129, 40, 16)])
def test_persistent_programs_cover_every_tile(m, n, k, config, device):
    a, weight = (torch.randn(rows, k, dtype=torch.float16, device=device) for rows in (m, n))
    check(persistent(a, weight.t(), config), a, weight.t(), "fp16")
    row_major = weight.t().contiguous()
    check(persistent(a, row_major, config), a, row_major, "fp16")


def matrices(m, n, k, layout, dtype, device):
    """a: (m, k) and b: (k, n), each contiguous along the dimension that `layout` names for it."""
    a, b = (torch.randn(rows, k, dtype=TORCH[dtype], device=device) for rows in (m, n))
    a = a.t().contiguous().t() if layout[0] == "m" else a
    b = b.t().contiguous() if layout[1] == "n" else b.t()
    return a, b


@interpreted
@pytest.mark.parametrize("layout", ["kk", "mk", "kn", "mn"])
@pytest.mark.parametrize("config", [DESCRIBED, OWN], ids=lambda config: config.operands)
def test_persistent_programs_take_operands_along_either_dimension(config, layout, device):
    a, b = matrices(136, 72, 40, layout, "fp16", device)
    check(persistent(a, b, config), a, b, "fp16")


@interpreted
@pytest.mark.parametrize("config", [DESCRIBED, OWN], ids=lambda config: config.operands)
@pytest.mark.parametrize("k", [3, 33])
def test_a_sum_of_any_length_is_described_where_no_operand_lies_along_it(k, config, device):
    a, b = matrices(40, 200, k, "mn", "fp16", device)
    check(persistent(a, b, config), a, b, "fp16")


@interpreted
def test_persistent_programs_take_rows_that_lie_apart(device):
    a = torch.randn(40, 96, dtype=torch.float16, device=device)[:, 8:72]
    weight = torch.randn(2 * 48, 64, dtype=torch.float16, device=device)[::2]
    check(persistent(a, weight.t()), a, weight.t(), "fp16")
    across = torch.randn(2 * 64, 48, dtype=torch.float16, device=device)[::2, 8:].t()
    check(persistent(across, weight.t()), across, weight.t(), "fp16")


@interpreted
def test_a_kernel_that_mistakes_the_layout_is_caught(device):
    """A square matrix has the same blocks either way: only the numbers tell."""
    a, b = matrices(64, 64, 64, "mn", "fp16", device)
    out = torch.empty(64, 64, dtype=torch.float16, device=device)
    (launch,) = triton_matmul.plan_matmul(a, b, out, dtype="fp16", config=DESCRIBED, target=HOPPER)
    launch.run()
    check(out, a, b, "fp16")
    for name in ("A_IS_TRANSPOSED", "B_IS_TRANSPOSED"):
        replace(launch, constants={**launch.constants, name: not launch.constants[name]}).run()
        with pytest.raises(AssertionError):
            check(out, a, b, "fp16")


@pytest.mark.parametrize("split_k", [2, 3, 100])
def test_split_k_agrees_with_one_pass(split_k, device):
    a, b = torch.randn(20, 150, device=device), torch.randn(150, 35, device=device)
    split = replace(TINY, split_k=split_k)
    once, parts = (triton_matmul.matmul(a, b, config=config) for config in (TINY, split))
    torch.testing.assert_close(once, parts, rtol=1e-5, atol=1e-4)
    assert torch.equal(parts, triton_matmul.matmul(a, b, config=split))


def test_grouped_order_visits_every_tile(device):
    a, b = torch.randn(75, 16, device=device), torch.randn(16, 60, device=device)
    check(triton_matmul.matmul(a, b, config=TINY), a, b, "fp32")


def test_tf32_takes_fp32_tensors_only(device):
    a = torch.randn(20, 40, device=device)
    error = (triton_matmul.matmul_tf32(a, a.t()).double() - reference.matmul(a, a.t())).abs().max()
    assert error <= 2 * (reference.matmul(a, a.t(), "tf32").double() - reference.matmul(a, a.t())).abs().max()
    with pytest.raises(ValueError, match="tf32' needs fp32 tensors, not fp16"):
        triton_matmul.matmul(a.half(), a.t().half(), input_precision="tf32")


@pytest.mark.gpu
def test_eager_tf32_uses_tf32(device):
    a = torch.randn(256, 256, device=device)
    truth = reference.matmul(a, a)
    exact, rounded = ((f(a, a).double() - truth).abs().max() for f in (eager.matmul, eager.matmul_tf32))
    assert exact < rounded / 10


def test_tf32_needs_a_gpu():
    with pytest.raises(ValueError, match="needs a CUDA device"):
        eager.matmul_tf32(torch.ones(2, 2), torch.ones(2, 2))


@pytest.mark.parametrize("matmul", [triton_matmul.matmul, eager.matmul])
def test_bad_inputs_are_refused(matmul, device):
    a = torch.ones(4, 5, device=device)
    with pytest.raises(ValueError, match=r"b must have shape \(5, n\), not \(4, 5\)"):
        matmul(a, a)
    with pytest.raises(ValueError, match=r"must have shape \(k, n\)"):
        matmul(a, a[0])
    with pytest.raises(ValueError, match="must be at least 1"):
        matmul(a, torch.ones(5, 0, device=device))
    with pytest.raises(ValueError, match="share one dtype"):
        matmul(a, torch.ones(5, 4, device=device, dtype=torch.float64))


def test_unsupported_inputs_are_refused(device):
    a = torch.ones(16, 16, device=device)
    with pytest.raises(ValueError, match="does not support fp64; supported: fp32, tf32, bf16, fp16"):
        triton_matmul.matmul(a.double(), a.double())
    with pytest.raises(ValueError, match="input_precision"):
        triton_matmul.matmul(a, a, input_precision="tf32x3")
    with pytest.raises(ValueError, match="does not support a stride"):
        triton_matmul.matmul(a, a.as_strided((16, 1), (1, 2**23)))


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what the interpreter cannot do")
def test_interpreter_refuses_bf16():
    a = torch.ones(16, 16, dtype=torch.bfloat16)
    with pytest.raises(ValueError, match="interpreter computes bf16"):
        triton_matmul.matmul(a, a)


def quantized(rows, k, dtype, device):
    x = torch.randn(rows, k, device=device)
    return (x * 40).round().clamp(-128, 127).to(torch.int8) if dtype == torch.int8 else x.to(dtype)


def scales(*lengths, device):
    return tuple(torch.rand(length, device=device) + 0.5 for length in lengths)


def check_scaled(actual, a, b, factors):
    """The interpreter cuts bf16 off (2**-7 of a result), a GPU rounds; and sums of a few hundred products in fp32."""
    truth = reference.matmul_scaled(a, b, *factors)
    assert actual.dtype == torch.bfloat16
    magnitude = reference.matmul(a.double().abs(), b.double().abs()) * factors[0][:, None] * factors[1]
    assert ((actual.double() - truth).abs() <= BF16_ULP * truth.abs() + 1e-5 * magnitude).all()


@pytest.mark.parametrize("dtype", [torch.int8, FP8], ids=["int8", "fp8"])
@pytest.mark.parametrize(("m", "n", "k"), [(1, 40, 144), (16, 33, 64), (70, 65, 100)])
def test_scaled_products(m, n, k, dtype, device):
    a, b = quantized(m, k, dtype, device), quantized(n, k, dtype, device).t()
    factors = scales(m, n, device=device)
    check_scaled(triton_matmul.matmul_scaled(a, b, *factors), a, b, factors)
    for split_k in (1, 3):
        config = replace(TINY, block_k_bytes=32, split_k=split_k)
        check_scaled(triton_matmul.matmul_scaled(a, b, *factors, config=config), a, b, factors)


@interpreted
@pytest.mark.parametrize("dtype", ["int8", "fp8"])
@pytest.mark.parametrize("config", [DESCRIBED, OWN], ids=lambda config: config.operands)
def test_scaled_products_by_persistent_programs(dtype, config, device):
    a, weight = (quantized(rows, 160, TORCH_DTYPES[dtype], device) for rows in (100, 72))
    factors = scales(100, 72, device=device)
    check_scaled(persistent(a, weight.t(), config, factors, dtype), a, weight.t(), factors)


def test_int8_sums_are_exact(device):
    """128 * 128 * 2048 = 2**25, and one more is not a number that fp32 has."""
    a = torch.full((1, 2049), -128, dtype=torch.int8, device=device)
    weight = torch.full((1, 2049), -128, dtype=torch.int8, device=device)
    a[0, -1], weight[0, -1] = 1, 1
    one = torch.ones(1, device=device)
    half = torch.full((1,), 2.0**-25, device=device)
    assert triton_matmul.matmul_scaled(a, weight.t(), one, half).item() == 1.0  # 1 + 2**-25, rounded
    a[0, :2048], weight[0, :2048] = 127, 1  # 127 * 2048 = 260096, and 1: bf16 knows 260096 = 0x3F800
    assert triton_matmul.matmul_scaled(a, weight.t(), one, one).item() == 260096.0


def test_scaled_products_refuse_what_they_do_not_take(device):
    a, b = (torch.ones(16, 16, dtype=torch.int8, device=device) for _ in range(2))
    factors = scales(16, 16, device=device)
    with pytest.raises(ValueError, match="contiguous along k"):
        triton_matmul.matmul_scaled(a, b, *factors)
    with pytest.raises(ValueError, match="does not support fp16; supported: fp8, int8"):
        triton_matmul.matmul_scaled(a.half(), b.half().t(), *factors)
    with pytest.raises(ValueError, match=r"a_scale must have shape \(16,\), not \(8,\)"):
        triton_matmul.matmul_scaled(a, b.t(), factors[0][:8], factors[1])


def test_large_and_tiny_numbers_survive(device):
    """6e4 is near fp16's largest number, 6e-8 is its smallest; a one-hot row picks a row of b exactly."""
    a = torch.zeros(4, 64, dtype=torch.float16, device=device)
    b = torch.randn(64, 24, dtype=torch.float16, device=device)
    a[0, 17] = 1.0
    b[20] = 6e4
    a[1, 20] = -1.0
    b[40] = 6e-8
    a[2, 40] = 1.0
    out = triton_matmul.matmul(a, b)
    assert torch.equal(out[0], b[17])
    assert torch.equal(out[1], -b[20])
    assert torch.equal(out[2], b[40])
    assert (out[2] > 0).all()
    assert not out[3].any()


def test_nan_stays_in_its_row_and_column(device):
    a, b = torch.randn(20, 40, device=device), torch.randn(40, 30, device=device)
    a[3, 5] = torch.nan
    b[7, 11] = torch.nan
    bad = torch.zeros(20, 30, dtype=torch.bool, device=device)
    bad[3], bad[:, 11] = True, True
    assert torch.equal(triton_matmul.matmul(a, b).isnan(), bad)


@interpreted
def test_rows_beyond_two_to_the_31_elements_are_found():
    """Rows 2**22 elements apart: row 512 begins at element 2**31. Memory that nobody touches is never there."""
    stride, m, k = 2**22, 514, 16
    a = torch.empty(m * stride, dtype=torch.float16).as_strided((m, k), (stride, 1))
    a[:] = torch.randn(m, k, dtype=torch.float16)
    b = torch.randn(k, 16, dtype=torch.float16)
    check(triton_matmul.matmul(a, b, config=replace(TINY, block_m=128)), a, b, "fp16")


@pytest.mark.parametrize("architecture", [80, 86, 89, 90, 100, 120])
@pytest.mark.parametrize("dtype", triton_matmul.SUPPORTED_DTYPES)
@pytest.mark.parametrize("describable", [True, False])
def test_chosen_configurations_fit(architecture, dtype, describable):
    target = Target(architecture, 132)
    for m in (1, 17, 64, 65, 300, 4096):
        for n, k in ((1, 1), (4096, 4096), (100, 100_000)):
            config = triton_matmul.choose_config(m, n, k, dtype=dtype, target=target, describable=describable)
            assert config in triton_matmul.CONFIGS
            assert triton_matmul.why_not(config, dtype, target) is None
            assert describable or config.operands == "pointers"
            assert config.operands == "pointers" or architecture >= 90
            assert config.split_k == 0


@pytest.mark.parametrize("target", [HOPPER, BLACKWELL], ids=["sm90", "sm100"])
@pytest.mark.parametrize(("dtype", "layout"), [("fp16", "mk"), ("fp16", "kn"), ("fp16", "mn"), ("tf32", "mn")])
def test_only_16_bits_are_described_across_the_sum(dtype, layout, target, device, monkeypatch):
    a, b = matrices(64, 64, 64, layout, "fp32" if dtype == "tf32" else dtype, device)
    monkeypatch.setattr(triton_matmul, "find_target", lambda op, kernel, x: target)
    config = replace(DESCRIBED, block_m=64)
    plan = partial(triton_matmul.matmul.plan, input_precision="tf32" if dtype == "tf32" else "ieee", config=config)
    if dtype == "tf32":
        with pytest.raises(Unsupported, match="needs matrices contiguous along k, and 16 bytes"):
            plan(a, b)
    elif not torch.cuda.is_available():
        check(plan(a, b).run(), a, b, dtype)
    with pytest.raises(Unsupported, match="needs matrices contiguous"):
        plan(a[1:, 1:], b[1:])


@pytest.mark.gpu
@pytest.mark.exhaustive
@pytest.mark.parametrize("layout", ["mk", "mn"])
@pytest.mark.parametrize("config", [None, *triton_matmul.CONFIGS], ids=lambda config: config.name if config else "none")
def test_every_configuration_takes_a_left_operand_along_m(config, layout, device):
    a, b = matrices(1160, 1544, 1096, layout, "bf16", device)
    try:
        out = triton_matmul.matmul(a, b, config=config)
    except (Unsupported, OutOfResources):
        assert config is not None
        return
    check(out, a, b, "bf16")


@pytest.mark.parametrize("architecture", [80, 90, 100, 120])
def test_compiled_layouts_have_names_of_their_own(architecture):
    target = Target(architecture, 132)
    for dtype in triton_matmul.SUPPORTED_DTYPES:
        if architecture == 80 and dtype == "fp8":
            continue
        launches = triton_matmul.ahead_of_time(target, dtype)
        names = [(launch.kernel, launch.config) for launch in launches]
        assert len(set(names)) == len(names)
        for ending, transposed in (("-b_along_n", (False, False)), ("-a_along_m-b_along_n", (True, False))):
            found = [launch for launch in launches if launch.config.endswith(ending)]
            assert bool(found) == (dtype in triton_matmul.GRADIENT_DTYPES)
            given = [launch.constants for launch in found if "A_IS_TRANSPOSED" in launch.constants]
            assert bool(given) == (architecture >= 90 and dtype in ("bf16", "fp16"))
            if ending == "-a_along_m-b_along_n":
                assert {(each["A_IS_TRANSPOSED"], each["B_IS_TRANSPOSED"]) for each in given} <= {transposed}


def splits(m, n, k, target):
    config = triton_matmul.choose_config(m, n, k, dtype="bf16", target=target, describable=True)
    a, weight = (torch.empty(rows, k, dtype=torch.bfloat16, device="meta") for rows in (m, n))
    out = torch.empty(m, n, dtype=torch.bfloat16, device="meta")
    return [
        launch.grid
        for launch in triton_matmul.plan_matmul(a, weight.t(), out, dtype="bf16", config=config, target=target)
    ]


def test_a_reduction_is_split_where_sms_would_be_idle():
    """64 tiles of 64 columns cannot fill 132 SMs: the grid gets a second dimension, and a launch to add up."""
    target = Target(90, 132)
    product, reduction = splits(1, 4096, 4096, target)
    assert product[0] == 64
    assert product[0] * product[1] >= 132
    assert reduction == (4,)  # 4096 sums, 1024 a program
    assert len(splits(8192, 8192, 8192, target)) == 1
    assert splits(8192, 8192, 8192, target) == [(132,)]  # persistent: one program an SM
    assert splits(128, 128, 256, target) == [(2, 1)]  # four steps of 64: nothing to split


def test_few_tiles_are_cut_smaller():
    """M = 256, n = 4096: 32 tiles of 128 x 256 or 64 of 128 x 128 on 132 SMs; 64 x 128 makes 128 of them."""
    choose = partial(
        triton_matmul.choose_config, n=4096, k=4096, dtype="bf16", target=Target(90, 132), describable=True
    )
    assert choose(256).block_m == 64
    assert choose(8192).block_n == 256


def test_configurations_have_names_of_their_own():
    names = [config.name for config in triton_matmul.CONFIGS]
    assert len(set(names)) == len(names)
    assert triton_matmul.WIDE.name == "128x256x128B-w8-s4-descriptors"
    assert triton_matmul.WIDE_SPECIALIZED.name == "128x256x128B-w4-s3-own_descriptors-specialized"
    assert replace(triton_matmul.ROWS_16, split_k=4, group_m=1).name == "16x64x128B-w4-s6-g1-split4"


def test_configurations_that_do_not_apply_are_refused(device):
    a = torch.ones(32, 32, device=device)
    with pytest.raises(ValueError, match="is not supported: IEEE fp32 is computed without tensor cores"):
        triton_matmul.matmul(a, a, config=triton_matmul.WIDE_AMPERE)
    for architecture, config, reason in (
        (80, triton_matmul.WIDE, "sm80 has no hardware for descriptors"),
        (90, triton_matmul.WIDE_BLACKWELL, "Hopper specializes with its own descriptors"),
        (100, triton_matmul.WIDE_SPECIALIZED, "Hopper specializes with its own descriptors"),
        (120, replace(triton_matmul.WIDE, block_m=256), "do not fit in 101376 bytes"),
    ):
        assert reason in triton_matmul.why_not(config, "bf16", Target(architecture, 132))
