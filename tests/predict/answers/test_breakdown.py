"""Where the time goes: the parts of a pass against their own FLOP and bytes, and against the pass."""

import pytest

from predict.answers.breakdown import breakdowns
from predict.answers.question import Question
from predict.formulas.memory import Recompute
from predict.gpus import resolve
from predict.model.kinds import KernelKind
from predict.model.presets import PRESETS, find_model

H100_FLOP_PER_S, H100_BYTES_PER_S = 989.4e12, 3.35e12


def ask(model="llama-3-8b", gpu="h100", **asked):
    return Question(find_model(model), resolve(gpu), **asked)


def shares(found, name):
    (breakdown,) = (each for each in found if each.name == name)
    return breakdown, {share.kind: share for share in breakdown.shares}


def test_each_kind_of_kernel_has_the_larger_of_its_own_flop_and_bytes():
    found = breakdowns(ask(batch=2, seq=2048, context=2048))
    _, prefill = shares(found, "prefill")
    # 2 FLOP a weight and token: 32 layers of three matrices of 4096 x 14336.
    mlp_flop = 2 * 2 * 2048 * 32 * 3 * 4096 * 14336
    assert prefill[KernelKind.MLP].bound_s == pytest.approx(mlp_flop / H100_FLOP_PER_S)
    assert prefill[KernelKind.MLP].bound_by == "tensor.bf16"
    # Two positions are projected: 2 bytes for each of 4096 x 128256 weights take longer than their FLOP.
    assert prefill[KernelKind.VOCAB].bound_s == pytest.approx(2 * 4096 * 128256 / H100_BYTES_PER_S)
    assert prefill[KernelKind.VOCAB].bound_by == "dram"
    _, decode = shares(found, "decode step")
    cache = 2 * 2049 * 131_072  # read 2048 tokens of two requests, and write one
    assert decode[KernelKind.SCORES].bound_s == pytest.approx(cache / H100_BYTES_PER_S)


def test_the_parts_can_take_longer_than_the_pass_but_not_less():
    for breakdown in breakdowns(ask("llama-3-70b", gpus=2, batch=8, seq=512, context=512)):
        assert sum(share.bound_s or 0 for share in breakdown.shares) >= breakdown.bound_s * (1 - 1e-9)
        assert sum(share.bound_share or 0 for share in breakdown.shares) == pytest.approx(1)


def test_stages_read_their_weights_for_each_part_of_the_batch_but_its_cache_once():
    # 8 requests go through 2 stages of 2 GPUs as 2 parts of 4. A token waits for both stages. Each stage reads half of
    # the weights and the cache of half of the layers of 4 requests: 2048 tokens read, 1 written, 131,072 bytes each.
    found, parts = shares(breakdowns(ask(gpus=4, tp=2, pp=2, batch=8, seq=2048, context=2048)), "decode step")
    cache = 4 * 2049 * 131_072
    assert parts[KernelKind.SCORES].bound_s == pytest.approx(cache / 2 / H100_BYTES_PER_S)
    mlp = 2 * 32 * 3 * 4096 * 14336
    assert parts[KernelKind.MLP].bound_s == pytest.approx(mlp / 2 / H100_BYTES_PER_S)
    # All is bound by memory, so that the parts add up to the step, and links work beside it.
    alone = sum(share.bound_s for kind, share in parts.items() if kind is not KernelKind.LINK)
    assert alone == pytest.approx(found.bound_s)


def test_expected_times_add_up_to_the_expected_pass():
    for name in ("prefill", "decode step", "training step"):
        breakdown, parts = shares(breakdowns(ask("llama-3-70b", gpus=2)), name)
        assert sum(share.expected_s for share in parts.values()) == pytest.approx(breakdown.expected_s)
        assert sum(share.expected_share for share in parts.values()) == pytest.approx(1)
        assert KernelKind.LINK in parts
    (_, decode), *_ = (shares(breakdowns(ask("llama-3-8b", "mi300x")), "decode step"),)
    assert all(share.expected_s is None for share in decode.values())


def test_a_training_step_counts_recomputed_flop_in_the_bound_but_not_at_an_mfu():
    plain, parts = shares(breakdowns(ask()), "training step")
    assert parts[KernelKind.MLP].bound_s == pytest.approx(3 * 2 * 2048 * 32 * 3 * 4096 * 14336 / H100_FLOP_PER_S)
    full, _ = shares(breakdowns(ask(recompute=Recompute.FULL)), "training step")
    assert full.bound_s > plain.bound_s
    at_mfu, _ = shares(breakdowns(ask(recompute=Recompute.FULL, mfu=0.5)), "training step")
    assert at_mfu.bound_s == pytest.approx(2 * plain.bound_s)


def test_the_bound_of_a_training_step_counts_neither_optimizer_nor_traffic():
    found, parts = shares(breakdowns(ask(gpus=8, batch=8)), "training step")
    for kind in (KernelKind.OPTIMIZER, KernelKind.LINK, KernelKind.ELEMENTWISE):
        assert (parts[kind].bound_s, parts[kind].bound_by) == (None, None)
        assert parts[kind].expected_s > 0
    assert found.expected_s > found.bound_s


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_has_its_parts_and_they_reach_the_bound(name):
    for breakdown in breakdowns(ask(name, "b200", gpus=4, batch=3, seq=256, context=256)):
        assert sum(share.bound_s or 0 for share in breakdown.shares) >= breakdown.bound_s * (1 - 1e-9)
