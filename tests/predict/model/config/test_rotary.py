"""The share of each head that is rotated, in the words of each family's file."""

import pytest

from predict.model.config.reader import from_config
from predict.model.presets import PRESETS

LLAMA = PRESETS["llama-3-8b"].config  # 32 heads of 128
FALCON = {"model_type": "falcon", "hidden_size": 256, "num_attention_heads": 4, "num_hidden_layers": 2, "vocab_size": 9}
NEOX = FALCON | {"model_type": "gpt_neox", "intermediate_size": 512, "max_position_embeddings": 64}
COHERE = {**LLAMA, "model_type": "cohere2", "sliding_window": 4096, "sliding_window_pattern": 4}


def shares(config):
    return {(block.mixer.rotary, block.window) for block in from_config(config, "it").blocks}


@pytest.mark.parametrize(
    ("config", "share"),
    [
        (LLAMA, 1.0),
        ({**LLAMA, "partial_rotary_factor": 0.75}, 0.75),
        ({**LLAMA, "rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}, 0.5),
        ({**LLAMA, "rotary_dim": 32}, 0.25),
        (NEOX, 0.25),
        ({**NEOX, "rotary_pct": 1.0}, 1.0),
        (FALCON, 1.0),
        ({**FALCON, "alibi": True}, 0.0),
    ],
)
def test_a_file_says_the_share_of_a_head_or_its_family_does(config, share):
    assert shares(config) == {(share, None)}


def test_layers_that_see_everything_have_no_positions_beside_windows():
    assert shares(COHERE) == {(1.0, 4096), (0.0, None)}


def test_layers_are_excepted_one_by_one():
    file = {**PRESETS["smollm3-3b"].config, "no_rope_layers": [0] + [1] * 35}
    blocks = from_config(file, "it").blocks
    assert [(block.layers, block.mixer.rotary, block.numbers[0]) for block in blocks] == [(1, 0.0, 0), (35, 1.0, 1)]
