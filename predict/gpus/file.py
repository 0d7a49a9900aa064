"""A GPU from a small JSON file, so that a machine that the table lacks can be asked about without editing code.

    {"name": "my-gpu", "peaks": {"bf16": "500e12", "fp8": "1 PFLOP/s"}, "memory": "96GB", "bandwidth": "4TB/s",
     "link": "200GB/s", "gpus_per_node": 8, "sources": "the vendor's datasheet, dense"}

Numbers are SI, or texts with a unit. Peaks are dense, in FLOP/s by format; `fp32` is that of the vector units.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from predict import checks
from predict.errors import BadGpu
from predict.gpus.gpu import Gpu, Memory
from predict.gpus.table import GPUS, covered_by
from predict.json_file import read_json
from predict.resources import Ceiling, Resource, matmul_unit
from predict.suggest import unknown
from predict.units import DTYPES, Kind, read_quantity, si

MAX_BYTES = 1_000_000  # such a file has a few hundred
LEAST = 1e6  # bytes, bytes/s or FLOP/s: no GPU has less, so a smaller number lacks its unit

REQUIRED = ("peaks", "memory", "bandwidth", "sources")
OPTIONAL = ("name", "link", "link_reduces", "gpus_per_node", "network", "power")
NEEDS_SOURCE = ("memory", "bandwidth", "link", "gpus_per_node", "network", "power")

# A format means the unit that multiplies matrices of it; `vector.fp64` and the like mean what `gpus --json` prints.
UNITS: Mapping[str, Resource] = MappingProxyType(
    {name: matmul_unit(dtype) for name, dtype in DTYPES.items()}
    | {unit.value: unit for unit in Resource if unit.is_compute}
)


def read_gpu(path: Path) -> Gpu:
    """Read the GPU that a file describes. Raises BadGpu or BadQuantity naming the file and the field."""
    given = _load(path)
    _check_keys(given, path)
    peaks = _peaks(given["peaks"], path)
    sources = _sources(given, peaks, path)
    bandwidth = _amount(given["bandwidth"], Kind.BYTES, f"{path}: bandwidth")
    roofs = {Resource.DRAM: Ceiling(bandwidth, sources["bandwidth"])}
    for name, value in peaks.items():
        per_s = _amount(value, Kind.AMOUNT, f"{path}: peaks.{name}")
        _refuse_sparse(UNITS[name], per_s, bandwidth, f"{path}: peaks.{name}")
        roofs[UNITS[name]] = Ceiling(per_s, sources[name])
    others = {key: sources[key] for key in NEEDS_SOURCE if key in given and key != "bandwidth"}
    return Gpu(
        name=_name(given, path),
        memory=Memory(int(_amount(given["memory"], Kind.BYTES, f"{path}: memory"))),
        link_bytes_per_s=_optional(given, "link", path),
        link_reduces=_flag(given, "link_reduces", path),
        gpus_per_node=_count(given, "gpus_per_node", path),
        network_bytes_per_s=_optional(given, "network", path),
        power_w=_power(given, path),
        roofs={unit: roofs[unit] for unit in Resource if unit in roofs},
        source="; ".join(dict.fromkeys(others.values())),
    )


def _load(path: Path) -> Mapping[str, object]:
    given = read_json(
        path, "the file of a GPU", max_bytes=MAX_BYTES, error=BadGpu, object_of=lambda pairs: _once(pairs, path)
    )
    if not isinstance(given, dict):
        raise BadGpu(f"{path} must hold one JSON object with {', '.join(REQUIRED)}")
    return given


def _once(pairs: list[tuple[str, object]], path: Path) -> dict[str, object]:
    """A JSON object, which must not give a key twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise BadGpu(f"{path}: {twice} is given twice")
    return found


def _check_keys(given: Mapping[str, object], path: Path) -> None:
    for key in given:
        if key not in (*REQUIRED, *OPTIONAL):
            raise BadGpu(f"{path}: {unknown('key', key, (*REQUIRED, *OPTIONAL))}")
    for key in REQUIRED:
        if key not in given:
            what = "say where the numbers come from" if key == "sources" else "a prediction needs it"
            raise BadGpu(f"{path} lacks {key}: {what}")


