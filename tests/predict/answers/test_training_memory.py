"""Memory of training in an answer: what layers keep, and what one GPU holds."""

import pytest

from predict.answers.answer import answer
from predict.answers.question import Question
from predict.errors import BadQuantity
from predict.formulas.memory import Recompute
from predict.gpus import resolve
from predict.model.kept import Kernels
from predict.model.presets import find_model
from predict.units import GIB


def ask(name, **asked):
    found = answer(Question(find_model(name), resolve(asked.pop("gpu", "h100")), **asked))
    return {line.key: line for section in found.sections for line in section.lines}, "\n".join(found.notes)


def value(name, key, **asked):
    return ask(name, **asked)[0][key].value


@pytest.mark.parametrize(
    ("name", "eager", "fused"), [("llama-3-8b", 49, 34), ("qwen3-32b", 74, 49), ("qwen3-30b-a3b", 111, 72)]
)
def test_the_page_shows_what_autograd_keeps_of_each_model(name, eager, fused):
    unit = 2 * 4096 * find_model(name).hidden
    asked = {"batch": 2, "seq": 4096, "recompute": Recompute.SELECTIVE}
    lines, said = ask(name, **asked)
    assert lines["activation_bytes_per_layer"].value / unit == pytest.approx(eager, abs=0.2)
    assert lines["activation_bytes_fused"].value / unit / find_model(name).layers == pytest.approx(fused, abs=0.2)
    assert "Korthikanti" not in said
    found = value(name, "activation_bytes_per_layer", **asked, kernels=Kernels.FUSED)
    assert found / unit == pytest.approx(fused, abs=0.2)


def test_a_gpu_of_32_holds_48_gib_as_torchtitan_measured():
    # 47.96 GiB: benchmarks/llama3-8b_h200_202506_trainy-whitefiber.md at b5bcd76; two sequences on each GPU.
    asked = {"gpu": "h200", "gpus": 32, "batch": 64, "seq": 8192, "recompute": Recompute.OPS}
    lines, said = ask("llama-3.1-8b", **asked, kernels=Kernels.FUSED)
    assert lines["training_bytes_per_gpu"].value / GIB == pytest.approx(47.96, rel=0.03)
    parts = ("state", "gathered", "activation", "recomputed", "logits")
    together = sum(lines[f"training_{part}_bytes_per_gpu"].value for part in parts)
    assert lines["training_bytes_per_gpu"].value == together
    assert "training step does not fit" not in said


def test_a_step_that_does_not_fit_says_what_it_needs():
    # 16 bytes for each of 8.03e9 parameters are 128.48 GB; 128 tokens keep 32 * (49 * 4096 + 8 + 6 * 32 * 128) bytes
    # each, 0.92 GB, and logits of 6 * 128,256, 0.10 GB.
    lines, said = ask("llama-3-8b", seq=128)
    assert lines["training_state_bytes_per_gpu"].value == 16 * 8_030_261_248
    assert "training_gathered_bytes_per_gpu" not in lines
    assert "a training step does not fit (129.5 GB" in said


def test_tensor_and_pipeline_parallelism_leave_the_other_gpus_to_data_parallelism():
    # 16 GPUs as 4 x 2 x 2: state of 8,030,261,248 parameters over all 16; 16 sequences over dp 2.
    asked = {"gpus": 16, "tp": 4, "pp": 2, "batch": 16, "seq": 128, "recompute": Recompute.FLASH}
    lines, said = ask("llama-3-8b", **asked)
    assert lines["training_state_bytes_per_gpu"].value == 16 * 8_030_261_248 / 16
    assert lines["training_state_bytes_per_gpu"].formula == "over dp 2, tp 4, pp 2"
    assert lines["zero_3_bytes_per_gpu"].value == 8_030_261_248
    # One sequence at a time, two in flight in half of the layers: 32 layers of 49 x 4096 + 4 x 32 + 8 bytes over tp 4.
    assert lines["training_activation_bytes_per_gpu"].value == 128 * 32 * (49 * 4096 + 4 * 32 + 8) / 4
    assert "does not divide" not in said


def test_a_batch_that_gpus_cannot_share_evenly_is_noted():
    _, said = ask("llama-3-8b", gpus=8, batch=4, seq=128)
    assert "batch 4 does not divide by dp 8: 1 sequence on a GPU" in said
    assert "does not divide" not in ask("llama-3-8b", gpus=8, batch=16, seq=128)[1]


def test_scores_are_a_note_where_they_are_kept():
    # 32 layers, 32 heads, 2048 x 2048 pairs, 4 + 2 bytes; less 4 bytes a head and token: 25.8 GB - 8.4 MB.
    _, said = ask("llama-3-8b", seq=2048)
    assert "25.76 GB (23.99 GiB) of the activations are attention scores" in said
    assert "attention scores;" not in ask("llama-3-8b", recompute=Recompute.FLASH)[1]


def test_a_stage_of_zero_that_does_not_exist_is_refused():
    with pytest.raises(BadQuantity, match="zero must be 0, 1, 2 or 3, not 5"):
        ask("llama-3-8b", zero=5)
    with pytest.raises(BadQuantity, match="micro-batch must be a positive whole number, not 0"):
        ask("llama-3-8b", micro_batch=0)
