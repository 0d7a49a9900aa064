"""What other GPUs' measurements tell of a table, and that no table judges what was fitted to it."""

import itertools
import json

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from predict.errors import BadRun
from predict.expected.calibrations import FILE, RESIDUALS, find_known, read_library
from predict.expected.kernel import expect
from predict.expected.time_model import Machine
from predict.gpus import GPUS
from predict.units import Formats, find_dtype, percent
from reports.__main__ import app
from reports.accuracy.importers import read_tables
from reports.accuracy.relatives import weighted_median
from reports.accuracy.ship import write_calibrations
from reports.accuracy.unmeasured import unmeasured
from reports.accuracy.validate import group_json, validate

RUNNER = CliRunner()
DEVICES = {"h100-sxm": "NVIDIA H100 80GB HBM3", "h200-sxm": "NVIDIA H200"}
SIZES = (16, 64, 256, 1024, 4096, 8192)


def table(folder, gpu, factor=1.0):
    """A table of `gpu`, with times as what ships of it says, times `factor`."""
    m, n, k = np.array(list(itertools.product(SIZES, SIZES, SIZES)), dtype=float).T
    dims, known = {"m": m, "n": n, "k": k}, find_known(GPUS[gpu], "matmul", "bf16")
    machine = Machine.of(GPUS[gpu], find_dtype("bf16"))
    time_s = expect(dims, machine, Formats(), known.calibration).time_s * known.factor(dims) * factor
    frame = pd.DataFrame({"m": m, "n": n, "k": k, "latency": time_s * 1e3, "device": DEVICES[gpu]})
    common = {"framework": "VLLM", "version": "1", "op_name": "gemm", "gemm_dtype": "bfloat16"}
    path = folder / f"{gpu}.parquet"
    frame.assign(**common, kernel_source=known.shipped.kernel).to_parquet(path)
    return path


def judged(path, **options):
    validation = validate(read_tables([path]), **options)
    return group_json(validation.groups[0], validation.skipped)


def test_a_tables_own_gpu_never_counts(tmp_path):
    # Every row is exactly what ships of this GPU, but the answer rests on its sibling and is not exact.
    found = judged(table(tmp_path, "h200-sxm"))
    assert (found["from_gpu"], found["from_basis"], found["from_kernel"]) == (
        "h100-sxm", "sibling", find_known(GPUS["h100-sxm"], "matmul", "bf16").shipped.kernel,
    )  # fmt: skip
    assert found["mape_refined_no_probe"] > 0.01
    assert found["mape_refined_no_probe"] < found["mape_expected_no_probe"]
    assert found["probes_confirm"] is True
    assert found["mape_refined"] < found["mape_expected"]


def test_a_gpu_that_is_left_out_is_not_asked_either(tmp_path):
    path = table(tmp_path, "h200-sxm")
    found = judged(path, leave_out={"h100-sxm"})
    assert found["from_basis"] == "other"
    assert found["mape_refined"] is found["mape_refined_no_probe"] is found["probes_confirm"] is None
    assert "another architecture" in found["not_refined"]
    result = RUNNER.invoke(app, ["validate", str(path), "--leave-out", "h100", "--json"])
    (printed,) = json.loads(result.output)
    assert printed["mape_expected_no_probe"] == pytest.approx(found["mape_expected_no_probe"])
    nothing = judged(path, leave_out=GPUS)
    assert nothing["from_gpu"] is nothing["mape_expected_no_probe"] is None
    assert "no calibration of matmul" in nothing["not_refined"]


def test_the_page_and_the_csv_have_a_column_for_each_error(tmp_path):
    path = str(table(tmp_path, "h200-sxm"))
    page = " ".join(RUNNER.invoke(app, ["validate", path], env={"COLUMNS": "250"}).output.split())
    assert "refined MAPE" in page
    assert "h100-sxm" in page
    head, row = RUNNER.invoke(app, ["validate", path, "--csv"]).output.splitlines()[:2]
    values = dict(zip(head.split(","), row.split(","), strict=True))
    assert values["from_gpu"] == "h100-sxm"
    assert float(values["mape_refined_no_probe"]) < float(values["mape_expected_no_probe"])


def test_what_is_shipped_is_read_again_with_its_residuals_and_errors(tmp_path):
    paths = [table(tmp_path, "h100-sxm"), table(tmp_path, "h200-sxm", 1.1)]
    groups = validate(read_tables(paths), leave_out=GPUS).groups
    files = tmp_path / "calibrations.json", tmp_path / "residuals.npy"
    assert write_calibrations(groups, *files) == files
    first = [file.read_bytes() for file in files]
    write_calibrations(reversed(groups), *files)
    write_calibrations(groups, *files)
    assert [file.read_bytes() for file in files] == first
    library = read_library(json.loads(files[0].read_text()), np.load(files[1]))
    assert [each.gpu for each in library.shipped] == ["h100-sxm", "h200-sxm"]
    assert all(each.refined_error < each.error for each in library.shipped)
    (carried,) = library.carried
    # Each of the two GPUs once by the other; they differ by 10 % and a little.
    assert (carried.op, carried.groups) == ("matmul", 2)
    assert 0.05 < carried.expected_error < 0.2
    asked = find_known(GPUS["gh200-96gb"], "matmul", "bf16", among=library)
    assert (asked.expected_error, asked.refined_error) == (carried.expected_error, carried.refined_error)


def test_the_error_of_most_shapes_counts():
    assert weighted_median([(0.07, 15000), (0.9, 800), (0.08, 16000)]) == 0.08
    assert weighted_median([(0.07, 16100), (0.9, 800), (0.08, 15000)]) == 0.07
    assert weighted_median([(0.04, 10), (0.06, 10)]) == pytest.approx(0.05)


def test_the_document_shows_each_kernel_told_by_a_gpu_of_its_architecture(tmp_path):
    validation = validate(read_tables([table(tmp_path, "h200-sxm")]))
    found = group_json(validation.groups[0], validation.skipped)
    section = unmeasured(validation.groups)
    kernel = found["from_kernel"]
    (line,) = [line for line in section.text.splitlines() if f"| {kernel} | h200-sxm | h100-sxm |" in line]
    names = ("mape_expected", "mape_refined", "mape_expected_no_probe", "mape_refined_no_probe")
    assert line.strip("| ").split(" | ")[5:] == [percent(found[name]) for name in names]
    assert "| matmul | bf16 | the same architecture |" in section.text.replace("|  ", "")
    other = validate(read_tables([table(tmp_path, "h200-sxm")]), leave_out={"h100-sxm"})
    assert unmeasured(other.groups) is None  # only another architecture is left


def test_what_ships_is_not_lost_by_a_command_that_lacks_its_tables(tmp_path):
    before = [file.read_bytes() for file in (FILE, RESIDUALS)]
    result = RUNNER.invoke(app, ["ship", str(table(tmp_path, "h200-sxm"))])
    assert isinstance(result.exception, BadRun)
    assert "a100-sxm_gemm_vllm-0.14.0, " in str(result.exception)
    assert str(result.exception).endswith("would be lost: give these tables too, or --drop")
    assert [file.read_bytes() for file in (FILE, RESIDUALS)] == before
