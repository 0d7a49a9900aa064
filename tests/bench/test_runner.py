"""The runner with a bench that answers without running, and with one that runs small things for real on the CPU."""

import dataclasses
import itertools

import pytest
import torch

from bench import runner, store
from bench.cases import CASES, IMPLEMENTATIONS, implementation_names, make_inputs
from bench.lab import Job, Lab, Outcome
from bench.record import Measurement, Status
from bench.runner import Runner, limits_of, plan_of, roof_probe_jobs
from bench.sampling import Budget
from bench.selection import of_suite
from bench.suites import suite
from bench.worker import WorkerLost
from kernels import reference
from kernels.implementation import Implementation
from kernels.unsupported import Unsupported
from predict.errors import BadRun
from predict.gpus import GPUS
from predict.resources import Resource
from predict.roofline import predict
from predict.units import find_dtype
from predict.workloads import dim_names, make_workload
from tests.factories import make_environment
from tests.fakes import FakeBench, FakeClock, FakeMonitor, FakeTimer, InProcessBench, cpu_environment

MEASUREMENT = Measurement((1.0,) * 10, "cuda_event", 1, "converged", True, 1.5e9, 500.0, 50.0, ())


def took(time_s):
    return Outcome(Status.MEASURED, None, None, dataclasses.replace(MEASUREMENT, times_s=(time_s,) * 10))


def at_half_the_roof(job):
    """Twice the H200's napkin, or 2 us."""
    return took(2 * predict(job.workload.amounts, GPUS["h200-sxm"].roofs).napkin_s or 2e-6)


def plan(tmp_path, **changes):
    return plan_of(**({"selection": of_suite("smoke"), "out": tmp_path / "run"} | changes))


def test_a_run_measures_roofs_first_then_the_suite_and_writes_every_record(tmp_path):
    bench = FakeBench(at_half_the_roof)
    records = Runner(plan(tmp_path), bench).run()
    assert [job.workload.op for job in bench.jobs[:2]] == ["launch", "launch"]
    assert store.read(tmp_path / "run" / "records.jsonl").records == records
    assert {record.status for record in records} == {Status.MEASURED}
    limits = limits_of(bench.environment, {})
    assert bench.jobs == [*roof_probe_jobs(limits), *of_suite("smoke").jobs(limits)]
    suite_ids = {workload.id for workload in suite("smoke", limits)}
    assert suite_ids <= {record.workload.id for record in records}


def test_every_record_carries_both_roofs_and_a_prediction(tmp_path):
    for record in Runner(plan(tmp_path), FakeBench(at_half_the_roof)).run():
        assert record.roofs.datasheet == GPUS["h200-sxm"].roofs
        # At half of every datasheet roof, the measured ones are half of them too.
        assert record.roofs.measured[Resource.DRAM_READ].per_s == pytest.approx(2.4e12)
        assert record.prediction == predict(record.workload.amounts, record.roofs.datasheet)


def test_a_time_that_physics_forbids_is_impossible(tmp_path):
    records = Runner(plan(tmp_path), FakeBench(lambda _: took(1e-9))).run()
    matmuls = [record for record in records if record.workload.op == "matmul"]
    assert {record.status for record in matmuls} == {Status.IMPOSSIBLE}
    assert all("the timing or the formula is wrong" in record.reason for record in matmuls)
    assert all(record.measurement is not None for record in matmuls)
    assert Status.IMPOSSIBLE in runner.FAILED


@pytest.mark.parametrize("change", [{"forced": True}, {"last_level_cache_bytes": None}])
def test_physics_does_not_judge_what_it_does_not_know(tmp_path, change):
    records = Runner(plan(tmp_path), FakeBench(lambda _: took(1e-9), make_environment(**change))).run()
    assert {record.status for record in records} == {Status.MEASURED}


