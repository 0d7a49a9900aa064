"""What a checkpoint takes by its config.json: whole files of each method, with bytes worked out by hand.

The files are written afresh after published ones; where a published size is known it stands beside the arithmetic.
"""

import json
from itertools import chain

import pytest

from predict.errors import BadModel
from predict.model.config.reader import from_config, read_config
from predict.units import DTYPES

# Llama-3-8B and -70B. One layer: Q and out of hidden x hidden, K and V of hidden x 1024, three MLP matrices.
LLAMA = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "tie_word_embeddings": False,
    "max_position_embeddings": 131072,
    "torch_dtype": "bfloat16",
}
LLAMA_8B = {
    **LLAMA,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
}
LLAMA_70B = {
    **LLAMA,
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
}
LLAMA_405B = {
    **LLAMA,
    "hidden_size": 16384,
    "intermediate_size": 53248,
    "num_hidden_layers": 126,
    "num_attention_heads": 128,
}
ATTENTION_8B, MLP_8B = 2 * 4096 * 4096 + 2 * 4096 * 1024, 3 * 4096 * 14336
LINEAR_8B = 32 * (ATTENTION_8B + MLP_8B)
ENDS_8B, NORMS_8B = 2 * 128256 * 4096, (2 * 32 + 1) * 4096  # embedding and head; norms

QWEN_7B = {  # Qwen2.5-7B: biases on Q (3584), K and V (512 each)
    "model_type": "qwen2",
    "architectures": ["Qwen2ForCausalLM"],
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "vocab_size": 152064,
    "tie_word_embeddings": False,
    "use_sliding_window": False,
    "max_position_embeddings": 32768,
    "torch_dtype": "float16",
}
LINEAR_QWEN = 28 * (2 * 3584 * 3584 + 2 * 3584 * 512 + 3 * 3584 * 18944)
REST_QWEN = 2 * 152064 * 3584 + 28 * (3584 + 2 * 512) + (2 * 28 + 1) * 3584

DEEPSEEK = {  # DeepSeek-V3 and R1
    "model_type": "deepseek_v3",
    "architectures": ["DeepseekV3ForCausalLM"],
    "hidden_size": 7168,
    "intermediate_size": 18432,
    "num_hidden_layers": 61,
    "num_attention_heads": 128,
    "num_key_value_heads": 128,
    "moe_intermediate_size": 2048,
    "q_lora_rank": 1536,
    "kv_lora_rank": 512,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "num_experts_per_tok": 8,
    "first_k_dense_replace": 3,
    "vocab_size": 129280,
    "max_position_embeddings": 163840,
    "torch_dtype": "bfloat16",
}
MLA = 7168 * 1536 + 1536 * 128 * 192 + 7168 * 576 + 512 * 128 * 256 + 128 * 128 * 7168
DENSE, EXPERT = 3 * 7168 * 18432, 3 * 7168 * 2048
ROUTED = 58 * 256 * EXPERT
LINEAR_DEEPSEEK = 61 * MLA + 3 * DENSE + ROUTED + 58 * EXPERT
ROUTERS, ENDS_DEEPSEEK = 58 * 7168 * 256, 2 * 129280 * 7168
NORMS_DEEPSEEK = 61 * (2 * 7168 + 1536 + 512) + 7168


def model(config, quantization=None, field="quantization_config"):
    return from_config({**config, field: quantization}, "m")


def groups(weights, activations=None, **more):
    """A compressed-tensors configuration with one group, as llm-compressor writes it."""
    group = {"targets": ["Linear"], "weights": weights, "input_activations": activations, "output_activations": None}
    return {
        "quant_method": "compressed-tensors",
        "config_groups": {"group_0": group},
        "global_compression_ratio": None,
        "ignore": ["lm_head"],
        "kv_cache_scheme": None,
        "quantization_status": "compressed",
        **more,
    }


