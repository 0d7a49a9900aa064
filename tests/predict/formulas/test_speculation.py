"""Speculative decoding against worked numbers of the papers and lessons, and against direct sums."""

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from predict.errors import BadQuantity
from predict.formulas import speculation


@pytest.mark.parametrize(
    ("alpha", "k", "tokens"),
    [
        (0.8, 4, 3.3616),  # 1 + .8 + .64 + .512 + .4096; companion lesson 06 prints 3.3
        (0.75, 4, 3.05078125),  # efficiency lesson's widget: 1 + .75 + .5625 + .421875 + .31640625
        (0.0, 4, 1),  # the target's own token
        (0.5, 1, 1.5),
    ],
)
def test_expected_tokens_are_the_sum_of_powers(alpha, k, tokens):
    assert speculation.expected_tokens(alpha, k) == pytest.approx(tokens, rel=1e-9)


@pytest.mark.parametrize("k", [1, 4, 64])
def test_a_perfect_draft_yields_all_guesses_and_one_more(k):
    assert speculation.expected_tokens(1, k) == k + 1
    assert speculation.expected_tokens(np.array([1.0, 0.0]), k).tolist() == [k + 1, 1]


def test_expected_tokens_keep_their_digits_near_a_perfect_draft():
    # alpha = 1 - e: the sum of 1 - i*e for i = 0..4 is 5 - 10e, to first order in e.
    assert speculation.expected_tokens(1 - 1e-9, 4) == pytest.approx(5 - 1e-8, rel=1e-14)


@pytest.mark.parametrize(
    ("alpha", "k", "c", "gain"),
    [
        (0.8, 4, 0.15, 2.101),  # companion lesson 06's widget: 3.3616 / 1.6
        # Efficiency lesson, a draft of a fifteenth of the size: (1 - .7^5)/.3 = 2.7731 over 1 + 4/15; 3.3616 over it.
        (0.7, 4, 1 / 15, 2.189),
        (0.8, 4, 1 / 15, 2.654),
        (0.7, 5, 1 / 15, 2.206),  # (1 - .7^6)/.3 = 2.94117 over 1.33333
        (0.8, 7, 1 / 15, 2.837),  # (1 - .8^8)/.2 = 4.16114 over 1.46667
    ],
)
def test_speedup_divides_tokens_by_the_time_of_a_step(alpha, k, c, gain):
    assert speculation.speedup(alpha, k, c) == pytest.approx(gain, abs=5e-4)


@pytest.mark.parametrize(("alpha", "best"), [(0.7, 5), (0.8, 7)])
def test_the_best_depth_grows_with_acceptance(alpha, best):
    # c = 1/15. alpha = .7: 2.189 at k = 4, 2.206 at 5, (1 - .7^7)/.3/1.4 = 2.185 at 6. alpha = .8: 3.9514/1.4 = 2.822
    # at k = 6, 2.837 at 7, (1 - .8^9)/.2/1.5333 = 2.823 at 8.
    assert speculation.best_k(alpha, 1 / 15) == best


def test_a_draft_that_guesses_worse_than_it_costs_never_pays():
    assert speculation.best_k(0.2, 0.3) == 0
    assert speculation.best_k(0.3, 0.3) == 0  # (1 + .3)/(1 + .3): no gain
    assert speculation.best_k(0.31, 0.3) == 1  # 1.31/1.3; at k = 2: 1.4061/1.6


def test_a_free_and_perfect_draft_runs_to_the_limit():
    assert speculation.best_k(1, 0) == 64
    assert speculation.best_k(1, 0, limit=7) == 7


def test_flop_grow_by_the_draft_and_the_rejected_guesses():
    # alpha = .8, k = 4, a draft of a fifteenth: (4/15 + 5) / 3.3616.
    assert speculation.flop_factor(0.8, 4, 1 / 15) == pytest.approx(5.266667 / 3.3616)
    # Leviathan's form of it: (1 - a)(k*c + k + 1) / (1 - a^(k+1)).
    assert speculation.flop_factor(0.8, 4, 1 / 15) == pytest.approx(0.2 * (4 / 15 + 5) / (1 - 0.8**5))


def test_a_batch_gains_nothing_once_checking_takes_k_plus_1_steps():
    # Memory-bound: checking takes one step, 3.3616*10/(4*1 + 10). Compute-bound: 5 steps, 3.3616*10/(4*1 + 50).
    assert speculation.batch_speedup(0.8, 4, 10e-3, 1e-3, 10e-3) == pytest.approx(33.616 / 14)
    assert speculation.batch_speedup(0.8, 4, 10e-3, 1e-3, 50e-3) == pytest.approx(33.616 / 54)


