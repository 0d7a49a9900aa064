"""Calls of a layer: which kernels compute it, at which sizes; and the time of what has no form."""

from dataclasses import replace

import numpy as np
import pytest

from predict.expected.calibrations import find_known
from predict.expected.calls import Call, Unmeasured, time_calls
from predict.expected.exchange_calls import exchange_calls
from predict.expected.families import experts_family, matmul_family
from predict.expected.layer_calls import layer_calls
from predict.expected.share import Attending, Share
from predict.expected.unmeasured import find_plain
from predict.gpus import resolve
from predict.model.kinds import KernelKind
from predict.model.layout import ONE_GPU, Layout
from predict.model.presets import find_model
from predict.model.replica import Replica
from predict.units import ALL_BF16, DTYPES, Formats

H100, B200 = resolve("h100"), resolve("b200")


def share(name, *, layout=ONE_GPU, batch=4, new=1, cached=999, is_prompt=False, gpu=H100, formats=ALL_BF16):
    asked = Replica(find_model(name), gpu, layout, formats)
    return Share(asked, batch * new, batch, (Attending(batch, new, cached, is_prompt=is_prompt),))


def calls(asked, block=-1):
    """The calls of the layers of one block, the last unless told."""
    found = asked.replica.model.blocks[block]
    return [*layer_calls(found, asked), *exchange_calls(found, asked)]


def of(found, op):
    return [call for call in found if isinstance(call, Call) and call.family.op == op]


def test_experts_are_one_call_for_the_tokens_of_all_copies():
    # Qwen3-30B-A3B: 48 layers of 2048, 128 experts of 768, 8 active. Two copies on two GPUs each: 2 x 4 tokens, and
    # four GPUs with a quarter of the experts each.
    (call,) = of(calls(share("qwen3-30b-a3b", layout=Layout(tp=2, dp=2, ep=4))), "moe_layer")
    assert (call.kind, call.count) == (KernelKind.EXPERTS, 48)
    sizes = {"tokens": 8, "hidden": 2048, "intermediate": 768, "active": 8, "experts": 128, "tp": 1, "ep": 4}
    assert {name: call.dims[name] for name in sizes} == sizes
    (whole,) = of(calls(share("qwen3-30b-a3b", layout=Layout(tp=2))), "moe_layer")
    assert (whole.dims["tokens"], whole.dims["tp"], whole.dims["ep"]) == (4, 2, 1)


def test_latent_attention_multiplies_its_expansion_itself():
    # DeepSeek-V3: 128 heads, latents of 512 + 64; values of 128.
    decode = share("deepseek-v3", layout=Layout(tp=8))
    (call,) = of(calls(decode), "attention_mla")
    assert call.dims == {"batch": 4, "context": 1000, "heads": 16, "latent": 512, "rope": 64}
    (call,) = of(calls(share("deepseek-v3", new=1000, cached=0, is_prompt=True)), "attention_mla_prefill")
    assert call.dims == {"batch": 4, "seq": 1000, "heads": 128, "latent": 512, "rope": 64, "head_dim": 128}
    assert 512 not in {matmul.dims["k"] for matmul in of(calls(decode), "matmul")}


def test_attention_to_chosen_latents_has_no_form_and_its_expansion_is_a_matmul():
    asked = share("deepseek-v3.2", layout=Layout(tp=8))
    assert not of(calls(asked), "attention_mla")
    assert any(isinstance(call, Unmeasured) and call.kind is KernelKind.SCORES for call in calls(asked))
    assert 512 in {matmul.dims["k"] for matmul in of(calls(asked), "matmul")}


def test_one_token_has_no_busiest_expert():
    alone, several = (of(calls(share("qwen3-30b-a3b", batch=batch)), "moe_layer")[0] for batch in (1, 2))
    assert (float(alone.dims["skew"]), float(several.dims["skew"])) == (0.0, 1.2)


def test_tokens_go_to_their_experts_and_come_back():
    # DeepSeek-V3 on eight GPUs with copies of the attention: 7168 elements of 4 tokens each; of 256 experts in 8 groups
    # a token goes to 8 in 4 groups, one group a GPU, so to half of the GPUs at most.
    there, back = of(calls(share("deepseek-v3", layout=Layout(dp=8, ep=8))), "all_to_all")
    assert there.dims["gpus"] == 8
    assert there.dims["message_bytes"] == back.dims["message_bytes"]
    assert 0 < back.dims["message_bytes"] <= 4 * 7168 * 2 * 8 * 0.5 * (1 + 1e-9)
    narrow = share("deepseek-v3", layout=Layout(dp=8, ep=8), formats=Formats(8, 16, DTYPES["fp8"]))
    there, back = of(calls(narrow), "all_to_all")
    assert there.dims["message_bytes"] == back.dims["message_bytes"] / 2
    assert not of(calls(share("deepseek-v3", layout=Layout(dp=8, ep=8)), block=0), "all_to_all")  # its dense layers


def test_sums_take_the_faster_of_all_kernels():
    (call,) = of(calls(share("llama-3-8b", layout=Layout(tp=4))), "all_reduce")
    assert call.family.any_kernel
    assert call.count == 2 * 32
    assert call.dims == {"gpus": 4, "message_bytes": 4 * 4096 * 2}


