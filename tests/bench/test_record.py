import dataclasses
import json
import math
from pathlib import Path

import pytest

from bench.record import Measurement, RoofSet, Status, from_line, to_line
from predict.errors import BadRecord
from tests.factories import MEASURED, ROOFS, make_environment, make_record

LINE = to_line(make_record())


def changed(**paths):
    """LINE with fields at dotted paths replaced; None removes."""
    data = json.loads(LINE)
    for path, value in paths.items():
        *parents, name = path.split("__")
        place = data
        for parent in parents:
            place = place[parent]
        if value is None:
            del place[name]
        else:
            place[name] = value
    return json.dumps(data)


@pytest.mark.parametrize("status", Status)
def test_a_record_of_any_status_survives_the_file(status):
    record = make_record(status=status)
    assert from_line(to_line(record)) == record


def test_a_dimension_that_may_be_left_out_stays_out_of_the_line_and_is_in_it_where_it_is_given():
    heads = {"batch": 1, "context": 5, "heads": 2, "kv_heads": 1, "head_dim": 4, "inner": 6}
    for dims in (heads, {**heads, "hidden": 10}, {**heads, "matrices": 2}, {**heads, "hidden": 10, "matrices": 2}):
        line = to_line(make_record("block_decode", dims))
        assert json.loads(line)["workload"]["dims"] == dims
        assert from_line(line) == make_record("block_decode", dims)


def test_a_cpu_record_without_datasheet_and_readings_survives():
    environment = make_environment(device="cpu", gpu=None, sm=None, driver=None, ecc=None, mismatches=("a", "b"))
    record = make_record(environment=environment, roofs=RoofSet(datasheet={}, measured=MEASURED))
    measurement = dataclasses.replace(record.measurement, sm_hz=None, power_w=None, throttle=None, cold_l2=None)
    record = dataclasses.replace(record, measurement=measurement, prediction=None)
    assert from_line(to_line(record)) == record


def test_versions_of_optional_packages_survive_and_older_lines_have_none():
    record = make_record(environment=make_environment(packages={"liger-kernel": "0.8.5"}))
    assert from_line(to_line(record)) == record
    assert "packages" in json.loads(LINE)["environment"]
    assert from_line(changed(environment__packages=None)) == make_record()


def test_launches_of_older_lines_are_read_and_no_longer_counted():
    assert json.loads(LINE)["workload"]["amounts"]["launches"] is None
    older = from_line(changed(workload__amounts__launches=3))
    assert older.workload.amounts.launches == 3
    assert older == make_record()


def test_committed_records_of_older_versions_are_read():
    older = sorted((Path(__file__).parents[2] / "reports" / "data").glob("*/*/records.jsonl"))
    assert older
    for line in older[0].read_text(encoding="utf-8").splitlines():
        assert from_line(line).environment.packages == {}


def test_the_line_mirrors_the_nouns_and_names_derived_values_for_readers():
    data = json.loads(LINE)
    assert data["workload"]["op"] == "matmul"
    assert data["workload"]["id"] == "matmul-m16-n8192-k8192-bf16"
    assert data["workload"]["amounts"]["flop_by_unit"] == {"tensor.bf16": 2 * 16 * 8192 * 8192}
    assert data["status"] == "measured"
    assert data["measurement"]["times_s"] == [factor * 1e-3 for factor in (1.0, 1.04, 0.96, 1.0, 1.02, 0.98)]
    assert data["prediction"]["napkin_s"] == 134_742_016 / 1e12
    assert data["prediction"]["bound"] == "dram"
    assert "\n" not in LINE


def test_samples_keep_every_bit():
    times_s = (1.2345678901234567e-05, math.pi * 1e-6, 0.1 + 0.2)
    record = make_record()
    record = dataclasses.replace(record, measurement=dataclasses.replace(record.measurement, times_s=times_s))
    assert from_line(to_line(record)).measurement.times_s == times_s


