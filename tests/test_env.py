"""What the machine is said to be. NVML and torch are stood in for; the real ones are asked in test_gpu.py."""

import dataclasses
import types
import warnings

import pytest
import torch

from bench import env
from bench.env import Attributes, CudaStatus, choose_device, cuda_status, environment, find_mismatches, identify
from predict.errors import BadRun, UnknownGpu
from predict.gpus import GPUS

H200 = GPUS["h200-sxm"]
DRIVER = Attributes(
    sm_count=132,
    memory_bytes=143771 * 2**20,
    l2_bytes=60 * 2**20,
    max_sm_hz=1.98e9,
    memory_bus_bits=H200.memory_bus_bits,
    memory_clock_hz=3.201e9,
)


def cuda_is(monkeypatch, *, usable, problem=None, driver_sees_gpu=False):
    monkeypatch.setattr(env, "cuda_status", lambda: CudaStatus(usable, problem, driver_sees_gpu))


def test_the_cpu_is_taken_where_there_is_no_gpu(monkeypatch):
    cuda_is(monkeypatch, usable=False, problem="no NVIDIA driver is loaded")
    assert choose_device(None) == "cpu"


def test_a_named_gpu_without_a_device_says_how_to_predict_for_it(monkeypatch):
    cuda_is(monkeypatch, usable=False, problem="no NVIDIA driver is loaded")
    with pytest.raises(
        BadRun, match=r"no CUDA device was found \(no NVIDIA driver.*python -m predict kernel .*--gpu h100"
    ):
        choose_device("h100")


def test_a_gpu_that_torch_cannot_use_is_not_silently_left_aside(monkeypatch):
    cuda_is(monkeypatch, usable=False, problem="the driver is too old (found version 11040)", driver_sees_gpu=True)
    with pytest.raises(BadRun, match="a GPU is here but torch cannot use it: the driver is too old"):
        choose_device(None)
    assert choose_device("cpu") == "cpu"


def test_the_gpu_is_taken_where_there_is_one_and_the_cpu_on_request(monkeypatch):
    cuda_is(monkeypatch, usable=True, driver_sees_gpu=True)
    assert [choose_device(None), choose_device("h100"), choose_device("CPU")] == ["cuda", "cuda", "cpu"]


def test_an_unknown_gpu_is_refused_before_anything_is_looked_at(monkeypatch):
    monkeypatch.setattr(env, "cuda_status", lambda: pytest.fail("looked"))
    with pytest.raises(UnknownGpu, match="h1000"):
        choose_device("h1000")


@pytest.mark.parametrize(
    ("version", "count", "warning", "expected"),
    [
        (None, None, None, "a build without CUDA"),
        ("13.0", None, None, "no NVIDIA driver is loaded"),
        (
            "13.0",
            1,
            "The NVIDIA driver on your system is too old (found version 11040).\nUpdate it",
            "found version 11040",
        ),
        ("13.0", 1, None, "CUDA_VISIBLE_DEVICES"),
    ],
)
def test_why_cuda_is_missing_is_told_in_one_line(monkeypatch, version, count, warning, expected):
    def is_available():
        if warning:
            warnings.warn(warning, stacklevel=1)
        return False

    monkeypatch.setattr(torch.version, "cuda", version)
    monkeypatch.setattr(torch.cuda, "is_available", is_available)
    monkeypatch.setattr(env, "_nvml_device_count", lambda: count)
    status = cuda_status()
    assert not status.usable
    assert expected in status.problem
    assert "\n" not in status.problem
    assert status.driver_sees_gpu == bool(count)


def test_the_card_is_found_by_its_exact_name():
    assert identify("NVIDIA H200", None, force=False) == (H200, False)
    assert identify("NVIDIA H200", "h200", force=False) == (H200, False)


def test_an_alias_takes_every_card_of_its_family():
    pcie = GPUS["h100-pcie"]
    assert identify(pcie.nvml_names[0], "h100", force=False) == (pcie, False)
    with pytest.raises(BadRun, match="--gpu h100-sxm was asked for, but this is NVIDIA H100 PCIe"):
        identify("NVIDIA H100 PCIe", "h100-sxm", force=False)


def test_another_card_than_named_says_what_was_found():
    with pytest.raises(BadRun, match=r"--gpu a100 .* this is NVIDIA H200 \(h200-sxm\); say --gpu h200-sxm, or --force"):
        identify("NVIDIA H200", "a100", force=False)


def test_force_judges_by_the_card_that_was_named_and_says_so():
    assert identify("NVIDIA H200", "a100", force=True) == (GPUS["a100-sxm-80gb"], True)


def test_a_card_that_the_table_lacks_runs_without_a_name_only():
    assert identify("NVIDIA X1", None, force=False) == (None, False)
    with pytest.raises(BadRun, match="which is not in the table; leave --gpu out"):
        identify("NVIDIA X1", "h100", force=False)


