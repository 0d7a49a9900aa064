import dataclasses
import math

import pytest
import torch

from kernels import reference
from kernels.constants import FILL_VALUE
from kernels.pytorch import eager

pytest.importorskip("triton")
from kernels.triton import launch, stream
from kernels.triton.plan import Target

DTYPES = ("fp64", "fp32", "fp16", pytest.param("bf16", marks=pytest.mark.gpu))
TORCH = {"fp64": torch.float64, "fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
SMALL = stream.StreamConfig(block_bytes=256, num_warps=1, programs_per_sm=2)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 1000, 20_001])
@pytest.mark.parametrize("module", [stream, eager])
def test_streams(module, n, dtype, device):
    a, b = (torch.randn(n, dtype=TORCH[dtype], device=device) for _ in range(2))
    total = module.stream_read(a)
    assert total.shape == ()
    assert total.dtype == (torch.float64 if dtype == "fp64" else torch.float32)
    assert (total.double() - reference.stream_read(a)).abs() <= 1e-6 * a.double().abs().sum()
    for op, inputs, expected in (
        ("stream_write", (), reference.stream_write(a, dtype)),
        ("stream_copy", (a,), a),
    ):
        out = torch.full_like(a, math.nan)
        assert getattr(module, op)(*inputs, out) is out
        assert torch.equal(out, expected)
    out = torch.full_like(a, math.nan)
    triad = reference.stream_triad(a, b, out)
    eps = torch.finfo(TORCH[dtype]).eps
    assert ((module.stream_triad(a, b, out).double() - triad).abs() <= 2 * eps * (a.abs() + 3 * b.abs())).all()


def test_a_read_of_many_blocks_loops(device):
    x = torch.randn(3001, device=device)
    total = stream.stream_read(x, config=SMALL)
    assert (total.double() - reference.stream_read(x)).abs() <= 1e-6 * x.abs().sum()


@pytest.mark.parametrize("config", stream.CONFIGS, ids=lambda config: config.name)
def test_every_configuration(config, device):
    a, b = (torch.randn(40_001, device=device) for _ in range(2))
    total = stream.stream_read(a, config=config)
    assert (total.double() - reference.stream_read(a)).abs() <= 1e-6 * a.double().abs().sum()
    out = torch.full_like(a, math.nan)
    assert torch.equal(stream.stream_write(out, config=config), torch.full_like(a, FILL_VALUE))
    assert torch.equal(stream.stream_copy(a, out, config=config), a)
    triad = reference.stream_triad(a, b, out)
    allowed = 2 * torch.finfo(torch.float32).eps * (a.abs() + 3 * b.abs())
    assert ((stream.stream_triad(a, b, out, config=config).double() - triad).abs() <= allowed).all()


def test_a_number_that_is_not_read_is_missed(device):
    x = torch.ones(3001, dtype=torch.float64, device=device)
    partials = torch.empty(4, dtype=torch.float64, device=device)
    launch = stream.plan_read(x, partials, config=SMALL)
    launch.run()
    assert partials.sum() == 3001
    dataclasses.replace(launch, arguments={**launch.arguments, "n": 3000}).run()
    assert partials.sum() == 3000


@pytest.mark.parametrize("dtype", stream.SUPPORTED_DTYPES)
def test_configurations(dtype):
    """4 to 64 KiB of each operand by 4 to 16 warps: two to eight 16-byte loads of a thread, 32 threads a warp."""
    assert SMALL.name == "block256-w1-p2"
    assert stream.DEFAULT in stream.CONFIGS
    assert {config.block_bytes // (16 * 32 * config.num_warps) for config in stream.CONFIGS} == {2, 4, 8}
    assert {config.block_bytes for config in stream.CONFIGS} == {4096 * 2**step for step in range(5)}
    launches = stream.every_configuration(Target(90, 132), dtype)
    assert len({(launch.kernel, launch.config) for launch in launches}) == len(launches) == 4 * len(stream.CONFIGS)
    assert {launch.config for launch in launches} == {config.name for config in stream.CONFIGS}
    defaults = stream.ahead_of_time(Target(90, 132), dtype)
    assert [launch.config for launch in defaults] == [stream.DEFAULT.name] * 4


def test_dot_of_halves(device):
    x = torch.randn(1000, device=device)
    torch.testing.assert_close(eager.stream_read_dot(x).double(), reference.stream_read_dot(x), rtol=1e-4, atol=1e-3)
    with pytest.raises(ValueError, match="n=999 must be even"):
        eager.stream_read_dot(x[1:])
    with pytest.raises(ValueError, match="does not support fp16"):
        eager.stream_read_dot(x.half())


@pytest.mark.parametrize("module", [stream, eager])
@pytest.mark.parametrize("op", ["stream_read", "stream_write"])
def test_bad_inputs_are_refused(module, op, device):
    run = getattr(module, op)
    with pytest.raises(ValueError, match="must be at least 1"):
        run(torch.ones(0, device=device))
    with pytest.raises(ValueError, match=r"must have shape \(n\)"):
        run(torch.ones(2, 2, device=device))
    with pytest.raises(ValueError, match="must be contiguous, not of stride 2"):
        run(torch.ones(8, device=device)[::2])


def test_unsupported_inputs_are_refused(device):
    with pytest.raises(ValueError, match="stream_copy does not support int32; supported: fp64, fp32, bf16, fp16"):
        stream.stream_copy(*torch.ones(2, 4, dtype=torch.int32, device=device))
    for module in (stream, eager):
        with pytest.raises(ValueError, match=r"input 1 must have shape \(4,\), not \(5,\)"):
            module.stream_copy(torch.ones(4, device=device), torch.ones(5, device=device))


@pytest.mark.parametrize("module", [launch, eager])
def test_launch_leaves_what_it_was_given(module, device):
    x = torch.full((1,), FILL_VALUE, device=device)
    assert module.launch(x) is x
    assert torch.equal(x.double(), reference.launch(x))
    with pytest.raises(ValueError, match=r"must have shape \(1,\)"):
        module.launch(torch.zeros(2, device=device))
