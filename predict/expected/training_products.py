"""The matrix products of a training step: those of the forward pass, and two of the backward pass for each.

y[tokens, outputs] = x[tokens, inputs] w[inputs, outputs] has x' = y' w^T and w' = x^T y' in the backward pass: the same
FLOP, other sizes. With narrow formats the products of a layer narrow x and y' once each, for both products that read
them; router and head multiply in 16 bits, as in TransformerEngine's and torchao's recipes.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from predict.errors import MissingCeiling
from predict.expected.calibrations import find_known, same_rates
from predict.expected.kernel import expect
from predict.expected.time_model import Machine
from predict.formulas.memory import Recompute
from predict.gpus import Gpu
from predict.model.kinds import KernelKind, kind_of
from predict.model.products import Product, products
from predict.model.training_plan import Plan, Training
from predict.model.transformer import Block
from predict.units import DTYPES, DType, Formats

WIDE = DTYPES["bf16"]
CALIBRATED_AS = {"fp4": "nvfp4"}  # a format -> that of the calibrated products, where it has another name


@dataclass(frozen=True, slots=True)
class Timed:
    """A matmul of a step, on one GPU."""

    kind: KernelKind
    compute: DType
    sizes: tuple[float, float, float]  # m, n, k
    count: float  # runs in a step
    narrows: bool = True  # its input, where `compute` is narrower than activations


def matmuls(training: Training, plan: Plan) -> Iterator[Timed]:
    """Every product of a step on a GPU of `plan`, which has 1/pp of the layers."""
    model, tp = training.model, plan.layout.tensor_parallel
    tokens = plan.micro_batch * training.seq / plan.parts
    runs = plan.micro_steps / plan.layout.pipeline_parallel
    for product in (*products(model.input_linears(), tp), *products(model.output_linears(), tp)):
        yield from _trained(product, WIDE, tokens, runs, again=0.0)
    for block in model.blocks:
        found = list(products(block.linears, tp))
        for product in found:
            if product.linears[0].copies > 1:
                raise MissingCeiling(f"the experts of {model.name} are not calibrated in training")
            again = _again(training.recompute, block, product, is_last=product is found[-1])
            compute = WIDE if kind_of(product.linears[0]) is KernelKind.ROUTER else training.compute
            yield from _trained(product, compute, tokens, runs * block.layers, again)


def _trained(product: Product, compute: DType, tokens: float, runs: float, again: float) -> Iterator[Timed]:
    """The forward product, run 1 + `again` times, and both of the backward pass."""
    kind, outputs, inputs = kind_of(product.linears[0]), product.outputs, product.inputs
    yield Timed(kind, compute, (tokens, outputs, inputs), runs * (1 + again))
    yield Timed(kind, compute, (tokens, inputs, outputs), runs)
    yield Timed(kind, compute, (inputs, outputs, tokens), runs, narrows=False)


def _again(recompute: Recompute, block: Block, product: Product, *, is_last: bool) -> float:
    """Share of a product that the backward pass computes again. FULL ends before the last product of a layer, whose
    result is the next layer's input, and kept."""
    if recompute is Recompute.FULL:
        return 0.0 if is_last else 1.0
    if recompute is not Recompute.OPS:
        return 0.0
    dropped = {linear.name for linear in block.linears[1::2]}
    sizes = [(linear.params, linear.name in dropped) for linear in product.linears]
    return sum(size for size, is_dropped in sizes if is_dropped) / sum(size for size, _ in sizes)


def times_s(gpu: Gpu, timed: Sequence[Timed]) -> list[float]:
    """Time of one run of each. Raises MissingCeiling without a calibration."""
    keys = dict.fromkeys((each.compute, each.sizes) for each in timed)
    known: dict[tuple[DType, tuple[float, float, float]], tuple[float, float]] = {}
    for compute in dict.fromkeys(compute for compute, _ in keys):
        sizes = [size for each, size in keys if each == compute]
        known |= {(compute, size): found for size, found in zip(sizes, _expected(gpu, compute, sizes), strict=True)}
    return [
        known[each.compute, each.sizes][0] - (0.0 if each.narrows else known[each.compute, each.sizes][1])
        for each in timed
    ]


def _expected(gpu: Gpu, compute: DType, sizes: Iterable[tuple[float, float, float]]) -> list[tuple[float, float]]:
    """Time of each matmul, and the part of it that narrows its input."""
    name = CALIBRATED_AS.get(compute.name, same_rates(compute.name))
    calibration = find_known(gpu, "matmul", name).calibration
    m, n, k = np.array(list(sizes)).T
    formats = Formats(compute=compute) if compute.bits >= WIDE.bits else Formats.of(compute)
    found = expect({"m": m, "n": n, "k": k}, Machine.of(gpu, compute), formats, calibration)
    return [*zip(found.time_s.tolist(), found.parts["narrow"].tolist(), strict=True)]