def test_a_card_that_the_table_lacks_is_judged_by_measured_roofs_alone(tmp_path):
    environment = make_environment(gpu=None, name="NVIDIA X1")
    records = Runner(plan(tmp_path), FakeBench(at_half_the_roof, environment)).run()
    assert all(record.roofs.datasheet == {} for record in records)
    assert all(record.prediction == predict(record.workload.amounts, record.roofs.measured) for record in records)


def test_a_failing_case_is_a_record_and_the_run_goes_on(tmp_path):
    def answer(job):
        return Outcome(Status.CRASHED, "boom") if job.implementation == "triton" else at_half_the_roof(job)

    records = Runner(plan(tmp_path), FakeBench(answer)).run()
    assert {record.status for record in records if record.implementation == "torch"} == {Status.MEASURED}
    # Twice is enough of each op; what is not tried says why, and a resume tries it.
    failed = [record for record in records if record.implementation == "triton"]
    matmuls = [record for record in failed if record.workload.op == "matmul"]
    assert [record.status for record in matmuls] == [Status.CRASHED] * 2 + [Status.SKIPPED] * (len(matmuls) - 2)
    assert len(matmuls) > 4
    for op in {record.workload.op for record in failed}:
        statuses = [record.status for record in failed if record.workload.op == op]
        assert statuses.count(Status.CRASHED) == min(2, len(statuses))
    assert {record.reason for record in failed if record.status is Status.SKIPPED} == {
        "not tried: crashed twice alike: boom; --resume tries again"
    }


def test_a_resume_does_not_count_the_crashes_before_it(tmp_path):
    def answer(job):
        return Outcome(Status.CRASHED, "boom") if job.implementation == "triton" else at_half_the_roof(job)

    def of_triton(records, op):
        found = [each for each in records if each.implementation == "triton" and each.workload.op == op]
        return [each.status for each in found]

    first = of_triton(Runner(plan(tmp_path), FakeBench(answer)).run(), "matmul")
    # Still broken: two more tries, no more. Mended: all of them are measured.
    bench = FakeBench(answer)
    assert of_triton(Runner(plan(tmp_path, resume=True), bench).run(), "matmul") == first
    assert sum(job.workload.op == "matmul" for job in bench.jobs) == 2
    records = Runner(plan(tmp_path, resume=True), FakeBench(at_half_the_roof)).run()
    assert {record.status for record in records} == {Status.MEASURED}


def test_a_run_that_loses_its_worker_keeps_what_it_has_and_says_so_of_the_rest(tmp_path):
    bench = FakeBench(at_half_the_roof)

    def answer(job):
        if len(bench.jobs) > 30:
            raise WorkerLost("no new worker starts, 2 were tried")
        return at_half_the_roof(job)

    bench.answer = answer
    run = Runner(plan(tmp_path), bench)
    records = run.run()
    assert run.lost == "no new worker starts, 2 were tried"
    assert len(bench.jobs) == 31  # none is sent after the one that found no worker
    assert store.read(tmp_path / "run" / "records.jsonl").records == records
    lost, *rest = [record for record in records if record.status is not Status.MEASURED]
    assert len(rest) > 5
    # One of them has failed, and with it the run; a resume tries them all.
    assert (lost.status, lost.reason) == (Status.CRASHED, run.lost)
    assert {(record.status, record.reason) for record in rest} == {
        (Status.SKIPPED, "not tried: no new worker starts, 2 were tried; --resume runs the rest")
    }
    whole = Runner(plan(tmp_path, resume=True), FakeBench(at_half_the_roof)).run()
    assert {record.status for record in whole} == {Status.MEASURED}
    assert {record.key for record in whole} == {record.key for record in records}


def test_a_run_that_loses_its_worker_among_the_probes_still_writes_them(tmp_path):
    def answer(job):
        raise WorkerLost("gone")

    records = Runner(plan(tmp_path), FakeBench(answer)).run()
    assert [record.status for record in records] == [Status.CRASHED] + [Status.SKIPPED] * (len(records) - 1)
    assert records[0].workload.op == "launch"


