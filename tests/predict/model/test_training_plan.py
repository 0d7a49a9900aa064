"""How a training step is spread: what divides, what fits, and what is asked."""

from dataclasses import replace

import pytest

from predict.formulas.memory import OPTIMIZERS, Recompute
from predict.gpus import resolve
from predict.model.kept import Kernels
from predict.model.passes import Mask
from predict.model.presets import find_model
from predict.model.training_memory import TrainingLayout, training_memory
from predict.model.training_plan import Training, plans
from predict.units import DTYPES

LLAMA_8B = Training(
    model=find_model("llama-3-8b"),
    gpu=resolve("h100"),
    gpus=16,
    batch=64,
    seq=2048,
    compute=DTYPES["bf16"],
    mask=Mask.CAUSAL,
    recompute=Recompute.NONE,
    kernels=Kernels.FUSED,
    optimizer=OPTIMIZERS["adam"],
    zero=3,
    usable_bytes=80e9,
    network_bytes_per_s=50e9,
)


def sharded(found):
    """The plan without a copy of the model on several GPUs."""
    return next(plan for plan in found if plan.models == 1 and plan.layout.zero_stage == 3)


def test_a_gpu_trains_as_many_sequences_at_once_as_fit():
    plan = sharded(plans(LLAMA_8B))
    assert plan.layout == TrainingLayout(16, 1, 1, 3)
    assert plan.micro_batch * plan.micro_steps == 4  # 64 sequences over 16 GPUs

    def held_bytes(size):
        asked = {"micro_batch": size, "recompute": Recompute.FLASH, "kernels": Kernels.FUSED}
        return training_memory(LLAMA_8B.model, plan.layout, 64, 2048, **asked).total_bytes

    assert plan.held_bytes == held_bytes(plan.micro_batch) <= 80e9
    tight = replace(LLAMA_8B, usable_bytes=float(held_bytes(2)))
    assert sharded(plans(tight)).micro_batch == 2


def test_every_plan_divides_gpus_heads_and_sequences():
    for plan in plans(LLAMA_8B):
        layout = plan.layout
        assert layout.data_parallel * layout.model_parallel == 16
        assert 32 % layout.tensor_parallel == 0
        assert layout.tensor_parallel <= 8  # GPUs of a node
        assert plan.micro_batch * plan.micro_steps * layout.data_parallel == 64 * plan.parts
        assert plan.held_bytes <= 80e9


def test_a_pipeline_keeps_its_weights_whole_and_takes_one_sequence_at_a_time():
    staged = [plan for plan in plans(LLAMA_8B) if plan.layout.pipeline_parallel > 1]
    assert staged
    assert all((plan.micro_batch, plan.layout.zero_stage) == (1, 1) for plan in staged)


def test_more_gpus_than_sequences_cut_them():
    found = plans(replace(LLAMA_8B, batch=8))
    assert all(plan.layout.data_parallel // plan.parts <= 8 for plan in found)
    assert any(plan.parts == 2 and plan.layout.model_parallel == 1 for plan in found)
    assert all(plan.parts == 1 or plan.layout.pipeline_parallel > 1 for plan in plans(LLAMA_8B))


def test_what_is_asked_is_kept():
    (plan,) = plans(replace(LLAMA_8B, tensor_parallel=2, pipeline_parallel=1, micro_batch=1, zero=1))
    assert (plan.layout, plan.micro_batch, plan.micro_steps) == (TrainingLayout(8, 2, 1, 1), 1, 8)
    assert plan.text == "dp 8, tp 2, ZeRO-1, 8 micro-batches of 1"


def test_without_room_the_plan_of_least_memory_answers():
    (plan,) = plans(replace(LLAMA_8B, usable_bytes=1e9))
    assert plan.held_bytes > 1e9
    (alone,) = plans(replace(LLAMA_8B, gpus=1, batch=2))
    assert alone.layout == TrainingLayout(1, 1, 1, 3)
    assert (alone.micro_batch, alone.text) == (1, "2 micro-batches of 1")


@pytest.mark.parametrize("gpus", [7, 640])
def test_gpus_that_nothing_divides_still_have_a_plan(gpus):
    assert plans(replace(LLAMA_8B, gpus=gpus, batch=5))
