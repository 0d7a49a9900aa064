"""Number formats, and quantities as people write and read them. All other code holds SI base units."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum, StrEnum
from types import MappingProxyType

from predict.errors import BadQuantity, BadWorkload
from predict.suggest import unknown

GB, TB = 10**9, 10**12
KIB, MIB, GIB, TIB = 2**10, 2**20, 2**30, 2**40
_BYTES = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": GB, "tb": TB, "kib": KIB, "mib": MIB, "gib": GIB, "tib": TIB}
_GBIT = GB // 8  # in bytes
LARGEST_QUANTITY = 10**30  # no amount of this field is larger

_PREFIXES = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
_COUNT_SUFFIXES = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))
_TIME_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))
_ENERGY_UNITS = ((1e3, "kJ"), (1.0, "J"), (1e-3, "mJ"), (1e-6, "uJ"))

# "1.5e3", "4_096" or "8,192", then letters.
_QUANTITY = re.compile(
    r"([+-]?(?:\d{1,3}(?:,\d{3})+|\d+(?:_\d+)*)(?:\.\d*)?(?:e[+-]?\d{1,4})?|[+-]?\.\d+) ?([a-z/%]*)",
    re.IGNORECASE | re.ASCII,
)


class Kind(Enum):
    """What a number counts. It decides which suffixes are understood: the text says so, the mapping has the factors."""

    SIZE = "512, 8k (8 x 1024) or 1M (1024 x 1024)", {"": 1, "k": KIB, "m": MIB}
    AMOUNT = (
        "1e12, 70B or 15T (k, M, B, T: thousands to trillions)",
        {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "g": 10**9, "t": 10**12, "p": 10**15},
    )
    BYTES = "8e10, 80GB (decimal) or 80GiB (binary)", _BYTES
    BYTES_PER_S = "50e9, 50GB/s or 400Gbit/s", {**_BYTES, "Gb": _GBIT, "gbit": _GBIT, "gbps": _GBIT}
    WATTS = "700, 700W or 1.4kW", {"": 1, "w": 1, "kw": 1000}
    SECONDS = "0.03, 30ms or 2s", {"": 1, "s": 1, "ms": Decimal("1e-3"), "us": Decimal("1e-6")}
    SHARE = "0.5 or 50%", {"": 1, "%": Decimal("0.01")}
    PLAIN = "0.5 or 2", {"": 1}

    def __init__(self, examples: str, factors: Mapping[str, int | Decimal]) -> None:
        self.examples = examples  # texts that are understood
        self.factors = factors  # suffix -> factor; one in lower case is understood in any


def kind_of(name: str) -> Kind:
    """What a quantity called `name` counts, by the unit in its name; SIZE if it names none."""
    if "bytes" in name:
        return Kind.BYTES_PER_S if name.endswith("bytes_per_s") else Kind.BYTES
    if name in ("params", "flop") or name.endswith("flop_per_s"):
        return Kind.AMOUNT
    return Kind.SECONDS if name.endswith("_s") and not name.endswith("_per_s") else Kind.SIZE


def read_quantity(text: str, name: str, kind: Kind) -> float:
    """Read a number as people write it; an int if it is whole. Raises BadQuantity, saying what is understood.

    read_quantity("8k", "seq", Kind.SIZE) == 8192: prompts, batches and matrices grow in powers of two.
    read_quantity("15T", "tokens", Kind.AMOUNT) == 15 * 10**12: parameters, training tokens and rates are decimal.
    read_quantity("80GB", "hbm", Kind.BYTES) == 80 * 10**9. A rate may say so: "450GB/s", "989TFLOP/s", "989 TFLOPS".
    read_quantity("400Gb/s", "link", Kind.BYTES_PER_S) == 50 * 10**9: networks are told in bits.
    """
    match = _QUANTITY.fullmatch(text.strip())
    number, suffix = (match[1], match[2]) if match else ("", "")
    if kind is not Kind.SIZE:
        suffix = re.sub(r"(flops?|ops?)?(/s)?$", "", suffix, flags=re.IGNORECASE)
    factor = kind.factors.get(suffix, kind.factors.get(suffix.lower()))
    if not number or factor is None:
        raise BadQuantity(f"{name} must be a number such as {kind.examples}, not {text!r}")
    exact = Decimal(number.replace("_", "").replace(",", "")) * factor
    if abs(exact) > LARGEST_QUANTITY:
        raise BadQuantity(f"{name} is too large a number")
    return int(exact) if exact == exact.to_integral_value() else float(exact)


@dataclass(frozen=True, slots=True)
class DType:
    """A number format."""

    name: str  # also determines the unit that computes with it
    bits: int  # in memory: 32 for tf32

    @property
    def bytes(self) -> float:
        """Size of one element in memory, a fraction for less than 8 bits."""
        return self.bits / 8 if self.bits % 8 else self.bits // 8


DTYPES: Mapping[str, DType] = MappingProxyType(
    {
        name: DType(name, bits)
        for name, bits in (
            ("fp64", 64),
            ("fp32", 32),
            ("tf32", 32),
            ("bf16", 16),
            ("fp16", 16),
            ("fp8", 8),
            ("int8", 8),
            ("fp4", 4),
            ("int4", 4),
        )
    }
)

# What others call these formats -> our name, which is suggested.
DTYPE_SPELLINGS: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("float64", "double"), "fp64"),
        **dict.fromkeys(("float32", "float", "single"), "fp32"),
        **dict.fromkeys(("bfloat16",), "bf16"),
        **dict.fromkeys(("float16", "half"), "fp16"),
        **dict.fromkeys(("float8", "e4m3", "e5m2", "float8_e4m3fn", "float8_e5m2"), "fp8"),
    }
)


@dataclass(frozen=True, slots=True)
class Formats:
    """Storage formats of weights and KV cache, and the format of the matrix products."""

    # Of a stored weight with its share of the scales. None: as the model stores each; for one matmul, `compute`'s.
    weight_bits: float | None = None
    kv_bits: float = 16  # of a cached element
    compute: DType = DTYPES["bf16"]  # the matrices are multiplied in this format

    @classmethod
    def of(cls, compute: DType, weights: DType | None = None, kv: DType | None = None) -> "Formats":
        """Formats with products in `compute`. Weights and cache are in `compute` too unless given."""
        return cls((weights or compute).bits, (kv or compute).bits, compute)

    @property
    def activation(self) -> DType:
        """The format of activations between kernels: `compute`, or bf16 if `compute` has fewer than 16 bits."""
        return self.compute if self.compute.bits >= 16 else DTYPES["bf16"]

    @property
    def matrix_bytes(self) -> float:
        """Bytes of a stored weight of one matmul."""
        return (self.compute.bits if self.weight_bits is None else self.weight_bits) / 8

    @property
    def narrows(self) -> bool:
        """Whether activations must be narrowed before the matrix products."""
        return self.activation != self.compute

    @property
    def widens(self) -> bool:
        """Whether stored weights must be widened before the matrix products."""
        return self.matrix_bytes < self.compute.bytes


ALL_BF16 = Formats()


def find_dtype(name: str) -> DType:
    """Return the dtype called `name`; raises BadWorkload listing the known ones."""
    try:
        return DTYPES[name]
    except KeyError:
        raise BadWorkload(unknown("dtype", name, DTYPES, DTYPE_SPELLINGS)) from None


class Unit(StrEnum):
    """The unit of a number. It decides how the number is shown."""

    FLOP = "FLOP"
    BYTES = "B"
    SECONDS = "s"
    DAYS = "days"
    TOKENS = "tokens"
    TOKENS_PER_S = "tokens/s"
    REQUESTS = "requests"
    GPUS = "GPUs"
    PARAMS = "parameters"
    FLOP_PER_BYTE = "FLOP/B"
    SHARE = "%"
    USD = "$"
    GPU_HOURS = "GPU-hours"
    TIMES = "x"
    COUNT = "count"  # of anything else
    NAME = ""  # a text
    # Of a column whose heading says so. The number itself is in FLOP/s, B/s or bytes.
    TFLOP_PER_S = "TFLOP/s"
    TB_PER_S = "TB/s"
    GB = "GB"
    GIB = "GiB"
    KIB = "KiB"
    # Of columns only.
    RELATIVE_ERROR = "of 1"
    PLAIN = "number"  # whose unit stands elsewhere
    WRITTEN = "written"  # a number that is a text already


def si(value: float, unit: str, digits: int = 3) -> str:
    """Format with a decimal prefix: si(3.35e12, "B/s") == "3.35 TB/s"."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g} {unit}"
    scale, prefix = next(((s, p) for s, p in _PREFIXES if abs(value) >= s), (1.0, ""))
    return f"{_significant(value / scale, digits)} {prefix}{unit}"


