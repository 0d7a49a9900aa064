"""What fits: the engine's own memory, a draft model, and windows that engines keep or free."""

import json

import pytest

from predict.answers.answer import answer
from predict.answers.fit import serving_fit
from predict.answers.question import Question
from predict.formulas.memory import WEIGHT_FORMATS
from predict.gpus import resolve
from predict.model.config.reader import from_config
from predict.model.presets import find_model
from predict.units import find_dtype

H100_BYTES, L4_BYTES = 81559 * 2**20, 23034 * 2**20

# Gemma 3 4B without its vision part: 34 layers, every sixth without a window of 1024.
GEMMA = {
    "model_type": "gemma3_text",
    "hidden_size": 2560,
    "intermediate_size": 10240,
    "num_hidden_layers": 34,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "sliding_window": 1024,
}


def ask(model, gpu="h100", **asked):
    shape = find_model(model) if isinstance(model, str) else model
    found = answer(Question(shape, resolve(gpu), **asked))
    values = {line.key: line.value for section in found.sections for line in section.lines}
    return values, "\n".join(found.notes)


def test_an_engine_keeps_memory_by_default_and_says_so():
    found, said = ask("llama-3-8b", context=8192)
    # 3.5 GB, and 8192 tokens of 2 bytes of the stream, its norm, gate, up, product and result.
    kept = 3.5e9 + 8192 * 2 * (2 * 4096 + 3 * 14_336 + 4096)
    assert found["engine_bytes_per_gpu"] == kept
    free = H100_BYTES - kept - 2 * 8_030_261_248
    assert found["kv_capacity_tokens"] == free // 131_072
    assert found["max_batch"] == free // (8192 * 131_072) == 60
    assert found["serving_bytes_per_gpu"] == kept + 2 * 8_030_261_248 + 8192 * 131_072
    assert "an engine keeps 4.41 GB of each GPU (runtime 3.50 GB, a pass of 8,192 tokens 906 MB)" in said
    assert "--overhead 0 counts bare memory" in said


def test_bare_memory_is_counted_if_asked_and_said():
    found, said = ask("llama-3-8b", context=8192, overhead_bytes=0.0)
    assert found["max_batch"] == (H100_BYTES - 2 * 8_030_261_248) // (8192 * 131_072) == 64
    assert "the engine's own memory is not counted" in said
    assert Question(find_model("llama-3-8b"), resolve("h100"), overhead_bytes=0.0).assumptions()["overhead_bytes"] == 0


def test_the_json_has_what_is_kept():
    question = Question(find_model("llama-3-8b"), resolve("l4"))
    kept = question.assumptions()["overhead_bytes"]
    assert kept == pytest.approx(0.1 * L4_BYTES + 2048 * 2 * (2 * 4096 + 3 * 14_336 + 4096))
    json.dumps(question.assumptions())


def test_tensor_parallel_gpus_divide_the_pass():
    alone, split = (Question(find_model("llama-3-70b"), resolve("h200"), gpus=gpus).reserved_bytes for gpus in (1, 8))
    wide = 3 * 28_672 + 8192
    assert alone - split == pytest.approx(8192 * 2 * wide * 7 / 8)


def test_an_int8_checkpoint_of_70b_leaves_about_the_tokens_that_vllm_printed():
    # vLLM pull request 12569: 1381 blocks of 16 tokens on a card of 80 GB, quantized.w8a8, 98 % of the memory; the
    # embedding, the head and the norms stay in 16 bits.
    config = {
        "model_type": "llama",
        "hidden_size": 8192,
        "intermediate_size": 28672,
        "num_hidden_layers": 80,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "quantization_config": {
            "quant_method": "compressed-tensors",
            "format": "int-quantized",
            "ignore": ["lm_head"],
            "config_groups": {
                "group_0": {
                    "targets": ["Linear"],
                    "weights": {"num_bits": 8, "type": "int", "strategy": "channel"},
                    "input_activations": {"num_bits": 8, "type": "int", "strategy": "token", "dynamic": True},
                }
            },
        },
    }
    found, _ = ask(from_config(config, "w8a8"))
    assert found["weight_bytes"] / 2**30 == pytest.approx(67.72, rel=0.002)
    assert found["kv_capacity_tokens"] == pytest.approx(1381 * 16, rel=0.06)


