import pytest
import torch

from kernels.shapes import bind


def ones(*shape, dtype=torch.float32, device="cpu"):
    return torch.ones(shape, dtype=dtype, device=device)


def test_dimensions_are_bound_by_name():
    tensors = (ones(3, 24, 4), ones(5, 3, dtype=torch.int32), ones(72))
    sizes = bind("op", "x: batch seq dim; int32 table: rows seq/8; flat: batch*seq", *tensors)
    assert (sizes["batch"], sizes["seq"], sizes["dim"], sizes["rows"]) == (3, 24, 4, 5)


@pytest.mark.parametrize(
    ("spec", "tensors", "message"),
    [
        ("x: m k", (ones(2),), r"op: x must have shape \(m, k\), not \(2,\)"),
        ("a: m k; b: k n", (ones(2, 3), ones(4, 3)), r"op: b must have shape \(3, n\), not \(4, 3\)"),
        ("x: n; y: n", (ones(2), ones(3)), r"op: y must have shape \(2,\), not \(3,\)"),
        ("x: k; y: k/2", (ones(4), ones(3)), r"op: y must have shape \(2,\), not \(3,\)"),
        ("x: k; y: k/2", (ones(3), ones(1)), r"op: k=3 must be a multiple of 2"),
        ("x: b s; y: b*s d", (ones(2, 3), ones(5, 1)), r"op: y must have shape \(6, d\), not \(5, 1\)"),
        ("x: n; y: n", (ones(2), ones(2).double()), "op: y is fp64 but x is fp32; all tensors must share one dtype"),
        ("x: n; int8 y, z: n", (ones(2),) * 3, "op: y must be int8, not fp32"),
        ("x: n; y: n", (ones(2), ones(2, device="meta")), "op: y is on meta but x is on cpu"),
        ("x: m n", (ones(2, 0),), r"op: x has shape \(2, 0\); every dimension must be at least 1"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(spec, tensors, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        bind("op", spec, *tensors)
