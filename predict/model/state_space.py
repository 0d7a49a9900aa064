"""State-space layers: Mamba and Mamba-2."""

from collections.abc import Iterator
from dataclasses import dataclass

from predict.model.linear import Component, Linear, Split
from predict.model.mixer import Held, Store
from predict.model.recurrent import Recurrent
from predict.model.short_conv import ShortConv


@dataclass(frozen=True, slots=True)
class Mamba(Recurrent):
    """Selective state space (Gu and Dao 2023, arXiv 2312.00752): each channel has a state of its own."""

    channels: int
    state_dim: int
    step_rank: int  # width of the step's own latent
    kernel: int  # of the convolution
    bias: bool = False  # on the projections in and out
    conv_bias: bool = True
    norms: bool = False  # on the step's latent and both projections of the state (Jamba)
    state_bits: int | None = None  # None: the format of activations

    @property
    def width(self) -> int:
        """Elements of x for one token: the channels."""
        return self.channels

    @property
    def conv(self) -> ShortConv:
        """The convolution over all channels."""
        return ShortConv(self.width, self.kernel, self.conv_bias)

    @property
    def state(self) -> Held:
        """A vector for each channel."""
        return Held(Store.STATE, self.width * self.state_dim, bits=self.state_bits, shards=self.width)

    @property
    def shards(self) -> int:
        """A channel each."""
        return self.width

    @property
    def other_params(self) -> int:
        """The convolution, a decay per element of the state, a skip weight per channel, and the norms."""
        norms = self.step_rank + 2 * self.state_dim if self.norms else 0
        return self.conv.params + self.width * self.state_dim + self.width + norms

    @property
    def text(self) -> str:
        """One line for a person."""
        return f"Mamba, {self.width} channels x {self.state_dim}"

    def linears(self, hidden: int) -> Iterator[Linear]:
        """X and its gate; the step and both projections of the state; the step of each channel; the output."""
        kind = Component.ATTENTION_PROJECTIONS
        for name, inputs, outputs, bias, split in (
            ("in", hidden, 2 * self.width, self.bias, Split.OUTPUTS),
            ("x", self.width, self.step_rank + 2 * self.state_dim, False, Split.INPUTS),
            ("step", self.step_rank, self.width, True, Split.OUTPUTS),
            ("out", self.width, hidden, self.bias, Split.INPUTS),
        ):
            yield Linear(f"mamba.{name}", kind, inputs, outputs, bias, split=split)


@dataclass(frozen=True, slots=True)
class Mamba2(Recurrent):
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
    out_bias: bool | None = None  # on the projection out; None: as on both

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
        return Held(Store.STATE, self.width * self.state_dim, bits=self.state_bits, shards=self.heads)

    @property
    def shards(self) -> int:
        """A head each; groups are copied where there are fewer."""
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
        bias = self.bias if self.out_bias is None else self.out_bias
        yield Linear("mamba.out", kind, self.width, hidden, bias, split=Split.INPUTS)
