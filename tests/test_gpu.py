"""What only a GPU can show. `pytest -m gpu` runs these; where there is none they are skipped and counted."""

import subprocess
import sys
from pathlib import Path
from statistics import median

import pytest
import torch

from bench import nvml
from bench.cases import IMPLEMENTATIONS, Maker, compiles, implementation_names
from bench.cold_cache import read_cold
from bench.device import nvml_handle
from bench.doctor import examine
from bench.env import environment, read_state
from bench.finding import Level
from bench.lab import Job, Settings, make_lab
from bench.physics import impossibility
from bench.record import Status
from bench.runner import Runner, plan_of
from bench.sampling import Budget, sample_until_known
from bench.selection import of_suite
from bench.stats import summarize
from bench.timer import CudaTimer, Preparation
from bench.worker import WorkerBench
from predict.gpus import GPUS
from predict.units import find_dtype
from predict.workloads import dim_names, make_workload
from tests.fakes import InProcessBench

# PyTorch warns why an SDPA backend declines; the reason goes into the record.
pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("ignore::UserWarning")]

ROOT = Path(__file__).resolve().parent.parent
BUDGET = Budget(time_s=0.1, warmup_s=0.05)
SETTINGS = Settings("cuda", None, force=False, warm_cache=False, budget=BUDGET)
AWKWARD = {
    "m": 33,
    "n": 520,
    "k": 264,
    "batch": 3,
    "seq": 131,
    "context": 131,
    "heads": 8,
    "kv_heads": 2,
    "head_dim": 64,
    "rows": 33,
    "cols": 520,
    "tokens": 33,
    "window": 50,
    "sequences": 3,
    "queries": 5,
    "page": 16,
    "latent": 128,
    "rope": 32,
    "inner": 200,
    "experts": 5,
    "active": 2,
    "layers": 3,
    "vocab": 1003,
    "slots": 3,
    "requests": 7,
    "long": 9,
    "short": 2,
    "guesses": 3,
    "accepted": 70,
}
# Each op in each format that something on a GPU takes; fp64 is what the others are checked against.
CELLS = sorted(
    {(row.op, dtype) for row in IMPLEMENTATIONS if "cuda" in row.devices for dtype in row.dtypes if dtype != "fp64"}
)


@pytest.fixture(scope="module")
def bench():
    bench = InProcessBench(make_lab(SETTINGS))
    yield bench
    bench.close()


def median_s(preparation):
    return summarize(sample_until_known(CudaTimer().prepare(preparation), BUDGET).times_s).median_s


