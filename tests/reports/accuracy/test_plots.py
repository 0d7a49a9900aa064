"""Figures of groups made by hand: which there are, what they are called, and that they are the same bytes again."""

import io

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from predict.expected.collective import COLLECTIVES
from predict.expected.kernel import TIME_MODELS
from predict.expected.time_model import Calibration, Machine
from predict.gpus import GPUS
from predict.units import DTYPES, Formats
from reports.accuracy.plots import (
    DRAWINGS,
    REGIONS,
    draw_distribution,
    draw_parity,
    draw_region,
    labels,
    write_figures,
)
from reports.accuracy.relatives import ByRelative
from reports.accuracy.validate import Group
from reports.calibration.refine import Sample
from reports.figures import to_png, to_small_png

H100 = Machine.of(GPUS["h100-sxm"], DTYPES["bf16"])
SIZES = {
    "matmul": {"m": [1, 64, 4096], "n": [512, 4096], "k": [512, 8192]},
    "attention_prefill": {"batch": [1, 8], "seq": [128, 4096], "heads": [32], "kv_heads": [8], "head_dim": [128]},
    "attention_decode": {"batch": [1, 8], "context": [128, 4096], "heads": [32], "kv_heads": [8], "head_dim": [128]},
    "attention_mla": {"batch": [1, 8], "context": [128, 4096], "heads": [16], "latent": [512], "rope": [64]},
    "attention_mla_prefill": {"batch": [1, 8], "seq": [128, 4096], "heads": [16], "latent": [512], "rope": [64]}
    | {"head_dim": [128]},
    "moe_layer": {
        "tokens": [1, 64, 4096],
        "hidden": [4096],
        "intermediate": [1536],
        "active": [8],
        "experts": [128],
        "tp": [1, 8],
        "ep": [1],
        "skew": [1.2],
        "matrices": [3],
    },
    **{op: {"gpus": [2, 4, 8], "message_bytes": [2**10, 2**20, 2**28]} for op in COLLECTIVES},
}

DRAWN = [op for op in SIZES if "mla" not in op and op != "moe_layer"]  # drawn as others are; drawing takes long


def make_group(op="matmul", **changes):
    """Every shape of SIZES takes 10 us; the napkin says 4 us, expected time 9 us."""
    shapes = pd.MultiIndex.from_product(SIZES[op].values(), names=SIZES[op].keys()).to_frame(index=False).astype(float)
    shapes = shapes.assign(window=0.0) if "attention" in op else shapes
    rows = shapes.assign(time_s=1e-5, napkin_s=4e-6, expected_s=9e-6, is_probe=False, term_launch=1e-6, term_narrow=0.0)
    model = TIME_MODELS[op]
    calibration = Calibration(op, model.priors(), dict.fromkeys(model.switches, False), 16, "16 probes")
    values = {
        "table": "a_table",
        "gpu": "h100-sxm",
        "op": op,
        "dtype": "bf16",
        "kv_dtype": "bf16" if "attention" in op else None,
        "window": False,
        "kernel_source": "some_kernel",
        "calibration": calibration,
        "rows": rows,
        "skipped": {},
        "shapes": Sample(
            op, {name: rows[name].to_numpy() for name in model.dims}, rows["time_s"].to_numpy(), H100, Formats()
        ),
        "relative": ByRelative(None, "made up", None, None, None, confirmed=False),
    }
    return Group(**{**values, **changes})


def pixels_of(png):
    return matplotlib.image.imread(io.BytesIO(png))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    return write_figures([make_group(op) for op in DRAWN], tmp_path_factory.mktemp("figures"))


def test_three_figures_for_each_family_of_ops(drawn):
    families = ("matmul", "prefill", "decode", "collectives")
    names = {f"{family}_{drawing.name}.png" for family in families for drawing in DRAWINGS}
    assert {file.name for file in drawn} == names
    assert {file.name for file in drawn[0].parent.iterdir()} == names  # nothing half-written is left


def test_the_same_groups_give_the_same_bytes(drawn, tmp_path):
    again = write_figures([make_group(op) for op in DRAWN], tmp_path)
    assert [file.read_bytes() for file in again] == [file.read_bytes() for file in drawn]


