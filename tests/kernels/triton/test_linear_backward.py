import itertools

import pytest
import torch

from kernels import reference
from kernels.pytorch import eager

pytest.importorskip("triton")
from kernels.triton import matmul as triton_matmul
from kernels.triton.matmul_tiles import matmul_persistent_kernel
from kernels.triton.plan import Launch, Target
from kernels.unsupported import Unsupported

TORCH = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
DTYPES = ("fp32", "fp16", pytest.param("bf16", marks=pytest.mark.gpu))
NAMES = ("of x", "of weight")

interpreted = pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU runs the kernels of its own architecture")


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def launched(monkeypatch):
    """The launches of a test, in order."""
    launches = []
    start = Launch.start

    def spy(launch, values):
        launches.append(launch)
        start(launch, values)

    monkeypatch.setattr(Launch, "start", spy)
    return launches


def make(m, n, k, dtype, device):
    shapes = ((m, n), (m, k), (n, k))
    return tuple(torch.randn(*shape, dtype=TORCH[dtype], device=device) for shape in shapes)


def wrong(gradients, grad, x, weight, dtype):
    """Which gradients are off by more than twice what a plain computation in this format is, and a rounding."""
    truth = reference.linear_backward(grad, x, weight)
    plain = reference.linear_backward(grad, x, weight, dtype)
    found = []
    for name, actual, right, rounded in zip(NAMES, gradients, truth, plain, strict=True):
        assert (actual.dtype, actual.shape) == (grad.dtype, right.shape)
        allowed = 2 * (rounded.double() - right).abs().max() + 2 * torch.finfo(TORCH[dtype]).eps * right.abs().max()
        if not (actual.double() - right).abs().max() <= allowed:
            found.append(name)
    return found


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("m", "n", "k"), [(1, 70, 300), (17, 65, 40), (33, 1, 16), (70, 130, 33), (1, 1, 1), (130, 72, 80)]
)
def test_awkward_shapes(m, n, k, dtype, device):
    inputs = make(m, n, k, dtype, device)
    assert wrong(triton_matmul.linear_backward(*inputs), *inputs, dtype) == []
    assert wrong(eager.linear_backward(*inputs), *inputs, dtype) == []


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("turned", list(itertools.product((False, True), repeat=3)), ids=str)
def test_each_operand_in_either_layout(turned, dtype, device):
    """m, n and k are all different multiples of 8."""
    inputs = [
        tensor.t().contiguous().t() if is_turned else tensor
        for tensor, is_turned in zip(make(104, 72, 88, dtype, device), turned, strict=True)
    ]
    assert [tensor.stride(0) == 1 for tensor in inputs] == list(turned)
    assert wrong(triton_matmul.linear_backward(*inputs), *inputs, dtype) == []


@pytest.mark.parametrize("dtype", DTYPES)
def test_strides_of_any_kind(dtype, device):
    grad, x, weight = make(2 * 37, 3 * 21, 2 * 26, dtype, device)
    inputs = (grad[::2, 1::3], x[1::2, ::2], weight[::3, 1::2])
    assert not any(1 in tensor.stride() for tensor in inputs)
    assert wrong(triton_matmul.linear_backward(*inputs), *inputs, dtype) == []


@interpreted
@pytest.mark.parametrize("architecture", [90, 100, 120])
def test_hardware_with_descriptors_gets_both_products_by_them(architecture, device, monkeypatch):
    """On one SM the tile with the most reuse wins: each gradient is a part of 128 x 256."""
    monkeypatch.setattr(triton_matmul, "find_target", lambda op, kernel, x: Target(architecture, 1))
    inputs = make(120, 104, 248, "fp16", device)
    planned = triton_matmul.linear_backward.plan(*inputs)
    assert wrong(planned.run(), *inputs, "fp16") == []
    assert [launch.kernel for launch in planned.launches] == [matmul_persistent_kernel] * 2
    assert [launch.constants["A_IS_TRANSPOSED"] for launch in planned.launches] == [False, True]
    assert not any(launch.constants["B_IS_TRANSPOSED"] for launch in planned.launches)
    assert all(launch.constants["BLOCK_M"] == 128 for launch in planned.launches)