def args(bits, kind, strategy, group=None, *, dynamic=False, symmetric=True):
    return {
        "actorder": None,
        "block_structure": None,
        "dynamic": dynamic,
        "group_size": group,
        "num_bits": bits,
        "observer": "minmax",
        "observer_kwargs": {},
        "strategy": strategy,
        "symmetric": symmetric,
        "type": kind,
    }


def test_an_fp8_file_of_llm_compressor():
    weights, activations = args(8, "float", "channel"), args(8, "float", "token", dynamic=True)
    llama = model(LLAMA_70B, groups(weights, activations, format="float-quantized"))
    linear = 80 * (2 * 8192 * 8192 + 2 * 8192 * 1024 + 3 * 8192 * 28672)
    assert linear == 68_451_041_280
    assert llama.stored_bytes() == linear + 2 * (2 * 128256 * 8192 + 161 * 8192) == 72_656_371_712
    assert (llama.storage.name, llama.storage.multiplied, llama.storage.kv) == ("fp8", DTYPES["fp8"], None)
    assert llama.notes == ()


def test_fp8_in_blocks_as_deepseek_v3_ships():
    quantization = {
        "activation_scheme": "dynamic",
        "fmt": "e4m3",
        "quant_method": "fp8",
        "weight_block_size": [128, 128],
    }
    deepseek = model(DEEPSEEK, quantization)
    # 8 bits and a scale of 32 for 128 x 128 weights; routers, embedding, head and norms keep 16.
    bits = 8 + 32 / 128**2
    rest = ROUTERS + ENDS_DEEPSEEK + NORMS_DEEPSEEK
    assert deepseek.stored_bytes() == pytest.approx(LINEAR_DEEPSEEK * bits / 8 + 2 * rest, rel=1e-12)
    assert deepseek.stored_bytes() == pytest.approx(673.15e9, rel=1e-5)
    assert (deepseek.storage.name, deepseek.storage.multiplied) == ("fp8 128x128", DTYPES["fp8"])


def test_fbgemm_keeps_what_it_lists_layer_by_layer():
    # Llama-3.1-405B-Instruct-FP8: all attention, and the MLPs of the first and the last layer.
    attention = [f"model.layers.{layer}.self_attn.{part}_proj" for layer in range(126) for part in "qkvo"]
    ends = [f"model.layers.{layer}.mlp.{part}_proj" for layer in (0, 125) for part in ("down", "gate", "up")]
    quantization = {
        "activation_scale_ub": 1200.0,
        "modules_to_not_convert": [*attention, *ends],
        "quant_method": "fbgemm_fp8",
    }
    llama = model(LLAMA_405B, quantization)
    mlp, attention_params = 3 * 16384 * 53248, 2 * 16384 * 16384 + 2 * 16384 * 1024
    rest = 126 * attention_params + 2 * mlp + 2 * 128256 * 16384 + 253 * 16384
    assert llama.stored_bytes() == pytest.approx(124 * mlp + 2 * rest, rel=1e-12)
    assert (llama.storage.name, llama.storage.multiplied) == ("fp8 MLP, bf16 rest", DTYPES["fp8"])


def test_int8_weights_and_activations():
    weights, activations = args(8, "int", "channel"), args(8, "int", "token", dynamic=True)
    llama = model(LLAMA_8B, groups(weights, activations, format="int-quantized"))
    assert llama.stored_bytes() == LINEAR_8B + 2 * (ENDS_8B + NORMS_8B)
    assert (llama.storage.name, llama.storage.multiplied) == ("int8", DTYPES["int8"])


@pytest.mark.parametrize(("symmetric", "bits"), [(True, 4 + 16 / 128), (False, 4 + (16 + 4) / 128)])
def test_int4_weights_packed_with_a_scale_for_128(symmetric, bits):
    weights = args(4, "int", "group", 128, symmetric=symmetric)
    llama = model(LLAMA_8B, groups(weights, format="pack-quantized"))
    assert llama.stored_bytes() == pytest.approx(LINEAR_8B * bits / 8 + 2 * (ENDS_8B + NORMS_8B), rel=1e-12)
    assert (llama.storage.name, llama.storage.multiplied) == ("int4 g128", None)