def test_a_figure_of_a_family_that_is_gone_is_removed(tmp_path):
    write_figures([make_group("matmul"), make_group("all_reduce")], tmp_path)
    files = write_figures([make_group("matmul")], tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(files)


def test_napkin_and_expected_stand_side_by_side_for_each_group():
    figure = draw_parity("matmul", [make_group(), make_group(gpu="a100-sxm-80gb")])
    assert [axes.get_xlabel() for axes in figure.axes] == ["napkin", "expected time"] * 2
    assert [axes.get_title(loc="left") for axes in figure.axes[::2]] == ["h100-sxm: bf16", "a100-sxm-80gb: bf16"]


def test_collectives_of_one_gpu_share_a_panel():
    group = make_group("all_reduce", dtype="fp16")
    other = make_group("all_gather", dtype="fp16")
    figure = draw_parity("collectives", [group, other])
    assert len(figure.axes) == 2
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["all reduce", "all gather"]


def test_a_map_shows_the_mean_error_with_its_sign():
    # All shapes take 10 us where 9 us are expected: off by 10 %, too short.
    group = make_group()
    (axes, _) = draw_region("matmul", [group]).axes
    cells = axes.collections[0].get_array().compressed()
    assert cells == pytest.approx(np.full(cells.size, -0.1))
    # m is 2^0, 2^6, 2^12; n k is 2^18, 2^21, 2^22, 2^25 (512 x 512, 4096 x 512, 512 x 8192, 4096 x 8192).
    assert cells.size == 3 * 4


def test_a_line_of_messages_for_each_number_of_gpus():
    (axes,) = draw_region("collectives", [make_group("all_reduce")]).axes
    lines = [line for line in axes.lines if len(line.get_xdata()) == 3]
    assert [list(line.get_ydata()) for line in lines] == [pytest.approx([-0.1] * 3)] * 3


def test_shares_of_shapes_rise_to_all_of_them():
    (axes,) = draw_distribution("matmul", [make_group()]).axes
    expected, napkin = axes.lines[:2]
    assert expected.get_ydata()[-1] == napkin.get_ydata()[-1] == 1
    # |9 / 10 - 1| = 0.1; |4 / 10 - 1| = 0.6
    assert expected.get_xdata() == pytest.approx(np.full(12, 0.1))
    assert napkin.get_xdata() == pytest.approx(np.full(12, 0.6))


def test_many_rows_are_drawn_as_densities_and_probes_are_not_drawn():
    rows = pd.concat([make_group().rows] * 200, ignore_index=True)
    many = draw_parity("matmul", [make_group(rows=rows)])
    assert sum(axes.collections[-1].get_array().sum() for axes in many.axes) == 2 * len(rows)
    probes = rows.assign(is_probe=[*[True] * 1000, *[False] * (len(rows) - 1000)])
    few = draw_parity("matmul", [make_group(rows=probes)])
    assert len(few.axes[0].lines[-1].get_xdata()) == len(rows) - 1000


def test_groups_are_told_apart_by_format_then_kernel_then_table():
    plain, window = make_group("attention_decode"), make_group("attention_decode", window=True)
    other, cache = make_group("attention_decode", kernel_source="b"), make_group("attention_decode", kv_dtype="fp8")
    twice = make_group("attention_decode", table="another")
    assert labels([plain]) == ["bf16"]
    assert labels([plain, window, cache]) == ["bf16", "bf16, window", "bf16, fp8 cache"]
    assert labels([plain, other]) == ["bf16, some_kernel", "bf16, b"]
    assert labels([plain, twice]) == ["bf16, some_kernel, a_table", "bf16, some_kernel, another"]


def test_a_palette_keeps_the_colors_that_most_pixels_have():
    figure = Figure(figsize=(1, 1), dpi=150, facecolor="#123456")
    pixels = pixels_of(to_small_png(figure))
    assert pixels.shape[:2] == (150, 150)
    assert np.unique((pixels[..., :3] * 255).round().reshape(-1, 3), axis=0).tolist() == [[0x12, 0x34, 0x56]]


def test_a_figure_of_few_colors_looks_as_it_would_with_all_of_them():
    group = make_group()
    exact = pixels_of(to_png(draw_region("matmul", [group])))[..., :3]
    found = pixels_of(to_small_png(draw_region("matmul", [group])))[..., :3]
    assert found.shape == exact.shape
    assert np.abs(found - exact).mean() < 0.001
    assert np.abs(found - exact).max() < 0.25


def test_every_op_that_has_a_map_has_sizes_for_it():
    for op, region in REGIONS.items():
        rows = make_group(op).rows
        assert (region.x(rows) > 0).all()
        assert (region.y(rows) > 0).all()
