"""Expected times of a server, against the passes that they are made of."""

import numpy as np
import pytest

from predict.errors import MissingCeiling
from predict.expected.model_pass import expected_decode, expected_mixed, expected_prefill
from predict.expected.server import expected_load
from predict.gpus import GPUS
from predict.model.kinds import KernelKind
from predict.model.passes import Logits
from predict.model.presets import find_model
from predict.model.replica import Replica
from predict.model.server import Request, Server

LLAMA_8B = find_model("llama-3-8b")
H100 = Replica(LLAMA_8B, GPUS["h100-sxm"])


def test_one_request_takes_its_expected_prefill_and_decode_steps():
    found = expected_load(Server(H100, Request(LLAMA_8B, 1000, 102, 1000)), 1)
    prefill, decode = expected_prefill(H100, 1, 1000, Logits.LAST), expected_decode(H100, 1, 1050)
    assert found.ttft_s[0] == pytest.approx(prefill.time_s)
    assert found.tpot_s[0] == pytest.approx(decode.time_s)
    assert found.requests_per_s[0] == pytest.approx(1 / (prefill.time_s + 101 * decode.time_s))


def test_a_mixed_step_runs_its_matmuls_once_and_both_attentions():
    mixed = expected_mixed(H100, 15, 1050, 0.5, 2000).times
    together = expected_prefill(H100, 1, 1015, Logits.LAST).times  # 15 + 1000 tokens
    assert mixed[KernelKind.MLP] == pytest.approx(together[KernelKind.MLP])
    scores = expected_decode(H100, 15, 1050).times[KernelKind.SCORES]
    scores += expected_prefill(H100, 1, 2000).times[KernelKind.SCORES] / 2
    assert mixed[KernelKind.SCORES] == pytest.approx(scores)


@pytest.mark.parametrize("batch", [1, 8, 64])
@pytest.mark.parametrize("chunk", [512, 8192])
def test_it_is_never_under_the_bound(batch, chunk):
    server = Server(H100, Request(LLAMA_8B, 2000, 300, chunk))
    bound, found = server.at(np.array([float(batch)])), expected_load(server, batch)
    assert found.ttft_s[0] > bound.ttft_s[0]
    assert found.tpot_s[0] > bound.tpot_s[0]
    assert found.requests_per_s[0] < bound.requests_per_s[0]


def test_what_is_not_calibrated_is_not_guessed():
    with pytest.raises(MissingCeiling, match="after a cached prefix is not calibrated"):
        expected_load(Server(H100, Request(LLAMA_8B, 1000, 102, 1000, 500)), 1)
    elsewhere = Replica(LLAMA_8B, GPUS["b200"])
    with pytest.raises(MissingCeiling, match="on b200"):
        expected_load(Server(elsewhere, Request(LLAMA_8B, 1000, 102, 1000)), 1)
