"""Tables made by hand, a row or two each, in every kind of file that is read."""

import json

import numpy as np
import pandas as pd
import pytest

from bench import store
from bench.record import Status
from predict.errors import BadRecord, UnknownGpu
from reports.accuracy.columns import DIMS, FRACTIONS
from reports.accuracy.importers import find_device, read_tables
from tests.factories import make_environment, make_record

COMMON = {"framework": "VLLM", "version": "1", "device": "NVIDIA H100 80GB HBM3", "kernel_source": "some kernel"}
GEMM = {**COMMON, "op_name": "gemm", "gemm_dtype": "bfloat16", "m": 16, "n": 4096, "k": 8192, "latency": 0.5}
PREFILL = {
    **COMMON,
    "op_name": "context_attention",
    "batch_size": 2,
    "isl": 1024,
    "num_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "beam_width": 1,
    "attn_dtype": "bfloat16",
    "kv_cache_dtype": "fp8",
    "step": 0,
    "window_size": 128,
    "latency": 1.0,
}
DECODE = {**PREFILL, "op_name": "generation_attention", "isl": 1, "step": 1023, "window_size": 0}
NCCL = {**COMMON, "op_name": "all_reduce", "nccl_dtype": "half", "num_gpus": 8, "message_size": 4096, "latency": 0.02}
EXPERTS = {
    **COMMON,
    "op_name": "moe",
    "moe_dtype": "w4a16_mxfp4",
    "num_tokens": 64,
    "hidden_size": 4096,
    "inter_size": 1536,
    "topk": 8,
    "num_experts": 128,
    "moe_tp_size": 1,
    "moe_ep_size": 4,
    "distribution": "power_law_1.01",
    "latency": 0.25,
}
OTHER_OP = (
    "op is not one of matmul, attention_prefill, attention_decode, attention_mla, attention_mla_prefill, moe_layer, "
    "all_reduce, all_gather, reduce_scatter, all_to_all"
)
MLA_DECODE = {
    **COMMON,
    "op_name": "generation_mla",
    "mla_dtype": "bfloat16",
    "kv_cache_dtype": "fp8",
    "num_heads": 16,
    "batch_size": 4,
    "isl": 1,
    "tp_size": 8,
    "step": 4095,
    "latency": 0.2,
}
MLA_PREFILL = {**MLA_DECODE, "op_name": "mla_context", "isl": 512, "step": 0}
CUSTOM = {**COMMON, "op_name": "all_reduce", "allreduce_dtype": "bfloat16", "num_gpus": 4, "message_size": 128}


def write(folder, *rows, name="table.parquet"):
    path = folder / name
    frame = pd.DataFrame(rows)
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False)
    return path


def read(folder, *rows):
    return read_tables([write(folder, *rows)])


def test_a_product_in_seconds_under_our_names(tmp_path):
    row = read(tmp_path, GEMM).frame.iloc[0]
    assert (row["table"], row["op"], row["gpu"], row["kernel_source"]) == ("table", "matmul", "h100-sxm", "some kernel")
    assert (row["dtype"], row["weight_dtype"]) == ("bf16", "bf16")
    assert pd.isna(row["kv_dtype"])
    assert (row["m"], row["n"], row["k"], row["window"]) == (16, 4096, 8192, 0)
    assert row["time_s"] == pytest.approx(0.5e-3)


def test_attention_of_a_prompt(tmp_path):
    row = read(tmp_path, PREFILL).frame.iloc[0]
    assert (row["op"], row["dtype"], row["kv_dtype"], row["window"]) == ("attention_prefill", "bf16", "fp8", 128)
    assert [row[name] for name in ("batch", "seq", "heads", "kv_heads", "head_dim")] == [2, 1024, 32, 8, 128]
    assert row[["context", "gpus", "m"]].isna().all()


def test_the_new_token_counts_as_context(tmp_path):
    row = read(tmp_path, DECODE).frame.iloc[0]
    assert (row["op"], row["context"]) == ("attention_decode", 1024)
    assert pd.isna(row["seq"])


