"""Short convolutions, counted by hand."""

import pytest

from predict.model.mixer import Store
from predict.model.short_conv import GatedConv, ShortConv


def test_a_short_convolution_keeps_all_but_the_newest_input():
    conv = ShortConv(channels=10, kernel=4, bias=True)
    assert conv.params == 10 * 4 + 10
    assert (conv.held.store, conv.held.elements) == (Store.CONV, 10 * 3)
    work = conv.mixing(new=7, cached=0)
    assert (work.flop, work.reads, work.writes) == (2 * 10 * 4 * 7, 0, 1)  # a multiply-add per weight and token
    assert conv.mixing(new=7, cached=5).reads == 1


def test_a_layer_may_be_a_convolution_between_two_gates():
    # LFM2: three inputs of the residual stream's width, a convolution over 3 tokens, an output.
    layer = GatedConv(width=16, kernel=3, bias=True)
    assert {linear.name: (linear.inputs, linear.outputs, linear.bias) for linear in layer.linears(16)} == {
        "conv.in": (16, 48, True),
        "conv.out": (16, 16, True),
    }
    assert layer.other_params == 16 * 3 + 16
    assert [(held.store, held.elements) for held in layer.holds] == [(Store.CONV, 16 * 2)]
    (work,) = layer.mixing(5, 0, square=False)
    assert work.flop == 2 * 16 * 3 * 5
    assert (layer.kv_elements_per_token, layer.text) == (0, "gated convolution over 3 tokens")


@pytest.mark.parametrize(("new", "cached"), [(1, 0), (7, 9)])
def test_inputs_are_read_if_there_are_any(new, cached):
    (work,) = GatedConv(16, 3).mixing(new, cached, square=False)
    assert (work.reads, work.writes) == (min(cached, 1), 1)
