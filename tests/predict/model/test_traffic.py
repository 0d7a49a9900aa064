"""What GPUs send, against counts by hand: Llama 3 8B (32 layers of 4096) and DeepSeek-V3 (3 + 58 layers of 7168)."""

import math
from dataclasses import replace

import pytest

from predict.gpus import GPUS
from predict.model.elementwise import RMS, Elementwise
from predict.model.layout import Layout
from predict.model.presets import find_model
from predict.model.traffic import Exchange, Traffic
from predict.units import ALL_BF16, DTYPES, Formats

H100, A100 = GPUS["h100-sxm"], GPUS["a100-sxm-80gb"]
LLAMA, DEEPSEEK, QWEN_MOE = (find_model(name) for name in ("llama-3-8b", "deepseek-v3", "qwen3-30b-a3b"))


def sent(model, layout, tokens, *, gpu=H100, formats=ALL_BF16, stages=1):
    found = Traffic(model, layout, gpu, formats).sent(tokens, stages=stages)
    return {each.exchange: (each.link_bytes, each.network_bytes) for each in found}


def test_one_gpu_and_independent_replicas_send_nothing():
    for layout in (Layout(), Layout(dp=8)):
        assert set(sent(LLAMA, layout, 100).values()) == {(0, 0)}


def test_tensor_parallel_gpus_sum_twice_a_layer():
    # 64 messages of 100 x 4096 x 2 bytes: 9/8 of them through a switch, 7/4 around a ring.
    message = 64 * 100 * 4096 * 2
    assert sent(LLAMA, Layout(8), 100)[Exchange.ALL_REDUCE] == (message * 9 / 8, 0)
    assert sent(LLAMA, Layout(8), 100, gpu=A100)[Exchange.ALL_REDUCE] == (message * 7 / 4, 0)
    # Copies of the model do not sum with each other.
    assert sent(LLAMA, Layout(4, dp=2), 100)[Exchange.ALL_REDUCE] == (message * 5 / 4, 0)


def test_between_nodes_each_gpu_sends_its_part_of_what_its_node_has_summed():
    # 16 GPUs are two nodes of 8. Inside as before; between, an eighth of the message, twice 1/2 of it.
    message = 64 * 100 * 4096 * 2
    assert sent(LLAMA, Layout(16), 100)[Exchange.ALL_REDUCE] == (message * 9 / 8, message / 8)
    # Four nodes: 1 + 1/4 of an eighth, if the network's switches sum; a ring would take 3/2.
    assert sent(LLAMA, Layout(32), 100)[Exchange.ALL_REDUCE] == (message * 9 / 8, message / 8 * 5 / 4)
    # NVLink joins 72 GB200.
    assert sent(LLAMA, Layout(16), 100, gpu=GPUS["gb200"])[Exchange.ALL_REDUCE] == (message * 17 / 16, 0)


def test_a_gpu_that_says_nothing_of_its_node_is_one_node():
    unknown = replace(H100, gpus_per_node=None)
    assert sent(LLAMA, Layout(32), 100, gpu=unknown)[Exchange.ALL_REDUCE][1] == 0


def test_tokens_go_once_to_each_gpu_that_holds_their_experts():
    # 128 experts, 16 on each of 8 GPUs, 8 chosen. A GPU has none of a token's with chance C(112, 8) / C(128, 8). There
    # in 16 bits and back in 16 bits, 48 layers of 2048, 100 tokens on each GPU, 7 others.
    hit = 1 - math.comb(112, 8) / math.comb(128, 8)
    found = sent(QWEN_MOE, Layout(1, 1, 8, 8), 100)
    assert found[Exchange.ALL_TO_ALL] == (pytest.approx(48 * 100 * 2048 * (2 + 2) * 7 * hit), 0)
    assert found[Exchange.ALL_REDUCE] == (0, 0)
    assert 0.6 < hit < 0.7
    # fp8 products: there in 8 bits.
    narrow = sent(QWEN_MOE, Layout(1, 1, 8, 8), 100, formats=Formats(8, 8, DTYPES["fp8"]))
    assert narrow[Exchange.ALL_TO_ALL][0] == pytest.approx(48 * 100 * 2048 * (1 + 2) * 7 * hit)


def test_experts_that_all_gpus_split_need_every_token_everywhere():
    found = sent(QWEN_MOE, Layout(dp=8), 100)
    assert found[Exchange.ALL_TO_ALL] == (pytest.approx(48 * 100 * 2048 * 4 * 7), 0)


