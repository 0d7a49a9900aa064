"""A training step as the sum of its parts: each against the formula with the model's sizes put in."""

import math
from dataclasses import replace

import pytest

from predict.errors import MissingCeiling
from predict.expected.calibrations import find_known
from predict.expected.kernel import expect
from predict.expected.time_model import Machine
from predict.expected.training import FITTED, TrainingConstants, expected_steps, expected_training
from predict.formulas.memory import Recompute
from predict.gpus import resolve
from predict.model.kinds import KernelKind
from predict.model.presets import find_model
from predict.units import DTYPES, Formats
from tests.predict.model.test_training_plan import LLAMA_8B

H100, BF16 = resolve("h100"), DTYPES["bf16"]
PLAIN = TrainingConstants(sustained_share=1.0, attention_share=1.0)
# Llama-3-8B: 32 layers of 4096, 32 heads and 8 KV heads of 128, MLP of 14336, 128,256 tokens. Q, K, V are one product.
SHAPES = {"qkv": (6144, 4096), "out": (4096, 4096), "gate_up": (28672, 4096), "down": (4096, 14336)}
ALONE = replace(LLAMA_8B, gpus=1, batch=2, micro_batch=2, usable_bytes=math.inf)
TOKENS = 2 * 2048


def constants(op, gpu=H100):
    return find_known(gpu, op, "bf16").calibration.constants


def call_s(op, **dims):
    found = expect(dims, Machine.of(H100, BF16), Formats(), find_known(H100, op, "bf16").calibration)
    return float(found.time_s[0])


def forward_s(name):
    n, k = SHAPES[name]
    return call_s("matmul", m=TOKENS, n=n, k=k)


def backward_s(name):
    n, k = SHAPES[name]
    return call_s("matmul", m=TOKENS, n=k, k=n) + call_s("matmul", m=k, n=n, k=TOKENS)


def times(training=ALONE):
    return expected_training(training, PLAIN).times


def dram(share=None):
    return 3.35e12 * constants("matmul")["dram_share"]


def test_each_product_has_two_more_in_the_backward_pass():
    found = times()
    mlp = sum(forward_s(name) + backward_s(name) for name in ("gate_up", "down"))
    assert found[KernelKind.MLP] == pytest.approx(32 * mlp)
    attention = sum(forward_s(name) + backward_s(name) for name in ("qkv", "out"))
    assert found[KernelKind.PROJECTIONS] == pytest.approx(32 * attention)


def test_the_loss_reads_and_writes_every_logit_in_fp32():
    vocab = call_s("matmul", m=TOKENS, n=128256, k=4096) + call_s("matmul", m=TOKENS, n=4096, k=128256)
    vocab += call_s("matmul", m=4096, n=128256, k=TOKENS)
    assert times()[KernelKind.VOCAB] == pytest.approx(vocab + 28 * TOKENS * 128256 / dram())


def test_attention_runs_at_amperes_rate_unless_kernels_must_be_new():
    # Causal: 2048 x 2049 / 2 pairs of each of 32 heads, 4 x 128 FLOP a pair; 1 + 2.5 times of it.
    flop = 3.5 * 2 * 32 * (2048 * 2049 / 2) * 4 * 32 * 128
    assert times()[KernelKind.SCORES] == pytest.approx(flop / (132 * 1.98e9 * 2048))
    narrow = replace(ALONE, compute=DTYPES["fp8"])
    assert times(narrow)[KernelKind.SCORES] == pytest.approx(flop / 989.4e12)
    new = replace(ALONE, gpu=resolve("b200"))
    assert times(new)[KernelKind.SCORES] == pytest.approx(flop / 2250e12, rel=0.01)


