import dataclasses
import types

import psutil
import pytest

from bench import disturbance, host, nvml
from bench.commands import carrying_out
from bench.disturbance import disturbances
from bench.env import GpuState
from bench.finding import Level
from tests.factories import make_environment
from tests.fakes import cpu_environment

GIB = 2**30
CALM = GpuState(sm_hz=1.98e9, power_w=100.0, temperature_c=40.0, throttle=())
CARD = make_environment()  # 700 W, as the table has it


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A calm machine of 4 CPUs with an H200; tests change what is wrong with it."""

    def make(*, busy=0.0, names=(), free=10 * GIB, plugged=True, state=CALM, processes=(), files=None, **answers):
        monkeypatch.setattr(host, "ROOT", tmp_path)
        monkeypatch.setattr(host, "cpus", lambda: 4.0)
        monkeypatch.setattr(host, "available_bytes", lambda: free)
        monkeypatch.setattr(host, "memory_bytes", lambda: 16 * GIB)
        monkeypatch.setattr(host, "is_running", lambda pid: pid < 1000)
        monkeypatch.setattr(host, "process_name", lambda pid: "python" if pid < 1000 else "")
        monkeypatch.setattr(disturbance, "_busy_cpus", lambda _: (busy, list(names)))
        battery = types.SimpleNamespace(power_plugged=plugged)
        monkeypatch.setattr(psutil, "sensors_battery", lambda: battery, raising=False)
        monkeypatch.setattr(disturbance, "nvml_handle", lambda: "card")
        monkeypatch.setattr(disturbance, "read_state", lambda _: state)
        known = {"slowdown_c": 90.0, "application_sm_hz": 1.98e9, "default_application_sm_hz": 1.98e9}
        known |= {"persistence": True, "default_power_limit_w": 700.0, "used_bytes": GIB, **answers}
        for name, answer in known.items():
            monkeypatch.setattr(nvml, name, lambda _, answer=answer: answer)
        monkeypatch.setattr(nvml, "compute_processes", lambda _: processes)
        for name, text in (files or {}).items():
            path = tmp_path / "sys/devices/system/cpu/cpu0/cpufreq" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    return make


def warnings(described):
    return {found.subject: found for found in disturbances(described) if found.level is not Level.OK}


@pytest.mark.parametrize("described", [CARD, cpu_environment()], ids=["gpu", "cpu"])
def test_a_calm_machine_has_no_warning(machine, described):
    machine()
    assert warnings(described) == {}


@pytest.mark.parametrize(
    ("changes", "subject", "text"),
    [
        ({"busy": 1.5, "names": ["pytest 1.2"]}, "other work", "1.5 of 4 CPUs are busy"),
        ({"free": GIB}, "memory", "1 GiB of 16 GiB are free"),
        ({"plugged": False}, "power", "battery"),
        (
            {"files": {"scaling_max_freq": "2000000", "cpuinfo_max_freq": "4000000"}},
            "CPU clock",
            "limited to 2.00 GHz of 4.00 GHz",
        ),
        ({"files": {"scaling_governor": "powersave", "scaling_driver": "acpi-cpufreq"}}, "CPU clock", "powersave"),
    ],
)
def test_what_slows_a_cpu_is_found_with_a_remedy(machine, changes, subject, text):
    machine(**changes)
    found = warnings(cpu_environment())
    assert found.keys() == {subject}
    assert text in found[subject].text
    assert found[subject].remedy


def test_the_busiest_processes_are_named(machine):
    machine(busy=1.5, names=["pytest 1.2", "ruff 0.3"])
    assert warnings(cpu_environment())["other work"].text.endswith(": pytest 1.2, ruff 0.3")


def test_a_governor_that_is_only_called_powersave_is_none(machine):
    machine(files={"scaling_governor": "powersave", "scaling_driver": "intel_pstate"})
    assert warnings(cpu_environment()) == {}


@pytest.mark.parametrize(("busy", "warned"), [(2.9, False), (3.2, True)])
def test_beside_a_gpu_work_matters_once_no_cpu_is_left_to_launch(machine, busy, warned):
    machine(busy=busy)  # of 4
    assert ("other work" in warnings(CARD)) == warned


@pytest.mark.parametrize(
    ("changes", "subject", "text"),
    [
        ({"state": dataclasses.replace(CALM, throttle=("hw_thermal",))}, "throttling", "hw_thermal"),
        ({"state": dataclasses.replace(CALM, temperature_c=87.0)}, "heat", "87 C, and the card slows down at 90 C"),
        ({"application_sm_hz": 1.2e9}, "SM clock", "applications get 1.20 GHz, the default is 1.98 GHz"),
        (
            {"processes": (nvml.Process(17, 12 * GIB), nvml.Process(18, None))},
            "other work on the GPU",
            "process 17 (python, 12 GiB), 18 (python) uses this GPU",
        ),
        ({"used_bytes": 20 * GIB}, "other work on the GPU", "20 GiB of 140.4 GiB are taken"),
    ],
)
def test_what_disturbs_a_card_is_found_with_a_remedy(machine, changes, subject, text):
    machine(**changes)
    found = warnings(CARD)
    assert found.keys() == {subject}
    assert text in found[subject].text
    assert found[subject].remedy


@pytest.mark.parametrize(
    ("gpu", "limit_w", "text"),
    [("h200-sxm", 350.0, "350 W, this SKU's is 700 W"), (None, 250.0, "250 W, the card's default is 700 W")],
)
def test_a_power_limit_is_held_against_the_table_or_the_cards_default(machine, gpu, limit_w, text):
    machine()
    assert warnings(make_environment(gpu=gpu, power_limit_w=limit_w))["power limit"].text == text


def test_our_own_processes_are_no_other_work(machine, monkeypatch):
    machine(processes=(nvml.Process(17, GIB),))
    monkeypatch.setattr(disturbance, "_own_processes", lambda: frozenset({17}))
    assert warnings(CARD) == {}


def test_what_the_driver_does_not_tell_disturbs_nothing(machine):
    names = ("slowdown_c", "application_sm_hz", "default_application_sm_hz", "persistence", "used_bytes")
    machine(state=GpuState(None, None, None, None), processes=None, **dict.fromkeys(names))
    assert warnings(make_environment(gpu=None, power_limit_w=None, memory_bytes=None)) == {}


def test_the_cpus_of_others_are_what_is_neither_idle_nor_ours(monkeypatch):
    """In 1 s of 2 CPUs: 0.5 s idle, 0.4 s ours, so others take 2 - 0.5 - 0.4 = 1.1."""
    spent = iter([{1: ("we", 5.0), 2: ("pytest", 0.0), 3: ("pytest", 1.0)}] * 1)
    after = {1: ("we", 5.4), 2: ("pytest", 0.5), 3: ("pytest", 1.4), 4: ("new", 9.0)}
    idle, clock = iter([10.0, 10.5]), iter([0.0, 1.0])
    monkeypatch.setattr(host, "bound_cpus", lambda: frozenset({0, 1}))
    monkeypatch.setattr(disturbance, "_spent", lambda: next(spent, after))
    monkeypatch.setattr(disturbance, "_idle", lambda _: next(idle))
    monkeypatch.setattr(disturbance.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(disturbance.time, "sleep", lambda _: None)
    busy, names = disturbance._busy_cpus(frozenset({1}))
    assert busy == pytest.approx(1.1)
    assert names == ["pytest 0.9 (in 2 processes)"]


def test_this_machine_can_be_looked_at():
    assert disturbances(cpu_environment())


def test_a_run_warns_on_stderr_before_it_starts(machine, capsys):
    machine(busy=4.0, names=["pytest 3.9"])
    carrying_out.warn(cpu_environment())
    said = capsys.readouterr().err
    assert said.startswith("WARNING: other work: 4.0 of 4 CPUs are busy")
    assert said.endswith(": pytest 3.9; stop it, or expect that rows may be slow and unstable\n")
    machine()
    carrying_out.warn(cpu_environment())
    assert capsys.readouterr().err == ""
