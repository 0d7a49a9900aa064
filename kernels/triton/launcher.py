"""A function that launches kernels, which works out what it launches once for all tensors of the same layout.

It is written as a plan: checks, choices and launches (`kernels.triton.plan`), made of the tensors of a call and of
memory set aside. What those launches are follows from shapes, strides and formats, never from where the tensors lie.
So the first call of a layout runs what was planned and records it with a place for each tensor; later ones only fill
the places.
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

_MOST_RECORDS = 256  # of a launcher, a few kilobytes each; the oldest is forgotten first


@dataclass(frozen=True, slots=True)
class Planned(Generic[R]):
    """What a call comes to. The tensors of the launches, or what they are views of, and the result are the call's own
    tensors or memory that the plan set aside: views begin where those begin, and nothing was computed to get them."""

    result: R
    launches: tuple[Launch, ...]

    def run(self) -> R:
        """Queue the launches in order. Returns the result."""
        for launch in self.launches:
            launch.run()
        return self.result


class Launcher(Generic[P, R]):
    """Decorates a plan: a call does what `plan(...).run()` does. What it records is kept by all that a plan may depend
    on, shape, strides, format, device and alignment of each tensor and every other argument, and holds no tensor."""

    def __init__(self, plan: Callable[P, Planned[R]]) -> None:
        functools.update_wrapper(self, plan)
        self.plan = plan
        self._records: dict[tuple[object, ...], _Record] = {}

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Queue what the plan launches. Returns its result."""
        tensors: list[Tensor] = []
        parts: list[object] = [tuple(kwargs)]
        for value in (*args, *kwargs.values()):
            if isinstance(value, Tensor):
                tensors.append(value)
                offset = value.storage_offset() % ALIGNMENT_BYTES  # in elements, which tells more than bytes
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
    """A launch without its tensors: `values` are its arguments in order, `fill` makes those that are tensors out of a
    call's, by their index."""

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
    """The launches of a call; `made` is the memory that they are given beside its tensors: shape, strides, format."""

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
    """Which tensor begins at an address, by number: those of the call first, then memory, as it is met."""

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
        """What makes this argument of the tensors."""
        if isinstance(value, Descriptor):
            number, shape, strides = self.find(value.tensor), value.tensor.shape, value.tensor.stride()
            block = list(value.block)
            return lambda tensors: TensorDescriptor(tensors[number], shape, strides, block)
        number, dtype = self.find(value), value.dtype
        if self.tensors[number].dtype != dtype:
            return lambda tensors: tensors[number].view(dtype)
        return itemgetter(number)


def _are_apart(tensors: Sequence[Tensor]) -> bool:
    """Whether no two begin at one address, where a record could not tell which of them is meant."""
    return len({tensor.data_ptr() for tensor in tensors}) == len(tensors)


def _record(planned: Planned[Any], tensors: Sequence[Tensor]) -> _Record:
    places = _Places({tensor.data_ptr(): number for number, tensor in enumerate(tensors)}, list(tensors))
    results = planned.result if isinstance(planned.result, tuple) else (planned.result,)
    numbers = [places.find(result) for result in results]  # first, for a launch may see them as views
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
