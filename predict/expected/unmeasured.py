"""Expected time of a kernel that has no form: its launches, and its bytes and FLOP at the shares of the roofs that the
GPU's matmuls in 16 bits reach, whichever takes longer."""

import numpy as np
from numpy.typing import ArrayLike

from predict.expected.calibrations import Known, find_known
from predict.expected.time_model import Machine, Terms
from predict.gpus import Gpu
from predict.model.storage import wide_format


def find_plain(gpu: Gpu) -> Known:
    """The matmul in 16 bits, whose launch and shares of the roofs stand in for those of unmeasured kernels. Raises
    MissingCeiling."""
    return find_known(gpu, "matmul", wide_format(gpu).name)


def unmeasured_terms(gpu: Gpu, moved: ArrayLike, flop: ArrayLike = 0.0, launches: float = 1.0) -> Terms:
    """Time of kernels that move `moved` bytes each, in any shape. Raises MissingCeiling."""
    machine, constants = Machine.of(gpu, wide_format(gpu)), find_plain(gpu).calibration.constants
    moved_s = np.atleast_1d(np.asarray(moved) / (machine.bytes_per_s * constants["dram_share"]))
    computed_s = np.atleast_1d(np.asarray(flop) / (machine.flop_per_s * constants["math_share"]))
    launch_s = np.full_like(moved_s, launches * constants["launch_s"])
    parts = {"launch": launch_s, "dram": moved_s, "math": computed_s}
    return Terms(launch_s + np.maximum(moved_s, computed_s), parts)
