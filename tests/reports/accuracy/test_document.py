"""docs/accuracy.md of tables made by hand: products that take what a form with known constants says."""

import itertools

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from predict.expected.kernel import TIME_MODELS, expect
from predict.expected.time_model import Calibration, Machine
from predict.gpus import GPUS
from predict.units import DTYPES, Formats
from reports.__main__ import app
from reports.accuracy.document import Section, write_accuracy
from reports.accuracy.importers import MeasuredTables, read_tables
from reports.accuracy.validate import Validation, validate
from reports.calibration.errors import errors
from tests.reports.accuracy.test_plots import make_group

DEVICES = {"a100-sxm-80gb": "NVIDIA A100-SXM4-80GB", "h100-sxm": "NVIDIA H100 80GB HBM3"}
# Far from the priors of the form, within their ranges.
KNOWN = {"launch_s": 5e-6, "math_share": 0.7, "dram_share": 0.7, "tile_edge": 150.0, "join_s": 2.8e-6}


def products(gpu, *, factor=1.0):
    """216 products in aiconfigurator's columns that take `factor` times what the form says with KNOWN."""
    shapes = np.array(list(itertools.product(2 ** np.arange(0, 12, 2), 2 ** np.arange(8, 14), 2 ** np.arange(8, 14))))
    dims = dict(zip(("m", "n", "k"), shapes.T, strict=True))
    model = TIME_MODELS["matmul"]
    machine = Machine.of(GPUS[gpu], DTYPES["bf16"])
    known = Calibration("matmul", {**model.priors(), **KNOWN}, model.default_switches(machine), 0, "")
    time_s = expect(dims, machine, Formats(), known).time_s * factor
    common = {"device": DEVICES[gpu], "op_name": "gemm", "kernel_source": "a_kernel", "gemm_dtype": "bfloat16"}
    return pd.DataFrame({**dims, "latency": time_s * 1e3}).assign(**common)


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    paths = []
    for gpu in DEVICES:
        paths.append(folder / f"{gpu}.parquet")
        products(gpu).to_parquet(paths[-1])
    return paths


@pytest.fixture(scope="module")
def written(tables, tmp_path_factory):
    out = tmp_path_factory.mktemp("docs")
    measured_tables = read_tables(tables)
    return write_accuracy(measured_tables, validate(measured_tables), out)


def text_of(files):
    """All pages, one after the other."""
    return "\n".join(file.read_text(encoding="utf-8") for file in files if file.suffix == ".md")


def document_of(groups, tmp_path, sections=()):
    """The pages for groups made by hand."""
    measured_tables = MeasuredTables(pd.DataFrame({"gpu": ["h100-sxm"], "table": ["a"], "time_s": [1.0]}), {})
    return text_of(write_accuracy(measured_tables, Validation(tuple(groups), {}), tmp_path, sections))


def off_by(share, **changes):
    """A group all of whose shapes are expected to take `share` less or more than they do."""
    group = make_group(**changes)
    return make_group(**{**changes, "rows": group.rows.assign(expected_s=group.rows["time_s"] * (1 + share))})


def test_the_same_tables_give_the_same_bytes(tables, written, tmp_path):
    result = CliRunner().invoke(app, ["accuracy", *map(str, tables), "--out", str(tmp_path / "again")])
    assert result.exit_code == 0, result.output
    again = [tmp_path / "again" / file.relative_to(written[0].parent) for file in written]
    assert result.output.split() == [str(file) for file in again]
    assert [file.read_bytes() for file in again] == [file.read_bytes() for file in written]


def test_every_group_has_its_row_its_constants_and_its_worst_rows(written):
    text = text_of(written)
    for gpu in DEVICES:
        # 6 x 6 x 6 shapes, 16 of them probes.
        assert f"| {gpu} | matmul | bf16 | a_kernel | 200 |" in text
        assert text.count(f"| {gpu}, bf16 |") == 3  # the worst rows
    assert "400 shapes in 2 groups" in text
    assert "| launch_s | math_share |" in text
    assert "- `launch_s` (s): time of an empty call" in text


def test_known_constants_are_found_again(written):
    # What does not touch a constant cannot tell it: launch and DRAM are told by these shapes on either GPU.
    lines = [line for line in text_of(written).splitlines() if line.startswith("| h100-sxm | bf16")]
    launch, _, dram, *_ = lines[0].split(" | ")[2:]
    assert float(launch.removesuffix(" us")) == pytest.approx(5, rel=0.1)
    assert float(dram) == pytest.approx(0.7, rel=0.1)


def test_figures_and_pages_that_the_text_shows_are_there(written):
    shown = {
        (page.parent / part.partition(")")[0]).resolve()
        for page in written
        if page.suffix == ".md"
        for part in page.read_text(encoding="utf-8").split("](")[1:]
    }
    assert shown == {file.resolve() for file in written}
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in written if file.suffix == ".png")


