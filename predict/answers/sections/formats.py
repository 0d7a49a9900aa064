"""The formats of weights, cache and products: where they come from, and what they mean for the times."""

from collections.abc import Iterator

from predict.answers.lines import Note
from predict.answers.question import Question
from predict.answers.times import decode_times
from predict.formulas import memory
from predict.formulas.memory import WeightFormat
from predict.model.storage import REST_BITS, Storage
from predict.resources import matmul_unit
from predict.units import DTYPES, DType, si


def weight_arithmetic(q: Question) -> tuple[str, str]:
    """The formula of the weights' bytes, and its arithmetic: one product, or a sum of one product per width."""
    widths = _params_by_bits(q)
    if len(widths) == 1:
        ((bits, params),) = widths.items()
        return f"P x {bits:g} bits ({q.weights_name})", f"{params:,} x {bits:g} / 8"
    products = [f"{params:,} x {bits:.12g}" for bits, params in sorted(widths.items())]
    return f"weights x their bits ({q.weights_name})", f"({' + '.join(products)}) / 8"


def format_notes(q: Question) -> Iterator[Note]:
    """Remarks on the formats: what keeps 16 bits, what the GPU does not multiply, and what expected times assume."""
    if q.weights is not None and q.weights.bits_per_weight < REST_BITS:
        yield from _all_narrow(q, q.weights)
    elif q.storage is not None:
        yield from _as_shipped(q, q.storage)
    narrow = q.weight_bits < q.compute_dtype.bits - 1 and not q.model.is_mixture  # experts have kernels of their own
    if narrow and q.serves and decode_times(q).expected is not None:
        yield Note(f"expected times with {q.weights_name} weights use the constants of {q.compute_dtype.name} kernels")


def _all_narrow(q: Question, weights: WeightFormat) -> Iterator[Note]:
    """What --weights leaves out: it narrows every weight, and only weights."""
    outside = q.model.params - sum(block.params for block in q.model.blocks)
    more = float(memory.weight_bytes(outside) - memory.weight_bytes(outside, weights.bits_per_weight))
    yield Note(f"checkpoints often keep embeddings and head in 16 bits: {si(more, 'B')} more than counted")
    if weights.name in DTYPES and matmul_unit(DTYPES[weights.name]) not in q.gpu.roofs:
        yield _widened(q, DTYPES[weights.name])


def _as_shipped(q: Question, storage: Storage) -> Iterator[Note]:
    """Why the products have their format, and the cache."""
    narrow = storage.multiplied
    if q.weight_bits < REST_BITS:
        yield Note(f"weights are {storage.name}, as {storage.origin} says; --weights counts every weight in another")
    if q.kv is None and storage.kv is not None:
        yield Note(f"the KV cache is in {storage.kv.name}, as the checkpoint asks")
    if q.compute is not None:
        return
    if narrow is not None and matmul_unit(narrow) not in q.gpu.roofs:
        yield _widened(q, narrow)
    elif narrow is not None:
        yield Note(f"products are in {narrow.name}: the checkpoint narrows activations too, and {q.gpu.name} can")
    elif q.weight_bits < REST_BITS:
        formats = (DTYPES[name] for name in ("fp8", "int8"))
        faster = next((dtype.name for dtype in formats if matmul_unit(dtype) in q.gpu.roofs), None)
        more = f"; an engine that narrows activations too may be faster: --compute {faster}" if faster else ""
        yield Note(f"products are in {q.compute_dtype.name}: the checkpoint narrows weights alone{more}")


def _widened(q: Question, narrow: DType) -> Note:
    return Note(f"{q.gpu.name} multiplies no {narrow.name}: the weights are widened to {q.compute_dtype.name}")


def _params_by_bits(q: Question) -> dict[float, int]:
    """Stored weights by their width in bits. The sum of the products of the two is the size of the checkpoint."""
    model = q.model
    if q.weights is not None:
        return {q.weights.bits_per_weight: model.stored_params}
    found = {float(REST_BITS): model.other_params + model.position_params + model.vision_params}
    matrices = [(block.layers, linear) for block in model.blocks for linear in block.linears]
    for layers, linear in [*matrices, *((1, linear) for linear in model.outer_linears())]:
        biases = layers * linear.copies * linear.bias * linear.outputs
        found[REST_BITS] += biases
        found[linear.weight_bits] = found.get(linear.weight_bits, 0) + layers * linear.params - biases
    if not model.tied:
        bits = model.storage.embedding_bits
        found[bits] = found.get(bits, 0) + model.embedding_params
    return found
