"""Convolutions over the latest tokens: as a part of recurrent layers, and as a layer of its own."""

from collections.abc import Iterator
from dataclasses import dataclass

from predict.model.linear import Component, Linear, Split
from predict.model.mixer import Held, Mixer, Mixing, Store, state_work
from predict.workloads import Count


@dataclass(frozen=True, slots=True)
class ShortConv:
    """A causal convolution over the latest `kernel` inputs of every channel."""

    channels: int
    kernel: int
    bias: bool = False

    @property
    def params(self) -> int:
        """One weight per channel and input, and the bias."""
        return self.channels * (self.kernel + self.bias)

    @property
    def held(self) -> Held:
        """The inputs that the next token's convolution needs besides its own."""
        return Held(Store.CONV, self.channels * (self.kernel - 1), shards=self.channels)

    def mixing(self, new: Count, cached: Count) -> Mixing:
        """A multiply-add per weight and token."""
        flop = 2 * self.channels * self.kernel * new
        return state_work("conv", self.held, flop, cached, 2 * self.channels * new)


@dataclass(frozen=True, slots=True)
class GatedConv(Mixer):
    """A short convolution between two gates (LFM2, Liquid AI 2025)."""

    width: int  # that of the residual stream
    kernel: int
    bias: bool = False

    @property
    def conv(self) -> ShortConv:
        """The convolution."""
        return ShortConv(self.width, self.kernel, self.bias)

    @property
    def holds(self) -> tuple[Held, ...]:
        """The latest inputs of the convolution."""
        return (self.conv.held,)

    @property
    def shards(self) -> int:
        """A channel each."""
        return self.width

    @property
    def other_params(self) -> int:
        """The convolution."""
        return self.conv.params

    @property
    def text(self) -> str:
        """One line for a person."""
        return f"gated convolution over {self.kernel} tokens"

    def linears(self, hidden: int) -> Iterator[Linear]:
        """Both gates and the convolution's input as one matrix, and the output."""
        yield Linear("conv.in", Component.ATTENTION_PROJECTIONS, hidden, 3 * self.width, self.bias)
        kind = Component.ATTENTION_PROJECTIONS
        yield Linear("conv.out", kind, self.width, hidden, self.bias, split=Split.INPUTS)

    def mixing(self, new: Count, cached: Count, *, square: bool) -> Iterator[Mixing]:  # noqa: ARG002 - no pairs
        """The convolution."""
        yield self.conv.mixing(new, cached)
