"""Fields of a configuration, changed before it is read."""

import json

import pytest
from typer.testing import CliRunner

from predict.__main__ import app
from predict.errors import BadModel
from predict.model.config.changes import read_changes
from predict.model.config.reader import from_config, read_config
from predict.model.presets import find_model

TINY = {
    "model_type": "llama",
    "vocab_size": 100,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "tie_word_embeddings": True,
}


def of_a_token(layers, kv_heads, head_dim):
    return 2 * layers * kv_heads * head_dim * 2


def test_a_change_counts_as_if_the_file_said_it():
    """Keys of 32 KV heads instead of 8 add two matrices of 4096 x (32 - 8) x 128 to each of 32 layers."""
    more = find_model("llama-3-8b", {"num_key_value_heads": 32})
    assert more.params - find_model("llama-3-8b").params == 32 * 2 * 4096 * 24 * 128
    assert more.name == "llama-3-8b with num_key_value_heads=32"


def test_any_name_of_a_field_changes_it():
    """GPT-2 says n_layer; a layer has 12H^2 weights, 13H biases and norms."""
    whole, half = find_model("gpt-2-small"), find_model("gpt-2-small", {"num_hidden_layers": 6})
    assert whole.params - half.params == 6 * (12 * 768**2 + 13 * 768)
    assert find_model("gpt-2-small", {"n_layer": 6}).params == half.params


def test_a_field_that_the_file_leaves_to_its_default_may_be_given():
    model = from_config(TINY, "tiny", changes={"num_key_value_heads": 2})
    assert from_config(TINY, "tiny").params - model.params == 3 * 2 * 32 * (4 - 2) * 8


def test_the_decoder_of_a_multimodal_model_is_changed(tmp_path):
    file = tmp_path / "config.json"
    inner = {name: value for name, value in TINY.items() if name != "model_type"}
    file.write_text(json.dumps({"model_type": "llava", "text_config": {"model_type": "llama", **inner}}))
    assert read_config(file, {"num_hidden_layers": 1}).layers == 1
    assert read_config(file, {"num_key_value_heads": 1}).params < read_config(file).params


def test_values_are_read_as_people_write_them():
    changes = read_changes(["hidden_size=8k", "rope_scaling=null", "tie_word_embeddings=true", "hidden_act=gelu"])
    assert changes == {"hidden_size": 8192, "rope_scaling": None, "tie_word_embeddings": True, "hidden_act": "gelu"}


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["hidden_size"], "--set takes field=value, such as num_hidden_layers=16, not 'hidden_size'"),
        (["hidden_size="], "--set takes field=value"),
        (["=4"], "--set takes field=value"),
        (["n=4", "n=5"], "--set gives n twice"),
    ],
)
def test_what_is_no_change_is_refused(typed, said):
    with pytest.raises(BadModel, match=said):
        read_changes(typed)


def test_a_field_that_no_configuration_has_is_refused():
    with pytest.raises(BadModel, match="--set 'hiden_size': tiny has no such field: did you mean hidden_size"):
        from_config(TINY, "tiny", changes={"hiden_size": 8})


def test_deep_brackets_are_a_text_and_no_size():
    deep = read_changes([f"hidden_size={'[' * 100_000}"])
    with pytest.raises(BadModel, match="hidden_size must be a positive whole number"):
        from_config(TINY, "tiny", changes=deep)


def test_the_command_prints_the_changed_model():
    asked = "model llama-3-8b --set num_key_value_heads=32 --set num_hidden_layers=16 --gpu h100 --json".split()
    found = json.loads(CliRunner().invoke(app, asked).stdout)
    assert found["kv_bytes_per_token"] == of_a_token(16, 32, 128)
    assert found["model"] == "llama-3-8b with num_key_value_heads=32, num_hidden_layers=16"


def test_several_machines_and_a_server_take_changes_too():
    changed = ["model", "llama-3-8b", "--set", "num_hidden_layers=16"]
    table = CliRunner().invoke(app, [*changed, "--gpu", "a100,h100", "--json"])
    assert [row["model"] for row in json.loads(table.stdout)] == ["llama-3-8b with num_hidden_layers=16"] * 2
    assert CliRunner().invoke(app, [*changed, "--gpu", "h100", "--isl", "1k", "--osl", "100"]).exit_code == 0
