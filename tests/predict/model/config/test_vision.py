"""Networks beside a decoder: their parameters by hand, and what is told where the layout is not known."""

import pytest

from predict.model.config.reader import from_config

TEXT = {
    "hidden_size": 2560,
    "intermediate_size": 10240,
    "num_hidden_layers": 34,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "sliding_window": 1024,
}
SIGLIP = {
    "model_type": "siglip_vision_model",
    "hidden_size": 1152,
    "image_size": 896,
    "intermediate_size": 4304,
    "num_attention_heads": 16,
    "num_hidden_layers": 27,
    "patch_size": 14,
    "vision_use_head": False,
}
GEMMA_3_4B = {"model_type": "gemma3", "text_config": TEXT | {"model_type": "gemma3_text"}, "vision_config": SIGLIP}
LLAMA = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 100,
}


def test_gemma_3s_tower_and_projector():
    # SigLIP: patches of 3 x 14 x 14, 64 x 64 positions, 27 layers of attention (4 x 1152 x 1153), an MLP
    # (1153 x 4304 + 4305 x 1152) and two norms of 2 x 1152, one more norm; then a norm and a matrix of 1152 x 2560.
    layer = 4 * 1152 * 1153 + 1153 * 4304 + 4305 * 1152 + 4 * 1152
    tower = (3 * 14 * 14 + 1) * 1152 + 64 * 64 * 1152 + 27 * layer + 2 * 1152
    model = from_config(GEMMA_3_4B, "it")
    assert model.vision_params == tower + 1152 + 1152 * 2560 == 419_816_304
    assert model.params == 3_880_263_168
    assert model.stored_params == 4_300_079_472
    assert model.notes == ()


def test_vision_takes_memory_and_no_flop():
    with_vision, text = from_config(GEMMA_3_4B, "it"), from_config(GEMMA_3_4B | {"vision_config": None}, "it")
    assert with_vision.stored_bytes() - text.stored_bytes() == 2 * 419_816_304
    assert with_vision.stored_bytes(4) - text.stored_bytes(4) == 419_816_304 / 2
    assert list(with_vision.outer_linears()) == list(text.outer_linears())


@pytest.mark.parametrize(
    ("kind", "vision"),
    [("internvl_chat", SIGLIP), ("gemma3", {name: size for name, size in SIGLIP.items() if name != "image_size"})],
    ids=["layout not known", "size missing"],
)
def test_what_cannot_be_counted_is_told(kind, vision):
    model = from_config({"model_type": kind, "text_config": LLAMA, "vision_config": vision}, "it")
    assert model.vision_params == 0
    assert model.notes == ("only the text part is counted; left out: vision_config",)


def test_a_field_of_the_tower_that_was_not_used_is_told():
    vision = SIGLIP | {"odd": 3}
    assert from_config(GEMMA_3_4B | {"vision_config": vision}, "it").notes == (
        "fields of the config that were not used: vision_config.odd",
    )


@pytest.mark.parametrize(
    ("kind", "vision", "others", "hidden", "params"),
    [
        # transformers 5.24 on the meta device
        (
            "qwen2_5_vl",
            {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "patch_size": 14},
            {},
            3584,
            676_550_144,
        ),
        (
            "mistral3",
            {
                "model_type": "pixtral",
                "hidden_size": 1024,
                "intermediate_size": 4096,
                "num_hidden_layers": 24,
                "num_attention_heads": 16,
                "image_size": 1540,
                "patch_size": 14,
            },
            {"spatial_merge_size": 2},
            5120,
            438_958_080,
        ),
    ],
)
def test_published_towers(kind, vision, others, hidden, params):
    text = LLAMA | {"hidden_size": hidden}
    whole = {"model_type": kind, "text_config": text, "vision_config": vision, **others}
    assert from_config(whole, "it").vision_params == params
