"""Runs one case in this process: makes inputs, checks the result, times it. A run keeps its lab in a worker process.

lab = make_lab(Settings("cuda", gpu="h100", force=False, warm_cache=False, budget=Budget()))
lab.run(Job(workload, "triton"))  # Outcome(status=measured, check=Check(...), measurement=Measurement(...))
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum, auto

import torch

from bench import host
from bench.callables import BadCallable, check_arguments, load
from bench.cases import (
    CASES,
    Inputs,
    Run,
    bind,
    find_implementation,
    keywords_of,
    make_inputs,
    needed_bytes,
    result_format,
    written_parts,
)
from bench.check import WRONG, check_all
from bench.contract import BrokenContract, WrongShape, call_watched, check_computes, check_unchanged, outputs_of
from bench.device import nvml_handle
from bench.env import ABNORMAL_THROTTLE, environment, limit_threads, read_state
from bench.peak_memory import measure_peak_bytes
from bench.record import Check, Environment, Measurement, Status
from bench.sampling import POWER_LAG_S, Budget, Monitor, sample_until_known
from bench.timer import CudaTimer, Preparation, Timer, WallTimer
from kernels.implementation import Implementation, Result
from predict.errors import MissingCeiling
from predict.gpus import NVIDIA_GPUS
from predict.peak_memory import idle_bytes
from predict.roofline import predict
from predict.units import binary_bytes
from predict.workloads import Amounts, Workload

COMPUTE_SAMPLING_S = 0.3  # ten graphs of 2 ms end before a card of 700 W reaches its power limit


class Trial(Enum):
    """How far a user's function is tried before a run begins."""

    IMPORT = auto()
    CALL = auto()


