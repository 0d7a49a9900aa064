"""Three named times, and on whose measurements they rest: the GPU's own, a sibling's, or another architecture's."""

from dataclasses import replace

import numpy as np
import pytest

from predict.errors import MissingCeiling
from predict.expected.calibrations import Basis, Library, find_every, find_known, library
from predict.expected.kernel import expect
from predict.expected.refined import estimate, estimate_all, estimate_json, explain_estimate, summary, with_estimate
from predict.expected.time_model import Machine
from predict.gpus import GPUS
from predict.roofline import predict
from predict.units import Formats, find_dtype
from predict.workloads import make_workload
from tests.calibrations import CALIBRATIONS

BF16, FP8 = find_dtype("bf16"), find_dtype("fp8")
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


def terms_of(op, dtype=BF16, gpu="h100-sxm", **dims):
    return estimate(make_workload(op, dims, dtype), GPUS[gpu])


@pytest.mark.parametrize(
    ("op", "dims", "as_op", "as_dims"),
    [
        (
            "attention_paged",
            {"batch": 4, "context": 4096, "page": 16},
            "attention_decode",
            {"batch": 4, "context": 4096},
        ),
        ("attention_packed", {"sequences": 4, "tokens": 4096}, "attention_prefill", {"batch": 4, "seq": 1024}),
    ],
)
def test_ops_that_the_measured_kernels_are_have_their_times(op, dims, as_op, as_dims):
    found, same = terms_of(op, **dims, **HEADS), terms_of(as_op, **as_dims, **HEADS)
    assert found.refined_s == pytest.approx(same.refined_s)
    assert found.known == same.known


def test_full_attention_multiplies_every_tile_and_writes_no_cache():
    dims = {"batch": 8, "seq": 16384, **HEADS}
    full, causal = terms_of("attention_full", **dims), terms_of("attention_prefill", **dims)
    # 128 of 128 tiles of keys instead of 64.5 on average; launches and the first tile are the same.
    assert float(full.terms.parts["tiles"][0] / causal.terms.parts["tiles"][0]) == pytest.approx(128 / 64.5, rel=0.02)
    assert "write" not in full.terms.parts
    assert float(full.expected_s[0]) > 4 * 8 * 32 * 128 * 16384**2 / 989.4e12


def test_operands_that_are_narrow_already_take_no_time_to_narrow():
    dims = {"m": 512, "n": 4096, "k": 4096}
    scaled, plain = terms_of("matmul_scaled", FP8, **dims), terms_of("matmul", FP8, **dims)
    assert float(scaled.expected_s[0]) == pytest.approx(float(plain.expected_s[0] - plain.terms.parts["narrow"][0]))
    long = terms_of("matmul_scaled", FP8, "h100-sxm", m=1, n=64, k=64)
    assert float(long.expected_s[0]) >= max(float(part[0]) for part in long.terms.parts.values())
    in_int8 = terms_of("matmul_scaled", find_dtype("int8"), **dims)  # as fast as fp8, by its kernels
    assert float(in_int8.expected_s[0]) == pytest.approx(float(scaled.expected_s[0]))


def test_int8_runs_as_fp8_where_there_is_fp8_else_as_16_bits():
    dims = {"m": 512, "n": 4096, "k": 4096}
    formats = {
        gpu: terms_of("matmul_scaled", find_dtype("int8"), gpu, **dims).known.shipped
        for gpu in ("h100-sxm", "a100-sxm-80gb")
    }
    assert {gpu: (each.gpu, each.format) for gpu, each in formats.items()} == {
        "h100-sxm": ("h100-sxm", "fp8"),
        "a100-sxm-80gb": ("a100-sxm-80gb", "bf16"),
    }


def test_weights_alone_in_few_bits_are_read_as_they_are_stored():
    dims = {"m": 1, "n": 8192, "k": 8192}
    wide, bytes_, nibbles = (
        float(terms_of(op, **dims).terms.parts["memory"][0]) for op in ("matmul", "matmul_w8a16", "matmul_w4a16")
    )
    assert wide / bytes_ == pytest.approx(2, rel=0.01)
    assert wide / nibbles == pytest.approx(16 / (4 + 16 / 128), rel=0.01)


def test_what_stands_in_for_unmeasured_kernels_is_said_and_has_no_error():
    norm = terms_of("rmsnorm", rows=4096, cols=8192)
    constants = CALIBRATIONS["h100-sxm", "matmul", "bf16"].constants
    moved = (2 * 4096 * 8192 + 8192) * 2
    expected = constants["launch_s"] + moved / (constants["dram_share"] * 3.35e12)
    assert float(norm.expected_s[0]) == pytest.approx(expected)
    assert summary(norm.known) == (
        "by a matmul's launch and bandwidth, measured on h100-sxm; how far off such times are was not measured"
    )
    scaled = terms_of("matmul_scaled", FP8, m=16, n=64, k=64)
    assert "by kernels like it, measured on h100-sxm" in summary(scaled.known)
    for found in (norm, scaled):
        assert found.refined_s is None
        entry = estimate_json(found)
        assert (entry["expected_error"], entry["refined_s"]) == (None, None)
        assert "tells nothing of these" in entry["not_refined"]


def test_nothing_is_left_of_the_time_of_a_host_that_issued_the_measured_calls():
    found = terms_of("attention_mla", batch=1, context=128, heads=16, latent=512, rope=64)
    assert float(found.expected_s[0]) < found.known.calibration.constants["host_s"]
    # Errors and residuals are of times with the host.
    assert (found.refined_s, found.known.expected_error) == (None, None)
    assert "without the host that issued them" in summary(found.known)


@pytest.mark.parametrize(
    ("workload", "gpu", "why"),
    [
        (PRODUCT, "mi300x", "no calibration of matmul in bf16 for mi300x"),
        (PRODUCT, "v100-sxm-32gb", "bf16"),
        (
            make_workload("stream_copy", {"n": 64}, BF16),
            "h100-sxm",
            "no form of expected time describes stream_copy",
        ),
    ],
)
def test_what_is_not_known_is_absent_with_a_reason(workload, gpu, why):
    with pytest.raises(MissingCeiling, match=why):
        estimate(workload, GPUS[gpu])


def test_a_relative_is_never_said_to_be_nearer_than_the_gpu_that_was_measured():
    for fmt in ("bf16", "fp8"):
        l4, l40s = (find_known(GPUS[gpu], "matmul", fmt) for gpu in ("l4", "l40s"))
        assert l4.shipped is l40s.shipped
        assert l4.expected_error >= l40s.expected_error
        assert l4.refined_error >= l40s.refined_error


def test_an_engine_has_the_kernels_of_its_architecture():
    kernels = {each.shipped.kernel: each.shipped.gpu for each in find_every(GPUS["h200-sxm"], "all_reduce", "bf16")}
    assert kernels["NCCL"] == "h200-sxm"
    assert kernels["vLLM_custom_graph"] == "h100-sxm"  # nobody measured it on an H200
    other = {each.shipped.gpu for each in find_every(GPUS["b200"], "all_reduce", "bf16")}
    assert other == {"b200"}  # nothing of another architecture


def test_heads_wider_than_any_that_was_measured_have_no_error():
    heads = {"batch": 64, "context": 4096, "heads": 64, "kv_heads": 8}
    measured, wider = (terms_of("attention_decode", head_dim=width, **heads) for width in (512, 768))
    assert measured.known.expected_error is not None
    assert wider.known.expected_error is None
    assert "kernels of smaller heads" in summary(wider.known)
