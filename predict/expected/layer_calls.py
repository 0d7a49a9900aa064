"""The calls of one layer on one GPU: its products, its mixer, its experts, and what is computed between them."""

from collections.abc import Iterator

from predict.expected.calls import Call, Unmeasured
from predict.expected.experts_calls import experts_calls
from predict.expected.families import matmul_family
from predict.expected.mixer_calls import is_inside, mixer_calls
from predict.expected.share import Share
from predict.model.kinds import KernelKind, kind_of
from predict.model.mlp import Experts, Mlp
from predict.model.products import Product, products
from predict.model.transformer import Block
from predict.workloads import Number


def layer_calls(block: Block, share: Share) -> Iterator[Call | Unmeasured]:
    """All calls of the layers of a block. Raises MissingCeiling for what no kernel and no stand-in computes."""
    count = block.layers
    for product in products(block.linears, share.tp):
        one = product.linears[0]
        if one.copies == 1 and not is_inside(block.mixer, one):
            yield from product_calls(product, share.tokens, share, count)
    yield _norms(block, share)
    if block.mixer:
        yield from mixer_calls(block.mixer, share, count)
    mlp = block.mlp
    if isinstance(mlp, Experts):
        yield from experts_calls(mlp, block, share)
    dense = mlp.shared if isinstance(mlp, Experts) else mlp
    if dense:
        yield _activation(dense, share, count)


def product_calls(product: Product, tokens: Number, share: Share, count: Number) -> Iterator[Call]:
    """A product of `tokens` rows; what a checkpoint stores in several formats is one for each."""
    for each in product.by_bits:
        dims = {"m": tokens, "n": each.outputs, "k": each.inputs}
        yield Call(kind_of(each.linears[0]), matmul_family(share.replica, each.weight_bits), dims, count)


def _norms(block: Block, share: Share) -> Unmeasured:
    """The norms of a layer with the additions to the residual stream before them: each reads and writes both."""
    norms = block.norm_params / (block.hidden * block.elementwise.norm.params)
    moved = 4 * block.hidden * share.tokens * share.activation_bytes
    return Unmeasured(KernelKind.ELEMENTWISE, block.layers * norms, moved)


def _activation(mlp: Mlp, share: Share, count: int) -> Unmeasured:
    """The activation function, times the other half of the first product if there is a gate."""
    elements = (3 if mlp.gated else 2) * mlp.intermediate / share.tp
    return Unmeasured(KernelKind.ELEMENTWISE, count, elements * share.tokens * share.activation_bytes)
