"""The lesson's graph: L = 2(w1 w2) w3."""

import pytest

from reports.explore.backprop import EDGES, NODES, edge_rows, known, node_rows, steps


def loss(w1, w2, w3):
    return 2 * (w1 * w2) * w3


@pytest.mark.parametrize("weights", [(2.0, 3.0, -1.0), (0.5, -1.5, 2.5), (0.0, 1.0, 1.0)])
def test_gradients_are_what_a_small_change_of_a_weight_does(weights):
    values, gradients = known(steps(*weights))
    assert values["L"] == loss(*weights)
    for place, name in enumerate(("w1", "w2", "w3")):
        moved = [[weight + sign * 1e-6 * (at == place) for at, weight in enumerate(weights)] for sign in (1, -1)]
        slope = (loss(*moved[0]) - loss(*moved[1])) / 2e-6
        assert gradients[name] == pytest.approx(slope, abs=1e-6)


def test_backward_multiplies_twice_for_each_product_and_once_for_the_factor():
    """Forward has w1 w2, 2u and v w3. Backward has two for each product of two values, one for the constant 2."""
    walk = steps(2, 3, -1)
    assert sum(step.products for step in walk[:4]) == 3
    assert sum(step.products for step in walk[4:]) == 2 + 1 + 2


def test_values_go_forward_before_gradients_come_back():
    walk = steps(2, 3, -1)
    for done in range(1, len(walk) + 1):
        values, gradients = known(walk[:done])
        assert not gradients or "L" in values
    assert [row["label"] for row in node_rows(walk[:2]) if row["state"] == "waits"] == ["v", "L"]
    assert [row["label"] for row in node_rows(walk[:2]) if row["state"] == "now"] == ["u"]


def test_a_step_says_its_numbers():
    """At w = 2, 3, -1: u = 6, v = 12, L = -12; dL/dw1 = 2 w2 w3 = -6, dL/dw2 = 2 w1 w3 = -4."""
    said = [step.text for step in steps(2, 3, -1)]
    assert "u = w1 w2 = 2 x 3 = 6" in said[1]
    assert "L = v w3 = 12 x -1 = -12" in said[3]
    assert "dL/dw1 = dL/du w2 = -2 x 3 = -6" in said[7]
    assert "dL/dw2 = dL/du w1 = -2 x 2 = -4" in said[7]


def test_every_edge_has_two_ends_between_its_nodes():
    rows = list(edge_rows())
    assert len(rows) == 2 * len(EDGES)
    assert {name for edge in EDGES for name in edge} == set(NODES)