def test_windows_are_the_kernels_own_matter_and_chunks_are_sequences():
    # Gemma 3: five of six layers have a window of 1024.
    windowed = [call for block in (0, 1) for call in of(calls(share("gemma-3-27b"), block), "attention_decode")]
    assert {(call.dims["window"], call.family.window) for call in windowed} == {(1024, True), (0, False)}
    # Llama 4: three of four layers attend within chunks of 8192. 20,000 tokens are 20000 / 8192 of them.
    asked = share("llama-4-scout", batch=1, new=20_000, cached=0, is_prompt=True)
    chunked = [call for block in (0, 1) for call in of(calls(asked, block), "attention_prefill")]
    sizes = {(float(call.dims["batch"]), float(call.dims["seq"])) for call in chunked}
    assert sizes == {(20_000 / 8192, 8192.0), (1.0, 20_000.0)}


def test_a_narrow_cache_takes_the_faster_of_two_kernels():
    (wide,) = of(calls(share("llama-3-8b")), "attention_decode")
    (narrow,) = of(calls(share("llama-3-8b", formats=Formats(kv_bits=8))), "attention_decode")
    assert wide.family.caches == ("bf16",)
    assert narrow.family.caches == ("fp8", "bf16")


@pytest.mark.parametrize(
    ("stored", "compute", "dense", "experts"),
    [
        (16, "bf16", (("bf16",),), (("bf16",),)),
        (8, "fp8", (("fp8",),), (("fp8", "fp8_block"), ("bf16",))),
        (8 + 32 / 128**2, "fp8", (("fp8_block",), ("fp8",)), (("fp8", "fp8_block"), ("bf16",))),
        (8, "int8", (("int8",), ("fp8",), ("bf16",)), (("int8",), ("fp8", "fp8_block"), ("bf16",))),
        (4.125, "bf16", (("bf16",),), (("int4_wo",), ("bf16",))),
        (4.25, "bf16", (("bf16",),), (("w4a16_mxfp4",), ("bf16",))),
        (4.25, "fp4", (("mxfp4",), ("nvfp4",)), (("mxfp4",), ("fp8", "fp8_block"), ("bf16",))),
        (4.5, "fp4", (("nvfp4",),), (("nvfp4",), ("fp8", "fp8_block"), ("bf16",))),
    ],
)
def test_the_kernels_are_those_of_what_is_stored_and_multiplied(stored, compute, dense, experts):
    asked = Replica(find_model("llama-3-8b"), B200, formats=Formats(stored, 16, DTYPES[compute]))
    assert matmul_family(asked, 16).names == dense
    assert experts_family(asked, 16).names == experts


def test_weights_narrower_than_the_products_are_read_as_they_are_stored():
    asked = Replica(find_model("llama-3-8b"), B200, formats=Formats(4.25, 16, DTYPES["bf16"]))
    assert matmul_family(asked, 16).formats.matrix_bytes == 4.25 / 8
    asked = replace(asked, formats=Formats(4.5, 16, DTYPES["fp4"]))
    assert matmul_family(asked, 16).formats.matrix_bytes == 4 / 8  # its kernels were measured with their scales


def test_a_kernel_without_a_form_takes_its_launches_and_the_slower_of_bytes_and_flop():
    # H100: a launch of its matmul, and its shares of 3.35 TB/s and of 989.4 TFLOP/s.
    constants = find_plain(H100).calibration.constants
    moved, flop = np.array([1e9, 1e6]), np.array([1e9, 1e12])
    found = time_calls(H100, [Unmeasured(KernelKind.ELEMENTWISE, 3, moved, flop, launches=2)])
    by_bytes = 3 * (2 * constants["launch_s"] + 1e9 / (constants["dram_share"] * 3.35e12))
    by_flop = 3 * (2 * constants["launch_s"] + 1e12 / (constants["math_share"] * 989.4e12))
    assert found.time_s == pytest.approx([by_bytes, by_flop])


def test_a_states_bytes_and_flop_count_where_no_kernel_was_measured():
    # Qwen3.5-27B: 48 heads of 128 x 128, read and written once for each of 4 sequences; 48 x 128 elements come
    # and go; all in bf16. A delta rule uses an element of the state three times.
    asked = share("qwen3.5-27b")
    work = [call for call in calls(asked, 0) if isinstance(call, Unmeasured) and call.kind is KernelKind.RECURRENCE]
    state = max(work, key=lambda call: call.bytes)
    assert state.bytes == 4 * (2 * 48 * 128 * 128 * 2 + 2 * 48 * 128 * 2)
    assert state.flop == 4 * 3 * 2 * 48 * 128 * 128


def test_a_launch_that_is_the_hosts_is_not_counted_in_a_captured_step():
    # The block-scaled kernels were measured as issued, at about 0.1 ms of host time a call.
    known = find_known(H100, "matmul", "fp8_block").calibration
    assert known.constants["launch_s"] > 20e-6
    block = Replica(find_model("llama-3-8b"), H100, formats=Formats(8 + 32 / 128**2, 16, DTYPES["fp8"]))
    call = Call(KernelKind.MLP, matmul_family(block, 16), {"m": 1, "n": 128, "k": 128}, 1)
    launch_s = find_plain(H100).calibration.constants["launch_s"]
    assert launch_s < float(time_calls(H100, [call]).time_s[0]) < 20e-6
