import pytest

from predict.gpus import GPUS, NVIDIA_GPUS
from predict.model.config.families import KNOWN
from predict.model.presets import PRESETS
from predict.suggest import did_you_mean, nearest, no_choice, unknown
from predict.units import DTYPE_SPELLINGS, DTYPES
from predict.workloads import OPS

GPU_NAMES = (*GPUS, *(alias for gpu in GPUS.values() for alias in gpu.aliases))
PRODUCTS = {product: gpu.name for gpu in NVIDIA_GPUS.values() for product in gpu.nvml_names}
ALIASES = {alias: name for name, preset in PRESETS.items() for alias in preset.aliases}
KINDS = {
    "gpu": (GPU_NAMES, PRODUCTS),
    "model": (PRESETS, ALIASES),
    "op": (OPS, {}),
    "dtype": (DTYPES, DTYPE_SPELLINGS),
    "type": (KNOWN, {}),
    "dimension": (("batch", "context", "heads", "kv_heads", "head_dim"), {}),
}

SUGGESTED = [
    # separators and case
    ("gpu", "H-100", "h100"),
    ("gpu", "h100sxm", "h100-sxm"),
    ("gpu", "rtx4090", "rtx-4090"),
    ("model", "llama3-8b", "llama-3-8b"),
    ("op", "rms_norm", "rmsnorm"),
    ("op", "Attention-Decode", "attention_decode"),
    # characters that look alike
    ("gpu", "h10o", "h100"),
    ("gpu", "I40S", "l40s"),
    # words around a known name, without further numbers
    ("model", "llama-3-8B-Instruct", "llama-3-8b"),
    ("model", "meta-llama/Meta-Llama-3-8B-Instruct", "llama-3-8b"),
    ("gpu", "nvidia-l4", "l4"),
    ("op", "matmul_backward", "matmul"),
    # a part of a known name
    ("gpu", "mi300", "mi300x"),
    ("gpu", "H100-80GB-HBM3", "h100-sxm"),
    ("model", "llama-4", "llama-4-scout, llama-4-maverick"),
    ("model", "llama2", "llama-2-7b, llama-2-13b, llama-2-70b"),
    ("op", "decode", "attention_decode, attention_decode_fp8, block_decode"),
    ("type", "qwen3_mo", "qwen3_moe"),
    ("dimension", "ctx", None),
    ("dimension", "head", "heads, head_dim"),
    # typing errors
    ("op", "matmull", "matmul"),
    ("op", "swigul", "swiglu"),
    ("op", "atention_prefil", "attention_prefill"),
    ("op", "rop", "rope"),
    ("model", "lama-3-8b", "llama-3-8b"),
    ("model", "lamma-3-8b", "llama-3-8b"),
    ("model", "gtp-2-xl", "gpt-2-xl"),
    ("gpu", "trilium", "trillium"),
    ("dimension", "contxt", "context"),
    # as others spell it
    ("dtype", "bfloat16", "bf16"),
    ("dtype", "torch.float16", "fp16"),
    # another number is another machine, another model, another format
    ("gpu", "h101", None),
    ("gpu", "h1000", None),
    ("gpu", "h20", "h20"),
    ("gpu", "h2000", None),
    ("gpu", "rtx-4900", None),
    ("gpu", "a100-60gb", None),
    ("model", "llama-3-80b", None),
    ("model", "gpt-4", None),
    ("model", "gemma-9b", None),  # not gemma, which means 7b
    ("type", "starcoder3", None),
    ("dtype", "bf17", None),
    # merely near in letters
    ("gpu", "b300x", None),
    ("gpu", "h300", None),  # b300
    ("gpu", "p100", None),
    ("gpu", "a10g", None),  # another machine than a10
    ("gpu", "l40x", None),
    ("model", "gpt-13b", None),  # opt-13b
    ("model", "xyzzy", None),
    ("op", "conv", None),
    ("op", "groupnorm", None),
    ("op", "mm", None),
    ("op", "", None),
    ("op", "-", None),
    ("op", "🦙" * 10_000, None),
]


@pytest.mark.parametrize(("kind", "typed", "meant"), SUGGESTED)
def test_a_name_is_suggested_where_it_is_written_otherwise_and_none_where_it_is_only_near(kind, typed, meant):
    known, means = KINDS[kind]
    assert ", ".join(nearest(typed, known, means)) == (meant or "")


def test_mi300x_is_not_suggested_for_b300_where_b300_is_not_known():
    assert nearest("b300", [name for name in GPU_NAMES if not name.endswith("b300")]) == ()


def test_every_known_name_suggests_itself():
    for known, means in KINDS.values():
        for name in known:
            assert name in nearest(name.upper(), known, means)


def test_a_letter_that_is_doubled_is_nearer_than_one_that_is_another():
    assert nearest("lama", ["llava", "llama"]) == ("llama",)


def test_the_line_suggests_and_says_how_to_list_what_is_known():
    assert unknown("op", "matmull", OPS, listed_by="list-ops") == (
        "unknown op 'matmull': did you mean matmul? `list-ops` lists them"
    )
    assert unknown("op", "conv", OPS, listed_by="list-ops") == "unknown op 'conv'; `list-ops` lists them"


def test_a_short_list_stands_in_the_line():
    assert unknown("suite", "quik", ["smoke", "quick"], listed_by="list-suites") == (
        "unknown suite 'quik': did you mean quick? known: smoke, quick"
    )
    assert unknown("suite", "x", []) == "unknown suite 'x'; known: none"


def test_what_was_typed_is_quoted_on_one_line_and_cut_if_it_is_long():
    assert unknown("op", "a\nb", ["matmul"]) == "unknown op 'a\\nb'; known: matmul"
    assert unknown("op", 100 * "x", ["matmul"]) == f"unknown op '{60 * 'x'}...'; known: matmul"


def test_several_names_that_are_equally_near_are_all_suggested():
    assert did_you_mean("llama-4", PRESETS) == ": did you mean llama-4-scout or llama-4-maverick? "
    assert did_you_mean("attention", OPS) == (": did you mean attention_prefill, attention_full or attention_window? ")


def test_a_value_that_is_none_of_a_few_gets_the_nearest_if_one_is_near():
    assert no_choice("logits", "lst", ("all", "last")) == (
        "logits must be one of all, last, not 'lst': did you mean last?"
    )
    assert no_choice("logits", "none", ("all", "last")) == "logits must be one of all, last, not 'none'"
