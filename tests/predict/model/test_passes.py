"""The lessons' closed forms, published counts and torch's own counter against the sums over a model's parts."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from predict.formulas.memory import Recompute
from predict.model.attention import Attention, Indexer, LatentAttention
from predict.model.compressed import CompressedAttention, Compressor, EntryIndex
from predict.model.config.reader import from_config
from predict.model.linear import Component
from predict.model.linear_attention import GatedDeltaNet, KimiDelta, Lightning
from predict.model.mlp import Experts, Mlp
from predict.model.passes import (
    Mask,
    decode_step,
    forward,
    kv_bytes,
    resident_bytes,
    training_step,
    uncached_step,
)
from predict.model.presets import PRESETS, find_model
from predict.model.reach import Chunk, TopK, Window
from predict.model.short_conv import GatedConv
from predict.model.side_by_side import SideBySide
from predict.model.state_space import Mamba, Mamba2
from predict.model.transformer import Block, Model
from tests.predict.model import meta_models

MLP, PROJECTIONS, SCORES, VOCAB, NORMS, *_ = Component
sizes = st.integers(1, 300)


def dense(layers, heads, head_dim, vocab, *, tied=False):
    """The lessons' model: no biases, an MLP of 4H without a gate; H = heads*head_dim."""
    hidden = heads * head_dim
    block = Block(layers, hidden, Attention(heads, heads, head_dim), Mlp(4 * hidden, gated=False), 4 * hidden)
    return Model("dense", "gpt2", hidden, vocab, (block,), tied=tied, final_norm_params=2 * hidden, context_limit=None)


models = st.builds(dense, st.integers(1, 6), st.integers(1, 8), st.integers(1, 32), sizes, tied=st.booleans())


def mixed():
    """Layers with and without a window, dense and with experts."""
    attention = Attention(4, 2, 8)
    blocks = (
        Block(2, 32, replace(attention, reach=Window(5)), Mlp(50, gated=True), 64),
        Block(3, 32, attention, Experts(8, 2, 20, Mlp(10, gated=True)), 64),
    )
    return replace(dense(1, 4, 8, 100), name="mixed", blocks=blocks)


def small_latent():
    """Latents so small that absorbed queries are cheaper even for prompts."""
    attention = LatentAttention(4, None, kv_rank=4, nope_dim=16, rope_dim=4, value_dim=16)
    block = Block(2, 32, attention, Mlp(50, gated=True), 64)
    return replace(dense(1, 4, 8, 100), name="small-latent", blocks=(block,))


def hybrid():
    """A layer of every kind that is not plain attention: states, a chunk, compressed entries, no MLP, no mixer."""
    mlp = Mlp(50, gated=True)
    mixers = (
        GatedDeltaNet(2, 4, 3, 5, 4, state_bits=32),
        KimiDelta(2, 8, 4),
        Lightning(2, 8),
        Mamba(64, 5, 3, 4),
        SideBySide((Attention(4, 2, 8, reach=Chunk(7)), Mamba2(4, 8, 2, 5, 4))),
        CompressedAttention(4, 8, 6, 2, 5, 9, Compressor(4, 8, overlaps=True), EntryIndex(2, 4, chosen=3)),
        CompressedAttention(4, 8, 6, 2, 5, 9, Compressor(8, 8)),
        GatedConv(32, 3),
    )
    blocks = tuple(Block(n, 32, mixer, mlp, 64) for n, mixer in enumerate(mixers, 1))
    blocks += (Block(2, 32, None, mlp, 32), Block(2, 32, Mamba2(4, 8, 2, 5, 4), None, 32))
    return replace(dense(1, 4, 8, 100), name="hybrid", blocks=blocks)


def sparse():
    """Latents of which an index chooses some."""
    attention = LatentAttention(4, 12, 8, 16, 4, 16, reach=TopK(6), indexer=Indexer(2, 8))
    blocks = (
        Block(2, 32, attention, Mlp(50, gated=True), 64),
        Block(1, 32, replace(attention, indexer=None), Mlp(50, gated=True), 64),
    )
    return replace(dense(1, 4, 8, 100), name="sparse", blocks=blocks)


def multiplied(model):
    """Parameters that multiply every token: neither a separate input embedding nor norms; for models without biases."""
    norms = model.final_norm_params + sum(block.layers * block.other_params for block in model.blocks)
    embedding = 0 if model.tied else model.embedding_params
    return model.active_params - embedding - norms


