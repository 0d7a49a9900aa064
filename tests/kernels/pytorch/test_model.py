"""A whole model: its amounts, its meaning, and every implementation of it that runs without a GPU."""

import functools

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from bench.cases import IMPLEMENTATIONS, bind, find_implementation, make_inputs, needed_bytes
from bench.check import check_all
from bench.lab import Job, Lab
from bench.record import Status
from bench.sampling import Budget
from bench.suites import GPT2_SMALL_MODEL
from bench.timer import WallTimer
from kernels import reference
from kernels.pytorch import block, model
from kernels.shapes import BlockWeights, split_model
from kernels.unsupported import Unsupported
from predict.model.linear import Component
from predict.model.passes import Logits, decode_step, forward
from predict.model.presets import find_model
from predict.peak_memory import peak_bytes
from predict.resources import Resource
from predict.units import find_dtype
from predict.workloads import Amounts, make_workload
from tests.fakes import cpu_environment

CPU = torch.device("cpu")
TINY = {"layers": 3, "heads": 2, "kv_heads": 1, "head_dim": 4, "inner": 3, "vocab": 7}
LLAMA = {"layers": 3, "heads": 4, "kv_heads": 2, "head_dim": 16, "inner": 24, "vocab": 50, "hidden": 80}
GPT2 = {"layers": 3, "heads": 4, "kv_heads": 4, "head_dim": 16, "inner": 96, "vocab": 50, "matrices": 2}
SHAPES = pytest.mark.parametrize("shape", [LLAMA, GPT2], ids=["llama", "gpt2"])


def asked(op, dtype="bf16", **dims):
    return make_workload(op, dims, find_dtype(dtype))


class Trial:
    """One op at one size on random inputs, and what is right."""

    def __init__(self, op, dtype, **dims):
        self.workload = asked(op, dtype, **dims)
        self.inputs = make_inputs(self.workload, CPU, index=0)
        self.meaning = bind(getattr(reference, op), self.workload)

    @functools.cached_property
    def truth(self):
        return tensors(self.meaning(*self.inputs))

    @functools.cached_property
    def plain(self):
        return tensors(self.meaning(*self.inputs, precision=self.workload.dtype.name))

    def step(self, prepare, **changed):
        inputs = [changed.get(str(index), each) for index, each in enumerate(self.inputs)]
        return bind(prepare, self.workload)(*inputs)[0]

    def passes(self, result):
        """Held to the same bound as in a run."""
        assert [each.dtype for each in tensors(result)] == [each.dtype for each in self.plain]
        return check_all(tensors(result), self.truth, self.plain, self.workload.dtype).passed


def tensors(result):
    return result if isinstance(result, tuple) else (result,)


PROMPT, TOKEN = {"batch": 2, "seq": 13}, {"batch": 3, "context": 13}
OPS = {
    "model_forward": (PROMPT, model.prepare_forward, model.compile_forward),
    "model_decode": (TOKEN, model.prepare_decode, model.compile_decode),
}

# The napkin.


def test_a_tiny_model_by_hand():
    # hidden 8. A block has 192 + 3*8*3 = 264 elements of matrices, and norms of 8 + 8; three blocks have 840. The last
    # norm 8, the vocabulary 7*8. 904 elements.
    # 2 prompts of 3 tokens: 3 * 2*6*264 FLOP; in each layer 24 pairs of 4*4; two positions go on: 2 * 2*8*7.
    # x 6*8, cos and sin 6*4 once for all layers; logits 2*7.
    found = asked("model_forward", batch=2, seq=3, **TINY).amounts
    assert found == Amounts({Resource.TENSOR_BF16: 9504 + 3 * 384 + 224}, 2 * (904 + 48 + 24), 2 * 14)
    # One token a sequence: 3 * 2*2*264 FLOP, 20 pairs of 16 a layer. 4 tokens of K and V are read in each of three
    # layers: 3*2*2*4*4 numbers; those of the new one are written: 3*2*2*4.
    found = asked("model_decode", batch=2, context=5, **TINY).amounts
    assert found == Amounts({Resource.TENSOR_BF16: 3168 + 3 * 320 + 224}, 2 * (904 + 16 + 8 + 192), 2 * (48 + 14))


