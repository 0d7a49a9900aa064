"""What ships of plain kernels, by GPU, op and format: truths for made-up times."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from predict.expected.calibrations import same_rates, shipped
from predict.expected.time_model import Calibration
from predict.units import DType


def _plain() -> Iterator[tuple[tuple[str, str, str], Calibration]]:
    # The best measured comes last, and of equals the first of the file, as in `find_known`.
    for _, each in sorted(enumerate(shipped()), key=lambda placed: (placed[1].rows, -placed[0])):
        if not each.window and each.cache in (None, "bf16"):
            yield (each.gpu, each.calibration.op, each.format), each.calibration


# (GPU, op, format) -> what was measured on it, with a cache in 16 bits and without a window.
CALIBRATIONS: Mapping[tuple[str, str, str], Calibration] = MappingProxyType(dict(_plain()))


def find_calibration(gpu: str, op: str, dtype: DType) -> Calibration:
    """The calibration of `op` in `dtype` on the GPU called `gpu`."""
    return CALIBRATIONS[gpu, op, same_rates(dtype.name)]
