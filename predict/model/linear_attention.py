"""Linear attention: a matrix for each head is the state, written by keys and values and read by queries."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from predict.model.linear import Component, Linear, Split
from predict.model.mixer import Held, Store
from predict.model.recurrent import Recurrent
from predict.model.short_conv import ShortConv


@dataclass(frozen=True, slots=True)
class GatedDeltaNet(Recurrent):
    """Gated delta rule (Yang et al. 2024, arXiv 2412.06464), as in Qwen3-Next: a state of key_dim x value_dim a head.

    Groups of value heads share the query and key of a key head.
    """

    uses_of_state: ClassVar[int] = 3

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
        return Held(Store.STATE, self.width * self.key_dim, bits=self.state_bits, shards=self.value_heads)

    @property
    def shards(self) -> int:
        """A key head each."""
        return self.key_heads

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
        for name, outputs, product in (
            ("q", self.keys, "qkvz"),
            ("k", self.keys, "qkvz"),
            ("v", self.width, "qkvz"),
            ("z", self.width, "qkvz"),
            ("b", self.value_heads, "ba"),
            ("a", self.value_heads, "ba"),
        ):
            yield _projection(name, hidden, outputs, product)
        yield _projection("out", self.width, hidden, split=Split.INPUTS)


@dataclass(frozen=True, slots=True)
class KimiDelta(Recurrent):
    """Kimi delta attention (Kimi Linear, 2025, arXiv 2510.26692): the gated delta rule with a decay a channel."""

    uses_of_state: ClassVar[int] = 3

    heads: int
    head_dim: int
    kernel: int  # of the convolutions over Q, K and V
    state_bits: int | None = None  # None: the format of activations

    @property
    def width(self) -> int:
        """Elements of Q, of K and of V for one token."""
        return self.heads * self.head_dim

    @property
    def conv(self) -> ShortConv:
        """The convolutions over Q, K and V."""
        return ShortConv(3 * self.width, self.kernel)

    @property
    def state(self) -> Held:
        """A square matrix for each head."""
        return Held(Store.STATE, self.width * self.head_dim, bits=self.state_bits, shards=self.heads)

    @property
    def shards(self) -> int:
        """A head each."""
        return self.heads

    @property
    def other_params(self) -> int:
        """The convolutions, a decay per head and a step bias per channel, and the norm of the output, shared by all
        heads."""
        return self.conv.params + self.heads + self.width + self.head_dim

    @property
    def text(self) -> str:
        """One line for a person."""
        return f"Kimi delta attention, {self.heads} heads of {self.head_dim} x {self.head_dim}"

    def linears(self, hidden: int) -> Iterator[Linear]:
        """Q, K, V, the decay (f) and the output's gate (g) by two matrices each, the strength of an update (b), and
        the output."""
        for name in ("q", "k", "v"):
            yield _projection(name, hidden, self.width, "qkv")
        yield _projection("f_down", hidden, self.head_dim, split=Split.NONE)
        yield _projection("f_up", self.head_dim, self.width)
        yield _projection("b", hidden, self.heads)
        yield _projection("g_down", hidden, self.head_dim, split=Split.NONE)
        yield _projection("g_up", self.head_dim, self.width)
        yield _projection("out", self.width, hidden, split=Split.INPUTS)


@dataclass(frozen=True, slots=True)
class Lightning(Recurrent):
    """Lightning attention (Qin et al. 2024, arXiv 2401.04658), as in MiniMax-Text-01: a fixed decay for each head."""

    heads: int
    head_dim: int
    state_bits: int | None = None  # None: the format of activations

    @property
    def width(self) -> int:
        """Elements of Q, of K and of V for one token."""
        return self.heads * self.head_dim

    @property
    def state(self) -> Held:
        """A square matrix for each head."""
        return Held(Store.STATE, self.width * self.head_dim, bits=self.state_bits, shards=self.heads)

    @property
    def shards(self) -> int:
        """A head each."""
        return self.heads

    @property
    def other_params(self) -> int:
        """The norm of the output."""
        return self.width

    @property
    def text(self) -> str:
        """One line for a person."""
        return f"lightning attention, {self.heads} heads of {self.head_dim} x {self.head_dim}"

    def linears(self, hidden: int) -> Iterator[Linear]:
        """Q, K and V, the gate of the output, and the output."""
        for name in ("q", "k", "v"):
            yield _projection(name, hidden, self.width, "qkv")
        yield _projection("z", hidden, self.width)
        yield _projection("out", self.width, hidden, split=Split.INPUTS)


def _projection(name: str, inputs: int, outputs: int, product: str = "", split: Split = Split.OUTPUTS) -> Linear:
    kind, together = Component.ATTENTION_PROJECTIONS, f"linear_attention.{product}" if product else ""
    return Linear(f"linear_attention.{name}", kind, inputs, outputs, product=together, split=split)
