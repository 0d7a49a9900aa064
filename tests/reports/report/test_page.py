"""The report and its figures from made-up runs of a GPU and of a CPU."""

import dataclasses
import os
import subprocess
import sys

import pytest
from typer import unstyle

from bench import store
from bench.record import HARNESS, RoofSet, Status
from predict.gpus import GPUS
from predict.resources import Ceiling, Resource
from predict.roofline import predict
from predict.units import find_dtype
from predict.workloads import OPS, dim_names, make_workload
from reports.figures import to_png
from reports.report import page
from reports.report.story import story
from reports.run import plots
from reports.run.frame import to_frame
from reports.run.load import Run, load_records
from reports.run.machine import slow_bf16
from reports.run.terminal import run_page
from tests.factories import make_environment, make_record, unstable

MEASURED = {
    Resource.TENSOR_BF16: Ceiling(800e12, "measured"),
    Resource.VECTOR_FP32: Ceiling(50e12, "measured"),
    Resource.DRAM_READ: Ceiling(4.4e12, "measured"),
    Resource.DRAM_COPY: Ceiling(4.1e12, "measured"),
}
GPU_ROOFS = RoofSet(GPUS["h200-sxm"].roofs, MEASURED)
CPU_ROOFS = RoofSet({}, MEASURED)
HEADS = {"batch": 1, "heads": 32, "kv_heads": 8, "head_dim": 128}
MHA = {**HEADS, "kv_heads": 32}


def made_up_run(roofs=GPU_ROOFS, environment=None, *, ops=tuple(OPS)):
    """Every op, at 1.25 times its napkin (and at least 2 us)."""
    cells = [("matmul", {"m": m, "n": 8192, "k": 8192}, "bf16") for m in (1, 16, 64, 256, 1024, 4096)]
    cells += [("attention_prefill", {**HEADS, "seq": seq}, "bf16") for seq in (512, 2048, 8192)]
    cells += [("attention_decode", {**HEADS, "context": context}, "bf16") for context in (1024, 8192, 65536)]
    cells += [
        (op, {**MHA, "context": n}, "bf16") for op in ("generate_cached", "generate_uncached") for n in (128, 1024)
    ]
    cells += [(op, {"n": 2**28}, "fp32") for op in OPS if op.startswith("stream")]
    cells += [("launch", {}, "fp32")]
    cells += [(op, {"m": 16, "n": 8192, "k": 8192}, "bf16") for op in ("matmul_w8a16", "matmul_w4a16")]
    if Resource.TENSOR_FP8 in roofs.primary:
        cells += [("matmul_scaled", {"m": 16, "n": 8192, "k": 8192}, "fp8")]
    cells += [(op, {"rows": 8192, "cols": 4096}, "bf16") for op in OPS if dim_names(op) == ("rows", "cols")]
    experts = {"tokens": 16, "experts": 128, "active": 8, "n": 1536, "k": 2048}
    cells += [(op, experts, "bf16") for op in ("moe_experts", "moe_experts_skewed")]
    cells += [("rope", {"tokens": 8192, "heads": 32, "head_dim": 128}, "bf16")]
    cells += [(op, {**HEADS, "inner": 14336, "seq": 4096}, "bf16") for op in ("block_forward", "block_train")]
    cells += [("block_decode", {**HEADS, "inner": 14336, "context": 8192}, "bf16")]
    whole = {**HEADS, "inner": 14336, "layers": 32, "vocab": 128256}
    cells += [("model_forward", {**whole, "seq": 4096}, "bf16"), ("model_decode", {**whole, "context": 8192}, "bf16")]
    cells += [(op, {**HEADS, "seq": 4096}, "bf16") for op in ("attention_full", "attention_backward")]
    packed = {name: size for name, size in HEADS.items() if name != "batch"}
    loop = {**packed, "inner": 14336, "context": 1024}
    served = {**loop, "slots": 4, "requests": 8, "long": 8, "short": 2}
    cells += [(op, served, "bf16") for op in ("serve_static", "serve_continuous")]
    made = {**loop, "tokens": 8, "layers": 4}
    cells += [("generate_tokens", made, "bf16"), ("generate_drafted", {**made, "guesses": 3, "accepted": 80}, "bf16")]
    cells += [("attention_packed", {**packed, "sequences": 8, "tokens": 4096}, "bf16")]
    cells += [("attention_window", {**HEADS, "seq": 4096, "window": 1024}, "bf16")]
    cells += [("attention_chunk", {**HEADS, "queries": 8, "context": 8192}, "bf16")]
    cells += [("attention_paged", {**HEADS, "context": 8192, "page": 64}, "bf16")]
    cells += [("attention_decode_fp8", {**HEADS, "context": 8192}, "bf16")]
    cells += [("attention_mla", {"batch": 8, "context": 8192, "heads": 128, "latent": 512, "rope": 64}, "bf16")]
    cells += [("linear_backward", {"m": 4096, "n": 4096, "k": 4096}, "bf16")]
    for op, dims, dtype in cells:
        if op in ops:
            napkin_s = predict(make_workload(op, dims, find_dtype(dtype)).amounts, roofs.primary).napkin_s
            for implementation, factor in (("torch", 1.25), ("triton", 1.5)):
                yield make_record(
                    op, dims, dtype=dtype, implementation=implementation, time_s=max(2e-6, factor * napkin_s),
                    roofs=roofs, environment=environment,
                )  # fmt: skip


