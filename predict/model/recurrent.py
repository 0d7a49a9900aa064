"""What recurrent layers have in common: a state of a fixed size, and most of them a short convolution before it.

The state is read and written once per pass and sequence. FLOP are those of the recurrence, token by token: the form
that works on chunks of a prompt at a time takes more. Decays, norms and activations are not counted.
"""

from abc import abstractmethod
from collections.abc import Iterator
from typing import ClassVar

from predict.model.mixer import Held, Mixer, Mixing, state_work
from predict.model.short_conv import ShortConv
from predict.workloads import Count


class Recurrent(Mixer):
    """A layer whose past is a state."""

    __slots__ = ()

    # Multiply-adds of a token per element of the state: update, and read by the query. A delta rule also reads by the
    # key.
    uses_of_state: ClassVar[int] = 2

    @property
    @abstractmethod
    def width(self) -> int:
        """Elements that go into the recurrence for one token, and that come out."""

    @property
    @abstractmethod
    def state(self) -> Held:
        """The state of one sequence."""

    @property
    def conv(self) -> ShortConv | None:
        """The convolution before the recurrence, if there is one."""
        return None

    @property
    def holds(self) -> tuple[Held, ...]:
        """The state, and the latest inputs of the convolution."""
        return (self.state, self.conv.held) if self.conv else (self.state,)

    def mixing(self, new: Count, cached: Count, *, square: bool) -> Iterator[Mixing]:  # noqa: ARG002 - no pairs
        """The convolution, then the recurrence."""
        if self.conv:
            yield self.conv.mixing(new, cached)
        flop = 2 * self.uses_of_state * self.state.elements * new
        yield state_work("recurrence", self.state, flop, cached, 2 * self.width * new)
