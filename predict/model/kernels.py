"""The kernels of a pass on one GPU, as serving engines launch them: the list behind "where the time goes".

Matrices are those that a pass counts, and matrices with the same input are one product (`products`). Left out are
kernels that only copy: the lookup of embeddings, writing the cache, placing tokens for their experts, choosing a token.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from predict import checks
from predict.model.attention import Attention, LatentAttention
from predict.model.compressed import CompressedAttention
from predict.model.elementwise_kernels import (
    activation_kernel,
    gate_kernel,
    mixer_elementwise,
    norm_kernels,
    outer_norm_kernels,
)
from predict.model.gpu_share import GpuShare
from predict.model.kinds import KernelKind
from predict.model.matrix_kernels import absorbed_kernels, expert_kernel, headwise_kernel, product_kernel
from predict.model.mixer import Mixer
from predict.model.mixer_kernels import mixing_kernels
from predict.model.mlp import Experts, Mlp
from predict.model.model_kernel import ModelKernel, without_op
from predict.model.passes import Logits
from predict.model.products import Product, products
from predict.model.replica import Replica
from predict.model.side_by_side import SideBySide
from predict.model.traffic import all_reduces
from predict.model.transformer import Block, Model
from predict.units import DType

ONE_GPU_IS_MEASURED = "one GPU is measured, and this is sent between GPUs"


def decode_kernels(replica: Replica, batch: int, context: int, dtype: DType | None = None) -> tuple[ModelKernel, ...]:
    """The kernels of a decode step for `batch` requests after `context` cached tokens; see `pass_kernels`. With pp
    stages each works on its part of the batch."""
    checks.whole(batch=batch)
    return pass_kernels(replica, -(-batch // replica.layout.pp), 1, cached=context, dtype=dtype)


def prefill_kernels(
    replica: Replica, batch: int, seq: int, logits: Logits = Logits.LAST, dtype: DType | None = None
) -> tuple[ModelKernel, ...]:
    """The kernels of a forward pass over `batch` prompts of `seq` tokens; see `pass_kernels`."""
    return pass_kernels(replica, batch, seq, logits=logits, dtype=dtype)


def pass_kernels(
    replica: Replica,
    batch: int,
    new: int,
    *,
    cached: int = 0,
    logits: Logits = Logits.LAST,
    dtype: DType | None = None,
) -> tuple[ModelKernel, ...]:
    """The kernels of one GPU in a pass over `new` tokens of each of `batch` requests after `cached` ones, by kind. With
    dp copies of the model it is the GPU of the copy with most requests; with pp stages the counts are those of all
    stages together. `dtype` is that of activations, and of weights that are stored in 16 bits; None: as the replica's
    formats say. Raises BadQuantity for sizes that are not whole numbers.
    """
    checks.whole(batch=batch, new=new)
    checks.count(cached=cached)
    requests = -(-batch // replica.layout.dp)
    share = GpuShare(replica, dtype or replica.formats.activation, requests, new, cached, logits)
    order = list(KernelKind)
    return tuple(sorted(_merged(_of_model(replica.model, share)), key=lambda kernel: order.index(kernel.kind)))


def _merged(kernels: Iterable[ModelKernel]) -> Iterator[ModelKernel]:
    """Equal kernels as one, in the order of the first."""
    found: dict[tuple[object, ...], ModelKernel] = {}
    for kernel in kernels:
        before = found.get(kernel.key)
        found[kernel.key] = replace(before, count=before.count + kernel.count) if before else kernel
    return iter(found.values())


def _of_model(model: Model, share: GpuShare) -> Iterator[ModelKernel]:
    for product in products(model.input_linears(), share.tp):
        yield from _dense(product, share.tokens, share, 1)
    for block in model.blocks:
        yield from _of_block(block, share.within(block))
    yield from outer_norm_kernels(model, share)
    for product in products(model.output_linears(), share.tp):
        yield from _dense(product, share.positions, share, 1)


def _of_block(block: Block, share: GpuShare) -> Iterator[ModelKernel]:
    """The kernels of all layers of a block."""
    yield from norm_kernels(block, share)
    found = tuple(products(block.linears, share.tp))
    if block.mixer:
        inside = {linear.name for linear in block.mixer.linears(block.hidden)}
        yield from _of_mixer(block, [each for each in found if each.linears[0].name in inside], share)
    if block.mlp:
        inside = {linear.name for linear in block.mlp.linears(block.hidden)}
        yield from _of_mlp(block, [each for each in found if each.linears[0].name in inside], share)
    for product in found[len(found) - len(block.extra) :]:
        yield from _dense(product, share.tokens, share, block.layers)
    yield from _sent(block, share)


def _of_mixer(block: Block, found: list[Product], share: GpuShare) -> Iterator[ModelKernel]:
    """The kernels of a mixer in their order: the products before it mixes tokens, and the one after it."""
    mixer, count = block.mixer, block.layers
    if mixer is None:
        return
    for product in found:
        if not _is_last(product):
            yield from _of_projection(mixer, product, share, count)
    for each in mixer.mixers if isinstance(mixer, SideBySide) else (mixer,):
        yield from mixer_elementwise(each, block.elementwise.norm, share, count)
        yield from mixing_kernels(each, share, count)
        if isinstance(each, Attention) and each.gated:
            yield gate_kernel(each, share, count)
    for product in found:
        if _is_last(product):
            yield from _of_projection(mixer, product, share, count)


def _is_last(product: Product) -> bool:
    return product.linears[0].name.endswith(".out")


def _of_projection(mixer: Mixer, product: Product, share: GpuShare, count: int) -> Iterator[ModelKernel]:
    """A matrix of a mixer: dense, but for one matrix a head that latent attention absorbs in decode, and one for each
    group of heads."""
    if isinstance(mixer, LatentAttention) and product.name == "kv_up" and share.new == 1 and share.cached:
        yield from absorbed_kernels(mixer, share, count)
    elif isinstance(mixer, CompressedAttention) and product.name == "out_down":
        yield headwise_kernel(product, mixer.groups, share, count)
    else:
        yield from _dense(product, share.tokens, share, count)


def _of_mlp(block: Block, found: list[Product], share: GpuShare) -> Iterator[ModelKernel]:
    mlp, count = block.mlp, block.layers
    if mlp is None:
        return
    for product in found:
        if isinstance(mlp, Experts) and product.linears[0].copies > 1:
            yield expert_kernel(product, mlp, share, count)
            if product.name != "experts_down":
                yield _expert_activation(mlp, share, count)
        else:
            yield from _dense(product, share.tokens, share, count)
            dense = mlp.shared if isinstance(mlp, Experts) else mlp
            if dense and product.name.removeprefix("shared_") in ("gate_up", "up"):
                yield _activation(dense, "shared_activation" if dense is not mlp else "activation", share, count)


def _activation(mlp: Mlp, name: str, share: GpuShare, count: int) -> ModelKernel:
    return activation_kernel(name, share.tokens, mlp.intermediate / share.tp, share, count, gated=mlp.gated)


def _expert_activation(experts: Experts, share: GpuShare, count: int) -> ModelKernel:
    layout = share.replica.layout
    rows = share.tokens * layout.dp * experts.active / layout.ep
    cols = experts.intermediate * layout.ep / layout.stage_gpus
    return activation_kernel("experts_activation", rows, cols, share, count, gated=experts.gated)


def _dense(product: Product, tokens: int, share: GpuShare, count: int) -> Iterator[ModelKernel]:
    for each in product.by_bits:
        yield product_kernel(each, tokens, share, count)


def _sent(block: Block, share: GpuShare) -> Iterator[ModelKernel]:
    """What GPUs exchange in the layers of a block."""
    layout = share.replica.layout
    message_bytes = share.tokens * block.hidden * share.dtype.bytes
    if layout.tp > 1 and (sums := all_reduces(block, layout)):
        dims = {"gpus": layout.tp, "message_bytes": message_bytes}
        yield _exchange("all_reduce", dims, share, sums * block.layers)
    if layout.dp > 1 and isinstance(block.mlp, Experts):
        dims = {"gpus": layout.stage_gpus, "message_bytes": message_bytes}
        yield _exchange("all_to_all", dims, share, 2 * block.layers)


def _exchange(name: str, dims: dict[str, float], share: GpuShare, count: int) -> ModelKernel:
    return without_op(KernelKind.LINK, name, ONE_GPU_IS_MEASURED, share.dtype, count=count, dims=dims)
