"""A pass as the sum of its calibrated kernels: each kind of kernel against the calls that an engine makes."""

import numpy as np
import pytest

from predict.errors import MissingCeiling
from predict.expected.kernel import expect
from predict.expected.model_pass import expected_check, expected_decode, expected_decode_s, expected_prefill
from predict.expected.time_model import Machine
from predict.gpus import resolve
from predict.model.config.reader import from_config
from predict.model.kinds import KernelKind
from predict.model.layout import Layout
from predict.model.passes import Logits
from predict.model.presets import PRESETS, find_model
from predict.model.replica import Replica
from predict.units import DTYPES, Formats
from tests.calibrations import find_calibration

H100, BF16 = resolve("h100"), DTYPES["bf16"]
MATMUL = find_calibration("h100-sxm", "matmul", BF16).constants
LAUNCH_S = MATMUL["launch_s"]


def replica(model="llama-3-8b", gpu=H100, **asked):
    return Replica(find_model(model), gpu, **asked)


def call_s(op, **dims):
    calibration = find_calibration("h100-sxm", op, BF16)
    return float(expect(dims, Machine.of(H100, BF16), Formats(), calibration).time_s[0])


def matmuls_s(m, *shapes):
    return sum(call_s("matmul", m=m, n=n, k=k) for n, k in shapes)


def test_a_decode_step_is_the_calls_of_its_layers():
    times = expected_decode(replica(), 16, 4095).times
    # Llama-3-8B: 32 layers of 4096, 32 heads and 8 KV heads of 128, MLP of 14336. Q, K and V are one matmul.
    assert times[KernelKind.PROJECTIONS] == pytest.approx(32 * matmuls_s(16, (6144, 4096), (4096, 4096)))
    assert times[KernelKind.MLP] == pytest.approx(32 * matmuls_s(16, (2 * 14336, 4096), (4096, 14336)))
    assert times[KernelKind.VOCAB] == pytest.approx(matmuls_s(16, (128256, 4096)))
    attention_s = call_s("attention_decode", batch=16, context=4096, heads=32, kv_heads=8, head_dim=128)
    assert times[KernelKind.SCORES] == pytest.approx(32 * attention_s)
    # Two norms of 4 x 4096, Q and K of 40 heads twice, three times the MLP's width: 2 bytes each, at the share of the
    # bandwidth that matmuls reach; and four launches.
    moved = 16 * 2 * (8 * 4096 + 2 * 40 * 128 + 3 * 14336)
    assert times[KernelKind.ELEMENTWISE] == pytest.approx(
        32 * (4 * LAUNCH_S + moved / (MATMUL["dram_share"] * 3.35e12))
    )
    assert KernelKind.LINK not in times


def test_two_gpus_halve_the_matmuls_and_add_two_all_reduces_a_layer():
    found = expected_decode(replica(layout=Layout(2)), 16, 4095)
    assert found.times[KernelKind.MLP] == pytest.approx(32 * matmuls_s(16, (14336, 4096), (4096, 7168)))
    message_bytes = 16 * 4096 * 2
    all_reduce_s = call_s("all_reduce", gpus=2, message_bytes=message_bytes)
    assert found.times[KernelKind.LINK] == pytest.approx(32 * 2 * all_reduce_s)
    assert found.time_s == pytest.approx(sum(found.times.values()))


def test_a_prompt_needs_logits_of_its_last_position_or_of_all():
    every = expected_prefill(replica(), 2, 512).times[KernelKind.VOCAB]
    last = expected_prefill(replica(), 2, 512, Logits.LAST).times[KernelKind.VOCAB]
    assert every == pytest.approx(matmuls_s(1024, (128256, 4096)))
    assert last == pytest.approx(matmuls_s(2, (128256, 4096)))


def test_checking_guesses_reads_the_cache_once_and_multiplies_every_guess():
    found = expected_check(replica(), 4, 5, 2043).times
    attention_s = call_s("attention_decode", batch=4, context=2048, heads=5 * 32, kv_heads=8, head_dim=128)
    assert found[KernelKind.SCORES] == pytest.approx(32 * attention_s)
    assert found[KernelKind.VOCAB] == pytest.approx(matmuls_s(20, (128256, 4096)))


