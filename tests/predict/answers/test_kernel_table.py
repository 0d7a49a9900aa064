"""The kernels of both passes as a table, as `predict model --by-kernel` prints it."""

import csv
import io
import json

import pytest
from typer.testing import CliRunner

from predict.__main__ import app
from predict.answers.asking import ask
from predict.answers.kernel_table import kernel_tables

RUNNER = CliRunner()
ASKED = "model llama-3-8b --gpu h100 --batch 16 --seq 4k --by-kernel".split()


def printed(*options, columns="100"):
    result = RUNNER.invoke(app, [*ASKED, *options], env={"COLUMNS": columns})
    assert result.exit_code == 0, result.output
    return result.output


def test_each_kernel_has_the_bound_of_one_run_and_the_share_of_all():
    prefill, decode = kernel_tables(ask("llama-3-8b", {"gpu": "h100", "batch": 16, "seq": 4096}))
    rows = {row["kernel"]: row for row in decode.flat()}
    down = rows["down"]
    assert (down["op"], down["dims"], down["count"]) == ("matmul", {"m": 16, "n": 4096, "k": 14336}, 32)
    # (16 * 14336 + 14336 * 4096 + 16 * 4096) * 2 bytes at 3.35 TB/s.
    assert down["bound_s"] == pytest.approx(2 * (16 * 14336 + 14336 * 4096 + 16 * 4096) / 3.35e12)
    assert down["bound_by"] == "dram"
    assert down["bound_s"] < down["expected_s"] < 1.5 * down["bound_s"]
    assert sum(row["bound_share"] for row in rows.values()) == pytest.approx(1)
    assert down["bound_share"] == pytest.approx(32 * down["bound_s"] / decode.bounds_s)
    # No rope was measured: a launch of a microsecond or more, and nearly no bytes.
    assert 1e-6 < rows["rope"]["expected_s"] < 5e-6
    assert (rows["rope"]["refined_s"], rows["rope"]["expected_error"]) == (None, None)
    assert next(prefill.flat())["dims"]["m"] == 16 * 4096


def test_the_runs_of_a_decode_step_take_little_more_than_its_bound():
    """The pass reads 15.0 GB of weights and 8.6 GB of cache; kernels hand each other some megabytes."""
    _, decode = kernel_tables(ask("llama-3-8b", {"gpu": "h100", "batch": 16, "seq": 4096}))
    assert 1 < decode.bounds_s / decode.times.bound_s < 1.01


def test_the_page_fits_a_terminal_and_says_what_has_no_op():
    page = printed("--gpus", "2", columns="80")
    assert max(map(len, page.splitlines())) <= 80
    assert "Kernels of a decode step" in page
    assert "all_reduce: one GPU is measured" in page


def test_the_page_says_how_many_experts_the_products_have():
    _, decode = kernel_tables(ask("qwen3-30b-a3b", {"gpu": "h100", "batch": 16, "seq": 4096}))
    # 128 * (1 - (120/128)^16) = 82.4
    assert "Tokens come to 82 of 128 experts on average, and the products have as many." in decode.remarks
    _, all_of_them = kernel_tables(ask("qwen3-30b-a3b", {"gpu": "h100", "batch": 200, "seq": 64}))
    assert not any("Tokens come to" in remark for remark in all_of_them.remarks)


def test_json_csv_and_markdown_have_the_same_kernels():
    rows = json.loads(printed("--json"))
    table = list(csv.DictReader(io.StringIO(printed("--csv"))))
    assert [row["kernel"] for row in rows] == [row["kernel"] for row in table]
    assert (rows[0]["pass"], rows[-1]["pass"]) == ("prefill", "decode step")
    qkv = next(row for row in table if row["pass"] == "decode step")
    assert (qkv["op"], qkv["sizes"], qkv["count"]) == ("matmul", "m=16 n=6144 k=4096", "32")
    assert printed("--markdown").count("\n| qkv ") == 2


def test_a_peak_that_is_not_known_is_a_bound_that_is_absent(tmp_path):
    gpu = tmp_path / "gpu.json"
    gpu.write_text('{"peaks": {"bf16": "400 TFLOP/s"}, "memory": "96GB", "bandwidth": "4 TB/s", "sources": "a test"}')
    rows = json.loads(RUNNER.invoke(app, [*ASKED[:2], "--gpu", str(gpu), "--by-kernel", "--json"]).output)
    norm = next(row for row in rows if row["kernel"] == "norm")
    assert norm["bound_s"] is None
    assert "vector.fp32" in norm["reason"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--train"], "leave out targets, --train and --explain"),
        (["--isl", "100", "--osl", "10"], "leave out targets"),
        (["--gpus", "1,2"], "--by-kernel lists the kernels of one machine"),
    ],
)
def test_what_it_does_not_go_with_is_one_line(options, said):
    result = RUNNER.invoke(app, [*ASKED, *options])
    assert result.exit_code != 0
    assert said in str(result.exception)
