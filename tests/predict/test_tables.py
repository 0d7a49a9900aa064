"""The tables fit the terminal: no number and no name is cut."""

import pytest
from rich.console import Console

from predict.gpus import GPUS, NVIDIA_GPUS
from predict.tables import gpu_table


def lines(width: int) -> list[str]:
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(gpu_table(width))
    return capture.get().splitlines()


@pytest.mark.parametrize("width", [80, 100, 120])
def test_every_gpu_is_one_row_with_all_its_numbers(width):
    printed = lines(width)
    assert max(map(len, printed)) <= width
    assert not any("…" in line for line in printed)
    rows = {name: next(line.split() for line in printed if line.split()[:1] == [name]) for name in GPUS}
    assert all(len(row) >= 7 for row in rows.values())
    # 989.4 and 1978.9 TFLOP/s, 66.9 TFLOP/s, 3.35 TB/s, 989.4 / 3.35 = 295, 81559 MiB = 79.6 GiB.
    assert rows["h100-sxm"][1:7] == ["989", "1979", "66.9", "3.35", "295", "79.6"]
    # fp16, because a V100 has no bf16: 125 / 0.9 = 139.
    assert rows["v100-sxm-32gb"][1:7] == ["125", "-", "15.7", "0.900", "139", "32.0"]


@pytest.mark.parametrize("width", [80, 120])
def test_every_alias_is_told(width):
    text = " ".join(" ".join(lines(width)).split())
    assert all(alias in text for gpu in GPUS.values() for alias in gpu.aliases)


def test_napkin_only_machines_stand_under_their_heading():
    printed = [line.strip() for line in lines(120)]
    heading = printed.index("Only the napkin knows these:")
    for name in GPUS:
        row = next(number for number, line in enumerate(printed) if line.split()[:1] == [name])
        assert (row < heading) == (name in NVIDIA_GPUS)
