"""What would spoil a measurement that begins now: other work, heat, limits, little memory. `doctor` shows it, and a run
warns of it before it starts. It takes half a second, and changes nothing."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from bench import host, nvml
from bench.device import nvml_handle
from bench.env import GpuState, read_state
from bench.finding import Finding, Level, ok, warning
from bench.record import Environment
from predict.gpus import NVIDIA_GPUS
from predict.units import binary_bytes, si

LOOK_S = 0.5  # how long processes are watched
BUSY_CPUS = 0.15  # less than this is what any system does by itself
NAMED = 3  # processes that are named
LOW_MEMORY = 0.1  # of what this process may use; under it cases that would fit may not
TAKEN_MEMORY = 0.05  # of a GPU's; the driver keeps less
NEAR_SLOWDOWN_C = 5.0
# The usual governor of these drivers is called "powersave", and runs as fast as another.
SCALES_ITSELF = ("intel_pstate", "amd-pstate", "amd-pstate-epp")
UNSTABLE = "rows may be slow and unstable"
STOP_IT = f"stop it, or expect that {UNSTABLE}"


def disturbances(described: Environment) -> tuple[Finding, ...]:
    """What is found of the machine as it is now; only what is not ok would spoil a measurement."""
    found = [*_work(described), *_memory(), *_battery()]
    if described.device == "cpu":
        return (*found, *_frequency())
    return (*_card(described, nvml_handle()), *found)


def _work(described: Environment) -> Iterator[Finding]:
    """Other work on the CPUs. Beside a GPU it only matters once no CPU is left to launch."""
    ours = _own_processes()
    busy, names = _busy_cpus(ours)
    cpus = host.cpus()
    spare = cpus - busy
    needed = cpus if described.device == "cpu" else 1.0
    text = f"{busy:.1f} of {cpus:g} CPUs are busy{_load()}"
    if busy < BUSY_CPUS or spare >= needed:
        yield ok("other work", text)
        return
    if names:
        text += f": {', '.join(names)}"
    yield warning("other work", text, STOP_IT)


def _load() -> str:
    """The load average as text. It counts what waits too, and over the machine, in a container as well."""
    return f" (load average {os.getloadavg()[0]:.1f})" if hasattr(os, "getloadavg") else ""


def _own_processes() -> frozenset[int]:
    """The numbers of this process, of those that it started, and of those that wait for it."""
    this = psutil.Process()
    return frozenset(process.pid for process in (this, *this.children(recursive=True), *this.parents()))


def _busy_cpus(ours: frozenset[int]) -> tuple[float, list[str]]:
    """CPUs, of those that this process may use, that others keep busy; and the names of the busiest processes, as far
    as they can be seen from here."""
    allowed = host.bound_cpus()
    before, idle_before = _spent(), _idle(allowed)
    start_s = time.monotonic()
    time.sleep(LOOK_S)
    after, idle_after = _spent(), _idle(allowed)
    looked_s = time.monotonic() - start_s
    used = {pid: (name, (spent - before[pid][1]) / looked_s) for pid, (name, spent) in after.items() if pid in before}
    own = sum(share for pid, (_, share) in used.items() if pid in ours)
    busy = len(allowed) - (idle_after - idle_before) / looked_s - own
    others: dict[str, list[float]] = {}
    for pid, (name, share) in used.items():
        if pid not in ours and share > 0:
            others.setdefault(name, []).append(share)
    busiest = sorted(others.items(), key=lambda each: -sum(each[1]))[:NAMED]
    named = [_said(name, shares) for name, shares in busiest if sum(shares) >= BUSY_CPUS]
    return min(max(busy, 0.0), float(len(allowed))), named


def _said(name: str, shares: list[float]) -> str:
    """What processes of one name take: "python 1.9 (in 5 processes)"."""
    return f"{name} {sum(shares):.1f}" + (f" (in {len(shares)} processes)" if len(shares) > 1 else "")


def _spent() -> dict[int, tuple[str, float]]:
    """Name and CPU time in seconds of every process that can be seen."""
    spent = {}
    for process in psutil.process_iter(["name", "cpu_times"]):
        times = process.info["cpu_times"]  # None where it may not be read
        if times is not None:
            spent[process.pid] = (process.info["name"] or "?", times.user + times.system)
    return spent


def _idle(cpus: frozenset[int]) -> float:
    """Seconds that these CPUs have been idle, together."""
    times = enumerate(psutil.cpu_times(percpu=True))
    return sum(each.idle + getattr(each, "iowait", 0.0) for cpu, each in times if cpu in cpus)


def _memory() -> Iterator[Finding]:
    left, whole = host.available_bytes(), host.memory_bytes()
    if left < LOW_MEMORY * whole:
        text = f"{binary_bytes(left)} of {binary_bytes(whole)} are free"
        yield warning("memory", text, "free some, or expect that large cases are refused or killed")


def _battery() -> Iterator[Finding]:
    battery = psutil.sensors_battery() if hasattr(psutil, "sensors_battery") else None
    if battery is not None and battery.power_plugged is False:
        yield warning("power", "this machine runs on its battery", f"plug it in, or expect that {UNSTABLE}")


def _frequency() -> Iterator[Finding]:
    """Whether a setting keeps the CPU under its highest clock."""
    folder = host.ROOT / "sys/devices/system/cpu/cpu0/cpufreq"
    most_khz, highest_khz = (_number(folder / f"{name}_max_freq") for name in ("scaling", "cpuinfo"))
    if most_khz and highest_khz and most_khz < 0.95 * highest_khz:
        text = f"limited to {si(most_khz * 1e3, 'Hz')} of {si(highest_khz * 1e3, 'Hz')}"
        yield warning("CPU clock", text, "raise the limit (cpupower frequency-set --max), or expect slower rows")
    governor, driver = (host.read_text(folder / f"scaling_{name}") for name in ("governor", "driver"))
    if governor == "powersave" and driver not in SCALES_ITSELF:
        remedy = "choose performance (cpupower frequency-set --governor performance)"
        yield warning("CPU clock", "its governor is powersave, which holds the lowest clock", remedy)


def _number(file: Path) -> int | None:
    text = host.read_text(file)
    return int(text) if text.isdigit() else None


def _card(described: Environment, handle: object) -> Iterator[Finding]:
    state = read_state(handle)
    if now := _now(described, state):
        yield ok("now", now)
    if state.throttle:
        yield warning("throttling", ", ".join(state.throttle), "let the card cool and idle, and look again")
    slowdown_c = nvml.slowdown_c(handle)
    if state.temperature_c and slowdown_c and state.temperature_c > slowdown_c - NEAR_SLOWDOWN_C:
        text = f"{state.temperature_c:.0f} C, and the card slows down at {slowdown_c:.0f} C"
        yield warning("heat", text, "let the card cool, or improve its cooling")
    yield from _power(described, handle)
    yield from _clocks(handle)
    yield from _processes(handle, described)


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


def _power(described: Environment, handle: object) -> Iterator[Finding]:
    table_w = NVIDIA_GPUS[described.gpu].power_w if described.gpu else None
    usual_w, whose = (table_w, "this SKU's") if table_w else (nvml.default_power_limit_w(handle), "the card's default")
    if described.power_limit_w and usual_w and described.power_limit_w < 0.95 * usual_w:
        text = f"{described.power_limit_w:.0f} W, {whose} is {usual_w:.0f} W"
        yield warning("power limit", text, "raise it, or expect slower matmuls than on other cards of this SKU")


def _clocks(handle: object) -> Iterator[Finding]:
    """Clocks set by a person. A range locked with `nvidia-smi -lgc` cannot be read; the clock that a row held shows."""
    set_hz, default_hz = nvml.application_sm_hz(handle), nvml.default_application_sm_hz(handle)
    if set_hz and default_hz and set_hz < 0.98 * default_hz:
        text = f"applications get {si(set_hz, 'Hz')}, the default is {si(default_hz, 'Hz')}"
        yield warning("SM clock", text, "reset it (nvidia-smi -rac), or expect slower rows than on other cards")
    if nvml.persistence(handle) is False:
        yield ok("persistence", "off: the driver starts anew where no process holds the card")


def _processes(handle: object, described: Environment) -> Iterator[Finding]:
    """Other processes on the card. The driver numbers processes as the host does, so in a container even this process
    has a number that it does not know."""
    ours = _own_processes()
    others = [process for process in nvml.compute_processes(handle) or () if process.pid not in ours]
    unseen = [process.pid for process in others if not host.is_running(process.pid)]
    if not others:
        yield from _taken(handle, described)
        return
    text = f"process {', '.join(map(_named, others))} uses this GPU"
    may_be_this = [process.pid for process in others] == unseen[:1]
    if unseen:
        names = "it" if may_be_this else ", ".join(map(str, unseen))
        text += f"; {names} cannot be seen from here: it may be this process under its number on the host"
    level, remedy = (Level.OK, None) if may_be_this else (Level.WARNING, f"{STOP_IT}: it shares clocks and bandwidth")
    yield Finding(level, "other work on the GPU", text, remedy)


def _named(process: nvml.Process) -> str:
    """Number, and name and memory as far as they are known: "17 (python, 12 GiB)"."""
    memory = "" if process.used_bytes is None else binary_bytes(process.used_bytes)
    known = ", ".join(filter(None, (host.process_name(process.pid), memory)))
    return f"{process.pid} ({known})" if known else str(process.pid)


def _taken(handle: object, described: Environment) -> Iterator[Finding]:
    """Memory that is taken although no process can be seen, as from within a container."""
    used = nvml.used_bytes(handle)
    if used and described.memory_bytes and not described.mig and used > TAKEN_MEMORY * described.memory_bytes:
        text = f"{binary_bytes(used)} of {binary_bytes(described.memory_bytes)} are taken by what cannot be seen here"
        yield warning("other work on the GPU", text, STOP_IT)