def count(number: float, digits: int = 3) -> str:
    """Format a count in thousands (k), millions, billions (B) or trillions: count(7.055e10) == "70.6B"."""
    if abs(number) < 1000:
        return f"{number:g}"
    scale, suffix = next((s, x) for s, x in _COUNT_SUFFIXES if abs(number) >= s)
    return f"{_significant(number / scale, digits)}{suffix}"


def people_count(number: float) -> str:
    """Format a count as people write it: people_count(15e12) == "15T", people_count(8192) == "8,192"."""
    if abs(number) < 1e6:
        return f"{number:,.10g}"
    scale, suffix = next((s, x) for s, x in _COUNT_SUFFIXES if abs(number) >= s)
    return f"{number / scale:,.4g}{suffix}"


def both_bytes(size_bytes: float) -> str:
    """Format a memory size in decimal and binary units: both_bytes(2**30) == "1.074 GB (1 GiB)"."""
    return f"{si(size_bytes, 'B', 4)} ({binary_bytes(size_bytes)})"


def in_units(value: float, unit: float) -> str:
    """Format `value` as a multiple of `unit`, for a column that names the unit: in_units(3.35e12, TB) == "3.35"."""
    return _significant(value / unit, 3)


def duration(time_s: float, digits: int = 3) -> str:
    """Format a time in the largest unit that gives at least 1: duration(3.52e-5) == "35.2 us"."""
    return _in_largest(time_s, _TIME_UNITS, "s", digits)