def test_all_records_of_a_run_carry_the_environment_that_it_began_with(tmp_path):
    bench = FakeBench(at_half_the_roof)
    run = Runner(plan(tmp_path), bench)
    bench.environment = make_environment(utc="2027-01-01T00:00:00+00:00")
    assert {record.environment.utc for record in run.run()} == {"2026-01-01T00:00:00+00:00"}


def test_a_run_whose_probes_all_fail_still_keeps_its_times(tmp_path):
    def answer(job):
        return Outcome(Status.CRASHED, "boom") if job.workload.op.startswith("stream") else took(1.0)

    environment = make_environment(gpu=None)
    records = Runner(plan(tmp_path), FakeBench(answer, environment)).run()
    decodes = [record for record in records if record.workload.op == "attention_decode"]
    assert decodes
    assert all(record.prediction is None and record.measurement is not None for record in decodes)


def test_a_second_run_into_the_same_folder_is_refused_and_changes_nothing(tmp_path):
    Runner(plan(tmp_path), FakeBench(at_half_the_roof)).run()
    before = (tmp_path / "run" / "records.jsonl").read_bytes()
    with pytest.raises(BadRun, match=r"already holds .* records; --resume adds to them"):
        Runner(plan(tmp_path), FakeBench(at_half_the_roof))
    assert (tmp_path / "run" / "records.jsonl").read_bytes() == before


def test_resume_runs_only_what_has_no_final_answer(tmp_path):
    class Stopped(Exception):
        pass

    count = itertools.count()

    def stops(job):
        if next(count) == 35:
            raise Stopped
        return Outcome(Status.TIMEOUT, "slow") if job.implementation == "naive" else at_half_the_roof(job)

    with pytest.raises(Stopped):
        Runner(plan(tmp_path), FakeBench(stops)).run()
    kept = store.read(tmp_path / "run" / "records.jsonl").records
    assert kept
    bench = FakeBench(at_half_the_roof)
    records = Runner(plan(tmp_path, resume=True), bench).run()
    answered = {record.key for record in kept if record.status is Status.MEASURED}
    assert not answered & {(job.workload.id, job.implementation) for job in bench.jobs}
    assert {record.status for record in records} == {Status.MEASURED}
    # The same cells as a run that was never stopped.
    whole = Runner(plan(tmp_path, out=tmp_path / "whole"), FakeBench(at_half_the_roof)).run()
    assert {record.key for record in records} == {record.key for record in whole}


def test_a_resumed_run_keeps_the_roofs_it_measured(tmp_path):
    whole = Runner(plan(tmp_path), FakeBench(at_half_the_roof)).run()
    resumed = Runner(plan(tmp_path, resume=True), FakeBench(lambda _: pytest.fail("nothing is left to run")))
    assert resumed.run() == whole


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "NVIDIA A100-SXM4-80GB"}, "holds records of NVIDIA A100"),
        ({"driver": "999"}, "whose driver is 999"),
        ({"torch": "1.0"}, "whose torch is 1.0"),
        ({"warm_cache": True}, "whose warm_cache is True"),
    ],
)
def test_records_of_another_machine_are_not_added_to(tmp_path, change, message):
    Runner(plan(tmp_path), FakeBench(at_half_the_roof, make_environment(**change))).run()
    with pytest.raises(BadRun, match=message):
        Runner(plan(tmp_path, resume=True), FakeBench(at_half_the_roof))


def test_a_broken_line_stops_a_resume_before_anything_is_written(tmp_path):
    Runner(plan(tmp_path), FakeBench(at_half_the_roof)).run()
    file = tmp_path / "run" / "records.jsonl"
    file.write_text(file.read_text()[:-100])
    with pytest.raises(BadRun, match=r"records.jsonl:\d+: not JSON .*remove that line"):
        Runner(plan(tmp_path, resume=True), FakeBench(at_half_the_roof))


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadRun, match=r"cannot write .*choose another --out"):
        Runner(plan(tmp_path, out=tmp_path / "file" / "run"), FakeBench(at_half_the_roof))