def test_a_table_without_windows_has_none(tmp_path):
    row = {name: value for name, value in PREFILL.items() if name not in ("window_size", "beam_width")}
    assert read(tmp_path, row).frame["window"].tolist() == [0]


def test_experts_of_a_layer(tmp_path):
    row = read(tmp_path, EXPERTS).frame.iloc[0]
    sizes = ("tokens", "hidden", "intermediate", "active", "experts", "tp", "ep", "skew", "matrices")
    assert [row[name] for name in sizes] == [64, 4096, 1536, 8, 128, 1, 4, 1.01, 3]
    assert (row["op"], row["dtype"], row["weight_dtype"]) == ("moe_layer", "bf16", "fp4")
    assert row["time_s"] == pytest.approx(250e-6)


@pytest.mark.parametrize("text", ["balanced", "uniform"])
def test_experts_loaded_evenly_have_no_skew(tmp_path, text):
    assert read(tmp_path, {**EXPERTS, "distribution": text}).frame["skew"].tolist() == [0]


def test_a_distribution_that_is_not_known_is_a_missing_dimension(tmp_path):
    found = read(tmp_path, EXPERTS, {**EXPERTS, "distribution": "power_law_"}, {**EXPERTS, "distribution": "zipf"})
    assert found.dropped == {("table", "a dimension is missing or not a positive whole number"): 2}


@pytest.mark.parametrize(("dtype", "element_bytes"), [("half", 2), ("int8", 1), ("float32", 4)])
def test_messages_are_counted_in_elements_there_and_in_bytes_here(tmp_path, dtype, element_bytes):
    row = read(tmp_path, {**NCCL, "nccl_dtype": dtype}).frame.iloc[0]
    assert (row["gpus"], row["message_bytes"]) == (8, 4096 * element_bytes)


def test_custom_all_reduce_tables_name_their_dtype_otherwise(tmp_path):
    row = read(tmp_path, {**CUSTOM, "latency": 0.004, "backend": "vllm_graph"}).frame.iloc[0]
    assert (row["op"], row["dtype"], row["gpus"], row["message_bytes"]) == ("all_reduce", "bf16", 4, 256)


def test_every_collective_of_a_file_is_read(tmp_path):
    ops = ["all_reduce", "all_gather", "reduce_scatter", "alltoall"]
    frame = read(tmp_path, *({**NCCL, "op_name": op} for op in ops)).frame
    assert frame["op"].tolist() == ["all_reduce", "all_gather", "reduce_scatter", "all_to_all"]


@pytest.mark.parametrize(
    ("text", "dtype", "weight_dtype", "name"),
    [
        ("float16", "fp16", "fp16", "fp16"),
        ("fp8", "fp8", "fp8", "fp8"),
        ("fp8_block", "fp8", "fp8", "fp8_block"),
        ("sq", "int8", "int8", "sq"),
        ("int8_wo", "bf16", "int8", "int8_wo"),
        ("int4_wo", "bf16", "int4", "int4_wo"),
        ("nvfp4", "fp4", "fp4", "nvfp4"),
        ("fp4", "fp4", "fp4", "fp4"),
        ("w4a8", "fp8", "int4", "w4a8"),
        ("w4a16_mxfp4", "bf16", "fp4", "w4a16_mxfp4"),
        ("w4a8_mxfp4", "fp8", "fp4", "w4a8_mxfp4"),
    ],
)
def test_formats_of_one_width_stay_apart_and_spellings_of_one_format_do_not(tmp_path, text, dtype, weight_dtype, name):
    row = read(tmp_path, {**GEMM, "gemm_dtype": text}).frame.iloc[0]
    assert (row["dtype"], row["weight_dtype"]) == (dtype, weight_dtype)
    assert (row["dtype_text"], row["format"]) == (text, name)


