"""What an answer says of windows, index keys and states, worked out by hand."""

import pytest

from predict.answers.answer import answer
from predict.answers.question import Question
from predict.gpus import resolve
from predict.model.config.reader import from_config
from tests.predict.answers.arithmetic import evaluate
from tests.predict.model.config.test_compressed import DEEPSEEK_V4_FLASH
from tests.predict.model.config.test_gemma import GEMMA_3N_E4B, GEMMA_4_26B
from tests.predict.model.config.test_hybrid import QWEN3_5_27B, QWEN3_NEXT_80B
from tests.predict.model.config.test_mamba import MAMBA2_2_7B, NEMOTRON_3_NANO
from tests.predict.model.config.test_mamba_hybrids import FALCON_H1, JAMBA
from tests.predict.model.config.test_other_hybrids import KIMI, LFM2, MINIMAX
from tests.predict.model.config.test_sparse import DEEPSEEK_V32

EVERY = {
    "deepseek-v4": DEEPSEEK_V4_FLASH,
    "gemma-3n": GEMMA_3N_E4B,
    "gemma-4": GEMMA_4_26B,
    "qwen3.5": QWEN3_5_27B,
    "qwen3-next": QWEN3_NEXT_80B,
    "mamba-2": MAMBA2_2_7B,
    "nemotron-3": NEMOTRON_3_NANO,
    "falcon-h1": FALCON_H1,
    "jamba": JAMBA,
    "kimi-linear": KIMI,
    "lfm2": LFM2,
    "minimax": MINIMAX,
    "deepseek-v3.2": DEEPSEEK_V32,
}


def lines(config, **asked):
    question = Question(from_config(config, "it"), resolve("h200"), **asked)
    return {line.key: line for section in answer(question).sections for line in section.lines}


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("gpus", [1, 8])
def test_every_kind_of_layer_has_an_answer_whose_cache_is_what_its_arithmetic_gives(name, gpus):
    found = lines(EVERY[name], gpus=gpus, batch=3, seq=5000, context=5000)
    for key in ("kv_bytes", "state_bytes", "kv_bytes_per_token", "index_bytes_per_token"):
        if key in found and found[key].arithmetic:
            assert evaluate(found[key].arithmetic) == pytest.approx(found[key].value, rel=1e-9), key
    components = [line.value for key, line in found.items() if key.startswith("flop_")]
    assert sum(components) == pytest.approx(found["forward_flop"].value, rel=1e-12)


def test_full_windows_and_what_grows_beyond_them_are_told_apart():
    # Gemma 4: 25 windows of 1024 tokens x 8192 bytes; 5 full layers of 4096 bytes a token.
    found = lines(GEMMA_4_26B, batch=2, context=10_000)
    assert found["kv_bytes_per_token_beyond_windows"].value == 20_480
    assert found["window_bytes"].value == 209_715_200
    assert found["kv_bytes"].value == 2 * (209_715_200 + 10_000 * 20_480)
    assert found["kv_bytes"].arithmetic == "2 x (1,024 x 204,800 + 10,000 x 20,480)"
    assert "window_bytes" not in lines(QWEN3_5_27B)


def test_states_are_told_and_counted_in_the_largest_batch():
    # 141 GB less weights of 53.8 GB; a request of 8192 tokens: 65,536 bytes each, and 153,944,064 of states.
    found = lines(QWEN3_5_27B, batch=4, context=8192, overhead_bytes=0)
    assert found["state_bytes"].value == 4 * 153_944_064
    free = resolve("h200").memory.bytes - 2 * 26_895_998_464
    assert found["max_batch"].value == free // (8192 * 65_536 + 153_944_064)
    assert "state_bytes" not in lines(GEMMA_4_26B)


def test_index_keys_are_told_beside_the_latents():
    found = lines(DEEPSEEK_V32, gpus=16, batch=1, context=1000)
    assert found["kv_bytes_per_token"].value == 70_272
    assert found["index_bytes_per_token"].value == 61 * 128 * 2
    assert found["kv_bytes"].value == 1000 * (70_272 + 15_616)


def test_a_model_without_a_cache_says_so():
    found = lines(MAMBA2_2_7B, batch=4, context=8192)
    assert found["kv_bytes"].formula == "no layer caches tokens"
    assert (found["kv_bytes"].value, found["kv_bytes_per_token"].value) == (0, 0)
    assert {"kv_capacity_tokens", "max_context"} & found.keys() == set()
    question = Question(from_config(MAMBA2_2_7B, "it"), resolve("h200"))
    assert "no layer caches tokens: the context takes no memory, and every length fits" in answer(question).notes