def test_recomputing_all_ends_before_the_last_product_of_a_layer():
    full = times(replace(ALONE, recompute=Recompute.FULL))
    assert full[KernelKind.MLP] - times()[KernelKind.MLP] == pytest.approx(32 * forward_s("gate_up"))
    assert full[KernelKind.SCORES] / times()[KernelKind.SCORES] == pytest.approx(4.5 / 3.5)
    assert full[KernelKind.VOCAB] == times()[KernelKind.VOCAB]


def test_recomputing_every_second_matrix_takes_k_out_and_up_again():
    ops = times(replace(ALONE, recompute=Recompute.OPS))
    # Of Q, K, V, out, gate, up and down these are K, out and up: a sixth of QKV's 48 heads, and half of gate and up.
    more = ops[KernelKind.PROJECTIONS] - times()[KernelKind.PROJECTIONS]
    assert more == pytest.approx(32 * (forward_s("qkv") * 8 / 48 + forward_s("out")))
    assert ops[KernelKind.MLP] - times()[KernelKind.MLP] == pytest.approx(32 * forward_s("gate_up") / 2)
    scores = times(replace(ALONE, recompute=Recompute.SELECTIVE))[KernelKind.SCORES]
    assert scores / times()[KernelKind.SCORES] == pytest.approx(4.5 / 3.5)


def test_elementwise_kernels_move_three_times_what_a_forward_pass_moves():
    # A forward pass: 64 additions with a norm (2 read, 2 written of 4096) and the last norm (1 and 1; its sum is one of
    # the 64), Q and K of 40 heads read and written, SwiGLU reads 2 and writes 1 of 14336. Weights of norms are small.
    forward_bytes = 2 * TOKENS * (64 * 4 * 4096 + 2 * 4096 + 32 * (2 * 40 * 128 + 3 * 14336))
    launches = 2 * (64 + 1 + 32 + 32) * constants("matmul")["launch_s"]
    assert times()[KernelKind.ELEMENTWISE] == pytest.approx(3 * forward_bytes / dram() + launches, rel=0.01)


def test_the_optimizer_reads_and_writes_its_state_once_a_step():
    # Adam: 12 bytes of state read and written, a gradient of 2 read, a weight of 2 written.
    assert times()[KernelKind.OPTIMIZER] == pytest.approx(8_030_261_248 * (24 + 2 + 2) / dram())
    eight = replace(LLAMA_8B, gpus=8, batch=16, tensor_parallel=1, pipeline_parallel=1, usable_bytes=math.inf)
    assert times(eight)[KernelKind.OPTIMIZER] == pytest.approx(8_030_261_248 / 8 * 28 / dram())


def test_fsdp_gathers_weights_twice_and_scatters_gradients_for_each_micro_batch():
    asked = {"gpus": 8, "batch": 16, "micro_batch": 1, "tensor_parallel": 1, "pipeline_parallel": 1}
    training = replace(LLAMA_8B, **asked, usable_bytes=math.inf)
    found = {step.plan.layout.zero_stage: step for step in expected_steps(training, PLAIN)}
    params, messages = 8_030_261_248, 33  # 32 layers, and what is around them
    gather_s = messages * call_s("all_gather", gpus=8, message_bytes=2 * params / messages)
    scatter_s = messages * call_s("reduce_scatter", gpus=8, message_bytes=4 * params / messages)
    assert found[3].times[KernelKind.LINK] == pytest.approx(2 * (2 * gather_s + scatter_s))
    assert found[1].times[KernelKind.LINK] == pytest.approx(gather_s + scatter_s)


def test_between_nodes_the_network_and_the_steps_of_a_ring_count():
    training = replace(LLAMA_8B, gpus=64, tensor_parallel=1, pipeline_parallel=1, zero=1, usable_bytes=math.inf)
    params, seconds = 8_030_261_248, 0.0
    for op, each in (("all_gather", 2), ("reduce_scatter", 4)):
        rate = 50e9 * constants(op)["link_share"]
        # 7 of 8 nodes are elsewhere; the 8 GPUs of a node share what comes in. A ring of 64 has 56 more than a node's.
        network_s = 7 / 8 * each * params / 8 / rate
        inside_s = 33 * call_s(op, gpus=8, message_bytes=each * params / 33)
        seconds += max(network_s, inside_s) + 33 * 56 * constants(op)["step_s"]
    assert times(training)[KernelKind.LINK] == pytest.approx(seconds)
    with pytest.raises(MissingCeiling, match="bandwidth between nodes is not known"):
        times(replace(training, network_bytes_per_s=None))


