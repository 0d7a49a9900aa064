"""Describes this machine: NVML and torch for the card, the operating system for the CPU.

Nothing here changes a setting of the card. What neither NVML nor torch reports is None, and listed in
`Environment.unknown`.
"""

import math
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch

from bench import host, nvml
from bench.device import Device, ask_torch, find_device
from bench.record import Environment
from kernels.peers.packages import optional_versions
from predict.errors import BadRun, UnknownGpu
from predict.gpus import NvidiaGpu, find_gpu, resolve, resolve_all
from predict.resources import Resource
from predict.units import binary_bytes, si
from predict.version import DISTRIBUTION, version


@dataclass(frozen=True, slots=True)
class CudaStatus:
    """Whether torch can use a CUDA device."""

    usable: bool
    problem: str | None  # why it cannot; None if it can
    driver_sees_gpu: bool


@dataclass(frozen=True, slots=True)
class GpuState:
    """One reading of a running card; None where the driver does not report it."""

    sm_hz: float | None
    power_w: float | None
    temperature_c: float | None
    throttle: tuple[str, ...] | None  # why the card runs slower than asked; empty if it does not


GIT_LIMIT_S = 10.0
# Not the power cap: a large matmul on a data-center card normally runs into it.
ABNORMAL_THROTTLE = frozenset({"hw_slowdown", "sw_thermal", "hw_thermal", "hw_power_brake"})


def cuda_status() -> CudaStatus:
    """Ask torch and NVML about CUDA; never raises."""
    gpus_seen = None if nvml.start() else nvml.device_count()
    available, said = ask_torch()
    if available and said is None:
        return CudaStatus(usable=True, problem=None, driver_sees_gpu=True)
    if torch.version.cuda is None and not available:
        problem = f"torch {torch.__version__} is a build without CUDA"
    elif said is not None:
        problem = said
    elif gpus_seen is None:
        problem = "no NVIDIA driver is loaded"
    else:
        problem = "the driver shows no usable GPU (see CUDA_VISIBLE_DEVICES)"
    return CudaStatus(usable=False, problem=problem, driver_sees_gpu=bool(gpus_seen) or available)


def choose_device(gpu: str | None) -> str:
    """Return "cuda" or "cpu" for `--gpu`: a name, "cpu", or None to detect it. Raises BadRun, UnknownGpu."""
    if gpu is not None and gpu.lower() == "cpu":
        return "cpu"
    named = find_measurable(gpu) if gpu is not None else None
    status = cuda_status()
    if status.usable:
        return "cuda"
    if named is not None:
        raise BadRun(
            f"no CUDA device was found ({status.problem}); leave --gpu out to measure this CPU, or predict for the"
            f" {named.name} with `python -m predict kernel matmul m=16 n=8192 k=8192 --gpu {gpu}`"
        )
    if status.driver_sees_gpu:
        raise BadRun(f"a GPU is here but torch cannot use it: {status.problem}; fix that, or give --gpu cpu")
    return "cpu"


def find_measurable(gpu: str) -> NvidiaGpu:
    """Return the SKU that `--gpu` names. Raises UnknownGpu, and BadRun for a machine that only the napkin knows."""
    named = resolve(gpu)
    if not isinstance(named, NvidiaGpu):
        raise BadRun(
            f"{named.name} is a napkin-only machine, which bench cannot measure; predict for it with"
            f" `python -m predict kernel matmul m=16 n=8192 k=8192 --gpu {gpu}`"
        )
    return named


def environment(device: str, *, gpu: str | None, force: bool, warm_cache: bool) -> Environment:
    """Describe this machine for the records. Raises BadRun if `gpu` names another card, unless `force`."""
    if device == "cpu":
        return _describe_cpu(warm_cache=warm_cache)
    return _describe_gpu(gpu, force=force, warm_cache=warm_cache)


