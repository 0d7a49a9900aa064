"""A pass by kind of kernel."""

import pytest

from predict.model.kinds import KernelKind, passes_by_kind
from predict.model.passes import decode_step
from predict.model.presets import PRESETS, find_model


def test_a_mixture_has_a_router_experts_and_the_mlps_of_all_tokens():
    kinds = dict(passes_by_kind(decode_step(find_model("deepseek-v3"), 1, 128)))
    # 58 layers of 7168 with 256 experts of 2048, 8 of them and a shared one active; 3 layers with an MLP of 18432.
    assert kinds[KernelKind.ROUTER].flop == 2 * 58 * 7168 * 256
    assert kinds[KernelKind.EXPERTS].flop == 2 * 58 * 8 * 3 * 7168 * 2048
    assert kinds[KernelKind.MLP].flop == 2 * 3 * 7168 * (3 * 18432 + 58 * 2048)


@pytest.mark.parametrize("name", PRESETS)
def test_the_kinds_hold_every_part_once(name):
    work = decode_step(find_model(name), 3, 128)
    kinds = dict(passes_by_kind(work))
    assert sum(each.flop for each in kinds.values()) == work.flop
    assert sum(each.bytes for each in kinds.values()) == pytest.approx(work.bytes)
