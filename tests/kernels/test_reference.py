import math

import pytest
import torch

from kernels import reference
from kernels.constants import FILL_VALUE, TRIAD_SCALE
from kernels.precision import round_to_tf32

PRECISIONS = ("fp64", "fp32", "tf32", "bf16", "fp16")


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def test_matmul_by_hand():
    a = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    b = torch.tensor([[5.0, 6.0], [7.0, 8.0]])
    expected = torch.tensor([[19.0, 22.0], [43.0, 50.0]])
    for precision in PRECISIONS:
        assert torch.equal(reference.matmul(a, b, precision).float(), expected)
    assert reference.matmul(a, b).dtype == torch.float64


def test_attention_of_one_token_is_its_value():
    q, k, v = (torch.randn(2, 4, 1, 8) for _ in range(3))
    assert torch.equal(reference.attention_prefill(q, k, v), v.double())
    assert torch.equal(reference.attention_decode(q[:, :, 0], k, v), v[:, :, 0].double())


def test_equal_scores_average_the_values_seen_so_far():
    v = torch.tensor([2.0, 4.0, 9.0, 1.0]).view(1, 1, 4, 1)
    q, k = torch.zeros_like(v), torch.randn_like(v)
    assert reference.attention_prefill(q, k, v).flatten().tolist() == pytest.approx([2, 3, 5, 4])
    assert reference.attention_decode(q[:, :, 0], k, v).flatten().tolist() == pytest.approx([4])


def test_attention_by_hand():
    # Scores q.k/sqrt(4) are ln 3 and 0, so the weights are 3/4 and 1/4.
    q = torch.tensor([2 * math.log(3), 0, 0, 0], dtype=torch.float64).view(1, 1, 4)
    k = torch.tensor([[1, 0, 0, 0], [0, 5, 0, 0]], dtype=torch.float64).view(1, 1, 2, 4)
    v = torch.tensor([[4, 8, 0, 0], [0, 4, 4, 0]], dtype=torch.float64).view(1, 1, 2, 4)
    assert reference.attention_decode(q, k, v).flatten().tolist() == pytest.approx([3, 7, 1, 0])


def test_heads_of_a_group_share_keys_and_values():
    q = torch.randn(1, 4, 5, 8)
    k, v = torch.randn(1, 2, 5, 8), torch.randn(1, 2, 5, 8)
    repeated = [x.repeat_interleave(2, dim=1) for x in (k, v)]
    assert torch.equal(reference.attention_prefill(q, k, v), reference.attention_prefill(q, *repeated))
    assert torch.allclose(
        reference.attention_decode(q[:, :, 0], k, v), reference.attention_decode(q[:, :, 0], *repeated)
    )


def test_generating_with_and_without_a_cache_is_the_same_token():
    batch, context, heads, kv_heads, head_dim = 2, 5, 4, 2, 8
    x = torch.randn(batch, context, heads * head_dim)
    w_qkv = torch.randn((heads + 2 * kv_heads) * head_dim, heads * head_dim)
    uncached = reference.generate_uncached(x, w_qkv, kv_heads=kv_heads, head_dim=head_dim)
    projected = (x.double() @ w_qkv.double().T).view(batch, context, -1, head_dim).transpose(1, 2)
    k_cache, v_cache = projected[:, 4:6].clone(), projected[:, 6:].clone()
    k_cache[:, :, -1] = v_cache[:, :, -1] = math.nan  # never read
    cached = reference.generate_cached(x[:, -1].double(), w_qkv.double(), k_cache, v_cache)
    torch.testing.assert_close(cached, uncached[:, -1])
    assert k_cache[:, :, -1].isnan().all()


def test_streams_by_hand():
    a, b = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([10.0, 20.0, 30.0, 40.0])
    for precision in PRECISIONS:
        assert reference.stream_read(a, precision).item() == 10
        assert reference.stream_read_dot(a, precision).item() == 1 * 3 + 2 * 4
        assert reference.stream_write(a, precision).tolist() == [FILL_VALUE] * 4
        assert reference.stream_copy(a, b, precision).tolist() == a.tolist()
        assert reference.stream_triad(a, b, b, precision).tolist() == [31.0, 62.0, 93.0, 124.0]
        assert reference.launch(torch.ones(1), precision).tolist() == [FILL_VALUE]
    assert TRIAD_SCALE == 3


def test_blocks_do_not_change_the_truth(monkeypatch):
    a, b = torch.randn(7, 9), torch.randn(9, 5)
    q, k = torch.randn(1, 2, 7, 8), torch.randn(1, 1, 7, 8)
    x = torch.randn(100)
    whole = (
        reference.matmul(a, b),
        reference.attention_prefill(q, k, k),
        reference.stream_triad(x, x, x),
        reference.stream_read_dot(x),
    )
    monkeypatch.setattr(reference, "_BLOCK_BYTES", 8 * 20)
    blocked = (
        reference.matmul(a, b),
        reference.attention_prefill(q, k, k),
        reference.stream_triad(x, x, x),
        reference.stream_read_dot(x),
    )
    for one, other in zip(whole, blocked, strict=True):
        torch.testing.assert_close(one, other)


def test_lower_precisions_are_further_from_the_truth():
    q, k, v = (torch.randn(1, 2, 64, 32, dtype=torch.float64) for _ in range(3))
    truth = reference.attention_prefill(q, k, v)
    errors = {
        precision: (reference.attention_prefill(q, k, v, precision).double() - truth).abs().max().item()
        for precision in PRECISIONS
    }
    assert errors["fp64"] == 0
    assert errors["fp32"] < 1e-5 < errors["tf32"] < 5e-3
    assert errors["fp16"] < 1e-2 < 10 * errors["bf16"]


