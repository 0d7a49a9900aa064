"""PyTorch's own implementations of the quantized and row-wise ops, against fp64."""

import functools

import pytest
import torch

from bench.cases import make_inputs
from bench.check import check_all
from kernels import reference
from kernels.pytorch import eager
from kernels.unsupported import Unsupported
from predict.units import find_dtype
from predict.workloads import make_workload
from tests.older import need_fp8_on_a_cpu

CPU = torch.device("cpu")


def inputs_of(op, dims, dtype, device=CPU):
    return make_inputs(make_workload(op, dims, find_dtype(dtype)), device, index=0)


def tensors(result):
    return result if isinstance(result, tuple) else (result,)


def is_right(run, meaning, inputs, dtype, rounding=None, *, prepared=None):
    """Held to the same bound as in a run."""
    actual = tensors(run(*(inputs if prepared is None else prepared)))
    truth, plain = tensors(meaning(*inputs)), tensors(meaning(*inputs, precision=dtype))
    assert [each.dtype for each in actual] == [each.dtype for each in plain]
    return check_all(actual, truth, plain, find_dtype(rounding or dtype)).passed


ROWWISE = {
    "rmsnorm": {"rows": 5, "cols": 77},
    "add_rmsnorm": {"rows": 5, "cols": 77},
    "layernorm": {"rows": 5, "cols": 77},
    "add_layernorm": {"rows": 5, "cols": 77},
    "softmax": {"rows": 5, "cols": 77},
    "swiglu": {"rows": 5, "cols": 77},
    "gelu": {"rows": 5, "cols": 77},
    "rope": {"tokens": 3, "heads": 5, "head_dim": 14},
}


@pytest.mark.parametrize("dtype", ["fp64", "fp32", "bf16", "fp16"])
@pytest.mark.parametrize("op", ROWWISE)
def test_row_wise_ops_are_right(op, dtype, device):
    inputs = inputs_of(op, ROWWISE[op], dtype, device)
    assert is_right(getattr(eager, op), getattr(reference, op), inputs, dtype)


def test_rmsnorm_by_hand():
    # Mean square of (3, 4, 0, 0) is 25/4, so its rms is 2.5.
    x, weight = torch.tensor([[3.0, 4.0, 0.0, 0.0]]), torch.tensor([1.0, 2.0, 1.0, 1.0])
    expected = torch.tensor([[1.2, 3.2, 0.0, 0.0]])
    torch.testing.assert_close(eager.rmsnorm(x, weight), expected, rtol=1e-6, atol=0)
    normed, total = eager.add_rmsnorm(x - 1, torch.ones_like(x), weight)
    torch.testing.assert_close(normed, expected, rtol=1e-6, atol=0)
    assert torch.equal(total, x)


@pytest.mark.parametrize(("m", "n", "k"), [(1, 5, 7), (17, 24, 40), (33, 8, 16)])
@pytest.mark.parametrize(("run", "dtype"), [(eager.matmul_scaled, "fp8"), (eager.matmul_scaled_int8, "int8")])
def test_scaled_products_are_right_at_any_size_on_a_cpu(run, dtype, m, n, k):
    if dtype == "fp8":
        need_fp8_on_a_cpu()
    inputs = inputs_of("matmul_scaled", {"m": m, "n": n, "k": k}, dtype)
    assert is_right(run, reference.matmul_scaled, inputs, dtype, "bf16")


def test_an_int8_product_is_exact_before_it_is_scaled():
    # 64 * 127 * 127 = 1,032,256, which bf16 would round; times 2^-6 and 2^-6 it is 252.015625, which it rounds to 252.
    a, b = torch.full((1, 64), 127, dtype=torch.int8), torch.full((64, 1), 127, dtype=torch.int8)
    scale = torch.tensor([2.0**-6])
    assert eager.matmul_scaled_int8(a, b, scale, scale).item() == 252


@pytest.mark.parametrize(
    ("shape", "names"),
    [
        ((16, 64, 64), "m=16, n=64, k=64; supported: m over 16"),
        ((17, 63, 64), "n=63"),
        ((17, 64, 60), "k=60; supported: m over 16, n and k multiples of 8"),
    ],
)
def test_what_cublas_does_not_multiply_in_int8_is_declined_before_the_call(shape, names):
    with pytest.raises(Unsupported, match=names):
        eager.matmul_scaled_int8(*on_meta(*shape, torch.int8))


def on_meta(m, n, k, dtype):
    """Inputs on a device that is no CPU, which can be checked and not computed with."""
    a, weight = torch.empty(m, k, dtype=dtype, device="meta"), torch.empty(n, k, dtype=dtype, device="meta")
    return a, weight.t(), torch.empty(m, device="meta"), torch.empty(n, device="meta")


@pytest.mark.parametrize(
    ("capability", "shape", "names"),
    [
        ((8, 0), (1, 16, 16), "compute capability 8.0 has no fp8; supported: 8.9 and later"),
        ((9, 0), (1, 8, 16), "n=8, k=16; supported: multiples of 16"),
        ((9, 0), (1, 16, 24), "n=16, k=24; supported: multiples of 16"),
    ],
)
def test_what_a_gpu_does_not_multiply_in_fp8_is_declined_before_the_call(monkeypatch, capability, shape, names):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    with pytest.raises(Unsupported, match=names):
        eager.matmul_scaled(*on_meta(*shape, torch.float8_e4m3fn))


