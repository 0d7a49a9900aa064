"""NVML with typed answers in SI units; None where this driver has no answer. The only module that imports pynvml.

Card, driver and binding come from three places. A question may be declined (a slice, unified memory, a virtual GPU), be
missing from an old binding or driver, or be answered with bytes or a number that means "not available". None of this
may stop a run, so nothing here raises.
"""

from dataclasses import dataclass
from typing import Any

try:
    import pynvml
except Exception:  # noqa: BLE001 - not installed, or broken
    pynvml = None

# The driver's own numbers, the same in every version; bindings name them differently or lack the newer ones.
_SM_CLOCK, _MEMORY_CLOCK = 1, 2
_GPU_SENSOR = 0
_SLOWDOWN = 1
_POWER_INSTANT = 186
_VALUE_FIELDS = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")  # of a field, by its type
# Reasons under which a card runs slower than asked. Idle and the user's own clock setting are not among them.
_THROTTLE_REASONS = (
    ("sw_power_cap", 0x04),
    ("hw_slowdown", 0x08),
    ("sw_thermal", 0x20),
    ("hw_thermal", 0x40),
    ("hw_power_brake", 0x80),
)

# A larger answer is no measurement: "not available" is all ones in 32 or 64 bits.
_MOST_MHZ = 1e5
_MOST_MILLIWATTS = 1e8
_MOST_CELSIUS = 200
_MOST_BYTES = 2**60
_MOST_COUNT = 2**31 - 1


def start() -> str | None:
    """Make NVML ready, any number of times. Returns why it does not work, in one line, or None."""
    if pynvml is None:
        return "the package nvidia-ml-py cannot be imported"
    try:
        pynvml.nvmlInit()
    except Exception as error:  # noqa: BLE001 - no driver, no library in the container, or one of another version
        return " ".join(str(error).split()) or type(error).__name__
    return None


def device_count() -> int | None:
    """GPUs that the driver sees; may be 0."""
    return _count(_ask("nvmlDeviceGetCount"))


def driver_version() -> str | None:
    """Version of the driver, as in 580.159.04."""
    return _text("nvmlSystemGetDriverVersion")


def handle_by_uuid(uuid: str) -> Any:
    """The device of this UUID, prefix included."""
    return _find_handle("nvmlDeviceGetHandleByUUID", uuid)


def handle_by_bus_id(bus_id: str) -> Any:
    """The card at this PCI address: never a slice of it."""
    return _find_handle("nvmlDeviceGetHandleByPciBusId", bus_id)


def only_handle() -> Any:
    """The GPU of a machine that has one."""
    return _ask("nvmlDeviceGetHandleByIndex", 0) if device_count() == 1 else None


def is_slice(handle: Any) -> bool | None:
    """Whether this is a handle of a MIG slice, not of a card."""
    answer = _ask("nvmlDeviceIsMigDeviceHandle", handle)
    answer = getattr(answer, "value", answer)  # the binding may not unwrap it, and a C integer of 0 is true
    return _flag(answer)


def card_of(handle: Any) -> Any:
    """The whole card: of a slice its parent, which answers more, else the handle itself."""
    parent = _ask("nvmlDeviceGetDeviceHandleFromMigDeviceHandle", handle) if is_slice(handle) else None
    return handle if parent is None else parent


def name(handle: Any) -> str | None:
    """Name of the product; of a slice with its profile, as in "NVIDIA H100 80GB HBM3 MIG 1g.10gb"."""
    return _text("nvmlDeviceGetName", handle)


def memory_bytes(handle: Any) -> int | None:
    """All of its memory, including what the driver keeps."""
    total = getattr(_ask("nvmlDeviceGetMemoryInfo", handle), "total", None)
    return _count(total, _MOST_BYTES) or None


def used_bytes(handle: Any) -> int | None:
    """Memory in use now, by any process."""
    return _count(getattr(_ask("nvmlDeviceGetMemoryInfo", handle), "used", None), _MOST_BYTES)


def memory_bus_bits(handle: Any) -> int | None:
    """Width of the memory's bus."""
    return _count(_ask("nvmlDeviceGetMemoryBusWidth", handle)) or None


def max_sm_hz(handle: Any) -> float | None:
    """The highest SM clock that the card offers."""
    return _hertz(_ask("nvmlDeviceGetMaxClockInfo", handle, _SM_CLOCK))


def max_memory_hz(handle: Any) -> float | None:
    """The highest memory clock that the card offers."""
    return _hertz(_ask("nvmlDeviceGetMaxClockInfo", handle, _MEMORY_CLOCK))


def sm_hz(handle: Any) -> float | None:
    """The SM clock now."""
    return _hertz(_ask("nvmlDeviceGetClockInfo", handle, _SM_CLOCK))


def power_w(handle: Any) -> float | None:
    """Power drawn now; else an average (over a second, on Ampere and newer)."""
    instant_w = _watts(_field(handle, _POWER_INSTANT))
    return instant_w if instant_w is not None else _watts(_ask("nvmlDeviceGetPowerUsage", handle))


def power_limit_w(handle: Any) -> float | None:
    """The power limit that the driver enforces."""
    return _watts(_ask("nvmlDeviceGetEnforcedPowerLimit", handle))


