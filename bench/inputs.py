"""Which tensors an op gives to its functions, and which it takes back: what a user's function must be written for.

for row in tensors_of(example("matmul")):
    print(row.name, row.format, row.shape)  # a fp32 (16, 128)
"""

import inspect
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.cases import bind, keywords_of, make_inputs, reference_of, written_parts
from bench.suites import SUITES, Limits, suite
from kernels.precision import dtype_name
from predict.errors import BadRun
from predict.peak_memory import operand_bytes
from predict.units import GIB, MIB, binary_bytes, find_dtype
from predict.workloads import Workload, dim_names, find_op, make_workload

RESULT = "returns"
MOST_BYTES = 2 * GIB  # of tensors that are made only to be listed
_LIMITS = Limits("cpu", memory_bytes=64 * GIB, last_level_cache_bytes=MIB, dtype=find_dtype("fp32"), roofs=None)


@dataclass(frozen=True, slots=True)
class TensorRow:
    """A tensor that a function is given or returns, or a number that it is given by keyword."""

    name: str
    format: str
    shape: tuple[int, ...]
    note: str | None  # what is not usual about it


def tensors_of(workload: Workload) -> tuple[TensorRow, ...]:
    """The inputs in order, the numbers that are given by keyword, then the results. It makes the inputs, and calls the
    reference. Raises BadRun where they are too large for that."""
    if (needed := operand_bytes(workload)) > MOST_BYTES:
        raise BadRun(f"{workload.id} takes {binary_bytes(int(needed))}, which is made to be listed: give smaller sizes")
    inputs = make_inputs(workload, torch.device("cpu"), index=0)
    written = {each.untyped_storage().data_ptr() for each in written_parts(workload, inputs)}
    rows = [
        _row(name, each, "may be written to" if each.untyped_storage().data_ptr() in written else None)
        for name, each in zip(_names(workload.op, len(inputs)), inputs, strict=True)
    ]
    rows += [TensorRow(f"{name}=", "number", (), f"{size}, by keyword") for name, size in keywords_of(workload).items()]
    found = bind(reference_of(workload.op), workload)(*inputs, precision=workload.dtype.name)
    return (*rows, *(_row(RESULT, each, None) for each in (found if isinstance(found, tuple) else (found,))))


def meaning(op: str) -> str:
    """What the op computes, in the words of its reference, a line for each paragraph; empty if it says nothing."""
    paragraphs = (inspect.getdoc(reference_of(op)) or "").split("\n\n")
    return "\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def example(op: str) -> Workload:
    """A small workload of an op: the smallest of the suites. Raises BadWorkload for an unknown op."""
    find_op(op)
    known = [each for name in SUITES for each in suite(name, _LIMITS) if each.op == op]
    if not known:
        return make_workload(op, dict.fromkeys(dim_names(op), 1024), _LIMITS.dtype)
    return min(known, key=operand_bytes)


def _names(op: str, count: int) -> tuple[str, ...]:
    """Names of the inputs, from the reference's parameters; those that it takes together are numbered."""
    names: list[str] = []
    for name, parameter in inspect.signature(reference_of(op)).parameters.items():
        if parameter.kind is parameter.VAR_POSITIONAL:
            names += [f"{name}[{index}]" for index in range(count - len(names))]
        elif parameter.kind is not parameter.KEYWORD_ONLY and name != "precision":
            names.append(name)
    return tuple(names)


def _row(name: str, tensor: Tensor, note: str | None) -> TensorRow:
    strided = None if tensor.is_contiguous() else f"strides {tensor.stride()}"
    return TensorRow(name, dtype_name(tensor.dtype), tuple(tensor.shape), note or strided)
