import pytest
import torch

from kernels import eager, reference

pytest.importorskip("triton")
from kernels import matmul as triton_matmul
from kernels.plan import Target

DTYPES = ("fp32", "fp16", pytest.param("bf16", marks=pytest.mark.gpu))
TORCH = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
SHAPES = ((1, 70, 300), (17, 65, 40), (33, 1, 16), (70, 130, 33), (1, 1, 1), (64, 64, 64))
TINY = triton_matmul.MatmulConfig(16, 16, 16, 2, 4, 1)


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


@pytest.mark.parametrize("split_k", [2, 3, 100])
def test_split_k_agrees_with_one_pass(split_k, device):
    a, b = torch.randn(20, 150, device=device), torch.randn(150, 35, device=device)
    split = triton_matmul.MatmulConfig(16, 16, 16, 2, 4, 1, split_k=split_k)
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
    with pytest.raises(ValueError, match="5 columns but b has 4 rows"):
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


@pytest.mark.parametrize("architecture", [80, 86, 89, 90, 100, 120])
@pytest.mark.parametrize("dtype", triton_matmul.SUPPORTED_DTYPES)
def test_chosen_configurations_fit(architecture, dtype):
    target = Target(architecture, 132)
    bytes_each = 4 if dtype in ("fp32", "tf32") else 2
    for m in (1, 17, 64, 65, 4096):
        for n, k in ((1, 1), (4096, 4096), (100, 100_000)):
            config = triton_matmul.choose_config(m, n, k, dtype=dtype, target=target)
            stage_bytes = (config.block_m + config.block_n) * config.block_k * bytes_each
            assert config.num_stages * stage_bytes <= target.shared_bytes
            assert 1 <= config.split_k <= 16
    assert triton_matmul.choose_config(1, 8192, 8192, dtype=dtype, target=target).split_k > 1
    assert triton_matmul.choose_config(8192, 8192, 8192, dtype=dtype, target=target).split_k == 1
