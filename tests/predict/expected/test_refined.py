"""Three named times, and on whose measurements they rest: the GPU's own, a sibling's, or another architecture's."""

from dataclasses import replace

import numpy as np
import pytest

from predict.errors import MissingCeiling
from predict.expected.calibrations import Basis, Library, find_known, library
from predict.expected.kernel import expect
from predict.expected.refined import estimate, estimate_all, explain_estimate, with_estimate
from predict.expected.time_model import Machine
from predict.gpus import GPUS
from predict.roofline import predict
from predict.units import Formats, find_dtype
from predict.workloads import make_workload

BF16 = find_dtype("bf16")
PRODUCT = make_workload("matmul", {"m": 4096, "n": 4096, "k": 4096}, BF16)
HEADS = {"heads": 32, "kv_heads": 8, "head_dim": 128}


@pytest.mark.parametrize(
    ("gpu", "source", "basis"),
    [
        ("h100-sxm", "h100-sxm", Basis.MEASURED),
        (
            "gh200-96gb",
            "h200-sxm",
            Basis.SIBLING,
        ),  # log(4.80 / 4.02) < log(4.02 / 3.35)
        ("h20", "h100-sxm", Basis.SIBLING),  # log(4.00 / 3.35) < log(4.80 / 4.00)
        ("h800", "h100-sxm", Basis.SIBLING),
        ("a100-sxm-40gb", "a100-sxm-80gb", Basis.SIBLING),
        ("gb200", "b200", Basis.SIBLING),
        ("b300", "b200", Basis.SIBLING),  # another compute capability of the same generation
        ("gb300", "b200", Basis.SIBLING),
        ("l4", "l40s", Basis.SIBLING),
        ("rtx-3090", "l40s", Basis.OTHER),  # the generation before
        ("rtx-5090", "l40s", Basis.OTHER),  # the generation after, and no data center's
    ],
)
def test_the_nearest_measured_gpu_answers_and_says_so(gpu, source, basis):
    found = estimate(PRODUCT, GPUS[gpu])
    assert (found.known.shipped.gpu, found.known.basis) == (source, basis)
    assert (found.refined_s is None) == (basis is Basis.OTHER)
    assert found.known.expected_error > 0


def test_what_is_left_out_is_never_used():
    gpu = GPUS["h200-sxm"]
    assert find_known(gpu, "matmul", "bf16").shipped.gpu == "h200-sxm"
    assert find_known(gpu, "matmul", "bf16", leave_out={"h200-sxm"}).shipped.gpu == "h100-sxm"
    assert find_known(gpu, "matmul", "bf16", leave_out={"h200-sxm", "h100-sxm"}).basis is Basis.OTHER
    with pytest.raises(MissingCeiling, match="matmul in bf16 for h200-sxm"):
        find_known(gpu, "matmul", "bf16", leave_out=GPUS)


def test_constants_of_a_sibling_grow_as_its_datasheet_says():
    # GB200: 152 SMs at 2.008 GHz; B200: 148 at 1.855. A share and a launch stay, an SM's stream grows with the clock,
    # writes with the clock of all SMs.
    found, own = (find_known(GPUS[gpu], "attention_decode", "bf16").calibration for gpu in ("gb200", "b200"))
    ratio = {name: found.constants[name] / own.constants[name] for name in own.constants}
    assert ratio["stream_bytes_per_s"] == pytest.approx(2.008 / 1.855)
    assert {ratio[name] for name in ("launch_s", "dram_share", "l2_gain")} == {1.0}
    found, own = (find_known(GPUS[gpu], "attention_prefill", "bf16").calibration for gpu in ("gb200", "b200"))
    grown = found.constants["write_bytes_per_s"] / own.constants["write_bytes_per_s"]
    assert grown == pytest.approx(152 * 2.008 / (148 * 1.855))


