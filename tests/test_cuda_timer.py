"""What the GPU timer decides, on a CUDA that is made up: a clock that moves when a kernel runs. See test_gpu.py."""

import contextlib
from collections import Counter
from types import SimpleNamespace

import pytest
import torch

from bench import timer
from bench.timer import GRAPH_BELOW_S, HOLD_CYCLES, CudaTimer, Preparation

MIB = 2**20


class FakeCuda:
    """Kernels take the time that they say; in a capture they are written down instead."""

    def __init__(self):
        self.now_s = 0.0
        self.capturing = None
        self.log = []

    def kernel(self, name, time_s, *, capturable=True):
        def run():
            if self.capturing is not None:
                if not capturable:
                    raise RuntimeError("CUDA error: operation not permitted when stream is capturing")
                self.capturing.append((name, time_s))
            else:
                self.log.append(name)
                self.now_s += time_s

        return run

    def event(self, enable_timing):
        assert enable_timing
        event = SimpleNamespace(at_s=None, synchronize=lambda: None)

        def record():
            event.at_s = self.now_s

        event.record = record
        event.elapsed_time = lambda end: (end.at_s - event.at_s) * 1e3
        return event

    def graph_object(self):
        graph = SimpleNamespace(launches=[])

        def replay():
            self.log.append("replay")
            self.now_s += sum(time_s for _, time_s in graph.launches)

        graph.replay = replay
        return graph

    @contextlib.contextmanager
    def capture(self, graph):
        self.capturing = graph.launches
        try:
            yield
        finally:
            self.capturing = None


@pytest.fixture
def cuda(monkeypatch):
    fake = FakeCuda()
    monkeypatch.setattr(torch.cuda, "Event", fake.event)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", fake.graph_object)
    monkeypatch.setattr(torch.cuda, "graph", fake.capture)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "_sleep", lambda cycles: fake.log.append(("hold", cycles)))
    monkeypatch.setattr(
        timer.CudaTimer, "_make_flush", lambda self, cache_bytes: fake.kernel(("flush", cache_bytes), 40e-6)
    )
    return fake


def prepare(cuda, time_s, *, set_bytes=MIB, warm=False, capturable=True, free_bytes=2**40, as_issued=False):
    return CudaTimer().prepare(
        Preparation(
            bind=lambda index: cuda.kernel(index, time_s, capturable=capturable),
            set_bytes=set_bytes,
            free_bytes=free_bytes,
            cache_bytes=50 * MIB,
            warm=warm,
            as_issued=as_issued,
        )
    )


def test_a_long_kernel_is_timed_alone_after_a_flush_on_a_held_stream(cuda):
    sampler = prepare(cuda, 2 * GRAPH_BELOW_S)
    cuda.log.clear()
    assert sampler.sample() == pytest.approx(2 * GRAPH_BELOW_S)  # without the flush
    assert cuda.log == [("hold", HOLD_CYCLES), ("flush", 50 * MIB), 0]
    assert (sampler.method, sampler.launches_per_sample, sampler.cold_l2) == ("cuda_event", 1, True)


def test_a_warm_kernel_is_not_flushed(cuda):
    sampler = prepare(cuda, 2 * GRAPH_BELOW_S, warm=True)
    cuda.log.clear()
    sampler.sample()
    assert cuda.log == [("hold", HOLD_CYCLES), 0]
    assert sampler.cold_l2 is False


def test_a_cache_of_unknown_size_is_not_flushed_and_not_called_cold(cuda):
    run = cuda.kernel(0, 2 * GRAPH_BELOW_S)
    sampler = CudaTimer().prepare(Preparation(lambda _: run, MIB, 2**30, cache_bytes=None, warm=False))
    assert (sampler.flush, sampler.cold_l2) == (None, None)


def test_a_short_kernel_is_timed_in_a_graph_that_uses_every_input_set_equally_often(cuda):
    sampler = prepare(cuda, 5e-6)
    # 2 * 50 MiB / 1 MiB and one more: 101 sets. 2 ms / 5 us = 400 launches, rounded up to whole turns: 404.
    assert (sampler.method, sampler.launches_per_sample, sampler.cold_l2) == ("cuda_graph", 404, True)
    assert Counter(name for name, _ in sampler.graph.launches) == dict.fromkeys(range(101), 4)
    cuda.log.clear()
    assert sampler.sample() == pytest.approx(5e-6)
    assert cuda.log == [("hold", HOLD_CYCLES), "replay"]


