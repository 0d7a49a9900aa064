"""A transformer block through PyTorch's kernels: as it is written, compiled, and captured in a CUDA graph.

A captured step shows what launching costs: the same kernels as those of the step as it is written, started at once.
What only a measurement needs, checks above all, is done before a step is issued: its host's time is measured too.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812  (PyTorch's own convention)
from torch import Tensor

from kernels.constants import RMSNORM_EPS
from kernels.implementation import CUDA, FLOATS, Implementation, Result
from kernels.precision import fp32_matmul_precision
from kernels.pytorch.compiled import find_compiled
from kernels.shapes import BlockWeights, block_decode_sizes, block_forward_sizes
from kernels.unsupported import Unsupported


@dataclass(frozen=True, slots=True)
class Step:
    """A checked step on its inputs; `nbytes` are theirs, and what the step keeps beside them. `reads`: whose inputs it
    reads where they are not its own, which must live as long."""

    call: Callable[[], Result]
    nbytes: int
    reads: "Step | None" = None


def issue(step: Step) -> Result:
    """Queue the step. Returns its result."""
    return step.call()


def prepare_forward(x: Tensor, cos: Tensor, sin: Tensor, *weights: Tensor) -> tuple[Step]:
    """x: (batch, seq, hidden), cos, sin: (batch*seq, head_dim/2), weights: those of `BlockWeights`. The step returns
    x + attention(norm(x)), and to that adds swiglu(norm(that)): x's shape."""
    block_forward_sizes(x, cos, sin, BlockWeights(*weights))
    return (_step(forward, (x, cos, sin, *weights)),)


def prepare_decode(x: Tensor, cos: Tensor, sin: Tensor, *others: Tensor) -> tuple[Step]:
    """x: (batch, hidden), cos, sin: (batch, head_dim/2), others: those of `BlockWeights` and the caches: (batch,
    kv_heads, context, head_dim). The step writes the new token's K and V at position context-1 of the caches in place
    and attends over all `context` positions. It returns (batch, hidden), and what was appended to each cache: (batch,
    kv_heads, head_dim), a view of it."""
    appended = check_decode(x, cos, sin, *others)
    return (_step(decode, (x, cos, sin, *others), appended),)


def compile_forward(x: Tensor, cos: Tensor, sin: Tensor, *weights: Tensor) -> tuple[Step]:
    """The step of `prepare_forward`, by torch.compile."""
    block_forward_sizes(x, cos, sin, BlockWeights(*weights))
    inputs = (x, cos, sin, *weights)
    return (_step(find_compiled(forward, *inputs), inputs),)


def compile_decode(x: Tensor, cos: Tensor, sin: Tensor, *others: Tensor) -> tuple[Step]:
    """The step of `prepare_decode`, by torch.compile."""
    appended = check_decode(x, cos, sin, *others)
    inputs = (x, cos, sin, *others)
    return (_step(find_compiled(decode, *inputs), inputs, appended),)


def capture_forward(*inputs: Tensor) -> tuple[Step]:
    """The step of `prepare_forward`, captured: its result is overwritten by the next."""
    return (capture(*prepare_forward(*inputs), inputs[0].device),)


def capture_decode(*inputs: Tensor) -> tuple[Step]:
    """The step of `prepare_decode`, captured; the caches are written to here already."""
    return (capture(*prepare_decode(*inputs), inputs[0].device),)


def capture(step: Step, device: torch.device) -> Step:
    """`step` as a CUDA graph, which keeps its memory as long as it lives. It is issued once before, so that libraries
    set up what cannot be captured."""
    if device.type != "cuda":
        raise Unsupported(f"a CUDA graph needs CUDA tensors, not {device}")
    aside = _stream_aside()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        step.call()
    torch.cuda.current_stream().wait_stream(aside)
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=aside):
        result = step.call()
    pool_bytes = torch.cuda.max_memory_allocated() - before
    return Step(functools.partial(_replay, graph, result), step.nbytes + pool_bytes, reads=step)


def check_decode(x: Tensor, cos: Tensor, sin: Tensor, *others: Tensor) -> tuple[Tensor, Tensor]:
    """Check what `prepare_decode` takes. Returns the last position of both caches, where the new token's K and V
    belong."""
    *weights, k_cache, v_cache = others
    block_decode_sizes(x, cos, sin, BlockWeights(*weights), k_cache, v_cache)
    return k_cache[:, :, -1], v_cache[:, :, -1]


@functools.cache
def _stream_aside() -> torch.cuda.Stream:
    """One for all captures: what libraries set aside for a stream is then set aside once, and in no graph."""
    return torch.cuda.Stream()


def _step(formula: Callable[..., Tensor], inputs: tuple[Tensor, ...], appended: tuple[Tensor, ...] = ()) -> Step:
    call = functools.partial(formula, *inputs)
    if inputs[0].dtype == torch.float32:
        call = functools.partial(_in_full_precision, call)
    nbytes = sum(each.nbytes for each in inputs)
    return Step(functools.partial(_with, call, appended) if appended else call, nbytes)


