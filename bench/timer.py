"""Clocks for kernels. A timer prepares a case (input sets, cache state, graph) and returns a sampler.

Four methods, and the record names which one ran:
cuda_graph  replays of a captured graph: of launches over rotating input sets that together take about 2 ms, or of one
            launch where that takes as long by itself.
cuda_event  one launch at a time, for what cannot be captured.
as_issued   calls one after the other between two events, on a stream that nothing holds: a step of many kernels, which
            takes as long as the host needs to start them where that is longer than what they do.
wall_clock  the CPU.

The first two shall see the GPU alone. An event pair on a stream that has run dry would time the host, so the stream is
held until the host has queued everything. Whether that worked is looked up, not assumed: an event behind the hold must
still be pending when all is queued. If it is not, the hold is doubled and the samples are taken again.

A cold cache is made by rotating input sets of more than four times its size (graph, as issued, CPU), or by reading a
buffer of that size before each launch: reading leaves clean lines, where a memset would leave dirty ones whose
write-back the timed kernel would pay. Twice the size is not enough: a scan in circles through a cache that replaces
lines at random finds about a fifth of twice its size again, and a fiftieth of four times.
"""

import itertools
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Protocol

import torch

from bench.context import PoisonsProcess
from bench.measure import Observe, Sampler

GRAPH_SAMPLE_S = 2e-3  # long enough that starting the graph is under 1 % of it
MAX_GRAPH_LAUNCHES = 1024
AS_ISSUED_SAMPLE_S = 2e-3  # long enough that the first call, which finds an idle GPU, does not count for much
MAX_INPUT_SETS = 1024
CACHES_TO_EXCEED = 4.0  # rotated operands, and flush buffers, are this many times the last-level cache
HOLD_CYCLES = 400_000  # to begin with, about 0.2 ms: as long as the host needs to queue a handful of launches
MAX_HOLD_CYCLES = 2**8 * HOLD_CYCLES  # about 50 ms; what is not queued by then waits for the GPU itself
QUEUED_S = 10e-3  # work that is queued together: the GPU does not idle in it, and is looked at while it works
MAX_QUEUED = 16  # samples queued together: a stream takes about a thousand launches, and then blocks the host
WALL_SAMPLE_S = 1e-3  # a thousand times what perf_counter resolves
HOST_CALLS = 5  # whose median is the host's cost of a call

Call = Callable[[], object]


class CaptureFailed(PoisonsProcess):
    """Work could not be captured in a CUDA graph. PyTorch then keeps memory, and libraries may keep state, of the
    capture that was broken off: the process is to be given up, and the case timed anew without a graph."""


