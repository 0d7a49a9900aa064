"""What the machine is said to be. NVML and torch are stood in for; the real ones are asked in test_gpu.py."""

import dataclasses
import json
import subprocess
import types
import warnings

import pynvml
import pytest
import torch

from bench import disturbance, doctor, env, host, nvml
from bench.device import nvml_handle
from bench.env import (
    Attributes,
    CudaStatus,
    GpuState,
    choose_device,
    cuda_status,
    environment,
    find_mismatches,
    identify,
    identify_slice,
)
from bench.finding import Finding, Level
from bench.record import decode, encode
from predict.errors import BadRun, UnknownGpu
from predict.gpus import GPUS
from predict.version import version
from tests.fake_driver import ANSWERS, UUID, declines, known_uuid, raises, stand_in

H200 = GPUS["h200-sxm"]
DRIVER = Attributes(
    sm_count=132,
    memory_bytes=143771 * 2**20,
    l2_bytes=60 * 2**20,
    max_sm_hz=1.98e9,
    memory_bus_bits=H200.memory.bus_bits,
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
    monkeypatch.setattr(nvml, "start", lambda: None)
    monkeypatch.setattr(nvml, "device_count", lambda: count)
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
    with pytest.raises(
        BadRun, match=r"--gpu a100 .* this is NVIDIA H200 \(h200-sxm\); give --gpu h200-sxm, or --force"
    ):
        identify("NVIDIA H200", "a100", force=False)


def test_force_judges_by_the_card_that_was_named_and_says_so():
    assert identify("NVIDIA H200", "a100", force=True) == (GPUS["a100-sxm-80gb"], True)


@pytest.mark.parametrize("name", ["mi300x", "tpu-v5e"])
def test_a_machine_that_only_the_napkin_knows_cannot_be_measured(name):
    with pytest.raises(BadRun, match=f"^{name} is a napkin-only machine, which bench cannot measure; predict for it "):
        choose_device(name)
    with pytest.raises(BadRun, match="napkin-only"):
        identify("NVIDIA H200", name, force=True)


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
    silent = Attributes(None, None, None, None, None, None)
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


def _raise_missing(*_, **__):
    raise FileNotFoundError("git")


def _raise_slow(*_, **__):
    raise subprocess.TimeoutExpired("git", env.GIT_LIMIT_S)


def _refuse(*_, **__):
    return types.SimpleNamespace(returncode=128, stdout="", stderr="fatal: detected dubious ownership in repository")


def _refuse_status(arguments, **_):
    if "status" in arguments:
        return _refuse()
    return types.SimpleNamespace(returncode=0, stdout="0123abc\n", stderr="")


@pytest.mark.parametrize(
    ("run", "commit"), [(_raise_missing, None), (_raise_slow, None), (_refuse, None), (_refuse_status, "0123abc")]
)
def test_a_git_that_fails_does_not_call_the_checkout_clean(monkeypatch, run, commit):
    monkeypatch.setattr(env.subprocess, "run", run)
    here = environment("cpu", gpu=None, force=False, warm_cache=False)
    assert (here.commit, here.dirty) == (commit, None)
    assert here.packages.get("napkin-bench") == (None if commit else version())  # then this says what was measured


@pytest.mark.parametrize(("status", "dirty"), [("", False), (" M bench/env.py\n", True)])
def test_a_checkout_with_changes_is_dirty(monkeypatch, status, dirty):
    def run(arguments, **_):
        return types.SimpleNamespace(returncode=0, stdout=status if "status" in arguments else "0123abc\n")

    monkeypatch.setattr(env.subprocess, "run", run)
    assert environment("cpu", gpu=None, force=False, warm_cache=False).dirty is dirty


def test_a_copy_within_another_checkout_is_not_that_checkout(monkeypatch, tmp_path):
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    copy = tmp_path / "copy" / "bench" / "env.py"
    copy.parent.mkdir(parents=True)
    copy.touch()
    monkeypatch.setattr(env, "__file__", str(copy))
    assert env._git("status", "--porcelain") is None
    monkeypatch.setattr(env, "__file__", str(tmp_path / "bench" / "env.py"))
    assert env._git("status", "--porcelain") == "?? copy/"


def test_a_limit_of_the_container_is_the_memory_of_the_machine(monkeypatch):
    monkeypatch.setattr(host, "memory_bytes", lambda: 1_500_000_000)
    monkeypatch.setattr(host, "cpus", lambda: 0.5)
    here = environment("cpu", gpu=None, force=False, warm_cache=False)
    assert (here.memory_bytes, here.cpus) == (1_500_000_000, 0.5)


@pytest.mark.parametrize(("cpus", "threads", "expected"), [(0.5, 2, 1), (1.5, 4, 2), (2.0, 2, None), (8.0, 2, None)])
def test_no_more_threads_run_than_there_are_cpus(monkeypatch, cpus, threads, expected):
    set_to = []
    monkeypatch.setattr(host, "cpus", lambda: cpus)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(torch, "set_num_threads", set_to.append)
    env.limit_threads()
    assert set_to == ([] if expected is None else [expected])


@pytest.fixture
def h200_box(monkeypatch):
    """The real pynvml and torch, answering as an H200 does; names that they lack would fail here."""
    stand_in(monkeypatch)


def described(gpu=None, *, force=False):
    return environment("cuda", gpu=gpu, force=force, warm_cache=False)


def test_a_gpu_is_described_in_si_units_as_the_driver_tells(h200_box):
    here = described("h200")
    assert (here.name, here.gpu, here.sm, here.sm_count) == ("NVIDIA H200", "h200-sxm", 90, 132)
    assert (here.memory_bytes, here.last_level_cache_bytes) == (143771 * 2**20, 60 * 2**20)
    assert (here.power_limit_w, here.max_sm_hz, here.driver) == (700.0, 1.98e9, "580.159.04")
    assert (here.ecc, here.mig) == (True, None)  # this card cannot be asked about MIG
    assert (here.mismatches, here.forced, here.threads, here.unknown) == ((), False, None, ())


def test_a_gpu_is_read_while_it_runs(h200_box):
    state = env.read_state(nvml_handle())
    assert state == GpuState(sm_hz=1.755e9, power_w=640.0, temperature_c=61.0, throttle=("sw_power_cap",))


def test_what_is_unknown_is_in_the_record(monkeypatch):
    stand_in(monkeypatch, {"nvmlDeviceGetTemperature": declines()})
    here = described()
    assert here.unknown == ("temperature",)
    assert decode(env.Environment, json.loads(json.dumps(encode(here)))) == here


# Every question that may be asked, one at a time and all together, and every way in which it may fail.

FAILURES = [
    pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED),
    pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST),
    pynvml.NVMLError(pynvml.NVML_ERROR_UNINITIALIZED),
    pynvml.NVMLError(pynvml.NVML_ERROR_UNKNOWN),
    OSError("libnvidia-ml.so.1: cannot open shared object file"),
    AttributeError("module 'pynvml' has no attribute"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
]


