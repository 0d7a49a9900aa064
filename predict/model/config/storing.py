"""How the checkpoint of a configuration is stored: its dtype, and what its quantization says of each matrix."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from predict.model.config.fields import Fields
from predict.model.config.module_names import HEAD, PREFIXES, paths_of
from predict.model.config.quantization.methods import find_quantization
from predict.model.config.quantization.scheme import EVERY_MATRIX, Packing, Quantization
from predict.model.linear import Linear
from predict.model.mlp import Experts
from predict.model.storage import REST_BITS, MatrixBits, Storage
from predict.model.transformer import Block, Model
from predict.units import DType

DTYPE_FIELDS = ("dtype", "torch_dtype")
HALVES: Mapping[str, str] = MappingProxyType({"bfloat16": "bf16", "bf16": "bf16", "float16": "fp16", "fp16": "fp16"})
WIDE = frozenset({"float32", "fp32", "float64"})
ORIGIN = "its config.json"
EXPERTS, ATTENTION, MLP = "experts", "attention", "MLP"  # kinds of matrices in the name of a mixed storage
UNPACKED = Packing("16 bits", REST_BITS)

# Parameters by kind of matrix and packing.
Tally = Counter[tuple[str, Packing]]


def with_storage(model: Model, fields: Fields) -> Model:
    """The model with the storage that the configuration tells, and remarks on it. Raises BadModel naming a field."""
    half, notes = _half(fields)
    found = find_quantization(fields)
    if found is None:
        said = any(fields.get(name) for name in DTYPE_FIELDS)
        return replace(model, storage=Storage(half, origin=ORIGIN if said else ""), notes=(*model.notes, *notes))
    tally: Tally = Counter()
    blocks = tuple(
        _with_bits(block, numbers, model.architecture, found, tally)
        for block, numbers in zip(model.blocks, _numbers(model.blocks), strict=True)
    )
    head = (found.embedding or UNPACKED) if model.tied else _head(found)
    storage = Storage(
        _name(tally, half),
        MatrixBits((("vocab", head.bits),)),
        REST_BITS if found.embedding is None else found.embedding.bits,
        _multiplied(tally),
        found.kv,
        ORIGIN,
    )
    return replace(model, blocks=blocks, storage=storage, notes=(*model.notes, *notes, *found.notes))


def _half(fields: Fields) -> tuple[str, tuple[str, ...]]:
    """Name of the format of what is not quantized, and remarks on it."""
    name = next((name for name in DTYPE_FIELDS if fields.get(name) is not None), DTYPE_FIELDS[0])
    dtype = str(fields.get(name) or "bfloat16").removeprefix("torch.").lower()
    fields.use(*DTYPE_FIELDS)
    if dtype in HALVES:
        return HALVES[dtype], ()
    if dtype in WIDE:
        return "bf16", (f"weights of {dtype} count as 16 bits: engines serve them so; --weights fp32 counts 32",)
    return "bf16", (f"{name} {dtype!r} is not known: weights are read as 16 bits",)


def _numbers(blocks: Sequence[Block]) -> Iterator[Sequence[int]]:
    """The numbers of each block's layers: in a row unless the block says otherwise."""
    first = 0
    for block in blocks:
        yield block.numbers or range(first, first + block.layers)
        first += block.layers


def _with_bits(block: Block, numbers: Sequence[int], architecture: str, found: Quantization, tally: Tally) -> Block:
    """The block with the bits of its matrices, on average over its layers. Counts what it finds in `tally`."""
    seen = numbers if any(rule.modules.by_layer for rule in found.rules) else numbers[:1]
    bits = []
    for linear in block.linears:
        paths = paths_of(linear.name, architecture, beside_experts=isinstance(block.mlp, Experts))
        packings = Counter(_packing(found, number, paths) for number in seen)
        params = linear.params * block.layers // len(seen) if paths else 0  # routers make no storage mixed
        tally.update({(_kind(linear), one): params * times for one, times in packings.items() if params})
        bits.append((linear.name, sum(one.bits * times for one, times in packings.items()) / len(seen)))
    return replace(block, bits=MatrixBits(tuple(bits)))


def _packing(found: Quantization, number: int, paths: Sequence[str]) -> Packing:
    """How a matrix of these paths is packed in the layer of this number. A matrix without paths is never packed."""
    prefixes = [prefix.format(number) for prefix in PREFIXES]
    rules = found.rules if paths else ()
    rule = next((rule for rule in rules if rule.modules.include(number, paths, prefixes)), None)
    return UNPACKED if rule is None or rule.packing is None else rule.packing


def _head(found: Quantization) -> Packing:
    """How the output head is packed: by rules for every matrix only if they hold for the head too."""
    rules = (rule for rule in found.rules if found.head or rule.modules is not EVERY_MATRIX)
    rule = next((rule for rule in rules if rule.modules.include(None, HEAD, ("", "model.", "language_model."))), None)
    return UNPACKED if rule is None or rule.packing is None else rule.packing


def _kind(linear: Linear) -> str:
    return EXPERTS if linear.copies > 1 else MLP if linear.name.startswith("mlp.") else ATTENTION


def _name(tally: Tally, half: str) -> str:
    """Name of the whole: that of the one packing, or "mxfp4 experts, bf16 rest" by what most of each kind has."""
    mostly = {kind: max(_of(kind, tally), key=lambda item: item[1])[0].name for kind, _ in tally}
    size = Counter[str]()
    for (kind, _), params in tally.items():
        size[mostly[kind]] += params
    names = [name for name, _ in size.most_common()]
    spelled = [half if name == UNPACKED.name else name for name in names]
    if len(names) == 1:
        return spelled[0]
    parts = [
        f"{shown} {' and '.join(kind for kind in (EXPERTS, ATTENTION, MLP) if mostly.get(kind) == name)}"
        for name, shown in zip(names, spelled, strict=True)
    ]
    return ", ".join([*parts[:-1], f"{spelled[-1]} rest"])


def _of(kind: str, tally: Tally) -> list[tuple[Packing, int]]:
    return [(packing, params) for (each, packing), params in tally.items() if each == kind]


def _multiplied(tally: Tally) -> DType | None:
    """The narrowest format that activations are narrowed to: the bound takes the fastest."""
    formats = [packing.multiplied for _, packing in tally if packing.multiplied is not None]
    return min(formats, key=lambda dtype: dtype.bits, default=None)