def test_a_draft_takes_weights_and_cache():
    # A token takes 2 x 36 layers x 8 heads x 128 x 2 B of the target and 2 x 28 x 8 x 128 x 2 B = 114,688 of the draft.
    found, said = ask("qwen3-8b", gpus=1, context=8192, overhead_bytes=0.0, draft=find_model("qwen3-0.6b"), batch=4)
    draft, target = 2 * find_model("qwen3-0.6b").params, 2 * find_model("qwen3-8b").params
    request = 8192 * (114_688 + 2 * 36 * 8 * 128 * 2)
    assert found["draft_weight_bytes"] == draft
    assert found["draft_kv_bytes"] == 4 * 8192 * 114_688
    assert found["max_batch"] == (H100_BYTES - draft - target) // request
    assert found["kv_capacity_tokens"] == (H100_BYTES - draft - target) // (request // 8192)
    assert found["max_context"] == (H100_BYTES - draft - target) // (4 * request // 8192)
    assert found["serving_bytes"] == draft + target + 4 * request
    assert "vocabularies" not in said


def test_a_draft_that_does_not_fit_beside_its_target_says_so():
    # 16.06 + 16.38 GB of weights on an L4 of 24.15 GB.
    draft = find_model("qwen3-8b")
    found, said = ask("llama-3-8b", "l4", seq=2048, context=2048, draft=draft, overhead_bytes=0.0)
    assert found["max_batch"] == 0
    assert "the weights of both models do not fit into 24.15 GB" in said
    assert "vocabularies differ (llama-3-8b has 128,256 tokens, qwen3-8b 151,936): no engine drafts so" in said
    fit = serving_fit(Question(find_model("llama-3-8b"), resolve("l4"), draft=draft, overhead_bytes=0.0))
    assert not fit.fits
    assert fit.parts["draft model"] == 2 * draft.params + 2048 * 147_456


def test_windows_that_are_not_freed_hold_fewer_requests():
    # 24.15 - 7.76 GB over 4,096 x (5 x 8192 + 29 x 1024) bytes a request: 56; over 34 x 8192: 14.
    model = from_config(GEMMA, "gemma-3-4b")
    found, said = ask(model, "l4", seq=8192, context=8192, overhead_bytes=0.0)
    free = L4_BYTES - 2 * 3_880_263_168
    assert found["max_batch"] == free // (4096 * (5 * 8192 + 29 * 1024)) == 56
    assert free // (4096 * 34 * 8192) == 14
    assert "the largest batch of 56 holds only where the engine frees what left the window" in said
    assert "engines that size all layers alike hold 14" in said
    # No window is full at 1024 tokens, and Llama has none.
    assert "size all layers alike" not in ask(model, "l4", context=1024)[1]
    assert "size all layers alike" not in ask("llama-3-8b", "l4", context=8192)[1]


def test_a_cache_in_8_bits_holds_twice_the_tokens():
    wide, narrow = (
        ask("llama-3-8b", weights=WEIGHT_FORMATS["bf16"], kv=find_dtype(kv))[0]["kv_capacity_tokens"]
        for kv in ("bf16", "fp8")
    )
    assert narrow in (2 * wide, 2 * wide + 1)


@pytest.mark.parametrize(
    ("sizes", "held"),
    [({"tp": 8}, "KV 8 times"), ({"tp": 1, "dp": 8}, "all but experts 8 times"), ({"tp": 4, "dp": 2}, "KV 4 times")],
)
def test_what_is_held_more_than_once_is_said_beside_the_sum(sizes, held):
    found = answer(Question(find_model("deepseek-v3"), resolve("b200"), gpus=8, batch=16, **sizes))
    (line,) = (line for section in found.sections for line in section.lines if line.key == "serving_bytes")
    assert line.formula.endswith(f"; {held}")
