"""Where an op's inputs, implementations and meaning are put together: the only place where predict and kernels meet."""

import functools
import importlib.util
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from kernels import eager, reference
from kernels.constants import FILL_VALUE
from kernels.precision import TORCH_DTYPES
from predict.errors import BadWorkload
from predict.units import GIB
from predict.workloads import Workload

Inputs = tuple[Tensor, ...]
Run = Callable[..., Tensor]

# The Triton implementations by op, where Triton exists.
_TRITON: dict[str, Run] = {}
if importlib.util.find_spec("triton"):
    from kernels import attention, decode, generation, launch, matmul, stream

    _TRITON = {
        "matmul": matmul.matmul,
        "matmul_tf32": matmul.matmul_tf32,
        "attention_prefill": attention.attention_prefill,
        "attention_decode": decode.attention_decode,
        "generate_cached": generation.generate_cached,
        "generate_uncached": generation.generate_uncached,
        "stream_read": stream.stream_read,
        "stream_write": stream.stream_write,
        "stream_copy": stream.stream_copy,
        "stream_triad": stream.stream_triad,
        "launch": launch.launch,
    }

EVERYWHERE = ("cuda", "cpu")
GPU_ONLY = ("cuda",)


@dataclass(frozen=True, slots=True)
class Implementation:
    """One way to compute an op. `bind` picks the function for a workload; that takes the inputs, returns the output."""

    name: str
    bind: Callable[[Workload], Run]
    devices: tuple[str, ...] = EVERYWHERE
    scratch_bytes: Callable[[Workload], float] = lambda _: 0.0  # beyond inputs and output


@dataclass(frozen=True, slots=True)
class Case:
    """An op with all that is needed to check and time it."""

    make_inputs: Callable[[Workload, "Maker"], Inputs]
    reference: Callable[[Workload], Run]  # takes the inputs and a keyword `precision`; "fp64" is the truth
    implementations: tuple[Implementation, ...]
    output: int | None = None  # which input is the output, where implementations write into one that they are given

    def implementation(self, name: str) -> Implementation:
        """Return the implementation called `name`; raises BadWorkload listing the known ones."""
        for implementation in self.implementations:
            if implementation.name == name:
                return implementation
        known = ", ".join(implementation.name for implementation in self.implementations)
        raise BadWorkload(f"no implementation {name!r}; known: {known}")


@dataclass(frozen=True, slots=True)
class Maker:
    """Makes random normal tensors of a workload's dtype; the same seed makes the same numbers on the same device."""

    dtype: torch.dtype
    device: torch.device
    generator: torch.Generator

    def normal(self, *shape: int, scale: float = 1.0) -> Tensor:
        """Normal with standard deviation `scale`. Never zeros: they hide errors and draw less power."""
        return torch.randn(shape, dtype=self.dtype, device=self.device, generator=self.generator).mul_(scale)


def make_inputs(workload: Workload, device: torch.device, *, index: int) -> Inputs:
    """The `index`-th input set of a workload: reproducible, and different for each index."""
    generator = torch.Generator(device).manual_seed(zlib.crc32(workload.id.encode()) + index)
    maker = Maker(TORCH_DTYPES[workload.dtype.name], device, generator)
    return CASES[workload.op].make_inputs(workload, maker)


def needed_bytes(workload: Workload, implementation: Implementation) -> float:
    """Device memory that checking needs: inputs, the output, its fp64 reference and baseline, and working memory."""
    amounts = workload.amounts
    outputs = float(amounts.bytes_written) / workload.dtype.bytes
    return float(amounts.bytes) + outputs * (8 + 8) + implementation.scratch_bytes(workload) + REFERENCE_SCRATCH_BYTES


REFERENCE_SCRATCH_BYTES = 1 * GIB  # kernels.reference works in blocks and promises to stay under it


def _matmul_inputs(workload: Workload, maker: Maker) -> Inputs:
    """Activations (m, k), and a weight stored (n, k) as linear layers do, passed as its (k, n) view."""
    m, n, k = (workload.dims[name] for name in "mnk")
    return maker.normal(m, k), maker.normal(n, k).t()


def _prefill_inputs(workload: Workload, maker: Maker) -> Inputs:
    dims = workload.dims
    kv_shape = (dims["batch"], dims["kv_heads"], dims["seq"], dims["head_dim"])
    q = maker.normal(dims["batch"], dims["heads"], dims["seq"], dims["head_dim"])
    return q, maker.normal(*kv_shape), maker.normal(*kv_shape)


def _decode_inputs(workload: Workload, maker: Maker) -> Inputs:
    dims = workload.dims
    kv_shape = (dims["batch"], dims["kv_heads"], dims["context"], dims["head_dim"])
    return (
        maker.normal(dims["batch"], dims["heads"], dims["head_dim"]),
        maker.normal(*kv_shape),
        maker.normal(*kv_shape),
    )


def _projection(workload: Workload, maker: Maker) -> Tensor:
    """The weight that makes Q, K and V, scaled so that they are as large as the hidden states."""
    dims = workload.dims
    hidden = dims["heads"] * dims["head_dim"]
    rows = (dims["heads"] + 2 * dims["kv_heads"]) * dims["head_dim"]
    return maker.normal(rows, hidden, scale=hidden**-0.5)


