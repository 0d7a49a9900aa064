"""Layers and whole models as one workload, against shapes that everybody knows."""

from dataclasses import replace

import pytest

from predict.gpus import resolve
from predict.model.config.reader import from_config
from predict.model.layout import Layout
from predict.model.passes import Logits, decode_step, forward
from predict.model.presets import find_model
from predict.model.reach import Chunk
from predict.model.replica import Replica
from predict.model.whole import decode_layer, decode_model, prefill_layer, prefill_model
from predict.units import DTYPES, Formats
from predict.workloads import Workload

H100 = resolve("h100")
LLAMA = {"heads": 32, "kv_heads": 8, "head_dim": 128, "inner": 14336}


def replica(model, **asked):
    return Replica(find_model(model) if isinstance(model, str) else model, H100, **asked)


def test_a_layer_of_llama_3_8b_is_the_block_of_the_suites():
    found = decode_layer(replica("llama-3-8b"), 16, 4095)
    assert (found.op, found.dims, found.dtype.name) == (
        "block_decode",
        {"batch": 16, "context": 4096, **LLAMA},  # 4095 cached tokens and the new one
        "bf16",
    )
    found = prefill_layer(replica("llama-3-8b"), 2, 512, DTYPES["fp32"])
    assert (found.op, found.dims, found.dtype.name) == ("block_forward", {"batch": 2, "seq": 512, **LLAMA}, "fp32")


def test_the_whole_model_has_all_layers_and_the_vocabulary():
    found = decode_model(replica("llama-3-8b"), 16, 4095)
    whole = {"layers": 32, "vocab": 128256}
    assert found.op == "model_decode"
    assert found.dims == {"batch": 16, "context": 4096, **LLAMA, **whole}
    assert prefill_model(replica("llama-3-8b"), 2, 512).dims == {"batch": 2, "seq": 512, **LLAMA, **whole}
    # GPT-2: no gate; 12 layers of 768.
    found = prefill_model(replica("gpt-2-small"), 1, 128)
    shape = {"layers": 12, "heads": 12, "kv_heads": 12, "head_dim": 64, "inner": 3072, "vocab": 50257}
    assert found.dims == {"batch": 1, "seq": 128, **shape, "matrices": 2}


@pytest.mark.parametrize("name", ["llama-3-8b", "gpt-2-small", "qwen3-4b", "gemma-7b", "phi-4"])
def test_a_whole_model_takes_the_flop_that_the_pass_counts(name):
    model = find_model(name)
    step = decode_step(model, 8, 1000)
    found = decode_model(replica(name), 8, 1000).amounts
    assert found.flop == step.flop
    assert prefill_model(replica(name), 2, 300).amounts.flop == forward(model, 2, 300, logits=Logits.LAST).flop
    # Biases of GPT-2 and norms on Q and K are not in the op: under 1 %.
    assert found.bytes == pytest.approx(step.weight_bytes + step.cache_bytes, rel=0.01)


def test_the_stream_may_be_wider_or_narrower_than_the_heads():
    # Qwen3-4B: 32 heads of 128 on a stream of 2560; Gemma-7B: 16 heads of 256 on one of 3072.
    assert decode_layer(replica("qwen3-4b"), 1, 99).dims["hidden"] == 2560
    assert decode_layer(replica("gemma-7b"), 1, 99).dims["hidden"] == 3072
    assert "hidden" not in decode_layer(replica("llama-3-8b"), 1, 99).dims


def test_two_gpus_halve_heads_and_the_mlp_but_not_the_stream():
    found = decode_layer(replica("llama-3-8b", layout=Layout(2)), 16, 4095).dims
    half = {"heads": 16, "kv_heads": 4, "head_dim": 128, "inner": 7168, "hidden": 4096}
    assert found == {"batch": 16, "context": 4096, **half}
    # 16 GPUs hold a copy of each of 8 KV heads; two copies of the model share 17 requests.
    found = decode_layer(replica("llama-3-8b", layout=Layout(16)), 1, 9).dims
    assert (found["heads"], found["kv_heads"], found["inner"]) == (2, 1, 896)
    assert decode_layer(replica("llama-3-8b", layout=Layout(dp=2)), 17, 9).dims["batch"] == 9


