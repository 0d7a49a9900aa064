"""Layouts: what their sizes mean, and which of them no engine would take."""

import pytest

from predict.errors import BadQuantity
from predict.model.layout import Layout, check_layout, count_experts
from predict.model.presets import find_model

LLAMA_70B, DEEPSEEK, QWEN_MOE = (find_model(name) for name in ("llama-3-70b", "deepseek-v3", "qwen3-235b-a22b"))


def test_the_gpus_are_tp_times_pp_times_dp_and_experts_need_no_more():
    layout = Layout(tp=2, pp=3, dp=4, ep=8)
    assert (layout.gpus, layout.stage_gpus) == (24, 8)
    assert layout.text == "tp 2, pp 3, dp 4, ep 8"
    assert Layout(8).text == "tp 8"
    assert Layout(dp=8, ep=8).text == "tp 1, dp 8, ep 8"


@pytest.mark.parametrize(
    ("shards", "copies"),
    [(8, 2), (64, 1), (16, 1), (1, 16)],  # 16 GPUs: 8 KV heads are held twice; one latent on every GPU
)
def test_a_cache_is_held_again_only_where_gpus_exceed_its_heads(shards, copies):
    assert Layout(16, dp=2).cache_copies(shards) == copies


@pytest.mark.parametrize(
    ("model", "layout"),
    [
        (LLAMA_70B, Layout(64)),
        (LLAMA_70B, Layout(8, 80, 4)),
        (DEEPSEEK, Layout(1, 1, 8, 8)),
        (QWEN_MOE, Layout(4, 2, 2, 8)),
    ],
)
def test_what_engines_run_is_taken(model, layout):
    check_layout(layout, model)


@pytest.mark.parametrize(
    ("model", "layout", "message"),
    [
        # 7 divides neither 128 experts nor 64 heads: what was asked for is named.
        (QWEN_MOE, Layout(7, ep=7), "ep=7 does not divide the 128 experts of qwen3-235b-a22b; nearest: ep=1"),
        (LLAMA_70B, Layout(128), "tp=128 cannot share the 64 heads of llama-3-70b; nearest: tp=64"),
        (LLAMA_70B, Layout(6), "tp=6 does not divide the 64 heads of llama-3-70b; nearest: tp=4 or 8"),
        (LLAMA_70B, Layout(1, 100), "pp=100 is over the 80 layers of llama-3-70b; nearest: pp=80"),
        (LLAMA_70B, Layout(8, ep=8), "ep=8: llama-3-70b has no experts; leave --ep out"),
        # 256 experts, 96 GPUs: of the divisors of both, 1 to 32, the nearest to 48 is 32.
        (DEEPSEEK, Layout(1, 1, 96, 48), "ep=48 does not divide the 256 experts of deepseek-v3; nearest: ep=32"),
    ],
)
def test_what_no_engine_runs_is_refused_with_the_nearest_that_works(model, layout, message):
    with pytest.raises(BadQuantity, match=f"^{message}$"):
        check_layout(layout, model)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"tp": 0}, "tp must be a positive whole number, not 0"),
        ({"dp": 1.5}, "dp must be a positive whole number, not 1.5"),
        ({"tp": 8, "ep": 3}, "ep=3 does not divide the 8 GPUs of a stage; nearest: 2 or 4"),
    ],
)
def test_sizes_that_make_no_layout_are_refused(sizes, message):
    with pytest.raises(BadQuantity, match=f"^{message}$"):
        Layout(**sizes)


def test_experts_are_counted():
    assert [count_experts(model) for model in (LLAMA_70B, DEEPSEEK, QWEN_MOE)] == [0, 256, 128]
