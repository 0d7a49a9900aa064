"""Which implementations there are of each op, with their devices, dtypes and architectures, as data."""

import functools
import importlib.util
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor
from torch.nn.attention import SDPBackend

from kernels import eager, peers, reference
from kernels.constants import EIGHT_BIT

HAS_TRITON = importlib.util.find_spec("triton") is not None

EVERYWHERE = ("cuda", "cpu")
CUDA = ("cuda",)
CPU = ("cpu",)

Result = Tensor | tuple[Tensor, ...]

FLOATS = ("fp64", "fp32", "bf16", "fp16")
TO_FP32 = ("fp32", "bf16", "fp16")  # fused backends; which of them a device really takes, PyTorch says when asked
HALF = ("bf16", "fp16")


def _always(config: Any, dims: Mapping[str, int]) -> bool:  # noqa: ARG001  (of every configuration)
    return True


@dataclass(frozen=True, slots=True)
class Implementation:
    """One way to compute `op` in any of `dtypes`, and the function of `kernels.reference` that says what is right.

    `devices` are those it is measured on: Triton's interpreter runs on a CPU too, for tests. `architectures` is empty
    where PyTorch decides. `configs` are what a Triton launcher takes as `config`, by name; what it takes where none is
    given is its own choice. `contends` says of a configuration and dimensions whether a tuner need try it.

    `prepare` turns the op's inputs into what `run` takes, where that is another format: a weight packed otherwise. It
    is called once for each set of inputs, before checking and timing, and is never timed. It leaves its arguments
    alone, which other implementations are given too, and keeps a given output in its place. `package` is what is
    installed to have this implementation, as package indices name it.
    """

    op: str
    name: str
    run: Callable[..., Result]
    reference: Callable[..., Result]
    dtypes: tuple[str, ...] = FLOATS
    devices: tuple[str, ...] = EVERYWHERE
    architectures: tuple[int, ...] = ()
    configs: Mapping[str, Any] = field(default_factory=dict)
    contends: Callable[[Any, Mapping[str, int]], bool] = _always
    prepare: Callable[..., tuple[Tensor, ...]] | None = None
    package: str = "torch"