def test_after_the_time_limit_the_rest_is_recorded_as_skipped(tmp_path):
    clock = FakeClock()

    def answer(job):
        clock.now_s += 1.0
        return at_half_the_roof(job)

    bench = FakeBench(answer)
    probes = len(roof_probe_jobs(limits_of(bench.environment, {})))
    records = Runner(plan(tmp_path, time_limit_s=probes + 2.5), bench, clock=clock).run()
    skipped = [record for record in records if record.status is Status.SKIPPED]
    assert len(bench.jobs) == probes + 3
    assert skipped
    assert all("--resume runs the rest" in record.reason for record in skipped)


def lab(**changes):
    settings = {"environment": cpu_environment(), "timer": FakeTimer(), "budget": Budget(0.01, 0.0), "monitor": None}
    return Lab(**(settings | changes))


SMALL = make_workload("matmul", {"m": 3, "n": 5, "k": 7}, find_dtype("fp32"))


def add_implementation(monkeypatch, name, run, *, meaning=reference.matmul):
    """A further way to multiply matrices, for the time of a test."""
    row = Implementation("matmul", name, run, own_reference=meaning)
    monkeypatch.setattr("bench.cases.IMPLEMENTATIONS", (*IMPLEMENTATIONS, row))


def test_a_wrong_kernel_is_recorded_as_incorrect_and_never_timed(monkeypatch):
    add_implementation(monkeypatch, "wrong", lambda a, b: (a @ b) * 1.5)
    timer = FakeTimer()
    outcome = InProcessBench(lab(timer=timer)).run(Job(SMALL, "wrong"))
    assert outcome.status is Status.INCORRECT
    assert "relative error 0.5" in outcome.reason
    assert timer.preparations == []


def test_an_implementation_that_declines_is_skipped_with_its_reason(monkeypatch):
    def declines(a, b):
        raise Unsupported("this kernel takes fp16 only")

    add_implementation(monkeypatch, "picky", declines)
    outcome = InProcessBench(lab()).run(Job(SMALL, "picky"))
    assert (outcome.status, outcome.reason) == (Status.SKIPPED, "this kernel takes fp16 only")


def test_an_unexpected_error_is_a_record_with_the_text_and_the_place(monkeypatch):
    def breaks(a, b):
        raise RuntimeError("first line\nsecond line")

    add_implementation(monkeypatch, "broken", breaks)
    outcome = InProcessBench(lab()).run(Job(SMALL, "broken"))
    assert outcome.status is Status.CRASHED
    assert outcome.reason.startswith("RuntimeError: first line (test_runner.py:")


def test_running_out_of_memory_is_a_status_of_its_own(monkeypatch):
    def too_large(a, b):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    add_implementation(monkeypatch, "large", too_large)
    assert InProcessBench(lab()).run(Job(SMALL, "large")).status is Status.OUT_OF_MEMORY


def test_a_case_that_cannot_fit_is_never_tried_and_says_what_it_needs():
    huge = make_workload("matmul", {"m": 10**6, "n": 10**6, "k": 10**6}, find_dtype("fp32"))
    outcome = InProcessBench(lab()).run(Job(huge, "torch"))
    assert outcome.status is Status.OUT_OF_MEMORY
    # Three matrices of 10^12 elements: 12e12 bytes are 10.9 TiB, and the fp64 reference comes on top.
    needed, unit = outcome.reason.split()[1:3]
    assert unit.startswith("TiB")
    assert float(needed) > 10.9
    assert "GiB are free" in outcome.reason


def test_a_card_that_slows_itself_down_is_marked():
    outcome = InProcessBench(lab(monitor=FakeMonitor("hw_thermal", "sw_power_cap"))).run(Job(SMALL, "torch"))
    assert outcome.status is Status.THROTTLED
    assert "hw_thermal" in outcome.reason
    assert outcome.measurement is not None


