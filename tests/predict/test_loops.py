"""Loops of many steps: which slot makes which token, how many guesses are right, and what that amounts to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from predict.errors import BadWorkload
from predict.guess_rule import accepted_guesses, verified
from predict.peak_memory import operand_bytes, peak_bytes
from predict.resources import Resource
from predict.serving_loop import RULES, continuous_steps, served, static_steps
from predict.units import find_dtype
from predict.workloads import Amounts, make_workload

BF16 = find_dtype("bf16")
# As in tests/kernels/pytorch/test_block.py: 264 matrix elements, norms of 8 + 8; a token has 2*4 numbers of K and V.
TINY = {"heads": 2, "kv_heads": 1, "head_dim": 4, "inner": 3}


def rows(steps):
    return [[(slot.request, slot.token) for slot in step] for step in steps]


def test_a_static_batch_idles_until_its_longest_request_ends():
    # Requests of 3, 1 and 3 tokens in two slots: the first two, then the last one alone.
    assert rows(static_steps(2, 3, 3, 1)) == [
        [(0, 0), (1, 0)],
        [(0, 1), (1, 0)],
        [(0, 2), (1, 0)],
        [(2, 0), (2, 0)],
        [(2, 1), (2, 1)],
        [(2, 2), (2, 2)],
    ]


def test_a_slot_that_is_refilled_takes_the_next_request_that_waits():
    assert rows(continuous_steps(2, 3, 3, 1)) == [
        [(0, 0), (1, 0)],
        [(0, 1), (2, 0)],
        [(0, 2), (2, 1)],
        [(0, 2), (2, 2)],
    ]


@given(st.sampled_from(sorted(RULES)), *(st.integers(1, most) for most in (6, 15, 8, 8)))
def test_totals_are_those_of_the_steps_and_every_token_is_made(op, slots, more, long, short):
    requests = slots + more - 1
    steps = list(RULES[op](slots, requests, long, short))
    found = served(op, slots, requests, long, short)
    assert found.steps == len(steps)
    assert found.positions == sum(slot.token for step in steps for slot in step)
    made = {(slot.request, slot.token) for step in steps for slot in step}
    lengths = [short if request % 2 else long for request in range(requests)]
    assert sorted(made) == [(request, token) for request in range(requests) for token in range(lengths[request])]
    assert all(len(step) == slots for step in steps)


def test_many_requests_are_counted_without_their_steps():
    # Half a million batches of 2 take 1000 steps each; refilled slots make 501 million tokens between them.
    assert served("serve_static", 2, 1_000_000, 1000, 2).steps == 500_000 * 1000
    assert served("serve_continuous", 2, 1_000_000, 1000, 2).steps == pytest.approx(500_000 * 501, rel=1e-5)


def test_serving_a_tiny_block_by_hand():
    # Static: 6 steps of 2 slots, 12 tokens. The tokens before them: 0 1 2 and 0 0 0, then 0 1 2 twice: 9; the prompt
    # has 5. Products 2*12*264; 4 FLOP for each of the 8 numbers of all heads and each key: the prompt, those before and
    # itself, 12*6 + 9 = 81.
    work = make_workload("serve_static", {"slots": 2, "requests": 3, "long": 3, "short": 1, "context": 5, **TINY}, BF16)
    # Read: 280 weights a step; x and angles, 8 + 4, of each token; K and V of 12*5 + 9 tokens; prompts of 3*5 tokens.
    read = 6 * 280 + 12 * 12 + (12 * 5 + 9) * 8 + 15 * 8
    # Written: K, V and 8 numbers of each token; the prompts' copies.
    assert work.amounts == Amounts({Resource.TENSOR_BF16: 2 * 12 * 264 + 4 * 81 * 8}, 2 * read, 2 * (12 * 16 + 120))
    # Inputs: x of 3 requests and 3 tokens and a result each, angles of 3 tokens, weights, prompts.
    held = 3 * 3 * 8 + 3 * 8 + 3 * 4 + 280 + 2 * 3 * 5 * 4
    assert operand_bytes(work) == 2 * held
    # Both slots hold K and V of 5 + 3 tokens; between kernels 2 tokens need their input (8), Q, K, V and the output
    # of attention (8 + 4 + 4 + 8).
    assert peak_bytes(work) == 2 * (held + 2 * 2 * 8 * 4 + 2 * (8 + 24))


def test_guesses_are_accepted_as_often_as_the_formula_says():
    for accepted, guesses in ((80, 3), (50, 4), (95, 8), (1, 2)):
        right = accepted / 100
        steps = len(list(accepted_guesses(10_000, guesses, accepted)))
        assert 10_000 / steps == pytest.approx((1 - right ** (guesses + 1)) / (1 - right), rel=5e-3)
    assert list(accepted_guesses(8, 3, 100)) == [3, 3]  # all of them, and one token more: 4 a step


@given(*(st.integers(1, most) for most in (300, 10, 100)))
def test_a_loop_ends_with_the_step_that_makes_the_last_token(tokens, guesses, accepted):
    made = [right + 1 for right in accepted_guesses(tokens, guesses, accepted)]
    assert sum(made[:-1]) < tokens <= sum(made)
    assert all(1 <= each <= guesses + 1 for each in made)
    assert verified(tokens, guesses, accepted).steps == len(made)
    assert verified(tokens, guesses, accepted).positions == sum(sum(made[:step]) for step in range(len(made)))


def test_generating_by_tiny_blocks_by_hand():
    # 3 tokens behind 5, in 2 layers: 6, 7 and 8 keys.
    plain = make_workload("generate_tokens", {"context": 5, "tokens": 3, "layers": 2, **TINY}, BF16)
    flop, read, written = 2 * 3 * 264 + 4 * 21 * 8, 3 * (280 + 12) + (5 + 6 + 7) * 8, 3 * 16
    assert plain.amounts == Amounts({Resource.TENSOR_BF16: 2 * flop}, 2 * 2 * read, 2 * 2 * written)
    # With 1 guess that is always right: 2 tokens a step. 2 steps, behind 5 and 7 tokens. The draft makes a token in
    # each: 6 and 8 keys. The verification 2: 6 + 7 and 8 + 9.
    dims = {"context": 5, "tokens": 3, "guesses": 1, "accepted": 100, "layers": 2, **TINY}
    drafted = make_workload("generate_drafted", dims, BF16)
    draft_flop, flop = 2 * 2 * 264 + 4 * 14 * 8, 2 * 4 * 264 + 4 * 30 * 8
    draft_read, read = 2 * (280 + 12) + 12 * 8, 2 * (280 + 2 * 12) + 12 * 8
    assert drafted.amounts == Amounts(
        {Resource.TENSOR_BF16: draft_flop + 2 * flop}, 2 * (draft_read + 2 * read), 2 * (2 * 16 + 2 * 4 * 16)
    )
    # Held: 4 tokens and their angles, 2 layers of weights, prompts, 3 results.
    assert operand_bytes(drafted) == 2 * (4 * 12 + 2 * (280 + 2 * 5 * 4) + 3 * 8)


def test_what_a_loop_cannot_have_is_said():
    with pytest.raises(BadWorkload, match="slots=3 is more than requests=2"):
        make_workload("serve_static", {"slots": 3, "requests": 2, "long": 3, "short": 1, "context": 5, **TINY}, BF16)
    with pytest.raises(BadWorkload, match="accepted=101 is more than 100"):
        make_workload(
            "generate_drafted",
            {"context": 5, "tokens": 3, "guesses": 1, "accepted": 101, "layers": 2, **TINY},
            BF16,
        )
