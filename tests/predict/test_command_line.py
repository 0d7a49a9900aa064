import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from predict.__main__ import app
from predict.answers.question import ASKED
from predict.commands.options import PANELS
from predict.errors import MissingCeiling
from predict.expected.kernel import TIME_MODELS
from predict.gpus import GPUS
from predict.model.presets import PRESETS
from predict.resources import Resource
from predict.units import find_dtype
from predict.workloads import OPS, make_workload
from tests.calibrations import CALIBRATIONS

RUNNER = CliRunner()


def run(*arguments):
    return subprocess.run([sys.executable, "-m", "predict", *arguments], capture_output=True, text=True, check=False)


def test_kernel_explains_the_arithmetic_with_sources():
    result = RUNNER.invoke(app, "kernel matmul m=16 n=8192 k=8192 --dtype bf16 --gpu h100 --explain".split())
    # 134,742,016 bytes at 3.35 TB/s: 40.2 us.
    assert "napkin 40.2 us    bound: dram" in result.output
    assert "dram: NVIDIA" in result.output


def test_kernel_json_is_in_si_units():
    result = RUNNER.invoke(app, "kernel matmul m=1 n=4k k=4_096 --dtype bf16 --gpu a100 --json".split())
    data = json.loads(result.output)
    assert (data["flop"], data["bytes_read"], data["bytes_written"]) == (2 * 4096**2, 2 * 4096 * 4097, 2 * 4096)
    assert data["napkin_s"] == pytest.approx(2 * (4096 * 4097 + 4096) / 2.039e12)
    assert data["bound"] == "dram"


def test_kernel_says_what_memory_a_call_needs_and_what_stored_scores_cost():
    asked = "kernel attention_full batch=1 seq=4096 heads=32 kv_heads=8 head_dim=128 --gpu h200".split()
    page = RUNNER.invoke(app, [*asked, "--explain"]).output
    # Q, O: 4096*32*128 numbers, K, V a quarter: 2.5 * 32 MiB. Scores and their softmax: 2 * 32*4096^2 numbers, 2 GiB.
    assert "peak memory: 80 MiB of inputs, outputs" in page
    # Written and read three times each, 6 GiB, and the operands, at 4.8 TB/s: 6.526e9/4.8e12 = 1.36 ms.
    assert "with its scores in memory: napkin 1.36 ms, peak 2.078 GiB" in page
    assert json.loads(RUNNER.invoke(app, [*asked, "--json"]).output)["peak_bytes"] == 80 * 2**20
    other = RUNNER.invoke(app, "kernel launch --gpu h200 --dtype fp32 --explain".split()).output
    assert "peak memory: 0 B" in other
    assert "scores" not in other


def test_kernel_puts_the_expected_time_beside_the_napkin_and_explains_it():
    asked = "kernel matmul m=4096 n=4096 k=4096 --dtype bf16 --gpu h100".split()
    line, rests_on = RUNNER.invoke(app, asked).output.splitlines()
    # 2 x 4096^3 FLOP at 989.4 TFLOP/s: 138.9 us.
    assert "napkin 139 us    bound: tensor.bf16    expected " in line
    assert "us    refined " in line
    assert rests_on.startswith("    measured on h100-sxm; expected is off by ")
    page = RUNNER.invoke(app, [*asked, "--explain"]).output
    calibration = CALIBRATIONS["h100-sxm", "matmul", "bf16"]
    explained = page[page.index("\nexpected") :].partition("\n\n")[0].splitlines()
    assert max(len(text) for text in explained) <= 100
    for name, value in calibration.constants.items():
        (row,) = [text for text in explained if text.split()[:1] == [name]]
        assert float(row.split()[1]) == pytest.approx(value, rel=1e-3)
        assert TIME_MODELS["matmul"].constants[name].unit in row
    for name, is_on in calibration.switches.items():
        assert any(text.split()[:2] == [name, "yes" if is_on else "no"] for text in explained)
    assert "calibrated from 16 measured rows: h100-sxm_gemm" in page
    launch_us = f"{calibration.constants['launch_s'] * 1e6:.3f}"
    assert any(text.split()[:2] == ["launch", launch_us] for text in explained)  # its only constant term


