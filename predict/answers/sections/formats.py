"""The formats of weights, cache and products: where they come from, and what they mean for the times."""

from collections.abc import Iterator

from predict.answers.lines import Note
from predict.answers.question import Question
from predict.formulas import memory
from predict.model.storage import REST_BITS
from predict.resources import matmul_unit
from predict.units import DTYPES, si


def weight_arithmetic(q: Question) -> tuple[str, str]:
    """The formula of the weights' bytes, and its arithmetic: one product, or a sum of one product per width."""
    widths = _params_by_bits(q)
    if len(widths) == 1:
        ((bits, params),) = widths.items()
        return f"P x {bits:g} bits ({q.weights_name})", f"{params:,} x {bits:g} / 8"
    products = [f"{params:,} x {bits:g}" for bits, params in sorted(widths.items())]
    return f"weights x their bits ({q.weights_name})", f"({' + '.join(products)}) / 8"


def format_notes(q: Question) -> Iterator[Note]:
    """Remarks on the formats: what keeps 16 bits, and what the GPU does not multiply."""
    model, weights, narrow = q.model, q.weights, q.storage.multiplied if q.storage else None
    if weights is not None and weights.bits_per_weight < REST_BITS:
        outside = model.params - sum(block.params for block in model.blocks)
        more = float(memory.weight_bytes(outside) - memory.weight_bytes(outside, weights.bits_per_weight))
        yield Note(f"checkpoints often keep embeddings and head in 16 bits: {si(more, 'B')} more than counted")
        narrow = DTYPES.get(weights.name)
    if narrow is None:
        return
    if matmul_unit(narrow) not in q.gpu.roofs:
        yield Note(f"{q.gpu.name} multiplies no {narrow.name}: the weights are widened to {q.compute_dtype.name}")
    elif q.compute is None and weights is None:
        yield Note(
            f"products are in {narrow.name}: the checkpoint narrows activations too, and {q.gpu.name} has a peak"
        )


def _params_by_bits(q: Question) -> dict[float, int]:
    """Stored weights by their width in bits. The sum of the products of the two is the size of the checkpoint."""
    model = q.model
    if q.weights is not None:
        return {q.weights.bits_per_weight: model.params}
    found = {float(REST_BITS): model.other_params + model.position_params}
    matrices = [(block.layers, linear) for block in model.blocks for linear in block.linears()]
    for layers, linear in [*matrices, *((1, linear) for linear in model.outer_linears())]:
        biases = layers * linear.copies * linear.bias * linear.outputs
        found[REST_BITS] += biases
        found[linear.weight_bits] = found.get(linear.weight_bits, 0) + layers * linear.params - biases
    if not model.tied:
        bits = model.storage.embedding_bits
        found[bits] = found.get(bits, 0) + model.embedding_params
    return found
