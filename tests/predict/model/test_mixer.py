"""What a layer says of itself in one line."""

import pytest

from predict.model.attention import Attention, LatentAttention
from predict.model.mlp import Experts, Mlp


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
