"""Calls of kernels in one pass or in several, and their times: by the form of their op, or by what they move.

A `Call` is computed by a family of measured kernels. An `Unmeasured` kernel has no form of its own: norms and other
element-wise kernels, states of recurrent layers, attention to chosen or compressed entries (`unmeasured`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np

from predict.errors import MissingCeiling
from predict.expected.calibrations import Known, find_every, find_known
from predict.expected.kernel import expect
from predict.expected.matmul import GPU_LAUNCH_AT_MOST_S
from predict.expected.time_model import Calibration, Machine
from predict.expected.unmeasured import find_plain, unmeasured_terms
from predict.gpus import Gpu
from predict.model.kinds import KernelKind
from predict.units import Formats
from predict.workloads import FloatArray, Number

MATMUL = "matmul"


@dataclass(frozen=True, slots=True)
class Family:
    """The kernels of an op that compute a call."""

    op: str
    formats: Formats
    # Names of formats that may have been measured (`Shipped.format`): of the first group that was, the first name, or
    # with `any_kernel` all.
    names: tuple[tuple[str, ...], ...]
    caches: tuple[str, ...] = ()  # names of the cache's format; of several an engine takes the fastest kernel
    window: bool = False
    head_dim: float | None = None
    any_kernel: bool = False  # an engine takes the fastest of all kernels


@dataclass(frozen=True, slots=True)
class Call:
    """Equal calls of a kernel. Sizes are numbers, or arrays of one size for several passes."""

    kind: KernelKind
    family: Family
    dims: Mapping[str, Number]
    count: Number  # calls in a pass; a fraction for a share of one


@dataclass(frozen=True, slots=True)
class Unmeasured:
    """Equal calls of a kernel whose op has no form."""

    kind: KernelKind
    count: Number
    bytes: Number  # of one call
    flop: Number = 0.0
    launches: float = 1.0


@dataclass(frozen=True, slots=True)
class CallTimes:
    """The times of calls by kind of kernel, in seconds, and what they rest on."""

    times: Mapping[KernelKind, FloatArray]  # of each pass
    launch_s: FloatArray  # launches of the calls whose op has a form
    known: tuple[Known, ...]

    @property
    def time_s(self) -> FloatArray:
        """All calls, one after the other."""
        return reduce(np.add, self.times.values())


def time_calls(gpu: Gpu, calls: Iterable[Call | Unmeasured]) -> CallTimes:
    """The times of all calls of each pass. Raises MissingCeiling where a family was measured nowhere."""
    times: dict[KernelKind, FloatArray] = {}
    launch_s: FloatArray = np.zeros(1)
    known: list[Known] = []
    groups: dict[Family, list[Call]] = {}
    rest = []
    for call in calls:
        if isinstance(call, Call):
            groups.setdefault(call.family, []).append(call)
        else:
            rest.append(call)
    for family, members in groups.items():
        every = _every(gpu, family)
        known += every
        found = np.array([_times_s(gpu, family, each, members) for each in every])
        launches = np.array([_launch_s(captured(gpu, each.calibration)) for each in every])
        for call, time_s, fastest in zip(members, found.min(axis=0), found.argmin(axis=0), strict=True):
            times[call.kind] = times.get(call.kind, np.zeros(1)) + call.count * time_s
            if call.kind is not KernelKind.LINK:
                launch_s = launch_s + call.count * launches[fastest]
    if rest:
        known.append(find_plain(gpu))
        for each in rest:
            time_s = unmeasured_terms(gpu, each.bytes, each.flop, each.launches).time_s
            times[each.kind] = times.get(each.kind, np.zeros(1)) + each.count * time_s
    return CallTimes({kind: times[kind] for kind in KernelKind if kind in times}, launch_s, tuple(known))


def _every(gpu: Gpu, family: Family) -> list[Known]:
    """The measured kernels: one, or all that an engine chooses among. Raises MissingCeiling if there is none."""
    reasons = []
    for group in family.names:
        found: list[Known] = []
        for name in group:
            try:
                found += _of_format(gpu, family, name)
            except MissingCeiling as error:
                reasons.append(error)
            if found and not family.any_kernel:
                break
        if found:
            return found
    raise reasons[0]


def _of_format(gpu: Gpu, family: Family, name: str) -> Iterable[Known]:
    """The kernels of a format: all of the op, or the one that fits best for each cache."""
    if family.any_kernel:
        return find_every(gpu, family.op, name)
    return [
        find_known(gpu, family.op, name, cache=cache, window=family.window, head_dim=family.head_dim)
        for cache in family.caches or (None,)
    ]


def _times_s(gpu: Gpu, family: Family, known: Known, calls: Sequence[Call]) -> list[FloatArray]:
    """The time of one call of each, for each pass: all in one evaluation of the form."""
    names = dict.fromkeys(name for call in calls for name in call.dims)
    size = max(np.size(dim) for call in calls for dim in call.dims.values())
    rows = {
        name: np.concatenate([np.broadcast_to(np.asarray(call.dims[name], dtype=np.float64), size) for call in calls])
        for name in names
    }
    machine = Machine.of(gpu, family.formats.compute)
    time_s = expect(rows, machine, family.formats, captured(gpu, known.calibration)).time_s
    return np.split(time_s, len(calls))


def captured(gpu: Gpu, calibration: Calibration) -> Calibration:
    """The same in a step that engines capture as a graph, which leaves nothing of the host's time of a call that was
    measured as issued. A matmul's launch that takes longer than any GPU's is such a time: a captured one's takes its
    place. Absorbed projections that were not timed are read once."""
    found = dict(calibration.constants)
    if calibration.op == MATMUL and found["launch_s"] > GPU_LAUNCH_AT_MOST_S:
        found["launch_s"] = find_plain(gpu).calibration.constants["launch_s"]
    if "host_s" in found:
        found["host_s"] = 0.0
    if "absorbed" in found:
        found["absorbed"] = max(found["absorbed"], 1.0)
    return replace(calibration, constants=found)


def _launch_s(calibration: Calibration) -> float:
    """The launches of one call, whatever its form calls them."""
    return calibration.constants.get("launch_s", calibration.constants.get("start_s", 0.0))
