"""What this machine is, and what would spoil a measurement on it. A finding that is not ok carries a remedy."""

import functools
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import torch

from bench import host, nvml
from bench.cold_cache import read_cold
from bench.device import nvml_handle, shares_memory, visible_gpus
from bench.env import (
    CudaStatus,
    GpuState,
    cuda_status,
    environment,
    find_measurable,
    limit_threads,
    other_processes,
    read_state,
    unknown_line,
)
from bench.record import Environment
from bench.timer import CaptureFailed
from predict.errors import NapkinError
from predict.gpus import NVIDIA_GPUS, physical_roofs
from predict.resources import Resource
from predict.units import binary_bytes, si

NO_COLDNESS = "nothing to do: records cannot say whether operands were cold"
STOP_IT = "stop it: it shares clocks, bandwidth and memory"


class Level(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARNING = "warning"  # the run works; read its numbers with this in mind
    PROBLEM = "problem"  # the run does not work, or its numbers would be wrong


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    level: Level
    subject: str
    text: str
    remedy: str | None = None  # what to do; None if the level is ok


_ok = functools.partial(Finding, Level.OK)
_warning = functools.partial(Finding, Level.WARNING)
_problem = functools.partial(Finding, Level.PROBLEM)


def examine(gpu: str | None) -> tuple[Finding, ...]:
    """Look at this machine; `gpu` as in `bench run`. Whatever is wrong with the machine is a finding, not an error; a
    name that no card has raises UnknownGpu or BadRun."""
    if gpu is not None and gpu.lower() != "cpu":
        find_measurable(gpu)
    status = cuda_status()
    device = "cuda" if status.usable and (gpu or "").lower() != "cpu" else "cpu"
    if device == "cpu":
        limit_threads()  # as a run does
    try:
        described = environment(device, gpu=None if device == "cpu" else gpu, force=False, warm_cache=False)
    except NapkinError as error:
        return (_problem("gpu", str(error), "run on that card, or name this one"),)
    findings = (*_host(described), *_software(described), _compiler())
    if device == "cpu":
        return (*_cuda_absent(status, gpu), *_cpu(described), *findings)
    return (*_card(described), *_card_state(described), _cold_reads(described), *findings)


def _software(described: Environment) -> Iterator[Finding]:
    versions = f"python {described.python}, torch {described.torch}, triton {described.triton or 'none'}"
    if described.driver:
        versions += f", CUDA {described.cuda}, driver {described.driver}"
    yield _ok("versions", versions)
    if described.triton is None:
        yield _warning("triton", "not installed", "install it, or only PyTorch's kernels are measured")


def _compiler() -> Finding:
    name = next((name for name in (os.environ.get("CC"), "cc", "gcc", "clang") if name and shutil.which(name)), None)
    if name:
        return _ok("C compiler", name)
    return _warning("C compiler", "none found", "install gcc: Triton builds its launchers with a C compiler")


def _cuda_absent(status: CudaStatus, gpu: str | None) -> Iterator[Finding]:
    if (gpu or "").lower() != "cpu":
        remedy = "nothing to do for a CPU run; for a GPU run install its driver and a CUDA build of torch"
        level = Level.PROBLEM if gpu or status.driver_sees_gpu else Level.WARNING
        yield Finding(level, "device", f"no CUDA device: {status.problem}", remedy)


def _cpu(described: Environment) -> Iterator[Finding]:
    threads = "1 thread" if described.threads == 1 else f"{described.threads} threads"
    yield _ok("cpu", f"{described.name}, {threads}, {_size(described.memory_bytes)}")
    allowed, installed = host.memory_bytes(), host.installed_bytes()
    if allowed < installed:
        limit = f"limited to {binary_bytes(allowed)} of the machine's {binary_bytes(installed)}"
        yield _ok("memory limit", f"{limit}; sizes are fitted to that")
    if described.last_level_cache_bytes is None:
        yield _warning("last-level cache", "its size is unknown", NO_COLDNESS)
        return
    yield _ok("last-level cache", binary_bytes(described.last_level_cache_bytes))
    load, machine_cpus = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0, os.cpu_count() or 1
    if load > 0.5 * machine_cpus:  # the load is the machine's, in a container too
        text = f"load average {load:.1f} on the machine's {machine_cpus} CPUs"
        yield _warning("other work", text, "stop it, or expect wide intervals")


def _host(described: Environment) -> Iterator[Finding]:
    """With less than one CPU, a thread stops in the middle of a sample, and a GPU waits for its launches."""
    if described.cpus is not None and described.cpus < 1:
        text = f"{described.cpus:g} CPUs: a thread is stopped when its share of a period is used up"
        yield _warning("CPU quota", text, "give the container a whole CPU; until then expect wide intervals")


def _card(described: Environment) -> Iterator[Finding]:
    sms = f"{described.sm_count} SMs" if described.sm_count else "an unknown number of SMs"
    cache = _size(described.last_level_cache_bytes)
    text = f"{described.name}, {sms}, {_size(described.memory_bytes)}, L2 {cache}"
    if (visible := visible_gpus() or 1) > 1:
        text += f"; the first of {visible} that torch sees"
    yield _ok("card", text)
    yield from _identity(described)
    if described.ecc is not None:
        yield _ok("ECC", "on" if described.ecc else "off")
    if shares_memory():
        yield _ok("memory", "shared with the CPU: other programs take part of it")


def _size(size_bytes: int | None) -> str:
    return "of unknown size" if size_bytes is None else binary_bytes(size_bytes)


def _identity(described: Environment) -> Iterator[Finding]:
    """Which SKU this is judged as, and what contradicts it."""
    if described.mig:
        remedy = "use the whole card: ask its administrator to turn MIG off; a slice is judged by measured roofs only"
        yield _problem("MIG", "on: this is a slice of a card", remedy)
    elif described.gpu is None:
        remedy = "add the SKU to predict/gpus/ with its sources; until then only measured roofs judge the results"
        yield _warning("table", "this card is not in the table", remedy)
    if described.gpu is not None:
        yield _ok("table", f"{described.gpu}: {NVIDIA_GPUS[described.gpu].source}")
    for mismatch in described.mismatches:
        remedy = "check which SKU this is (PCIe, SXM, MIG slice); if the table is wrong, correct it with a source"
        yield _problem("table", f"the driver says {mismatch}", remedy)


def _card_state(described: Environment) -> Iterator[Finding]:
    state = read_state(nvml_handle())
    if now := _now(described, state):
        yield _ok("now", now)
    if described.unknown:
        yield _unknown(described)
    if state.throttle:
        yield _warning("throttling", ", ".join(state.throttle), "let the card cool and idle, and look again")
    table_power_w = NVIDIA_GPUS[described.gpu].power_w if described.gpu else None
    if described.power_limit_w and table_power_w and described.power_limit_w < 0.95 * table_power_w:
        text = f"{described.power_limit_w:.0f} W, this SKU's is {table_power_w:.0f} W"
        yield _warning("power limit", text, "raise it, or expect slower matmuls than on other cards of this SKU")
    yield from _other_work()


def _now(described: Environment, state: GpuState) -> str:
    """Clock, temperature and power, as far as they are known."""
    top = f" of {si(described.max_sm_hz, 'Hz')}" if described.max_sm_hz else ""
    limit = f" of {described.power_limit_w:.0f} W" if described.power_limit_w else ""
    known = (
        state.sm_hz and f"SM clock {si(state.sm_hz, 'Hz')}{top}",
        state.temperature_c and f"{state.temperature_c:.0f} C",
        state.power_w and f"{state.power_w:.0f} W{limit}",
    )
    return ", ".join(each for each in known if each)


def _unknown(described: Environment) -> Finding:
    """What the driver does not report of this card, in one line; and why, if NVML does not work at all."""
    text = unknown_line(described)
    if problem := nvml.start():
        remedy = (
            "install nvidia-ml-py and the driver's libnvidia-ml; in a container allow the capability `utility`"
            " (NVIDIA_DRIVER_CAPABILITIES=compute,utility)"
        )
        return _warning("NVML", f"does not work ({problem}); {text}", remedy)
    return _warning("NVML", text, "nothing to do: records hold null there, and no check needs it")


def _other_work() -> Iterator[Finding]:
    """Other processes on the card. The driver numbers processes as the host does, so in a container even this process
    has a number that it does not know."""
    others = [pid for pid in other_processes() if pid not in (os.getpid(), os.getppid())]
    unseen = [pid for pid in others if not host.is_running(pid)]
    if not others:
        return
    text = f"process {', '.join(map(str, others))} uses this GPU"
    may_be_this = others == unseen[:1]
    if unseen:
        names = "it" if may_be_this else ", ".join(map(str, unseen))
        text += f"; {names} cannot be seen from here: it may be this process under its number on the host"
    yield _ok("other work", text) if may_be_this else _warning("other work", text, STOP_IT)


def _cold_reads(described: Environment) -> Finding:
    """Whether what is timed cold is cold."""
    cache_bytes = described.last_level_cache_bytes
    if cache_bytes is None:
        return _warning("cold L2", "the size of L2 is unknown", NO_COLDNESS)
    gpu = NVIDIA_GPUS.get(described.gpu or "")
    pins = physical_roofs(gpu).get(Resource.DRAM) if gpu else None
    try:
        reads = read_cold(cache_bytes, torch.device("cuda"))
    except CaptureFailed as error:
        remedy = "update driver and torch: short kernels cannot be timed without CUDA graphs"
        return _problem("cold L2", str(error), remedy)
    if doubt := reads.doubt(pins.per_s if pins else None):
        return _problem("cold L2", f"{reads.text}; {doubt}", "cold results may be warm: do not trust small operands")
    return _ok("cold L2", reads.text)
