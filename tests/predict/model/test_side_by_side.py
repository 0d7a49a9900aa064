"""Two mixers in one layer."""

from predict.model.attention import Attention
from predict.model.reach import Window
from predict.model.side_by_side import SideBySide
from predict.model.state_space import Mamba2

ATTENTION = Attention(8, 2, 4, qk_norm=True, reach=Window(9))
MAMBA = Mamba2(heads=6, head_dim=5, groups=2, state_dim=7, kernel=4)
BOTH = SideBySide((ATTENTION, MAMBA))


def test_a_layer_of_two_mixers_is_their_sum():
    assert [*BOTH.linears(16)] == [*ATTENTION.linears(16), *MAMBA.linears(16)]
    assert BOTH.other_params == ATTENTION.other_params + MAMBA.other_params
    assert BOTH.holds == (*ATTENTION.holds, *MAMBA.holds)
    assert [*BOTH.mixing(3, 5, square=False)] == [
        *ATTENTION.mixing(3, 5, square=False),
        *MAMBA.mixing(3, 5, square=False),
    ]
    assert BOTH.kv_elements_per_token == 16
    assert BOTH.window_elements == 9 * 16


def test_it_splits_as_far_as_both_do_evenly():
    assert BOTH.shards == 2  # of 8 and 6 heads
    assert [held.shards for held in BOTH.holds] == [2, 6, 58]
    assert BOTH.reach == Window(9)
    assert BOTH.text == "GQA, 8 heads of 4, 2 KV heads beside Mamba-2, 6 heads of 5 x 7"
