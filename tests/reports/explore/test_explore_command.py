"""`python -m reports explore`: its options, how it begins and ends, and what it refuses."""

import http.client
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from predict.errors import BadRun
from reports.__main__ import app
from reports.explore import answering, server
from reports.explore import worker as working
from tests.installed import ROOT, console_script, execute

RUNNER = CliRunner()
LONG_S = 120.0  # a limit that a loaded machine does not reach


def begin_refused(runs, tables):
    raise BadRun(f"{runs[0]}: no such file")


@pytest.fixture
def begun(monkeypatch):
    """What `begin` of each worker was given, without any worker."""
    given = []

    class NoWorker:
        def __init__(self, begin):
            given.append((begin.func, *begin.args))

        def close(self):
            given.append("closed")

    monkeypatch.setattr(working, "Worker", NoWorker)
    monkeypatch.setattr(server, "serve", lambda *_: given.append("served"))
    return given


@pytest.mark.parametrize(
    ("typed", "runs", "tables"),
    [
        ("", "", ""),
        ("--run a --run b", "a b", ""),
        (
            "--tables a.parquet b.parquet c.parquet --run d",
            "d",
            "a.parquet b.parquet c.parquet",
        ),  # as a shell's * gives
        ("--run d --tables a.csv --tables b.csv c.csv", "d", "a.csv b.csv c.csv"),
        ("a.parquet b.parquet", "", "a.parquet b.parquet"),
    ],
)
def test_runs_and_tables_reach_the_answers(begun, typed, runs, tables):
    result = RUNNER.invoke(app, ["explore", "--port", "0", *typed.split()])
    assert result.exit_code == 0, result.output
    paths = tuple(map(Path, runs.split())), tuple(map(Path, tables.split()))
    assert begun == [(answering.begin, *paths), "served", "closed"]


def test_a_port_that_is_taken_is_one_line(refusal, begun):
    with server.listen(0) as other:
        port = server.port_of(other)
        assert refusal(app, "explore", "--port", port) == f"error: port {port} is taken: give another --port\n"
    assert begun == []  # nothing was read in vain


@pytest.mark.parametrize("port", ["-1", "65536", "http"])
def test_a_port_that_is_none_is_one_line(refusal, begun, port):
    assert "--port" in refusal(app, "explore", f"--port={port}")


def test_what_the_answers_refuse_is_one_line(refusal, monkeypatch):
    monkeypatch.setattr(answering, "begin", begin_refused)
    assert refusal(app, "explore", "--port", "0", "--run", "nowhere") == "error: nowhere: no such file\n"


@pytest.fixture
def explore(tmp_path):
    """Start the command in a process, as from a shell; the process, and its port."""
    started = []

    def start(*command):
        process = subprocess.Popen(
            [*command, "explore", "--port", "0"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        line = process.stdout.readline()
        return process, int(re.fullmatch(r"Explore at http://127\.0\.0\.1:(\d+)/ \(Ctrl\+C ends it\)\n", line)[1])

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("program", ["python -m reports", "napkin-bench"])
def test_the_page_is_there_until_ctrl_c(explore, tmp_path, program):
    module = program.startswith("python")
    process, port = explore(*([sys.executable, "-m", "reports"] if module else [console_script(tmp_path)]))
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LONG_S)

    def get(target):
        connection.request("GET", target)
        response = connection.getresponse()
        return response.status, response.read().decode()

    status, page = get("/")
    assert status == 200
    assert [name for name in re.findall(r'(?:src|href)="/?([\w.]+)"', page) if get(f"/{name}")[0] != 200] == []
    connection.close()
    process.send_signal(signal.SIGINT)
    assert (*process.communicate(timeout=LONG_S), process.returncode) == ("", "", 0)


def test_help_names_the_command_as_it_is_typed(tmp_path):
    result = execute(console_script(tmp_path), "explore", "--help", cwd=tmp_path, COLUMNS="120")
    assert "napkin-bench explore --run runs/h100" in result.stdout


def test_make_passes_its_variables_on():
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "ARGS"))}
    words = ["make", "--dry-run", "PYTHON=python3", "explore", "PORT=9000", "RUN=runs/h100", "DATA=a.csv b.csv"]
    printed = subprocess.run(words, cwd=ROOT, env=outside, capture_output=True, text=True, check=True).stdout
    assert printed == "python3 -m reports explore --port 9000 --run runs/h100 a.csv b.csv \n"
