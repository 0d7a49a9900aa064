import dataclasses
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from predict.errors import BadQuantity, MissingCeiling
from predict.formulas.money import usd_per_1m_tokens
from predict.gpus import GPUS, resolve
from predict.model.layout import Layout
from predict.model.passes import Logits, decode_step, forward
from predict.model.presets import find_model
from predict.model.replica import Replica
from predict.ranges import read_sizes
from predict.resources import Resource
from predict.units import Formats, find_dtype
from reports.__main__ import app
from reports.figures import to_png
from reports.sweep import grid as sweep_module
from reports.sweep.grid import COLUMNS, best_rows, pick_sizes, remarks, sweep, write_parquet
from reports.sweep.plots import SWEEP_DRAWINGS, draw_step, write_figures

RUNNER = CliRunner()
LLAMA = find_model("llama-3-8b")
H100 = Replica(LLAMA, GPUS["h100-sxm"])  # 989.4e12 bf16 FLOP/s, 3.35e12 bytes/s, 81,559 MiB
PAIR = [H100, Replica(LLAMA, GPUS["h200-sxm"])]

# 8,030,261,248 parameters; the input embedding, 128,256 x 4096, is only looked up; 65 norms of 4096 multiply nothing.
READ_PARAMS = 8_030_261_248 - 128_256 * 4096
MULTIPLIED_PARAMS = READ_PARAMS - 65 * 4096
KV_BYTES = 2 * 32 * 8 * 128 * 2  # per token: 131,072


def row_of(frame, **values):
    for name, value in values.items():
        frame = frame[frame[name] == value]
    (row,) = frame.to_dict(orient="records")
    return row


