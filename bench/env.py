"""What machine this is: NVML and torch for the card, the operating system for the CPU.

Nothing here changes a setting of the card. What neither NVML nor torch tells is None, and is named in
`Environment.unknown`, once for the run.
"""

import math
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from bench import host, nvml
from bench.device import Device, ask_torch, find_device, nvml_handle
from bench.record import Environment
from kernels.peers.packages import optional_versions
from predict.errors import BadRun, UnknownGpu
from predict.gpus import Gpu, find_gpu, resolve, resolve_all
from predict.resources import Resource
from predict.units import binary_bytes, si


@dataclass(frozen=True, slots=True)
class CudaStatus:
    """Whether torch can use a CUDA device, and if not, why."""

    usable: bool
    problem: str | None
    driver_sees_gpu: bool


@dataclass(frozen=True, slots=True)
class GpuState:
    """One reading of a running card; None where the driver does not tell."""

    sm_hz: float | None
    power_w: float | None
    temperature_c: float | None
    throttle: tuple[str, ...] | None


GIT_LIMIT_S = 10.0
# A power cap is the normal state of a large matmul on a data-center card; these are not normal.
ABNORMAL_THROTTLE = frozenset({"hw_slowdown", "sw_thermal", "hw_thermal", "hw_power_brake"})


def cuda_status() -> CudaStatus:
    """Ask torch and NVML about CUDA; never raises."""
    gpus_seen = _nvml_device_count()
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
    """Return "cuda" or "cpu" for `--gpu`: a name, "cpu", or None for what is there. Raises BadRun, UnknownGpu."""
    if gpu is not None and gpu.lower() == "cpu":
        return "cpu"
    named = resolve(gpu) if gpu is not None else None
    status = cuda_status()
    if status.usable:
        return "cuda"
    if named is not None:
        raise BadRun(
            f"no CUDA device was found ({status.problem}); to predict for the {named.name} without one: "
            f"`python -m predict kernel matmul m=16 n=8192 k=8192 --gpu {gpu}`; to measure this CPU: leave --gpu out"
        )
    if status.driver_sees_gpu:
        raise BadRun(f"a GPU is here but torch cannot use it: {status.problem}; mend that, or say --gpu cpu")
    return "cpu"


def environment(device: str, *, gpu: str | None, force: bool, warm_cache: bool) -> Environment:
    """Describe this machine for the records. Raises BadRun where `gpu` names another card and `force` is off."""
    if device == "cpu":
        return _describe_cpu(warm_cache=warm_cache)
    return _describe_gpu(gpu, force=force, warm_cache=warm_cache)


def _describe_cpu(*, warm_cache: bool) -> Environment:
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
        forced=False,
        mismatches=(),
        warm_cache=warm_cache,
        **_software(),
    )


def _describe_gpu(gpu: str | None, *, force: bool, warm_cache: bool) -> Environment:
    device = find_device()
    name = device.name or "a GPU of unknown name"
    if device.is_slice:
        table_gpu, forced = identify_slice(device.card_name, gpu, force=force)
    else:
        table_gpu, forced = identify(name, gpu, force=force)
    attributes = read_attributes(device)
    return Environment(
        device="cuda",
        name=name,
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
        warm_cache=warm_cache,
        unknown=_unknown(device, attributes),
        **_software(),
    )


def identify(nvml_name: str, asked: str | None, *, force: bool) -> tuple[Gpu | None, bool]:
    """Return the SKU to judge this card by, and whether it was forced on a card of another name.

    Raises BadRun where `asked` names another card and `force` is off; says what was found.
    """
    try:
        found = find_gpu(nvml_name)
    except UnknownGpu:
        found = None
    if asked is None or found in resolve_all(asked):
        return found, False
    if force:
        return resolve(asked), True
    here = f"{nvml_name} ({found.name})" if found else f"{nvml_name}, which is not in the table"
    remedy = f"say --gpu {found.name}" if found else "leave --gpu out"
    raise BadRun(f"--gpu {asked} was asked for, but this is {here}; {remedy}, or --force to go on and mark the records")


def identify_slice(card_name: str, gpu: str | None, *, force: bool) -> tuple[Gpu | None, bool]:
    """Settle what a slice of a card is judged by: its own measured roofs, since a datasheet is of the whole card.
    `--gpu` may name that card; `--force` judges by it all the same. Raises BadRun where it names another."""
    found, _ = identify(card_name, gpu, force=force)
    return (found, True) if force and gpu is not None else (None, False)


@dataclass(frozen=True, slots=True)
class Attributes:
    """What the driver says of the card; None where it does not tell."""

    sm_count: int | None
    memory_bytes: int | None
    l2_bytes: int | None
    max_sm_hz: float | None
    memory_bus_bits: int | None
    memory_clock_hz: float | None


def read_attributes(device: Device) -> Attributes:
    """Read the attributes that the table can be checked against."""
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
    """What would be recorded or checked of a card, and is not told."""
    state = read_state(device.handle)
    told = {
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
        "other processes": nvml.compute_pids(device.handle),
    }
    return tuple(what for what, answer in told.items() if answer is None)


