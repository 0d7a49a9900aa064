"""Measures a function in this process: in a script, a notebook, a test.

    from bench import measure

    def make_inputs(index):
        return torch.randn(4096, 4096), torch.randn(4096)

    result = measure(my_norm, make_inputs, bytes_read=67e6, bytes_written=67e6, reference=plain_norm)
    print(result)

It goes the way of a run: input sets that keep caches cold, a check against fp64, the device's timer, samples until the
median is known, roofs, physics. `python -m bench run --callable` does it in a process of its own, where a crash costs a
record only.
"""

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from numbers import Real
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from bench import store
from bench.cases import Inputs, as_implementation
from bench.contract import BrokenContract
from bench.env import choose_device
from bench.judgment import datasheet_roofs, judge, make_record
from bench.lab import Job, Lab, Outcome, Settings, Subject, explain, make_lab
from bench.machine import difference
from bench.measured import Measured
from bench.own_reference import check_result, format_of
from bench.probing import probe_roofs
from bench.record import FUNCTION, Environment, RoofSet, Status
from bench.sampling import Budget
from bench.timer import CaptureFailed
from kernels.implementation import Result
from kernels.precision import TORCH_DTYPES, dtype_name
from predict.errors import BadRun
from predict.resources import matmul_unit
from predict.units import DType, find_dtype
from predict.workloads import Amounts, Workload, make_workload

MakeInputs = Callable[[int], Result] | Callable[[], Result]


class WrongResult(BadRun):
    """A function whose result is wrong, or that changes its inputs. It is not timed."""


def measure(
    fn: Callable[..., object],
    make_inputs: MakeInputs | None = None,
    *,
    op: str | None = None,
    dims: Mapping[str, int] | None = None,
    dtype: str | torch.dtype | None = None,
    amounts: Amounts | None = None,
    flop: float | None = None,
    bytes_read: float | None = None,
    bytes_written: float | None = None,
    reference: Callable[..., Result] | None = None,
    writes: tuple[int, ...] = (),
    roofs: RoofSet | Path | str | None = None,
    name: str | None = None,
    device: str | None = None,
    budget_s: float = 0.5,
    warm_cache: bool = False,
    cuda_graph: bool = True,
) -> Measured:
    """Check and time `fn` in this process, and hold its time against this machine's roofs.

    fn           takes the tensors of one input set, in order. What it closes over is not rotated: a weight that should
                 come from memory is an input.
    make_inputs  make_inputs(index) returns the tensors of one input set, or a single tensor; it may also take no
                 argument. It is called for as many sets as keep the last-level cache cold, up to 1024; make other
                 tensors each time, on the device that is measured.
    op, dims     in place of make_inputs: an op of the catalog with its dimensions. Inputs, amounts and reference are
                 then the op's: op="matmul", dims={"m": 64, "n": 4096, "k": 4096}, dtype="bf16".
                 `python -m bench inputs matmul` lists the tensors.
    dtype        the format that computes, "bf16" or torch.bfloat16; default: that of the result, or bf16 on a GPU and
                 fp32 on a CPU for an op.
    amounts      FLOP and bytes of one call; or flop= (of the matmul unit of `dtype`), bytes_read=, bytes_written=.
                 Without any there is no prediction.
    reference    returns what is right. It is called with the same inputs, whose error sets the allowed one, and with
                 copies in fp64, which are the truth. Without it the function is measured unchecked.
    writes       positions of inputs that fn may write to. Writing to any other raises WrongResult.
    roofs        of an earlier run on this machine: its folder, or a RoofSet. Default: the datasheet's; on a CPU or an
                 unknown card those that probes measure, in some seconds, once a process.
    name         what texts and records call it; default: its own name.
    device       "cuda" or "cpu", for an op; default: the GPU if there is one. Otherwise that of the inputs.
    budget_s     seconds of sampling, at most.
    warm_cache   operands may stay in the cache: one input set.
    cuda_graph   on a GPU: try to capture calls in a CUDA graph, which leaves the host's time out.

    Raises WrongResult for a wrong result; BadRun or BadWorkload for what cannot be measured as asked; and whatever
    `fn`, `make_inputs` and `reference` raise.
    """
    dtype = dtype_name(dtype) if isinstance(dtype, torch.dtype) else dtype
    called = name or str(getattr(fn, "__name__", type(fn).__name__))
    work = _Work(amounts, flop, bytes_read, bytes_written)
    if op is None:
        if make_inputs is None or dims is not None:
            raise BadRun("measure takes make_inputs, or op= with dims=; not both")
        make_set = _input_sets(make_inputs)
        lab = _lab(_device_of(make_set(0)), budget_s, warm_cache=warm_cache)
        workload, outcome = _measure_own(lab, fn, make_set, work, dtype, reference, writes, called, captures=cuda_graph)
    else:
        if make_inputs is not None or reference is not None or writes or work.is_given:
            raise BadRun(f"op={op!r} has inputs, amounts and a reference of its own: leave yours out, or leave op= out")
        lab = _lab(device or choose_device(None), budget_s, warm_cache=warm_cache)
        usual = "bf16" if lab.environment.device == "cuda" else "fp32"
        workload = make_workload(op, dims or {}, find_dtype(dtype or usual))
        outcome = _measure_op(lab, fn, workload, called, captures=cuda_graph)
    return _result(called, f"{fn.__module__}:{getattr(fn, '__qualname__', called)}", lab, workload, outcome, roofs)


