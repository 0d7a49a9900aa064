"""A whole transformer block: its amounts, its meaning, and every implementation of it that runs without a GPU."""

import contextlib
import functools
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from bench.cases import CASES, IMPLEMENTATIONS, bind, find_implementation, make_inputs, needed_bytes, result_format
from bench.check import check_all
from bench.lab import Job, Lab
from bench.record import Status
from bench.sampling import Budget
from bench.suites import GPT2_SMALL_BLOCK, LLAMA3_8B_BLOCK
from bench.timer import WallTimer
from kernels import reference
from kernels.constants import ADAMW_BETAS, ADAMW_DECAY, ADAMW_EPS, ADAMW_RATE, ADAMW_STEP
from kernels.pytorch import block, block_train
from kernels.shapes import BlockSizes, BlockWeights, split_block_weights
from kernels.unsupported import Unsupported
from predict.errors import BadWorkload
from predict.formulas.memory import Recompute
from predict.model.linear import Component
from predict.model.passes import decode_step, forward, training_step
from predict.model.presets import find_model
from predict.peak_memory import peak_bytes
from predict.resources import Resource
from predict.units import find_dtype
from predict.workloads import Amounts, make_workload, sweep_amounts
from tests.fakes import cpu_environment

TINY = {"heads": 2, "kv_heads": 1, "head_dim": 4, "inner": 3}
SMALL = {"heads": 4, "kv_heads": 2, "head_dim": 16, "inner": 24}
FOR_TRITON = {"heads": 2, "kv_heads": 1, "head_dim": 64, "inner": 48}
CPU = torch.device("cpu")
FORWARD = {"batch": 2, "seq": 13, **SMALL}
DECODE = {"batch": 3, "context": 13, **SMALL}


def issued(prepare, issue=block.issue):
    """The op by a step that is prepared and issued."""
    return lambda *inputs, **keywords: issue(*prepare(*inputs, **keywords), **keywords)


block_forward, block_decode = issued(block.prepare_forward, block.issue_prompt), issued(block.prepare_decode)
compiled_forward = issued(block.compile_forward, block.issue_prompt)
compiled_decode = issued(block.compile_decode)
trained = issued(block_train.prepare_train, block_train.issue_train)
compiled_train = issued(block_train.compile_train, block_train.issue_train)


def by_triton(block_triton):
    """Our kernels composed, of the module that imports Triton."""
    return {
        "block_forward": issued(block_triton.prepare_forward, block.issue_prompt),
        "block_decode": issued(block_triton.prepare_decode),
    }


BY_PYTORCH = {"block_forward": block_forward, "block_decode": block_decode, "block_train": trained}


def amounts(op, dtype="bf16", **dims):
    return make_workload(op, dims, find_dtype(dtype)).amounts


def tensors(result):
    return result if isinstance(result, tuple) else (result,)


class Trial:
    """One op at one size on random inputs, and what is right."""

    def __init__(self, op, dims, dtype, device=CPU):
        self.workload = make_workload(op, dims, find_dtype(dtype))
        self.inputs = make_inputs(self.workload, device, index=0)
        self.meaning = bind(getattr(reference, op), self.workload)

    @functools.cached_property
    def truth(self):
        return tensors(self.meaning(*self.inputs))

    @functools.cached_property
    def plain(self):
        return tensors(self.meaning(*self.inputs, precision=self.workload.dtype.name))

    def passes(self, result):
        """Held to the same bound as in a run."""
        assert [each.dtype for each in tensors(result)] == [each.dtype for each in self.plain]
        return check_all(tensors(result), self.truth, self.plain, result_format(self.workload)).passed

    def run(self, implementation, **changed):
        inputs = [changed.get(str(index), each) for index, each in enumerate(self.inputs)]
        return bind(implementation, self.workload)(*inputs)


@functools.cache
def shared(op, dtype, **dims):
    """A trial that many tests run, none of which changes its inputs but for what every call appends."""
    return Trial(op, dims, dtype)


# The napkin.


def test_a_tiny_block_by_hand():
    # hidden 8. Q and the output projection 8x8 each, K and V 4x8 each: 64 + 64 + 32 + 32 = 192; gate, up and down 3x8
    # each: 72. 264 elements, and norms of 8 + 8.
    # 2 sequences of 3 tokens: 2*6*264 FLOP; 2 heads meet 1 + 2 + 3 keys: 24 pairs of 4*4 FLOP.
    # x is 6*8, cos and sin 6*2 each; the result is 6*8; 2 bytes each.
    found = amounts("block_forward", batch=2, seq=3, **TINY)
    assert found == Amounts({Resource.TENSOR_BF16: 3168 + 384}, 2 * (280 + 48 + 24), 2 * 48)
    # One token a sequence: 2*2*264 FLOP; 2 heads meet 5 keys: 20 pairs. K and V of 4 tokens are read: 2*2*4*4 numbers,
    # those of the new one written: 2*2*4.
    found = amounts("block_decode", batch=2, context=5, **TINY)
    assert found == Amounts({Resource.TENSOR_BF16: 1056 + 320}, 2 * (280 + 16 + 8 + 64), 2 * (16 + 16))
    # Three times the products, 14/4 of attention. 280 parameters: 2 bytes of weights, 4 each of master, m and v, read
    # and written; x and the gradient of the output in, cos and sin; the output and the gradient of x out.
    found = amounts("block_train", batch=2, seq=3, **TINY)
    assert found == Amounts({Resource.TENSOR_BF16: 3 * 3168 + 24 * 14 * 4}, 280 * 14 + 2 * (96 + 24), 280 * 14 + 2 * 96)


