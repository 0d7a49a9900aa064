"""Which formats an answer takes where nothing is asked: those of the checkpoint, as far as the GPU multiplies them."""

from dataclasses import replace

import pytest

from predict.answers.answer import answer
from predict.answers.question import Question
from predict.answers.sections.formats import weight_arithmetic
from predict.errors import MissingCeiling
from predict.formulas.memory import WEIGHT_FORMATS
from predict.gpus import resolve
from predict.model.config.reader import from_config
from predict.model.presets import PRESETS
from predict.units import DTYPES

LLAMA = {**PRESETS["llama-3-8b"].config, "torch_dtype": "bfloat16"}
FP8 = {"quant_method": "fp8", "weight_block_size": [128, 128]}
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True}
NVFP4 = {
    "quant_method": "modelopt",
    "quant_algo": "NVFP4",
    "kv_cache_quant_algo": "FP8",
    "exclude_modules": ["lm_head"],
}


def ask(quantization=None, gpu="h100", **asked):
    return Question(from_config({**LLAMA, "quantization_config": quantization}, "m"), resolve(gpu), **asked)


def notes(q):
    return "\n".join(answer(q).notes)


@pytest.mark.parametrize(
    ("quantization", "gpu", "weights", "kv", "compute"),
    [
        (None, "h100", "bf16", "bf16", "bf16"),
        (FP8, "h100", "fp8 128x128", "bf16", "fp8"),
        (FP8, "a100-80gb", "fp8 128x128", "bf16", "bf16"),
        (AWQ, "h100", "int4 g128", "bf16", "bf16"),
        (NVFP4, "b200", "nvfp4", "fp8", "fp4"),
        (NVFP4, "h100", "nvfp4", "fp8", "bf16"),
    ],
)
def test_formats_default_to_what_the_checkpoint_says_and_the_gpu_multiplies(quantization, gpu, weights, kv, compute):
    assumed = ask(quantization, gpu).assumptions()
    assert (assumed["weights"], assumed["kv"], assumed["compute"]) == (weights, kv, compute)


def test_what_is_asked_for_wins():
    asked = ask(FP8, compute=DTYPES["bf16"], kv=DTYPES["int8"]).assumptions()
    assert (asked["weights"], asked["kv"], asked["compute"]) == ("fp8 128x128", "int8", "bf16")
    other = ask(NVFP4, "b200", weights=WEIGHT_FORMATS["int8"])
    # A checkpoint in another format is another checkpoint: nothing is known of its activations and its cache.
    assert (other.weights_name, other.kv_dtype.name, other.compute_dtype.name) == ("int8", "bf16", "bf16")
    assert other.replica().weight_bytes == other.model.params


def test_the_answer_says_why():
    assert "weights are fp8 128x128, as its config.json says; --weights counts every weight" in notes(ask(FP8))
    assert "products are in fp8: the checkpoint narrows activations too, and h100-sxm can" in notes(ask(FP8))
    assert "a100-sxm-80gb multiplies no fp8: the weights are widened to bf16" in notes(ask(FP8, "a100-80gb"))
    said = "products are in bf16: the checkpoint narrows weights alone; an engine that narrows activations too may be"
    assert f"{said} faster: --compute fp8" in notes(ask(AWQ))
    assert "the KV cache is in fp8, as the checkpoint asks" in notes(ask(NVFP4, "b200"))
    assert "narrows" not in notes(ask())


def test_expected_times_of_narrow_weights_say_whose_constants_they_use():
    said = "expected times with int4 g128 weights use the constants of bf16 kernels"
    assert said in notes(ask(AWQ))
    assert "constants" not in notes(ask())
    assert "constants" not in notes(ask(FP8))  # multiplied in fp8, which is calibrated
    assert "constants" not in notes(ask(AWQ, "mi300x"))  # no expected times there
    assert "expected times with int4 weights use" in notes(ask(weights=WEIGHT_FORMATS["int4"]))


@pytest.mark.parametrize("quantization", [None, FP8, AWQ, NVFP4])
def test_the_arithmetic_of_the_weights_gives_their_bytes(quantization):
    q = ask(quantization)
    formula, arithmetic = weight_arithmetic(q)
    assert eval(arithmetic.replace(",", "").replace("x", "*")) == pytest.approx(float(q.model.stored_bytes()), rel=1e-9)
    assert q.weights_name in formula


def test_training_takes_16_bits_whatever_the_checkpoint_is_served_in():
    assert ask(FP8).training_flop_per_s == 989.4e12
    assert "training times use the bf16 peak; --compute chooses another" in notes(ask(FP8))
    assert ask(FP8, compute=DTYPES["fp8"]).training_flop_per_s == 1978.9e12


def test_a_gpu_without_bf16_multiplies_fp16_and_one_without_either_says_so():
    h100 = resolve("h100")
    only_fp16 = replace(h100, roofs={unit: roof for unit, roof in h100.roofs.items() if "bf16" not in unit})
    assert Question(from_config(LLAMA, "m"), only_fp16).compute_dtype.name == "fp16"
    neither = replace(only_fp16, roofs={unit: roof for unit, roof in only_fp16.roofs.items() if "fp16" not in unit})
    with pytest.raises(MissingCeiling, match="has no peak for it"):
        Question(from_config(LLAMA, "m"), neither)


def test_a_file_in_fp8_leaves_room_for_twice_the_cache_and_more():
    # Llama-3-70B: 8 bits for 68,451,041,280 weights of the layers, 16 for embedding, head and norms. A token takes 2 x
    # 80 layers x 8 KV heads x 128 x 2 bytes. NVML says 143,771 MiB for an H200.
    weights = {"num_bits": 8, "type": "float", "strategy": "channel", "symmetric": True}
    activations = {"num_bits": 8, "type": "float", "strategy": "token", "dynamic": True}
    group = {"targets": ["Linear"], "weights": weights, "input_activations": activations}
    config = {"quant_method": "compressed-tensors", "format": "float-quantized", "ignore": ["lm_head"]}
    config["config_groups"] = {"group_0": group}
    model = from_config({**PRESETS["llama-3-70b"].config, "quantization_config": config}, "m")
    found = answer(Question(model, resolve("h200"), overhead_bytes=0, seq=8192, context=8192))
    lines = {line.key: line.value for section in found.sections for line in section.lines}
    assert lines["weight_bytes"] == 68_451_041_280 + 2 * (70_553_706_496 - 68_451_041_280) == 72_656_371_712
    assert int(lines["kv_capacity_tokens"]) == (143_771 * 2**20 - 72_656_371_712) // 327_680 == 238_337
