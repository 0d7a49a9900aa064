import dataclasses
import os

import pynvml
import pytest

from bench import disturbance, doctor, host, nvml
from bench.cold_cache import ColdReads
from bench.doctor import examine
from bench.env import CudaStatus, GpuState
from bench.finding import Finding, Level
from bench.timer import CaptureFailed
from tests.factories import make_environment
from tests.fake_driver import declines, stand_in
from tests.fakes import cpu_environment

PARENT = 4_000_001
STATE = GpuState(sm_hz=1.98e9, power_w=100.0, temperature_c=40.0, throttle=())


@pytest.fixture
def card(monkeypatch):
    """A machine with a healthy H200; tests change what is wrong with it."""

    def make(*, state=STATE, others=(), **changes):
        monkeypatch.setattr(doctor, "cuda_status", lambda: CudaStatus(True, None, True))
        monkeypatch.setattr(doctor, "environment", lambda *_, **__: make_environment(**changes))
        monkeypatch.setattr(doctor.nvml, "start", lambda: None)
        monkeypatch.setattr(disturbance, "nvml_handle", lambda: None)
        monkeypatch.setattr(disturbance, "_own_processes", lambda: frozenset({os.getpid(), PARENT}))
        monkeypatch.setattr(disturbance, "_busy_cpus", lambda _: (0.0, []))
        monkeypatch.setattr(disturbance, "_memory", lambda: ())
        monkeypatch.setattr(disturbance, "_battery", lambda: ())
        monkeypatch.setattr(host, "is_running", lambda _: True)
        monkeypatch.setattr(host, "process_name", lambda _: "")
        monkeypatch.setattr(disturbance, "read_state", lambda _: state)
        processes = tuple(nvml.Process(pid, None) for pid in others)
        monkeypatch.setattr(nvml, "compute_processes", lambda _: processes)
        monkeypatch.setattr(doctor, "_cold_reads", lambda _: Finding(Level.OK, "L2 flush", "works"))

    return make


@pytest.fixture
def no_flush(monkeypatch):
    """The rest of the doctor, on a machine that cannot time anything, and does nothing else."""
    monkeypatch.setattr(disturbance, "_busy_cpus", lambda _: (0.0, []))
    monkeypatch.setattr(doctor, "_cold_reads", lambda _: Finding(Level.OK, "L2 flush", "not run"))


def bad(findings):
    return {finding.subject: finding for finding in findings if finding.level is not Level.OK}


def test_a_healthy_card_has_only_good_findings(card):
    card()
    findings = examine(None)
    assert bad(findings) == {}
    text = " ".join(finding.text for finding in findings)
    assert all(part in text for part in ("NVIDIA H200", "132 SMs", "h200-sxm", "driver 580.0", "1.98 GHz", "700 W"))


@pytest.mark.parametrize(
    ("changes", "subject", "level", "text"),
    [
        ({"mismatches": ("16 SMs, the table has 132",)}, "table", Level.PROBLEM, "the driver says 16 SMs"),
        ({"mig": True, "gpu": None}, "MIG", Level.PROBLEM, "slice"),
        ({"unknown": ("SM clock", "power")}, "NVML", Level.WARNING, "the driver does not report: SM clock, power"),
        ({"cpus": 0.5}, "CPU quota", Level.WARNING, "0.5 CPUs"),
        ({"gpu": None}, "table", Level.WARNING, "not in the table"),
        ({"triton": None}, "triton", Level.WARNING, "not installed"),
        ({"power_limit_w": 350.0}, "power limit", Level.WARNING, "350 W, this SKU's is 700 W"),
        ({"others": (1, 2)}, "other work on the GPU", Level.WARNING, "process 1, 2"),
        ({"state": dataclasses.replace(STATE, throttle=("hw_thermal",))}, "throttling", Level.WARNING, "hw_thermal"),
    ],
)
def test_each_trouble_is_found_with_a_remedy(card, changes, subject, level, text):
    card(**changes)
    found = bad(examine(None))
    assert found.keys() == {subject}
    assert found[subject].level is level
    assert text in found[subject].text
    assert found[subject].remedy


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (dataclasses.replace(STATE, power_w=None), "SM clock 1.98 GHz of 1.98 GHz, 40 C"),
        (dataclasses.replace(STATE, sm_hz=None), "40 C, 100 W of 700 W"),
        (
            dataclasses.replace(STATE, temperature_c=None, throttle=None),
            "SM clock 1.98 GHz of 1.98 GHz, 100 W of 700 W",
        ),
        (GpuState(None, None, None, None), None),
    ],
)
def test_what_is_told_of_the_state_is_shown(card, state, expected):
    card(state=state)
    assert next((finding.text for finding in examine(None) if finding.subject == "now"), None) == expected


def test_why_nvml_is_silent_is_told_with_a_remedy(monkeypatch, no_flush):
    stand_in(monkeypatch, {"nvmlInit": declines(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)})
    for name in ("nvmlDeviceGetHandleByUUID", "nvmlDeviceGetHandleByIndex", "nvmlSystemGetDriverVersion"):
        monkeypatch.setattr(pynvml, name, declines(pynvml.NVML_ERROR_UNINITIALIZED))
    found = bad(examine(None))
    assert found.keys() == {"NVML"}
    assert "does not work (NVML Shared Library Not Found); the driver does not report: driver" in found["NVML"].text
    assert "capability `utility`" in found["NVML"].remedy


