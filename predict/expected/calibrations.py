"""Shipped calibrations: constants of expected time for GPUs whose kernels others have measured and published.

Each calibration comes from at most 16 rows of a public table. The rows are chosen by their dimensions alone.
`python -m reports validate` repeats the fit and reports the error on the rest of the table. Without a calibration there
is no expected time.
"""

from collections.abc import Mapping
from types import MappingProxyType

from predict.expected.time_model import Calibration, Constants, Switches
from predict.units import DType

AICONFIGURATOR = "measured by NVIDIA, ai-dynamo/aiconfigurator 095f58a, Apache-2.0"

PROBES = 16  # measured rows per calibration

# (GPU, op, compute or message format) -> (table, constants, switches).
_FITTED: Mapping[tuple[str, str, str], tuple[str, Constants, Switches]] = {
    ("a100-sxm-80gb", "matmul", "bf16"): (
        "a100-sxm_gemm_vllm-0.14.0, vllm_default",
        {"launch_s": 2.697e-06, "math_share": 0.9194, "dram_share": 0.7603, "tile_edge": 157.2, "join_s": 2.228e-06},
        {"whole_waves": True, "fixed_tiles": False, "hidden_by_launch": False},
    ),
    ("h100-sxm", "matmul", "bf16"): (
        "h100-sxm_gemm_vllm-0.24.0, torch.nn.functional.linear",
        {"launch_s": 2.365e-06, "math_share": 0.839, "dram_share": 0.8754, "tile_edge": 121.4, "join_s": 2.46e-06},
        {"whole_waves": False, "fixed_tiles": False, "hidden_by_launch": False},
    ),
    ("h100-sxm", "matmul", "fp8"): (
        "h100-sxm_gemm_vllm-0.24.0, CutlassFP8ScaledMMLinearKernel",
        {
            "launch_s": 4.766e-06,
            "math_share": 0.8181,
            "dram_share": 0.8065,
            "tile_edge": 115.1,
            "join_s": 2.5e-06,
            "token_s": 4.617e-09,
            "narrow_bytes": 3.935,
        },
        {"whole_waves": False, "fixed_tiles": True, "hidden_by_launch": False},
    ),
    ("a100-sxm-80gb", "attention_prefill", "bf16"): (
        "a100-sxm_prefill_vllm-0.14.0, vllm_flash_attn",
        {
            "launch_s": 8.632e-06,
            "math_share": 0.626,
            "dram_share": 0.7483,
            "tile_s": 8.155e-07,
            "combine_s": 3e-06,
            "write_bytes_per_s": 3.825e11,
            "overlap": 1.39,
            "l2_gain": 1.127,
        },
        {"packs_groups": False, "splits_keys": False, "caps_write": True},
    ),
    ("h100-sxm", "attention_prefill", "bf16"): (
        "h100-sxm_prefill_vllm-0.24.0, vllm_flash_attn_fa3",
        {
            "launch_s": 1.114e-05,
            "math_share": 0.8499,
            "dram_share": 0.9339,
            "tile_s": 2.282e-06,
            "combine_s": 5.404e-06,
            "write_bytes_per_s": 1.005e12,
            "overlap": 1.113,
            "l2_gain": 1.214,
        },
        {"packs_groups": True, "splits_keys": True, "caps_write": True},
    ),
    ("a100-sxm-80gb", "attention_decode", "bf16"): (
        "a100-sxm_decode_vllm-0.14.0, vllm_flash_attn",
        {
            "launch_s": 8.762e-06,
            "dram_share": 0.8966,
            "tile_s": 8.434e-07,
            "stream_bytes_per_s": 2.316e10,
            "combine_s": 5.828e-06,
            "layout_s": 5.505e-06,
            "sequence_s": 1.466e-09,
            "l2_gain": 1.275,
        },
        {"splits_keys": True, "splits_mha": False},
    ),
    ("h100-sxm", "attention_decode", "bf16"): (
        "h100-sxm_decode_vllm-0.24.0, vllm_flash_attn_fa3",
        {
            "launch_s": 1.01e-05,
            "dram_share": 0.9671,
            "tile_s": 1.939e-06,
            "stream_bytes_per_s": 7.278e10,
            "combine_s": 1.675e-06,
            "layout_s": 3.108e-07,
            "sequence_s": 1.054e-08,
            "l2_gain": 1.451,
        },
        {"splits_keys": True, "splits_mha": True},
    ),
    ("a100-sxm-80gb", "all_reduce", "bf16"): (
        "a100-sxm_nccl-2.27.3, NCCL",
        {
            "start_s": 8.011e-06,
            "step_s": 1.864e-06,
            "link_share": 0.8427,
            "shard_share": 0.305,
            "doubling_share": 0.9758,
            "fill_s": 5.238e-06,
        },
        {"tree": False},
    ),
    ("h100-sxm", "all_reduce", "bf16"): (
        "h100-sxm_nccl-2.29.2, NCCL",
        {
            "start_s": 4.349e-06,
            "step_s": 1.607e-06,
            "link_share": 0.8833,
            "shard_share": 0.2989,
            "doubling_share": 1.071,
            "fill_s": 3.831e-06,
        },
        {"tree": False},
    ),
}

CALIBRATIONS: Mapping[tuple[str, str, str], Calibration] = MappingProxyType(
    {
        key: Calibration(key[1], constants, switches, PROBES, f"{table}; {AICONFIGURATOR}")
        for key, (table, constants, switches) in _FITTED.items()
    }
)


def find_calibration(gpu: str, op: str, dtype: DType) -> Calibration | None:
    """Return the calibration of `op` in `dtype` on the GPU called `gpu`, or None."""
    return CALIBRATIONS.get((gpu, op, same_rates(dtype)))


def same_rates(dtype: DType) -> str:
    """Name of the format whose calibration applies to `dtype`: fp16 runs at the rates of bf16."""
    return "bf16" if dtype.name == "fp16" else dtype.name
