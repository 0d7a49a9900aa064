"""What machine this is: NVML for the card, torch for what it can use, the operating system for the CPU.

The only module that imports pynvml. Nothing here changes a setting of the card.
"""

import platform
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pynvml
import torch

from bench.record import Environment
from kernels.peers import optional_versions
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
    """One reading of a running card."""

    sm_hz: float
    power_w: float | None
    temperature_c: float
    throttle: tuple[str, ...]


# Reasons under which a card runs slower than asked. Idle and the user's own clock setting are not among them.
_THROTTLE_REASONS = (
    ("sw_power_cap", pynvml.nvmlClocksThrottleReasonSwPowerCap),
    ("hw_slowdown", pynvml.nvmlClocksThrottleReasonHwSlowdown),
    ("sw_thermal", pynvml.nvmlClocksThrottleReasonSwThermalSlowdown),
    ("hw_thermal", pynvml.nvmlClocksThrottleReasonHwThermalSlowdown),
    ("hw_power_brake", pynvml.nvmlClocksThrottleReasonHwPowerBrakeSlowdown),
)
# A power cap is the normal state of a large matmul on a data-centre card; these are not normal.
ABNORMAL_THROTTLE = frozenset({"hw_slowdown", "sw_thermal", "hw_thermal", "hw_power_brake"})


def cuda_status() -> CudaStatus:
    """Ask torch and NVML about CUDA; never raises."""
    gpus_seen = _nvml_device_count()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        usable = torch.cuda.is_available()
    if usable:
        return CudaStatus(usable=True, problem=None, driver_sees_gpu=True)
    if torch.version.cuda is None:
        problem = f"torch {torch.__version__} is a build without CUDA"
    elif gpus_seen is None:
        problem = "no NVIDIA driver is loaded"
    elif caught:
        problem = str(caught[0].message).splitlines()[0]  # torch says here that a driver is too old, and which it found
    else:
        problem = "the driver shows no usable GPU (see CUDA_VISIBLE_DEVICES)"
    return CudaStatus(usable=False, problem=problem, driver_sees_gpu=bool(gpus_seen))


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
        memory_bytes=psutil.virtual_memory().total,
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
    handle = nvml_handle()
    name = str(pynvml.nvmlDeviceGetName(handle))
    table_gpu, forced = identify(name, gpu, force=force)
    attributes = read_attributes(handle)
    properties = torch.cuda.get_device_properties(0)
    return Environment(
        device="cuda",
        name=name,
        gpu=table_gpu.name if table_gpu else None,
        sm=properties.major * 10 + properties.minor,
        sm_count=attributes.sm_count,
        memory_bytes=attributes.memory_bytes,
        last_level_cache_bytes=attributes.l2_bytes,
        threads=None,
        driver=str(pynvml.nvmlSystemGetDriverVersion()),
        cuda=torch.version.cuda,
        power_limit_w=_optional(lambda: pynvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1e3),
        max_sm_hz=attributes.max_sm_hz,
        ecc=_optional(lambda: bool(pynvml.nvmlDeviceGetEccMode(handle)[0])),
        mig=_optional(lambda: bool(pynvml.nvmlDeviceGetMigMode(handle)[0])),
        forced=forced,
        mismatches=find_mismatches(table_gpu, attributes) if table_gpu else (),
        warm_cache=warm_cache,
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


@dataclass(frozen=True, slots=True)
class Attributes:
    """What the driver says of the card; None where it does not tell."""

    sm_count: int
    memory_bytes: int
    l2_bytes: int
    max_sm_hz: float | None
    memory_bus_bits: int | None
    memory_clock_hz: float | None


def read_attributes(handle: Any) -> Attributes:
    """Read the attributes that the table can be checked against."""
    properties = torch.cuda.get_device_properties(0)
    return Attributes(
        sm_count=properties.multi_processor_count,
        memory_bytes=int(pynvml.nvmlDeviceGetMemoryInfo(handle).total),
        l2_bytes=properties.L2_cache_size,
        max_sm_hz=_optional(lambda: pynvml.nvmlDeviceGetMaxClockInfo(handle, pynvml.NVML_CLOCK_SM) * 1e6),
        memory_bus_bits=_optional(lambda: int(pynvml.nvmlDeviceGetMemoryBusWidth(handle))),
        memory_clock_hz=_optional(lambda: pynvml.nvmlDeviceGetMaxClockInfo(handle, pynvml.NVML_CLOCK_MEM) * 1e6),
    )


def find_mismatches(gpu: Gpu, attributes: Attributes) -> tuple[str, ...]:
    """Say where the driver contradicts the table: another SKU, a MIG slice, or a wrong table."""
    problems = []
    if attributes.sm_count != gpu.sm_count:
        problems.append(f"{attributes.sm_count} SMs, the table has {gpu.sm_count} (a MIG slice, or another SKU)")
    if abs(attributes.memory_bytes / gpu.memory_bytes - 1) > 0.03:
        here, listed = binary_bytes(attributes.memory_bytes), binary_bytes(gpu.memory_bytes)
        problems.append(f"{here} of memory, the table has {listed}")
    if gpu.l2_bytes and abs(attributes.l2_bytes / gpu.l2_bytes - 1) > 0.25:
        problems.append(f"{binary_bytes(attributes.l2_bytes)} of L2, the table has {binary_bytes(gpu.l2_bytes)}")
    if attributes.max_sm_hz and attributes.max_sm_hz > 1.02 * gpu.max_hz:
        problems.append(f"SM clock up to {si(attributes.max_sm_hz, 'Hz')}, the table has {si(gpu.max_hz, 'Hz')}")
    # Shipping cards of one SKU differ by a disabled 128-bit slice or so; a different part differs by a whole stack.
    if (
        attributes.memory_bus_bits
        and gpu.memory_bus_bits
        and abs(attributes.memory_bus_bits / gpu.memory_bus_bits - 1) > 0.03
    ):
        problems.append(f"memory bus of {attributes.memory_bus_bits} bits, the table has {gpu.memory_bus_bits}")
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
    """Read the state of a card; about 0.1 ms."""
    reasons = pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)
    return GpuState(
        sm_hz=pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM) * 1e6,
        power_w=_optional(lambda: pynvml.nvmlDeviceGetPowerUsage(handle) / 1e3),
        temperature_c=float(pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU)),
        throttle=tuple(name for name, bit in _THROTTLE_REASONS if reasons & bit),
    )


