"""A tiny workload of every op: Triton's interpreter computes one in well under a second."""

from kernels.catalog import list_implementations
from predict.expert_rows import RULES
from predict.serving_loop import RULES as SERVING
from predict.units import find_dtype
from predict.workloads import Workload, dim_names, make_workload

_SIZES = {
    "batch": 1, "seq": 70, "context": 600, "heads": 4, "kv_heads": 2, "head_dim": 64, "inner": 96,
    "window": 20, "queries": 20, "sequences": 2, "page": 16, "latent": 64, "rope": 16,
    "m": 3, "n": 64, "k": 1024, "rows": 3, "cols": 100, "tokens": 3,
}  # fmt: skip
# Where an op is tiny at other sizes.
_OWN_SIZES = {
    **{op: {"n": 5000} for op in ("stream_read", "stream_write", "stream_copy", "stream_triad")},
    "linear_backward": {"m": 40, "n": 24, "k": 72},
    **{op: {"tokens": 25, "experts": 3, "active": 2, "n": 72, "k": 104} for op in RULES},
    "attention_packed": {"tokens": 70},
    "attention_paged": {"batch": 2, "context": 64},
    "attention_mla": {"context": 100, "heads": 16},
    "generate_cached": {"context": 100},
    "generate_uncached": {"context": 40},
    "block_forward": {"seq": 20},
    "block_train": {"seq": 20},
    "block_decode": {"context": 100},
    **{op: {"slots": 2, "requests": 5, "long": 4, "short": 2, "context": 20} for op in SERVING},
    "generate_tokens": {"context": 20, "tokens": 5, "layers": 2},
    "generate_drafted": {"context": 20, "tokens": 5, "layers": 2, "guesses": 2, "accepted": 60},
    "model_forward": {"seq": 20, "layers": 2, "vocab": 50},
    "model_decode": {"context": 100, "layers": 2, "vocab": 50},
}
_DTYPES = {"launch": "fp32", "matmul_scaled": "int8"}  # the rest in fp16: the interpreter's bf16 products are wrong

OURS = tuple(dict.fromkeys(row.op for row in list_implementations() if row.name == "triton"))


def tiny_workload(op: str, dtype: str | None = None) -> Workload:
    """The workload of an op."""
    sizes = _SIZES | _OWN_SIZES.get(op, {})
    dims = {name: sizes.get(name, 16) for name in dim_names(op)}
    return make_workload(op, dims, find_dtype(dtype or _DTYPES.get(op, "fp16")))
