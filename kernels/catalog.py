"""Which implementations there are of each op, with their devices, dtypes and architectures, as data."""

import functools
import importlib.util
import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from torch.nn.attention import SDPBackend

from kernels import reference
from kernels.constants import EIGHT_BIT
from kernels.implementation import CPU, CUDA, EVERYWHERE, FLOATS, HALF, TO_FP32, Implementation, Prepare, Result, always
from kernels.peers import flash_attention, flashinfer, liger, packages, quack
from kernels.pytorch import attention as eager_attention
from kernels.pytorch import block, block_train, compiled, compiled_attention, eager

HAS_TRITON = importlib.util.find_spec("triton") is not None


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
    Implementation("linear_backward", "torch", eager.linear_backward, reference.linear_backward),
    Implementation("generate_cached", "torch", eager.generate_cached, reference.generate_cached),
    Implementation("generate_uncached", "torch", eager.generate_uncached, reference.generate_uncached),
    Implementation("stream_read", "torch", eager.stream_read, reference.stream_read),
    Implementation("stream_read", "torch_dot", eager.stream_read_dot, reference.stream_read_dot, ("fp64", "fp32")),
    Implementation("stream_write", "torch", eager.stream_write, reference.stream_write),
    Implementation("stream_copy", "torch", eager.stream_copy, reference.stream_copy),
    Implementation("stream_triad", "torch", eager.stream_triad, reference.stream_triad),
    Implementation("launch", "torch", eager.launch, reference.launch, ("fp32",)),
)

# Back ends of scaled dot product attention, what they take, and where; what a device really takes, PyTorch says.
_SDPA = {
    "sdpa_flash": (SDPBackend.FLASH_ATTENTION, TO_FP32),
    "sdpa_cudnn": (SDPBackend.CUDNN_ATTENTION, TO_FP32),
    "sdpa_efficient": (SDPBackend.EFFICIENT_ATTENTION, TO_FP32),
    "sdpa_math": (SDPBackend.MATH, FLOATS),
}
_ALL = {"sdpa_flash": EVERYWHERE, "sdpa_cudnn": CUDA, "sdpa_efficient": CUDA, "sdpa_math": EVERYWHERE}
_MASKED = {**_ALL, "sdpa_flash": CPU}  # on CUDA it takes no mask


def _sdpa(
    op: str,
    run: Callable[..., Result],
    devices: Mapping[str, tuple[str, ...]],
    *,
    suffix: str = "",
    prepare: Prepare | None = None,
) -> tuple[Implementation, ...]:
    """A row for each back end that has devices."""
    return tuple(
        Implementation(
            op,
            name + suffix,
            functools.partial(run, backend=_SDPA[name][0]),
            getattr(reference, op),
            _SDPA[name][1],
            places,
            prepare=prepare,
        )
        for name, places in devices.items()
    )


def _sdpa_backward() -> tuple[Implementation, ...]:
    """Here the back end is the forward pass's, which is prepared."""
    return tuple(
        Implementation(
            "attention_backward",
            name,
            eager_attention.attention_backward_math if name == "sdpa_math" else eager_attention.attention_backward_sdpa,
            reference.attention_backward,
            _SDPA[name][1],
            places,
            prepare=functools.partial(eager_attention.prepare_backward, backend=_SDPA[name][0]),
            captures=name != "sdpa_math",  # autograd runs it on the stream of the forward pass
        )
        for name, places in _ALL.items()
    )


