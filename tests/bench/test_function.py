"""`from bench import measure`: a function of one's own, in the process that asks."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bench import Measured, WrongResult, function, measure, store
from bench.lab import Lab
from bench.record import RoofSet, Status
from bench.timer import CaptureFailed
from kernels.precision import round_to_tf32
from predict.errors import BadRun, NapkinError
from predict.resources import Ceiling, Resource
from predict.workloads import Amounts
from reports.report.page import write_report
from reports.run.load import load_records
from reports.run.tables import op_tables
from tests.factories import make_environment
from tests.fakes import FakeTimer, cpu_environment

ROOT = Path(__file__).resolve().parents[2]
ROOFS = RoofSet({}, {Resource.VECTOR_FP32: Ceiling(1e12, "made up"), Resource.DRAM_COPY: Ceiling(1e11, "made up")})


@pytest.fixture
def timer(monkeypatch):
    """Every call takes 1 ms on a made-up CPU."""
    timer = FakeTimer(time_s=1e-3)
    monkeypatch.setattr(
        function, "make_lab", lambda settings: Lab(cpu_environment(), timer, settings.budget, monitor=None)
    )
    return timer


def make_pair(index):
    generator = torch.Generator().manual_seed(index)
    return torch.randn(8, 16, generator=generator), torch.randn(16, 4, generator=generator)


def product(a, b):
    return a @ b


def slower_product(a, b):
    return (a.double() @ b.double()).float()


def test_the_time_is_held_against_each_roof(timer):
    """0.4 GFLOP at 1 TFLOP/s take 0.4 ms, 20 MB at 100 GB/s 0.2 ms: the FLOP bind, at 40 % of their roof."""
    result = measure(product, make_pair, flop=4e8, bytes_read=1e7, bytes_written=1e7, roofs=ROOFS)
    assert isinstance(result, Measured)
    assert result.median_s == 1e-3
    assert float(result.prediction.napkin_s) == pytest.approx(4e-4)
    assert result.prediction.bound is Resource.VECTOR_FP32
    assert result.share_of_roof == {"measured": pytest.approx(0.4)}
    assert (result.status, result.checked, result.check) == (Status.MEASURED, False, None)
    text = str(result)
    assert repr(result) == text
    assert "product on Fake CPU: 1.00 ms" in text
    assert "napkin 400 us (bound: vector.fp32): 40.0 % of the measured roof" in text
    assert "unchecked: no reference was given" in text


def test_without_amounts_there_is_a_time_and_a_reason_for_the_rest(timer, tmp_path):
    result = measure(product, make_pair)
    assert (result.median_s, result.prediction, result.record, result.share_of_roof) == (1e-3, None, None, {})
    assert "no prediction: its amounts are not known: give amounts=, flop= or bytes_read=" in str(result)
    with pytest.raises(BadRun, match="product has no record without amounts"):
        result.save(tmp_path)


def test_amounts_may_be_given_whole_and_a_missing_roof_is_said(timer):
    result = measure(product, make_pair, amounts=Amounts({Resource.TENSOR_FP8: 1.0}, 0, 0), roofs=ROOFS)
    assert result.prediction is None
    assert result.unpredicted == "a roof of Fake CPU that it needs is not known"
    assert result.record is not None


def test_a_right_result_is_checked_against_fp64(timer):
    result = measure(product, make_pair, reference=product)
    assert result.check.passed
    assert 0 < result.check.relative_error < 1e-6
    assert "right: relative error" in str(result)


def test_a_wrong_result_is_not_timed(timer):
    with pytest.raises(WrongResult, match=r"product: wrong result: relative error 0\.5 "):
        measure(product, make_pair, reference=lambda a, b: 2 * (a @ b))
    assert timer.preparations == []


def test_the_allowed_error_is_that_of_the_results_format(timer):
    """Rounding to bf16 is off by up to 2^-8, which fp32 is not allowed."""

    def rounds(a, b):
        return (a @ b).bfloat16()

    assert measure(rounds, make_pair, reference=product).check.relative_bound > 2**-8
    with pytest.raises(WrongResult, match="wrong result"):
        measure(lambda a, b: rounds(a, b).float(), make_pair, reference=product)


def test_tf32_may_be_asked_for_because_no_tensor_says_so(timer):
    def multiplies_as_tensor_cores_do(a, b):
        return round_to_tf32(a) @ round_to_tf32(b)

    assert measure(multiplies_as_tensor_cores_do, make_pair, reference=product, dtype="tf32").check.passed
    with pytest.raises(WrongResult, match="wrong result"):
        measure(multiplies_as_tensor_cores_do, make_pair, reference=product)


@pytest.mark.parametrize(("plus", "right"), [(0, True), (1, False)])
def test_whole_numbers_must_be_those_of_the_reference(timer, plus, right):
    def largest(a, b):
        return a.argmax(dim=1) + plus

    def reference(a, b):
        return a.argmax(dim=1)

    if right:
        assert measure(largest, make_pair, reference=reference).check.passed
    else:
        with pytest.raises(WrongResult, match="relative error 1 "):
            measure(largest, make_pair, reference=reference)


def test_several_results_are_all_checked(timer):
    both = measure(lambda a, b: (a + 1, b * 2), make_pair, reference=lambda a, b: (a + 1, b * 2))
    assert both.check.passed
    with pytest.raises(WrongResult, match="wrong result"):
        measure(lambda a, b: (a + 1, b * 3), make_pair, reference=lambda a, b: (a + 1, b * 2))
    with pytest.raises(WrongResult, match=r"returns a tensor \(8, 16\), where 2 tensors \(8, 16\), \(16, 4\) is right"):
        measure(lambda a, b: a + 1, make_pair, reference=lambda a, b: (a + 1, b * 2))


def test_an_input_that_changes_is_refused_unless_it_is_named(timer):
    def scales(a, b):
        return a.mul_(0.5) @ b

    with pytest.raises(WrongResult, match="scales changes its input 0"):
        measure(scales, make_pair)
    assert measure(scales, make_pair, writes=(0,)).median_s == 1e-3


def test_a_function_may_return_anything_if_nobody_checks(timer):
    assert measure(lambda a, b: {"product": a @ b}, make_pair, dtype="fp32", flop=1.0, roofs=ROOFS).prediction
    assert measure(lambda a, b: None, make_pair).median_s == 1e-3


def test_inputs_may_be_one_tensor_and_their_maker_may_take_no_index(timer):
    assert measure(torch.sum, lambda: torch.ones(3)).name == "sum"
    made = []
    measure(torch.sum, lambda index: made.append(index) or torch.ones(3))
    assert made == [0]  # the fake timer asks for the first set alone


def test_an_op_of_the_catalog_brings_inputs_amounts_and_reference(timer):
    """2 * 8 * 16 * 32 FLOP in fp32 at 1 TFLOP/s."""
    result = measure(product, op="matmul", dims={"m": 8, "n": 16, "k": 32}, device="cpu", roofs=ROOFS)
    assert result.record.workload.id == "matmul-m8-n16-k32-fp32"
    assert result.record.implementation == f"{__name__}:product"
    assert result.check.passed
    assert float(result.prediction.terms[0].amount) == 2 * 8 * 16 * 32


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda a, b: a @ b + 1, "wrong result"),
        (lambda a, b: (a @ b).t(), r"returns a tensor \(16, 8\)"),
        (lambda a, b: a.mul_(2) @ b / 2, "changes its input 0"),
        (lambda a: a, "is called with 2 tensors, but takes"),
    ],
)
def test_a_function_that_is_no_such_op_is_refused(timer, wrong, message):
    with pytest.raises(NapkinError, match=message):
        measure(wrong, op="matmul", dims={"m": 8, "n": 16, "k": 32}, device="cpu", roofs=ROOFS)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, "takes make_inputs, or op= with dims="),
        ({"make_inputs": make_pair, "dims": {"m": 1}}, "takes make_inputs, or op= with dims="),
        ({"make_inputs": make_pair, "op": "matmul"}, "op='matmul' has inputs, amounts and a reference of its own"),
        ({"op": "matmul", "flop": 3}, "op='matmul' has inputs, amounts and a reference of its own"),
        ({"op": "matmull", "dims": {}}, "matmull"),
        ({"make_inputs": make_pair, "flop": -1}, "numbers from 0 on"),
        ({"make_inputs": make_pair, "bytes_read": "1MB"}, "numbers from 0 on"),
        ({"op": "matmul", "dims": {"m": 1, "n": 8, "k": 8}, "dtype": torch.complex64}, "unknown dtype 'complex64'"),
        ({"make_inputs": make_pair, "flop": 1, "amounts": Amounts({}, 1, 1)}, "leave flop="),
        ({"make_inputs": make_pair, "budget_s": 0}, "budget_s must be a positive number"),
        ({"make_inputs": make_pair, "dtype": "bf17"}, "bf17"),
        ({"make_inputs": lambda: (torch.ones(2), 3)}, "must return a tensor or a tuple of them"),
        ({"make_inputs": lambda: ()}, "must return a tensor or a tuple of them"),
        ({"make_inputs": lambda: torch.ones(2, device="meta")}, "inputs are on meta; the CPU and the first GPU"),
        ({"make_inputs": make_pair, "flop": 1, "roofs": "runs/absent"}, "no such run; give the folder"),
        ({"make_inputs": make_pair, "reference": lambda a, b: [a]}, "reference= must return a tensor or a tuple"),
        ({"make_inputs": make_pair, "reference": lambda a, b: a @ torch.ones(16)}, "reference= fails on fp64 copies"),
    ],
)
def test_what_cannot_be_measured_as_asked_is_said_in_one_line(timer, asked, message):
    with pytest.raises(NapkinError, match=message) as caught:
        measure(product, **asked)
    assert "\n" not in str(caught.value)


def test_a_dtype_may_be_pytorch_s_own(timer):
    asked = {"op": "matmul", "dims": {"m": 8, "n": 16, "k": 32}, "device": "cpu", "roofs": ROOFS}
    named, own = (measure(torch.matmul, dtype=dtype, **asked) for dtype in ("bf16", torch.bfloat16))
    assert own.record.workload.id == named.record.workload.id == "matmul-m8-n16-k32-bf16"


def test_the_unit_of_flop_must_be_known(timer):
    with pytest.raises(BadRun, match="which format is it"):
        measure(torch.neg, lambda: torch.ones(3, dtype=torch.int32), flop=1.0, roofs=ROOFS)


def test_whatever_the_function_raises_keeps_its_traceback(timer):
    with pytest.raises(ZeroDivisionError):
        measure(lambda a, b: 1 / 0, make_pair)


def test_a_tensor_that_comes_again_would_be_cached_and_is_refused():
    kept = torch.ones(4)
    sets = function._input_sets(lambda index: (torch.ones(2), kept))
    sets(0)
    with pytest.raises(BadRun, match="returned a tensor again"):
        sets(1)
    assert function._input_sets(lambda index: (torch.ones(2), kept.clone()))(1)


class CapturesNothing(FakeTimer):
    def prepare(self, preparation):
        if preparation.captures:
            raise CaptureFailed("not captured in a CUDA graph: it synchronizes")
        return super().prepare(preparation)


@pytest.mark.parametrize("asked", [{"make_inputs": make_pair}, {"op": "matmul", "dims": {"m": 2, "n": 3, "k": 4}}])
def test_what_no_graph_captures_is_timed_without_one_and_says_so(monkeypatch, asked):
    monkeypatch.setattr(
        function, "make_lab", lambda s: Lab(cpu_environment(), CapturesNothing(), s.budget, monitor=None)
    )
    result = measure(product, **asked, roofs=ROOFS)
    assert result.median_s == 1e-3
    assert "timed one launch at a time: not captured in a CUDA graph: it synchronizes" in result.warnings


def test_a_time_that_is_impossible_is_called_so(monkeypatch):
    """8 TB in 1 ms is more than any memory's pins carry."""
    here = replace(make_environment(), device="cpu")  # an H200, as far as roofs and physics know
    monkeypatch.setattr(function, "make_lab", lambda s: Lab(here, FakeTimer(1e-3), s.budget, monitor=None))
    result = measure(product, make_pair, bytes_read=8e12)
    assert result.status is Status.IMPOSSIBLE
    assert "impossible: 1.00 ms is under" in str(result)
    assert set(result.share_of_roof) == {"datasheet"}


