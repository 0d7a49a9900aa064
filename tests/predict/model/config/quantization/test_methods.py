"""Every method by a small file: the bits of a weight, what it does to activations, and what it leaves in 16 bits."""

import pytest

from predict.errors import BadModel
from predict.model.config.quantization.methods import METHODS
from predict.model.config.reader import from_config

LLAMA = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "vocab_size": 100,
}
FP8_SPEC = {"dtype": "fp8_e4m3", "qscheme": "per_tensor"}
INT4_SPEC = {"dtype": "uint4", "qscheme": "per_group", "group_size": 128, "symmetric": False}
MX_SPEC = {"dtype": "fp4", "qscheme": "per_group", "group_size": 32, "scale_format": "e8m0"}
HQQ_3 = {"nbits": 3, "group_size": 64}
BY_NAME = {"quant_method": "torchao", "quant_type": "int4_weight_only"}


def read(quantization, field="quantization_config", **more):
    return from_config({**LLAMA, **more, field: quantization}, "m")


def ao(kind, **data):
    return {"quant_method": "torchao", "quant_type": {"default": {"_type": kind, "_data": data, "_version": 1}}}


@pytest.mark.parametrize(
    ("quantization", "bits", "name", "multiplied"),
    [
        ({"quant_method": "fp8", "activation_scheme": "static"}, 8, "fp8", "fp8"),
        ({"quant_method": "FBGEMM_FP8"}, 8, "fp8", "fp8"),
        ({"quant_method": "mxfp8"}, 8.25, "mxfp8", "fp8"),
        ({"quant_method": "nvfp4"}, 4.5, "nvfp4", "fp4"),
        ({"quant_method": "fp_quant", "forward_dtype": "mxfp4"}, 4.25, "mxfp4", "fp4"),
        ({"quant_method": "fp_quant", "forward_dtype": "nvfp4"}, 4.5, "nvfp4", "fp4"),
        ({"quant_method": "awq", "w_bit": 4, "q_group_size": 64, "zero_point": False}, 4 + 16 / 64, "int4 g64", None),
        ({"quant_method": "gptq_marlin", "bits": 4, "group_size": 32, "sym": True}, 4.5, "int4 g32", None),
        ({"quant_method": "auto-round", "bits": 2, "group_size": 32, "sym": True}, 2.5, "int2 g32", None),
        ({"quant_method": "hqq", "quant_config": {"weight_quant_params": HQQ_3}}, 3.5, "int3 g64", None),
        ({"quant_method": "quanto", "weights": "int4"}, 4, "int4", None),
        ({"quant_method": "quanto", "weights": "float8", "activations": "float8"}, 8, "fp8", "fp8"),
        ({"quant_method": "eetq", "weights": "int8"}, 8, "int8", None),
        ({"quant_method": "aqlm", "num_codebooks": 2, "nbits_per_codebook": 8}, 2, "aqlm 2 bits", None),
        ({"quant_method": "exl2", "bits": 4.25, "head_bits": 16}, 4.25, "exl2 4.25 bits", None),
        ({"quant_method": "bitnet"}, 2, "ternary 2", "int8"),
        (ao("Int4WeightOnlyConfig", group_size=32), 4 + 32 / 32, "int4 g32", None),
        (ao("Int8DynamicActivationInt8WeightConfig"), 8, "int8", "int8"),
        (ao("Float8DynamicActivationFloat8WeightConfig"), 8, "fp8", "fp8"),
        (
            ao(
                "Int8DynamicActivationIntxWeightConfig",
                weight_dtype={"_type": "torch.dtype", "_data": "int4"},
                weight_granularity={"_type": "PerGroup", "_data": {"group_size": 32}},
            ),
            4.5,
            "int4 g32",
            "int8",
        ),
        ({"quant_method": "torchao", "quant_type": "int8_weight_only"}, 8, "int8", None),
        ({**BY_NAME, "quant_type_kwargs": {"group_size": 64}}, 4.5, "int4 g64", None),
        (
            {"quant_method": "quark", "global_quant_config": {"weight": FP8_SPEC, "input_tensors": FP8_SPEC}},
            8,
            "fp8",
            "fp8",
        ),
        ({"quant_method": "quark", "global_quant_config": {"weight": MX_SPEC}}, 4.25, "mxfp4", None),
        ({"quant_method": "quark", "global_quant_config": {"weight": INT4_SPEC}}, 4 + 20 / 128, "int4 g128", None),
        ({"quant_algo": "W4A16_AWQ", "group_size": 64}, 4.25, "int4 g64", None),
        ({"quant_algo": "W4A8_AWQ"}, 4.125, "int4 g128", "fp8"),
        ({"quant_algo": "W8A8_SQ_PER_CHANNEL"}, 8, "int8", "int8"),
        ({"quant_algo": "FP8_PB_WO"}, 8 + 32 / 128**2, "fp8 128x128", "fp8"),
        ({"config_groups": {"FP8_DYNAMIC": ["Linear"]}}, 8, "fp8", "fp8"),
        ({"load_in_8bit": True}, 8, "int8", "int8"),
    ],
)  # fmt: skip
def test_each_method(quantization, bits, name, multiplied):
    model = read(quantization)
    (block,) = model.blocks
    assert [block.bits.of(linear.name) for linear in block.linears] == pytest.approx([bits] * 7, rel=1e-12)
    found = model.storage.multiplied
    assert (model.storage.name, found and found.name, model.notes) == (name, multiplied, ())


