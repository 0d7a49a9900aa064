"""Times kernels: a timer prepares a case (input sets, cache state, graph) and returns a sampler of seconds per launch.

    sampler = CudaTimer().prepare(Preparation(bind, set_bytes, free_bytes, cache_bytes, warm=False))
    sampler.sample(read_state)  # (5.1e-06, 5.0e-06, ...)

Every record names the method that was used:
cuda_graph  replays of a captured graph: about 2 ms of launches over rotating input sets, or one launch that takes as
            long by itself.
cuda_event  one launch at a time, for work that cannot be captured.
as_issued   calls in a row between two events on a stream that nothing holds: a step of many kernels, whose time
            includes the host's where issuing takes longer than the work.
wall_clock  the CPU.

The first two time the GPU alone. On an idle stream an event pair would time the host, so the stream is held until the
host has queued everything. An event behind the hold must still be pending by then; if it is not, the hold is doubled
and the samples are taken again.

A cold cache comes of rotating input sets of more than four times its size (graph, as issued, CPU), or of reading a
buffer of that size before each launch. A memset would leave dirty lines, whose write-back the timed kernel would pay.
Twice the size is too little: a scan in circles through a cache with random replacement finds about a fifth of twice its
size again, and a fiftieth of four times.
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
from bench.sampling import Observe, Sampler

GRAPH_SAMPLE_S = 2e-3  # starting the graph is under 1 % of it
MAX_GRAPH_LAUNCHES = 1024
AS_ISSUED_SAMPLE_S = 2e-3  # the first call, which finds an idle GPU, counts for little
MAX_INPUT_SETS = 1024
CACHES_TO_EXCEED = 4.0  # size of rotated operands and flush buffers over that of the last-level cache
HOLD_CYCLES = 400_000  # at first, about 0.2 ms: the host queues a handful of launches in it
MAX_HOLD_CYCLES = 2**8 * HOLD_CYCLES  # about 50 ms; work that is not queued by then waits for the GPU itself
QUEUED_S = 10e-3  # work that is queued together, so that the monitor reads a GPU that works
MAX_QUEUED = 16  # samples queued together: a stream takes about a thousand launches, then blocks the host
WALL_SAMPLE_S = 1e-3  # a thousand times what perf_counter resolves
HOST_CALLS = 5  # their median is the host's cost of a call

Call = Callable[[], object]


class CaptureFailed(PoisonsProcess):
    """Work could not be captured in a CUDA graph. PyTorch then keeps memory of the broken capture, and libraries may
    keep state: give the process up and time the case again without a graph."""


@dataclass(frozen=True, slots=True)
class Preparation:
    """What a timer must know of a case."""

    bind: Callable[[int], Call]  # the call on the i-th input set
    set_bytes: float  # operands of one launch
    free_bytes: float  # memory that further input sets may take
    cache_bytes: int | None  # size of the last-level cache; None if unknown
    warm: bool  # operands may stay in the cache
    as_issued: bool = False  # the host's time counts too; on a CPU it always does
    captures: bool = True  # a CUDA graph may be tried
    caches: float = CACHES_TO_EXCEED  # rotated input sets exceed this many caches
    touched_bytes: float | None = None  # of set_bytes, what one launch reads and writes; None: all

    def input_sets(self) -> int:
        """How many input sets to rotate so that no launch finds its operands cached; 1 if they may be."""
        if self.warm or self.cache_bytes is None or self._touched_bytes <= 0:
            return 1
        if self._touched_bytes > self.caches * self.cache_bytes:
            return 1  # each launch evicts its own operands
        wanted = math.ceil(self.caches * self.cache_bytes / self._touched_bytes) + 1
        affordable = int(self.free_bytes // self.set_bytes)
        return max(1, min(wanted, affordable, MAX_INPUT_SETS))

    def is_cold(self, sets: int) -> bool | None:
        """Whether rotating `sets` input sets keeps operands out of the cache; None if its size is unknown."""
        if self.warm:
            return False
        if self.cache_bytes is None:
            return None
        return sets * self._touched_bytes > self.caches * self.cache_bytes

    @property
    def _touched_bytes(self) -> float:
        return self.set_bytes if self.touched_bytes is None else self.touched_bytes


class Timer(Protocol):
    """Prepares cases for timing."""

    def prepare(self, preparation: Preparation) -> Sampler:
        """Bind inputs, warm up and capture as needed, and return the sampler. Raises CaptureFailed."""


@dataclass(slots=True)
class _RotatingSampler:
    """A sampler of calls in a row, over the input sets in turn."""

    calls: Sequence[Call]  # one for each input set
    launches_per_sample: int
    cold_l2: bool | None
    host_s: float | None = None
    held: bool | None = None
    position: int = 0  # of the input set that is next

    def _call_next(self) -> None:
        """Make the calls of one sample."""
        count, end = len(self.calls), self.position + self.launches_per_sample
        for i in range(self.position, end):
            self.calls[i % count]()
        self.position = end % count


@dataclass(slots=True)
class WallSampler(_RotatingSampler):
    """Times calls on the CPU, which return when the work is done."""

    method: str = "wall_clock"

    def sample(self, observe: Observe) -> tuple[float, ...]:  # noqa: ARG002  (the CPU that works cannot observe itself)
        """Seconds per call, over the next `launches_per_sample` input sets."""
        start_s = time.perf_counter()
        self._call_next()
        return ((time.perf_counter() - start_s) / self.launches_per_sample,)


class WallTimer:
    """The CPU's timer."""

    def prepare(self, preparation: Preparation) -> Sampler:
        """Bind the input sets and choose how many calls make one sample."""
        sets = preparation.input_sets()
        calls = [preparation.bind(i) for i in range(sets)]
        calls[0]()
        start_s = time.perf_counter()
        calls[-1]()
        call_s = max(time.perf_counter() - start_s, 1e-9)
        return WallSampler(calls, max(1, math.ceil(WALL_SAMPLE_S / call_s)), preparation.is_cold(sets))


