"""The part of a layer that treats every token by itself: an MLP, or a mixture of experts."""

from collections.abc import Iterator
from dataclasses import dataclass

from predict.model.linear import Component, Linear


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
        for name in ("mlp.gate", "mlp.up") if self.gated else ("mlp.up",):
            yield Linear(name, Component.MLP, hidden, self.intermediate, self.bias)
        yield Linear("mlp.down", Component.MLP, self.intermediate, hidden, self.bias)


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
        yield Linear("mlp.router", Component.MLP, hidden, self.copies, self.router_bias)
        width = self.latent or hidden
        if self.latent:
            yield Linear("mlp.latent_down", Component.MLP, hidden, self.latent, self.latent_bias)
            yield Linear("mlp.latent_up", Component.MLP, self.latent, hidden, self.latent_bias)
        for name, inputs, outputs in (
            *((("mlp.expert_gate", width, self.intermediate),) if self.gated else ()),
            ("mlp.expert_up", width, self.intermediate),
            ("mlp.expert_down", self.intermediate, width),
        ):
            yield Linear(name, Component.MLP, inputs, outputs, self.bias, copies=self.copies, active=self.active)
        if self.shared:
            yield from self.shared.linears(hidden)
        if self.shared_gate:
            yield Linear("mlp.shared_gate", Component.MLP, hidden, 1)
