"""State-space layers, counted by hand and against recurrences written out in NumPy."""

from dataclasses import replace

import numpy as np
import pytest

from predict.model.state_space import Mamba, Mamba2
from tests.predict.model.counted import Counted

# 6 heads of 5 in 2 groups, a state of 7 a channel, a convolution over 4 inputs; residual stream of 16.
MAMBA = Mamba2(heads=6, head_dim=5, groups=2, state_dim=7, kernel=4)
# 30 channels with a state of 7, steps of a latent of 3.
SELECTIVE = Mamba(channels=30, state_dim=7, step_rank=3, kernel=4)


def shapes(mixer, hidden):
    return {linear.name: (linear.inputs, linear.outputs, linear.bias) for linear in mixer.linears(hidden)}


def test_mamba_2_has_the_shapes_of_its_paper():
    # In: gate 30, x 30, B and C 2*2*7 = 28, a step for each of 6 heads; convolution over x, B and C.
    assert shapes(MAMBA, 16) == {"mamba.in": (16, 30 + 30 + 28 + 6, False), "mamba.out": (30, 16, False)}
    assert shapes(replace(MAMBA, bias=True), 16)["mamba.out"] == (30, 16, True)
    # Convolution 58*4 and a bias of 58; decay, step bias and skip of 6 heads; the norm of 30.
    assert MAMBA.other_params == 58 * 5 + 3 * 6 + 30
    assert shapes(replace(MAMBA, bias=True, out_bias=False), 16)["mamba.out"] == (30, 16, False)
    assert replace(MAMBA, conv_bias=False, norm=False).other_params == 58 * 4 + 3 * 6
    state, conv = MAMBA.holds
    assert (state.elements, conv.elements) == (6 * 5 * 7, 58 * 3)
    assert MAMBA.text == "Mamba-2, 6 heads of 5 x 7"


def test_mamba_has_a_state_for_every_channel():
    assert shapes(SELECTIVE, 16) == {
        "mamba.in": (16, 60, False),
        "mamba.x": (30, 3 + 2 * 7, False),
        "mamba.step": (3, 30, True),
        "mamba.out": (30, 16, False),
    }
    # Convolution 30*4 and a bias of 30; a decay per element of the state; a skip per channel.
    assert SELECTIVE.other_params == 30 * 5 + 30 * 7 + 30
    assert replace(SELECTIVE, norms=True).other_params == SELECTIVE.other_params + 3 + 7 + 7
    assert [held.elements for held in SELECTIVE.holds] == [30 * 7, 30 * 3]
    assert (SELECTIVE.shards, MAMBA.shards) == (30, 6)
    # States split by channels or heads, the convolution by its channels.
    assert [held.shards for held in (*SELECTIVE.holds, *MAMBA.holds)] == [30, 30, 6, 58]
    assert SELECTIVE.text == "Mamba, 30 channels x 7"


def test_a_state_space_costs_what_its_equations_multiply():
    # Dao and Gu 2024, equation 1, per head: B x is added to the state, C reads it.
    counted, tokens = Counted(), 5
    state = np.zeros((6, 5, 7))
    x, b, c = np.ones((6, 5)), np.ones((6, 7)), np.ones((6, 7))
    for _ in range(tokens):
        state = state + counted.einsum("hp,hn->hpn", x, b)
        counted.einsum("hpn,hn->hp", state, c)
    for mixer in (MAMBA, SELECTIVE):  # as many elements
        _, recurrence = mixer.mixing(tokens, 0, square=False)
        assert recurrence.flop == counted.flop == 4 * 210 * tokens


@pytest.mark.parametrize("mixer", [MAMBA, SELECTIVE], ids=["mamba-2", "mamba"])
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
