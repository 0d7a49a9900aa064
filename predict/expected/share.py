"""What the busiest GPU of a replica works on in one pass or in several at once: tokens, and what they attend to."""

from dataclasses import dataclass, replace

from predict.errors import MissingCeiling
from predict.model.layout import Layout
from predict.model.replica import Replica
from predict.model.transformer import Block
from predict.units import Formats
from predict.workloads import Count, Number


@dataclass(frozen=True, slots=True)
class Attending:
    """Sequences of a pass that attend alike: `new` tokens each, after `cached` ones. Sizes are numbers or arrays."""

    batch: Number
    new: Count
    cached: Count
    is_prompt: bool  # False: decoding, or checking guesses, which the kernels of a cache do
    share: Number = 1.0  # of this attention that the pass does

    @property
    def context(self) -> Count:
        """Tokens of a sequence after the pass."""
        return self.cached + self.new


@dataclass(frozen=True, slots=True)
class Share:
    """The part of a pass that the GPU of a copy with most requests has."""

    replica: Replica
    tokens: Number  # that go through every layer
    positions: Number  # that are projected to the vocabulary
    attending: tuple[Attending, ...]
    last_only: bool = False  # only the last position of a sequence is projected
    reread: float = 0.0  # share of the further query heads of a group for which decode reads the cache again

    @property
    def layout(self) -> Layout:
        """How the GPUs share the model."""
        return self.replica.layout

    @property
    def tp(self) -> int:
        """GPUs that split heads and matrices."""
        return self.replica.layout.tp

    @property
    def formats(self) -> Formats:
        """Formats of weights, cache and products."""
        return self.replica.formats

    @property
    def activation_bytes(self) -> float:
        """Bytes of an element between kernels."""
        return self.formats.activation.bytes

    @property
    def all_tokens(self) -> Number:
        """Tokens of all copies together."""
        return self.tokens * self.layout.dp

    def within(self, block: Block) -> "Share":
        """The share in a layer of `block`: only the last position of prompts, where nobody needs what the layer makes
        of the others."""
        if not (self.last_only and block.only_reads_cache):
            return self
        last = tuple(
            replace(each, new=1, cached=each.cached + each.new - 1, is_prompt=False) for each in self.attending
        )
        return replace(self, tokens=self.positions, attending=last)


def check_layout_is_measured(replica: Replica) -> None:
    """Raise MissingCeiling for a layout whose messages were not measured."""
    layout, node = replica.layout, replica.gpu.gpus_per_node
    if layout.pp > 1:
        raise MissingCeiling(f"pipelines are not calibrated, and this one has {layout.pp} stages")
    if node and layout.tp > node:
        raise MissingCeiling(f"an all-reduce over nodes is not calibrated, and a node has {node} {replica.gpu.name}")
    if node and layout.stage_gpus > node and replica.model.is_mixture:
        raise MissingCeiling(f"experts over nodes are not calibrated, and a node has {node} {replica.gpu.name}")