def find_mismatches(gpu: Gpu, attributes: Attributes) -> tuple[str, ...]:
    """Say where the driver contradicts the table: another SKU, a MIG slice, or a wrong table."""
    problems = []
    if attributes.sm_count is not None and attributes.sm_count != gpu.sm_count:
        problems.append(f"{attributes.sm_count} SMs, the table has {gpu.sm_count} (a MIG slice, or another SKU)")
    if attributes.memory_bytes and abs(attributes.memory_bytes / gpu.memory.bytes - 1) > 0.03:
        here, listed = binary_bytes(attributes.memory_bytes), binary_bytes(gpu.memory.bytes)
        problems.append(f"{here} of memory, the table has {listed}")
    if gpu.l2_bytes and attributes.l2_bytes and abs(attributes.l2_bytes / gpu.l2_bytes - 1) > 0.25:
        problems.append(f"{binary_bytes(attributes.l2_bytes)} of L2, the table has {binary_bytes(gpu.l2_bytes)}")
    if attributes.max_sm_hz and attributes.max_sm_hz > 1.02 * gpu.max_hz:
        problems.append(f"SM clock up to {si(attributes.max_sm_hz, 'Hz')}, the table has {si(gpu.max_hz, 'Hz')}")
    # Shipping cards of one SKU differ by a disabled 128-bit slice or so; a different part differs by a whole stack.
    if (
        attributes.memory_bus_bits
        and gpu.memory.bus_bits
        and abs(attributes.memory_bus_bits / gpu.memory.bus_bits - 1) > 0.03
    ):
        problems.append(f"memory bus of {attributes.memory_bus_bits} bits, the table has {gpu.memory.bus_bits}")
    if attributes.memory_bus_bits and attributes.memory_clock_hz and Resource.DRAM in gpu.roofs:
        # HBM moves 2 bits per pin and clock as NVML counts it. GDDR does too, in the clock that NVML reports.
        bandwidth = attributes.memory_bus_bits / 8 * attributes.memory_clock_hz * 2
        table = gpu.roofs[Resource.DRAM].per_s
        if abs(bandwidth / table - 1) > 0.06:
            problems.append(f"DRAM of {si(bandwidth, 'B/s')} by its clock and bus, the table has {si(table, 'B/s')}")
    return tuple(problems)


class NvmlMonitor:
    """Reads clock, power, temperature and throttle reasons of the card that torch uses."""

    def __init__(self) -> None:
        self._handle = nvml_handle()

    def read(self) -> GpuState:
        """Take one reading."""
        return read_state(self._handle)


def read_state(handle: Any) -> GpuState:
    """Read the state of a card; about 0.1 ms. A slice has the clock and the temperature of its card, but its power is
    not told: the card's is drawn by other people's slices too."""
    card = nvml.card_of(handle)
    sliced = nvml.is_slice(handle) or nvml.mig(handle)
    return GpuState(
        sm_hz=nvml.sm_hz(card),
        power_w=None if sliced else nvml.power_w(handle),
        temperature_c=nvml.temperature_c(card),
        throttle=nvml.throttle(card),
    )


def other_processes() -> tuple[int, ...]:
    """Process ids of compute work on this GPU; empty where the driver does not tell."""
    return nvml.compute_pids(nvml_handle()) or ()


def limit_threads() -> None:
    """Let torch run no more threads than this process has CPUs: it does not know of a container's quota, under which
    all threads stand still when the first has used it up."""
    allowed = max(1, math.ceil(host.cpus()))
    if torch.get_num_threads() > allowed:
        torch.set_num_threads(allowed)


def _nvml_device_count() -> int | None:
    """GPUs that the driver sees; None where there is no driver, or it does not tell."""
    return None if nvml.start() else nvml.device_count()


def _software() -> dict[str, Any]:
    try:
        import triton  # noqa: PLC0415 - exists on Linux only

        triton_version = str(triton.__version__)
    except ImportError:
        triton_version = None
    commit = _git("rev-parse", "--short=12", "HEAD")
    changes = _git("status", "--porcelain")
    return {
        "torch": torch.__version__,
        "triton": triton_version,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "commit": commit or None,
        "dirty": None if changes is None or not commit else bool(changes),
        "utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "packages": optional_versions(),
        "cpus": host.cpus(),
    }


def _git(*arguments: str) -> str | None:
    """Output of a git command in the checkout; None where git is missing, refuses (a folder of another owner, as in a
    container) or is slow, and outside a checkout, even where that lies within another one."""
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
    except OSError:
        return None
    except subprocess.TimeoutExpired:
        return None
    return result.stdout.strip() if result.returncode == 0 else None


def _cpu_name() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _cpu_last_level_cache_bytes() -> int | None:
    """Size of the largest cache that the kernel lists for CPU 0; None where it lists none."""
    sizes = []
    for size in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = size.read_text(encoding="ascii").strip()
        unit = {"K": 2**10, "M": 2**20, "G": 2**30}.get(text[-1:], 1)
        sizes.append(int(text.rstrip("KMG")) * unit)
    return max(sizes, default=None)