def test_latent_attention_has_deepseeks_widths(tmp_path):
    rows = read(tmp_path, MLA_DECODE, MLA_PREFILL).frame
    decode, prompt = rows.iloc[0], rows.iloc[1]
    assert (decode["op"], prompt["op"]) == ("attention_mla", "attention_mla_prefill")
    assert (decode["dtype"], decode["kv_dtype"]) == ("bf16", "fp8")
    assert [decode[name] for name in ("batch", "context", "heads", "latent", "rope")] == [4, 4096, 16, 512, 64]
    assert [prompt[name] for name in ("batch", "seq", "heads", "latent", "rope", "head_dim")] == [
        4,
        512,
        16,
        512,
        64,
        128,
    ]
    assert decode[["seq", "kv_heads", "head_dim"]].isna().all()


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({**GEMM, "latency": 0.0}, "time is not a positive number"),
        ({**GEMM, "latency": np.nan}, "time is not a positive number"),
        ({**GEMM, "latency": np.inf}, "time is not a positive number"),
        ({**GEMM, "latency": "failed"}, "time is not a positive number"),
        ({**GEMM, "op_name": "gemm_of_another_kind"}, OTHER_OP),
        ({**GEMM, "gemm_dtype": "fp6"}, "unknown dtype"),
        ({**GEMM, "m": 0}, "a dimension is missing or not a positive whole number"),
        ({**GEMM, "k": np.nan}, "a dimension is missing or not a positive whole number"),
        ({**GEMM, "n": 2.5}, "a dimension is missing or not a positive whole number"),
        ({**PREFILL, "step": 512}, "the prompt continues a cached one"),
        ({**PREFILL, "kv_cache_dtype": "fp3"}, "unknown dtype"),
        ({**PREFILL, "num_key_value_heads": 5}, "query heads are no multiple of the KV heads"),
        ({**DECODE, "isl": 4}, "more than one token a step"),
        ({**DECODE, "beam_width": 4}, "beam search"),
        ({**PREFILL, "window_size": 0.5}, "the window is not a whole number"),
        ({**MLA_PREFILL, "step": 64}, "the prompt continues a cached one"),
        ({**MLA_DECODE, "isl": 2}, "more than one token a step"),
        ({**MLA_DECODE, "kv_cache_dtype": "fp3"}, "unknown dtype"),
        ({**GEMM, "device": None}, "no device"),
        ({**NCCL, "num_gpus": 1}, "a collective of one GPU"),
    ],
)
def test_rows_that_cannot_be_used_are_counted_by_their_reason(tmp_path, row, reason):
    usable = next(each for each in (GEMM, PREFILL, MLA_DECODE, NCCL) if each.keys() == row.keys())
    measured_tables = read_tables([write(tmp_path, usable, row, row, name="table.csv")])
    assert len(measured_tables.frame) == 1
    assert measured_tables.dropped == {("table", reason): 2}


def test_the_first_reason_counts(tmp_path):
    measured_tables = read(tmp_path, {**GEMM, "latency": -1.0, "gemm_dtype": "fp6", "m": 0})
    assert measured_tables.frame.empty
    assert measured_tables.dropped == {("table", "time is not a positive number"): 1}


def test_repeated_shapes_are_kept(tmp_path):
    assert len(read(tmp_path, GEMM, GEMM).frame) == 2


def test_tables_of_different_kinds_make_one_frame(tmp_path):
    paths = [write(tmp_path, GEMM, name="a.parquet"), write(tmp_path, NCCL, NCCL, name="b.csv")]
    frame = read_tables(paths).frame
    assert frame["table"].tolist() == ["a", "b", "b"]
    assert frame["m"].isna().tolist() == [False, True, True]
    assert {str(frame[name].dtype) for name in DIMS if name not in FRACTIONS} == {"Int64"}


@pytest.mark.parametrize("name", ["table.parquet", "table.csv", "table.txt"])
def test_parquet_and_csv_hold_the_same(tmp_path, name):
    frame = read_tables([write(tmp_path, DECODE, name=name)]).frame
    pd.testing.assert_frame_equal(frame, read(tmp_path, DECODE).frame)


def test_power_columns_do_not_matter(tmp_path):
    assert len(read(tmp_path, {**GEMM, "power": 500.0, "power_limit": 700.0}).frame) == 1