@dataclass(slots=True)
class HeldSampler:
    """Times `work` between two events on a stream that is held until the host has queued all of it."""

    work: Call  # one launch, or a graph of some
    flush: Call | None  # empties the cache before each launch, outside the event pair
    method: str
    launches_per_sample: int
    cold_l2: bool | None
    host_s: float | None = None
    keep: Sequence[Call] = ()  # these own the input sets that a graph reads
    queued: int = 1  # samples that are queued together
    hold_cycles: int = HOLD_CYCLES
    held: bool | None = None  # whether the hold outlasted the host's queuing of the last samples

    def sample(self, observe: Observe) -> tuple[float, ...]:
        """Seconds per launch of `queued` samples; `observe` is called while the GPU works on them."""
        while True:
            self.held, pairs = self._queue()
            observe()
            pairs[-1][1].synchronize()
            if self.held or not self._hold_longer():
                return tuple(_elapsed_s(*pair) / self.launches_per_sample for pair in pairs)

    def queue_for(self, sample_s: float) -> None:
        """Queue samples of `sample_s` together until they make QUEUED_S; one at a time if holding does not help."""
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
        """Hold the stream twice as long, then queue one sample at a time. False, and no hold any more, if neither
        helps: work may wait for the GPU itself."""
        if 0 < self.hold_cycles < MAX_HOLD_CYCLES:
            self.hold_cycles *= 2
        elif self.queued > 1:
            self.queued, self.hold_cycles = 1, HOLD_CYCLES
        else:
            self.hold_cycles = 0
        return self.hold_cycles > 0


@dataclass(slots=True)
class AsIssuedSampler(_RotatingSampler):
    """Times calls in a row on an idle stream: each is issued while the GPU works on those before."""

    method: str = "as_issued"

    def sample(self, observe: Observe) -> tuple[float, ...]:
        """Seconds per call, over the next `launches_per_sample` input sets; `observe` is called when all are issued."""
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        self._call_next()
        end.record()
        observe()
        end.synchronize()
        return (_elapsed_s(start, end) / self.launches_per_sample,)


