"""Every GPU and every model is a row, with the numbers of its datasheet."""

import pytest

from predict.gpus import GPUS, NVIDIA_GPUS
from predict.model.presets import PRESETS
from predict.tables import gpu_table, model_table


@pytest.mark.parametrize("width", [100, 120])
def test_every_gpu_is_one_row_with_all_its_numbers(width):
    printed = gpu_table().text(width).splitlines()
    rows = {name: next(line.split() for line in printed if line.split()[:1] == [name]) for name in GPUS}
    # 989.4 and 1978.9 TFLOP/s, 66.9 TFLOP/s, 3.35 TB/s, 989.4 / 3.35 = 295, 81559 MiB = 79.6 GiB.
    assert rows["h100-sxm"][1:7] == ["989", "1979", "66.9", "3.35", "295", "79.6"]
    # fp16, because a V100 has no bf16: 125 / 0.9 = 139.
    assert rows["v100-sxm-32gb"][1:7] == ["125", "-", "15.7", "0.900", "139", "32.0"]


@pytest.mark.parametrize("width", [40, 80, 120])
def test_every_alias_is_told(width):
    text = " ".join(gpu_table().text(width).split())
    assert all(alias in text for gpu in GPUS.values() for alias in gpu.aliases)


def test_a_gpu_says_whether_bench_can_measure_it():
    said = {row["gpu"]: row["can_be_measured"] for row in gpu_table().rows}
    assert said == {name: name in NVIDIA_GPUS for name in GPUS}
    assert not said["mi300x"]


def test_a_model_says_what_its_weights_and_a_token_take():
    (row,) = [row for row in model_table().rows if row["model"] == "llama-3-70b"]
    # 70.55e9 weights of 2 bytes; 80 layers x 8 KV heads x 128 numbers, twice, of 2 bytes.
    assert (row["params"], row["kv_bytes_per_token"]) == (70_553_706_496, 2 * 80 * 8 * 128 * 2)
    assert row["weight_bytes"] == 2 * 70_553_706_496
    assert [row["model"] for row in model_table().rows] == list(PRESETS)
