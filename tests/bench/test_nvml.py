"""One door to the driver: whatever is behind it, an answer has a type and a unit, or is None."""

import ctypes
import subprocess
import sys
import types
from pathlib import Path

import pynvml
import pytest

from bench import nvml
from tests.fake_driver import ANSWERS, declines, field_value, raises, stand_in

H = "handle"
ERRORS = (
    *(pynvml.NVMLError(code) for code in (pynvml.NVML_ERROR_NOT_SUPPORTED, pynvml.NVML_ERROR_GPU_IS_LOST, 12345)),
    OSError("libnvidia-ml.so.1: cannot open shared object file"),
    AttributeError("module 'pynvml' has no attribute"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    ctypes.ArgumentError("argument 1: wrong type"),
    TypeError("bytes or integer address expected instead of str instance"),
)
QUESTIONS = {
    "device_count": (nvml.device_count, (), "nvmlDeviceGetCount"),
    "driver_version": (nvml.driver_version, (), "nvmlSystemGetDriverVersion"),
    "is_slice": (nvml.is_slice, (H,), "nvmlDeviceIsMigDeviceHandle"),
    "name": (nvml.name, (H,), "nvmlDeviceGetName"),
    "memory_bytes": (nvml.memory_bytes, (H,), "nvmlDeviceGetMemoryInfo"),
    "memory_bus_bits": (nvml.memory_bus_bits, (H,), "nvmlDeviceGetMemoryBusWidth"),
    "max_sm_hz": (nvml.max_sm_hz, (H,), "nvmlDeviceGetMaxClockInfo"),
    "max_memory_hz": (nvml.max_memory_hz, (H,), "nvmlDeviceGetMaxClockInfo"),
    "sm_hz": (nvml.sm_hz, (H,), "nvmlDeviceGetClockInfo"),
    "power_limit_w": (nvml.power_limit_w, (H,), "nvmlDeviceGetEnforcedPowerLimit"),
    "temperature_c": (nvml.temperature_c, (H,), "nvmlDeviceGetTemperature"),
    "ecc": (nvml.ecc, (H,), "nvmlDeviceGetEccMode"),
    "compute_processes": (nvml.compute_processes, (H,), "nvmlDeviceGetComputeRunningProcesses"),
    "used_bytes": (nvml.used_bytes, (H,), "nvmlDeviceGetMemoryInfo"),
    "default_power_limit_w": (nvml.default_power_limit_w, (H,), "nvmlDeviceGetPowerManagementDefaultLimit"),
    "application_sm_hz": (nvml.application_sm_hz, (H,), "nvmlDeviceGetApplicationsClock"),
    "default_application_sm_hz": (nvml.default_application_sm_hz, (H,), "nvmlDeviceGetDefaultApplicationsClock"),
    "slowdown_c": (nvml.slowdown_c, (H,), "nvmlDeviceGetTemperatureThreshold"),
    "persistence": (nvml.persistence, (H,), "nvmlDeviceGetPersistenceMode"),
}
NUMBERS = [
    name
    for name in QUESTIONS
    if name not in {"driver_version", "name", "memory_bytes", "used_bytes", "compute_processes"}
]


def test_answers_come_in_si_units(monkeypatch):
    stand_in(monkeypatch)
    told = {name: ask(*arguments) for name, (ask, arguments, _) in QUESTIONS.items()}
    assert told == {
        "device_count": 1,
        "driver_version": "580.159.04",
        "is_slice": False,  # though the binding answers with a C integer, which is true whatever it holds
        "name": "NVIDIA H200",
        "memory_bytes": 143771 * 2**20,
        "memory_bus_bits": 6016,
        "max_sm_hz": 1.98e9,
        "max_memory_hz": 3.201e9,
        "sm_hz": 1.755e9,
        "power_limit_w": 700.0,
        "temperature_c": 61.0,
        "ecc": True,
        "compute_processes": (nvml.Process(7, 3 * 2**30),),
        "used_bytes": 2**30,
        "default_power_limit_w": 700.0,
        "application_sm_hz": 1.98e9,
        "default_application_sm_hz": 1.98e9,
        "slowdown_c": 90.0,
        "persistence": True,
    }


@pytest.mark.parametrize("error", ERRORS, ids=repr)
@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_that_fails_has_no_answer(monkeypatch, question, error):
    ask, arguments, function = QUESTIONS[question]
    stand_in(monkeypatch, {function: raises(error)})
    assert ask(*arguments) is None


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_function_that_the_binding_lacks_has_no_answer(monkeypatch, question):
    ask, arguments, function = QUESTIONS[question]
    stand_in(monkeypatch)
    monkeypatch.delattr(pynvml, function)
    assert ask(*arguments) is None


@pytest.mark.parametrize("answer", [None, [], {}, object(), "12", -1, 2**32 - 1, 2**64 - 1, float("nan"), float("inf")])
@pytest.mark.parametrize("question", NUMBERS)
def test_nonsense_is_no_number(monkeypatch, question, answer):
    ask, arguments, function = QUESTIONS[question]
    stand_in(monkeypatch, {function: lambda *_: answer})
    assert ask(*arguments) is None


@pytest.mark.parametrize("question", ["max_sm_hz", "sm_hz", "power_limit_w", "temperature_c", "memory_bus_bits"])
def test_zero_is_not_available(monkeypatch, question):
    ask, arguments, function = QUESTIONS[question]
    stand_in(monkeypatch, {function: lambda *_: 0})
    assert ask(*arguments) is None


@pytest.mark.parametrize("total", [0, None, -1, 2**64 - 1, "80 GiB"])
def test_a_memory_of_nothing_is_unknown(monkeypatch, total):
    stand_in(monkeypatch, {"nvmlDeviceGetMemoryInfo": lambda _: types.SimpleNamespace(total=total)})
    assert nvml.memory_bytes(H) is None


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"NVIDIA H200", "NVIDIA H200"),
        (b"NVIDIA H200\0\0", "NVIDIA H200"),
        ("NVIDIA H200 ", "NVIDIA H200"),
        (b"\xffH200", "\ufffdH200"),
        ("", None),
        (b"\0", None),
        (None, None),
        (200, None),
    ],
)
def test_names_may_be_bytes(monkeypatch, answer, expected):
    stand_in(monkeypatch, {"nvmlDeviceGetName": lambda _: answer})
    assert nvml.name(H) == expected


