"""How much memory and how many CPUs this process may use, in a container too.

A container's limits are in its control groups (cgroup v2, or v1 by controller), and those of the groups above apply
too. `psutil` and the CPU count describe the whole machine: a process that relies on them is killed for memory, or runs
more threads than it has CPUs.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import psutil

ROOT = Path("/")


def installed_bytes() -> int:
    """Memory of the machine."""
    return psutil.virtual_memory().total


def memory_bytes() -> int:
    """Memory that this process may use: the machine's, or less by a control group."""
    limits = (limit for group in _groups("memory") if (limit := _limit_bytes(group)) is not None)
    return min([installed_bytes(), *limits])


def available_bytes() -> int:
    """Memory left to this process without swapping; cached files count, since they are evicted."""
    lefts = (left for group in _groups("memory") if (left := _left_bytes(group)) is not None)
    return max(0, min([psutil.virtual_memory().available, *lefts]))


def cpus() -> float:
    """CPUs that this process may use; a quota may be half of one."""
    quotas = (quota for group in _groups("cpu") if (quota := _quota(group)) is not None)
    return min([float(len(bound_cpus())), *quotas])


def oom_kills() -> int | None:
    """How many processes of this control group the kernel has killed for memory; None if it does not count them. A
    count that rose says why a worker died."""
    for group in _groups("memory"):
        for file in ("memory.events", "memory.oom_control"):
            kills = _table(group / file).get("oom_kill")
            if kills is not None:
                return kills
    return None


def process_name(pid: int) -> str:
    """Name of a process; empty if it cannot be seen from here."""
    try:
        return psutil.Process(pid).name()
    except (psutil.Error, OSError, OverflowError):
        return ""


def is_running(pid: int) -> bool:
    """Whether a process of this number can be seen from here. A container numbers its processes anew, and knows none by
    its number on the host."""
    try:
        return psutil.pid_exists(pid)
    except (OSError, OverflowError):
        return False


def bound_cpus() -> frozenset[int]:
    """Numbers of the CPUs that the scheduler may use for this process: a cpuset or taskset restricts them."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def _limit_bytes(group: Path) -> int | None:
    """The limit of one group. v2 slows a process down above `high`; v1 has that of all groups in its statistics."""
    limits = [_number(group / file) for file in ("memory.max", "memory.high", "memory.limit_in_bytes")]
    limits.append(_table(group / "memory.stat").get("hierarchical_memory_limit"))
    return min((limit for limit in limits if limit is not None), default=None)


def _left_bytes(group: Path) -> int | None:
    limit = _limit_bytes(group)
    used = [_number(group / file) for file in ("memory.current", "memory.usage_in_bytes")]
    used_bytes = next((each for each in used if each is not None), None)
    if limit is None or used_bytes is None:
        return None
    statistics = _table(group / "memory.stat")
    # v1 has the group's own first, and totals with all below it, which is what its usage counts.
    reclaimable = statistics.get("total_inactive_file", statistics.get("inactive_file", 0))
    return limit - used_bytes + reclaimable


def _quota(group: Path) -> float | None:
    """CPUs by time: a quota over its period. Without one, v2 has "max" and v1 has -1."""
    quota, _, period = read_text(group / "cpu.max").partition(" ")
    if not period:
        quota, period = (read_text(group / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
    if quota.isdigit() and period.isdigit() and int(quota) > 0 and int(period) > 0:
        return int(quota) / int(period)
    return None


def _groups(controller: str) -> Iterator[Path]:
    """Folders of this process's control groups, its own first, up to the topmost visible, in v1 and in v2."""
    paths = _own_paths()
    for line in read_text(ROOT / "proc/self/mountinfo").splitlines():
        mount, _, filesystem = line.partition(" - ")
        kind, options = filesystem.partition(" ")[0], filesystem.rpartition(" ")[2].split(",")
        if kind == "cgroup2":
            path = paths.get("")
        elif kind == "cgroup" and controller in options:
            path = paths.get(controller)
        else:
            continue
        top, folder = mount.split(" ")[3:5]
        if path is not None:
            yield from _upwards(ROOT / folder.replace("\\040", " ").lstrip("/"), top, path)


def _own_paths() -> dict[str, str]:
    """Paths of this process by v1 controller; v2's has the empty name."""
    paths = {}
    for line in read_text(ROOT / "proc/self/cgroup").splitlines():
        controllers, _, path = line.partition(":")[2].partition(":")
        paths.update(dict.fromkeys(controllers.split(","), path))
    return paths


def _upwards(folder: Path, top: str, path: str) -> Iterator[Path]:
    """The group at `path` and those above it, up to the group `top`, which is mounted at `folder`. If a container is
    shown another path than its own (`/../..`, or a host's), the mounted group is its own."""
    above = top.rstrip("/")
    group = folder / path.removeprefix(above).strip("/")
    if f"{path}/".startswith(f"{above}/") and ".." not in path and group.is_dir():
        for each in (group, *group.parents):
            if each == folder:
                break
            yield each
    yield folder


def _number(file: Path) -> int | None:
    text = read_text(file)
    return int(text) if text.isdigit() else None


def _table(file: Path) -> dict[str, int]:
    """A file with a name and a number in each line."""
    pairs = (line.split() for line in read_text(file).splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def read_text(file: Path) -> str:
    """The text of a file of the kernel; empty if it is missing or must not be read."""
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
