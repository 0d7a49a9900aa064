"""What this machine is, whether it matches the table, and what would spoil a measurement on it."""

import os
import shutil
from collections.abc import Iterator

import torch

from bench import host, nvml
from bench.cold_cache import read_cold
from bench.device import shares_memory, visible_gpus
from bench.disturbance import disturbances
from bench.env import CudaStatus, cuda_status, environment, find_measurable, limit_threads, unknown_line
from bench.finding import Finding, Level, ok, problem, warning
from bench.record import Environment
from bench.timer import CaptureFailed
from predict.errors import NapkinError
from predict.gpus import NVIDIA_GPUS, physical_roofs
from predict.resources import Resource
from predict.units import binary_bytes

NO_COLDNESS = "nothing to do: records cannot say whether operands were cold"


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
        return (problem("gpu", str(error), "run on that card, or name this one"),)
    now = disturbances(described)
    findings = (*_host(described), *_software(described), _compiler())
    if device == "cpu":
        return (*_cuda_absent(status, gpu), *_cpu(described), *now, *findings)
    return (*_card(described), *now, *_driver(described), _cold_reads(described), *findings)


def _software(described: Environment) -> Iterator[Finding]:
    versions = f"python {described.python}, torch {described.torch}, triton {described.triton or 'none'}"
    if described.driver:
        versions += f", CUDA {described.cuda}, driver {described.driver}"
    yield ok("versions", versions)
    if described.triton is None:
        yield warning("triton", "not installed", "install it, or only PyTorch's kernels are measured")


def _compiler() -> Finding:
    name = next((name for name in (os.environ.get("CC"), "cc", "gcc", "clang") if name and shutil.which(name)), None)
    if name:
        return ok("C compiler", name)
    return warning("C compiler", "none found", "install gcc: Triton builds its launchers with a C compiler")


def _cuda_absent(status: CudaStatus, gpu: str | None) -> Iterator[Finding]:
    if (gpu or "").lower() != "cpu":
        remedy = "nothing to do for a CPU run; for a GPU run install its driver and a CUDA build of torch"
        level = Level.PROBLEM if gpu or status.driver_sees_gpu else Level.WARNING
        yield Finding(level, "device", f"no CUDA device: {status.problem}", remedy)


def _cpu(described: Environment) -> Iterator[Finding]:
    threads = "1 thread" if described.threads == 1 else f"{described.threads} threads"
    yield ok("cpu", f"{described.name}, {threads}, {_size(described.memory_bytes)}")
    allowed, installed = host.memory_bytes(), host.installed_bytes()
    if allowed < installed:
        limit = f"limited to {binary_bytes(allowed)} of the machine's {binary_bytes(installed)}"
        yield ok("memory limit", f"{limit}; sizes are fitted to that")
    if described.last_level_cache_bytes is None:
        yield warning("last-level cache", "its size is unknown", NO_COLDNESS)
        return
    yield ok("last-level cache", binary_bytes(described.last_level_cache_bytes))


def _host(described: Environment) -> Iterator[Finding]:
    """With less than one CPU, a thread stops in the middle of a sample, and a GPU waits for its launches."""
    if described.cpus is not None and described.cpus < 1:
        text = f"{described.cpus:g} CPUs: a thread is stopped when its share of a period is used up"
        yield warning("CPU quota", text, "give the container a whole CPU; until then expect wide intervals")


def _card(described: Environment) -> Iterator[Finding]:
    sms = f"{described.sm_count} SMs" if described.sm_count else "an unknown number of SMs"
    cache = _size(described.last_level_cache_bytes)
    text = f"{described.name}, {sms}, {_size(described.memory_bytes)}, L2 {cache}"
    if (visible := visible_gpus() or 1) > 1:
        text += f"; the first of {visible} that torch sees"
    yield ok("card", text)
    yield from _identity(described)
    if described.ecc is not None:
        yield ok("ECC", "on" if described.ecc else "off")
    if shares_memory():
        yield ok("memory", "shared with the CPU: other programs take part of it")


def _size(size_bytes: int | None) -> str:
    return "of unknown size" if size_bytes is None else binary_bytes(size_bytes)


def _identity(described: Environment) -> Iterator[Finding]:
    """Which SKU this is judged as, and what contradicts it."""
    if described.mig:
        remedy = "use the whole card: ask its administrator to turn MIG off; a slice is judged by measured roofs only"
        yield problem("MIG", "on: this is a slice of a card", remedy)
    elif described.gpu is None:
        remedy = "add the SKU to predict/gpus/ with its sources; until then only measured roofs judge the results"
        yield warning("table", "this card is not in the table", remedy)
    if described.gpu is not None:
        yield ok("table", f"{described.gpu}: {NVIDIA_GPUS[described.gpu].source}")
    for mismatch in described.mismatches:
        remedy = "check which SKU this is (PCIe, SXM, MIG slice); if the table is wrong, correct it with a source"
        yield problem("table", f"the driver says {mismatch}", remedy)


def _driver(described: Environment) -> Iterator[Finding]:
    if described.unknown:
        yield _unknown(described)


def _unknown(described: Environment) -> Finding:
    """What the driver does not report of this card, in one line; and why, if NVML does not work at all."""
    text = unknown_line(described)
    if problem := nvml.start():
        remedy = (
            "install nvidia-ml-py and the driver's libnvidia-ml; in a container allow the capability `utility`"
            " (NVIDIA_DRIVER_CAPABILITIES=compute,utility)"
        )
        return warning("NVML", f"does not work ({problem}); {text}", remedy)
    return warning("NVML", text, "nothing to do: records hold null there, and no check needs it")


def _cold_reads(described: Environment) -> Finding:
    """Whether what is timed cold is cold."""
    cache_bytes = described.last_level_cache_bytes
    if cache_bytes is None:
        return warning("cold L2", "the size of L2 is unknown", NO_COLDNESS)
    gpu = NVIDIA_GPUS.get(described.gpu or "")
    pins = physical_roofs(gpu).get(Resource.DRAM) if gpu else None
    try:
        reads = read_cold(cache_bytes, torch.device("cuda"))
    except CaptureFailed as error:
        remedy = "update driver and torch: short kernels cannot be timed without CUDA graphs"
        return problem("cold L2", str(error), remedy)
    if doubt := reads.doubt(pins.per_s if pins else None):
        return problem("cold L2", f"{reads.text}; {doubt}", "cold results may be warm: do not trust small operands")
    return ok("cold L2", reads.text)