# The residual stream is wider than the heads; and a block of GPT-2.
WIDE = {**TINY, "hidden": 10}
PLAIN = {**TINY, "hidden": 10, "matrices": 2}


def test_a_tiny_block_of_another_width_by_hand():
    # hidden 10, heads of 2*4. Q 8x10, K and V 4x10 each, the output projection 10x8: 80 + 40 + 40 + 80 = 240; gate, up
    # and down 3x10 each: 90. 330 elements, and norms of 10 + 10.
    # Attention meets as many keys as above: 384 and 320 FLOP. x is 6*10 or 2*10, cos and sin 6*4 or 2*4.
    found = amounts("block_forward", batch=2, seq=3, **WIDE)
    assert found == Amounts({Resource.TENSOR_BF16: 2 * 6 * 330 + 384}, 2 * (350 + 60 + 24), 2 * 60)
    found = amounts("block_decode", batch=2, context=5, **WIDE)
    assert found == Amounts({Resource.TENSOR_BF16: 2 * 2 * 330 + 320}, 2 * (350 + 20 + 8 + 64), 2 * (16 + 20))


def test_a_tiny_block_of_gpt2_by_hand():
    # Up and down: 240 + 60 = 300 elements; a norm has a weight and a bias: 4*10. No cos and sin.
    found = amounts("block_forward", batch=2, seq=3, **PLAIN)
    assert found == Amounts({Resource.TENSOR_BF16: 2 * 6 * 300 + 384}, 2 * (340 + 60), 2 * 60)
    found = amounts("block_decode", batch=2, context=5, **PLAIN)
    assert found == Amounts({Resource.TENSOR_BF16: 2 * 2 * 300 + 320}, 2 * (340 + 20 + 64), 2 * (16 + 20))


def test_a_dimension_that_says_what_leaving_it_out_does_is_left_out():
    plain = make_workload("block_decode", {"batch": 1, "context": 5, **TINY}, find_dtype("bf16"))
    said = make_workload("block_decode", {"matrices": 3, "hidden": 8, **plain.dims}, find_dtype("bf16"))
    assert said == plain
    assert plain.id == "block_decode-batch1-context5-heads2-kv_heads1-head_dim4-inner3-bf16"
    other = make_workload("block_decode", {"matrices": 2, "hidden": 10, **plain.dims}, find_dtype("bf16"))
    assert other.id == "block_decode-batch1-context5-heads2-kv_heads1-head_dim4-inner3-hidden10-matrices2-bf16"


def layer(model, component=None):
    """A function of a pass: its FLOP for one layer, without the vocabulary; of one component where named."""
    blocks = [each for each in Component if each is not Component.VOCAB and component in (None, each)]
    return lambda found: sum(found.component_flop(each) for each in blocks) / model.layers


@pytest.mark.parametrize(
    ("model", "dims"),
    [(find_model("llama-3-8b"), LLAMA3_8B_BLOCK), (find_model("gpt-2-small"), GPT2_SMALL_BLOCK)],
    ids=["llama", "gpt2"],
)
def test_a_block_is_a_layer_of_a_model(model, dims):
    flop = layer(model)
    for batch, length in ((1, 1), (3, 1000), (2, 4096)):
        assert amounts("block_forward", batch=batch, seq=length, **dims).flop == flop(forward(model, batch, length))
        # Token number `length` meets length - 1 cached tokens and itself.
        found = amounts("block_decode", batch=batch, context=length, **dims).flop
        assert found == flop(decode_step(model, batch, length - 1))
        step = training_step(model, batch, length, recompute=Recompute.FLASH)
        assert amounts("block_train", batch=batch, seq=length, **dims).flop == flop(step)
    # Weights and norms of a layer, in 16 bits; GPT-2 has biases besides: of its norms 2h, and 3h + h + 4h + h.
    block_bytes = amounts("block_decode", batch=1, context=1, **dims).bytes_read - 2 * (model.hidden + dims["head_dim"])
    biases = 11 * model.hidden if dims is GPT2_SMALL_BLOCK else 0
    assert block_bytes == 2 * (model.blocks[0].params / model.layers - biases)


@pytest.mark.parametrize(
    ("name", "dims"),
    [
        ("gpt-2-small", {"heads": 12, "kv_heads": 12, "head_dim": 64, "inner": 3072, "matrices": 2}),
        ("qwen3-4b", {"heads": 32, "kv_heads": 8, "head_dim": 128, "inner": 9728, "hidden": 2560}),
    ],
)
def test_a_block_is_a_layer_of_models_of_other_shapes(name, dims):
    model = find_model(name)
    flop = layer(model)
    assert amounts("block_forward", batch=2, seq=100, **dims).flop == flop(forward(model, 2, 100))
    assert amounts("block_decode", batch=2, context=100, **dims).flop == flop(decode_step(model, 2, 99))


