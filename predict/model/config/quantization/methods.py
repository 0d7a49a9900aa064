"""Which reader reads which quantization method."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from predict.model.config.fields import Fields
from predict.model.config.quantization import integers
from predict.model.config.quantization.blocks import fbgemm_fp8, fp8, fp_quant, mxfp4, mxfp8, nvfp4
from predict.model.config.quantization.compressed_tensors import compressed_tensors
from predict.model.config.quantization.modelopt import modelopt
from predict.model.config.quantization.quark import quark
from predict.model.config.quantization.scheme import Quantization
from predict.model.config.quantization.torchao import torchao

FIELDS = ("quantization_config", "compression_config", "quantization")
# Name of a method, in lower case and with hyphens, -> its reader.
METHODS: Mapping[str, Callable[[Fields], Quantization]] = MappingProxyType(
    {
        "fp8": fp8,
        "fbgemm-fp8": fbgemm_fp8,
        "mxfp4": mxfp4,
        "gpt-oss-mxfp4": mxfp4,
        "mxfp8": mxfp8,
        "nvfp4": nvfp4,
        "fouroversix": nvfp4,
        "fp-quant": fp_quant,
        "compressed-tensors": compressed_tensors,
        "sparseml": compressed_tensors,
        "modelopt": modelopt,
        "modelopt-fp8": modelopt,
        "modelopt-fp4": modelopt,
        "modelopt-mixed": modelopt,
        "petit-nvfp4": modelopt,
        "quark": quark,
        "torchao": torchao,
        "gptq": integers.gptq,
        "gptqmodel": integers.gptq,
        "gptq-marlin": integers.gptq,
        "marlin": integers.gptq,
        "awq": integers.awq,
        "awq-marlin": integers.awq,
        "auto-round": integers.auto_round,
        "intel/auto-round": integers.auto_round,
        "inc": integers.auto_round,
        "bitsandbytes": integers.bits_and_bytes,
        "hqq": integers.hqq,
        "mlx": integers.mlx,
        "metal": integers.mlx,
        "quanto": integers.weight_only,
        "eetq": integers.weight_only,
        "experts-int8": integers.experts_int8,
        "aqlm": integers.aqlm,
        "exl2": integers.exllama,
        "exl3": integers.exllama,
        "bitnet": integers.bitnet,
    }
)
# A field that only files of this method have, for files that do not name it.
TELLING: Mapping[str, str] = MappingProxyType(
    {
        "quant_algo": "modelopt",
        "producer": "modelopt",
        "config_groups": "compressed-tensors",
        "sparsity_config": "compressed-tensors",
        "load_in_4bit": "bitsandbytes",
        "load_in_8bit": "bitsandbytes",
        "global_quant_config": "quark",
        "quant_type": "torchao",
        "desc_act": "gptq",
        "w_bit": "awq",
        "zero_point": "awq",
        "bits": "mlx",
    }
)


# Fields of a quantization that change no bits: how it was calibrated, and what runs it.
HARMLESS = """
_load_in_4bit act_group_aware activation_scale_ub activation_scheme algo_config amp autoround_version backend
batch_size block_name_to_quantize bnb_4bit_compute_dtype bnb_4bit_quant_storage cache_block_outputs calibration
checkpoint_format damp_auto_increment damp_percent data_type dataset dequantize desc_act disable_exllama do_fuse
enable_minmax_tuning enable_norm_bias_tuning enable_quanted_input exllama_config export fmt format fuse_max_seq_len
global_compression_ratio gradient_accumulate_steps hadamard_size iters layer_type_quant_config linear_class
llm_int8_enable_fp32_cpu_offload llm_int8_has_fp16_weight llm_int8_threshold load_in_4bit low_gpu_mem_usage lr
max_input_length meta minmax_lr model_file_base_name model_name_or_path model_seqlen module_name_preceding_first_block
modules_to_fuse nsamples out_scales pack_dtype pack_method packing_format pad_token_id producer quant_method
quant_mode quantization_mode quantization_status rms_norm_eps run_compressed scale_dtype scale_fmt seqlen
softmax_quant_spec static_groups to_quant_block_names tokenizer transform_config true_sequential tune_metadata
untie_embedding_weights use_cuda_fp16 use_exllama use_optimized_inference use_rms_norm version
"""


def find_quantization(fields: Fields) -> Quantization | None:
    """What the configuration says of its quantization, None if nothing. An unknown method is read as 16 bits, with a
    note. Raises BadModel naming a field that is wrong."""
    for name in FIELDS:
        found = None if isinstance(fields.values.get(name), str) else fields.inside(name)
        if found is not None and found.values:
            found.use(*HARMLESS.split())
            fields.use(*(other for other in FIELDS if fields.values.get(other) == found.values))  # some write it twice
            # DeepSeek-V4 says beside the quantization what its experts are in.
            return _read(found.with_defaults({"expert_dtype": fields.get("expert_dtype")}), name)
    return None


def _read(config: Fields, name: str) -> Quantization:
    said = config.text("quant_method")
    told = said or next((TELLING[field] for field in TELLING if field in config.values), "")
    method = told.lower().replace("_", "-")
    if method in METHODS:
        return METHODS[method](config)
    config.use(*config.values)
    called = repr(said) if said else "without a quant_method"
    return Quantization((), notes=(f"{name} {called} is not known: its weights are read as 16 bits",))