def test_tensor_parallelism_sums_twice_a_layer_in_both_passes():
    asked = {"gpus": 2, "batch": 1, "tensor_parallel": 2, "pipeline_parallel": 1}
    training = replace(LLAMA_8B, **asked, usable_bytes=math.inf)
    sum_s = call_s("all_reduce", gpus=2, message_bytes=2048 * 4096 * 2)
    assert times(training)[KernelKind.LINK] == pytest.approx(2 * 64 * sum_s)
    full = replace(training, recompute=Recompute.FULL)
    assert times(full)[KernelKind.LINK] == pytest.approx(3 * 64 * sum_s)


def test_stages_wait_for_each_other():
    asked = {"gpus": 4, "batch": 8, "tensor_parallel": 1, "pipeline_parallel": 4}
    found = times(replace(LLAMA_8B, **asked, usable_bytes=math.inf))
    # (stages - 1) / (chunks x micro-batches) of what the stages compute: 8 sequences, 2 chunks of 4 layers each.
    busy = sum(time_s for kind, time_s in found.items() if kind not in (KernelKind.IDLE, KernelKind.OPTIMIZER))
    assert found[KernelKind.IDLE] == pytest.approx(3 / (2 * 8) * busy)


def test_two_constants_stretch_kernels():
    fitted, plain = expected_training(ALONE), expected_training(ALONE, PLAIN)
    for kind, time_s in fitted.times.items():
        share = FITTED.attention_share if kind is KernelKind.SCORES else FITTED.sustained_share
        assert time_s == pytest.approx(plain.times[kind] / share)
    assert fitted.time_s == pytest.approx(sum(fitted.times.values()))
    assert fitted.measured_on == "h100-sxm"


def test_narrow_products_narrow_their_inputs_once_for_both_that_read_them():
    narrow = replace(ALONE, compute=DTYPES["fp8"])
    formats, known = Formats.of(DTYPES["fp8"]), find_known(H100, "matmul", "fp8").calibration

    def timed(m, n, k):
        return expect({"m": m, "n": n, "k": k}, Machine.of(H100, DTYPES["fp8"]), formats, known)

    seconds = 0.0
    for n, k in (SHAPES["gate_up"], SHAPES["down"]):
        weight = timed(k, n, TOKENS)
        seconds += float(timed(TOKENS, n, k).time_s[0] + timed(TOKENS, k, n).time_s[0])
        seconds += float(weight.time_s[0] - weight.parts["narrow"][0])
    assert times(narrow)[KernelKind.MLP] == pytest.approx(32 * seconds)


def test_a_simpler_plan_is_kept_unless_another_is_a_tenth_faster():
    training = replace(LLAMA_8B, gpus=64, batch=256)
    found, chosen = expected_steps(training), expected_training(training)
    fastest_s = min(step.time_s for step in found)
    assert chosen.time_s <= 1.1 * fastest_s
    assert all(step.plan.models >= chosen.plan.models for step in found if step.time_s <= 1.1 * fastest_s)


@pytest.mark.parametrize(
    ("model", "gpu", "reason"),
    [
        ("qwen3-next-80b-a3b", "h100", "not calibrated in training"),
        ("llama-3-8b", "mi300x", "mi300x"),
    ],
)
def test_what_is_not_calibrated_is_named(model, gpu, reason):
    with pytest.raises(MissingCeiling, match=reason):
        expected_training(replace(ALONE, model=find_model(model), gpu=resolve(gpu)))
