import itertools

import pytest
import torch

from kernels import reference
from kernels.constants import ARCHITECTURES

pytest.importorskip("triton")
from kernels.triton.attention import mla
from kernels.triton.attention.mla import MlaConfig
from kernels.triton.plan import Target

DTYPES = ("fp32", "fp16", pytest.param("bf16", marks=pytest.mark.gpu))
TORCH = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
# batch, heads, context, latent, rope: one vector, ragged and whole blocks; heads in blocks of 16 that are not filled
SHAPES = ((2, 1, 1, 64, 16), (1, 16, 64, 512, 64), (3, 5, 17, 128, 32), (1, 20, 65, 64, 64), (1, 16, 200, 64, 16))
SMALL = MlaConfig(16, 16, 4, 2)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def make(batch, heads, context, latent, rope, dtype, device):
    return tuple(
        torch.randn(batch, rows, latent + rope, dtype=TORCH[dtype], device=device) for rows in (heads, context)
    )


def allowed_error(q, cache, latent, dtype):
    """Twice what a plain computation in this format is off by, and the rounding of the output."""
    truth = reference.attention_mla(q, cache, latent=latent)
    plain = (reference.attention_mla(q, cache, latent=latent, precision=dtype).double() - truth).abs().max()
    return 2 * plain + 2 * torch.finfo(TORCH[dtype]).eps * truth.abs().max()


def error(actual, q, cache, latent):
    return (actual.double() - reference.attention_mla(q, cache, latent=latent)).abs().max()


def check(actual, q, cache, latent, dtype):
    assert actual.dtype == q.dtype
    assert actual.shape == (*q.shape[:2], latent)
    assert actual.is_contiguous()
    assert error(actual, q, cache, latent) <= allowed_error(q, cache, latent, dtype)


def planned(q, cache, latent, *, splits=1, config=SMALL):
    out = torch.full((*q.shape[:2], latent), torch.nan, dtype=q.dtype, device=q.device)
    for launch in mla.plan_mla(q, cache, out, splits=splits, config=config):
        launch.run()
    return out


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_latent_attention(shape, dtype, device):
    q, cache = make(*shape, dtype, device)
    check(mla.attention_mla(q, cache, latent=shape[3]), q, cache, shape[3], dtype)


@pytest.mark.parametrize("config", [MlaConfig(32, 32, 4, 1), MlaConfig(64, 16, 4, 2)], ids=lambda config: config.name)
def test_blocks_of_heads_are_all_computed(config, device):
    q, cache = make(1, 70, 40, 64, 16, "fp16", device)
    check(planned(q, cache, 64, config=config), q, cache, 64, "fp16")


@pytest.mark.parametrize("splits", [2, 3, 12])
def test_splits_agree_and_repeat(splits, device):
    """100 vectors in blocks of 16 are 7: twelve splits leave some without any."""
    q, cache = make(2, 3, 100, 64, 16, "fp32", device)
    once, parts, again = (planned(q, cache, 64, splits=n) for n in (1, splits, splits))
    torch.testing.assert_close(parts, once, rtol=1e-5, atol=1e-6)
    assert torch.equal(parts, again)
    check(parts, q, cache, 64, "fp32")


def test_any_strides_and_what_lies_between_and_beyond_is_not_read(device):
    q = torch.randn(20, 2, 100, dtype=torch.float16, device=device).transpose(0, 1)[..., 4:84]
    store = torch.full((80, 2, 2, 80), torch.nan, dtype=torch.float16, device=device)
    cache = store[:70:2, :, 1].transpose(0, 1).normal_()
    check(mla.attention_mla(q, cache, latent=64), q, cache, 64, "fp16")


@pytest.mark.parametrize("splits", [1, 3])
def test_large_scores_and_one_vector_that_takes_all(splits, device):
    """Where one score is larger by over 200, its latent numbers are the result to the last bit."""
    q, cache = make(1, 4, 40, 64, 16, "fp16", device)
    q = 32 * q[:, :1].sign().repeat(1, 4, 1)
    cache[0, 33] = 64 * q[0, 0].sign()
    assert torch.equal(planned(q, cache, 64, splits=splits), cache[:, 33:34, :64].expand(1, 4, 64))
    assert not planned(q * 500, cache * 500, 64, splits=splits).isnan().any()


