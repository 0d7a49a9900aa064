"""Ops at the sizes that a user names."""

import pytest

from bench.grid import read_grid, read_shapes
from predict.errors import BadQuantity, BadRun, BadWorkload
from predict.units import find_dtype

BF16, FP16, FP32 = (find_dtype(name) for name in ("bf16", "fp16", "fp32"))


def ids(grid, default=BF16):
    return [workload.id for workload in grid.workloads(default)]


def test_every_combination_of_lists_and_ranges_is_a_workload():
    grid = read_grid("matmul", ["m=1,16", "n=1k:4k", "k=8192"], ())
    assert ids(grid) == [f"matmul-m{m}-n{n}-k8192-bf16" for m in (1, 16) for n in (1024, 2048, 4096)]
    assert len(grid) == 6


def test_each_dtype_makes_the_grid_again_and_without_one_the_machine_decides():
    assert ids(read_grid("softmax", ["rows=1", "cols=8"], (BF16, FP16))) == [
        "softmax-rows1-cols8-bf16",
        "softmax-rows1-cols8-fp16",
    ]
    assert ids(read_grid("softmax", ["rows=1", "cols=8"], ()), default=FP32) == ["softmax-rows1-cols8-fp32"]


def test_an_op_that_does_not_take_the_usual_dtype_gets_its_own():
    assert ids(read_grid("matmul_scaled", ["m=1", "n=8", "k=8"], ()), default=FP32) == ["matmul_scaled-m1-n8-k8-fp8"]


def test_combinations_that_contradict_themselves_are_left_out_with_their_reason():
    dims = ["batch=1", "queries=1,64", "context=16,64", "heads=4", "kv_heads=4", "head_dim=8"]
    grid = read_grid("attention_chunk", dims, ())
    sizes = [(workload.dims["queries"], workload.dims["context"]) for workload in grid.workloads(BF16)]
    assert sizes == [(1, 16), (1, 64), (64, 64)]
    assert grid.refused(BF16) == ("attention_chunk: queries=64 is more than context=16",)


@pytest.mark.parametrize(
    ("op", "dims", "error", "message"),
    [
        ("matmull", ["m=1"], BadWorkload, "unknown op 'matmull'"),
        ("matmul", ["m=1", "n=2"], BadWorkload, "matmul needs k="),
        ("matmul", ["m=1", "n=2", "k=3", "x=4"], BadWorkload, "matmul has no dimension 'x'"),
        ("matmul", ["m=1", "n=2", "k=3", "note=mine"], BadWorkload, "matmul has no dimension 'note'"),
        ("matmul", ["m=1", "m=2"], BadWorkload, "m is given twice"),
        ("matmul", ["m"], BadWorkload, "written name=size"),
        ("matmul", ["m=1", "n=2", "k=8:4"], BadQuantity, "k: '8:4' is empty"),
        ("rope", ["tokens=1", "heads=1", "head_dim=3"], BadWorkload, "head_dim=3 is not a multiple of 2"),
    ],
)
def test_what_makes_no_workload_at_all_is_refused(op, dims, error, message):
    with pytest.raises(error, match=message):
        read_grid(op, dims, ())


def test_a_file_lists_shapes_of_several_ops(tmp_path):
    file = tmp_path / "shapes.csv"
    file.write_text("op, m, n, k, rows, cols, dtype\nmatmul, 1k, 2, 3,,,\nsoftmax,,,, 4, 5, fp16\n")
    assert [each for grid in read_shapes(file, None, ()) for each in ids(grid)] == [
        "matmul-m1024-n2-k3-bf16",
        "softmax-rows4-cols5-fp16",
    ]


def test_a_file_may_leave_the_op_to_the_command_line(tmp_path):
    file = tmp_path / "shapes.csv"
    file.write_text("\ufeffm,n,k\n1,2,3\n")
    assert [each for grid in read_shapes(file, "matmul", (FP16,)) for each in ids(grid)] == ["matmul-m1-n2-k3-fp16"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no shapes"),
        ("op,m,n,k\n", "holds no shapes"),
        ("m,n,k\n1,2,3\n", r"shapes.csv:2: no op"),
        ("op,m,n,k\nmatmul,1,2,3\nmatmul,1,2\n", r"shapes.csv:3: matmul needs k="),
        ("op,m,n,k\nmatmul,1,2,3,4\n", r"shapes.csv:2: '4' stands in no column of the heading op,m,n,k"),
        ("op,m,n,k,\nmatmul,1,2,3,4\n", r"shapes.csv:2: '4' stands in no column"),
        ("op,m,n,k,note\nmatmul,1,2,3,my layer\n", r"shapes.csv:2: matmul has no dimension 'note'"),
        ("op,m,M,n,k\nmatmul,1,2,3,4\n", "column 'm' stands twice in the heading"),
        ("\n\nop,m,n,k\n\nmatmul,1,2,three\n", r"shapes.csv:5: k must be a number"),
        ("op,m,n,k\nmatmul,1,2,three\n", r"shapes.csv:2: k must be a number"),
        ("op,m,n,k,dtype\nmatmul,1,2,3,bf17\n", r"shapes.csv:2: .*bf17"),
    ],
)
def test_a_wrong_line_of_a_file_is_named(tmp_path, text, message):
    file = tmp_path / "shapes.csv"
    file.write_text(text)
    with pytest.raises(BadRun, match=message):
        read_shapes(file, None, ())


@pytest.mark.parametrize(
    "text",
    [
        "\r\n\r\nop,m,n,k\r\n\r\nmatmul,1,2,3\r\n,,,\r\nmatmul,4,2,3\r\n",  # a spreadsheet's empty rows
        "op;m;n;k\nmatmul;1,4;2;3\n",  # where a comma is the decimal point
        "op\tm\tn\tk\nmatmul\t1,4\t2\t3\n",
        '"Op","M","N","K"\n"matmul","1,4","2","3"\n',
        "op,m,n,k\nmatmul,1,2,3,\nmatmul,4,2,3,,\n",  # commas at the end
        "op,m,n,k,remark\nmatmul,1,2,3,\nmatmul,4,2,3\n",
    ],
)
def test_a_file_is_read_however_spreadsheets_write_it(tmp_path, text):
    file = tmp_path / "shapes.csv"
    file.write_bytes(text.encode())
    found = [each for grid in read_shapes(file, None, (BF16,)) for each in ids(grid)]
    assert found == ["matmul-m1-n2-k3-bf16", "matmul-m4-n2-k3-bf16"]


def test_a_cell_of_dtypes_holds_several_as_a_cell_of_sizes_does(tmp_path):
    file = tmp_path / "shapes.csv"
    file.write_text('op,rows,cols,dtype\nsoftmax,1,8,"bf16, fp16"\n')
    (grid,) = read_shapes(file, None, (FP32,))
    assert ids(grid) == ["softmax-rows1-cols8-bf16", "softmax-rows1-cols8-fp16"]


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(BadRun, match="No such file"):
        read_shapes(tmp_path / "none.csv", None, ())
    binary = tmp_path / "shapes.bin"
    binary.write_bytes(b"\xff\xfe\x00m")
    with pytest.raises(BadRun, match="not a CSV file"):
        read_shapes(binary, None, ())
