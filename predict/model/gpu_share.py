"""What one GPU of a replica works on in a pass: its requests, their tokens, and its part of each layer."""

from dataclasses import dataclass, replace

from predict.model.passes import Logits
from predict.model.replica import Replica
from predict.model.transformer import Block
from predict.units import DType, Formats


@dataclass(frozen=True, slots=True)
class GpuShare:
    """A pass over `new` tokens of each of `batch` requests after `cached` ones, on the busiest GPU."""

    replica: Replica
    dtype: DType  # of activations, and of products that the checkpoint does not narrow
    batch: int  # requests of this copy of the model
    new: int
    cached: int
    logits: Logits

    @property
    def tp(self) -> int:
        """GPUs that split heads and matrices."""
        return self.replica.layout.tp

    @property
    def formats(self) -> Formats:
        """Formats of weights, cache and products."""
        return self.replica.formats

    @property
    def tokens(self) -> int:
        """New tokens of all requests."""
        return self.batch * self.new

    @property
    def positions(self) -> int:
        """Positions that are projected to the vocabulary."""
        return self.batch * (self.new if self.logits is Logits.ALL else 1)

    def within(self, block: Block) -> "GpuShare":
        """The share in a layer of `block`: only the last position, where nobody needs what it makes of the others."""
        if self.logits is Logits.ALL or not block.only_reads_cache:
            return self
        return replace(self, new=1, cached=self.cached + self.new - 1)
