"""Clocks for kernels. A timer prepares a case (input sets, cache state, graph) and returns a sampler.

Four methods, and the record names which one ran:
cuda_graph  many launches over rotating input sets in one captured graph; for kernels under 100 us, where an event pair
            around a single launch would time the host.
cuda_event  one launch between two events, on a stream that is held busy until the host has queued it.
as_issued   calls one after the other between two events, on a stream that nothing holds: a step of many kernels, which
            takes as long as the host needs to start them where that is longer than what they do.
wall_clock  the CPU.

A cold cache is made by rotating input sets of more than twice its size (graph, as issued, CPU), or by reading a buffer
of twice its size before each launch (events): reading leaves clean lines, where a memset would leave dirty ones whose
write-back the timed kernel would pay.
"""

import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from bench.measure import Sampler

GRAPH_BELOW_S = 100e-6
GRAPH_SAMPLE_S = 2e-3  # long enough that starting the graph is under 1 % of it
MAX_GRAPH_LAUNCHES = 1024
AS_ISSUED_SAMPLE_S = 2e-3  # long enough that the first call, which finds an idle GPU, does not count for much
MAX_INPUT_SETS = 256
CACHES_TO_EXCEED = 2.0  # rotated operands, and flush buffers, are this many times the last-level cache
HOLD_CYCLES = 400_000  # about 0.2 ms: longer than the host needs to queue an event pair and one launch
WALL_SAMPLE_S = 1e-3  # a thousand times what perf_counter resolves

