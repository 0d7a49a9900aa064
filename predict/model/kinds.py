"""Kinds of kernels: the rows of a table that says where the time of a pass goes."""

from collections.abc import Iterator
from enum import StrEnum

from predict.model.linear import Component, Linear
from predict.model.passes import Part, Pass


class KernelKind(StrEnum):
    """What a group of kernels computes, in the words of the page."""

    PROJECTIONS = "attention projections"
    SCORES = "attention scores"
    RECURRENCE = "recurrence"
    RESIDUAL = "residual stream"
    MLP = "MLP"
    ROUTER = "router"
    EXPERTS = "experts"
    VOCAB = "vocabulary"
    ELEMENTWISE = "norms, element-wise"
    LINK = "between GPUs"
    OPTIMIZER = "optimizer"
    IDLE = "waiting for other stages"


_OF_COMPONENT = {
    Component.ATTENTION_PROJECTIONS: KernelKind.PROJECTIONS,
    Component.ATTENTION_SCORES: KernelKind.SCORES,
    Component.RECURRENCE: KernelKind.RECURRENCE,
    Component.RESIDUAL: KernelKind.RESIDUAL,
    Component.MLP: KernelKind.MLP,
    Component.VOCAB: KernelKind.VOCAB,
    Component.NORMS: KernelKind.ELEMENTWISE,
}


def kind_of(part: Part | Linear) -> KernelKind:
    """The kind of kernel that computes a part of a pass, or multiplies by a matrix."""
    if part.name.startswith("mlp.expert"):
        return KernelKind.EXPERTS
    return KernelKind.ROUTER if part.name == "mlp.router" else kind_of_component(part.component)


def kind_of_component(component: Component) -> KernelKind:
    """The kind of kernel of a component, apart from router and experts."""
    return _OF_COMPONENT[component]


def passes_by_kind(work: Pass) -> Iterator[tuple[KernelKind, Pass]]:
    """The pass split by kind of kernel, in the order of `KernelKind`; kinds without a part are left out."""
    for kind in KernelKind:
        if parts := tuple(part for part in work.parts if kind_of(part) is kind):
            yield kind, Pass(parts, work.compute)
