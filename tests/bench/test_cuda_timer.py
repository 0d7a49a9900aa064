"""What the GPU timer decides, on a CUDA that is made up: host and device, each with a clock. See test_gpu.py."""

import contextlib
from collections import Counter
from types import SimpleNamespace

import pytest
import torch

from bench import timer
from bench.timer import GRAPH_SAMPLE_S, HOLD_CYCLES, MAX_HOLD_CYCLES, CaptureFailed, CudaTimer, Preparation

MIB = 2**20
CACHE = 50 * MIB
FLUSH_S = 40e-6
REPLAY_HOST_S = 10e-6
CLOCK_HZ = 2e9


class FakeStream:
    def wait_stream(self, other):
        pass


class FakeCuda:
    """The host queues work, which takes it a while, and the device does it in order, each as soon as it can. In a
    capture work is written down instead."""

    def __init__(self):
        self.host_s = 0.0  # the host's clock
        self.device_s = 0.0  # when the device will have done all that is queued
        self.capturing = None
        self.log = []
        self.default = self.current = FakeStream()

    def queue(self, name, time_s, host_s):
        self.log.append(name)
        self.host_s += host_s
        self.device_s = max(self.device_s, self.host_s) + time_s

    def kernel(self, name, time_s, *, host_s=5e-6, capturable=True, waits=False):
        def run():
            if self.capturing is not None:
                if not capturable:
                    raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nhint: none")
                self.capturing.append((name, time_s))
                return
            self.queue(name, time_s, host_s)
            if waits:
                self.synchronize()

        return run

    def synchronize(self):
        self.host_s = max(self.host_s, self.device_s)

    def sleep(self, cycles):
        self.queue("hold", cycles / CLOCK_HZ, 5e-6)

    def event(self, enable_timing=False):
        event = SimpleNamespace(at_s=None)

        def record():
            event.at_s = max(self.device_s, self.host_s)

        def synchronize():
            self.host_s = max(self.host_s, event.at_s)

        event.record, event.synchronize = record, synchronize
        event.query = lambda: event.at_s <= self.host_s
        event.elapsed_time = lambda end: (end.at_s - event.at_s) * 1e3
        return event

    def graph_object(self):
        graph = SimpleNamespace(launches=[])
        graph.replay = lambda: self.queue("replay", sum(time_s for _, time_s in graph.launches), REPLAY_HOST_S)
        return graph

    @contextlib.contextmanager
    def capture(self, graph, stream):
        """As PyTorch does it: ending a capture that was broken fails itself, and leaves its stream current."""
        self.capturing, before, self.current = graph.launches, self.current, stream
        try:
            yield
        except RuntimeError:
            raise RuntimeError("CUDA error: operation failed due to a previous error")  # noqa: B904  (as it does)
        else:
            self.current = before
        finally:
            self.capturing = None

    @contextlib.contextmanager
    def on(self, stream):
        before, self.current = self.current, stream
        yield
        self.current = before

    def set_stream(self, stream):
        self.current = stream


@pytest.fixture
def cuda(monkeypatch):
    fake = FakeCuda()
    for name, stand_in in {
        "Event": fake.event,
        "CUDAGraph": fake.graph_object,
        "graph": fake.capture,
        "synchronize": fake.synchronize,
        "Stream": FakeStream,
        "stream": fake.on,
        "current_stream": lambda: fake.current,
        "set_stream": fake.set_stream,
        "_sleep": fake.sleep,
    }.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    monkeypatch.setattr(timer, "time", SimpleNamespace(perf_counter=lambda: fake.host_s))
    monkeypatch.setattr(CudaTimer, "_make_flush", lambda self, cache_bytes: fake.kernel("flush", FLUSH_S, host_s=5e-6))
    return fake


def prepare(cuda, time_s, *, set_bytes=MIB, free_bytes=2**40, kernel=None, cache_bytes=CACHE, **options):
    """A case whose i-th input set is launched as the kernel called i."""
    return CudaTimer().prepare(
        Preparation(
            bind=lambda index: cuda.kernel(index, time_s, **(kernel or {})),
            set_bytes=set_bytes,
            free_bytes=free_bytes,
            cache_bytes=cache_bytes,
            **({"warm": False} | options),
        )
    )


def sample(cuda, sampler):
    """One call of the sampler, and what it queued."""
    cuda.log.clear()
    return sampler.sample(lambda: None), list(cuda.log)


# Graphs.


