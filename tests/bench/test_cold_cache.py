"""What the proof of a cold cache makes of rates; that a real card is cold is asked in test_gpu.py."""

import pytest
import torch

from bench.cold_cache import ColdReads, read_cold
from bench.timer import Preparation
from tests.fakes import FakeSampler

MIB = 2**20
PINS = 4.8e12


@pytest.mark.parametrize(
    ("at_2", "at_4", "at_8", "pin_per_s", "doubt"),
    [
        (4.9e12, 4.1e12, 4.0e12, PINS, None),  # twice L2 leaves a fifth in it, which nothing is timed with
        (4.0e12, 4.0e12, 4.0e12, None, None),
        (4.9e12, 4.4e12, 4.0e12, PINS, "4 times L2 is 10% faster than 8 times"),
        (9.0e12, 9.0e12, 9.0e12, PINS, "over the 4.80 TB/s of the memory's pins"),
        (9.0e12, 9.0e12, 9.0e12, None, None),  # of a card that nobody knows only the multiples can be compared
    ],
)
def test_cold_reads_are_as_slow_as_from_twice_as_many_sets_and_no_faster_than_the_pins(
    at_2, at_4, at_8, pin_per_s, doubt
):
    reads = ColdReads(30 * MIB, {2.0: at_2, 4.0: at_4, 8.0: at_8})
    found = reads.doubt(pin_per_s)
    assert (found is None) if doubt is None else doubt in found
    assert reads.text.startswith("30 MiB read from input sets of several times L2: ")
    assert "at 2x" in reads.text


def test_half_of_l2_is_read_through_sets_of_each_multiple():
    """10 us for 2 MiB is 210 GB/s."""
    preparations = []

    class Timer:
        def prepare(self, preparation: Preparation):
            preparations.append(preparation)
            preparation.bind(0)()
            return FakeSampler([10e-6])

    reads = read_cold(4 * MIB, torch.device("cpu"), Timer())
    assert reads.per_s == pytest.approx(dict.fromkeys((2.0, 4.0, 8.0), 2 * MIB / 10e-6))
    # Sets of half of L2: twice as many as the multiple, and one more.
    assert [each.input_sets() for each in preparations] == [5, 9, 17]
    assert {each.warm for each in preparations} == {False}