def everything_still_works(monkeypatch):
    monkeypatch.setattr(disturbance, "_busy_cpus", lambda _: (0.0, []))
    monkeypatch.setattr(doctor, "_cold_reads", lambda _: Finding(Level.OK, "L2 flush", "not run"))
    monkeypatch.setattr(env, "_git", lambda *_: None)
    assert cuda_status() == CudaStatus(True, None, True)
    here = described("h200")
    assert (here.name, here.gpu, here.sm_count) == ("NVIDIA H200", "h200-sxm", 132)
    assert isinstance(env.read_state(nvml_handle()), GpuState)
    assert isinstance(env.read_state(nvml_handle()), GpuState)
    findings = doctor.examine("h200")
    assert {finding.subject for finding in findings} >= {"card", "table", "versions"}
    assert all(finding.remedy for finding in findings if finding.level is not doctor.Level.OK)
    assert [finding for finding in findings if finding.level is doctor.Level.PROBLEM] == []
    told = [finding.text for finding in findings if "does not report" in finding.text]
    assert len(told) == bool(here.unknown)


@pytest.mark.parametrize("error", [FAILURES[0], *FAILURES[-3:]], ids=repr)
@pytest.mark.parametrize("function", ANSWERS)
def test_no_single_question_stops_a_run(monkeypatch, function, error):
    stand_in(monkeypatch, {function: raises(error)})
    everything_still_works(monkeypatch)


