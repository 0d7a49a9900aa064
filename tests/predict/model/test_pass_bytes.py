"""Bytes of a pass: weights, experts, KV cache and what flows between kernels, derived by hand; and refused sizes."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from predict.errors import BadQuantity
from predict.model.attention import Attention
from predict.model.layout import Layout
from predict.model.mlp import Mlp
from predict.model.passes import (
    Logits,
    decode_step,
    forward,
    kv_bytes,
    kv_bytes_per_token,
    touched_experts,
    training_step,
    uncached_step,
)
from predict.model.presets import find_model
from predict.model.transformer import Block, Model
from predict.resources import Resource
from predict.units import DTYPES, Formats

FP8 = Formats(weight_bits=8, kv_bits=8, compute=DTYPES["fp8"])
tiny = Model(
    "tiny",
    "llama",
    8,
    100,
    (Block(3, 8, Attention(4, 2, 2), Mlp(20, gated=False), norm_params=16),),
    tied=False,
    final_norm_params=8,
    context_limit=None,
)


@pytest.mark.parametrize(
    ("name", "kv_bits", "per_token"),
    [
        # 2*layers*kv_heads*head_dim elements.
        ("gpt-2-small", 16, 36_864),  # the efficiency lesson prints twice as much; its own 4Ld is this
        ("gpt-2-xl", 16, 307_200),
        ("gpt-3-175b", 16, 4_718_592),
        ("opt-13b", 16, 819_200),  # vLLM paper, section 3: 800 KB
        ("llama-2-7b", 16, 524_288),  # the efficiency lesson, chapter 5
        ("llama-3-8b", 16, 131_072),
        ("llama-3-70b", 16, 327_680),  # the napkin-math lesson, section 3
        ("llama-3-70b", 8, 163_840),
        ("llama-3.1-405b", 16, 516_096),  # arXiv 2505.09343, table 1
        ("qwen2.5-7b", 16, 57_344),
        ("mixtral-8x7b", 16, 131_072),
        ("deepseek-v3", 16, 70_272),  # arXiv 2505.09343, table 1: 61*(512 + 64)*2
    ],
)
def test_a_token_caches_what_is_published(name, kv_bits, per_token):
    model = find_model(name)
    assert kv_bytes_per_token(model, kv_bits) == per_token
    assert kv_bytes(model, 5, 1000, kv_bits) == 5 * 1000 * per_token


def test_a_context_of_8192_tokens_caches_2_5_gib_in_llama_3_70b():
    assert kv_bytes(find_model("llama-3-70b"), 1, 8192) == 2_684_354_560


def test_a_sliding_window_caches_no_more_than_it_sees():
    # Mistral: 131,072 bytes a token in each of at most 4096. Gemma 3 27B: 2*16*128*2 = 8192 bytes a token and layer,
    # 52 layers of at most 1024 tokens, 10 of all.
    mistral, gemma = find_model("mistral-7b"), find_model("gemma-3-27b")
    assert [kv_bytes(mistral, 1, n) for n in (4095, 4096, 10_000)] == [131_072 * n for n in (4095, 4096, 4096)]
    assert kv_bytes(gemma, 3, 8192) == 3 * 8192 * (52 * 1024 + 10 * 8192)
    assert kv_bytes(gemma, 3, 1000) == 3 * 8192 * 62 * 1000


def test_a_decode_step_reads_the_cache_and_appends_a_token():
    step = decode_step(find_model("llama-3-70b"), 8, 4096)
    assert step.cache_bytes == 8 * (4096 + 1) * 327_680
    amounts = step.amounts()
    assert amounts.bytes_written == 8 * 327_680
    assert amounts.bytes_read == step.weight_bytes + 8 * 4096 * 327_680
    # A window of 4096 tokens that the new one belongs to: 4095 are read.
    assert decode_step(find_model("mistral-7b"), 1, 10_000).cache_bytes == 131_072 * (4095 + 1)
    assert decode_step(find_model("llama-3-70b"), 8, 4096, formats=FP8).cache_bytes == 8 * 4097 * 163_840


@pytest.mark.parametrize(
    ("name", "read"),
    [
        # A look-up reads no matrix: without the input embedding where it is separate, without learned positions.
        ("llama-3-8b", 8_030_261_248 - 128_256 * 4096),
        ("llama-3-70b", 70_553_706_496 - 128_256 * 8192),
        ("gpt-2-small", 124_439_808 - 1024 * 768),
        ("gemma-2b", 2_506_172_416),
    ],
)
@pytest.mark.parametrize(("bits", "bytes_each"), [(16, 2), (8, 1), (4.5, 4.5 / 8)])
def test_a_decode_step_reads_every_weight_once_whatever_the_batch(name, read, bits, bytes_each):
    for batch in (1, 64):
        assert decode_step(find_model(name), batch, 100, formats=Formats(bits)).weight_bytes == read * bytes_each


def test_a_mixture_reads_the_active_experts_for_one_token_and_all_for_many():
    mixtral, embedding = find_model("mixtral-8x7b"), 32000 * 4096
    assert decode_step(mixtral, 1, 100).weight_bytes == pytest.approx(2 * (12_879_925_248 - embedding), rel=1e-12)
    assert decode_step(mixtral, 500, 100).weight_bytes == pytest.approx(2 * (46_702_792_704 - embedding), rel=1e-12)


@pytest.mark.parametrize(("copies", "active", "tokens"), [(2, 1, 3), (3, 2, 3), (4, 1, 4), (4, 2, 3), (5, 3, 2)])
def test_touched_experts_are_the_mean_over_every_choice(copies, active, tokens):
    choices = itertools.product(itertools.combinations(range(copies), active), repeat=tokens)
    touched = [len(set().union(*choice)) for choice in choices]
    assert touched_experts(copies, active, tokens) == pytest.approx(sum(touched) / len(touched), rel=1e-12)


@given(st.integers(1, 256), st.data())
def test_touched_experts_go_from_k_to_all(copies, data):
    active = data.draw(st.integers(1, copies))
    touched = touched_experts(copies, active, np.array([1.0, 2.0, 10.0, 100.0, 1e6]))
    assert touched[0] == pytest.approx(active)
    assert touched[-1] == pytest.approx(copies)
    assert np.all(np.diff(touched) >= 0)


def test_activations_between_kernels_are_inputs_and_outputs():
    # Per token and layer: Q and out 8+8 each, K and V 8+4 each, up and down 28 each, scores read Q and write as much:
    # 2*16 + 2*12 + 2*28 + 16 = 128 elements of 2 bytes; the vocabulary 8+100 once.
    assert forward(tiny, 5, 7).activation_bytes == 2 * 35 * (3 * 128 + 108)
    assert forward(tiny, 5, 7, logits=Logits.LAST).activation_bytes == 2 * (35 * 3 * 128 + 5 * 108)
    assert forward(tiny, 5, 7, formats=FP8).activation_bytes == 2 * 35 * (3 * 128 + 108)  # 16 bits between kernels
    fp32 = Formats(32, 32, DTYPES["fp32"])
    assert forward(tiny, 5, 7, formats=fp32).activation_bytes == 4 * 35 * (3 * 128 + 108)


def test_the_last_logits_cost_one_position_a_sequence():
    every, last = forward(tiny, 5, 7), forward(tiny, 5, 7, logits=Logits.LAST)
    assert every.flop - last.flop == 2 * 5 * (7 - 1) * 8 * 100
    assert every.bytes == last.bytes


def test_amounts_of_one_gpu_are_a_share_of_the_whole():
    step = decode_step(find_model("llama-3-70b"), 4, 1000, formats=FP8)
    share = step.amounts(Layout(4))
    assert share.flop_by_unit == {Resource.TENSOR_FP8: step.flop / 4}
    assert share.bytes == pytest.approx(step.bytes / 4, rel=1e-12)
    copied = step.amounts(Layout(16))
    assert copied.bytes == pytest.approx(step.weight_bytes / 16 + step.cache_bytes / 8, rel=1e-12)
    assert copied.bytes_written == 4 * 163_840 / 8


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda: forward(tiny, 0, 1), "batch must be a positive whole number, not 0"),
        (lambda: forward(tiny, 1, -1), "seq must be a positive whole number, not -1"),
        (lambda: forward(tiny, 1, 1.5), "seq must be a positive whole number, not 1.5"),
        (lambda: forward(tiny, 1, 1, cached=-1), "cached must .*, not -1"),
        (lambda: forward(tiny, np.array([1.0, np.nan]), 1), "batch must be a positive whole number, not nan"),
        (lambda: decode_step(tiny, 0, 1), "batch must be a positive whole number, not 0"),
        (lambda: uncached_step(tiny, 2.5, 1), "batch must be a positive whole number, not 2.5"),
        (lambda: training_step(tiny, 1, 0), "seq must be a positive whole number, not 0"),
    ],
)
def test_a_bad_size_is_refused_by_name(run, message):
    with pytest.raises(BadQuantity, match=f"^{message}$"):
        run()


def test_half_a_cached_token_is_refused():
    with pytest.raises(BadQuantity, match="cached"):
        forward(tiny, 1, 1, cached=1.5)


@pytest.mark.parametrize("step", [decode_step, uncached_step])
@pytest.mark.parametrize("context", [-1, 1.5, float("nan")])
def test_a_bad_context_is_refused_under_the_name_that_the_caller_gave_it(step, context):
    with pytest.raises(BadQuantity, match=r"^context "):
        step(tiny, 1, context)


@pytest.mark.parametrize(
    ("batch", "context", "kv_bits", "name"),
    [(0, 5, 16, "batch"), (1, -5, 16, "context"), (1, float("nan"), 16, "context"), (1, 5, 0, "kv_bits")],
)
def test_a_cache_of_no_size_is_refused_by_name(batch, context, kv_bits, name):
    with pytest.raises(BadQuantity, match=f"^{name} "):
        kv_bytes(tiny, batch, context, kv_bits)
