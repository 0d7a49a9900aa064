"""The CPU's timer for real, and the arithmetic of cold caches. The GPU's timer is tested in test_gpu.py."""

import time

import pytest

from bench.timer import MAX_INPUT_SETS, Preparation, WallTimer

MIB = 2**20


def preparation(bind=lambda index: lambda: None, *, set_bytes=MIB, free=1024 * MIB, cache=32 * MIB, warm=False):
    return Preparation(bind=bind, set_bytes=set_bytes, free_bytes=free, cache_bytes=cache, warm=warm)


@pytest.mark.parametrize(
    ("case", "sets", "cold"),
    [
        (preparation(), 65, True),  # 2 * 32 MiB / 1 MiB, and one more
        (preparation(set_bytes=65 * MIB), 1, True),  # evicts itself
        (preparation(set_bytes=64 * MIB), 2, True),  # exactly twice the cache is not yet over it
        (preparation(free=10 * MIB), 10, False),  # memory for ten sets only: they fit in the cache, and that is said
        (preparation(set_bytes=1), MAX_INPUT_SETS, False),  # too small to ever be cold
        (preparation(warm=True), 1, False),
        (preparation(cache=None), 1, None),  # nobody knows
    ],
)
def test_input_sets_rotate_over_more_than_twice_the_cache(case, sets, cold):
    assert case.input_sets() == sets
    assert case.is_cold(sets) == cold


def test_every_input_set_is_used_in_turn():
    used = []
    sampler = WallTimer().prepare(
        preparation(lambda index: lambda: (used.append(index), time.sleep(2e-3)), set_bytes=30 * MIB, cache=40 * MIB)
    )
    used.clear()
    for _ in range(4):
        sampler.sample()
    # 80 MiB / 30 MiB, rounded up, and one more.
    assert used == [0, 1, 2, 3]


def test_wall_time_is_per_call_and_of_the_right_size():
    sampler = WallTimer().prepare(preparation(lambda _: lambda: time.sleep(5e-3), warm=True))
    assert sampler.launches_per_sample == 1
    assert 5e-3 <= sampler.sample() < 0.1


def test_short_calls_are_timed_many_at_a_time():
    calls = []
    sampler = WallTimer().prepare(preparation(lambda _: lambda: calls.append(1), warm=True))
    calls.clear()
    time_s = sampler.sample()
    assert sampler.launches_per_sample > 100
    assert len(calls) == sampler.launches_per_sample
    assert 0 < time_s < 1e-4
    assert sampler.method == "wall_clock"
