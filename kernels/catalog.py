"""Which implementations there are of each op, with their devices, dtypes and architectures, as data."""

import functools
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor
from torch.nn.attention import SDPBackend

from kernels import eager, reference

HAS_TRITON = importlib.util.find_spec("triton") is not None

EVERYWHERE = ("cuda", "cpu")
CUDA = ("cuda",)
CPU = ("cpu",)

Result = Tensor | tuple[Tensor, ...]

FLOATS = ("fp64", "fp32", "bf16", "fp16")
TO_FP32 = ("fp32", "bf16", "fp16")  # fused backends; which of them a device really takes, PyTorch says when asked


@dataclass(frozen=True, slots=True)
class Implementation:
    """One way to compute `op` in any of `dtypes`, and the function of `kernels.reference` that says what is right.

    `devices` are those it is measured on: Triton's interpreter runs on a CPU too, for tests. `architectures` is empty
    where PyTorch decides.
    """

    op: str
    name: str
    run: Callable[..., Result]
    reference: Callable[..., Result]
    dtypes: tuple[str, ...] = FLOATS
    devices: tuple[str, ...] = EVERYWHERE
    architectures: tuple[int, ...] = ()


_EAGER = (
    Implementation("matmul", "torch", eager.matmul, reference.matmul),
    Implementation("matmul", "torch", eager.matmul_tf32, reference.matmul, ("tf32",), CUDA),
    Implementation("matmul", "torch_transposed", eager.matmul_transposed, reference.matmul, FLOATS, CPU),
    *(
        Implementation(op, name, functools.partial(sdpa, backend=backend), meaning, dtypes, devices)
        for op, sdpa, meaning in (
            ("attention_prefill", eager.attention_prefill_sdpa, reference.attention_prefill),
            ("attention_decode", eager.attention_decode_sdpa, reference.attention_decode),
        )
        for name, backend, dtypes, devices in (
            ("sdpa_flash", SDPBackend.FLASH_ATTENTION, TO_FP32, EVERYWHERE),
            ("sdpa_cudnn", SDPBackend.CUDNN_ATTENTION, TO_FP32, CUDA),
            ("sdpa_efficient", SDPBackend.EFFICIENT_ATTENTION, TO_FP32, CUDA),
            ("sdpa_math", SDPBackend.MATH, FLOATS, EVERYWHERE),
        )
    ),
    Implementation("attention_prefill", "naive", eager.attention_prefill_naive, reference.attention_prefill),
    Implementation("attention_decode", "naive", eager.attention_decode_naive, reference.attention_decode),
    Implementation("generate_cached", "torch", eager.generate_cached, reference.generate_cached),
    Implementation("generate_uncached", "torch", eager.generate_uncached, reference.generate_uncached),
    Implementation("stream_read", "torch", eager.stream_read, reference.stream_read),
    Implementation("stream_read", "torch_dot", eager.stream_read_dot, reference.stream_read_dot, ("fp64", "fp32")),
    Implementation("stream_write", "torch", eager.stream_write, reference.stream_write),
    Implementation("stream_copy", "torch", eager.stream_copy, reference.stream_copy),
    Implementation("stream_triad", "torch", eager.stream_triad, reference.stream_triad),
    Implementation("launch", "torch", eager.launch, reference.launch, ("fp32",)),
)


def list_implementations() -> tuple[Implementation, ...]:
    """All implementations that can be imported here: PyTorch's everywhere, Triton's where Triton is installed."""
    return _EAGER + _list_triton() if HAS_TRITON else _EAGER


def _list_triton() -> tuple[Implementation, ...]:
    from kernels import attention, decode, generation, launch, matmul, stream  # noqa: PLC0415  (import Triton)

    return (
        _triton("matmul", matmul, matmul.matmul),
        replace(_triton("matmul", matmul, matmul.matmul_tf32), dtypes=("tf32",)),
        _triton("attention_prefill", attention, attention.attention_prefill),
        _triton("attention_decode", decode, decode.attention_decode),
        _triton("generate_cached", generation, generation.generate_cached),
        _triton("generate_uncached", generation, generation.generate_uncached),
        _triton("stream_read", stream, stream.stream_read),
        _triton("stream_write", stream, stream.stream_write),
        _triton("stream_copy", stream, stream.stream_copy),
        _triton("stream_triad", stream, stream.stream_triad),
        _triton("launch", launch, launch.launch),
    )


def _triton(op: str, module: Any, run: Callable[..., Result], name: str = "triton") -> Implementation:
    """A row for a Triton kernel, with the dtypes and architectures that its module declares."""
    dtypes = tuple(dtype for dtype in module.SUPPORTED_DTYPES if dtype != "tf32")  # tf32 has functions of its own
    return Implementation(op, name, run, getattr(reference, op), dtypes, CUDA, module.SUPPORTED_ARCHITECTURES)