def test_fp8_operands_of_another_layout_are_declined(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    a, b, *scales = on_meta(32, 16, 16, torch.float8_e4m3fn)
    with pytest.raises(Unsupported, match="b stored by columns"):
        eager.matmul_scaled(a, b.contiguous(), *scales)


def test_scaled_products_take_their_own_format_only():
    fp8, int8 = (inputs_of("matmul_scaled", {"m": 4, "n": 16, "k": 16}, dtype) for dtype in ("fp8", "int8"))
    with pytest.raises(Unsupported, match="does not support int8; supported: fp8"):
        eager.matmul_scaled(*int8)
    with pytest.raises(Unsupported, match="does not support fp8; supported: int8"):
        eager.matmul_scaled_int8(*fp8)


def test_a_pytorch_without_row_scales_on_a_cpu_declines(monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("Now _scaled_mm only supports per-tensor scaling for CPU backend.")

    monkeypatch.setattr(torch, "_scaled_mm", refuse)
    inputs = inputs_of("matmul_scaled", {"m": 4, "n": 16, "k": 16}, "fp8")
    with pytest.raises(Unsupported, match="supported: CUDA"):
        eager.matmul_scaled(*inputs)
    monkeypatch.setattr(torch, "_scaled_mm", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        eager.matmul_scaled(*inputs)


def test_fast_accumulation_is_passed_on(monkeypatch):
    given = []
    monkeypatch.setattr(torch, "_scaled_mm", lambda *_, use_fast_accum, **__: given.append(use_fast_accum))
    inputs = inputs_of("matmul_scaled", {"m": 4, "n": 16, "k": 16}, "fp8")
    for run in (eager.matmul_scaled, functools.partial(eager.matmul_scaled, fast_accum=True)):
        run(*inputs)
    assert given == [False, True]


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
@pytest.mark.parametrize("m", [1, 5])
def test_int8_weights(m, dtype):
    inputs = inputs_of("matmul_w8a16", {"m": m, "n": 6, "k": 128}, dtype)
    for run in (eager.matmul_w8a16_dequantize, eager.matmul_w8a16_int8pack):
        assert is_right(run, reference.matmul_w8a16, inputs, dtype)


def test_int8_weights_are_left_as_they_were():
    inputs = inputs_of("matmul_w8a16", {"m": 2, "n": 6, "k": 64}, "bf16")
    before = [each.clone() for each in inputs]
    eager.matmul_w8a16_dequantize(*inputs)
    assert all(torch.equal(*pair) for pair in zip(inputs, before, strict=True))


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
@pytest.mark.parametrize(("m", "n", "k"), [(1, 16, 128), (5, 48, 384)])
def test_int4_weights(m, n, k, dtype):
    inputs = inputs_of("matmul_w4a16", {"m": m, "n": n, "k": k}, dtype)
    assert is_right(eager.matmul_w4a16_dequantize, reference.matmul_w4a16, inputs, dtype)
    prepared = eager.prepare_int4pack(*inputs)
    assert is_right(eager.matmul_w4a16_int4pack, reference.matmul_w4a16, inputs, dtype, prepared=prepared)


def test_int4_weights_unpack_in_order():
    packed = torch.randint(-(2**31), 2**31, (3, 48), dtype=torch.int32)
    assert torch.equal(eager.unpack_nibbles(packed) - 8, reference.unpack_int4(packed).int())
    # 8 ones in the first word of a group: weights 0, 16, ..., 112 of it.
    packed = torch.zeros(1, 16, dtype=torch.int32)
    packed[0, 0] = 0x11111111
    assert eager.unpack_nibbles(packed).nonzero()[:, 1].tolist() == list(range(0, 128, 16))


def test_what_cpu_kernels_cannot_read_safely_is_declined():
    with pytest.raises(Unsupported, match="k=96 is not safe; supported: multiples of 64"):
        eager.matmul_w8a16_int8pack(*inputs_of("matmul_w8a16", {"m": 1, "n": 16, "k": 96}, "bf16"))
    with pytest.raises(Unsupported, match="n=24; supported: multiples of 16"):
        eager.prepare_int4pack(*inputs_of("matmul_w4a16", {"m": 1, "n": 24, "k": 128}, "bf16"))


@pytest.mark.parametrize("op", ROWWISE)
def test_wrong_shapes_are_refused(op):
    x, *others = inputs_of(op, ROWWISE[op], "fp32")
    with pytest.raises(ValueError, match=op):
        getattr(eager, op)(x[0], *others)
    for index in range(len(others)):
        cut = [each[..., :-1] if number == index else each for number, each in enumerate(others)]
        with pytest.raises(ValueError, match=f"{op}.*must have shape"):
            getattr(eager, op)(x, *cut)
        wide = [each.double() if number == index else each for number, each in enumerate(others)]
        with pytest.raises(ValueError, match=f"{op}.*must share one dtype"):
            getattr(eager, op)(x, *wide)


@pytest.mark.gpu
@pytest.mark.parametrize(("dtype", "name"), [("fp8", "torch"), ("fp8", "torch_fast_accum"), ("int8", "torch")])
def test_scaled_products_are_right_on_a_gpu(dtype, name, device):
    inputs = inputs_of("matmul_scaled", {"m": 48, "n": 64, "k": 512}, dtype, device)
    run = eager.matmul_scaled_int8 if dtype == "int8" else eager.matmul_scaled
    run = functools.partial(run, fast_accum=True) if name == "torch_fast_accum" else run
    assert is_right(run, reference.matmul_scaled, inputs, dtype, "bf16")