class CudaTimer:
    """The GPU's timer: graphs, events for work that cannot be captured, calls as issued if the preparation asks."""

    def __init__(self) -> None:
        self._flush_buffer: torch.Tensor | None = None
        self._stream: torch.cuda.Stream | None = None

    def prepare(self, preparation: Preparation) -> Sampler:
        """Compile and warm the case, choose the method, and find how many launches make one sample."""
        call = preparation.bind(0)
        call()
        host_s = _host_cost_s(call)
        if preparation.as_issued:
            return self._as_issued(call, preparation, host_s)
        if preparation.captures:
            return self._graph(call, preparation, host_s)
        sampler = self._flushed(call, preparation, "cuda_event", host_s)
        sampler.queue_for(_estimate_s(sampler))
        return sampler

    def _as_issued(self, first: Call, preparation: Preparation, host_s: float) -> Sampler:
        """Bind and warm the rotated input sets, and choose how many calls make one sample."""
        calls = _bind_sets(first, preparation)
        sampler = AsIssuedSampler(calls, len(calls), preparation.is_cold(len(calls)), host_s)
        sampler.sample(_ignore)  # all of them once, untimed
        sampler.launches_per_sample = math.ceil(AS_ISSUED_SAMPLE_S / _estimate_s(sampler))
        return sampler

    def _graph(self, first: Call, preparation: Preparation, host_s: float) -> Sampler:
        """Capture one launch; if it is short, as many over the rotated input sets as make a sample."""
        alone = self._flushed(self._capture([first]).replay, preparation, "cuda_graph", host_s)
        call_s = _estimate_s(alone)
        if call_s >= GRAPH_SAMPLE_S:
            alone.keep = [first]
            alone.queue_for(call_s)
            return alone
        del alone  # frees the memory of its graph
        calls = _bind_sets(first, preparation)
        sets = len(calls)
        rounds = min(math.ceil(GRAPH_SAMPLE_S / call_s / sets), MAX_GRAPH_LAUNCHES // sets)
        launches = sets * max(1, rounds)  # every set equally often
        graph = self._capture(itertools.islice(itertools.cycle(calls), launches))
        cold = preparation.is_cold(sets)
        sampler = HeldSampler(graph.replay, None, "cuda_graph", launches, cold, host_s, keep=calls)
        sampler.queue_for(launches * _estimate_s(sampler))
        return sampler

    def _flushed(self, work: Call, preparation: Preparation, method: str, host_s: float) -> HeldSampler:
        """A sampler of single launches, each with the cache as the preparation asks."""
        if preparation.warm or preparation.cache_bytes is None:
            flush, cold_l2 = None, False if preparation.warm else None
        else:
            flush, cold_l2 = self._make_flush(preparation.cache_bytes), True
        return HeldSampler(work, flush, method, launches_per_sample=1, cold_l2=cold_l2, host_s=host_s)

    def _capture(self, calls: Iterable[Call]) -> torch.cuda.CUDAGraph:
        """A graph of these calls, all of which have run before. Raises CaptureFailed, with the stream current that was
        current before: PyTorch itself leaves the capture's."""
        calls = list(calls)
        before = torch.cuda.current_stream()
        self._stream = self._stream or torch.cuda.Stream()
        self._stream.wait_stream(before)
        with torch.cuda.stream(self._stream):
            calls[0]()  # libraries allocate what they keep for a stream here, not in a graph
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, stream=self._stream):
                for call in calls:
                    call()
        except RuntimeError as error:
            torch.cuda.set_stream(before)
            cause = error.__context__ or error  # ending a broken capture fails too, and says less
            raise CaptureFailed(f"not captured in a CUDA graph: {str(cause).strip().splitlines()[0]}") from error
        graph.replay()
        torch.cuda.synchronize()
        return graph

    def _make_flush(self, cache_bytes: int) -> Call:
        if self._flush_buffer is None:
            size_bytes = int(CACHES_TO_EXCEED * cache_bytes)
            self._flush_buffer = torch.ones(size_bytes // 4, dtype=torch.float32, device="cuda")
        return self._flush_buffer.sum


def _bind_sets(first: Call, preparation: Preparation) -> list[Call]:
    """All input sets bound; each but the first, which has run, is called once."""
    calls = [first, *(preparation.bind(i) for i in range(1, preparation.input_sets()))]
    for call in calls[1:]:
        call()
    torch.cuda.synchronize()
    return calls


def _host_cost_s(call: Call) -> float:
    """Seconds that the host needs to issue one call to an idle GPU, median of a few."""
    times_s = []
    for _ in range(HOST_CALLS):
        torch.cuda.synchronize()
        start_s = time.perf_counter()
        call()
        times_s.append(time.perf_counter() - start_s)
    torch.cuda.synchronize()
    return median(times_s)


def _estimate_s(sampler: Sampler) -> float:
    """Rough seconds per launch: the least of three samples, and at least 1 us."""
    return max(1e-6, min(time_s for _ in range(3) for time_s in sampler.sample(_ignore)))


def _ignore() -> None:
    """Observe nothing."""


def _elapsed_s(start: torch.cuda.Event, end: torch.cuda.Event) -> float:
    return float(start.elapsed_time(end)) / 1e3