_EAGER_ATTENTION = (
    *_sdpa("attention_prefill", eager_attention.attention_prefill_sdpa, _ALL),
    *_sdpa("attention_full", eager_attention.attention_full_sdpa, _ALL),
    *_sdpa(
        "attention_window",
        eager_attention.attention_window_sdpa_mask,
        _MASKED,
        suffix="_mask",
        prepare=eager_attention.prepare_window_mask,
    ),
    *_sdpa("attention_chunk", eager_attention.attention_chunk_sdpa, {"sdpa_flash": CUDA, "sdpa_efficient": CUDA}),
    *_sdpa(
        "attention_chunk",
        eager_attention.attention_chunk_sdpa_mask,
        {name: places for name, places in _MASKED.items() if name != "sdpa_efficient"},
        suffix="_mask",
        prepare=eager_attention.prepare_chunk_mask,
    ),
    *_sdpa(
        "attention_packed",
        eager_attention.attention_packed_sdpa_each,
        _ALL,
        suffix="_each",
        prepare=eager_attention.prepare_packed,
    ),
    *_sdpa(
        "attention_packed",
        eager_attention.attention_packed_sdpa_nested,
        {"sdpa_flash": CUDA, "sdpa_efficient": CUDA},
        suffix="_nested",
        prepare=eager_attention.prepare_nested,
    ),
    *_sdpa_backward(),
    *_sdpa("attention_decode", eager_attention.attention_decode_sdpa, _ALL),
    *_sdpa(
        "attention_mla",
        eager_attention.attention_mla_sdpa,
        {name: places for name, places in _ALL.items() if name != "sdpa_flash"},  # which wants K and V of one width
    ),
    *(
        Implementation(op, name, run, getattr(reference, op), dtypes, prepare=prepare)
        for op, name, run, dtypes, prepare in (
            ("attention_prefill", "naive", eager_attention.attention_prefill_naive, FLOATS, None),
            ("attention_full", "naive", eager_attention.attention_full_naive, FLOATS, None),
            ("attention_window", "naive", eager_attention.attention_window_naive, FLOATS, None),
            ("attention_chunk", "naive", eager_attention.attention_chunk_naive, FLOATS, None),
            (
                "attention_packed",
                "naive",
                eager_attention.attention_packed_naive,
                FLOATS,
                eager_attention.prepare_packed,
            ),
            ("attention_backward", "naive", eager_attention.attention_backward_naive, FLOATS, None),
            ("attention_decode", "naive", eager_attention.attention_decode_naive, FLOATS, None),
            ("attention_decode_fp8", "torch_dequantize", eager_attention.attention_decode_fp8_dequantize, HALF, None),
            (
                "attention_paged",
                "torch_gather",
                eager_attention.attention_paged_gather,
                FLOATS,
                eager_attention.prepare_gather,
            ),
            ("attention_mla", "torch", eager_attention.attention_mla_naive, FLOATS, None),
        )
    ),
)

_BLOCK = (
    *(
        Implementation(op, name, block.issue, getattr(reference, op), FLOATS, devices, prepare=prepare)
        for op, name, devices, prepare in (
            ("block_forward", "torch", EVERYWHERE, block.prepare_forward),
            ("block_decode", "torch", EVERYWHERE, block.prepare_decode),
            ("block_forward", "torch_graph", CUDA, block.capture_forward),
            ("block_decode", "torch_graph", CUDA, block.capture_decode),
        )
    ),
    Implementation(
        "block_train",
        "torch",
        block_train.issue_train,
        reference.block_train,
        HALF,
        prepare=block_train.prepare_train,
    ),
)

_COMPILED_BLOCK = tuple(
    Implementation(op, "torch_compile", run, getattr(reference, op), dtypes, CUDA, prepare=prepare, compiles=True)
    for op, run, prepare, dtypes in (
        ("block_forward", block.issue, block.compile_forward, FLOATS),
        ("block_decode", block.issue, block.compile_decode, FLOATS),
        ("block_train", block_train.issue_train, block_train.compile_train, HALF),
    )
)

_TINYGEMM = Implementation(
    "matmul_w4a16",
    "tinygemm",
    eager.tinygemm,
    reference.matmul_w4a16,
    ("bf16",),
    CUDA,
    prepare=eager.prepare_tinygemm,
)

_COMPILED = tuple(
    Implementation(op, "torch_compile", run, getattr(reference, op), dtypes, CUDA, compiles=True)
    for op, run, dtypes in (
        ("matmul_scaled", compiled.scaled_int8, ("int8",)),
        ("matmul_w8a16", compiled.w8a16, HALF),
        ("rmsnorm", compiled.rmsnorm, FLOATS),
        ("add_rmsnorm", compiled.add_rmsnorm, FLOATS),
        ("softmax", compiled.softmax, FLOATS),
        ("swiglu", compiled.swiglu, FLOATS),
        ("rope", compiled.rope, FLOATS),
    )
)

