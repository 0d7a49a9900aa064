"""The kernels of matrices: dense products in the format of their weights, and grouped ones of experts and of heads."""

from collections.abc import Iterator

from predict.model.attention import LatentAttention
from predict.model.gpu_share import GpuShare
from predict.model.kinds import KernelKind, kind_of
from predict.model.mlp import Experts
from predict.model.model_kernel import ModelKernel, of_op, without_op
from predict.model.passes import touched_experts
from predict.model.products import Product
from predict.resources import matmul_unit
from predict.units import DTYPES, DType
from predict.workloads import Amounts, stored_bytes

GROUPED = "moe_experts"  # the op of a grouped product
SIXTEEN = DTYPES["bf16"].bits
INT8_BITS = (8, 9)  # of a stored weight with its share of the scales: from, to
INT4_BITS = (4, 5)


def product_kernel(product: Product, tokens: int, share: GpuShare, count: int) -> ModelKernel:
    """A dense product of `tokens` rows with all weights of one format (`Product.by_bits`)."""
    kind, dtype = kind_of(product.linears[0]), share.dtype
    dims = {"m": tokens, "n": product.outputs, "k": product.inputs}
    bits = _stored_bits(product, share)
    compute = _multiplied(product, share)
    amounts = _product_amounts(dims, compute, bits, dtype)
    op = _matmul_op(bits, compute, share)
    if op is None:
        what = f"{bits:.3g}-bit weights" + ("" if compute == dtype else f" in {compute.name}")
        reason = f"no op multiplies {what}"
        return without_op(kind, product.name, reason, dtype, count=count, dims=dims, amounts=amounts)
    return of_op(kind, product.name, op, dims, compute, count=count, otherwise=amounts)


def expert_kernel(product: Product, experts: Experts, share: GpuShare, count: int) -> ModelKernel:
    """A grouped product of the tokens that come to this GPU with its experts. Each of ep groups of GPUs has whole
    experts, which the GPUs of a group divide like an MLP. Tokens come from all dp copies. The op spreads rows evenly.
    Its experts are therefore not all, but as many as tokens that choose by chance come to, which is what the pass
    counts: 82 of 128 for 16 tokens with 8 each."""
    layout = share.replica.layout
    divided = Product(product.linears, layout.stage_gpus // layout.ep)
    touched = float(touched_experts(experts.copies, experts.active, share.tokens * layout.dp)) / layout.ep
    tokens, active = share.tokens * layout.dp, max(-(-experts.active // layout.ep), 1)
    sizes = {
        "tokens": tokens * experts.active / layout.ep / active,
        "experts": max(round(touched), active),
        "active": active,
        "n": divided.outputs,
        "k": divided.inputs,
    }
    bits, compute = _stored_bits(product, share), _multiplied(product, share)
    amounts = _grouped_amounts(sizes, touched, compute, bits, share.dtype)
    if bits < SIXTEEN or compute != share.dtype:
        reason = f"no op multiplies groups of {bits:.3g}-bit weights in {compute.name}"
        return without_op(
            KernelKind.EXPERTS, product.name, reason, share.dtype, count=count, dims=sizes, amounts=amounts
        )
    return of_op(KernelKind.EXPERTS, product.name, GROUPED, sizes, compute, count=count, otherwise=amounts)


def absorbed_kernels(latent: LatentAttention, share: GpuShare, count: int) -> Iterator[ModelKernel]:
    """The expansion of a latent multiplied into Q and into the output instead: a matrix for each head, once from the
    query's part without position to the latent, once from the latent to a value. Engines keep these in 16 bits, in
    whatever format a checkpoint stores the expansion (vLLM, `process_weights_after_loading` of its MLA layer)."""
    shapes = {"absorbed_k": (latent.kv_rank, latent.nope_dim), "absorbed_v": (latent.value_dim, latent.kv_rank)}
    for name, (outputs, inputs) in shapes.items():
        yield _headwise(name, latent.heads / share.tp, outputs, inputs, share, count)


def headwise_kernel(product: Product, groups: int, share: GpuShare, count: int) -> ModelKernel:
    """A matrix for each group of heads, whose inputs are its heads' outputs, in 16 bits."""
    here = groups / share.tp
    return _headwise(product.name, here, product.outputs / here, product.inputs, share, count)


def _headwise(name: str, groups: float, outputs: float, inputs: float, share: GpuShare, count: int) -> ModelKernel:
    """Every token goes through the matrix of every group."""
    sizes = {"tokens": share.tokens, "experts": groups, "active": groups, "n": outputs, "k": inputs}
    amounts = _grouped_amounts(sizes, groups, share.dtype, share.dtype.bits, share.dtype)
    return of_op(KernelKind.PROJECTIONS, name, GROUPED, sizes, share.dtype, count=count, otherwise=amounts)


def _grouped_amounts(
    sizes: dict[str, float], touched: float, compute: DType, bits: float, activation: DType
) -> Amounts:
    """Rows of activations with a matrix for each group, of which `touched` are read."""
    rows, each = sizes["tokens"] * sizes["active"], sizes["n"] * sizes["k"]
    read = rows * sizes["k"] * activation.bytes + stored_bytes(touched * each, bits)
    return Amounts({matmul_unit(compute): 2 * rows * each}, read, rows * sizes["n"] * activation.bytes)


def _stored_bits(product: Product, share: GpuShare) -> float:
    """Bits of a stored weight: those that were asked for, those of the checkpoint, or those of activations if these
    are wider."""
    asked = share.formats.weight_bits
    bits = product.weight_bits if asked is None else asked
    return max(bits, share.dtype.bits) if bits >= SIXTEEN else bits


def _multiplied(product: Product, share: GpuShare) -> DType:
    """The format of the product. A checkpoint whose activations are narrowed multiplies what it kept in 16 bits in 16
    bits."""
    formats = share.formats
    kept = (
        formats.weight_bits is None
        and product.weight_bits >= SIXTEEN
        and share.replica.model.storage.multiplied is not None
    )
    return formats.compute if formats.narrows and not kept else share.dtype


def _matmul_op(bits: float, compute: DType, share: GpuShare) -> str | None:
    """The op of a dense product with weights of `bits`, or None."""
    is_8, is_4 = (low <= bits < high for low, high in (INT8_BITS, INT4_BITS))
    if compute != share.dtype:
        return "matmul_scaled" if is_8 and compute.name in ("fp8", "int8") else None
    if bits >= SIXTEEN:
        return "matmul"
    return "matmul_w8a16" if is_8 else "matmul_w4a16" if is_4 else None


def _product_amounts(dims: dict[str, float], compute: DType, bits: float, activation: DType) -> Amounts:
    """A plain product with weights of `bits`, and activations in their own format."""
    m, n, k = dims["m"], dims["n"], dims["k"]
    read = m * k * activation.bytes + stored_bytes(n * k, bits)
    return Amounts({matmul_unit(compute): 2 * m * n * k}, read, m * n * activation.bytes)