def test_refined_is_expected_times_the_residual_at_the_shape():
    (real,) = [
        each
        for each in library().shipped
        if (each.gpu, each.calibration.op, each.format) == ("h100-sxm", "matmul", "bf16")
    ]
    made = replace(real, residual=np.full_like(real.residual, 0), refined_error=0.04)
    # Node (2, 8, 8) of the first lattice is m = 16, n = k = 8192, in steps of 4, 2, 2: 0.10 of the log.
    made.residual[(2 * 13 + 8) * 13 + 8] = 10
    ships = Library((made,), ())
    for gpu, kernel, factor in (
        ("h100-sxm", made.kernel, np.exp(0.10)),
        ("h200-sxm", made.kernel, np.exp(0.10)),  # a sibling
        ("h200-sxm", "a name of another version", np.exp(0.05)),  # half as much
    ):
        known = find_known(GPUS[gpu], "matmul", "bf16", kernel=kernel, among=ships)
        rows = {name: np.array([float(size)]) for name, size in {"m": 16, "n": 8192, "k": 8192}.items()}
        assert known.factor(rows) == pytest.approx(factor)
    other = find_known(GPUS["b200"], "matmul", "bf16", among=ships)
    assert other.factor(rows) is None
    assert "another architecture" in other.why_unrefined


def test_the_terms_add_up_to_expected_and_the_residual_to_refined():
    found = estimate(PRODUCT, GPUS["h100-sxm"])
    calibration = found.known.calibration
    by_hand = expect(PRODUCT.dims, Machine.of(GPUS["h100-sxm"], BF16), Formats(), calibration).time_s
    assert found.expected_s == pytest.approx(by_hand)
    assert found.refined_s == pytest.approx(found.expected_s * found.factor)
    bound = predict(PRODUCT.amounts, GPUS["h100-sxm"].roofs)
    told = with_estimate(bound, found)
    assert bound.napkin_s == told.napkin_s < told.expected_s
    assert told.refined_s == pytest.approx(told.expected_s * float(found.factor[0]))
    text = explain_estimate(found)
    assert f"residual         {float(found.factor[0]):.3f}" in text
    assert "math_share" in text
    assert "aiconfigurator" in text


def test_many_workloads_have_the_times_that_each_has_alone():
    sizes = ({"batch": 1, "context": 4096}, {"batch": 64, "context": 100})
    asked = [make_workload("attention_decode", {**size, **HEADS}, BF16) for size in sizes]
    together = estimate_all(asked, GPUS["h200-sxm"])
    alone = [estimate(each, GPUS["h200-sxm"]) for each in asked]
    assert together.refined_s == pytest.approx([float(each.refined_s[0]) for each in alone])


def test_a_window_and_a_cache_in_8_bits_have_kernels_of_their_own():
    window = make_workload("attention_window", {"batch": 4, "seq": 4096, "window": 128, **HEADS}, BF16)
    found = estimate(window, GPUS["h100-sxm"]).known.shipped
    assert (found.calibration.op, found.window, found.cache) == ("attention_prefill", True, "bf16")
    cached = make_workload("attention_decode_fp8", {"batch": 4, "context": 4096, **HEADS}, BF16)
    narrow = estimate(cached, GPUS["h200-sxm"])
    assert (narrow.known.shipped.cache, narrow.formats.kv_bits) == ("fp8", 8)


@pytest.mark.parametrize(
    ("workload", "gpu", "why"),
    [
        (PRODUCT, "mi300x", "no calibration of matmul in bf16 for mi300x"),
        (PRODUCT, "v100-sxm-32gb", "bf16"),
        (
            make_workload("rmsnorm", {"rows": 4, "cols": 64}, BF16),
            "h100-sxm",
            "no form of expected time describes rmsnorm",
        ),
    ],
)
def test_what_is_not_known_is_absent_with_a_reason(workload, gpu, why):
    with pytest.raises(MissingCeiling, match=why):
        estimate(workload, GPUS[gpu])
