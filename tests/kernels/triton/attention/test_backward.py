import itertools
from dataclasses import replace

import pytest
import torch

from kernels import reference
from kernels.constants import ARCHITECTURES
from kernels.unsupported import Unsupported

pytest.importorskip("triton")
from triton.runtime.errors import OutOfResources

from kernels.triton.attention import backward
from kernels.triton.attention.backward import BackwardConfig
from kernels.triton.attention.prefill import attention_forward
from kernels.triton.plan import Target

HAS_CUDA = torch.cuda.is_available()
DTYPES = ("fp32", "fp16", pytest.param("bf16", marks=pytest.mark.gpu))
TORCH = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
# batch, heads, kv_heads, seq, head_dim: one token, ragged blocks, groups of 1, 2, 3 and 4
SHAPES = ((1, 4, 1, 1, 64), (2, 2, 2, 33, 64), (1, 3, 1, 70, 64), (1, 4, 2, 17, 128), (1, 2, 1, 33, 256))
SMALL = BackwardConfig(32, 16, 16, 4, 1)

interpreted = pytest.mark.skipif(HAS_CUDA, reason="a GPU needs tiles of its own architecture")


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def make(batch, heads, kv_heads, seq, head_dim, dtype="fp16", device="cpu"):
    """Queries, keys, values, outputs, upstream gradients and log-sum-exps; the upstream is strided as tokens are."""
    q = torch.randn(batch, heads, seq, head_dim, dtype=TORCH[dtype], device=device)
    k, v = torch.randn(2, batch, kv_heads, seq, head_dim, dtype=TORCH[dtype], device=device)
    grad = torch.randn(batch, seq, heads, head_dim, dtype=TORCH[dtype], device=device).transpose(1, 2)
    out, lse = attention_forward(q, k, v)
    return q, k, v, out, grad, lse


def are_right(gradients, tensors):
    """Each off from fp64 by no more than twice what a plain computation in this format is, four roundings of the
    largest number, and what rounding `lse` in fp32 leaves where the gradient is zero."""
    dtype = next(name for name, known in TORCH.items() if known == tensors[0].dtype)
    truths, plains = reference.attention_backward(*tensors), reference.attention_backward(*tensors, precision=dtype)
    answers = []
    for gradient, truth, plain in zip(gradients, truths, plains, strict=True):
        rounding = 4 * torch.finfo(tensors[0].dtype).eps * truth.abs().max() + 2e-6
        allowed = 2 * (plain.double() - truth).abs().max() + rounding
        answers.append(bool((gradient.double() - truth).abs().max() <= allowed))
    return answers


def launched(tensors, config=SMALL, **arguments):
    """What the kernels leave in gradients of NaN; the interpreter runs configurations of every architecture."""
    gradients = tuple(torch.full_like(tensor, torch.nan) for tensor in tensors[:3])
    for launch in backward.plan_backward(*tensors, gradients, config=config):
        known = {name: value for name, value in arguments.items() if name in launch.arguments}
        replace(launch, arguments={**launch.arguments, **known}).run()
    return gradients


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_awkward_shapes(shape, dtype, device):
    tensors = make(*shape, dtype, device)
    gradients = backward.attention_backward(*tensors)
    assert are_right(gradients, tensors) == [True] * 3
    for gradient, tensor in zip(gradients, tensors, strict=False):
        assert gradient.dtype == tensor.dtype
        assert gradient.stride() == tensor.stride()


@interpreted
@pytest.mark.parametrize(
    "config",
    [
        BackwardConfig(16, 16, 16, 4, 1),
        BackwardConfig(16, 64, 32, 4, 1),
        BackwardConfig(64, 16, 16, 4, 1),
        BackwardConfig(32, 32, 64, 4, 1),
        BackwardConfig(32, 32, 32, 4, 1, described=True),
    ],
    ids=lambda config: config.name,
)
def test_blocks_of_any_ratio(config):
    tensors = make(1, 1, 1, 75, 64)
    assert are_right(launched(tensors, config), tensors) == [True] * 3


@interpreted
@pytest.mark.parametrize("section", [2, 5])
def test_every_block_of_every_head_has_a_program(section):
    tensors = make(3, 2, 1, 33, 64)
    assert are_right(launched(tensors, section=section), tensors) == [True] * 3