@dataclass(frozen=True, slots=True)
class _Work:
    """The amounts of one call, as a user gives them."""

    amounts: Amounts | None
    flop: float | None
    bytes_read: float | None
    bytes_written: float | None

    @property
    def is_given(self) -> bool:
        return self.amounts is not None or any(
            each is not None for each in (self.flop, self.bytes_read, self.bytes_written)
        )

    def of(self, dtype: DType | None) -> Amounts | None:
        """The amounts; `dtype` says which unit does the FLOP. Raises BadRun if they cannot be told."""
        numbers = (self.flop, self.bytes_read, self.bytes_written)
        if self.amounts is not None and any(each is not None for each in numbers):
            raise BadRun("amounts= holds FLOP and bytes already: leave flop=, bytes_read= and bytes_written= out")
        if not self.is_given:
            return None
        if any(each is not None and not _is_amount(each) for each in numbers):
            raise BadRun("flop=, bytes_read= and bytes_written= are numbers from 0 on")
        if dtype is None:
            raise BadRun(f"which format is it? Its result has none of {', '.join(TORCH_DTYPES)}: give dtype=")
        flop, read, written = (each or 0 for each in numbers)
        return self.amounts or Amounts({matmul_unit(dtype): flop} if flop else {}, read, written)


def _is_amount(given: object) -> bool:
    return isinstance(given, Real) and 0 <= float(given) < math.inf


def _measure_own(
    lab: Lab,
    fn: Callable[..., object],
    make_set: Callable[[int], Inputs],
    work: _Work,
    dtype: str | None,
    reference: Callable[..., Result] | None,
    writes: tuple[int, ...],
    called: str,
    *,
    captures: bool,
) -> tuple[Workload | None, Outcome]:
    """Check and time a function of its own meaning. The workload is None without amounts."""
    first = make_set(0)
    try:
        outputs, checked = check_result(fn, first, reference, writes, find_dtype(dtype) if dtype else None)
    except BrokenContract as error:
        raise WrongResult(f"{called} {error}") from None
    if checked is not None and not checked.passed:
        raise WrongResult(f"{called}: {explain(checked)}")
    given = find_dtype(dtype) if dtype else format_of((*outputs, *first))
    amounts = work.of(given)
    subject = Subject(fn, lambda index: first if index == 0 else make_set(index), amounts, captures=captures)
    try:
        measurement = lab.time(subject)
    except CaptureFailed as error:
        measurement = replace(lab.time(replace(subject, captures=False)), not_captured=str(error))
    workload = None if amounts is None or given is None else Workload(f"{FUNCTION}{called}", {}, given, amounts)
    return workload, Outcome(Status.MEASURED, None, checked, measurement)