@pytest.mark.parametrize("answer", [None, b"bytes", [], 0, 2**32 - 1, "text", float("nan")], ids=repr)
@pytest.mark.parametrize("function", [name for name in ANSWERS if name != "nvmlDeviceGetName"])
def test_no_single_answer_stops_a_run(monkeypatch, function, answer):
    stand_in(monkeypatch, {function: lambda *_: answer})
    everything_still_works(monkeypatch)


@pytest.mark.parametrize("error", FAILURES, ids=repr)
def test_a_driver_that_tells_nothing_stops_no_run(monkeypatch, error):
    stand_in(monkeypatch, dict.fromkeys(ANSWERS, raises(error)))
    everything_still_works(monkeypatch)
    here = described()
    assert here.memory_bytes == 143_000 * 2**20  # as torch counts it
    assert (here.driver, here.power_limit_w, here.max_sm_hz, here.ecc, here.mig) == (None,) * 5
    assert env.read_state(nvml_handle()) == GpuState(None, None, None, None)
    assert here.unknown == (
        "driver version", "SM clock", "power", "temperature", "throttle reasons", "highest SM clock", "power limit",
        "memory bus", "memory clock", "other processes",
    )  # fmt: skip


def test_a_missing_binding_stops_no_run(monkeypatch):
    stand_in(monkeypatch)
    monkeypatch.setattr(nvml, "pynvml", None)
    everything_still_works(monkeypatch)


def test_a_card_that_is_lost_while_it_is_read_is_unknown_from_then_on(monkeypatch):
    stand_in(monkeypatch)
    handle = nvml_handle()
    stand_in(monkeypatch, dict.fromkeys(ANSWERS, declines(pynvml.NVML_ERROR_GPU_IS_LOST)))
    assert env.read_state(handle) == GpuState(None, None, None, None)


@pytest.mark.parametrize(
    ("missing", "field"),
    [
        ("uuid", None),
        ("L2_cache_size", "last_level_cache_bytes"),
        ("multi_processor_count", "sm_count"),
        ("major", "sm"),
        ("minor", "sm"),
        ("name", None),
        ("total_memory", None),
        ("is_integrated", None),
    ],
)
def test_properties_that_torch_lacks_are_unknown(monkeypatch, missing, field):
    stand_in(monkeypatch, properties={missing: None})
    here = described("h200")
    assert (here.name, here.gpu) == ("NVIDIA H200", "h200-sxm")
    assert field is None or getattr(here, field) is None


def test_a_cache_of_nothing_is_unknown(monkeypatch):
    stand_in(monkeypatch, properties={"L2_cache_size": 0})
    assert described().last_level_cache_bytes is None
    assert described().unknown == ("size of L2",)


def test_unified_memory_is_counted_by_torch(monkeypatch):
    stand_in(
        monkeypatch,
        {
            "nvmlDeviceGetMemoryInfo": declines(),
            "nvmlDeviceGetMemoryBusWidth": declines(),
            "nvmlDeviceGetEnforcedPowerLimit": declines(),
            "nvmlDeviceGetName": lambda _: "NVIDIA GB10",
        },
        properties={"name": "NVIDIA GB10", "total_memory": 119 * 2**30, "is_integrated": 1},
    )
    here = described()
    assert (here.name, here.gpu, here.memory_bytes, here.power_limit_w) == ("NVIDIA GB10", None, 119 * 2**30, None)
    assert here.unknown == ("power limit", "memory bus")


def test_a_memory_that_nobody_counts_is_unknown(monkeypatch):
    stand_in(monkeypatch, {"nvmlDeviceGetMemoryInfo": declines()}, properties={"total_memory": None})
    assert (described().memory_bytes, described().mismatches) == (None, ())
    assert described().unknown == ("memory",)


def test_an_old_binding_answers_in_bytes(monkeypatch):
    stand_in(
        monkeypatch,
        {"nvmlDeviceGetName": lambda _: b"NVIDIA H200", "nvmlSystemGetDriverVersion": lambda: b"470.57.02"},
    )
    assert (described().name, described().gpu, described().driver) == ("NVIDIA H200", "h200-sxm", "470.57.02")


