"""The CPU's timer for real, and the arithmetic of cold caches. The GPU's timer is tested in test_gpu.py."""

import math
import time
from dataclasses import replace

import pytest

from bench.timer import CACHES_TO_EXCEED, MAX_INPUT_SETS, Preparation, WallTimer

MIB = 2**20


def look_away():
    pass


def preparation(bind=lambda index: lambda: None, *, set_bytes=MIB, free=1024 * MIB, cache=32 * MIB, warm=False):
    return Preparation(bind=bind, set_bytes=set_bytes, free_bytes=free, cache_bytes=cache, warm=warm)


@pytest.mark.parametrize(
    ("case", "sets", "cold"),
    [
        (preparation(), 129, True),  # 4 * 32 MiB / 1 MiB, and one more
        (preparation(set_bytes=129 * MIB), 1, True),  # evicts itself
        (preparation(set_bytes=128 * MIB), 2, True),  # exactly four times the cache is not yet over it
        (preparation(free=10 * MIB), 10, False),  # memory for ten sets only: they fit in the cache, and that is said
        (preparation(set_bytes=1), MAX_INPUT_SETS, False),  # too small to ever be cold
        (preparation(warm=True), 1, False),
        (preparation(cache=None), 1, None),  # nobody knows
    ],
)
def test_input_sets_rotate_over_more_than_four_times_the_cache(case, sets, cold):
    assert case.input_sets() == sets
    assert case.is_cold(sets) == cold


def test_operands_that_a_launch_passes_over_evict_nothing():
    # Of sets of 256 MiB, which would evict themselves, 16 are read: 4 * 32 / 16, and one more. Memory holds only three.
    idle = replace(preparation(set_bytes=256 * MIB, free=4096 * MIB), touched_bytes=16 * MIB)
    assert (idle.input_sets(), idle.is_cold(9), idle.is_cold(8)) == (9, True, False)
    assert replace(idle, free_bytes=800 * MIB).input_sets() == 3


@pytest.mark.parametrize(("caches", "found"), [(2.0, 0.2032), (CACHES_TO_EXCEED, 0.0198)])
def test_what_a_scan_in_circles_still_finds_in_a_cache_that_replaces_at_random(caches, found):
    """A line that is read once a round of `caches` times C lines meets caches * C * (1 - found) misses until it comes
    again, each of which replaces one of C lines at random: it survives them with probability
    (1 - 1/C)^misses -> exp(-caches * (1 - found)), which is again what is found."""
    assert math.exp(-caches * (1 - found)) == pytest.approx(found, abs=2e-4)


def test_every_input_set_is_used_in_turn():
    used = []
    sampler = WallTimer().prepare(
        preparation(lambda index: lambda: (used.append(index), time.sleep(2e-3)), set_bytes=30 * MIB, cache=20 * MIB)
    )
    used.clear()
    for _ in range(4):
        sampler.sample(look_away)
    # 80 MiB / 30 MiB, rounded up, and one more.
    assert used == [0, 1, 2, 3]


def test_wall_time_is_per_call_and_of_the_right_size():
    sampler = WallTimer().prepare(preparation(lambda _: lambda: time.sleep(5e-3), warm=True))
    assert sampler.launches_per_sample == 1
    assert 5e-3 <= sampler.sample(look_away)[0] < 0.1
    assert (sampler.held, sampler.host_s) == (None, None)  # the host is what is timed


def test_short_calls_are_timed_many_at_a_time():
    calls = []
    sampler = WallTimer().prepare(preparation(lambda _: lambda: calls.append(1), warm=True))
    calls.clear()
    (time_s,) = sampler.sample(look_away)
    assert sampler.launches_per_sample > 100
    assert len(calls) == sampler.launches_per_sample
    assert 0 < time_s < 1e-4
    assert sampler.method == "wall_clock"
