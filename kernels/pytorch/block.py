"""A transformer block through PyTorch's kernels: as written, compiled, and captured in a CUDA graph.

A captured step shows what launching costs: it starts the same kernels as the step as written, all at once. A step's
host time is measured too, so checks are made before it is issued. Functions raise ValueError for shapes that
`kernels.shapes` refuses.
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
    """A checked step on its inputs. `nbytes`: of the inputs, and of what the step keeps. `reads`: a step whose inputs
    it reads, which must live as long."""

    call: Callable[[], Result]
    nbytes: int
    reads: "Step | None" = None


def issue(step: Step) -> Result:
    """Queue the step. Returns its result."""
    return step.call()


def prepare_forward(x: Tensor, cos: Tensor, sin: Tensor, *weights: Tensor) -> tuple[Step]:
    """x: (batch, seq, hidden), cos, sin: (batch*seq, head_dim/2), weights: those of `BlockWeights`. The step returns
    y + mlp(norm(y)), where y = x + attention(norm(x)): x's shape."""
    block_forward_sizes(x, cos, sin, BlockWeights(*weights))
    return (_step(forward, (x, cos, sin, *weights)),)


def prepare_decode(x: Tensor, cos: Tensor, sin: Tensor, *others: Tensor) -> tuple[Step]:
    """x: (batch, hidden), cos, sin: (batch, head_dim/2), others: those of `BlockWeights` and the caches: (batch,
    kv_heads, context, head_dim). The step writes the new token's K and V at position context-1 of the caches in place,
    and attends over all `context` positions. It returns (batch, hidden), and views of what it appended to each cache:
    (batch, kv_heads, head_dim)."""
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
    """The step of `prepare_forward` as a CUDA graph; each run overwrites the result of the last. Raises Unsupported
    without a GPU."""
    return (capture(*prepare_forward(*inputs), inputs[0].device),)


def capture_decode(*inputs: Tensor) -> tuple[Step]:
    """The step of `prepare_decode` as a CUDA graph; capturing already writes to the caches. Raises Unsupported without
    a GPU."""
    return (capture(*prepare_decode(*inputs), inputs[0].device),)


def capture(step: Step, device: torch.device) -> Step:
    """`step` as a CUDA graph, which keeps its memory as long as it lives. The step is issued once first, so that
    libraries set up what cannot be captured. Raises Unsupported for a device other than CUDA."""
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
    """Check the arguments of `prepare_decode`. Returns views of the last position of both caches: (batch, kv_heads,
    head_dim)."""
    *weights, k_cache, v_cache = others
    block_decode_sizes(x, cos, sin, BlockWeights(*weights), k_cache, v_cache)
    return k_cache[:, :, -1], v_cache[:, :, -1]


@functools.cache
def _stream_aside() -> torch.cuda.Stream:
    """One stream for all captures: what libraries allocate for a stream is then allocated once, and in no graph."""
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


# The formulas that are compiled, without the checks.


def forward(x: Tensor, cos: Tensor, sin: Tensor, *weights: Tensor) -> Tensor:
    """The step of `prepare_forward`; autograd may pass through it. PyTorch chooses the backend of attention, as in a
    model."""
    held = BlockWeights(*weights)
    rows = x.reshape(-1, x.shape[-1])
    total = rows + F.linear(_attend(rows, cos, sin, held, x.shape[:2]), held.out)
    return _add_mlp(total, held).view(x.shape)


def decode(x: Tensor, cos: Tensor, sin: Tensor, *others: Tensor) -> Tensor:
    """The step of `prepare_decode`, without the views of what was appended."""
    *weights, k_cache, v_cache = others
    held = BlockWeights(*weights)
    total = x + F.linear(_attend_cached(x, cos, sin, held, k_cache, v_cache), held.out)
    return _add_mlp(total, held)


# Each returns one tensor, so that its intermediate tensors are freed before the next begins.


def _attend(x: Tensor, cos: Tensor, sin: Tensor, weights: BlockWeights, prompts: torch.Size) -> Tensor:
    """x: (tokens, hidden), the tokens of `prompts`: (batch, seq). Returns x's shape: causal attention."""
    q, k, v = (heads.unflatten(0, prompts).transpose(1, 2) for heads in _project(x, cos, sin, weights))
    grouped = q.shape[1] != k.shape[1]
    attended = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=grouped)
    return attended.transpose(1, 2).reshape(x.shape)


def _attend_cached(
    x: Tensor, cos: Tensor, sin: Tensor, weights: BlockWeights, k_cache: Tensor, v_cache: Tensor
) -> Tensor:
    """x: (batch, hidden), caches: (batch, kv_heads, context, head_dim). Returns x's shape; appends K and V."""
    q, k, v = _project(x, cos, sin, weights)
    k_cache[:, :, -1] = k
    v_cache[:, :, -1] = v
    # One query needs no mask, so the heads that share K and V are more rows of queries.
    rows = q.reshape(len(x), k_cache.shape[1], -1, k_cache.shape[3])
    return F.scaled_dot_product_attention(rows, k_cache, v_cache).reshape(x.shape)


def _project(x: Tensor, cos: Tensor, sin: Tensor, weights: BlockWeights) -> tuple[Tensor, Tensor, Tensor]:
    """x: (tokens, hidden) -> Q: (tokens, heads, head_dim), K and V: (tokens, kv_heads, head_dim), Q and K turned."""
    head_dim = 2 * cos.shape[1]
    heads = x.shape[1] // head_dim
    projected = F.linear(_norm(x, weights.attention_norm), weights.qkv).unflatten(1, (-1, head_dim))
    kv_heads = (projected.shape[1] - heads) // 2
    turned, v = projected.split((heads + kv_heads, kv_heads), dim=1)
    lower, upper = turned.chunk(2, dim=-1)
    cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
    turned = torch.cat((lower * cos - upper * sin, upper * cos + lower * sin), dim=-1)
    q, k = turned.split((heads, kv_heads), dim=1)
    return q, k, v


def _add_mlp(x: Tensor, weights: BlockWeights) -> Tensor:
    """x: (tokens, hidden). Returns x + mlp(norm(x))."""
    gate, up = F.linear(_norm(x, weights.mlp_norm), weights.gate_up).chunk(2, dim=-1)
    return x + F.linear(F.silu(gate) * up, weights.down)


def _norm(x: Tensor, weight: Tensor) -> Tensor:
    return F.rms_norm(x, weight.shape, weight, RMSNORM_EPS)


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