def test_one_hot_gradients_pick_rows_exactly(device):
    """Row 3 of x saw output 5 alone: its gradient is row 5 of the weight, whose own is twice row 3 of x."""
    _, x, weight = make(20, 24, 40, "fp16", device)
    grad = torch.zeros(20, 24, dtype=torch.float16, device=device)
    grad[3, 5] = 2.0
    of_x, of_weight = triton_matmul.linear_backward(grad, x, weight)
    for gradient, row, expected in ((of_x, 3, 2 * weight[5]), (of_weight, 5, 2 * x[3])):
        assert torch.equal(gradient[row], expected)
        assert gradient.abs().sum() == expected.abs().sum()


def test_sums_are_longer_than_fp16_counts(device):
    """2100 ones: in fp16, 2048 + 1 is 2048."""
    grad, x, weight = (
        torch.ones(shape, dtype=torch.float16, device=device) for shape in ((2100, 16), (2100, 8), (16, 8))
    )
    of_x, of_weight = triton_matmul.linear_backward(grad, x, weight)
    assert (of_x == 16).all()
    assert (of_weight == 2100).all()


def test_wrong_gradients_are_seen(device):
    grad, x, weight = make(48, 48, 48, "fp16", device)
    of_x, of_weight = triton_matmul.linear_backward(grad, x, weight)
    for gradients, names in (
        ((of_weight, of_x), list(NAMES)),
        ((of_x, of_weight.t()), ["of weight"]),
        ((grad @ weight.t(), of_weight), ["of x"]),
        ((of_x, triton_matmul.matmul(grad, x)), ["of weight"]),
    ):
        assert wrong(gradients, grad, x, weight, "fp16") == names


def test_nan_stays_where_it_was_used(device):
    grad, x, weight = make(20, 30, 40, "fp32", device)
    grad[3, 5] = torch.nan
    of_x, of_weight = triton_matmul.linear_backward(grad, x, weight)
    for gradient, row in ((of_x, 3), (of_weight, 5)):
        assert gradient[row].isnan().all()
        assert gradient.isnan().any(dim=1).sum() == 1


@pytest.mark.parametrize(
    ("dtype", "name"),
    [(torch.float64, "fp64"), (torch.int8, "int8"), (torch.float8_e4m3fn, "fp8")],
    ids=["fp64", "int8", "fp8"],
)
def test_other_formats_are_refused(dtype, name, device, launched):
    inputs = [torch.ones(16, 16, device=device).to(dtype) for _ in range(3)]
    with pytest.raises(Unsupported, match=f"linear_backward does not support {name}; supported: fp32, bf16, fp16"):
        triton_matmul.linear_backward(*inputs)
    assert launched == []


def test_bad_inputs_are_refused_before_the_first_launch(device, launched):
    grad, x, weight = make(4, 5, 6, "fp32", device)
    for inputs, message in (
        ((grad.t(), x, weight), r"x must have shape \(5, k\), not \(4, 6\)"),
        ((grad, x, weight.t()), r"weight must have shape \(5, 6\), not \(6, 5\)"),
        ((grad, x, weight.double()), "share one dtype|weight is fp64 but grad is fp32"),
        ((grad[0], x, weight), r"grad must have shape \(m, n\)"),
        ((grad[:0], x[:0], weight), "must be at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            triton_matmul.linear_backward(*inputs)
    assert launched == []


def test_a_stride_that_only_the_second_product_reads_is_refused_before_the_first(device, launched):
    x = torch.empty(2**23 + 1, device=device).as_strided((1, 2), (1, 2**23))
    grad, weight = torch.ones(1, 5, device=device), torch.ones(5, 2, device=device)
    with pytest.raises(Unsupported, match=r"linear_backward does not support a stride of 8388608 .*; supported: to"):
        triton_matmul.linear_backward(grad, x, weight)
    assert launched == []


@interpreted
def test_the_interpreter_refuses_bf16(launched):
    inputs = [torch.ones(16, 16, dtype=torch.bfloat16) for _ in range(3)]
    with pytest.raises(Unsupported, match="linear_backward: Triton's interpreter computes bf16"):
        triton_matmul.linear_backward(*inputs)
    assert launched == []


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
@pytest.mark.parametrize(("m", "n", "k"), [(4096, 2048, 2056), (4096, 768, 776), (1000, 1001, 1003)])
def test_large_gradients_on_a_gpu(m, n, k, dtype, device):
    inputs = make(m, n, k, dtype, device)
    assert wrong(triton_matmul.linear_backward(*inputs), *inputs, dtype) == []
