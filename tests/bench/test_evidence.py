"""Collecting evidence, with steps that are made up: what it runs, in which order, and what a cut-off leaves."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench import __main__ as cli
from bench import evidence
from bench.env import CudaStatus
from predict.errors import BadRun
from tests.fakes import FakeClock

RUNNER = CliRunner()


def test_evidence_on_a_machine_without_a_gpu_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr("bench.env.cuda_status", lambda: CudaStatus(False, "no NVIDIA driver is loaded", False))
    result = RUNNER.invoke(cli.app, ["evidence", "--out", str(tmp_path / "out")])
    assert result.exit_code != 0
    assert not (tmp_path / "out").exists()


def test_evidence_without_the_tests_of_a_checkout_is_refused(monkeypatch, tmp_path, refusal):
    monkeypatch.setattr("bench.env.choose_device", lambda _: "cuda")
    monkeypatch.chdir(tmp_path)
    assert "there is no tests/test_gpu.py here" in refusal(cli.app, "evidence", "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.fixture
def steps(monkeypatch):
    """Stands in for the steps of collecting evidence; each takes the seconds that it is told to, or all it may."""

    def make(*taken_s, passes=lambda command: True, writes=lambda out: None):
        commands, clock, left_s = [], FakeClock(), list(taken_s)

        def step(command, log, *, limit_s):
            commands.append((command, limit_s))
            clock.now_s += min(left_s.pop(0), limit_s)
            if "run" in command:
                writes(Path(command[command.index("--out") + 1]))
            return passes(command)

        monkeypatch.setattr(evidence, "_step", step)
        monkeypatch.setattr(evidence.time, "monotonic", clock)
        return commands

    return make


def test_evidence_begins_with_the_harness_and_ends_with_the_long_tests(steps, tmp_path):
    commands = steps(40, 10, 300, 90)
    assert evidence.collect(tmp_path / "out", gpu="h200", time_limit_s=500.0)
    smoke, doctor, suite, long = (command[2:] for command, _ in commands)
    assert smoke[:3] == ["pytest", "-m", "gpu and smoke"]
    assert doctor == ["bench", "doctor", "--gpu", "h200"]
    assert suite[:4] == ["bench", "run", "--gpu", "h200"]
    assert long[:3] == ["pytest", "-m", "gpu and not smoke and not exhaustive"]
    # A minute each; 500 - 50 s, of which 30 for the report; 150 s, of which 20 for the last test.
    assert [limit_s for _, limit_s in commands] == [60, 60, 450, 150]
    assert suite[-2:] == ["--time-limit-s", "420"]
    assert long[-2:] == ["--time-limit-s", "130"]
    tests = {*evidence.SMOKE_TESTS, *evidence.LONG_TESTS}
    assert all((Path(__file__).parents[2] / test).exists() for test in tests)


@pytest.mark.parametrize("failing", ["gpu and smoke", "doctor", "run", "gpu and not smoke and not exhaustive"])
def test_evidence_goes_on_after_a_step_that_fails_and_fails_at_the_end(steps, tmp_path, failing):
    commands = steps(40, 10, 300, 90, passes=lambda command: failing not in command)
    assert not evidence.collect(tmp_path / "out", gpu=None, time_limit_s=500.0)
    assert len(commands) == 4


def test_records_that_take_all_the_time_leave_the_long_tests_out_which_is_said(steps, tmp_path):
    commands = steps(60, 60, 390)
    assert evidence.collect(tmp_path / "out", gpu=None, time_limit_s=510.0)
    assert len(commands) == 3
    text = (tmp_path / "out" / "evidence.txt").read_text()
    assert text == "the longer GPU tests were not begun: 0 s were left, 60 needed\n"


def test_the_page_is_left_out_since_it_would_be_a_file_too_many(steps, tmp_path):
    steps(1, 1, 1, 1, writes=lambda out: (out / "report.html").touch())
    assert evidence.collect(tmp_path / "out", gpu=None, time_limit_s=510.0)
    assert not (tmp_path / "out" / "report.html").exists()


def test_more_than_was_promised_is_said(steps, tmp_path):
    def writes(out):
        for number in range(8):  # and evidence.txt
            (out / f"{number}.png").touch()
        with (out / "records.jsonl").open("wb") as file:
            file.truncate(17 * 2**20)

    steps(1, 1, 1, 1, writes=writes)
    out = tmp_path / "out"
    assert not evidence.collect(out, gpu=None, time_limit_s=510.0)
    text = (out / "evidence.txt").read_text()
    assert f"too much: {out / 'records.jsonl'} is 17 MiB; at most 8 files of 16 MiB were promised" in text
    assert f"too much: {out} holds 10 files" in text


def test_the_tests_of_the_harness_are_marked():
    command = evidence._tests("gpu and smoke", *evidence.SMOKE_TESTS)
    result = subprocess.run([*command, "--collect-only"], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout
    chosen = {line.partition("::")[2] for line in result.stdout.splitlines() if "::" in line}
    assert {"test_this_card_is_described_and_read", "test_clock_power_and_throttle_are_recorded"} < chosen
    assert 5 <= len(chosen) <= 12  # seconds each


def test_tests_that_would_begin_too_late_are_skipped_and_counted():
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "tests/predict/test_units.py"]
    result = subprocess.run([*command, "--time-limit-s", "0"], capture_output=True, text=True, check=False)
    assert result.returncode == 0
    assert "the time limit of 0 s was reached" in result.stdout
    assert " passed" not in result.stdout


def test_evidence_does_not_spend_minutes_on_a_folder_that_is_taken(monkeypatch, tmp_path):
    monkeypatch.setattr(evidence, "_step", lambda *_, **__: pytest.fail("ran"))
    (tmp_path / "records.jsonl").touch()
    with pytest.raises(BadRun, match="is not an empty folder; choose another --out"):
        evidence.collect(tmp_path, gpu=None, time_limit_s=500.0)


def test_a_step_is_copied_to_the_log_and_stopped_at_its_limit(tmp_path):
    with (tmp_path / "log").open("w") as log:
        assert evidence._step([sys.executable, "-c", "print('hello')"], log, limit_s=30.0)
        # The child's own child holds the pipe, and must go too.
        nested = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
        assert not evidence._step([sys.executable, "-c", nested], log, limit_s=0.5)
    text = (tmp_path / "log").read_text()
    assert "hello\nexit status 0" in text
    assert "exit status -9 after " in text
    assert ", cut off at its limit of 0 s\n" in text  # 0.5, rounded to even