def test_kernel_json_has_the_terms_of_the_expected_time_and_its_calibration():
    result = RUNNER.invoke(app, "kernel matmul m=16 n=8192 k=8192 --dtype fp8 --gpu h100 --json".split())
    data = json.loads(result.output)
    calibration = CALIBRATIONS["h100-sxm", "matmul", "fp8"]
    assert data["calibration"] == {
        "source": calibration.source, "probes": 16, "constants": dict(calibration.constants),
        "switches": dict(calibration.switches),
    }  # fmt: skip
    terms = data["expected_terms"]
    # Terms of a matmul add, but for tiles and memory, of which the shorter hides.
    assert max(terms["sms"], terms["memory"]) < data["expected_s"] < sum(terms.values())
    # Narrowing 16 rows of 8192 elements inside L2, at 0.37 of the rate at which 132 SMs load tiles of 1-byte elements:
    # an SM multiplies at its share of 1978.9 TFLOP/s while it loads tile_edge elements.
    constants = calibration.constants
    l2_bytes_per_s = 0.37 * 132 * (1978.9e12 / 132) / constants["tile_edge"]
    narrow_s = max(16 * constants["token_s"], 16 * 8192 * constants["narrow_bytes"] / l2_bytes_per_s)
    assert terms["narrow"] == pytest.approx(narrow_s, rel=1e-3)


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        (
            "kernel matmul m=16 n=64 k=64 --dtype fp32 --gpu h100",
            "no calibration of matmul in fp32 for h100-sxm is known",
        ),
        ("kernel stream_copy n=64 --dtype bf16 --gpu h100", "no form of expected time describes stream_copy"),
        ("kernel matmul m=16 n=64 k=64 --gpu mi300x", "no calibration of matmul in bf16 for mi300x is known"),
    ],
)
def test_kernel_says_in_one_line_why_no_time_is_expected(asked, why):
    lines = RUNNER.invoke(app, [*asked.split(), "--explain"]).output.splitlines()
    assert [line for line in lines if "expected:" in line] == [f"expected: not known, {why}"]
    data = json.loads(RUNNER.invoke(app, [*asked.split(), "--json"]).output)
    nothing = {name: None for name in data if name.startswith(("expected", "refined", "basis", "measured", "residual"))}
    assert len(nothing) >= 8
    assert {name: data[name] for name in nothing} == nothing
    assert data["not_expected"] == why


def test_kernel_says_why_no_time_is_expected_and_why_one_is_below_the_bound():
    lines = RUNNER.invoke(app, "kernel stream_copy n=64 --gpu h100".split()).output.splitlines()
    assert lines[1].strip() == "expected: not known, no form of expected time describes stream_copy"
    asked = "kernel matmul m=512 n=65536 k=32 --gpu l40s".split()  # the result stays in L2
    for page in (asked, [*asked, "--explain"]):
        assert "L2 keeps some from kernel to kernel" in " ".join(RUNNER.invoke(app, page).output.split())


def test_a_gpu_that_multiplies_fp16_alone_rests_on_kernels_in_bf16():
    t4 = json.loads(RUNNER.invoke(app, ["gpus", "--json"]).output)["t4"]
    known = [each for each in t4["expected"] if each["op"] == "matmul" and each["format"] == "bf16"]
    assert known[0]["basis"] == "other"


