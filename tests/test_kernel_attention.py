import functools

import pytest
import torch
from torch.nn.attention import SDPBackend

from kernels import eager_attention, reference
from kernels.catalog import list_implementations
from kernels.unsupported import Unsupported

pytest.importorskip("triton")
from kernels import attention, decode

DTYPES = ("fp32", "fp16", pytest.param("bf16", marks=pytest.mark.gpu))
TORCH = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
# batch, heads, kv_heads, seq or context, head_dim: one token, groups of 1 and 8, ragged blocks
SHAPES = ((2, 2, 2, 1, 64), (1, 8, 1, 37, 64), (1, 2, 2, 70, 128), (2, 2, 1, 33, 64))
SMALL = attention.PrefillConfig(16, 32, 4, 1)
EAGER_PREFILL, EAGER_DECODE = (
    [pytest.param(row, id=row.name) for row in list_implementations() if row.op == op and row.name != "triton"]
    for op in ("attention_prefill", "attention_decode")
)


pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:kernels.eager_attention")  # why an SDPA backend declines


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def make(batch, heads, kv_heads, length, head_dim, dtype, device):
    """q of all positions, k and v; strided as they come out of one projection."""
    qkv = torch.randn(batch, length, heads + 2 * kv_heads, head_dim, dtype=TORCH[dtype], device=device).transpose(1, 2)
    return qkv.split((heads, kv_heads, kv_heads), dim=1)


def check(actual, reference_op, tensors, dtype):
    truth = reference_op(*tensors)
    plain = (reference_op(*tensors, dtype).double() - truth).abs().max()
    allowed = 2 * plain + 4 * torch.finfo(TORCH[dtype]).eps * truth.abs().max()
    assert actual.dtype == tensors[0].dtype
    assert actual.shape == truth.shape
    assert (actual.double() - truth).abs().max() <= allowed


def run_or_skip(implementation, tensors):
    """A backend that PyTorch says it does not have here is a reason to skip, not to fall back."""
    try:
        return implementation.run(*tensors)
    except Unsupported as error:
        if implementation.name in ("naive", "sdpa_math"):
            raise
        pytest.skip(f"{implementation.name}: {error}")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_prefill(shape, dtype, device):
    tensors = make(*shape, dtype, device)
    out = attention.attention_prefill(*tensors, config=None if shape[3] > 64 else SMALL)
    check(out, reference.attention_prefill, tensors, dtype)
    assert out.transpose(1, 2).is_contiguous()  # laid out like q, so that tokens can be read as rows of hidden


@pytest.mark.parametrize("blocks", [(16, 16), (32, 16), (16, 32), (64, 16)])
def test_prefill_blocks_of_any_ratio(blocks, device):
    tensors = make(1, 2, 1, 75, 64, "fp32", device)
    out = attention.attention_prefill(*tensors, config=attention.PrefillConfig(*blocks, 4, 1))
    check(out, reference.attention_prefill, tensors, "fp32")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("implementation", EAGER_PREFILL)