def test_a_tiny_gpt2_by_hand():
    # hidden 10, heads of 8. A block has 240 + 2*10*3 = 300 elements, and norms of 20 + 20; three blocks 1020. The last
    # norm 20, the vocabulary 7*10: 1110 elements. No cos and sin.
    shape = {**TINY, "hidden": 10, "matrices": 2}
    found = asked("model_forward", batch=2, seq=3, **shape).amounts
    assert found == Amounts({Resource.TENSOR_BF16: 10800 + 3 * 384 + 280}, 2 * (1110 + 60), 2 * 14)
    found = asked("model_decode", batch=2, context=5, **shape).amounts
    assert found == Amounts({Resource.TENSOR_BF16: 3600 + 3 * 320 + 280}, 2 * (1110 + 20 + 192), 2 * (48 + 14))


def test_gpt2_small_is_the_preset():
    found = find_model("gpt-2-small")
    one = asked("model_decode", batch=1, context=1, **GPT2_SMALL_MODEL)
    # Biases of a layer that the op has not: 3h of QKV, h of the projection, 4h of up, h of down. Learned positions are
    # looked up like the embedding.
    left_out = 12 * 9 * 768 + found.position_params
    assert one.amounts.bytes_read == 2 * (found.params - left_out + 768)
    prompt = asked("model_forward", batch=2, seq=100, **GPT2_SMALL_MODEL)
    assert prompt.amounts.flop == flop(forward(found, 2, 100, logits=Logits.LAST))
    token = asked("model_decode", batch=2, context=100, **GPT2_SMALL_MODEL)
    assert token.amounts.flop == flop(decode_step(found, 2, 99))


def flop(found):
    return sum(found.component_flop(each) for each in Component)


def test_memory_is_that_of_the_inputs_and_of_one_layer():
    # 976 elements of inputs and 14 logits as above. For each of 6 tokens the layer's input, 8, and the most between its
    # kernels: Q, K and V of 16 and attention's output of 8.
    assert peak_bytes(asked("model_forward", batch=2, seq=3, **TINY)) == 2 * (976 + 14 + 6 * 32)
    # 1120 + 62 elements, of 2 tokens.
    assert peak_bytes(asked("model_decode", batch=2, context=5, **TINY)) == 2 * (1120 + 62 + 2 * 32)


def test_a_model_needs_its_weights_once_and_a_matrix_in_fp64():
    """As many bytes as Llama-3-8B: 16 GB of weights run on a card of 24 GB."""
    llama = {"layers": 32, "heads": 32, "kv_heads": 8, "head_dim": 128, "inner": 14336, "vocab": 128256}
    workload = asked("model_decode", batch=1, context=1024, **llama)
    needed = needed_bytes(workload, find_implementation(workload, "torch", "cpu"))
    assert workload.amounts.bytes == pytest.approx(15.0e9, rel=0.02)  # 8.03e9 parameters without the embedding
    largest_in_fp64 = 8 * 28672 * 4096
    assert workload.amounts.bytes + largest_in_fp64 + 2**30 < needed < workload.amounts.bytes + 2.1 * 2**30
    # Weights alone of a model that does not fit in 100 GiB.
    wide = asked("model_decode", batch=1, context=1, **{**llama, "layers": 80, "hidden": 8192, "inner": 28672})
    assert needed_bytes(wide, find_implementation(wide, "torch", "cpu")) > 100 * 2**30


# What it means.


def test_the_meaning_is_its_blocks_one_after_the_other():
    for shape in (LLAMA, GPT2):
        trial = Trial("model_forward", "fp64", **PROMPT, **shape)
        x, *others = trial.inputs
        angles, weights = split_model(tuple(others))
        assert len(angles) == (0 if shape is GPT2 else 2)
        for layer in weights.layers:
            x = reference.block_forward(x, *angles, *layer, head_dim=16)
        last = x[:, -1]
        if shape is GPT2:
            normed = F.layer_norm(last, last.shape[1:], *weights.norm, eps=1e-5)
        else:
            normed = F.rms_norm(last, last.shape[1:], weights.norm, 1e-6)
        torch.testing.assert_close(trial.truth[0], normed @ weights.vocabulary.T, rtol=1e-11, atol=1e-11)


