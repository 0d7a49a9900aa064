import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from predict.__main__ import app
from predict.gpus import GPUS
from predict.workloads import OPS

RUNNER = CliRunner()


def run(*arguments):
    return subprocess.run([sys.executable, "-m", "predict", *arguments], capture_output=True, text=True, check=False)


def test_kernel_explains_the_arithmetic_with_sources():
    result = RUNNER.invoke(app, "kernel matmul m=16 n=8192 k=8192 --dtype bf16 --gpu h100 --explain".split())
    # 134,742,016 bytes at 3.35 TB/s: 40.2 us.
    assert "napkin 40.2 us    bound: dram" in result.output
    assert "dram: NVIDIA" in result.output


def test_kernel_json_is_in_si_units():
    result = RUNNER.invoke(app, "kernel matmul m=1 n=4096 k=4096 --dtype bf16 --gpu a100 --json".split())
    data = json.loads(result.output)
    assert (data["flop"], data["bytes_read"], data["bytes_written"]) == (2 * 4096**2, 2 * 4096 * 4097, 2 * 4096)
    assert data["napkin_s"] == pytest.approx(2 * (4096 * 4097 + 4096) / 2.039e12)
    assert data["bound"] == "dram"
    assert data["expected_s"] is None


def test_every_op_predicts_on_every_gpu_that_has_its_roofs():
    sizes = {"m": 2, "n": 64, "k": 64, "batch": 1, "seq": 4, "context": 4, "heads": 4, "kv_heads": 2, "head_dim": 64}
    listing = json.loads(RUNNER.invoke(app, ["ops", "--json"]).output)
    assert listing.keys() == OPS.keys()
    for gpu in GPUS:
        for op, described in listing.items():
            dims = [f"{name}={sizes[name]}" for name in described["dims"]]
            result = RUNNER.invoke(app, ["kernel", op, *dims, "--gpu", gpu, "--dtype", "fp64", "--explain"])
            assert result.exit_code == 0, result.output


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
        ("kernel matmul m=x n=1 k=1 --gpu h100", "m must be a positive whole number, not 'x'"),
        ("kernel matmul m=1 n=1 --gpu h100", "needs k=..."),
        ("kernel matmul m=1 m=2 n=1 k=1 --gpu h100", "m is given twice"),
        ("kernel matmul 16 8192 8192 --gpu h100", "name=size, such as m=16, not '16'"),
        ("kernel matmul m=1 n=1 k=1 --gpu h100 --dtype bf17", "unknown dtype 'bf17'"),
        ("kernel matmul m=1 n=1 k=1 --gpu a100 --dtype fp8", "no tensor.fp8 roof"),
        ("kernel conv m=1 --gpu h100", "unknown op 'conv'"),
    ],
)
def test_bad_input_is_one_line_and_exit_status_2(arguments, message):
    result = run(*arguments.split())
    assert result.returncode == 2
    assert result.stdout == ""
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_an_unknown_gpu_lists_the_known_ones():
    message = run(*"kernel matmul m=1 n=1 k=1 --gpu h1000".split()).stderr
    assert all(name in message for name in GPUS)


def test_the_command_line_needs_no_torch():
    code = "import sys, predict.__main__; sys.exit('torch' in sys.modules or 'pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
