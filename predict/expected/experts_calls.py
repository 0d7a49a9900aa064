"""The call of the experts of a layer: routing, the grouped products and their activation are one op."""

from collections.abc import Iterator

import numpy as np

from predict.expected.calls import Call
from predict.expected.families import experts_family
from predict.expected.share import Share
from predict.model.kinds import KernelKind
from predict.model.mlp import Experts
from predict.model.transformer import Block

# Exponent of the power law of the experts' loads: the uneven case of aiconfigurator's tables, which it assumes of
# trained routers.
SKEW = 1.2


def experts_calls(experts: Experts, block: Block, share: Share) -> Iterator[Call]:
    """The experts of this GPU for the tokens of all copies of the model: whole ones of `ep` groups of GPUs, and a part
    of each."""
    layout = share.layout
    one = next(each for each in block.linears if each.copies > 1)
    dims = {
        "tokens": share.all_tokens,
        "hidden": experts.latent or block.hidden,
        "intermediate": experts.intermediate,
        "active": experts.active,
        "experts": experts.copies,
        "tp": layout.stage_gpus // layout.ep,
        "ep": layout.ep,
        "skew": np.where(np.greater(share.all_tokens, 1), SKEW, 0.0),  # one token goes to as many under any law
        "matrices": 3 if experts.gated else 2,
    }
    yield Call(KernelKind.EXPERTS, experts_family(share.replica, one.weight_bits), dims, block.layers)
