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


def prepare(cuda, time_s, *, set_bytes=MIB, warm=False, capturable=True, free_bytes=2**40):
    return CudaTimer().prepare(
        Preparation(
            bind=lambda index: cuda.kernel(index, time_s, capturable=capturable),
            set_bytes=set_bytes,
            free_bytes=free_bytes,
            cache_bytes=50 * MIB,
            warm=warm,
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
