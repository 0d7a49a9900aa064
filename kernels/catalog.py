"""Which implementations there are of each op, with their devices, dtypes and architectures, as data."""

import functools
import importlib.util
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor
from torch.nn.attention import SDPBackend

from kernels import (
    attention_peers,
    block,
    block_train,
    eager,
    eager_attention,
    flashinfer_peers,
    peers,
    reference,
)
from kernels.constants import EIGHT_BIT

HAS_TRITON = importlib.util.find_spec("triton") is not None

EVERYWHERE = ("cuda", "cpu")
CUDA = ("cuda",)
CPU = ("cpu",)

Result = Tensor | tuple[Tensor, ...]
Prepare = Callable[..., tuple[Any, ...]]  # tensors, or what holds some and knows their nbytes

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

    `prepare` turns the op's inputs into what `run` takes, where that is another format: a weight packed otherwise, a
    step that is checked, compiled or captured. It is called once for each set of inputs, before checking and timing,
    and is never timed; it takes dimensions by keyword where `run` does. It leaves its arguments alone, which other
    implementations are given too, and keeps a given output in its place. `package` is what is installed to have this
    implementation, as package indices name it. `compiles` says that each shape is compiled when it first comes, which
    takes seconds. `captures` says that a call can be captured in a CUDA graph, as one can that neither waits for the
    GPU nor works on a stream of its own.
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
    prepare: Prepare | None = None
    package: str = "torch"
    compiles: bool = False
    captures: bool = True


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
    peers.tinygemm,
    reference.matmul_w4a16,
    ("bf16",),
    CUDA,
    prepare=peers.prepare_tinygemm,
)