def _peaks(value: object, path: Path) -> Mapping[str, object]:
    """The peaks by format: at least one, each of a unit of its own."""
    if not isinstance(value, dict) or not value:
        raise BadGpu(f'{path}: peaks must be an object of dense FLOP/s by format, such as {{"bf16": "500e12"}}')
    for name in value:
        if name not in UNITS:
            raise BadGpu(f"{path}: peaks has an {unknown('key', name, UNITS)}")
    units = [UNITS[name] for name in value]
    if twice := next((unit for unit in units if units.count(unit) > 1), None):
        raise BadGpu(f"{path}: peaks gives {twice} twice")
    return value


def _sources(given: Mapping[str, object], peaks: Mapping[str, object], path: Path) -> Mapping[str, str]:
    """The source of each number by its key, of a peak by its format. One text is the source of all."""
    needed = (*peaks, *(key for key in NEEDS_SOURCE if key in given))
    value = given["sources"]
    if isinstance(value, str):
        return dict.fromkeys(needed, _text(value, f"{path}: sources"))
    if not isinstance(value, dict):
        raise BadGpu(f"{path}: sources must be a text, or an object with the source of each number")
    for key in value:
        if key not in (*needed, "peaks"):
            raise BadGpu(f"{path}: sources has an {unknown('key', key, ('peaks', *needed))}")
    found = {}
    for key in needed:
        text = value.get(key, value.get("peaks") if key in peaks else None)
        if text is None:
            raise BadGpu(f"{path}: sources lacks {key}: say where that number comes from")
        found[key] = _text(text, f"{path}: sources.{key}")
    return found


def _name(given: Mapping[str, object], path: Path) -> str:
    name = _text(given.get("name", path.stem), f"{path}: name")
    if known := covered_by(name):
        raise BadGpu(f"{path}: name {name!r} is that of {known[0].name} in the table; give the machine one of its own")
    return name


def _amount(value: object, kind: Kind, what: str) -> float:
    """Bytes, bytes/s or FLOP/s."""
    number = _number(value, kind, what)
    if number < LEAST:
        raise BadGpu(f"{what} is {number:g}, less than any GPU has; write its unit, such as {kind.examples}")
    return number


def _optional(given: Mapping[str, object], key: str, path: Path) -> float | None:
    return None if key not in given else _amount(given[key], Kind.BYTES, f"{path}: {key}")


def _power(given: Mapping[str, object], path: Path) -> float | None:
    return None if "power" not in given else _number(given["power"], Kind.WATTS, f"{path}: power")


def _number(value: object, kind: Kind, what: str) -> float:
    """A number, or a text with a unit. Raises BadGpu for another type, BadQuantity unless it is positive."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise BadGpu(f"{what} must be a number, or a text such as {kind.examples}")
    number = read_quantity(value, what, kind) if isinstance(value, str) else value
    checks.positive(**{what: number})
    return number


def _count(given: Mapping[str, object], key: str, path: Path) -> int | None:
    if key not in given:
        return None
    value = given[key]
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadGpu(f"{path}: {key} must be a positive whole number, not {value!r}")
    checks.whole(**{f"{path}: {key}": value})
    return value


def _flag(given: Mapping[str, object], key: str, path: Path) -> bool | None:
    value = given.get(key)
    if value is not None and not isinstance(value, bool):
        raise BadGpu(f"{path}: {key} must be true or false, not {value!r}")
    return value


def _text(value: object, what: str) -> str:
    text = " ".join(value.split()) if isinstance(value, str) else ""
    if not text:
        raise BadGpu(f"{what} must be a text that is not empty")
    return text


def _refuse_sparse(unit: Resource, per_s: float, bandwidth: float, what: str) -> None:
    """Refuse what the datasheet of a known GPU prints with sparsity: twice its dense peak, at its bandwidth."""
    alike = [gpu for gpu in GPUS.values() if _near(gpu.roofs, Resource.DRAM, bandwidth, 0.03)]
    if any(_near(gpu.roofs, unit, per_s, 0.02) for gpu in alike):
        return
    for gpu in alike:
        if _near(gpu.roofs, unit, per_s / 2, 0.01):
            dense = si(gpu.roofs[unit].per_s, "FLOP/s", 4)
            raise BadGpu(f"{what} is the figure of {gpu.name} with sparsity; a dense peak is needed, there {dense}")


def _near(roofs: Mapping[Resource, Ceiling], unit: Resource, per_s: float, tolerance: float) -> bool:
    return unit in roofs and abs(per_s / roofs[unit].per_s - 1) <= tolerance