def _measure_op(lab: Lab, fn: Callable[..., object], workload: Workload, called: str, *, captures: bool) -> Outcome:
    """Check and time a function as an implementation of an op."""
    run = cast("Callable[..., Result]", fn)
    implementation = as_implementation(workload.op, called, run, captures=captures)
    job = Job(workload, called)
    try:
        outcome = lab.run_by(implementation, job)
    except CaptureFailed as error:
        outcome = lab.run_by(implementation, replace(job, not_captured=str(error)))
    if outcome.measurement is None:
        raise WrongResult(f"{called}: {outcome.reason}")
    return outcome


def _result(
    called: str,
    implementation: str,
    lab: Lab,
    workload: Workload | None,
    outcome: Outcome,
    roofs: RoofSet | Path | str | None,
) -> Measured:
    """The outcome, judged by physics and roofs if its amounts are known."""
    here, record = lab.environment, None
    unpredicted: str | None = "its amounts are not known: give amounts=, flop= or bytes_read="
    if workload is not None:
        outcome = judge(workload, outcome, here)
        record = make_record(workload, implementation, outcome, _roofs(roofs, workload.amounts, here), here)
        unpredicted = None if record.prediction else f"a roof of {here.name} that it needs is not known"
    assert outcome.measurement is not None
    return Measured(
        called, outcome.status, outcome.reason, outcome.measurement, outcome.check, here, record, unpredicted
    )


def _roofs(given: RoofSet | Path | str | None, amounts: Amounts, here: Environment) -> RoofSet:
    """The roofs that judge: those given, the datasheet's, or measured ones."""
    if isinstance(given, RoofSet):
        return given
    if given is None:
        datasheet = datasheet_roofs(here)
        return RoofSet(datasheet, {} if datasheet else probe_roofs(amounts, here))
    file = Path(given) / store.RECORDS if Path(given).is_dir() else Path(given)
    if not file.is_file():
        raise BadRun(f"roofs={str(given)!r}: no such run; give the folder that `python -m bench run` wrote")
    records = store.read(file).records
    if not records:
        raise BadRun(f"roofs={str(given)!r}: the run has no record")
    if other := difference(records[-1].environment, here):
        raise BadRun(f"roofs={str(given)!r} are of {other}")
    return records[-1].roofs


def _lab(device: str, budget_s: float, *, warm_cache: bool) -> Lab:
    if not 0 < budget_s < math.inf:
        raise BadRun(f"budget_s must be a positive number of seconds, not {budget_s!r}")
    budget = Budget(budget_s, warmup_s=budget_s / 4)
    return make_lab(Settings(device, None, force=False, warm_cache=warm_cache, budget=budget))


def _input_sets(make_inputs: MakeInputs) -> Callable[[int], Inputs]:
    """The maker of the i-th input set; the first is made once. Each call raises BadRun for what are no tensors, or the
    tensors of the first set again, which would be in the cache."""
    make = cast("Callable[..., Result]", make_inputs)
    takes_index = _takes_an_index(make)

    def make_set(index: int) -> Inputs:
        made = make(index) if takes_index else make()
        found = made if isinstance(made, tuple) else (made,)
        if not found or not all(isinstance(each, Tensor) for each in found):
            raise BadRun("make_inputs must return a tensor or a tuple of them; close over any other argument")
        return found

    first = make_set(0)
    addresses = {each.data_ptr() for each in first if each.nbytes}

    def make_other(index: int) -> Inputs:
        if index == 0:
            return first
        found = make_set(index)
        if any(each.data_ptr() in addresses for each in found if each.nbytes):
            raise BadRun(
                "make_inputs returned a tensor again, which may be cached: make new ones, or say warm_cache=True"
            )
        return found

    return make_other


def _takes_an_index(make: Callable[..., Result]) -> bool:
    try:
        inspect.signature(make).bind(0)
    except TypeError:
        return False
    except ValueError:  # some functions in C have no signature to read
        return True
    return True


def _device_of(inputs: Inputs) -> str:
    """The device of a set of inputs. Raises BadRun for one that is not measured."""
    places = {str(each.device) for each in inputs} - {"cpu"}
    if not places:
        return "cpu"
    if places != {"cuda:0"}:
        raise BadRun(f"inputs are on {', '.join(sorted(places))}; the CPU and the first GPU, cuda:0, are measured")
    return "cuda"
