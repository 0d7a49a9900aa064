"""Layers that guess further tokens."""

from predict.model.config.reader import from_config
from predict.model.presets import PRESETS

DEEPSEEK_V3 = dict(PRESETS["deepseek-v3"].config)


def test_the_note_says_how_large_they_are():
    # One layer of 11,507,286,016: latent attention 187,107,328, 256 experts and a shared one of 3 x 7168 x 2048, a
    # router of 7168 x 256, two norms of 7168; then a matrix of 14336 x 7168 and three norms.
    plain = from_config(DEEPSEEK_V3, "it")
    model = from_config(DEEPSEEK_V3 | {"num_nextn_predict_layers": 1}, "it")
    layer = 187_107_328 + 257 * 3 * 7168 * 2048 + 7168 * 256 + 2 * 7168
    assert layer == 11_507_286_016
    assert f"{(layer + 14336 * 7168 + 3 * 7168) / 1e9:.1f}" == "11.6"
    assert model.notes == ("1 layer that guesses further tokens (MTP), about 11.6B parameters, is not counted",)
    assert model.params == plain.params


def test_none_is_no_note():
    assert from_config(DEEPSEEK_V3 | {"num_nextn_predict_layers": 0}, "it").notes == ()
    assert "3 layers that guess" in from_config(DEEPSEEK_V3 | {"num_mtp_modules": 3}, "it").notes[0]


def test_where_layers_lack_a_part_the_size_is_not_known():
    layers = {"num_hidden_layers": 2, "hybrid_override_pattern": "M*", "num_nextn_predict_layers": 1}
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2}
    mamba = {"mamba_num_heads": 4, "mamba_head_dim": 32, "ssm_state_size": 16, "n_groups": 2, "conv_kernel": 4}
    config = {"model_type": "nemotron_h", "vocab_size": 100, "head_dim": 16, "chunk_size": 64} | layers | sizes | mamba
    note = "1 x layers that guess further tokens (MTP) are not counted; their size is not known"
    assert from_config(config, "it").notes == (note,)
