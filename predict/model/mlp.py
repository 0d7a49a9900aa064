"""The part of a layer that treats every token by itself: an MLP, or a mixture of experts."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from predict.model.linear import Component, Linear, Split


@dataclass(frozen=True, slots=True)
class Mlp:
    """Feed-forward layer: an up and a down matrix, and a gate matrix if `gated`."""

    intermediate: int
    gated: bool  # SwiGLU, GeGLU; Shazeer 2020
    bias: bool = False

    @property
    def other_params(self) -> int:
        """Parameters that are no matrices."""
        return 0

    @property
    def text(self) -> str:
        """One line for a person."""
        return f"{'gated ' if self.gated else ''}MLP of {self.intermediate}"

    def linears(self, hidden: int) -> Iterator[Linear]:
        """Gate if there is one, up and down."""
        product = "gate_up" if self.gated else "up"
        for name in ("mlp.gate", "mlp.up") if self.gated else ("mlp.up",):
            yield Linear(name, Component.MLP, hidden, self.intermediate, self.bias, product=product)
        yield Linear(
            "mlp.down", Component.MLP, self.intermediate, hidden, self.bias, product="down", split=Split.INPUTS
        )


@dataclass(frozen=True, slots=True)
class Experts:
    """Mixture of experts: a router sends each token to some of the experts, which are MLPs."""

    copies: int  # number of experts
    active: int  # experts that one token goes to
    intermediate: int  # width of one expert
    shared: Mlp | None = None  # an MLP that every token goes through
    gated: bool = True
    bias: bool = False  # on the experts' matrices
    router_bias: bool = False
    shared_gate: bool = False  # a matrix of one output that weighs the shared MLP (Qwen2-MoE)
    latent: int | None = None  # width of the experts' inputs and outputs if not that of the residual stream
    latent_bias: bool = False  # on the two matrices of the latent
    extra_params: int = 0  # scales and norms of the router
    groups: int = 1  # equal groups of experts, of which a token first chooses `active_groups`
    active_groups: int = 1

    @property
    def other_params(self) -> int:
        """Parameters that are no matrices."""
        return self.extra_params

    @property
    def text(self) -> str:
        """One line for a person."""
        shared = f" + shared {self.shared.text}" if self.shared else ""
        latent = f" in a latent of {self.latent}" if self.latent else ""
        return f"{self.copies} experts of {self.intermediate}, {self.active} active{latent}{shared}"

    def linears(self, hidden: int) -> Iterator[Linear]:
        """Router, experts and the shared MLP."""
        yield _whole("router", hidden, self.copies, bias=self.router_bias)
        width = self.latent or hidden
        if self.latent:
            yield _whole("latent_down", hidden, self.latent, bias=self.latent_bias)
            yield _whole("latent_up", self.latent, hidden, bias=self.latent_bias)
        first = "experts_gate_up" if self.gated else "experts_up"
        for name, inputs, outputs, product, split in (
            *((("expert_gate", width, self.intermediate, first, Split.OUTPUTS),) if self.gated else ()),
            ("expert_up", width, self.intermediate, first, Split.OUTPUTS),
            ("expert_down", self.intermediate, width, "experts_down", Split.INPUTS),
        ):
            one = Linear(f"mlp.{name}", Component.MLP, inputs, outputs, self.bias, product=product, split=split)
            yield replace(one, copies=self.copies, active=self.active)
        if self.shared:
            for linear in self.shared.linears(hidden):
                yield replace(linear, product=f"shared_{linear.product}")
        if self.shared_gate:
            yield _whole("shared_gate", hidden, 1)


def _whole(name: str, inputs: int, outputs: int, *, bias: bool = False) -> Linear:
    """A matrix that every GPU has whole."""
    return Linear(f"mlp.{name}", Component.MLP, inputs, outputs, bias, product=name, split=Split.NONE)