@dataclass(frozen=True, slots=True)
class Preparation:
    """What a timer needs of a case: how to bind the i-th input set, its size, and what to do about the cache."""

    bind: Callable[[int], Call]
    set_bytes: float  # operands that one launch reads and writes
    free_bytes: float  # memory that further input sets may take
    cache_bytes: int | None
    warm: bool
    as_issued: bool = False  # the time of the host counts too; a CPU's always does
    captures: bool = True  # whether a CUDA graph may be tried
    caches: float = CACHES_TO_EXCEED

    def input_sets(self) -> int:
        """How many input sets to rotate so that no launch finds its operands cached; 1 if they may be."""
        if self.warm or self.cache_bytes is None or self.set_bytes <= 0:
            return 1
        if self.set_bytes > self.caches * self.cache_bytes:
            return 1  # each launch evicts its own operands
        wanted = math.ceil(self.caches * self.cache_bytes / self.set_bytes) + 1
        affordable = int(self.free_bytes // self.set_bytes)
        return max(1, min(wanted, affordable, MAX_INPUT_SETS))

    def is_cold(self, sets: int) -> bool | None:
        """Whether rotating `sets` input sets keeps operands out of the cache; None if its size is not known."""
        if self.warm:
            return False
        if self.cache_bytes is None:
            return None
        return sets * self.set_bytes > self.caches * self.cache_bytes


class Timer(Protocol):
    """Prepares cases for timing."""

    def prepare(self, preparation: Preparation) -> Sampler:
        """Bind inputs, warm and capture what is needed, and return the sampler. Raises CaptureFailed."""


@dataclass(slots=True)
class WallSampler:
    """Times calls on the CPU, which return when the work is done."""

    runs: Sequence[Call]
    launches_per_sample: int
    cold_l2: bool | None
    position: int = 0
    method: str = "wall_clock"
    held: bool | None = None
    host_s: float | None = None

    def sample(self, observe: Observe) -> tuple[float, ...]:  # noqa: ARG002  (a CPU that works cannot look at itself)
        """Seconds per call, over the next `launches_per_sample` input sets."""
        count = len(self.runs)
        start_s = time.perf_counter()
        for i in range(self.position, self.position + self.launches_per_sample):
            self.runs[i % count]()
        time_s = time.perf_counter() - start_s
        self.position = (self.position + self.launches_per_sample) % count
        return (time_s / self.launches_per_sample,)


class WallTimer:
    """The CPU's timer."""

    def prepare(self, preparation: Preparation) -> Sampler:
        """Bind the input sets and choose how many calls make one sample."""
        sets = preparation.input_sets()
        runs = [preparation.bind(i) for i in range(sets)]
        runs[0]()
        start_s = time.perf_counter()
        runs[-1]()
        call_s = max(time.perf_counter() - start_s, 1e-9)
        return WallSampler(runs, max(1, math.ceil(WALL_SAMPLE_S / call_s)), preparation.is_cold(sets))


@dataclass(slots=True)
class HeldSampler:
    """Times `work` between two events on a stream that is held until the host has queued all of it: one launch, or a
    graph of some. `flush` empties the cache before each, outside the pair."""

    work: Call
    flush: Call | None
    method: str
    launches_per_sample: int
    cold_l2: bool | None
    host_s: float | None = None
    keep: Sequence[Call] = ()  # a graph reads the input sets that these own
    queued: int = 1  # samples that are queued together
    hold_cycles: int = HOLD_CYCLES
    held: bool | None = None  # whether the host was done before the hold was, in the last samples

    def sample(self, observe: Observe) -> tuple[float, ...]:
        """Seconds per launch of `queued` samples; `observe` is called while the GPU works on them."""
        while True:
            self.held, pairs = self._queue()
            observe()
            pairs[-1][1].synchronize()
            if self.held or not self._hold_longer():
                return tuple(_elapsed_s(*pair) / self.launches_per_sample for pair in pairs)

    def queue_for(self, sample_s: float) -> None:
        """Queue as many samples of `sample_s` together as keep the GPU at work for a while; one if holding is vain."""
        if self.hold_cycles:
            self.queued = max(1, min(MAX_QUEUED, math.ceil(QUEUED_S / sample_s)))

    def _queue(self) -> tuple[bool, list[tuple[torch.cuda.Event, torch.cuda.Event]]]:
        """Queue the samples behind a hold. Returns whether it outlasted the host, and the event pairs."""
        torch.cuda._sleep(self.hold_cycles)  # private, but there is no public way to hold a stream
        hold = torch.cuda.Event()
        hold.record()
        pairs = []
        for _ in range(self.queued):
            if self.flush is not None:
                self.flush()
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            self.work()
            end.record()
            pairs.append((start, end))
        return not hold.query(), pairs

    def _hold_longer(self) -> bool:
        """Hold the stream for twice as long, then queue one sample at a time; False, and no hold any more, where all
        that was in vain, as with work that waits for the GPU itself."""
        if 0 < self.hold_cycles < MAX_HOLD_CYCLES:
            self.hold_cycles *= 2
        elif self.queued > 1:
            self.queued, self.hold_cycles = 1, HOLD_CYCLES
        else:
            self.hold_cycles = 0
        return self.hold_cycles > 0


@dataclass(slots=True)
class AsIssuedSampler:
    """Times calls in a row on an idle stream: the next is issued while the GPU works on those before."""

    runs: Sequence[Call]
    launches_per_sample: int
    cold_l2: bool | None
    host_s: float | None = None
    position: int = 0
    method: str = "as_issued"
    held: bool | None = None

    def sample(self, observe: Observe) -> tuple[float, ...]:
        """Seconds per call, over the next `launches_per_sample` input sets; `observe` is called when all are issued."""
        count = len(self.runs)
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        for i in range(self.position, self.position + self.launches_per_sample):
            self.runs[i % count]()
        end.record()
        observe()
        end.synchronize()
        self.position = (self.position + self.launches_per_sample) % count
        return (_elapsed_s(start, end) / self.launches_per_sample,)


class CudaTimer:
    """The GPU's timer: graphs, events for what cannot be captured, calls as they are issued where the preparation says
    so."""

    def __init__(self) -> None:
        self._flush_buffer: torch.Tensor | None = None
        self._stream: torch.cuda.Stream | None = None

    def prepare(self, preparation: Preparation) -> Sampler:
        """Compile and warm the case, choose the method, and find out how many launches make one sample."""
        run = preparation.bind(0)
        run()
        host_s = _host_cost_s(run)
        if preparation.as_issued:
            return self._as_issued(run, preparation, host_s)
        if preparation.captures:
            return self._graph(run, preparation, host_s)
        sampler = self._flushed(run, preparation, "cuda_event", host_s)
        sampler.queue_for(_estimate_s(sampler))
        return sampler

    def _as_issued(self, first: Call, preparation: Preparation, host_s: float) -> Sampler:
        """Bind and warm the rotated input sets, and choose how many calls make one sample."""
        runs = _bind_sets(first, preparation)
        sets = len(runs)
        sampler = AsIssuedSampler(runs, sets, preparation.is_cold(sets), host_s)
        sampler.sample(_look_away)  # all of them once, untimed
        sampler.launches_per_sample = math.ceil(AS_ISSUED_SAMPLE_S / _estimate_s(sampler))
        return sampler

    def _graph(self, first: Call, preparation: Preparation, host_s: float) -> Sampler:
        """Capture one launch, and where that is short, as many over the rotated input sets as make a sample."""
        alone = self._flushed(self._capture([first]).replay, preparation, "cuda_graph", host_s)
        call_s = _estimate_s(alone)
        if call_s >= GRAPH_SAMPLE_S:
            alone.keep = [first]
            alone.queue_for(call_s)
            return alone
        del alone  # and with it the memory of its graph
        runs = _bind_sets(first, preparation)
        sets = len(runs)
        rounds = min(math.ceil(GRAPH_SAMPLE_S / call_s / sets), MAX_GRAPH_LAUNCHES // sets)
        launches = sets * max(1, rounds)  # every set equally often
        graph = self._capture(itertools.islice(itertools.cycle(runs), launches))
        cold = preparation.is_cold(sets)
        sampler = HeldSampler(graph.replay, None, "cuda_graph", launches, cold, host_s, keep=runs)
        sampler.queue_for(launches * _estimate_s(sampler))
        return sampler

    def _flushed(self, work: Call, preparation: Preparation, method: str, host_s: float) -> HeldSampler:
        """A sampler of single launches that finds the cache as the preparation wants it."""
        if preparation.warm or preparation.cache_bytes is None:
            flush, cold_l2 = None, False if preparation.warm else None
        else:
            flush, cold_l2 = self._make_flush(preparation.cache_bytes), True
        return HeldSampler(work, flush, method, launches_per_sample=1, cold_l2=cold_l2, host_s=host_s)

    def _capture(self, runs: Iterable[Call]) -> torch.cuda.CUDAGraph:
        """A graph of these calls, all of which have run before. Raises CaptureFailed, on the stream that was current
        before: PyTorch itself leaves the capture's."""
        runs = list(runs)
        before = torch.cuda.current_stream()
        self._stream = self._stream or torch.cuda.Stream()
        self._stream.wait_stream(before)
        with torch.cuda.stream(self._stream):
            runs[0]()  # what libraries set aside for a stream is set aside here, and in no graph
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, stream=self._stream):
                for run in runs:
                    run()
        except RuntimeError as error:
            torch.cuda.set_stream(before)
            cause = error.__context__ or error  # ending a broken capture fails too, and says less
            raise CaptureFailed(f"not captured in a CUDA graph: {str(cause).strip().splitlines()[0]}") from error
        graph.replay()
        torch.cuda.synchronize()
        return graph

    def _make_flush(self, cache_bytes: int) -> Call:
        size_bytes = int(CACHES_TO_EXCEED * cache_bytes)
        if self._flush_buffer is None:
            self._flush_buffer = torch.ones(size_bytes // 4, dtype=torch.float32, device="cuda")
        return self._flush_buffer.sum


def _bind_sets(first: Call, preparation: Preparation) -> list[Call]:
    """All input sets bound, the first as it is, and each of the others called once."""
    runs = [first, *(preparation.bind(i) for i in range(1, preparation.input_sets()))]
    for run in runs[1:]:
        run()
    torch.cuda.synchronize()
    return runs


def _host_cost_s(run: Call) -> float:
    """Seconds that the host needs to issue one call to an idle GPU, median of a few."""
    times_s = []
    for _ in range(HOST_CALLS):
        torch.cuda.synchronize()
        start_s = time.perf_counter()
        run()
        times_s.append(time.perf_counter() - start_s)
    torch.cuda.synchronize()
    return median(times_s)


def _estimate_s(sampler: Sampler) -> float:
    """Rough seconds per launch: the least of three samples; at least 1 us, which nothing is faster than."""
    return max(1e-6, min(time_s for _ in range(3) for time_s in sampler.sample(_look_away)))


def _look_away() -> None:
    """Observe nothing."""


def _elapsed_s(start: torch.cuda.Event, end: torch.cuda.Event) -> float:
    return float(start.elapsed_time(end)) / 1e3
