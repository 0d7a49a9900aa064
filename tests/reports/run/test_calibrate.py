"""A run's own calibration: from its probes to calibration.json, and from there into expected times."""

import dataclasses
import json

import numpy as np
import pytest
from typer.testing import CliRunner

from bench import store
from bench.record import RoofSet, Status
from predict.errors import BadRecord
from predict.expected.kernel import TIME_MODELS, expect
from predict.expected.matmul import MATMUL
from predict.expected.probes import PROBES, probe_workloads
from predict.expected.time_model import Calibration, Machine
from predict.gpus import GPUS
from predict.units import Formats, find_dtype
from predict.workloads import dim_names, make_workload
from reports.__main__ import app
from reports.calibration.file import CALIBRATION, read_calibrations
from reports.run.calibrate import explain_fit, fit_headline, fit_run, why_none, write_calibration
from reports.run.load import Run, load_records, read_records
from tests.factories import make_environment, make_record

RUNNER = CliRunner()
BF16 = find_dtype("bf16")
H100 = Machine.of(GPUS["h100-sxm"], BF16)
BOX = make_environment(gpu="h100-sxm", name="NVIDIA H100 80GB HBM3")
ROOFS = RoofSet(GPUS["h100-sxm"].roofs, {})
# Away from the priors (3.5 us, 0.83, 0.82, 105, 2.6 us), within a spread of each.
TRUE_MATMUL = Calibration(
    "matmul",
    {"launch_s": 5e-6, "math_share": 0.75, "dram_share": 0.9, "tile_edge": 120.0, "join_s": 2.5e-6},
    {"whole_waves": False, "fixed_tiles": False, "splits_k": True},
    16,
    "made up",
)
OTHERS = tuple(
    make_workload("matmul", {"m": m, "n": n, "k": k}, BF16)
    for m in (1, 48, 384, 3000)
    for n, k in ((4096, 4096), (28672, 4096), (1280, 10240))
)


def true_of(op):
    """A calibration of `op` with every constant 10 % over its prior, where its range allows it."""
    model = TIME_MODELS[op]
    constants = {
        name: min(1.1 * constant.prior, constant.high) for name, constant in model.constants.items()
        if name in model.fitted(Formats())
    }  # fmt: skip
    return Calibration(op, constants, model.default_switches(H100), 16, "made up")


def times_of(workloads, calibration):
    columns = {name: [w.dims[name] for w in workloads] for name in dim_names(workloads[0].op)}
    return expect(columns, H100, Formats(), calibration).time_s.tolist()


def records_of(workloads, calibration, *, implementation="torch", environment=BOX, factor=1.0):
    return [
        make_record(
            workload.op, dict(workload.dims), implementation=implementation, environment=environment,
            time_s=factor * time_s, roofs=ROOFS,
        )
        for workload, time_s in zip(workloads, times_of(workloads, calibration), strict=True)
    ]  # fmt: skip


def matmul_run(environment=BOX):
    """All probes and a dozen other shapes, by two implementations of which the second is always slower."""
    workloads = (*probe_workloads("matmul", BF16), *OTHERS)
    return Run(
        (
            *records_of(workloads, TRUE_MATMUL, environment=environment),
            *records_of(workloads, TRUE_MATMUL, environment=environment, implementation="triton", factor=1.5),
        )
    )


@pytest.fixture(scope="module")
def matmul_fit():
    (fit,) = fit_run(matmul_run())
    return fit


@pytest.fixture
def folder(tmp_path):
    for record in matmul_run().records:
        store.append(tmp_path / store.RECORDS, record)
    return tmp_path


def test_constants_behind_made_up_times_are_found_again(matmul_fit):
    found, true = matmul_fit.calibration, TRUE_MATMUL
    assert (found.op, found.probes, found.switches) == ("matmul", 16, true.switches)
    assert found.constants.keys() == true.constants.keys()
    # The priors pull a little: 16 rows, each trusted to 10 %.
    for name, value in true.constants.items():
        assert found.constants[name] == pytest.approx(value, rel=0.1), name


def test_the_other_shapes_are_judged_and_the_probes_are_not(matmul_fit):
    assert matmul_fit.errors.rows == len(OTHERS)
    assert matmul_fit.errors.mape_expected < 0.03
    # No shape reaches over 90 % of a roof, by the constants: the napkin is off by more than 10 %.
    assert matmul_fit.errors.mape_napkin > 0.1
    assert matmul_fit.errors.faster_than_bound == 0


@pytest.mark.parametrize("op", ["attention_prefill", "attention_decode"])
def test_attention_is_calibrated_from_its_probes_alone(op):
    true = true_of(op)
    (fit,) = fit_run(Run(tuple(records_of(probe_workloads(op, BF16), true))))
    assert fit.errors is None
    assert "no other shapes" in fit_headline(fit)
    others = [
        make_workload(op, dict(zip(dim_names(op), shape, strict=True)), BF16)
        for shape in ((2, 3000, 32, 8, 128), (16, 700, 16, 16, 64), (1, 9000, 40, 8, 128))
    ]
    assert times_of(others, fit.calibration) == pytest.approx(times_of(others, true), rel=0.05)