# Which of NVML's devices is torch's


def handle(monkeypatch, answers, **properties):
    stand_in(monkeypatch, answers, properties)
    return nvml_handle()


def test_the_card_of_torch_is_found_by_uuid(monkeypatch):
    assert handle(monkeypatch, {}) == f"GPU-{UUID}"
    assert handle(monkeypatch, {}, uuid=f"GPU-{UUID}") == f"GPU-{UUID}"


def test_the_card_of_torch_is_found_by_its_place(monkeypatch):
    place = {"pci_domain_id": 1, "pci_bus_id": 0x3B, "pci_device_id": 0}
    by_place = {"nvmlDeviceGetHandleByUUID": declines(), "nvmlDeviceGetHandleByPciBusId": lambda bus_id: bus_id}
    assert handle(monkeypatch, by_place, **place) == "00000001:3b:00.0"
    assert handle(monkeypatch, by_place, uuid=None, **place) == "00000001:3b:00.0"


def test_a_machine_of_one_gpu_needs_no_name(monkeypatch):
    unnamed = {"nvmlDeviceGetHandleByUUID": declines()}
    assert handle(monkeypatch, unnamed) == "GPU number 0"
    assert handle(monkeypatch, {**unnamed, "nvmlDeviceGetName": declines()}) == "GPU number 0"
    # Of two, or of one by another name, it is not sure which is torch's.
    assert handle(monkeypatch, {**unnamed, "nvmlDeviceGetCount": lambda: 2}) is None
    assert handle(monkeypatch, {**unnamed, "nvmlDeviceGetName": lambda _: "NVIDIA A10"}) is None


def test_the_first_visible_device_is_the_one_of_torch(monkeypatch):
    stand_in(monkeypatch, {"nvmlDeviceGetHandleByUUID": known_uuid("GPU-77", "MIG-88")}, {"uuid": None})
    for visible in ("GPU-77", "MIG-88"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", f"{visible},GPU-99")
        assert nvml_handle() == visible


# Slices

CARD = "NVIDIA H100 80GB HBM3"
SLICE = f"{CARD} MIG 1g.10gb"
# What a driver says of a slice's handle; of its card it says everything.
OF_SLICE = {
    "nvmlDeviceGetHandleByUUID": known_uuid(f"MIG-{UUID}"),
    "nvmlDeviceIsMigDeviceHandle": lambda handle: pynvml.c_uint(handle == f"MIG-{UUID}"),
    "nvmlDeviceGetDeviceHandleFromMigDeviceHandle": lambda _: "card",
    "nvmlDeviceGetName": lambda handle: CARD if handle == "card" else SLICE,
    "nvmlDeviceGetMemoryInfo": lambda handle: types.SimpleNamespace(total=2**30 * (80 if handle == "card" else 10)),
    **{
        name: lambda handle, *arguments, name=name: ANSWERS[name](handle, *arguments) if handle == "card" else refused()
        for name in (
            "nvmlDeviceGetClockInfo", "nvmlDeviceGetMaxClockInfo", "nvmlDeviceGetTemperature",
            "nvmlDeviceGetPowerUsage", "nvmlDeviceGetFieldValues", "nvmlDeviceGetEnforcedPowerLimit",
            "nvmlDeviceGetCurrentClocksThrottleReasons", "nvmlDeviceGetCurrentClocksEventReasons",
        )
    },
}  # fmt: skip
OF_SLICE_TO_TORCH = {"name": SLICE, "multi_processor_count": 16, "total_memory": 10 * 2**30, "L2_cache_size": 2**22}


def refused():
    raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)


