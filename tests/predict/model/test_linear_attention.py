"""Linear attention, counted by hand and against recurrences written out in NumPy."""

from dataclasses import replace

import numpy as np
import pytest

from predict.model.linear_attention import GatedDeltaNet, KimiDelta, Lightning
from predict.model.mixer import Store
from tests.predict.model.counted import Counted

# 2 key heads of 3, 4 value heads of 5, a convolution over 4 inputs; residual stream of 16.
DELTA = GatedDeltaNet(key_heads=2, value_heads=4, key_dim=3, value_dim=5, kernel=4)
KIMI = KimiDelta(heads=4, head_dim=5, kernel=4)
LIGHTNING = Lightning(heads=4, head_dim=5)


def shapes(mixer, hidden):
    return {linear.name: (linear.inputs, linear.outputs, linear.bias) for linear in mixer.linears(hidden)}


def test_gated_delta_net_has_the_shapes_of_qwen3_next():
    # Keys 2*3 = 6 wide, values 4*5 = 20 wide.
    assert shapes(DELTA, 16) == {
        "linear_attention.q": (16, 6, False),
        "linear_attention.k": (16, 6, False),
        "linear_attention.v": (16, 20, False),
        "linear_attention.z": (16, 20, False),
        "linear_attention.b": (16, 4, False),
        "linear_attention.a": (16, 4, False),
        "linear_attention.out": (20, 16, False),
    }
    # Convolution over 6 + 6 + 20 channels, decay and step bias of 4 heads, one norm of 5 for all heads.
    assert DELTA.other_params == 32 * 4 + 4 + 4 + 5
    state, conv = DELTA.holds
    assert (state.store, state.elements, state.bits) == (Store.STATE, 4 * 3 * 5, None)
    assert conv.elements == 32 * 3
    assert replace(DELTA, state_bits=32).holds[0].bits == 32
    assert (DELTA.kv_elements_per_token, DELTA.shards, state.shards) == (0, 2, 4)
    assert DELTA.text == "gated delta net, 4 heads of 3 x 5"


def test_kimi_delta_attention_has_decay_and_gate_of_two_matrices_each():
    assert shapes(KIMI, 16) == {
        "linear_attention.q": (16, 20, False),
        "linear_attention.k": (16, 20, False),
        "linear_attention.v": (16, 20, False),
        "linear_attention.f_down": (16, 5, False),
        "linear_attention.f_up": (5, 20, False),
        "linear_attention.b": (16, 4, False),
        "linear_attention.g_down": (16, 5, False),
        "linear_attention.g_up": (5, 20, False),
        "linear_attention.out": (20, 16, False),
    }
    # Convolutions over 3*20 channels, a decay of 4 heads, a step bias of 20 channels, one norm of 5.
    assert KIMI.other_params == 60 * 4 + 4 + 20 + 5
    assert [held.elements for held in KIMI.holds] == [4 * 5 * 5, 60 * 3]
    assert (KIMI.shards, KIMI.holds[0].shards) == (4, 4)
    assert KIMI.text == "Kimi delta attention, 4 heads of 5 x 5"


def test_lightning_attention_has_a_gate_and_no_convolution():
    assert {name.rpartition(".")[2] for name in shapes(LIGHTNING, 16)} == {"q", "k", "v", "z", "out"}
    assert LIGHTNING.other_params == 20  # the norm of the output
    assert [(held.store, held.elements) for held in LIGHTNING.holds] == [(Store.STATE, 4 * 5 * 5)]
    assert (LIGHTNING.shards, LIGHTNING.holds[0].shards) == (4, 4)
    assert LIGHTNING.text == "lightning attention, 4 heads of 5 x 5"


def test_the_delta_rule_costs_what_its_equations_multiply():
    # Yang et al. 2024, equation 10, per head: read by the key, add the correction, read by the query.
    counted, tokens = Counted(), 5
    state = np.zeros((4, 3, 5))
    key, query, value = np.ones((4, 3)), np.ones((4, 3)), np.ones((4, 5))
    for _ in range(tokens):
        held = counted.einsum("hkv,hk->hv", state, key)
        state = state + counted.einsum("hk,hv->hkv", key, value - held)
        counted.einsum("hkv,hk->hv", state, query)
    _, recurrence = DELTA.mixing(tokens, 0, square=False)
    assert recurrence.flop == counted.flop == 6 * 60 * tokens


def test_lightning_attention_costs_what_its_equations_multiply():
    # Qin et al. 2024, equation 4, per head: keys and values are added to the state, the query reads it.
    counted, tokens = Counted(), 5
    state, key, query, value = np.zeros((4, 5, 5)), np.ones((4, 5)), np.ones((4, 5)), np.ones((4, 5))
    for _ in range(tokens):
        state = state + counted.einsum("hk,hv->hkv", key, value)
        counted.einsum("hkv,hk->hv", state, query)
    (recurrence,) = LIGHTNING.mixing(tokens, 0, square=False)
    assert recurrence.flop == counted.flop == 4 * 100 * tokens


def test_kimi_delta_attention_costs_what_the_delta_rule_costs():
    as_delta = GatedDeltaNet(4, 4, 5, 5, 4)
    assert [work.flop for work in KIMI.mixing(7, 0, square=False)] == [
        work.flop for work in as_delta.mixing(7, 0, square=False)
    ]


@pytest.mark.parametrize("mixer", [DELTA, KIMI, LIGHTNING], ids=["delta", "kimi", "lightning"])
def test_a_state_is_read_if_there_is_one_and_written_once(mixer):
    for new, cached in ((1, 0), (100, 0), (1, 7), (100, 7)):
        for work in mixer.mixing(new, cached, square=True):  # which has no meaning here
            assert (work.reads, work.writes) == (min(cached, 1), 1)
    swept = list(mixer.mixing(np.array([1.0, 100.0]), np.array([0.0, 7.0]), square=False))
    assert all(list(np.broadcast_to(work.reads, 2)) == [0, 1] for work in swept)
    assert [list(work.flop) for work in swept] == [
        [one.flop, many.flop]
        for one, many in zip(mixer.mixing(1, 0, square=False), mixer.mixing(100, 7, square=False), strict=True)
    ]