def _generate_cached_inputs(workload: Workload, maker: Maker) -> Inputs:
    dims = workload.dims
    kv_shape = (dims["batch"], dims["kv_heads"], dims["context"], dims["head_dim"])
    x = maker.normal(dims["batch"], dims["heads"] * dims["head_dim"])
    return x, _projection(workload, maker), maker.normal(*kv_shape), maker.normal(*kv_shape)


def _generate_uncached_inputs(workload: Workload, maker: Maker) -> Inputs:
    dims = workload.dims
    x = maker.normal(dims["batch"], dims["context"], dims["heads"] * dims["head_dim"])
    return x, _projection(workload, maker)


def _read_inputs(workload: Workload, maker: Maker) -> Inputs:
    """Positive numbers: a sum that cancels to nearly nothing could not be checked."""
    return (maker.normal(workload.dims["n"]).abs_(),)


def _same(run: Run) -> Callable[[Workload], Run]:
    """One function for every workload of the op."""
    return lambda _: run


def _score_bytes(workload: Workload) -> float:
    """Scores, their softmax and the mask of attention that materialises them."""
    dims = workload.dims
    pairs = dims["batch"] * dims["heads"] * dims["seq"] ** 2
    return 3.0 * pairs * workload.dtype.bytes


def _triton(bind: Callable[[Workload], Run]) -> tuple[Implementation, ...]:
    """The Triton implementation, where Triton exists; the CPU runs it in tests only, through the interpreter."""
    return (Implementation("triton", bind, GPU_ONLY),) if _TRITON else ()


def _torch_and_triton(op: str, run: Run) -> tuple[Implementation, ...]:
    return (Implementation("torch", lambda _: run), *_triton(lambda _: _TRITON[op]))


def _is_tf32(workload: Workload) -> bool:
    return workload.dtype.name == "tf32"


def _uncached(run: Callable[..., Tensor]) -> Callable[[Workload], Run]:
    """Bind the two dimensions that cannot be read off the shapes of x and the weight."""
    return lambda workload: functools.partial(
        run, kv_heads=workload.dims["kv_heads"], head_dim=workload.dims["head_dim"]
    )


CASES: Mapping[str, Case] = MappingProxyType(
    {
        "matmul": Case(
            _matmul_inputs,
            _same(reference.matmul),
            (
                Implementation("torch", lambda w: eager.matmul_tf32 if _is_tf32(w) else eager.matmul),
                *_triton(lambda w: _TRITON["matmul_tf32" if _is_tf32(w) else "matmul"]),
            ),
        ),
        "attention_prefill": Case(
            _prefill_inputs,
            _same(reference.attention_prefill),
            (
                Implementation("sdpa_flash", _same(eager.attention_prefill_sdpa_flash)),
                Implementation("sdpa_cudnn", _same(eager.attention_prefill_sdpa_cudnn), GPU_ONLY),
                Implementation("sdpa_efficient", _same(eager.attention_prefill_sdpa_efficient), GPU_ONLY),
                Implementation("sdpa_math", _same(eager.attention_prefill_sdpa_math), scratch_bytes=_score_bytes),
                Implementation("naive", _same(eager.attention_prefill_naive), scratch_bytes=_score_bytes),
                *_triton(lambda _: _TRITON["attention_prefill"]),
            ),
        ),
        "attention_decode": Case(
            _decode_inputs,
            _same(reference.attention_decode),
            (
                Implementation("sdpa_flash", _same(eager.attention_decode_sdpa_flash)),
                Implementation("sdpa_cudnn", _same(eager.attention_decode_sdpa_cudnn), GPU_ONLY),
                Implementation("sdpa_efficient", _same(eager.attention_decode_sdpa_efficient), GPU_ONLY),
                Implementation("sdpa_math", _same(eager.attention_decode_sdpa_math)),
                Implementation("naive", _same(eager.attention_decode_naive)),
                *_triton(lambda _: _TRITON["attention_decode"]),
            ),
        ),
        "generate_cached": Case(
            _generate_cached_inputs,
            _same(reference.generate_cached),
            _torch_and_triton("generate_cached", eager.generate_cached),
        ),
        "generate_uncached": Case(
            _generate_uncached_inputs,
            _uncached(reference.generate_uncached),
            (
                Implementation("torch", _uncached(eager.generate_uncached)),
                *_triton(lambda w: _uncached(_TRITON["generate_uncached"])(w)),  # noqa: PLW0108 - looked up where Triton exists
            ),
        ),
        "stream_read": Case(
            _read_inputs, _same(reference.stream_read), _torch_and_triton("stream_read", eager.stream_read)
        ),
        "stream_write": Case(
            lambda workload, maker: (maker.normal(workload.dims["n"]),),
            _same(reference.stream_write),
            _torch_and_triton("stream_write", eager.stream_write),
            output=0,
        ),
        "stream_copy": Case(
            lambda workload, maker: tuple(maker.normal(workload.dims["n"]) for _ in range(2)),
            _same(reference.stream_copy),
            _torch_and_triton("stream_copy", eager.stream_copy),
            output=1,
        ),
        "stream_triad": Case(
            lambda workload, maker: tuple(maker.normal(workload.dims["n"]) for _ in range(3)),
            _same(reference.stream_triad),
            _torch_and_triton("stream_triad", eager.stream_triad),
            output=2,
        ),
        "launch": Case(
            lambda _, maker: (torch.full((1,), FILL_VALUE, dtype=maker.dtype, device=maker.device),),
            _same(reference.launch),
            _torch_and_triton("launch", eager.launch),
        ),
    }
)
