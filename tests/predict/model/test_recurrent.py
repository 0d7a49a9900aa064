"""Layers with a state, counted by hand and against a recurrence written out in NumPy."""

from dataclasses import replace

import numpy as np
import pytest

from predict.model.linear_attention import GatedDeltaNet
from predict.model.mixer import Store
from predict.model.short_conv import ShortConv
from predict.model.state_space import Mamba2

# 2 key heads of 3, 4 value heads of 5, a convolution over 4 inputs; residual stream of 16.
DELTA = GatedDeltaNet(key_heads=2, value_heads=4, key_dim=3, value_dim=5, kernel=4)
# 6 heads of 5 in 2 groups, a state of 7 a channel, a convolution over 4 inputs.
MAMBA = Mamba2(heads=6, head_dim=5, groups=2, state_dim=7, kernel=4)


def shapes(mixer, hidden):
    return {linear.name: (linear.inputs, linear.outputs, linear.bias) for linear in mixer.linears(hidden)}


def test_a_short_convolution_keeps_all_but_the_newest_input():
    conv = ShortConv(channels=10, kernel=4, bias=True)
    assert conv.params == 10 * 4 + 10
    assert (conv.held.store, conv.held.elements) == (Store.CONV, 10 * 3)
    work = conv.mixing(new=7, cached=0)
    assert (work.flop, work.reads, work.writes) == (2 * 10 * 4 * 7, 0, 1)  # a multiply-add per weight and token
    assert conv.mixing(new=7, cached=5).reads == 1


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
    assert (DELTA.kv_elements_per_token, DELTA.shards, DELTA.cache_shards) == (0, 2, 4)
    assert DELTA.text == "gated delta net, 4 heads of 3 x 5"


def test_mamba_2_has_the_shapes_of_its_paper():
    # In: gate 30, x 30, B and C 2*2*7 = 28, a step for each of 6 heads; convolution over x, B and C.
    assert shapes(MAMBA, 16) == {"mamba.in": (16, 30 + 30 + 28 + 6, False), "mamba.out": (30, 16, False)}
    assert shapes(replace(MAMBA, bias=True), 16)["mamba.out"] == (30, 16, True)
    # Convolution 58*4 and a bias of 58; decay, step bias and skip of 6 heads; the norm of 30.
    assert MAMBA.other_params == 58 * 5 + 3 * 6 + 30
    assert replace(MAMBA, conv_bias=False, norm=False).other_params == 58 * 4 + 3 * 6
    state, conv = MAMBA.holds
    assert (state.elements, conv.elements) == (6 * 5 * 7, 58 * 3)
    assert MAMBA.text == "Mamba-2, 6 heads of 5 x 7"


class Counted:
    """Multiplies matrices as NumPy does, and counts two FLOP for each multiply-add."""

    def __init__(self):
        self.flop = 0

    def einsum(self, what, *arrays):
        names = dict(
            pair
            for text, array in zip(what.split("->")[0].split(","), arrays, strict=True)
            for pair in zip(text, array.shape, strict=True)
        )
        self.flop += 2 * int(np.prod(list(names.values())))
        return np.einsum(what, *arrays)


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


def test_a_state_space_costs_what_its_equations_multiply():
    # Dao and Gu 2024, equation 1, per head: B x is added to the state, C reads it.
    counted, tokens = Counted(), 5
    state = np.zeros((6, 5, 7))
    x, b, c = np.ones((6, 5)), np.ones((6, 7)), np.ones((6, 7))
    for _ in range(tokens):
        state = state + counted.einsum("hp,hn->hpn", x, b)
        counted.einsum("hpn,hn->hp", state, c)
    _, recurrence = MAMBA.mixing(tokens, 0, square=False)
    assert recurrence.flop == counted.flop == 4 * 210 * tokens


@pytest.mark.parametrize("mixer", [DELTA, MAMBA], ids=["delta", "mamba"])
def test_a_state_is_read_if_there_is_one_and_written_once(mixer):
    for new, cached in ((1, 0), (100, 0), (1, 7), (100, 7)):
        for work in mixer.mixing(new, cached, square=True):  # which has no meaning here
            assert (work.reads, work.writes) == (min(cached, 1), 1)
    swept = list(mixer.mixing(np.array([1.0, 100.0]), np.array([0.0, 7.0]), square=False))
    assert [list(np.broadcast_to(work.reads, 2)) for work in swept] == [[0, 1], [0, 1]]
    assert [list(work.flop) for work in swept] == [
        [one.flop, many.flop]
        for one, many in zip(mixer.mixing(1, 0, square=False), mixer.mixing(100, 7, square=False), strict=True)
    ]