def test_what_is_no_table_of_ours_is_refused(tmp_path):
    with pytest.raises(BadRecord, match=r"table.parquet: unknown kind of table: no column gemm_dtype"):
        read(tmp_path, {"device": "NVIDIA H200", "m": 1})
    with pytest.raises(BadRecord, match=r"table.parquet: missing column n, device, latency"):
        read(tmp_path, {name: value for name, value in GEMM.items() if name not in ("n", "device", "latency")})
    with pytest.raises(BadRecord, match=r"nowhere.csv: no such file"):
        read_tables([tmp_path / "nowhere.csv"])
    with pytest.raises(BadRecord, match=r"table.xlsx: unknown kind of file; give .parquet, .csv or .txt"):
        read_tables([write(tmp_path, GEMM, name="table.csv").rename(tmp_path / "table.xlsx")])
    with pytest.raises(BadRecord, match="no table given"):
        read_tables([])


@pytest.mark.parametrize("name", ["broken.parquet", "broken.csv"])
def test_a_file_that_is_no_table_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"\xff\xfe" if name.endswith("csv") else b"nothing of the kind")
    with pytest.raises(BadRecord, match="not a table"):
        read_tables([tmp_path / name])


@pytest.mark.parametrize(
    ("text", "gpu"),
    [
        ("NVIDIA A100-SXM4-80GB", "a100-sxm-80gb"),
        ("NVIDIA H200", "h200-sxm"),
        ("NVIDIA H200 SXM", "h200-sxm"),
        ("h100_sxm", "h100-sxm"),
        ("a100_sxm", "a100-sxm-80gb"),
        ("b200_sxm", "b200"),
        ("NVIDIA B300 SXM6 AC", "b300"),
        ("gb200", "gb200"),
        ("NVIDIA L40S", "l40s"),
        ("rtx_pro_6000_server", "rtx-pro-6000-blackwell-server"),
    ],
)
def test_devices_are_found_by_any_of_their_names(text, gpu):
    assert find_device(text) == gpu


def test_an_unknown_device_is_named(tmp_path):
    with pytest.raises(UnknownGpu, match="gb400"):
        read(tmp_path, {**GEMM, "device": "NVIDIA GB400"})


def test_tables_of_one_name_are_called_by_their_paths(tmp_path):
    for folder in ("old", "new"):
        (tmp_path / folder).mkdir()
    paths = [write(tmp_path / "old", GEMM), write(tmp_path / "new", GEMM), write(tmp_path, GEMM, name="other.csv")]
    assert read_tables(paths).frame["table"].tolist() == [str(paths[0]), str(paths[1]), "other"]


def test_a_run_is_called_by_its_folder(tmp_path):
    run = write_run(tmp_path / "h200.v2", make_record())
    assert read_tables([run]).frame["table"].tolist() == ["h200.v2"]
    assert read_tables([run / store.RECORDS]).frame["table"].tolist() == ["h200.v2"]


DECODE_DIMS = {"batch": 2, "context": 1024, "heads": 8, "kv_heads": 2, "head_dim": 64}


def write_run(folder, *records):
    folder.mkdir()
    for record in records:
        store.append(folder / store.RECORDS, record)
    return folder


def test_a_run_is_a_table_whose_kernels_are_implementations(tmp_path):
    # The median of a made-up record's samples is its time.
    run = write_run(
        tmp_path / "run", make_record(time_s=2e-3), make_record("attention_decode", DECODE_DIMS, time_s=1e-3)
    )
    frame = read_tables([run]).frame
    product, attention = frame.iloc[0], frame.iloc[1]
    assert (product["table"], product["op"], product["gpu"], product["kernel_source"]) == (
        *("run", "matmul", "h200-sxm", "torch"),
    )
    assert (product["m"], product["n"], product["k"], product["window"]) == (16, 8192, 8192, 0)
    assert product["time_s"] == pytest.approx(2e-3)
    assert (product["dtype"], product["weight_dtype"], product["format"]) == ("bf16", "bf16", "bf16")
    assert pd.isna(product["kv_dtype"])
    assert attention["kv_dtype"] == "bf16"
    assert {name: attention[name] for name in DECODE_DIMS} == DECODE_DIMS
    pd.testing.assert_frame_equal(read_tables([run / store.RECORDS]).frame, frame)