def test_one_implementation_can_be_named(matmul_fit):
    (slower,) = fit_run(matmul_run(), implementation="triton")
    assert "triton" in slower.calibration.source
    assert "fastest" in matmul_fit.calibration.source
    assert slower.calibration.constants["launch_s"] > 1.2 * matmul_fit.calibration.constants["launch_s"]
    assert "no probes by triton_wide" in why_none(matmul_run(), implementation="triton_wide")


def test_a_run_that_lacks_a_probe_is_not_calibrated_and_told_what_it_lacks():
    first, *rest = records_of(probe_workloads("matmul", BF16), TRUE_MATMUL)
    failed = make_record(dims=dict(first.workload.dims), status=Status.OUT_OF_MEMORY, environment=BOX)
    run = Run((failed, *rest))
    assert fit_run(run) == ()
    reason = why_none(run)
    assert "matmul in bf16 lacks 1 of 16 probes, such as matmul-m16-n256-k128-bf16" in reason
    assert "--suite calibration" in reason


def test_nothing_is_calibrated_on_a_cpu_or_an_unknown_card():
    for environment in (make_environment(gpu=None, name="Some CPU", device="cpu"), make_environment(gpu=None)):
        run = matmul_run(environment)
        assert fit_run(run) == ()
        assert "need a GPU of the GPU table" in why_none(run)


def test_a_card_of_which_a_fact_is_unknown_is_not_calibrated_and_told_which():
    loaded = matmul_run(dataclasses.replace(BOX, gpu="h100-nvl"))
    assert fit_run(loaded) == ()
    assert why_none(loaded) == "the size of L2 of h100-nvl is not known"


def test_the_explanation_names_every_constant_with_its_unit(matmul_fit):
    text = explain_fit(matmul_fit)
    assert "matmul in bf16: calibrated from 16 probes; mean error on 12 other shapes: napkin" in text
    for name in TRUE_MATMUL.constants:
        assert any(line.split()[0] == name and MATMUL.constants[name].unit in line for line in text.splitlines())
    assert all(len(line) <= 100 for line in text.splitlines()[1:])


def test_a_run_is_read_with_its_own_calibration_rather_than_the_one_that_ships(folder, matmul_fit):
    probe = probe_workloads("matmul", BF16)[0]
    shipped = load_records(folder)
    assert "aiconfigurator" in shipped.calibrations["matmul", "bf16"].source
    write_calibration(shipped, folder, (matmul_fit,))
    own = load_records(folder)
    assert own.calibrations == {("matmul", "bf16"): matmul_fit.calibration}
    assert own.bases["matmul", "bf16"].startswith("measured by this run, off by ")
    assert load_records(folder / store.RECORDS) == own
    expected_s = [float(record.prediction.expected_s) for record in own.records if record.workload == probe]
    assert expected_s == pytest.approx(2 * times_of([probe], matmul_fit.calibration))  # of both implementations
    assert [float(r.prediction.expected_s) for r in shipped.records if r.workload == probe] != expected_s
    frame = own.frame
    assert np.abs(frame["expected_s"] / frame["time_s"] - 1)[frame["implementation"] == "torch"].mean() < 0.03


def test_fp16_takes_the_calibration_of_bf16(folder, matmul_fit):
    store.append(folder / store.RECORDS, make_record(dtype="fp16", environment=BOX, roofs=ROOFS))
    write_calibration(read_records(folder), folder, (matmul_fit,))
    own = read_calibrations(folder / CALIBRATION, BOX)
    assert own.find("matmul", find_dtype("fp16")).calibration == matmul_fit.calibration
    assert load_records(folder).calibrations["matmul", "fp16"] == matmul_fit.calibration
    assert own.find("matmul", find_dtype("fp32")) is None
    assert own.find("attention_decode", BF16) is None


def test_the_command_prints_the_fit_and_writes_the_file(folder, matmul_fit):
    result = RUNNER.invoke(app, ["calibrate", str(folder)])
    assert result.exit_code == 0, result.output
    assert explain_fit(matmul_fit) in result.stdout
    assert result.stdout.splitlines()[-1] == str(folder / CALIBRATION)
    assert load_records(folder).calibrations["matmul", "bf16"] == matmul_fit.calibration
    (row,) = json.loads(RUNNER.invoke(app, ["calibrate", str(folder), "--json"]).stdout)
    assert row["constants"] == pytest.approx(dict(matmul_fit.calibration.constants))
    assert (row["op"], row["dtype"], row["probes"], row["errors"]["rows"]) == ("matmul", "bf16", 16, len(OTHERS))


