"""A training step of a transformer block through PyTorch's kernels: forward, backward and mixed-precision AdamW.

Weights are in 16 bits; the fp32 master that AdamW updates and both moments are flat buffers, as ZeRO and Megatron hold
them. A step leaves all that it is given alone, so that every call does the same work.
"""

import functools
from collections.abc import Callable

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from kernels.block import Result, Step, forward, issue
from kernels.constants import ADAMW_BETAS, ADAMW_DECAY, ADAMW_EPS, ADAMW_RATE, ADAMW_STEP
from kernels.peers import find_compiled
from kernels.shapes import BlockSizes, block_train_sizes, check_dtype, split_block_weights

SUPPORTED_DTYPES = ("bf16", "fp16")

State = tuple[Tensor, Tensor, Tensor]  # master, m, v


def issue_train(step: Step, *, kv_heads: int) -> Result:  # noqa: ARG001  (which the step has been made with)
    """Queue the step. Returns its result."""
    return issue(step)


def prepare_train(
    x: Tensor,
    grad: Tensor,
    cos: Tensor,
    sin: Tensor,
    weights: Tensor,
    master: Tensor,
    m: Tensor,
    v: Tensor,
    *,
    kv_heads: int,
) -> tuple[Step]:
    """x, grad: (batch, seq, hidden), cos, sin: (batch*seq, head_dim/2), weights: (parameters,), master, m, v:
    (parameters,) in fp32. The step returns the output, the gradient of x, and new weights, master, m and v."""
    sizes = _check(x, grad, cos, sin, weights, master, m, v, kv_heads=kv_heads)
    update = functools.partial(_update, sizes)
    return (_step(forward, update, x, grad, (cos, sin), weights, (master, m, v), sizes),)


def compile_train(
    x: Tensor,
    grad: Tensor,
    cos: Tensor,
    sin: Tensor,
    weights: Tensor,
    master: Tensor,
    m: Tensor,
    v: Tensor,
    *,
    kv_heads: int,
) -> tuple[Step]:
    """The step of `prepare_train`, by torch.compile: the forward pass with its backward, and AdamW, which it makes one
    kernel of that writes to new buffers, so that nothing is copied."""
    sizes = _check(x, grad, cos, sin, weights, master, m, v, kv_heads=kv_heads)
    parts, state = split_block_weights(weights, sizes), (master, m, v)
    compiled = find_compiled(forward, x, cos, sin, *parts)
    update = find_compiled(_adamw, *state, *parts)
    return (_step(compiled, update, x, grad, (cos, sin), weights, state, sizes),)


def _step(
    run: Callable[..., Tensor],
    update: Callable[..., tuple[Tensor, ...]],
    x: Tensor,
    grad: Tensor,
    rotary: tuple[Tensor, Tensor],
    weights: Tensor,
    state: State,
    sizes: BlockSizes,
) -> Step:
    """The weights become leaves, as the parameters of a model are, and so does x."""
    leaves = tuple(each.detach().requires_grad_() for each in (x, *split_block_weights(weights, sizes)))
    nbytes = sum(each.nbytes for each in (x, grad, *rotary, weights, *state))
    return Step(functools.partial(_train, run, update, leaves, grad, rotary, state), nbytes)


def _train(
    run: Callable[..., Tensor],
    update: Callable[..., tuple[Tensor, ...]],
    leaves: tuple[Tensor, ...],
    grad: Tensor,
    rotary: tuple[Tensor, Tensor],
    state: State,
) -> tuple[Tensor, ...]:
    x, *weights = leaves
    with torch.enable_grad():
        out = run(x, *rotary, *weights)
    slope, *slopes = torch.autograd.grad(out, leaves, grad)
    return out.detach(), slope, *update(*state, *slopes)


def _update(
    sizes: BlockSizes, master: Tensor, m: Tensor, v: Tensor, *slopes: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """master, m, v: (parameters,), slopes: the gradients of all weights. Returns new weights, master, m and v.

    PyTorch's AdamW works in place, so the state is copied first: 24 bytes a parameter that a real step does not move.
    One fused kernel on CUDA; elsewhere one for each operation.
    """
    gradient = torch.empty_like(master)
    for part, slope in zip(split_block_weights(gradient, sizes), slopes, strict=True):
        part.copy_(slope)
    master, m, v = (each.clone() for each in (master, m, v))
    fused = master.device.type == "cuda"
    adamw(
        [master],
        [gradient],
        [m],
        [v],
        [],
        [torch.full((), ADAMW_STEP - 1.0, device=master.device)],
        fused=fused,
        foreach=not fused,
        amsgrad=False,
        beta1=ADAMW_BETAS[0],
        beta2=ADAMW_BETAS[1],
        lr=ADAMW_RATE,
        weight_decay=ADAMW_DECAY,
        eps=ADAMW_EPS,
        maximize=False,
    )
    return master.to(slopes[0].dtype), master, m, v


def _adamw(master: Tensor, m: Tensor, v: Tensor, *slopes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The same as a formula."""
    gradient = torch.cat([each.flatten() for each in slopes]).float()
    m = torch.lerp(m, gradient, 1 - ADAMW_BETAS[0])
    v = torch.lerp(v, gradient * gradient, 1 - ADAMW_BETAS[1])
    unbiased_m = m / (1 - ADAMW_BETAS[0] ** ADAMW_STEP)
    unbiased_v = v / (1 - ADAMW_BETAS[1] ** ADAMW_STEP)
    master = master * (1 - ADAMW_RATE * ADAMW_DECAY) - ADAMW_RATE * unbiased_m / (unbiased_v.sqrt() + ADAMW_EPS)
    return master.to(slopes[0].dtype), master, m, v


def _check(x: Tensor, *others: Tensor, kv_heads: int) -> BlockSizes:
    check_dtype("block_train", x.dtype, SUPPORTED_DTYPES)
    return block_train_sizes(x, *others, kv_heads=kv_heads)