@SHAPES
def test_a_token_with_caches_is_the_last_of_its_prompt(shape):
    """Caches as the layers' own keys and values of the prompt make them."""
    x, *others = Trial("model_forward", "fp64", **PROMPT, **shape).inputs
    whole = reference.model_forward(x, *others, head_dim=16)
    angles, weights = split_model(tuple(others))
    caches = []
    states = x
    for layer in weights.layers:
        # The block of one token after t others, for every t, tells K and V of all of them.
        empty = torch.full((2, shape["kv_heads"], 13, 16), torch.nan, dtype=torch.float64)
        k, v = empty.clone(), empty.clone()
        for t in range(13):
            turned = (each.view(2, 13, -1)[:, t] for each in angles)
            _, k[:, :, t], v[:, :, t] = reference.block_decode(
                states[:, t], *turned, *layer, k[:, :, : t + 1], v[:, :, : t + 1]
            )
        caches.append((k, v))
        states = reference.block_forward(states, *angles, *layer, head_dim=16)
    k, v = (torch.stack(each) for each in zip(*caches, strict=True))
    expected = whole, k[..., -1, :].clone(), v[..., -1, :].clone()
    k[..., -1, :] = v[..., -1, :] = torch.nan  # never read
    last = [each.view(2, 13, -1)[:, -1] for each in angles]
    found = reference.model_decode(x[:, -1], *last, *others[len(angles) :], k, v)
    for actual, right in zip(found, expected, strict=True):
        torch.testing.assert_close(actual, right, rtol=1e-10, atol=1e-10)


# Implementations.


@pytest.mark.parametrize("dtype", ["fp64", "fp32", "bf16", "fp16"])
@SHAPES
def test_pytorch_is_right(shape, dtype):
    for op, (dims, prepare, _) in OPS.items():
        trial = Trial(op, dtype, **dims, **shape)
        step = trial.step(prepare)
        assert step.nbytes == sum(each.nbytes for each in trial.inputs)
        before = [each.clone() for each in trial.inputs]
        assert all(trial.passes(block.issue(step)) for _ in range(2))
        for given, was in zip(trial.inputs, before, strict=True):
            # Of the caches, but for the last position, which is the new token's.
            kept = (each[..., :-1, :] if each.dim() == 5 else each for each in (given, was))
            assert torch.equal(*kept)


@SHAPES
def test_a_compiled_model_is_one_graph_for_all_layers_and_one_for_the_end(shape, graphs):
    for op, (dims, _, compiled) in OPS.items():
        trial = Trial(op, "fp32", **dims, **shape)
        step = trial.step(compiled)
        assert all(trial.passes(block.issue(step)) for _ in range(2))
        assert len(graphs) == 2
        graphs.clear()


def test_a_cpu_has_no_graphs_and_needs_a_compiler(monkeypatch):
    monkeypatch.setattr(model.shutil, "which", lambda name: None)
    for op, (dims, _, compiled) in OPS.items():
        trial = Trial(op, "fp32", **dims, **GPT2)
        with pytest.raises(Unsupported, match="needs CUDA tensors, not cpu"):
            trial.step(getattr(model, compiled.__name__.replace("compile", "capture")))
        with pytest.raises(
            Unsupported, match=r"needs a C\+\+ compiler on a CPU, and there is no .*; CXX names another"
        ):
            trial.step(compiled)


# What a check finds in a model as deep as GPT-2.

DEEP = {**GPT2, "layers": 12, "heads": 2, "kv_heads": 2}


def skipped(weights):
    """The weights of a model whose seventh layer adds nothing."""
    out, down = BlockWeights._fields.index("out"), BlockWeights._fields.index("down")
    changed = {index: weights[index].clone() for index in (out, down)}
    for each in changed.values():
        each[6] = 0
    return changed


def mistakes(weights):
    """Inputs, counted from the first weight, with which a right model computes what a wrong one does."""
    attention_norm, qkv, out, mlp_norm, up, down, last_norm, vocabulary = range(8)
    kept = {index: weights[index].clone() for index in range(8)}
    q, k, v = kept[qkv].split(32, dim=1)
    kept[out][6] = 0
    kept[down][3] = 0
    unbiased = {index: kept[index].clone() for index in (attention_norm, mlp_norm, last_norm)}
    for each in unbiased.values():
        each[..., 1, :] = 0
    return {
        "a layer left out": skipped(weights),
        "no attention in one layer": {out: kept[out]},
        "no MLP in one layer": {down: kept[down]},
        "K and V exchanged": {qkv: torch.cat((q, v, k), dim=1)},
        "layers in another order": {up: kept[up].roll(1, 0)},
        "no final norm's weight": {last_norm: torch.ones_like(kept[last_norm])},
        "norms without biases": unbiased,
        "vocabulary shifted": {vocabulary: kept[vocabulary].roll(1, 0)},
    }