def test_one_sequence_of_1024_tokens_on_an_h100_by_hand():
    (row,) = sweep([H100], [1], [1024], usd_per_gpu_hour=3.0).to_dict(orient="records")
    # All weights but the embedding once, 1024 tokens of cache read and one written: 15,144,198,144 bytes.
    moved = 2 * READ_PARAMS + 1025 * KV_BYTES
    # 2 per weight, and 4 per layer, head element and key for scores and values: 15,546,712,064 FLOP.
    flop = 2 * MULTIPLIED_PARAMS + 4 * 32 * (32 * 128) * 1025
    assert (row["decode_bytes"], row["decode_flop"]) == (moved, flop) == (15_144_198_144, 15_546_712_064)
    step_s = moved / 3.35e12  # 4.52 ms; the arithmetic takes 15.7 us
    assert row["decode_step_s"] == row["tpot_s"] == row["decode_dram_s"] == pytest.approx(step_s, rel=1e-12)
    assert row["decode_compute_s"] == pytest.approx(flop / 989.4e12, rel=1e-12)
    assert row["decode_link_s"] == 0
    assert row["decode_bound"] == "dram"
    assert row["decode_intensity"] == pytest.approx(flop / moved, rel=1e-12)
    assert (row["mbu"], row["mfu"]) == (pytest.approx(1), pytest.approx(flop / 989.4e12 / step_s, rel=1e-12))
    assert row["decode_tokens_per_s"] == row["tokens_per_s_per_gpu"] == pytest.approx(1 / step_s, rel=1e-12)
    assert row["usd_per_1m_tokens"] == pytest.approx(3 / 3600 * step_s * 1e6, rel=1e-12)
    assert (row["weight_bytes"], row["kv_bytes"]) == (2 * 8_030_261_248, 1024 * KV_BYTES)
    # Causal: query i meets i keys. Only the last position is projected to the vocabulary of 128,256.
    prefill = 2 * 1024 * MULTIPLIED_PARAMS + 4 * 32 * (32 * 128) * (1024 * 1025 // 2) - 1023 * 2 * 4096 * 128_256
    assert row["prefill_flop"] == prefill
    assert row["prefill_s"] == row["ttft_s"] == pytest.approx(prefill / 989.4e12, rel=1e-12)


def test_the_batch_fits_until_memory_is_full():
    # (81,559 MiB - 16,060,522,496 bytes) / (1024 * 131,072 bytes) = 517.5.
    frame = sweep([H100], [516, 517, 518], [1024])
    assert list(frame["fits"]) == [True, True, False]
    assert set(frame["max_batch"]) == {517}
    # With 80e9 bytes, of which 3.5e9 are taken: 450.3.
    less = dataclasses.replace(H100, hbm_bytes=80e9, overhead_bytes=3.5e9)
    assert list(sweep([less], [450, 451], [1024])["fits"]) == [True, False]


def test_arithmetic_bounds_a_large_batch_of_short_contexts():
    row = row_of(sweep([H100], [1, 1000], [128]), batch=1000)
    assert row["decode_bound"] == "tensor.bf16"
    assert row["mfu"] == pytest.approx(1)
    assert row["mbu"] < 1


def test_a_slow_link_bounds_a_replica_of_several_gpus():
    l40s = Replica(find_model("llama-3-70b"), GPUS["l40s"], Layout(4))
    row = row_of(sweep([l40s], [4096], [100]), batch=4096)
    # 2 all-reduces in 80 layers of 4096 x 8192 elements of 2 bytes, of which 2 * 3/4 are sent, over PCIe's 32e9.
    assert row["decode_step_s"] == row["decode_link_s"] == pytest.approx(160 * 4096 * 8192 * 2 * 1.5 / 32e9)
    assert row["decode_bound"] == "link"


def test_copied_kv_heads_are_counted():
    # 16 GPUs hold 8 KV heads twice.
    one, sixteen = (sweep([dataclasses.replace(H100, layout=Layout(gpus))], [4], [1000]).iloc[0] for gpus in (1, 16))
    assert sixteen["kv_bytes"] == 2 * one["kv_bytes"] == 2 * 4 * 1000 * KV_BYTES
    assert sixteen["decode_bytes"] - one["decode_bytes"] == 4 * 1001 * KV_BYTES
    assert sixteen["tokens_per_s_per_gpu"] == sixteen["decode_tokens_per_s"] / 16


@pytest.mark.parametrize("name", ["llama-3-70b", "mistral-7b", "mixtral-8x7b", "gemma-3-27b", "deepseek-v3"])
@pytest.mark.parametrize("logits", Logits)
def test_every_row_is_what_the_replica_says_of_it_alone(name, logits):
    formats = Formats(4.25, 8, find_dtype("fp8"))
    replica = Replica(find_model(name), resolve("h200"), Layout(4), formats, mfu=0.5, mbu=0.75, overhead_bytes=1e9)
    batches, contexts = (1, 7, 300), (1, 1000, 4097, 70_000)
    frame = sweep([replica], batches, contexts, logits=logits)
    assert list(zip(frame["batch"], frame["context"], strict=True)) == [(b, c) for b in batches for c in contexts]
    for row in frame.to_dict(orient="records"):
        batch, context = row["batch"], row["context"]
        step, decode = decode_step(replica.model, batch, context, formats=formats), replica.decode(batch, context)
        terms = {term.resource: term for term in decode.terms}
        moved = 4 * terms[Resource.DRAM].amount
        step_s = decode.napkin_s
        expected = {
            "model": name,
            "gpu": "h200-sxm",
            "gpus": 4,
            "batch": batch,
            "context": context,
            "weight_bytes": replica.weight_bytes,
            "kv_bytes": replica.resident_kv_bytes(batch, context),
            "fits": batch <= replica.max_batch(context),
            "max_batch": replica.max_batch(context),
            "prefill_flop": forward(replica.model, batch, context, logits=logits, formats=formats).flop,
            "prefill_s": replica.prefill(batch, context, logits=logits).napkin_s,
            "ttft_s": replica.prefill(batch, context, logits=logits).napkin_s,
            "decode_flop": step.flop,
            "decode_bytes": moved,
            "decode_intensity": step.flop / moved,
            "decode_step_s": step_s,
            "decode_compute_s": terms[Resource.TENSOR_FP8].time_s,
            "decode_dram_s": terms[Resource.DRAM].time_s,
            "decode_link_s": terms[Resource.LINK].time_s,
            "decode_bound": decode.bound.value,
            "tpot_s": step_s,
            "decode_tokens_per_s": batch / step_s,
            "tokens_per_s_per_gpu": batch / step_s / 4,
            "mfu": 0.5 * terms[Resource.TENSOR_FP8].time_s / step_s,
            "mbu": 0.75 * terms[Resource.DRAM].time_s / step_s,
            "usd_per_1m_tokens": usd_per_1m_tokens(2.0, batch / step_s, 4),
        }
        assert row == {
            key: pytest.approx(value, rel=1e-12) if isinstance(value, float) else value
            for key, value in expected.items()
        }


def test_mfu_and_mbu_are_of_the_whole_peak():
    lowered = dataclasses.replace(H100, mfu=0.4, mbu=0.8)
    assert row_of(sweep([lowered], [1], [1024]))["mbu"] == pytest.approx(0.8)
    assert row_of(sweep([lowered], [1000], [128]))["mfu"] == pytest.approx(0.4)


@pytest.mark.parametrize("points", [4, 9, 20, 71])
def test_evaluating_in_blocks_changes_nothing(monkeypatch, points):
    whole = sweep(PAIR, range(1, 9), range(100, 1000, 100))
    monkeypatch.setattr(sweep_module, "BLOCK_POINTS", points)
    pd.testing.assert_frame_equal(sweep(PAIR, range(1, 9), range(100, 1000, 100)), whole)


def test_text_is_categorical_and_every_column_is_explained():
    frame = sweep(PAIR, [1, 2], [1024, 2048])
    assert list(frame.columns) == list(COLUMNS) == list(frame.attrs["columns"])
    assert list(frame.select_dtypes("category")) == ["model", "gpu", "decode_bound"]
    assert list(frame["gpu"]) == ["h100-sxm"] * 4 + ["h200-sxm"] * 4


@settings(max_examples=20)
@given(
    st.lists(st.integers(1, 4096), min_size=2, max_size=6, unique=True), st.sampled_from(["mixtral-8x7b", "gemma-2-9b"])
)
def test_more_sequences_or_tokens_never_take_less_time_or_memory(sizes, name):
    sizes = sorted(sizes)
    frame = sweep([Replica(find_model(name), GPUS["b200"], Layout(2))], sizes, sizes)
    for column in ("decode_step_s", "decode_bytes", "decode_flop", "kv_bytes", "prefill_s"):
        grid = frame[column].to_numpy().reshape(len(sizes), len(sizes))
        assert (np.diff(grid, axis=0) >= 0).all()
        assert (np.diff(grid, axis=1) >= 0).all()
    assert (frame["mfu"] <= 1 + 1e-12).all()
    assert (frame["mbu"] <= 1 + 1e-12).all()


def test_too_many_points_are_refused_before_they_are_made():
    with pytest.raises(BadQuantity, match=r"2 GPUs, 4,000 of --batch and 4,000 of --context make 32,000,000 points"):
        sweep(PAIR, range(1, 4001), range(1, 4001))


@pytest.mark.parametrize(
    ("replicas", "batches", "contexts", "message"),
    [
        ([], [1], [1], "needs a GPU"),
        ([H100], [], [1], "needs a GPU, a batch"),
        ([H100, H100], [1], [1], "every GPU once"),
        ([H100, Replica(find_model("mistral-7b"), GPUS["l4"])], [1], [1], "one model"),
        ([H100], [0], [1], "batch must be a positive whole number"),
        ([H100], [1], [-5], "context must be a positive whole number"),
        ([H100], [1.5], [1], "batch must be a positive whole number"),
    ],
)
def test_a_grid_that_makes_no_sense_is_refused(replicas, batches, contexts, message):
    with pytest.raises(BadQuantity, match=message):
        sweep(replicas, batches, contexts)


def test_a_negative_price_is_refused():
    with pytest.raises(BadQuantity, match="usd_per_gpu_hour"):
        sweep([H100], [1], [1], usd_per_gpu_hour=-1)


def test_a_gpu_that_lacks_a_number_is_named():
    fp8 = Formats(compute=find_dtype("fp8"))
    with pytest.raises(MissingCeiling, match=r"^a100-sxm-80gb: no tensor\.fp8 roof"):
        sweep(
            [Replica(LLAMA, GPUS["h100-sxm"], formats=fp8), Replica(LLAMA, GPUS["a100-sxm-80gb"], formats=fp8)],
            [1],
            [1],
        )
    alone = dataclasses.replace(GPUS["h100-sxm"], link_bytes_per_s=None)
    with pytest.raises(MissingCeiling, match=r"^h100-sxm: the bandwidth between its GPUs is not known"):
        sweep([Replica(LLAMA, alone, Layout(2))], [1], [1])


def test_sizes_to_show_are_spread_over_the_logarithm():
    assert pick_sizes([2**power for power in range(10, 18)], 4) == [1024, 4096, 32768, 131072]
    assert pick_sizes(range(1, 1001), 4) == [1, 10, 100, 1000]
    assert pick_sizes([8, 16], 4) == [8, 16]
    assert pick_sizes([8], 4) == [8]


def test_the_best_batch_is_the_smallest_of_the_highest_throughput_that_fits():
    best = best_rows(sweep(PAIR, range(1, 1001), [128, 1024, 131072]))
    found = {(row["gpu"], row["context"]): (row["batch"], row["max_batch"]) for row in best.to_dict(orient="records")}
    # 128 tokens: 440 sequences reach the ridge (see below), more gain nothing. 1024: memory holds 517 of them.
    assert found["h100-sxm", 128] == (440, 4140)
    assert found["h100-sxm", 1024] == (517, 517)
    assert found["h100-sxm", 131072] == (4, 4)
    assert found["h200-sxm", 1024] == (1000, 1003)


def test_the_best_batch_is_the_largest_that_fits_and_not_the_largest_of_the_grid():
    # Memory holds 517 sequences of 1024 tokens, as above; the grid doubles from 1 to 1024.
    doubling = [2**power for power in range(11)]
    assert best_rows(sweep([H100], doubling, [1024]))["batch"].tolist() == [512]
    frame = sweep([H100], doubling, [1024], largest=True)
    assert best_rows(frame)["batch"].tolist() == [517]
    assert frame["batch"].tolist() == sorted([*doubling, 517])
    # It is the row that a grid with this batch has.
    alone = sweep([H100], [517], [1024]).to_dict(orient="records")
    assert frame[frame["batch"] == 517].to_dict(orient="records") == alone


def test_rows_of_the_largest_batch_keep_the_order_of_gpus_batches_and_contexts():
    frame = sweep(PAIR, [1, 1024], [1024, 2048], largest=True)
    # An H200 holds 1003 sequences of 1024 tokens and 501 of 2048, an H100 517 and 258.
    expected = [(1, 1024), (1, 2048), (258, 2048), (517, 1024), (1024, 1024), (1024, 2048)]
    expected += [(1, 1024), (1, 2048), (501, 2048), (1003, 1024), (1024, 1024), (1024, 2048)]
    assert list(zip(frame["batch"], frame["context"], strict=True)) == expected
    assert frame["gpu"].tolist() == ["h100-sxm"] * 6 + ["h200-sxm"] * 6


def test_where_nothing_fits_there_is_no_best_batch():
    frame = sweep([Replica(find_model("llama-3-70b"), GPUS["h100-sxm"])], [1, 2], [1024])
    (row,) = best_rows(frame).to_dict(orient="records")
    assert (row["max_batch"], pd.isna(row["batch"])) == (0, True)


def test_the_remarks_say_what_the_times_are():
    (setting, bound, limit) = remarks(sweep([H100], [1], [1024, 8193]))
    assert setting == "llama-3-8b; weights 16 bits, KV cache 16 bits; bf16 matmuls; napkin bound"
    assert bound.startswith("no --mfu and no --mbu: times are the napkin's bound")
    assert limit.startswith("contexts over 8192 exceed what llama-3-8b was made for")
    (*_, kept) = remarks(sweep([dataclasses.replace(H100, overhead_bytes=2e9)], [1], [1024]))
    assert kept == "an engine keeps 2.00 GB of each h100-sxm besides weights and cache; --overhead 0 counts bare memory"
    (setting, bound) = remarks(sweep([dataclasses.replace(H100, layout=Layout(2), mbu=0.8)], [1], [8192]))
    assert setting.startswith("llama-3-8b on 2 GPUs;")
    assert setting.endswith("MBU 0.8")
    assert bound.startswith("no --mfu:")
    assert len(remarks(sweep([dataclasses.replace(H100, mfu=0.5, mbu=0.8)], [1], [8192]))) == 1


def test_parquet_gives_the_frame_back_with_its_assumptions(tmp_path):
    frame = sweep(PAIR, [1, 8, 64], [1024, 2048], usd_per_gpu_hour=3.5)
    write_parquet(frame, tmp_path / "sweep.parquet")
    read = pd.read_parquet(tmp_path / "sweep.parquet")
    pd.testing.assert_frame_equal(read, frame)
    assert read.attrs == frame.attrs
    assert read.attrs["usd_per_gpu_hour"] == 3.5
    assert [each["gpu"] for each in read.attrs["replicas"]] == ["h100-sxm", "h200-sxm"]
    assert read.attrs["replicas"][0]["roofs"]["dram"] == {"per_s": 3.35e12, "source": "NVIDIA H100 datasheet"}
    assert [file.name for file in tmp_path.iterdir()] == ["sweep.parquet"]


def test_a_write_that_fails_leaves_the_old_file_alone(tmp_path, monkeypatch):
    file = tmp_path / "sweep.parquet"
    file.write_text("old")

    def fail(frame, path, **options):
        path.write_text("half")
        raise OSError("no space left")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", fail)
    with pytest.raises(OSError, match="no space"):
        write_parquet(sweep([H100], [1], [1]), file)
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_two_runs_give_the_same_figures_byte_for_byte(tmp_path):
    files = {}
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        write_figures(sweep(PAIR, read_sizes("1:64", "--batch"), [1024, 4096]), folder)
        files[folder.name] = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert files["a"] == files["b"]
    assert sorted(files["a"]) == ["context.png", "latency.png", "step.png", "throughput.png"]


ODD_SWEEPS = {
    "one point": ([H100], [100], [5000]),
    "nothing fits": ([Replica(find_model("llama-3-70b"), GPUS["l4"])], [1, 64], [1024, 2048]),
    "two nodes": ([Replica(find_model("deepseek-v3"), GPUS["b200"], Layout(16))], [1, 4096], [1024]),
    "seven GPUs": ([Replica(LLAMA, gpu) for gpu in list(GPUS.values())[:7]], [1, 16], [1024, 2048]),
    "hundreds": ([H100], range(1, 200), range(100, 20_000, 100)),
    "far too much": ([H100], [2**40], [2**40]),
}


@pytest.mark.parametrize("drawing", SWEEP_DRAWINGS)
@pytest.mark.parametrize("case", ODD_SWEEPS)
def test_odd_sweeps_can_be_drawn(drawing, case):
    replicas, batches, contexts = ODD_SWEEPS[case]
    assert to_png(SWEEP_DRAWINGS[drawing](sweep(replicas, batches, contexts))).startswith(b"\x89PNG")


def test_the_ridge_stands_where_arithmetic_takes_over_from_memory():
    # 128 tokens: a sequence computes (2 * 7,504,658,432 + 4 * 32 * 4096 * 129) / 989.4e12 = 15.24 us and reads
    # 129 * 131,072 / 3.35e12 = 5.05 us; the weights take 15,009,849,344 / 3.35e12 = 4480.5 us: 4480.5 / 10.19 = 439.6.
    (axes,) = draw_step(sweep([H100], [1, 512], [128])).axes
    assert [text.get_text() for text in axes.texts] == ["ridge at batch 440\n(128 tokens)"]
    # 1024 tokens: a sequence reads for longer than it computes, so memory always bounds.
    (axes,) = draw_step(sweep([H100], [1, 100_000], [1024])).axes
    assert len(axes.texts) == 0


def test_the_command_writes_parquet_and_figures_and_prints_a_table(tmp_path):
    out = tmp_path / "new" / "folder"
    result = RUNNER.invoke(
        app,
        [
            "sweep",
            "--model",
            "Llama 3 8B",
            "--gpu",
            "h100,h100-sxm,h200",
            "--batch",
            "1:64",
            "--overhead",
            "0",
            "--out",
            str(out),
        ],
    )
    assert result.exit_code == 0, result.output
    names = ["sweep.parquet", "throughput.png", "step.png", "latency.png", "context.png"]
    assert result.output.splitlines()[-5:] == [str(out / name) for name in names]
    assert sorted(file.name for file in out.iterdir()) == sorted(names)
    # 2 GPUs, 7 batches, 8 contexts. An H200 holds 62, 31, 15 and 7 sequences of 16k to 128k tokens; the rest is in the
    # grid or beyond. At 1024 tokens 64
    # sequences take (15.01e9 + 64 * 1025 * 131,072) / 3.35e12 s.
    assert "116 points:" in result.output
    assert "7.05 ms" in result.output
    assert "napkin bound" in result.output
    assert len(pd.read_parquet(out / "sweep.parquet")) == 116


def test_a_config_and_every_option_reach_the_numbers(tmp_path):
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"model_type": "gpt2", "vocab_size": 50257, "n_positions": 1024, "n_embd": 768,
                                  "n_layer": 12, "n_head": 12}))  # fmt: skip
    result = RUNNER.invoke(
        app,
        ["sweep", "--config", str(config), "--gpu", "h100", "--gpus", "2", "--batch", "3", "--context", "100",
         "--weights", "int4", "--kv", "fp8", "--compute", "fp8", "--mfu", "0.5", "--mbu", "0.8", "--hbm", "40e9",
         "--overhead", "1e9", "--price", "3", "--logits", "last", "--json", "--out", str(tmp_path)],
    )  # fmt: skip
    data = json.loads(result.stdout)
    assert data["points"] == 1
    assert data["files"][0] == str(tmp_path / "sweep.parquet")
    assert data["assumptions"]["model"] == "config"
    assert (data["assumptions"]["logits"], data["assumptions"]["usd_per_gpu_hour"]) == ("last", 3)
    (replica,) = data["assumptions"]["replicas"]
    assert replica.pop("roofs")["tensor.fp8"]["per_s"] == 1978.9e12 / 2
    assert replica == {
        "gpu": "h100-sxm", "gpus": 2, "layout": "tp 2", "weight_bits": 4.125, "kv_bits": 8, "compute": "fp8",
        "mfu": 0.5, "mbu": 0.8,
        "hbm_bytes": 40e9, "overhead_bytes": 1e9, "link_bytes_per_s": 450e9,
    }  # fmt: skip
    (best,) = data["best"]
    # 12 layers of 2 * 768 elements of one byte; 2 * 39e9 bytes less 124,439,808 weights of 4.125 bits.
    assert best["kv_bytes"] == 3 * 100 * 18_432
    assert best["max_batch"] == int((2 * 39e9 - 124_439_808 * 4.125 / 8) / (100 * 18_432))


