"""The passes of a model as workloads, and the file that says which make up a pass."""

import json

import pytest

from bench.model_run import AskedFormats, ModelRun, PassSize, Phase, sizes_of
from bench.passes import read_passes, write_passes
from bench.selection import of_model
from bench.suites import Limits
from predict.errors import BadQuantity, BadRecord, BadRun
from predict.model.layout import Layout
from predict.model.presets import find_model
from predict.units import find_dtype

BF16, FP32 = find_dtype("bf16"), find_dtype("fp32")
CPU = Limits(device="cpu", memory_bytes=25 * 10**9, last_level_cache_bytes=2**25, dtype=FP32)
H100 = Limits(device="cuda", memory_bytes=80 * 2**30, last_level_cache_bytes=50 * 2**20, dtype=BF16, gpu="h100-sxm")
LLAMA, GPT2 = find_model("llama-3-8b"), find_model("gpt-2-small")
ONE_STEP = (PassSize(Phase.DECODE, 1, 1023),)


def ids(run, limits):
    return [workload.id for workload in run.workloads(limits)]


def test_decode_and_prefill_have_sizes_of_their_own():
    assert sizes_of((Phase.DECODE, Phase.PREFILL), (1, 8), (1024,), (512,)) == (
        PassSize(Phase.DECODE, 1, 1024),
        PassSize(Phase.DECODE, 8, 1024),
        PassSize(Phase.PREFILL, 1, 512),
        PassSize(Phase.PREFILL, 8, 512),
    )


def test_every_kernel_of_a_decode_step_is_measured_at_its_shape():
    assert set(ids(ModelRun(LLAMA, ONE_STEP), H100)) >= {
        "matmul-m1-n6144-k4096-bf16",  # Q of 32 heads, K and V of 8 each, 128 wide
        "matmul-m1-n4096-k4096-bf16",
        "matmul-m1-n28672-k4096-bf16",  # gate and up
        "matmul-m1-n4096-k14336-bf16",
        "matmul-m1-n128256-k4096-bf16",
        "attention_decode-batch1-context1024-heads32-kv_heads8-head_dim128-bf16",  # the new token is the 1024th
        "add_rmsnorm-rows1-cols4096-bf16",
        "swiglu-rows1-cols14336-bf16",
        "rope-tokens1-heads40-head_dim128-bf16",
    }


def test_one_of_two_gpus_is_measured_at_half_the_heads_and_widths():
    found = ids(ModelRun(LLAMA, (PassSize(Phase.PREFILL, 1, 512),), Layout(tp=2)), H100)
    assert "matmul-m512-n3072-k4096-bf16" in found
    assert "attention_prefill-batch1-seq512-heads16-kv_heads4-head_dim128-bf16" in found


def test_a_cpu_takes_its_faster_format_if_the_weights_fit_in_it():
    """8.03e9 weights take 32 GB in fp32, and 16 GB in bf16."""
    assert "matmul-m1-n4096-k4096-bf16" in ids(ModelRun(LLAMA, ONE_STEP), CPU)
    assert "matmul-m1-n768-k768-fp32" in ids(ModelRun(GPT2, ONE_STEP), CPU)
    asked = AskedFormats(dtype=BF16)
    assert "matmul-m1-n768-k768-bf16" in ids(ModelRun(GPT2, ONE_STEP, asked=asked), CPU)


def test_a_model_whose_weights_do_not_fit_is_refused_with_what_would():
    """70.55e9 weights of 2 bytes: 141 GB; an eighth of it is 17.6 GB."""
    selection = of_model(ModelRun(find_model("llama-3-70b"), ONE_STEP))
    with pytest.raises(BadRun, match=r"llama-3-70b does not fit: its weights take 141 GB, .* 25.0 GB; --tp 8 measures"):
        selection.check(CPU)
    of_model(ModelRun(find_model("llama-3-70b"), ONE_STEP, Layout(tp=8))).check(CPU)


