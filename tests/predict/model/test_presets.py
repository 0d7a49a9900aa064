"""Every preset has exactly the parameters of the published model, under every spelling of its name."""

import pytest

from predict.errors import BadModel
from predict.model.config.fields import MAX_LAYERS
from predict.model.presets import PRESETS, find_model, find_preset

# Counted by building the published config.json with transformers 5.23 or 5.24 on the meta device; most are also the
# published safetensors totals. Multimodal models: the text decoder (Gemma 3 27B without the 423,060,336 of vision).
# DeepSeek-V3 and its kind: without MTP and without the router's bias, a buffer.
PARAMS = {
    "gpt-2-small": 124_439_808,
    "gpt-2-medium": 354_823_168,
    "gpt-2-large": 774_030_080,
    "gpt-2-xl": 1_557_611_200,
    "gpt-3-175b": 174_604_259_328,  # Brown et al. 2020, table D.1: 174,600M
    "gpt-oss-20b": 20_914_757_184,
    "gpt-oss-120b": 116_829_156_672,
    "opt-13b": 12_853_473_280,
    "llama-2-7b": 6_738_415_616,
    "llama-2-13b": 13_015_864_320,
    "llama-2-70b": 68_976_648_192,
    "llama-3-8b": 8_030_261_248,
    "llama-3-70b": 70_553_706_496,
    "llama-3.1-8b": 8_030_261_248,
    "llama-3.1-70b": 70_553_706_496,
    "llama-3.1-405b": 405_853_388_800,
    "llama-3.2-1b": 1_235_814_400,
    "llama-3.2-3b": 3_212_749_824,
    "llama-4-scout": 107_769_861_120,
    "llama-4-maverick": 400_711_848_960,
    "mistral-7b": 7_241_732_096,
    "mixtral-8x7b": 46_702_792_704,
    "mixtral-8x22b": 140_620_634_112,
    "mistral-nemo-12b": 12_247_782_400,
    "mistral-large-123b": 122_610_069_504,
    "mistral-small-3.1-24b": 23_572_403_200,
    "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-1.5b": 1_543_714_304,
    "qwen2.5-3b": 3_085_938_688,
    "qwen2.5-7b": 7_615_616_512,
    "qwen2.5-14b": 14_770_033_664,
    "qwen2.5-32b": 32_763_876_352,
    "qwen2.5-72b": 72_706_203_648,
    "qwen3-0.6b": 596_049_920,
    "qwen3-1.7b": 1_720_574_976,
    "qwen3-4b": 4_022_468_096,
    "qwen3-8b": 8_190_735_360,
    "qwen3-14b": 14_768_307_200,
    "qwen3-32b": 32_762_123_264,
    "qwen3-30b-a3b": 30_532_122_624,
    "qwen3-235b-a22b": 235_093_634_560,
    "qwen3-coder-480b-a35b": 480_154_875_392,
    "qwen3-next-80b-a3b": 79_674_391_296,
    "qwen3.5-27b": 26_895_998_464,
    "qwen3.5-35b-a3b": 34_660_610_688,
    "qwen3.5-397b-a17b": 396_346_350_336,
    "gemma-2b": 2_506_172_416,
    "gemma-7b": 8_537_680_896,
    "gemma-2-9b": 9_241_705_984,
    "gemma-2-27b": 27_227_128_320,
    "gemma-3-1b": 999_885_952,
    "gemma-3-4b": 3_880_263_168,
    "gemma-3-12b": 11_766_034_176,
    "gemma-3-27b": 27_009_346_304,
    "gemma-4-31b": 30_697_345_280,
    "gemma-4-26b-a4b": 25_233_141_760,
    "deepseek-v3": 671_026_404_352,
    "deepseek-v3.2": 671_877_929_216,
    "kimi-k2": 1_026_408_209_408,
    "kimi-k2-thinking": 1_026_408_209_408,
    "glm-4.5": 352_797_814_784,
    "glm-4.5-air": 106_852_245_504,
    "glm-5": 743_911_199_232,
    "minimax-m2": 228_689_748_992,
    "phi-4": 14_659_507_200,
    "phi-4-mini": 3_836_021_760,
    "granite-3.3-8b": 8_170_864_640,
    "olmo-2-7b": 7_298_617_344,
    "olmo-2-13b": 13_716_198_400,
    "olmo-2-32b": 32_234_279_936,
    "smollm3-3b": 3_075_098_624,
}
# MiniMax-M2 keeps in 16 bits: routers, embedding and head, norms of layers, of Q and of K, and the last norm.
MINIMAX_WIDE = 62 * 3072 * 256 + 2 * 200064 * 3072 + 62 * (2 * 3072 + 48 * 128 + 8 * 128) + 3072


