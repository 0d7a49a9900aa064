"""A model's pass as its run measured it: hand-made times beside hand-made bounds."""

import pytest
from typer import unstyle

from bench.passes import ModelPass, Whole
from bench.record import RoofSet, Status
from predict.model.kinds import KernelKind
from predict.model.model_kernel import ModelKernel
from predict.resources import Ceiling, Resource
from predict.units import find_dtype
from predict.workloads import Amounts, make_workload
from reports.run.load import Run
from reports.run.passes import measured_passes
from reports.run.terminal import passes_page
from tests.factories import make_record, unstable

BF16 = find_dtype("bf16")
# 1 TFLOP/s and 1 TB/s: a product of m = 1 is bound by its bytes.
ROOFS = RoofSet({}, {Resource.TENSOR_BF16: Ceiling(1e12, "made up"), Resource.DRAM: Ceiling(1e12, "made up")})
QKV = make_workload("matmul", {"m": 1, "n": 3000, "k": 1000}, BF16)  # 2 x (1000 + 3e6 + 3000) bytes: 6.008 us
DOWN = make_workload("matmul", {"m": 1, "n": 1000, "k": 1000}, BF16)  # 2 x (1000 + 1e6 + 1000) bytes: 2.004 us
LAYER = make_workload("stream_copy", {"n": 8}, BF16)  # stands for a layer measured whole


def kernel(name, workload, count, kind=KernelKind.MLP):
    return ModelKernel(kind, name, count, workload.op, workload.dims, BF16, amounts=workload.amounts)


SCAN = ModelKernel(KernelKind.RECURRENCE, "scan", 2, None, {}, BF16, "no op computes a recurrence")


def asked(*kernels, wholes=(), expected_s=None):
    return ModelPass(
        model="made-up",
        phase="decode",
        batch=1,
        tokens=1000,
        layout="tp 1",
        dtype=BF16,
        kernels=kernels,
        wholes=wholes,
        amounts=Amounts({Resource.TENSOR_BF16: 1e6}, bytes_read=40e6, bytes_written=0),  # 40 us
        expected_s=expected_s,
        notes=("a note",),
    )


def record(workload, implementation, time_s=1e-3, reason=None):
    """Measured unless there is a reason why not; the median of its samples is `time_s`."""
    status = Status.SKIPPED if reason else Status.MEASURED
    return make_record(
        workload.op,
        dict(workload.dims),
        implementation=implementation,
        time_s=time_s,
        status=status,
        reason=reason,
        roofs=ROOFS,
    )


def found(passes, *records):
    (each,) = measured_passes(Run(records, passes=(passes,)))
    return each


PASS = asked(kernel("qkv", QKV, 4, KernelKind.PROJECTIONS), kernel("down", DOWN, 2), SCAN, expected_s=60e-6)
RECORDS = (
    record(QKV, "torch", 10e-6),
    record(QKV, "triton", 7.51e-6),
    record(DOWN, "torch", 5.01e-6),
)


def test_a_kernel_takes_its_fastest_implementation_times_how_often_it_runs():
    qkv, down, scan = found(PASS, *RECORDS).rows
    assert (qkv.implementation, qkv.count) == ("triton", 4)
    assert qkv.measured_s == pytest.approx(4 * 7.51e-6)
    assert qkv.bound_s == pytest.approx(4 * 6.008e-6)
    assert qkv.of_bound == pytest.approx(0.8)
    assert down.of_bound == pytest.approx(0.4)
    total_s = 4 * 7.51e-6 + 2 * 5.01e-6
    assert down.share == pytest.approx(2 * 5.01e-6 / total_s)
    assert (scan.measured_s, scan.reason) == (None, "no op computes a recurrence")


def test_the_sum_stands_beside_the_napkin_and_says_what_it_lacks():
    each = found(PASS, *RECORDS)
    assert [(row.what, row.implementation) for row in each.wholes] == [
        ("predict model", "bound"),
        ("predict model", "expected"),
        ("sum of 2 of 3 kernels", "the fastest of each"),
    ]
    times_s = [row.time_s for row in each.wholes]
    assert times_s == pytest.approx([40e-6, 60e-6, 4 * 7.51e-6 + 2 * 5.01e-6])
    assert each.notes == ("a note", "not measured: scan: no op computes a recurrence")
    # The bound of the whole pass says nothing of a sum that lacks a kernel: 40 / 60 us, and none.
    shares = [row["of_bound"] for row in each.whole_table().rows]
    assert shares == [1.0, pytest.approx(2 / 3), None]