def test_gradients_are_those_that_autograd_finds(device):
    leaves = [torch.randn(1, heads, 20, 64, dtype=torch.float64, device=device) for heads in (2, 1, 1)]
    q, k, v = (leaf.requires_grad_() for leaf in leaves)
    scores = (q @ k.mT / 8).masked_fill(torch.ones(20, 20, dtype=torch.bool, device=device).triu(1), -torch.inf)
    upstream = torch.randn(1, 2, 20, 64, dtype=torch.float64, device=device)
    (scores.softmax(dim=-1) @ v).backward(upstream)
    single = [leaf.detach().float() for leaf in leaves]
    out, lse = attention_forward(*single)
    gradients = backward.attention_backward(*single, out, upstream.float(), lse)
    for gradient, leaf in zip(gradients, leaves, strict=True):
        torch.testing.assert_close(gradient, leaf.grad.float(), rtol=1e-5, atol=2e-6)


def test_gradients_are_slopes_of_the_forward_pass(device):
    q, k, v, out, grad, lse = make(1, 2, 1, 9, 64, "fp32", device)
    gradients = backward.attention_backward(q, k, v, out, grad, lse)
    for index, gradient in enumerate(gradients):
        step = 1e-3 * torch.randn_like(gradient, dtype=torch.float64)
        ends = []
        for sign in (1, -1):
            moved = [tensor.double() + sign * step * (at == index) for at, tensor in enumerate((q, k, v))]
            ends.append((reference.attention_prefill(*moved) * grad).sum())
        # The difference is off by the third derivative, of the step's square: 1e-6 of it.
        torch.testing.assert_close((ends[0] - ends[1]) / 2, (gradient * step).sum(), rtol=1e-4, atol=1e-6)


@interpreted
def test_wrong_kernels_are_caught():
    tensors = make(1, 2, 1, 40, 64)
    q, k, v, out, grad, lse = tensors
    assert are_right(launched(tensors), tensors) == [True] * 3
    # A scale that is 2 % off; log-sum-exps that are 2 % off in the weights; outputs of another upstream.
    assert are_right(launched(tensors, scale=1.02 / 8), tensors) == [False, False, False]
    assert are_right(launched((q, k, v, out, grad, lse + 0.02)), tensors) == [False, False, False]
    assert are_right(launched((q, k, v, out.flip(2), grad, lse)), tensors) == [False, False, True]
    # One K/V head of the group's queries left out.
    half = launched((q[:, :1], k, v, out[:, :1], grad[:, :1], lse[:, :1].contiguous()))
    assert are_right((torch.cat((half[0], half[0]), dim=1), *half[1:]), tensors) == [False, False, False]


def test_large_scores(device):
    q, k, v = (torch.randn(1, heads, 40, 64, device=device) for heads in (2, 1, 1))
    q, grad = 30 * q, torch.randn(1, 2, 40, 64, device=device)
    out, lse = attention_forward(q, k, v)
    gradients = backward.attention_backward(q, k, v, out, grad, lse)
    truths = reference.attention_backward(q, k, v, out, grad, lse)
    for gradient, truth in zip(gradients, truths, strict=True):
        # Exponents to 10^3 are rounded at 10^3 * 2^-24 = 6e-5.
        torch.testing.assert_close(gradient, truth.float(), rtol=1e-3, atol=1e-3 * truth.abs().max().item())


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of NumPy, which interprets
def test_what_is_not_a_number_stays_in_its_head(device):
    q, k, v, out, grad, lse = make(1, 4, 2, 40, 64, "fp16", device)
    grad[0, 1] = torch.nan
    dq, dk, dv = backward.attention_backward(q, k, v, out, grad, lse)
    assert dq.isnan().any(dim=(0, 2, 3)).tolist() == [False, True, False, False]
    assert dk.isnan().any(dim=(0, 2, 3)).tolist() == dv.isnan().any(dim=(0, 2, 3)).tolist() == [True, False]


def test_any_strides(device):
    qkv = torch.randn(2, 50, 4, 65, dtype=torch.float16, device=device)[..., 1:].transpose(1, 2)
    q, k, v = qkv.split((2, 1, 1), dim=1)  # rows of 130 bytes: no descriptor takes them
    out, lse = attention_forward(q, k, v)
    ones = torch.ones(1, dtype=torch.float16, device=device).expand(2, 2, 50, 64)
    with pytest.raises(Unsupported, match="head_dim must have stride 1, not 0"):
        backward.attention_backward(q, k, v, out, ones, lse)
    same_everywhere = torch.randn(64, dtype=torch.float16, device=device).expand(2, 2, 50, 64)
    tensors = (q, k, v, out, same_everywhere, lse)
    assert are_right(backward.attention_backward(*tensors), tensors) == [True] * 3


