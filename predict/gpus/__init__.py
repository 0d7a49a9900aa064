"""The GPU table: dense peaks, memory and links, a source beside each number."""

from predict.gpus.gpu import (
    Architecture,
    Gpu,
    Memory,
    NvidiaGpu,
    held_clock_roofs,
    physical_roofs,
    ridge_flop_per_byte,
)
from predict.gpus.lookup import find_gpu, resolve, resolve_all
from predict.gpus.table import GPUS, NVIDIA_GPUS

__all__ = [
    "GPUS",
    "NVIDIA_GPUS",
    "Architecture",
    "Gpu",
    "Memory",
    "NvidiaGpu",
    "find_gpu",
    "held_clock_roofs",
    "physical_roofs",
    "resolve",
    "resolve_all",
    "ridge_flop_per_byte",
]
