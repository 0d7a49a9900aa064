"""What this machine is, and whether its numbers will be worth having. A finding that is not good carries a remedy."""

import os
import shutil
from dataclasses import dataclass
from enum import StrEnum

import torch

from bench import host, nvml
from bench.cold_cache import read_cold
from bench.device import nvml_handle, shares_memory, visible_gpus
from bench.env import CudaStatus, GpuState, cuda_status, environment, limit_threads, other_processes, read_state
from bench.record import Environment
from bench.timer import CaptureFailed
from predict.errors import NapkinError
from predict.gpus import GPUS, physical_roofs, resolve
from predict.resources import Resource
from predict.units import binary_bytes, si


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
    remedy: str | None = None


def examine(gpu: str | None) -> tuple[Finding, ...]:
    """Look at this machine; `gpu` as in `bench run`. What is wrong with the machine is a finding, not an error; a name
    that no GPU has raises UnknownGpu."""
    if gpu is not None and gpu.lower() != "cpu":
        resolve(gpu)
    status = cuda_status()
    device = "cuda" if status.usable and (gpu or "").lower() != "cpu" else "cpu"
    if device == "cpu":
        limit_threads()  # as a run does
    try:
        described = environment(device, gpu=None if device == "cpu" else gpu, force=False, warm_cache=False)
    except NapkinError as error:
        return (Finding(Level.PROBLEM, "gpu", str(error), "run on that card, or say which this is"),)
    findings = [*_host(described), *_software(described), _compiler()]
    if device == "cpu":
        return (*_cuda_absent(status, gpu), *_cpu(described), *findings)
    return (*_card(described), *_card_state(described), _flush_works(described), *findings)


def _software(described: Environment) -> list[Finding]:
    versions = f"python {described.python}, torch {described.torch}, triton {described.triton or 'none'}"
    if described.driver:
        versions += f", CUDA {described.cuda}, driver {described.driver}"
    found = [Finding(Level.OK, "versions", versions)]
    if described.triton is None:
        found.append(
            Finding(Level.WARNING, "triton", "not installed", "without it only PyTorch's kernels are measured")
        )
    return found


def _compiler() -> Finding:
    name = next((name for name in (os.environ.get("CC"), "cc", "gcc", "clang") if name and shutil.which(name)), None)
    if name:
        return Finding(Level.OK, "C compiler", name)
    return Finding(Level.WARNING, "C compiler", "none found", "Triton builds its launchers with one: install gcc")


def _cuda_absent(status: CudaStatus, gpu: str | None) -> list[Finding]:
    if (gpu or "").lower() == "cpu":
        return []
    text = f"no CUDA device: {status.problem}" if not status.usable else "a CUDA device is here"
    remedy = "nothing to do for a CPU run; for a GPU run install its driver and a CUDA build of torch"
    return [Finding(Level.PROBLEM if gpu or status.driver_sees_gpu else Level.WARNING, "device", text, remedy)]


def _cpu(described: Environment) -> list[Finding]:
    cache = described.last_level_cache_bytes
    threads = "1 thread" if described.threads == 1 else f"{described.threads} threads"
    found = [
        Finding(Level.OK, "cpu", f"{described.name}, {threads}, {_size(described.memory_bytes)}"),
        *_memory_limit(),
    ]
    if cache is None:
        remedy = "records then cannot say whether operands were cold"
        return [*found, Finding(Level.WARNING, "last-level cache", "its size is unknown", remedy)]
    found.append(Finding(Level.OK, "last-level cache", binary_bytes(cache)))
    load, machine_cpus = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0, os.cpu_count() or 1
    if load > 0.5 * machine_cpus:  # the load is the machine's, in a container too
        text = f"load average {load:.1f} on the machine's {machine_cpus} CPUs"
        found.append(Finding(Level.WARNING, "other work", text, "stop it, or expect wide intervals"))
    return found


def _host(described: Environment) -> list[Finding]:
    """Less than a CPU stands still in the middle of a sample; a GPU then waits for its launches."""
    if described.cpus is None or described.cpus >= 1:
        return []
    remedy = "give the container a whole CPU; until then expect wide intervals"
    text = f"{described.cpus:g} CPUs: a thread is stopped when its share of a period is used up"
    return [Finding(Level.WARNING, "CPU quota", text, remedy)]


def _memory_limit() -> list[Finding]:
    """A container's memory, beside the machine's."""
    allowed, installed = host.memory_bytes(), host.installed_bytes()
    if allowed >= installed:
        return []
    text = f"limited to {binary_bytes(allowed)} of the machine's {binary_bytes(installed)}; sizes are fitted to that"
    return [Finding(Level.OK, "memory limit", text)]


def _card(described: Environment) -> list[Finding]:
    cache = described.last_level_cache_bytes
    sms = f"{described.sm_count} SMs" if described.sm_count else "an unknown number of SMs"
    text = f"{described.name}, {sms}, {_size(described.memory_bytes)}, L2 {_size(cache)}"
    if (visible := visible_gpus() or 1) > 1:
        text += f"; the first of {visible} that torch sees"
    found = [Finding(Level.OK, "card", text), *_identity(described)]
    if described.ecc is not None:
        found.append(Finding(Level.OK, "ECC", "on" if described.ecc else "off"))
    if shares_memory():
        found.append(Finding(Level.OK, "memory", "shared with the CPU: what other programs hold is missing here"))
    return found