def reading(size_bytes, *, warm=False, captures=True):
    """Reading `size_bytes` of random numbers; inputs are made anew for each set."""
    device = torch.device("cuda")

    def bind(index):
        maker = Maker(torch.float32, device, torch.Generator(device).manual_seed(index))
        return maker.normal(int(size_bytes) // 4).sum

    cache_bytes = torch.cuda.get_device_properties(0).L2_cache_size
    free_bytes = torch.cuda.mem_get_info()[0] / 2
    return Preparation(bind, size_bytes, free_bytes, cache_bytes, warm=warm, captures=captures)


@pytest.mark.smoke
def test_this_card_is_described_and_read():
    here = environment("cuda", gpu=None, force=False, warm_cache=False)
    assert here.sm_count == torch.cuda.get_device_properties(0).multi_processor_count
    assert here.memory_bytes >= torch.cuda.mem_get_info()[1] * 0.9
    assert here.driver
    assert here.mismatches == ()
    state = read_state(nvml_handle())
    assert 1e8 < state.sm_hz < 4e9
    assert isinstance(nvml.compute_processes(nvml_handle()), tuple)


def test_the_doctor_finds_no_problem():
    assert [finding for finding in examine(None) if finding.level is Level.PROBLEM] == []


@pytest.mark.smoke
@pytest.mark.parametrize("captures", [True, False])
def test_a_cold_read_is_slower_than_a_warm_one(captures):
    half = torch.cuda.get_device_properties(0).L2_cache_size / 2
    cold_s, warm_s = (median_s(reading(half, warm=warm, captures=captures)) for warm in (False, True))
    assert cold_s > 1.2 * warm_s


@pytest.mark.smoke
def test_rotation_through_four_times_l2_leaves_nothing_in_it():
    properties = torch.cuda.get_device_properties(0)
    reads = read_cold(properties.L2_cache_size, torch.device("cuda"))
    assert reads.doubt(None) is None, reads.text


def test_events_and_graph_agree_on_a_kernel_that_both_can_time():
    large = 512 * 2**20  # about 0.1 to 2 ms, well over any cache
    assert median_s(reading(large)) == pytest.approx(median_s(reading(large, captures=False)), rel=0.1)


@pytest.mark.smoke
@pytest.mark.parametrize("size_bytes", [2**20, 2**25, 2**30])
def test_graphs_take_about_two_milliseconds_and_the_host_is_hidden(size_bytes):
    sampler = CudaTimer().prepare(reading(size_bytes))
    times_s = sampler.sample(lambda: None)
    assert (sampler.method, sampler.cold_l2, sampler.held) == ("cuda_graph", True, True)
    assert 1e-3 < median(times_s) * sampler.launches_per_sample < 20e-3
    assert 1e-6 < sampler.host_s < 1e-3


def waiting(x):
    """Work that waits for the GPU: no graph captures it."""
    return lambda _: lambda: x.sum().item()


@pytest.mark.smoke
def test_work_that_waits_for_the_gpu_is_timed_with_the_host_and_says_so():
    x = torch.randn(1000, device="cuda")
    case = Preparation(waiting(x), x.nbytes, free_bytes=0, cache_bytes=None, warm=True, captures=False)
    sampler = CudaTimer().prepare(case)
    assert sampler.method == "cuda_event"
    assert sampler.sample(lambda: None)[0] > 0
    assert sampler.held is False


def test_a_capture_that_fails_gives_its_cause_and_costs_no_more_than_its_process():
    """In a process of its own: what PyTorch keeps of a broken capture is not to be had by the tests that follow."""
    program = """
import torch
from bench.timer import CaptureFailed, CudaTimer, Preparation
x = torch.randn(1000, device="cuda")
before = torch.cuda.current_stream()
try:
    CudaTimer().prepare(Preparation(lambda _: lambda: x.sum().item(), x.nbytes, 0, None, warm=True))
except CaptureFailed as error:
    print(error)
assert torch.cuda.current_stream() == before
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("not captured in a CUDA graph: ")
    assert "captur" in done.stdout.lower()


@pytest.mark.smoke
def test_a_launch_takes_microseconds_and_not_the_time_of_the_host(bench):
    outcome = bench.run(Job(make_workload("launch", {}, find_dtype("fp32")), "triton"))
    assert outcome.status is Status.MEASURED
    assert 2e-7 < summarize(outcome.measurement.times_s).median_s < 2e-5


@pytest.mark.smoke
def test_clock_power_and_throttle_are_recorded(bench):
    outcome = bench.run(Job(make_workload("matmul", {"m": 4096, "n": 4096, "k": 4096}, find_dtype("bf16")), "torch"))
    assert outcome.measurement.sm_hz > 1e8
    assert outcome.measurement.power_w is None or outcome.measurement.power_w > 10
    assert len(outcome.measurement.sm_hz_samples) == len(outcome.measurement.times_s)
    assert outcome.measurement.throttle is not None


@pytest.mark.parametrize(
    ("op", "dtype"),
    [
        pytest.param(op, dtype, marks=[pytest.mark.exhaustive] if dtype in ("fp16", "tf32") else [])
        for op, dtype in CELLS
    ],
)
def test_every_implementation_is_right_on_awkward_sizes_or_says_why_not(bench, op, dtype):
    """But for those that compile each shape, which tests/kernels/peers/test_peers.py and its like have."""
    sizes = AWKWARD | {"k": 384} if op == "matmul_w4a16" else AWKWARD
    workload = make_workload(op, {name: sizes.get(name, 10_006) for name in dim_names(op)}, find_dtype(dtype))
    names = [name for name in implementation_names(op, "cuda") if not compiles(op, name)]
    outcomes = {name: bench.run(Job(workload, name)) for name in names}
    for name, outcome in outcomes.items():
        assert outcome.status in (Status.MEASURED, Status.THROTTLED, Status.SKIPPED), (name, outcome.reason)
        assert outcome.status is not Status.SKIPPED or outcome.reason
    measured = {name for name, outcome in outcomes.items() if outcome.status is not Status.SKIPPED}
    if dtype == "fp8" and torch.cuda.get_device_capability() < (8, 9):
        assert not measured  # this card has no unit for it
        return
    assert measured
    if dtype in ("bf16", "fp16", "fp8", "int8") and "triton" in outcomes:
        assert "triton" in measured, outcomes["triton"].reason


@pytest.mark.parametrize("n", [8192, 4096])
def test_large_matmul_and_read_stay_below_the_physical_line(bench, n):
    gpu = GPUS.get(bench.environment.gpu or "")
    if gpu is None:
        pytest.skip("this card is not in the table")
    l2_bytes = bench.environment.last_level_cache_bytes
    for workload in (
        make_workload("matmul", {"m": n, "n": n, "k": n}, find_dtype("bf16")),
        make_workload("stream_read", {"n": n * 2**16}, find_dtype("fp32")),
    ):
        outcome = bench.run(Job(workload, "torch"))
        assert impossibility(workload.amounts, outcome.measurement, gpu, l2_bytes=l2_bytes) is None


@pytest.mark.smoke
def test_a_context_is_lost_by_an_assertion_on_the_device_and_not_by_one_in_python():
    """In a process of its own, whose context is gone afterwards."""
    code = """
import torch
from bench.context import can_run_another
x = torch.zeros(1, device="cuda")
try:
    torch.ones(2, 3, device="cuda") @ torch.ones(2, 3, device="cuda")
except RuntimeError:
    pass
assert can_run_another("cuda")
try:
    torch.empty(2**60, device="cuda")
except RuntimeError:
    pass
assert can_run_another("cuda")
try:
    x[torch.tensor([5], device="cuda")].item()
except RuntimeError:
    pass
assert not can_run_another("cuda")
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


@pytest.mark.exhaustive
def test_the_smoke_suite_runs_in_a_worker_without_a_failure(tmp_path):
    bench = WorkerBench(make_lab, SETTINGS, job_limit_s=120.0)
    try:
        records = Runner(plan_of(of_suite("smoke"), tmp_path / "run"), bench).run()
    finally:
        bench.close()
    bad = [(r.workload.id, r.implementation, r.reason) for r in records if r.status not in ("measured", "skipped")]
    assert bad == []
