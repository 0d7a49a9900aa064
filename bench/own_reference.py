"""Holds a result against a reference that a user gives: called on copies of the inputs in fp64 it is the truth, called
on the inputs as they are it shows how much error their format brings.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from bench.check import UNIT_ROUNDOFF, check, worst
from bench.contract import check_unchanged, outputs_of
from bench.record import Check
from kernels.implementation import Result
from kernels.precision import TORCH_DTYPES, dtype_name
from predict.errors import BadRun
from predict.units import DTYPES, DType

NO_ERROR = 1e-30  # what whole numbers are allowed; not 0, because errors are compared by their ratio to it


def check_result(
    run: Callable[..., object],
    inputs: Sequence[Tensor],
    reference: Callable[..., Result] | None,
    writes: Sequence[int] = (),
    dtype: DType | None = None,
) -> tuple[tuple[Tensor, ...], Check | None]:
    """Call `run` on the inputs. Returns its tensors, none if it returns anything else, and the check; None without a
    reference. The allowed error is that of the result's format, or of `dtype`, such as tf32, if it is stored alike.

    Raises BrokenContract if it returns other tensors than the reference, or changes an input that `writes` does not
    name; and BadRun for a reference that cannot be called in fp64.
    """
    before = [each.clone() for each in inputs]
    expected = None if reference is None else _expect(reference, before)
    result = run(*inputs)
    found = result if isinstance(result, tuple) else (result,)
    outputs = tuple(each for each in found if isinstance(each, Tensor))
    check_unchanged(before, inputs, lambda tensors: [tensors[position] for position in writes])
    if expected is None:
        return outputs, None
    truth, plain = expected
    return outputs, worst([_check(*each, dtype) for each in zip(outputs_of(result, plain), truth, plain, strict=True)])


def format_of(tensors: Sequence[Tensor]) -> DType | None:
    """The format of the first tensor that has one; None if none has."""
    names = (dtype_name(each.dtype) for each in tensors)
    return next((DTYPES[name] for name in names if name in DTYPES), None)


def _expect(
    reference: Callable[..., Result], inputs: Sequence[Tensor]
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """What is right, in fp64 and in the format of the inputs."""
    plain = _tensors(reference(*(each.clone() for each in inputs)))
    wide = [each.double() if each.is_floating_point() else each.clone() for each in inputs]
    try:
        truth = _tensors(reference(*wide))
    except RuntimeError as error:
        what = str(error).strip().partition("\n")[0]
        raise BadRun(f"reference= fails on fp64 copies of the inputs, which give the truth: {what}") from error
    for output in plain:  # what a function does not write must not hold the right answer: see Lab
        if output.is_floating_point():
            torch.full_like(output, torch.nan)
    return truth, plain


def _tensors(result: object) -> tuple[Tensor, ...]:
    found = result if isinstance(result, tuple) else (result,)
    if not found or not all(isinstance(each, Tensor) for each in found):
        raise BadRun(f"reference= must return a tensor or a tuple of them, not {type(result).__name__}")
    return tuple(found)


def _check(actual: Tensor, truth: Tensor, plain: Tensor, dtype: DType | None) -> Check:
    """Numbers within the error of their format; whole numbers and truth values must be those of the reference."""
    if not actual.is_floating_point() and not actual.is_complex():
        differ = (actual != plain).double()
        return Check(differ.mean().item(), differ.max().item(), NO_ERROR, NO_ERROR)
    given = dtype is not None and TORCH_DTYPES.get(dtype.name) == actual.dtype
    name = dtype.name if dtype is not None and given else dtype_name(actual.dtype)
    if name not in UNIT_ROUNDOFF:
        raise BadRun(f"a result in {name} cannot be checked: leave reference= out, or convert it")
    return check(actual, truth, plain, DTYPES[name])