def test_many_sizes_at_once_are_counted_as_each_alone():
    swept = sweep_amounts("block_train", {"batch": 1, "seq": [1, 64, 4096], **LLAMA3_8B_BLOCK}, find_dtype("bf16"))
    each = [amounts("block_train", batch=1, seq=seq, **LLAMA3_8B_BLOCK) for seq in (1, 64, 4096)]
    assert list(swept.flop) == [one.flop for one in each]
    assert list(swept.bytes) == [one.bytes for one in each]


def test_what_is_no_block_is_refused():
    with pytest.raises(BadWorkload, match="block_train takes dtype bf16 or fp16, not fp32"):
        amounts("block_train", "fp32", batch=1, seq=1, **TINY)
    with pytest.raises(BadWorkload, match="head_dim=5 is not a multiple of 2"):
        amounts("block_forward", batch=1, seq=1, **{**TINY, "head_dim": 5})
    with pytest.raises(BadWorkload, match="block_decode: matrices=4 is not 2 or 3"):
        amounts("block_decode", batch=1, context=1, **TINY, matrices=4)
    with pytest.raises(BadWorkload, match="hidden must be a positive whole number, not 0"):
        amounts("block_decode", batch=1, context=1, **TINY, hidden=0)
    with pytest.raises(BadWorkload, match="block_train has no dimension 'hidden'"):
        amounts("block_train", batch=1, seq=1, **TINY, hidden=8)
    with pytest.raises(BadWorkload, match=r"needs inner=\.\.\.; it takes .*, inner, and optionally hidden, matrices"):
        amounts("block_decode", batch=1, context=1, heads=1, kv_heads=1, head_dim=2)
    with pytest.raises(BadWorkload, match="heads=3 is not a multiple of kv_heads=2"):
        amounts("block_decode", batch=1, context=1, **{**TINY, "heads": 3, "kv_heads": 2})


# What it means.


def test_the_meaning_is_what_its_parts_mean():
    """Composed of the other references, each of which is tested by itself."""
    trial = Trial("block_forward", FORWARD, "fp64")
    x, cos, sin, *weights = trial.inputs
    held = BlockWeights(*weights)
    rows = x.reshape(26, 64)
    projected = reference.matmul(reference.rmsnorm(rows, held.attention_norm), held.qkv.t()).view(26, 8, 16)
    q, k, v = projected.split((4, 2, 2), dim=1)
    q, k = reference.rope(q, cos, sin), reference.rope(k, cos, sin)
    q, k, v = (each.reshape(2, 13, -1, 16).transpose(1, 2) for each in (q, k, v))
    attended = reference.attention_prefill(q, k, v).transpose(1, 2).reshape(26, 64)
    normed, total = reference.add_rmsnorm(reference.matmul(attended, held.out.t()), rows, held.mlp_norm)
    gate, up = reference.matmul(normed, held.gate_up.t()).split(24, dim=1)
    out = total + reference.matmul(reference.swiglu(gate, up), held.down.t())
    torch.testing.assert_close(trial.truth[0], out.view(x.shape), rtol=1e-12, atol=1e-12)


class Gpt2Block(torch.nn.Module):
    """GPT-2's block by PyTorch's modules, with its biases but those of the norms left at zero."""

    def __init__(self, heads, hidden, inner):
        super().__init__()
        self.attention_norm, self.mlp_norm = torch.nn.LayerNorm(hidden), torch.nn.LayerNorm(hidden)
        self.attention = torch.nn.MultiheadAttention(hidden, heads, batch_first=True)
        self.up, self.down = torch.nn.Linear(hidden, inner), torch.nn.Linear(inner, hidden)
        for bias in (self.attention.out_proj.bias, self.attention.in_proj_bias, self.up.bias, self.down.bias):
            torch.nn.init.zeros_(bias)

    def forward(self, x):
        normed = self.attention_norm(x)
        future = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
        x = x + self.attention(normed, normed, normed, attn_mask=future, need_weights=False)[0]
        return x + self.down(torch.nn.GELU(approximate="tanh")(self.up(self.mlp_norm(x))))

    def load(self, attention_norm, qkv, out, mlp_norm, up, down):
        pairs = [
            (self.attention_norm.weight, attention_norm[0]),
            (self.attention_norm.bias, attention_norm[1]),
            (self.attention.in_proj_weight, qkv),
            (self.attention.out_proj.weight, out),
            (self.mlp_norm.weight, mlp_norm[0]),
            (self.mlp_norm.bias, mlp_norm[1]),
            (self.up.weight, up),
            (self.down.weight, down),
        ]
        for parameter, value in pairs:
            parameter.data.copy_(value)
        return self


def test_a_block_with_two_matrices_is_gpt2s():
    trial = Trial("block_forward", {**FORWARD, "kv_heads": 4, "matrices": 2}, "fp64")
    x, *weights = trial.inputs  # no cos and sin
    module = Gpt2Block(4, 64, 24).double().load(*weights)
    torch.testing.assert_close(trial.truth[0], module(x).detach(), rtol=1e-11, atol=1e-11)


