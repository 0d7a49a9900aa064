"""Serving and drafting loops make what single steps make."""

import pytest
import torch

from bench.cases import find_implementation, make_inputs
from kernels import reference
from kernels.shapes import split_block, split_layers
from predict.units import find_dtype
from predict.workloads import make_workload

BLOCK = {"heads": 4, "kv_heads": 2, "head_dim": 16, "inner": 24}
SERVED = {"slots": 2, "requests": 5, "long": 4, "short": 2, "context": 7, **BLOCK}
MADE = {"context": 7, "tokens": 6, "layers": 3, **BLOCK}
DRAFTED = {**MADE, "guesses": 3, "accepted": 60}
CPU = torch.device("cpu")


def inputs_of(op, dims):
    return make_inputs(make_workload(op, dims, find_dtype("fp64")), CPU, index=0)


def run(op, dims, *inputs, name="torch"):
    found = find_implementation(make_workload(op, dims, find_dtype("fp64")), name, "cpu")
    keywords = {"guesses": dims["guesses"]} if "guesses" in dims else {}
    return found.run(*found.prepare(*inputs, **keywords), **keywords)


def token_by_token(x, angles, weights, k, v):
    """A block over the tokens x of one sequence, one at a time, by the reference of a single step."""
    made = []
    for token in range(len(x)):
        empty = torch.zeros(1, *k.shape[:1], 1, k.shape[2], dtype=k.dtype)
        caches = [torch.cat((each[None], empty), dim=2) for each in (k, v)]
        turns = [each[token : token + 1] for each in angles]
        out, new_k, new_v = reference.block_decode(x[token : token + 1], *turns, *weights, *caches)
        k, v = (torch.cat((each, new.transpose(0, 1)), dim=1) for each, new in ((k, new_k), (v, new_v)))
        made.append(out[0])
    return torch.stack(made)


@pytest.mark.parametrize("op", ["serve_static", "serve_continuous"])
def test_each_request_ends_where_serving_it_alone_ends(op):
    x, schedule, *others = inputs_of(op, SERVED)
    found = run(op, SERVED, x, schedule, *others)
    angles, weights = split_block(tuple(others[:-2]))
    for request, (k, v) in enumerate(zip(*others[-2:], strict=True)):
        length = 2 if request % 2 else 4
        alone = token_by_token(x[request, :length], [each[:length] for each in angles], weights, k, v)
        torch.testing.assert_close(found[request], alone[-1])
    torch.testing.assert_close(getattr(reference, op)(x, schedule, *others), found)


def test_a_second_call_finds_slots_that_others_have_left():
    inputs = inputs_of("serve_continuous", SERVED)
    found = find_implementation(make_workload("serve_continuous", SERVED, find_dtype("fp64")), "torch", "cpu")
    prepared = found.prepare(*inputs)
    first, second = found.run(*prepared).clone(), found.run(*prepared)
    assert torch.equal(first, second)


def test_a_step_too_few_is_caught():
    x, schedule, *others = inputs_of("serve_static", SERVED)
    right = reference.serve_static(x, schedule, *others)
    fewer = schedule.clone()
    fewer[..., 1].clamp_(max=2)  # the last token of long requests is not made
    assert not torch.allclose(run("serve_static", SERVED, x, fewer, *others), right)


@pytest.mark.parametrize(("op", "dims"), [("generate_tokens", MADE), ("generate_drafted", DRAFTED)])
def test_layers_make_what_they_make_token_by_token_drafted_or_not(op, dims):
    x, *others = inputs_of(op, dims)
    accepted = [others.pop(0)] if op == "generate_drafted" else []
    angles, layers = split_layers(tuple(others[:-2]))
    out = x[: MADE["tokens"]]
    for weights, k, v in zip(layers, *others[-2:], strict=True):
        out = token_by_token(out, [each[: len(out)] for each in angles], weights, k, v)
    torch.testing.assert_close(run(op, dims, x, *accepted, *others), out)


def test_tensors_that_do_not_fit_are_refused():
    x, schedule, *others = inputs_of("serve_static", SERVED)
    with pytest.raises(ValueError, match=r"serve_static: schedule must have shape \(\d+, 2, 2\)"):
        run("serve_static", SERVED, x, schedule.repeat(1, 1, 2), *others)
    with pytest.raises(ValueError, match="serve_static: k_prompts"):
        run("serve_static", SERVED, x, schedule, *others[:-2], *(each[:, :1] for each in others[-2:]))
    x, *others = inputs_of("generate_tokens", MADE)
    with pytest.raises(ValueError, match="generate_tokens: k_prompts"):
        run("generate_tokens", MADE, x, *others[:-2], *(each[:, :1] for each in others[-2:]))
