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
