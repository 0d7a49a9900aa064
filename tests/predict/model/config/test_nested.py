"""Decoders inside a multimodal configuration."""

from predict.model.config.reader import from_config

TEXT = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 100,
}
ALONE = from_config(TEXT, "it").params


def test_the_decoder_is_read_wherever_it_stands():
    for name in ("text_config", "language_config", "llm_config"):
        model = from_config({"model_type": "anything", name: TEXT}, "it")
        assert (model.params, model.notes) == (ALONE, ())
    deep = {"model_type": "omni", "thinker_config": {"model_type": "omni_thinker", "text_config": TEXT}}
    assert from_config(deep, "it").params == ALONE


def test_what_is_beside_the_decoder_is_named():
    whole = {
        "model_type": "omni",
        "thinker_config": {"text_config": TEXT, "audio_config": {"d": 1}},
        "talker_config": {"e": 2},
    }
    note = "only the text part is counted; left out: thinker_config.audio_config, talker_config"
    assert from_config(whole, "it").notes == (note,)


def test_the_whole_may_say_whether_the_embeddings_are_tied():
    tied = ALONE - 64 * 100
    for outer, inner, params in (
        ({}, {}, ALONE),
        ({"tie_word_embeddings": True}, {}, tied),
        ({}, {"tie_word_embeddings": True}, tied),
        ({"tie_word_embeddings": False}, {"tie_word_embeddings": True}, ALONE),
        ({"tie_word_embeddings": True}, {"tie_word_embeddings": False}, tied),
        ({"tie_word_embeddings": False}, {"tie_word_embeddings": False}, ALONE),
    ):
        model = from_config({"model_type": "vl", **outer, "text_config": TEXT | inner}, "it")
        assert (model.params, model.notes) == (params, ()), (outer, inner)
    older = {
        "model_type": "qwen2_5_vl",
        "tie_word_embeddings": False,
        "text_config": TEXT | {"tie_word_embeddings": True},
    }
    assert from_config(older, "it").params == tied


def test_a_pattern_of_windows_that_layer_types_spell_out_is_not_told():
    gemma = TEXT | {"model_type": "gemma3_text", "num_key_value_heads": 4, "head_dim": 16, "sliding_window": 512}
    saved = gemma | {"_sliding_window_pattern": 6, "layer_types": ["sliding_attention", "full_attention"]}
    assert from_config(saved, "it").notes == ()


def test_a_decoder_inside_may_leave_fields_to_its_class():
    # LLaVA-1.5-7B: Llama-2-7B (6,738,415,616 parameters) with 64 more tokens in the embedding and in the head.
    llava = {"model_type": "llava", "text_config": {"model_type": "llama", "vocab_size": 32064}}
    model = from_config(llava, "it")
    assert model.params == 6_738_415_616 + 2 * 64 * 4096
    assert "hidden_size 4,096, intermediate_size 11,008, num_hidden_layers 32" in model.notes[0]
    # Pixtral-12B names all but its heads. Layer: Q and out 5120 x 4096, K and V 5120 x 1024, MLP 3 x 5120 x 14336.
    text = {"hidden_size": 5120, "head_dim": 128, "num_hidden_layers": 40, "num_key_value_heads": 8}
    text |= {"model_type": "mistral", "intermediate_size": 14336, "vocab_size": 131072, "sliding_window": None}
    layer = 2 * 5120 * 4096 + 2 * 5120 * 1024 + 3 * 5120 * 14336 + 2 * 5120
    pixtral = from_config({"model_type": "llava", "text_config": text | {"max_position_embeddings": 1024000}}, "it")
    assert pixtral.params == 40 * layer + 2 * 131072 * 5120 + 5120
    assert pixtral.notes == ("it (text_config) leaves fields to the defaults of mistral: num_attention_heads 32",)


def test_fields_that_nobody_used_are_named_inside_and_outside():
    model = from_config({"model_type": "vl", "odd": 1, "vocab_size": 100, "text_config": TEXT | {"strange": 2}}, "it")
    assert model.notes == ("fields of the config that were not used: odd, text_config.strange",)


def test_the_head_is_the_decoders_unless_the_whole_classifies():
    for whole, inner, head in (
        ("OmniModel", None, 64 * 100),
        ("VLForConditionalGeneration", ["LlamaModel"], 64 * 100),
        ("VLForSequenceClassification", ["LlamaForCausalLM"], 64 * 2),
    ):
        text = TEXT | {"architectures": inner}
        config = {"model_type": "vl", "architectures": [whole], "auto_map": {"AutoModel": "x.Y"}, "text_config": text}
        assert from_config(config, "it").params == ALONE - 64 * 100 + head
