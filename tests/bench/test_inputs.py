"""The tensors of every op are listed as its functions get them."""

import json

import pytest
from typer.testing import CliRunner

import bench.__main__ as cli
from bench.inputs import RESULT, example, meaning, tensors_of
from predict.units import find_dtype
from predict.workloads import OPS, make_workload

RUNNER = CliRunner()
SMALL = ["matmul_w4a16", "moe_experts", "rope", "attention_paged", "block_decode", "layernorm", "launch"]


def rows_of(op, dtype="fp32", **dims):
    return {row.name: row for row in tensors_of(make_workload(op, dims, find_dtype(dtype)))}


def test_a_products_weight_is_a_view_of_what_is_stored():
    rows = rows_of("matmul", "bf16", m=4, n=8, k=16)
    assert [(row.name, row.format, row.shape) for row in rows.values()] == [
        ("a", "bf16", (4, 16)),
        ("b", "bf16", (16, 8)),
        (RESULT, "bf16", (4, 8)),
    ]
    assert (rows["a"].note, rows["b"].note) == (None, "strides (1, 16)")


def test_what_is_given_by_keyword_or_written_to_says_so():
    window = rows_of("attention_window", batch=1, seq=8, window=4, heads=2, kv_heads=1, head_dim=8)["window="]
    assert (window.format, window.note) == ("number", "4, by keyword")
    assert rows_of("stream_copy", n=8)["out"].note == "may be written to"
    cached = rows_of("generate_cached", batch=1, context=8, heads=2, kv_heads=1, head_dim=8)
    assert [name for name, row in cached.items() if row.note] == ["k_cache", "v_cache"]


@pytest.mark.parametrize("op", OPS)
def test_every_op_has_an_example_and_a_meaning(op):
    assert example(op).op == op
    assert "\n\n" not in meaning(op)


@pytest.mark.parametrize("op", SMALL)
def test_an_op_names_each_of_its_tensors(op):
    names = [row.name for row in tensors_of(example(op))]
    assert names[-1] == RESULT
    inputs = [name for name in names if name != RESULT]
    assert len(set(inputs)) == len(inputs) > 0


def test_the_command_takes_sizes_and_prints_every_form():
    sizes = ["m=4", "n=8", "k=16", "--dtype", "bf16"]
    page = RUNNER.invoke(cli.app, ["inputs", "matmul", *sizes])
    assert page.exit_code == 0, page.output
    assert page.stdout.startswith("matmul-m4-n8-k16-bf16\n")
    assert "Returns a @ b" in page.stdout
    rows = json.loads(RUNNER.invoke(cli.app, ["inputs", "matmul", *sizes, "--json"]).stdout)
    assert rows[0] == {"name": "a", "format": "bf16", "shape": [4, 16], "note": None}
    assert (
        RUNNER.invoke(cli.app, ["inputs", "matmul", *sizes, "--csv"]).stdout.splitlines()[1].startswith("a,bf16,4 x 16")
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["matmull"], "matmul"),
        (["matmul", "m=4"], "n"),
        (["matmul", "m=1,2", "n=8", "k=8"], "inputs lists one size at a time: give one m, not 1,2"),
        (["matmul", "m=64k", "n=64k", "k=64k"], "give smaller sizes"),
        (["softmax", "--dtype", "bf17"], "bf17"),
    ],
)
def test_what_cannot_be_listed_is_one_line(refusal, arguments, message):
    assert message in refusal(cli.app, "inputs", *arguments)