def test_power_is_the_instant_one_where_it_is_told(monkeypatch):
    stand_in(monkeypatch)
    assert nvml.power_w(H) == 640.0


@pytest.mark.parametrize("value_type", range(6))
def test_a_field_is_read_by_the_type_that_it_names(monkeypatch, value_type):
    number = 640_000.0 if value_type == pynvml.NVML_VALUE_TYPE_DOUBLE else 640_000
    value = field_value(number, value_type=value_type)
    stand_in(monkeypatch, {"nvmlDeviceGetFieldValues": lambda *_: [value]})
    assert nvml.power_w(H) == 640.0


@pytest.mark.parametrize(
    "fields",
    [
        declines(),
        raises(AttributeError("nvmlDeviceGetFieldValues")),
        lambda *_: None,
        lambda *_: [],
        lambda *_: [field_value(640_000, code=pynvml.NVML_ERROR_NOT_SUPPORTED)],
        lambda *_: [types.SimpleNamespace(nvmlReturn=0, valueType=99, value=None)],
        lambda *_: [field_value(0)],
        lambda *_: [field_value(2**32 - 1)],
    ],
)
def test_power_is_an_average_where_the_instant_one_is_not_told(monkeypatch, fields):
    stand_in(monkeypatch, {"nvmlDeviceGetFieldValues": fields})
    assert nvml.power_w(H) == 650.0
    monkeypatch.setattr(pynvml, "nvmlDeviceGetPowerUsage", declines())
    assert nvml.power_w(H) is None