@pytest.mark.filterwarnings("ignore:All-NaN slice:RuntimeWarning")  # the interpreter's maximum of a row
@pytest.mark.parametrize("splits", [1, 3])
def test_nan_stays_with_its_sequence_or_head(splits, device):
    q, cache = make(3, 4, 40, 64, 16, "fp16", device)
    cache[0, 35, 70] = torch.nan  # in the rotary part: in scores alone
    q[2, 3, 1] = torch.nan
    bad = torch.zeros(3, 4, 64, dtype=torch.bool, device=device)
    bad[0], bad[2, 3] = True, True
    assert torch.equal(planned(q, cache, 64, splits=splits).isnan(), bad)


def test_a_wrong_rotary_part_does_not_pass(device):
    q, cache = make(1, 4, 65, 128, 16, "fp16", device)
    wrong = cache.clone()
    wrong[..., 128:] = wrong[..., 128:].flip(-1)
    out = mla.attention_mla(q, wrong, latent=128)
    assert error(out, q, cache, 128) > allowed_error(q, cache, 128, "fp16")


def test_vectors_beyond_two_to_the_31_elements_are_found(device):
    """Vectors 2**22 elements apart: the 512th begins at element 2**31. On a CPU memory that nobody touches is never
    there, on a GPU it is 4.3 GB."""
    stride, context, width = 2**22, 514, 80
    options = {"dtype": torch.float16, "device": device}
    cache = torch.empty(context * stride, **options).as_strided((1, context, width), (0, stride, 1))
    cache[:] = torch.randn(1, context, width)
    q = torch.randn(1, 2, width, **options)
    for splits in (1, 9):  # nine blocks of 64: the last part begins there
        check(planned(q, cache, 64, splits=splits, config=MlaConfig(16, 64, 4, 2)), q, cache, 64, "fp16")


def test_unsupported_inputs_are_refused(device):
    def call(latent, width, dtype=torch.float16, **options):
        q, cache = (torch.ones(1, rows, width, dtype=dtype, device=device) for rows in (4, 8))
        mla.attention_mla(q, cache, latent=latent, **options)

    with pytest.raises(ValueError, match="does not support latent=96; supported: 64, 128, 256, 512"):
        call(96, 128)
    with pytest.raises(ValueError, match="does not support rope=48; supported: 16, 32, 64, 128"):
        call(64, 112)
    with pytest.raises(ValueError, match="latent=80 must be from 1 to 79"):
        call(80, 80)
    with pytest.raises(ValueError, match="does not support fp64; supported: fp32, bf16, fp16"):
        call(64, 80, torch.float64)
    with pytest.raises(ValueError, match="64x32-w8-s3 is not supported: IEEE fp32 is computed without tensor cores"):
        call(64, 80, torch.float32, config=mla.HEADS_64)
    with pytest.raises(ValueError, match="64x64-w8-s9 is not supported: its blocks need"):
        call(512, 576, config=MlaConfig(64, 64, 8, 9))
    x = torch.ones(1, 4, 160, dtype=torch.float16, device=device)
    with pytest.raises(ValueError, match="width of q must have stride 1, not 2"):
        mla.attention_mla(x[..., ::2], x[..., :80], latent=64)
    with pytest.raises(ValueError, match="does not support a stride"):
        mla.attention_mla(x, x[:, :1].as_strided((1, 1, 160), (0, 2**23, 1)), latent=128)
    with pytest.raises(ValueError, match="cache must have shape"):
        mla.attention_mla(x, x[..., :80], latent=64)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("dtype", mla.SUPPORTED_DTYPES)
def test_chosen_configurations_fit(architecture, dtype):
    target = Target(architecture, 132)
    for heads in (1, 16, 17, 32, 33, 128):
        config = mla.choose_config(heads=heads, dtype=dtype, target=target)
        assert config in mla.CONFIGS
        for latent, rope in itertools.product(mla.SUPPORTED_LATENTS, mla.SUPPORTED_ROPES):
            assert mla.why_not(config, latent=latent, rope=rope, dtype=dtype, target=target) is None
    launches = [*mla.ahead_of_time(target, dtype)]
    names = [(launch.kernel, launch.config) for launch in launches]
    assert len(set(names)) == len(names) <= 6
    every = mla.every_configuration(target, dtype)
    assert len({launch.config for launch in every}) == len(every) >= 1


def test_configurations_have_names_of_their_own_and_contend_where_rows_are_filled():
    names = [config.name for config in mla.CONFIGS]
    assert len(set(names)) == len(names)
    assert mla.HEADS_16.name == "16x32-w4-s3"
    assert mla.contends(mla.HEADS_16, {"heads": 1})
    assert mla.contends(mla.HEADS_64, {"heads": 64})
    assert not mla.contends(mla.HEADS_64, {"heads": 32})
