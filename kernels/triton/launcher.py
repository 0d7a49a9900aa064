"""Functions that launch kernels, and work out their launches once for all tensors of one layout.

Such a function is written as a plan: it checks, chooses, allocates, and returns launches (`kernels.triton.plan`). The
launches depend on shapes, strides and formats, never on addresses. So the first call of a layout runs the plan and
records it with a place for each tensor; later calls only fill the places.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import Any, Generic, ParamSpec, TypeVar

import torch
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from kernels.triton.plan import ALIGNMENT_BYTES, Descriptor, Launch

P = ParamSpec("P")
R = TypeVar("R", bound=Tensor | tuple[Tensor, ...])

_MOST_RECORDS = 256  # of a launcher, a few kilobytes each; the oldest is dropped first


@dataclass(frozen=True, slots=True)
class Planned(Generic[R]):
    """The launches of a call and its result. Their tensors are the call's own, memory that the plan allocated, or views
    that begin where one of these begins. Nothing was computed to get them."""

    result: R
    launches: tuple[Launch, ...]

    def run(self) -> R:
        """Queue the launches in order. Returns the result."""
        for launch in self.launches:
            launch.run()
        return self.result


class Launcher(Generic[P, R]):
    """Decorates a plan: a call does what `plan(...).run()` does. Records are kept by everything that a plan may depend
    on: shape, strides, format, device and alignment of each tensor, and all other arguments. They hold no tensor."""

    def __init__(self, plan: Callable[P, Planned[R]]) -> None:
        functools.update_wrapper(self, plan)
        self.plan = plan
        self._records: dict[tuple[object, ...], _Record] = {}

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Queue the plan's launches. Returns its result. Raises as the plan does."""
        tensors: list[Tensor] = []
        parts: list[object] = [tuple(kwargs)]
        for value in (*args, *kwargs.values()):
            if isinstance(value, Tensor):
                tensors.append(value)
                offset = value.storage_offset() % ALIGNMENT_BYTES  # in elements, which is finer than bytes
                parts += (value.shape, value.stride(), value.dtype, value.device, offset)
            else:
                parts.append(value)
        key = tuple(parts)
        record = self._records.get(key)
        if record is not None:
            return record.run(tensors)
        planned = self.plan(*args, **kwargs)
        result = planned.run()
        if _are_apart(tensors):
            if len(self._records) >= _MOST_RECORDS:
                del self._records[next(iter(self._records))]
            self._records[key] = _record(planned, tensors)
        return result


@dataclass(frozen=True, slots=True)
class _Step:
    """A launch without its tensors: `values` are its arguments in order; `fill` makes the tensors among them, by index,
    from a call's."""

    launch: Launch
    values: tuple[Any, ...]
    fill: tuple[tuple[int, Callable[[Sequence[Tensor]], Any]], ...]

    def run(self, tensors: Sequence[Tensor]) -> None:
        values = list(self.values)
        for index, make in self.fill:
            values[index] = make(tensors)
        self.launch.start(values)


@dataclass(frozen=True, slots=True)
class _Record:
    """The launches of a call. `made`: shape, strides and format of the memory to allocate for them."""

    made: tuple[tuple[torch.Size, tuple[int, ...], torch.dtype], ...]
    steps: tuple[_Step, ...]
    result: Callable[[Sequence[Tensor]], Any]

    def run(self, tensors: list[Tensor]) -> Any:
        device = tensors[0].device
        for shape, strides, dtype in self.made:
            tensors.append(torch.empty_strided(shape, strides, dtype=dtype, device=device))
        for step in self.steps:
            step.run(tensors)
        return self.result(tensors)


@dataclass(frozen=True, slots=True)
class _Places:
    """The number of the tensor that begins at an address: the call's tensors first, then allocated memory."""

    numbers: dict[int, int]
    tensors: list[Tensor]
    made: list[Tensor] = field(default_factory=list)

    def find(self, tensor: Tensor) -> int:
        address = tensor.data_ptr()
        if address not in self.numbers:
            is_whole = tensor.untyped_storage().nbytes() == tensor.nbytes
            assert is_whole, "a plan's views must begin where the call's tensors or its own memory begin"
            self.numbers[address] = len(self.tensors)
            self.tensors.append(tensor)
            self.made.append(tensor)
        return self.numbers[address]

    def fill(self, value: Tensor | Descriptor) -> Callable[[Sequence[Tensor]], Any]:
        """The function that makes this argument from the tensors."""
        if isinstance(value, Descriptor):
            number, shape, strides = self.find(value.tensor), value.tensor.shape, value.tensor.stride()
            block = list(value.block)
            return lambda tensors: TensorDescriptor(tensors[number], shape, strides, block)
        number, dtype = self.find(value), value.dtype
        if self.tensors[number].dtype != dtype:
            return lambda tensors: tensors[number].view(dtype)
        return itemgetter(number)


def _are_apart(tensors: Sequence[Tensor]) -> bool:
    """Whether all begin at different addresses. Otherwise a record could not tell which is meant."""
    return len({tensor.data_ptr() for tensor in tensors}) == len(tensors)


def _record(planned: Planned[Any], tensors: Sequence[Tensor]) -> _Record:
    places = _Places({tensor.data_ptr(): number for number, tensor in enumerate(tensors)}, list(tensors))
    results = planned.result if isinstance(planned.result, tuple) else (planned.result,)
    numbers = [places.find(result) for result in results]  # first, because launches may see views of them
    steps = tuple(_record_step(launch, places) for launch in planned.launches)
    made = tuple((each.shape, each.stride(), each.dtype) for each in places.made)
    return _Record(made, steps, itemgetter(*numbers))


def _record_step(launch: Launch, places: _Places) -> _Step:
    values = launch.values()
    fill = tuple(
        (index, places.fill(value)) for index, value in enumerate(values) if isinstance(value, Tensor | Descriptor)
    )
    bare = tuple(None if isinstance(value, Tensor | Descriptor) else value for value in values)
    return _Step(replace(launch, arguments={}), bare, fill)