_COMPILED_ATTENTION = tuple(
    Implementation(op, name, run, getattr(reference, op), dtypes, CUDA, compiles=True)
    for op, name, run, dtypes in (
        ("attention_prefill", "torch_compile", compiled_attention.compiled_prefill, TO_FP32),
        ("attention_full", "torch_compile", compiled_attention.compiled_full, TO_FP32),
        ("attention_window", "torch_compile", compiled_attention.compiled_window, TO_FP32),
        ("attention_chunk", "torch_compile", compiled_attention.compiled_chunk, TO_FP32),
        ("attention_decode", "torch_compile", compiled_attention.compiled_decode, TO_FP32),
        ("attention_decode_fp8", "torch_compile", compiled_attention.compiled_decode_fp8, HALF),
        ("attention_mla", "torch_compile", compiled_attention.compiled_mla, TO_FP32),
        ("attention_prefill", "flex", compiled_attention.flex_prefill, TO_FP32),
        ("attention_full", "flex", compiled_attention.flex_full, TO_FP32),
        ("attention_window", "flex", compiled_attention.flex_window, TO_FP32),
        ("attention_chunk", "flex", compiled_attention.flex_chunk, TO_FP32),
        ("attention_decode", "flex", compiled_attention.flex_decode, TO_FP32),
    )
)

_VARLEN = tuple(
    Implementation(op, "varlen", run, getattr(reference, op), HALF, CUDA, prepare=prepare)
    for op, run, prepare in (
        ("attention_packed", eager_attention.varlen_packed, eager_attention.prepare_varlen_packed),
        ("attention_window", eager_attention.varlen_window, eager_attention.prepare_varlen_window),
    )
)

_LIGER = (
    *(
        Implementation(op, "liger", run, getattr(reference, op), TO_FP32, CUDA, package="liger-kernel")
        for op, run in (
            ("rmsnorm", liger.rmsnorm),
            ("add_rmsnorm", liger.add_rmsnorm),
            ("softmax", liger.softmax),
            ("swiglu", liger.swiglu),
        )
    ),
    Implementation(
        "rope",
        "liger",
        liger.rope,
        liger.rope_of_q_and_k,
        TO_FP32,
        CUDA,
        prepare=liger.prepare_rope,
        package="liger-kernel",
    ),
)

_QUACK = tuple(
    Implementation(op, "quack", run, getattr(reference, op), dtypes, CUDA, package="quack-kernels")
    for op, run, dtypes in (
        ("matmul", quack.matmul, HALF),
        ("rmsnorm", quack.rmsnorm, TO_FP32),
        ("add_rmsnorm", quack.add_rmsnorm, TO_FP32),
        ("softmax", quack.softmax, TO_FP32),
    )
)


def _flash(name: str, package: str, library: flash_attention.FlashAttention) -> tuple[Implementation, ...]:
    """What both versions of flash-attn have."""

    def of(function: Callable[..., Any]) -> Callable[..., Any]:
        return functools.partial(function, library=library)

    rows: tuple[tuple[str, Callable[..., Result], Prepare], ...] = (
        *(
            (
                op,
                functools.partial(of(flash_attention.flash), causal=op != "attention_full"),
                functools.partial(flash_attention.prepare_flash, op=op),
            )
            for op in ("attention_prefill", "attention_full")
        ),
        (
            "attention_chunk",
            of(flash_attention.flash_chunk),
            functools.partial(flash_attention.prepare_flash, op="attention_chunk"),
        ),
        ("attention_window", of(flash_attention.flash_window), flash_attention.prepare_flash_window),
        ("attention_packed", of(flash_attention.flash_packed), flash_attention.prepare_flash_packed),
        ("attention_backward", flash_attention.flash_backward, flash_attention.prepare_flash_backward),
        ("attention_decode", of(flash_attention.flash_decode), flash_attention.prepare_flash_decode),
        ("attention_paged", of(flash_attention.flash_paged), flash_attention.prepare_flash_paged),
    )
    return tuple(
        Implementation(op, name, run, getattr(reference, op), HALF, CUDA, prepare=of(prepare), package=package)
        for op, run, prepare in rows
    )


_FLASH_3_MLA = Implementation(
    "attention_mla",
    "flash_attn_3",
    flash_attention.flash_mla,
    reference.attention_mla,
    HALF,
    CUDA,
    prepare=flash_attention.prepare_flash_mla,
    package="flash-attn-3",
)