def test_with_one_copy_of_the_attention_every_gpu_has_every_token():
    # Then the outputs of 48 layers' attention and experts are summed, wherever the experts are.
    for layout in (Layout(8), Layout(8, ep=8)):
        found = sent(QWEN_MOE, layout, 100)
        assert found[Exchange.ALL_TO_ALL] == (0, 0)
        assert found[Exchange.ALL_REDUCE] == (96 * 100 * 2048 * 2 * 9 / 8, 0)


def test_copies_of_several_gpus_sum_their_attention_and_share_the_sending():
    # tp 4, dp 2: one sum a layer over 4 GPUs; each sends a quarter of its copy's tokens to the other 7.
    hit = 1 - math.comb(112, 8) / math.comb(128, 8)
    found = sent(QWEN_MOE, Layout(4, 1, 2, 8), 100)
    assert found[Exchange.ALL_REDUCE] == (48 * 100 * 2048 * 2 * 5 / 4, 0)
    assert found[Exchange.ALL_TO_ALL] == (pytest.approx(48 * 100 / 4 * 2048 * 4 * 7 * hit), 0)


def test_a_token_crosses_to_a_node_once():
    # 16 GPUs, two nodes of 64 experts each; 8 experts on a GPU.
    node_hit = 1 - math.comb(64, 8) / math.comb(128, 8)
    hit = 1 - math.comb(120, 8) / math.comb(128, 8)
    inside, between = sent(QWEN_MOE, Layout(1, 1, 16, 16), 100)[Exchange.ALL_TO_ALL]
    assert between == pytest.approx(48 * 100 * 2048 * 4 * node_hit)
    assert inside == pytest.approx(48 * 100 * 2048 * 4 * 7 * hit)


def test_dense_layers_of_a_mixture_sum_as_ever():
    # DeepSeek-V3, tp 2 and dp 4: two sums in each of 3 dense layers, one in each of 58 with experts, over two GPUs.
    found = sent(DEEPSEEK, Layout(2, 1, 4, 8), 10)
    assert found[Exchange.ALL_REDUCE] == ((2 * 3 + 58) * 10 * 7168 * 2, 0)


def test_stages_hand_on_their_activations():
    # Prompts, in 4 stages of 2 GPUs in one node: each GPU hands on half of 100 x 4096 x 2 bytes, and sums in its 8 of
    # 32 layers.
    half = 100 * 4096 * 2 / 2
    found = sent(LLAMA, Layout(2, 4), 100)
    assert found[Exchange.PIPELINE] == (half, 0)
    assert found[Exchange.ALL_REDUCE] == (2 * 8 * 100 * 4096 * 2, 0)
    # A token of decode goes through all of them: three times from stage to stage, and all layers' sums.
    found = sent(LLAMA, Layout(2, 4), 100, stages=4)
    assert found[Exchange.PIPELINE] == (3 * half, 0)
    assert found[Exchange.ALL_REDUCE] == (2 * 32 * 100 * 4096 * 2, 0)


def test_stages_on_other_nodes_are_reached_over_the_network():
    eighth = 100 * 4096 * 2 / 8
    assert sent(LLAMA, Layout(8, 2), 100)[Exchange.PIPELINE] == (0, eighth)
    assert sent(LLAMA, Layout(8, 2), 100, stages=2)[Exchange.PIPELINE] == (0, eighth)
    # 4 stages of 4 GPUs are two nodes: of three steps from stage to stage one crosses.
    quarter = 100 * 4096 * 2 / 4
    assert sent(LLAMA, Layout(4, 4), 100, stages=4)[Exchange.PIPELINE] == (2 * quarter, quarter)


def test_groups_of_experts_keep_a_token_on_fewer_gpus():
    # DeepSeek-V3 chooses 4 of 8 groups, one on each of 8 GPUs: half of the GPUs, less those whose 32 experts are not
    # among 8 of 128.
    hit = (1 - math.comb(96, 8) / math.comb(128, 8)) / 2
    found = sent(DEEPSEEK, Layout(1, 1, 8, 8), 10)
    assert found[Exchange.ALL_TO_ALL][0] == pytest.approx(58 * 10 * 7168 * 4 * 7 * hit)


def test_where_attention_and_mlp_read_the_same_input_one_sum_is_for_both():
    block = replace(LLAMA.blocks[0], elementwise=Elementwise(RMS, parallel=True))
    beside = replace(LLAMA, blocks=(block,))
    assert sent(beside, Layout(8), 100)[Exchange.ALL_REDUCE] == (32 * 100 * 4096 * 2 * 9 / 8, 0)