def test_records_are_a_run_that_reports_read(timer, tmp_path):
    for fn in (product, slower_product):
        measure(fn, make_pair, name="product", flop=4e8, roofs=ROOFS).save(tmp_path)
    measure(product, op="matmul", dims={"m": 8, "n": 16, "k": 32}, device="cpu", roofs=ROOFS).save(tmp_path)
    run = load_records(tmp_path)
    assert [record.workload.id for record in run.records] == ["function:product-fp32"] * 2 + ["matmul-m8-n16-k32-fp32"]
    tables = {table.name: table for table in op_tables(run.frame)}
    assert [row[0] for row in tables["function:product"].rows] == [
        f"{__name__}:product",
        f"{__name__}:slower_product",
    ]
    assert "function:product" in write_report(run, tmp_path).read_text()
    assert measure(product, make_pair, flop=4e8, roofs=tmp_path).share_of_roof == {"measured": pytest.approx(0.4)}


def test_roofs_of_another_machine_are_refused(timer, tmp_path):
    result = measure(product, make_pair, flop=1.0, roofs=ROOFS)
    other = replace(result.record, environment=replace(result.record.environment, name="Other CPU"))
    store.append(tmp_path / store.RECORDS, other)
    with pytest.raises(BadRun, match="are of Other CPU, this is Fake CPU"):
        measure(product, make_pair, flop=1.0, roofs=tmp_path)