def test_a_share_that_does_not_fit_is_told_as_one():
    """Half of 141 GB."""
    with pytest.raises(BadRun, match=r"one GPU's share of its weights takes 70\.6 GB, .*--tp 8"):
        ModelRun(find_model("llama-3-70b"), ONE_STEP, Layout(tp=2)).check(CPU)


def test_activations_have_16_or_32_bits():
    with pytest.raises(BadQuantity, match=r"that of activations, bf16, fp16, fp32, not fp8; .*--compute"):
        ModelRun(GPT2, ONE_STEP, asked=AskedFormats(dtype=find_dtype("fp8")))


def test_a_cache_that_does_not_fit_is_a_note_and_its_kernels_are_measured():
    """64 requests of 8192 tokens cache 64 x 8192 x 131,072 bytes: 68.7 GB beside weights of 16.1 GB."""
    run = ModelRun(LLAMA, (PassSize(Phase.DECODE, 64, 8192),))
    (found,) = run.passes(CPU)
    assert any("does not fit as a whole: weights of 16.1 GB and a cache of 68.7 GB" in note for note in found.notes)
    assert not any("does not fit" in note for note in ModelRun(LLAMA, ONE_STEP).passes(CPU)[0].notes)


def test_a_layout_that_no_engine_would_choose_is_refused():
    with pytest.raises(BadQuantity, match="tp=3 does not divide the 32 heads"):
        ModelRun(LLAMA, ONE_STEP, Layout(tp=3))


def test_a_calibrated_gpu_has_the_expected_time_of_the_pass():
    (found,) = ModelRun(LLAMA, ONE_STEP).passes(H100)
    assert found.expected_s is not None
    assert found.expected_s > 16.0e9 / 3.35e12  # the weights alone take longer
    (on_cpu,) = ModelRun(LLAMA, ONE_STEP).passes(CPU)
    assert on_cpu.expected_s is None
    assert any("no calibration" in note for note in on_cpu.notes)


def test_a_layer_and_the_model_are_measured_whole_where_an_op_is_that():
    (found,) = ModelRun(GPT2, ONE_STEP).passes(CPU)
    layer, model = found.wholes
    shape = "heads12-kv_heads12-head_dim64-inner3072"
    assert (layer.name, layer.count) == ("layer", 12)
    assert layer.workload == f"block_decode-batch1-context1024-{shape}-matrices2-fp32"
    assert (model.name, model.count) == ("model", 1)
    measured = ids(ModelRun(GPT2, ONE_STEP), CPU)
    assert layer.workload in measured
    assert model.workload in measured


def test_what_is_no_op_as_a_whole_has_one_reason():
    (found,) = ModelRun(find_model("qwen3-30b-a3b"), ONE_STEP).passes(H100)
    (layer,) = found.wholes
    assert layer.workload is None
    assert "experts" in layer.reason
    (shared,) = ModelRun(LLAMA, ONE_STEP, Layout(tp=2)).passes(H100)
    assert [whole.workload is None for whole in shared.wholes] == [False, True]  # no single GPU has the whole model


def test_passes_are_read_as_they_were_written_and_the_same_pass_replaces_itself(tmp_path):
    passes = ModelRun(LLAMA, sizes_of(tuple(Phase), (1, 8), (1024,), (512,))).passes(H100)
    write_passes(tmp_path, passes[:2])
    write_passes(tmp_path, passes)
    assert read_passes(tmp_path) == passes


def test_a_run_without_a_model_has_no_file(tmp_path):
    write_passes(tmp_path, ())
    assert list(tmp_path.iterdir()) == []
    assert read_passes(tmp_path) == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "not JSON"), ("[]", "not of schema 1"), (json.dumps({"schema": 1}), "missing field passes")],
)
def test_a_broken_file_is_named(tmp_path, text, message):
    (tmp_path / "passes.json").write_text(text)
    with pytest.raises(BadRecord, match=rf"passes.json.*{message}"):
        read_passes(tmp_path)