def test_int4_experts_alone_by_regular_expressions_as_kimi_k2_thinking_ships():
    kimi = {**DEEPSEEK, "n_routed_experts": 384, "first_k_dense_replace": 1, "vocab_size": 163840}
    kimi |= {"num_attention_heads": 64, "num_key_value_heads": 64}
    ignore = ["lm_head", "re:.*self_attn.*", "re:.*shared_experts.*", r"re:.*mlp\.(gate|up|gate_up|down)_proj.*"]
    found = model(kimi, groups(args(4, "int", "group", 32), format="pack-quantized", ignore=ignore))
    routed, mla = 60 * 384 * EXPERT, 7168 * 1536 + 1536 * 64 * 192 + 7168 * 576 + 512 * 64 * 256 + 64 * 128 * 7168
    rest = 61 * mla + DENSE + 60 * (EXPERT + 7168 * 384) + 2 * 163840 * 7168 + NORMS_DEEPSEEK
    assert found.stored_bytes() == pytest.approx(routed * 4.5 / 8 + 2 * rest, rel=1e-12)
    assert found.stored_bytes() == pytest.approx(594e9, rel=1e-3)  # the published files together
    assert (found.storage.name, found.storage.multiplied) == ("int4 g32 experts, bf16 rest", None)


def test_nvfp4_of_llm_compressor_with_a_narrow_cache():
    activations, cache = args(4, "float", "tensor_group", 16, dynamic="local"), args(8, "float", "tensor")
    weights = args(4, "float", "tensor_group", 16)
    quantization = groups(weights, activations, format="nvfp4-pack-quantized", kv_cache_scheme=cache)
    llama = model(LLAMA_8B, quantization)
    assert llama.stored_bytes() == LINEAR_8B * 4.5 / 8 + 2 * (ENDS_8B + NORMS_8B)
    storage = llama.storage
    assert (storage.name, storage.multiplied, storage.kv) == ("nvfp4", DTYPES["fp4"], DTYPES["fp8"])
    weight_only = model(LLAMA_8B, groups(weights, format="nvfp4-pack-quantized"))
    assert weight_only.storage.multiplied is None


def test_several_groups_by_module_and_by_class():
    experts = {"targets": ["re:.*experts.*"], "weights": args(4, "float", "tensor_group", 16)}
    linear = {
        "targets": ["Linear"],
        "weights": args(8, "float", "channel"),
        "input_activations": args(8, "float", "token"),
    }
    found = model(DEEPSEEK, groups({}, config_groups={"group_0": linear, "group_1": experts}, format="mixed-precision"))
    narrow = ROUTED + 58 * EXPERT  # the expression names shared experts too
    rest = ROUTERS + ENDS_DEEPSEEK + NORMS_DEEPSEEK
    assert found.stored_bytes() == pytest.approx(narrow * 4.5 / 8 + (LINEAR_DEEPSEEK - narrow) + 2 * rest, rel=1e-12)


def test_awq():
    quantization = {
        "bits": 4,
        "group_size": 128,
        "modules_to_not_convert": None,
        "quant_method": "awq",
        "version": "gemm",
        "zero_point": True,
    }
    qwen = model(QWEN_7B, quantization)
    bits = 4 + (16 + 4) / 128  # a scale of 16 and a packed zero point of 4 for 128 weights
    assert qwen.stored_bytes() == pytest.approx(LINEAR_QWEN * bits / 8 + 2 * REST_QWEN, rel=1e-12)
    assert qwen.stored_bytes() == pytest.approx(5.57e9, rel=1e-3)  # the published file has 5.57 GB
    assert (qwen.storage.name, qwen.storage.multiplied) == ("int4 g128", None)