NAMES = tuple(mistakes([torch.zeros(12, 96, 96)] * 8))


@functools.cache
def deep(op):
    dims = {"model_forward": {"batch": 2, "seq": 256}, "model_decode": {"batch": 2, "context": 1024}}[op]
    return Trial(op, "bf16", **dims, **DEEP)


@pytest.mark.parametrize("what", NAMES)
def test_a_wrong_model_is_caught(what):
    for op, (_, prepare, _) in OPS.items():
        trial = deep(op)
        assert trial.passes(block.issue(trial.step(prepare)))
        wrong = {str(1 + index): each for index, each in mistakes(trial.inputs[1:])[what].items()}
        assert not trial.passes(block.issue(trial.step(prepare, **wrong))), op


def test_a_model_that_sees_the_future_is_caught(monkeypatch):
    trial = deep("model_forward")
    right = F.scaled_dot_product_attention
    monkeypatch.setattr(
        F, "scaled_dot_product_attention", lambda *qkv, **options: right(*qkv, **{**options, "is_causal": False})
    )
    assert not trial.passes(block.issue(trial.step(model.prepare_forward)))


def test_a_wrong_cache_is_caught():
    trial = deep("model_decode")
    k, v = trial.inputs[-2:]
    for changed in ({"9": k.roll(1, 0), "10": v.roll(1, 0)}, {"9": k[..., 512:, :], "10": v[..., 512:, :]}):
        assert not trial.passes(block.issue(trial.step(model.prepare_decode, **changed)))


# In a run, and what is refused.


@SHAPES
def test_a_model_is_checked_and_timed_as_it_is_issued(shape):
    lab = Lab(cpu_environment(), WallTimer(), Budget(time_s=0.05, warmup_s=0.02), monitor=None)
    for op, (dims, _, _) in OPS.items():
        outcome = lab.run(Job(asked(op, "fp32", **dims, **shape), "torch"))
        assert outcome.status is Status.MEASURED, outcome.reason
        assert outcome.check.passed


@pytest.mark.parametrize("index", range(11))
def test_wrong_shapes_are_refused_by_name(index):
    names = ("x", "cos", "sin", *BlockWeights._fields, "norm", "vocabulary")
    trial = Trial("model_forward", "fp32", **PROMPT, **LLAMA)
    given = trial.inputs[index]
    cut = given[:, :, 1:] if index == 0 else given[..., 1:] if index > 8 else given[1:]
    for run in (reference.model_forward, model.prepare_forward):
        with pytest.raises(ValueError, match=f"model_forward: .*({names[index]}|attention_norm|qkv) "):
            trial.step(lambda *inputs, run=run, **keywords: (run(*inputs, **keywords),), **{str(index): cut})


def test_wrong_caches_are_refused():
    trial = Trial("model_decode", "fp32", **TOKEN, **LLAMA)
    for index in (11, 12):
        with pytest.raises(ValueError, match=r"model_decode: [kv]_caches must have shape"):
            trial.step(model.prepare_decode, **{str(index): trial.inputs[index][:, :, :1]})


@pytest.mark.gpu
@pytest.mark.parametrize(
    "row",
    [row for row in IMPLEMENTATIONS if row.op.startswith("model_") and "cuda" in row.devices],
    ids=lambda row: f"{row.op}-{row.name}",
)
@SHAPES
def test_every_implementation_is_right_on_a_gpu(row, shape, device):
    dims, *_ = OPS[row.op]
    workload = asked(row.op, **dims, **{**shape, "layers": 12})
    inputs = make_inputs(workload, device, index=0)
    meaning = bind(row.reference, workload)
    truth, plain = tensors(meaning(*inputs)), tensors(meaning(*inputs, precision="bf16"))
    (step,) = bind(row.prepare, workload)(*inputs)
    for _ in range(3):
        result = tensors(bind(row.run, workload)(step))
        assert check_all(result, truth, plain, workload.dtype).passed
