"""Mixers that read the same input and add their outputs."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from predict.model.linear import Linear
from predict.model.mixer import Held, Mixer, Mixing
from predict.model.reach import Reach
from predict.workloads import Count


@dataclass(frozen=True, slots=True)
class SideBySide(Mixer):
    """Several mixers in one layer (Falcon-H1: attention and Mamba-2)."""

    mixers: tuple[Mixer, ...]

    @property
    def holds(self) -> tuple[Held, ...]:
        """What each keeps."""
        return tuple(held for mixer in self.mixers for held in mixer.holds)

    @property
    def shards(self) -> int:
        """As many as all mixers can be split over evenly."""
        return math.gcd(*(mixer.shards for mixer in self.mixers))

    @property
    def reach(self) -> Reach:
        """That of the first."""
        return self.mixers[0].reach

    @property
    def other_params(self) -> int:
        """Those of all."""
        return sum(mixer.other_params for mixer in self.mixers)

    @property
    def text(self) -> str:
        """One line for a person."""
        return " beside ".join(mixer.text for mixer in self.mixers)

    def linears(self, hidden: int) -> Iterator[Linear]:
        """Those of all."""
        for mixer in self.mixers:
            yield from mixer.linears(hidden)

    def mixing(self, new: Count, cached: Count, *, square: bool) -> Iterator[Mixing]:
        """That of all."""
        for mixer in self.mixers:
            yield from mixer.mixing(new, cached, square=square)
