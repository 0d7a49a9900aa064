"""Expected times of a server, against the passes that they are made of."""

import numpy as np
import pytest

from predict.errors import MissingCeiling
from predict.expected.model_pass import expected_decode, expected_mixed_s, expected_prefill
from predict.expected.server import expected_full_load_s, expected_load
from predict.expected.whole_model import SUSTAINED, TOKEN_S
from predict.gpus import GPUS
from predict.model.kinds import KernelKind
from predict.model.passes import Logits
from predict.model.presets import find_model
from predict.model.replica import Replica
from predict.model.server import Request, Server
from predict.units import DTYPES, Formats

LLAMA_8B = find_model("llama-3-8b")
H100 = Replica(LLAMA_8B, GPUS["h100-sxm"])
ONE = np.array([1.0])


def test_one_request_takes_its_expected_prefill_and_decode_steps():
    found = expected_load(Server(H100, Request(LLAMA_8B, 1000, 102, 1000)), ONE)
    # Kernels run at a share of what they reach alone; the host works for the one request that gets a token.
    prefill_s = expected_prefill(H100, 1, 1000, Logits.LAST).time_s / SUSTAINED
    decode_s = expected_decode(H100, 1, 1050).time_s / SUSTAINED + TOKEN_S
    assert found.ttft_s[0] == pytest.approx(prefill_s)
    assert found.tpot_s[0] == pytest.approx(decode_s)
    assert found.requests_per_s[0] == pytest.approx(1 / (prefill_s + 101 * decode_s))


def test_a_server_at_full_load_reads_as_many_prompts_as_requests_end():
    # 50 running requests of 101 tokens: one ends, and one begins, in every second step.
    found = expected_full_load_s(H100, Request(LLAMA_8B, 1000, 101, 1000), 50)
    mixed_s = float(expected_mixed_s(H100, np.array([50.0]), 1050, np.array([0.5]), 1000)[0])
    assert found == pytest.approx(mixed_s / SUSTAINED + 50 * TOKEN_S)


def test_a_mixed_step_runs_its_matmuls_once_and_both_attentions():
    # 15 + 1000 tokens go through the layers, 15 through the vocabulary.
    together, decode = dict(expected_prefill(H100, 1, 1015).times), expected_decode(H100, 15, 1050).times
    together[KernelKind.VOCAB] = decode[KernelKind.VOCAB]
    together[KernelKind.SCORES] = decode[KernelKind.SCORES]
    together[KernelKind.SCORES] += expected_prefill(H100, 1, 2000).times[KernelKind.SCORES] / 2
    mixed_s = expected_mixed_s(H100, np.array([15.0, 0.0]), 1050, np.array([0.5, 1.0]), 2000)
    assert mixed_s[0] == pytest.approx(sum(together.values()))
    assert mixed_s[1] == pytest.approx(expected_prefill(H100, 1, 2000, Logits.LAST).time_s)


@pytest.mark.parametrize("batch", [1, 8, 64])
@pytest.mark.parametrize("chunk", [512, 8192])
def test_it_is_never_under_the_bound(batch, chunk):
    server = Server(H100, Request(LLAMA_8B, 2000, 300, chunk))
    bound, found = server.at(np.array([float(batch)])), expected_load(server, np.array([float(batch)]))
    assert found.ttft_s[0] > bound.ttft_s[0]
    assert found.tpot_s[0] > bound.tpot_s[0]
    assert found.requests_per_s[0] < bound.requests_per_s[0]


def test_what_is_not_calibrated_is_not_guessed():
    elsewhere = Replica(LLAMA_8B, GPUS["mi300x"])
    with pytest.raises(MissingCeiling, match="for mi300x"):
        expected_load(Server(elsewhere, Request(LLAMA_8B, 1000, 102, 1000)), ONE)


def test_weights_of_16_bits_are_not_timed_as_if_they_were_narrow():
    formats = Formats(16, 16, DTYPES["fp8"])
    with pytest.raises(MissingCeiling, match="no calibrated kernel multiplies weights of 16 bits in fp8"):
        expected_decode(Replica(LLAMA_8B, GPUS["h100-sxm"], formats=formats), 1, 1000)
    narrow = Replica(LLAMA_8B, GPUS["h100-sxm"], formats=Formats(8, 16, DTYPES["fp8"]))
    assert expected_decode(narrow, 1, 1000).time_s > narrow.decode(1, 1000).napkin_s