def write(folder, records):
    for record in records:
        store.append(folder / store.RECORDS, record)
    return load_records(folder)


@pytest.fixture
def gpu_run(tmp_path):
    return write(tmp_path, made_up_run())


def files_of(folder):
    return {
        path.name: path.read_bytes()
        for path in [folder / "report.md", folder / page.PAGE, *sorted((folder / "figures").iterdir())]
    }


def test_a_run_gives_a_report_and_every_figure(gpu_run, tmp_path):
    report = page.write_report(gpu_run, tmp_path)
    text = report.read_text()
    assert {path.stem for path in (tmp_path / "figures").iterdir()} == {drawing.name for drawing in plots.DRAWINGS}
    assert all(f"(figures/{drawing.name}.png)" in text for drawing in plots.DRAWINGS)
    assert all(f"### {op}" in text for op in OPS)
    assert "NVIDIA H200, SKU h200-sxm, 132 SMs" in text


@pytest.mark.parametrize("drawing", plots.DRAWINGS, ids=lambda drawing: drawing.name)
def test_every_legend_lies_inside_its_figure(gpu_run, drawing):
    figure = drawing.draw(gpu_run)
    to_png(figure)
    legends = [*figure.legends, *(axes.get_legend() for axes in figure.axes if axes.get_legend())]
    assert legends
    for legend in legends:
        box = legend.get_window_extent()
        assert (min(box.x0, box.y0) >= 0, box.x1 <= figure.bbox.x1, box.y1 <= figure.bbox.y1) == (True, True, True)


def test_two_renderings_are_the_same_bytes(gpu_run, tmp_path):
    page.write_report(gpu_run, tmp_path / "one")
    page.write_page(gpu_run, tmp_path / "one")
    script = (
        "from pathlib import Path; from reports.run.load import load_records;"
        "from reports.report.page import write_page, write_report;"
        f"run, out = load_records(Path({str(tmp_path)!r})), Path({str(tmp_path / 'two')!r});"
        "write_report(run, out); write_page(run, out)"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7", "MPLBACKEND": "svg", "TZ": "Asia/Tokyo", "LC_ALL": "C"}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment)
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")


def test_a_run_of_one_op_says_why_other_figures_are_missing(tmp_path):
    run = write(tmp_path, made_up_run(ops=("stream_copy",)))
    text = page.write_report(run, tmp_path).read_text()
    assert "Prefill and decode: share of the compute roof and of the memory roof: not drawn, " in text
    assert {path.stem for path in (tmp_path / "figures").iterdir()} == {"parity"}


def test_a_run_in_which_everything_failed_still_has_a_report(tmp_path):
    run = write(tmp_path, [make_record(status=Status.CRASHED, reason="boom | <bang>")])
    text = page.write_report(run, tmp_path).read_text()
    assert "1 crashed" in text
    assert "boom \\| &lt;bang>" in text
    assert "nothing was timed" in text


def test_failures_and_doubtful_rows_are_listed_with_reasons(tmp_path):
    noisy = make_record(implementation="naive")
    slow_tail = (1e-3,) * 30 + (9e-3,) * 10
    noisy = dataclasses.replace(noisy, measurement=dataclasses.replace(noisy.measurement, times_s=slow_tail))
    run = write(tmp_path, [make_record(), make_record(implementation="triton", status=Status.INCORRECT), noisy])
    text = page.write_report(run, tmp_path).read_text()
    assert "made up: incorrect" in text
    assert "look for other processes on the device" in text


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        ({"mismatches": ("16 SMs, the table has 132",)}, "the driver contradicts the GPU table: 16 SMs"),
        ({"forced": True}, "forced"),
        ({"warm_cache": True}, "warm cache"),
        ({"mig": True}, "MIG is on"),
    ],
)
def test_what_makes_a_whole_run_doubtful_is_a_warning(tmp_path, changes, warning):
    run = write(tmp_path, [make_record(environment=make_environment(**changes))])
    assert warning in page.write_report(run, tmp_path).read_text().split("##")[0]