def _replay(graph: torch.cuda.CUDAGraph, result: Result) -> Result:
    graph.replay()
    return result


def _in_full_precision(call: Callable[[], Tensor]) -> Tensor:
    with fp32_matmul_precision("ieee"):
        return call()


def _with(call: Callable[[], Tensor], appended: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return call(), *appended


# The formulas alone, which is what is compiled: what checks a call has no business in the graph.


def forward(
    x: Tensor,
    cos: Tensor,
    sin: Tensor,
    attention_norm: Tensor,
    qkv: Tensor,
    out: Tensor,
    mlp_norm: Tensor,
    gate_up: Tensor,
    down: Tensor,
) -> Tensor:
    """What `prepare_forward` says; autograd may pass through. Attention picks PyTorch's fastest backend, as a model
    would."""
    rows = x.reshape(-1, x.shape[-1])
    total = rows + F.linear(_attend(rows, cos, sin, attention_norm, qkv, x.shape[:2]), out)
    return _add_mlp(total, mlp_norm, gate_up, down).view(x.shape)


def decode(
    x: Tensor,
    cos: Tensor,
    sin: Tensor,
    attention_norm: Tensor,
    qkv: Tensor,
    out: Tensor,
    mlp_norm: Tensor,
    gate_up: Tensor,
    down: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
) -> Tensor:
    """What `prepare_decode` says, but for the views of what was appended."""
    total = x + F.linear(_attend_cached(x, cos, sin, attention_norm, qkv, k_cache, v_cache), out)
    return _add_mlp(total, mlp_norm, gate_up, down)


# Each returns one tensor, so that what it makes on the way is freed before the next begins.


def _attend(x: Tensor, cos: Tensor, sin: Tensor, norm: Tensor, qkv: Tensor, prompts: torch.Size) -> Tensor:
    """x: (tokens, hidden), the tokens of `prompts`: (batch, seq). Returns x's shape: causal attention."""
    q, k, v = (heads.unflatten(0, prompts).transpose(1, 2) for heads in _project(x, cos, sin, norm, qkv))
    grouped = q.shape[1] != k.shape[1]
    attended = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=grouped)
    return attended.transpose(1, 2).reshape(x.shape)


def _attend_cached(
    x: Tensor, cos: Tensor, sin: Tensor, norm: Tensor, qkv: Tensor, k_cache: Tensor, v_cache: Tensor
) -> Tensor:
    """x: (batch, hidden), caches: (batch, kv_heads, context, head_dim). Returns x's shape; appends K and V."""
    q, k, v = _project(x, cos, sin, norm, qkv)
    k_cache[:, :, -1] = k
    v_cache[:, :, -1] = v
    # One query has no causal mask, so the heads that share K and V are simply more query rows.
    rows = q.reshape(len(x), k_cache.shape[1], -1, k_cache.shape[3])
    return F.scaled_dot_product_attention(rows, k_cache, v_cache).reshape(x.shape)


def _project(x: Tensor, cos: Tensor, sin: Tensor, norm: Tensor, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """x: (tokens, hidden) -> Q: (tokens, heads, head_dim), K and V: (tokens, kv_heads, head_dim), Q and K turned."""
    head_dim = 2 * cos.shape[1]
    heads = x.shape[1] // head_dim
    projected = F.linear(F.rms_norm(x, norm.shape, norm, RMSNORM_EPS), qkv).unflatten(1, (-1, head_dim))
    kv_heads = (projected.shape[1] - heads) // 2
    turned, v = projected.split((heads + kv_heads, kv_heads), dim=1)
    lower, upper = turned.chunk(2, dim=-1)
    cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
    turned = torch.cat((lower * cos - upper * sin, upper * cos + lower * sin), dim=-1)
    q, k = turned.split((heads, kv_heads), dim=1)
    return q, k, v


def _add_mlp(x: Tensor, norm: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
    """x: (tokens, hidden). Returns x + swiglu(norm(x))."""
    gate, up = F.linear(F.rms_norm(x, norm.shape, norm, RMSNORM_EPS), gate_up).chunk(2, dim=-1)
    return x + F.linear(F.silu(gate) * up, down)


IMPLEMENTATIONS = (
    Implementation("block_forward", "torch", issue, prepare=prepare_forward),
    Implementation("block_decode", "torch", issue, prepare=prepare_decode),
    Implementation("block_forward", "torch_graph", issue, FLOATS, CUDA, prepare=capture_forward),
    Implementation("block_decode", "torch_graph", issue, FLOATS, CUDA, prepare=capture_decode),
)

COMPILED = (
    Implementation("block_forward", "torch_compile", issue, FLOATS, CUDA, prepare=compile_forward, compiles=True),
    Implementation("block_decode", "torch_compile", issue, FLOATS, CUDA, prepare=compile_decode, compiles=True),
)
