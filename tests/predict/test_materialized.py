import pytest

from predict.errors import BadWorkload
from predict.gpus import GPUS
from predict.materialized import materialized_amounts
from predict.resources import Resource
from predict.roofline import predict
from predict.units import find_dtype
from predict.workloads import make_workload

BF16 = find_dtype("bf16")


def prompt(op, seq, **others):
    dims = {"batch": 2, "seq": seq, "heads": 4, "kv_heads": 2, "head_dim": 64, **others}
    return make_workload(op, dims, BF16)


def test_a_causal_prompt_by_hand():
    amounts = materialized_amounts(prompt("attention_prefill", 8))
    # 2 * 4 heads, 8 x 8 scores each, hidden ones too: 512 of them, 4 * 64 FLOP and 2 bytes each.
    assert amounts.flop_by_unit == {Resource.TENSOR_BF16: 512 * 256}
    # Q: 2*8*4*64, K and V half as much each, so 2 * 4096 numbers in; O: 4096 out. Scores pass four times either way.
    assert amounts.bytes_read == 2 * (2 * 4096 + 4 * 512)
    assert amounts.bytes_written == 2 * (4096 + 4 * 512)


def test_without_a_mask_a_pass_less():
    masked, full = (materialized_amounts(prompt(op, 8)) for op in ("attention_prefill", "attention_full"))
    assert full.flop == masked.flop
    assert masked.bytes - full.bytes == 2 * 512 * 2


def test_what_fusion_saves_grows_with_the_prompt_until_both_are_quadratic():
    roofs = GPUS["h200-sxm"].roofs
    saved = []
    for seq in (64, 256, 1024, 262144):
        workload = prompt("attention_prefill", seq, head_dim=128)
        stored_s, fused_s = (
            predict(each, roofs).napkin_s for each in (materialized_amounts(workload), workload.amounts)
        )
        saved.append(stored_s / fused_s)
    assert saved[:3] == sorted(saved[:3])
    # In the end 8 passes of 2 bytes at 4.8 TB/s, over half of 4*128 FLOP at 989.5e12: 3.33e-12 s / 2.587e-13 s = 12.9.
    assert saved[-1] == pytest.approx(12.9, rel=0.01)


def test_other_ops_are_refused():
    with pytest.raises(BadWorkload, match="matmul has no materialized form here; ops with one: attention_prefill"):
        materialized_amounts(make_workload("matmul", {"m": 1, "n": 1, "k": 1}, BF16))
