"""Types that are not known: read by their classes, or refused with the nearest."""

import pytest

from predict.errors import BadModel
from predict.model.config.families import DECODERS, READERS
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


def test_any_other_type_is_refused_with_the_nearest_and_the_command_that_lists_what_is_known():
    for values, hint in (
        ({"model_type": "quen3"}, ": did you mean qwen3?"),
        ({"model_type": "qwen33"}, ";"),  # another number is another model
        ({"model_type": "xyz", "architectures": ["Qwen3MoForCausalLM"]}, ": did you mean qwen3_moe?"),
    ):
        with pytest.raises(BadModel) as refused:
            from_config(LLAMA | values, "it")
        kind = values["model_type"]
        listed = "`python -m predict models --types` lists what is known"
        assert str(refused.value) == f"it: unknown model_type {kind!r}{hint} {listed}"


MPT = {"model_type": "mpt", "vocab_size": 512, "d_model": 64, "n_heads": 8, "n_layers": 3}
SMALL = LLAMA | {"num_key_value_heads": 2}
PUBLISHED = {
    "mpt": MPT | {"no_bias": True, "expansion_ratio": 4, "attn_config": {"attn_type": "multihead_attention"}},
    "minimax_m2": SMALL
    | {
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "use_qk_norm": True,
        "attn_type_list": [1, 1],
        "shared_intermediate_size": 0,
    },
    "starcoder2": SMALL | {"mlp_type": "default", "sliding_window": None},
    "cohere2": SMALL | {"use_gated_activation": True, "use_parallel_block": True, "use_embedding_sharing": True},
    "afmoe": SMALL | {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "attention_bias": False},
}


@pytest.mark.parametrize(
    ("kind", "changes", "told"),
    [
        ("mpt", {"no_bias": False}, "no_bias"),
        ("mpt", {"expansion_ratio": 6}, "expansion_ratio"),
        ("mpt", {"attn_config": {"attn_type": "multiquery_attention", "qk_ln": True}}, "attn_config.attn_type"),
        ("minimax_m2", {"use_qk_norm": False}, "use_qk_norm"),
        ("minimax_m2", {"attn_type_list": [0, 1]}, "attn_type_list"),
        ("minimax_m2", {"shared_intermediate_size": 96}, "shared_intermediate_size"),
        ("starcoder2", {"mlp_type": "gated"}, "mlp_type"),
        ("cohere2", {"use_gated_activation": False}, "use_gated_activation"),
        ("cohere2", {"use_qk_norm": True}, "use_qk_norm"),
        ("afmoe", {"attention_bias": True}, "attention_bias"),
    ],
)
def test_a_variant_that_a_reader_does_not_build_is_told(kind, changes, told):
    published = PUBLISHED[kind] | {"model_type": kind}
    assert from_config(published, "it").notes == ()
    (note,) = from_config(published | changes, "it").notes
    assert note.startswith(f"fields of the config that were not used: {told}")


def test_a_class_may_have_another_name_than_its_type():
    config = LLAMA | {"model_type": "hunyuan_v1_dense", "num_key_value_heads": 2, "head_dim": 16}
    config |= {
        "architectures": ["HunYuanDenseV1ForCausalLM"],
        "auto_map": {"AutoConfig": "configuration.HunYuanConfig"},
    }
    assert from_config(config, "it").notes == ()
