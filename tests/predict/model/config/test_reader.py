"""Configurations against `transformers`, and every way in which a configuration can be bad.

`data/hf_configs.jsonl`: small configurations, and published ones that are no preset, with only the fields that matter;
their parameters as transformers 5.23 builds them on the meta device, the layers with a sliding window where it lists
`layer_types`, and FLOP of one forward pass by torch's FlopCounterMode (eager attention, which multiplies the full
square; logits at every position).
"""

import json
from pathlib import Path

import pytest

from predict.errors import BadModel
from predict.model.config.fields import MAX_LAYERS
from predict.model.config.reader import from_config, read_config
from predict.model.passes import Mask, forward
from predict.model.presets import PRESETS

DATA = Path(__file__).parents[3] / "data"
HF_CONFIGS = [json.loads(line) for line in (DATA / "hf_configs.jsonl").read_text().splitlines()]

BASE = {
    name: dict(PRESETS[preset].config)
    for name, preset in (
        ("gpt2", "gpt-2-small"),
        ("opt", "opt-13b"),
        ("llama", "llama-3-8b"),
        ("mistral", "mistral-7b"),
        ("mixtral", "mixtral-8x7b"),
        ("qwen2", "qwen2.5-7b"),
        ("qwen3", "qwen3-8b"),
        ("qwen3_moe", "qwen3-30b-a3b"),
        ("gemma", "gemma-2b"),
        ("gemma2", "gemma-2-9b"),
        ("gemma3_text", "gemma-3-27b"),
        ("deepseek_v3", "deepseek-v3"),
    )
}
BASE["deepseek_v2"] = BASE["deepseek_v3"] | {"model_type": "deepseek_v2"}

