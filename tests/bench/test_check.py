"""Right results pass; each wrong kernel here is a mistake that real kernels make, and must be caught."""

import math

import pytest
import torch

from bench.check import check, check_all
from kernels import reference
from predict.units import find_dtype

M, N, K = 96, 160, 512
TORCH = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


@pytest.fixture(params=["bf16", "fp16", "fp32"])
def dtype(request):
    return request.param


@pytest.fixture
def inputs(dtype):
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(M, K, generator=generator).to(TORCH[dtype])
    return a, torch.randn(K, N, generator=generator).to(TORCH[dtype])


def judge(actual, inputs, dtype):
    return check(actual, reference.matmul(*inputs), reference.matmul(*inputs, precision=dtype), find_dtype(dtype))


def right(a, b):
    return (a.float() @ b.float()).to(a.dtype)


def test_a_right_result_passes(inputs, dtype):
    assert judge(right(*inputs), inputs, dtype).passed


def test_the_exact_result_passes(inputs, dtype):
    assert judge(reference.matmul(*inputs).to(TORCH[dtype]), inputs, dtype).passed


def skips_last_column(a, b):
    out = right(a, b)
    out[:, -1] = 0
    return out


def skips_last_k(a, b):
    return right(a[:, :-8], b[:-8])


def leaves_a_tile_unwritten(a, b):
    out = right(a, b)
    out[:32, :32] = math.nan
    return out


def writes_one_element_twice_shifted(a, b):
    out = right(a, b)
    out[-1, -1] = out[-1, -2]
    return out


def accumulates_in_bf16(a, b):
    out = torch.zeros(M, N, dtype=torch.bfloat16)
    for k in range(K):
        out += torch.outer(a[:, k], b[k]).to(torch.bfloat16)
    return out.to(a.dtype)


WRONG = {
    "transposed tile": lambda a, b: right(a, b).T.contiguous().view(M, N),
    "last column": skips_last_column,
    "tail of k": skips_last_k,
    "unwritten tile": leaves_a_tile_unwritten,
    "one element": writes_one_element_twice_shifted,
    "1 % scale": lambda a, b: right(a, b) * 1.02,
    "zeros": lambda a, b: torch.zeros(M, N, dtype=a.dtype),
    "infinity": lambda a, b: right(a, b).index_fill(0, torch.tensor([3]), math.inf),
    "shape": lambda a, b: right(a, b)[:, :-1],
    "coarse accumulator": accumulates_in_bf16,
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_kernel_is_rejected(name, inputs, dtype):
    assert not judge(WRONG[name](*inputs), inputs, dtype).passed


def test_tf32_does_not_pass_for_fp32():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(M, K, generator=generator), torch.randn(K, N, generator=generator)
    rounded = reference.matmul(*inputs, precision="tf32")
    assert not judge(rounded, inputs, "fp32").passed
    assert judge(rounded, inputs, "tf32").passed


def test_errors_are_what_they_say():
    # Reference (3, 4): norm 5, root mean square 5/sqrt(2). Off by (0, 1): relative 1/5, largest sqrt(2)/5.
    truth = torch.tensor([3.0, 4.0], dtype=torch.float64)
    found = check(torch.tensor([3.0, 5.0]), truth, truth, find_dtype("fp32"))
    assert found.relative_error == pytest.approx(1 / 5)
    assert found.max_error == pytest.approx(math.sqrt(2) / 5)
    # The baseline is exact: one rounding of fp32 and one reordering remain.
    assert found.relative_bound == pytest.approx(2**-24 + 1e-5)


def test_inputs_that_give_only_zeros_are_refused():
    zeros = torch.zeros(4)
    with pytest.raises(ValueError, match="all zeros"):
        check(zeros, zeros.double(), zeros, find_dtype("fp32"))


def test_of_several_results_the_worst_decides():
    """The second is 1 off in one of four twos: |1| / |(2, 2, 2, 2)| = 1/4."""
    truth = torch.full((4,), 2.0, dtype=torch.float64)
    good, bad = truth.float(), torch.tensor([2.0, 2.0, 2.0, 3.0])
    fp32 = find_dtype("fp32")
    assert check_all((good, good), (truth, truth), (good, good), fp32).passed
    for results in ((good, bad), (bad, good)):
        found = check_all(results, (truth, truth), (good, good), fp32)
        assert not found.passed
        assert found.relative_error == pytest.approx(0.25)
    with pytest.raises(ValueError, match="longer than argument 1"):
        check_all((good,), (truth, truth), (good, good), fp32)