def test_kernel_says_on_whose_measurements_its_times_rest():
    asked = "kernel matmul m=16 n=8192 k=8192 --gpu gb200".split()
    assert "measured on b200, of the same architecture; expected is off by " in RUNNER.invoke(app, asked).output
    data = json.loads(RUNNER.invoke(app, [*asked, "--json"]).output)
    assert (data["basis"], data["measured_on"]) == ("sibling", "b200")
    assert data["refined_s"] == pytest.approx(data["expected_s"] * data["residual"])
    assert 0 < data["refined_error"] < data["expected_error"] < 0.2
    poor = json.loads(RUNNER.invoke(app, [*asked[:-1], "rtx-5090", "--json"]).output)
    assert (poor["basis"], poor["refined_s"], poor["refined_error"]) == ("other", None, None)
    assert poor["expected_error"] > data["expected_error"]
    assert "another architecture" in poor["not_refined"]


def test_every_op_predicts_on_every_gpu_that_has_its_roofs():
    sizes = {"m": 2, "n": 64, "k": 128, "batch": 1, "seq": 4, "context": 4, "heads": 4, "kv_heads": 2, "head_dim": 64}
    sizes |= {"rows": 2, "cols": 64, "tokens": 3, "window": 2, "sequences": 2, "queries": 2, "page": 16}
    sizes |= {"latent": 64, "rope": 16, "inner": 128, "experts": 4, "active": 2, "layers": 2, "vocab": 32}
    sizes |= {"slots": 2, "requests": 3, "long": 3, "short": 1, "guesses": 2, "accepted": 60}
    dtypes = {"matmul_scaled": "int8"}
    dtypes |= dict.fromkeys(("matmul_w8a16", "matmul_w4a16", "attention_decode_fp8", "block_train"), "bf16")
    listing = json.loads(RUNNER.invoke(app, ["ops", "--json"]).output)
    assert listing.keys() == OPS.keys()
    for gpu in GPUS.values():
        for op, described in listing.items():
            dims, dtype = {name: sizes[name] for name in described["dims"]}, dtypes.get(op, "fp64")
            given = [f"{name}={size}" for name, size in dims.items()]
            result = RUNNER.invoke(app, ["kernel", op, *given, "--gpu", gpu.name, "--dtype", dtype, "--explain"])
            amounts = make_workload(op, dims, find_dtype(dtype)).amounts
            needed = {*amounts.flop_by_unit, *([Resource.DRAM] if amounts.bytes else [])}
            if Resource.VECTOR_FP64 in gpu.roofs:
                needed.discard(Resource.TENSOR_FP64)  # the vector units do it
            if needed <= gpu.roofs.keys():
                assert result.exit_code == 0, result.output
            else:
                assert isinstance(result.exception, MissingCeiling)