def default_power_limit_w(handle: Any) -> float | None:
    """The power limit that the card starts with."""
    return _watts(_ask("nvmlDeviceGetPowerManagementDefaultLimit", handle))


def application_sm_hz(handle: Any) -> float | None:
    """The SM clock that applications get; lower than the default one if a person set it."""
    return _hertz(_ask("nvmlDeviceGetApplicationsClock", handle, _SM_CLOCK))


def default_application_sm_hz(handle: Any) -> float | None:
    """The SM clock that applications get if nobody set one."""
    return _hertz(_ask("nvmlDeviceGetDefaultApplicationsClock", handle, _SM_CLOCK))


def slowdown_c(handle: Any) -> float | None:
    """Temperature of the chip at which the card slows down."""
    return _positive(_ask("nvmlDeviceGetTemperatureThreshold", handle, _SLOWDOWN), _MOST_CELSIUS)


def temperature_c(handle: Any) -> float | None:
    """Temperature of the chip."""
    return _positive(_ask("nvmlDeviceGetTemperature", handle, _GPU_SENSOR), _MOST_CELSIUS)


def throttle(handle: Any) -> tuple[str, ...] | None:
    """Why the card runs slower than asked; empty if it does not."""
    for function in ("nvmlDeviceGetCurrentClocksThrottleReasons", "nvmlDeviceGetCurrentClocksEventReasons"):
        reasons = _count(_ask(function, handle))
        if reasons is not None:
            return tuple(reason for reason, bit in _THROTTLE_REASONS if reasons & bit)
    return None


def ecc(handle: Any) -> bool | None:
    """Whether memory is protected; None on a card without ECC."""
    return _mode("nvmlDeviceGetEccMode", handle)


def persistence(handle: Any) -> bool | None:
    """Whether the driver stays loaded while no process uses the card."""
    return _flag(_ask("nvmlDeviceGetPersistenceMode", handle))


def mig(handle: Any) -> bool | None:
    """Whether the card is cut into slices; None on a card without MIG."""
    return _mode("nvmlDeviceGetMigMode", handle)


@dataclass(frozen=True, slots=True)
class Process:
    """A process that computes on a card."""

    pid: int  # as outside any container
    used_bytes: int | None  # of the card's memory; None if the driver does not tell


def compute_processes(handle: Any) -> tuple[Process, ...] | None:
    """Processes that compute on it."""
    processes = _ask("nvmlDeviceGetComputeRunningProcesses", handle)
    if not isinstance(processes, list | tuple):
        return None
    found = ((_count(getattr(each, "pid", each)), getattr(each, "usedGpuMemory", None)) for each in processes)
    return tuple(Process(pid, _count(used, _MOST_BYTES) or None) for pid, used in found if pid)


def _ask(function: str, *arguments: Any) -> Any:
    """What NVML answers, or None. A missing handle is not passed on: the library would take it as an address."""
    if any(argument is None for argument in arguments):
        return None
    try:
        return getattr(pynvml, function)(*arguments)
    except Exception:  # noqa: BLE001 - an error of NVML, a missing function, bytes that are no text, ctypes
        return None


def _find_handle(function: str, text: str) -> Any:
    """The handle that `function` finds; old bindings take bytes."""
    handle = _ask(function, text)
    return handle if handle is not None else _ask(function, text.encode())


def _field(handle: Any, number: int) -> Any:
    """One of the driver's numbered values, or None."""
    values = _ask("nvmlDeviceGetFieldValues", handle, [number])
    try:
        value = values[0]
        return getattr(value.value, _VALUE_FIELDS[value.valueType]) if value.nvmlReturn == 0 else None
    except Exception:  # noqa: BLE001 - a structure of another binding
        return None


def _text(function: str, *arguments: Any) -> str | None:
    answer = _ask(function, *arguments)
    if isinstance(answer, bytes):
        answer = answer.decode("utf-8", errors="replace")
    return (answer.strip("\0 ") or None) if isinstance(answer, str) else None


def _mode(function: str, handle: Any) -> bool | None:
    """A setting as it is now; NVML answers with that and with its value after the next reboot."""
    answer = _ask(function, handle)
    return _flag(answer[0]) if isinstance(answer, list | tuple) and answer else None


def _flag(answer: Any) -> bool | None:
    return bool(answer) if isinstance(answer, int) and answer in (0, 1) else None


def _hertz(mhz: Any) -> float | None:
    known = _positive(mhz, _MOST_MHZ)
    return known and known * 1e6


def _watts(milliwatts: Any) -> float | None:
    known = _positive(milliwatts, _MOST_MILLIWATTS)
    return known and known / 1e3


def _positive(answer: Any, most: float) -> float | None:
    """A number above 0 and at most `most`; beyond that, drivers mean "not available"."""
    if isinstance(answer, bool) or not isinstance(answer, int | float) or not 0 < answer <= most:
        return None
    return float(answer)


def _count(answer: Any, most: int = _MOST_COUNT) -> int | None:
    """A whole number from 0 to `most`."""
    return answer if isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer <= most else None
