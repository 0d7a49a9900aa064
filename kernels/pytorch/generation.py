"""Generation of one sequence through PyTorch's kernels: token by token, and by drafting and verifying.

The draft is the first block of the target, and shares its cache. How many guesses a step accepts is given; so are the
inputs of all tokens, which are not made of earlier results: a guess that is rejected has the input of the token that
takes its place. Functions raise ValueError for shapes that `kernels.shapes` refuses.
"""

import functools
import itertools

import torch
import torch.nn.functional as F  # noqa: N812  (PyTorch's own convention)
from torch import Tensor

from kernels.implementation import Implementation, Result
from kernels.pytorch.block import Step, add_mlp, issue, make_step, project
from kernels.shapes import BlockWeights, generate_sizes, split_layers

Layers = tuple[tuple[BlockWeights, Tensor, Tensor], ...]  # weights, K and V of each layer


def issue_drafted(step: Step, *, guesses: int) -> Result:  # noqa: ARG001  (the step has it)
    """Queue a step of `prepare_drafted`. Returns its result."""
    return issue(step)


def prepare_tokens(x: Tensor, *others: Tensor) -> tuple[Step]:
    """x: (tokens, hidden), the inputs of all tokens; others: cos, sin: (tokens, head_dim/2), those of `BlockWeights`,
    each of all layers in one tensor, and K and V of the prompt: (layers, kv_heads, context, head_dim). The step returns
    the output of the last block at every token: (tokens, hidden)."""
    generate_sizes("generate_tokens", x, *others)
    return (_make(x, others, tuple((token, 1) for token in range(len(x))), 0),)


def prepare_drafted(x: Tensor, accepted: Tensor, *others: Tensor, guesses: int) -> tuple[Step]:
    """x: (tokens + guesses, hidden), the inputs of all tokens and of the guesses behind the last one; accepted:
    (steps,), int32, the guesses that each step accepts; others as in `prepare_tokens`. The step returns the output of
    the last block at every token: (tokens, hidden)."""
    generate_sizes("generate_drafted", x, *others)
    begun = itertools.accumulate((right + 1 for right in accepted.tolist()[:-1]), initial=0)
    return (_make(x, others, tuple((token, guesses + 1) for token in begun), guesses),)


def _make(x: Tensor, others: tuple[Tensor, ...], chunks: tuple[tuple[int, int], ...], guesses: int) -> Step:
    *given, k_prompts, v_prompts = others
    angles, weights = split_layers(tuple(given))
    caches = tuple(F.pad(prompts, (0, 0, 0, len(x))) for prompts in (k_prompts, v_prompts))
    layers: Layers = tuple(zip(weights, *(each.unbind() for each in caches), strict=True))
    call = functools.partial(_generate, x, angles, layers, k_prompts.shape[2], chunks, guesses)
    return make_step(call, (x, *others, *caches))


def _generate(
    x: Tensor,
    angles: tuple[Tensor, ...],
    layers: Layers,
    context: int,
    chunks: tuple[tuple[int, int], ...],
    guesses: int,
) -> Tensor:
    """`chunks`: the first token of each step, and how many tokens it runs through all layers."""
    out = torch.empty_like(x)
    for first, count in chunks:
        for token in range(first, first + guesses):
            _through(layers[:1], x, angles, context, token, 1)
        out[first : first + count] = _through(layers, x, angles, context, first, count)
    return out[: len(x) - guesses]


def _through(layers: Layers, x: Tensor, angles: tuple[Tensor, ...], context: int, first: int, count: int) -> Tensor:
    """The outputs of `count` tokens from the `first` on, after these layers: (count, hidden). Their K and V go into the
    caches, behind those of the `context` and of earlier tokens."""
    tokens = slice(first, first + count)
    rows, turns = x[tokens], tuple(each[tokens] for each in angles)
    for weights, k_cache, v_cache in layers:
        q, k, v = project(rows, k_cache.shape[2], turns, weights)
        end = context + tokens.stop
        k_cache[:, end - count : end] = k.transpose(0, 1)
        v_cache[:, end - count : end] = v.transpose(0, 1)
        attended = _attend(q, k_cache[:, :end], v_cache[:, :end])
        rows = add_mlp(rows + F.linear(attended, weights.out), weights)
    return rows


def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """q: (count, heads, head_dim), the last tokens; k, v: (kv_heads, keys, head_dim). Returns (count, heads*head_dim):
    causal attention. The heads that share K and V are rows of queries."""
    count, keys = len(q), k.shape[1]
    rows = q.unflatten(1, (len(k), -1)).permute(1, 2, 0, 3).reshape(1, len(k), -1, q.shape[2])
    mask = None
    if count > 1:
        spots = torch.arange(keys, device=q.device)
        mask = (spots <= spots[-count:, None]).repeat(rows.shape[2] // count, 1)
    attended = F.scaled_dot_product_attention(rows, k[None], v[None], attn_mask=mask)
    return attended.view(len(k), -1, count, q.shape[2]).permute(2, 0, 1, 3).reshape(count, -1)


IMPLEMENTATIONS = (
    Implementation("generate_tokens", "torch", issue, prepare=prepare_tokens),
    Implementation("generate_drafted", "torch", issue_drafted, prepare=prepare_drafted),
)
