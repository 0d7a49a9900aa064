"""What the host side costs: `make benchmark` shows the times. With `make test` each runs once, as a plain test."""

import http.client
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from bench import store
from bench.cases import bind, find_implementation, make_inputs
from bench.record import from_line, to_line
from predict.__main__ import app
from predict.expected.kernel import expect
from predict.expected.time_model import Machine
from predict.gpus import GPUS
from predict.model.presets import find_model
from predict.model.replica import Replica
from predict.roofline import predict
from predict.units import Formats, find_dtype
from predict.workloads import make_workload, sweep_amounts
from reports.accuracy.importers import read_tables
from reports.report import page
from reports.run import load, terminal
from reports.sweep.grid import sweep
from tests.calibrations import CALIBRATIONS
from tests.factories import make_record
from tests.reports.explore.moves import moves
from tests.tiny import OURS, tiny_workload

BF16 = find_dtype("bf16")
MANY = 100_000
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def large_run(tmp_path_factory):
    """A run of 300 records, as the standard suite leaves it."""
    folder = tmp_path_factory.mktemp("run")
    for m in range(1, 151):
        for implementation in ("torch", "triton"):
            record = make_record(dims={"m": m, "n": 4096, "k": 4096}, implementation=implementation, time_s=m * 1e-5)
            store.append(folder / store.RECORDS, record)
    return folder


def test_predicting_a_million_shapes(benchmark):
    m, n, k = (np.arange(1, 101).reshape(shape) * 64 for shape in ((-1, 1, 1), (1, -1, 1), (1, 1, -1)))
    roofs = GPUS["h100-sxm"].roofs
    prediction = benchmark(lambda: predict(sweep_amounts("matmul", {"m": m, "n": n, "k": k}, BF16), roofs))
    assert np.shape(prediction.napkin_s) == (100, 100, 100)


def test_predicting_one_kernel(benchmark):
    dims = {"m": 16, "n": 8192, "k": 8192}
    prediction = benchmark(lambda: predict(make_workload("matmul", dims, BF16).amounts, GPUS["h100-sxm"].roofs))
    assert prediction.bound == "dram"


def test_sweeping_a_million_points(benchmark):
    contexts = np.arange(1, 1001 if benchmark.enabled else 11) * 128
    replica = Replica(find_model("llama-3-8b"), GPUS["h100-sxm"])
    frame = benchmark.pedantic(sweep, args=([replica], np.arange(1, 1001), contexts), rounds=3)
    assert len(frame) == 1000 * contexts.size


def test_searching_a_server_of_four_gpus(benchmark):
    asked = "model llama-3-70b --isl 4000 --osl 500 --gpu a100,h100,h200,b200 --json".split()
    assert benchmark(CliRunner().invoke, app, asked).exit_code == 0


def test_writing_a_record(benchmark):
    assert benchmark(to_line, make_record()).startswith("{")


def test_reading_a_record(benchmark):
    assert benchmark(from_line, to_line(make_record())) == make_record()


def test_loading_a_hundred_thousand_records(benchmark, tmp_path):
    enabled = benchmark.enabled
    count = MANY if enabled else 100
    line = to_line(make_record())
    lines = [line.replace('"implementation":"torch"', f'"implementation":"torch{i}"') for i in range(count)]
    (tmp_path / store.RECORDS).write_text("\n".join(lines) + "\n")
    frame = benchmark.pedantic(lambda: load.load_records(tmp_path).frame, rounds=1)
    assert len(frame) == count


def test_rendering_a_report_of_300_records(benchmark, large_run):
    assert benchmark.pedantic(page.write_report, args=(load.load_records(large_run), large_run), rounds=3)


def test_rendering_the_terminal_table_of_300_records(benchmark, large_run):
    assert benchmark(terminal.run_page, load.load_records(large_run), width=120)


def test_reading_and_predicting_a_measured_table(benchmark, tmp_path):
    """Expected time of 100,000 rows of a table of another's form, read from disk; calibration apart."""
    count = MANY if benchmark.enabled else 1000
    m, n, k = np.random.default_rng(0).integers(1, 2**14, (3, count))
    common = {"op_name": "gemm", "gemm_dtype": "bfloat16", "kernel_source": "x", "device": "NVIDIA H100 80GB HBM3"}
    pd.DataFrame({"m": m, "n": n, "k": k, "latency": 1.0, **common}).to_parquet(tmp_path / "table.parquet")
    machine, calibration = Machine.of(GPUS["h100-sxm"], BF16), CALIBRATIONS["h100-sxm", "matmul", "bf16"]

    def read_and_predict():
        frame = read_tables([tmp_path / "table.parquet"]).frame
        dims = {name: frame[name].to_numpy(dtype=float) for name in ("m", "n", "k")}
        return expect(dims, machine, Formats(), calibration).time_s

    assert len(benchmark.pedantic(read_and_predict, rounds=3)) == count


@pytest.fixture
def explored(tmp_path):
    """The server of `explore`, as a user starts it."""
    words = [sys.executable, "-m", "reports", "explore", "--port", "0"]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as started:
        said = started.stdout.readline()
        connection = http.client.HTTPConnection("127.0.0.1", int(re.search(r":(\d+)/", said)[1]))
        yield connection
        connection.close()
        started.terminate()


def test_moving_a_slider_of_explore(benchmark, explored, capsys):
    """From a request on its way to the whole answer: every slider of every section, for small and large models."""
    paths = list(moves())
    paths = paths if benchmark.enabled else paths[:: len(paths) // 10]
    todo, statuses = iter(paths), Counter()

    def move(path):
        explored.request("GET", path)
        reply = explored.getresponse()
        reply.read()
        statuses[reply.status] += 1

    benchmark.pedantic(move, setup=lambda: ((next(todo),), {}), rounds=len(paths))
    assert set(statuses) <= {200, 400}  # 400: what a model cannot be, such as a hidden width that its heads refuse
    assert statuses[200] > statuses[400] * 20
    if benchmark.enabled:
        p95_ms = 1e3 * np.percentile(benchmark.stats.stats.data, 95)
        with capsys.disabled():
            sys.stdout.write(f"\nmoving a slider of explore: p95 {p95_ms:.1f} ms of {len(paths):,} moves\n")


def test_launching_a_small_matmul(benchmark, device):
    """Python, dispatch and launch of the PyTorch implementation; on a GPU the kernel itself runs on meanwhile."""
    workload = make_workload("matmul", {"m": 1, "n": 16, "k": 16}, find_dtype("fp32"))
    inputs = make_inputs(workload, device, index=0)
    run = find_implementation(workload, "torch", device.type).run
    assert benchmark(run, *inputs).shape == (1, 16)


@pytest.mark.parametrize("op", OURS)
def test_preparing_the_launches_of_an_op(op, benchmark, monkeypatch, device):
    """A call of ours but for what Triton does: layouts looked up, memory set aside, arguments in order. Where there is
    no driver this is all of it."""
    plan = pytest.importorskip("kernels.triton.plan", exc_type=ImportError)
    workload = tiny_workload(op)
    implementation = find_implementation(workload, "triton", "cuda")
    inputs = make_inputs(workload, device, index=0)
    prepared = bind(implementation.prepare, workload)(*inputs) if implementation.prepare else inputs
    started = set()
    monkeypatch.setattr(plan.Launch, "start", lambda launch, values: started.add(launch.grid))
    benchmark(bind(implementation.run, workload), *prepared)
    assert started
