"""What a container leaves of a machine, on trees of control groups as kernels show them."""

import os
import types

import pytest

from bench import host

GIB = 2**30
NO_LIMIT = 9223372036854771712  # what v1 writes for none
V2 = "35 24 0:30 {top} /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate"
V1_MEMORY = "36 32 0:31 {top} /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory"
V1_CPU = "37 32 0:32 {top} /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct"
OTHER = "22 1 254:0 / / rw,relatime - ext4 /dev/root rw"


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine of 24 GiB, of which 20 are free, and 8 CPUs; tests say what its control groups are."""
    monkeypatch.setattr(host, "ROOT", tmp_path)
    monkeypatch.setattr(
        host.psutil, "virtual_memory", lambda: types.SimpleNamespace(total=24 * GIB, available=20 * GIB)
    )
    monkeypatch.setattr(host, "bound_cpus", lambda: frozenset(range(8)))

    def make(own="0::/", mounts=(V2,), top="/", **files):
        put(tmp_path / "proc/self/cgroup", own)
        put(tmp_path / "proc/self/mountinfo", "\n".join([OTHER, *mounts]).format(top=top))
        for name, text in files.items():
            put(tmp_path / "sys/fs/cgroup" / name, str(text))

    return make


def put(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")


def test_without_control_groups_the_machine_is_what_there_is(machine):
    assert (host.memory_bytes(), host.available_bytes(), host.cpus(), host.oom_kills()) == (24 * GIB, 20 * GIB, 8, None)
    machine(mounts=())
    assert (host.memory_bytes(), host.available_bytes(), host.cpus(), host.oom_kills()) == (24 * GIB, 20 * GIB, 8, None)


def test_limits_of_a_container_with_a_view_of_its_own(machine):
    machine(
        **{
            "memory.max": 1_500_000_000,
            "memory.current": 900_000_000,
            "memory.stat": "anon 400000000\nfile 500000000\ninactive_file 300000000",
            "memory.events": "low 0\nhigh 0\nmax 7\noom 2\noom_kill 2",
            "cpu.max": "50000 100000",
        }
    )
    assert host.memory_bytes() == 1_500_000_000
    assert host.available_bytes() == 1_500_000_000 - 900_000_000 + 300_000_000
    assert (host.cpus(), host.oom_kills()) == (0.5, 2)


def test_a_group_without_limits_has_those_of_the_machine(machine):
    machine(**{"memory.max": "max", "memory.high": "max", "memory.current": 5, "cpu.max": "max 100000"})
    assert (host.memory_bytes(), host.available_bytes(), host.cpus()) == (24 * GIB, 20 * GIB, 8)


def test_memory_above_which_a_group_is_slowed_down_is_a_limit(machine):
    machine(**{"memory.max": 4 * GIB, "memory.high": 3 * GIB})
    assert host.memory_bytes() == 3 * GIB


def test_the_smallest_limit_on_the_way_up_holds(machine):
    machine(
        own="0::/pod/box/inner",
        **{
            "pod/memory.max": 2 * GIB,
            "pod/memory.stat": "inactive_file 0",
            "pod/cpu.max": "150000 100000",
            "pod/box/memory.max": 3 * GIB,
            "pod/box/memory.current": 1 * GIB,
            "pod/box/cpu.max": "max 100000",
            "pod/box/inner/memory.max": "max",
            "pod/box/inner/cpu.max": "400000 100000",
            "pod/box/inner/memory.events": "oom_kill 1",
            "pod/memory.events": "oom_kill 5",
        },
    )
    put(host.ROOT / "sys/fs/cgroup/pod/memory.current", str(7 * GIB // 4))
    assert host.memory_bytes() == 2 * GIB
    assert host.available_bytes() == GIB // 4  # the pod has used the rest, though the box could have more
    assert (host.cpus(), host.oom_kills()) == (1.5, 1)


@pytest.mark.parametrize(
    ("own", "top"),
    [
        ("0::/docker/abc", "/docker/abc"),  # v2 without a view of its own: the container's group is what is mounted
        ("0::/docker/abc", "/"),  # the host's path, and the folder is not there
        ("0::/../../elsewhere", "/"),  # a process that was moved out of its view
        ("0::/docker/abcdef", "/docker/abc"),  # another group, whose name begins alike
        ("", "/"),  # nothing is said
    ],
)
def test_a_path_that_is_not_there_means_the_group_that_is_mounted(machine, own, top):
    machine(own=own, top=top, **{"memory.max": GIB})
    assert host.memory_bytes() == (24 * GIB if own == "" else GIB)


def test_limits_of_the_first_version(machine):
    machine(
        own="12:memory:/box\n4:cpu,cpuacct:/box\n1:name=systemd:/box\n0::/",
        mounts=(V1_MEMORY, V1_CPU),
        **{
            "memory/memory.limit_in_bytes": NO_LIMIT,
            "memory/memory.usage_in_bytes": 9 * GIB,
            "memory/box/memory.limit_in_bytes": 2 * GIB,
            "memory/box/memory.usage_in_bytes": GIB,
            "memory/box/memory.stat": f"inactive_file 5\nhierarchical_memory_limit {2 * GIB}\ntotal_inactive_file 1000",
            "memory/box/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 3",
            "cpu,cpuacct/cpu.cfs_quota_us": -1,
            "cpu,cpuacct/cpu.cfs_period_us": 100000,
            "cpu,cpuacct/box/cpu.cfs_quota_us": 250000,
            "cpu,cpuacct/box/cpu.cfs_period_us": 100000,
        },
    )
    assert (host.memory_bytes(), host.available_bytes()) == (2 * GIB, GIB + 1000)
    assert (host.cpus(), host.oom_kills()) == (2.5, 3)


def test_a_limit_above_the_view_is_in_the_statistics_of_the_first_version(machine):
    machine(
        own="12:memory:/docker/abc",
        mounts=(V1_MEMORY,),
        top="/docker/abc",
        **{"memory/memory.limit_in_bytes": NO_LIMIT, "memory/memory.stat": f"hierarchical_memory_limit {GIB}"},
    )
    assert host.memory_bytes() == GIB


def test_a_group_that_is_full_has_nothing_left(machine):
    machine(**{"memory.max": GIB, "memory.current": 2 * GIB})
    assert host.available_bytes() == 0


def test_a_set_of_cpus_is_a_limit(machine):
    machine(**{"cpu.max": "1600000 100000"})
    assert host.cpus() == 8  # the quota is of 16


def test_the_cpus_that_the_scheduler_may_use_are_counted(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5, 7}, raising=False)
    assert host.bound_cpus() == {3, 5, 7}
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert host.bound_cpus() == {0}


@pytest.mark.parametrize("text", ["", "nonsense", "max", "-5", "1 2 3", "0x10"])
def test_what_cannot_be_read_is_no_limit(machine, text):
    machine(**{"memory.max": text, "memory.current": text, "memory.stat": text, "cpu.max": text, "memory.events": text})
    assert (host.memory_bytes(), host.available_bytes(), host.cpus(), host.oom_kills()) == (24 * GIB, 20 * GIB, 8, None)


def test_this_process_runs_and_a_number_that_no_process_has_does_not():
    assert host.is_running(os.getpid())
    assert not host.is_running(2**31 - 1)
    assert not host.is_running(2**40)


def test_this_machine_has_some_of_each():
    assert 2**28 < host.memory_bytes() <= host.installed_bytes()
    assert 0 < host.available_bytes() <= host.memory_bytes()
    assert 0 < host.cpus() <= (os.cpu_count() or 1)
