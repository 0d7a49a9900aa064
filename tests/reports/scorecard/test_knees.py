"""The figure of the knee, of matmuls whose times follow a rule."""

import numpy as np
import pytest

from reports.scorecard.knees import draw_knees, knees_of, knees_png
from tests.reports.scorecard.test_kernels import RIDGE, ROWS, by_bound, group, matmuls


def test_times_that_are_their_bounds_lie_on_the_napkin():
    (knee,) = knees_of([matmuls(by_bound)])
    assert knee.gpu == "h100-sxm"
    assert knee.ridge_rows == pytest.approx(989e12 / 3.35e12, rel=1e-3)  # 295
    assert knee.rows.tolist() == list(ROWS)
    assert knee.share_of_bound == pytest.approx(np.ones(len(ROWS)))
    # A row costs the ridge over the batch below the ridge, and its FLOP above; activations move a little more.
    assert knee.over_peak == pytest.approx(np.maximum(1, RIDGE / np.array(ROWS)), rel=0.05)


def test_twice_the_bound_costs_twice_and_is_half_of_it():
    (once,), (twice,) = (knees_of([matmuls(lambda _, bound, by=by: by * bound)]) for by in (1, 2))
    assert twice.over_peak == pytest.approx(2 * once.over_peak)
    assert twice.share_of_bound == pytest.approx(np.full(len(ROWS), 0.5))


def test_the_median_weight_decides():
    # Of three weights one takes ten times its bound.
    sizes = {"m": ROWS, "n": (8192, 16384, 32768), "k": (16384,)}
    uneven = group("matmul", sizes, lambda columns, bound: np.where(columns["n"] == 8192, 10, 1) * bound)
    (knee,) = knees_of([uneven])
    assert knee.share_of_bound == pytest.approx(np.ones(len(ROWS)))


def test_a_gpu_without_matmuls_of_few_and_many_rows_has_no_knee():
    assert knees_of([group("matmul", {"m": (1, 16), "n": (8192,), "k": (8192,)}, by_bound)]) == []
    assert knees_of([]) == []


def test_the_figure_names_each_gpu_with_its_ridge_and_is_the_same_again():
    found = knees_of([matmuls(by_bound)])
    figure = draw_knees(found)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["napkin", "h100-sxm: ridge 295"]
    assert len(figure.axes) == 2
    assert knees_png(found) == knees_png(found)
