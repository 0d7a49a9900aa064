"""Replicas against divisions done by hand: Llama 3 70B on two H100s, and what tensor parallelism copies and sends."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from predict.errors import BadQuantity, MissingCeiling
from predict.gpus import GPUS
from predict.model.layout import Layout
from predict.model.passes import Logits, Mask, forward
from predict.model.presets import find_model
from predict.model.replica import Replica
from predict.resources import Resource
from predict.units import DTYPES, Formats

H100 = GPUS["h100-sxm"]  # 989.4e12 bf16 FLOP/s, 3.35e12 bytes/s, 450e9 bytes/s of NVLink in one direction
LLAMA_70B, LLAMA_8B, DEEPSEEK = (find_model(name) for name in ("llama-3-70b", "llama-3-8b", "deepseek-v3"))
QWEN_MOE = find_model("qwen3-30b-a3b")
PAIR = Replica(LLAMA_70B, H100, Layout(2), hbm_bytes=80e9)

# 70,553,706,496 parameters; the input embedding, 128256*8192, is only looked up; norms, 161*8192, multiply nothing.
READ_PARAMS = 70_553_706_496 - 128_256 * 8192
MULTIPLIED_PARAMS = READ_PARAMS - 161 * 8192
KV_BYTES = 2 * 80 * 8 * 128 * 2  # per token: 327,680


def terms(prediction):
    return {term.resource: term for term in prediction.terms}


def test_a_decode_step_of_llama_3_70b_on_two_h100():
    # 16 sequences of 4096 tokens. Each GPU: half the FLOP, half the weights, half the cache (4 of 8 KV heads), and two
    # all-reduces a layer of 16*8192 elements of 2 bytes, of which it sends 2(n-1)/n = 1.
    found = terms(PAIR.decode(16, 4096))
    flop = 16 * (2 * MULTIPLIED_PARAMS + 4 * 80 * 8192 * 4097) / 2
    read = (2 * READ_PARAMS + 16 * 4097 * KV_BYTES) / 2
    sent = 2 * 80 * 16 * 8192 * 2
    assert list(found) == [Resource.TENSOR_BF16, Resource.DRAM, Resource.LINK]
    assert found[Resource.TENSOR_BF16].amount == pytest.approx(flop, rel=1e-12)
    assert found[Resource.DRAM].amount == pytest.approx(read, rel=1e-12)
    assert found[Resource.LINK].amount == sent == 41_943_040
    assert found[Resource.TENSOR_BF16].time_s == pytest.approx(flop / 989.4e12, rel=1e-12)
    assert found[Resource.DRAM].time_s == pytest.approx(read / 3.35e12, rel=1e-12)
    assert found[Resource.LINK].time_s == pytest.approx(sent / 450e9, rel=1e-12)


def test_a_decode_step_is_bound_by_dram():
    # 139.0e9 bytes of weights and 21.5e9 of cache over 2 * 3.35e12 bytes/s: 23.95 ms.
    prediction = PAIR.decode(16, 4096)
    assert prediction.bound is Resource.DRAM
    assert prediction.napkin_s == pytest.approx(23.95e-3, rel=1e-3)
    assert prediction.serial_s == pytest.approx(sum(term.time_s for term in prediction.terms))


def test_without_a_number_an_engine_keeps_what_it_usually_does():
    # 3.5 GB; 8192 tokens of 2 bytes: the stream and its norm, 8192 each, and half of 3 x 28,672 and of 8192.
    usual = replace(PAIR, overhead_bytes=None)
    assert usual.reserved_bytes == 3.5e9 + 8192 * 2 * (2 * 8192 + (3 * 28_672 + 8192) / 2)
    assert usual.free_bytes == PAIR.free_bytes - 2 * usual.reserved_bytes


def test_a_draft_is_held_beside_its_target():
    # Llama 3 8B: 8,030,261,248 parameters, 2 x 32 x 8 x 128 x 2 bytes a token, on the same two GPUs.
    drafted = replace(PAIR, draft=LLAMA_8B)
    weights, token = 2 * 8_030_261_248, 131_072
    assert (drafted.beside.model, drafted.beside.layout, drafted.beside.draft) == (LLAMA_8B, Layout(2), None)
    assert drafted.held_weight_bytes == 2 * 70_553_706_496 + weights
    assert drafted.free_bytes == PAIR.free_bytes - weights
    assert drafted.held_cache_bytes(4, 1000) == 4 * 1000 * (KV_BYTES + token)
    assert drafted.token_bytes == KV_BYTES + token
    assert drafted.max_batch(1000) == (160e9 - 2 * 70_553_706_496 - weights) // (1000 * (KV_BYTES + token))
    assert drafted.decode(4, 1000).napkin_s == PAIR.decode(4, 1000).napkin_s  # the target's own step


def test_an_engine_that_keeps_every_token_holds_fewer_requests():
    # Gemma 3 27B: 10 of 62 layers see all, 52 the latest 1024; 2 x 16 KV heads x 128 x 2 bytes a layer.
    alone = Replica(find_model("gemma-3-27b"), H100)
    layer = 2 * 16 * 128 * 2
    assert alone.max_batch(8192) == alone.free_bytes // (layer * (10 * 8192 + 52 * 1024))
    assert alone.max_batch_of_equal_layers(8192) == alone.free_bytes // (layer * 62 * 8192)
    assert alone.max_batch_of_equal_layers(1024) == alone.max_batch(1024)


def test_one_gpu_sends_nothing():
    assert Resource.LINK not in terms(Replica(LLAMA_8B, H100).decode(1, 100))


def test_an_unknown_link_is_not_a_link_without_cost():
    alone = replace(H100, link_bytes_per_s=None)
    with pytest.raises(MissingCeiling, match="h100-sxm: the bandwidth between its GPUs is not known"):
        Replica(LLAMA_8B, alone, Layout(2)).decode(1, 100)
    assert Resource.LINK not in terms(Replica(LLAMA_8B, alone).decode(1, 100))


@pytest.mark.parametrize(
    ("gpu", "gpus", "sent"),
    [
        # Around a ring 2(n-1)/n of every message: the switch of the A100 does not reduce, and PCIe has none.
        ("a100-sxm-80gb", 2, 1), ("a100-sxm-80gb", 4, 3 / 2), ("a100-sxm-80gb", 8, 7 / 4), ("l40s", 4, 3 / 2),
        # Through the switch of the H100 1 + 1/n, but no more than around the ring.
        ("h100-sxm", 2, 1), ("h100-sxm", 3, 4 / 3), ("h100-sxm", 4, 5 / 4), ("h100-sxm", 8, 9 / 8),
    ],
)  # fmt: skip
def test_what_is_sent_depends_on_whether_the_switch_reduces(gpu, gpus, sent):
    # 2 all-reduces in each of 32 layers, 100 tokens of 4096 elements of 2 bytes.
    found = terms(Replica(LLAMA_8B, GPUS[gpu], Layout(gpus)).prefill(1, 100))[Resource.LINK]
    assert found.amount == pytest.approx(2 * 32 * 100 * 4096 * 2 * sent, rel=1e-12)


def test_a_bound_allows_for_a_switch_of_which_nothing_is_known():
    unknown = replace(GPUS["a100-sxm-80gb"], link_reduces=None)
    found = terms(Replica(LLAMA_8B, unknown, Layout(8)).prefill(1, 100))[Resource.LINK]
    assert found.amount == pytest.approx(2 * 32 * 100 * 4096 * 2 * 9 / 8, rel=1e-12)


def test_no_measured_all_reduce_beats_the_bound_of_eight_h100():
    # 4 prompts of 8192 tokens: 32 layers * 2 messages of 32,768 * 4096 * 2 = 268,435,456 bytes. NCCL through the switch
    # sums 275e9 bytes/s (480e9 of bus bandwidth): 62.5 ms. The least is 9/8 of 17.18e9 bytes over 450e9: 42.95 ms.
    link_s = terms(Replica(LLAMA_8B, H100, Layout(8)).prefill(4, 8192))[Resource.LINK].time_s
    assert link_s == pytest.approx(42.95e-3, rel=1e-4)
    assert link_s < 64 * 268_435_456 / 275e9


def test_a_prefill_is_its_forward_pass():
    # 2 FLOP per weight and token, 4*L*H per causal pair; of the last logits 2*V*H.
    body = MULTIPLIED_PARAMS - 128_256 * 8192
    pairs = 2000 * 2001 // 2
    flop = 2 * 2000 * body + 4 * 80 * 8192 * pairs + 2 * 128_256 * 8192
    prediction = PAIR.prefill(1, 2000, logits=Logits.LAST)
    assert prediction.bound is Resource.TENSOR_BF16
    assert prediction.napkin_s == pytest.approx(flop / 2 / 989.4e12, rel=1e-12)
    # A cached prefix of 500 tokens: 1500 are left, and they meet it.
    rest = PAIR.prefill(1, 1500, cached=500, logits=Logits.LAST)
    assert prediction.napkin_s - rest.napkin_s == pytest.approx(
        (2 * 500 * body + 4 * 80 * 8192 * (500 * 501 // 2)) / 2 / 989.4e12, rel=1e-9
    )


def test_a_prefill_takes_the_mask_and_the_logits_it_is_asked_for():
    work = forward(LLAMA_8B, 2, 300, mask=Mask.FULL)
    found = terms(Replica(LLAMA_8B, H100).prefill(2, 300, mask=Mask.FULL))
    assert found[Resource.TENSOR_BF16].amount == work.flop


@pytest.mark.parametrize(
    ("model", "gpus", "share"),
    [
        (LLAMA_70B, 1, 1),
        (LLAMA_70B, 2, 1 / 2),
        (LLAMA_70B, 8, 1 / 8),
        (LLAMA_70B, 16, 1 / 8),  # 8 KV heads: from here on every GPU keeps a whole one
        (LLAMA_70B, 64, 1 / 8),
        (find_model("gemma-2b"), 8, 1),  # one KV head
        (DEEPSEEK, 16, 1),  # one latent for all heads
    ],
)
def test_no_gpu_holds_less_than_one_kv_head(model, gpus, share):
    replica = Replica(model, H100, Layout(gpus))
    per_token = 2 * model.kv_elements_per_token
    assert replica.cache_copies == share * gpus
    assert replica.resident_kv_bytes(3, 100) == pytest.approx(3 * 100 * per_token * share * gpus, rel=1e-12)
    one, two = (terms(replica.decode(3, context))[Resource.DRAM].amount for context in (100, 101))
    assert two - one == pytest.approx(3 * per_token * share, rel=1e-4)  # the weights, far more, cancel


def test_two_h100_hold_seven_requests_of_8192_tokens():
    # 2*80e9 - 141,107,412,992 = 18.89e9 bytes over 8192*327,680 = 2,684,354,560: 7.04.
    assert PAIR.weight_bytes == 141_107_412_992
    assert PAIR.free_bytes == 160e9 - 141_107_412_992
    assert PAIR.max_batch(8192) == 7
    # As NVML reports them, 2*81559 MiB, 29.93e9 bytes are left: 11.15. With 3.5e9 of overhead each, 80e9: 4.43.
    assert replace(PAIR, hbm_bytes=None).max_batch(8192) == 11
    assert replace(PAIR, overhead_bytes=3.5e9).max_batch(8192) == 4


def test_copied_kv_heads_take_room():
    # 16 GPUs hold 8 KV heads twice: (16*80e9 - 141.1e9) / (2*2,684,354,560) = 212.1.
    assert Replica(LLAMA_70B, H100, Layout(16), hbm_bytes=80e9).max_batch(8192) == 212


def test_stages_split_the_cache_by_layers_so_that_no_head_is_copied():
    # 16 GPUs as two stages of 8: 16*80e9 - 141.1e9 over 2,684,354,560, twice what 16 copies of heads leave: 424.3.
    stages = Replica(LLAMA_70B, H100, Layout(8, 2), hbm_bytes=80e9)
    assert stages.cache_copies == 1
    assert stages.max_batch(8192) == 424


def test_independent_replicas_hold_the_model_twice_and_serve_half_the_batch_each():
    # Two pairs of H100s: each holds 7 requests of 8192 tokens, as PAIR does, and decodes 8 of 16 as fast as PAIR.
    twice = Replica(LLAMA_70B, H100, Layout(2, dp=2), hbm_bytes=80e9)
    assert twice.weight_bytes == 2 * 141_107_412_992
    assert twice.max_batch(8192) == 2 * 7
    assert terms(twice.decode(16, 4096)) == terms(PAIR.decode(8, 4096))
    # Of 15 requests one replica serves 8.
    assert twice.decode(15, 4096).napkin_s == PAIR.decode(8, 4096).napkin_s
    assert terms(twice.prefill(3, 1000)) == terms(PAIR.prefill(2, 1000))
    assert twice.kv_bytes_per_gpu(15, 4096) == 8 * 4096 * KV_BYTES / 2
    assert twice.decode(16, 4096).weight_bytes == 2 * PAIR.decode(8, 4096).weight_bytes


# DeepSeek-V3: 58 layers of 256 experts, 3 * 7168 * 2048 elements each, and 17.1e9 others.
EXPERT_PARAMS = 58 * 256 * 3 * 7168 * 2048
OTHER_PARAMS = 671_026_404_352 - EXPERT_PARAMS
LATENT_BYTES = 61 * 576 * 2  # per token: 70,272


def test_copied_attention_splits_experts_but_no_latent_is_copied():
    # 8 GPUs: each holds 32 of the 256 experts of a layer, all other weights, and the latents of its own requests.
    copied = Replica(DEEPSEEK, GPUS["b200"], Layout(1, 1, 8, 8), Formats(8, 16, DTYPES["fp8"]), hbm_bytes=180e9)
    assert copied.weight_bytes / 8 == EXPERT_PARAMS / 8 + OTHER_PARAMS
    assert copied.cache_copies == 1
    free = 180e9 - EXPERT_PARAMS / 8 - OTHER_PARAMS
    assert copied.max_batch(2048) == 8 * (free // (2048 * LATENT_BYTES)) == 4504
    # By tensor parallelism every GPU holds the latents of all requests.
    split = replace(copied, layout=Layout(8))
    assert split.cache_copies == 8
    assert split.max_batch(2048) == (8 * 180e9 - 671_026_404_352) // (8 * 2048 * LATENT_BYTES) == 667


def test_a_step_of_copied_attention_reads_its_own_requests_and_an_eighth_of_the_experts():
    copied = Replica(DEEPSEEK, GPUS["b200"], Layout(1, 1, 8, 8), Formats(8, 16, DTYPES["fp8"]))
    step = terms(copied.decode(1024, 2048))
    embedding = 129_280 * 7168
    touched = 1 - (1 - 8 / 256) ** 1024
    read = OTHER_PARAMS - embedding + EXPERT_PARAMS / 8 * touched + 128 * 2049 * LATENT_BYTES
    assert step[Resource.DRAM].amount == pytest.approx(read, rel=1e-9)
    # An eighth of all FLOP.
    assert step[Resource.TENSOR_FP8].amount == pytest.approx(forward(DEEPSEEK, 1024, 1, cached=2048).flop / 8)
    # One request: one GPU reads its cache and all weights but the experts, of which each reads an eighth of 8.
    alone = terms(copied.decode(1, 2048))
    read = OTHER_PARAMS - embedding + EXPERT_PARAMS / 8 * (8 / 256) + 2049 * LATENT_BYTES
    assert alone[Resource.DRAM].amount == pytest.approx(read, rel=1e-9)


def test_a_token_goes_through_all_stages():
    # Two stages of two GPUs: each works on half of 16 requests, all layers' weights are read for each half.
    stages = Replica(LLAMA_70B, H100, Layout(2, 2), hbm_bytes=80e9)
    step, half = stages.decode(16, 4096), PAIR.decode(8, 4096)
    assert terms(step)[Resource.DRAM] == terms(half)[Resource.DRAM]
    assert terms(step)[Resource.TENSOR_BF16] == terms(half)[Resource.TENSOR_BF16]
    # Two all-reduces a layer of 8 requests, and half of their activations to the next stage.
    assert terms(step)[Resource.LINK].amount == terms(half)[Resource.LINK].amount + 8 * 8192 * 2 / 2
    assert step.bytes == 2 * half.bytes  # by all GPUs together
    # A single request cannot be split: no stage works beside another.
    assert terms(stages.decode(1, 4096))[Resource.DRAM] == terms(PAIR.decode(1, 4096))[Resource.DRAM]


def test_stages_read_a_prompt_at_the_same_time():
    stages = Replica(LLAMA_70B, H100, Layout(2, 2), hbm_bytes=80e9)
    assert stages.prefill(1, 2000).napkin_s == pytest.approx(PAIR.prefill(1, 2000).napkin_s / 2)


def test_between_nodes_the_network_is_a_term_of_its_own():
    # 16 H100s: two all-reduces in each of 80 layers. An eighth of a message of 4 x 8192 x 2 bytes goes to the other
    # node, at 50e9 bytes/s or what is asked for.
    replica = Replica(LLAMA_70B, H100, Layout(16))
    found = terms(replica.decode(4, 100))
    assert found[Resource.NETWORK].amount == 160 * 4 * 8192 * 2 / 8
    assert found[Resource.NETWORK].per_s == 50e9
    assert found[Resource.LINK].amount == 160 * 4 * 8192 * 2 * 9 / 8
    faster = replace(replica, network_bytes_per_s=100e9)
    assert terms(faster.decode(4, 100))[Resource.NETWORK].per_s == 100e9
    assert Resource.NETWORK not in terms(Replica(LLAMA_70B, H100, Layout(8)).decode(4, 100))


def test_an_unknown_network_is_told_and_not_taken_for_free():
    cards = Replica(LLAMA_70B, GPUS["l40s"], Layout(16))
    message = "l40s: the bandwidth between nodes of 8 is not known; give --link-between-nodes"
    assert cards.missing_rate == message
    with pytest.raises(MissingCeiling, match=message):
        cards.decode(1, 100)
    assert replace(cards, network_bytes_per_s=25e9).missing_rate == ""
    assert Replica(LLAMA_70B, GPUS["l40s"], Layout(8, dp=2)).missing_rate == ""  # replicas send each other nothing


def test_drafted_tokens_are_checked_in_one_step():
    checked, plain = PAIR.decode(4, 1000, 5), PAIR.prefill(4, 5, cached=1000)
    assert checked.terms == plain.terms
    stages = Replica(LLAMA_70B, H100, Layout(2, 2))
    assert terms(stages.decode(4, 1000, 5))[Resource.DRAM] == terms(PAIR.decode(2, 1000, 5))[Resource.DRAM]


def test_the_longest_context_is_that_of_the_copy_that_serves_most():
    # 18.89e9 bytes for two requests, then for two of three in the first of two replicas: 18.89e9 / 2 / 327,680.
    assert PAIR.max_context(2) == (160e9 - 141_107_412_992) // (2 * KV_BYTES) == 28827
    twice = Replica(LLAMA_70B, H100, Layout(2, dp=2), hbm_bytes=80e9)
    assert twice.max_context(3) == PAIR.max_context(2)


def test_weights_that_do_not_fit_leave_room_for_nobody():
    alone = Replica(LLAMA_70B, H100)
    assert alone.free_bytes < 0
    assert alone.max_batch(1) == 0


def test_fp8_halves_weights_cache_and_flop_time_but_not_the_messages():
    narrow = replace(PAIR, formats=Formats(8, 8, DTYPES["fp8"]))
    wide, found = terms(PAIR.decode(4, 1000)), terms(narrow.decode(4, 1000))
    assert narrow.weight_bytes == PAIR.weight_bytes / 2
    assert found[Resource.DRAM].amount == pytest.approx(wide[Resource.DRAM].amount / 2, rel=1e-12)
    assert found[Resource.TENSOR_FP8].per_s == 1978.9e12
    assert found[Resource.LINK].amount == wide[Resource.LINK].amount


@given(st.floats(0.01, 1), st.floats(0.01, 1), st.integers(1, 64), st.integers(1, 8192))
def test_mfu_and_mbu_stretch_exactly_their_terms(mfu, mbu, batch, context):
    bound = terms(PAIR.decode(batch, context))
    found = terms(replace(PAIR, mfu=mfu, mbu=mbu).decode(batch, context))
    assert found[Resource.TENSOR_BF16].time_s == pytest.approx(bound[Resource.TENSOR_BF16].time_s / mfu, rel=1e-12)
    assert found[Resource.DRAM].time_s == pytest.approx(bound[Resource.DRAM].time_s / mbu, rel=1e-12)
    assert found[Resource.LINK] == bound[Resource.LINK]
    assert terms(replace(PAIR, mfu=mfu).decode(batch, context))[Resource.DRAM] == bound[Resource.DRAM]


def test_a_lowered_roof_says_so():
    roofs = replace(PAIR, mfu=0.4, mbu=0.7).roofs
    assert roofs[Resource.DRAM].source.startswith("0.7 of ")
    assert roofs[Resource.TENSOR_BF16].source.startswith("0.4 of ")
    assert PAIR.roofs == H100.roofs


@given(st.lists(st.tuples(st.integers(1, 256), st.integers(1, 32768)), min_size=1, max_size=4))
def test_a_sweep_takes_as_long_as_its_single_steps(rows):
    batches, contexts = np.array(rows, dtype=np.float64).T
    for layout in (Layout(16), Layout(1, 1, 8, 8), Layout(2, 2, 4, 8), Layout(4, 3, 2, 1)):
        replica = Replica(DEEPSEEK, H100, layout)
        steps, prompts = replica.decode(batches, contexts).napkin_s, replica.prefill(batches, contexts).napkin_s
        room = replica.max_batch(contexts)
        for i, (batch, context) in enumerate(rows):
            assert steps[i] == pytest.approx(replica.decode(batch, context).napkin_s, rel=1e-12)
            assert prompts[i] == pytest.approx(replica.prefill(batch, context).napkin_s, rel=1e-12)
            assert room[i] == replica.max_batch(context)


@given(
    st.sampled_from([Layout(8), Layout(16), Layout(1, 1, 8, 8), Layout(2, 3, 4, 4), Layout(1, 4, 2, 2), Layout(4, 2)]),
    st.integers(1, 300),
    st.integers(1, 8192),
)
def test_no_layout_does_less_than_an_even_share_of_the_work(layout, batch, context):
    # Every FLOP is done by some GPU, every weight that the tokens need and every cached token is read by one; the time
    # is that of the GPU with most to do.
    replica = Replica(QWEN_MOE, H100, layout)
    for prediction in (replica.decode(batch, context), replica.prefill(batch, context)):
        found, work = terms(prediction), prediction.work
        assert found[Resource.TENSOR_BF16].amount * layout.gpus >= float(work.flop) * (1 - 1e-9)
        assert found[Resource.DRAM].amount * layout.gpus >= float(work.bytes) * (1 - 1e-9)
        assert float(prediction.bytes) >= float(work.bytes) * (1 - 1e-9)


@given(st.integers(1, 64), st.integers(1, 8192))
def test_more_sequences_or_tokens_never_take_less(batch, context):
    for more in ((2 * batch, context), (batch, 2 * context)):
        assert PAIR.decode(*more).napkin_s >= PAIR.decode(batch, context).napkin_s
        assert PAIR.max_batch(2 * context) <= PAIR.max_batch(context)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layout": Layout(65)}, "tp=65 cannot share the 64 heads of llama-3-70b"),
        ({"mfu": 0}, "mfu must be above 0 and at most 1, not 0"),
        ({"mfu": 1.01}, "mfu must be above 0 and at most 1, not 1.01"),
        ({"mbu": -0.7}, "mbu must be above 0 and at most 1, not -0.7"),
        ({"mbu": 70}, "mbu must be above 0 and at most 1, not 70"),
        ({"hbm_bytes": 0}, "hbm_bytes must be positive, not 0"),
        ({"hbm_bytes": float("nan")}, "hbm_bytes must be positive, not nan"),
        ({"overhead_bytes": -1}, "overhead_bytes must not be negative, not -1"),
    ],
)
def test_a_replica_that_cannot_be_is_refused_by_name(changes, message):
    with pytest.raises(BadQuantity, match=f"^{message}$"):
        replace(PAIR, **changes)


def test_overhead_that_leaves_no_memory_is_refused_by_name():
    with pytest.raises(BadQuantity, match=r"an overhead of .* GB leaves nothing of the"):
        _ = replace(PAIR, overhead_bytes=80e9).free_bytes


@pytest.mark.parametrize(
    ("ask", "name"),
    [
        (lambda: PAIR.decode(0, 100), "batch"),
        (lambda: PAIR.decode(1, -1), "context"),
        (lambda: PAIR.prefill(1, 0), "seq"),
        (lambda: PAIR.prefill(1, 1, cached=-1), "cached"),
        (lambda: PAIR.max_batch(0), "context"),
        (lambda: PAIR.resident_kv_bytes(0, 1), "batch"),
    ],
)
def test_a_bad_load_is_refused_under_the_name_that_the_caller_gave_it(ask, name):
    with pytest.raises(BadQuantity, match=f"^{name} "):
        ask()
