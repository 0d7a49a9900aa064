import dataclasses
import math

import pytest

from bench import store
from bench.record import RoofSet, Status
from predict.errors import BadRecord
from predict.resources import Ceiling, Resource
from reports.run.frame import json_rows, to_frame
from reports.run.load import load_records
from tests.factories import MEASURED, ROOFS, make_environment, make_record


def write(folder, *records):
    for record in records:
        store.append(folder / store.RECORDS, record)
    return folder


def row(record):
    return to_frame([record]).iloc[0]


def test_the_folder_or_the_file_can_be_named(tmp_path):
    write(tmp_path, make_record())
    assert load_records(tmp_path) == load_records(tmp_path / store.RECORDS)


def test_a_missing_file_says_what_to_give(tmp_path):
    with pytest.raises(BadRecord, match="no such file; give the folder of a run"):
        load_records(tmp_path / "nowhere")


def test_an_empty_file_and_a_file_of_broken_lines_are_refused(tmp_path):
    (tmp_path / store.RECORDS).touch()
    with pytest.raises(BadRecord, match=r"no record \(the file is empty\)"):
        load_records(tmp_path)
    (tmp_path / store.RECORDS).write_text("{}\n")
    with pytest.raises(BadRecord, match=r"no record .*all 1 lines are broken"):
        load_records(tmp_path, skip_broken=True)


def test_broken_lines_can_be_read_past(tmp_path):
    write(tmp_path, make_record())
    with (tmp_path / store.RECORDS).open("a") as lines:
        lines.write('{"schema"\n')
    run = load_records(tmp_path, skip_broken=True)
    assert len(run.records) == 1
    assert f"{store.RECORDS}:2" in run.broken[0]


def test_a_time_of_twice_the_napkin_is_half_of_the_roof():
    # m=16, n=k=8192: 134,742,016 bytes at 1 TB/s.
    found = row(make_record(time_s=2 * 134_742_016 / 1e12))
    assert found["napkin_s"] == pytest.approx(134_742_016 / 1e12)
    assert found["ratio"] == pytest.approx(2.0)
    assert found["of_datasheet"] == pytest.approx(0.5)
    # 262,144 of these bytes are written: a read, whose measured roof is 0.9 TB/s.
    assert found["of_measured"] == pytest.approx(0.5 / 0.9)
    assert found["arithmetic_intensity"] == pytest.approx(2 * 16 * 8192**2 / 134_742_016)
    assert (found["m"], found["bound"], found["time_s"]) == (16, "dram", 2 * 134_742_016 / 1e12)


def test_the_held_clock_counts_for_compute_bound_rows_only():
    # 2*8192^3 FLOP on 132 SMs of 4096 FLOP a clock at the 1.755 GHz that the fixture held.
    compute = row(make_record(dims={"m": 8192, "n": 8192, "k": 8192}, time_s=10e-3))
    assert compute["of_held_clock"] == pytest.approx(2 * 8192**3 / (132 * 4096 * 1.755e9) / 10e-3)
    assert math.isnan(row(make_record())["of_held_clock"])


def test_an_unknown_roof_leaves_its_fraction_absent_and_never_zero():
    found = row(make_record(roofs=RoofSet(ROOFS, {Resource.DRAM_READ: Ceiling(1e12, "measured")})))
    assert math.isnan(found["of_measured"])
    assert found["of_datasheet"] > 0


def test_an_empty_launch_has_a_time_and_no_ratio():
    found = row(make_record("launch", {}, dtype="fp32", time_s=2e-6))
    assert found["time_s"] == 2e-6
    assert math.isnan(found["ratio"])
    assert math.isnan(found["of_datasheet"])
    assert math.isnan(found["arithmetic_intensity"])


def test_a_failed_row_keeps_its_prediction_and_has_no_time():
    found = row(make_record(status=Status.TIMEOUT, reason="too slow"))
    assert (found["status"], found["reason"]) == ("timeout", "too slow")
    assert math.isnan(found["time_s"])
    assert found["napkin_s"] > 0


def test_dimensions_of_other_ops_are_absent():
    frame = to_frame([make_record(), make_record("stream_read", {"n": 8}, dtype="fp32", roofs=cpu_roofs())])
    assert frame["m"].isna().tolist() == [False, True]
    assert frame["n"].tolist() == [8192, 8]


def cpu_roofs():
    return RoofSet({}, {**MEASURED, Resource.VECTOR_FP32: Ceiling(1e12, "measured")})


def test_a_machine_without_a_datasheet_is_predicted_by_its_own_roofs():
    record = make_record(roofs=RoofSet({}, MEASURED), environment=make_environment(gpu=None, name="Some CPU"))
    found = row(record)
    assert found["machine"] == "Some CPU"
    assert math.isnan(found["of_datasheet"])
    assert found["ratio"] == pytest.approx(1 / found["of_measured"])


def test_json_rows_have_null_and_never_nan():
    text = json_rows(to_frame([make_record(status=Status.CRASHED)]))
    assert '"time_s": null' in text
    assert "NaN" not in text


def test_environments_that_differ_by_their_start_only_are_one(tmp_path):
    later = make_environment(utc="2026-01-02T00:00:00+00:00")
    write(tmp_path, make_record(), make_record(implementation="triton", environment=later))
    assert len(load_records(tmp_path).environments) == 1
    other = dataclasses.replace(later, driver="999")
    write(tmp_path, make_record(implementation="naive", environment=other))
    assert len(load_records(tmp_path).environments) == 2


def test_a_row_over_the_datasheet_is_flagged_and_kept():
    napkin_s = 134_742_016 / 1e12
    assert "over 100 % of the datasheet roof" in row(make_record(time_s=0.95 * napkin_s))["warnings"]
    assert "datasheet" not in row(make_record(time_s=1.05 * napkin_s))["warnings"]
