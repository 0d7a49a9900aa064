"""A tiny workload of every op that has a Triton kernel of ours: the interpreter computes one in well under a second."""

from predict.units import find_dtype
from predict.workloads import Workload, make_workload

_HEADS = {"heads": 4, "kv_heads": 2, "head_dim": 64}
_BLOCK = {**_HEADS, "inner": 96}

_DIMS = {
    "launch": {},
    "stream_read": {"n": 5000},
    "stream_write": {"n": 5000},
    "stream_copy": {"n": 5000},
    "stream_triad": {"n": 5000},
    "matmul": {"m": 3, "n": 64, "k": 1024},
    "matmul_scaled": {"m": 3, "n": 64, "k": 1024},
    "matmul_w8a16": {"m": 3, "n": 64, "k": 1024},
    "matmul_w4a16": {"m": 3, "n": 64, "k": 1024},
    "rmsnorm": {"rows": 3, "cols": 100},
    "add_rmsnorm": {"rows": 3, "cols": 100},
    "softmax": {"rows": 3, "cols": 100},
    "swiglu": {"rows": 3, "cols": 100},
    "rope": {"tokens": 3, "heads": 4, "head_dim": 64},
    "linear_backward": {"m": 40, "n": 24, "k": 72},
    "attention_prefill": {"batch": 1, "seq": 70, **_HEADS},
    "attention_full": {"batch": 1, "seq": 70, **_HEADS},
    "attention_window": {"batch": 1, "seq": 70, "window": 20, **_HEADS},
    "attention_packed": {"sequences": 2, "tokens": 70, **_HEADS},
    "attention_chunk": {"batch": 1, "queries": 20, "context": 600, **_HEADS},
    "attention_backward": {"batch": 1, "seq": 70, **_HEADS},
    "attention_decode": {"batch": 1, "context": 600, **_HEADS},
    "attention_decode_fp8": {"batch": 1, "context": 600, **_HEADS},
    "attention_paged": {"batch": 2, "context": 64, "page": 16, **_HEADS},
    "attention_mla": {"batch": 1, "context": 100, "heads": 16, "latent": 64, "rope": 16},
    "generate_cached": {"batch": 1, "context": 100, **_HEADS},
    "generate_uncached": {"batch": 1, "context": 40, **_HEADS},
    "block_forward": {"batch": 1, "seq": 20, **_BLOCK},
    "block_decode": {"batch": 1, "context": 100, **_BLOCK},
}
_DTYPES = {"launch": "fp32", "matmul_scaled": "int8"}  # the rest in fp16: the interpreter's bf16 products are wrong

OPS = tuple(_DIMS)


def tiny_workload(op: str) -> Workload:
    """The workload of an op."""
    return make_workload(op, _DIMS[op], find_dtype(_DTYPES.get(op, "fp16")))
