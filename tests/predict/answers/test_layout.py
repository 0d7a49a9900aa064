"""The page on several GPUs: which layout each number is for, what a GPU holds and sends, and what is refused."""

import pytest

from predict.answers.estimate import estimate
from predict.answers.lines import Use
from predict.answers.page import page
from predict.errors import BadQuantity
from predict.model.presets import find_model

DEEPSEEK_PARAMS = 671_026_404_352
EXPERT_PARAMS = 58 * 256 * 3 * 7168 * 2048
LATENT_BYTES = 61 * 576 * 2  # per token


def notes(*arguments, **asked):
    return "\n".join(estimate(*arguments, **asked).notes)


def test_one_gpu_has_no_layout():
    assert "layout" not in estimate("llama-3-8b", gpu="h100")


def test_deepseek_on_eight_gpus_copies_its_attention_where_that_is_faster_or_holds_more():
    found = estimate("deepseek-v3", gpu="b200", gpus=8, batch=1024, weights="fp8", compute="fp8", overhead=0)
    assert [found[key] for key in ("layout", "max_batch_layout")] == ["tp 1, dp 8, ep 8"] * 2
    # 183,359 MiB a GPU, less an eighth of the experts and all else, hold 8 times floor(.../ (2048 x 70,272)) requests;
    # a public server ran 1,024 on H200s with less memory.
    free = 183_359 * 2**20 - EXPERT_PARAMS / 8 - (DEEPSEEK_PARAMS - EXPERT_PARAMS)
    assert found["max_batch"] == 8 * (free // (2048 * LATENT_BYTES)) == 5192
    assert found["weight_bytes_per_gpu"] == EXPERT_PARAMS / 8 + DEEPSEEK_PARAMS - EXPERT_PARAMS
    assert found["kv_bytes_per_gpu"] == 128 * 2048 * LATENT_BYTES
    assert found["all_to_all_bytes_per_gpu"] > 0
    assert "all_reduce_bytes_per_gpu" not in found
    # Alone, a request is faster on all GPUs.
    alone = estimate("deepseek-v3", gpu="b200", gpus=8, weights="fp8", compute="fp8")
    assert alone["layout"] == "tp 8"


@pytest.mark.parametrize(
    ("gpu", "kv", "weights", "batch", "context"),
    [
        ("h200", "bf16", "fp8-block", 1024, 2048),
        ("b200", "bf16", "nvfp4", 3072, 2048),
        ("b200", "fp8", "nvfp4", 7168, 2066),
    ],
)
def test_what_public_servers_ran_fits(gpu, kv, weights, batch, context):
    # NVIDIA/TensorRT-LLM, "Best practice of DeepSeek-R1": concurrencies with attention data-parallel on 8 GPUs.
    found = estimate(
        "deepseek-r1", gpu=gpu, gpus=8, weights=weights, kv=kv, compute="fp8", batch=batch, context=context
    )
    assert found["max_batch"] >= batch


def test_a_dense_model_keeps_tensor_parallelism_and_copies_heads():
    found = estimate("llama-3-70b", gpu="gb200", gpus=16, context=1000)
    assert [found[key] for key in ("layout", "prefill_layout", "max_batch_layout")] == ["tp 16"] * 3
    assert found["kv_bytes_per_gpu"] == 1000 * 327_680 / 8
    # Two sums in each of 80 layers, 17/16 of 8192 x 2 bytes.
    assert found["all_reduce_bytes_per_gpu"] == 160 * 8192 * 2 * 17 / 16


def test_sixteen_h100_are_two_nodes():
    found = estimate("llama-3.1-405b", gpu="h100", gpus=16)
    said = "\n".join(found.notes)
    assert "16 h100-sxm are 2 nodes of 8: 50 GB/s a GPU between them (--link-between-nodes)" in said
    # Two sums in each of 126 layers; an eighth of 16384 x 2 bytes crosses.
    assert found["network_bytes_per_gpu"] == 252 * 16384 * 2 / 8
    assert "decode_step_expected_s" not in found
    assert "an all-reduce over nodes is not calibrated" in said
    faster = estimate("llama-3.1-405b", gpu="h100", gpus=16, link_between_nodes="800Gbit/s")
    assert "100 GB/s a GPU between them" in "\n".join(faster.notes)
    assert faster.question.assumptions()["link_between_nodes_bytes_per_s"] == 100e9
    assert "nodes" not in notes("llama-3.1-405b", gpu="h100", gpus=8)


def test_a_network_that_is_not_known_leaves_serving_out_and_says_why():
    found = estimate("llama-3-8b", gpu="l40s", gpus=16)
    assert "tpot_s" not in found
    assert "train_step_s" in found
    assert "the bandwidth between nodes of 8 is not known; give --link-between-nodes" in "\n".join(found.notes)
    assert "tpot_s" in estimate("llama-3-8b", gpu="l40s", gpus=16, link_between_nodes="25GB")


def test_the_number_of_gpus_follows_from_the_sizes_asked_for():
    found = estimate("llama-3-70b", gpu="h100", tp=2, dp=4)
    assert found.question.gpus == 8
    assert found["layout"] == "tp 2, dp 4"
    assert "4 independent replicas" in "\n".join(found.notes)
    assert "batch 1 leaves 3 of the 4 independent replicas idle" in "\n".join(found.notes)


def test_stages_say_what_they_do():
    said = notes("llama-3-70b", gpu="h100", tp=4, pp=3, batch=8)
    assert "a token goes through all stages, which work on up to 3 parts of the batch" in said
    assert "80 layers do not divide by 3 stages" in said


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"tp": 3, "gpus": 8}, "tp=3 does not divide gpus=8; nearest: tp=2 or 4"),
        ({"tp": 2, "pp": 2, "dp": 1, "gpus": 8}, "tp=2 x pp=2 x dp=1 is 4 GPUs, not 8; say --gpus 4 or leave one out"),
        ({"tp": 6}, "tp=6 does not divide the 64 heads of llama-3-70b; nearest: tp=4 or 8"),
        ({"ep": 8, "gpus": 8}, "ep=8: llama-3-70b has no experts; leave --ep out"),
        ({"pp": 100}, "pp=100 is over the 80 layers of llama-3-70b; nearest: pp=80"),
        ({"dp": 0}, "dp must be a positive whole number, not 0"),
        ({"link_between_nodes": 0}, "link-between-nodes must be positive, not 0"),
    ],
)
def test_a_layout_that_cannot_be_is_one_line(asked, message):
    with pytest.raises(BadQuantity, match=f"^{message}"):
        estimate("llama-3-70b", gpu="h100", **asked)


def test_a_draft_model_of_fewer_heads_runs_on_some_of_the_gpus():
    found = estimate("llama-3-70b", gpu="h100", gpus=8, draft="gpt-2-small", context=512)
    assert found["speculation_speedup"] > 1
    heads = find_model("gpt-2-small").heads
    assert f"the {heads} heads of gpt-2-small are split over 4 of 8 GPUs" in "\n".join(found.notes)


def test_batches_that_differ_in_their_layout_say_so():
    asked = {"gpu": "b200", "gpus": 8, "weights": "fp8", "compute": "fp8"}
    found = estimate("deepseek-v3", **asked)
    lines = page(found.question, found.answer, frozenset({Use.SERVE}), explain=False, width=120).splitlines()
    rows = lines[next(i for i, line in enumerate(lines) if "Decode over the batch" in line) :]
    assert rows[1].endswith("layout")
    assert rows[2].endswith("tp 8")  # one request
    assert rows[7].endswith("tp 1, dp 8, ep 8")  # 1,024
    dense = estimate("llama-3-70b", gpu="b200", gpus=8)
    assert "layout\n" not in page(dense.question, dense.answer, frozenset({Use.SERVE}), explain=False, width=120)