def test_a_token_with_a_cache_is_the_last_of_its_prompt_in_gpt2_too():
    dims = {**SMALL, "hidden": 80, "matrices": 2}
    x, *weights = Trial("block_forward", {"batch": 2, "seq": 13, **dims}, "fp64").inputs
    whole = reference.block_forward(x, *weights, head_dim=16)
    norm, qkv, *_ = weights
    normed = F.layer_norm(x, (80,), *norm, eps=1e-5)
    projected = F.linear(normed, qkv).view(2, 13, 8, 16).transpose(1, 2)
    k, v = projected[:, 4:6].clone(), projected[:, 6:].clone()
    last = k[:, :, -1].clone(), v[:, :, -1].clone()
    k[:, :, -1] = v[:, :, -1] = torch.nan  # never read
    found = reference.block_decode(x[:, -1], *weights, k, v)
    for actual, expected in zip(found, (whole[:, -1], *last), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


def test_a_token_with_a_cache_is_the_last_of_its_prompt():
    x, cos, sin, *weights = Trial("block_forward", FORWARD, "fp64").inputs
    whole = reference.block_forward(x, cos, sin, *weights, head_dim=16)
    held = BlockWeights(*weights)
    projected = reference.matmul(reference.rmsnorm(x.reshape(26, 64), held.attention_norm), held.qkv.t()).view(
        26, 8, 16
    )
    k = reference.rope(projected[:, 4:6], cos, sin).view(2, 13, 2, 16).transpose(1, 2).clone()
    v = projected[:, 6:].reshape(2, 13, 2, 16).transpose(1, 2).clone()
    k[:, :, -1] = v[:, :, -1] = torch.nan  # never read
    last = [each.view(2, 13, -1)[:, -1] for each in (cos, sin)]
    appended = [
        each.view(2, 13, -1, 16)[:, -1]
        for each in (reference.rope(projected[:, 4:6], cos, sin), projected[:, 6:].contiguous())
    ]
    found = reference.block_decode(x[:, -1], *last, *weights, k, v)
    for actual, expected in zip(found, (whole[:, -1], *appended), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)
    assert k[:, :, -1].isnan().all()


def test_training_computes_what_the_forward_pass_does_and_its_gradients():
    trial = shared("block_train", "bf16", **FORWARD)
    x, grad, cos, sin, weights, _, m, _ = (each.double() for each in trial.inputs)
    sizes = BlockSizes(2, 13, 13, **SMALL, hidden=64)
    out, slope, _, _, new_m, _ = trial.truth

    def objective(x, weights):
        (parts,) = split_block_weights(weights, sizes)
        return (reference.block_forward(x, cos, sin, *parts, head_dim=16) * grad).sum().item()

    (parts,) = split_block_weights(weights, sizes)
    torch.testing.assert_close(out, reference.block_forward(x, cos, sin, *parts, head_dim=16))
    gradient = (new_m - ADAMW_BETAS[0] * m) / (1 - ADAMW_BETAS[0])
    generator = torch.Generator().manual_seed(0)
    for _ in range(2):
        for along_x in (True, False):
            direction = torch.randn((x if along_x else weights).shape, dtype=torch.float64, generator=generator)
            nudge = 1e-5 * direction
            if along_x:
                rise = objective(x + nudge, weights) - objective(x - nudge, weights)
                expected = (slope * direction).sum().item()
            else:
                rise = objective(x, weights + nudge) - objective(x, weights - nudge)
                expected = (gradient * direction).sum().item()
            assert rise / 2e-5 == pytest.approx(expected, rel=1e-5)


def test_the_optimizer_is_the_one_that_pytorch_has():
    gradient, master, m = (torch.randn(100, dtype=torch.float64) for _ in range(3))
    v = torch.rand(100, dtype=torch.float64)
    parameter = torch.nn.Parameter(master.clone())
    optimizer = torch.optim.AdamW(
        [parameter], lr=ADAMW_RATE, betas=ADAMW_BETAS, eps=ADAMW_EPS, weight_decay=ADAMW_DECAY, foreach=False
    )
    moments = {"exp_avg": m.clone(), "exp_avg_sq": v.clone()}
    optimizer.state[parameter] = {"step": torch.tensor(ADAMW_STEP - 1.0), **moments}
    parameter.grad = gradient.clone()
    optimizer.step()
    found = reference.adamw(gradient, master, m, v)
    for actual, expected in zip(found, (parameter.detach(), *moments.values()), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-13, atol=1e-13)


def test_what_a_training_step_makes_is_rounded_where_it_is_kept_in_16_bits():
    trial = shared("block_train", "bf16", **FORWARD)
    out, slope, weights, master, m, v = trial.plain
    assert [each.dtype for each in (out, slope, weights)] == [torch.bfloat16] * 3
    assert [each.dtype for each in (master, m, v)] == [torch.float32] * 3
    assert torch.equal(weights, master.bfloat16())
    assert not torch.equal(master, trial.inputs[5])


# Implementations.


@pytest.mark.parametrize("dtype", ["fp64", "fp32", "bf16", "fp16"])
@pytest.mark.parametrize(
    "model",
    [
        SMALL,
        {**SMALL, "kv_heads": 4},
        {**SMALL, "kv_heads": 1},
        {**SMALL, "hidden": 80},
        {**SMALL, "hidden": 48, "matrices": 2},
    ],
)
def test_pytorch_is_right(model, dtype, device):
    forward = Trial("block_forward", {**FORWARD, **model}, dtype, device)
    assert forward.passes(forward.run(block_forward))
    decode = Trial("block_decode", {**DECODE, **model}, dtype, device)
    assert decode.passes(decode.run(block_decode))


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
@pytest.mark.parametrize("model", [SMALL, {**SMALL, "kv_heads": 4}])
def test_training_by_pytorch_is_right(model, dtype, device):
    trial = Trial("block_train", {**FORWARD, **model}, dtype, device)
    assert trial.passes(trial.run(trained))


@pytest.mark.parametrize("dtype", ["fp32", "fp16", pytest.param("bf16", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("model", [{}, {"kv_heads": 2}, {"hidden": 96}, {"hidden": 96, "kv_heads": 2, "matrices": 2}])
def test_our_kernels_composed_are_right(model, dtype, device):
    block_triton = pytest.importorskip("kernels.triton.block")
    model = {**FOR_TRITON, **model}
    for op, dims in (("block_forward", {"batch": 2, "seq": 19}), ("block_decode", {"batch": 2, "context": 19})):
        trial = Trial(op, {**dims, **model}, dtype, device)
        assert trial.passes(trial.run(by_triton(block_triton)[op]))


def test_a_call_leaves_what_it_is_given_alone():
    for op, dims in (("block_forward", FORWARD), ("block_train", FORWARD), ("block_decode", DECODE)):
        trial = Trial(op, dims, "bf16")
        before = [each.clone() for each in trial.inputs]
        run = BY_PYTORCH[op]
        first, second = trial.run(run), trial.run(run)
        assert all(torch.equal(*pair) for pair in zip(tensors(first), tensors(second), strict=True))
        for given, was in zip(trial.inputs, before, strict=True):
            # Of the caches, but for the last position, which is the new token's.
            kept = (each[:, :, :-1] if op == "block_decode" and each.dim() == 4 else each for each in (given, was))
            assert torch.equal(*kept)
            assert not given.requires_grad


def test_a_training_step_updates_its_own_state_in_place_and_stays_where_it_is():
    trial = Trial("block_train", {"batch": 1, "seq": 13, **SMALL}, "bf16")
    master = trial.inputs[5]
    (step,) = block_train.prepare_train(*trial.inputs, kv_heads=SMALL["kv_heads"])
    assert step.nbytes == sum(each.nbytes for each in trial.inputs)  # of which the copies take the place
    first = block.issue(step)
    assert trial.passes(first)
    assert {each.data_ptr() for each in first}.isdisjoint(each.data_ptr() for each in trial.inputs)
    for _ in range(100):
        last = block.issue(step)
        assert [each.data_ptr() for each in last[2:]] == [each.data_ptr() for each in first[2:]]
    assert all(each.isfinite().all() for each in last)
    # 100 steps one way move each weight by about 100 rates; back and forth, by a few.
    assert (last[3] - master).abs().mean() < 5 * ADAMW_RATE
    assert torch.equal(last[2], last[3].bfloat16())


@pytest.mark.parametrize("forwards", [1, 2])
def test_layers_train_as_one_block_after_the_other_whatever_they_keep(forwards):
    trial = Trial("block_train", {**FORWARD, "layers": 3, "forwards": forwards}, "bf16")
    x, grad, cos, sin, weights, *_ = (each.double() for each in trial.inputs)
    out = x
    for parts in split_block_weights(weights, BlockSizes(2, 13, 13, **SMALL, hidden=64)):
        out = reference.block_forward(out, cos, sin, *parts, head_dim=16)
    torch.testing.assert_close(trial.truth[0], out)
    # A gradient that only the first layer's weights reach: a finite difference through all layers.
    last = torch.zeros_like(weights)
    last[: len(weights) // 3] = 1e-6 * torch.randn(len(weights) // 3, dtype=torch.float64)
    gradient = (trial.truth[4] - ADAMW_BETAS[0] * trial.inputs[6].double()) / (1 - ADAMW_BETAS[0])

    def objective(nudged):
        out = x
        for parts in split_block_weights(nudged, BlockSizes(2, 13, 13, **SMALL, hidden=64)):
            out = reference.block_forward(out, cos, sin, *parts, head_dim=16)
        return (out * grad).sum().item()

    slope = (objective(weights + last) - objective(weights - last)) / 2
    assert slope == pytest.approx((gradient * last).sum().item(), rel=1e-4)
    assert trial.passes(trial.run(trained))


def test_two_layers_that_run_their_forward_pass_twice_by_hand():
    # Of one layer: 264 matrix elements and 24 pairs, as in a tiny block by hand; x, the gradients and the angles once.
    kept = amounts("block_train", batch=2, seq=3, **TINY, layers=2)
    moved = 2 * 280 * 14 + 2 * (96 + 24), 2 * 280 * 14 + 2 * 96
    assert kept == Amounts({Resource.TENSOR_BF16: 2 * (3 * 3168 + 24 * 14 * 4)}, *moved)
    again = amounts("block_train", batch=2, seq=3, **TINY, layers=2, forwards=2)
    assert again == Amounts({Resource.TENSOR_BF16: 2 * (4 * 3168 + 24 * 18 * 4)}, *moved)
    with pytest.raises(BadWorkload, match="forwards=3 is not 1 or 2"):
        amounts("block_train", batch=2, seq=3, **TINY, forwards=3)


def test_one_run_of_training_leaves_nothing_for_the_next():
    asked = make_workload("block_train", FORWARD, find_dtype("bf16"))
    lab = Lab(cpu_environment(), WallTimer(), Budget(time_s=0.05, warmup_s=0.02), monitor=None)
    first, second = (lab.run(Job(asked, "torch")) for _ in range(2))
    assert first.status is second.status is Status.MEASURED
    assert first.check == second.check  # on the same inputs, many steps later


def test_room_is_asked_for_the_copied_state_too():
    for model in (GPT2_SMALL_BLOCK, LLAMA3_8B_BLOCK):
        for seq in (1, 1024, 65536):
            asked = make_workload("block_train", {"batch": 1, "seq": seq, **model}, find_dtype("bf16"))
            assert (
                needed_bytes(asked, find_implementation(asked, "torch", "cpu"))
                > peak_bytes(asked) + asked.amounts.bytes_read
            )


def test_the_new_token_is_appended_to_the_caches():
    trial = Trial("block_decode", DECODE, "fp64")
    _, k, v = trial.run(block_decode)
    assert torch.equal(trial.inputs[9][:, :, 12], k)
    assert torch.equal(trial.inputs[10][:, :, 12], v)


# Wrong ones are found out, at sizes where attention is the mean of many values.

LONG = {"batch": 1, "seq": 256, **SMALL}
LONG_CACHE = {"batch": 2, "context": 2048, **SMALL}


def changes(inputs, *, first):
    """Inputs, `first` being the number of the first weight, with which a right block computes what a wrong one does."""
    cos, sin = first - 2, first - 1
    norm, qkv, out, mlp_norm, gate_up, down = range(first, first + 6)
    q, k, v = inputs[qkv].split((64, 32, 32))
    return {
        "no rotary embedding": {cos: torch.ones_like(inputs[cos]), sin: torch.zeros_like(inputs[sin])},
        "turned the other way": {sin: -inputs[sin]},
        "first norm's weight forgotten": {norm: torch.ones_like(inputs[norm])},
        "second norm's weight forgotten": {mlp_norm: torch.ones_like(inputs[mlp_norm])},
        "K and V exchanged": {qkv: torch.cat((q, v, k))},
        "KV heads exchanged": {qkv: torch.cat((q, k.roll(16, 0), v.roll(16, 0)))},
        "gate and up exchanged": {gate_up: inputs[gate_up].roll(24, 0)},
        "no attention": {out: torch.zeros_like(inputs[out])},
        "no MLP": {down: torch.zeros_like(inputs[down])},
    }


@pytest.mark.parametrize("what", changes([torch.zeros(128)] * 9, first=3))
def test_a_wrong_block_is_caught(what):
    for op, dims, run in (
        ("block_forward", LONG, block_forward),
        ("block_decode", LONG_CACHE, block_decode),
    ):
        trial = shared(op, "bf16", **dims)
        assert trial.passes(trial.run(run))
        wrong = {str(index): each for index, each in changes(trial.inputs, first=3)[what].items()}
        assert not trial.passes(trial.run(run, **wrong)), op


@pytest.mark.parametrize("mistake", [{"is_causal": False}, {"scale": 0.5}])
def test_wrong_attention_is_caught(mistake, monkeypatch):
    trial = shared("block_forward", "bf16", **LONG)
    right = F.scaled_dot_product_attention
    monkeypatch.setattr(
        F, "scaled_dot_product_attention", lambda *qkv, **options: right(*qkv, **{**options, **mistake})
    )
    assert not trial.passes(trial.run(block_forward))


def test_a_wrong_cache_is_caught():
    trial = shared("block_decode", "bf16", **LONG_CACHE)
    k, v = trial.inputs[-2:]
    assert not trial.passes(trial.run(block_decode, **{"9": k[:, :, 1024:], "10": v[:, :, 1024:]}))
    assert not trial.passes(trial.run(block_decode, **{"9": k.roll(1, 2)}))
    assert not trial.passes(trial.run(block_decode, **{"9": k.flip(1), "10": v.flip(1)}))


def test_a_wrong_residual_is_caught():
    for op, dims in (("block_forward", FORWARD), ("block_decode", DECODE)):
        trial = Trial(op, dims, "bf16")
        right, *appended = tensors(trial.run(BY_PYTORCH[op]))
        assert trial.passes((right, *appended))
        assert not trial.passes((right - trial.inputs[0], *appended))
        assert not trial.passes((right + trial.inputs[0], *appended))


@pytest.mark.parametrize("what", changes([torch.zeros(128)] * 9, first=3))
def test_a_wrong_training_step_is_caught(what):
    trial = shared("block_train", "bf16", **{**LONG, "seq": 128})
    assert trial.passes(trial.run(trained))
    x, _, cos, sin, weights, *_ = trial.inputs
    (parts,) = split_block_weights(weights, BlockSizes(1, 128, 128, **SMALL, hidden=64))
    _, cos, sin, *parts = (
        changes([x, cos, sin, *parts], first=3)[what].get(index, each)
        for index, each in enumerate([x, cos, sin, *parts])
    )
    wrong = torch.cat([each.flatten() for each in parts])
    assert not trial.passes(trial.run(trained, **{"2": cos, "3": sin, "4": wrong}))


def test_a_gradient_that_is_wrong_in_one_small_place_is_caught():
    trial = shared("block_train", "bf16", **FORWARD)
    out, slope, weights, master, m, v = trial.run(trained)
    kept = m.clone()
    kept[:64] = ADAMW_BETAS[0] * trial.inputs[6][:64]  # of the first norm's weight: none
    assert not trial.passes((out, slope, weights, master, kept, v))
    assert not trial.passes((out, slope - trial.inputs[1], weights, master, m, v))  # without the residual's
    assert not trial.passes((out, slope, weights, trial.inputs[5], m, v))  # no step
    assert not trial.passes((out, slope, torch.zeros_like(weights), master, m, v))
    assert not trial.passes((out, slope, weights, master, m, trial.inputs[7]))


@pytest.mark.parametrize("mistake", [{"ADAMW_STEP": 1000}, {"ADAMW_RATE": 2e-4}, {"ADAMW_BETAS": (0.9, 0.999)}])
def test_a_wrong_optimizer_is_caught(mistake, monkeypatch):
    trial = shared("block_train", "bf16", **FORWARD)
    for name, value in mistake.items():
        monkeypatch.setattr(block_train, name, value)
    assert not trial.passes(trial.run(trained))


# torch.compile.


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_a_compiled_step_is_one_graph_and_right(dtype, graphs):
    for op, dims, run in (
        ("block_forward", FORWARD, compiled_forward),
        ("block_decode", DECODE, compiled_decode),
    ):
        trial = Trial(op, dims, dtype)
        assert all(trial.passes(trial.run(run)) for _ in range(2))
    assert len(graphs) == 2


def test_a_compiled_training_step_is_a_graph_of_the_block_and_one_of_the_optimizer(graphs):
    trial = shared("block_train", "bf16", **FORWARD)
    assert all(trial.passes(trial.run(compiled_train)) for _ in range(2))
    assert len(graphs) == 2


GPU_BLOCKS = [row for row in IMPLEMENTATIONS if row.op.startswith("block_") and "cuda" in row.devices]


@pytest.mark.gpu
@pytest.mark.parametrize("row", GPU_BLOCKS, ids=lambda row: f"{row.op}-{row.name}")
def test_every_implementation_is_right_on_a_gpu(row, device):
    dims = {"batch": 2, **({"context": 100} if row.op == "block_decode" else {"seq": 100}), **LLAMA3_8B_BLOCK}
    trial = Trial(row.op, {**dims, "inner": 1024}, "bf16", device)
    prepare = bind(row.prepare, trial.workload)
    prepared = prepare(*trial.inputs)
    for _ in range(3):
        if row.op == "block_train":
            prepared = prepare(*trial.inputs)  # the last step has moved its state
        assert trial.passes(bind(row.run, trial.workload)(*prepared))


# CUDA graphs, on a CUDA that is made up.


def test_a_captured_step_is_warmed_aside_and_knows_its_memory(monkeypatch):
    log = []
    allocated = iter([1000, 1000 + 48])  # before the capture; at its peak
    streams = {
        name: SimpleNamespace(wait_stream=lambda other, name=name: log.append(name)) for name in ("aside", "own")
    }

    @contextlib.contextmanager
    def within(what):
        log.append(f"in {what}")
        yield
        log.append(f"out of {what}")

    graph = SimpleNamespace(replay=lambda: log.append("replay"))
    monkeypatch.setattr(block, "_stream_aside", lambda: streams["aside"])
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: streams["own"])
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: within("aside"))
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: graph)
    monkeypatch.setattr(torch.cuda, "graph", lambda captured, stream: within("capture"))
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: next(allocated))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: next(allocated))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: log.append("reset"))
    step = block.Step(lambda: log.append("step") or "result", nbytes=110)
    captured = block.capture(step, torch.device("cuda"))
    assert log == ["aside", "in aside", "step", "out of aside", "own", "reset", "in capture", "step", "out of capture"]
    assert captured.nbytes == 110 + 48
    assert captured.reads is step
    log.clear()
    assert block.issue(captured) == "result"
    assert log == ["replay"]


