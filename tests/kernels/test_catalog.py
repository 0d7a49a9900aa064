"""Every implementation of every op that runs here, against its reference: tests follow from rows of the catalog."""

import importlib
import pkgutil
from dataclasses import replace

import pytest
import torch

import kernels.triton
from bench.cases import bind, find_implementation, make_inputs, result_format
from bench.check import check_all
from kernels import catalog, reference
from kernels.implementation import Implementation, Intermediate
from kernels.peers import packages
from predict.errors import BadWorkload
from predict.peak_memory import Scores, score_shape
from predict.workloads import OPS
from reports.run import frame
from tests.older import need_fp8_on_a_cpu
from tests.tiny import OURS, tiny_workload

ROWS = catalog.list_implementations()
CPU = torch.device("cpu")
ON_A_CPU = [(row.op, row.name, dtype) for row in ROWS if "cpu" in row.devices for dtype in row.dtypes]
# A captured step needs a GPU: tests/kernels/pytorch/test_block.py.
OF_OURS = list(
    dict.fromkeys((row.op, row.name) for row in ROWS if row.package == "triton" and not row.name.endswith("_graph"))
)
BY_A_COMPILER = list(dict.fromkeys((row.op, row.name) for row in ROWS if row.compiles))


def tensors(result):
    return result if isinstance(result, tuple) else (result,)


def is_right(row, workload, device):
    """Held to the same bound as in a run, and prepared as there."""
    inputs = make_inputs(workload, device, index=0)
    meaning = bind(row.reference, workload)
    truth, plain = tensors(meaning(*inputs)), tensors(meaning(*inputs, precision=workload.dtype.name))
    prepared = bind(row.prepare, workload)(*inputs) if row.prepare else inputs
    actual = tensors(bind(row.run, workload)(*prepared))
    assert sum(each.nbytes for each in actual) > 0
    return check_all(actual, truth, plain, result_format(workload)).passed


@pytest.mark.parametrize(("op", "name", "dtype"), ON_A_CPU)
def test_it_is_right_on_a_cpu(op, name, dtype):
    if dtype == "fp8":
        need_fp8_on_a_cpu()
    workload = tiny_workload(op, dtype)
    assert is_right(find_implementation(workload, name, "cpu"), workload, CPU)


@pytest.mark.parametrize(("op", "name"), OF_OURS)
def test_a_kernel_of_ours_is_right(op, name, device):
    workload = tiny_workload(op)
    assert is_right(find_implementation(workload, name, "cuda"), workload, device)


def test_every_launcher_that_is_called_as_an_op_is_listed():
    launcher = pytest.importorskip("kernels.triton.launcher", exc_type=ImportError)
    names = [each.name for each in pkgutil.walk_packages(kernels.triton.__path__, "kernels.triton.")]
    modules = [importlib.import_module(name) for name in names]
    found = {name for module in modules for name, each in vars(module).items() if isinstance(each, launcher.Launcher)}
    assert len(OPS.keys() & found) > 10
    assert OPS.keys() & found <= set(OURS)


@pytest.mark.parametrize(("op", "name"), BY_A_COMPILER)
def test_what_a_compiler_is_given_is_right(op, name, graphs):
    workload = tiny_workload(op)
    assert is_right(find_implementation(workload, name, "cuda"), workload, CPU)
    assert graphs


# What a row says of itself.


def test_an_op_without_a_reference_is_told_where_it_goes():
    with pytest.raises(ValueError, match=r"relu by torch: kernels/reference.py has no relu; give it own_reference"):
        Implementation("relu", "torch", torch.relu)


def test_the_reference_of_an_op_on_rows_is_its_formula_in_fp64_or_rounded():
    mean = reference.by_rows(lambda x, weight: (x * weight, x.mean(dim=1)))
    x, weight = torch.tensor([[1.0, 2.0], [3.0, 5.0]]), torch.tensor([1.0, 1.0 + 2**-20])
    products, means = mean(x, weight)
    assert products.tolist() == [[1.0, 2.0 + 2**-19], [3.0, 5.0 + 5 * 2**-20]]
    assert means.tolist() == [1.5, 4.0]
    rounded, _ = mean(x, weight, precision="fp16")
    assert (rounded.dtype, rounded.tolist()) == (torch.float16, x.tolist())
    assert reference.by_rows(torch.square)(x).tolist() == [[1.0, 4.0], [9.0, 25.0]]


@pytest.mark.parametrize("op", [op for op in OPS if tuple(tiny_workload(op).dims) == ("rows", "cols")])
def test_amounts_of_an_op_on_rows_are_the_bytes_of_its_tensors(op):
    workload = tiny_workload(op)
    inputs = make_inputs(workload, CPU, index=0)
    assert sum(each.nbytes for each in inputs) == workload.amounts.bytes_read
    results = tensors(find_implementation(workload, "torch", "cpu").run(*inputs))
    assert sum(each.nbytes for each in results) == workload.amounts.bytes_written


def test_an_op_that_reads_a_number_for_each_row_has_no_inputs_by_its_amounts():
    # A scale for each row, beside x: neither a tensor (rows, cols) nor a weight (cols,).
    workload = tiny_workload("softmax")
    scales = workload.dims["rows"] * workload.dtype.bytes
    amounts = replace(workload.amounts, bytes_read=workload.amounts.bytes_read + scales)
    with pytest.raises(BadWorkload, match="add it to CASES"):
        make_inputs(replace(workload, amounts=amounts), CPU, index=0)


def test_reports_know_by_name_how_every_implementation_keeps_its_scores(monkeypatch):
    monkeypatch.setattr(packages, "is_installed", lambda package: True)
    kept = {Intermediate.SCORES: Scores.STORED, Intermediate.WIDE_SCORES: Scores.WIDE}
    for row in catalog.list_implementations():
        if score_shape(tiny_workload(row.op)) is not None:
            (scores,) = {kept[each] for each in row.writes if each in kept} or {Scores.ON_CHIP}
            assert frame._SCORES.get(row.name, Scores.ON_CHIP) is scores, (row.op, row.name)