@pytest.mark.parametrize(
    ("reasons", "expected"),
    [
        (0, ()),
        (pynvml.nvmlClocksEventReasonGpuIdle, ()),
        (pynvml.nvmlClocksEventReasonSwPowerCap, ("sw_power_cap",)),
        (pynvml.nvmlClocksEventReasonHwSlowdown, ("hw_slowdown",)),
        (pynvml.nvmlClocksEventReasonSwThermalSlowdown, ("sw_thermal",)),
        (pynvml.nvmlClocksEventReasonHwThermalSlowdown, ("hw_thermal",)),
        (pynvml.nvmlClocksEventReasonHwPowerBrakeSlowdown, ("hw_power_brake",)),
        (2**64 - 1, None),
        (None, None),
    ],
)
@pytest.mark.parametrize("missing", ["Throttle", "Event"])
def test_reasons_are_read_by_either_of_their_names(monkeypatch, missing, reasons, expected):
    functions = {name: f"nvmlDeviceGetCurrentClocks{name}Reasons" for name in ("Throttle", "Event")}
    there = functions["Event" if missing == "Throttle" else "Throttle"]
    stand_in(monkeypatch, {functions[missing]: declines(), there: lambda _: reasons})
    assert nvml.throttle(H) == expected


@pytest.mark.parametrize(
    ("processes", "expected"),
    [
        ([], ()),
        ([3141592], (3141592,)),
        ([types.SimpleNamespace(pid=7), types.SimpleNamespace(pid=None), types.SimpleNamespace(pid=2**32 - 1)], (7,)),
        (None, None),
        (5, None),
    ],
)
def test_processes_are_numbers_that_a_process_can_have(monkeypatch, processes, expected):
    stand_in(monkeypatch, {"nvmlDeviceGetComputeRunningProcesses": lambda _: processes})
    found = nvml.compute_processes(H)
    assert (found and tuple(process.pid for process in found)) == expected


def test_no_question_is_asked_about_a_card_that_was_not_found(monkeypatch):
    stand_in(monkeypatch, dict.fromkeys(ANSWERS, lambda *_: pytest.fail("asked")))
    asked = [ask for ask, arguments, _ in QUESTIONS.values() if arguments]
    assert {ask(None) for ask in (*asked, nvml.power_w, nvml.throttle, nvml.mig, nvml.card_of)} == {None}


def test_a_binding_that_takes_bytes_alone_finds_the_card(monkeypatch):
    def find(uuid):
        return ctypes.c_char_p(uuid).value  # raises TypeError for str

    stand_in(monkeypatch, {"nvmlDeviceGetHandleByUUID": find, "nvmlDeviceGetHandleByPciBusId": find})
    assert nvml.handle_by_uuid("GPU-1") == b"GPU-1"
    assert nvml.handle_by_bus_id("0:1") == b"0:1"


def test_the_parent_of_a_slice_is_its_card(monkeypatch):
    slice_of = {
        "nvmlDeviceIsMigDeviceHandle": lambda _: pynvml.c_uint(1),
        "nvmlDeviceGetDeviceHandleFromMigDeviceHandle": lambda _: "parent",
    }
    stand_in(monkeypatch, slice_of)
    assert (nvml.is_slice(H), nvml.card_of(H)) == (True, "parent")
    stand_in(monkeypatch, {**slice_of, "nvmlDeviceGetDeviceHandleFromMigDeviceHandle": declines()})
    assert nvml.card_of(H) == H


def test_why_nvml_cannot_be_asked_is_one_line(monkeypatch):
    stand_in(monkeypatch)
    assert nvml.start() is None
    stand_in(monkeypatch, {"nvmlInit": declines(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)})
    assert nvml.start() == "NVML Shared Library Not Found"
    stand_in(monkeypatch, {"nvmlInit": raises(OSError("no file\nsecond line"))})
    assert nvml.start() == "no file second line"
    monkeypatch.setattr(nvml, "pynvml", None)
    assert "nvidia-ml-py cannot be imported" in nvml.start()
    assert nvml.device_count() is None


@pytest.mark.parametrize("binding", ["raise ImportError('no')", "nothing = 1"])
def test_a_binding_that_is_missing_or_empty_stops_nothing(tmp_path, binding):
    (tmp_path / "pynvml.py").write_text(binding)
    code = (
        "from bench import env, nvml; assert nvml.start(); env.cuda_status();"
        "assert env.read_state('GPU') == env.GpuState(None, None, None, None)"
    )
    root = Path(__file__).resolve().parents[2]
    environment = {"PYTHONPATH": f"{tmp_path}:{root}", "PATH": "/usr/bin:/bin"}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
