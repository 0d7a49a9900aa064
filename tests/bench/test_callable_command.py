"""`bench run --callable`: a user's function beside the implementations of its op."""

import contextlib
import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

import bench.__main__ as cli
from bench import store
from bench.callables import is_callable
from bench.lab import TRIED, Settings
from bench.record import Status
from bench.sampling import Budget
from bench.worker import WorkerBench
from reports.run.leaderboard import against_peers
from reports.run.load import load_records
from tests.bench.test_runner import at_half_the_roof
from tests.factories import make_environment
from tests.fakes import FakeBench, make_faulty_lab

RUNNER = CliRunner()
MATMUL = ["run", "--gpu", "cpu", "--op", "matmul", "m=1,4", "n=8", "k=16", "--dtype", "fp32"]

MINE = """
import os

def gemm(a, b):
    os.write(1, b"a line\\n")
    return a @ b

def only_rows(a, b):
    if len(a) > 1:
        raise SystemExit("one row is what I can do")
    return a @ b

def transposed(a, b):
    return (a @ b).t()
"""


class HalfReal:
    """A real worker for users' functions; every other job is at half of its roof."""

    def __init__(self):
        self._worker = WorkerBench(
            make_faulty_lab,
            Settings("cpu", None, force=False, warm_cache=False, budget=Budget(0.01, 0.0)),
            job_limit_s=20,
        )
        self.environment = self._worker.environment

    def run(self, job):
        return self._worker.run(job) if is_callable(job.implementation) else at_half_the_roof(job)

    def close(self):
        pass

    def stop(self):
        self._worker.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("user")
    (folder / "mine.py").write_text(MINE)
    (folder / "bench.py").write_text("raise RuntimeError('this is not the bench that was meant')\n")
    with contextlib.chdir(folder):
        yield folder


@pytest.fixture(scope="module")
def half_real(folder):
    bench = HalfReal()
    yield bench
    bench.stop()


@pytest.fixture
def machine(half_real, monkeypatch):
    monkeypatch.setattr("bench.worker.WorkerBench", lambda *_, **__: half_real)
    return half_real


def test_a_users_functions_are_rows_beside_the_others(machine, tmp_path, capfd):
    out = tmp_path / "run"
    arguments = [*MATMUL, "--callable", "mine:gemm", "--callable", "./mine.py:only_rows", "--json", "--out", str(out)]
    result = RUNNER.invoke(cli.app, arguments)
    assert result.exit_code == 1, result.output  # a case crashed
    assert json.loads(result.stdout)["count_by_status"]["crashed"] == 1  # what was printed is not on our stdout
    assert "a line" not in capfd.readouterr().out
    records = {record.key: record for record in store.read(out / "records.jsonl").records}
    small, large = "matmul-m1-n8-k16-fp32", "matmul-m4-n8-k16-fp32"
    assert {name for workload, name in records if workload == large} >= {"torch", "mine:gemm", "./mine.py:only_rows"}
    assert [records[workload, "mine:gemm"].status for workload in (small, large)] == [Status.MEASURED] * 2
    assert set(records[large, "mine:gemm"].printed.splitlines()) == {"a line"}
    assert records[large, "torch"].printed is None
    assert records[small, "./mine.py:only_rows"].status is Status.MEASURED
    assert records[large, "./mine.py:only_rows"].reason == "SystemExit: one row is what I can do (mine.py:10)"
    report = (out / "report.md").read_text(encoding="utf-8")
    assert "| mine:gemm |" in report
    assert "it prints while it is called, which takes time" in report


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mine", "--callable takes module:function or ./file.py:function, not 'mine'"),
        ("mine:absent", "--callable mine:absent: mine has no absent"),
        ("absent:gemm", "--callable absent:gemm: no module 'absent' is installed or in "),
        ("bench:gemm", "for a file of yours give its path, ./bench.py:function"),
        (
            "./bench.py:gemm",
            "importing ./bench.py failed: RuntimeError: this is not the bench that was meant",
        ),
        ("mine:transposed", "mine:transposed returns a tensor (8, 1), where a tensor (1, 8) is right for matmul-m1-n8"),
    ],
)
def test_one_that_cannot_be_measured_ends_the_run_before_it_begins(machine, refusal, tmp_path, name, message):
    out = tmp_path / "run"
    assert message in refusal(cli.app, *MATMUL, "--callable", name, "--out", str(out))
    assert not out.exists()


def test_a_function_needs_an_op(refusal):
    said = refusal(cli.app, "run", "--gpu", "cpu", "--callable", "mine:gemm")
    assert "--callable mine:gemm computes which op? Give --op with its sizes, or --only" in said


def test_a_users_function_is_a_peer_on_the_leaderboard(monkeypatch, tmp_path):
    """Ours took twice as long as theirs; the names come from the catalog of a GPU."""

    def answer(job):
        if job.trial:
            return TRIED
        outcome = at_half_the_roof(job)
        if not is_callable(job.implementation):
            return outcome
        times_s = tuple(time_s / 2 for time_s in outcome.measurement.times_s)
        return replace(outcome, measurement=replace(outcome.measurement, times_s=times_s))

    monkeypatch.setattr("bench.env.choose_device", lambda _: "cuda")
    bench = FakeBench(answer, make_environment())
    monkeypatch.setattr("bench.worker.WorkerBench", lambda *_, **__: bench)
    arguments = [
        "run",
        "--op",
        "matmul",
        "m=16",
        "n=4k",
        "k=4k",
        "--callable",
        "mine:gemm",
        "--out",
        str(tmp_path / "run"),
    ]
    assert RUNNER.invoke(cli.app, arguments).exit_code == 0
    (row,) = against_peers(load_records(tmp_path / "run").frame.query("m == 16")).to_dict(orient="records")
    assert (row["peer"], row["ratio"]) == ("mine:gemm", pytest.approx(2.0))
