"""What one GPU holds while it trains."""

import pytest

from predict.errors import BadQuantity
from predict.formulas.memory import OPTIMIZERS, Recompute
from predict.model.activations import activation_bytes
from predict.model.kept import Kernels
from predict.model.presets import find_model
from predict.model.training_memory import TrainingLayout, training_memory
from predict.units import GIB

LLAMA = find_model("llama-3.1-8b")
PARAMS = 8_030_261_248
LAYER = 218_112_000  # 4096 * (4096 + 1024 + 1024 + 4096) + 3 * 4096 * 14,336 + 2 * 4096


def test_a_gpu_of_torchtitans_run_holds_about_the_48_gib_that_were_measured():
    # torchtitan (b5bcd76), benchmarks/llama3-8b_h200_202506_trainy-whitefiber.md: 47.96 GiB on each of 32 H200, FSDP,
    # two sequences of 8192 on each, compiled, selective recomputation by op.
    found = training_memory(LLAMA, TrainingLayout(32), 64, 8192, recompute=Recompute.OPS, kernels=Kernels.FUSED)
    tokens = 2 * 8192
    assert found.state_bytes == PARAMS * 16 / 32
    assert found.gathered_bytes == 2 * 2 * LAYER
    assert found.activation_bytes == 32 * tokens * (15.5 * 4096 + 4 * 32)
    assert found.recomputed_bytes == tokens * (34 * 4096 + 8 + 4 * 32 - 15.5 * 4096 - 4 * 32)
    assert found.logits_bytes == 6 * tokens * 128_256
    assert found.total_bytes / GIB == pytest.approx(47.96, rel=0.03)


def test_without_sharding_every_gpu_holds_the_whole_state():
    found = training_memory(LLAMA, TrainingLayout(8, zero_stage=0), 8, 128)
    assert found.state_bytes == 16 * PARAMS
    assert found.gathered_bytes == 0


@pytest.mark.parametrize(("stage", "per_param"), [(1, 4 + 12 / 4), (2, 2 + 14 / 4), (3, 16 / 4)])
def test_each_stage_of_zero_shards_more(stage, per_param):
    found = training_memory(LLAMA, TrainingLayout(4, zero_stage=stage), 4, 128, optimizer=OPTIMIZERS["adam"])
    assert found.state_bytes == pytest.approx(per_param * PARAMS)


def test_a_batch_that_does_not_divide_leaves_one_gpu_with_one_more():
    kept = [training_memory(LLAMA, TrainingLayout(4), batch, 128).activation_bytes for batch in (4, 5, 8)]
    assert kept[1] == kept[2] == 2 * kept[0]


def test_a_micro_batch_is_what_is_kept_at_once():
    whole = training_memory(LLAMA, TrainingLayout(2), 16, 128)
    parts = training_memory(LLAMA, TrainingLayout(2), 16, 128, micro_batch=2)
    assert whole.activation_bytes == 4 * parts.activation_bytes
    assert whole.logits_bytes == 4 * parts.logits_bytes


def test_tensor_parallelism_divides_state_activations_and_logits():
    alone, split = (training_memory(LLAMA, TrainingLayout(1, tp), 4, 128) for tp in (1, 8))
    assert alone.state_bytes == 8 * split.state_bytes
    assert alone.activation_bytes == pytest.approx(8 * split.activation_bytes)
    assert alone.logits_bytes == 8 * split.logits_bytes


def test_a_pipelines_first_stage_keeps_as_many_micro_batches_as_there_are_stages():
    # Four stages of 8 layers; 16 sequences one by one: four in flight keep what one keeps of all 32 layers. That is
    # more than a quarter and the logits: 49 * 4096 * 32 = 6.4 MB a token against 1.6 and 0.77.
    found = training_memory(LLAMA, TrainingLayout(1, 1, 4), 16, 128, recompute=Recompute.FLASH)
    assert found.activation_bytes == activation_bytes(LLAMA, 1, 128, recompute=Recompute.FLASH)
    assert found.logits_bytes == 0
    assert found.state_bytes == 16 * PARAMS / 4


def test_a_pipelines_last_stage_is_fuller_if_the_logits_outweigh_the_layers():
    # Full recomputation keeps 2 * 4096 * 32 = 0.26 MB a token, the logits 6 * 128,256 = 0.77.
    found = training_memory(LLAMA, TrainingLayout(1, 1, 4), 16, 128, recompute=Recompute.FULL)
    assert found.activation_bytes == 128 * 2 * 4096 * 32 / 4
    assert found.logits_bytes == 6 * 128 * 128_256


def test_an_unknown_stage_or_batch_is_refused():
    with pytest.raises(BadQuantity, match="zero must be 0, 1, 2 or 3, not 4"):
        TrainingLayout(zero_stage=4)
    with pytest.raises(BadQuantity, match="micro_batch"):
        training_memory(LLAMA, TrainingLayout(), 1, 8, micro_batch=0)
