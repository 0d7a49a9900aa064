"""The layout that a sweep takes for each GPU."""

import pytest

from predict.errors import BadQuantity, MissingCeiling
from predict.gpus import GPUS
from predict.model.layout import Layout
from predict.model.passes import Logits
from predict.model.presets import find_model
from predict.model.replica import Replica
from reports.sweep.grid import setting, sweep
from reports.sweep.layouts import laid_out

LLAMA, DEEPSEEK = Replica(find_model("llama-3-70b"), GPUS["h100-sxm"]), Replica(find_model("deepseek-v3"), GPUS["b200"])


def test_a_dense_model_is_split_over_all_gpus():
    assert laid_out(LLAMA, 8, {}, [1, 64], [1024]).layout == Layout(8)
    assert laid_out(LLAMA, 8, {"dp": 2}, [1, 64], [1024]).layout == Layout(4, dp=2)


def test_the_layout_is_the_one_with_the_most_tokens_per_second():
    # One request: all GPUs read its weights. 2048 requests: only copies of the attention hold their latents once.
    assert laid_out(DEEPSEEK, 8, {}, [1], [2048]).layout == Layout(8)
    many = laid_out(DEEPSEEK, 8, {}, [1, 2048], [1024, 2048, 4096])
    assert many.layout == Layout(1, 1, 8, 8)
    assert setting(sweep([many], [1, 2048], [1024])).startswith("deepseek-v3 on 8 GPUs (tp 1, dp 8, ep 8);")


@pytest.mark.parametrize("batch", [2, 3, 8, 100, 1024])
def test_a_sweep_of_copies_is_what_each_of_its_points_says(batch):
    replica = laid_out(DEEPSEEK, 8, {"dp": 8}, [batch], [2048])
    row = sweep([replica], [1, batch, 4096], [2048]).set_index("batch").loc[batch]
    assert row["decode_step_s"] == pytest.approx(replica.decode(batch, 2048).napkin_s, rel=1e-12)
    assert row["prefill_s"] == pytest.approx(replica.prefill(batch, 2048, logits=Logits.LAST).napkin_s, rel=1e-12)
    assert row["max_batch"] == replica.max_batch(2048)


def test_what_cannot_be_laid_out_is_told():
    with pytest.raises(BadQuantity, match="tp=6 does not divide the 64 heads"):
        laid_out(LLAMA, 6, {"tp": 6}, [1], [1024])
    cards = Replica(find_model("llama-3-70b"), GPUS["l40s"])
    with pytest.raises(MissingCeiling, match="the bandwidth between nodes of 8 is not known"):
        laid_out(cards, 16, {}, [1], [1024])
    with pytest.raises(MissingCeiling, match="1024 GPUs cannot share the 64 heads of llama-3-70b"):
        laid_out(LLAMA, 1024, {}, [1], [1024])
