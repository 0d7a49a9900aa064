"""What an engine keeps besides weights and cache."""

import pytest

from predict.errors import BadQuantity
from predict.model.presets import find_model
from predict.model.working_set import engine_bytes, pass_bytes

H100_BYTES, L4_BYTES = 81559 * 2**20, 23034 * 2**20


def test_a_pass_of_llama_70b_keeps_the_mlp_that_is_at_work():
    # The stream and its norm, 8192 each; gate, up and product 28,672 each and the MLP's result: 2 bytes of 110,592.
    token = 2 * (2 * 8192 + 3 * 28_672 + 8192)
    model = find_model("llama-3.1-70b")
    assert pass_bytes(model, 1) == token
    assert pass_bytes(model, 8192) == 8192 * token
    assert pass_bytes(model, 1, 8) == 2 * 2 * 8192 + 2 * (3 * 28_672 + 8192) / 8


def test_a_mixture_keeps_what_its_active_experts_make():
    # Qwen3-30B-A3B: the router 128; 8 experts with gate, up and product of 768 and a result of 2048.
    experts = 128 + 8 * (3 * 768 + 2048)
    assert pass_bytes(find_model("qwen3-30b-a3b"), 1) == 2 * (2 * 2048 + experts)


def test_an_engine_keeps_the_runtime_and_a_pass_of_the_tokens_that_suit_the_card():
    model = find_model("llama-3-8b")
    token = 2 * (2 * 4096 + 3 * 14_336 + 4096)
    assert engine_bytes(model, H100_BYTES) == 3.5e9 + 8192 * token
    assert engine_bytes(model, L4_BYTES) == pytest.approx(0.1 * L4_BYTES + 2048 * token)


def test_tokens_must_be_a_whole_number():
    with pytest.raises(BadQuantity, match="tokens"):
        pass_bytes(find_model("llama-3-8b"), 0)
