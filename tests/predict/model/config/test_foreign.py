"""Files that configure no decoder: one line says what they are."""

import pytest

from predict.errors import BadModel
from predict.model.config.reader import from_config


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ({"metadata": {"total_size": 1}, "weight_map": {"a": "b"}}, "it is the index of a checkpoint's files; give "),
        ({"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>"}, "it is a tokenizer_config.json; give "),
        ({"version": "1.0", "added_tokens": [], "model": {}}, "it is a tokenizer.json; give "),
        ({"bos_token_id": 1, "eos_token_id": 2, "temperature": 0.6}, "it is a generation_config.json; give "),
        ({"peft_type": "LORA", "r": 8}, "it is an adapter_config.json; the size is that of its base model; give "),
        ({"producer": {"name": "modelopt"}, "quantization": {}}, "it is a hf_quant_config.json; give "),
        ({"dim": 4096, "n_layers": 32, "n_kv_heads": 8}, "it is a params.json in the original format"),
        (
            {"hidden_size": 2880, "rope_ntk_alpha": 1.0},
            "it is a config.json in the original format of the weights; give",
        ),
        ({"best_metric": None, "log_history": []}, "it is a trainer_state.json; give "),
        ({"model_type": "bert", "hidden_size": 768}, "it: bert is an encoder; only models that generate text"),
        ({"model_type": "t5", "d_model": 512}, "it: t5 is an encoder with a decoder; only models of a decoder alone"),
        ({"model_type": "new", "is_encoder_decoder": True}, "it: new is an encoder"),
        ({"model_type": "mine", "is_encoder_decoder": True}, "it: mine is an encoder with a decoder"),
        ({"model_type": "clip"}, "it: clip generates no text"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_a_file_is(content, what):
    with pytest.raises(BadModel) as refused:
        from_config(content, "it")
    assert str(refused.value).startswith(what)
    assert "\n" not in str(refused.value)
