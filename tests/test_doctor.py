import dataclasses

import pytest

from bench import doctor
from bench.doctor import Level, examine
from bench.env import CudaStatus, GpuState
from tests.factories import make_environment
from tests.fakes import cpu_environment

STATE = GpuState(sm_hz=1.98e9, power_w=100.0, temperature_c=40.0, throttle=())


@pytest.fixture
def card(monkeypatch):
    """A machine with a healthy H200; tests change what is wrong with it."""

    def make(*, state=STATE, others=(), **changes):
        monkeypatch.setattr(doctor, "cuda_status", lambda: CudaStatus(True, None, True))
        monkeypatch.setattr(doctor, "environment", lambda *_, **__: make_environment(**changes))
        monkeypatch.setattr(doctor, "nvml_handle", lambda: None)
        monkeypatch.setattr(doctor, "read_state", lambda _: state)
        monkeypatch.setattr(doctor, "other_processes", lambda: others)
        monkeypatch.setattr(doctor, "_flush_works", lambda _: doctor.Finding(Level.OK, "L2 flush", "works"))

    return make


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
        ({"mig": True}, "MIG", Level.PROBLEM, "slice"),
        ({"gpu": None}, "table", Level.WARNING, "not in the table"),
        ({"triton": None}, "triton", Level.WARNING, "not installed"),
        ({"power_limit_w": 350.0}, "power limit", Level.WARNING, "350 W, this SKU's is 700 W"),
        ({"others": (1, 2)}, "other work", Level.WARNING, "process 1, 2"),
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
