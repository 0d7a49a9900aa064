"""One child process computes every answer, so that time and memory are bounded whatever a config.json asks for.

A child that takes too long, needs too much memory or dies costs one answer: the next one comes from a new child.
"""

import json
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from predict.errors import BadRun, NapkinError
from predict.units import binary_bytes

if sys.platform != "win32":  # where memory has no limit
    import resource

FAULT = "a fault of napkin-bench, not of yours; its traceback is in the terminal"
ENDING = "napkin-bench is ending: start it again"


@dataclass(frozen=True, slots=True)
class Request:
    """What the page asks of one section; `config` is the text of a config.json that was dropped onto it."""

    section: str
    query: tuple[tuple[str, str], ...]
    config: bytes | None


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP status, and JSON."""

    status: int
    body: bytes


Answering = Callable[[Request], Reply]


class NotBegun(RuntimeError):
    """A child that ended before it was ready."""


def refuse(status: int, text: str) -> Reply:
    """The reply that says in one line what is wrong."""
    return Reply(status, json.dumps({"error": " ".join(text.split())}).encode())


class Worker:
    """Answers requests in a child process, one at a time, and begins a new child after one that ended."""

    def __init__(
        self,
        begin: Callable[[], Answering],
        *,
        limit_s: float = 5.0,
        begin_limit_s: float = 300.0,
        memory_bytes: int = 4 << 30,
    ) -> None:
        """Start the child and wait until `begin`, which must be picklable, has returned there.

        `memory_bytes` is what beginning, and then each answer, may take beside what the process holds before it.
        Raises NotBegun, and the NapkinError or ModuleNotFoundError that `begin` raises.
        """
        self._begin = begin
        self._limit_s = limit_s
        self._begin_limit_s = begin_limit_s
        self._memory_bytes = memory_bytes
        self._turn = threading.Lock()  # held by the one request that is answered
        self._life = threading.RLock()  # held while a child is started or killed; a second signal closes once more
        self._is_closed = False
        self._child = self._start()
        try:
            self._wait_until_ready(self._child)
        except BaseException:
            self.close()
            raise

    def ask(self, request: Request) -> Reply:
        """The answer, or status 503 and why there is none. Waits for its turn; may be called from any thread."""
        with self._turn:
            if self._is_closed:
                return refuse(503, ENDING)
            child = self._child
            if child.is_ready and not child.process.is_alive():  # it ended while nobody asked
                self._replace(child)
                child = self._child
            try:
                self._wait_until_ready(child)
                reply, goes_on = self._exchange(child, request)
            except (NapkinError, ModuleNotFoundError) as error:  # of `begin`: a file may be gone since the start
                reply, goes_on = refuse(503, f"cannot begin again: {error}"), False
            except NotBegun as error:
                reply, goes_on = refuse(503, f"{error}; the terminal says why"), False
            if not goes_on:
                self._replace(child)
            return refuse(503, ENDING) if self._is_closed else reply

    def close(self) -> None:
        """End the child at once; a request that waits for it is refused."""
        self._is_closed = True
        with self._life:
            self._child.process.kill()
            self._child.process.join()

    def _start(self) -> "_Child":
        context = multiprocessing.get_context("spawn")  # a forked child would share the server's sockets
        ours, theirs = context.Pipe()
        process = context.Process(
            target=_serve,
            args=(theirs, self._begin, self._memory_bytes),
            daemon=True,
            name="napkin-bench answers",
        )
        with _interrupts_held():
            process.start()
        theirs.close()
        return _Child(process, ours)

    def _wait_until_ready(self, child: "_Child") -> None:
        if child.is_ready:
            return
        if not child.connection.poll(self._begin_limit_s):
            raise BadRun(f"nothing could be answered within {self._begin_limit_s:g} s: give fewer runs and tables")
        try:
            failure: Exception | None = child.connection.recv()
        except (EOFError, OSError):
            child.process.join()
            raise NotBegun(
                f"the process that answers ended while it began (exit status {child.process.exitcode})"
            ) from None
        if failure is not None:
            raise failure
        child.is_ready = True

    def _exchange(self, child: "_Child", request: Request) -> tuple[Reply, bool]:
        """The reply, and whether the child goes on."""
        try:
            child.connection.send(request)
            if not child.connection.poll(self._limit_s):
                return refuse(503, f"this takes longer than {self._limit_s:g} s: choose smaller sizes"), False
            answered: tuple[Reply, bool] = child.connection.recv()
        except (EOFError, OSError):
            return refuse(503, "the process that answers ended, perhaps for memory: choose smaller sizes"), False
        return answered

    def _replace(self, child: "_Child") -> None:
        """Kill the child and start another, which begins while nobody waits for it."""
        with self._life:
            child.process.kill()
            child.process.join()
            child.connection.close()
            if not self._is_closed:
                self._child = self._start()


@dataclass(slots=True)
class _Child:
    process: BaseProcess
    connection: Connection
    is_ready: bool = False


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl+C reaches no child that is started within, not even one that still loads its modules."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # which the child inherits
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(connection: Connection, begin: Callable[[], Answering], memory_bytes: int) -> None:
    """Begin, then answer requests until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is for the parent, which then ends this process
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _limit_memory(memory_bytes)
    try:
        answer = begin()
    except (NapkinError, ModuleNotFoundError) as error:
        connection.send(error)
        return
    except MemoryError:
        connection.send(BadRun(f"the runs and tables need more than {binary_bytes(memory_bytes)}: give fewer"))
        return
    _limit_memory(memory_bytes)
    connection.send(None)
    while True:
        try:
            request = connection.recv()
        except EOFError:
            return
        connection.send(_attempt(answer, request, memory_bytes))


def _attempt(answer: Answering, request: Request, memory_bytes: int) -> tuple[Reply, bool]:
    """The reply, and whether this process can go on."""
    try:
        return answer(request), True
    except NapkinError as error:
        return refuse(400, str(error)), True
    except MemoryError:
        return refuse(503, f"this needs more memory than {binary_bytes(memory_bytes)}: choose smaller sizes"), False
    except Exception:  # noqa: BLE001 - a bug of ours costs one answer, not the page; its traceback is told here
        traceback.print_exc(file=sys.stderr)
        return refuse(500, FAULT), True


def _end_with_parent() -> None:
    """End this process when its parent has ended, however it did, even in the middle of an answer."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(0)


def _limit_memory(memory_bytes: int) -> None:
    """Let this process map so many bytes beside those that it maps now.

    What is mapped already is mostly no memory: NumPy alone maps a stack for each core.
    """
    if sys.platform == "win32":
        return
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    limit = _mapped_bytes() + memory_bytes
    if most != resource.RLIM_INFINITY:
        limit = min(limit, most)
    try:
        resource.setrlimit(resource.RLIMIT_AS, (limit, most))
    except (ValueError, OSError):  # macOS knows the limit and refuses it
        return


def _mapped_bytes() -> int:
    """Bytes of address space of this process; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
