"""Whether a process can go on after an error, on a CUDA that is made up. The real one is asked in test_gpu.py."""

from types import SimpleNamespace

import pytest
import torch

from bench.context import can_run_another

STICKY = RuntimeError("CUDA error: an illegal memory access was encountered")


@pytest.fixture
def cuda(monkeypatch):
    """Puts a card in torch's place whose calls raise, one after the other, what is given; then they work."""

    def make(*errors, stream="default"):
        left = list(errors)

        def call(*_, **__):
            if left:
                error = left.pop(0)
                if error is not None:
                    raise error
            return torch.zeros(1)

        card = SimpleNamespace(
            synchronize=call, empty_cache=call, current_stream=lambda: stream, default_stream=lambda: "default"
        )
        monkeypatch.setattr("bench.context.torch", SimpleNamespace(cuda=card, ones=call))
        return left

    return make


def test_a_context_that_works_is_kept(cuda):
    cuda()
    assert can_run_another("cuda")


def test_an_error_that_sticks_ends_the_process(cuda):
    cuda(*[STICKY] * 10)
    assert not can_run_another("cuda")


@pytest.mark.parametrize("before", [0, 1, 2])
def test_an_error_that_was_only_not_fetched_yet_ends_nothing(cuda, before):
    left = cuda(*[None] * before, RuntimeError("CUDA error: invalid argument"))
    assert can_run_another("cuda")
    assert left == []


def test_a_card_on_which_not_one_number_fits_is_given_a_new_process(cuda):
    full = torch.OutOfMemoryError("CUDA out of memory")
    cuda(None, None, full, None, None, full)  # both times at the allocation
    assert not can_run_another("cuda")


def test_a_stream_that_a_capture_left_behind_ends_the_process(cuda):
    cuda(stream="of a capture")
    assert not can_run_another("cuda")


def test_a_cpu_has_no_context_to_lose(cuda):
    left = cuda(STICKY)
    assert can_run_another("cpu")
    assert left == [STICKY]
