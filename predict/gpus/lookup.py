"""Finds a GPU by its name, in a file, or by the product name that NVML reports."""

from pathlib import Path
from types import MappingProxyType

from predict.errors import UnknownGpu
from predict.gpus.file import read_gpu
from predict.gpus.gpu import Gpu, NvidiaGpu
from predict.gpus.table import GPUS, NVIDIA_GPUS, covered_by
from predict.suggest import unknown

LISTED_BY = "python -m predict gpus"

_BY_NVML_NAME = MappingProxyType({name: gpu for gpu in NVIDIA_GPUS.values() for name in gpu.nvml_names})


def resolve(name: str) -> Gpu:
    """Return the GPU with this name or alias, or the one that a file describes if `name` ends in ".json".

    `a100` means the 80 GB SXM part, `h100` and `h200` the SXM parts. Raises UnknownGpu with the names that are near,
    and BadGpu or BadQuantity for a file that cannot be read.
    """
    return resolve_all(name)[0]


def resolve_all(name: str) -> tuple[Gpu, ...]:
    """Return every GPU with this name or alias, the default first: `resolve_all("h100")` includes the H100 PCIe.

    Case does not matter; '_' and ' ' count as '-'. Raises as `resolve` does.
    """
    if name.strip().lower().endswith(".json"):
        return (read_gpu(Path(name.strip())),)
    covered = covered_by(name)
    if not covered:
        aliases = dict.fromkeys(alias for gpu in GPUS.values() for alias in gpu.aliases)
        products = {product: gpu.name for product, gpu in _BY_NVML_NAME.items()}
        raise UnknownGpu(unknown("GPU", name, (*GPUS, *aliases), products, listed_by=LISTED_BY))
    return covered


def find_gpu(nvml_name: str) -> NvidiaGpu:
    """Return the GPU that NVML calls exactly `nvml_name`; raises UnknownGpu with the product names that are near."""
    try:
        return _BY_NVML_NAME[nvml_name]
    except KeyError:
        raise UnknownGpu(unknown("GPU", nvml_name, _BY_NVML_NAME, listed_by=f"{LISTED_BY} --json")) from None
