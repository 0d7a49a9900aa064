"""A weight matrix, and the component of a pass that it belongs to."""

from dataclasses import dataclass, replace
from enum import StrEnum

from predict.model.storage import REST_BITS
from predict.workloads import Number, stored_bytes


class Component(StrEnum):
    """The group that a part of a pass belongs to. The lessons use the first five."""

    MLP = "mlp"
    ATTENTION_PROJECTIONS = "attention_projections"  # the projections of recurrent layers too
    ATTENTION_SCORES = "attention_scores"
    VOCAB = "vocab"
    NORMS = "norms"
    RECURRENCE = "recurrence"  # short convolutions and the states of recurrent layers
    RESIDUAL = "residual"  # matrices on the residual stream itself, and on what is added to it for each layer


class Split(StrEnum):
    """How GPUs under tensor parallelism divide a matrix (Megatron-LM, Shoeybi et al. 2019, section 3)."""

    OUTPUTS = "outputs"  # each makes a part of the outputs
    INPUTS = "inputs"  # each multiplies a part of the inputs, and the results are added up
    NONE = "none"  # each has the whole matrix


@dataclass(frozen=True, slots=True)
class Linear:
    """A weight matrix of shape (inputs, outputs), or several equal copies."""

    name: str
    component: Component
    inputs: int
    outputs: int
    bias: bool = False
    copies: int = 1  # number of experts
    active: int = 1  # copies that one token goes through
    weight_bits: float = 16  # of a stored weight; a bias takes 16
    product: str = ""  # engines multiply all matrices of a layer with the same product as one; empty: by itself
    split: Split = Split.OUTPUTS
    least: int = 1  # outputs that a GPU makes at least: those of a head

    @property
    def params(self) -> int:
        """Parameters of all copies: weights and bias."""
        return self.copies * (self.inputs + self.bias) * self.outputs

    @property
    def active_params(self) -> int:
        """Parameters that one token goes through."""
        return self.active * (self.inputs + self.bias) * self.outputs

    def stored_in(self, bits: float) -> "Linear":
        """The same matrix with weights of `bits` each."""
        return self if bits == self.weight_bits else replace(self, weight_bits=bits)

    def stored_bytes(self, bits: float | None = None) -> Number:
        """Bytes of all copies, weights and bias: in `bits` each, or (None) as the checkpoint stores them."""
        if bits is not None:
            return stored_bytes(self.params, bits)
        weights = stored_bytes(self.copies * self.inputs * self.outputs, self.weight_bits)
        return weights + stored_bytes(self.copies * self.bias * self.outputs, REST_BITS)
