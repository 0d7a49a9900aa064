"""Amounts are checked against counts done by hand, and hypothesis checks what must hold for every size."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from predict.errors import BadWorkload
from predict.guess_rule import GENERATIONS
from predict.resources import Resource
from predict.serving_loop import RULES as SERVING
from predict.units import DTYPES, find_dtype
from predict.workloads import (
    OPS,
    Amounts,
    complete_dims,
    dim_names,
    make_workload,
    optional_dims,
    signature,
    sweep_amounts,
)

BF16 = find_dtype("bf16")
FP32 = find_dtype("fp32")


def amounts(op, dtype=BF16, **dims):
    return make_workload(op, dims, dtype).amounts


def test_matmul_of_2x3_by_3x4_does_24_multiply_adds():
    # 2x4 outputs, 3 multiply-adds each: 24, so 48 FLOP. A has 6 elements, B 12, C 8; 2 bytes each.
    assert amounts("matmul", m=2, n=4, k=3) == Amounts({Resource.TENSOR_BF16: 48}, 36, 16)


def test_matmul_intensity_is_the_batch_for_a_large_weight():
    # 2*m*n*k / (2*(m*k + k*n + m*n)) with n = k = h is m/(1 + 2m/h): 16/(1 + 32/8192).
    assert amounts("matmul", m=16, n=8192, k=8192).arithmetic_intensity == pytest.approx(16 / (1 + 32 / 8192))


def test_fp32_matmul_runs_on_vector_units_and_tf32_on_tensor_units():
    assert list(amounts("matmul", FP32, m=1, n=1, k=1).flop_by_unit) == [Resource.VECTOR_FP32]
    assert list(amounts("matmul", find_dtype("tf32"), m=1, n=1, k=1).flop_by_unit) == [Resource.TENSOR_TF32]


def test_quantized_weights_are_half_and_a_quarter_of_the_bytes():
    # 3 x 256 activations of 2 bytes: 1536. 8 x 256 weights: 2048 of a byte with 8 scales of 2 bytes, or 1024 bytes of
    # nibbles with a scale for each 128, 8 x 2 of them. 3 x 8 results of 2 bytes.
    flop = {Resource.TENSOR_BF16: 2 * 3 * 8 * 256}
    assert amounts("matmul_w8a16", m=3, n=8, k=256) == Amounts(flop, 1536 + 2048 + 16, 48)
    assert amounts("matmul_w4a16", m=3, n=8, k=256) == Amounts(flop, 1536 + 1024 + 32, 48)
    large = {"m": 1, "n": 16384, "k": 16384}
    plain, eight, four = (amounts(op, **large).bytes for op in ("matmul", "matmul_w8a16", "matmul_w4a16"))
    assert plain / eight == pytest.approx(2, rel=1e-3)
    assert plain / four == pytest.approx(2 / (0.5 + 2 / 128), rel=1e-3)  # 3.88


@pytest.mark.parametrize(("dtype", "unit"), [("fp8", Resource.TENSOR_FP8), ("int8", Resource.TENSOR_INT8)])
def test_scaled_products_read_bytes_and_fp32_scales_and_write_bf16(dtype, unit):
    # 3 x 16 and 8 x 16 bytes, 3 + 8 scales of 4 bytes; 3 x 8 results of 2.
    found = amounts("matmul_scaled", find_dtype(dtype), m=3, n=8, k=16)
    assert found == Amounts({unit: 2 * 3 * 8 * 16}, 48 + 128 + 44, 48)


def test_row_wise_ops_move_each_number_once():
    # 10 rows of 6 columns, 2 bytes each: 120 bytes a matrix, 12 a weight.
    unit, rows, weight = Resource.VECTOR_FP32, 120, 12
    dims = {"rows": 10, "cols": 6}
    assert amounts("rmsnorm", **dims) == Amounts({unit: 4 * 60}, rows + weight, rows)
    assert amounts("add_rmsnorm", **dims) == Amounts({unit: 5 * 60}, 2 * rows + weight, 2 * rows)
    assert amounts("layernorm", **dims) == Amounts({unit: 7 * 60}, rows + 2 * weight, rows)  # weight and bias
    assert amounts("add_layernorm", **dims) == Amounts({unit: 8 * 60}, 2 * rows + 2 * weight, 2 * rows)
    assert amounts("softmax", **dims) == Amounts({unit: 4 * 60}, rows, rows)
    assert amounts("swiglu", **dims) == Amounts({unit: 4 * 60}, 2 * rows, rows)
    assert amounts("gelu", **dims) == Amounts({unit: 9 * 60}, rows, rows)
    # 5 tokens of 3 heads of 4: 60 numbers; cosines and sines 5 x 2 each.
    assert amounts("rope", tokens=5, heads=3, head_dim=4) == Amounts({unit: 3 * 60}, 120 + 40, 120)


def test_fusing_the_residual_saves_a_read_of_the_sum():
    # Apart: the addition reads 2 and writes 1 matrix (a triad), the norm reads 1 and writes 1. Fused: 2 and 2.
    rows = 2 * 1000 * 64
    fused, norm = (amounts(op, rows=1000, cols=64).bytes for op in ("add_rmsnorm", "rmsnorm"))
    assert 3 * rows + norm - fused == rows


def test_causal_prefill_counts_the_half_that_is_computed():
    # 3 queries meet 1 + 2 + 3 = 6 keys; 2 heads: 12 pairs; each 4 FLOP per head_dim (QK and PV): 12*4*64.
    # Q is 3*2*64 elements, K and V 3*1*64 each, O as Q; 2 bytes each.
    found = amounts("attention_prefill", batch=1, seq=3, heads=2, kv_heads=1, head_dim=64)
    assert found == Amounts({Resource.TENSOR_BF16: 12 * 4 * 64}, 2 * (384 + 2 * 192), 2 * 384)


def test_decode_reads_the_cache_once_for_all_heads_of_a_group():
    # Llama-3-8B: 32 heads over 8 KV heads, 128 each, 4096 tokens. FLOP 4*32*4096*128, cache 2*4096*8*128*2 bytes.
    found = amounts("attention_decode", batch=1, context=4096, heads=32, kv_heads=8, head_dim=128)
    assert found.flop == 67_108_864
    assert found.bytes_read == 16_777_216 + 32 * 128 * 2
    # Asymptotically heads/kv_heads multiply-adds per 2-byte element: 4 FLOP per byte.
    assert found.arithmetic_intensity == pytest.approx(4, rel=1e-2)


PROMPT = {"batch": 2, "seq": 3, "heads": 2, "kv_heads": 1, "head_dim": 64}
CACHE = {"batch": 2, "context": 5, "heads": 4, "kv_heads": 2, "head_dim": 8}


def test_without_a_mask_all_pairs_are_computed():
    # 3 queries meet 3 keys: 9 pairs, 2 heads, 2 sequences: 36; each 4*64 FLOP. Q and O 2*3*2*64, K and V 2*3*64 each.
    found = amounts("attention_full", **PROMPT)
    assert found == Amounts({Resource.TENSOR_BF16: 36 * 4 * 64}, 2 * (768 + 2 * 384), 2 * 768)


def test_a_window_counts_the_keys_that_each_query_sees():
    # Windows of 2 over 5 tokens: 1 + 2 + 2 + 2 + 2 keys. 2 heads, 2 sequences. All K and V are read.
    dims = PROMPT | {"seq": 5}
    found = amounts("attention_window", window=2, **dims)
    assert found == Amounts({Resource.TENSOR_BF16: 2 * 2 * 9 * 4 * 64}, 2 * (1280 + 2 * 640), 2 * 1280)
    # Oneself alone; and a window that is as long as the prompt, or longer, is a causal prompt.
    assert amounts("attention_window", window=1, **dims).flop == 2 * 2 * 5 * 4 * 64
    for window in (5, 6, 1000):
        assert amounts("attention_window", window=window, **dims) == amounts("attention_prefill", **dims)


@given(st.integers(1, 40), st.integers(1, 60))
def test_a_window_is_counted_query_by_query(seq, window):
    seen = sum(min(i, window) for i in range(1, seq + 1))
    found = amounts("attention_window", batch=1, seq=seq, window=window, heads=1, kv_heads=1, head_dim=1)
    assert found.flop == 4 * seen


def test_packed_prompts_do_not_see_each_other():
    # 7 tokens in 3 prompts: 3, 2 and 2, which see 6 + 3 + 3 keys; 4 heads. Q and O 7*4*8, K and V 7*2*8 each; an
    # offset for each prompt and the end.
    heads = {"heads": 4, "kv_heads": 2, "head_dim": 8}
    found = amounts("attention_packed", sequences=3, tokens=7, **heads)
    assert found == Amounts({Resource.TENSOR_BF16: 4 * 12 * 4 * 8}, 2 * (224 + 2 * 112) + 4 * 4, 2 * 224)
    alone = sum(amounts("attention_prefill", batch=1, seq=length, **heads).flop for length in (3, 2, 2))
    assert found.flop == alone
    # As many as there are tokens: each sees itself.
    assert amounts("attention_packed", sequences=7, tokens=7, **heads).flop == 4 * 7 * 4 * 8


def test_a_chunk_sees_its_prefix_and_itself():
    # The last 2 of 5 tokens meet 4 and 5 keys: 9 pairs, 4 heads, 2 sequences. Q and O 2*2*4*8, K and V 2*5*2*8 each.
    found = amounts("attention_chunk", queries=2, **CACHE)
    assert found == Amounts({Resource.TENSOR_BF16: 2 * 4 * 9 * 4 * 8}, 2 * (128 + 2 * 160), 2 * 128)
    assert amounts("attention_chunk", queries=1, **CACHE) == amounts("attention_decode", **CACHE)
    heads = {name: CACHE[name] for name in ("batch", "heads", "kv_heads", "head_dim")}
    assert amounts("attention_chunk", queries=5, **CACHE) == amounts("attention_prefill", seq=5, **heads)
    # Verifying 8 tokens moves what making 1 does but for Q and O: 1 % at 8 heads to 1 of K and V and 8192 tokens.
    long = {"batch": 1, "context": 8192, "heads": 32, "kv_heads": 4, "head_dim": 128}
    one, eight = (amounts("attention_chunk", queries=queries, **long).bytes for queries in (1, 8))
    assert eight - one == 2 * 2 * 7 * 32 * 128
    assert eight / one == pytest.approx(1 + 7 * 8 / 8192, rel=1e-3)


def test_attention_backwards_is_five_products_where_forwards_has_two():
    # 3 queries meet 1 + 2 + 3 keys: 6 pairs, 2 heads, 2 sequences. Q, O and dO are 768 each, K and V 384 each, 12
    # log-sum-exps of 4 bytes; dQ 768, dK and dV 384 each.
    found, forward = amounts("attention_backward", **PROMPT), amounts("attention_prefill", **PROMPT)
    assert found == Amounts({Resource.TENSOR_BF16: 24 * 10 * 64}, 2 * (3 * 768 + 2 * 384) + 48, 2 * (768 + 768))
    assert found.flop == 2.5 * forward.flop


def test_a_linear_layer_backwards_is_two_products():
    # dY 2x4, X 2x3, W 4x3: 8, 6 and 12 numbers; dX as X, dW as W. 2*2*4*3 FLOP for each.
    found = amounts("linear_backward", m=2, n=4, k=3)
    assert found == Amounts({Resource.TENSOR_BF16: 2 * 48}, 2 * 26, 2 * 18)
    assert found.flop == 2 * amounts("matmul", m=2, n=4, k=3).flop


def test_a_cache_in_fp8_is_half_the_bytes_of_one_in_bf16():
    # Q and O 2*4*8 of 2 bytes, K and V 2*5*2*8 each of 1, and scales of 2 K heads and 2 V heads of 4.
    found = amounts("attention_decode_fp8", **CACHE)
    assert found == Amounts({Resource.TENSOR_BF16: 2 * 4 * 5 * 4 * 8}, 128 + 2 * 160 + 16, 128)
    long = CACHE | {"context": 100_000}
    plain = amounts("attention_decode", **long)
    assert amounts("attention_decode_fp8", **long).flop == plain.flop
    assert plain.bytes / amounts("attention_decode_fp8", **long).bytes == pytest.approx(2, rel=1e-4)


def test_pages_add_a_table_and_lengths():
    # Pages of 2 for 5 tokens: 3 a sequence, and its length: 2 * 4 numbers of 4 bytes.
    plain, paged = amounts("attention_decode", **CACHE), amounts("attention_paged", page=2, **CACHE)
    assert paged == Amounts(plain.flop_by_unit, plain.bytes_read + 2 * 4 * 4, plain.bytes_written)


def test_latent_attention_reads_one_vector_a_token_for_all_heads():
    # 3 heads, 2 sequences of 5 tokens: 30 pairs. Scores over 8 + 4 numbers, sums over 8: 2*12 + 2*8 FLOP.
    # Q 2*3*12, the cache 2*5*12, O 2*3*8.
    found = amounts("attention_mla", batch=2, context=5, heads=3, latent=8, rope=4)
    assert found == Amounts({Resource.TENSOR_BF16: 30 * 40}, 2 * (72 + 120), 2 * 48)
    # DeepSeek-V3 (arXiv 2505.09343): 576 numbers of 2 bytes a token, 1152; 128 heads of 2*(2*512 + 64) FLOP: 242 FLOP a
    # byte.
    deepseek = {"batch": 1, "heads": 128, "latent": 512, "rope": 64}
    short, long = (amounts("attention_mla", context=context, **deepseek) for context in (1000, 1001))
    assert (long.flop - short.flop, long.bytes - short.bytes) == (128 * 2 * 1088, 1152)
    assert (long.flop - short.flop) / (long.bytes - short.bytes) == pytest.approx(241.8, abs=0.1)


@pytest.mark.parametrize("context", [1, 100, 1000])
def test_generation_projects_6d2_with_a_cache_and_6nd2_without(context):
    # Lesson: at step 1000, 6d^2 FLOP instead of 6000d^2. d = 4 heads of 64 = 256; attention comes on top.
    d, attention_cached, pairs = 256, 4 * 256 * context, context * (context + 1) // 2
    dims = {"batch": 1, "context": context, "heads": 4, "kv_heads": 4, "head_dim": 64}
    assert amounts("generate_cached", **dims).flop == 6 * d * d + attention_cached
    assert amounts("generate_uncached", **dims).flop == 6 * context * d * d + 4 * d * pairs


def test_cached_generation_reads_weights_and_the_cache_of_all_earlier_tokens():
    # d = 128, 1 head: weights 3*128*128, hidden state 128, cached K and V 2*9*128; writes K, V and the output.
    found = amounts("generate_cached", batch=1, context=10, heads=1, kv_heads=1, head_dim=128)
    assert found.bytes_read == 2 * (3 * 128 * 128 + 128 + 2 * 9 * 128)
    assert found.bytes_written == 2 * 3 * 128


def test_streams_move_what_their_names_say():
    n, size = 1000, 4000
    assert amounts("stream_read", FP32, n=n) == Amounts({Resource.VECTOR_FP32: n}, size, 0)
    assert amounts("stream_write", FP32, n=n) == Amounts({}, 0, size)
    assert amounts("stream_copy", FP32, n=n) == Amounts({}, size, size)
    assert amounts("stream_triad", FP32, n=n) == Amounts({Resource.VECTOR_FP32: 2 * n}, 2 * size, size)


def test_an_empty_launch_has_no_intensity():
    empty = amounts("launch", FP32)
    assert (empty.flop, empty.bytes) == (0, 0)
    with pytest.raises(BadWorkload, match="moves no bytes"):
        _ = empty.arithmetic_intensity


def test_the_id_names_op_dimensions_and_dtype():
    assert make_workload("matmul", {"k": 3, "m": 1, "n": 2}, BF16).id == "matmul-m1-n2-k3-bf16"


@pytest.mark.parametrize(
    ("op", "dims", "message"),
    [
        ("matmul", {"m": -1, "n": 1, "k": 1}, "m must be a positive whole number, not -1"),
        ("matmul", {"m": 0, "n": 1, "k": 1}, "m must be a positive whole number, not 0"),
        ("matmul", {"m": 1.5, "n": 1, "k": 1}, "m must be a positive whole number, not 1.5"),
        ("matmul", {"m": True, "n": 1, "k": 1}, "m must be a positive whole number, not True"),
        ("matmul", {"m": 1, "n": 1}, "needs k=...; it takes m, n, k"),
        ("matmul", {"m": 1, "n": 1, "k": 1, "q": 1}, "no dimension 'q'; it takes m, n, k"),
        ("launch", {"n": 1}, "no dimension 'n'; it takes no dimension"),
        ("conv", {}, "unknown op 'conv'; `python -m predict ops` lists them"),
        ("matmul_w4a16", {"m": 1, "n": 1, "k": 100}, "k=100 is not a multiple of 128"),
        ("rope", {"tokens": 1, "heads": 1, "head_dim": 5}, "head_dim=5 is not a multiple of 2"),
        ("matmul_scaled", {"m": 1, "n": 1, "k": 1}, "matmul_scaled takes dtype fp8 or int8, not bf16"),
        (
            "attention_chunk",
            {"batch": 1, "queries": 3, "context": 2, "heads": 1, "kv_heads": 1, "head_dim": 64},
            "queries=3 is more than context=2",
        ),
        (
            "attention_packed",
            {"sequences": 3, "tokens": 2, "heads": 1, "kv_heads": 1, "head_dim": 64},
            "sequences=3 is more than tokens=2",
        ),
        (
            "attention_decode",
            {"batch": 1, "context": 1, "heads": 6, "kv_heads": 4, "head_dim": 64},
            "heads=6 is not a multiple of kv_heads=4",
        ),
    ],
)
def test_bad_dimensions_are_refused_by_name(op, dims, message):
    with pytest.raises(BadWorkload, match=message):
        make_workload(op, dims, BF16)


def test_bad_sweeps_are_refused_like_single_workloads():
    with pytest.raises(BadWorkload, match="k is not a multiple of 128"):
        sweep_amounts("matmul_w4a16", {"m": 1, "n": 1, "k": [128, 129]}, BF16)
    with pytest.raises(BadWorkload, match="m must be positive whole numbers, not -3"):
        sweep_amounts("matmul", {"m": [1, -3], "n": 1, "k": 1}, BF16)
    with pytest.raises(BadWorkload, match=r"needs k=\.\.\."):
        sweep_amounts("matmul", {"m": [1], "n": 1}, BF16)
    with pytest.raises(BadWorkload, match="heads is not a multiple of kv_heads"):
        sweep_amounts(
            "attention_decode", {"batch": 1, "context": 1, "heads": [8, 9], "kv_heads": 4, "head_dim": 64}, BF16
        )
    with pytest.raises(BadWorkload, match="sequences is more than tokens"):
        sweep_amounts(
            "attention_packed", {"sequences": [1, 3], "tokens": 2, "heads": 1, "kv_heads": 1, "head_dim": 1}, BF16
        )


sizes = st.integers(1, 512)


def dims_of(op, draw):
    dims = {name: draw(sizes) for name in dim_names(op)}
    if op == "matmul_w4a16":
        dims["k"] *= 128
    if op == "rope" or op.startswith(("block_", "model_", "serve_")) or op in GENERATIONS:
        dims["head_dim"] *= 2
    if "slots" in dims:
        dims["requests"] += dims["slots"]
    if "accepted" in dims:
        dims["accepted"] = draw(st.integers(1, 100))
    if op == "attention_chunk":
        dims["context"] += dims["queries"]
    if op == "attention_packed":
        dims["tokens"] += dims["sequences"]
    if "experts" in dims:
        dims["experts"] += dims["active"]
    if "kv_heads" in dims:
        dims["heads"] = dims["kv_heads"] * draw(st.integers(1, 8))
    return dims


# More of these is less work: sequences that do not see each other, and larger pages in a shorter table.
# More slots and more that is accepted make fewer steps; how many guesses are best depends on the rest.
SPARING = {
    ("attention_packed", "sequences"),
    ("attention_paged", "page"),
    *itertools.product(SERVING, ("slots", "short", "long")),
    *itertools.product(["generate_drafted"], ("accepted", "guesses")),
}


def dtypes_of(op):
    """The formats that an op accepts."""
    if op == "matmul_scaled":
        return ["fp8", "int8"]
    if op in ("matmul_w8a16", "matmul_w4a16", "attention_decode_fp8", "block_train"):
        return ["bf16", "fp16"]
    return ["bf16", "fp64", "fp32", "int8"]


@given(st.sampled_from(sorted(OPS)), st.data())
def test_no_amount_shrinks_when_a_dimension_grows(op, data):
    dims = dims_of(op, data.draw)
    dtype = data.draw(st.sampled_from(dtypes_of(op)))
    small = make_workload(op, dims, DTYPES[dtype]).amounts
    for name in [name for name in dims if (op, name) not in SPARING]:
        grown = dims | {name: dims[name] * 2}
        if (op, name) == ("attention_chunk", "queries"):
            grown["context"] *= 2
        if name == "active":
            grown["experts"] *= 2
        if "kv_heads" in dims and name == "kv_heads":
            grown["heads"] = dims["heads"] * 2
        large = make_workload(op, grown, DTYPES[dtype]).amounts
        assert large.flop >= small.flop
        assert large.bytes_read >= small.bytes_read
        assert large.bytes_written >= small.bytes_written


@given(sizes, sizes, sizes)
def test_matmul_is_symmetric_in_m_and_n_and_additive_in_flop(m, n, k):
    one, other = amounts("matmul", m=m, n=n, k=k), amounts("matmul", m=n, n=m, k=k)
    assert (one.flop, one.bytes) == (other.flop, other.bytes)
    assert one.flop + amounts("matmul", m=2 * m, n=n, k=k).flop == amounts("matmul", m=3 * m, n=n, k=k).flop


@given(st.sampled_from(["attention_prefill", "attention_decode", "generate_uncached"]), sizes, st.data())
def test_two_sequences_are_twice_the_flop_of_one(op, batch, data):
    dims = dims_of(op, data.draw) | {"batch": batch}
    assert 2 * amounts(op, **dims).flop == amounts(op, **(dims | {"batch": 2 * batch})).flop


@given(st.data())
def test_prefilling_is_decoding_every_prefix(data):
    dims = dims_of("attention_prefill", data.draw) | {"seq": data.draw(st.integers(1, 20))}
    seq = dims.pop("seq")
    decoded = sum(amounts("attention_decode", context=i, **dims).flop for i in range(1, seq + 1))
    assert amounts("attention_prefill", seq=seq, **dims).flop == decoded


def test_a_dimension_may_be_left_out_where_it_has_a_usual_size():
    assert optional_dims("block_decode") == ("hidden", "matrices")
    assert optional_dims("matmul") == ()
    heads = "block_decode(batch, context, heads, kv_heads, head_dim, inner, [hidden], [matrices])"
    assert signature("block_decode") == heads
    assert signature("matmul") == "matmul(m, n, k)"
    dims = {"batch": 1, "context": 5, "heads": 3, "kv_heads": 1, "head_dim": 4, "inner": 6}
    assert complete_dims("block_decode", dims) == {**dims, "hidden": 12, "matrices": 3}
    assert complete_dims("block_decode", {**dims, "hidden": 7}) == {**dims, "hidden": 7, "matrices": 3}
    swept = sweep_amounts("block_decode", {**dims, "matrices": [2, 3]}, BF16)
    each = [amounts("block_decode", **dims, matrices=matrices) for matrices in (2, 3)]
    assert list(swept.bytes) == [one.bytes for one in each]
    with pytest.raises(BadWorkload, match="block_decode: matrices is not 2 or 3"):
        sweep_amounts("block_decode", {**dims, "matrices": [2, 4]}, BF16)


def test_amounts_add_unit_by_unit():
    total = amounts("matmul", m=1, n=1, k=1) + amounts("stream_triad", FP32, n=5) + amounts("matmul", m=1, n=1, k=2)
    assert total == Amounts({Resource.TENSOR_BF16: 6, Resource.VECTOR_FP32: 10}, 4 + 40 + 8, 2 + 20 + 2)


@given(st.sampled_from(sorted(OPS)), st.data())
def test_a_sweep_counts_what_single_workloads_count(op, data):
    optional = {
        "hidden": sizes,
        "matrices": st.sampled_from((2, 3)),
        "layers": sizes,
        "forwards": st.sampled_from((1, 2)),
    }
    given = data.draw(st.lists(st.sampled_from(optional_dims(op)), unique=True)) if optional_dims(op) else []
    rows = [{**dims_of(op, data.draw), **{name: data.draw(optional[name]) for name in given}} for _ in range(3)]
    dtype = DTYPES[dtypes_of(op)[0]]
    swept = sweep_amounts(op, {name: [row[name] for row in rows] for name in (*dim_names(op), *given)}, dtype)
    for i, row in enumerate(rows):
        single = amounts(op, dtype, **row)
        for name in ("flop", "bytes_read", "bytes_written"):
            found, counted = np.broadcast_to(getattr(swept, name), 3)[i], getattr(single, name)
            assert found == counted if counted <= 2**53 else found == pytest.approx(counted, rel=1e-15)