def _size(size_bytes: int | None) -> str:
    return "of unknown size" if size_bytes is None else binary_bytes(size_bytes)


def _identity(described: Environment) -> list[Finding]:
    """Which SKU this is taken for, and what speaks against it."""
    found = []
    if described.mig:
        remedy = "use the whole card: ask its administrator to turn MIG off; a slice is judged by measured roofs only"
        found.append(Finding(Level.PROBLEM, "MIG", "on: this is a slice of a card", remedy))
    elif described.gpu is None:
        remedy = "results are judged by measured roofs only; add the SKU to predict/gpus.py with its sources"
        found.append(Finding(Level.WARNING, "table", "this card is not in the table", remedy))
    if described.gpu is not None:
        found.append(Finding(Level.OK, "table", f"{described.gpu}: {GPUS[described.gpu].source}"))
    for mismatch in described.mismatches:
        remedy = "check which SKU this is (PCIe, SXM, MIG slice); if the table is wrong, correct it with a source"
        found.append(Finding(Level.PROBLEM, "table", f"the driver says {mismatch}", remedy))
    return found


def _card_state(described: Environment) -> list[Finding]:
    state = read_state(nvml_handle())
    now = _now(described, state)
    found = [Finding(Level.OK, "now", now)] if now else []
    found += _untold(described)
    if state.throttle:
        remedy = "let the card cool and idle, and look again"
        found.append(Finding(Level.WARNING, "throttling", ", ".join(state.throttle), remedy))
    table_power_w = GPUS[described.gpu].power_w if described.gpu else None
    if described.power_limit_w and table_power_w and described.power_limit_w < 0.95 * table_power_w:
        text = f"{described.power_limit_w:.0f} W, this SKU's is {table_power_w:.0f} W"
        found.append(
            Finding(Level.WARNING, "power limit", text, "matmul will be slower than on other cards of this SKU")
        )
    return [*found, *_other_work()]


def _now(described: Environment, state: GpuState) -> str:
    """Clock, temperature and power, as far as they are told."""
    top = f" of {si(described.max_sm_hz, 'Hz')}" if described.max_sm_hz else ""
    limit = f" of {described.power_limit_w:.0f} W" if described.power_limit_w else ""
    told = (
        state.sm_hz and f"SM clock {si(state.sm_hz, 'Hz')}{top}",
        state.temperature_c and f"{state.temperature_c:.0f} C",
        state.power_w and f"{state.power_w:.0f} W{limit}",
    )
    return ", ".join(each for each in told if each)


def _untold(described: Environment) -> list[Finding]:
    """What nobody tells of this card, in one line; and why, where NVML cannot be asked at all."""
    if not described.unknown:
        return []
    text = f"the driver does not tell: {', '.join(described.unknown)}"
    if problem := nvml.start():
        remedy = (
            "install nvidia-ml-py and the driver's libnvidia-ml; in a container allow the capability `utility`"
            " (NVIDIA_DRIVER_CAPABILITIES=compute,utility)"
        )
        return [Finding(Level.WARNING, "NVML", f"cannot be asked ({problem}); {text}", remedy)]
    return [Finding(Level.WARNING, "NVML", text, "nothing to do: records hold null there, and no check needs it")]


def _other_work() -> list[Finding]:
    """Who else computes on the card. The driver numbers processes as the host does: in a container this process too
    has a number that it does not know."""
    others = [pid for pid in other_processes() if pid not in (os.getpid(), os.getppid())]
    unseen = [pid for pid in others if not host.is_running(pid)]
    if not others:
        return []
    text = f"process {', '.join(map(str, others))} uses this GPU"
    if unseen:
        names = "it" if others == unseen[:1] else ", ".join(map(str, unseen))
        text += f"; {names} cannot be seen from here: this may be this process, as the host numbers it"
    if others == unseen[:1]:
        return [Finding(Level.OK, "other work", text)]
    return [Finding(Level.WARNING, "other work", text, "stop it: it shares clocks, bandwidth and memory")]


def _flush_works(described: Environment) -> Finding:
    """Prove that what is timed cold is cold."""
    cache_bytes = described.last_level_cache_bytes
    if cache_bytes is None:
        return Finding(Level.WARNING, "cold L2", "the size of L2 is unknown", "records cannot say what was cold")
    gpu = GPUS.get(described.gpu or "")
    pins = physical_roofs(gpu).get(Resource.DRAM) if gpu else None
    try:
        reads = read_cold(cache_bytes, torch.device("cuda"))
    except CaptureFailed as error:
        remedy = "update driver and torch: short kernels cannot be timed without CUDA graphs"
        return Finding(Level.PROBLEM, "cold L2", str(error), remedy)
    if doubt := reads.doubt(pins.per_s if pins else None):
        remedy = "cold results may be warm: judge small operands with care"
        return Finding(Level.PROBLEM, "cold L2", f"{reads.text}; {doubt}", remedy)
    return Finding(Level.OK, "cold L2", reads.text)
