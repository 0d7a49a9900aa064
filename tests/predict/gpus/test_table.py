"""The guards stand first, as functions that return complaints, so that the last tests can show that they complain."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import combinations, permutations

import pytest

from predict.errors import MissingCeiling, UnknownGpu
from predict.gpus import (
    GPUS,
    NVIDIA_GPUS,
    Gpu,
    NvidiaGpu,
    find_gpu,
    held_clock_roofs,
    physical_roofs,
    resolve,
    resolve_all,
    ridge_flop_per_byte,
)
from predict.resources import Ceiling, Resource, find_ceiling

# The 8- to 32-bit tensor operations are printed at the boost clock, these at that or at the highest.
AT_EITHER_CLOCK = {Resource.TENSOR_FP64, Resource.VECTOR_FP64, Resource.VECTOR_FP32}

# BF16 (FP16 where BF16 is not printed) with sparsity, the number that a careless reader copies from the datasheet.
SPARSE_BF16 = {
    "a100-sxm-80gb": 624e12,
    "a100-sxm-40gb": 624e12,
    "a100-pcie-80gb": 624e12,
    "a100-pcie-40gb": 624e12,
    "h100-sxm": 1979e12,
    "h100-pcie": 1513e12,
    "h100-nvl": 1671e12,
    "h200-sxm": 1979e12,
    "h200-nvl": 1671e12,
    "b200": 4.5e15,
    "b300": 4.5e15,
    "gb200": 5e15,
    "l4": 242e12,
    "l40s": 733e12,
    "a10": 250e12,
    "rtx-4090": 330.4e12,
    "rtx-5090": 419e12,
    "rtx-pro-6000-blackwell-workstation": 1007.6e12,
    "rtx-pro-6000-blackwell-server": 935.6e12,
    "gb300": 5e15,
    "gh200-96gb": 1979e12,
    "gh200-144gb": 1979e12,
    "h800": 1979e12,
    "h20": 296e12,
    "a800-sxm-80gb": 624e12,
    "l40": 362.1e12,
    "rtx-a6000": 309.7e12,
    "rtx-6000-ada": 728.5e12,
    "rtx-3090": 142e12,
    "mi300x": 2614.9e12,
    "mi325x": 2614.9e12,
    "mi355x": 5033.2e12,
}


def peak_complaints(gpu: NvidiaGpu) -> list[str]:
    """Roofs off SMs x FLOP/clock/SM x clock by more than 2 %, but for those of which the table says why."""
    complaints = []
    for unit in (unit for unit in gpu.roofs if unit.is_compute and unit not in gpu.not_from_clock):
        per_clock = gpu.sm_count * gpu.architecture.flop_per_clock_per_sm.get(unit, 0)
        clocks_hz = {gpu.boost_hz, gpu.max_hz} if unit in AT_EITHER_CLOCK else {gpu.boost_hz}
        if not any(gpu.roofs[unit].per_s == pytest.approx(per_clock * hz, rel=0.02) for hz in clocks_hz):
            complaints.append(f"{gpu.name} {unit}: {gpu.roofs[unit].per_s:.4g} is not {per_clock} x {clocks_hz}")
    return complaints


def bandwidth_complaints(gpu: Gpu) -> list[str]:
    """DRAM roofs off bus width x pin rate by more than 5 %."""
    _, bits, rate = gpu.memory
    if bits is None or rate is None or Resource.DRAM not in gpu.roofs:
        return []
    from_pins = bits * rate / 8
    per_s = gpu.roofs[Resource.DRAM].per_s
    return (
        [] if per_s == pytest.approx(from_pins, rel=0.05) else [f"{gpu.name} dram: {per_s:.4g} is not {from_pins:.4g}"]
    )


def sparse_complaints(gpu: NvidiaGpu) -> list[str]:
    """Roofs that do not stand to each other as the rates of the architecture do, or that no clock could reach."""
    rates = gpu.architecture.flop_per_clock_per_sm
    tensor = gpu.roofs.keys() & rates.keys() - AT_EITHER_CLOCK - gpu.not_from_clock.keys()
    complaints = [
        f"{gpu.name} {unit}: {gpu.roofs[unit].per_s:.4g} is not {rates[unit] / rates[other]:g} x {other}"
        for unit, other in permutations(tensor, 2)
        if gpu.roofs[unit].per_s / gpu.roofs[other].per_s != pytest.approx(rates[unit] / rates[other], rel=0.02)
    ]
    physical = physical_roofs(gpu)
    return complaints + [
        f"{gpu.name} {unit}: {ceiling.per_s:.4g} needs more than {gpu.max_hz / 1e6:.0f} MHz"
        for unit, ceiling in gpu.roofs.items()
        if ceiling.per_s > 1.05 * physical[unit].per_s
    ]


def copy_complaints(gpus: Iterable[Gpu]) -> list[str]:
    """Pairs of GPUs with the same roofs, memory, link and power (the two A100 with 40 GB differ in power alone)."""
    numbers = [
        (
            gpu.name,
            {unit: roof.per_s for unit, roof in gpu.roofs.items()},
            gpu.memory.bytes,
            gpu.link_bytes_per_s,
            gpu.power_w,
        )
        for gpu in gpus
    ]
    return [f"{a[0]} = {b[0]}" for a, b in combinations(numbers, 2) if a[1:] == b[1:]]


@pytest.fixture(params=list(GPUS.values()), ids=list(GPUS))
def gpu(request: pytest.FixtureRequest) -> Gpu:
    assert isinstance(request.param, Gpu)
    return request.param


@pytest.fixture(params=list(NVIDIA_GPUS.values()), ids=list(NVIDIA_GPUS))
def sku(request: pytest.FixtureRequest) -> NvidiaGpu:
    assert isinstance(request.param, NvidiaGpu)
    return request.param


def test_every_peak_is_sms_times_flop_per_clock_times_clock(sku: NvidiaGpu) -> None:
    assert peak_complaints(sku) == []


def test_every_excuse_is_still_needed(sku: NvidiaGpu) -> None:
    for unit, why in sku.not_from_clock.items():
        assert why.strip()
        assert peak_complaints(replace(sku, roofs={unit: sku.roofs[unit]}, not_from_clock={}))


@pytest.mark.parametrize(
    ("sku", "unit", "per_s"),
    # SMs x FLOP/clock/SM x the clock that the vendor multiplies with.
    [
        ("a100-sxm-80gb", Resource.TENSOR_BF16, 108 * 2048 * 1.41e9),  # 4 tensor cores x 256 multiply-adds
        ("h100-sxm", Resource.TENSOR_BF16, 132 * 4096 * 1.83e9),  # 4 x 512
        ("h100-sxm", Resource.VECTOR_FP32, 132 * 256 * 1.98e9),  # 128 lanes
        ("h100-pcie", Resource.TENSOR_FP64, 114 * 256 * 1.755e9),
        ("b200", Resource.TENSOR_FP8, 148 * 16384 * 1.855e9),  # 4 x 2048
        ("b300", Resource.TENSOR_INT8, 148 * 512 * 2.032e9),
        ("b300", Resource.TENSOR_FP4, 148 * 49152 * 1.855e9),  # 6 x bf16, not 4
        ("l40s", Resource.TENSOR_BF16, 142 * 1024 * 2.52e9),  # 4 x 128
        ("rtx-4090", Resource.TENSOR_BF16, 128 * 512 * 2.52e9),  # half of that on GeForce
        ("rtx-4090", Resource.TENSOR_INT8, 128 * 2048 * 2.52e9),  # but not for int8,
        ("rtx-5090", Resource.TENSOR_FP4, 170 * 4096 * 2.407e9),  # nor for fp4
        ("v100-sxm-32gb", Resource.TENSOR_FP16, 80 * 1024 * 1.53e9),  # 8 x 64
        ("t4", Resource.TENSOR_INT4, 40 * 4096 * 1.59e9),  # 8 x 256
        ("rtx-a6000", Resource.TENSOR_BF16, 84 * 1024 * 1.8e9),
        ("rtx-3090", Resource.TENSOR_BF16, 82 * 512 * 1.695e9),
        ("l40", Resource.TENSOR_BF16, 142 * 512 * 2.49e9),  # half of the L40S
        ("h20", Resource.TENSOR_FP8, 78 * 2048 * 1.853e9),  # a quarter of Hopper
        ("gb300", Resource.TENSOR_FP4, 152 * 49152 * 2.008e9),
    ],
)
def test_peaks_are_what_cores_and_clocks_give(sku: str, unit: Resource, per_s: float) -> None:
    assert GPUS[sku].roofs[unit].per_s == pytest.approx(per_s, rel=0.02)


def test_every_bandwidth_is_bus_width_times_pin_rate(gpu: Gpu) -> None:
    assert bandwidth_complaints(gpu) == []
    assert (gpu.memory.bus_bits is None) == (gpu.memory.pin_bits_per_s is None)


def test_no_peak_counts_sparsity(sku: NvidiaGpu) -> None:
    assert sparse_complaints(sku) == []


@pytest.mark.parametrize(("sku", "sparse"), SPARSE_BF16.items())
def test_bf16_peaks_are_half_those_printed_with_sparsity(sku: str, sparse: float) -> None:
    assert GPUS[sku].roofs[Resource.TENSOR_BF16].per_s == pytest.approx(sparse / 2, rel=0.015)


def test_no_sku_is_a_copy_of_another() -> None:
    assert copy_complaints(GPUS.values()) == []


def test_every_number_has_a_source(gpu: Gpu) -> None:
    assert gpu.source.strip()
    assert all(roof.source.strip() for roof in gpu.roofs.values())


def test_every_row_is_plausible(gpu: Gpu) -> None:
    assert GPUS[gpu.name] is gpu
    assert {Resource.TENSOR_FP16, Resource.TENSOR_BF16} & gpu.roofs.keys()
    assert 8e9 < gpu.memory.bytes < 400e9
    assert gpu.link_bytes_per_s is None or 16e9 <= gpu.link_bytes_per_s <= 2e12
    assert gpu.power_w is None or 50 <= gpu.power_w <= 2000


@pytest.mark.parametrize(
    ("sku", "gpus", "network_bytes_per_s"),
    [
        # A board of eight with an adapter for each GPU: 200 Gbit/s beside the A100, 400 beside H100 to B200, then 800.
        ("a100-sxm-80gb", 8, 25e9), ("a100-sxm-40gb", 8, 25e9), ("h100-sxm", 8, 50e9), ("h200-sxm", 8, 50e9),
        ("b200", 8, 50e9), ("b300", 8, 100e9), ("gb200", 72, 50e9),
        # A bridge joins two cards, four of the H200 NVL; beyond it is PCIe, 16 lanes of 2 or 4 GB/s.
        ("a100-pcie-80gb", 2, 32e9), ("h100-nvl", 2, 64e9), ("h100-pcie", 2, 64e9), ("h200-nvl", 4, 64e9),
        # The network of a server of PCIe cards is not known.
        ("l40s", 8, None), ("l4", 8, None), ("rtx-4090", 8, None),
    ],
)  # fmt: skip
def test_a_node_is_what_the_link_joins(sku: str, gpus: int, network_bytes_per_s: float | None) -> None:
    assert (GPUS[sku].gpus_per_node, GPUS[sku].network_bytes_per_s) == (gpus, network_bytes_per_s)


@pytest.mark.parametrize(
    ("name", "gpus", "network_bytes_per_s"),
    # GB300: an adapter of 800 Gbit/s. A TPU's pod; beyond it 6.4 and 25.6 Tbit/s for 256 chips, 50 Gbit/s a v5p chip.
    [
        ("gb300", 72, 100e9),
        ("v100", 8, None),
        ("a6000", 2, 32e9),
        ("gh200", None, None),
        ("mi300x", 8, None),
        ("v5e", 256, 25e9 / 8),
        ("v5p", 8960, 50e9 / 8),
        ("v6e", 256, 100e9 / 8),
    ],
)
def test_nodes_of_the_other_machines(name: str, gpus: int | None, network_bytes_per_s: float | None) -> None:
    found = resolve(name)
    assert (found.gpus_per_node, found.network_bytes_per_s) == (gpus, network_bytes_per_s)


def test_the_network_of_a_gpu_is_slower_than_its_link(gpu: Gpu) -> None:
    assert gpu.network_bytes_per_s is None or gpu.network_bytes_per_s < (gpu.link_bytes_per_s or 0)


def test_every_sku_is_plausible(sku: NvidiaGpu) -> None:
    assert sku.boost_hz <= sku.max_hz
    # GeForce boosts far over its printed clock.
    assert 0.8 * sku.max_hz < sku.boost_hz or all("GeForce" in name for name in sku.nvml_names)
    assert sku.roofs.keys() - {Resource.DRAM} <= sku.architecture.flop_per_clock_per_sm.keys()
    assert all(unit.is_compute for unit in sku.architecture.flop_per_clock_per_sm)
    assert sku.l2_bytes is None or 2e6 < sku.l2_bytes < 300e6


@pytest.mark.parametrize(
    ("name", "unit", "per_s"),
    # AMD prints CUs x FLOP/clock/CU x clock: 304 CUs at 2.1 GHz and 256 at 2.4 GHz, of twice the rates.
    [
        ("mi300x", Resource.TENSOR_BF16, 304 * 2048 * 2.1e9),
        ("mi300x", Resource.TENSOR_FP8, 304 * 4096 * 2.1e9),
        ("mi300x", Resource.TENSOR_TF32, 304 * 1024 * 2.1e9),
        ("mi300x", Resource.VECTOR_FP32, 304 * 256 * 2.1e9),
        ("mi325x", Resource.TENSOR_FP16, 304 * 2048 * 2.1e9),
        ("mi355x", Resource.TENSOR_BF16, 256 * 4096 * 2.4e9),
        ("mi355x", Resource.TENSOR_FP8, 256 * 8192 * 2.4e9),
        ("mi355x", Resource.TENSOR_FP4, 256 * 16384 * 2.4e9),
        # Four systolic arrays of 128 x 128 cells, each of which multiplies and adds once per clock, at 1.5 GHz.
        ("tpu-v5e", Resource.TENSOR_BF16, 4 * 128 * 128 * 2 * 1.5e9),
    ],
)
def test_napkin_only_peaks_are_units_times_clock_too(name: str, unit: Resource, per_s: float) -> None:
    assert name not in NVIDIA_GPUS
    assert GPUS[name].roofs[unit].per_s == pytest.approx(per_s, rel=0.005)


def test_links_of_other_vendors_count_one_direction() -> None:
    # AMD: seven links of 128 GB/s (153.6 in the MI355X) in both directions together. TPU: 4 ports of v5e and v6e and 6
    # of v5p, of 100, 200 and 200 GB/s in both directions.
    links = {name: gpu.link_bytes_per_s for name, gpu in GPUS.items() if name not in NVIDIA_GPUS}
    assert links == {
        "mi300x": 7 * 64e9,
        "mi325x": 7 * 64e9,
        "mi355x": 7 * 76.8e9,
        "tpu-v5e": 4 * 50e9,
        "tpu-v5p": 6 * 100e9,
        "tpu-v6e": 4 * 100e9,
    }


def test_every_nvml_name_belongs_to_one_sku_and_finds_it() -> None:
    names = [name for gpu in NVIDIA_GPUS.values() for name in gpu.nvml_names]
    assert len(names) == len(set(names))
    for gpu in NVIDIA_GPUS.values():
        assert gpu.nvml_names
        assert all(find_gpu(name) is gpu for name in gpu.nvml_names)


@pytest.mark.parametrize(
    ("nvml_name", "sku"),
    [
        ("NVIDIA H100 80GB HBM3", "h100-sxm"),
        ("NVIDIA H100 PCIe", "h100-pcie"),
        ("NVIDIA H100 NVL", "h100-nvl"),
        ("NVIDIA H200", "h200-sxm"),
        ("NVIDIA H200 NVL", "h200-nvl"),
        ("NVIDIA A100-SXM4-40GB", "a100-sxm-40gb"),
        ("NVIDIA A100-SXM4-80GB", "a100-sxm-80gb"),
        ("NVIDIA A100-PCIE-40GB", "a100-pcie-40gb"),
        ("NVIDIA A100 80GB PCIe", "a100-pcie-80gb"),
        ("NVIDIA B200", "b200"),
        ("NVIDIA B300 SXM6 AC", "b300"),
        ("NVIDIA GB200", "gb200"),
        ("NVIDIA L4", "l4"),
        ("NVIDIA L40S", "l40s"),
        ("NVIDIA A10", "a10"),
        ("NVIDIA GeForce RTX 4090", "rtx-4090"),
        ("NVIDIA GeForce RTX 5090", "rtx-5090"),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", "rtx-pro-6000-blackwell-workstation"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "rtx-pro-6000-blackwell-server"),
        ("NVIDIA GB300", "gb300"),
        ("NVIDIA GH200 480GB", "gh200-96gb"),
        ("NVIDIA GH200 144G HBM3e", "gh200-144gb"),
        ("NVIDIA H20", "h20"),
        ("NVIDIA H800", "h800"),
        ("NVIDIA A800-SXM4-80GB", "a800-sxm-80gb"),
        ("Tesla V100-SXM2-32GB", "v100-sxm-32gb"),
        ("Tesla V100-SXM2-16GB", "v100-sxm-16gb"),
        ("Tesla T4", "t4"),
        ("NVIDIA L40", "l40"),
        ("NVIDIA RTX A6000", "rtx-a6000"),
        ("NVIDIA RTX 6000 Ada Generation", "rtx-6000-ada"),
        ("NVIDIA GeForce RTX 3090", "rtx-3090"),
    ],
)
def test_nvml_names_are_the_ones_that_drivers_report(nvml_name: str, sku: str) -> None:
    assert find_gpu(nvml_name).name == sku


@pytest.mark.parametrize(
    "nvml_name", ["NVIDIA H100", "NVIDIA L20", "NVIDIA A100", "nvidia h200", "NVIDIA A10G", "MI300X", ""]
)
def test_nvml_names_match_exactly_or_not_at_all(nvml_name: str) -> None:
    with pytest.raises(UnknownGpu) as caught:
        find_gpu(nvml_name)
    message = str(caught.value)
    assert "\n" not in message
    assert "`python -m predict gpus --json` lists them" in message


def test_an_almost_right_nvml_name_gets_a_suggestion() -> None:
    with pytest.raises(UnknownGpu, match="did you mean NVIDIA L40S"):
        find_gpu("NVIDIA L-40S")


@pytest.mark.parametrize(
    ("name", "skus"),
    [
        ("a100", ["a100-sxm-80gb", "a100-sxm-40gb", "a100-pcie-80gb", "a100-pcie-40gb"]),
        ("a100-80gb", ["a100-sxm-80gb", "a100-pcie-80gb"]),
        ("a100-pcie", ["a100-pcie-80gb", "a100-pcie-40gb"]),
        ("h100", ["h100-sxm", "h100-pcie", "h100-nvl"]),
        ("h200", ["h200-sxm", "h200-nvl"]),
        ("h100-pcie", ["h100-pcie"]),
        ("b200", ["b200"]),
        ("4090", ["rtx-4090"]),
        ("rtx-pro-6000", ["rtx-pro-6000-blackwell-workstation", "rtx-pro-6000-blackwell-server"]),
        ("gh200", ["gh200-96gb", "gh200-144gb"]),
        ("v100", ["v100-sxm-32gb", "v100-sxm-16gb"]),
        ("h20", ["h20"]),
        ("a6000", ["rtx-a6000"]),
        ("trillium", ["tpu-v6e"]),
    ],
)
def test_an_alias_means_its_first_sku_and_covers_the_others(name: str, skus: list[str]) -> None:
    assert resolve(name).name == skus[0]
    assert [gpu.name for gpu in resolve_all(name)] == skus


def test_every_name_and_alias_resolves_to_a_sku_that_carries_it(gpu: Gpu) -> None:
    assert resolve(gpu.name) is gpu
    for alias in gpu.aliases:
        assert gpu in resolve_all(alias)
        assert alias not in GPUS


@pytest.mark.parametrize("name", ["H100", " h100 ", "H100-SXM", "h100_sxm", "H100 SXM"])
def test_names_are_forgiving_about_case_and_separators(name: str) -> None:
    assert resolve(name).name == "h100-sxm"


@pytest.mark.parametrize("name", ["h1000", "", "p100", "h100\n-pcie"])
def test_an_unknown_name_is_one_line_that_says_how_to_list_what_is_known(name: str) -> None:
    with pytest.raises(UnknownGpu) as caught:
        resolve(name)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith("`python -m predict gpus` lists them")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("h10o", ": did you mean h100?"),
        ("h1000", ";"),
        ("GeForce RTX 4090", ": did you mean rtx-4090?"),
        ("A100-SXM4-80GB", ": did you mean a100-sxm-80gb?"),  # as NVML calls it, after the vendor's name
    ],
)
def test_a_typing_error_gets_a_suggestion(name: str, hint: str) -> None:
    with pytest.raises(UnknownGpu) as caught:
        resolve(name)
    assert str(caught.value) == f"unknown GPU {name!r}{hint} `python -m predict gpus` lists them"


@pytest.mark.parametrize(
    ("flop_per_s", "bytes_per_s", "ridge"),
    # The lessons' sheet: A100, H100, H200, B200. 312/2 = 156; 990/3.35 = 295.5; 990/4.8 = 206.25; 2250/8 = 281.25.
    [(312e12, 2.0e12, 156.0), (990e12, 3.35e12, 295.5), (990e12, 4.8e12, 206.25), (2250e12, 8.0e12, 281.25)],
)
def test_the_ridge_is_peak_over_bandwidth(flop_per_s: float, bytes_per_s: float, ridge: float) -> None:
    roofs = {
        Resource.TENSOR_BF16: Ceiling(flop_per_s, "the lesson"),
        Resource.DRAM: Ceiling(bytes_per_s, "the lesson"),
    }
    assert ridge_flop_per_byte(roofs, Resource.TENSOR_BF16) == pytest.approx(ridge, rel=1e-3)


@pytest.mark.parametrize(
    ("sku", "ridge"),
    # 312/2.039 = 153.0; 989.4/3.35 = 295.3; 989.5/4.8 = 206.1; 2250/7.7 = 292.2
    [("a100", 153.0), ("h100", 295.3), ("h200", 206.1), ("b200", 292.2)],
)
def test_the_ridge_of_the_table_is_near_the_lessons(sku: str, ridge: float) -> None:
    assert ridge_flop_per_byte(resolve(sku).roofs, Resource.TENSOR_BF16) == pytest.approx(ridge, rel=1e-3)


def test_a_ridge_without_a_roof_is_missing() -> None:
    with pytest.raises(MissingCeiling):
        ridge_flop_per_byte({Resource.TENSOR_BF16: Ceiling(1e12, "made up")}, Resource.TENSOR_BF16)
    with pytest.raises(MissingCeiling):
        ridge_flop_per_byte(GPUS["a100-sxm-80gb"].roofs, Resource.TENSOR_FP8)


@pytest.mark.parametrize("sku", ["a100-sxm-80gb", "a100-pcie-40gb", "a10"])
def test_ampere_has_no_fp8(sku: str) -> None:
    with pytest.raises(MissingCeiling, match=r"tensor\.fp8"):
        find_ceiling(Resource.TENSOR_FP8, GPUS[sku].roofs)
    assert Resource.TENSOR_FP8 not in physical_roofs(NVIDIA_GPUS[sku])


@pytest.mark.parametrize(
    ("sku", "unit", "right"),
    # Each of these stands wrong in a public table.
    [
        ("l4", Resource.DRAM, 300e9),  # 3350e9 in PyTorch's device_info, pasted from the H100
        ("l4", Resource.TENSOR_BF16, 121e12),  # 242e12 there: with sparsity
        ("h100-sxm", Resource.TENSOR_BF16, 989.4e12),  # 1979e12 there, in KernelBench, in timeflies: with sparsity
        ("h100-sxm", Resource.TENSOR_TF32, 494.7e12),  # called fp32 in tritonbench
        ("h100-sxm", Resource.VECTOR_FP32, 66.9e12),
        ("h100-sxm", Resource.DRAM, 3.35e12),  # 2.0e12 in tritonbench (PCIe), 2.4e12 in torchao (one owner's variant)
        ("h100-nvl", Resource.DRAM, 3.9e12),  # 3.35e12 in flash-attention's benchmark
        ("l40s", Resource.TENSOR_FP8, 733e12),  # 1466e12 in inference-sim: with sparsity
        ("rtx-5090", Resource.DRAM, 1.792e12),  # 1.792e15 in torchao
        ("rtx-5090", Resource.TENSOR_BF16, 209.5e12),  # 419e12 with fp16 accumulation
        ("rtx-4090", Resource.TENSOR_FP16, 165.2e12),  # 330.3e12 with fp16 accumulation
        ("b200", Resource.TENSOR_BF16, 2.25e15),  # 989e12 in tritonbench, copied from the H100
        ("gb200", Resource.TENSOR_BF16, 2.5e15),  # taken for a B200
        ("b300", Resource.TENSOR_FP4, 13.5e15),  # the dense figure; 9e15 where the sparse one is halved
        ("a100-sxm-80gb", Resource.DRAM, 2.039e12),
        ("a100-sxm-80gb", Resource.TENSOR_INT8, 624e12),
        ("gh200-96gb", Resource.TENSOR_BF16, 989.5e12),  # 1979e12 in GenZ's system_configs: with sparsity
        ("gb300", Resource.TENSOR_BF16, 2.5e15),  # 0.644e15 in PyTorch's device_info, by a fallback
        ("mi300x", Resource.TENSOR_BF16, 1307.4e12),  # 2614.9e12 with sparsity
        ("l40", Resource.TENSOR_BF16, 181.05e12),  # 362.1e12 with sparsity
    ],
)
def test_errors_of_public_tables_are_not_repeated(sku: str, unit: Resource, right: float) -> None:
    assert GPUS[sku].roofs[unit].per_s == pytest.approx(right, rel=1e-3)


@pytest.mark.parametrize(
    ("one", "other"),
    [("h100-sxm", "h100-pcie"), ("h100-sxm", "h100-nvl"), ("h100-sxm", "b200"), ("b200", "gb200"), ("b200", "b300")],
)
def test_siblings_differ_in_compute_and_bandwidth(one: str, other: str) -> None:
    assert GPUS[one].roofs[Resource.DRAM].per_s != GPUS[other].roofs[Resource.DRAM].per_s
    assert (
        physical_roofs(NVIDIA_GPUS[one])[Resource.TENSOR_BF16]
        != physical_roofs(NVIDIA_GPUS[other])[Resource.TENSOR_BF16]
    )


def test_roofs_at_a_held_clock_follow_the_clock() -> None:
    # 132 x 4096 x 1485e6 = 8.029e14; 132 x 256 x 1485e6 = 5.018e13
    roofs = held_clock_roofs(NVIDIA_GPUS["h200-sxm"], 1.485e9)
    assert roofs[Resource.TENSOR_BF16].per_s == pytest.approx(802.9e12, rel=1e-4)
    assert roofs[Resource.VECTOR_FP32].per_s == pytest.approx(50.18e12, rel=1e-4)
    assert roofs[Resource.TENSOR_BF16].source == "132 SMs x 4096 FLOP/clock/SM x 1485 MHz"
    assert all(unit.is_compute for unit in roofs)


def test_the_physical_line_is_the_highest_clock_and_the_pins() -> None:
    # 132 x 4096 x 1980e6 = 1.0705e15, 8 % over the datasheet; 5120 x 5.238e9 / 8 = 3.352e12
    roofs = physical_roofs(NVIDIA_GPUS["h100-sxm"])
    assert roofs[Resource.TENSOR_BF16].per_s == pytest.approx(1070.5e12, rel=1e-4)
    assert roofs[Resource.DRAM].per_s == pytest.approx(3.352e12, rel=1e-3)
    assert roofs[Resource.DRAM].source == "5120 bits x 5.238 Gbit/s per pin"


def test_the_physical_bandwidth_is_the_datasheets_where_that_is_larger_or_alone() -> None:
    assert physical_roofs(NVIDIA_GPUS["gb200"])[Resource.DRAM] == GPUS["gb200"].roofs[Resource.DRAM]
    assert physical_roofs(NVIDIA_GPUS["b200"])[Resource.DRAM] == GPUS["b200"].roofs[Resource.DRAM]  # 7.7 over 7.67
    no_memory = replace(NVIDIA_GPUS["gb200"], roofs={})
    assert Resource.DRAM not in physical_roofs(no_memory)


def doctored(sku: str, unit: Resource, factor: float) -> NvidiaGpu:
    gpu = NVIDIA_GPUS[sku]
    return replace(gpu, roofs={**gpu.roofs, unit: Ceiling(factor * gpu.roofs[unit].per_s, "doctored")})


@pytest.mark.parametrize("sku", [name for name, gpu in NVIDIA_GPUS.items() if Resource.TENSOR_BF16 in gpu.roofs])
def test_the_guards_notice_a_sparse_number(sku: str) -> None:
    sparse = doctored(sku, Resource.TENSOR_BF16, 2)
    assert any("tensor.bf16" in complaint for complaint in peak_complaints(sparse))
    assert sparse_complaints(sparse)


def test_the_guards_notice_a_gpu_that_is_sparse_throughout() -> None:
    gpu = NVIDIA_GPUS["h100-sxm"]
    sparse = replace(gpu, roofs={unit: Ceiling(2 * roof.per_s, "doctored") for unit, roof in gpu.roofs.items()})
    assert any("needs more than 1980 MHz" in complaint for complaint in sparse_complaints(sparse))


@pytest.mark.parametrize("factor", [1e-3, 0.9, 1.1, 1e3])
def test_the_guards_notice_a_wrong_bandwidth(factor: float) -> None:
    assert bandwidth_complaints(doctored("rtx-5090", Resource.DRAM, factor))


def test_the_guards_notice_a_binary_prefix() -> None:
    # 1979 * 2**40, as published once, but halved: 2**40 is 10 % over 1e12
    assert peak_complaints(doctored("h100-sxm", Resource.TENSOR_BF16, 2**40 / 1e12))


def test_the_guards_notice_a_copied_sku() -> None:
    copied = replace(NVIDIA_GPUS["h100-sxm"], name="b200", nvml_names=("NVIDIA B200",))
    assert copy_complaints([GPUS["h100-sxm"], copied]) == ["h100-sxm = b200"]


def test_the_guards_notice_numbers_pasted_into_another_sku() -> None:
    pasted = replace(NVIDIA_GPUS["l4"], roofs=GPUS["h100-sxm"].roofs)
    assert peak_complaints(pasted)
    assert bandwidth_complaints(pasted)
