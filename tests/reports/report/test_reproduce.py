"""The commands that measure a run and its rows again."""

import dataclasses
import shlex

import pytest
from typer.main import get_command

from bench.__main__ import app
from bench.record import FUNCTION
from predict.units import find_dtype
from predict.workloads import Amounts, Workload
from reports.report.reproduce import row_command, run_commands, version_rows
from reports.run.load import Run
from tests.factories import make_environment, make_record
from tests.reports.run.test_passes import QKV, asked, kernel
from tests.test_docs import takes


def test_a_run_is_measured_again_at_its_commit_with_the_flags_that_it_had():
    assert run_commands(Run((make_record(),))) == (
        "git checkout 0123abc",
        "make bench GPU=h200-sxm SUITE=standard OUT=runs/again",
    )
    changed = make_environment(device="cpu", gpu=None, commit=None, warm_cache=True, forced=True)
    assert run_commands(Run((make_record(environment=changed),))) == (
        'make bench GPU=cpu SUITE=standard OUT=runs/again ARGS="--warm-cache --force"',
    )


def test_the_passes_of_a_model_are_measured_again_each_by_its_command():
    passed = dataclasses.replace(asked(kernel("qkv", QKV, 2)), model="llama-3-8b", layout="tp 2")
    (_, command) = run_commands(Run((make_record(),), passes=(passed,)))
    assert command == (
        "python -m bench run --gpu h200-sxm --model llama-3-8b --phase decode --batch 1 --context 1000 --tp 2"
        " --dtype bf16 --out runs/again"
    )
    takes(get_command(app), "bench", "run", shlex.split(command)[4:])


def test_a_suite_with_the_passes_of_a_model_beside_other_rows_is_the_full_one():
    passed = asked(kernel("qkv", QKV, 2))
    dims = {"batch": 1, "heads": 32, "kv_heads": 8, "head_dim": 128, "context": 8192}
    rows = (make_record(), make_record("attention_decode", dims))
    assert run_commands(Run(rows, passes=(passed,)))[1:] == ("make bench GPU=h200-sxm SUITE=full OUT=runs/again",)
    assert "SUITE" not in run_commands(Run(rows[:1], passes=(passed,)))[1]  # a matmul may be a roof probe


def test_the_command_of_a_row_is_one_that_the_program_takes():
    dims = {"batch": 1, "heads": 32, "kv_heads": 8, "head_dim": 128, "context": 8192}
    command = row_command(make_record("attention_decode", dims, implementation="sdpa_flash"))
    assert command == (
        "python -m bench run --op attention_decode batch=1 context=8192 heads=32 kv_heads=8 head_dim=128"
        " --dtype bf16 --implementation sdpa_flash"
    )
    takes(get_command(app), "bench", "run", shlex.split(command)[4:])


def test_a_hostile_name_stays_one_word_of_the_shell():
    words = shlex.split(row_command(make_record(implementation="x; rm -rf /")))
    assert words[-2:] == ["--implementation", "x; rm -rf /"]


def test_a_function_of_a_user_is_named_as_it_was_typed():
    assert row_command(make_record(implementation="mine.kernels:gemm")).endswith(" --callable mine.kernels:gemm")


@pytest.mark.parametrize("name", ["triton@128x128x64B-w8-s4", "torch"])
def test_what_no_option_names_has_no_command(name):
    """A configuration of a tuner; a function that a script measured."""
    record = make_record(implementation=name)
    if name == "torch":
        function = Workload(f"{FUNCTION}norm", {}, find_dtype("bf16"), Amounts({}, 0, 0))
        record = dataclasses.replace(record, workload=function)
    assert row_command(record) == ""


def test_versions_of_every_environment_stand_once():
    other = make_environment(torch="2.12.0", dirty=True)
    rows = version_rows(Run((make_record(environment=other), make_record(implementation="triton"))))
    assert [version for name, version in rows if name == "torch"] == ["2.12.0", "2.13.0"]
    assert [version for name, version in rows if name == "commit"] == ["0123abc with local changes", "0123abc"]
    assert [version for name, version in rows if name == "driver"] == ["580.0"]