@pytest.mark.parametrize(
    ("bits", "group", "symmetric", "stored"),
    [
        (4, 128, True, 4 + 16 / 128),
        (4, 128, False, 4 + 20 / 128),
        (8, 32, True, 8 + 16 / 32),
        (3, 128, True, 3 + 16 / 128),
        (2, 64, True, 2 + 16 / 64),
        (4, -1, True, 4),
    ],
)
def test_gptq(bits, group, symmetric, stored):
    quantization = {
        "bits": bits,
        "damp_percent": 0.01,
        "desc_act": False,
        "group_size": group,
        "model_file_base_name": "model",
        "model_name_or_path": None,
        "quant_method": "gptq",
        "static_groups": False,
        "sym": symmetric,
        "true_sequential": True,
    }
    qwen = model(QWEN_7B, quantization)
    assert qwen.stored_bytes() == pytest.approx(LINEAR_QWEN * stored / 8 + 2 * REST_QWEN, rel=1e-12)
    assert qwen.notes == ()


@pytest.mark.parametrize(
    ("setting", "bits", "name"),
    [
        ({"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": False}, 4 + 32 / 64, "nf4"),
        (
            {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True},
            4 + (8 + 32 / 256) / 64,
            "nf4",
        ),
        ({"load_in_4bit": True, "bnb_4bit_quant_type": "fp4", "bnb_4bit_use_double_quant": False}, 4.5, "fp4"),
        ({"load_in_8bit": True, "load_in_4bit": False}, 8, "int8"),
    ],
)
def test_bitsandbytes(setting, bits, name):
    quantization = {
        "bnb_4bit_compute_dtype": "bfloat16",
        "bnb_4bit_quant_storage": "uint8",
        "llm_int8_enable_fp32_cpu_offload": False,
        "llm_int8_has_fp16_weight": False,
        "llm_int8_skip_modules": None,
        "llm_int8_threshold": 6.0,
        "quant_method": "bitsandbytes",
        **setting,
    }
    llama = model(LLAMA_8B, quantization)
    assert llama.stored_bytes() == pytest.approx(LINEAR_8B * bits / 8 + 2 * (ENDS_8B + NORMS_8B), rel=1e-12)
    assert llama.storage.name == name


def test_mxfp4_of_gpt_oss_narrows_the_experts_alone():
    gpt_oss = {
        "model_type": "gpt_oss",
        "architectures": ["GptOssForCausalLM"],
        "hidden_size": 2880,
        "intermediate_size": 2880,
        "num_hidden_layers": 36,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "num_local_experts": 128,
        "num_experts_per_tok": 4,
        "sliding_window": 128,
        "layer_types": ["sliding_attention", "full_attention"] * 18,
        "vocab_size": 201088,
        "tie_word_embeddings": False,
        "attention_bias": True,
        "max_position_embeddings": 131072,
        "quantization_config": {
            "modules_to_not_convert": [
                "model.layers.*.self_attn",
                "model.layers.*.mlp.router",
                "model.embed_tokens",
                "lm_head",
            ],
            "quant_method": "mxfp4",
        },
    }
    found = from_config(gpt_oss, "gpt-oss-120b")
    experts = 36 * 128 * 3 * 2880 * 2880
    # 4 bits and a scale of 8 for 32 weights; the experts' biases keep 16 bits, like all else.
    assert found.stored_bytes() == pytest.approx(experts * 4.25 / 8 + 2 * (found.params - experts), rel=1e-12)
    assert found.params == 116_829_156_672
    assert found.stored_bytes() == pytest.approx(65.25e9, rel=1e-3)  # the published files together
    assert (found.storage.name, found.storage.multiplied) == ("mxfp4 experts, bf16 rest", None)


