"""The layouts that come into question for a number of GPUs, and the best of them."""

import pytest

from predict.errors import BadQuantity
from predict.gpus import GPUS
from predict.model.candidates import asked_layouts, fastest, roomiest, usual_layouts
from predict.model.layout import Layout, draft_layout
from predict.model.presets import find_model
from predict.model.replica import Replica
from predict.units import DTYPES, Formats

H100, GB200 = GPUS["h100-sxm"], GPUS["gb200"]
LLAMA_70B, LLAMA_405B = find_model("llama-3-70b"), find_model("llama-3.1-405b")
DEEPSEEK, QWEN_MOE = find_model("deepseek-v3"), find_model("qwen3-235b-a22b")


@pytest.mark.parametrize(
    ("model", "gpu", "gpus", "layouts"),
    [
        (LLAMA_70B, H100, 1, [Layout()]),
        (LLAMA_70B, H100, 8, [Layout(8)]),
        (LLAMA_405B, H100, 16, [Layout(16), Layout(8, 2)]),
        (LLAMA_405B, GB200, 16, [Layout(16)]),  # 72 GPUs are a node
        (DEEPSEEK, H100, 8, [Layout(8), Layout(1, 1, 8, 8), Layout(2, 1, 4, 8), Layout(4, 1, 2, 8)]),
        (QWEN_MOE, H100, 2, [Layout(2), Layout(1, 1, 2, 2)]),
        (
            DEEPSEEK,
            H100,
            16,
            [
                Layout(16),
                *(Layout(tp, 1, 16 // tp, 16) for tp in (1, 2, 4, 8)),
                Layout(8, 2),
                Layout(1, 2, 8, 8),
            ],
        ),
        # 72 = 8 x 9: 256 experts divide by 8, and 9 GPUs split each of them. 128 heads do not divide by 72.
        (DEEPSEEK, GB200, 72, [Layout(tp, 1, 72 // tp, 8) for tp in (1, 2, 4, 8)]),
        (LLAMA_70B, H100, 1024, []),  # 64 heads, and 128 nodes are more than 80 layers
        (LLAMA_70B, H100, 12, [Layout(12)]),  # one and a half nodes
    ],
)
def test_engines_split_heads_copy_attention_or_give_each_node_a_stage(model, gpu, gpus, layouts):
    assert list(usual_layouts(model, gpu, gpus)) == layouts


@pytest.mark.parametrize(
    ("model", "gpus", "asked", "layouts"),
    [
        (LLAMA_70B, 8, {"tp": 8}, [Layout(8)]),
        (LLAMA_70B, 8, {"tp": 2}, [Layout(2, dp=4)]),
        (LLAMA_70B, 8, {"dp": 8}, [Layout(dp=8)]),
        (LLAMA_70B, 8, {"pp": 2}, [Layout(4, 2)]),
        (LLAMA_70B, 8, {"tp": 2, "dp": 2}, [Layout(2, 2, 2)]),
        (DEEPSEEK, 8, {"dp": 8}, [Layout(1, 1, 8, 8)]),
        (DEEPSEEK, 8, {"ep": 8}, [Layout(tp, 1, 8 // tp, 8) for tp in (1, 2, 4)]),
        (DEEPSEEK, 8, {"dp": 8, "ep": 1}, [Layout(dp=8)]),
        (DEEPSEEK, 8, {"dp": 2}, [Layout(4, 1, 2, 8)]),
        (DEEPSEEK, 8, {"tp": 8, "ep": 8}, [Layout(8, ep=8)]),
        (LLAMA_405B, 16, {"pp": 1}, [Layout(16)]),
    ],
)
def test_what_is_left_out_is_worked_out(model, gpus, asked, layouts):
    assert list(asked_layouts(model, H100, gpus, asked)) == layouts


@pytest.mark.parametrize(
    ("model", "gpus", "asked", "message"),
    [
        (
            LLAMA_70B,
            8,
            {"tp": 2, "pp": 1, "dp": 2},
            "tp=2 x pp=1 x dp=2 is 4 GPUs, not 8; say --gpus 4 or leave one out",
        ),
        (LLAMA_70B, 8, {"tp": 3}, "tp=3 does not divide gpus=8; nearest: tp=2 or 4"),
        (LLAMA_70B, 8, {"tp": 2, "pp": 3}, "tp=2 x pp=3 does not divide gpus=8; nearest: pp=2 or 4"),
        # 3 does not divide 16, whatever tp is; without pp=3, tp=8 would.
        (LLAMA_70B, 16, {"tp": 8, "pp": 3}, "tp=8 x pp=3 does not divide gpus=16; nearest: pp=2"),
        (LLAMA_70B, 16, {"tp": 3, "pp": 5}, "tp=3 x pp=5 is 15 GPUs, which does not divide gpus=16; say --gpus 15"),
        (LLAMA_70B, 128, {"tp": 128}, "tp=128 cannot share the 64 heads of llama-3-70b; nearest: tp=64"),
        (LLAMA_70B, 6, {"tp": 6}, "tp=6 does not divide the 64 heads of llama-3-70b; nearest: tp=4 or 8"),
        (LLAMA_70B, 8, {"tp": 8, "ep": 8}, "ep=8: llama-3-70b has no experts; leave --ep out"),
        (QWEN_MOE, 3, {"ep": 3}, "ep=3 does not divide the 128 experts of qwen3-235b-a22b; nearest: ep=1"),
        (DEEPSEEK, 8, {"tp": 8, "ep": 6}, "ep=6 does not divide the 8 GPUs of a stage; nearest: 4 or 8"),
    ],
)
def test_contradictions_are_refused_with_the_nearest_that_works(model, gpus, asked, message):
    with pytest.raises(BadQuantity, match=f"^{message}"):
        asked_layouts(model, H100, gpus, asked)


@pytest.mark.parametrize(
    ("target", "layout"),
    [(Layout(8), Layout(4)), (Layout(2), Layout(2)), (Layout(8, 2, 2), Layout(4, 1, 2)), (Layout(5), Layout(1))],
)
def test_a_draft_model_takes_as_many_gpus_as_divide_its_heads(target, layout):
    assert draft_layout(target, find_model("gpt-2-small")) == layout  # 12 heads


def test_the_fastest_replica_is_the_first_of_equals_and_one_that_holds_the_batch():
    fp8 = Formats(8, 16, DTYPES["fp8"])
    split, copied = (Replica(DEEPSEEK, GPUS["b200"], layout, fp8) for layout in (Layout(8), Layout(1, 1, 8, 8)))
    both = (split, copied)
    assert fastest(both, 1, 2048, lambda replica: replica.decode(1, 2048).napkin_s) is split
    assert fastest(both, 1024, 2048, lambda replica: replica.decode(1024, 2048).napkin_s) is copied
    assert fastest(both, 1, 2048, lambda _: 1.0) is split
    # Neither the fewest nor the least: only the copies hold 4000 requests, only they count.
    assert fastest(both, 4000, 2048, lambda replica: replica.layout.dp) is copied
    assert roomiest(both, 2048) is copied
