"""Which implementations there are of each op, and for which dtypes and architectures, as data."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from kernels import eager

HAS_TRITON = importlib.util.find_spec("triton") is not None


@dataclass(frozen=True, slots=True)
class Implementation:
    """One way to compute `op` in any of `dtypes`; `architectures` is empty where PyTorch decides."""

    op: str
    name: str
    dtypes: tuple[str, ...]
    architectures: tuple[int, ...]
    run: Callable[..., Tensor]


_FLOATS = ("fp64", "fp32", "bf16", "fp16")
_HALVES = ("bf16", "fp16")  # what every fused CUDA backend takes; a CPU's flash backend takes fp32 too

_EAGER = (
    Implementation("matmul", "torch", _FLOATS, (), eager.matmul),
    Implementation("matmul", "torch", ("tf32",), (), eager.matmul_tf32),
    Implementation("attention_prefill", "sdpa_flash", _HALVES, (), eager.attention_prefill_sdpa_flash),
    Implementation("attention_prefill", "sdpa_cudnn", _HALVES, (), eager.attention_prefill_sdpa_cudnn),
    Implementation(
        "attention_prefill", "sdpa_efficient", ("fp32", *_HALVES), (), eager.attention_prefill_sdpa_efficient
    ),
    Implementation("attention_prefill", "sdpa_math", _FLOATS, (), eager.attention_prefill_sdpa_math),
    Implementation("attention_prefill", "naive", _FLOATS, (), eager.attention_prefill_naive),
    Implementation("attention_decode", "sdpa_flash", _HALVES, (), eager.attention_decode_sdpa_flash),
    Implementation("attention_decode", "sdpa_cudnn", _HALVES, (), eager.attention_decode_sdpa_cudnn),
    Implementation("attention_decode", "sdpa_efficient", ("fp32", *_HALVES), (), eager.attention_decode_sdpa_efficient),
    Implementation("attention_decode", "sdpa_math", _FLOATS, (), eager.attention_decode_sdpa_math),
    Implementation("attention_decode", "naive", _FLOATS, (), eager.attention_decode_naive),
    Implementation("generate_cached", "torch", _FLOATS, (), eager.generate_cached),
    Implementation("generate_uncached", "torch", _FLOATS, (), eager.generate_uncached),
    Implementation("stream_read", "torch", _FLOATS, (), eager.stream_read),
    Implementation("stream_read", "torch_dot", ("fp64", "fp32"), (), eager.stream_read_dot),
    Implementation("stream_write", "torch", _FLOATS, (), eager.stream_write),
    Implementation("stream_copy", "torch", _FLOATS, (), eager.stream_copy),
    Implementation("stream_triad", "torch", _FLOATS, (), eager.stream_triad),
    Implementation("launch", "torch", ("fp32",), (), eager.launch),
)


def list_implementations() -> tuple[Implementation, ...]:
    """All implementations that can be imported here: PyTorch's everywhere, Triton's where Triton is installed."""
    return _EAGER + _list_triton() if HAS_TRITON else _EAGER


def _list_triton() -> tuple[Implementation, ...]:
    from kernels import attention, decode, generation, launch, matmul, stream  # noqa: PLC0415  (import Triton)

    matmul_dtypes = tuple(dtype for dtype in matmul.SUPPORTED_DTYPES if dtype != "tf32")
    rows: list[tuple[str, Any, tuple[str, ...], Callable[..., Tensor]]] = [
        ("matmul", matmul, matmul_dtypes, matmul.matmul),
        ("matmul", matmul, ("tf32",), matmul.matmul_tf32),
        ("attention_prefill", attention, attention.SUPPORTED_DTYPES, attention.attention_prefill),
        ("attention_decode", decode, decode.SUPPORTED_DTYPES, decode.attention_decode),
        ("generate_cached", generation, generation.SUPPORTED_DTYPES, generation.generate_cached),
        ("generate_uncached", generation, generation.SUPPORTED_DTYPES, generation.generate_uncached),
        ("stream_read", stream, stream.SUPPORTED_DTYPES, stream.stream_read),
        ("stream_write", stream, stream.SUPPORTED_DTYPES, stream.stream_write),
        ("stream_copy", stream, stream.SUPPORTED_DTYPES, stream.stream_copy),
        ("stream_triad", stream, stream.SUPPORTED_DTYPES, stream.stream_triad),
        ("launch", launch, launch.SUPPORTED_DTYPES, launch.launch),
    ]
    return tuple(
        Implementation(op, "triton", dtypes, module.SUPPORTED_ARCHITECTURES, run) for op, module, dtypes, run in rows
    )
