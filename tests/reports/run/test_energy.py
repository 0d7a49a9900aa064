"""Joules, worked out by hand: 650 W while a call runs."""

import dataclasses

import pytest

from predict.units import energy, find_dtype
from predict.workloads import make_workload
from reports.run.energy import tokens_of
from reports.run.frame import to_frame
from reports.run.tables import op_tables
from tests.factories import make_record

SHAPE = {"heads": 32, "kv_heads": 8, "head_dim": 128}


@pytest.mark.parametrize(
    ("op", "dims", "tokens"),
    [
        ("matmul", {"m": 16, "n": 8192, "k": 8192}, 16),
        ("rmsnorm", {"rows": 64, "cols": 4096}, 64),
        ("rope", {"tokens": 9, "heads": 32, "head_dim": 128}, 9),
        ("attention_prefill", {"batch": 2, "seq": 1024, **SHAPE}, 2048),
        ("attention_decode", {"batch": 8, "context": 4096, **SHAPE}, 8),
        ("attention_chunk", {"batch": 8, "queries": 4, "context": 4096, **SHAPE}, 32),
        ("generate_uncached", {"batch": 1, "context": 1024, **SHAPE}, 1),
        ("stream_copy", {"n": 1000}, None),
    ],
)
def test_the_tokens_of_a_call(op, dims, tokens):
    assert tokens_of(make_workload(op, dims, find_dtype("bf16"))) == tokens


def test_memory_bound_work_costs_joules_a_token():
    """16 tokens times a weight of 8192 x 8192 in 0.2 ms at 650 W: 0.13 J, 8.125 mJ a token."""
    (row,) = to_frame([make_record(time_s=0.2e-3)]).to_dict(orient="records")
    assert row["energy_j"] == pytest.approx(0.13)
    assert row["joules_per_token"] == pytest.approx(8.125e-3)
    assert row["joules_per_tflop"] != row["joules_per_tflop"]  # NaN


def test_compute_bound_work_costs_joules_a_tflop():
    """2 * 8192^3 = 1.0995e12 FLOP in 2 ms at 650 W: 1.3 J, 1.182 J a TFLOP."""
    record = make_record(dims={"m": 8192, "n": 8192, "k": 8192}, time_s=2e-3)
    (table,) = op_tables(to_frame([record]))
    row = dict(zip(table.titles, table.rows[0], strict=True))
    assert row["energy per TFLOP"] == "1.18 J"
    assert "energy per token" not in row


def test_without_power_there_is_no_energy():
    record = make_record()
    silent = dataclasses.replace(record, measurement=dataclasses.replace(record.measurement, power_w=None))
    (table,) = op_tables(to_frame([silent]))
    assert not [title for title in table.titles if "energy" in title]


@pytest.mark.parametrize(
    ("energy_j", "text"), [(1.3, "1.30 J"), (8.125e-3, "8.12 mJ"), (2500, "2.50 kJ"), (3e-6, "3.00 uJ"), (0, "0 J")]
)
def test_an_energy_is_written_in_its_own_unit(energy_j, text):
    assert energy(energy_j) == text
