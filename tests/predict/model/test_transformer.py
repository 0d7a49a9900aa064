"""Parameters of every kind of layer, counted by hand, and what the sums must keep for any size."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from predict.model.attention import Attention
from predict.model.linear import Component
from predict.model.linear_attention import GatedDeltaNet
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


def test_gpus_divide_the_heads_of_every_layer():
    # Qwen3.5-27B: layers of 24 query heads, and of 16 key heads.
    blocks = tuple(Block(1, 8, mixer, None, 16) for mixer in (Attention(24, 4, 4), GatedDeltaNet(16, 48, 4, 4, 4)))
    assert dense(blocks=blocks).heads == 8
    assert dense(blocks=(Block(1, 8, None, Mlp(5, gated=True), 16),)).heads == 1


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
