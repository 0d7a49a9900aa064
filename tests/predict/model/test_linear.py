"""A matrix: its parameters, and its bytes as stored."""

from predict.model.linear import Component, Linear


def test_a_linear_has_a_weight_and_one_bias_per_output():
    assert Linear("l", Component.MLP, 3, 5).params == 15
    assert Linear("l", Component.MLP, 3, 5, bias=True).params == 15 + 5


def test_a_token_goes_through_the_active_copies_only():
    experts = Linear("l", Component.MLP, 3, 5, copies=8, active=2)
    assert (experts.params, experts.active_params) == (8 * 15, 2 * 15)


def test_a_matrix_is_stored_in_its_own_bits_and_its_bias_in_16():
    # 4 bits: 8*15 weights / 2, and 8*5 biases of 2 bytes. In 8 bits each: 160 of all.
    experts = Linear("l", Component.MLP, 3, 5, bias=True, copies=8, active=2, weight_bits=4)
    assert experts.stored_bytes() == 60 + 80
    assert experts.stored_bytes(8) == 8 * (15 + 5)