_COMPILED = tuple(
    Implementation(op, "torch_compile", run, getattr(reference, op), dtypes, CUDA, compiles=True)
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

_COMPILED_ATTENTION = tuple(
    Implementation(op, name, run, getattr(reference, op), dtypes, CUDA, compiles=True)
    for op, name, run, dtypes in (
        ("attention_prefill", "torch_compile", attention_peers.compiled_prefill, TO_FP32),
        ("attention_full", "torch_compile", attention_peers.compiled_full, TO_FP32),
        ("attention_window", "torch_compile", attention_peers.compiled_window, TO_FP32),
        ("attention_chunk", "torch_compile", attention_peers.compiled_chunk, TO_FP32),
        ("attention_decode", "torch_compile", attention_peers.compiled_decode, TO_FP32),
        ("attention_decode_fp8", "torch_compile", attention_peers.compiled_decode_fp8, HALF),
        ("attention_mla", "torch_compile", attention_peers.compiled_mla, TO_FP32),
        ("attention_prefill", "flex", attention_peers.flex_prefill, TO_FP32),
        ("attention_full", "flex", attention_peers.flex_full, TO_FP32),
        ("attention_window", "flex", attention_peers.flex_window, TO_FP32),
        ("attention_chunk", "flex", attention_peers.flex_chunk, TO_FP32),
        ("attention_decode", "flex", attention_peers.flex_decode, TO_FP32),
    )
)

_VARLEN = tuple(
    Implementation(op, "varlen", run, getattr(reference, op), HALF, CUDA, prepare=prepare)
    for op, run, prepare in (
        ("attention_packed", attention_peers.varlen_packed, attention_peers.prepare_varlen_packed),
        ("attention_window", attention_peers.varlen_window, attention_peers.prepare_varlen_window),
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


def _flash(name: str, package: str, library: attention_peers.FlashAttention) -> tuple[Implementation, ...]:
    """What both versions of flash-attn have."""

    def of(function: Callable[..., Any]) -> Callable[..., Any]:
        return functools.partial(function, library=library)

    rows: tuple[tuple[str, Callable[..., Result], Prepare], ...] = (
        *(
            (
                op,
                functools.partial(of(attention_peers.flash), causal=op != "attention_full"),
                functools.partial(attention_peers.prepare_flash, op=op),
            )
            for op in ("attention_prefill", "attention_full")
        ),
        (
            "attention_chunk",
            of(attention_peers.flash_chunk),
            functools.partial(attention_peers.prepare_flash, op="attention_chunk"),
        ),
        ("attention_window", of(attention_peers.flash_window), attention_peers.prepare_flash_window),
        ("attention_packed", of(attention_peers.flash_packed), attention_peers.prepare_flash_packed),
        ("attention_backward", attention_peers.flash_backward, attention_peers.prepare_flash_backward),
        ("attention_decode", of(attention_peers.flash_decode), attention_peers.prepare_flash_decode),
        ("attention_paged", of(attention_peers.flash_paged), attention_peers.prepare_flash_paged),
    )
    return tuple(
        Implementation(op, name, run, getattr(reference, op), HALF, CUDA, prepare=of(prepare), package=package)
        for op, run, prepare in rows
    )


_FLASH_3_MLA = Implementation(
    "attention_mla",
    "flash_attn_3",
    attention_peers.flash_mla,
    reference.attention_mla,
    HALF,
    CUDA,
    prepare=attention_peers.prepare_flash_mla,
    package="flash-attn-3",
)

_FLASHINFER_CALLS: tuple[tuple[str, str, Callable[..., Result], Prepare], ...] = (
    *(
        (
            op,
            name,
            flashinfer_peers.prefill,
            functools.partial(flashinfer_peers.prepare_prefill, op=op, backend=backend),
        )
        for op, name, backend in (
            ("attention_prefill", "flashinfer", "auto"),
            ("attention_chunk", "flashinfer", "auto"),
            ("attention_chunk", "flashinfer_fa2", "fa2"),
        )
    ),
    ("attention_full", "flashinfer", flashinfer_peers.prefill, flashinfer_peers.prepare_full),
    ("attention_window", "flashinfer", flashinfer_peers.prefill_window, flashinfer_peers.prepare_window),
    ("attention_packed", "flashinfer", flashinfer_peers.packed, flashinfer_peers.prepare_packed),
    *(
        (op, name, run, functools.partial(prepare, tensor_cores=tensor_cores))
        for op, run, prepare in (
            ("attention_decode", flashinfer_peers.decode, flashinfer_peers.prepare_decode),
            ("attention_decode_fp8", flashinfer_peers.decode_fp8, flashinfer_peers.prepare_decode_fp8),
            ("attention_paged", flashinfer_peers.decode, flashinfer_peers.prepare_paged),
        )
        for name, tensor_cores in (("flashinfer", False), ("flashinfer_tensor_cores", True))
    ),
    ("attention_mla", "flashinfer", flashinfer_peers.mla, flashinfer_peers.prepare_mla),
)
_FLASHINFER = tuple(
    Implementation(op, name, run, getattr(reference, op), HALF, CUDA, prepare=prepare, package="flashinfer-python")
    for op, name, run, prepare in _FLASHINFER_CALLS
)

# By the package that they come with.
_OPTIONAL = {
    "liger-kernel": _LIGER,
    "quack-kernels": _QUACK,
    "flash-attn": _flash("flash_attn", "flash-attn", attention_peers.FLASH_2),
    "flash-attn-3": (*_flash("flash_attn_3", "flash-attn-3", attention_peers.FLASH_3), _FLASH_3_MLA),
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
        *(row for package, rows in _OPTIONAL.items() if peers.is_installed(package) for row in rows),
    )


def _list_triton() -> tuple[Implementation, ...]:
    from kernels import (  # noqa: PLC0415  (import Triton)
        attention,
        attention_backward,
        block_triton,
        decode,
        generation,
        launch,
        matmul,
        mla,
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
        replace(_triton("linear_backward", matmul, matmul.linear_backward), dtypes=matmul.GRADIENT_DTYPES),
        _triton("attention_prefill", attention, attention.attention_prefill),
        _triton("attention_full", attention, attention.attention_full),
        _triton("attention_window", attention, attention.attention_window),
        _triton("attention_packed", attention, attention.attention_packed),
        _triton("attention_chunk", attention, attention.attention_chunk),
        _triton("attention_backward", attention_backward, attention_backward.attention_backward),
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
        contends=getattr(module, "contends", _always),
        package="triton",
    )