def test_too_little_memory_for_rotation_is_said(cuda):
    sampler = prepare(cuda, 5e-6, free_bytes=10 * MIB)
    assert len({name for name, _ in sampler.graph.launches}) == 10
    assert sampler.cold_l2 is False


def test_work_that_cannot_be_captured_is_timed_by_events(cuda):
    sampler = prepare(cuda, 5e-6, capturable=False)
    assert sampler.method == "cuda_event"
    assert sampler.sample() == pytest.approx(5e-6)


def test_an_error_that_is_not_about_capturing_is_not_swallowed(cuda):
    def breaks():
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(RuntimeError, match="illegal memory access"):
        CudaTimer().prepare(Preparation(lambda _: breaks, MIB, 2**30, 50 * MIB, warm=False))


# Steps as they are issued.


def test_a_step_as_issued_is_timed_in_rows_of_calls_that_nothing_holds_up(cuda):
    sampler = prepare(cuda, 30e-6, as_issued=True)  # under 100 us, and yet in no graph
    # 2 ms / 30 us: 67 calls a sample, over the 101 input sets that a cold cache needs.
    assert (sampler.method, sampler.launches_per_sample, sampler.cold_l2) == ("as_issued", 67, True)
    cuda.log.clear()
    assert [sampler.sample(), sampler.sample()] == pytest.approx([30e-6, 30e-6])
    assert cuda.log == [*range(101), *range(33)]  # neither hold nor flush, and every set in turn


def test_a_long_step_as_issued_is_a_sample_by_itself(cuda):
    sampler = prepare(cuda, 5e-3, set_bytes=40 * MIB, as_issued=True)
    assert sampler.launches_per_sample == 1
    cuda.log.clear()
    assert sampler.sample() == pytest.approx(5e-3)
    assert sampler.sample() == pytest.approx(5e-3)
    assert cuda.log == [0, 1]
    assert len(sampler.runs) == 4  # 100 MiB / 40 MiB, rounded up, and one more


@pytest.mark.parametrize(
    ("options", "sets", "cold"),
    [
        ({"warm": True}, 1, False),
        ({"free_bytes": 10 * MIB}, 10, False),
        ({"set_bytes": 101 * MIB}, 1, True),  # evicts itself
    ],
)
def test_a_step_as_issued_says_whether_its_operands_were_cached(cuda, options, sets, cold):
    sampler = prepare(cuda, 30e-6, as_issued=True, **options)
    assert (len(sampler.runs), sampler.cold_l2) == (sets, cold)


class SlowHost(FakeCuda):
    """A GPU that works on what was queued while the host queues more: 100 us for a step of `gpu_s`."""

    host_s = 0.0

    def step(self, gpu_s):
        def run():
            self.host_s += 100e-6
            self.now_s = max(self.now_s, self.host_s) + gpu_s

        return run

    def hold(self, cycles):
        self.now_s = max(self.now_s, self.host_s) + cycles / 2e9

    def event(self, enable_timing):
        event = super().event(enable_timing)

        def synchronize():
            self.host_s = max(self.host_s, self.now_s)

        def record():
            event.at_s = self.now_s = max(self.now_s, self.host_s)

        event.synchronize, event.record = synchronize, record
        return event


@pytest.mark.parametrize(("gpu_s", "seen_s"), [(20e-6, 100e-6), (99e-6, 100e-6), (300e-6, 300e-6)])
def test_as_issued_shows_the_host_where_it_is_the_slower_one(gpu_s, seen_s, monkeypatch):
    fake = SlowHost()
    monkeypatch.setattr(torch.cuda, "Event", fake.event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "_sleep", fake.hold)
    case = Preparation(lambda _: fake.step(gpu_s), MIB, 2**30, cache_bytes=None, warm=False, as_issued=True)
    sampler = CudaTimer().prepare(case)
    # The first call of a sample finds an idle GPU and waits for the host alone: at most one step more.
    assert sampler.sample() == pytest.approx(seen_s, rel=1.2 / sampler.launches_per_sample * max(1, 100e-6 / seen_s))
    held = timer.EventSampler(fake.step(gpu_s), None, cold_l2=None)
    assert held.sample() == pytest.approx(gpu_s)  # which hides it
