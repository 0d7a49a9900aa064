"""What a call must keep to beside right numbers: it returns the op's tensors. A function that we do not know must also
leave its inputs as they are and compute at every call, or its time would be that of something else.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Written = Callable[[Sequence[Tensor]], Sequence[Tensor]]  # picks the inputs, or parts of them, that a call may write to

_SAME_SIZE = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by bytes of an element


class BrokenContract(Exception):
    """A function returns other tensors than its op, changes its inputs, or does not compute at every call."""


class WrongShape(BrokenContract):
    """A function returns something else than the tensors of its op."""


def outputs_of(result: object, expected: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The tensors of a result, which must be as many, and of the shapes and on the device, as expected. Raises
    WrongShape."""
    found = result if isinstance(result, tuple) else (result,)
    if strangers := [each for each in found if not isinstance(each, Tensor)]:
        raise WrongShape(f"returns {type(strangers[0]).__name__}, where {_shapes(expected)} is right")
    if [each.shape for each in found] != [each.shape for each in expected]:
        raise WrongShape(f"returns {_shapes(found)}, where {_shapes(expected)} is right")
    if strangers := [each for each in found if each.device != expected[0].device]:
        raise WrongShape(f"returns a tensor on {strangers[0].device}; its inputs are on {expected[0].device}")
    return found


def call_watched(
    run: Callable[..., object], inputs: Sequence[Tensor], written: Written, expected: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """Call `run` and return a copy of its tensors. Raises WrongShape, and BrokenContract if it changes its inputs."""
    before = [each.clone() for each in inputs]
    first = tuple(each.clone() for each in outputs_of(run(*inputs), expected))
    check_unchanged(before, inputs, written)
    return first


def check_computes(
    run: Callable[..., object], inputs: Sequence[Tensor], written: Written, first: Sequence[Tensor]
) -> None:
    """Raise BrokenContract if a call gives its `first` result again once the first input that it reads is all zeros.
    The inputs are as before. A result that is wrong may be the same for any input: check that before."""
    before = [each.clone() for each in inputs]
    if read := [each for each in inputs if each.is_floating_point() and not _is_any_of(each, written(inputs))]:
        read[0].zero_()
        again = outputs_of(run(*inputs), first)
        if all(_same(*pair) for pair in zip(first, again, strict=True)):
            raise BrokenContract("returns the same result for other inputs: it must compute at every call")
    for new, old in zip(inputs, before, strict=True):
        new.copy_(old)


def check_unchanged(before: Sequence[Tensor], inputs: Sequence[Tensor], written: Written) -> None:
    """Raise BrokenContract if `inputs` differ from what they were in other places than a call may write to. What may be
    written is copied to `before`."""
    for old, new in zip(written(before), written(inputs), strict=True):
        old.copy_(new)
    for position, pair in enumerate(zip(before, inputs, strict=True)):
        if not _same(*pair):
            raise BrokenContract(f"changes its input {position}: later calls compute something else; give it a copy")


def _same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors have the same bits; NaN is equal to itself."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    whole = _SAME_SIZE.get(a.element_size())
    return torch.equal(a, b) if whole is None else torch.equal(a.view(whole), b.view(whole))


def _is_any_of(tensor: Tensor, others: Sequence[Tensor]) -> bool:
    return any(tensor is other for other in others)


def _shapes(tensors: Sequence[Tensor]) -> str:
    shapes = ", ".join(str(tuple(each.shape)) for each in tensors)
    return f"a tensor {shapes}" if len(tensors) == 1 else f"{len(tensors)} tensors {shapes}"