def test_modelopt_in_config_json_and_in_a_file_of_its_own():
    weights = {"dynamic": False, "num_bits": 4, "type": "float", "group_size": 16}
    group = {"input_activations": weights, "weights": weights, "targets": ["Linear"]}
    in_config = {
        "config_groups": {"group_0": group},
        "ignore": ["lm_head", "model.layers.0*"],
        "quant_algo": "NVFP4",
        "kv_cache_scheme": {"dynamic": False, "num_bits": 8, "type": "float"},
        "producer": {"name": "modelopt", "version": "0.37.0"},
        "quant_method": "modelopt",
    }
    apart = {
        "producer": {"name": "modelopt", "version": "0.29.0"},
        "quantization": {
            "quant_algo": "NVFP4",
            "kv_cache_quant_algo": "FP8",
            "group_size": 16,
            "exclude_modules": ["lm_head", "model.layers.0*"],
        },
    }
    for quantization in (in_config, apart):
        llama = model(LLAMA_8B, quantization)
        narrow = LINEAR_8B * 31 // 32  # all but the first layer
        rest = LINEAR_8B - narrow + ENDS_8B + NORMS_8B
        assert llama.stored_bytes() == pytest.approx(narrow * 4.5 / 8 + 2 * rest, rel=1e-12)
        storage = llama.storage
        assert (storage.name, storage.multiplied, storage.kv) == ("nvfp4", DTYPES["fp4"], DTYPES["fp8"])


def test_modelopt_with_an_algorithm_for_each_module():
    fp8 = [f"model.layers.{layer}.self_attn.{part}_proj" for layer in range(32) for part in "qkvo"]
    nvfp4 = [f"model.layers.{layer}.mlp.{part}_proj" for layer in range(32) for part in ("gate", "up", "down")]
    layers = {name: {"quant_algo": "FP8"} for name in fp8}
    layers |= {name: {"quant_algo": "NVFP4", "group_size": 16} for name in nvfp4}
    quantization = {"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION", "quantized_layers": layers}
    llama = model(LLAMA_8B, quantization)
    stored = 32 * (ATTENTION_8B + MLP_8B * 4.5 / 8) + 2 * (ENDS_8B + NORMS_8B)
    assert llama.stored_bytes() == pytest.approx(stored, rel=1e-12)
    assert (llama.storage.name, llama.storage.multiplied) == ("nvfp4 MLP, fp8 rest", DTYPES["fp4"])


@pytest.mark.parametrize("field", ["quantization_config", "compression_config"])
def test_a_quantization_beside_the_decoder_of_a_multimodal_model_is_the_decoders(field):
    weights, activations = args(8, "float", "channel"), args(8, "float", "token", dynamic=True)
    ignore = ["re:.*lm_head", "re:vision_tower.*", "re:multi_modal_projector.*"]
    whole = {
        "model_type": "mistral3",
        "text_config": {**LLAMA_8B, "model_type": "mistral"},
        "vision_config": {"hidden_size": 64},
        field: groups(weights, activations, format="float-quantized", ignore=ignore),
    }
    found = from_config(whole, "m")
    assert found.stored_bytes() == LINEAR_8B + 2 * (ENDS_8B + NORMS_8B)


def test_names_of_other_networks_do_not_mean_the_decoder():
    ignored = ["lm_head", "visual", "model.visual.blocks.0.attn.qkv", "mtp.layers.0", "mtp.fc", "audio_tower.layers.1"]
    weights = args(8, "float", "channel")
    llama = model(LLAMA_8B, groups(weights, format="float-quantized", ignore=ignored))
    assert llama.stored_bytes() == LINEAR_8B + 2 * (ENDS_8B + NORMS_8B)


def test_layers_that_a_block_holds_are_those_of_the_model():
    # Every second layer has a window, so that a block holds layers that are not in a row.
    windows = ["sliding_attention", "full_attention"] * 16
    config = {**LLAMA_8B, "model_type": "qwen3", "head_dim": 128, "layer_types": windows, "sliding_window": 128}
    kept = [[f"model.layers.{layer}.mlp.{part}_proj" for part in ("gate", "up", "down")] for layer in (0, 2, 3)]
    quantization = {"quant_method": "fp8", "modules_to_not_convert": list(chain(*kept))}
    found = model(config, quantization)
    windowed, full = sorted(found.blocks, key=lambda block: block.window is None)
    assert (windowed.bits.of("mlp.up"), full.bits.of("mlp.up")) == (8 + 8 * 2 / 16, 8 + 8 * 1 / 16)
    assert windowed.bits.of("attention.q") == full.bits.of("attention.q") == 8