def test_a_run_and_a_table_make_one_frame(tmp_path):
    run = write_run(tmp_path / "run", make_record())
    frame = read_tables([write(tmp_path, GEMM), run]).frame
    assert frame["table"].tolist() == ["table", "run"]
    assert frame["format"].tolist() == ["bf16", "bf16"]


def test_records_that_are_no_measurement_of_such_an_op_are_counted(tmp_path):
    crashed = make_record(implementation="triton", status=Status.CRASHED)
    run = write_run(tmp_path / "run", make_record(), crashed, make_record("launch", {}, dtype="fp32"))
    measured_tables = read_tables([run])
    assert len(measured_tables.frame) == 1
    assert measured_tables.dropped == {("run", "status crashed"): 1, ("run", OTHER_OP): 1}


def test_broken_lines_of_a_run_are_refused_or_counted(tmp_path):
    run = write_run(tmp_path / "run", make_record())
    with (run / store.RECORDS).open("a") as lines:
        lines.write("garbage\n")
    with pytest.raises(BadRecord, match=r"records.jsonl:2: not JSON"):
        read_tables([run])
    measured_tables = read_tables([run], skip_broken=True)
    assert (len(measured_tables.frame), measured_tables.dropped) == (1, {("run", "a broken line"): 1})


def test_a_run_on_a_cpu_is_refused(tmp_path):
    cpu = make_environment(device="cpu", gpu=None, name="Some CPU")
    run = write_run(tmp_path / "run", make_record(environment=cpu))
    with pytest.raises(BadRecord, match=r"run: measured on a CPU \(Some CPU\); only GPUs of the GPU table are read"):
        read_tables([run])


def benchmark(name="test_matmul[m16]", median=2e-3, params=None, **extra_info):
    return {"name": name, "params": params, "extra_info": extra_info, "stats": {"median": median, "mean": 1.0}}


PRODUCT = {"op": "matmul", "gpu": "h100-sxm", "dtype": "bf16", "m": 16, "n": 4096, "k": 8192}


def write_benchmarks(folder, *benchmarks):
    path = folder / "benchmarks.json"
    path.write_text(json.dumps({"benchmarks": benchmarks, "machine_info": {}}))
    return path


def test_a_benchmark_that_says_what_it_measured_is_a_row(tmp_path):
    frame = read_tables([write_benchmarks(tmp_path, benchmark(**PRODUCT, batch=9))]).frame
    row = frame.iloc[0]
    assert (row["table"], row["op"], row["gpu"], row["dtype"]) == ("benchmarks", "matmul", "h100-sxm", "bf16")
    assert (row["kernel_source"], row["time_s"]) == ("test_matmul", 2e-3)
    assert (row["m"], row["n"], row["k"], row["window"]) == (16, 4096, 8192, 0)
    assert pd.isna(row["batch"])  # no dimension of a product
    assert {str(frame[name].dtype) for name in DIMS if name not in FRACTIONS} == {"Int64"}


def test_a_benchmark_may_say_it_in_its_parameters_and_by_other_names(tmp_path):
    said = {"op": "generation_attention", "device": "NVIDIA H200", "dtype": "bfloat16", "kv_dtype": "fp8"}
    path = write_benchmarks(tmp_path, benchmark(params={**DECODE_DIMS, "window": 128}, **said))
    row = read_tables([path]).frame.iloc[0]
    assert (row["op"], row["gpu"], row["dtype"], row["kv_dtype"]) == ("attention_decode", "h200-sxm", "bf16", "fp8")
    assert (row["context"], row["window"]) == (1024, 128)


def test_a_collective_of_pytest_benchmark_counts_bytes(tmp_path):
    said = {"op": "all_reduce", "gpu": "h100-sxm", "dtype": "fp16", "gpus": 8, "message_bytes": 4096}
    row = read_tables([write_benchmarks(tmp_path, benchmark(**said))]).frame.iloc[0]
    assert (row["gpus"], row["message_bytes"]) == (8, 4096)