def test_a_short_kernel_is_timed_in_a_graph_that_uses_every_input_set_equally_often(cuda):
    sampler = prepare(cuda, 5e-6)
    # 4 * 50 MiB / 1 MiB and one more: 201 sets. 2 ms / 5 us = 400 launches, rounded up to whole turns: 402.
    assert (sampler.method, sampler.launches_per_sample, sampler.cold_l2) == ("cuda_graph", 402, True)
    graph = sampler.work.__closure__
    launches = next(cell.cell_contents.launches for cell in graph if hasattr(cell.cell_contents, "launches"))
    assert Counter(name for name, _ in launches) == dict.fromkeys(range(201), 2)
    times_s, log = sample(cuda, sampler)
    # 402 * 5 us = 2.01 ms: five of them keep the device at work for 10 ms.
    assert times_s == pytest.approx((5e-6,) * 5)
    assert log == ["hold", *["replay"] * 5]
    assert sampler.held is True


def test_the_hosts_cost_of_a_call_does_not_shorten_the_graph_and_is_recorded(cuda):
    """A call of ours that costs the host 150 us was taken for a kernel of 150 us, and got a graph of 14 launches."""
    sampler = prepare(cuda, 5e-6, kernel={"host_s": 150e-6})
    assert sampler.launches_per_sample == 402
    assert sampler.host_s == pytest.approx(150e-6)
    assert sample(cuda, sampler)[0] == pytest.approx((5e-6,) * 5)


def test_a_launch_that_is_as_long_as_a_sample_is_replayed_alone_after_a_flush(cuda):
    sampler = prepare(cuda, 2 * GRAPH_SAMPLE_S)
    times_s, log = sample(cuda, sampler)
    assert (sampler.method, sampler.launches_per_sample, sampler.cold_l2) == ("cuda_graph", 1, True)
    assert times_s == pytest.approx((4e-3,) * 3)  # without the flush; three make more than 10 ms
    assert log == ["hold", *["flush", "replay"] * 3]


def test_a_warm_kernel_is_neither_flushed_nor_rotated(cuda):
    sampler = prepare(cuda, 2 * GRAPH_SAMPLE_S, warm=True)
    assert "flush" not in sample(cuda, sampler)[1]
    assert sampler.cold_l2 is False
    short = prepare(cuda, 6e-6, warm=True)
    assert (short.launches_per_sample, short.cold_l2, len(short.keep)) == (334, False, 1)


def test_a_cache_of_unknown_size_is_not_flushed_and_not_called_cold(cuda):
    sampler = prepare(cuda, 2 * GRAPH_SAMPLE_S, cache_bytes=None)
    assert (sampler.flush, sampler.cold_l2) == (None, None)


def test_too_little_memory_for_rotation_is_said(cuda):
    sampler = prepare(cuda, 5e-6, free_bytes=10 * MIB)
    assert (len(sampler.keep), sampler.cold_l2) == (10, False)


# What cannot be captured.


def test_work_that_says_it_cannot_be_captured_is_timed_one_launch_at_a_time(cuda):
    sampler = prepare(cuda, 1e-3, captures=False, kernel={"capturable": False})
    times_s, log = sample(cuda, sampler)
    assert (sampler.method, sampler.launches_per_sample, sampler.cold_l2) == ("cuda_event", 1, True)
    assert times_s == pytest.approx((1e-3,) * 10)
    assert log == ["hold", *["flush", 0] * 10]
    assert sampler.held is True


def test_the_hold_is_doubled_until_the_host_has_queued_everything(cuda):
    sampler = prepare(cuda, 50e-6, captures=False, kernel={"host_s": 450e-6})
    # One call alone: 5 us of hold, 5 of flush and 450 take the host 460 us; holds of 200 and 400 us are over by then.
    # Sixteen together: 16 * 455 us = 7.3 ms, for which 0.8, 1.6, 3.2 and 6.4 ms do not suffice.
    assert sample(cuda, sampler)[0] == pytest.approx((50e-6,) * 16)
    assert sampler.hold_cycles == 64 * HOLD_CYCLES
    assert sampler.held is True


def test_work_that_waits_for_the_gpu_is_timed_with_the_host_and_the_record_says_so(cuda):
    sampler = prepare(cuda, 50e-6, captures=False, warm=True, kernel={"waits": True, "host_s": 20e-6})
    assert sampler.held is False
    times_s, log = sample(cuda, sampler)
    assert times_s == pytest.approx((70e-6,))
    assert log.count("hold") == 1  # in vain before: not tried again
    assert sampler.hold_cycles == 0


