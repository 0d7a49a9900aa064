"""MLPs and experts, counted by hand."""

from dataclasses import replace

import pytest

from predict.model.linear import Component
from predict.model.mlp import Experts, Mlp


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


def params(part, hidden):
    return {linear.name: linear.params for linear in part.linears(hidden)}


def test_experts_may_lack_gates_and_have_biases():
    # gpt-oss: biases everywhere, the router's too. Nemotron-H: up and down only.
    biased = params(Experts(6, 2, 5, bias=True, router_bias=True), 8)
    assert biased == {
        "mlp.router": 6 * (8 + 1),
        "mlp.expert_gate": 6 * (8 + 1) * 5,
        "mlp.expert_up": 6 * (8 + 1) * 5,
        "mlp.expert_down": 6 * (5 + 1) * 8,
    }
    assert params(Experts(6, 2, 5, gated=False), 8).keys() == {"mlp.router", "mlp.expert_up", "mlp.expert_down"}


def test_a_shared_mlp_may_be_weighed_by_a_matrix_of_one_output():
    experts = Experts(6, 2, 5, Mlp(7, gated=True), shared_gate=True)
    assert params(experts, 8)["mlp.shared_gate"] == 8


def test_experts_in_a_latent_are_reached_by_two_matrices():
    # Nemotron 3 Super: the router reads the residual stream, the experts a latent of 3, the shared MLP the stream.
    experts = Experts(6, 2, 5, Mlp(7, gated=False), gated=False, latent=3)
    assert params(experts, 8) == {
        "mlp.router": 8 * 6,
        "mlp.latent_down": 8 * 3,
        "mlp.latent_up": 3 * 8,
        "mlp.expert_up": 6 * 3 * 5,
        "mlp.expert_down": 6 * 5 * 3,
        "mlp.up": 8 * 7,
        "mlp.down": 7 * 8,
    }
    assert params(replace(experts, latent_bias=True), 8)["mlp.latent_down"] == (8 + 1) * 3
    assert experts.text == "6 experts of 5, 2 active in a latent of 3 + shared MLP of 7"


@pytest.mark.parametrize(("part", "other"), [(Mlp(5, gated=True), 0), (Experts(6, 2, 5, extra_params=14), 14)])
def test_what_is_no_matrix_is_counted_apart(part, other):
    assert part.other_params == other