def test_formats_are_those_that_the_model_ships_in_as_far_as_each_gpu_goes(tmp_path):
    command = ["sweep", "--model", "deepseek-v3", "--gpu", "h200,a100-80gb", "--gpus", "8", "--batch", "1"]
    result = RUNNER.invoke(app, [*command, "--context", "1k", "--json", "--out", str(tmp_path)])
    data = json.loads(result.stdout)
    hopper, ampere = data["assumptions"]["replicas"]
    assert (hopper["compute"], ampere["compute"], hopper["kv_bits"]) == ("fp8", "bf16", 16)
    # 673.15 GB for 671.03 billion parameters.
    assert hopper["weight_bits"] == ampere["weight_bits"] == pytest.approx(8 * 673.15 / 671.03, rel=1e-5)
    assert data["remarks"][0].startswith("deepseek-v3 on 8 GPUs; weights 8.025 bits, KV cache 16 bits; fp8 or bf16")


def test_where_nothing_fits_the_table_says_0_and_has_no_numbers(tmp_path):
    command = ["sweep", "--model", "llama-3-70b", "--gpu", "l4", "--batch", "1", "--context", "1k"]
    result = RUNNER.invoke(app, [*command, "--out", str(tmp_path)])
    (row,) = (line.split() for line in result.output.splitlines() if line.startswith("l4 "))
    assert row == ["l4", "1024", "0", *("-",) * (len(row) - 3)]
    (best,) = json.loads(RUNNER.invoke(app, [*command, "--out", str(tmp_path), "--json"]).stdout)["best"]
    assert (best["max_batch"], best["batch"], best["tpot_s"]) == (0, None, None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--model llama-3-8b --gpu h100 --batch 8:1", "--batch: '8:1' is empty"),
        ("--model llama-3-8b --gpu h100 --context 1:2:3:4", "--context: '1:2:3:4' is not a range"),
        ("--model llama-3-8b --gpu h100 --batch 1:10k:1 --context 1:10k:1", "at most 20,000,000"),
        ("--model llama-9 --gpu h100", "unknown model 'llama-9'"),
        ("--gpu h100", "either --model"),
        ("--model llama-3-8b --config x.json --gpu h100", "either --model"),
        ("--config nowhere.json --gpu h100", "nowhere.json"),
        ("--model llama-3-8b", "--gpu"),
        ("--model llama-3-8b --gpu h100,", "unknown GPU ''"),
        ("--model llama-3-8b --gpu a100,h100 --compute fp8", "a100-sxm-80gb: no tensor.fp8 roof"),
        ("--model llama-3-8b --gpu h100 --gpus 0", "gpus must be a positive whole number"),
        ("--model llama-3-8b --gpu h100 --gpus 512", "cannot share the 32 heads"),
        ("--model llama-3-8b --gpu h100 --weights int5", "unknown weight format"),
        ("--model llama-3-8b --gpu h100 --kv int5", "unknown dtype"),
        ("--model llama-3-8b --gpu h100 --mfu 2", "mfu must be"),
        ("--model llama-3-8b --gpu h100 --mbu 0", "mbu must be"),
        ("--model llama-3-8b --gpu h100 --hbm -1", "hbm_bytes must be positive"),
        (
            "--model llama-3-8b --gpu h100 --hbm 1e9 --overhead 1e9",
            "an overhead of 1.00 GB leaves nothing",
        ),
        ("--model llama-3-8b --gpu h100 --price nan", "usd_per_gpu_hour must not be negative"),
        ("--model llama-3-8b --gpu h100 --logits some", "some"),
        ("--model llama-3-8b --gpu h100 --out /dev/null/x", "cannot write to /dev/null/x"),
    ],
)
def test_bad_input_is_one_line_and_exit_status_2(tmp_path, refusal, arguments, message):
    out = [] if "--out" in arguments else ["--out", str(tmp_path / "out")]
    assert message in refusal(app, "sweep", *arguments.split(), *out)
    assert not (tmp_path / "out").exists()


def test_bad_input_ends_the_program_in_the_same_way(tmp_path):
    command = "-m reports sweep --model llama-3-8b --gpu h100 --batch 0 --out".split()
    result = subprocess.run([sys.executable, *command, tmp_path / "out"], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "error: --batch: '0' is not a whole number from 1 to 1099511627776\n"
