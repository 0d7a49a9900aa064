"""Shapes whose measured times calibrate an op. A live run measures them; published tables are searched for them.

They were chosen by their dimensions alone, before any measurement.
"""

from collections.abc import Mapping
from types import MappingProxyType

from predict.units import DType
from predict.workloads import Workload, dim_names, make_workload

# m, n, k, and what each row determines. If a table lacks a shape, the unused shape nearest in log2 of m, n, k counts.
MATMUL_PROBES = (
    (16, 256, 128), (128, 256, 512),  # launch
    (16, 8192, 4096), (32, 16384, 2048), (64, 4096, 12288),  # DRAM
    (32, 1024, 8192), (128, 512, 16384), (256, 1024, 8192),  # join; fixed_tiles
    (256, 3072, 4096), (512, 4096, 2048), (1024, 1024, 1024),  # tile_edge; whole_waves
    (2048, 4096, 512), (4096, 6144, 4096), (8192, 8192, 8192),  # tile_edge, math
    (8192, 256, 2048), (4096, 512, 8192),  # narrowing; A beyond L2
)  # fmt: skip

# Selected by `reports.calibration.fit.choose_probes`, in its order, for bf16 on an h100-sxm. Heads, KV heads and
# head_dim are those of Llama-3-8B, Llama-3-70B, an eighth of Llama-3-70B (tensor parallelism), Llama-2-7B, GPT-2-small.
# Prefill, of 191 shapes: batch 1 to 32, seq 64 to 16384 in powers of two, at most 16384 tokens and 2^32 scores.
PREFILL_PROBES = (  # batch, seq, heads, kv_heads, head_dim
    (2, 256, 32, 8, 128), (8, 1024, 32, 8, 128), (32, 256, 12, 12, 64), (2, 4096, 8, 1, 128),
    (1, 64, 12, 12, 64), (16, 256, 32, 32, 128), (2, 4096, 12, 12, 64), (8, 128, 8, 1, 128),
    (32, 128, 64, 8, 128), (1, 8192, 64, 8, 128), (2, 2048, 32, 32, 128), (16, 64, 32, 8, 128),
    (4, 512, 64, 8, 128), (1, 64, 8, 1, 128), (4, 512, 12, 12, 64), (4, 128, 32, 32, 128),
)  # fmt: skip
# Decode, of 374 shapes: batch 1 to 256, context 128 and 512 to 131072 in powers of two, a cache of at most 4 GiB.
DECODE_PROBES = (  # batch, context, heads, kv_heads, head_dim
    (4, 8192, 64, 8, 128), (2, 16384, 8, 1, 128), (4, 128, 32, 8, 128), (1, 65536, 12, 12, 64),
    (16, 16384, 12, 12, 64), (128, 1024, 64, 8, 128), (2, 512, 64, 8, 128), (1, 65536, 32, 8, 128),
    (128, 128, 32, 32, 128), (64, 32768, 8, 1, 128), (8, 2048, 32, 32, 128), (16, 1024, 8, 1, 128),
    (32, 128, 64, 8, 128), (2, 1024, 12, 12, 64), (64, 2048, 12, 12, 64), (8, 65536, 64, 8, 128),
)  # fmt: skip

PROBES: Mapping[str, tuple[tuple[int, ...], ...]] = MappingProxyType(
    {"matmul": MATMUL_PROBES, "attention_prefill": PREFILL_PROBES, "attention_decode": DECODE_PROBES}
)


def probe_workloads(op: str, dtype: DType) -> tuple[Workload, ...]:
    """The probes of `op` in `dtype`; empty for an op that is not calibrated."""
    names = dim_names(op)
    return tuple(make_workload(op, dict(zip(names, shape, strict=True)), dtype) for shape in PROBES.get(op, ()))
