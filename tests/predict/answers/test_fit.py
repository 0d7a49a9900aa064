"""Does it fit, and the nearest question that does: each suggestion is asked, and fits."""

from dataclasses import replace

import pytest

from predict.answers.fit import nearest_fit, serving_fit, training_fit
from predict.answers.lines import Use
from predict.answers.question import Question
from predict.formulas.memory import WEIGHT_FORMATS
from predict.gpus import resolve
from predict.model.presets import find_model


def ask(model, gpu, **asked):
    asked.setdefault("overhead_bytes", 0.0)
    return Question(find_model(model), resolve(gpu), **asked)


def test_weights_and_the_cache_of_the_batch_against_the_memory_that_the_runtime_leaves():
    found = serving_fit(ask("llama-3-8b", "h100", batch=4, context=2048, overhead_bytes=2e9))
    # 8,030,261,248 parameters of 2 bytes; 2 x 32 layers x 8 KV heads x 128 x 2 bytes a token.
    assert found.parts == {"weights": 2 * 8_030_261_248, "KV cache": 4 * 2048 * 131_072}
    assert found.usable_bytes == 81559 * 2**20 - 2e9
    assert found.fits
    assert not serving_fit(ask("llama-3-70b", "h100")).fits  # 141 GB


def test_a_smaller_batch_comes_first_if_the_weights_leave_room():
    # 171.04 - 141.11 = 29.93 GB over 8192 x 327,680 B a request: 11.
    near = nearest_fit(ask("llama-3-70b", "h100", gpus=2, batch=64, context=8192), Use.SERVE)
    assert near.option == "--batch 11"
    assert near.fit.fits


def test_more_gpus_come_next_as_powers_of_two():
    # 141.1 GB of weights fit into 2 x 85.5 GB, and 8192 tokens of 327,680 B beside them.
    assert nearest_fit(ask("llama-3-70b", "h100", context=8192), Use.SERVE).option == "--gpus 2"
    # 810.7 GB of weights: 8 x 85.5 = 684 GB do not hold them, 16 do.
    assert nearest_fit(ask("llama-3.1-405b", "h100", gpus=4, context=1024), Use.SERVE).option == "--gpus 16"


def test_narrower_weights_come_where_the_link_is_not_known():
    lonely = ask("gemma-3-27b", "l4", context=1024)
    object.__setattr__(lonely, "gpu", _without_link(lonely.gpu))
    near = nearest_fit(lonely, Use.SERVE)
    # 27.0e9 parameters: 27 GB in 8 bits exceed 24.15 GB, 13.9 GB in 4.125 bits do not.
    assert near.option == "--weights int4"
    assert near.fit.parts["weights"] == pytest.approx(27_009_346_304 * 4.125 / 8, rel=1e-3)


def test_a_question_too_large_for_every_change_has_none():
    assert (
        nearest_fit(ask("llama-3.1-405b", "l4", weights=WEIGHT_FORMATS["fp32"], context=2048, batch=100_000), Use.SERVE)
        is None
    )


def _without_link(gpu):
    return replace(gpu, link_bytes_per_s=None)


def test_a_training_keeps_less_before_it_takes_more_gpus():
    # 16 x 8.03e9 B over 8 GPUs are 16.1 GB; the scores of a sequence of 8192 alone, over 32 layers of 32 heads, are
    # 4 x 8192^2 x 32 x 32 B = 275 GB op by op.
    asked = ask("llama-3-8b", "h100", gpus=8, batch=8, seq=8192)
    assert training_fit(asked).parts["weights, gradients and optimizer"] == pytest.approx(2 * 8_030_261_248)
    assert not training_fit(asked).fits
    near = nearest_fit(asked, Use.TRAIN)
    assert near.option.startswith("--recompute ")
    assert near.fit.fits
    # 1,129 GB of state do not fit into one GPU, whatever is recomputed.
    assert "--gpus" in nearest_fit(ask("llama-3-70b", "h100"), Use.TRAIN).option


def test_a_draft_that_does_not_fit_beside_its_target_is_left_out_first():
    # 16.06 GB and 16.38 GB of weights do not fit into 24.15 GB; the target alone does.
    asked = ask("llama-3-8b", "l4", context=2048, draft=find_model("qwen3-8b"))
    assert not serving_fit(asked).fits
    near = nearest_fit(asked, Use.SERVE)
    assert near.option == "no --draft"
    assert near.fit.parts["weights"] == 2 * 8_030_261_248