def test_gpt_fast_s_speedup_on_70b_means_an_acceptance_near_73_percent():
    # gpt-fast's README: 48.4 against 25.25 tokens per second = 1.9168, c = .1283. At k = 4 a step yields
    # 1.9168*(1 + 4*.1283) = 2.9005 tokens; alpha = .72 gives 2.8803, .73 gives 2.9359.
    gain = 48.4 / 25.25
    assert gain == pytest.approx(1.9168, rel=1e-4)
    alpha = speculation.implied_acceptance(gain, 4, 0.1283)
    assert alpha == pytest.approx(0.73, abs=0.01)
    assert 0.72 < alpha < 0.73


def test_a_speedup_that_no_acceptance_explains_is_refused():
    with pytest.raises(BadQuantity, match="measured_speedup means 6 tokens per step, but k = 4 yields 1 to 5"):
        speculation.implied_acceptance(6, 4, 0)
    with pytest.raises(BadQuantity, match=r"measured_speedup means 0\.9 tokens"):
        speculation.implied_acceptance(0.9, 4, 0)


acceptances = st.floats(0, 1)
depths = st.integers(1, 32)
draft_costs = st.floats(0, 1)


@given(acceptances, depths)
def test_expected_tokens_equal_the_direct_sum(alpha, k):
    assert speculation.expected_tokens(alpha, k) == pytest.approx(math.fsum(alpha**i for i in range(k + 1)))


@given(acceptances, acceptances, depths)
def test_more_acceptance_and_more_depth_never_yield_fewer_tokens(one, other, k):
    low, high = sorted((one, other))
    assert speculation.expected_tokens(low, k) <= speculation.expected_tokens(high, k) * (1 + 1e-12)
    assert speculation.expected_tokens(low, k) <= speculation.expected_tokens(low, k + 1) * (1 + 1e-12)


@given(acceptances, draft_costs)
def test_the_best_depth_is_the_best_of_all(alpha, c):
    gains = [speculation.speedup(alpha, k, c) for k in range(1, 65)]
    best = speculation.best_k(alpha, c)
    if best:
        assert gains[best - 1] == pytest.approx(max(gains), rel=1e-12)
        assert gains[best - 1] >= (1 + alpha) / (1 + c) * (1 - 1e-12)  # Leviathan's corollary 3.9
    else:
        assert max(gains) <= 1 + 1e-12


@given(acceptances, depths, st.floats(1e-6, 10), draft_costs)
def test_a_batch_whose_check_is_free_gains_what_theorem_3_8_says(alpha, k, target_s, c):
    gain = speculation.batch_speedup(alpha, k, target_s, c * target_s, target_s)
    assert gain == pytest.approx(speculation.speedup(alpha, k, c))


@given(acceptances, st.integers(1, 16), draft_costs)
@example(1.0, 4, 0.1)
def test_implied_acceptance_undoes_speedup(alpha, k, c):
    gain = float(speculation.speedup(alpha, k, c))
    assert speculation.implied_acceptance(gain, k, c) == pytest.approx(alpha, abs=1e-9)


def test_a_tree_adds_the_chance_of_every_node():
    # Two heads: guesses of .6 and .2, then .5 and .3. Nodes (0,), (1,), (0,0), (0,1), (1,0): 1 + .6 + .2 + .6*.5 +
    # .6*.3 + .2*.5 = 2.38.
    heads = [[0.6, 0.2], [0.5, 0.3]]
    tree = [(0,), (1,), (0, 0), (0, 1), (1, 0)]
    assert speculation.tree_expected_tokens(heads, tree) == pytest.approx(2.38)
    assert speculation.tree_expected_tokens(heads, reversed(tree)) == pytest.approx(2.38)
    assert speculation.tree_expected_tokens(heads, []) == 1


@given(acceptances, st.integers(1, 10))
def test_a_tree_of_one_branch_is_plain_speculation(alpha, k):
    chain = [(0,) * depth for depth in range(1, k + 1)]
    found = speculation.tree_expected_tokens([[alpha]] * k, chain)
    assert found == pytest.approx(speculation.expected_tokens(alpha, k))


