"""Types that are not known: read by their classes, or refused with the nearest."""

import pytest

from predict.errors import BadModel
from predict.model.config.families import DECODERS, KNOWN, READERS
from predict.model.config.reader import from_config

LLAMA = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 100,
}


def test_every_decoder_has_a_reader():
    assert set(DECODERS.values()) <= READERS.keys()
    assert not DECODERS.keys() & READERS.keys()


@pytest.mark.parametrize(
    ("kind", "start"),
    [({"model_type": "our_own"}, "model_type 'our_own' is not known"), ({}, "model_type is missing")],
)
@pytest.mark.parametrize(
    "classes",
    [{"architectures": ["LlamaForCausalLM"]}, {"auto_map": {"AutoModelForCausalLM": "modeling_x.LlamaForCausalLM"}}],
)
def test_a_type_that_is_not_known_is_read_by_its_classes(kind, start, classes):
    model = from_config(LLAMA | kind | classes, "it")
    assert model.params == from_config(LLAMA | {"model_type": "llama"}, "it").params
    assert model.notes == (f"{start}: read as llama, the type of its LlamaForCausalLM",)


def test_code_that_is_not_known_is_told():
    own = {"model_type": "llama", "architectures": ["OurForCausalLM"]}
    assert from_config(LLAMA | own, "it").notes == ()
    own["auto_map"] = {"AutoModelForCausalLM": "modeling_ours.OurForCausalLM"}
    assert from_config(LLAMA | own, "it").notes == ("read as llama, but the code of its OurForCausalLM is not known",)
    own["architectures"] = ["LlamaForCausalLM"]
    assert from_config(LLAMA | own, "it").notes == ()


def test_any_other_type_is_refused_with_the_nearest_and_all_that_are_known():
    for values, nearest in (
        ({"model_type": "qwen33"}, "qwen3"),
        ({"model_type": "xyz", "architectures": ["Qwen3MoForCausalLM"]}, "qwen3_moe"),
    ):
        with pytest.raises(BadModel) as refused:
            from_config(LLAMA | values, "it")
        kind = values["model_type"]
        known = ", ".join(KNOWN)
        assert str(refused.value) == f"it: unknown model_type {kind!r}; the nearest known is {nearest}; known: {known}"