def test_a_step_is_checked_before_it_is_issued(monkeypatch):
    """What only a measurement needs is no part of the host's time."""
    trial = shared("block_decode", "bf16", **LONG_CACHE)
    (step,) = block.prepare_decode(*trial.inputs)
    assert step.nbytes == sum(each.nbytes for each in trial.inputs)
    monkeypatch.setattr(block, "block_decode_sizes", None)
    monkeypatch.setattr(block, "fp32_matmul_precision", None)
    assert trial.passes(block.issue(step))


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_fp32_products_are_in_full_precision_whatever_was_set(dtype, monkeypatch):
    seen = []
    right = F.linear

    def linear(x, weight):
        seen.append(torch.backends.cuda.matmul.fp32_precision)
        return right(x, weight)

    trial = Trial("block_forward", FORWARD, dtype)
    monkeypatch.setattr(F, "linear", linear)
    before = torch.backends.cuda.matmul.fp32_precision
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    try:
        trial.run(block_forward)
    finally:
        torch.backends.cuda.matmul.fp32_precision = before
    assert set(seen) == {"ieee" if dtype == "fp32" else "tf32"}


def test_a_cpu_has_no_graphs():
    block_triton = pytest.importorskip("kernels.triton.block")
    heads = {"head_dim": 64}  # which our kernels take
    prompt, token = Trial("block_forward", FORWARD | heads, "fp32"), Trial("block_decode", DECODE | heads, "fp32")
    for capture, trial in (
        (block.capture_forward, prompt),
        (block.capture_decode, token),
        (block_triton.capture_forward, prompt),
        (block_triton.capture_decode, token),
    ):
        with pytest.raises(Unsupported, match="needs CUDA tensors, not cpu"):
            trial.run(capture)