def test_eager_prefill(implementation, dtype, device):
    for shape in SHAPES:
        tensors = make(*shape, dtype, device)
        check(run_or_skip(implementation, tensors), reference.attention_prefill, tensors, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_decode(shape, dtype, device):
    q, k, v = make(*shape, dtype, device)
    tensors = (q[:, :, -1], k, v)
    check(decode.attention_decode(*tensors), reference.attention_decode, tensors, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("implementation", EAGER_DECODE)
def test_eager_decode(implementation, dtype, device):
    for shape in SHAPES:
        q, k, v = make(*shape, dtype, device)
        tensors = (q[:, :, -1], k, v)
        check(run_or_skip(implementation, tensors), reference.attention_decode, tensors, dtype)


@pytest.mark.parametrize("splits", [1, 2, 3, 7, 256])
def test_decode_does_not_depend_on_the_number_of_splits(splits, device):
    q, k, v = make(1, 4, 1, 150, 64, "fp32", device)
    out = decode.attention_decode(q[:, :, 0], k, v, splits=splits, config=decode.DecodeConfig(16, 4, 1))
    torch.testing.assert_close(out, reference.attention_decode(q[:, :, 0], k, v).float(), rtol=1e-5, atol=1e-5)


def test_large_scores_do_not_overflow(device):
    q, k, v = (100 * x for x in make(1, 2, 1, 40, 64, "fp32", device))
    for out, truth in (
        (attention.attention_prefill(q, k, v, config=SMALL), reference.attention_prefill(q, k, v)),
        (decode.attention_decode(q[:, :, 0], k, v), reference.attention_decode(q[:, :, 0], k, v)),
    ):
        torch.testing.assert_close(out, truth.float(), rtol=1e-3, atol=1e-2)


def test_enough_splits_for_every_sm():
    sizes = decode.decode_sizes(torch.empty(1, 32, 128), *[torch.empty(1, 8, 4096, 128)] * 2)
    assert 8 * decode.choose_splits(sizes, sm_count=132, block_n=64) >= 132
    assert decode.choose_splits(sizes, sm_count=132, block_n=4096) == 1


@pytest.mark.parametrize(
    ("op", "rank"),
    [
        (attention.attention_prefill, 4),
        (decode.attention_decode, 3),
        (eager_attention.attention_prefill_naive, 4),
        (functools.partial(eager_attention.attention_decode_sdpa, backend=SDPBackend.MATH), 3),
    ],
)
def test_bad_inputs_are_refused(op, rank, device):
    def call(heads=4, kv_heads=2, length=8, v_length=8, dtype=torch.float32):
        q = torch.ones(1, heads, 8, 64, device=device)
        k, v = (torch.ones(1, kv_heads, n, 64, device=device, dtype=dtype) for n in (length, v_length))
        op(q if rank == 4 else q[:, :, 0], k, v)

    with pytest.raises(ValueError, match="multiple of kv_heads=3"):
        call(kv_heads=3)
    with pytest.raises(ValueError, match="v must have shape"):
        call(v_length=7)
    with pytest.raises(ValueError, match="share one dtype"):
        call(dtype=torch.float16)
    with pytest.raises(ValueError, match="must be at least 1"):
        call(length=0, v_length=0)
    with pytest.raises(ValueError, match="must have shape"):
        op(torch.ones(64, device=device), *[torch.ones(1, 2, 8, 64, device=device)] * 2)


@pytest.mark.parametrize(("op", "rank"), [(attention.attention_prefill, 4), (decode.attention_decode, 3)])
def test_unsupported_inputs_are_refused(op, rank, device):
    def call(x):
        op(x if rank == 4 else x[:, :, 0], x, x)

    with pytest.raises(ValueError, match="does not support head_dim=96; supported: 64, 128"):
        call(torch.ones(1, 1, 4, 96, device=device))
    with pytest.raises(ValueError, match="does not support fp64; supported: fp32, bf16, fp16"):
        call(torch.ones(1, 1, 4, 64, device=device, dtype=torch.float64))
    with pytest.raises(ValueError, match="stride 1, not 2"):
        call(torch.ones(1, 1, 4, 128, device=device)[..., ::2])


def test_decode_refuses_bad_splits_and_wide_groups(device):
    x = torch.ones(1, 1, 4, 64, device=device)
    with pytest.raises(ValueError, match="splits=0"):
        decode.attention_decode(x[:, :, 0], x, x, splits=0)
    with pytest.raises(ValueError, match="heads/kv_heads=65"):
        decode.attention_decode(torch.ones(1, 65, 64, device=device), x, x)


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what a CPU does")
def test_missing_backend_is_an_error_not_a_fallback():
    x = torch.ones(1, 1, 4, 64)
    with pytest.raises(Unsupported, match="SDPA's CUDNN_ATTENTION backend declines: No viable backend"):
        eager_attention.attention_prefill_sdpa(x, x, x, backend=SDPBackend.CUDNN_ATTENTION)
    with pytest.raises(ValueError, match="interpreter computes bf16"):
        attention.attention_prefill(x.bfloat16(), x.bfloat16(), x.bfloat16())
