"""A driver and a torch that answer as an H200's do, through the real pynvml, whose missing names would fail here."""

import types

import pynvml
import torch

from bench import nvml

UUID = "12345678-0000"


def declines(code=pynvml.NVML_ERROR_NOT_SUPPORTED):
    """A question that the driver refuses."""
    return raises(pynvml.NVMLError(code))


def raises(error):
    def ask(*_):
        raise error

    return ask


def field_value(milliwatts, *, value_type=pynvml.NVML_VALUE_TYPE_UNSIGNED_INT, code=pynvml.NVML_SUCCESS):
    """What a driver writes about a field: here only the type that it names holds the number."""
    value = pynvml.c_nvmlFieldValue_t()
    value.valueType, value.nvmlReturn = value_type, code
    names = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")
    setattr(value.value, names[value_type], milliwatts)
    return value


def known_uuid(*known):
    """Finds devices by these UUIDs alone; the handle is the UUID."""

    def find(uuid):
        if uuid not in known:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return uuid

    return find


ANSWERS = {
    "nvmlInit": lambda: None,
    "nvmlDeviceGetCount": lambda: 1,
    "nvmlDeviceGetHandleByIndex": lambda index: f"GPU number {index}",
    "nvmlDeviceGetHandleByUUID": known_uuid(f"GPU-{UUID}"),
    "nvmlDeviceGetHandleByPciBusId": declines(pynvml.NVML_ERROR_NOT_FOUND),
    "nvmlDeviceIsMigDeviceHandle": lambda _: pynvml.c_uint(0),
    "nvmlDeviceGetDeviceHandleFromMigDeviceHandle": declines(),
    "nvmlDeviceGetName": lambda _: "NVIDIA H200",
    "nvmlDeviceGetMemoryInfo": lambda _: types.SimpleNamespace(total=143771 * 2**20, used=2**30),
    "nvmlSystemGetDriverVersion": lambda: "580.159.04",
    "nvmlDeviceGetEnforcedPowerLimit": lambda _: 700_000,
    "nvmlDeviceGetMaxClockInfo": lambda _, clock: 3201 if clock == pynvml.NVML_CLOCK_MEM else 1980,
    "nvmlDeviceGetEccMode": lambda _: [1, 1],
    "nvmlDeviceGetMigMode": declines(),
    "nvmlDeviceGetMemoryBusWidth": lambda _: 6016,
    "nvmlDeviceGetCurrentClocksThrottleReasons": lambda _: pynvml.nvmlClocksThrottleReasonSwPowerCap,
    "nvmlDeviceGetCurrentClocksEventReasons": lambda _: pynvml.nvmlClocksEventReasonSwPowerCap,
    "nvmlDeviceGetClockInfo": lambda _, clock: {pynvml.NVML_CLOCK_SM: 1755}[clock],
    "nvmlDeviceGetFieldValues": lambda _, fields: [
        field_value({pynvml.NVML_FI_DEV_POWER_INSTANT: 640_000}[field]) for field in fields
    ],
    "nvmlDeviceGetPowerUsage": lambda _: 650_000,
    "nvmlDeviceGetTemperature": lambda _, sensor: {pynvml.NVML_TEMPERATURE_GPU: 61}[sensor],
    "nvmlDeviceGetComputeRunningProcesses": lambda _: [types.SimpleNamespace(pid=7, usedGpuMemory=3 * 2**30)],
    "nvmlDeviceGetPowerManagementDefaultLimit": lambda _: 700_000,
    "nvmlDeviceGetApplicationsClock": lambda _, clock: {pynvml.NVML_CLOCK_SM: 1980}[clock],
    "nvmlDeviceGetDefaultApplicationsClock": lambda _, clock: {pynvml.NVML_CLOCK_SM: 1980}[clock],
    "nvmlDeviceGetTemperatureThreshold": lambda _, which: {pynvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN: 90}[which],
    "nvmlDeviceGetPersistenceMode": lambda _: 1,
}
PROPERTIES = {
    "name": "NVIDIA H200",
    "major": 9,
    "minor": 0,
    "multi_processor_count": 132,
    "L2_cache_size": 60 * 2**20,
    "total_memory": 143_000 * 2**20,
    "uuid": UUID,
    "is_integrated": 0,
}


def stand_in(monkeypatch, answers=None, properties=None):
    """Let NVML and torch answer as an H200 does, but for what is given; a property of None is missing."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for name, answer in {**ANSWERS, **(answers or {})}.items():
        monkeypatch.setattr(nvml.pynvml, name, answer)
    told = {name: value for name, value in {**PROPERTIES, **(properties or {})}.items() if value is not None}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: types.SimpleNamespace(**told))