def test_a_power_cap_is_normal():
    outcome = InProcessBench(lab(monitor=FakeMonitor("sw_power_cap"))).run(Job(SMALL, "torch"))
    assert outcome.status is Status.MEASURED
    assert outcome.measurement.throttle == ("sw_power_cap",)


def test_implementations_of_one_workload_share_its_reference(monkeypatch):
    calls = []

    def counting(a, b, precision="fp64"):
        calls.append(precision)
        return reference.matmul(a, b, precision)

    add_implementation(monkeypatch, "counted", torch.matmul, meaning=counting)
    bench = InProcessBench(lab())
    for workload in (SMALL, SMALL, make_workload("matmul", {"m": 4, "n": 5, "k": 7}, find_dtype("fp32"))):
        assert bench.run(Job(workload, "counted")).status is Status.MEASURED
    assert sorted(calls) == ["fp32", "fp32", "fp64", "fp64"]


def test_an_implementation_that_does_not_take_the_dtype_or_the_device_is_skipped():
    tf32 = make_workload("matmul", SMALL.dims, find_dtype("tf32"))
    assert InProcessBench(lab()).run(Job(tf32, "torch_transposed")).reason == (
        "matmul by torch_transposed does not take tf32; it takes fp64, fp32, bf16, fp16"
    )
    prefill = make_workload(
        "attention_prefill", {"batch": 1, "seq": 2, "heads": 1, "kv_heads": 1, "head_dim": 64}, find_dtype("fp32")
    )
    outcome = InProcessBench(lab()).run(Job(prefill, "sdpa_cudnn"))
    assert (outcome.status, outcome.reason) == (Status.SKIPPED, "sdpa_cudnn does not run on a cpu")


def test_an_unwritten_output_is_not_mistaken_for_the_one_before():
    copy = make_workload("stream_copy", {"n": 1000}, find_dtype("fp32"))
    bench = InProcessBench(lab())
    assert bench.run(Job(copy, "torch")).status is Status.MEASURED
    inputs = bench._lab._truth.inputs
    assert torch.equal(inputs[0], inputs[1])
    bench._lab._check(lambda x, out: out, bench._lab._truth, copy)
    assert inputs[1].isnan().all()


TINY_DIMS = {
    "m": 18,
    "n": 16,
    "k": 128,
    "batch": 2,
    "seq": 5,
    "context": 6,
    "heads": 4,
    "kv_heads": 2,
    "head_dim": 64,
    "rows": 3,
    "cols": 5,
    "tokens": 3,
    "inner": 24,
    "window": 3,
    "queries": 2,
    "sequences": 2,
    "page": 4,
    "latent": 32,
    "rope": 8,
    "experts": 3,
    "active": 2,
    "layers": 2,
    "vocab": 20,
    "slots": 2,
    "requests": 3,
    "long": 3,
    "short": 1,
    "guesses": 2,
    "accepted": 60,
}
TINY_DTYPES = {
    "matmul_scaled": "int8",
    **dict.fromkeys(("matmul_w8a16", "matmul_w4a16", "attention_decode_fp8", "block_train"), "bf16"),
}


@pytest.mark.parametrize("op", CASES)
def test_every_cpu_implementation_of_every_op_is_right_and_timed(op):
    dtype = find_dtype(TINY_DTYPES.get(op, "fp32"))
    workload = make_workload(op, {name: TINY_DIMS[name] for name in dim_names(op)}, dtype)
    for name in implementation_names(op, "cpu"):
        outcome = InProcessBench(lab()).run(Job(workload, name))
        assert outcome.status is Status.MEASURED, (name, outcome.reason)
        assert outcome.check.passed


def test_input_sets_differ_and_are_reproducible():
    device = torch.device("cpu")
    first, again, second = (make_inputs(SMALL, device, index=index) for index in (0, 0, 1))
    assert torch.equal(first[0], again[0])
    assert not torch.equal(first[0], second[0])
    assert all(tensor.std() > 0.5 for tensor in first)