def test_gpus_lists_every_sku_in_text_and_json():
    text = RUNNER.invoke(app, ["gpus"]).output
    data = json.loads(RUNNER.invoke(app, ["gpus", "--json"]).output)
    assert data.keys() == GPUS.keys()
    assert all(name in text for name in GPUS)
    assert data["h100-sxm"]["roofs"]["dram"]["per_s"] == 3.35e12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("kernel matmul m=1 n=1 k=1 --gpu h1000", "h1000"),
        ("kernel matmul m=-1 n=1 k=1 --gpu h100", "m must be a positive whole number, not -1"),
        ("kernel matmul m=x n=1 k=1 --gpu h100", "m must be a number such as 512, 8k (8 x 1024)"),
        ("kernel matmul m=1.5 n=1 k=1 --gpu h100", "m must be a positive whole number, not '1.5'"),
        ("kernel matmul m=1 n=1 --gpu h100", "needs k=..."),
        ("kernel matmul m=1 m=2 n=1 k=1 --gpu h100", "m is given twice"),
        ("kernel matmul 16 8192 8192 --gpu h100", "name=size, such as m=16, not '16'"),
        ("kernel matmul m=1 n=1 k=1 --gpu h100 --dtype bf17", "unknown dtype 'bf17'"),
        ("kernel matmul m=1 n=1 k=1 --gpu a100 --dtype fp8", "no tensor.fp8 roof"),
        ("kernel conv m=1 --gpu h100", "unknown op 'conv'"),
        ("kernel matmul m=1 n=1 k=1 --gpu h100 --nope", "No such option"),
        ("model llama-4 --gpu h100", "unknown model 'llama-4'"),
        ("model llama-3-8b", "Missing option '--gpu'"),
        ("model --gpu h100", "name of a preset"),
        ("model llama-3-8b --config config.json --gpu h100", "name of a preset"),
        ("model --config . --gpu h100", ". has no config.json"),
        ("model --config nowhere.json --gpu h100", "cannot read nowhere.json"),
        ("model llama-3-8b --gpu h100 --batch 0", "batch must be a positive whole number, not 0"),
        ("model llama-3-8b --gpu h100 --batch many", "batch must be a number such as 512, 8k"),
        ("model llama-3-8b --gpu h100 --batch 1.5", "batch must be a positive whole number, not 1.5"),
        ("model llama-3-8b --gpu h100 --hbm 80G", "hbm must be a number such as 8e10, 80GB (decimal) or 80GiB"),
        ("model llama-3-8b --gpu h100 --seq -4", "seq must be a positive whole number, not -4"),
        ("model llama-3-8b --gpu h100 --context -4", "context must not be negative, not -4"),
        ("model llama-3-8b --gpu h100 --gpus 1000000", "gpus=1000000 is more than"),
        ("model llama-3-8b --gpu h100 --weights int5", "unknown weight format 'int5'"),
        ("model llama-3-8b --gpu h100 --weights int4 --compute int4", "compute=int4: h100-sxm has no peak"),
        ("model llama-3-8b --gpu a100 --compute fp8", "compute=fp8: a100-sxm-80gb has no peak"),
        ("model llama-3-8b --gpu h100 --kv int3", "unknown dtype 'int3'"),
        ("model llama-3-8b --gpu h100 --mfu 2", "mfu must be above 0 and at most 1, not 2"),
        ("model llama-3-8b --gpu h100 --attention half", "attention must be one of causal, full"),
        ("model llama-3-8b --gpu h100 --recompute some", "recompute must be one of none, selective, flash, ops, full"),
        ("model llama-3-8b --gpu h100 --optimizer sgd", "unknown optimizer 'sgd'"),
        ("model llama-3-8b --gpu h100 --draft llama-4", "unknown model 'llama-4'"),
        ("model llama-3-8b --gpu h100 --serve --train", "give one of --serve or --train"),
        ("model llama-3-8b --gpu h100 --accept 0.9", "accept is the chance that a token of --draft is accepted"),
        ("formula nothing", "unknown formula 'nothing'"),
        ("formula speedup alpha", "name=size"),
    ],
)
def test_bad_input_is_one_line_and_exit_status_2(arguments, message, refusal):
    assert message in refusal(app, *arguments.split())


def test_the_program_itself_ends_with_status_2_and_one_line():
    result = run("model", "llama-3-8b", "--gpu", "h100", "--batch", "0")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "error: batch must be a positive whole number, not 0\n"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            "kernel matmull m=1 --gpu h100",
            "unknown op 'matmull': did you mean matmul? `python -m predict ops` lists them",
        ),
        ("kernel matmul m=1 n=1 K=1 --gpu h100", "matmul has no dimension 'K': did you mean k? it takes m, n, k"),
        ("kernel matmul m=1 --gpu h10o", "unknown GPU 'h10o': did you mean h100? `python -m predict gpus` lists them"),
        ("model llama-3-8b --gpu h100 --logits lst", "logits must be one of all, last, not 'lst': did you mean last?"),
        ("model x --gpu h100 --bacth 3", "No such option --bacth: did you mean --batch? (see python -m program model"),
    ],
)
def test_a_name_that_is_not_known_gets_one_line_with_what_may_be_meant(arguments, line, refusal):
    assert refusal(app, *arguments.split()).startswith(f"error: {line}")


