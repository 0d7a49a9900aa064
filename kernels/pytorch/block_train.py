"""A training step of transformer blocks through PyTorch's kernels: forward, backward and mixed-precision AdamW.

A layer keeps what its backward pass needs, or with two forward passes its input alone (PyTorch's activation
checkpointing).

Weights are in 16 bits. The fp32 master weights that AdamW updates and both moments are flat buffers, as in ZeRO and
Megatron. A step updates its own copy in place, as training does. Every other call takes the step back, so that after
thousands of calls the weights are as large as in the first, which was checked.

Functions raise ValueError for shapes that `kernels.shapes` refuses, Unsupported for dtypes other than SUPPORTED_DTYPES.
"""

import functools
import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor
from torch.optim.adamw import adamw
from torch.utils.checkpoint import checkpoint

from kernels.constants import ADAMW_BETAS, ADAMW_DECAY, ADAMW_EPS, ADAMW_RATE, ADAMW_STEP
from kernels.implementation import CUDA, Implementation, Result
from kernels.pytorch.block import Step, forward, issue
from kernels.pytorch.compiled import find_compiled
from kernels.shapes import BlockSizes, BlockWeights, block_train_sizes, check_dtype, split_block_weights

SUPPORTED_DTYPES = ("bf16", "fp16")

State = tuple[Tensor, Tensor, Tensor, Tensor]  # weights, master, m, v


def issue_train(step: Step, *, kv_heads: int, layers: int = 1, forwards: int = 1) -> Result:  # noqa: ARG001  (the step has them)
    """Queue the step. Returns its result."""
    return issue(step)


def prepare_train(*inputs: Tensor, kv_heads: int, layers: int = 1, forwards: int = 1) -> tuple[Step]:
    """inputs: x, grad (batch, seq, hidden), cos, sin (batch*seq, head_dim/2), weights (parameters,) of all layers, and
    master, m, v (parameters,) in fp32; the last four are copied. The step returns the output, the gradient of x, and
    its own weights, master, m and v, which it updates by ADAMW_RATE, and every other time by as much the other way."""
    sizes = _check(*inputs, kv_heads=kv_heads, layers=layers)
    update = functools.partial(_update, sizes, itertools.cycle((ADAMW_RATE, -ADAMW_RATE)))
    layer = _kept(functools.partial(forward, sizes.head_dim), forwards)
    return (_step(layer, update, inputs, sizes),)


def compile_train(*inputs: Tensor, kv_heads: int, layers: int = 1, forwards: int = 1) -> tuple[Step]:
    """The step of `prepare_train` by torch.compile: forward with backward of a layer, and AdamW, which becomes one
    kernel."""
    sizes = _check(*inputs, kv_heads=kv_heads, layers=layers)
    x, _, cos, sin, *state = inputs
    parts = split_block_weights(state[0], sizes)
    rates = tuple(torch.tensor(rate, device=x.device) for rate in (ADAMW_RATE, -ADAMW_RATE))
    compiled = functools.partial(find_compiled(forward, sizes.head_dim, x, cos, sin, *parts[0]), sizes.head_dim)
    update = functools.partial(
        _update_compiled, find_compiled(_adamw, rates[0], *state, *itertools.chain(*parts)), itertools.cycle(rates)
    )
    return (_step(_kept(compiled, forwards), update, inputs, sizes),)


def _kept(layer: Callable[..., Tensor], forwards: int) -> Callable[..., Tensor]:
    """The layer, whose forward pass runs again in the backward pass if there are two of them."""
    if forwards == 1:
        return layer
    return functools.partial(checkpoint, layer, use_reentrant=False, preserve_rng_state=False)


def _step(
    layer: Callable[..., Tensor], update: Callable[..., None], inputs: tuple[Tensor, ...], sizes: BlockSizes
) -> Step:
    """Views of the copied weights are leaves of the graph, as a model's parameters are, and so is x."""
    x, grad, cos, sin, *given = inputs
    weights, master, m, v = (each.clone() for each in given)
    parts = itertools.chain(*split_block_weights(weights, sizes))
    leaves = tuple(each.detach().requires_grad_() for each in (x, *parts))
    own = (weights, master, m, v)
    nbytes = sum(each.nbytes for each in (x, grad, cos, sin, *own))
    return Step(functools.partial(_train, layer, update, leaves, grad, (cos, sin), own), nbytes)


def _train(
    layer: Callable[..., Tensor],
    update: Callable[..., None],
    leaves: tuple[Tensor, ...],
    grad: Tensor,
    rotary: tuple[Tensor, Tensor],
    state: State,
) -> tuple[Tensor, ...]:
    out, *weights = leaves
    with torch.enable_grad():
        for first in range(0, len(weights), len(BlockWeights._fields)):
            out = layer(out, *rotary, *weights[first : first + len(BlockWeights._fields)])
    slope, *slopes = torch.autograd.grad(out, leaves, grad)
    update(state, slopes)
    return out.detach(), slope, *state


def _update(sizes: BlockSizes, rates: Iterator[float], state: State, slopes: list[Tensor]) -> None:
    """Update the state, (parameters,) each, by the gradients of all weights. PyTorch's AdamW needs a gradient in the
    master's format: 4 bytes per parameter more. It is one fused kernel."""
    weights, master, m, v = state
    gradient = torch.empty_like(master)
    for part, slope in zip(itertools.chain(*split_block_weights(gradient, sizes)), slopes, strict=True):
        part.copy_(slope)
    adamw(
        [master],
        [gradient],
        [m],
        [v],
        [],
        [torch.full((), ADAMW_STEP - 1.0, device=master.device)],
        fused=True,
        foreach=False,
        amsgrad=False,
        beta1=ADAMW_BETAS[0],
        beta2=ADAMW_BETAS[1],
        lr=next(rates),
        weight_decay=ADAMW_DECAY,
        eps=ADAMW_EPS,
        maximize=False,
    )
    weights.copy_(master)


def _update_compiled(
    compiled: Callable[..., None], rates: Iterator[Tensor], state: State, slopes: list[Tensor]
) -> None:
    compiled(next(rates), *state, *slopes)


def _adamw(rate: Tensor, weights: Tensor, master: Tensor, m: Tensor, v: Tensor, *slopes: Tensor) -> None:
    """AdamW as a formula. rate: (), a tensor, so that one graph serves all its values."""
    gradient = torch.cat([each.flatten() for each in slopes]).float()
    new_m = torch.lerp(m, gradient, 1 - ADAMW_BETAS[0])
    new_v = torch.lerp(v, gradient * gradient, 1 - ADAMW_BETAS[1])
    unbiased_m = new_m / (1 - ADAMW_BETAS[0] ** ADAMW_STEP)
    unbiased_v = new_v / (1 - ADAMW_BETAS[1] ** ADAMW_STEP)
    new_master = master * (1 - rate * ADAMW_DECAY) - rate * unbiased_m / (unbiased_v.sqrt() + ADAMW_EPS)
    for old, new in ((weights, new_master), (master, new_master), (m, new_m), (v, new_v)):
        old.copy_(new)


def _check(x: Tensor, *others: Tensor, kv_heads: int, layers: int) -> BlockSizes:
    check_dtype("block_train", x.dtype, SUPPORTED_DTYPES)
    return block_train_sizes(x, *others, kv_heads=kv_heads, layers=layers)


IMPLEMENTATION = Implementation("block_train", "torch", issue_train, SUPPORTED_DTYPES, prepare=prepare_train)

COMPILED = replace(IMPLEMENTATION, name="torch_compile", devices=CUDA, prepare=compile_train, compiles=True)