def test_the_first_table_has_the_mean_error_of_each_kind_on_each_gpu(tmp_path):
    # 12 shapes off by 5 % and 12 of another kernel off by 25 %: 15 %, and the second misses its bar.
    groups = [off_by(0.05), off_by(0.25, kernel_source="slow"), off_by(0.05, gpu="a100-sxm-80gb")]
    text = document_of([*groups, off_by(0.5, op="attention_decode", window=True)], tmp_path)
    first = text[text.index("| op |") :].splitlines()
    assert [line.strip("| ").split(" | ") for line in (first[0], first[2], first[3])] == [
        ["op", "format", "a100-sxm-80gb", "h100-sxm"],
        ["matmul", "bf16", "5.00 %", "**15.0 %**"],
        ["attention_decode", "bf16, window", "", "50.0 %"],
    ]


def test_sections_of_other_modules_have_their_place(tmp_path):
    text = document_of([off_by(0.05)], tmp_path, [Section("Whole models", "Some text.")])
    assert "## Whole models\n\nSome text.\n" in text


def test_two_gpus_are_set_side_by_side(written):
    text = written[0].read_text(encoding="utf-8")
    assert "## a100-sxm-80gb against h100-sxm: share of the roofline" in text
    # Datasheets: 312 TFLOP/s over 2.039 TB/s is 153 FLOP a byte, 989 over 3.35 is 295.
    assert "The ridge moves from 153 to 295 FLOP a byte" in text


def test_tables_that_nobody_published_get_no_story_of_others(written):
    text = written[0].read_text(encoding="utf-8")
    assert "What was tried and dropped" not in text
    assert "aiconfigurator" not in text


def test_a_bar_is_met_or_not(tmp_path):
    # The bar of matmul in bf16 on an H100 is 6 %, on an A100 7.5 %.
    met = document_of([off_by(0.05)], tmp_path)
    assert "6.00 %, met |" in met
    assert "Every bar that applies is met." in met
    missed = document_of([off_by(0.11), off_by(0.05, gpu="a100-sxm-80gb")], tmp_path)
    assert "| **6.00 %, not met** |" in missed
    assert "7.50 %, met |" in missed
    assert "**Not met:** matmul bf16 on h100-sxm (some_kernel), 11.0 % against 6.0 %" in missed


def test_windows_other_caches_and_large_heads_are_held_to_no_bar(tmp_path):
    decode = make_group("attention_decode")
    large = decode.rows.assign(expected_s=1.0, head_dim=512.0)
    groups = [
        off_by(0.5, op="attention_decode", window=True),
        off_by(0.5, op="attention_decode", kv_dtype="fp8"),
        make_group("attention_decode", rows=large),
    ]
    text = document_of(groups, tmp_path)
    assert "not met" not in text.lower()


def test_rows_that_beat_the_bound_are_listed_the_furthest_first(tmp_path):
    # 10 us against bounds of 12 us and 20 us: 0.83 and 0.50 of it. 20 us of H100's 3.35 TB/s are 64 MiB, L2 holds 50.
    rows = make_group().rows
    rows.loc[0, "napkin_s"], rows.loc[1, "napkin_s"] = 12e-6, 20e-6
    text = document_of([make_group(rows=rows)], tmp_path)
    assert "2 of 12 rows beat the bound; the furthest takes 0.50 of its bound." in text
    assert "L2 holds" not in text
    assert text.index("| 10.0 us | 20.0 us | 0.50 |") < text.index("| 10.0 us | 12.0 us | 0.83 |")
    rows.loc[1, "napkin_s"] = 4e-6  # 12 us are 38 MiB
    assert "L2 holds 50 MiB" in document_of([make_group(rows=rows)], tmp_path)


def test_probes_play_no_part_in_what_is_said(tmp_path):
    rows = make_group().rows
    rows.loc[0, ["expected_s", "is_probe"]] = [1.0, True]
    assert errors(make_group(rows=rows).judged).mape_expected == pytest.approx(0.1)
    assert "| 11 | 60.0 % | 10.0 % |" in document_of([make_group(rows=rows)], tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [("m,n\n1,2\n", "unknown kind of table"), (None, "no such file"), ("", "not a table")],
)
def test_bad_input_is_one_line_and_status_2(content, message, tmp_path, refusal):
    path = tmp_path / "table.csv"
    if content is not None:
        path.write_text(content)
    assert refusal(app, "accuracy", path, "--out", tmp_path / "docs").count(message) == 1
    assert not (tmp_path / "docs").exists()


def test_too_few_shapes_are_one_line_and_status_2(tmp_path, refusal):
    products("h100-sxm").head(100).to_parquet(tmp_path / "few.parquet")
    line = refusal(app, "accuracy", tmp_path / "few.parquet", "--out", tmp_path / "docs")
    assert "group of fewer than 200 shapes (100 rows)" in line


def test_a_folder_that_cannot_be_made_is_one_line_and_status_2(tables, tmp_path, refusal):
    (tmp_path / "docs").write_text("a file")
    line = refusal(app, "accuracy", tables[1], "--out", tmp_path / "docs")
    assert "cannot write to" in line