def test_extra_info_is_json_in_si_units(timer):
    found = measure(product, make_pair, flop=4e8, roofs=ROOFS, reference=product).extra_info
    assert json.loads(json.dumps(found)) == found
    assert (found["median_s"], found["bound"], found["checked"]) == (1e-3, "vector.fp32", True)
    assert found["napkin_s"] == pytest.approx(4e-4)
    assert found["of_measured"] == pytest.approx(0.4)


BENCHMARK = """
import torch
from bench import measure

def test_doubling(benchmark):
    result = measure(torch.neg, lambda: torch.ones(1000), reference=torch.neg, budget_s=0.02)
    result.report_to(benchmark)
    benchmark.extra_info["samples"] = len(result.times_s)
    benchmark.extra_info["total_s"] = sum(result.times_s)
"""


def test_pytest_benchmark_tells_our_times_as_its_own(tmp_path):
    (tmp_path / "test_mine.py").write_text(BENCHMARK)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--benchmark-json=out.json", "."]
    done = subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout.decode()
    (found,) = json.loads((tmp_path / "out.json").read_text())["benchmarks"]
    assert found["stats"]["rounds"] == found["extra_info"]["samples"] > 1
    assert found["stats"]["total"] == pytest.approx(found["extra_info"]["total_s"])
    assert found["extra_info"]["checked"] is True


def test_a_benchmark_that_is_disabled_is_left_alone(timer, benchmark):
    measure(product, make_pair).report_to(benchmark)
    assert benchmark.extra_info["median_s"] == 1e-3
    assert benchmark.disabled == (benchmark.stats is None)


def test_bench_has_no_other_names():
    import bench  # noqa: PLC0415

    with pytest.raises(AttributeError, match=re.escape("module 'bench' has no attribute 'meassure'")):
        bench.meassure  # noqa: B018
