"""The child process that answers: its limits, its ends, and who learns of them."""

import functools
import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from predict.errors import BadRun
from reports.explore.worker import ENDING, FAULT, NotBegun, Request, Worker
from tests.installed import ROOT
from tests.reports.explore import begins

LONG_S = 60.0  # a limit that a loaded machine does not reach


def ask(worker, section, **query):
    reply = worker.ask(Request(section, tuple(query.items()), None))
    return reply.status, json.loads(reply.body)


def has_ended(pid):
    """Also where nobody reads the exit status of an orphan."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_until(condition):
    end_s = time.monotonic() + LONG_S
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.02)


@pytest.fixture(scope="module")
def shared():
    """A worker for all tests after which it goes on."""
    worker = Worker(begins.begin, limit_s=LONG_S, memory_bytes=1 << 29)
    yield worker
    worker.close()


def test_an_answer_is_computed_in_another_process(shared):
    status, told = ask(shared, "decode", batch="1")
    assert (status, told["section"], told["query"], told["content"]) == (200, "decode", [["batch", "1"]], None)
    assert told["pid"] != os.getpid()
    assert ask(shared, "decode")[1]["pid"] == told["pid"]
    assert psutil.Process(told["pid"]).parent().pid == os.getpid()


def test_a_dropped_file_arrives_as_it_is(shared):
    content = bytes(range(256)) * 4000
    reply = shared.ask(Request("config", (), content))
    assert json.loads(reply.body)["content"].encode("latin-1") == content


def test_threads_get_their_own_answers(shared):
    with ThreadPoolExecutor(16) as pool:
        told = list(pool.map(lambda number: ask(shared, "decode", number=str(number))[1]["query"], range(100)))
    assert told == [[["number", str(number)]] for number in range(100)]


def test_a_bug_is_told_to_the_terminal_and_not_to_the_client(capfd):
    worker = Worker(begins.begin, limit_s=LONG_S)
    try:
        pid = ask(worker, "decode")[1]["pid"]
        assert ask(worker, "bug") == (500, {"error": FAULT})
        assert f"ValueError: {begins.SECRET}" in capfd.readouterr().err
        assert ask(worker, "decode")[1]["pid"] == pid
    finally:
        worker.close()


def test_what_a_user_can_fix_is_one_line(shared):
    assert ask(shared, "bad") == (400, {"error": "batch must be positive"})


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited on Linux")
@pytest.mark.parametrize("log2", [30, 46])  # more than the limit of 512 MiB; more than any machine
def test_an_answer_that_needs_too_much_memory_is_refused(shared, log2):
    before = ask(shared, "decode")[1]["pid"]
    text = "this needs more memory than 512 MiB: choose smaller sizes"
    assert ask(shared, "memory", log2=str(log2)) == (503, {"error": text})
    status, told = ask(shared, "decode")
    assert (status, told["pid"] != before) == (200, True)
    assert has_ended(before)


def test_an_answer_within_the_memory_is_given(shared):
    assert ask(shared, "memory", log2="27")[0] == 200


def test_a_child_that_dies_over_an_answer_is_replaced(shared):
    before = ask(shared, "decode")[1]["pid"]
    status, told = ask(shared, "exit")
    assert (status, told["error"].startswith("the process that answers ended")) == (503, True)
    assert ask(shared, "decode")[1]["pid"] != before


def test_a_child_that_died_in_between_costs_no_answer(shared):
    before = ask(shared, "decode")[1]["pid"]
    psutil.Process(before).kill()
    shared._child.process.join(LONG_S)
    status, told = ask(shared, "decode")
    assert (status, told["pid"] != before) == (200, True)


def test_an_answer_that_takes_too_long_ends_with_its_process():
    worker = Worker(begins.begin, limit_s=0.5)
    try:
        before = ask(worker, "decode")[1]["pid"]
        assert ask(worker, "spin") == (503, {"error": "this takes longer than 0.5 s: choose smaller sizes"})
        assert has_ended(before)
        worker._limit_s = LONG_S
        assert ask(worker, "decode")[0] == 200
    finally:
        worker.close()


def test_what_begin_refuses_reaches_the_parent(tmp_path):
    (tmp_path / "refuse").touch()
    with pytest.raises(BadRun, match=f"no run in {tmp_path}"):
        Worker(functools.partial(begins.begin_beside, tmp_path))


def test_so_does_a_package_that_is_missing():
    with pytest.raises(ModuleNotFoundError) as error:
        Worker(begins.begin_without_a_package)
    assert error.value.name == "pandas"


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited on Linux")
def test_so_does_memory_that_beginning_lacks():
    with pytest.raises(BadRun, match="the runs and tables need more than 1 GiB: give fewer"):
        Worker(begins.begin_with_too_much, memory_bytes=1 << 30)


def test_a_beginning_that_takes_too_long_is_ended():
    with pytest.raises(BadRun, match=r"nothing could be answered within 0\.2 s"):
        Worker(begins.never_begin, begin_limit_s=0.2)


def test_a_bug_of_beginning_keeps_its_traceback(capfd):
    with pytest.raises(NotBegun, match="exit status 1"):
        Worker(begins.begin_with_a_bug)
    assert "ValueError: a bug" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("name", "said"),
    [("refuse", "cannot begin again: no run in "), ("exit", "the process that answers ended while it began")],
)
def test_what_is_gone_when_a_child_begins_again_is_told_until_it_is_back(tmp_path, name, said):
    worker = Worker(functools.partial(begins.begin_beside, tmp_path), limit_s=LONG_S)
    try:
        (tmp_path / name).touch()
        ask(worker, "exit")
        status, told = ask(worker, "decode")
        assert (status, told["error"].startswith(said)) == (503, True)
        (tmp_path / name).unlink()
        statuses = [ask(worker, "decode")[0] for _ in range(3)]  # the next child may have begun before the file went
        assert statuses[-1] == 200
    finally:
        worker.close()


def test_closing_ends_the_child_and_refuses_whoever_waits(tmp_path):
    worker = Worker(begins.begin, limit_s=LONG_S)
    pid = ask(worker, "decode")[1]["pid"]
    told = []
    waiting = threading.Thread(target=lambda: told.append(ask(worker, "gate", file=str(tmp_path / "never"))))
    waiting.start()
    wait_until(worker._turn.locked)
    worker.close()
    waiting.join(LONG_S)
    assert told == [(503, {"error": ENDING})]
    assert ask(worker, "decode") == (503, {"error": ENDING})
    assert has_ended(pid)
    worker.close()


PARENT = """
import json, os, signal, sys, threading
from reports.explore.worker import Request, Worker
from tests.reports.explore.begins import begin

if __name__ == "__main__":
    worker = Worker(begin, limit_s=600)
    print(json.loads(worker.ask(Request("decode", (), None)).body)["pid"], flush=True)
    if sys.argv[1] == "busy":
        threading.Thread(target=worker.ask, args=(Request("spin", (), None),), daemon=True).start()
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("state", ["idle", "busy"])
def test_the_child_ends_with_its_parent_however_that_ends(tmp_path, state):
    (tmp_path / "parent.py").write_text(PARENT)
    parent = subprocess.Popen(
        [sys.executable, tmp_path / "parent.py", state],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    pid = int(parent.stdout.readline())
    assert not has_ended(pid)
    parent.communicate("")
    assert parent.returncode < 0
    wait_until(lambda: has_ended(pid))
