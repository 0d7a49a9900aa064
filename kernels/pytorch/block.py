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

from kernels.constants import LAYERNORM_EPS, RMSNORM_EPS
from kernels.implementation import CUDA, FLOATS, Implementation, Result
from kernels.precision import fp32_matmul_precision
from kernels.pytorch.compiled import find_compiled
from kernels.shapes import BlockWeights, block_decode_sizes, block_forward_sizes, split_block
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


def issue_prompt(step: Step, *, head_dim: int) -> Result:  # noqa: ARG001  (the step has it)
    """Queue a step of `block_forward`. Returns its result."""
    return issue(step)


def prepare_forward(x: Tensor, *others: Tensor, head_dim: int) -> tuple[Step]:
    """x: (batch, seq, hidden), others: cos, sin: (batch*seq, head_dim/2) if the MLP has three matrices, then those of
    `BlockWeights`. The step returns y + mlp(norm(y)), where y = x + attention(norm(x)): x's shape."""
    block_forward_sizes(x, *others, head_dim=head_dim)
    return (make_step(functools.partial(forward, head_dim, x, *others), (x, *others)),)


def prepare_decode(x: Tensor, *others: Tensor) -> tuple[Step]:
    """x: (batch, hidden), others: cos, sin: (batch, head_dim/2) if the MLP has three matrices, those of `BlockWeights`,
    and the caches: (batch, kv_heads, context, head_dim). The step writes the new token's K and V at position context-1
    of the caches in place, and attends over all `context` positions. It returns (batch, hidden), and views of what it
    appended to each cache: (batch, kv_heads, head_dim)."""
    appended = check_decode(x, *others)
    return (make_step(functools.partial(decode, x, *others), (x, *others), appended),)


def compile_forward(x: Tensor, *others: Tensor, head_dim: int) -> tuple[Step]:
    """The step of `prepare_forward`, by torch.compile."""
    block_forward_sizes(x, *others, head_dim=head_dim)
    compiled = find_compiled(forward, head_dim, x, *others)
    return (make_step(functools.partial(compiled, head_dim, x, *others), (x, *others)),)


def compile_decode(x: Tensor, *others: Tensor) -> tuple[Step]:
    """The step of `prepare_decode`, by torch.compile."""
    appended = check_decode(x, *others)
    compiled = find_compiled(decode, x, *others)
    return (make_step(functools.partial(compiled, x, *others), (x, *others), appended),)


def capture_forward(x: Tensor, *others: Tensor, head_dim: int) -> tuple[Step]:
    """The step of `prepare_forward` as a CUDA graph; each run overwrites the result of the last. Raises Unsupported
    without a GPU."""
    return (capture(*prepare_forward(x, *others, head_dim=head_dim), x.device),)


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


def check_decode(x: Tensor, *others: Tensor) -> tuple[Tensor, Tensor]:
    """Check the arguments of `prepare_decode`. Returns views of the last position of both caches: (batch, kv_heads,
    head_dim)."""
    block_decode_sizes(x, *others)
    k_cache, v_cache = others[-2:]
    return k_cache[:, :, -1], v_cache[:, :, -1]


@functools.cache
def _stream_aside() -> torch.cuda.Stream:
    """One stream for all captures: what libraries allocate for a stream is then allocated once, and in no graph."""
    return torch.cuda.Stream()


def make_step(call: Callable[[], Tensor], inputs: tuple[Tensor, ...], appended: tuple[Tensor, ...] = ()) -> Step:
    """The step that `call` makes of `inputs`, with fp32 products in full precision; its result is that of `call`, then
    `appended`, the parts of the inputs that it writes to."""
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


def forward(head_dim: int, x: Tensor, *others: Tensor) -> Tensor:
    """The step of `prepare_forward`; autograd may pass through it. PyTorch chooses the backend of attention, as in a
    model."""
    angles, held = split_block(others)
    rows = x.reshape(-1, x.shape[-1])
    total = rows + F.linear(_attend(rows, head_dim, angles, held, x.shape[:2]), held.out)
    return add_mlp(total, held).view(x.shape)


