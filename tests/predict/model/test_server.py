"""Continuous batching on a replica, against single passes and sums done by hand: Llama 3 8B in bf16 on one H100."""

import numpy as np
import pytest

from predict.errors import BadQuantity
from predict.gpus import GPUS
from predict.model.layout import Layout
from predict.model.passes import Logits, decode_step, forward
from predict.model.presets import find_model
from predict.model.replica import Replica
from predict.model.server import Request, Server

LLAMA_8B, QWEN_30B = find_model("llama-3-8b"), find_model("qwen3-30b-a3b")
H100 = Replica(LLAMA_8B, GPUS["h100-sxm"], hbm_bytes=80e9)
WEIGHT_BYTES = 2 * 8_030_261_248
KV_BYTES = 2 * 32 * 8 * 128 * 2  # per token: 131,072


def load(batch, *, chunk=1000, replica=H100, prompt=1000, generated=102, cached=0):
    server = Server(replica, Request(replica.model, prompt, generated, chunk, cached))
    return server.at(np.array([float(batch)]))


def test_one_request_takes_its_prefill_and_its_decode_steps():
    # It decodes after 1000 to 1100 tokens, 1050 on average.
    alone = load(1)
    prefill, decode = H100.prefill(1, 1000, logits=Logits.LAST), H100.decode(1, 1050)
    assert alone.ttft_s[0] == pytest.approx(prefill.napkin_s)
    assert alone.tpot_s[0] == pytest.approx(decode.napkin_s)
    assert alone.tokens_per_s[0] == pytest.approx(102 / (prefill.napkin_s + 101 * decode.napkin_s))


def test_a_mixed_step_reads_the_weights_once_and_both_caches():
    mixed = load(4).mixed.work
    prompt, step = forward(LLAMA_8B, 1, 1000, logits=Logits.LAST), decode_step(LLAMA_8B, 3, 1050)
    assert mixed.flop[0] == pytest.approx(prompt.flop + step.flop)
    assert mixed.weight_bytes == pytest.approx(step.weight_bytes)
    # Three requests read 1050 tokens and append one; the prompt is appended.
    assert mixed.cache_bytes[0] == pytest.approx((3 * 1051 + 1000) * KV_BYTES)


def test_every_chunk_reads_the_cache_of_those_before_it_and_only_the_last_makes_a_token():
    # Chunks of 400, 400 and 200: 400 + 800 tokens are read again, in three mixed steps.
    whole, parts = load(1), load(1, chunk=400)
    assert parts.mixed.work.cache_bytes[0] == pytest.approx((400 + 800 + 1000) * KV_BYTES / 3)
    assert 3 * parts.mixed.work.flop[0] == pytest.approx(whole.mixed.work.flop[0])
    assert parts.steps.mixed[0] == 3


def test_a_cached_prefix_is_read_and_not_computed():
    after = load(1, cached=600).mixed.work
    rest = forward(LLAMA_8B, 1, 400, cached=600, logits=Logits.LAST)
    assert after.flop[0] == pytest.approx(rest.flop)
    assert after.cache_bytes[0] == pytest.approx((600 + 400) * KV_BYTES)


def test_the_largest_batch_holds_every_cache_at_the_mean_of_its_life():
    # 80e9 - 16.06e9 bytes over 131,072 x 1051 (1001 to 1101 tokens): 464.1.
    request = Request(LLAMA_8B, 1000, 102, 8192)
    assert Server(H100, request).largest_batch == (80e9 - WEIGHT_BYTES) // (KV_BYTES * 1051) == 464
    # 1000 prompt tokens a step are one prompt, which feeds lives of 102 steps: 102 requests.
    assert Server(H100, Request(LLAMA_8B, 1000, 102, 1000)).largest_batch == 102
    assert Server(Replica(LLAMA_8B, GPUS["h100-sxm"], hbm_bytes=16e9), request).largest_batch == 0


def test_a_mixed_step_reads_the_experts_that_all_its_tokens_choose():
    replica = Replica(QWEN_30B, GPUS["h100-sxm"])
    both = load(4, replica=replica, prompt=30, generated=102, chunk=30)
    # 3 + 30 tokens: the weights of a pass over 33.
    assert both.mixed.work.weight_bytes[0] == pytest.approx(forward(QWEN_30B, 33, 1).weight_bytes)
    assert both.decode.work.weight_bytes[0] == pytest.approx(forward(QWEN_30B, 4, 1).weight_bytes)


def test_the_copies_of_a_layout_serve_alike_and_take_their_steps_together():
    # Two copies of the attention, experts over both GPUs: 8 requests are 4 for each, which 3 decode in a mixed step.
    replica = Replica(QWEN_30B, GPUS["h100-sxm"], Layout(dp=2, ep=2))
    both = load(8, replica=replica, prompt=30, chunk=30)
    assert both.steps.decoding[0] == 3
    assert both.mixed.work.weight_bytes[0] == pytest.approx(forward(QWEN_30B, 2 * (3 + 30), 1).weight_bytes)
    # A life of 101 decode steps has 3 mixed steps of its neighbors, and 98 others; two copies end two requests.
    latency_s = both.ttft_s[0] + 3 * both.mixed_s[0] + 98 * both.decode_s[0]
    assert both.requests_per_s[0] == pytest.approx(8 / latency_s)
    assert Server(replica, Request(QWEN_30B, 1000, 102, 8192)).largest_batch % 2 == 0


def test_what_the_copies_cannot_share_and_pipelines_are_refused():
    replica = Replica(QWEN_30B, GPUS["h100-sxm"], Layout(dp=2, ep=2))
    with pytest.raises(BadQuantity, match="batch must be a multiple of the 2 copies"):
        load(7, replica=replica)
    with pytest.raises(BadQuantity, match="pp=2: continuous batching is not worked out for pipelines"):
        load(1, replica=Replica(LLAMA_8B, GPUS["h100-sxm"], Layout(pp=2)))


def test_very_long_answers_are_averaged_over_some_of_their_steps():
    # The cache grows evenly, so that 4096 of 100,000 steps have the mean of all: 1000 + 99,998/2 tokens.
    request = Request(LLAMA_8B, 1000, 100_000, 8192)
    assert request.contexts.size == 4096
    assert np.mean(request.contexts) == pytest.approx(1000 + 99_998 / 2)


@pytest.mark.parametrize("name", ["llama-3-8b", "qwen3-30b-a3b", "gemma-3-27b", "mistral-7b"])
@pytest.mark.parametrize("chunk", [256, 2048])
def test_a_larger_batch_makes_more_tokens_and_each_later(name, chunk):
    server = Server(Replica(find_model(name), GPUS["h200-sxm"]), Request(find_model(name), 2000, 300, chunk))
    found = server.at(np.arange(1.0, server.largest_batch + 1))
    assert np.all(np.diff(found.tpot_s) > 0)
    assert np.all(np.diff(found.tokens_per_s) > -1e-9 * found.tokens_per_s[:-1])


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"generated": 1}, "osl must be at least 2"),
        ({"prompt": 2**24}, "isl [+] osl = 16,777,318 tokens are more than 16,777,216"),
        ({"prompt": 0}, "isl must be a positive whole number"),
        ({"cached": 1000}, "prefix=1000 must be less than the 1000 tokens"),
        ({"chunk": 0}, "chunk must be a positive whole number"),
    ],
)
def test_lengths_that_make_no_request_are_refused(asked, message):
    with pytest.raises(BadQuantity, match=message):
        load(1, **asked)