def test_every_preset_has_a_count_here():
    assert PARAMS.keys() == PRESETS.keys()


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_has_the_parameters_of_the_published_model(name):
    model = find_model(name)
    assert (model.name, model.params) == (name, PARAMS[name])
    assert 0 < model.layers < MAX_LAYERS


@pytest.mark.parametrize(
    ("name", "active"),
    [
        # Total - L*(E-k)*3*H*I, the experts that a token does not meet; Mistral publishes 12.9B.
        ("mixtral-8x7b", 46_702_792_704 - 32 * 6 * 3 * 4096 * 14336),
        ("mixtral-8x7b", 12_879_925_248),
        ("qwen3-30b-a3b", 30_532_122_624 - 48 * 120 * 3 * 2048 * 768),  # 3.35B; the model card says 3.3B
        ("qwen3-235b-a22b", 235_093_634_560 - 94 * 120 * 3 * 4096 * 1536),  # 22.2B; the model card says 22B
        ("deepseek-v3", 671_026_404_352 - 58 * 248 * 3 * 7168 * 2048),
        ("deepseek-v3", 37_552_282_624),  # DeepSeek-V3 report: 37B activated
        ("llama-3-70b", 70_553_706_496),
        ("qwen3.5-397b-a17b", 396_346_350_336 - 60 * 502 * 3 * 4096 * 1024),
        ("gpt-oss-20b", 20_914_757_184 - 24 * 28 * (3 * 2880 * 2880 + 3 * 2880)),  # 3.6B without the embedding
        ("qwen3-next-80b-a3b", 79_674_391_296 - 48 * 502 * 3 * 2048 * 512),
        ("glm-4.5-air", 106_852_245_504 - 45 * 120 * 3 * 4096 * 1408),  # 13.4B; the report says 12B
        ("minimax-m2", 228_689_748_992 - 62 * 248 * 3 * 3072 * 1536),  # 11.0B; the model card says 10B
        ("llama-4-maverick", 400_711_848_960 - 24 * 127 * 3 * 5120 * 8192),  # 17.2B; the model card says 17B
        ("kimi-k2", 1_026_408_209_408 - 60 * 376 * 3 * 7168 * 2048),  # 32.9B; the report says 32.6B
    ],
)
def test_a_mixture_activates_what_its_authors_say(name, active):
    assert find_model(name).active_params == active


def test_deepseek_counts_36_6_billion_without_the_input_embedding():
    # README_WEIGHTS.md of deepseek-ai/DeepSeek-V3: 36.6B activated, 0.9B of them the output head.
    model = find_model("deepseek-v3")
    assert model.active_params - model.embedding_params == 36_625_603_584


@pytest.mark.parametrize(
    ("name", "stored", "storage"),
    [
        # model.safetensors.index.json of the repositories, to the byte.
        ("gpt-oss-20b", 13_761_264_768, "mxfp4 experts, bf16 rest"),
        ("gpt-oss-120b", 65_248_815_744, "mxfp4 experts, bf16 rest"),
        # A byte for each other weight of the layers, and 32 bits for a block of 128 x 128.
        ("minimax-m2", (228_689_748_992 - MINIMAX_WIDE) * (1 + 4 / 128**2) + 2 * MINIMAX_WIDE, "fp8 128x128"),
        ("llama-3-8b", 2 * 8_030_261_248, "bf16"),
    ],
)
def test_a_preset_takes_the_bytes_that_it_ships_in(name, stored, storage):
    model = find_model(name)
    assert model.stored_bytes() == pytest.approx(stored, rel=1e-12)
    assert model.storage.name == storage