# What is refused.


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (0, "qkv of shape .* does not make heads|attention_norm must have shape|x must have shape"),
        (1, "cos must have shape|qkv of shape"),
        (2, "sin must have shape"),
        (3, "attention_norm must have shape"),
        (4, "qkv must have shape|qkv of shape"),
        (5, "out must have shape"),
        (6, "mlp_norm must have shape"),
        (7, "gate_up must have shape"),
        (8, "gate_up must have shape|down must have shape"),
    ],
)
def test_wrong_shapes_are_refused_by_name(index, message):
    for op, dims in (("block_forward", FORWARD), ("block_decode", DECODE)):
        trial = shared(op, "fp32", **dims)
        cut = trial.inputs[index].narrow(
            -1 if index in (0, 8) else 0, 0, trial.inputs[index].shape[0 if index not in (0, 8) else -1] - 1
        )
        for run in (getattr(reference, op), BY_PYTORCH[op]):
            with pytest.raises(ValueError, match=f"{op}: ({message})"):
                trial.run(run, **{str(index): cut})
            with pytest.raises(ValueError, match=f"{op}: .*must share one dtype"):
                trial.run(run, **{str(index): trial.inputs[index].double()})


def test_wrong_caches_are_refused():
    trial = Trial("block_decode", DECODE, "fp32")
    for index in (9, 10):
        with pytest.raises(ValueError, match=r"block_decode: [kv]_cache must have shape"):
            trial.run(block_decode, **{str(index): trial.inputs[index][:, :1]})


