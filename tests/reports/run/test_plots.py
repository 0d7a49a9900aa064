import dataclasses
import math

import matplotlib as mpl
import pytest

from bench.record import RoofSet, Status
from predict.units import find_dtype
from predict.workloads import OPS, make_workload
from reports.figures import NothingToDraw, to_png
from reports.report.page import write_report
from reports.report.story import story
from reports.run.frame import to_frame
from reports.run.load import Run
from reports.run.plots import DRAWINGS, LOOKS, cache_ratios, cache_rows, ridge_batch
from tests.factories import MEASURED, ROOFS, make_record

HEADS = {"heads": 4, "kv_heads": 4, "head_dim": 64}


def test_figures_do_not_depend_on_the_users_matplotlibrc():
    run = Run(tuple(make_record(dims={"m": m, "n": 8192, "k": 8192}) for m in (1, 1024)))

    def roofline():
        return to_png(DRAWINGS[0].draw(run))

    plain = roofline()
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "black", "savefig.dpi": 10}):
        assert roofline() == plain


def test_each_op_has_a_marker_of_its_own():
    assert list(LOOKS) == list(OPS)
    assert len({look.marker for look in LOOKS.values()}) == len(OPS)


@pytest.mark.parametrize("status", [Status.IMPOSSIBLE, Status.THROTTLED])
def test_a_doubtful_time_is_shown_with_its_status_but_not_drawn(tmp_path, status):
    text = write_report(Run((make_record(time_s=1e-3, status=status),)), tmp_path).read_text()
    assert "1.00 ms" in text
    assert status in text
    assert text.count("not drawn, ") == len(DRAWINGS)


def test_a_matmul_too_thin_for_a_ridge_never_meets_the_compute_roof():
    # Intensity stays under n k / (n + k) = 50 FLOP/byte (bf16), and the ridge is at 100.
    assert ridge_batch(ROOFS, n=100, k=100, dtype="bf16") == math.inf


def test_cache_ratios_use_the_fastest_of_each_and_common_contexts_only():
    def record(op, context, time_s, implementation="torch"):
        return make_record(op, {"batch": 1, "context": context, **HEADS}, time_s=time_s, implementation=implementation)

    frame = to_frame(
        [
            record("generate_cached", 128, 2e-5),
            record("generate_cached", 128, 1e-5, "triton"),
            record("generate_uncached", 128, 7e-5),
            record("generate_uncached", 256, 9e-5),
        ]
    )
    assert cache_ratios(cache_rows(frame)).to_dict() == pytest.approx({128: 7.0})


def test_only_one_side_of_the_cache_is_nothing_to_draw():
    frame = to_frame([make_record("generate_cached", {"batch": 1, "context": 128, **HEADS}, time_s=1e-5)])
    with pytest.raises(NothingToDraw):
        cache_rows(frame)


def matmul_story(times_s):
    records = [make_record(dims={"m": m, "n": 1000, "k": 1000}, time_s=time_s) for m, time_s in times_s.items()]
    return next(each for each in story(to_frame(records), RoofSet(ROOFS, MEASURED)) if each.startswith("Batching"))


def test_the_story_finds_the_knee_and_the_ridge():
    sentence = matmul_story({1: 10e-6, 32: 11e-6, 64: 12e-6, 128: 13e-6, 256: 26e-6})
    assert "up to M = 64;" in sentence  # 13 us is over 1.25 x 10 us
    assert "ridge at M = 125" in sentence


def test_a_time_that_never_rises_is_flat_to_the_last_batch():
    assert "up to M = 256;" in matmul_story({1: 10e-6, 32: 10e-6, 256: 10e-6})


def test_a_measured_row_without_a_roof_does_not_stop_the_report(tmp_path):
    def no_fp8_roof(m):
        workload = make_workload("matmul", {"m": m, "n": 256, "k": 256}, find_dtype("fp8"))
        return dataclasses.replace(make_record(), workload=workload, prediction=None, roofs=RoofSet(ROOFS, MEASURED))

    records = [no_fp8_roof(m) for m in (1, 16, 64)]
    records += [make_record(dims={"m": m, "n": 128, "k": 128}, time_s=1e-3) for m in (1, 16, 64)]
    text = write_report(Run(tuple(records)), tmp_path).read_text()
    assert "(figures/matmul.png)" in text
    assert "with a 128 x 128 weight" in text


def test_a_figure_of_other_records_does_not_outlive_them(tmp_path):
    write_report(Run((make_record(),)), tmp_path)
    assert (tmp_path / "figures" / "roofline.png").is_file()
    write_report(Run((make_record("launch", {}),)), tmp_path)
    assert not (tmp_path / "figures" / "roofline.png").exists()