COMMON = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
LATENT = (*COMMON, "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "moe_intermediate_size")
LATENT = (*LATENT, "n_routed_experts", "num_experts_per_tok")
MAY_BE_0 = ("n_shared_experts", "first_k_dense_replace")
REQUIRED = {
    "gpt2": ("n_embd", "n_head", "n_layer", "vocab_size", "n_positions"),
    "opt": (
        "hidden_size",
        "ffn_dim",
        "num_hidden_layers",
        "num_attention_heads",
        "vocab_size",
        "max_position_embeddings",
    ),
    "llama": COMMON,
    "mistral": (*COMMON, "num_key_value_heads"),
    "mixtral": (*COMMON, "num_key_value_heads", "num_local_experts", "num_experts_per_tok"),
    "qwen2": (*COMMON, "num_key_value_heads"),
    "qwen3": (*COMMON, "num_key_value_heads"),
    "qwen3_moe": (*COMMON, "num_key_value_heads", "num_experts", "num_experts_per_tok", "moe_intermediate_size"),
    "gemma": (*COMMON, "num_key_value_heads"),
    "gemma2": (*COMMON, "num_key_value_heads"),
    "gemma3_text": ("hidden_size", "intermediate_size", "num_hidden_layers"),  # published files leave the rest out
    "deepseek_v2": LATENT,
    "deepseek_v3": LATENT,
}
EACH_REQUIRED = [(name, field) for name, fields in REQUIRED.items() for field in fields]


def refusal(config):
    """The message with which a configuration is refused: one line that starts with where it comes from."""
    with pytest.raises(BadModel) as refused:
        from_config(config, "it")
    return one_line(refused, "it")


def file_refusal(path):
    with pytest.raises(BadModel) as refused:
        read_config(path)
    return one_line(refused)


def one_line(refused, start=""):
    message = str(refused.value)
    assert "\n" not in message
    assert message.startswith(start)
    return message


def written(tmp_path, content):
    path = tmp_path / "config.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("row", HF_CONFIGS, ids=lambda row: row["config"]["model_type"])
def test_parameters_and_flop_are_those_of_transformers(row):
    model = from_config(row["config"], "row")
    assert model.params == row["params"]
    assert model.layers == row["config"].get("num_hidden_layers", row["config"].get("n_layer"))
    if "flop" in row:
        assert forward(model, row["batch"], row["seq"], mask=Mask.FULL).flop == row["flop"]
    if "sliding_layers" in row:
        assert sum(block.layers for block in model.blocks if block.window) == row["sliding_layers"]


def test_the_rows_cover_every_architecture_that_has_a_preset():
    assert {row["config"]["model_type"] for row in HF_CONFIGS} == BASE.keys()


@pytest.mark.parametrize(("architecture", "field"), EACH_REQUIRED)
@pytest.mark.parametrize("null", [False, True], ids=["absent", "null"])
def test_a_missing_size_is_named(architecture, field, null):
    config = {key: value for key, value in BASE[architecture].items() if key != field}
    asked = config | ({field: None} if null else {})
    if null and field == "num_key_value_heads":  # null says multi-head attention
        assert from_config(asked, "it").blocks[0].mixer.kv_heads == config["num_attention_heads"]
    else:
        assert refusal(asked).startswith(f"it: {field} is missing")


@pytest.mark.parametrize(("architecture", "field"), EACH_REQUIRED)
def test_what_is_no_size_is_named(architecture, field):
    for bad in (-1, 0, 4096.0, 1e3, float("nan"), "4096", True, False, [4096], {"size": 4096}):
        message = refusal(BASE[architecture] | {field: bad})
        assert message == f"it: {field} must be a positive whole number, not {bad!r}"


@pytest.mark.parametrize("field", MAY_BE_0)
def test_a_count_that_may_be_0_may_not_be_anything_else(field):
    from_config(BASE["deepseek_v3"] | {field: 0}, "it")
    for bad in (-1, 0.5, "1", True):
        assert f"{field} must be" in refusal(BASE["deepseek_v3"] | {field: bad})
    assert f"{field} is missing" in refusal({k: v for k, v in BASE["deepseek_v3"].items() if k != field})


@pytest.mark.parametrize("field", MAY_BE_0)
def test_false_and_0_0_are_not_the_count_0(field):
    for bad in (False, 0.0):
        assert f"{field} must be" in refusal(BASE["deepseek_v3"] | {field: bad})


@pytest.mark.parametrize(
    ("architecture", "changes", "message"),
    [
        ("gpt2", {"n_head": 5}, "n_embd=768 is not a multiple of n_head=5"),
        ("opt", {"num_attention_heads": 3}, "hidden_size=5120 is not a multiple of num_attention_heads=3"),
        (
            "llama",
            {"num_attention_heads": 24, "num_key_value_heads": 24},
            "hidden_size=4096 is not a multiple of num_attention_heads=24",
        ),
        ("llama", {"num_key_value_heads": 5}, "num_attention_heads=32 is not a multiple of num_key_value_heads=5"),
        ("qwen3", {"num_key_value_heads": 64}, "num_attention_heads=32 is not a multiple of num_key_value_heads=64"),
        ("mixtral", {"num_experts_per_tok": 9}, "num_experts_per_tok=9 is more than num_local_experts=8"),
        ("qwen3_moe", {"num_experts_per_tok": 129}, "num_experts_per_tok=129 is more than num_experts=128"),
        ("deepseek_v3", {"num_experts_per_tok": 257}, "num_experts_per_tok=257 is more than n_routed_experts=256"),
        ("llama", {"num_hidden_layers": 10**6}, f"num_hidden_layers={10**6} is more than the {MAX_LAYERS} layers"),
        ("gpt2", {"n_layer": MAX_LAYERS + 1}, f"n_layer={MAX_LAYERS + 1} is more than the {MAX_LAYERS} layers"),
        ("qwen3_moe", {"num_hidden_layers": 10**6}, f"more than the {MAX_LAYERS} layers"),
        ("gemma2", {"layer_types": ["full_attention"]}, "layer_types has 1 entries for num_hidden_layers=42"),
        (
            "gemma2",
            {"layer_types": ["linear_attention"] * 42},
            "layer_types: unknown 'linear_attention'; known: full_attention, sliding_attention",
        ),
        ("gemma2", {"layer_types": [None] * 42}, "layer_types: unknown None"),
        ("gemma2", {"layer_types": "full_attention"}, "layer_types must be a list, not 'full_attention'"),
        ("gemma2", {"layer_types": ["sliding_attention"] * 42, "sliding_window": None}, "sliding_window is missing"),
        ("qwen3_moe", {"mlp_only_layers": 3}, "mlp_only_layers must be a list, not 3"),
        ("llama", {"tie_word_embeddings": 1}, "tie_word_embeddings must be true or false, not 1"),
        ("llama", {"attention_bias": "no"}, "attention_bias must be true or false, not 'no'"),
        ("qwen2", {"use_sliding_window": "false"}, "use_sliding_window must be true or false, not 'false'"),
        ("mistral", {"sliding_window": -4096}, "sliding_window must be a positive whole number, not -4096"),
        ("deepseek_v3", {"q_lora_rank": "1536"}, "q_lora_rank must be a positive whole number, not '1536'"),
    ],
)
def test_a_configuration_that_contradicts_itself_is_refused(architecture, changes, message):
    assert message in refusal(BASE[architecture] | changes)


def test_whether_q_has_a_latent_must_be_said():
    config = {key: value for key, value in BASE["deepseek_v3"].items() if key != "q_lora_rank"}
    assert refusal(config) == "it: q_lora_rank is missing (use null if Q is projected directly)"


@pytest.mark.parametrize("architecture", [None, "gpt5", "LLAMA", "", "a\nb", 7, ["llama"], {"llama": 1}, True])
def test_an_unknown_model_type_gets_the_command_that_lists_the_known_ones(architecture):
    message = refusal(BASE["llama"] | {"model_type": architecture})
    assert message.endswith("`python -m predict models --types` lists what is known")
    unknown = f"unknown model_type {str(architecture)!r}"
    assert ("model_type is missing" if architecture is None else unknown) in message


def test_gemma_3_with_vision_is_read_for_its_text_decoder():
    text = {key: value for key, value in BASE["gemma3_text"].items() if key != "model_type"}
    wrapped = {"model_type": "gemma3", "vision_config": {"hidden_size": 1152}, "text_config": text}
    assert from_config(wrapped, "it").params == 27_009_346_304
    assert refusal({"model_type": "gemma3", "text_config": {}}).startswith("it (text_config): ")
    assert refusal({"model_type": "gemma3"}) == "it: intermediate_size is missing"
    for broken in ([], 3):
        assert refusal({"model_type": "gemma3", "text_config": broken}) == (
            f"it: text_config must be a JSON object, not {broken!r}"
        )


@pytest.mark.parametrize(("architecture", "window"), [("mistral", 4096), ("gemma2", 4096), ("mixtral", None)])
def test_without_a_window_field_the_window_is_that_of_transformers(architecture, window):
    absent = {key: value for key, value in BASE[architecture].items() if key != "sliding_window"}
    assert from_config(absent, "it").window == window


def test_a_null_window_is_none():
    assert from_config(BASE["mistral"] | {"sliding_window": None}, "it").window is None


def test_layer_types_choose_the_window_layer_by_layer():
    types = ["sliding_attention"] * 40 + ["full_attention"] * 2
    model = from_config(BASE["gemma2"] | {"layer_types": types}, "it")
    assert [(block.layers, block.window) for block in model.blocks] == [(40, 4096), (2, None)]


@pytest.mark.parametrize(("named", "name"), [("google/gemma-2b", "google/gemma-2b"), ("", "config"), (7, "config")])
def test_a_file_gives_the_model_and_its_name(tmp_path, named, name):
    path = written(tmp_path, json.dumps(BASE["gemma"] | {"_name_or_path": named}))
    assert read_config(path) == from_config(BASE["gemma"], name)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"model_type": "llama",\n "hidden', "is not valid JSON (line 2: Unterminated string starting at)"),
        ('{"model_type": "llama",', "is not valid JSON (line 1: "),
        ("", "is not valid JSON (line 1: Expecting value)"),
        ("model_type: llama", "is not valid JSON"),
        (b"\0" * 100, "is not valid JSON"),
        (b"\x80\x02}q\x00\xff", "is not a readable JSON file"),
        ('{"model_type": "gpt2"}'.encode("utf-16"), "n_embd is missing"),
        ("[]", "holds no JSON object"),
        ('[{"model_type": "llama"}]', "holds no JSON object"),
        ('"llama"', "holds no JSON object"),
        ("null", "holds no JSON object"),
        ("[" * 10**6, "is not a readable JSON file"),
        ('{"model_type":' * 500_000, "is not a readable JSON file"),
        (" " * 10_000_001, "has more than 10000000 bytes, too many for a config.json"),
        ("{}", "model_type is missing"),
        ('{"model_type": "gpt2", "n_embd": NaN}', "n_embd must be a positive whole number, not nan"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_an_unreadable_file_is_refused_in_one_line_that_names_it(tmp_path, content, message):
    path = written(tmp_path, content)
    assert message in file_refusal(path)
    assert str(path) in file_refusal(path)


def test_a_folder_stands_for_the_config_in_it(tmp_path):
    folder = tmp_path / "gemma-2b"
    folder.mkdir()
    message = "has no config.json; give the folder of a Hugging Face model, or its config.json"
    assert file_refusal(folder) == f"{folder} {message}"
    path = written(folder, json.dumps(BASE["gemma"]))
    assert read_config(folder) == from_config(BASE["gemma"], "gemma-2b")
    path.write_text("[]")
    assert file_refusal(folder).startswith(str(path))


def test_a_number_of_5000_digits_is_refused_in_one_line(tmp_path):
    path = written(tmp_path, '{"model_type": "llama", "hidden_size": %s}' % ("9" * 5000))
    assert str(path) in file_refusal(path)


def test_a_size_that_no_float_can_hold_is_refused():
    assert "hidden_size" in refusal(BASE["llama"] | {"hidden_size": 10**400, "head_dim": 128})


def test_what_is_no_file_is_refused_in_one_line(tmp_path):
    path = written(tmp_path, "{}")
    assert file_refusal(tmp_path / "none.json") == f"cannot read {tmp_path / 'none.json'}: No such file or directory"
    assert file_refusal(path / "config.json") == f"cannot read {path / 'config.json'}: Not a directory"


def test_a_path_too_long_for_the_system_is_refused_in_one_line():
    # What happens where the file's text is given for its name.
    assert "File name too long" in file_refusal(Path(json.dumps(BASE["llama"]) * 10))
