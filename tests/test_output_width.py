"""Every command that prints a table keeps all its words at any width, has all forms, and takes one of them.

The commands are found by their options, so that a new one cannot be forgotten."""

import csv
import fcntl
import io
import itertools
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from bench import doctor, store
from bench.__main__ import app as bench_app
from bench.passes import write_passes
from kernels.__main__ import app as kernels_app
from kernels.triton import compile as compiling
from predict.__main__ import app as predict_app
from predict.expected.kernel import TIME_MODELS, expect
from predict.expected.matmul import MATMUL
from predict.expected.probes import probe_workloads
from predict.expected.time_model import Calibration, Machine
from predict.gpus import GPUS
from predict.units import Formats, find_dtype
from reports.__main__ import app as reports_app
from reports.accuracy import validate as validating
from reports.run import calibrate as fitting
from reports.sweep import plots
from tests.factories import make_environment, make_record
from tests.reports.accuracy.test_validate import gemm_rows, written
from tests.reports.run.test_passes import PASS

ROOT = Path(__file__).resolve().parent.parent
APPS = {"predict": predict_app, "kernels": kernels_app, "bench": bench_app, "reports": reports_app}
WIDTHS = (40, 80, 120, 200)
COMMITTED = [str(ROOT / "reports" / "data" / "cpu-amd-epyc" / run) for run in ("2026-11-29", "2026-11-29-standard")]

# Command -> the arguments to call it with. {probes}: a run with all probes of matmul on an H100. {table}: a table of
# times. {out}: a new folder.
ARGUMENTS = {
    "predict model": "llama-3-70b --gpu h100 --gpus 8 --tp 4 --dp 2 --batch 4 --seq 8192 --all",
    "predict models": "",
    "predict gpus": "",
    "predict ops": "",
    "predict formulas": "",
    "kernels list": "",
    "kernels compile": "",
    "bench list": "--suite smoke --gpu cpu",
    "bench doctor": "--gpu cpu",
    "bench inputs": "matmul",
    "reports show": COMMITTED[0],
    "reports compare": " ".join(COMMITTED),
    "reports sweep": "--model llama-3-8b --gpu h100,l4 --batch 1:4 --context 1k:2k --out {out}",
    "reports validate": "{table}",
    "reports calibrate": "{probes}",
    "reports passes": "{probes}",
    "reports scorecard": "{probes}",
    "reports import": f"{ROOT / 'tests' / 'data' / 'served' / 'vllm_serve.json'} --model llama-3-8b --gpu h100",
}
# Other ways to call them, whose tables are others.
MORE = {
    "predict model": (
        "llama-3-70b --gpu h100,h200 --gpus 2,4,8 --batch 32",
        "llama-3-8b --gpu h100 --by-kernel",
        "llama-3-8b --gpu h100,l40s --gpus 1 --isl 1000 --osl 200 --ttft 1 --tpot 50ms",
    ),
    "reports compare": ("{table} {probes}", f"{COMMITTED[0]} {COMMITTED[1]} {{probes}}"),
    "reports scorecard": ("{table}", f"{{table}} {{probes}} {COMMITTED[0]}"),
}
# Commands with these options whose tables another test draws, and which.
ELSEWHERE = {
    "bench run": "prints a run as `reports show` does",
    "bench tune": "needs a kernel: tests/bench/test_tune.py",
}
# Commands with --json that print no table.
NO_TABLE = {"predict kernel", "predict formula"}


def commands_with(option):
    return {
        f"{package} {name}"
        for package, app in APPS.items()
        for name, command in typer.main.get_command(app).commands.items()
        if any(option in parameter.opts for parameter in command.params)
    }


def words(arguments, **places):
    return [each.format(**places) for each in arguments.split()]


def once(function):
    """The function, which works only at its first call."""
    found = []

    def first(*arguments, **named):
        if not found:
            found.append(function(*arguments, **named))
        return found[0]

    return first


FIT, VALIDATE, EXAMINE = once(fitting.fit_run), once(validating.validate), once(doctor.examine)
CALLS = [(command, arguments) for command, first in ARGUMENTS.items() for arguments in (first, *MORE.get(command, ()))]


def test_every_command_that_prints_a_table_is_called_here():
    assert commands_with("--csv") == ARGUMENTS.keys() | ELSEWHERE.keys()
    assert commands_with("--markdown") == commands_with("--csv")
    assert commands_with("--json") == commands_with("--csv") | NO_TABLE