@dataclass(frozen=True, slots=True)
class Job:
    """One cell of a run."""

    workload: Workload
    implementation: str
    warm: bool = False  # operands may stay in the cache
    not_captured: str | None = None  # why an earlier capture of this implementation failed; it is not tried again
    trial: Trial | None = None  # only try it: there is no check and no time

    @property
    def key(self) -> tuple[str, str]:
        """That of its record."""
        return (self.workload.id, self.implementation)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a job."""

    status: Status
    reason: str | None  # one line; None only if measured
    check: Check | None = None  # None if the result was not checked
    measurement: Measurement | None = None  # None if the job was not timed
    poisoned: bool = False  # the process that ran it must be replaced
    not_captured: str | None = None  # why no CUDA graph could be captured, if nothing else went wrong
    refused: bool = False  # a user's function that cannot be imported or called, or returns other tensors
    printed: str | None = None  # the end of what a user's function printed


@dataclass(frozen=True, slots=True)
class Subject:
    """A call that is timed, and what must be known of it."""

    run: Callable[..., object]
    make_set: Callable[[int], Inputs]  # the i-th set of inputs, as `run` takes them
    amounts: Amounts | None  # None if unknown
    warm: bool = False  # operands may stay in the cache
    as_issued: bool = False  # the host's time is part of it
    captures: bool = True  # a CUDA graph may be tried
    idle_bytes: float = 0.0  # of a set of inputs, what a call passes over


@dataclass(frozen=True, slots=True)
class Settings:
    """How a lab is set up."""

    device: str  # "cuda" or "cpu"
    gpu: str | None  # what the user calls the card; None if nothing was said
    force: bool  # go on although it is another card
    warm_cache: bool  # operands may stay in the cache
    budget: Budget  # of each case


@dataclass(frozen=True, slots=True)
class Truth:
    """The inputs of a workload and what their result should be."""

    source: tuple[Workload, Run]  # the workload, and the reference that computed it
    inputs: Inputs
    reference: tuple[torch.Tensor, ...]  # in fp64
    baseline: tuple[torch.Tensor, ...]  # in the workload's own precision; its error sets the allowed one

    @property
    def held_bytes(self) -> int:
        """Memory of all these tensors."""
        return sum(tensor.nbytes for tensor in (*self.inputs, *self.reference, *self.baseline))


TRIED = Outcome(Status.SKIPPED, "only tried")


class Lab:
    """A device, a timer and a budget."""

    def __init__(self, environment: Environment, timer: Timer, budget: Budget, monitor: Monitor | None) -> None:
        self.environment = environment
        self._device = torch.device(environment.device)
        self._timer = timer
        self._budget = budget
        self._monitor = monitor
        self._truth: Truth | None = None  # of the last workload: its implementations come one after another

    def run(self, job: Job) -> Outcome:
        """Check and time one job. Expected failures are outcomes; anything unexpected propagates."""
        if job.trial is Trial.IMPORT:
            load(job.implementation)
            return TRIED
        return self.run_by(find_implementation(job.workload, job.implementation, self._device.type), job)

    def run_by(self, implementation: Implementation, job: Job) -> Outcome:
        """Run a job by an implementation that need not be in the catalog."""
        workload = job.workload
        if self._truth is not None and self._truth.source != (workload, implementation.reference):
            self._truth = None
        if lacking := self._lacking_memory(workload, implementation):
            return Outcome(Status.OUT_OF_MEMORY, lacking)
        self._truth = self._truth or self._find_truth(workload, implementation.reference)
        if implementation.foreign:
            given = self._truth.inputs, keywords_of(workload)
            check_arguments(implementation.name, workload.op, implementation.run, *given)
        if job.trial is Trial.CALL:
            return self._try_call(implementation, workload, self._truth)
        return self._examine(job, implementation, self._truth)

    def _try_call(self, implementation: Implementation, workload: Workload, truth: Truth) -> Outcome:
        """Call a user's function once. Raises BadCallable if it returns other tensors than its op."""
        try:
            outputs_of(bind(implementation.run, workload)(*truth.inputs), truth.baseline)
        except WrongShape as error:
            raise BadCallable(f"{implementation.name} {error} for {workload.id}") from None
        finally:
            self.forget()  # it may have written to the inputs
        return TRIED

    def _examine(self, job: Job, implementation: Implementation, original: Truth) -> Outcome:
        """Check an implementation, and time it if it is right."""
        workload = job.workload
        run = bind(implementation.run, workload)
        truth = replace(original, inputs=_prepared(implementation, workload, original.inputs))
        if appended := CASES[workload.op].appended:
            for part in appended(original.inputs):
                part.fill_(math.nan)  # else it holds what another implementation wrote
        try:
            checked = self._check(run, truth, workload, foreign=implementation.foreign)
            if not checked.passed:
                return Outcome(Status.INCORRECT, explain(checked), checked)
            measurement = self._measure(run, truth, job, implementation)
            if implementation.foreign:
                before = make_inputs(workload, self._device, index=0)
                check_unchanged(before, truth.inputs, functools.partial(written_parts, workload))
        except BrokenContract as error:
            self.forget()  # the inputs may be other ones now
            return Outcome(Status.INCORRECT, str(error))
        if abnormal := ABNORMAL_THROTTLE.intersection(measurement.throttle or ()):
            reason = f"the card slowed itself down ({', '.join(sorted(abnormal))}): check its cooling and power supply"
            return Outcome(Status.THROTTLED, reason, checked, measurement)
        return Outcome(Status.MEASURED, None, checked, measurement)

    def time(self, subject: Subject) -> Measurement:
        """Time a call until its median is known. Raises CaptureFailed."""
        first = subject.make_set(0)

        def bind_set(index: int) -> Callable[[], object]:
            return functools.partial(subject.run, *(first if index == 0 else subject.make_set(index)))

        set_bytes = sum(each.nbytes for each in first)
        peak_bytes = measure_peak_bytes(bind_set(0), set_bytes, self._device)
        sampler = self._timer.prepare(
            Preparation(
                bind=bind_set,
                set_bytes=set_bytes,
                free_bytes=self._free_bytes() / 2,
                cache_bytes=self.environment.last_level_cache_bytes,
                warm=subject.warm or self.environment.warm_cache,
                as_issued=subject.as_issued,
                captures=subject.captures,
                touched_bytes=set_bytes - subject.idle_bytes,
            )
        )
        budget = replace(self._budget, min_time_s=self._least_sampling_s(subject.amounts))
        return replace(sample_until_known(sampler, budget, monitor=self._monitor), peak_bytes=peak_bytes)

    def forget(self) -> None:
        """Free what is kept of the last workload."""
        self._truth = None

    def _lacking_memory(self, workload: Workload, implementation: Implementation) -> str | None:
        """Why the job does not fit in memory, or None."""
        needed = needed_bytes(workload, implementation)
        free = self._free_bytes() + (self._truth.held_bytes if self._truth else 0)
        return f"needs {binary_bytes(math.ceil(needed))}, {binary_bytes(free)} are free" if needed > free else None

    def _find_truth(self, workload: Workload, reference: Run) -> Truth:
        inputs = make_inputs(workload, self._device, index=0)
        compute = bind(reference, workload)
        low_precision = _outputs(compute(*inputs, precision=workload.dtype.name))
        return Truth((workload, reference), inputs, _outputs(compute(*inputs)), low_precision)

    def _check(self, run: Run, truth: Truth, workload: Workload, *, foreign: bool = False) -> Check:
        """Hold the result of one call against the truth. Raises BrokenContract."""
        given = CASES[workload.op].output
        if given is not None:
            truth.inputs[given].fill_(math.nan)
        else:
            # The allocator hands a freed block to the next tensor of its size, which is the output. Elements that a
            # kernel does not write then stay NaN, instead of another implementation's right answer.
            for output in truth.baseline:
                torch.full_like(output, math.nan)
        written = functools.partial(written_parts, workload)
        if foreign:
            actual = call_watched(run, truth.inputs, written, truth.baseline)
        else:
            actual = outputs_of(run(*truth.inputs), truth.baseline)
        checked = check_all(actual, truth.reference, truth.baseline, result_format(workload))
        if foreign and checked.passed:
            check_computes(run, truth.inputs, written, actual)
        return checked

    def _measure(self, run: Run, truth: Truth, job: Job, implementation: Implementation) -> Measurement:
        """Time `run` on the prepared inputs of `truth` and on the further sets that the timer asks for."""

        def make_set(index: int) -> Inputs:
            if index == 0:
                return truth.inputs
            return _prepared(implementation, job.workload, make_inputs(job.workload, self._device, index=index))

        subject = Subject(
            run,
            make_set,
            job.workload.amounts,
            warm=job.warm,
            as_issued=CASES[job.workload.op].as_issued,
            captures=implementation.captures and job.not_captured is None,
            idle_bytes=idle_bytes(job.workload),
        )
        return replace(self.time(subject), not_captured=job.not_captured)

    def _least_sampling_s(self, amounts: Amounts | None) -> float:
        """How long to sample at least: until the power meter has caught up; if compute is the bound, or what binds is
        unknown, until a card would have begun to throttle."""
        if self._device.type == "cpu":
            return 0.0
        gpu = NVIDIA_GPUS.get(self.environment.gpu or "")
        if gpu is None or amounts is None:
            return COMPUTE_SAMPLING_S
        try:
            bound = predict(amounts, gpu.roofs).bound
        except MissingCeiling:
            return COMPUTE_SAMPLING_S
        return COMPUTE_SAMPLING_S if bound is not None and bound.is_compute else POWER_LAG_S

    def _free_bytes(self) -> int:
        if self._device.type == "cpu":
            return host.available_bytes()
        torch.cuda.empty_cache()
        return torch.cuda.mem_get_info()[0]