def test_weights_of_another_format_than_the_product(tmp_path):
    path = write_benchmarks(
        tmp_path, benchmark(**{**PRODUCT, "dtype": "int4_wo"}), benchmark(**PRODUCT, weight_dtype="int8")
    )
    frame = read_tables([path]).frame
    assert frame["dtype"].tolist() == ["bf16", "bf16"]
    assert frame["weight_dtype"].tolist() == ["int4", "int8"]


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({}, "extra_info lacks op, gpu, dtype"),
        ({"op": "matmul", "dtype": "bf16", "m": 1, "n": 1}, "extra_info lacks gpu, k"),
        ({**PRODUCT, "op": "sort"}, OTHER_OP),
        ({**PRODUCT, "m": "many"}, "a dimension is missing or not a positive whole number"),
        ({**PRODUCT, "m": True}, "a dimension is missing or not a positive whole number"),
        ({**PRODUCT, "dtype": ["bf16"]}, "unknown dtype"),
        ({**PRODUCT, "median": None}, "time is not a positive number"),
    ],
)
def test_a_benchmark_that_does_not_say_enough_is_counted(tmp_path, said, reason):
    measured_tables = read_tables([write_benchmarks(tmp_path, benchmark(**said))])
    assert measured_tables.frame.empty
    assert measured_tables.dropped == {("benchmarks", reason): 1}


def test_no_benchmark_is_no_row(tmp_path):
    measured_tables = read_tables([write_benchmarks(tmp_path)])
    assert measured_tables.frame.empty
    assert measured_tables.dropped == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "not a pytest-benchmark file: it has no list 'benchmarks'"),
        ('{"benchmarks": 1}', "not a pytest-benchmark file: it has no list 'benchmarks'"),
        ('{"benchmarks": [1]}', "not a pytest-benchmark file: it has no list 'benchmarks'"),
        ('{"benchmarks": [{"name": "t", "extra_info": ["h100"]}]}', ".*: extra_info of 't' is no object"),
        ('{"benchmarks": [{"params": [1]}]}', ".*: params of None is no object"),
        ('{"benchmarks": [{"name": "t", "stats": [1]}]}', ".*: stats of 't' is no object"),
    ],
)
def test_other_json_is_refused(tmp_path, text, message):
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(BadRecord, match=f"other.json: {message}"):
        read_tables([path])


def test_a_dtype_is_read_in_capitals_and_with_the_prefix_of_torch(tmp_path):
    path = tmp_path / "spelled.csv"
    rows = ("torch.bfloat16,16,4096,4096,0.015", "BF16,32,4096,4096,0.016", "bf15,64,4096,4096,0.017")
    head = "framework,version,device,op_name,kernel_source,gemm_dtype,m,n,k,latency\n"
    path.write_text(head + "".join(f"VLLM,0.1,NVIDIA H100 80GB HBM3,gemm,x,{row}\n" for row in rows))
    measured_tables = read_tables([path])
    assert measured_tables.frame["dtype"].tolist() == ["bf16", "bf16"]
    assert measured_tables.frame["dtype_text"].tolist() == ["torch.bfloat16", "BF16"]
    assert measured_tables.dropped == {("spelled", "unknown dtype"): 1}


def test_a_kernel_without_a_name_is_called_so(tmp_path):
    without = {name: value for name, value in GEMM.items() if name != "kernel_source"}
    assert read(tmp_path, without).frame["kernel_source"].tolist() == ["unnamed"]
    assert read(tmp_path, GEMM, {**GEMM, "kernel_source": None}).frame["kernel_source"].tolist() == [
        "some kernel",
        "unnamed",
    ]


def test_a_table_of_another_kind_is_told_what_is_known_and_what_it_has(tmp_path):
    with pytest.raises(BadRecord, match=r"no column gemm_dtype or .*nccl_dtype.*; it has speed, latency"):
        read(tmp_path, {"speed": 1, "latency": 0.1})