@given(st.lists(st.floats(0, 0.25), min_size=4, max_size=4), st.integers(0, 3))
def test_a_node_more_never_yields_fewer_tokens(chances, rank):
    smaller = speculation.tree_expected_tokens([chances, chances], [(0,), (rank,)] if rank else [(0,)])
    larger = speculation.tree_expected_tokens(
        [chances, chances], [(0,), (rank,), (rank, 1)] if rank else [(0,), (0, 1)]
    )
    assert smaller <= larger <= 3


def test_medusa_gains_tokens_per_step_over_the_cost_of_a_step():
    assert speculation.medusa_speedup(3.0, 1.2) == pytest.approx(2.5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: speculation.expected_tokens(1.1, 4), "alpha must be from 0 to 1"),
        (lambda: speculation.expected_tokens(np.array([0.5, -0.1]), 4), "alpha must be from 0 to 1, not -0.1"),
        (lambda: speculation.expected_tokens(0.5, 0), "k must be a positive whole number"),
        (lambda: speculation.speedup(0.5, 1.5, 0.1), "k must"),
        (lambda: speculation.speedup(0.5, 4, -0.1), "c must not be negative"),
        (lambda: speculation.flop_factor(0.5, 4, -0.1), "c_flop must not be negative"),
        (lambda: speculation.best_k(2, 0.1), "alpha"),
        (lambda: speculation.best_k(0.5, -1), "c must"),
        (lambda: speculation.best_k(0.5, 0.1, limit=0), "limit"),
        (lambda: speculation.batch_speedup(0.5, 4, 0, 1, 1), "target_s"),
        (lambda: speculation.batch_speedup(0.5, 4, 1, -1, 1), "draft_s"),
        (lambda: speculation.batch_speedup(0.5, 4, 1, 1, 0), "verify_s"),
        (lambda: speculation.implied_acceptance(0, 4, 0.1), "measured_speedup must be positive"),
        (lambda: speculation.implied_acceptance(1, 0, 0.1), "k must"),
        (lambda: speculation.implied_acceptance(1, 4, -0.1), "c must"),
        (lambda: speculation.tree_expected_tokens([[1.2]], [(0,)]), "acceptance must be from 0 to 1"),
        (lambda: speculation.tree_expected_tokens([[0.7, 0.6]], [(0,)]), "acceptance of one head adds up to 1.3"),
        (lambda: speculation.tree_expected_tokens([[0.5], [0.5]], [(0, 0)]), r"lists \(0, 0\) but not its parent \(0,"),
        (lambda: speculation.tree_expected_tokens([[0.5]], [(0,), (0,)]), "lists a node twice"),
        (lambda: speculation.tree_expected_tokens([[0.5]], [()]), "or lists the root"),
        (lambda: speculation.tree_expected_tokens([[0.5]], [(1,)]), r"lists \(1,\), but acceptance has no entry"),
        (lambda: speculation.tree_expected_tokens([[0.5]], [(-1,)]), "acceptance has no entry"),
        (lambda: speculation.tree_expected_tokens([[0.5]], [(0,), (0, 0)]), "acceptance has no entry"),
        (lambda: speculation.medusa_speedup(0, 1), "tokens_per_step"),
        (lambda: speculation.medusa_speedup(1, 0), "relative_step_latency"),
    ],
)
def test_quantities_out_of_range_are_refused_by_name(call, message):
    with pytest.raises(BadQuantity, match=message):
        call()


@given(st.lists(acceptances, min_size=1, max_size=8), depths, draft_costs)
def test_arrays_give_what_scalars_give(alphas, k, c):
    swept = np.array(alphas)
    for function, rest in (
        (speculation.expected_tokens, (k,)),
        (speculation.speedup, (k, c)),
        (speculation.flop_factor, (k, c)),
        (speculation.batch_speedup, (k, 0.02, 0.001, 0.03)),
    ):
        single = [function(alpha, *rest) for alpha in alphas]
        assert function(swept, *rest).tolist() == pytest.approx(single, rel=1e-12)
        assert all(isinstance(gain, float) for gain in single)
    ks = np.array([1.0, 2.0, k])
    single = [speculation.speedup(alphas[0], int(depth), c) for depth in ks]
    assert speculation.speedup(alphas[0], ks, c).tolist() == pytest.approx(single, rel=1e-12)
    assert speculation.medusa_speedup(np.array([3.0, 2.4]), 1.2).tolist() == pytest.approx([2.5, 2.0])
