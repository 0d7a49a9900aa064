"""What whole models take beside their kernels, and how far their expected times are from public measurements.

A pass is the sum of its kernels. A server adds the host's work and what kernels lose in a long run; an engine of 2023
reads a cache again for the query heads that share it. These constants are at most two for each kind of measurement, and
come from the measurements of `SOURCE` alone.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from predict.workloads import Number


class Measured(StrEnum):
    """What was measured."""

    TPOT = "tpot"  # a decode step
    TTFT = "ttft"  # a prompt, with the server's queue
    STATIC = "static"  # one batch from its prompts to its last tokens
    IN_FLIGHT = "in-flight"  # a server under continuous batching
    TRAINING = "training"  # a training step


SOURCE = (
    "median of |expected / measured - 1| over measurements that others published, of models of 7B to 671B on A100, "
    "H100, H200, B200, GB200 and RTX PRO 6000: gpt-fast (README), GPUStack (performance lab), NVIDIA NIM (benchmarks "
    "1.0.0), vLLM (performance benchmark), TensorRT-LLM (performance pages of v0.5, v0.6.1, 1.0, and of DeepSeek-R1)"
)
# On all GPUs together, by what was measured, and by GPU where it was measured twice at least: as `reports validate
# --endtoend` prints them for these measurements.
MEDIAN_ERROR: Mapping[Measured, float] = MappingProxyType(
    {
        Measured.TPOT: 0.054,
        Measured.TTFT: 0.084,
        Measured.STATIC: 0.065,
        Measured.IN_FLIGHT: 0.089,
        Measured.TRAINING: 0.046,
    }
)
MEDIAN_ERROR_ON: Mapping[tuple[Measured, str], float] = MappingProxyType(
    {
        (Measured.TPOT, "a100-sxm-80gb"): 0.042,
        (Measured.TPOT, "h100-sxm"): 0.055,
        (Measured.TTFT, "a100-sxm-80gb"): 0.057,
        (Measured.TTFT, "h100-sxm"): 0.124,
        (Measured.TRAINING, "a100-sxm-40gb"): 0.032,
        (Measured.TRAINING, "a100-sxm-80gb"): 0.041,
        (Measured.TRAINING, "h100-sxm"): 0.067,
        (Measured.TRAINING, "b200"): 0.237,
        (Measured.TRAINING, "gb200"): 0.176,
    }
)
POOR = "a poor guess"  # of kernels that were measured on another architecture alone

# A step of a server: kernels run at this share of the rates that they reach alone, because clocks fall under a load
# that lasts, and caches hold less; and the host samples, schedules and sends each request's token.
SUSTAINED = 0.94
TOKEN_S = 11e-6
# A request's way to its first token: in the engine, and through a server's process, its tokenizer and queue.
REQUEST_S = 3e-3
SERVED_S = 32e-3
# The static batches that are published ran in 2023: decode attention read the cache again for this share of the further
# query heads of a group. L2 served the others.
REREAD = 0.75


def error_text(measured: Measured, gpu: str, *, is_poor: bool) -> str:
    """How far such times are off on the GPU called `gpu`: +-5 %; a poor guess."""
    if is_poor:
        return POOR
    return f"+-{100 * MEDIAN_ERROR_ON.get((measured, gpu), MEDIAN_ERROR[measured]):.0f} %"


def server_step_s(kernels_s: Number, requests: Number) -> Number:
    """Time of a step of a server whose kernels alone take `kernels_s`, with `requests` that get a token."""
    return kernels_s / SUSTAINED + requests * TOKEN_S