def test_records_of_two_harnesses_in_one_file_are_a_warning(tmp_path):
    old = dataclasses.replace(make_record(implementation="triton"), harness=1)
    run = write(tmp_path, [old, make_record()])
    warnings = page.write_report(run, tmp_path).read_text().split("##")[0]
    assert f"taken by harness 1 and {HARNESS}, whose times are not comparable" in warnings


def test_a_cpu_says_that_its_roofs_were_measured(tmp_path):
    environment = make_environment(device="cpu", gpu=None, name="Some CPU")
    run = write(tmp_path, made_up_run(CPU_ROOFS, environment))
    text = page.write_report(run, tmp_path).read_text()
    assert "no datasheet roof here" in text
    assert "% of datasheet" not in text
    assert "| datasheet |" not in text


def test_expected_times_stand_beside_the_predicted_ones_where_a_calibration_ships(tmp_path):
    h100 = RoofSet(GPUS["h100-sxm"].roofs, MEASURED)
    run = write(tmp_path, made_up_run(h100, make_environment(gpu="h100-sxm")))
    text = page.write_report(run, tmp_path).read_text()
    matmul = text.partition("### matmul")[2].partition("###")[0]
    title, _, first, *_ = [line for line in matmul.splitlines() if line.startswith("|")]
    row = dict(zip(title.split("|"), first.split("|"), strict=True))
    # m=1: 40.07 us at 3.35 TB/s; at 87.54 % of it and with a launch of 2.37 us 48.1 us, and the tiles add a little.
    predicted, expected = (row[f" {name} "].split() for name in ("predicted", "expected"))
    assert predicted == ["40.1", "us"]
    assert expected[1] == "us"
    assert 48.1 <= float(expected[0]) < 49
    (line,) = [line for line in text.splitlines() if line.startswith("- matmul in bf16: ")]
    assert "measured on h100-sxm; expected is off by " in line
    assert "; calibrated from 16 measured rows, h100-sxm_gemm" in line
    assert float(row[" refined "].split()[0]) == pytest.approx(float(expected[0]), rel=0.1)
    assert "`refined` multiplies it" in text
    assert " expected |" not in text.partition("### stream_copy")[2].partition("###")[0]
    shown = run_page(run, 140)
    assert " ".join(expected) in shown
    assert "expected matmul in bf16: measured on h100-sxm; expected is off by " in shown


def test_a_report_without_calibrations_does_not_speak_of_expected_times(tmp_path):
    run = write(tmp_path, made_up_run(CPU_ROOFS, make_environment(device="cpu", gpu=None, name="Some CPU")))
    assert run.calibrations == {}
    assert "expected" not in page.write_report(run, tmp_path).read_text()


def test_the_story_is_told_from_the_numbers(gpu_run):
    told = " ".join(story(gpu_run.frame, gpu_run.roofs))
    # Decode reads: 1.25 times the napkin at 4.8 TB/s is 0.8 * 4.8/4.4 = 87.3 % of the measured 4.4 TB/s.
    assert (
        "Decode attention is bound by dram in 6 of 6 rows; at its best it reaches 87.3 % of its measured roof" in told
    )
    # r = 989.5/4.8 = 206.1 FLOP/B; m* = r / (1 - 2r/8192) = 217.
    assert "the napkin puts the ridge at M = 217" in told
    # M = 256 computes for 2*256*8192^2/989.5e12 = 34.7 us, M = 1 reads for 28.0 us: 1.24 times; M = 1024 is far over.
    assert "up to M = 256" in told
    # Without a cache, token 1024, d = 4096: (6*1024*d^2 + 2*d*1024*1025) / (6*d^2 + 4*d*1024) = 951 times the FLOP.
    assert "does 951x the FLOP" in told


def shaken(records, is_shaky):
    return Run(tuple(unstable(each) if is_shaky(each) else each for each in records))


def test_no_sentence_rests_on_an_unstable_row(gpu_run):
    def prefill(run):
        return next(each for each in story(run.frame, run.roofs) if each.startswith("Prefill"))

    best = "seq8192-heads32-kv_heads8-head_dim128-bf16 by torch"
    assert best in prefill(gpu_run)
    sentence = prefill(
        shaken(gpu_run.records, lambda each: f"{each.workload.id} by {each.implementation}".endswith(best))
    )
    assert "of 5 rows" in sentence
    assert best not in sentence
    assert sentence.endswith("(Left out: 1 of 6 rows, since their times are unstable.)")
    assert "up to M = 256;" in batching(gpu_run)
    without = batching(shaken(gpu_run.records, lambda each: each.workload.dims.get("m") == 256))
    assert "up to M = 64;" in without
    why = "their times, or the fastest of their sizes, are unstable"
    assert without.endswith(f"(Left out: 2 of 12 rows, since {why}.)")


