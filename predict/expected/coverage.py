"""What expected times on each GPU rest on: by op and format, which GPU was measured, and how far off such times are."""

from collections.abc import Mapping
from types import MappingProxyType

from predict.errors import MissingCeiling
from predict.expected.calibrations import Basis, Known, find_known, shipped
from predict.expected.collective import COLLECTIVES
from predict.expected.refined import BASIS_KEYS, known_json
from predict.expected.time_model import Machine
from predict.gpus import Gpu
from predict.model.storage import wide_format
from predict.units import DTYPES

# Formats of tables that multiply in one of our formats by another name.
_MULTIPLIED = MappingProxyType(
    {"fp8_block": "fp8", "nvfp4": "fp4", **dict.fromkeys(("int4_wo", "int8_wo", "w4a16_mxfp4"), "bf16")}
)


def coverage(gpu: Gpu) -> Mapping[tuple[str, str], Known | str]:
    """By op and format of all that was measured on any GPU: what is known of it on this one, or why nothing is."""
    kinds = dict.fromkeys((each.calibration.op, each.format) for each in shipped())
    return {(op, fmt): _known(gpu, op, fmt) for op, fmt in sorted(kinds)}


def coverage_json(gpu: Gpu) -> list[dict[str, object]]:
    """An entry for each op and format; null with a reason where nothing is known."""
    return [
        {"op": op, "format": fmt, **(known_json(found) if isinstance(found, Known) else _nothing(found))}
        for (op, fmt), found in coverage(gpu).items()
    ]


def coverage_text(gpu: Gpu) -> str | None:
    """What kernels in 16 bits rest on and the range of their mean errors, in a few words: h200-sxm, 3-6 %."""
    errors: dict[tuple[str, Basis], list[float]] = {}
    for (_, fmt), found in coverage(gpu).items():
        if fmt == "bf16" and isinstance(found, Known):
            known = errors.setdefault((found.shipped.gpu, found.basis), [])
            known += [] if found.expected_error is None else [found.expected_error]
    parts = []
    for (name, basis), known in errors.items():
        who = "itself" if basis is Basis.MEASURED else f"poorly {name}" if basis is Basis.OTHER else name
        parts.append(f"{who}, {_range(known)}" if known else who)
    return "; ".join(parts) or None


def _known(gpu: Gpu, op: str, fmt: str) -> Known | str:
    try:
        known = find_known(gpu, op, fmt, cache="bf16" if op.startswith("attention") else None)
        # Kernels in bf16 tell those in fp16, of a GPU that multiplies only that.
        Machine.of(gpu, wide_format(gpu) if fmt == "bf16" else DTYPES[_MULTIPLIED.get(fmt, fmt)])
        if op in COLLECTIVES and gpu.link_bytes_per_s is None:
            return "the rate of its link is not known"
    except MissingCeiling as error:
        return str(error)
    return known


def _nothing(reason: str) -> dict[str, object]:
    return {**dict.fromkeys(BASIS_KEYS), "not_expected": reason}


def _range(errors: list[float]) -> str:
    low, high = (f"{100 * end(errors):.0f}" for end in (min, max))
    return f"{low} %" if low == high else f"{low}-{high} %"
