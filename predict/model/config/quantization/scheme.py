"""What a quantization says, whatever its method: how matrices are packed, and which module names are meant."""

import fnmatch
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from predict.errors import BadModel
from predict.formulas.memory import bits_per_weight
from predict.model.config.fields import Fields
from predict.units import DTYPES, DType

# Words that the names of networks beside the decoder begin with.
BESIDE = re.compile(r"(^|[._])(vision|visual|vit|vpm|audio|apm|speech|image|talker|mtp|nextn|tts)")
LAYER = re.compile(r"^(.*\.)?(layers|h|blocks)\.(\d+)(\.(.*))?$")


@dataclass(frozen=True, slots=True)
class Packing:
    """How the weights of a matrix are packed."""

    name: str  # "fp8", "int4 g128"
    bits: float  # of a weight, with its share of scales and zero points
    multiplied: DType | None = None  # activations are narrowed to this format; None: they keep 16 bits


@dataclass(frozen=True, slots=True)
class Modules:
    """Names of modules, written as paths, as beginnings of paths, or as regular expressions."""

    paths: Mapping[int | None, frozenset[str]] = field(default_factory=dict)  # by layer; None: of every layer
    starts: Mapping[int | None, frozenset[str]] = field(default_factory=dict)
    regexes: tuple[re.Pattern[str], ...] = ()

    @property
    def by_layer(self) -> bool:
        """Whether the answer may differ between layers."""
        named = {*self.paths, *self.starts} - {None}
        return bool(named) or any(re.search(r"\d|\[", regex.pattern) for regex in self.regexes)

    def include(self, layer: int | None, paths: Sequence[str], prefixes: Sequence[str]) -> bool:
        """Whether any of `paths` is named, in the layer of this number or outside the layers (None). A path is named if
        a whole part of it is. Regular expressions see it behind each of `prefixes`."""
        parts = {part for path in paths for part in _parts(path)}
        for number in dict.fromkeys((None, layer)):
            found = self.paths.get(number, frozenset())
            if found & parts or (number is not None and "" in found):
                return True
            if any(part.startswith(start) for start in self.starts.get(number, ()) for part in parts):
                return True
        names = [prefix + path for path in paths for prefix in prefixes] if self.regexes else []
        return any(regex.match(name) for regex in self.regexes for name in names)


EVERY_MATRIX = Modules(regexes=(re.compile(""),))


@dataclass(frozen=True, slots=True)
class Rule:
    """How the matrices of some modules are packed. None: they keep 16 bits."""

    packing: Packing | None
    modules: Modules = EVERY_MATRIX


@dataclass(frozen=True, slots=True)
class Quantization:
    """What a quantization says about a checkpoint. The first rule that means a matrix holds; without one it keeps 16
    bits."""

    rules: tuple[Rule, ...]
    head: bool = False  # whether the rules hold for the output head too
    embedding: Packing | None = None
    kv: DType | None = None  # format of the KV cache that it asks for
    notes: tuple[str, ...] = ()


def packed(
    kind: str, bits: int, group: int | None = None, scale_bits: int = 16, zero_bits: int = 0, *, by: str | None = None
) -> Packing:
    """Weights of `bits` bits, of which `group` share a scale and a zero point. Without a group there is one scale per
    tensor or output channel, under 0.1 %, which is not counted. `by`: the format of the activations."""
    stored = float(bits_per_weight(bits, group, scale_bits, zero_bits) if group else bits)
    name = f"{kind}{bits}" + (f" g{group}" if group and kind == "int" else "")
    return Packing(name, stored, narrowed(by))


def narrowed(name: str | None) -> DType | None:
    """The format of activations, or None for one of 16 bits."""
    found = None if name is None else DTYPES.get(name)
    return found if found is not None and found.bits < DTYPES["bf16"].bits else None


FP8 = packed("fp", 8, by="fp8")
FP8_BLOCK = Packing("fp8 128x128", float(bits_per_weight(8, 128 * 128, 32)), DTYPES["fp8"])
MXFP8 = Packing("mxfp8", float(bits_per_weight(8, 32, 8)), DTYPES["fp8"])
MXFP4 = Packing("mxfp4", float(bits_per_weight(4, 32, 8)))
NVFP4 = Packing("nvfp4", float(bits_per_weight(4, 16, 8)), DTYPES["fp4"])


def section(fields: Fields, name: str) -> Fields | None:
    """The object under `name`, or None if null or absent. Its fields count as used. Raises BadModel if it is none."""
    found = fields.inside(name)
    if found is not None:
        found.use(*found.values)
    return found


def sections(fields: Fields | None) -> Iterator[tuple[str, Fields]]:
    """The names and objects inside an object, without those that are null."""
    for name in fields.values if fields else ():
        if fields is not None and (one := section(fields, name)) is not None:
            yield name, one


def named_modules(names: Iterable[object], origin: str) -> Modules:
    """The modules of a list of names: paths (`model.layers.0.mlp`, `lm_head`), paths with wildcards
    (`model.layers.0.self_attn*`) and regular expressions (`re:.*mlp.gate$`). Raises BadModel for what is none."""
    paths: dict[int | None, set[str]] = {}
    starts: dict[int | None, set[str]] = {}
    regexes = []
    for name in names:
        if not isinstance(name, str):
            raise BadModel(f"{origin}: {name!r} is not the name of a module")
        if name.startswith("re:"):
            regexes.append(_compiled(name.removeprefix("re:"), origin))
        elif "\\" in name:
            regexes.append(_compiled(f".*?{name}", origin))
        elif any(sign in name.removesuffix("*") for sign in "*?[") or name == "*":
            regexes += [re.compile(fnmatch.translate(pattern)) for pattern in (name, f"{name}.*")]
        else:
            number, path = split_layer(name.removesuffix("*"))
            if path is not None:
                (starts if name.endswith("*") else paths).setdefault(number, set()).add(path)
    return Modules(_frozen(paths), _frozen(starts), tuple(regexes))


def containing(texts: Iterable[object], origin: str) -> Modules:
    """The modules whose name contains any of `texts`, as AWQ writes them. `gate` is the router of experts, as engines
    read it, and not their gate_proj."""
    ends = (r"(.*\.)?gate$" if text == "gate" else f".*{re.escape(str(text))}" for text in texts)
    return Modules(regexes=tuple(_compiled(end, origin) for end in ends))


def split_layer(name: str) -> tuple[int | None, str | None]:
    """The number of the layer in a module's name and the path behind it. Outside the layers there is no number. The
    path is None for modules of networks beside the decoder."""
    if BESIDE.search(name):
        return None, None
    if found := LAYER.match(name):
        return int(found[3]), found[5] or ""
    return None, name.strip(".")


def _frozen(named: Mapping[int | None, set[str]]) -> Mapping[int | None, frozenset[str]]:
    return MappingProxyType({number: frozenset(paths) for number, paths in named.items()})


def _compiled(pattern: str, origin: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise BadModel(f"{origin}: {pattern!r} is not a regular expression: {error}") from None


def _parts(path: str) -> Iterator[str]:
    """Every run of whole names in a dotted path: a.b gives a, a.b, b."""
    names = path.split(".")
    for first in range(len(names)):
        for last in range(first + 1, len(names) + 1):
            yield ".".join(names[first:last])