@given(models, sizes, sizes)
def test_a_forward_pass_is_l_times_24bsh2_plus_4bs2h_plus_2bshv(model, b, s):
    h, v = model.hidden, model.vocab
    assert forward(model, b, s, mask=Mask.FULL).flop == model.layers * (24 * b * s * h**2 + 4 * b * s**2 * h) + (
        2 * b * s * h * v
    )


@given(models, sizes, sizes)
def test_causal_scores_are_2bs_s_plus_1_h_a_layer(model, b, s):
    assert forward(model, b, s).component_flop(SCORES) == model.layers * 2 * b * s * (s + 1) * model.hidden


def test_the_efficiency_lesson_splits_gpt_2_small_as_it_says():
    # B = 1, S = 1024, H = 768, V = 50257: MLP 16BSH^2 = 9.66e9, projections 8BSH^2 = 4.83e9, scores 4BS^2H = 3.22e9.
    found = forward(find_model("gpt-2-small"), 1, 1024, mask=Mask.FULL)
    s, h = 1024, 768
    assert found.component_flop(MLP) == 12 * 16 * s * h**2
    assert found.component_flop(PROJECTIONS) == 12 * 8 * s * h**2
    assert found.component_flop(SCORES) == 12 * 4 * s**2 * h
    assert found.component_flop(VOCAB) == 2 * s * h * 50257
    assert found.component_flop(NORMS) == 0


@pytest.mark.parametrize(
    ("name", "seq", "mask", "flop"),
    [
        # torch's FlopCounterMode on meta tensors, eager attention, one sequence.
        ("gpt-2-small", 1024, Mask.FULL, 291_648_307_200),
        ("gpt-2-medium", 1024, Mask.FULL, 826_951_073_792),
        ("gpt-2-xl", 1024, Mask.FULL, 3_506_703_564_800),
        ("gpt-3-175b", 2048, Mask.FULL, 734_804_261_732_352),
        ("llama-2-7b", 128, Mask.FULL, 1_700_001_742_848),  # calflops: 1700.06 GFLOP
        ("llama-2-7b", 2048, Mask.FULL, 29_261_612_187_648),
        ("llama-3-8b", 8192, Mask.FULL, 158_140_695_838_720),
        ("llama-3-70b", 4096, Mask.FULL, 613_338_509_737_984),
        ("llama-3.1-405b", 8192, Mask.FULL, 7_169_159_410_483_200),
        ("qwen2.5-7b", 2048, Mask.FULL, 30_643_517_915_136),
        # The same with 2LS(S+1)H of scores.
        ("gpt-2-small", 1024, Mask.CAUSAL, 272_339_828_736),
        ("llama-3-8b", 8192, Mask.CAUSAL, 140_550_657_277_952),
        ("llama-3.1-405b", 8192, Mask.CAUSAL, 6_892_116_303_151_104),
    ],
)
def test_a_forward_pass_has_the_published_flop(name, seq, mask, flop):
    assert forward(find_model(name), 1, seq, mask=mask).flop == flop


@pytest.mark.parametrize(
    ("name", "build", "layers"),
    [
        ("gpt-2-small", meta_models.gpt_2_small, 12),
        ("llama-3-8b", meta_models.llama_3_8b, 2),
        ("mixtral-8x7b", meta_models.mixtral_8x7b, 2),
        ("deepseek-v3", meta_models.deepseek_v3, 5),
    ],
)
def test_torch_counts_the_same_flop(name, build, layers):
    field = "n_layer" if name.startswith("gpt") else "num_hidden_layers"
    model = from_config(PRESETS[name].config | {field: layers}, name)
    with torch.device("meta"):
        built = build(layers)
    assert meta_models.count_flop(built, 2, 64, backward=False) == forward(model, 2, 64, mask=Mask.FULL).flop
    # Exactly 3x: the embedding is trained too, so that even the first layer's input needs its gradient.
    assert meta_models.count_flop(built, 2, 64, backward=True) == training_step(model, 2, 64, mask=Mask.FULL).flop


