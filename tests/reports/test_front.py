"""The figure of Pareto fronts: what is drawn, and that equal fronts give equal bytes."""

from reports.front import Front, draw_fronts, fronts_png

FRONTS = [Front(f"gpu-{index}", [(400.0 + index, 20.0), (100.0, 900.0)]) for index in range(8)]
BEST = Front("2 x gpu-1", [(120.0, 700.0)])


def test_a_line_for_each_gpu_a_star_and_the_speed_asked_for():
    figure = draw_fronts(FRONTS, "a model", best=BEST, user_tokens_per_s=50.0)
    (axes,) = figure.axes
    lines = axes.get_lines()
    assert [line.get_xydata().tolist() for line in lines[:8]] == [
        [list(point) for point in each.points] for each in FRONTS
    ]
    assert lines[8].get_xydata().tolist() == [[120.0, 700.0]]
    assert lines[9].get_xdata()[0] == 50.0
    assert "2 x gpu-1" in [text.get_text() for text in axes.texts]
    looks = {(line.get_color(), line.get_linestyle()) for line in lines[:8]}
    assert len(looks) == 8
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()][:2] == ["gpu-0", "gpu-1"]


def test_the_speed_asked_for_is_named_where_the_axis_goes_on():
    for speed, side in ((50.0, "left"), (300.0, "right")):  # slower than all points; between them
        (axes,) = draw_fronts(FRONTS, "a model", best=BEST, user_tokens_per_s=speed).axes
        (text,) = (each for each in axes.texts if each.get_text() == "TPOT asked for")
        assert text.get_horizontalalignment() == side


def test_equal_fronts_give_equal_bytes():
    assert fronts_png(FRONTS[:2], "a model", best=BEST) == fronts_png(FRONTS[:2], "a model", best=BEST)
