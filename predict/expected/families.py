"""Which measured kernels multiply a matrix: by the format of the products, and by what the checkpoint stores.

The bits of a stored weight hold its share of the scales, so they tell formats of one width apart: 8 bits are scaled as
a whole or by channel, a little more by blocks of 128 x 128, 4.25 bits are mxfp4, 4.5 bits nvfp4. Weights that are
narrower than the products are widened inside the kernel, which then reads less and multiplies as before.
"""

from predict.errors import MissingCeiling
from predict.expected.calls import Family
from predict.gpus import Gpu
from predict.model.replica import Replica
from predict.resources import Resource
from predict.units import DTYPES, DType, Formats

SIXTEEN = DTYPES["bf16"].bits
MXFP4_BITS = 4.25
FP8_KERNELS = ("fp8", "fp8_block")


def matmul_family(replica: Replica, stored_bits: float) -> Family:
    """The kernels of a dense product whose weights the checkpoint stores in `stored_bits`."""
    stored, compute = _stored(replica, stored_bits), _compute(replica, stored_bits)
    return Family("matmul", _formats(stored, compute), tuple((name,) for name in _names(stored, compute, replica.gpu)))


def experts_family(replica: Replica, stored_bits: float) -> Family:
    """The kernels of a layer of experts, of which an engine takes the fastest. Those of narrow weights alone are
    kernels of their own. Scales by tensor or by block decide little beside the choice of the kernel."""
    stored, compute = _stored(replica, stored_bits), _compute(replica, stored_bits)
    names: tuple[tuple[str, ...], ...] = ((compute.name,),)
    if compute.bits < SIXTEEN:
        own = () if compute.name == "fp8" else (_names(stored, compute, replica.gpu)[:1],)
        names = (*own, FP8_KERNELS, ("bf16",))
    elif stored < SIXTEEN:
        weights = "w4a16_mxfp4" if stored == MXFP4_BITS else "int4_wo" if stored < DTYPES["fp8"].bits else "int8_wo"
        names = ((weights,), (compute.name,))
    return Family("moe_layer", _formats(stored, compute), names, any_kernel=True)


def narrow_kernels(gpu: Gpu) -> tuple[str, ...]:
    """Formats whose measured kernels stand in for those of int8: fp8's where the GPU has it, else those of 16 bits."""
    return ("fp8", "bf16") if Resource.TENSOR_FP8 in gpu.roofs else ("bf16",)


def _stored(replica: Replica, stored_bits: float) -> float:
    return stored_bits if replica.formats.weight_bits is None else replica.formats.weight_bits


def _compute(replica: Replica, stored_bits: float) -> DType:
    """The format of a product. A checkpoint whose activations are narrowed too multiplies what it kept in 16 bits in 16
    bits. Raises MissingCeiling for weights of 16 bits that the kernel would have to narrow."""
    formats = replica.formats
    if not formats.narrows:
        return formats.compute
    if _stored(replica, stored_bits) < SIXTEEN:
        return formats.compute
    if formats.weight_bits is None and replica.model.storage.multiplied is not None:
        return formats.activation
    bits = _stored(replica, stored_bits)
    raise MissingCeiling(f"no calibrated kernel multiplies weights of {bits:g} bits in {formats.compute.name}")


def _formats(stored: float, compute: DType) -> Formats:
    """Formats as those of the measured tables, whose kernels count the scales of their own width among other bytes."""
    return Formats(stored if stored < compute.bits else compute.bits, compute.bits, compute)


def _names(stored: float, compute: DType, gpu: Gpu) -> tuple[str, ...]:
    """Formats whose measured kernels compute it. In int8 a GPU multiplies and narrows as in fp8; one that has no fp8
    does as in 16 bits, at its own peak."""
    match compute.name:
        case "fp8":
            return ("fp8_block", "fp8") if stored > compute.bits else ("fp8",)
        case "fp4":
            return ("mxfp4", "nvfp4") if stored == MXFP4_BITS else ("nvfp4",)
        case "int8" | "int4":
            return (compute.name, *narrow_kernels(gpu))
        case _:
            return (compute.name,)