def test_nan_and_infinity_are_never_written():
    record = make_record()
    broken = dataclasses.replace(record, measurement=dataclasses.replace(record.measurement, times_s=(math.nan,)))
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_line(broken)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (LINE[: len(LINE) // 2], "not JSON"),
        ("[]", "not a napkin-bench record"),
        ('{"name": "pytest"}', "not a napkin-bench record"),
        (changed(reason="\ud800"), "half of a surrogate pair"),
        (changed(schema=99), "schema 99, this version reads 1"),
        (changed(status=None), "missing field status"),
        (changed(status="fast"), "status has the unknown value 'fast'"),
        (changed(surprise=1), "unknown field surprise"),
        (changed(environment__surprise=1), "unknown field environment.surprise"),
        (changed(environment__utc=None), "missing field environment.utc"),
        (changed(environment__packages={"liger-kernel": 1}), "environment.packages.liger-kernel should be str, not 1"),
        (changed(environment__packages=[]), "environment.packages should be dict"),
        (changed(workload__dtype="bf17"), "workload.dtype has the unknown value 'bf17'"),
        (changed(workload__dims={"m": 1.5}), "workload.dims.m should be int, not 1.5"),
        (changed(workload__dims={"m": 1, "n": 1}), "no op 'matmul' with dimensions m, n"),
        (
            changed(workload__dims={"m": 1, "n": 1, "k": 1, "hidden": 1}),
            "no op 'matmul' with dimensions m, n, k, hidden",
        ),
        (changed(workload__op="conv"), "no op 'conv' with dimensions m, n, k"),
        (changed(measurement__times_s=[]), "times_s must be positive numbers"),
        (changed(measurement__times_s=[0.0]), "times_s must be positive numbers"),
        (changed(workload__dims=[1]), "workload.dims should be dict"),
        (changed(measurement__times_s="1"), "measurement.times_s should be list"),
        (changed(measurement__times_s=[True]), "measurement.times_s should be float, not true"),
        (changed(environment__ecc=1), "environment.ecc should be bool, not 1"),
        (
            changed(roofs__measured={"warp": {"per_s": 1.0, "source": ""}}),
            "roofs.measured has the unknown value 'warp'",
        ),
        (changed(roofs__datasheet={"dram": {"per_s": 1.0}}), "missing field roofs.datasheet.dram.source"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(line, message):
    with pytest.raises(BadRecord, match=message.replace("(", r"\(").replace(")", r"\)")):
        from_line(line)


# matmul of m 16, n 8192, k 8192 in bf16: 2 bytes for each of mk + kn elements that are read, and of mn written.
READ, WRITTEN = 2 * (16 * 8192 + 8192 * 8192), 2 * 16 * 8192
DIMS = {"m": 16, "n": 8192, "k": 8192}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[" * 100_000, "too deep to read"),
        (LINE.replace('"status":', '"status":"crashed","status":'), "status is given twice"),
        (LINE.replace('"power_w":', '"power_w":Infinity,"watts":'), "Infinity is no number of JSON"),
        (changed(workload__dims={**DIMS, "m": 2**63}), "workload.dims.m must be a whole number from 1 to"),
        (changed(workload__dims={**DIMS, "m": 0}), "workload.dims.m must be a whole number from 1 to"),
        (changed(workload__dims={**DIMS, "m": -16}), "workload.dims.m must be a whole number from 1 to"),
        (changed(workload__dims={**DIMS, "m": 10**400}), "workload.dims.m is too large a number"),
        (changed(measurement__times_s=[10**400]), "measurement.times_s is too large a number"),
        (changed(measurement__host_s=-1.0), "measurement.host_s must be above 0"),
        (changed(measurement__power_w=-1.0), "measurement.power_w must not be negative"),
        (changed(measurement__launches_per_sample=0), "measurement.launches_per_sample must be above 0"),
        (changed(workload__amounts__bytes_read=1), f"bytes_read 1 is not that of .*: {READ}"),
        (changed(workload__amounts__bytes_written=0), f"bytes_written 0 is not that of .*: {WRITTEN}"),
        (changed(workload__amounts__flop_by_unit={"tensor.bf16": 7}), "flop_by_unit .* is not that of"),
        (changed(workload__amounts__flop_by_unit={"tensor.fp16": 2 * 16 * 8192**2}), "flop_by_unit .* is not that of"),
        (changed(workload__amounts__bytes_read=-1), "bytes_read must not be negative"),
        (changed(check__relative_error=0.9), "its check failed"),
        (changed(measurement=None).replace('"environment"', '"measurement": null, "environment"'), "no measurement"),
    ],
)
def test_what_cannot_be_or_contradicts_itself_is_refused(line, message):
    with pytest.raises(BadRecord, match=message):
        from_line(line)


def test_a_failed_check_is_a_record_if_it_says_so():
    line = changed(check__relative_error=0.9, status="incorrect", reason="error over bound")
    assert not from_line(line).check.passed


def test_every_committed_record_can_be():
    for file in (Path(__file__).parents[2] / "reports" / "data").glob("*/*/records.jsonl"):
        for line in file.read_text(encoding="utf-8").splitlines():
            from_line(line)


def test_the_primary_roofs_are_the_datasheet_where_there_is_one():
    assert RoofSet(ROOFS, MEASURED).primary == ROOFS
    assert RoofSet({}, MEASURED).primary == MEASURED


def test_every_field_of_a_measurement_is_stored_and_none_is_a_rate():
    stored = json.loads(LINE)["measurement"].keys()
    assert stored == {field.name for field in dataclasses.fields(Measurement)} | {"energy_j"}  # for readers alone
    assert not [name for name in stored if name.endswith("_per_s") or "percent" in name]