@pytest.mark.parametrize(
    ("others", "level", "text"),
    [
        ((3141592,), Level.OK, "it cannot be seen from here: it may be this process under its number on the host"),
        ((1,), Level.WARNING, "process 1 uses this GPU"),
        ((1, 3141592), Level.WARNING, "process 1, 3141592 uses this GPU; 3141592 cannot be seen from here"),
        ((3141592, 3141593), Level.WARNING, "3141592, 3141593 cannot be seen"),
        ((os.getpid(), PARENT), None, ""),
    ],
)
def test_a_process_that_may_be_this_one_is_not_to_be_stopped(card, monkeypatch, others, level, text):
    card(others=others)
    monkeypatch.setattr(host, "is_running", lambda pid: pid == 1)
    found = [finding for finding in examine(None) if finding.subject == "other work on the GPU"]
    assert [finding.level for finding in found] == ([] if level is None else [level])
    assert all(text in finding.text for finding in found)


def test_a_slice_is_a_problem_and_no_unknown_card(monkeypatch, no_flush):
    stand_in(monkeypatch, {"nvmlDeviceGetMigMode": lambda _: [1, 1]}, {"name": "NVIDIA H200 MIG 1g.18gb"})
    findings = examine("h200")
    assert {finding.subject for finding in findings if finding.level is Level.PROBLEM} == {"MIG", "table"}
    assert not any("not in the table" in finding.text for finding in findings)
    assert "measured roofs only" in bad(findings)["MIG"].remedy


def test_memory_that_the_cpu_shares_is_told(monkeypatch, no_flush):
    stand_in(monkeypatch, properties={"is_integrated": 1})
    assert any("shared with the CPU" in finding.text for finding in examine(None))
    stand_in(monkeypatch)
    assert not any("shared with the CPU" in finding.text for finding in examine(None))


def test_of_several_gpus_the_first_is_examined(monkeypatch, no_flush):
    stand_in(monkeypatch)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    assert "the first of 4 that torch sees" in next(each.text for each in examine(None) if each.subject == "card")


def test_a_gpu_that_cannot_be_described_is_a_finding(monkeypatch):
    monkeypatch.setattr(doctor, "cuda_status", lambda: CudaStatus(True, None, True))
    monkeypatch.setattr("torch.cuda.get_device_properties", declines())
    (finding,) = examine(None)
    assert (finding.level, finding.subject) == (Level.PROBLEM, "gpu")
    assert finding.text.startswith("torch cannot use the GPU")
    assert finding.remedy


def test_a_containers_limits_are_told(monkeypatch):
    monkeypatch.setattr(host, "installed_bytes", lambda: 24 * 2**30)
    monkeypatch.setattr(host, "memory_bytes", lambda: 3 * 2**29)
    monkeypatch.setattr(host, "cpus", lambda: 0.5)
    monkeypatch.setattr("torch.get_num_threads", lambda: 1)
    findings = examine("cpu")
    texts = {finding.subject: finding.text for finding in findings}
    assert "1 thread, 1.5 GiB" in texts["cpu"]
    assert texts["memory limit"] == "limited to 1.5 GiB of the machine's 24 GiB; sizes are fitted to that"
    assert bad(findings)["CPU quota"].text.startswith("0.5 CPUs")


def test_a_missing_compiler_is_found(card, monkeypatch):
    card()
    monkeypatch.setattr(doctor.shutil, "which", lambda _: None)
    assert "install gcc" in bad(examine(None))["C compiler"].remedy


@pytest.mark.parametrize(
    ("gpu", "sees", "level"),
    [(None, False, Level.WARNING), ("h100", False, Level.PROBLEM), (None, True, Level.PROBLEM)],
)
def test_a_machine_without_cuda_is_a_problem_only_if_a_gpu_was_meant(monkeypatch, gpu, sees, level):
    monkeypatch.setattr(doctor, "cuda_status", lambda: CudaStatus(False, "no NVIDIA driver is loaded", sees))
    monkeypatch.setattr(doctor, "environment", lambda *_, **__: cpu_environment())
    found = bad(examine(gpu))["device"]
    assert found.level is level
    assert "no NVIDIA driver is loaded" in found.text


def test_an_unknown_cache_is_told(monkeypatch):
    monkeypatch.setattr(doctor, "cuda_status", lambda: CudaStatus(False, "no driver", False))
    without_cache = dataclasses.replace(cpu_environment(), last_level_cache_bytes=None)
    monkeypatch.setattr(doctor, "environment", lambda *_, **__: without_cache)
    assert "last-level cache" in bad(examine("cpu"))


def test_this_machine_can_be_examined():
    assert examine("cpu")


def test_a_gpu_that_captures_no_graph_is_a_problem_and_no_traceback(monkeypatch):
    def fails(*_):
        raise CaptureFailed("not captured in a CUDA graph: operation not permitted")

    monkeypatch.setattr(doctor, "read_cold", fails)
    finding = doctor._cold_reads(make_environment())
    assert (finding.level, finding.text) == (Level.PROBLEM, "not captured in a CUDA graph: operation not permitted")
    assert finding.remedy


@pytest.mark.parametrize(("at_4", "level"), [(4.0e12, Level.OK), (9.0e12, Level.PROBLEM)])
def test_the_cold_cache_is_held_against_the_pins_of_the_card(monkeypatch, at_4, level):
    """An H200's pins carry 4.8 TB/s or so."""
    reads = ColdReads(30 * 2**20, {2.0: at_4, 4.0: at_4, 8.0: at_4})
    monkeypatch.setattr(doctor, "read_cold", lambda *_: reads)
    assert doctor._cold_reads(make_environment()).level is level
