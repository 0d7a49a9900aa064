import pytest
import torch

from bench.cases import find_implementation, make_inputs, needed_bytes
from kernels import reference
from kernels.pytorch import experts
from kernels.unsupported import Unsupported
from predict.units import GIB, find_dtype
from predict.workloads import make_workload
from tests.kernels.pytorch.test_eager import is_right

SPREADS = ([0, 5, 0, 17, 3, 0], [20], [1] * 7, [0, 0, 9])


def inputs_of(lengths, n, k, dtype):
    torch.manual_seed(0)
    ends = torch.tensor([0, *torch.tensor(lengths).cumsum(0)], dtype=torch.int32)
    return torch.randn(sum(lengths), k).to(dtype), torch.randn(len(lengths), n, k).to(dtype), ends


@pytest.mark.parametrize(
    ("name", "dtype"), [("fp64", torch.float64), ("fp32", torch.float32), ("bf16", torch.bfloat16)]
)
@pytest.mark.parametrize("lengths", SPREADS, ids=str)
def test_every_row_meets_the_weight_of_its_expert(lengths, name, dtype):
    inputs = inputs_of(lengths, 24, 32, dtype)
    prepared = experts.prepare_loop(*inputs)
    assert is_right(experts.moe_experts, reference.moe_experts, inputs, name, prepared=prepared)
    if name != "fp64":
        assert is_right(experts.moe_experts_grouped, reference.moe_experts, inputs, name)


def test_experts_by_hand():
    # Row 0 meets the weight 2 of expert 0; rows 1 and 2 meet 3, of expert 2; expert 1 has none.
    x, weight = torch.tensor([[1.0], [10.0], [100.0]]), torch.tensor([[[2.0]], [[5.0]], [[3.0]]])
    offsets = torch.tensor([0, 1, 1, 3], dtype=torch.int32)
    assert reference.moe_experts(x, weight, offsets).tolist() == [[2.0], [30.0], [300.0]]
    assert experts.moe_experts(*experts.prepare_loop(x, weight, offsets)).tolist() == [[2.0], [30.0], [300.0]]


def test_rows_that_the_grouped_kernel_cannot_read_are_declined():
    with pytest.raises(Unsupported, match=r"does not support k=9; supported: rows of 16 bytes"):
        experts.moe_experts_grouped(*inputs_of([3, 2], 8, 9, torch.float32))


def test_inputs_hold_all_experts_and_the_offsets_of_the_op_s_rule():
    dims = {"tokens": 3, "experts": 8, "active": 2, "n": 4, "k": 10}  # 6 rows
    for op, ends in (("moe_experts", [0, 1, 2, 3, 4, 5, 6, 6, 6]), ("moe_experts_skewed", [0, 2, 3, 4, 5, 6, 6, 6, 6])):
        x, weight, offsets = make_inputs(make_workload(op, dims, find_dtype("bf16")), torch.device("cpu"), index=0)
        assert (x.shape, weight.shape, offsets.tolist()) == ((6, 10), (8, 4, 10), ends)


def test_needed_bytes_count_experts_without_rows():
    # 6 rows of 10 numbers, 8 weights of 4 x 10 and 6 rows of 4 in 2 bytes, 9 offsets; 24 results five times in 8 bytes;
    # 1 GiB of the reference.
    dims = {"tokens": 3, "experts": 8, "active": 2, "n": 4, "k": 10}
    workload = make_workload("moe_experts", dims, find_dtype("bf16"))
    base = 120 + 640 + 48 + 36 + 24 * 40 + GIB
    assert needed_bytes(workload, find_implementation(workload, "grouped_mm", "cuda")) == base