def make_lab(settings: Settings) -> Lab:
    """Set up the lab of this machine. Raises BadRun if the card is not the named one."""
    if settings.device == "cpu":
        limit_threads()
    described = environment(settings.device, gpu=settings.gpu, force=settings.force, warm_cache=settings.warm_cache)
    if settings.device == "cpu":
        return Lab(described, WallTimer(), settings.budget, monitor=None)
    return Lab(described, CudaTimer(), settings.budget, functools.partial(read_state, nvml_handle()))


def _prepared(implementation: Implementation, workload: Workload, inputs: Inputs) -> Inputs:
    """The inputs in the format that the implementation takes."""
    return inputs if implementation.prepare is None else _outputs(bind(implementation.prepare, workload)(*inputs))


def _outputs(result: Result) -> tuple[torch.Tensor, ...]:
    """The tensors of a result; most ops have one."""
    return result if isinstance(result, tuple) else (result,)


def explain(checked: Check) -> str:
    """Why a check did not pass."""
    if checked.relative_error >= WRONG:
        return "wrong result: it holds NaN or infinity, or elements that were never written"
    return (
        f"wrong result: relative error {checked.relative_error:.2g} (allowed {checked.relative_bound:.2g}),"
        f" largest error {checked.max_error:.2g} (allowed {checked.max_bound:.2g})"
    )