def _describe_cpu(*, warm_cache: bool) -> Environment:
    """The CPU and the software; `_describe_gpu` replaces the hardware."""
    try:
        import triton  # noqa: PLC0415 - exists on Linux only

        triton_version = str(triton.__version__)
    except ImportError:
        triton_version = None
    commit = _git("rev-parse", "--short=12", "HEAD")
    changes = _git("status", "--porcelain")
    return Environment(
        device="cpu",
        name=_cpu_name(),
        gpu=None,
        sm=None,
        sm_count=None,
        memory_bytes=host.memory_bytes(),
        last_level_cache_bytes=_cpu_last_level_cache_bytes(),
        threads=torch.get_num_threads(),
        driver=None,
        cuda=None,
        power_limit_w=None,
        max_sm_hz=None,
        ecc=None,
        mig=None,
        torch=torch.__version__,
        triton=triton_version,
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        commit=commit or None,
        dirty=None if changes is None or not commit else bool(changes),
        warm_cache=warm_cache,
        forced=False,
        mismatches=(),
        utc=datetime.now(UTC).isoformat(timespec="seconds"),
        packages=optional_versions() | ({} if commit else {DISTRIBUTION: version()}),
        cpus=host.cpus(),
    )


def _describe_gpu(gpu: str | None, *, force: bool, warm_cache: bool) -> Environment:
    device = find_device()
    table_gpu, forced = (identify_slice if device.is_slice else identify)(device.card_name, gpu, force=force)
    attributes = read_attributes(device)
    return replace(
        _describe_cpu(warm_cache=warm_cache),
        device="cuda",
        name=device.name or "a GPU of unknown name",
        gpu=table_gpu.name if table_gpu else None,
        sm=device.sm,
        sm_count=attributes.sm_count,
        memory_bytes=attributes.memory_bytes,
        last_level_cache_bytes=attributes.l2_bytes,
        threads=None,
        driver=nvml.driver_version(),
        cuda=torch.version.cuda,
        power_limit_w=None if device.is_slice else nvml.power_limit_w(device.handle),
        max_sm_hz=attributes.max_sm_hz,
        ecc=nvml.ecc(device.handle),
        mig=device.is_slice or nvml.mig(device.handle),
        forced=forced,
        mismatches=(
            *([f"this is a MIG slice of {device.card_name}; the table is of whole cards"] if device.is_slice else []),
            *(find_mismatches(table_gpu, attributes) if table_gpu else ()),
        ),
        unknown=_unknown(device, attributes),
    )


def identify(nvml_name: str, asked: str | None, *, force: bool) -> tuple[NvidiaGpu | None, bool]:
    """Return the SKU that judges this card, and whether it was forced on a card of another name.

    Raises BadRun, with what was found, if `asked` names another card, unless `force`.
    """
    try:
        found = find_gpu(nvml_name)
    except UnknownGpu:
        found = None
    if asked is None or found in resolve_all(asked):
        return found, False
    if force:
        return find_measurable(asked), True
    here = f"{nvml_name} ({found.name})" if found else f"{nvml_name}, which is not in the table"
    remedy = f"give --gpu {found.name}" if found else "leave --gpu out"
    raise BadRun(f"--gpu {asked} was asked for, but this is {here}; {remedy}, or --force to go on and mark the records")


def identify_slice(card_name: str, gpu: str | None, *, force: bool) -> tuple[NvidiaGpu | None, bool]:
    """As `identify`, for a slice of a card. Its own measured roofs judge it, since a datasheet is of the whole card,
    which `--gpu` may name and `--force` enforces."""
    found, _ = identify(card_name, gpu, force=force)
    return (found, True) if force and gpu is not None else (None, False)


@dataclass(frozen=True, slots=True)
class Attributes:
    """What the driver reports of the card; None where it does not."""

    sm_count: int | None
    memory_bytes: int | None
    l2_bytes: int | None
    max_sm_hz: float | None
    memory_bus_bits: int | None
    memory_clock_hz: float | None


def read_attributes(device: Device) -> Attributes:
    """Read the attributes that the table is checked against."""
    card = nvml.card_of(device.handle)  # a slice has the clocks of its card
    return Attributes(
        sm_count=device.number("multi_processor_count"),
        memory_bytes=device.memory_bytes,
        l2_bytes=device.number("L2_cache_size"),
        max_sm_hz=nvml.max_sm_hz(card),
        memory_bus_bits=nvml.memory_bus_bits(device.handle),
        memory_clock_hz=nvml.max_memory_hz(device.handle),
    )


