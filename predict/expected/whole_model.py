"""How far expected times of whole models are from published measurements."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class Measured(StrEnum):
    """What was measured."""

    TPOT = "tpot"  # a decode step
    TTFT = "ttft"  # a prompt, with the server's queue
    STATIC = "static"  # one batch from its prompts to its last tokens
    IN_FLIGHT = "in-flight"  # a server under continuous batching
    TRAINING = "training"  # a training step


SOURCE = (
    "median of |expected / measured - 1| over measurements of dense models on A100 and H100 that others published: "
    "gpt-fast (README), GPUStack (performance lab, vLLM), NVIDIA NIM (benchmarks 1.0.0), TensorRT-LLM (performance "
    "pages of v0.5 and v0.6.1)"
)
MEDIAN_ERROR: Mapping[Measured, float] = MappingProxyType(
    {
        Measured.TPOT: 0.064,
        Measured.TTFT: 0.227,
        Measured.STATIC: 0.109,
        Measured.IN_FLIGHT: 0.072,
        Measured.TRAINING: 0.046,
    }
)
