"""The order of the cases: what a run that is cut off has by then."""

import itertools
from collections import Counter

import pytest

from bench.lab import Job
from bench.order import HEADLINES, arrange
from bench.runner import jobs_of
from bench.selection import of_suite
from bench.suites import BF16, SUITES, matmuls, prefills, suite
from kernels.catalog import HAS_TRITON
from predict.expected.probes import PROBES, probe_workloads
from tests.bench.test_suites import CPU, H200

WITH_TRITON = pytest.mark.skipif(not HAS_TRITON, reason="about rows of ours, and torch.compile's")
BOTH = pytest.mark.parametrize("limits", [H200, CPU], ids=["gpu", "cpu"])


def batches(jobs, implementation="torch"):
    return [job.workload.dims["m"] for job in jobs if job.implementation == implementation]


@BOTH
@pytest.mark.parametrize("name", SUITES)
def test_every_case_of_a_suite_comes_once(name, limits):
    selection = of_suite(name)
    jobs, measured = selection.jobs(limits), suite(name, limits)
    kernels = [each.workload for asked in selection.passes(limits) for each in asked.kernels if each.workload]
    wholes = {whole.workload for asked in selection.passes(limits) for whole in asked.wholes}
    assert bool(kernels) == (name == "full")  # which measures a model's passes too
    own = [job for job in jobs if job.workload in measured or job.workload in kernels]
    expected = jobs_of({each.id: each for each in (*measured, *kernels)}.values(), limits.device)
    assert Counter(map(repr, own)) == Counter(map(repr, expected))
    assert {job.workload.id for job in jobs if job not in own} <= wholes
    assert max(Counter(map(repr, jobs)).values()) == 1


@WITH_TRITON
@pytest.mark.parametrize("name", ["smoke", "quick", "standard", "full"])
def test_one_size_of_each_headline_comes_first_by_ours_and_by_the_vendor(name):
    first = of_suite(name).jobs(H200)[:12]
    assert [(job.workload.op, job.implementation) for job in first] == [
        *itertools.product(["matmul"], ["torch", "triton"]),
        *itertools.product(["attention_prefill", "attention_decode"], ["sdpa_flash", "sdpa_cudnn", "triton"]),
        *itertools.product(["generate_cached", "generate_uncached"], ["torch", "triton"]),
    ]
    assert len({job.workload.id for job in first}) == 5
    assert {job.workload.dtype for job in first} == {BF16}


@pytest.mark.parametrize("name", ["smoke", "quick", "standard", "full"])
def test_a_cpu_has_the_same_headlines_by_pytorch(name):
    first = of_suite(name).jobs(CPU)[:5]
    assert [job.workload.op for job in first] == list(HEADLINES)
    assert {job.implementation for job in first} == {"torch", "sdpa_flash"}


def test_the_headline_is_the_size_that_is_nearest_in_doublings():
    # From 4096 each, m = 16 is 8 doublings away, m = 512 is 3, and n = 28672 is log2(7) = 2.8.
    (wide,) = matmuls([(28672, 4096)], [4096], BF16)
    jobs = arrange(Job(workload, "torch") for workload in (*matmuls([(4096, 4096)], [16, 512], BF16), wide))
    assert jobs[0].workload == wide


@WITH_TRITON
def test_what_calibrates_comes_next_and_what_is_slow_or_compiles_comes_last():
    jobs = of_suite("standard").jobs(H200)
    probes = {workload.id for op in PROBES for workload in probe_workloads(op, BF16)}
    assert len(probes) == 48
    # matmul by torch and triton, prefill and decode by flash, cuDNN and triton: 16 x 2 + 32 x 3 cases.
    assert {job.workload.id for job in jobs[12 : 12 + 128]} == probes
    slow = [job.implementation.startswith(("naive", "sdpa_math")) for job in jobs]
    compiled = [job.implementation in ("torch_compile", "flex") for job in jobs]
    assert any(slow)
    assert any(compiled)
    assert [late + 2 * last for late, last in zip(slow, compiled, strict=True)] == sorted(
        late + 2 * last for late, last in zip(slow, compiled, strict=True)
    )


def test_probes_that_cannot_calibrate_are_shapes_like_others():
    probes = probe_workloads("matmul", BF16)
    all_but_one = arrange(Job(workload, "torch") for workload in (*matmuls([(64, 64)], [1, 2, 4], BF16), *probes[:-1]))
    assert all_but_one[1].workload.dims["m"] == 1
    whole = arrange(Job(workload, "torch") for workload in (*matmuls([(64, 64)], [1, 2, 4], BF16), *probes))
    assert {job.workload.id for job in whole[:16]} == {workload.id for workload in probes}


def test_a_sweep_is_thin_at_first_and_then_filled_in():
    """Nine batches; the headline, nearest to 4096, is the last. Then every fourth, every second, the others."""
    sweep = matmuls([(4096, 4096)], [1, 2, 4, 8, 16, 32, 64, 128, 256], BF16)
    jobs = arrange(Job(workload, name) for workload in sweep for name in ("torch", "quack"))
    assert batches(jobs) == [256, 1, 16, 4, 64, 2, 8, 32, 128]
    assert batches(jobs, "quack") == [1, 16, 256, 4, 64, 2, 8, 32, 128]


@WITH_TRITON
def test_half_of_a_run_has_some_of_every_op():
    jobs = of_suite("standard").jobs(H200)
    assert {job.workload.op for job in jobs[: len(jobs) // 3]} == {job.workload.op for job in jobs}


@WITH_TRITON
@pytest.mark.parametrize("name", SUITES)
def test_implementations_of_a_workload_mostly_follow_each_other(name):
    """The truth of a workload is computed anew at most for headline or calibration, sweep, slow ones, compiled ones."""
    runs = Counter(workload for workload, _ in itertools.groupby(job.workload.id for job in of_suite(name).jobs(H200)))
    assert max(runs.values()) <= 4


def test_the_order_of_a_suite_is_kept_among_equals():
    sizes = prefills((512, 1024), BF16)
    jobs = arrange(Job(workload, name) for workload in sizes for name in ("naive", "flex", "sdpa_math"))
    assert [job.implementation for job in jobs if job.implementation != "flex"] == ["naive", "sdpa_math"] * 2
