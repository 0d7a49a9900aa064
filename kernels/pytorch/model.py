"""A whole model through PyTorch's kernels: the blocks of `block`, as written, compiled, and captured in one CUDA graph.

torch.compile compiles one block, which all layers call, and the end: the layers are alike, so a model compiles as fast
as a layer does. PyTorch calls that regional compilation. Functions raise ValueError for shapes that `kernels.shapes`
refuses.
"""

import functools
import os
import shutil
import sys
from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812  (PyTorch's own convention)
from torch import Tensor

from kernels.implementation import CUDA, FLOATS, Implementation
from kernels.pytorch import block
from kernels.pytorch.block import Step, capture, issue, issue_prompt, make_step
from kernels.pytorch.compiled import find_compiled
from kernels.shapes import ModelWeights, model_decode_sizes, model_forward_sizes, split_model
from kernels.unsupported import Unsupported

Function = Callable[..., Tensor]


def prepare_forward(x: Tensor, *others: Tensor, head_dim: int) -> tuple[Step]:
    """x: (batch, seq, hidden), others: cos, sin: (batch*seq, head_dim/2) if the MLPs have three matrices, then weights
    as `ModelSizes.weight_shapes` says. The step returns the logits of the last position of each prompt: (batch,
    vocab)."""
    model_forward_sizes(x, *others, head_dim=head_dim)
    return (_forward_step(x, others, functools.partial(block.forward, head_dim), logits),)


def prepare_decode(x: Tensor, *others: Tensor) -> tuple[Step]:
    """x: (batch, hidden), others: cos, sin: (batch, head_dim/2) if the MLPs have three matrices, weights as
    `ModelSizes.weight_shapes` says, and the caches of all layers: (layers, batch, kv_heads, context, head_dim). The
    step writes the new token's K and V at position context-1 of the caches in place. It returns the logits, (batch,
    vocab), and views of what it appended: (layers, batch, kv_heads, head_dim)."""
    model_decode_sizes(x, *others)
    return (_decode_step(x, others, block.decode, logits),)


def compile_forward(x: Tensor, *others: Tensor, head_dim: int) -> tuple[Step]:
    """The step of `prepare_forward`, a compiled block for each layer. Raises Unsupported on a CPU without a C++
    compiler."""
    model_forward_sizes(x, *others, head_dim=head_dim)
    _check_compiler(x.device)
    angles, weights = split_model(others)
    layer = functools.partial(find_compiled(block.forward, head_dim, x, *angles, *weights.layers[0]), head_dim)
    return (_forward_step(x, others, layer, find_compiled(logits, x[:, -1], weights.norm, weights.vocabulary)),)


def compile_decode(x: Tensor, *others: Tensor) -> tuple[Step]:
    """The step of `prepare_decode`, a compiled block for each layer. Raises Unsupported on a CPU without a C++
    compiler."""
    model_decode_sizes(x, *others)
    _check_compiler(x.device)
    angles, weights = split_model(others[:-2])
    layer = find_compiled(block.decode, x, *angles, *weights.layers[0], *(caches[0] for caches in others[-2:]))
    return (_decode_step(x, others, layer, find_compiled(logits, x, weights.norm, weights.vocabulary)),)


def capture_forward(x: Tensor, *others: Tensor, head_dim: int) -> tuple[Step]:
    """The step of `prepare_forward` as one CUDA graph; each run overwrites the result of the last. Raises Unsupported
    without a GPU."""
    return (capture(*prepare_forward(x, *others, head_dim=head_dim), x.device),)


def capture_decode(*inputs: Tensor) -> tuple[Step]:
    """The step of `prepare_decode` as one CUDA graph; capturing already writes to the caches. Raises Unsupported
    without a GPU."""
    return (capture(*prepare_decode(*inputs), inputs[0].device),)


def logits(x: Tensor, norm: Tensor, vocabulary: Tensor) -> Tensor:
    """x: (batch, hidden), norm: `BlockSizes.norm_shape`, vocabulary: (vocab, hidden). Returns (batch, vocab)."""
    return F.linear(block.norm(x, norm), vocabulary)


def _forward_step(x: Tensor, others: tuple[Tensor, ...], layer: Function, end: Function) -> Step:
    angles, weights = split_model(others)
    return make_step(functools.partial(_forward, x, angles, weights, layer, end), (x, *others))


def _decode_step(x: Tensor, others: tuple[Tensor, ...], layer: Function, end: Function) -> Step:
    angles, weights = split_model(others[:-2])
    caches = tuple(zip(*(each.unbind() for each in others[-2:]), strict=True))
    appended = tuple(each[..., -1, :] for each in others[-2:])
    return make_step(functools.partial(_decode, x, angles, weights, caches, layer, end), (x, *others), appended)


def _forward(x: Tensor, angles: tuple[Tensor, ...], weights: ModelWeights, layer: Function, end: Function) -> Tensor:
    for each in weights.layers:
        x = layer(x, *angles, *each)
    return end(x[:, -1], weights.norm, weights.vocabulary)


def _decode(
    x: Tensor,
    angles: tuple[Tensor, ...],
    weights: ModelWeights,
    caches: tuple[tuple[Tensor, ...], ...],
    layer: Function,
    end: Function,
) -> Tensor:
    for each, own in zip(weights.layers, caches, strict=True):
        x = layer(x, *angles, *each, *own)
    return end(x, weights.norm, weights.vocabulary)


def _check_compiler(device: torch.device) -> None:
    """Raise Unsupported where torch.compile would write C++ and nothing can compile it."""
    compiler = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    if device.type == "cpu" and shutil.which(compiler) is None:
        raise Unsupported(f"torch.compile needs a C++ compiler on a CPU, and there is no {compiler}; CXX names another")


_compiled = functools.partial(Implementation, name="torch_compile", compiles=True)

IMPLEMENTATIONS = (
    Implementation("model_forward", "torch", issue_prompt, prepare=prepare_forward),
    Implementation("model_decode", "torch", issue, prepare=prepare_decode),
    Implementation("model_forward", "torch_graph", issue_prompt, FLOATS, CUDA, prepare=capture_forward),
    Implementation("model_decode", "torch_graph", issue, FLOATS, CUDA, prepare=capture_decode),
)

COMPILED = (
    _compiled("model_forward", run=issue_prompt, prepare=compile_forward),
    _compiled("model_decode", run=issue, prepare=compile_decode),
)