def _unknown(device: Device, attributes: Attributes) -> tuple[str, ...]:
    """What would be recorded or checked of a card, and is not reported."""
    state = read_state(device.handle)
    answers = {
        "driver version": nvml.driver_version(),
        "SM clock": state.sm_hz,
        "power": state.power_w,
        "temperature": state.temperature_c,
        "throttle reasons": state.throttle,
        "memory": attributes.memory_bytes,
        "number of SMs": attributes.sm_count,
        "size of L2": attributes.l2_bytes,
        "highest SM clock": attributes.max_sm_hz,
        "power limit": nvml.power_limit_w(device.handle),
        "memory bus": attributes.memory_bus_bits,
        "memory clock": attributes.memory_clock_hz,
        "other processes": nvml.compute_processes(device.handle),
    }
    return tuple(what for what, answer in answers.items() if answer is None)


def unknown_line(described: Environment) -> str:
    """`Environment.unknown` in words."""
    return f"the driver does not report: {', '.join(described.unknown)}"


def find_mismatches(gpu: NvidiaGpu, attributes: Attributes) -> tuple[str, ...]:
    """Say where the driver contradicts the table: another SKU, a MIG slice, or a wrong table."""
    bits, clock_hz = attributes.memory_bus_bits, attributes.memory_clock_hz
    max_hz = attributes.max_sm_hz and max(attributes.max_sm_hz, gpu.max_hz)  # a lower one is the driver's limit
    # HBM moves 2 bits per pin and clock as NVML counts it; so does GDDR, in the clock that NVML reports.
    bandwidth = bits / 8 * clock_hz * 2 if bits and clock_hz else None
    table_per_s = gpu.roofs[Resource.DRAM].per_s if Resource.DRAM in gpu.roofs else None
    hertz, per_s = partial(si, unit="Hz"), partial(si, unit="B/s")
    # Found, in the table, tolerance, and how both are written. Cards of one SKU differ by a disabled 128-bit slice of
    # the bus; another part differs by a whole stack.
    rows: tuple[tuple[float | None, float | None, float, Callable[[Any], str], str], ...] = (
        (attributes.sm_count, gpu.sm_count, 0.0, str, "{} SMs, the table has {} (a MIG slice, or another SKU)"),
        (attributes.memory_bytes, gpu.memory.bytes, 0.03, binary_bytes, "{} of memory, the table has {}"),
        (attributes.l2_bytes, gpu.l2_bytes, 0.25, binary_bytes, "{} of L2, the table has {}"),
        (max_hz, gpu.max_hz, 0.02, hertz, "SM clock up to {}, the table has {}"),
        (bits, gpu.memory.bus_bits, 0.03, str, "memory bus of {} bits, the table has {}"),
        (bandwidth, table_per_s, 0.06, per_s, "DRAM of {} by its clock and bus, the table has {}"),
    )
    return tuple(
        text.format(write(found), write(listed))
        for found, listed, tolerance, write, text in rows
        if found is not None and listed and abs(found / listed - 1) > tolerance
    )


def read_state(handle: Any) -> GpuState:
    """Read the state of a card; about 0.1 ms. A slice has its card's clock and temperature, but no power reading: other
    slices draw the card's power too."""
    card = nvml.card_of(handle)
    sliced = nvml.is_slice(handle) or nvml.mig(handle)
    return GpuState(
        sm_hz=nvml.sm_hz(card),
        power_w=None if sliced else nvml.power_w(handle),
        temperature_c=nvml.temperature_c(card),
        throttle=nvml.throttle(card),
    )


def limit_threads() -> None:
    """Limit torch to as many threads as this process has CPUs. Torch ignores a container's quota, and all threads stop
    when it is used up."""
    allowed = max(1, math.ceil(host.cpus()))
    if torch.get_num_threads() > allowed:
        torch.set_num_threads(allowed)


def _git(*arguments: str) -> str | None:
    """Output of a git command in this checkout. None if git is missing, slow or refuses (a folder of another owner, as
    in a container), and outside a checkout, even one that lies within another."""
    root = Path(__file__).resolve().parent.parent
    try:
        result = subprocess.run(
            ["git", *arguments],
            cwd=root,
            env={**os.environ, "GIT_CEILING_DIRECTORIES": str(root.parent)},
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=GIT_LIMIT_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() if result.returncode == 0 else None


def _cpu_name() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _cpu_last_level_cache_bytes() -> int | None:
    """Size of the largest cache that the kernel lists for CPU 0; None if it lists none."""
    sizes = []
    for size in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = size.read_text(encoding="ascii").strip()
        unit = {"K": 2**10, "M": 2**20, "G": 2**30}.get(text[-1:], 1)
        sizes.append(int(text.rstrip("KMG")) * unit)
    return max(sizes, default=None)