def decode(x: Tensor, *others: Tensor) -> Tensor:
    """The step of `prepare_decode`, without the views of what was appended."""
    *given, k_cache, v_cache = others
    angles, held = split_block(tuple(given))
    total = x + F.linear(_attend_cached(x, angles, held, k_cache, v_cache), held.out)
    return add_mlp(total, held)


# Each returns one tensor, so that its intermediate tensors are freed before the next begins.


def _attend(x: Tensor, head_dim: int, angles: tuple[Tensor, ...], weights: BlockWeights, prompts: torch.Size) -> Tensor:
    """x: (tokens, hidden), the tokens of `prompts`: (batch, seq). Returns (tokens, heads*head_dim): causal
    attention."""
    projected = project(x, head_dim, angles, weights)
    q, k, v = (heads.unflatten(0, prompts).transpose(1, 2) for heads in projected)
    grouped = q.shape[1] != k.shape[1]
    attended = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=grouped)
    return attended.transpose(1, 2).reshape(len(x), -1)


def _attend_cached(
    x: Tensor, angles: tuple[Tensor, ...], weights: BlockWeights, k_cache: Tensor, v_cache: Tensor
) -> Tensor:
    """x: (batch, hidden), caches: (batch, kv_heads, context, head_dim). Returns (batch, heads*head_dim); appends K and
    V."""
    q, k, v = project(x, k_cache.shape[3], angles, weights)
    k_cache[:, :, -1] = k
    v_cache[:, :, -1] = v
    # One query needs no mask, so the heads that share K and V are more rows of queries.
    rows = q.reshape(len(x), k_cache.shape[1], -1, k_cache.shape[3])
    return F.scaled_dot_product_attention(rows, k_cache, v_cache).reshape(len(x), -1)


def project(
    x: Tensor, head_dim: int, angles: tuple[Tensor, ...], weights: BlockWeights
) -> tuple[Tensor, Tensor, Tensor]:
    """x: (tokens, hidden) -> Q: (tokens, heads, head_dim), K and V: (tokens, kv_heads, head_dim), Q and K turned if
    there are angles."""
    heads = weights.out.shape[1] // head_dim
    projected = F.linear(norm(x, weights.attention_norm), weights.qkv).unflatten(1, (-1, head_dim))
    kv_heads = (projected.shape[1] - heads) // 2
    turned, v = projected.split((heads + kv_heads, kv_heads), dim=1)
    if angles:
        lower, upper = turned.chunk(2, dim=-1)
        cos, sin = (each.unsqueeze(1) for each in angles)
        turned = torch.cat((lower * cos - upper * sin, upper * cos + lower * sin), dim=-1)
    q, k = turned.split((heads, kv_heads), dim=1)
    return q, k, v


def add_mlp(x: Tensor, weights: BlockWeights) -> Tensor:
    """x: (tokens, hidden). Returns x + mlp(norm(x))."""
    first = F.linear(norm(x, weights.mlp_norm), weights.gate_up)
    if len(weights.gate_up) == weights.down.shape[1]:
        return x + F.linear(F.gelu(first, approximate="tanh"), weights.down)
    gate, up = first.chunk(2, dim=-1)
    return x + F.linear(F.silu(gate) * up, weights.down)


def norm(x: Tensor, weights: Tensor) -> Tensor:
    """The rmsnorm of x (tokens, hidden) for weights (hidden,), its layernorm for (2, hidden): a weight and a bias."""
    if weights.dim() == 1:
        return F.rms_norm(x, weights.shape, weights, RMSNORM_EPS)
    return F.layer_norm(x, weights.shape[1:], weights[0], weights[1], LAYERNORM_EPS)


IMPLEMENTATIONS = (
    Implementation("block_forward", "torch", issue_prompt, prepare=prepare_forward),
    Implementation("block_decode", "torch", issue, prepare=prepare_decode),
    Implementation("block_forward", "torch_graph", issue_prompt, FLOATS, CUDA, prepare=capture_forward),
    Implementation("block_decode", "torch_graph", issue, FLOATS, CUDA, prepare=capture_decode),
)

_compiled = functools.partial(Implementation, name="torch_compile", devices=CUDA, compiles=True)
COMPILED = (
    _compiled("block_forward", run=issue_prompt, prepare=compile_forward),
    _compiled("block_decode", run=issue, prepare=compile_decode),
)