def test_a_card_as_in_the_table_has_no_mismatch():
    assert find_mismatches(H200, DRIVER) == ()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"sm_count": 16}, "16 SMs, the table has 132 (a MIG slice"),
        ({"memory_bytes": 80 * 2**30}, "80 GiB of memory"),
        ({"l2_bytes": 30 * 2**20}, "30 MiB of L2"),
        ({"max_sm_hz": 2.5e9}, "SM clock up to 2.50 GHz"),
        ({"memory_bus_bits": 5120}, "memory bus of 5120 bits"),
        ({"memory_clock_hz": 2.619e9}, "DRAM of 3.9"),
    ],
)
def test_each_contradiction_of_the_driver_is_named(change, expected):
    assert expected in "; ".join(find_mismatches(H200, dataclasses.replace(DRIVER, **change)))


def test_what_the_driver_does_not_tell_is_not_a_mismatch():
    silent = dataclasses.replace(DRIVER, max_sm_hz=None, memory_bus_bits=None, memory_clock_hz=None)
    assert find_mismatches(H200, silent) == ()


def test_this_cpu_is_described_without_inventing_a_gpu():
    here = environment("cpu", gpu=None, force=False, warm_cache=True)
    assert (here.device, here.gpu, here.driver, here.power_limit_w, here.warm_cache) == ("cpu", None, None, None, True)
    assert here.name
    assert here.memory_bytes > 2**28
    assert here.threads == torch.get_num_threads()


def test_cache_sizes_are_read_off_the_kernel(monkeypatch, tmp_path):
    for index, size in enumerate(("32K", "512K", "96M")):
        (tmp_path / f"index{index}").mkdir()
        (tmp_path / f"index{index}" / "size").write_text(size + "\n")
    monkeypatch.setattr(env, "Path", lambda _: tmp_path)
    assert env._cpu_last_level_cache_bytes() == 96 * 2**20
    monkeypatch.setattr(env, "Path", lambda _: tmp_path / "nothing")
    assert env._cpu_last_level_cache_bytes() is None


def test_git_outside_a_checkout_gives_none(monkeypatch):
    monkeypatch.setattr(env, "subprocess", types.SimpleNamespace(run=_raise_missing))
    assert env._git("rev-parse", "HEAD") is None


def _raise_missing(*_, **__):
    raise FileNotFoundError("git")


@pytest.fixture
def h200_box(monkeypatch):
    """The real pynvml and torch, answering as an H200 does; names that they lack would fail here."""
    properties = types.SimpleNamespace(
        major=9, minor=0, multi_processor_count=132, L2_cache_size=60 * 2**20, uuid="12345678-0000"
    )
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    not_supported = env.pynvml.NVMLError(env.pynvml.NVML_ERROR_NOT_SUPPORTED)

    def raises(*_):
        raise not_supported

    answers = {
        "nvmlInit": lambda: None,
        "nvmlDeviceGetHandleByUUID": lambda uuid: uuid,
        "nvmlDeviceGetName": lambda _: "NVIDIA H200",
        "nvmlDeviceGetMemoryInfo": lambda _: types.SimpleNamespace(total=143771 * 2**20),
        "nvmlSystemGetDriverVersion": lambda: "580.159.04",
        "nvmlDeviceGetEnforcedPowerLimit": lambda _: 700_000,
        "nvmlDeviceGetMaxClockInfo": lambda _, clock: 3201 if clock == env.pynvml.NVML_CLOCK_MEM else 1980,
        "nvmlDeviceGetEccMode": lambda _: [1, 1],
        "nvmlDeviceGetMigMode": raises,
        "nvmlDeviceGetMemoryBusWidth": lambda _: 6016,
        "nvmlDeviceGetCurrentClocksThrottleReasons": lambda _: env.pynvml.nvmlClocksThrottleReasonSwPowerCap,
        "nvmlDeviceGetClockInfo": lambda *_: 1755,
        "nvmlDeviceGetPowerUsage": lambda _: 650_000,
        "nvmlDeviceGetTemperature": lambda *_: 61,
        "nvmlDeviceGetComputeRunningProcesses": lambda _: [types.SimpleNamespace(pid=7)],
    }
    for name, answer in answers.items():
        monkeypatch.setattr(env.pynvml, name, answer)


def test_a_gpu_is_described_in_si_units_as_the_driver_tells(h200_box):
    here = environment("cuda", gpu="h200", force=False, warm_cache=False)
    assert (here.name, here.gpu, here.sm, here.sm_count) == ("NVIDIA H200", "h200-sxm", 90, 132)
    assert (here.memory_bytes, here.last_level_cache_bytes) == (143771 * 2**20, 60 * 2**20)
    assert (here.power_limit_w, here.max_sm_hz, here.driver) == (700.0, 1.98e9, "580.159.04")
    assert (here.ecc, here.mig) == (True, None)  # this card cannot be asked about MIG
    assert (here.mismatches, here.forced, here.threads) == ((), False, None)


def test_a_gpu_is_read_while_it_runs(h200_box):
    state = env.NvmlMonitor().read()
    assert state == env.GpuState(sm_hz=1.755e9, power_w=650.0, temperature_c=61.0, throttle=("sw_power_cap",))
    assert env.other_processes() == (7,)


def test_the_card_of_torch_is_found_by_uuid(h200_box):
    assert env.nvml_handle() == "GPU-12345678-0000"
