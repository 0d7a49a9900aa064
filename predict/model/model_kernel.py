"""One kernel of a pass: the op that computes it and its dimensions, or why no op does, and how often it runs."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from predict.errors import BadWorkload
from predict.model.kinds import KernelKind
from predict.resources import Roofs
from predict.roofline import Prediction, predict
from predict.units import DType
from predict.workloads import Amounts, Workload, make_workload

ROUNDING = 1e-9  # a share that is off a whole number by less is that number


@dataclass(frozen=True, slots=True)
class ModelKernel:
    """A kernel that one GPU launches in a pass of a model, `count` times with the same dimensions."""

    kind: KernelKind
    name: str  # "qkv", "attention", "gate_up"
    count: int  # runs in one pass
    op: str | None  # that computes it (`predict.workloads.OPS`); None: no op does
    dims: Mapping[str, int]  # of one run; without an op what is known of it
    dtype: DType  # of the op; without one, of the activations
    reason: str = ""  # why no op computes it
    # Of one run: those of the op; without one, those that the pass counts; None: the pass counts none.
    amounts: Amounts | None = None

    @property
    def workload(self) -> Workload | None:
        """What to measure; None without an op."""
        return make_workload(self.op, self.dims, self.dtype) if self.op else None

    @property
    def key(self) -> tuple[object, ...]:
        """What kernels have in common that are counted as one. Without an op the sizes do not tell all of the work."""
        work = self.amounts and (self.amounts.flop, self.amounts.bytes_read, self.amounts.bytes_written)
        return self.kind, self.name, self.op, tuple(self.dims.items()), self.dtype, self.reason, work

    def bound(self, roofs: Roofs) -> Prediction | None:
        """The bound of one run; None if its work is not counted. Raises MissingCeiling for an unknown roof."""
        return predict(self.amounts, roofs) if self.amounts else None


def of_op(
    kind: KernelKind,
    name: str,
    op: str,
    dims: Mapping[str, float],
    dtype: DType,
    *,
    count: int,
    otherwise: Amounts | None = None,
) -> ModelKernel:
    """A kernel that `op` computes, with sizes rounded up to whole numbers. Where the op does not take them, the kernel
    has none and says so; its amounts are then `otherwise`."""
    whole = whole_sizes(dims)
    try:
        workload = make_workload(op, whole, dtype)
    except BadWorkload as error:
        return without_op(kind, name, str(error), dtype, count=count, dims=whole, amounts=otherwise)
    return ModelKernel(kind, name, count, op, workload.dims, dtype, amounts=workload.amounts)


def without_op(
    kind: KernelKind,
    name: str,
    reason: str,
    dtype: DType,
    *,
    count: int,
    dims: Mapping[str, float] | None = None,
    amounts: Amounts | None = None,
) -> ModelKernel:
    """A kernel that no op computes, and why."""
    return ModelKernel(kind, name, count, None, whole_sizes(dims or {}), dtype, reason, amounts)


def whole_sizes(dims: Mapping[str, float]) -> dict[str, int]:
    """The sizes rounded up to whole numbers of at least one."""
    return {name: max(math.ceil(size - ROUNDING), 1) for name, size in dims.items()}
