"""Finds a GPU by its name, by the product name that NVML reports, or in a file."""

import difflib
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from predict.errors import UnknownGpu
from predict.gpus.gpu import Gpu, NvidiaGpu
from predict.gpus.napkin_only import NAPKIN_ONLY
from predict.gpus.nvidia_datacenter import DATA_CENTER
from predict.gpus.nvidia_graphics import GRAPHICS

NVIDIA_GPUS: Mapping[str, NvidiaGpu] = MappingProxyType({gpu.name: gpu for gpu in (*DATA_CENTER, *GRAPHICS)})
GPUS: Mapping[str, Gpu] = MappingProxyType({**NVIDIA_GPUS, **{gpu.name: gpu for gpu in NAPKIN_ONLY}})
_BY_NVML_NAME = MappingProxyType({name: gpu for gpu in NVIDIA_GPUS.values() for name in gpu.nvml_names})


def resolve(name: str) -> Gpu:
    """Return the GPU with this name or alias. `a100` means the 80 GB SXM part, `h100` and `h200` the SXM parts.

    Raises UnknownGpu listing the known names.
    """
    return resolve_all(name)[0]


def resolve_all(name: str) -> tuple[Gpu, ...]:
    """Return every GPU with this name or alias, the default first: `resolve_all("h100")` includes the H100 PCIe.

    Case does not matter; '_' and ' ' count as '-'. Raises UnknownGpu listing the known names.
    """
    key = name.strip().lower().replace("_", "-").replace(" ", "-")
    if key in GPUS:
        return (GPUS[key],)
    covered = tuple(gpu for gpu in GPUS.values() if key in gpu.aliases)
    if not covered:
        aliases = dict.fromkeys(alias for gpu in GPUS.values() for alias in gpu.aliases)
        raise UnknownGpu(_unknown(name, key, (*GPUS, *aliases)))
    return covered


def find_gpu(nvml_name: str) -> NvidiaGpu:
    """Return the GPU that NVML calls exactly `nvml_name`; raises UnknownGpu listing the known product names."""
    try:
        return _BY_NVML_NAME[nvml_name]
    except KeyError:
        raise UnknownGpu(_unknown(nvml_name, nvml_name, _BY_NVML_NAME)) from None


def _unknown(name: str, key: str, known: Iterable[str]) -> str:
    names = tuple(known)
    close = difflib.get_close_matches(key, names, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    return f"unknown GPU {name!r}; {hint}known: {', '.join(names)}"