@pytest.fixture(scope="module")
def probes(tmp_path_factory):
    """A run on an H100 with all probes of matmul, and others to judge them by; and a table of measured matmuls."""
    folder = tmp_path_factory.mktemp("probes")
    workloads = probe_workloads("matmul", find_dtype("bf16"))
    constants = {name: each.prior for name, each in MATMUL.constants.items()}
    machine = Machine.of(GPUS["h100-sxm"], find_dtype("bf16"))
    calibration = Calibration("matmul", constants, MATMUL.default_switches(machine), 16, "made up")
    sizes = itertools.product((1, 300, 5000), (4096, 28672), (1280, 4096))
    shapes = [*(dict(each.dims) for each in workloads), *({"m": m, "n": n, "k": k} for m, n, k in sizes)]
    columns = {name: [shape[name] for shape in shapes] for name in TIME_MODELS["matmul"].dims}
    times_s = expect(columns, machine, Formats(), calibration).time_s
    box = make_environment(gpu="h100-sxm", name="NVIDIA H100 80GB HBM3")
    for shape, time_s in zip(shapes, times_s, strict=True):
        record = make_record("matmul", shape, implementation="torch", time_s=float(time_s), environment=box)
        store.append(folder / store.RECORDS, record)
    written(folder, gemm_rows())
    write_passes(folder, [PASS])
    return folder


@pytest.fixture
def call(monkeypatch, tmp_path, probes):
    """Print a command at a width; its standard output."""
    rows = [
        compiling.Compiled("matmul.pointers", "sm90", "bf16", "64x64x64, 4 warps", True, "compiled", "", 168, 0, 12,
                           98304, {"wgmma": 12, "ld.global": 4, "cp.async.bulk.tensor.2d": 8}, 0.25),
        compiling.Compiled("attention.prefill", "sm80", "fp8", "128x64, 8 warps", False, "not_supported",
                           "no fp8 product on this architecture, which multiplies 16 bits"),
    ]  # fmt: skip
    monkeypatch.setattr(compiling, "compile_kernels", lambda *_, **__: rows)
    # These take seconds, and none of them draws a table.
    monkeypatch.setattr(plots, "write_figures", lambda *_: [])
    monkeypatch.setattr(fitting, "fit_run", FIT)
    monkeypatch.setattr(validating, "validate", VALIDATE)
    monkeypatch.setattr(doctor, "examine", EXAMINE)  # the load of the machine changes

    def invoke(command, arguments, *more, width=100):
        monkeypatch.setenv("COLUMNS", str(width))
        package, name = command.split()
        asked = [
            each.format(probes=probes, table=probes / "h100_gemm.parquet", out=tmp_path) for each in arguments.split()
        ]
        result = CliRunner().invoke(APPS[package], [name, *asked, *more])
        assert result.exit_code == 0, result.output
        return result.stdout

    return invoke


@pytest.mark.parametrize(("command", "arguments"), CALLS)
def test_no_word_is_lost_or_cut_at_any_width(call, command, arguments):
    printed = {width: call(command, arguments, width=width) for width in WIDTHS}
    words = {width: set(re.split(r"[\s-]+", text)) for width, text in printed.items()}  # long names wrap at hyphens
    for width, text in printed.items():
        assert words[width] == words[200], width
        for line in text.splitlines():
            assert len(line) <= width or max(map(len, line.split())) > width - 8, line
    assert not any("…" in text for text in printed.values())


@pytest.mark.parametrize(("command", "arguments"), CALLS)
def test_csv_and_json_are_read_back_and_markdown_has_tables_of_equal_rows(call, command, arguments):
    json.loads(call(command, arguments, "--json"))
    for part in call(command, arguments, "--csv").split("\n\n"):
        heading, *rows = csv.reader(io.StringIO(part))
        assert rows
        assert {len(row) for row in rows} == {len(heading)}
        assert all(heading)
        assert len(set(heading)) == len(heading)
    lines = [line for line in call(command, arguments, "--markdown").splitlines() if line.startswith("|")]
    assert len(lines) > 2
    assert all(line.endswith("|") for line in lines)


@pytest.mark.parametrize("command", sorted(commands_with("--csv")))
def test_two_forms_are_refused_in_one_line(refusal, command):
    package, name = command.split()
    needed = {"bench tune": ["--op", "softmax"]}
    arguments = needed.get(command) or words(ARGUMENTS.get(command, ""), probes="run", table="table", out="out")
    assert "give one of --json or --csv" in refusal(APPS[package], name, *arguments, "--csv", "--json")


def test_a_terminal_is_as_wide_as_it_says():
    primary, secondary = pty.openpty()
    fcntl.ioctl(secondary, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 72, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    command = [sys.executable, "-m", "predict", "gpus"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=secondary, env=environment)
    os.close(secondary)
    text = b""
    while True:
        try:
            read = os.read(primary, 4096)
        except OSError:  # Linux says so when the other end is closed
            break
        if not read:
            break
        text += read
    os.close(primary)
    assert process.wait() == 0
    widest = max(map(len, text.decode().splitlines()))
    assert 60 < widest <= 72