@pytest.mark.parametrize(
    "answers",
    [
        {},
        {"nvmlDeviceIsMigDeviceHandle": declines()},  # the prefix says it
        {"nvmlDeviceGetHandleByUUID": known_uuid(f"GPU-{UUID}"), "nvmlDeviceGetMigMode": lambda _: [1, 1]},
        {"nvmlDeviceGetHandleByUUID": declines(), "nvmlDeviceGetCount": declines()},  # torch's name says it
        {"nvmlInit": declines(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND), **dict.fromkeys(ANSWERS, declines())},
    ],
)
@pytest.mark.parametrize("gpu", [None, "h100"])
def test_a_slice_is_named_and_flagged_and_not_judged_by_the_whole_card(monkeypatch, answers, gpu):
    stand_in(monkeypatch, {**OF_SLICE, **answers}, OF_SLICE_TO_TORCH)
    here = described(gpu)
    assert (here.name, here.mig, here.gpu, here.forced) == (SLICE, True, None, False)
    assert (here.memory_bytes, here.sm_count, here.power_limit_w) == (10 * 2**30, 16, None)
    assert here.mismatches == (f"this is a MIG slice of {CARD}; the table is of whole cards",)


def test_a_slice_whose_name_is_its_cards_is_found_by_its_prefix(monkeypatch):
    stand_in(monkeypatch, {"nvmlDeviceGetHandleByUUID": known_uuid(f"MIG-{UUID}")})
    here = described()
    assert (here.name, here.mig, here.gpu) == ("NVIDIA H200", True, None)


def test_a_slice_has_the_clock_of_its_card_and_no_power(monkeypatch):
    stand_in(monkeypatch, OF_SLICE, OF_SLICE_TO_TORCH)
    state = env.read_state(nvml_handle())
    assert state == GpuState(sm_hz=1.755e9, power_w=None, temperature_c=61.0, throttle=("sw_power_cap",))
    # Found as a card that is cut up: its power is not the slice's either.
    whole = {"nvmlDeviceGetMigMode": lambda _: [1, 1]}
    stand_in(monkeypatch, whole)
    assert env.read_state(nvml_handle()).power_w is None


def test_a_slice_is_another_machine_than_another_card(monkeypatch):
    stand_in(monkeypatch, OF_SLICE, OF_SLICE_TO_TORCH)
    with pytest.raises(BadRun, match=f"--gpu a100 was asked for, but this is {CARD}"):
        described("a100")


def test_a_slice_is_judged_by_the_whole_card_by_force_only(monkeypatch):
    assert identify_slice(CARD, None, force=True) == (None, False)
    assert identify_slice(CARD, "h100", force=False) == (None, False)
    assert identify_slice(CARD, "h100", force=True) == (GPUS["h100-sxm"], True)
    stand_in(monkeypatch, OF_SLICE, OF_SLICE_TO_TORCH)
    here = described("h100", force=True)
    assert (here.gpu, here.forced) == ("h100-sxm", True)
    assert here.mismatches[0].startswith("this is a MIG slice")
    assert here.mismatches[1].startswith("16 SMs, the table has 132")


# cuda_status keeps its word


@pytest.mark.parametrize("error", [*FAILURES, RuntimeError("CUDA unknown error\nsecond line"), AssertionError("")])
@pytest.mark.parametrize("function", ["is_available", "get_device_properties"])
def test_a_torch_that_raises_gives_one_line(monkeypatch, function, error):
    stand_in(monkeypatch)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, function, raises(error))
    status = cuda_status()
    assert (status.usable, status.driver_sees_gpu) == (False, True)
    assert status.problem
    assert "\n" not in status.problem
    with pytest.raises(BadRun, match="a GPU is here but torch cannot use it") as caught:
        choose_device(None)
    assert "\n" not in str(caught.value)
    assert nvml_handle() is None or function == "is_available"


def test_a_card_that_breaks_afterwards_is_one_line_too(monkeypatch):
    stand_in(monkeypatch)
    monkeypatch.setattr(torch.cuda, "get_device_properties", raises(RuntimeError("CUDA unknown error\nsecond line")))
    with pytest.raises(BadRun, match=r"^torch cannot use the GPU: CUDA unknown error; fix that, or give --gpu cpu$"):
        described()


@pytest.mark.parametrize("error", FAILURES, ids=repr)
def test_a_driver_that_cannot_count_its_gpus_is_no_error(monkeypatch, error):
    stand_in(monkeypatch, {"nvmlDeviceGetCount": raises(error)})
    assert cuda_status().usable
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert (cuda_status().usable, cuda_status().driver_sees_gpu) == (False, False)
