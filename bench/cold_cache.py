"""Shows that timing with rotated input sets reads from memory and not from L2.

A read of half of L2 is timed as every case is: by graphs, over input sets that together are some multiple of L2. The
smaller the multiple, the more is still in L2, and the faster the read. So the multiple of all cases must be as slow as
twice that, and no faster than the memory's pins.
"""

from dataclasses import dataclass

import torch

from bench.cases import Maker
from bench.sampling import Budget, sample_until_known
from bench.stats import summarize
from bench.timer import CACHES_TO_EXCEED, Call, CudaTimer, Preparation, Timer
from predict.units import binary_bytes, si

MULTIPLES = (CACHES_TO_EXCEED / 2, CACHES_TO_EXCEED, 2 * CACHES_TO_EXCEED)
TOLERANCE = 0.05  # of two medians of the same, and the fiftieth that four times L2 may leave in L2


@dataclass(frozen=True, slots=True)
class ColdReads:
    """How fast cold reads are."""

    read_bytes: int  # of one read
    per_s: dict[float, float]  # bytes per second, by the size of all input sets over L2

    @property
    def text(self) -> str:
        """The rates, in one line."""
        rates = ", ".join(f"{si(per_s, 'B/s')} at {multiple:g}x" for multiple, per_s in self.per_s.items())
        return f"{binary_bytes(self.read_bytes)} read from input sets of several times L2: {rates}"

    def doubt(self, pin_per_s: float | None) -> str | None:
        """Why the operands may not have been cold, or None. `pin_per_s`: the rate of the memory's pins; None if
        unknown."""
        here, beyond = self.per_s[CACHES_TO_EXCEED], self.per_s[2 * CACHES_TO_EXCEED]
        if pin_per_s is not None and here > pin_per_s * (1 + TOLERANCE):
            return f"that is over the {si(pin_per_s, 'B/s')} of the memory's pins"
        if here > beyond * (1 + TOLERANCE):
            return (
                f"{CACHES_TO_EXCEED:g} times L2 is {here / beyond - 1:.0%} faster than {2 * CACHES_TO_EXCEED:g} times"
            )
        return None


def read_cold(cache_bytes: int, device: torch.device, timer: Timer | None = None) -> ColdReads:
    """Time a read of half of L2 at each multiple, on `device`. Raises CaptureFailed."""
    timer = timer or CudaTimer()
    read_bytes = cache_bytes // 2 // 4 * 4

    def bind(index: int) -> Call:
        maker = Maker(torch.float32, device, torch.Generator(device).manual_seed(index))
        return maker.normal(read_bytes // 4).sum

    per_s = {}
    for multiple in MULTIPLES:
        free_bytes = 4 * multiple * cache_bytes
        case = Preparation(bind, read_bytes, free_bytes, cache_bytes, warm=False, caches=multiple)
        time_s = summarize(sample_until_known(timer.prepare(case), Budget(time_s=0.2, min_time_s=0.1)).times_s).median_s
        per_s[multiple] = read_bytes / time_s
    return ColdReads(read_bytes, per_s)
