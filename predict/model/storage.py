"""How a checkpoint stores its weights: bits for each matrix, and what its formats mean for the products and the cache.

Every number of bits includes the weight's share of the scales and zero points.
"""

from dataclasses import dataclass

from predict.gpus import Gpu
from predict.resources import matmul_unit
from predict.units import DTYPES, DType

REST_BITS = 16  # of norms, positions and biases: no method narrows them


@dataclass(frozen=True, slots=True)
class MatrixBits:
    """Bits of a stored weight, by the name of its matrix (`Linear.name`)."""

    named: tuple[tuple[str, float], ...] = ()
    rest: float = 16  # of a matrix that is not named

    def of(self, matrix: str) -> float:
        """Bits of a weight of `matrix`."""
        return dict(self.named).get(matrix, self.rest)


@dataclass(frozen=True, slots=True)
class Storage:
    """How a whole checkpoint is stored. The bits of the matrices in the layers are those of each `Block`."""

    name: str = "bf16"  # for a person: "fp8", "mxfp4 experts, bf16 rest"
    outer: MatrixBits = MatrixBits()  # of the matrices outside the layers
    embedding_bits: float = 16  # of the input embedding
    multiplied: DType | None = None  # activations are narrowed to this format too; None: only weights are narrow
    kv: DType | None = None  # format of the KV cache that the checkpoint asks for; None: it asks for none
    origin: str = ""  # what says so: "the file"; empty if nothing does


def product_format(storage: Storage | None, gpu: Gpu) -> DType:
    """The format that matrices are multiplied in: the one that the checkpoint narrows activations to if the GPU has a
    peak for it, else 16 bits. None: a checkpoint of which nothing is known."""
    narrow = None if storage is None else storage.multiplied
    return narrow if narrow is not None and matmul_unit(narrow) in gpu.roofs else wide_format(gpu)


def wide_format(gpu: Gpu) -> DType:
    """The 16-bit format that the GPU multiplies: bf16, or fp16 if it has no peak for bf16."""
    return DTYPES["bf16" if matmul_unit(DTYPES["bf16"]) in gpu.roofs else "fp16"]


SIXTEEN_BITS = MatrixBits()
AS_TRAINED = Storage()