_FLASHINFER_CALLS: tuple[tuple[str, str, Callable[..., Result], Prepare], ...] = (
    *(
        (
            op,
            name,
            flashinfer.prefill,
            functools.partial(flashinfer.prepare_prefill, op=op, backend=backend),
        )
        for op, name, backend in (
            ("attention_prefill", "flashinfer", "auto"),
            ("attention_chunk", "flashinfer", "auto"),
            ("attention_chunk", "flashinfer_fa2", "fa2"),
        )
    ),
    ("attention_full", "flashinfer", flashinfer.prefill, flashinfer.prepare_full),
    ("attention_window", "flashinfer", flashinfer.prefill_window, flashinfer.prepare_window),
    ("attention_packed", "flashinfer", flashinfer.packed, flashinfer.prepare_packed),
    *(
        (op, name, run, functools.partial(prepare, tensor_cores=tensor_cores))
        for op, run, prepare in (
            ("attention_decode", flashinfer.decode, flashinfer.prepare_decode),
            ("attention_decode_fp8", flashinfer.decode_fp8, flashinfer.prepare_decode_fp8),
            ("attention_paged", flashinfer.decode, flashinfer.prepare_paged),
        )
        for name, tensor_cores in (("flashinfer", False), ("flashinfer_tensor_cores", True))
    ),
    ("attention_mla", "flashinfer", flashinfer.mla, flashinfer.prepare_mla),
)
_FLASHINFER = tuple(
    Implementation(op, name, run, getattr(reference, op), HALF, CUDA, prepare=prepare, package="flashinfer-python")
    for op, name, run, prepare in _FLASHINFER_CALLS
)

# By the package that they come with.
_OPTIONAL = {
    "liger-kernel": _LIGER,
    "quack-kernels": _QUACK,
    "flash-attn": _flash("flash_attn", "flash-attn", flash_attention.FLASH_2),
    "flash-attn-3": (*_flash("flash_attn_3", "flash-attn-3", flash_attention.FLASH_3), _FLASH_3_MLA),
    "flashinfer-python": _FLASHINFER,
}


def list_implementations() -> tuple[Implementation, ...]:
    """All implementations that can be imported here: PyTorch's everywhere; where Triton is installed, ours and what
    torch.compile makes, which needs it; those of optional packages that are installed."""
    return (
        *_EAGER,
        *_EAGER_ATTENTION,
        *_BLOCK,
        _TINYGEMM,
        *_VARLEN,
        *(_COMPILED + _COMPILED_ATTENTION + _COMPILED_BLOCK + _list_triton() if HAS_TRITON else ()),
        *(row for package, rows in _OPTIONAL.items() if packages.is_installed(package) for row in rows),
    )


def _list_triton() -> tuple[Implementation, ...]:
    from kernels.triton import block as block_triton  # noqa: PLC0415  (these import Triton)
    from kernels.triton import generation, launch, matmul, quantized, rowwise, stream  # noqa: PLC0415
    from kernels.triton.attention import backward, decode, mla, prefill  # noqa: PLC0415

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
        replace(_triton("linear_backward", matmul, matmul.linear_backward), dtypes=matmul.GRADIENT_DTYPES),
        _triton("attention_prefill", prefill, prefill.attention_prefill),
        _triton("attention_full", prefill, prefill.attention_full),
        _triton("attention_window", prefill, prefill.attention_window),
        _triton("attention_packed", prefill, prefill.attention_packed),
        _triton("attention_chunk", prefill, prefill.attention_chunk),
        _triton("attention_backward", backward, backward.attention_backward),
        _triton("attention_decode", decode, decode.attention_decode),
        replace(_triton("attention_decode_fp8", decode, decode.attention_decode_fp8), dtypes=HALF),
        _triton("attention_paged", decode, decode.attention_paged),
        _triton("attention_mla", mla, mla.attention_mla),
        *(
            replace(_triton(op, block_triton, block.issue, name), prepare=prepare)
            for op, name, prepare in (
                ("block_forward", "triton", block_triton.prepare_forward),
                ("block_decode", "triton", block_triton.prepare_decode),
                ("block_forward", "triton_graph", block_triton.capture_forward),
                ("block_decode", "triton_graph", block_triton.capture_decode),
            )
        ),
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
        contends=getattr(module, "contends", always),
        package="triton",
    )