def test_the_command_refuses_a_run_without_probes_and_repairs_a_broken_file(folder):
    (folder / CALIBRATION).write_text("{")
    assert RUNNER.invoke(app, ["show", str(folder)]).exit_code != 0
    assert RUNNER.invoke(app, ["calibrate", str(folder)]).exit_code == 0
    assert RUNNER.invoke(app, ["show", str(folder)]).exit_code == 0
    (folder / store.RECORDS).write_text("")
    store.append(folder / store.RECORDS, make_record(environment=BOX))
    result = RUNNER.invoke(app, ["calibrate", str(folder)])
    assert "this run measured no probes" in str(result.exception)


def change(path, value):
    """A change to a file: the last of `path` is set to `value`, or removed where it is None."""

    def apply(data):
        *inner, last = path
        for key in inner:
            data = data[key]
        if value is None:
            del data[last]
        else:
            data[last] = value

    return apply


CONSTANTS = ("fitted", 0, "calibration", "constants")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (change(["schema"], 2), "not a calibration file of schema 1"),
        (change(["gpu"], "a100-sxm-80gb"), "calibrates 'a100-sxm-80gb', but the records are of h100-sxm"),
        (change(["gpu"], "h1000"), "calibrates 'h1000'"),
        (change(["harness"], 99), "harness 99"),
        (change(["fitted"], None), "missing field fitted"),
        (change(["note"], "x"), "unknown field note"),
        (change(["fitted", 0, "dtype"], "bf17"), "unknown value 'bf17'"),
        (change(["fitted", 0, "calibration", "op"], "conv"), "op 'conv' has no expected time"),
        (change(["fitted", 0, "calibration", "probes"], "16"), "probes should be int"),
        (change(["fitted", 0, "calibration", "switches", "whole_waves"], 1), "whole_waves should be bool"),
        (change(["fitted", 0, "calibration", "switches", "whole_waves"], None), "missing matmul switch 'whole_waves'"),
        (change([*CONSTANTS, "launch_s"], None), "missing matmul constant 'launch_s'"),
        (change([*CONSTANTS, "lunch_s"], 1.0), "unknown matmul constant 'lunch_s'"),
        (change([*CONSTANTS, "launch_s"], "3 us"), "launch_s should be float"),
        (change([*CONSTANTS, "launch_s"], float("nan")), "NaN is no number of JSON"),
        (change([*CONSTANTS, "math_share"], 1.5), "math_share of matmul is 1.5, not from 0.4 to 1"),
    ],
)
def test_a_wrong_file_is_refused_by_name(folder, matmul_fit, edit, message):
    file = write_calibration(read_records(folder), folder, (matmul_fit,))
    data = json.loads(file.read_text())
    edit(data)
    file.write_text(json.dumps(data))
    with pytest.raises(BadRecord) as error:
        load_records(folder)
    assert str(error.value).startswith(f"{file}: ")
    assert message in str(error.value)
    assert "reports calibrate" in str(error.value)


def test_a_file_that_is_no_json_or_calibrates_twice_is_refused(folder, matmul_fit):
    file = write_calibration(read_records(folder), folder, (matmul_fit, matmul_fit))
    with pytest.raises(BadRecord, match="calibrates matmul in bf16 twice"):
        load_records(folder)
    for text in ("", "[]", '{"schema"', "\xff"):
        file.write_bytes(text.encode("latin-1"))
        with pytest.raises(BadRecord, match=CALIBRATION):
            load_records(folder)


def test_a_calibration_survives_the_file_exactly(folder, matmul_fit):
    file = write_calibration(read_records(folder), folder, (matmul_fit,))
    fitted = read_calibrations(file, BOX).find("matmul", BF16)
    assert (fitted.calibration, fitted.refined) == (matmul_fit.calibration, matmul_fit.refined)
    assert fitted.error == matmul_fit.errors.mape_expected
    before = file.read_bytes()
    write_calibration(read_records(folder), folder, (matmul_fit,))
    assert file.read_bytes() == before
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []


def test_records_keep_their_absent_expected_time_where_nothing_is_calibrated(tmp_path):
    for record in (
        make_record(environment=make_environment(gpu=None, name="Some CPU")),
        make_record("launch", {}, dtype="fp32", environment=make_environment(gpu=None, name="Some CPU")),
    ):
        store.append(tmp_path / store.RECORDS, record)
    run = load_records(tmp_path)
    assert run == read_records(tmp_path)
    assert run.calibrations == {}
    assert run.frame["expected_s"].isna().all()


def test_a_record_without_a_prediction_gets_no_expected_time(tmp_path):
    store.append(tmp_path / store.RECORDS, dataclasses.replace(make_record(environment=BOX), prediction=None))
    (record,) = load_records(tmp_path).records
    assert record.prediction is None


def test_every_op_with_probes_has_a_form():
    assert PROBES.keys() <= TIME_MODELS.keys()