def nvml_handle() -> Any:
    """The NVML handle of torch's device 0, found by UUID: NVML does not know CUDA_VISIBLE_DEVICES."""
    pynvml.nvmlInit()
    uuid = str(torch.cuda.get_device_properties(0).uuid)
    return pynvml.nvmlDeviceGetHandleByUUID(uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}")


def other_processes() -> tuple[int, ...]:
    """Process ids of compute work on this GPU; empty where the driver does not tell."""
    running = _optional(lambda: pynvml.nvmlDeviceGetComputeRunningProcesses(nvml_handle()))
    return tuple(int(process.pid) for process in running or ())


def _optional(read: Callable[[], Any], otherwise: Any = None) -> Any:
    """What NVML says, or `otherwise` where this card or driver does not support the question."""
    try:
        return read()
    except pynvml.NVMLError:
        return otherwise


def _nvml_device_count() -> int | None:
    """GPUs that the driver sees; None where there is no driver."""
    if _optional(pynvml.nvmlInit, otherwise="failed") == "failed":
        return None
    return int(pynvml.nvmlDeviceGetCount())


def _software() -> dict[str, Any]:
    try:
        import triton  # noqa: PLC0415 - exists on Linux only

        triton_version = str(triton.__version__)
    except ImportError:
        triton_version = None
    commit = _git("rev-parse", "--short=12", "HEAD")
    return {
        "torch": torch.__version__,
        "triton": triton_version,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "commit": commit,
        "dirty": bool(_git("status", "--porcelain")) if commit else None,
        "utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "packages": optional_versions(),
    }


def _git(*arguments: str) -> str | None:
    """Output of a git command in the checkout; None outside one."""
    root = Path(__file__).resolve().parent.parent
    try:
        result = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
    except FileNotFoundError:
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