def test_tf32_keeps_ten_bits_and_rounds_to_even():
    ulp = 2.0**-10
    x = torch.tensor([1.0, 1 + ulp, 1 + ulp / 2, 1 + 1.5 * ulp, 1 + 0.51 * ulp, -(1 + 0.51 * ulp), 0.0])
    assert round_to_tf32(x).tolist() == [1.0, 1 + ulp, 1.0, 1 + 2 * ulp, 1 + ulp, -(1 + ulp), 0.0]


def test_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="unknown precision 'fp4'"):
        reference.matmul(torch.ones(1, 1), torch.ones(1, 1), "fp4")


def test_scaled_products_by_hand():
    """(1*3 + 2*4) * 0.5 * 2 = 11, (1*-1 + 2*5) * 0.5 * 10 = 45: both are numbers that bf16 has."""
    a = torch.tensor([[1, 2]], dtype=torch.int8)
    b = torch.tensor([[3, -1], [4, 5]], dtype=torch.int8)
    scales = torch.tensor([0.5]), torch.tensor([2.0, 10.0])
    for precision, dtype in (("fp64", torch.float64), ("int8", torch.bfloat16)):
        out = reference.matmul_scaled(a, b, *scales, precision=precision)
        assert out.tolist() == [[11.0, 45.0]]
        assert out.dtype == dtype
    fp8 = (each.to(torch.float8_e4m3fn) for each in (a.float(), b.float()))
    assert reference.matmul_scaled(*fp8, *scales).tolist() == [[11.0, 45.0]]


def test_weights_of_8_bits_by_hand():
    x = torch.tensor([[1.0, 2.0]])
    weight, scale = torch.tensor([[3, 4], [-128, 127]], dtype=torch.int8), torch.tensor([0.5, 2.0])
    assert reference.matmul_w8a16(x, weight, scale).tolist() == [[5.5, 252.0]]  # 1.5 + 4, -256 + 508


@pytest.mark.parametrize(
    ("k", "word", "shift"), [(0, 0, 0), (1, 1, 0), (16, 0, 4), (127, 15, 28), (128 + 35, 16 + 3, 8)]
)
def test_where_a_weight_of_4_bits_lies(k, word, shift):
    """Weight 16i + j of a group is bits 4i.. of word j; a nibble of 8 is 0, of 15 is 7, of 0 is -8."""
    packed = torch.full((1, 32), int("0x88888888", 16) - 2**32, dtype=torch.int32)
    assert not reference.unpack_int4(packed).any()
    packed[0, word] ^= torch.tensor((0xF << shift) - 2**32 if shift == 28 else 0xF << shift, dtype=torch.int32)
    expected = torch.zeros(1, 256, dtype=torch.int8)
    expected[0, k] = -1  # 8 with all bits turned over is 7
    assert torch.equal(reference.unpack_int4(packed), expected)


def test_weights_of_4_bits_are_scaled_by_their_group():
    """All nibbles 9 are ones: 128 of them times 0.5, and 128 times 2."""
    packed = torch.full((1, 32), int("0x99999999", 16) - 2**32, dtype=torch.int32)
    scales = torch.tensor([[0.5, 2.0]])
    assert reference.matmul_w4a16(torch.ones(1, 256), packed, scales).item() == 128 * 0.5 + 128 * 2


def test_row_wise_ops_by_hand():
    x = torch.tensor([[3.0, 4.0]])
    root = math.sqrt(12.5 + 1e-6)  # of (9 + 16) / 2
    assert reference.rmsnorm(x, torch.tensor([1.0, 10.0])).tolist() == [
        [pytest.approx(3 / root), pytest.approx(40 / root)]
    ]
    normed, total = reference.add_rmsnorm(torch.tensor([[1.0, 1.0]]), torch.tensor([[2.0, 3.0]]), torch.ones(2))
    assert total.tolist() == [[3.0, 4.0]]
    assert normed.tolist() == [[pytest.approx(3 / root), pytest.approx(4 / root)]]
    # The mean of 3 and 5 is 4, their variance 1.
    one = math.sqrt(1 + 1e-5)
    weight, bias = torch.tensor([2.0, 3.0]), torch.tensor([7.0, 8.0])
    standard = [[pytest.approx(-2 / one + 7), pytest.approx(3 / one + 8)]]
    assert reference.layernorm(torch.tensor([[3.0, 5.0]]), weight, bias).tolist() == standard
    normed, total = reference.add_layernorm(torch.tensor([[1.0, 1.0]]), torch.tensor([[2.0, 4.0]]), weight, bias)
    assert total.tolist() == [[3.0, 5.0]]
    assert normed.tolist() == standard
    assert reference.softmax(torch.tensor([[0.0, math.log(3.0)]])).tolist() == [
        [pytest.approx(0.25), pytest.approx(0.75)]
    ]
    gate, up = torch.tensor([[math.log(3.0)]]), torch.tensor([[8.0]])
    assert reference.swiglu(gate, up).item() == pytest.approx(math.log(3.0) * 0.75 * 8)  # 1 / (1 + 1/3)
    # tanh(0.797885 * (1 + 0.044715)) = tanh(0.833562) = 0.682384
    assert reference.gelu(torch.tensor([[0.0, 1.0, 20.0]])).tolist() == [[0, pytest.approx(0.841192, abs=1e-6), 20]]
    turned = reference.rope(torch.tensor([[[1.0, 2.0]]]), torch.tensor([[0.0]]), torch.tensor([[1.0]]))  # by 90 degrees
    assert turned.tolist() == [[[-2.0, 1.0]]]


def test_softmax_of_large_numbers_does_not_overflow():
    assert reference.softmax(torch.tensor([[1e4, 1e4]])).tolist() == [[0.5, 0.5]]