@pytest.mark.parametrize(
    "weights",
    [
        {"num_bits": 4, "type": "int", "strategy": "channel"},
        {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16},
    ],
)
def test_weights_that_are_rounded_but_stored_dense_take_sixteen_bits(weights):
    groups = {"group_0": {"targets": ["Linear"], "weights": weights}}
    model = read({"quant_method": "compressed-tensors", "format": "dense", "config_groups": groups})
    assert model.stored_bytes() == 2 * model.params


def test_integers_that_are_not_packed_take_a_byte():
    groups = {"group_0": {"targets": ["Linear"], "weights": {"num_bits": 4, "type": "int", "strategy": "channel"}}}
    model = read({"quant_method": "compressed-tensors", "format": "naive-quantized", "config_groups": groups})
    assert model.blocks[0].bits.of("mlp.up") == 8


def test_two_of_four_weights_and_a_bit_for_each():
    weights = {"num_bits": 8, "type": "float", "strategy": "channel"}
    sparsity = {"format": "sparse-24-bitmask", "sparsity_structure": "2:4", "targets": ["Linear"]}
    quantization = {"quant_method": "compressed-tensors", "sparsity_config": sparsity}
    both = {**quantization, "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}}}
    assert read(both).blocks[0].bits.of("mlp.up") == 8 / 2 + 1
    assert read(quantization).blocks[0].bits.of("mlp.up") == 16 / 2 + 1


def test_gptq_quantizes_only_the_modules_it_lists():
    model = read(
        {"quant_method": "gptq", "bits": 4, "group_size": 128, "modules_in_block_to_quantize": [["mlp.up_proj"]]}
    )
    bits = model.blocks[0].bits
    assert (bits.of("mlp.up"), bits.of("mlp.down"), bits.of("attention.q")) == (4.125, 16, 16)


def test_gptqmodel_names_modules_that_differ_or_stay():
    dynamic = {r"-:.*attn.*": {}, r"+:.*\.0\..*down.*": {"bits": 8, "group_size": 64}}
    bits = read({"quant_method": "gptq", "bits": 4, "group_size": 128, "dynamic": dynamic}).blocks[0].bits
    assert (bits.of("attention.q"), bits.of("mlp.up")) == (16, 4.125)
    assert bits.of("mlp.down") == ((8 + 16 / 64) + 4.125) / 2  # one layer of two


def test_autoround_and_gptq_may_quantize_the_head():
    assert read({"quant_method": "gptq", "bits": 4, "lm_head": True}).storage.outer.of("vocab") == 4.125
    extra = {"lm_head": {"bits": 8}, "model.layers.1.mlp.up_proj": {"bits": 16}}
    model = read({"quant_method": "auto-round", "bits": 4, "group_size": 128, "extra_config": extra})
    assert model.storage.outer.of("vocab") == 8.125
    assert model.blocks[0].bits.of("mlp.up") == (4.125 + 16) / 2


def test_mlx_quantizes_embedding_and_head_and_names_what_differs():
    quantization = {"group_size": 64, "bits": 4, "model.layers.0.mlp.down_proj": {"group_size": 64, "bits": 6}}
    model = read(quantization, "quantization")
    assert (model.storage.embedding_bits, model.storage.outer.of("vocab")) == (4.5, 4.5)
    assert model.blocks[0].bits.of("mlp.down") == (6.5 + 4.5) / 2
    assert (model.storage.name, model.notes) == ("int4 g64", ())
    twice = read(quantization, "quantization", quantization_config=quantization)  # as MLX writes it
    assert (twice.storage.name, twice.notes) == ("int4 g64", ())


def test_awq_means_the_router_by_gate():
    # As in the files of Mixtral, whose experts keep 4 bits: 4 + (16 + 4) / 128.
    awq = {"quant_method": "awq", "bits": 4, "group_size": 128, "modules_to_not_convert": ["gate"]}
    model = read(awq, model_type="mixtral", num_key_value_heads=2, num_local_experts=4, num_experts_per_tok=2)
    assert model.blocks[0].bits.of("mlp.expert_gate") == 4.15625
    assert read(awq).blocks[0].bits.of("mlp.gate") == 4.15625
    assert read(awq | {"modules_to_not_convert": ["gate_proj"]}).blocks[0].bits.of("mlp.gate") == 16


def test_mlx_quantizes_the_decoder_of_a_multimodal_model():
    whole = {"model_type": "llava", "text_config": LLAMA, "quantization": {"group_size": 64, "bits": 8}}
    model = from_config(whole, "m")
    assert (model.storage.name, model.notes) == ("int8 g64", ())


def test_mlx_may_pack_the_embedding_in_other_bits():
    # A scale and a bias of 16 bits for 64 weights are 0.5 bits: 6.5 for 6 bits, 4.5 for the 4 bits of the rest.
    quantization = {"group_size": 64, "bits": 4, "model.embed_tokens": {"bits": 6}, "language_model.lm_head": False}
    model = read(quantization, "quantization")
    assert (model.storage.embedding_bits, model.storage.outer.of("vocab")) == (6.5, 16)
    assert read(quantization | {"model.embed_tokens": False}, "quantization").storage.embedding_bits == 16


def test_a_quantization_that_is_no_object_is_named():
    assert read("fp8", "quantization").notes == ("fields of the config that were not used: quantization",)


@pytest.mark.parametrize(
    ("inside", "beside", "bits", "name"),
    [
        ({"expert_dtype": "fp4"}, {}, 4.25, "mxfp4"),
        ({}, {"expert_dtype": "fp4"}, 4.25, "mxfp4"),  # where the published files say it
        ({"moe_quant_algo": "NVFP4", "ignore": ["*.attn.*"]}, {"expert_dtype": "fp4"}, 4.5, "nvfp4"),  # ModelOpt's
    ],
)
def test_deepseek_v4_has_experts_in_4_bits_beside_fp8(inside, beside, bits, name):
    model = read(
        {"quant_method": "fp8", "weight_block_size": [128, 128], "scale_fmt": "ue8m0", **inside},
        model_type="qwen3_moe",
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=32,
        head_dim=16,
        **beside,
    )
    assert model.blocks[0].bits.of("mlp.expert_up") == bits
    assert model.storage.name == f"{name} experts, fp8 128x128 rest"
    assert model.notes == ()


def test_torchao_names_a_configuration_for_each_module():
    config = {"_default": {"_type": "Int8WeightOnlyConfig"}, "model.layers.0.mlp.up_proj": None}
    whole = ao("ModuleFqnToConfig", module_fqn_to_config=config)
    assert read(whole).blocks[0].bits.of("mlp.up") == (8 + 16) / 2
    assert read(whole).blocks[0].bits.of("mlp.down") == 8


def test_quark_names_modules_before_all():
    layers = {"*mlp*": {"weight": MX_SPEC, "input_tensors": MX_SPEC}}
    usual = {"weight": FP8_SPEC, "input_tensors": FP8_SPEC}
    quantization = {
        "quant_method": "quark",
        "global_quant_config": usual,
        "layer_quant_config": layers,
        "exclude": ["lm_head", "*q_proj"],
        "kv_cache_quant_config": {"*k_proj": {"output_tensors": FP8_SPEC}},
    }
    model = read(quantization)
    bits = model.blocks[0].bits
    assert (bits.of("mlp.up"), bits.of("attention.k"), bits.of("attention.q")) == (4.25, 8, 16)
    assert model.storage.kv is not None
    assert model.storage.kv.name == "fp8"


@pytest.mark.parametrize(
    ("quantization", "note"),
    [
        (
            {"quant_method": "sorcery", "bits": 1},
            "quantization_config 'sorcery' is not known: its weights are read as 16 bits",
        ),
        (
            {"wbits": 4},
            "quantization_config without a quant_method is not known: its weights are read as 16 bits",
        ),
        ({"quant_method": "modelopt", "quant_algo": "W1A1"}, "quant_algo W1A1 is not known: read as 16 bits"),
        (ao("Int1WeightOnlyConfig"), "quant_type Int1WeightOnlyConfig is not known: read as 16 bits"),
    ],
)
def test_what_is_not_known_is_named_and_read_as_sixteen_bits(quantization, note):
    model = read(quantization)
    assert model.notes == (note,)
    assert model.stored_bytes() == 2 * model.params


def test_a_field_that_nobody_knows_is_named():
    model = read({"quant_method": "fp8", "expert_bits": 2})
    assert model.notes == ("fields of the config that were not used: quantization_config.expert_bits",)


@pytest.mark.parametrize(
    ("quantization", "message"),
    [
        ([8], "quantization_config must be a JSON object"),
        ({"quant_method": 8}, "quant_method must be a text"),
        ({"quant_method": "gptq", "bits": 0}, "bits must be a positive whole number"),
        ({"quant_method": "gptq", "bits": 64}, "bits=64 is more bits than a weight has"),
        ({"quant_method": "gptq", "bits": 4, "group_size": "all"}, "group_size must be a positive whole number"),
        ({"quant_method": "exl2", "bits": -1.0}, "bits must be a number of bits"),
        ({"quant_method": "quanto", "weights": "int5"}, "weights 'int5' is unknown; known: int8, int4, int2, float8"),
        ({"config_groups": {"W3A3": ["Linear"]}}, "config_groups: 'W3A3' is no known scheme"),
        ({"quant_method": "fp8", "modules_to_not_convert": "lm_head"}, "modules_to_not_convert must be a list"),
    ],
)
def test_a_wrong_field_is_named(quantization, message):
    with pytest.raises(BadModel, match=message.replace("(", r"\(")):
        read(quantization)


def test_no_quantization_is_none():
    for nothing in (None, {}):
        assert read(nothing).storage.name == "bf16"


def test_methods_are_spelled_as_they_are_looked_up():
    assert all(name == name.lower().replace("_", "-") for name in METHODS)