MISTRAL = {
    "model_type": "mistral",
    "vocab_size": 32000,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 96,
    "max_position_embeddings": 4096,
    "sliding_window": 100,
}


def test_a_window_matters_once_a_sequence_is_longer():
    narrow = replica(from_config(MISTRAL, "mistral"))
    assert decode_layer(narrow, 1, 99).dims["context"] == 100
    assert decode_layer(narrow, 1, 100) == "a query sees not all earlier tokens (window of 100), one of the op does"
    assert prefill_layer(narrow, 1, 100).dims["seq"] == 100
    assert prefill_layer(narrow, 1, 101) == "a query sees not all earlier tokens (window of 100), one of the op does"
    assert decode_model(narrow, 1, 100) == decode_layer(narrow, 1, 100)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("mixtral-8x7b", "no op is a layer with 8 experts of 14336, 2 active"),
        ("deepseek-v3", "3 of 61 layers: no op is a layer with MLA"),
        ("gemma-3-4b", "29 of 34 layers: a query sees not all earlier tokens (window of 1024), one of the op does"),
        ("qwen3-next-80b-a3b", "36 of 48 layers: no op is a layer with "),
    ],
)
def test_what_no_op_is_has_a_reason_in_one_line(name, reason):
    for find, size in ((decode_layer, 8192), (prefill_layer, 8192), (decode_model, 8192), (prefill_model, 8192)):
        found = find(replica(name), 1, size)
        assert isinstance(found, str)
        assert found.startswith(reason)
        assert "\n" not in found


def test_a_chunk_matters_once_a_sequence_is_longer():
    mistral = from_config({**MISTRAL, "sliding_window": None}, "mistral")
    (block,) = mistral.blocks
    chunked = replace(block, mixer=replace(block.mixer, reach=Chunk(100)))
    found = replica(replace(mistral, blocks=(chunked,)))
    assert prefill_layer(found, 1, 100).dims["seq"] == 100
    assert prefill_layer(found, 1, 101) == "a query sees not all earlier tokens (chunks of 100), one of the op does"


def test_parallel_layers_are_not_those_of_the_op():
    fields = {"model_type": "gpt_neox", "vocab_size": 100, "hidden_size": 64, "num_hidden_layers": 2}
    fields |= {"num_attention_heads": 4, "intermediate_size": 256, "max_position_embeddings": 100}
    assert "read the same input" in decode_layer(replica(from_config(fields, "neox")), 1, 9)
    after = replica(from_config({**fields, "use_parallel_residual": False}, "neox"))
    assert decode_layer(after, 1, 9).dims["matrices"] == 2


def test_narrow_weights_and_caches_are_not_those_of_the_op():
    fp8 = DTYPES["fp8"]
    assert decode_layer(replica("llama-3-8b", formats=Formats(weight_bits=4.25)), 1, 9) == (
        "weights of 4.25 bits, the op has those of activations"
    )
    cached = replica("llama-3-8b", formats=Formats.of(DTYPES["bf16"], kv=fp8))
    assert decode_layer(cached, 1, 9) == "the op of a layer has no cache of 8 bits"
    assert isinstance(prefill_layer(cached, 1, 9), Workload)  # a prompt reads no cache
    assert isinstance(decode_layer(replica("deepseek-v3"), 1, 9), str)


def test_the_whole_model_is_that_of_one_gpu():
    shared = replica("llama-3-8b", layout=Layout(2, pp=2))
    assert decode_model(shared, 1, 9) == "no single GPU has the whole model: tp 2, pp 2"
    assert isinstance(decode_layer(shared, 1, 9), Workload)
