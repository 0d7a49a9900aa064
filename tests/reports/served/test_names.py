"""Which model a log names, and when a name contradicts the model that was asked for."""

import pytest

from predict.errors import BadModel
from predict.model.presets import PRESETS, find_model
from reports.served.names import Name, check_name, contradiction, find_named


@pytest.mark.parametrize(
    ("given", "preset"),
    [
        ("meta-llama/Meta-Llama-3-8B-Instruct", "llama-3-8b"),
        ("meta-llama/Llama-3.3-70B-Instruct", "llama-3.1-70b"),  # by an alias
        ("/hub/models--meta-llama--Meta-Llama-3-8B/snapshots/0123abc", "llama-3-8b"),
        ("C:\\models\\Qwen3-8B-FP8", "qwen3-8b"),
        ("/models/dolphin-2.9-llama3-8b/", "llama-3-8b"),
        ("Qwen/Qwen3-30B-A3B-Instruct-2507", "qwen3-30b-a3b"),
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", "mixtral-8x7b"),
        ("deepseek-ai/DeepSeek-V3-0324", "deepseek-v3"),
        ("zai-org/GLM-4.5-Air", "glm-4.5-air"),  # not glm-4.5
        ("Qwen/Qwen2.5-7B-Instruct-1M", "qwen2.5-7b"),  # 1M is a context
        ("deepseek-ai/DeepSeek-R1-Distill-Llama-8B", None),  # neither DeepSeek-R1 nor a Llama of known version
        ("google/gemma-2-2b-it", None),  # not gemma-2b
        ("Qwen/Qwen3-Coder-30B-A3B-Instruct", None),
        ("my-model", None),
    ],
)
def test_a_name_means_the_preset_whose_words_it_has_with_no_size_left_over(given, preset):
    assert find_named(given) == preset


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_found_by_its_own_name_and_contradicts_no_alias(preset):
    assert find_named(f"someone/{preset.title()}-Instruct") == preset
    for alias in PRESETS[preset].aliases:
        assert contradiction(alias, find_model(preset)) == ""


@pytest.mark.parametrize(
    ("given", "model", "reason"),
    [
        ("meta-llama/Meta-Llama-3-8B-Instruct", "llama-3-70b", "Meta-Llama-3-8B-Instruct is llama-3-8b"),
        ("mistralai/Mistral-7B-Instruct-v0.3", "llama-2-7b", "Mistral-7B-Instruct-v0.3 is mistral-7b"),
        ("me/my-finetune-8b", "llama-3-70b", "my-finetune-8b names 8B parameters, and llama-3-70b has 70.6B"),
        ("Qwen/Qwen9-8B", "llama-3-8b", "Qwen9-8B is of another family"),
        ("deepseek-ai/DeepSeek-V3.2", "deepseek-v3", "DeepSeek-V3.2 is deepseek-v3.2"),
        ("google/gemma-2-2b-it", "gemma-2-9b", "gemma-2-2b-it names 2B parameters, and gemma-2-9b has 9.24B"),
    ],
)
def test_another_preset_family_or_size_contradicts(given, model, reason):
    assert contradiction(given, find_model(model)) == reason


@pytest.mark.parametrize(
    ("given", "model"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", "llama-3-8b"),  # the same shape
        ("deepseek-ai/DeepSeek-R1-Distill-Llama-8B", "llama-3.1-8b"),
        ("my-finetune-8b", "llama-3-8b"),
        ("/models/llama", "llama-3-70b"),
        ("gpt-3.5-turbo", "llama-3-8b"),  # how servers are called whatever they run
        ("Qwen/Qwen2-7B-Instruct", "qwen2.5-7b"),
        ("google/gemma-2-2b-it", "gemma-2b"),  # 2.6 billion, and 2.5
        ("microsoft/Phi-4-multimodal-instruct", "phi-4-mini"),
    ],
)
def test_a_name_that_may_mean_the_model_does_not_contradict(given, model):
    assert contradiction(given, find_model(model)) == ""


def test_a_name_that_cannot_be_matched_is_a_note_and_a_clear_one_is_not():
    model = find_model("llama-3-8b")
    assert check_name("log.json", ("meta-llama/Meta-Llama-3-8B", None), model) == ""
    assert check_name("log.json", (None, None), model) == (
        "log.json does not name its model: llama-3-8b is taken on trust"
    )
    assert "calls its model 'prod'" in check_name("log.json", ("prod", None), model)
    assert check_name("log.json", ("prod", "meta-llama/Meta-Llama-3-8B"), model) == ""


def test_the_tokenizer_tells_the_model_behind_an_alias():
    with pytest.raises(BadModel, match="of another model than --model llama-3-8b: Qwen3-32B is qwen3-32b"):
        check_name("log.json", ("prod", "Qwen/Qwen3-32B"), find_model("llama-3-8b"))


def test_a_name_tells_formats():
    assert Name.of("nvidia/Llama-3.1-8B-Instruct-FP8").formats == ("fp8",)
    assert Name.of("TheBloke/Llama-2-7B-AWQ").formats == ("awq",)
    assert Name.of("meta-llama/Meta-Llama-3-8B").formats == ()