@pytest.mark.parametrize(
    ("name", "window", "windowed", "layers"),
    [
        # layer_types of the same configurations in transformers 5.23.
        ("gemma-2-9b", 4096, 21, 42),
        ("gemma-2-27b", 4096, 23, 46),
        ("gemma-3-27b", 1024, 52, 62),
        ("mistral-7b", 4096, 32, 32),
        ("gemma-3-4b", 1024, 29, 34),
        ("gpt-oss-120b", 128, 18, 36),
        ("llama-4-scout", 8192, 36, 48),
        ("mixtral-8x7b", None, 0, 32),
        ("phi-4-mini", None, 0, 32),  # a window longer than the context
        ("qwen2.5-7b", None, 0, 28),
        ("qwen3-8b", None, 0, 36),
    ],
)
def test_a_preset_slides_its_window_in_the_right_layers(name, window, windowed, layers):
    model = find_model(name)
    assert (model.window, model.layers) == (window, layers)
    assert sum(block.layers for block in model.blocks if block.window) == windowed


@pytest.mark.parametrize(
    ("name", "context"),
    [
        ("gpt-2-xl", 1024),
        ("llama-2-7b", 4096),
        ("llama-3-8b", 8192),
        ("llama-3.1-8b", 131072),
        ("gemma-3-27b", 131072),
        ("deepseek-v3", 163840),
        ("gpt-oss-20b", 131072),
        ("llama-4-scout", 10485760),
    ],
)
def test_a_preset_knows_its_longest_context(name, context):
    assert find_model(name).context_limit == context


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("Llama-3-70B", "llama-3-70b"),
        ("llama_3_70b", "llama-3-70b"),
        ("LLAMA 3 70B", "llama-3-70b"),
        ("llama3.1-8b", "llama-3.1-8b"),
        ("Llama-3.3-70B", "llama-3.1-70b"),
        ("gpt2", "gpt-2-small"),
        ("GPT-2", "gpt-2-small"),
        ("gpt2-xl", "gpt-2-xl"),
        ("gpt3", "gpt-3-175b"),
        ("Qwen2.5-7B", "qwen2.5-7b"),
        ("qwen-3-8b", "qwen3-8b"),
        ("Mixtral 8x7B", "mixtral-8x7b"),
        ("DeepSeek-R1", "deepseek-v3"),
        ("gpt-oss:20b", "gpt-oss-20b"),
        ("Llama-4-Scout-17B-16E", "llama-4-scout"),
        ("Mistral-Small-3.2-24B", "mistral-small-3.1-24b"),
        ("Phi-4", "phi-4"),
        ("Kimi K2", "kimi-k2"),
    ],
)
def test_a_preset_is_found_however_its_name_is_spelled(spelling, name):
    assert find_preset(spelling) == (name, PRESETS[name])
    assert find_model(spelling).name == name


def test_no_two_presets_share_a_spelling():
    owners: dict[str, str] = {}
    for name, preset in PRESETS.items():
        for spelling in (name, *preset.aliases):
            key = "".join(filter(str.isalnum, spelling.lower()))
            assert owners.setdefault(key, name) == name
            assert find_preset(spelling)[0] == name


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("llama-3-80b", ";"),
        ("lama-3-8b", ": did you mean llama-3-8b?"),
        ("gtp-2-xl", ": did you mean gpt-2-xl?"),
        ("deepseek", ": did you mean deepseek-v3 or deepseek-v3.2?"),
        ("deepseek-r1-distill", ": did you mean deepseek-v3?"),  # deepseek-r1 has its layers
    ],
)
def test_a_misspelled_name_gets_the_nearest_one_as_a_hint(name, hint):
    with pytest.raises(BadModel) as refused:
        find_model(name)
    listed = "`python -m predict models` lists them; or give --config config.json"
    assert str(refused.value) == f"unknown model {name!r}{hint} {listed}"


@pytest.mark.parametrize("name", ["", "-", "xyzzy", "a\nb", "\0", "🦙" * 10_000])
def test_a_name_like_no_other_gets_the_command_that_lists_all(name):
    with pytest.raises(BadModel) as refused:
        find_preset(name)
    message = str(refused.value)
    assert "did you mean" not in message
    assert "`python -m predict models` lists them" in message
    assert "\n" not in message
    assert len(message) < 200


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_says_where_its_numbers_come_from(name):
    preset = PRESETS[name]
    assert preset.source
    assert bool(preset.training_tokens) == bool(preset.training_source)
    # From GPT-3's 1.7 tokens per parameter to the tens of thousands of the smallest recent models.
    if preset.training_tokens:
        assert 1 < preset.training_tokens / PARAMS[name] < 1e5
