"""Parameters of every kind of layer, counted by hand, and what the sums must keep for any size."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from predict.model.attention import Attention, LatentAttention
from predict.model.linear import Component, Linear
from predict.model.mlp import Experts, Mlp
from predict.model.presets import find_model
from predict.model.reach import Chunk, Window
from predict.model.transformer import Block, Model


def dense(layers=2, hidden=8, vocab=10, **changes):
    """GPT-2's layer without positions: 2 heads, biases, a GELU MLP of 4H, two LayerNorms with weight and bias."""
    attention = Attention(2, 2, hidden // 2, qkv_bias=True, output_bias=True)
    block = Block(layers, hidden, attention, Mlp(4 * hidden, gated=False, bias=True), norm_params=4 * hidden)
    model = Model("dense", "gpt2", hidden, vocab, (block,), tied=True, final_norm_params=2 * hidden, context_limit=None)
    return replace(model, **changes)


def shapes(part, hidden):
    return {linear.name: (linear.inputs, linear.outputs, linear.bias) for linear in part.linears(hidden)}


def test_a_linear_has_a_weight_and_one_bias_per_output():
    assert Linear("l", Component.MLP, 3, 5).params == 15
    assert Linear("l", Component.MLP, 3, 5, bias=True).params == 15 + 5


def test_a_token_goes_through_the_active_copies_only():
    experts = Linear("l", Component.MLP, 3, 5, copies=8, active=2)
    assert (experts.params, experts.active_params) == (8 * 15, 2 * 15)


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
    assert attention.cache_shards == 2
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
    assert attention.cache_shards == 1
    assert attention.other_params == 7 + 3
    assert attention.flop_per_pair == 2 * 4 * (8 + 5)
    assert attention.absorbed_flop_per_pair == 2 * 4 * (3 + 2 + 3)  # Q.K over latent and rotary part, P.V over latent
    assert attention.query_and_output == 4 * 8 + 4 * 5


def test_without_a_query_latent_q_is_one_matrix():
    attention = LatentAttention(4, query_rank=None, kv_rank=3, nope_dim=6, rope_dim=2, value_dim=5)
    assert shapes(attention, hidden=16)["attention.q"] == (16, 32, False)
    assert "attention.q_down" not in shapes(attention, hidden=16)
    assert attention.other_params == 3


def test_a_gate_makes_three_matrices_of_two():
    assert sum(linear.params for linear in Mlp(20, gated=False).linears(8)) == 2 * 8 * 20
    assert sum(linear.params for linear in Mlp(20, gated=True).linears(8)) == 3 * 8 * 20
    # Biases: 20 on the way up and on the gate, 8 on the way down.
    assert sum(linear.params for linear in Mlp(20, gated=True, bias=True).linears(8)) == 3 * 8 * 20 + 20 + 20 + 8


def test_experts_have_a_router_and_share_one_mlp():
    experts = Experts(copies=6, active=2, intermediate=5, shared=Mlp(7, gated=True))
    linears = list(experts.linears(8))
    router, shared, each = 8 * 6, 3 * 8 * 7, 3 * 8 * 5
    assert sum(linear.params for linear in linears) == router + shared + 6 * each
    assert sum(linear.active_params for linear in linears) == router + shared + 2 * each
    assert all(linear.component is Component.MLP for linear in linears)


def test_gpt_2_small_is_twelve_l_h_squared_and_the_rest():
    # The efficiency lesson's 12LH^2 = 84,934,656; embedding 50257*768 = 38,597,376; positions 1024*768 = 786,432;
    # biases and norms 12*(9*768 + 4*768) + 2*768 = 121,344 (9: Q, K, V, out, 4 up, down).
    assert find_model("gpt-2-small").params == 84_934_656 + 38_597_376 + 786_432 + 121_344


def test_a_tied_embedding_is_counted_once():
    # Per layer 12*8*8 weights, 9*8 biases, 4*8 norms; 2 layers, the last norm 2*8, the embedding 10*8.
    inside = 2 * (12 * 64 + 9 * 8 + 4 * 8) + 16
    assert dense().params == inside + 80
    assert dense(tied=False).params == inside + 80 + 80
    assert dense(position_params=5 * 8).params == inside + 80 + 40
    assert dense().embedding_params == 80


def test_a_narrow_embedding_is_projected_in_and_out():
    # OPT-350m's way: the embedding has 10*3 parameters, and two matrices of 3*8 lead to the layers and back.
    wide, narrow = dense(), dense(embedding_dim=3)
    assert narrow.params == wide.params - 80 + 30 + 24 + 24
    outside = (*narrow.input_linears(), *narrow.output_linears())
    assert [(linear.inputs, linear.outputs) for linear in outside] == [(3, 8), (8, 3), (3, 10)]
    assert all(linear.component is Component.VOCAB for linear in outside)


def test_blocks_add_up():
    one = dense(layers=1).blocks[0]
    other = Block(3, 8, Attention(2, 1, 4, reach=Window(7)), Mlp(5, gated=True), norm_params=16)
    model = dense(blocks=(one, other, replace(other, mixer=Attention(2, 1, 4, reach=Chunk(9)))))
    assert model.layers == 1 + 3 + 3
    assert model.heads == 2
    assert model.kv_elements_per_token == 2 * 2 * 4 + 6 * (2 * 1 * 4)
    assert model.window == 7
    assert dense().window is None


@pytest.mark.parametrize(
    ("attention", "text"),
    [
        (Attention(64, 8, 128), "GQA, 64 heads of 128, 8 KV heads"),
        (Attention(8, 1, 256), "MQA, 8 heads of 256, 1 KV head"),
        (Attention(12, 12, 64), "MHA, 12 heads of 64"),
        (LatentAttention(128, 1536, 512, 128, 64, 128), "MLA, 128 heads, latent 512 + 64 rotary"),
        (Mlp(3072, gated=False), "MLP of 3072"),
        (Mlp(14336, gated=True), "gated MLP of 14336"),
        (Experts(8, 2, 14336), "8 experts of 14336, 2 active"),
        (Experts(256, 8, 2048, Mlp(2048, gated=True)), "256 experts of 2048, 8 active + shared gated MLP of 2048"),
    ],
)
def test_a_part_says_in_one_line_what_it_is(attention, text):
    assert attention.text == text


def test_a_model_says_in_one_line_what_it_is():
    # Mistral publishes 46.7B and 12.9B.
    assert find_model("mixtral-8x7b").text == (
        "46.7B parameters, 12.9B active: 32 layers of 4096; GQA, 32 heads of 128, 8 KV heads; "
        "8 experts of 14336, 2 active"
    )
    assert find_model("gpt-2-small").text == "124M parameters: 12 layers of 768; MHA, 12 heads of 64; MLP of 3072"


sizes = st.integers(1, 64)


@given(sizes, sizes, sizes, sizes, st.booleans())
def test_no_more_parameters_are_active_than_exist(layers, copies, intermediate, vocab, tied):
    def with_active(active):
        experts = Experts(copies, active, intermediate, Mlp(3, gated=True))
        return dense(vocab=vocab, tied=tied, blocks=(Block(layers, 8, Attention(2, 1, 4), experts, 16),))

    for active in (1, copies):
        model = with_active(active)
        assert model.params - model.active_params == layers * (copies - active) * 3 * 8 * intermediate
        assert model.is_mixture == (active < copies)


@given(sizes, sizes, sizes)
def test_layers_count_alike(layers, more, vocab):
    one, some, all_of_them = (dense(n, vocab=vocab).params for n in (1, layers + 1, layers + more + 1))
    each = dense(2, vocab=vocab).params - one
    assert some == one + layers * each
    assert all_of_them == some + more * each