@interpreted
def test_addresses_beyond_31_bits():
    strides = (2**31 + 64, 64 * 20, 64, 1)
    far = [torch.empty(sum(strides) * 2, dtype=torch.float16).as_strided((2, 1, 20, 64), strides) for _ in range(4)]
    q, k, v, grad = (tensor.normal_() for tensor in far)
    out, lse = attention_forward(*(tensor.contiguous() for tensor in (q, k, v)))
    tensors = (q, k, v, out, grad, lse)
    near = tuple(torch.full_like(tensor.contiguous(), torch.nan) for tensor in tensors[:3])
    for launch in backward.plan_backward(*tensors, near, config=SMALL):
        launch.run()
    assert are_right(near, tensors) == [True] * 3


@pytest.mark.gpu
def test_results_are_the_same_in_every_run(device):
    tensors = make(1, 4, 1, 1000, 64, "fp16", device)
    first, second = (backward.attention_backward(*tensors) for _ in range(2))
    assert all(torch.equal(*pair) for pair in zip(first, second, strict=True))


def test_bad_and_unsupported_inputs_are_refused(device):
    q, k, v, out, grad, lse = make(1, 2, 1, 8, 64, "fp32", device)
    with pytest.raises(ValueError, match="lse must be fp32, not fp64"):
        backward.attention_backward(q, k, v, out, grad, lse.double())
    with pytest.raises(ValueError, match=r"grad must have shape \(1, 2, 8, 64\), not \(1, 1, 8, 64\)"):
        backward.attention_backward(q, k, v, out, grad[:, :1], lse)
    with pytest.raises(ValueError, match="grad is fp16"):
        backward.attention_backward(q, k, v, out, grad.half(), lse)
    with pytest.raises(Unsupported, match="does not support fp64; supported: fp32, bf16, fp16"):
        backward.attention_backward(*(tensor.double() for tensor in (q, k, v, out, grad)), lse)
    with pytest.raises(Unsupported, match="does not support head_dim=32; supported: 64, 128, 256"):
        backward.attention_backward(*(tensor[..., :32] for tensor in (q, k, v, out, grad)), lse)
    with pytest.raises(Unsupported, match="k128-q128-by64-w8-s2 is not supported: IEEE fp32 is computed"):
        backward.attention_backward(q, k, v, out, grad, lse, config=backward.AMPERE_64)


@interpreted
def test_the_interpreters_target_has_no_descriptors():
    with pytest.raises(Unsupported, match="sm80 has no hardware for descriptors"):
        backward.attention_backward(*make(1, 1, 1, 8, 64), config=backward.HOPPER)


@pytest.mark.parametrize(
    ("architecture", "dtype"), [*itertools.product(ARCHITECTURES, backward.SUPPORTED_DTYPES)], ids=str
)
def test_every_choice_can_serve_and_is_tuned(architecture, dtype):
    target = Target(architecture, 100)
    for head_dim, describable in itertools.product((64, 128, 256), (True, False)):
        config = backward.choose_config(head_dim=head_dim, dtype=dtype, target=target, describable=describable)
        assert config in backward.CONFIGS
        assert backward.why_not(config, dtype, target) is None
        assert describable or not config.described
        if dtype != "fp32":
            assert backward.contends(config, {"head_dim": head_dim})


@pytest.mark.gpu
@pytest.mark.exhaustive
@pytest.mark.parametrize("head_dim", [64, 128, 256])
@pytest.mark.parametrize("config", [None, *backward.CONFIGS], ids=lambda config: config.name if config else "default")
def test_every_configuration_is_right_on_a_gpu(config, head_dim, device):
    tensors = make(2, 8, 2, 333, head_dim, "bf16", device)
    try:
        gradients = backward.attention_backward(*tensors, config=config)
    except (Unsupported, OutOfResources) as error:
        assert config is not None
        pytest.skip(str(error))
    assert are_right(gradients, tensors) == [True] * 3
