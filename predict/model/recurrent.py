"""Layers that keep a state of a fixed size instead of a cache that grows: gated delta net and Mamba-2.

The state is read and written once per pass and sequence. FLOP are those of the recurrence, token by token: the form
that works on chunks of a prompt at a time takes more. Decays, norms and activations are not counted.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from predict.model.linear import Component, Linear
from predict.model.mixer import Held, Mixer, Mixing, Store
from predict.model.reach import smaller
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
        return Held(Store.CONV, self.channels * (self.kernel - 1))

    def mixing(self, new: Count, cached: Count) -> Mixing:
        """A multiply-add per weight and token."""
        flop = 2 * self.channels * self.kernel * new
        return _mixing("conv", self.held, flop, cached, 2 * self.channels * new)


@dataclass(frozen=True, slots=True)
class GatedDeltaNet(Mixer):
    """Gated delta rule (Yang et al. 2024, arXiv 2412.06464), as in Qwen3-Next: a state of key_dim x value_dim a head.

    Groups of value heads share the query and key of a key head.
    """

    key_heads: int
    value_heads: int
    key_dim: int  # elements of a key head
    value_dim: int  # elements of a value head
    kernel: int  # of the convolution over Q, K and V
    state_bits: int | None = None  # None: the format of activations

    @property
    def keys(self) -> int:
        """Elements of all keys of a token."""
        return self.key_heads * self.key_dim

    @property
    def width(self) -> int:
        """Elements of all values of a token."""
        return self.value_heads * self.value_dim

    @property
    def conv(self) -> ShortConv:
        """The convolution over Q, K and V."""
        return ShortConv(2 * self.keys + self.width, self.kernel)

    @property
    def state(self) -> Held:
        """A matrix of key_dim x value_dim for each value head."""
        return Held(Store.STATE, self.width * self.key_dim, bits=self.state_bits)

    @property
    def holds(self) -> tuple[Held, ...]:
        """The state, and the latest inputs of the convolution."""
        return (self.state, self.conv.held)

    @property
    def shards(self) -> int:
        """A key head each."""
        return self.key_heads

    @property
    def cache_shards(self) -> int:
        """A value head each."""
        return self.value_heads

    @property
    def other_params(self) -> int:
        """The convolution, a decay and a step bias per value head, and the norm of the output, shared by all heads."""
        return self.conv.params + 2 * self.value_heads + self.value_dim

    @property
    def text(self) -> str:
        """One line for a person."""
        return f"gated delta net, {self.value_heads} heads of {self.key_dim} x {self.value_dim}"

    def linears(self, hidden: int) -> Iterator[Linear]:
        """Q, K, V, the gate of the output (z), the strength of an update (b), the decay (a), and the output."""
        kind = Component.ATTENTION_PROJECTIONS
        for name, outputs in (
            ("q", self.keys),
            ("k", self.keys),
            ("v", self.width),
            ("z", self.width),
            ("b", self.value_heads),
            ("a", self.value_heads),
        ):
            yield Linear(f"linear_attention.{name}", kind, hidden, outputs)
        yield Linear("linear_attention.out", kind, self.width, hidden)

    def mixing(self, new: Count, cached: Count, *, square: bool) -> Iterator[Mixing]:  # noqa: ARG002 - no pairs
        """The convolution, then three multiply-adds per element of the state: read by the key, update, read by the
        query."""
        yield self.conv.mixing(new, cached)
        yield _mixing("recurrence", self.state, 3 * 2 * self.state.elements * new, cached, 2 * self.width * new)


@dataclass(frozen=True, slots=True)
class Mamba2(Mixer):
    """State-space layer (Dao and Gu 2024, arXiv 2405.21060): a state of head_dim x state_dim a head.

    Groups of heads share the two projections of the state (B and C).
    """

    heads: int
    head_dim: int
    groups: int
    state_dim: int
    kernel: int  # of the convolution over x, B and C
    bias: bool = False  # on the projections
    conv_bias: bool = True
    norm: bool = True  # a gated norm over the output
    state_bits: int | None = None  # None: the format of activations

    @property
    def width(self) -> int:
        """Elements of x for one token."""
        return self.heads * self.head_dim

    @property
    def conv(self) -> ShortConv:
        """The convolution over x, B and C."""
        return ShortConv(self.width + 2 * self.groups * self.state_dim, self.kernel, self.conv_bias)

    @property
    def state(self) -> Held:
        """A matrix of head_dim x state_dim for each head."""
        return Held(Store.STATE, self.width * self.state_dim, bits=self.state_bits)

    @property
    def holds(self) -> tuple[Held, ...]:
        """The state, and the latest inputs of the convolution."""
        return (self.state, self.conv.held)

    @property
    def shards(self) -> int:
        """A head each; groups are copied where there are fewer."""
        return self.heads

    @property
    def cache_shards(self) -> int:
        """A head each."""
        return self.heads

    @property
    def other_params(self) -> int:
        """The convolution; decay, step bias and skip weight of each head; the norm of the output."""
        return self.conv.params + 3 * self.heads + (self.width if self.norm else 0)

    @property
    def text(self) -> str:
        """One line for a person."""
        return f"Mamba-2, {self.heads} heads of {self.head_dim} x {self.state_dim}"

    def linears(self, hidden: int) -> Iterator[Linear]:
        """One matrix in (gate, x, B, C and the step of each head), one out."""
        kind, inputs = Component.ATTENTION_PROJECTIONS, self.width + self.conv.channels + self.heads
        yield Linear("mamba.in", kind, hidden, inputs, self.bias)
        yield Linear("mamba.out", kind, self.width, hidden, self.bias)

    def mixing(self, new: Count, cached: Count, *, square: bool) -> Iterator[Mixing]:  # noqa: ARG002 - no pairs
        """The convolution, then two multiply-adds per element of the state: update and read."""
        yield self.conv.mixing(new, cached)
        yield _mixing("recurrence", self.state, 2 * 2 * self.state.elements * new, cached, 2 * self.width * new)


def _mixing(name: str, held: Held, flop: Count, cached: Count, activations: Count) -> Mixing:
    """Work on what is kept per sequence: read if there are cached tokens, and written once."""
    return Mixing(name, Component.RECURRENCE, flop, held, reads=smaller(cached, 1), writes=1, activations=activations)