@pytest.mark.parametrize(
    ("index", "cut", "message"),
    [
        (1, lambda grad: grad[:, 1:], "grad must have shape"),
        (2, lambda cos: cos[1:], "cos must have shape"),
        (4, lambda weights: weights[1:], "weights do not make a block"),
        (5, lambda master: master[1:], "master must have shape"),
        (6, lambda m: m.double(), "m must be fp32, not fp64"),
        (7, lambda v: v.repeat_interleave(2)[::2], "must be contiguous"),
    ],
)
def test_wrong_state_is_refused(index, cut, message):
    trial = shared("block_train", "bf16", **FORWARD)
    for run in (reference.block_train, trained, compiled_train):
        with pytest.raises(ValueError, match=f"block_train: .*{message}"):
            trial.run(run, **{str(index): cut(trial.inputs[index])})


def test_more_kv_heads_than_fit_are_refused():
    trial = shared("block_train", "bf16", **FORWARD)
    with pytest.raises(ValueError, match="hidden=64 must be a multiple of kv_heads=3 times head_dim=16"):
        trained(*trial.inputs, kv_heads=3)


def test_what_kernels_do_not_take_is_refused_before_any_is_launched():
    block_triton = pytest.importorskip("kernels.triton.block")
    for op, dims, prepare in (
        ("block_forward", FORWARD, block_triton.prepare_forward),
        ("block_decode", DECODE, block_triton.prepare_decode),
    ):
        trial = Trial(op, dims, "fp32")
        with pytest.raises(Unsupported, match=f"{op} does not support head_dim=16; supported: 64, 128"):
            trial.run(prepare)
        trial = Trial(op, dims, "fp64")
        with pytest.raises(Unsupported, match=f"{op} does not support fp64"):
            trial.run(prepare)
    grouped = Trial("block_decode", {**DECODE, "head_dim": 64, "heads": 129, "kv_heads": 1}, "fp16")
    *others, k_cache, v_cache = grouped.inputs
    before = k_cache.clone()
    with pytest.raises(Unsupported, match="block_decode: 1 queries of 129 heads for each K/V head are 129 rows"):
        block_triton.prepare_decode(*others, k_cache, v_cache)
    assert torch.equal(k_cache, before)
    wide = Trial("block_train", FORWARD, "bf16")
    with pytest.raises(Unsupported, match="block_train does not support fp32; supported: bf16, fp16"):
        wide.run(trained, **{"0": wide.inputs[0].float()})


def test_the_host_counts_for_whole_steps_and_for_nothing_else():
    steps = {"block_forward", "block_decode", "block_train", "model_forward", "model_decode"}
    steps |= {"serve_static", "serve_continuous", "generate_tokens", "generate_drafted"}
    assert {op for op, case in CASES.items() if case.as_issued} == steps
