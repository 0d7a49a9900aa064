"""What a run measures, and which part of it."""

import pytest

from bench.grid import read_grid
from bench.selection import of_grids, of_suite, read_filter
from bench.suites import Limits, further_probes
from predict.errors import BadRun
from predict.units import find_dtype
from predict.workloads import make_workload

BF16, FP32 = find_dtype("bf16"), find_dtype("fp32")
CPU = Limits(device="cpu", memory_bytes=16 * 2**30, last_level_cache_bytes=2**25, dtype=FP32)
MATMUL = read_grid("matmul", ["m=1,16", "n=64", "k=64"], ())


def pairs(selection, limits=CPU):
    return [(job.workload.id, job.implementation) for job in selection.jobs(limits)]


def test_only_takes_ops_and_workloads_by_pattern():
    ops = {job.workload.op for job in of_suite("standard", read_filter("attention_*", None)).jobs(CPU)}
    assert len(ops) > 5
    assert all(op.startswith("attention_") for op in ops)
    grid = of_grids([MATMUL], read_filter("*-m16-*", None), "cpu", yes=False)
    assert {workload for workload, _ in pairs(grid)} == {"matmul-m16-n64-k64-fp32"}


def test_implementations_are_taken_by_name_and_the_others_left_out():
    selection = of_grids([MATMUL], read_filter(None, "torch,triton"), "cpu", yes=False)
    assert sorted(pairs(selection)) == [("matmul-m1-n64-k64-fp32", "torch"), ("matmul-m16-n64-k64-fp32", "torch")]
    (line,) = selection.left_out(CPU)  # no kernel of ours runs on a CPU
    assert line.startswith("no implementation 'triton' on a cpu; known here: ")


def test_a_pattern_that_matches_nothing_beside_one_that_does_is_said():
    selection = of_grids([MATMUL], read_filter("matmul,rope*", "torch"), "cpu", yes=False)
    assert {workload for workload, _ in pairs(selection)} == {"matmul-m1-n64-k64-fp32", "matmul-m16-n64-k64-fp32"}
    assert selection.left_out(CPU) == ("--only rope* matches nothing of matmul; its ops: matmul",)


def test_of_several_ops_without_an_implementation_the_verb_is_plural():
    grids = [MATMUL, read_grid("gelu", ["rows=1", "cols=8"], ())]
    with pytest.raises(BadRun, match=r"^matmul, gelu have no implementation triton"):
        of_grids(grids, read_filter(None, "triton"), "cpu", yes=False).check(CPU)


@pytest.mark.parametrize(
    ("only", "implementation", "message"),
    [
        ("rope*", None, r"--only rope\* matches nothing of matmul; its ops: matmul"),
        ("matmull", None, r"--only matmull matches nothing of matmul: did you mean matmul\? its ops: matmul"),
        (None, "trch", r"matmul has no implementation trch on a cpu: did you mean torch\? known here: torch"),
        (None, "triton,flash", "matmul has no implementation triton flash on a cpu; known here: torch"),
    ],
)
def test_a_filter_that_leaves_nothing_is_refused_with_what_there_is(only, implementation, message):
    with pytest.raises(BadRun, match=message):
        of_grids([MATMUL], read_filter(only, implementation), "cpu", yes=False).check(CPU)


def test_a_grid_of_more_than_ten_thousand_cases_wants_to_be_asked_twice():
    grid = read_grid("matmul", ["m=1:101:1", "n=1:100:1", "k=8"], (BF16,))  # 10,100 sizes
    chosen = read_filter(None, "torch")
    with pytest.raises(BadRun, match=r"these are 10,100 cases, more than 10,000; .*--yes"):
        of_grids([grid], chosen, "cpu", yes=False)
    assert of_grids([grid], chosen, "cpu", yes=True).name == "matmul"


def test_an_unknown_suite_is_refused():
    with pytest.raises(BadRun, match="no suite 'huge'"):
        of_suite("huge")


def test_a_format_that_no_roof_probe_has_gets_one():
    asked = [make_workload("matmul", {"m": 1, "n": 8, "k": 8}, find_dtype(name)) for name in ("fp16", "fp32", "fp16")]
    scaled = make_workload("matmul_scaled", {"m": 1, "n": 8, "k": 8}, find_dtype("int8"))
    copies = make_workload("stream_copy", {"n": 8}, find_dtype("fp64"))
    probes = further_probes([*asked, scaled, copies], CPU)
    assert [probe.id for probe in probes] == ["matmul-m256-n2048-k2048-fp16", "matmul_scaled-m256-n2048-k2048-int8"]


def test_suites_keep_their_own_probes():
    assert of_suite("standard").probes(CPU) == ()