def test_the_types_of_config_files_are_listed(capsys):
    app(["models", "--types"], standalone_mode=False)
    assert {"llama", "qwen3_moe"} <= set(capsys.readouterr().out.split())


def test_the_command_line_needs_no_torch():
    code = (
        "import sys, predict.__main__ as cli; sys.argv = 'predict model llama-3-8b --gpu h100'.split()\n"
        "cli.app(standalone_mode=False); sys.exit('torch' in sys.modules or 'pandas' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, stdout=subprocess.DEVNULL).returncode == 0


def model_json(*arguments):
    result = RUNNER.invoke(app, ["model", *arguments, "--json"], catch_exceptions=False)
    return json.loads(result.stdout)


LISTS = ["verdict", "breakdown", "notes"]  # in a JSON that is flat otherwise


def test_model_json_is_flat_and_in_si_units():
    data = model_json("llama-3-70b", "--gpu", "h100", "--gpus", "2", "--batch", "8", "--seq", "8192")
    assert [key for key, value in data.items() if isinstance(value, dict | list)] == LISTS
    assert data["params"] == 70_553_706_496
    assert data["kv_bytes"] == 8 * 8192 * 327_680  # the context is the prompt where none is given
    assert data["assumed_mfu"] is None
    assert data["training_tokens"] == 15e12
    assert data["attention"] == "causal"


def test_options_read_numbers_as_people_write_them():
    asked = "--gpu h100 --gpus 2 --batch 1k --seq 8k --tokens 15T --hbm 80GB --overhead 2GiB".split()
    data = model_json("llama-3-70b", *asked)
    assert (data["batch"], data["seq"], data["context"]) == (1024, 8192, 8192)
    assert (data["training_tokens"], data["hbm_bytes"], data["overhead_bytes"]) == (15e12, 80e9, 2 * 2**30)


def test_a_config_file_is_answered_like_the_preset_it_describes(tmp_path):
    config = tmp_path / "config.json"
    config.write_text(json.dumps(dict(PRESETS["llama-3-8b"].config)))
    asked = "--gpu h200 --gpus 2 --batch 32 --context 4096 --weights int4 --kv fp8 --price 2.5".split()
    from_file, preset = model_json("--config", str(config), *asked), model_json("llama-3-8b", *asked)
    same = preset.keys() - {"model", "notes", "training_tokens"} - {key for key in preset if key.startswith("train_")}
    assert {key: from_file[key] for key in same} == {key: preset[key] for key in same}
    assert from_file["training_tokens"] == 20 * 8_030_261_248  # nothing is published for a file


def test_the_lessons_count_the_full_square():
    full = model_json("gpt-2-small", "--gpu", "a100", "--seq", "1024", "--attention", "full")
    assert full["forward_flop"] == 291_648_307_200


def test_the_page_fits_100_columns_and_explains_itself():
    asked = "model llama-3-70b --gpu h100 --gpus 2 --batch 8 --seq 8192 --explain --all".split()
    page = RUNNER.invoke(app, asked, catch_exceptions=False).output
    assert max(len(line) for line in page.splitlines()) <= 100
    assert "…" not in page  # nothing is cut off
    for words in ("llama-3-70b on 2 x h100-sxm", "Memory", "Prefill", "Decode", "Training", "Money", "Notes"):
        assert words in page
    assert "= 70,553,706,496 x 16 / 8" in page
    assert "times are bounds at full peak rates" in page


def test_the_page_shows_the_batch_growing():
    page = RUNNER.invoke(
        app, "model llama-3-8b --gpu h100 --context 8192 --overhead 0".split(), catch_exceptions=False
    ).output
    table = page.partition("Decode over the batch")[2].partition("Notes")[0]
    rows = {line.split()[0]: line.split()[-1] for line in table.splitlines() if line.strip()[:1].isdigit()}
    # 85.52 GB - 16.06 GB over 8192 x 131,072 B: 64.7 requests fit.
    assert rows == {"1": "yes", "4": "yes", "16": "yes", "64": "yes", "256": "no", "1,024": "no"}


def test_every_option_of_a_question_is_in_a_panel_of_the_help():
    listed = [name for names in PANELS.values() for name in names]
    asked = {name for name, (_, each) in ASKED.items() if each.help}
    assert asked - set(listed) == set()
    assert len(listed) == len(set(listed))


def test_the_help_fits_80_columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text = RUNNER.invoke(app, ["model", "--help"], terminal_width=80).output
    assert max(map(len, text.splitlines())) <= 80
    for option in ("--gpu", "--batch", "--train", "--explain", "--json"):
        assert option in text


def test_models_lists_every_preset_in_text_and_json():
    text = RUNNER.invoke(app, ["models"]).output
    data = json.loads(RUNNER.invoke(app, ["models", "--json"]).output)
    assert data.keys() == PRESETS.keys()
    assert all(name in text for name in PRESETS)
    assert data["llama-3-8b"]["params"] == 8_030_261_248
    assert (data["gpt-oss-20b"]["weights"], data["gpt-oss-20b"]["weight_bytes"]) == (
        "mxfp4 experts, bf16 rest",
        13_761_264_768,
    )
    assert all(entry["source"] for entry in data.values())


def test_formula_gives_value_and_meaning():
    result = RUNNER.invoke(app, "formula speedup alpha=0.8 k=4 c=0.15".split())
    assert result.output.startswith("speculation.speedup = 2.101\n")
    assert "Leviathan" in result.output
    data = json.loads(RUNNER.invoke(app, "formula pipeline_bubble stages=8 microbatches=64 --json".split()).output)
    assert data["value"] == pytest.approx(7 / 71)
    listing = json.loads(RUNNER.invoke(app, ["formulas", "--json"]).output)
    assert listing["money.train_s"]["arguments"] == ["flop", "gpus", "peak_flop_per_s", "mfu"]
    assert "money.train_s(flop, gpus, peak_flop_per_s, mfu)" in RUNNER.invoke(app, ["formulas"]).output


def test_no_command_prints_help_and_a_closed_pipe_is_no_traceback():
    assert "Usage" in run().stdout
    piped = subprocess.run(
        f"{sys.executable} -m predict formulas | head -1", shell=True, capture_output=True, text=True, check=False
    )
    assert "Traceback" not in piped.stderr


@pytest.mark.parametrize(
    ("arguments", "remark"),
    [
        ("--recompute full", "--recompute changes nothing here: --train or --all shows what it changes"),
        ("--train --kv fp8", "--kv changes nothing here: --serve or --all shows what it changes"),
        ("--all --kv fp8 --recompute full", None),
        ("--kv fp8", None),
    ],
)
def test_a_page_says_which_options_it_does_not_show(arguments, remark):
    output = RUNNER.invoke(app, ["model", "llama-3-8b", "--gpu", "h100", *arguments.split()]).output
    assert remark in output if remark else "changes nothing here" not in output


def test_shares_in_csv_are_of_one_as_their_unit_says():
    asked = "model llama-3-8b --gpu h100 --mbu 0.5".split()
    rows = {row["key"]: row for row in csv.DictReader(RUNNER.invoke(app, [*asked, "--csv"]).output.splitlines())}
    assert (rows["mbu"]["value"], rows["mbu"]["unit"]) == ("0.5", "1")
    assert "%" not in {row["unit"] for row in rows.values()}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full is Linux's")
def test_a_full_disk_is_one_line():
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            [sys.executable, "-m", "predict", "gpus"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert result.stderr == "error: cannot write: No space left on device; free some space, or write elsewhere\n"
    assert result.returncode == 2
