"""The GPU table by name."""

from collections.abc import Mapping
from types import MappingProxyType

from predict.gpus.gpu import Gpu, NvidiaGpu
from predict.gpus.napkin_only import NAPKIN_ONLY
from predict.gpus.nvidia_datacenter import DATA_CENTER
from predict.gpus.nvidia_graphics import GRAPHICS

NVIDIA_GPUS: Mapping[str, NvidiaGpu] = MappingProxyType({gpu.name: gpu for gpu in (*DATA_CENTER, *GRAPHICS)})
GPUS: Mapping[str, Gpu] = MappingProxyType({**NVIDIA_GPUS, **{gpu.name: gpu for gpu in NAPKIN_ONLY}})


def covered_by(name: str) -> tuple[Gpu, ...]:
    """Every GPU with this name or alias, the default first. Case does not matter; '_' and ' ' count as '-'."""
    key = key_of(name)
    return (GPUS[key],) if key in GPUS else tuple(gpu for gpu in GPUS.values() if key in gpu.aliases)


def key_of(name: str) -> str:
    """`name` as the table writes it."""
    return name.strip().lower().replace("_", "-").replace(" ", "-")