Run = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Preparation:
    """What a timer needs of a case: how to bind the i-th input set, its size, and what to do about the cache."""

    bind: Callable[[int], Run]
    set_bytes: float  # operands that one launch reads and writes
    free_bytes: float  # memory that further input sets may take
    cache_bytes: int | None
    warm: bool
    as_issued: bool = False  # the time of the host counts too; a CPU's always does

    def input_sets(self) -> int:
        """How many input sets to rotate so that no launch finds its operands cached; 1 if they may be."""
        if self.warm or self.cache_bytes is None or self.set_bytes <= 0:
            return 1
        if self.set_bytes > CACHES_TO_EXCEED * self.cache_bytes:
            return 1  # each launch evicts its own operands
        wanted = math.ceil(CACHES_TO_EXCEED * self.cache_bytes / self.set_bytes) + 1
        affordable = int(self.free_bytes // self.set_bytes)
        return max(1, min(wanted, affordable, MAX_INPUT_SETS))

    def is_cold(self, sets: int) -> bool | None:
        """Whether rotating `sets` input sets keeps operands out of the cache; None if its size is not known."""
        if self.warm:
            return False
        if self.cache_bytes is None:
            return None
        return sets * self.set_bytes > CACHES_TO_EXCEED * self.cache_bytes


class Timer(Protocol):
    """Prepares cases for timing."""

    def prepare(self, preparation: Preparation) -> Sampler:
        """Bind inputs, warm and capture what is needed, and return the sampler."""


@dataclass(slots=True)
class WallSampler:
    """Times calls on the CPU, which return when the work is done."""

    runs: Sequence[Run]
    launches_per_sample: int
    cold_l2: bool | None
    position: int = 0
    method: str = "wall_clock"

    def sample(self) -> float:
        """Seconds per call, over the next `launches_per_sample` input sets."""
        count = len(self.runs)
        start_s = time.perf_counter()
        for i in range(self.position, self.position + self.launches_per_sample):
            self.runs[i % count]()
        time_s = time.perf_counter() - start_s
        self.position = (self.position + self.launches_per_sample) % count
        return time_s / self.launches_per_sample


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
class EventSampler:
    """Times single launches with an event pair; `flush` empties the cache before each, outside the pair."""

    run: Run
    flush: Run | None
    cold_l2: bool | None
    launches_per_sample: int = 1
    method: str = "cuda_event"

    def sample(self) -> float:
        """Seconds of one launch."""
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        _hold_stream()
        if self.flush is not None:
            self.flush()
        start.record()
        self.run()
        end.record()
        end.synchronize()
        return _elapsed_s(start, end)


@dataclass(slots=True)
class GraphSampler:
    """Times replays of a captured graph of launches."""

    graph: torch.cuda.CUDAGraph
    launches_per_sample: int
    cold_l2: bool | None
    keep: Sequence[Run]  # the graph reads the input sets that these own
    method: str = "cuda_graph"

    def sample(self) -> float:
        """Seconds per launch of one replay."""
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        _hold_stream()
        start.record()
        self.graph.replay()
        end.record()
        end.synchronize()
        return _elapsed_s(start, end) / self.launches_per_sample


@dataclass(slots=True)
class AsIssuedSampler:
    """Times calls in a row on an idle stream: the next is issued while the GPU works on those before."""

    runs: Sequence[Run]
    launches_per_sample: int
    cold_l2: bool | None
    position: int = 0
    method: str = "as_issued"

    def sample(self) -> float:
        """Seconds per call, over the next `launches_per_sample` input sets."""
        count = len(self.runs)
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        for i in range(self.position, self.position + self.launches_per_sample):
            self.runs[i % count]()
        end.record()
        end.synchronize()
        self.position = (self.position + self.launches_per_sample) % count
        return _elapsed_s(start, end) / self.launches_per_sample


class CudaTimer:
    """The GPU's timer: graphs for short kernels, events for long ones and for those that cannot be captured; calls as
    they are issued where the preparation says so."""

    def __init__(self, *, graph_below_s: float = GRAPH_BELOW_S) -> None:
        """Kernels that take less than `graph_below_s` are timed in graphs."""
        self._graph_below_s = graph_below_s
        self._flush_buffer: torch.Tensor | None = None

    def prepare(self, preparation: Preparation) -> Sampler:
        """Compile and warm the case, estimate its time, and choose the method."""
        run = preparation.bind(0)
        run()
        torch.cuda.synchronize()
        if preparation.as_issued:
            return self._as_issued(run, preparation)
        if preparation.warm or preparation.cache_bytes is None:
            events = EventSampler(run, None, cold_l2=False if preparation.warm else None)
        else:
            events = EventSampler(run, self._make_flush(preparation.cache_bytes), cold_l2=True)
        if min(events.sample() for _ in range(3)) >= self._graph_below_s:
            return events
        return self._capture(run, preparation) or events

    def _as_issued(self, first: Run, preparation: Preparation) -> Sampler:
        """Bind and warm the rotated input sets, and choose how many calls make one sample."""
        sets = preparation.input_sets()
        runs = [first, *(preparation.bind(i) for i in range(1, sets))]
        sampler = AsIssuedSampler(runs, sets, preparation.is_cold(sets))
        sampler.sample()  # all of them once, untimed
        call_s = max(sampler.sample(), 1e-6)
        sampler.launches_per_sample = math.ceil(AS_ISSUED_SAMPLE_S / call_s)
        return sampler

    def _capture(self, first: Run, preparation: Preparation) -> Sampler | None:
        """Capture a graph over the rotated input sets; None for work that cannot be captured."""
        sets = preparation.input_sets()
        runs = [first, *(preparation.bind(i) for i in range(1, sets))]
        for run in runs:
            run()
        torch.cuda.synchronize()
        launches = min(max(sets, math.ceil(GRAPH_SAMPLE_S / _loop_estimate_s(runs))), MAX_GRAPH_LAUNCHES)
        launches = sets * math.ceil(launches / sets)  # every set equally often
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                for run in itertools.islice(itertools.cycle(runs), launches):
                    run()
        except RuntimeError as error:
            if "captur" not in str(error):  # "operation not permitted when stream is capturing" and its kin
                raise
            torch.cuda.synchronize()
            return None
        graph.replay()
        torch.cuda.synchronize()
        return GraphSampler(graph, launches, preparation.is_cold(sets), runs)

    def _make_flush(self, cache_bytes: int) -> Run:
        size_bytes = int(CACHES_TO_EXCEED * cache_bytes)
        if self._flush_buffer is None:
            self._flush_buffer = torch.ones(size_bytes // 4, dtype=torch.float32, device="cuda")
        return self._flush_buffer.sum


def _hold_stream() -> None:
    """Keep the stream busy while the host queues what is timed, so that its launch time stays outside."""
    torch.cuda._sleep(HOLD_CYCLES)  # private, but there is no public way to hold a stream


def _loop_estimate_s(runs: Sequence[Run]) -> float:
    """Rough seconds per launch, launched back to back; at least 1 us."""
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    _hold_stream()
    start.record()
    for run in runs:
        run()
    end.record()
    end.synchronize()
    return max(_elapsed_s(start, end) / len(runs), 1e-6)


def _elapsed_s(start: torch.cuda.Event, end: torch.cuda.Event) -> float:
    return float(start.elapsed_time(end)) / 1e3