def test_a_head_that_is_not_ignored_is_quantized_but_a_tied_one_is_not():
    weights = args(8, "float", "channel")
    llama = model(LLAMA_8B, groups(weights, format="float-quantized", ignore=[]))
    assert llama.stored_bytes() == LINEAR_8B + ENDS_8B // 2 + 2 * (ENDS_8B // 2 + NORMS_8B)
    tied = model({**LLAMA_8B, "tie_word_embeddings": True}, groups(weights, format="float-quantized", ignore=[]))
    assert tied.stored_bytes() == LINEAR_8B + 2 * (ENDS_8B // 2 + NORMS_8B)


@pytest.mark.parametrize(
    ("dtype", "name", "note"),
    [
        ("bfloat16", "bf16", ()),
        ("torch.float16", "fp16", ()),
        ("float32", "bf16", ("weights of float32 count as 16 bits: engines serve them so; --weights fp32 counts 32",)),
        ("float3", "bf16", ("torch_dtype 'float3' is not known: weights are read as 16 bits",)),
    ],
)
def test_the_dtype_names_what_is_not_quantized(dtype, name, note):
    llama = model({**LLAMA_8B, "torch_dtype": dtype})
    assert (llama.storage.name, llama.notes) == (name, note)
    assert llama.stored_bytes() == 2 * llama.params


def test_transformers_5_calls_it_dtype():
    assert model({**LLAMA_8B, "torch_dtype": None, "dtype": "float16"}).storage.name == "fp16"


def test_without_a_word_it_is_bf16_and_nothing_says_so():
    llama = model({**LLAMA_8B, "torch_dtype": None})
    assert (llama.storage.name, llama.storage.origin) == ("bf16", "")
    assert model(LLAMA_8B).storage.origin == "its config.json"


def test_a_folder_may_hold_the_quantization_in_a_file_of_its_own(tmp_path):
    apart = {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "FP8", "exclude_modules": ["lm_head"]}}
    (tmp_path / "config.json").write_text(json.dumps(LLAMA_8B))
    (tmp_path / "hf_quant_config.json").write_text(json.dumps(apart))
    for path in (tmp_path, tmp_path / "config.json"):
        llama = read_config(path)
        assert llama.stored_bytes() == LINEAR_8B + 2 * (ENDS_8B + NORMS_8B)
        assert llama.storage.name == "fp8"
    (tmp_path / "hf_quant_config.json").unlink()
    (tmp_path / "quantize_config.json").write_text(json.dumps({"bits": 8, "group_size": 32, "desc_act": False}))
    assert read_config(tmp_path).storage.name == "int8 g32"  # AutoGPTQ
    (tmp_path / "quantize_config.json").unlink()
    (tmp_path / "quant_config.json").write_text(json.dumps({"w_bit": 4, "q_group_size": 64, "version": "GEMM"}))
    assert read_config(tmp_path).storage.name == "int4 g64"  # AutoAWQ
    in_config = {**LLAMA_8B, "quantization_config": {"quant_method": "awq", "bits": 4}}
    (tmp_path / "config.json").write_text(json.dumps(in_config))
    assert read_config(tmp_path).storage.name == "int4 g128"  # config.json goes before
    (tmp_path / "config.json").write_text(json.dumps(LLAMA_8B))
    (tmp_path / "hf_quant_config.json").write_text("{")
    with pytest.raises(BadModel, match=r"hf_quant_config\.json is not valid JSON"):
        read_config(tmp_path)