def test_samples_are_queued_one_at_a_time_where_a_full_stream_blocks_the_host(cuda):
    """The host cannot queue sixteen of these before the longest hold is over, but it can queue one."""
    longest_s = MAX_HOLD_CYCLES / CLOCK_HZ
    sampler = prepare(cuda, 50e-6, captures=False, kernel={"host_s": longest_s / 4})
    assert sample(cuda, sampler)[0] == pytest.approx((50e-6,))
    assert (sampler.queued, sampler.held) == (1, True)


def test_a_capture_that_fails_names_its_cause_and_restores_the_stream(cuda):
    with pytest.raises(CaptureFailed, match=r"^not captured in a CUDA graph: CUDA error: operation not perm.*ing$"):
        prepare(cuda, 5e-6, kernel={"capturable": False})
    assert cuda.current is cuda.default


def test_an_error_that_is_not_about_capturing_is_not_swallowed(cuda):
    def breaks():
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(RuntimeError, match="illegal memory access"):
        CudaTimer().prepare(Preparation(lambda _: breaks, MIB, 2**30, CACHE, warm=False))


def test_the_device_is_looked_at_while_it_works(cuda):
    sampler = prepare(cuda, 5e-6)
    looks = []
    sampler.sample(lambda: looks.append((cuda.host_s, cuda.device_s)))
    ((host_s, done_s),) = looks
    assert done_s - host_s > 9e-3  # of the 10 ms that were queued


# Steps as they are issued.


def test_a_step_as_issued_is_timed_in_rows_of_calls_that_nothing_holds_up(cuda):
    sampler = prepare(cuda, 30e-6, as_issued=True)  # short, and yet in no graph
    # 2 ms / 30 us: 67 calls a sample, over the 201 input sets that a cold cache needs.
    assert (sampler.method, sampler.launches_per_sample, sampler.cold_l2) == ("as_issued", 67, True)
    sampler.position = 0
    runs = [sample(cuda, sampler) for _ in range(4)]
    # The first call of a sample waits for its host, 5 us of 67 * 30.
    assert [times_s[0] for times_s, _ in runs] == pytest.approx([30e-6] * 4, rel=5e-3)
    assert [name for _, log in runs for name in log] == [*range(201), *range(67)]  # neither hold nor flush
    assert sampler.held is None


def test_a_long_step_as_issued_is_a_sample_by_itself(cuda):
    sampler = prepare(cuda, 5e-3, set_bytes=80 * MIB, as_issued=True)
    assert sampler.launches_per_sample == 1
    sampler.position = 0
    assert [sample(cuda, sampler)[1] for _ in range(2)] == [[0], [1]]
    assert len(sampler.calls) == 4  # 200 MiB / 80 MiB, rounded up, and one more


@pytest.mark.parametrize(
    ("options", "sets", "cold"),
    [
        ({"warm": True}, 1, False),
        ({"free_bytes": 10 * MIB}, 10, False),
        ({"set_bytes": 201 * MIB}, 1, True),  # evicts itself
    ],
)
def test_a_step_as_issued_says_whether_its_operands_were_cached(cuda, options, sets, cold):
    sampler = prepare(cuda, 30e-6, as_issued=True, **options)
    assert (len(sampler.calls), sampler.cold_l2) == (sets, cold)


@pytest.mark.parametrize(("gpu_s", "seen_s"), [(20e-6, 100e-6), (99e-6, 100e-6), (300e-6, 300e-6)])
def test_as_issued_shows_the_host_where_it_is_the_slower_one_and_a_graph_hides_it(cuda, gpu_s, seen_s):
    kernel = {"host_s": 100e-6}
    issued = prepare(cuda, gpu_s, kernel=kernel, as_issued=True, cache_bytes=None)
    # The first call of a sample finds an idle GPU and waits for the host alone: at most one step more.
    tolerance = 1.2 / issued.launches_per_sample * max(1, 100e-6 / seen_s)
    assert sample(cuda, issued)[0][0] == pytest.approx(seen_s, rel=tolerance)
    captured = prepare(cuda, gpu_s, kernel=kernel, cache_bytes=None)
    assert sample(cuda, captured)[0][0] == pytest.approx(gpu_s)
    assert [issued.host_s, captured.host_s] == pytest.approx([100e-6] * 2)
