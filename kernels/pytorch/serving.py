"""A serving loop through PyTorch's kernels: a block makes the tokens of many requests in a few slots.

Which token of which request a slot makes at each step is given, as a scheduler that knows all lengths would say it.
Every slot has its own length, so attention has a mask. The inputs of all tokens are given, and not made of earlier
results: what a loop costs does not depend on them. Functions raise ValueError for shapes that `kernels.shapes` refuses.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812  (PyTorch's own convention)
from torch import Tensor

from kernels.implementation import Implementation
from kernels.pytorch.block import Step, add_mlp, issue, make_step, project
from kernels.shapes import BlockWeights, serve_sizes, split_block


@dataclass(frozen=True, slots=True)
class Turn:
    """A step of the loop, as index tensors on the device: what each of the slots works on, (slots,) each, and pairs of
    slots and requests that begin and that end in this step."""

    requests: Tensor
    tokens: Tensor
    begun: tuple[Tensor, Tensor] | None
    ended: tuple[Tensor, Tensor] | None


def prepare_serve(op: str, x: Tensor, schedule: Tensor, *others: Tensor) -> tuple[Step]:
    """x: (requests, longest, hidden), schedule: (steps, slots, 2), int32, a request and a token of it for each slot and
    step; others: cos, sin: (longest, head_dim/2), those of `BlockWeights`, and K and V of the prompts: (requests,
    kv_heads, context, head_dim). The step copies a prompt into a slot that begins its request, makes all tokens, and
    returns the block's output at the last token of each request: (requests, hidden)."""
    sizes = serve_sizes(op, x, schedule, *others)
    turns = tuple(_turns(schedule))
    shape = (schedule.shape[1], sizes.kv_heads, sizes.keys + x.shape[1], sizes.head_dim)
    caches = torch.zeros((2, *shape), dtype=x.dtype, device=x.device)  # what a mask hides must still be a number
    step = make_step(functools.partial(_serve, turns, x, others, caches), (x, schedule, *others, caches))
    return (step,)


def _turns(schedule: Tensor) -> Iterator[Turn]:
    """The steps of a schedule. A request begins where its first token is, and ends where its last one is first."""
    rows: list[list[tuple[int, int]]] = [[(request, token) for request, token in row] for row in schedule.tolist()]
    last = dict(sorted(pair for row in rows for pair in row))  # of pairs with the same request the last one stays
    open_requests = set(last)
    for step, row in enumerate(rows):
        before = rows[step - 1] if step else [(-1, 0)] * len(row)
        begun = [(slot, pair[0]) for slot, pair in enumerate(row) if pair[0] != before[slot][0]]
        ended = [
            (slot, pair[0]) for slot, pair in enumerate(row) if pair[1] == last[pair[0]] and pair[0] in open_requests
        ]
        open_requests -= {request for _, request in ended}
        requests, tokens = schedule[step].long().unbind(-1)
        yield Turn(requests, tokens, _indices(begun, schedule.device), _indices(ended, schedule.device))


def _indices(pairs: list[tuple[int, int]], device: torch.device) -> tuple[Tensor, Tensor] | None:
    """The pairs as two index tensors; None without any."""
    if not pairs:
        return None
    first, second = torch.tensor(pairs, device=device).unbind(-1)
    return first, second


def _serve(turns: tuple[Turn, ...], x: Tensor, others: tuple[Tensor, ...], caches: Tensor) -> Tensor:
    *given, k_prompts, v_prompts = others
    angles, weights = split_block(tuple(given))
    (k_cache, v_cache), context = caches.unbind(), k_prompts.shape[2]
    slots = torch.arange(k_cache.shape[0], device=x.device)
    spots = torch.arange(k_cache.shape[2], device=x.device)
    results = torch.empty(len(x), x.shape[2], dtype=x.dtype, device=x.device)
    for turn in turns:
        if turn.begun is not None:
            taken, begun = turn.begun
            k_cache[taken, :, :context] = k_prompts[begun]
            v_cache[taken, :, :context] = v_prompts[begun]
        tokens = x[turn.requests, turn.tokens]
        q, k, v = project(tokens, k_cache.shape[3], tuple(each[turn.tokens] for each in angles), weights)
        places = context + turn.tokens
        k_cache[slots, :, places] = k
        v_cache[slots, :, places] = v
        made = _finish(tokens, q, k_cache, v_cache, spots <= places[:, None], weights)
        if turn.ended is not None:
            ending, ended = turn.ended
            results[ended] = made[ending]
    return results


def _finish(x: Tensor, q: Tensor, k_cache: Tensor, v_cache: Tensor, mask: Tensor, weights: BlockWeights) -> Tensor:
    """x: (slots, hidden), q: (slots, heads, head_dim), mask: (slots, keys). Returns the block's output: x's shape. The
    heads that share K and V are rows of queries."""
    rows = q.reshape(len(x), k_cache.shape[1], -1, k_cache.shape[3])
    attended = F.scaled_dot_product_attention(rows, k_cache, v_cache, attn_mask=mask[:, None, None])
    return add_mlp(x + F.linear(attended.reshape(len(x), -1), weights.out), weights)


IMPLEMENTATIONS = tuple(
    Implementation(op, "torch", issue, prepare=functools.partial(prepare_serve, op))
    for op in ("serve_static", "serve_continuous")
)
