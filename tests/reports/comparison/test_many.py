"""What changed, and which bounds differ, for shapes made by hand.

Datasheets: A100 312 TFLOP/s in bf16, 2.039 TB/s; H100 989.4 TFLOP/s, 3.35 TB/s; H200 the same FLOP, 4.8 TB/s."""

import numpy as np
import pytest

from predict.errors import BadRecord
from reports.accuracy.importers import MeasuredTables
from reports.comparison.claims import claim_sentences
from reports.comparison.many import compare_many, sentences
from reports.comparison.sides import Side
from reports.scorecard.card import judge_all
from reports.scorecard.verdict import Evidence
from tests.reports.accuracy.test_compare import A100, H100, THIN, WIDE, make_frame, row

H200 = "h200-sxm"
# 200 x 8192 x 8192 has 200 / (1 + 400 / 8192) = 190.7 FLOP a byte: over the A100's ridge, 153, under the H100's, 295.
BETWEEN = {"m": 200, "n": 8192, "k": 8192}


def side(gpu, *rows):
    return Side(
        gpu, gpu, MeasuredTables(make_frame(*({**each, "gpu": gpu, "table": gpu} for each in rows)), {}), f"table {gpu}"
    )


def test_what_changed_stands_beside_what_the_roofs_say_bound_by_bound():
    first = side(A100, row(time_s=40e-6, **THIN), row(time_s=8e-3, **WIDE))
    second = side(H100, row(time_s=20e-6, **THIN), row(time_s=2e-3, **WIDE))
    found = compare_many([first, second]).changes.set_index("bound")
    assert found.index.tolist() == ["memory", "compute"]
    assert found["time_ratio"].tolist() == pytest.approx([0.5, 0.25])
    assert found["napkin_ratio"].tolist() == pytest.approx([2.039 / 3.35, 312 / 989.4])
    assert found["shapes"].tolist() == [1, 1]


def test_the_mean_over_shapes_is_geometric():
    shapes = [THIN, {**THIN, "n": 8192}]
    first = side(A100, *(row(time_s=1.0, **shape) for shape in shapes))
    second = side(H100, *(row(time_s=time_s, **shape) for shape, time_s in zip(shapes, (0.25, 1.0), strict=True)))
    (change,) = compare_many([first, second]).changes.to_dict(orient="records")
    assert (change["shapes"], change["time_ratio"]) == (2, pytest.approx(0.5))


def test_a_shape_too_short_for_the_roofs_is_told_apart():
    # 2 * (2 * 16 * 1024 + 1024^2) bytes take 1.1 us at 2.039 TB/s.
    short = {"m": 16, "n": 1024, "k": 1024}
    (change,) = compare_many([side(A100, row(**short)), side(H100, row(**short))]).changes.to_dict(orient="records")
    assert change["bound"] == "launch"


def test_a_side_that_lacks_a_format_leaves_it_to_the_others():
    plain, eight = row(**THIN), row(dtype="fp8", time_s=1e-2, **WIDE)
    found = compare_many([side(A100, plain), side(H100, plain, eight), side(H200, plain, eight)])
    fp8 = found.changes[found.changes["format"] == "fp8"]
    assert fp8[["base", "side"]].to_numpy().tolist() == [[H100, H200]]


def test_an_op_that_one_side_alone_measured_is_named_and_left_out():
    cache = {"batch": 8, "context": 4096, "heads": 32, "kv_heads": 8, "head_dim": 128}
    found = compare_many([side(A100, row(**THIN), row("attention_decode", **cache)), side(H100, row(**THIN))])
    assert set(found.shares.rows["op"]) == {"matmul"}
    assert "measured on one side only, and left out: attention_decode" in found.notes


def test_a_shape_between_two_ridges_changes_its_bound():
    found = compare_many([side(gpu, row(**BETWEEN), row(time_s=1e-2, **WIDE)) for gpu in (A100, H100)])
    (move,) = found.moves
    assert move.bounds == {A100: "compute", H100: "memory"}
    assert (move.shapes, move.of, move.example) == (1, 2, "m200-n8192-k8192")
    (table,) = (table for table in found.tables if table.name == "Shapes whose bound differs")
    assert table.rows == (("matmul", "bf16", "compute", "memory", "1 of 2", "m200-n8192-k8192"),)


def test_sentences_give_speeds_and_say_where_bounds_differ():
    first = side(A100, row(time_s=8e-3, **WIDE), row(time_s=2e-3, **BETWEEN))
    second = side(H100, row(time_s=2e-3, **WIDE), row(time_s=5e-4, **BETWEEN))
    said = list(sentences(compare_many([first, second])))
    # Both are compute-bound on the A100. By the roofs: 989.4 / 312 = 3.171 for WIDE; for BETWEEN 2 * 200 * 8192^2 FLOP
    # take 86.04 us on the A100, and 2 * (2 * 200 * 8192 + 8192^2) bytes 42.02 us on the H100: 2.047. Their geometric
    # mean is 2.548.
    assert said == [
        f"matmul in bf16, 2 compute-bound shapes in common, in times the speed of {A100}: {H100} 4.00x (roofs: 2.55x).",
        "50.0 % of the shapes of matmul in bf16 change their bound, most often so: compute on a100-sxm-80gb, memory on"
        " h100-sxm.",
    ]


def test_rows_that_cannot_be_true_do_not_count():
    # 2^40 FLOP take 1.11 ms at the peak: no kernel takes 0.1 ms.
    sides = [side(gpu, row(time_s=time_s, **WIDE), row(**THIN)) for gpu, time_s in ((A100, 1e-2), (H100, 1e-4))]
    found = compare_many(sides)
    assert found.changes["shapes"].tolist() == [1]
    assert f"{H100}: 1 rows left out: faster than the highest rates of the GPU allow" in found.notes


def test_one_side_alone_is_refused():
    with pytest.raises(BadRecord, match="nothing to compare: all is of a100-sxm-80gb"):
        compare_many([side(A100, row(**THIN))])


def test_claims_are_counted_by_side():
    # A claim's error is |predicted / measured - 1|: 0 holds claim 1 (30 %), 0.5 is within its 60 %, 1 fails.
    judged = judge_all({name: {1: Evidence(*arrays, "")} for name, arrays in EVIDENCE.items()})
    assert claim_sentences(judged) == [
        "Rules of thumb that were measured: on a 1 of 1 hold; on b 0 of 1 hold, 1 within a wider tolerance; on c 0 of 1"
        " hold, 1 not."
    ]
    assert claim_sentences([]) == []


def arrays(predicted):
    return np.ones(1), np.full(1, predicted)


EVIDENCE = {"a": arrays(1.0), "b": arrays(1.5), "c": arrays(2.0)}