@pytest.mark.parametrize("name", ["llama-3-8b", "mixtral-8x7b", "gemma-2b", "gemma-3-27b"])
def test_short_sequences_cost_2p_forward_and_6p_to_train(name):
    # P: without the input embedding where the output has a matrix of its own. Scores of one token are all that is left.
    model = find_model(name)
    once, trained = forward(model, 7, 1), training_step(model, 7, 1)
    assert once.flop - once.component_flop(SCORES) == 2 * multiplied(model) * 7
    params = model.active_params - (0 if model.tied else model.embedding_params)
    assert once.flop == pytest.approx(2 * params * 7, rel=2e-3)
    assert trained.flop == pytest.approx(6 * params * 7, rel=2e-3)


def test_palm_540b_trains_with_6n_plus_12lhqt_per_token():
    # Chowdhery et al. 2022, table 1 and appendix B: L = 118, H = 48 heads, Q = 256, T = 2048; MQA, SwiGLU of 4*18432,
    # V = 256000, tied. Their sum for N = 540.35e9 is 3,277,734,806,784.
    block = Block(118, 18432, Attention(48, 1, 256), Mlp(73728, gated=True), norm_params=18432)
    palm = Model("palm", "palm", 18432, 256_000, (block,), tied=True, final_norm_params=18432, context_limit=2048)
    found = training_step(palm, 1, 2048, mask=Mask.FULL)
    assert found.component_flop(SCORES) == 12 * 118 * 48 * 256 * 2048 * 2048
    assert found.flop == (6 * multiplied(palm) + 12 * 118 * 48 * 256 * 2048) * 2048
    assert found.flop / 2048 == pytest.approx(3_277_734_806_784, rel=2e-5)


def test_deepseek_v3_trains_with_250_gflop_per_token():
    # arXiv 2505.09343, table 2, causal at 4096. Closed form: 6*36,625,603,584 + 3*L*S*heads*(192 + 128) = 250.456e9.
    assert training_step(find_model("deepseek-v3"), 1, 4096).flop / 4096 == pytest.approx(250.456e9, rel=0.003)


@pytest.mark.parametrize(
    ("recompute", "scores", "rest"),
    [
        (Recompute.NONE, 3, 3),
        (Recompute.FLASH, 3.5, 3),  # 2 matmuls forward, 5 backward
        (Recompute.SELECTIVE, 4, 3),
        (Recompute.FULL, 4, 4),
    ],
)
def test_training_multiplies_each_layer_three_or_four_times(recompute, scores, rest):
    model = find_model("llama-3-8b")
    once, trained = forward(model, 2, 512), training_step(model, 2, 512, recompute=recompute)
    assert trained.component_flop(SCORES) == scores * once.component_flop(SCORES)
    assert trained.component_flop(MLP) == rest * once.component_flop(MLP)
    assert trained.component_flop(PROJECTIONS) == rest * once.component_flop(PROJECTIONS)


def test_recomputing_every_second_matrix_repeats_k_out_and_up():
    # Of Q, K, V and out, H, H/4, H/4 and H wide, K and out are half; up is a third of the MLP.
    model = find_model("llama-3-8b")
    once, trained = forward(model, 2, 512), training_step(model, 2, 512, recompute=Recompute.OPS)
    assert trained.component_flop(PROJECTIONS) == 3.5 * once.component_flop(PROJECTIONS)
    assert 3 * trained.component_flop(MLP) == 10 * once.component_flop(MLP)
    assert trained.component_flop(SCORES) == 3.5 * once.component_flop(SCORES)


@given(models, sizes, sizes)
def test_full_recomputation_is_narayanans_equation_3(model, b, s):
    # Narayanan et al. 2021 (arXiv 2104.04473), section 5.1: 96bslh^2 (1 + s/6h + V/16lh). Its terms: 4 x 24bslh^2 and
    # 4 x 4bs^2lh of layers that are done again, 3 x 2bshV of logits that are not.
    length, h, v = model.layers, model.hidden, model.vocab
    published = 96 * b * s * length * h**2 + 16 * b * s**2 * length * h + 6 * b * s * h * v
    assert training_step(model, b, s, mask=Mask.FULL, recompute=Recompute.FULL).flop == published


@given(models | st.sampled_from([mixed(), hybrid()]), st.integers(1, 9), st.integers(1, 40), st.integers(1, 40))
def test_a_prompt_in_two_pieces_costs_what_it_costs_at_once(model, batch, first, second):
    whole, start = forward(model, batch, first + second), forward(model, batch, first)
    rest = forward(model, batch, second, cached=first)
    for component in Component:
        assert whole.component_flop(component) == start.component_flop(component) + rest.component_flop(component)


