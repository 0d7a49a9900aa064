import mmap
from dataclasses import replace
from itertools import product

import pytest
import torch

from kernels import reference

pytest.importorskip("triton")
from kernels.triton import quantized
from kernels.triton.plan import Target
from kernels.unsupported import Unsupported

DTYPES = ("fp16", pytest.param("bf16", marks=pytest.mark.gpu))
TORCH = {"fp16": torch.float16, "bf16": torch.bfloat16}
ARCHITECTURES = (80, 86, 89, 90, 100, 120)
BITS = (4, 8)
MAP_NORESERVE = 0x4000  # Linux's; Python names it from 3.13 on
OPS = {4: (quantized.matmul_w4a16, reference.matmul_w4a16), 8: (quantized.matmul_w8a16, reference.matmul_w8a16)}
SMALL = quantized.QuantizedConfig(16, 16, 64, 4, 1, split_k=1)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def make_weight(bits, n, k, dtype, device):
    """A random weight of all values and its scales, around 1/32."""
    if bits == 8:
        weight = torch.randint(-128, 128, (n, k), dtype=torch.int8, device=device)
        return weight, torch.rand(n, device=device).add(0.5).div(32).to(dtype)
    words = torch.randint(-(2**31), 2**31, (n, k // 8), dtype=torch.int32, device=device)
    return words, torch.rand(n, k // 128, device=device).add(0.5).div(4).to(dtype)


def dense(bits, weight, scale):
    """The weight in fp64, (n, k)."""
    if bits == 8:
        return weight.double() * scale.double()[:, None]
    return reference.unpack_int4(weight).double() * scale.double().repeat_interleave(128, dim=1)


def allowed_error(bits, x, weight, scale):
    """Twice what a plain computation in this format is off by, and the rounding of the output."""
    meaning, name = OPS[bits][1], {torch.float16: "fp16", torch.bfloat16: "bf16"}[x.dtype]
    truth = meaning(x, weight, scale)
    plain = (meaning(x, weight, scale, name).double() - truth).abs().max()
    return 2 * plain + 2 * torch.finfo(x.dtype).eps * truth.abs().max()


def check(bits, x, weight, scale, config=None):
    run, meaning = OPS[bits]
    actual = run(x, weight, scale, config=config)
    assert actual.dtype == x.dtype
    assert (actual.double() - meaning(x, weight, scale)).abs().max() <= allowed_error(bits, x, weight, scale)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("bits", "m", "n", "k"),
    [
        *product(BITS, (1,), (70,), (128,)),
        *product(BITS, (2,), (65,), (384,)),
        *product(BITS, (16,), (1,), (256,)),
        *product(BITS, (17,), (130,), (384,)),
        *product(BITS, (70,), (33,), (128,)),
        (8, 2, 70, 40),  # less than a step
        (8, 17, 33, 172),  # words, but not whole pieces of 16 bytes
        (8, 3, 66, 41),  # rows that start inside a word
        (8, 1, 1, 1),
    ],
)
def test_awkward_shapes(bits, m, n, k, dtype, device):
    x = torch.randn(m, k, dtype=TORCH[dtype], device=device)
    check(bits, x, *make_weight(bits, n, k, TORCH[dtype], device))


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("config", quantized.CONFIGS, ids=lambda config: config.name)
def test_every_configuration(config, bits, device):
    if quantized.why_not(config, bits, Target(80, 108)) is not None:
        pytest.skip("this width does not take it")
    k = 384  # whole steps of int8, and half of one of int4 left over
    x = torch.randn(3, k, dtype=torch.float16, device=device)
    check(bits, x, *make_weight(bits, config.block_n + 2, k, torch.float16, device), config=config)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
@pytest.mark.parametrize(("bits", "m"), list(product(BITS, (1, 5, 8, 16, 32, 64, 128, 300))))
def test_defaults_over_many_steps(bits, m, dtype, device):
    x = torch.randn(m, 4096, dtype=TORCH[dtype], device=device)
    check(bits, x, *make_weight(bits, 5000, 4096, TORCH[dtype], device))


@pytest.mark.parametrize("bits", BITS)
def test_one_hot_rows_pick_columns(bits, device):
    """Each output is one weight times its scale, rounded once: an exact test of which weight is where."""
    x = torch.eye(128, dtype=torch.float16, device=device)
    weight, scale = make_weight(bits, 40, 128, torch.float16, device)
    actual = OPS[bits][0](x, weight, scale)
    assert torch.equal(actual, dense(bits, weight, scale).half().t())


def test_another_packing_is_another_weight(device):
    x = torch.randn(4, 128, dtype=torch.float16, device=device)
    packed, scales = make_weight(4, 16, 128, torch.float16, device)
    swapped = ((packed & 0x0F0F0F0F) << 4) | ((packed >> 4) & 0x0F0F0F0F)
    actual = quantized.matmul_w4a16(x, packed, scales).double()
    allowed = allowed_error(4, x, packed, scales)
    assert (actual - reference.matmul_w4a16(x, packed, scales)).abs().max() <= allowed
    assert (actual - reference.matmul_w4a16(x, swapped, scales)).abs().max() > 10 * allowed


@pytest.mark.parametrize(
    ("bits", "stored", "value"),
    [(4, 0, -8), (4, -1, 7), (4, -0x77777778, 0), (8, -128, -128), (8, 127, 127), (8, 0, 0)],
)
def test_extreme_weights_are_exact(bits, stored, value, device):
    """128 times the value times a power of two fits in 11 bits."""
    x = torch.ones(3, 128, dtype=torch.float16, device=device)
    weight, scale = make_weight(bits, 17, 128, torch.float16, device)
    actual = OPS[bits][0](x, torch.full_like(weight, stored), torch.full_like(scale, 0.25))
    assert torch.equal(actual, torch.full((3, 17), 32.0 * value, dtype=torch.float16, device=device))


def test_bits_of_small_floats_are_the_numbers_that_they_spell():
    """What unpacking rests on: a pattern below 2**8 (bf16) or 2**11 (fp16) is that many units of the last denormal bit,
    and one fused multiply-add makes any weight of it without rounding."""
    for dtype, patterns, unit, factor, lifted in (
        (torch.bfloat16, 2**8, 2.0**-133, 2.0**127, 2.0**-6),
        (torch.float16, 2**11, 2.0**-24, 2.0**15, 2.0**-9),
    ):
        numbers = torch.arange(patterns, dtype=torch.int16)
        assert torch.equal(numbers.view(dtype).double(), numbers.double() * unit)
        weights = numbers[:256].view(dtype).double() * factor - 128 * lifted
        assert torch.equal(weights, (numbers[:256].double() - 128) * lifted)
        assert torch.equal(weights.to(dtype).double(), weights)


@pytest.mark.parametrize("bits", BITS)
def test_large_activations_and_denormal_scales(bits, device):
    """Activations at the end of fp16's range, scales of 5 to 14 units of its last denormal bit."""
    x = torch.rand(5, 256, dtype=torch.float16, device=device).sub(0.5).mul(2 * 65000)
    weight, scale = make_weight(bits, 20, 256, torch.float16, device)
    scale = torch.randint(5, 15, scale.shape, device=device).double().mul(2.0**-24).half()
    check(bits, x, weight, scale)


@pytest.mark.parametrize("bits", BITS)
def test_nan_stays_in_its_row(bits, device):
    x = torch.randn(5, 256, dtype=torch.float16, device=device)
    x[3, 100] = torch.nan
    actual = OPS[bits][0](x, *make_weight(bits, 20, 256, torch.float16, device))
    assert actual[3].isnan().all()
    assert actual[[0, 1, 2, 4]].isfinite().all()


@pytest.mark.parametrize("bits", BITS)
def test_strides_of_x(bits, device):
    weight = make_weight(bits, 20, 256, torch.float16, device)
    rows_apart = torch.randn(10, 300, dtype=torch.float16, device=device)[::2, 7:263]
    columns = torch.randn(256, 9, dtype=torch.float16, device=device).t()
    for x in (rows_apart, columns):
        assert not x.is_contiguous()
        check(bits, x, *weight)


@pytest.mark.parametrize("bits", BITS)
def test_strides_of_the_weight(bits, device):
    x = torch.randn(3, 128, dtype=torch.float16, device=device)
    weight, scale = make_weight(bits, 40, 384, torch.float16, device)
    columns = 128 if bits == 8 else 16
    apart = weight[::2, columns : 2 * columns]
    scale = scale[::2].contiguous() if bits == 8 else scale[::2, 1:2].contiguous()
    assert not apart.is_contiguous()
    check(bits, x, apart, scale)
    if bits == 8:
        check(bits, x, weight[::2, 3:131], scale)  # rows that start inside a word


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("split_k", [2, 3, 100])
def test_split_k_agrees_with_one_pass(bits, split_k, device):
    x = torch.randn(5, 384, dtype=torch.float16, device=device)
    weight = make_weight(bits, 20, 384, torch.float16, device)
    once, parts, again = (
        OPS[bits][0](x, *weight, config=replace(SMALL, split_k=split)) for split in (1, split_k, split_k)
    )
    torch.testing.assert_close(once, parts, rtol=2e-3, atol=2e-3)
    assert torch.equal(parts, again)
    check(bits, x, *weight, config=replace(SMALL, split_k=split_k))


def untouched(size, dtype, device):
    """Memory that takes space only where it is written to."""
    if device.type == "cuda":
        return torch.empty(size, dtype=dtype, device=device)
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE
    return torch.frombuffer(mmap.mmap(-1, size * dtype.itemsize, flags=flags), dtype=dtype)


@pytest.mark.parametrize("bits", BITS)
def test_rows_beyond_two_to_the_31(bits, device):
    """Rows as far apart as is supported, so that the last ones start beyond 2**31 elements."""
    n, stride, k = 520, 2**22, 128
    dtype, columns = (torch.int8, k) if bits == 8 else (torch.int32, k // 8)
    rows = torch.tensor([0, 1, 300, 511, 512, 513, 519], device=device)
    assert int(rows[-1]) * stride > 2**31
    apart = untouched(n * stride, dtype, device).as_strided((n, columns), (stride, 1))
    weight, scale = make_weight(bits, n, k, torch.float16, device)
    apart[rows] = weight[rows]
    x = torch.randn(2, k, dtype=torch.float16, device=device)
    config = quantized.QuantizedConfig(8, 64, 64, 2, 3, split_k=1)
    actual = OPS[bits][0](x, apart, scale, config=config)[:, rows].double()
    chosen = weight[rows], scale[rows]
    assert (actual - OPS[bits][1](x, *chosen)).abs().max() <= allowed_error(bits, x, *chosen)


@pytest.mark.parametrize("bits", BITS)
def test_unsupported_inputs_are_refused(bits, device):
    run = OPS[bits][0]
    x = torch.ones(2, 256, dtype=torch.float16, device=device)
    weight, scale = make_weight(bits, 20, 256, torch.float16, device)
    with pytest.raises(Unsupported, match="does not support fp32; supported: bf16, fp16"):
        run(x.float(), weight, scale.float())
    with pytest.raises(Unsupported, match="supported: contiguous along k"):
        run(x, weight.t().contiguous().t(), scale)
    with pytest.raises(Unsupported, match="does not support a stride"):
        run(x.as_strided((1, 256), (2**23, 1)), weight, scale)
    with pytest.raises(ValueError, match=r"(weight|packed) must have shape"):
        run(x, weight[:, :-1], scale)
    with pytest.raises(ValueError, match=r"(weight|packed) must be int(8|32), not fp64"):
        run(x, weight.double(), scale)
    with pytest.raises(ValueError, match=r"(weight|packed) is on meta but x is on"):
        run(x, weight.to("meta"), scale)
    with pytest.raises(ValueError, match=r"scales? must have shape \(20,"):
        run(x, weight, scale[:-1])
    with pytest.raises(ValueError, match=r"scales? must be contiguous, not of strides"):
        run(x, weight, scale.repeat_interleave(2, 0)[::2])
    with pytest.raises(ValueError, match="must be at least 1"):
        run(x[:0], weight, scale)
    with pytest.raises(Unsupported, match=r"8x8192x128B-w4-s9 is not supported: it needs \d+ bytes of shared memory"):
        run(x, weight, scale, config=quantized.QuantizedConfig(8, 8192, 128, 4, 9))


def test_int4_comes_in_whole_groups(device):
    x = torch.ones(2, 192, dtype=torch.float16, device=device)
    with pytest.raises(Unsupported, match="k=192 is not supported; supported: multiples of 128"):
        quantized.matmul_w4a16(x, torch.zeros(3, 24, dtype=torch.int32, device=device), x[:1, :1])
    wide = replace(quantized.ROWS_8, row_bytes=256)
    weight = make_weight(4, 20, 512, torch.float16, device)
    with pytest.raises(Unsupported, match="a step of int4 takes at most 128 bytes of a row"):
        quantized.matmul_w4a16(torch.ones(2, 512, dtype=torch.float16, device=device), *weight, config=wide)


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what the interpreter cannot do")
def test_interpreter_refuses_bf16():
    x = torch.ones(1, 128, dtype=torch.bfloat16)
    with pytest.raises(Unsupported, match="interpreter computes bf16"):
        quantized.matmul_w8a16(x, *make_weight(8, 4, 128, torch.bfloat16, x.device))


def planned_split(m, n, k, bits, target):
    """Programs that share a tile by default, from launches on tensors without memory."""
    config = quantized.choose_config(m, n, k, bits=bits, target=target)
    x, out = (torch.empty(m, length, dtype=torch.bfloat16, device="meta") for length in (k, n))
    weight, scale = torch.empty(n, k * bits // 32, dtype=torch.int32, device="meta"), torch.empty(n, device="meta")
    product, *reduction = quantized.plan_quantized(x, weight, scale, out, bits=bits, config=config, target=target)
    assert len(reduction) == (product.grid[1] > 1)
    return product.grid[1]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("bits", BITS)
def test_chosen_configurations_fit(architecture, bits):
    target = Target(architecture, 132)
    for m, (n, k) in product((1, 8, 9, 17, 33, 65, 4096), ((1, 128), (4096, 4096), (28672, 8192), (100, 128 * 801))):
        config = quantized.choose_config(m, n, k, bits=bits, target=target)
        assert quantized.why_not(config, bits, target) is None
        assert config.block_m >= min(m, 64)
        assert config.block_m <= max(8, 2 * m)
        split_k = planned_split(m, n, k, bits, target)
        assert 1 <= split_k <= 16
        assert split_k * config.block_k(bits) <= max(k, config.block_k(bits))
    assert planned_split(1, 4096, 4096, bits, target) > 1
    assert planned_split(4096, 28672, 8192, bits, target) == 1


def test_names_tell_configurations_apart():
    assert quantized.ROWS_8.name == "8x64x128B-w2-s3"
    assert replace(quantized.ROWS_8, split_k=4).name == "8x64x128B-w2-s3-split4"
    names = [config.name for config in quantized.CONFIGS]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_planned_launches_have_names_of_their_own(architecture):
    target = Target(architecture, 132)
    for launches in (quantized.ahead_of_time(target, "bf16"), quantized.every_configuration(target, "bf16")):
        names = [(launch.kernel, launch.config) for launch in launches]
        assert len(set(names)) == len(names)
        assert {launch.config.rpartition("-")[2] for launch in launches} >= {"int4", "int8"}
