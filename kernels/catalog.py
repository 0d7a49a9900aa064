"""Lists the implementations of all ops, from the lists at the end of the modules."""

import importlib.util
import inspect
import sys
from typing import Any

from kernels.constants import EIGHT_BIT
from kernels.implementation import CUDA, HALF, Implementation, always
from kernels.peers import flash_attention, flashinfer, liger, packages, quack
from kernels.pytorch import (
    attention,
    block,
    block_train,
    compiled,
    compiled_attention,
    eager,
    experts,
    generation,
    model,
    serving,
)

HAS_TRITON = importlib.util.find_spec("triton") is not None

_PYTORCH = (
    *eager.IMPLEMENTATIONS,
    *experts.IMPLEMENTATIONS,
    *attention.IMPLEMENTATIONS,
    *block.IMPLEMENTATIONS,
    block_train.IMPLEMENTATION,
    *model.IMPLEMENTATIONS,
    *serving.IMPLEMENTATIONS,
    *generation.IMPLEMENTATIONS,
    eager.TINYGEMM,
    *attention.VARLEN,
)

# Compiled by torch.compile, which needs Triton.
_COMPILED = (
    *compiled.IMPLEMENTATIONS,
    *compiled_attention.IMPLEMENTATIONS,
    *block.COMPILED,
    block_train.COMPILED,
    *model.COMPILED,
)

# Optional package -> its implementations.
_OPTIONAL = {
    "liger-kernel": liger.IMPLEMENTATIONS,
    "quack-kernels": quack.IMPLEMENTATIONS,
    "flash-attn": flash_attention.IMPLEMENTATIONS_2,
    "flash-attn-3": flash_attention.IMPLEMENTATIONS_3,
    "flashinfer-python": flashinfer.IMPLEMENTATIONS,
}


def list_implementations() -> tuple[Implementation, ...]:
    """All implementations that can be imported here: PyTorch's; where Triton is installed, ours and those compiled by
    torch.compile; and those of installed optional packages."""
    return (
        *_PYTORCH,
        *((*_COMPILED, *_list_triton()) if HAS_TRITON else ()),
        *(row for package, rows in _OPTIONAL.items() if packages.is_installed(package) for row in rows),
    )


def _list_triton() -> tuple[Implementation, ...]:
    from kernels.triton import block as block_triton  # noqa: PLC0415  (these import Triton)
    from kernels.triton import experts as grouped  # noqa: PLC0415
    from kernels.triton import generation, launch, matmul, quantized, rowwise, stream  # noqa: PLC0415
    from kernels.triton.attention import backward, decode, mla, prefill  # noqa: PLC0415

    return (
        _triton(matmul.matmul, ("fp32", "bf16", "fp16")),
        _triton(matmul.matmul_tf32, ("tf32",), op="matmul"),
        _triton(matmul.matmul_scaled, EIGHT_BIT),
        _triton(quantized.matmul_w8a16),
        _triton(quantized.matmul_w4a16),
        _triton(grouped.moe_experts),
        _triton(grouped.moe_experts, op="moe_experts_skewed"),
        _triton(rowwise.rmsnorm),
        _triton(rowwise.add_rmsnorm),
        _triton(rowwise.layernorm),
        _triton(rowwise.add_layernorm),
        _triton(rowwise.softmax),
        _triton(rowwise.swiglu),
        _triton(rowwise.gelu),
        _triton(rowwise.rope),
        _triton(matmul.linear_backward, matmul.GRADIENT_DTYPES),
        _triton(prefill.attention_prefill),
        _triton(prefill.attention_full),
        _triton(prefill.attention_window),
        _triton(prefill.attention_packed),
        _triton(prefill.attention_chunk),
        _triton(backward.attention_backward),
        _triton(decode.attention_decode),
        _triton(decode.attention_decode_fp8, HALF),
        _triton(decode.attention_paged),
        _triton(mla.attention_mla),
        *block_triton.IMPLEMENTATIONS,
        _triton(generation.generate_cached),
        _triton(generation.generate_uncached),
        _triton(stream.stream_read),
        _triton(stream.stream_write),
        _triton(stream.stream_copy),
        _triton(stream.stream_triad),
        _triton(launch.launch),
    )


def _triton(
    run: Any, dtypes: tuple[str, ...] | None = None, *, op: str | None = None, name: str = "triton"
) -> Implementation:
    """A row for a Triton kernel with the dtypes, architectures and configurations of its module; the op defaults to the
    kernel's name."""
    module = sys.modules[run.__module__]
    takes_config = "config" in inspect.signature(run).parameters
    return Implementation(
        op or run.__name__,
        name,
        run,
        dtypes or module.SUPPORTED_DTYPES,
        CUDA,
        module.SUPPORTED_ARCHITECTURES,
        {each.name: each for each in getattr(module, "CONFIGS", ()) if takes_config},
        getattr(module, "contends", always),
        package="triton",
    )
