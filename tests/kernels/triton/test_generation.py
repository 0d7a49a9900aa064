import pytest
import torch

from kernels import reference
from kernels.pytorch import eager

pytest.importorskip("triton")
from kernels.triton import generation

DTYPES = ("fp32", "fp16", pytest.param("bf16", marks=pytest.mark.gpu))
TORCH = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
SHAPES = ((1, 1, 1, 1, 64), (2, 21, 2, 2, 64), (2, 37, 8, 1, 64), (1, 19, 2, 1, 128))


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def make(batch, context, heads, kv_heads, head_dim, dtype, device):
    hidden = heads * head_dim
    options = {"dtype": TORCH[dtype], "device": device}
    x = torch.randn(batch, context, hidden, **options)
    w_qkv = torch.randn((heads + 2 * kv_heads) * head_dim, hidden, **options) / hidden**0.5
    caches = [torch.randn(batch, kv_heads, context, head_dim, **options) for _ in range(2)]
    return x, w_qkv, *caches


def check(actual, truth, plain, dtype):
    allowed = 3 * (plain.double() - truth).abs().max() + 4 * torch.finfo(TORCH[dtype]).eps * truth.abs().max()
    assert actual.dtype == TORCH[dtype]
    assert actual.shape == truth.shape
    assert (actual.double() - truth).abs().max() <= allowed


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("module", [generation, eager])
def test_generate_cached(module, shape, dtype, device):
    x, w_qkv, k_cache, v_cache = make(*shape, dtype, device)
    x = x[:, -1]
    truth, plain = (reference.generate_cached(x, w_qkv, k_cache, v_cache, p) for p in ("fp64", dtype))
    before = [cache.clone() for cache in (k_cache, v_cache)]
    check(module.generate_cached(x, w_qkv, k_cache, v_cache), truth, plain, dtype)

    heads, kv_heads, head_dim = shape[2:]
    projected = reference.matmul(x, w_qkv.t()).view(shape[0], -1, head_dim)
    appended = projected.split((heads, kv_heads, kv_heads), dim=1)[1:]
    for cache, old, new in zip((k_cache, v_cache), before, appended, strict=True):
        assert torch.equal(cache[:, :, :-1], old[:, :, :-1])
        torch.testing.assert_close(cache[:, :, -1].double(), new, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("module", [generation, eager])
def test_generate_uncached(module, shape, dtype, device):
    x, w_qkv, *_ = make(*shape, dtype, device)
    sizes = {"kv_heads": shape[3], "head_dim": shape[4]}
    truth, plain = (reference.generate_uncached(x, w_qkv, **sizes, precision=p) for p in ("fp64", dtype))
    check(module.generate_uncached(x, w_qkv, **sizes), truth, plain, dtype)


@pytest.mark.parametrize("module", [generation, eager])
def test_bad_inputs_are_refused(module, device):
    x, w_qkv, k_cache, v_cache = make(1, 4, 2, 1, 64, "fp32", device)
    with pytest.raises(ValueError, match="w_qkv must have shape"):
        module.generate_cached(x[:, 0], w_qkv[1:], k_cache, v_cache)
    with pytest.raises(ValueError, match="must be at least 1"):
        module.generate_cached(x[:, 0], w_qkv, k_cache[:, :, :0], v_cache)
    with pytest.raises(ValueError, match="multiple of head_dim=48"):
        module.generate_uncached(x, w_qkv, kv_heads=1, head_dim=48)
    with pytest.raises(ValueError, match="at least 1, not 0"):
        module.generate_uncached(x, w_qkv, kv_heads=0, head_dim=64)


def test_unsupported_inputs_are_refused(device):
    x, w_qkv, k_cache, v_cache = (tensor.double() for tensor in make(1, 4, 2, 1, 64, "fp32", device))
    with pytest.raises(ValueError, match="generate_cached does not support fp64"):
        generation.generate_cached(x[:, 0], w_qkv, k_cache, v_cache)
    with pytest.raises(ValueError, match="generate_uncached does not support head_dim=32"):
        generation.generate_uncached(x, torch.cat([w_qkv, w_qkv[:64]])[:192], kv_heads=1, head_dim=32)


def test_caches_are_left_alone_where_attention_declines(device):
    """65 heads on one K/V head are more rows of fp32 than it takes, and it comes after the append."""
    x, caches = torch.ones(1, 65 * 64, device=device), [torch.ones(1, 1, 4, 64, device=device) for _ in range(2)]
    with pytest.raises(ValueError, match="generate_cached: 1 queries of 65 heads for each K/V head are 65 rows"):
        generation.generate_cached(x, torch.ones(67 * 64, 65 * 64, device=device), *caches)
    assert all((cache == 1).all() for cache in caches)