@given(models, st.integers(1, 9), st.integers(0, 500))
def test_a_decode_step_is_2_flop_per_weight_and_4_per_cached_element(model, batch, context):
    step = decode_step(model, batch, context)
    assert step == forward(model, batch, 1, cached=context)
    assert step.flop == batch * (2 * multiplied(model) + 4 * model.layers * model.hidden * (context + 1))


@given(models, st.integers(1, 9), st.integers(0, 500))
def test_without_a_cache_every_layer_is_redone_for_every_token(model, batch, context):
    cached, uncached = decode_step(model, batch, context), uncached_step(model, batch, context)
    for component in (MLP, PROJECTIONS):
        assert uncached.component_flop(component) == (context + 1) * cached.component_flop(component)
    assert uncached.component_flop(VOCAB) == cached.component_flop(VOCAB)
    assert uncached.component_flop(SCORES) == forward(model, batch, context + 1).component_flop(SCORES)
    assert (uncached.cache_bytes, uncached.weight_bytes) == (0, cached.weight_bytes)


def test_absorbed_decoding_of_deepseek_v3_does_242_flop_per_cached_byte():
    # heads*(2*(kv_rank + rope) + 2*kv_rank) / (2*(kv_rank + rope)) = 128*2176/1152, and expanding the cache costs more:
    # 2*512*128*256 FLOP a token and layer against 2*128*1088.
    one, two = (decode_step(find_model("deepseek-v3"), 1, context) for context in (1000, 1001))
    assert (two.flop - one.flop) / (two.cache_bytes - one.cache_bytes) == pytest.approx(241.7777778, rel=1e-9)
    assert two.component_flop(SCORES) == 61 * 2 * 128 * 1088 * 1002
    # A prompt of 4096 after as many: 320 instead of 1088 per pair, and the expansion once per cached token.
    pairs = 4096 * 4096 + 4096 * 4097 // 2
    after = forward(find_model("deepseek-v3"), 1, 4096, cached=4096)
    assert after.component_flop(SCORES) == 61 * (2 * 128 * 320 * pairs + 2 * 512 * 128 * 256 * 4096)


@pytest.mark.parametrize(
    "model", [*map(find_model, ("gpt-2-xl", "mistral-7b", "gemma-3-27b", "deepseek-v3")), mixed(), hybrid(), sparse()]
)
def test_components_add_up_to_the_whole(model):
    for found in (forward(model, 3, 5000), decode_step(model, 3, 5000), training_step(model, 3, 50)):
        assert sum(found.component_flop(component) for component in Component) == found.flop
        assert found.bytes == found.weight_bytes + found.cache_bytes


@pytest.mark.parametrize(
    "model",
    [
        *map(find_model, ("gpt-2-small", "mistral-7b", "mixtral-8x7b", "gemma-3-27b", "deepseek-v3")),
        small_latent(),
        hybrid(),
        sparse(),
    ],
    ids=lambda model: model.name,
)
@given(rows=st.lists(st.tuples(sizes, sizes, st.integers(0, 9000)), min_size=1, max_size=3))
@example(rows=[(1, 5, 0), (1, 5, 7)])  # with and without a prefix: latent attention chooses for each by itself
def test_a_sweep_counts_what_single_passes_count(model, rows):
    runs = (
        lambda batch, seq, cached: forward(model, batch, seq, cached=cached),
        lambda batch, seq, cached: decode_step(model, batch, cached),
        lambda batch, seq, cached: uncached_step(model, batch, cached),
        lambda batch, seq, cached: training_step(model, batch, seq, recompute=Recompute.FLASH),
    )
    for run in runs:
        swept = run(*np.array(rows, dtype=np.float64).T)
        for i, row in enumerate(rows):
            single = run(*row)
            for amount in ("flop", "weight_bytes", "cache_bytes", "activation_bytes"):
                found = np.broadcast_to(getattr(swept, amount), len(rows))[i]
                assert found == pytest.approx(getattr(single, amount), rel=1e-12), amount
    batches, _, contexts = np.array(rows, dtype=np.float64).T
    assert list(kv_bytes(model, batches, contexts)) == [kv_bytes(model, batch, context) for batch, _, context in rows]
    held = np.broadcast_to(resident_bytes(model, batches, contexts), len(rows))
    assert list(held) == [resident_bytes(model, batch, context) for batch, _, context in rows]
