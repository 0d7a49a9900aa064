"""Softmax attention: shapes, what is cached, and FLOP, counted by hand."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from predict.model.attention import Attention, Indexer, LatentAttention
from predict.model.linear import Component
from predict.model.mixer import Held, Store
from predict.model.reach import TopK, Window


def shapes(part, hidden):
    return {linear.name: (linear.inputs, linear.outputs, linear.bias) for linear in part.linears(hidden)}


def test_grouped_attention_projects_keys_and_values_for_kv_heads_only():
    # 8 query heads of 4 = 32 wide, 2 KV heads of 4 = 8 wide, on a residual stream of 16.
    attention = Attention(8, 2, 4, qkv_bias=True)
    assert shapes(attention, hidden=16) == {
        "attention.q": (16, 32, True),
        "attention.k": (16, 8, True),
        "attention.v": (16, 8, True),
        "attention.out": (32, 16, False),
    }
    assert attention.kv_elements_per_token == 2 * 2 * 4
    assert [held.shards for held in attention.holds] == [2]
    assert attention.flop_per_pair == 2 * 8 * 4 + 2 * 8 * 4  # Q.K and P.V
    assert attention.query_and_output == 32 + 32
    assert (attention.other_params, replace(attention, qk_norm=True).other_params) == (0, 4 + 4)


def test_latent_attention_has_the_shapes_of_deepseek_v2_section_2_1():
    # 4 heads; query and key 6 + 2 elements, value 5; latents of 7 (Q) and 3 (K and V); residual stream of 16.
    attention = LatentAttention(4, query_rank=7, kv_rank=3, nope_dim=6, rope_dim=2, value_dim=5, bias=True)
    assert shapes(attention, hidden=16) == {
        "attention.q_down": (16, 7, True),
        "attention.q_up": (7, 4 * 8, False),
        "attention.kv_down": (16, 3 + 2, True),
        "attention.kv_up": (3, 4 * (6 + 5), False),
        "attention.out": (4 * 5, 16, True),
    }
    assert attention.kv_elements_per_token == 3 + 2
    assert [held.shards for held in attention.holds] == [1]
    assert attention.other_params == 7 + 3
    assert attention.flop_per_pair == 2 * 4 * (8 + 5)
    assert attention.absorbed_flop_per_pair == 2 * 4 * (3 + 2 + 3)  # Q.K over latent and rotary part, P.V over latent
    assert attention.query_and_output == 4 * 8 + 4 * 5


def test_without_a_query_latent_q_is_one_matrix():
    attention = LatentAttention(4, query_rank=None, kv_rank=3, nope_dim=6, rope_dim=2, value_dim=5)
    assert shapes(attention, hidden=16)["attention.q"] == (16, 32, False)
    assert "attention.q_down" not in shapes(attention, hidden=16)
    assert attention.other_params == 3


def test_a_gate_of_the_output_doubles_qs_matrix_and_nothing_else():
    # Qwen3-Next: 8 heads of 4, for each element a gate.
    plain, gated = Attention(8, 2, 4), Attention(8, 2, 4, gated=True)
    assert shapes(gated, 16) == shapes(plain, 16) | {"attention.q": (16, 64, False)}
    assert gated.flop_per_pair == plain.flop_per_pair
    assert gated.holds == plain.holds


def test_values_that_are_keys_have_no_matrix_but_are_cached():
    # Gemma 4: V is K before its norm and rotation, so that both are kept.
    same = Attention(8, 2, 4, values=False)
    assert "attention.v" not in shapes(same, 16)
    assert same.kv_elements_per_token == 2 * 2 * 4


def test_a_layer_that_reads_anothers_cache_has_neither_k_nor_v():
    # Gemma 3n: Q, its norm and the output are all that is left.
    shared = Attention(8, 2, 4, qk_norm=True, shares_cache=True, reach=Window(5), extra_params=3)
    assert shapes(shared, 16).keys() == {"attention.q", "attention.out"}
    assert (shared.other_params, shared.holds, shared.kv_elements_per_token) == (4 + 3, (), 0)
    (work,) = shared.mixing(1, 100, square=False)
    assert work.held is None
    assert work.flop == shared.flop_per_pair * 5  # the window


def test_a_window_is_all_that_a_layer_holds():
    windowed = Attention(8, 2, 4, reach=Window(5))
    assert (windowed.kv_elements_per_token, windowed.kv_elements_beyond_windows) == (16, 0)
    assert windowed.window_elements == 5 * 16
    assert windowed.holds == (Held(Store.KV, 16, Window(5), shards=2),)


SPARSE = LatentAttention(4, 7, 3, 6, 2, 5, reach=TopK(10), indexer=Indexer(heads=3, head_dim=8))


def test_an_indexer_has_queries_of_qs_latent_one_key_and_a_weight_a_head():
    found = {name: shape[:2] for name, shape in shapes(SPARSE, 16).items() if name.startswith("indexer")}
    assert found == {"indexer.q": (7, 3 * 8), "indexer.k": (16, 8), "indexer.weights": (16, 3)}
    assert SPARSE.other_params == 7 + 3 + 2 * 8  # and the LayerNorm of the key
    assert (SPARSE.kv_elements_per_token, SPARSE.index_elements_per_token) == (3 + 2, 8)
    reused = replace(SPARSE, indexer=None)
    assert (reused.other_params, reused.index_elements_per_token) == (7 + 3, 0)


@given(st.integers(1, 30), st.integers(0, 30))
def test_a_sparse_layer_scores_all_keys_and_attends_to_the_best(new, cached):
    index, scores = SPARSE.mixing(new, cached, square=False)
    # Queries that see at most 10 tokens need no ranking. One ranked pair costs 3 heads x 8 elements, 2 FLOP each.
    seen = range(cached + 1, cached + new + 1)
    assert index.flop == 2 * 3 * 8 * sum(tokens for tokens in seen if tokens > 10)
    assert (index.reads, index.writes) == (cached if cached + new > 10 else 0, new)
    plain = SPARSE.flop_per_pair * sum(min(tokens, 10) for tokens in seen)
    assert scores.flop <= plain + 2 * 3 * 4 * 11 * min(cached, 9)  # expanding what is read: 3 x 4 heads x (6 + 5)
    assert scores.flop == plain if cached == 0 else scores.flop <= 2 * 4 * (2 * 3 + 2) * plain / SPARSE.flop_per_pair
    assert (scores.reads, scores.writes) == (min(cached, 9), new)
    square = [work.flop for work in SPARSE.mixing(new, cached, square=True)]
    assert square[0] == 2 * 3 * 8 * new * (cached + new)


@pytest.mark.parametrize("mixer", [SPARSE, Attention(8, 2, 4, reach=Window(5))], ids=["sparse", "window"])
def test_a_sweep_counts_what_single_sizes_count(mixer):
    new, cached = np.array([1.0, 1.0, 20.0, 3.0]), np.array([0.0, 50.0, 0.0, 8.0])
    swept = list(mixer.mixing(new, cached, square=False))
    for i, sizes in enumerate(zip(new, cached, strict=True)):
        for many, one in zip(swept, mixer.mixing(*map(int, sizes), square=False), strict=True):
            for amount in ("flop", "reads", "writes", "activations"):
                assert np.broadcast_to(getattr(many, amount), 4)[i] == getattr(one, amount)


def test_scores_are_a_component_of_their_own():
    assert {work.component for work in SPARSE.mixing(2, 3, square=False)} == {Component.ATTENTION_SCORES}