def test_a_layer_measured_whole_stands_there_by_each_implementation_and_as_often_as_it_runs():
    wholes = (Whole("layer", 3, LAYER.id, ""), Whole("model", 1, None, "it has a recurrence"))
    each = found(
        asked(kernel("qkv", QKV, 4), wholes=wholes),
        *RECORDS,
        record(LAYER, "torch", 20e-6),
        record(LAYER, "torch_graph", 15e-6),
    )
    assert [(row.what, row.implementation, row.time_s) for row in each.wholes[2:]] == [
        ("3 x layer measured whole", "torch_graph", pytest.approx(45e-6)),
        ("3 x layer measured whole", "torch", pytest.approx(60e-6)),
    ]
    assert "the model as a whole: it has a recurrence" in each.notes


def test_a_whole_that_was_not_measured_says_why():
    wholes = (Whole("model", 1, LAYER.id, ""),)
    each = found(asked(kernel("qkv", QKV, 4), wholes=wholes), *RECORDS, record(LAYER, "torch", reason="does not fit"))
    assert "the model as a whole: torch: skipped: does not fit" in each.notes


def test_the_sentences_name_the_bottleneck_and_where_most_time_is_lost():
    # 4 x 7.51 us of qkv is most time, and 6.0 us of it over the bound; down loses 2 x 5.01 - 2 x 2.004 = 6.0 us.
    slower = (*RECORDS[:2], record(DOWN, "torch", 6e-6))  # loses 8.0 us
    each = found(PASS, *slower)
    first, second = each.sentences
    assert first == (
        "The bottleneck is attention projections, qkv: 71.5 % of the kernels' time, at 80.0 % of its roof."
    )
    assert second == "Most time over its roof is lost in MLP, down: 7.99 us of 14.0 us."


def test_no_sentence_names_a_bottleneck_by_an_unstable_time():
    shaky = found(PASS, RECORDS[0], unstable(RECORDS[1]), RECORDS[2])
    assert shaky.sentences == ("No sentence on the bottleneck: the time of qkv, the longest here, is unstable.",)
    assert "unstable, so another run may find other times: qkv" in shaky.notes


def test_an_unstable_time_and_every_sum_with_it_is_marked_and_so_is_a_share_over_one():
    layer = Whole("layer", 1, LAYER.id, "")
    passes = asked(kernel("qkv", QKV, 1), kernel("down", DOWN, 2), wholes=(layer,))
    # Two runs of down take 2 x 1 us, where its bound is 2 x 2.004 us: 200.4 %.
    each = found(passes, unstable(record(QKV, "torch", 10e-6)), record(DOWN, "torch", 1e-6), record(LAYER, "torch"))
    qkv, down, total = each.table().rows
    assert str(qkv["measured_s"]).startswith("~")
    assert (down["measured_s"], down["of_bound"]) == (pytest.approx(2e-6), "^200.4 %")
    assert str(total["measured_s"]).startswith("~")
    times = {row["what"]: row["time_s"] for row in each.whole_table().rows}
    assert str(times["sum of the kernels"]).startswith("~")
    assert times["layer measured whole"] == pytest.approx(1e-3)
    # Other programs get the numbers, and which of them are unstable.
    assert [(row["kernel"], row["is_unstable"], type(row["measured_s"])) for row in each.flat_rows()] == [
        ("qkv", True, float),
        ("down", False, float),
    ]


def test_what_was_not_measured_says_why():
    each = found(PASS, record(QKV, "torch", reason="does not fit"), *RECORDS[2:])
    assert each.rows[0].reason == "torch: skipped: does not fit"
    nothing = found(asked(SCAN), *RECORDS)
    assert nothing.sentences == ("no kernel of this pass was measured: the notes say why",)


def test_a_kernel_that_the_run_does_not_hold_says_so():
    assert found(PASS, *RECORDS[:2]).rows[1].reason == "not part of this run"


def test_a_tuner_s_configurations_are_not_what_a_pass_runs():
    each = found(PASS, *RECORDS, record(QKV, "triton@64x64-w4-s3", 6.1e-6))
    assert each.rows[0].implementation == "triton"


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_page_keeps_to_its_width_and_loses_nothing(width):
    page = unstyle(passes_page(Run(RECORDS, passes=(PASS,)), width=width))
    assert max(map(len, page.splitlines())) <= width
    for text in ("made-up, decode, batch 1", "qkv", "triton", "80.0 %", "- a note"):
        assert text in page