@pytest.mark.parametrize(
    ("model", "gpu", "layout", "said"),
    [
        ("llama-3-8b", "mi300x", Layout(), "no calibration of matmul in bf16 for mi300x"),
        ("llama-3-8b", "h100", Layout(tp=1, pp=2), "pipelines are not calibrated, and this one has 2 stages"),
        ("llama-3-70b", "h100", Layout(tp=16), "an all-reduce over nodes is not calibrated, and a node has 8 h100-sxm"),
        ("deepseek-v3", "h100", Layout(tp=1, dp=16, ep=16), "experts over nodes are not calibrated"),
    ],
)
def test_what_was_measured_nowhere_is_refused(model, gpu, layout, said):
    with pytest.raises(MissingCeiling, match=said):
        expected_decode(replica(model, resolve(gpu), layout=layout), 1, 128)


def test_a_cached_prefix_leaves_the_rest_of_the_prompts_attention_and_its_launch():
    whole, prefix, after = (
        expected_prefill(replica(), 2, new, Logits.LAST, cached).times[KernelKind.SCORES]
        for new, cached in ((1536, 0), (512, 0), (1024, 512))
    )
    two = 32 * call_s("attention_prefill", batch=2, seq=2, heads=32, kv_heads=8, head_dim=128)
    assert after == pytest.approx(whole - prefix + two)
    # 64 new tokens after one take about what they take alone: the kernel is launched once in either case.
    alone, later = (
        expected_prefill(replica(), 1, 64, Logits.LAST, cached).times[KernelKind.SCORES] for cached in (0, 1)
    )
    assert later == pytest.approx(alone, rel=0.05)


def test_reading_a_cache_again_lengthens_attention_alone():
    # Four query heads share a KV head; for 0.5 of the other three the cache is read again.
    once, again = expected_decode(replica(), 16, 4095).times, expected_decode(replica(), 16, 4095, reread=0.5).times
    assert again[KernelKind.SCORES] == pytest.approx(once[KernelKind.SCORES] * (1 + 0.5 * 3))
    assert again[KernelKind.MLP] == once[KernelKind.MLP]


@pytest.mark.parametrize(
    ("gpu", "said"),
    [
        ("h100", "kernels measured on h100-sxm"),
        ("gb200", "kernels of gb200: from b200"),
        ("rtx-5090", "kernels of rtx-5090: from l40s, of another architecture"),
    ],
)
def test_a_pass_tells_where_its_kernels_were_measured(gpu, said):
    assert expected_decode(replica(gpu=resolve(gpu)), 1, 128).rests_on == said


def test_a_pass_over_several_batches_is_each_of_them():
    batches = np.array([1.0, 7.0, 64.0])
    found = expected_decode_s(replica(layout=Layout(2)), batches, 1000)
    alone = [expected_decode(replica(layout=Layout(2)), int(batch), 1000).time_s for batch in batches]
    assert found == pytest.approx(alone)


@pytest.mark.parametrize("name", PRESETS)
def test_no_pass_of_any_preset_beats_its_bound(name):
    asked = replica(name)
    found = expected_decode(asked, 4, 1000), expected_prefill(asked, 1, 1000, Logits.LAST)
    bounds = asked.decode(4, 1000).napkin_s, asked.prefill(1, 1000, logits=Logits.LAST).napkin_s
    assert all(each.time_s > bound for each, bound in zip(found, bounds, strict=True))


FP8 = DTYPES["fp8"]
LLAMA = PRESETS["llama-3-8b"].config
W8A8 = {"quant_method": "fp8", "activation_scheme": "dynamic", "modules_to_not_convert": ["lm_head"]}


def fp8_matmul_s(m, n, k, weight_bits=8.0):
    formats, calibration = Formats(weight_bits, 8, FP8), find_calibration("h100-sxm", "matmul", FP8)
    return float(expect({"m": m, "n": n, "k": k}, Machine.of(H100, FP8), formats, calibration).time_s[0])


def test_a_checkpoint_in_fp8_multiplies_its_layers_in_fp8_and_its_head_in_bf16():
    shipped = from_config({**LLAMA, "quantization_config": W8A8}, "m")
    times = expected_decode(Replica(shipped, H100, formats=Formats(compute=FP8)), 16, 4095).times
    assert times[KernelKind.MLP] == pytest.approx(32 * (fp8_matmul_s(16, 28672, 4096) + fp8_matmul_s(16, 4096, 14336)))
    assert times[KernelKind.VOCAB] == pytest.approx(matmuls_s(16, (128256, 4096)))
    every = expected_decode(Replica(shipped, H100, formats=Formats(8, 16, FP8)), 16, 4095).times
    assert every[KernelKind.VOCAB] == pytest.approx(fp8_matmul_s(16, 128256, 4096))