_EAGER = (
    Implementation("matmul", "torch", eager.matmul, reference.matmul),
    Implementation("matmul", "torch", eager.matmul_tf32, reference.matmul, ("tf32",), CUDA),
    Implementation("matmul", "torch_transposed", eager.matmul_transposed, reference.matmul, FLOATS, CPU),
    Implementation("matmul_scaled", "torch", eager.matmul_scaled, reference.matmul_scaled, ("fp8",)),
    Implementation("matmul_scaled", "torch", eager.matmul_scaled_int8, reference.matmul_scaled, ("int8",)),
    Implementation(
        "matmul_scaled",
        "torch_fast_accum",
        functools.partial(eager.matmul_scaled, fast_accum=True),
        reference.matmul_scaled,
        ("fp8",),
        CUDA,
    ),
    Implementation("matmul_w8a16", "torch_dequantize", eager.matmul_w8a16_dequantize, reference.matmul_w8a16, HALF),
    Implementation("matmul_w8a16", "torch_int8pack", eager.matmul_w8a16_int8pack, reference.matmul_w8a16, HALF, CPU),
    Implementation("matmul_w4a16", "torch_dequantize", eager.matmul_w4a16_dequantize, reference.matmul_w4a16, HALF),
    Implementation(
        "matmul_w4a16",
        "torch_int4pack",
        eager.matmul_w4a16_int4pack,
        reference.matmul_w4a16,
        HALF,
        CPU,
        prepare=eager.prepare_int4pack,
    ),
    Implementation("rmsnorm", "torch", eager.rmsnorm, reference.rmsnorm),
    Implementation("add_rmsnorm", "torch", eager.add_rmsnorm, reference.add_rmsnorm),
    Implementation("softmax", "torch", eager.softmax, reference.softmax),
    Implementation("swiglu", "torch", eager.swiglu, reference.swiglu),
    Implementation("rope", "torch", eager.rope, reference.rope),
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

_TINYGEMM = Implementation(
    "matmul_w4a16",
    "tinygemm",
    peers.tinygemm,
    reference.matmul_w4a16,
    ("bf16",),
    CUDA,
    prepare=peers.prepare_tinygemm,
)

_COMPILED = tuple(
    Implementation(op, "torch_compile", run, getattr(reference, op), dtypes, CUDA)
    for op, run, dtypes in (
        ("matmul_scaled", peers.compiled_scaled_int8, ("int8",)),
        ("matmul_w8a16", peers.compiled_w8a16, HALF),
        ("rmsnorm", peers.compiled_rmsnorm, FLOATS),
        ("add_rmsnorm", peers.compiled_add_rmsnorm, FLOATS),
        ("softmax", peers.compiled_softmax, FLOATS),
        ("swiglu", peers.compiled_swiglu, FLOATS),
        ("rope", peers.compiled_rope, FLOATS),
    )
)

_LIGER = (
    *(
        Implementation(op, "liger", run, getattr(reference, op), TO_FP32, CUDA, package="liger-kernel")
        for op, run in (
            ("rmsnorm", peers.liger_rmsnorm),
            ("add_rmsnorm", peers.liger_add_rmsnorm),
            ("softmax", peers.liger_softmax),
            ("swiglu", peers.liger_swiglu),
        )
    ),
    Implementation(
        "rope",
        "liger",
        peers.liger_rope,
        peers.rope_of_q_and_k,
        TO_FP32,
        CUDA,
        prepare=peers.prepare_liger_rope,
        package="liger-kernel",
    ),
)

_QUACK = tuple(
    Implementation(op, "quack", run, getattr(reference, op), dtypes, CUDA, package="quack-kernels")
    for op, run, dtypes in (
        ("matmul", peers.quack_matmul, HALF),
        ("rmsnorm", peers.quack_rmsnorm, TO_FP32),
        ("add_rmsnorm", peers.quack_add_rmsnorm, TO_FP32),
        ("softmax", peers.quack_softmax, TO_FP32),
    )
)


def list_implementations() -> tuple[Implementation, ...]:
    """All implementations that can be imported here: PyTorch's everywhere; where Triton is installed, ours and what
    torch.compile makes, which needs it; those of optional packages that are installed."""
    return (
        *_EAGER,
        _TINYGEMM,
        *(_COMPILED + _list_triton() if HAS_TRITON else ()),
        *(_LIGER if peers.is_installed("liger-kernel") else ()),
        *(_QUACK if peers.is_installed("quack-kernels") else ()),
    )


def _list_triton() -> tuple[Implementation, ...]:
    from kernels import (  # noqa: PLC0415  (import Triton)
        attention,
        decode,
        generation,
        launch,
        matmul,
        quantized,
        rowwise,
        stream,
    )

    return (
        replace(_triton("matmul", matmul, matmul.matmul), dtypes=("fp32", "bf16", "fp16")),
        replace(_triton("matmul", matmul, matmul.matmul_tf32), dtypes=("tf32",)),
        replace(_triton("matmul_scaled", matmul, matmul.matmul_scaled), dtypes=EIGHT_BIT),
        _triton("matmul_w8a16", quantized, quantized.matmul_w8a16),
        _triton("matmul_w4a16", quantized, quantized.matmul_w4a16),
        _triton("rmsnorm", rowwise, rowwise.rmsnorm),
        _triton("add_rmsnorm", rowwise, rowwise.add_rmsnorm),
        _triton("softmax", rowwise, rowwise.softmax),
        _triton("swiglu", rowwise, rowwise.swiglu),
        _triton("rope", rowwise, rowwise.rope),
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
    """A row for a Triton kernel, with the dtypes, architectures and configurations that its module declares."""
    dtypes = tuple(dtype for dtype in module.SUPPORTED_DTYPES if dtype != "tf32")  # tf32 has functions of its own
    takes_config = "config" in inspect.signature(run).parameters
    configs = {each.name: each for each in getattr(module, "CONFIGS", ()) if takes_config}
    return Implementation(
        op,
        name,
        run,
        getattr(reference, op),
        dtypes,
        CUDA,
        module.SUPPORTED_ARCHITECTURES,
        configs,
        contends=getattr(module, "contends", _always),
        package="triton",
    )
