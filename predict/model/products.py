"""The matrix products that engines make of a layer: matrices with the same input are one, and each GPU has its part.

Q, K and V form one matmul, gate and up another. Which do so is told by `Linear.product`, and how GPUs divide them by
`Linear.split`. Shares are exact: a size that tp does not divide gives a fraction.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from predict.model.attention import Attention
from predict.model.linear import Component, Linear, Split


@dataclass(frozen=True, slots=True)
class Product:
    """Matrices of a layer that are multiplied as one, and the part of it that one of `tp` GPUs has."""

    linears: tuple[Linear, ...]  # with the same input
    tp: int = 1
    is_part: bool = False  # of a product whose other matrices are stored in another format

    @property
    def name(self) -> str:
        """For a person: "qkv", "mamba_in"; of a part its matrices: "k_v"."""
        one = self.linears[0]
        if self.is_part:
            return "_".join(linear.name.rpartition(".")[2] for linear in self.linears)
        return (one.product or one.name).replace(".", "_")

    @property
    def component(self) -> Component:
        """The component that all of them belong to."""
        return self.linears[0].component

    @property
    def outputs(self) -> float:
        """Outputs on one GPU: at least one head of each matrix, even if that makes copies of it."""
        return sum(self._widths)

    @property
    def inputs(self) -> float:
        """Inputs on one GPU."""
        one = self.linears[0]
        return one.inputs / self.tp if one.split is Split.INPUTS else one.inputs

    @property
    def weight_bits(self) -> float:
        """Bits of a stored weight, on average."""
        widths = self._widths
        bits = sum(linear.weight_bits * width for linear, width in zip(self.linears, widths, strict=True))
        return bits / sum(widths)

    @property
    def by_bits(self) -> tuple["Product", ...]:
        """One product for each format of weights: what a checkpoint stores differently, no engine multiplies as one."""
        bits = dict.fromkeys(linear.weight_bits for linear in self.linears)
        groups = (tuple(linear for linear in self.linears if linear.weight_bits == each) for each in bits)
        return tuple(Product(group, self.tp, is_part=len(bits) > 1) for group in groups)

    @property
    def _widths(self) -> list[float]:
        return [
            max(linear.outputs / self.tp, linear.least) if linear.split is Split.OUTPUTS else linear.outputs
            for linear in self.linears
        ]


def products(linears: Iterable[Linear], tp: int = 1) -> Iterator[Product]:
    """The products of a layer's matrices, in the order of their first."""
    groups: dict[str, list[Linear]] = {}
    for number, linear in enumerate(linears):
        groups.setdefault(linear.product or f"{number}", []).append(linear)
    return (Product(tuple(group), tp) for group in groups.values())


def heads_on_gpu(attention: Attention, tp: int) -> tuple[float, float]:
    """Query heads and KV heads of one GPU. GPUs beyond the KV heads hold copies of them."""
    return attention.heads / tp, max(attention.kv_heads / tp, 1)