def batching(run):
    return next(each for each in story(run.frame, run.roofs) if "atching" in each)


def test_where_most_rows_are_unstable_a_line_says_so_instead_of_a_sentence(gpu_run):
    shaky = shaken(gpu_run.records, lambda each: each.workload.op == "matmul" and each.workload.dims["m"] > 16)
    # 4 of 6 batches by 2 implementations.
    why = "their times, or the fastest of their sizes, are unstable"
    assert batching(shaky) == f"No sentence on batching: of its 12 rows 8 do not count, since {why}."
    text = page.render(shaky, ())
    assert "- No sentence on batching" in text
    assert "`~` unstable, 8 of " in text


@pytest.mark.parametrize(
    ("bf16_per_s", "said"),
    [
        (20e9, "20.0 GFLOP/s against 100 GFLOP/s: it has no instructions for bf16 products"),
        # The roof was raised to fp32's; its matmul of 2*16*8192^2 = 2.147 GFLOP takes 0.1 s, its fastest tenth 0.097 s.
        (100e9, "22.1 GFLOP/s against 100 GFLOP/s"),
        (200e9, None),
    ],
)
def test_bf16_that_is_slower_than_fp32_is_called_out_with_what_it_means(bf16_per_s, said):
    measured = {**MEASURED, Resource.TENSOR_BF16: Ceiling(bf16_per_s, "x"), Resource.VECTOR_FP32: Ceiling(100e9, "x")}
    cpu = make_environment(device="cpu", gpu=None, name="Some CPU")
    record = make_record(time_s=0.1, roofs=RoofSet({}, measured), environment=cpu)
    line = slow_bf16(Run((record,)))
    text = page.render(Run((record,)), ())
    if said is None:
        assert line == ""
        assert "slower than fp32" not in text
        return
    assert line.startswith(f"bf16 is slower than fp32 on this CPU, {said}")
    assert ("by the bf16 roof, and what computes in fp32" in line) == (bf16_per_s < 100e9)
    assert f"- {line}.\n" in text
    assert line in " ".join(unstyle(run_page(Run((record,)), 80)).split())


def test_nothing_is_called_at_the_roof_below_ninety_percent(tmp_path):
    dims = {**HEADS, "context": 8192}
    # 2*8192*8 cached rows, 32 queries and 32 outputs of 128 numbers of 2 bytes, at the 4.4 TB/s that were measured.
    napkin_s = (2 * 8192 * 8 + 32 + 32) * 128 * 2 / 4.4e12
    for share, verb in ((0.89, "reaches 89.0 % of its measured roof"), (0.91, "is at its measured roof (91.0 %)")):
        record = make_record("attention_decode", dims, time_s=napkin_s / share, roofs=GPU_ROOFS)
        assert verb in story(to_frame([record]), GPU_ROOFS)[0]


def test_the_ridge_batch_is_the_textbook_one():
    # A100 sheet: r = 312e12/2e12 = 156 FLOP/B; m* = 156/(1 - 2*156/4096) = 168.9 for n = k = 4096.
    roofs = {Resource.TENSOR_BF16: Ceiling(312e12, "x"), Resource.DRAM: Ceiling(2e12, "x")}
    assert plots.ridge_batch(roofs, n=4096, k=4096, dtype="bf16") == pytest.approx(168.86, abs=0.05)


@pytest.mark.parametrize("width", [80, 100, 140])
def test_the_terminal_table_fits_and_cuts_no_number(gpu_run, width):
    text = unstyle(run_page(gpu_run, width))
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width
    assert "…" not in text
    assert all(op in text for op in OPS)


def test_the_terminal_table_shows_failures_with_reasons(tmp_path):
    run = write(tmp_path, [make_record(status=Status.OUT_OF_MEMORY, reason="needs 99 GiB, 1 GiB are free")])
    text = run_page(run, 120)
    assert "out_of_memory" in text
    assert "needs 99 GiB, 1 GiB are free" in text


def test_a_batch_that_is_never_free_is_told_as_such():
    records = [make_record(dims={"m": m, "n": 8192, "k": 8192}, time_s=m * 1e-3) for m in (1, 2, 4)]
    told = story(to_frame(records), records[0].roofs)
    assert "the time grows from the start: M = 2 takes 2.00x as long as M = 1" in told[0]