def energy(energy_j: float) -> str:
    """Format an energy in the largest unit that gives at least 1: energy(0.00352) == "3.52 mJ"."""
    return _in_largest(energy_j, _ENERGY_UNITS, "J", 3)


def binary_bytes(size_bytes: float) -> str:
    """Format a memory size with binary prefixes: binary_bytes(50 * 2**20) == "50 MiB"."""
    for scale, unit in ((TIB, "TiB"), (GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if size_bytes >= scale:
            return f"{size_bytes / scale:.4g} {unit}"
    return f"{size_bytes:g} B"


def percent(fraction: float) -> str:
    """Format a fraction as a percentage with three significant figures, without decimals from 100 % on."""
    return f"{_significant(fraction * 100, 3)} %"


def show(value: float | str, unit: Unit) -> str:
    """Format a value for the page."""
    if isinstance(value, str):
        return value
    match unit:
        case Unit.BYTES:
            return both_bytes(value)
        case Unit.SECONDS:
            return duration(value, 4)
        case Unit.SHARE:
            return percent(value)
        case Unit.USD:
            return f"${value:,.0f}" if value >= 1000 else f"${value:.4g}"
        case Unit.FLOP:
            return si(value, "FLOP", 4)
        case Unit.PARAMS:
            return f"{count(value, 4)}"
        case Unit.TOKENS_PER_S:
            return f"{value:,.0f} tokens/s" if value >= 100 else f"{value:.3g} tokens/s"
        case Unit.DAYS:
            return f"{value:,.1f} days" if value >= 10 else f"{value:.3g} days"
        case Unit.TIMES:
            return f"{value:.3g}x"
        case _:
            number = f"{value:,.4g}" if value != int(value) and value < 1000 else f"{value:,.0f}"
            return f"{number} {unit.removesuffix('s') if value == 1 else unit}"


def times(ratio: float) -> str:
    """Format a ratio: times(1.5) == "1.50x"."""
    return f"{ratio:.2f}x" if ratio < 9.995 else f"{ratio:.3g}x" if ratio < 999.5 else f"{ratio:.0f}x"


def _in_largest(value: float, units: tuple[tuple[float, str], ...], base: str, digits: int) -> str:
    """Format `value` in the largest of `units` that gives at least 1, else in the smallest."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g} {base}"
    scale, unit = next(((s, u) for s, u in units if abs(value) >= s), units[-1])
    return f"{_significant(value / scale, digits)} {unit}"


def _significant(value: float, digits: int) -> str:
    """Format with `digits` significant figures and no exponent (12.30, 123, 1230)."""
    if value == 0:
        return "0"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:.{decimals}f}"
