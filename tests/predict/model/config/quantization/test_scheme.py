"""Which modules a list of names means, in each way of writing names, and the bits of a packing."""

import pytest

from predict.errors import BadModel
from predict.model.config.quantization.scheme import FP8_BLOCK, MXFP4, MXFP8, NVFP4, containing, named_modules, packed

Q, GATE, EXPERT = ("self_attn.q_proj",), ("mlp.gate_proj",), ("mlp.experts.0.down_proj", "mlp.experts")


def means(pattern, paths, layer=3, prefixes=("model.layers.3.",)):
    return named_modules([pattern], "it").include(layer, paths, prefixes)


@pytest.mark.parametrize(
    ("pattern", "meant"),
    [
        ("model.layers.3.self_attn.q_proj", True),
        ("model.layers.4.self_attn.q_proj", False),
        ("model.layers.13.self_attn.q_proj", False),
        ("language_model.model.layers.3.self_attn.q_proj", True),  # whatever the decoder is called
        ("model.layers.3.self_attn", True),
        ("model.layers.3", True),
        ("model.layers.3.mlp", False),
        ("self_attn", True),
        ("attn", False),
        ("self_attn.q_proj", True),
        ("model.layers.3.self_attn*", True),
        ("model.layers.3*", True),
        ("model.layers.3.*", True),
        ("model.layers.3.mlp*", False),
        ("model.layers.*.self_attn", True),
        ("model.layers.*.self_attn.k_proj", False),
        ("*self_attn*", True),
        ("*.q_proj", True),
        ("*", True),
        ("re:.*self_attn.*", True),
        ("re:self_attn", False),  # an expression begins where the name begins
        (r"re:model\.layers\.[0-3]\.self_attn\.[qkv]_proj$", True),
        (r"re:model\.layers\.[4-9]\.self_attn\.[qkv]_proj$", False),
        (r"model\.layers\.\d+\.self_attn", True),
        ("visual.blocks.3.self_attn", False),
        ("mtp.layers.3", False),
        ("lm_head", False),
    ],
)
def test_a_name_means_a_module_by_path_wildcard_or_expression(pattern, meant):
    assert means(pattern, Q) is meant


def test_a_gate_of_experts_is_not_the_gate_of_an_mlp():
    assert not means("mlp.gate", GATE)
    assert not means("model.layers.3.mlp.gate", GATE)
    assert means("experts", EXPERT)
    assert not means("shared_experts", EXPERT)


def test_awq_means_every_name_that_contains_the_text():
    assert containing(["attn.q"], "it").include(3, Q, ("model.layers.3.",))
    assert containing(["layers.3."], "it").include(3, Q, ("model.layers.3.",))
    assert not containing(["layers.4."], "it").include(3, Q, ("model.layers.3.",))


@pytest.mark.parametrize(
    ("pattern", "differs"),
    [("self_attn", False), ("re:.*mlp.*", False), ("model.layers.0.mlp", True), ("re:.*0.*", True)],
)
def test_names_with_numbers_may_differ_between_layers(pattern, differs):
    assert named_modules([pattern], "it").by_layer is differs


@pytest.mark.parametrize("name", [3, None, ["lm_head"]])
def test_a_name_must_be_a_text(name):
    with pytest.raises(BadModel, match="is not the name of a module"):
        named_modules([name], "it")


def test_a_bad_expression_is_named():
    with pytest.raises(BadModel, match=r"it: '\[' is not a regular expression"):
        named_modules(["re:["], "it")


def test_bits_hold_their_share_of_the_scales():
    assert packed("int", 4, 128, 16, 4).bits == 4 + 20 / 128
    assert packed("int", 4).bits == 4
    assert (FP8_BLOCK.bits, MXFP8.bits, MXFP4.bits, NVFP4.bits) == (8 + 32 / 128**2, 8.25, 4.25, 4.5)
