"""The GPU table: one literal per SKU. Every number has a public source; a number without one is absent.

Tensor peaks are dense, with fp32 accumulation (GeForce cards run it at half rate). The tests check the table against
the architecture's rates: SMs x FLOP/clock/SM x boost clock must give the printed peak.
"""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import NamedTuple

from predict.errors import UnknownGpu
from predict.resources import Ceiling, Resource, Roofs, find_ceiling
from predict.units import MIB


class Architecture(NamedTuple):
    """Compute capability and rates of an SM."""

    sm: int  # compute capability x 10: 90 for 9.0
    # Dense FLOP (operations for int formats); a multiply-add counts 2. Vector rates: CUDA C++ programming guide, table
    # "throughput of native arithmetic instructions"; tensor rates: the whitepaper of each architecture.
    flop_per_clock_per_sm: Mapping[Resource, int]


class Memory(NamedTuple):
    """The memory of one SKU."""

    bytes: int  # as NVML reports the total
    bus_bits: int | None = None
    pin_bits_per_s: float | None = None  # per data pin


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One SKU. A number without a public source is None or has no key."""

    name: str  # the key everywhere: "h100-sxm"
    nvml_names: tuple[str, ...]  # exactly as NVML reports the product
    aliases: tuple[str, ...] = ()  # `--gpu` takes these too; a shared alias means the first SKU in the table
    architecture: Architecture
    sm_count: int
    boost_hz: float  # the clock behind the printed tensor peaks
    max_hz: float  # the highest SM clock that the driver offers
    memory: Memory
    l2_bytes: int | None = None
    link_bytes_per_s: float | None = None  # one direction; NVLink, or PCIe for GPUs without NVLink
    # Whether a switch between the GPUs reduces an all-reduce, as NVLink SHARP does. "Third-generation NVSwitch systems
    # (NVLink4) with Hopper and later" can (NCCL documentation, NCCL_NVLS_ENABLE); A100's switches, bridges and PCIe
    # cannot.
    link_reduces: bool | None = None
    # GPUs that `link_bytes_per_s` joins: a board with its switches, the domain of a rack's switches, a bridged pair, or
    # the cards of a server without NVLink. Beyond them a GPU sends at `network_bytes_per_s`. Sources: the datasheets of
    # DGX A100, H100, H200, B200, B300 and GB200, which give every GPU its own adapter, and those of the bridges.
    gpus_per_node: int | None = None
    network_bytes_per_s: float | None = None  # of one GPU to other nodes, one direction; PCIe beyond a bridge
    power_w: float | None = None
    roofs: Roofs
    # Reason why a printed roof is not SMs x FLOP/clock/SM x boost clock (fp64 and vectors: boost or highest clock).
    not_from_clock: Mapping[Resource, str] = field(default_factory=dict)
    source: str  # of every number above that has no source of its own

    @property
    def may_reduce_in_switch(self) -> bool:
        """Whether a bound must assume a switch that reduces: True unless `link_reduces` is False."""
        return self.link_reduces is not False


def printed(*figures: tuple[str, Mapping[Resource, float]]) -> Roofs:
    """The roofs that the sources print, in the order of `Resource`."""
    roofs = {unit: Ceiling(per_s, source) for source, rates in figures for unit, per_s in rates.items()}
    return {unit: roofs[unit] for unit in Resource if unit in roofs}


# Short names of `Resource` for the table. A bare format means the tensor cores.
FP64, TF32, BF16, FP16 = Resource.TENSOR_FP64, Resource.TENSOR_TF32, Resource.TENSOR_BF16, Resource.TENSOR_FP16
FP8, INT8, FP4, INT4 = Resource.TENSOR_FP8, Resource.TENSOR_INT8, Resource.TENSOR_FP4, Resource.TENSOR_INT4
VECTOR_FP64, VECTOR_FP32, DRAM = Resource.VECTOR_FP64, Resource.VECTOR_FP32, Resource.DRAM

# The last data center architecture that multiplies int4.
AMPERE = Architecture(
    80, {FP64: 128, TF32: 1024, BF16: 2048, FP16: 2048, INT8: 4096, INT4: 8192, VECTOR_FP64: 64, VECTOR_FP32: 128}
)
AMPERE_GA10X = Architecture(86, {TF32: 512, BF16: 1024, FP16: 1024, INT8: 2048, VECTOR_FP64: 4, VECTOR_FP32: 256})
ADA = Architecture(89, {**AMPERE_GA10X.flop_per_clock_per_sm, FP8: 2048})
# On GeForce, fp32 accumulation runs at half rate. int8 accumulates in int32 at full rate.
ADA_GEFORCE = Architecture(89, {**ADA.flop_per_clock_per_sm, TF32: 256, BF16: 512, FP16: 512, FP8: 1024})
HOPPER = Architecture(
    90, {FP64: 256, TF32: 2048, BF16: 4096, FP16: 4096, FP8: 8192, INT8: 8192, VECTOR_FP64: 128, VECTOR_FP32: 256}
)
_DATACENTER_BLACKWELL = {TF32: 4096, BF16: 8192, FP16: 8192, FP8: 16384, VECTOR_FP32: 256}
BLACKWELL = Architecture(100, {**_DATACENTER_BLACKWELL, FP64: 128, INT8: 16384, FP4: 32768, VECTOR_FP64: 128})
# Blackwell Ultra has 1.5 times the fp4 rate, but much lower int8 and fp64 rates.
BLACKWELL_ULTRA = Architecture(103, {**_DATACENTER_BLACKWELL, INT8: 512, FP4: 49152, VECTOR_FP64: 4})
BLACKWELL_RTX = Architecture(120, {**ADA.flop_per_clock_per_sm, FP4: 4096})
BLACKWELL_GEFORCE = Architecture(120, {**ADA_GEFORCE.flop_per_clock_per_sm, FP4: 4096})

HALVED = "the figure with sparsity halved"
A100_SHEET = "NVIDIA A100 datasheet"
HOPPER_PAPER = "NVIDIA H100 whitepaper, table of GPU specifications"
H100_SHEET = "NVIDIA H100 datasheet"
H100_DENSE = f"{H100_SHEET}, {HALVED}"
H200_SHEET = "NVIDIA H200 datasheet"
H200_DENSE = f"{H200_SHEET}, {HALVED}"
HGX_B200 = "NVIDIA HGX B200 specifications, an eighth"
HGX_B200_DENSE = f"{HGX_B200}, {HALVED}"
HGX_B300 = "NVIDIA HGX B300 specifications, an eighth"
B300_SHEET = "NVIDIA Blackwell Ultra datasheet via aiconfigurator b300_sxm.yaml"
NVL72 = "NVIDIA GB200 NVL72 specifications, a 72nd"
NVL72_DENSE = f"{NVL72}, {HALVED}"
L4_SHEET = "NVIDIA L4 datasheet"
L40S_SHEET = "NVIDIA L40S datasheet, the dense figure"
A10_SHEET = "NVIDIA A10 datasheet, the dense figure"
ADA_PAPER = "NVIDIA Ada whitepaper, dense, fp32 accumulation"
BLACKWELL_PAPER = "NVIDIA RTX Blackwell whitepaper, dense, fp32 accumulation"
PRO_PAPER = "NVIDIA RTX PRO Blackwell whitepaper, dense, fp32 accumulation"
AT_2430_MHZ = "aiconfigurator rtx_pro_6000_server.yaml: the architecture's rates at 2430 MHz"
# The vendor prints no fp64 peak. The guide's throughput table gives 2 fp64 multiply-adds per clock and SM.
FP64_GUIDE = "CUDA C++ programming guide: 4 fp64 FLOP/clock/SM, at the boost clock"

# The datasheet lists the same compute peaks for every A100; memory and power differ.
_A100 = Gpu(
    name="a100-sxm-80gb",
    nvml_names=("NVIDIA A100-SXM4-80GB",),
    aliases=("a100", "a100-80gb", "a100-sxm"),
    architecture=AMPERE,
    sm_count=108,
    boost_hz=1.41e9,
    max_hz=1.41e9,
    memory=Memory(81920 * MIB, 5120, 2 * 1.593e9),
    l2_bytes=40 * MIB,
    link_bytes_per_s=300e9,  # of the PCIe cards with the NVLink bridge
    link_reduces=False,
    gpus_per_node=8,  # HGX A100; beyond it DGX A100's ConnectX-6, 200 Gbit/s
    network_bytes_per_s=25e9,
    power_w=400,
    roofs=printed(
        (A100_SHEET, {FP64: 19.5e12, VECTOR_FP64: 9.7e12, VECTOR_FP32: 19.5e12, DRAM: 2.039e12}),
        (A100_SHEET, {TF32: 156e12, BF16: 312e12, FP16: 312e12, INT8: 624e12}),
        ("NVIDIA A100 whitepaper, table of GPU specifications", {INT4: 1248e12}),
    ),
    source="NVIDIA A100 whitepaper; NVML total and memory clock: public nvidia-smi output",
)
_RTX_PRO_6000 = Gpu(
    name="rtx-pro-6000-blackwell-workstation",
    nvml_names=("NVIDIA RTX PRO 6000 Blackwell Workstation Edition",),
    aliases=("rtx-pro-6000-blackwell", "rtx-pro-6000"),
    architecture=BLACKWELL_RTX,
    sm_count=188,
    boost_hz=2.617e9,
    max_hz=3.09e9,
    memory=Memory(97887 * MIB, 512, 2 * 14.001e9),
    l2_bytes=128 * MIB,
    link_bytes_per_s=64e9,
    link_reduces=False,
    gpus_per_node=8,  # PCIe cards of a server
    power_w=600,
    roofs=printed(
        (PRO_PAPER, {TF32: 251.9e12, BF16: 503.8e12, FP16: 503.8e12, FP8: 1007.6e12, INT8: 1007.6e12, FP4: 2015.2e12}),
        (PRO_PAPER, {VECTOR_FP32: 126e12, DRAM: 1.792e12}),
        (FP64_GUIDE, {VECTOR_FP64: 1.968e12}),
    ),
    source="NVIDIA RTX PRO Blackwell whitepaper; NVML total, highest clock: public nvidia-smi output",
)

_TABLE = (
    _A100,
    replace(
        _A100,
        name="a100-sxm-40gb",
        nvml_names=("NVIDIA A100-SXM4-40GB",),
        aliases=("a100", "a100-40gb", "a100-sxm"),
        memory=Memory(40960 * MIB, 5120, 2 * 1.215e9),
        roofs={**_A100.roofs, DRAM: Ceiling(1.555e12, A100_SHEET)},
        source="NVIDIA A100 whitepaper; NVML total: public nvidia-smi output",
    ),
    replace(
        _A100,
        name="a100-pcie-80gb",
        gpus_per_node=2,  # the bridge; beyond it PCIe 4.0
        network_bytes_per_s=32e9,
        nvml_names=("NVIDIA A100 80GB PCIe",),
        aliases=("a100", "a100-80gb", "a100-pcie"),
        memory=Memory(81920 * MIB, 5120, 2 * 1.512e9),
        power_w=300,
        roofs={**_A100.roofs, DRAM: Ceiling(1.935e12, A100_SHEET)},
        source="NVIDIA A100 80GB PCIe product brief; NVML total: public nvidia-smi output",
    ),
    replace(
        _A100,
        name="a100-pcie-40gb",
        gpus_per_node=2,  # the bridge; beyond it PCIe 4.0
        network_bytes_per_s=32e9,
        nvml_names=("NVIDIA A100-PCIE-40GB",),
        aliases=("a100", "a100-40gb", "a100-pcie"),
        memory=Memory(40960 * MIB, 5120, 2 * 1.215e9),
        power_w=250,
        roofs={**_A100.roofs, DRAM: Ceiling(1.555e12, A100_SHEET)},
        source="NVIDIA A100 PCIe product brief; NVML total: public nvidia-smi output",
    ),
    # Hopper
    Gpu(
        name="h100-sxm",
        nvml_names=("NVIDIA H100 80GB HBM3",),
        aliases=("h100",),
        architecture=HOPPER,
        sm_count=132,
        boost_hz=1.83e9,
        max_hz=1.98e9,
        memory=Memory(81559 * MIB, 5120, 2 * 2.619e9),
        l2_bytes=50 * MIB,
        link_bytes_per_s=450e9,
        link_reduces=True,
        gpus_per_node=8,  # HGX H100; beyond it DGX H100's ConnectX-7, 400 Gbit/s
        network_bytes_per_s=50e9,
        power_w=700,
        roofs=printed(
            (HOPPER_PAPER, {FP64: 66.9e12, VECTOR_FP64: 33.5e12, VECTOR_FP32: 66.9e12}),
            (HOPPER_PAPER, {TF32: 494.7e12, BF16: 989.4e12, FP16: 989.4e12, FP8: 1978.9e12, INT8: 1978.9e12}),
            (H100_SHEET, {DRAM: 3.35e12}),
        ),
        source="NVIDIA H100 whitepaper; NVML total, highest clocks: public nvidia-smi output",
    ),
    Gpu(
        name="h100-pcie",
        nvml_names=("NVIDIA H100 PCIe",),
        aliases=("h100",),
        architecture=HOPPER,
        sm_count=114,
        boost_hz=1.62e9,
        max_hz=1.755e9,
        memory=Memory(81559 * MIB, 5120, 2 * 1.593e9),
        l2_bytes=50 * MIB,
        link_bytes_per_s=300e9,  # with the NVLink bridge
        link_reduces=False,
        gpus_per_node=2,  # the bridge; beyond it PCIe 5.0
        network_bytes_per_s=64e9,
        power_w=350,
        roofs=printed(
            # DRAM: the datasheet rounds to 2 TB/s, and a read kernel has measured 1 % more than that.
            (HOPPER_PAPER, {FP64: 51.2e12, VECTOR_FP64: 25.6e12, VECTOR_FP32: 51.2e12, DRAM: 2.039e12}),
            (HOPPER_PAPER, {TF32: 378e12, BF16: 756e12, FP16: 756e12, FP8: 1513e12, INT8: 1513e12}),
        ),
        source="NVIDIA H100 whitepaper, H100 PCIe product brief PB-11133; NVML total: public nvidia-smi output",
    ),
    Gpu(
        name="h100-nvl",
        nvml_names=("NVIDIA H100 NVL",),
        aliases=("h100",),
        architecture=HOPPER,
        sm_count=132,
        boost_hz=1.545e9,  # not published; derived from 835.5 TFLOP/s
        max_hz=1.785e9,
        memory=Memory(95830 * MIB, 6016, 2 * 2.619e9),
        link_bytes_per_s=300e9,  # with the NVLink bridge
        link_reduces=False,
        gpus_per_node=2,  # the bridge; beyond it PCIe 5.0
        network_bytes_per_s=64e9,
        power_w=400,
        roofs=printed(
            (H100_SHEET, {FP64: 60e12, VECTOR_FP64: 30e12, VECTOR_FP32: 60e12, DRAM: 3.9e12}),
            (H100_DENSE, {TF32: 417.5e12, BF16: 835.5e12, FP16: 835.5e12, FP8: 1670.5e12, INT8: 1670.5e12}),
        ),
        source="NVIDIA H100 datasheet, H100 NVL product brief; NVML total: public nvidia-smi output",
    ),
    Gpu(
        name="h200-sxm",
        nvml_names=("NVIDIA H200",),
        aliases=("h200",),
        architecture=HOPPER,
        sm_count=132,
        boost_hz=1.83e9,
        max_hz=1.98e9,
        memory=Memory(143771 * MIB, 6016, 2 * 3.201e9),  # 94 of 96 64-bit channels: 141 of 144 GB
        l2_bytes=60 * MIB,
        link_bytes_per_s=450e9,
        link_reduces=True,
        gpus_per_node=8,  # HGX H200; beyond it DGX H200's ConnectX-7, 400 Gbit/s
        network_bytes_per_s=50e9,
        power_w=700,
        roofs=printed(
            (H200_SHEET, {FP64: 67e12, VECTOR_FP64: 34e12, VECTOR_FP32: 67e12, DRAM: 4.8e12}),
            (H200_DENSE, {TF32: 494.5e12, BF16: 989.5e12, FP16: 989.5e12, FP8: 1979e12, INT8: 1979e12}),
        ),
        source="NVIDIA H200 datasheet; clocks, NVML total, L2 and bus width: public driver attributes",
    ),
    Gpu(
        name="h200-nvl",
        nvml_names=("NVIDIA H200 NVL",),
        aliases=("h200",),
        architecture=HOPPER,
        sm_count=132,
        boost_hz=1.545e9,  # not published; derived from 835.5 TFLOP/s
        max_hz=1.785e9,
        memory=Memory(143771 * MIB, 6016, 2 * 3.201e9),
        link_bytes_per_s=450e9,  # with the NVLink bridge
        link_reduces=False,
        gpus_per_node=4,  # the widest bridge; beyond it PCIe 5.0
        network_bytes_per_s=64e9,
        power_w=600,
        roofs=printed(
            (H200_SHEET, {FP64: 60e12, VECTOR_FP64: 30e12, VECTOR_FP32: 60e12, DRAM: 4.8e12}),
            (H200_DENSE, {TF32: 417.5e12, BF16: 835.5e12, FP16: 835.5e12, FP8: 1670.5e12, INT8: 1670.5e12}),
        ),
        source="NVIDIA H200 datasheet, H200 NVL product brief; NVML total, highest clock: public nvidia-smi output",
    ),
    # Blackwell
    Gpu(
        name="b200",
        nvml_names=("NVIDIA B200",),
        architecture=BLACKWELL,
        sm_count=148,
        boost_hz=1.855e9,  # not published; derived from 2.25 PFLOP/s
        max_hz=1.965e9,
        memory=Memory(183359 * MIB, 7680, 2 * 3.996e9),
        l2_bytes=253 * MIB // 2,
        link_bytes_per_s=900e9,
        link_reduces=True,
        gpus_per_node=8,  # HGX B200; beyond it DGX B200's ConnectX-7, 400 Gbit/s
        network_bytes_per_s=50e9,
        power_w=1000,
        roofs=printed(
            (HGX_B200, {FP64: 37e12, VECTOR_FP64: 37e12, VECTOR_FP32: 75e12}),
            (HGX_B200_DENSE, {TF32: 1125e12, BF16: 2250e12, FP16: 2250e12, FP8: 4500e12, INT8: 4500e12, FP4: 9000e12}),
            # Not the DGX datasheet's 8 TB/s: 180 GB cards enable 7680 of 8192 bits, which gives 7.67 TB/s.
            ("NVIDIA Blackwell datasheet via aiconfigurator b200_sxm.yaml", {DRAM: 7.7e12}),
        ),
        source="CUDA driver attributes via pytorch/ao PR 4002; NVML total, highest clock: public nvidia-smi output",
    ),
    Gpu(
        name="b300",
        nvml_names=("NVIDIA B300 SXM6 AC",),
        architecture=BLACKWELL_ULTRA,
        sm_count=148,
        boost_hz=1.855e9,  # not published; derived from 2.25 PFLOP/s
        max_hz=2.032e9,
        memory=Memory(275040 * MIB, 7680, 2 * 3.996e9),
        l2_bytes=126 * MIB,
        link_bytes_per_s=900e9,
        link_reduces=True,
        gpus_per_node=8,  # HGX B300; beyond it DGX B300's ConnectX-8, 800 Gbit/s
        network_bytes_per_s=100e9,
        power_w=1100,
        roofs=printed(
            (f"{HGX_B300}, {HALVED}", {TF32: 1125e12, BF16: 2250e12, FP16: 2250e12, FP8: 4500e12}),
            (B300_SHEET, {INT8: 153.5e12, DRAM: 7.75e12}),
            (HGX_B300, {FP4: 13.5e15, VECTOR_FP64: 1.25e12, VECTOR_FP32: 75e12}),  # fp4 dense: 108 PFLOP/s for eight
        ),
        source="public CUDA driver attributes and nvidia-smi output; power: aiconfigurator b300_sxm.yaml",
        not_from_clock={
            INT8: "printed at the highest clock",
            VECTOR_FP64: "printed for a board of eight, rounded to one figure",
            VECTOR_FP32: "printed for a board of eight, rounded to one figure",
        },
    ),
    Gpu(
        name="gb200",
        nvml_names=("NVIDIA GB200",),
        architecture=BLACKWELL,
        sm_count=152,
        boost_hz=2.008e9,  # not published; derived from 2.5 PFLOP/s
        max_hz=2.062e9,
        # Drivers have reported 7936 and 8064 bits of bus.
        memory=Memory(189471 * MIB),
        l2_bytes=126 * MIB,
        link_bytes_per_s=900e9,
        link_reduces=True,
        gpus_per_node=72,  # NVL72; beyond it DGX GB200's ConnectX-7, 400 Gbit/s
        network_bytes_per_s=50e9,
        power_w=1200,
        roofs=printed(
            (NVL72, {FP64: 40e12, VECTOR_FP64: 40e12, VECTOR_FP32: 80e12, DRAM: 8.0e12}),
            (NVL72_DENSE, {TF32: 1250e12, BF16: 2500e12, FP16: 2500e12, FP8: 5000e12, INT8: 5000e12, FP4: 10e15}),
        ),
        source="public driver attributes and nvidia-smi output; L2, highest clock: stas00/ml-engineering",
    ),
    # Graphics cards
    Gpu(
        name="l4",
        nvml_names=("NVIDIA L4",),
        architecture=ADA,
        sm_count=58,
        boost_hz=2.04e9,
        max_hz=2.04e9,
        memory=Memory(23034 * MIB, 192, 2 * 6.251e9),
        l2_bytes=48 * MIB,
        link_bytes_per_s=32e9,
        link_reduces=False,
        gpus_per_node=8,  # PCIe cards of a server
        power_w=72,
        roofs=printed(
            (f"{L4_SHEET}, {HALVED}", {TF32: 60e12, BF16: 121e12, FP16: 121e12, FP8: 242.5e12, INT8: 242.5e12}),
            (FP64_GUIDE, {VECTOR_FP64: 0.473e12}),
            (L4_SHEET, {VECTOR_FP32: 30.3e12, DRAM: 300e9}),
        ),
        source="NVIDIA L4 product brief; NVML total, highest clock: public nvidia-smi output",
    ),
    Gpu(
        name="l40s",
        nvml_names=("NVIDIA L40S",),
        architecture=ADA,
        sm_count=142,
        boost_hz=2.52e9,
        max_hz=2.52e9,
        memory=Memory(46068 * MIB, 384, 2 * 9.001e9),
        l2_bytes=96 * MIB,
        link_bytes_per_s=32e9,
        link_reduces=False,
        gpus_per_node=8,  # PCIe cards of a server
        power_w=350,
        roofs=printed(
            (L40S_SHEET, {TF32: 183e12, BF16: 362.05e12, FP16: 362.05e12, FP8: 733e12, INT8: 733e12}),
            (L40S_SHEET, {VECTOR_FP32: 91.6e12, DRAM: 864e9}),
            (FP64_GUIDE, {VECTOR_FP64: 1.431e12}),
        ),
        source="NVIDIA L40S product brief; NVML total, highest clocks: public nvidia-smi output",
    ),
    Gpu(
        name="a10",
        nvml_names=("NVIDIA A10",),
        architecture=AMPERE_GA10X,
        sm_count=72,
        boost_hz=1.695e9,
        max_hz=1.695e9,
        memory=Memory(23028 * MIB, 384, 2 * 6.251e9),
        l2_bytes=6 * MIB,
        link_bytes_per_s=32e9,
        link_reduces=False,
        gpus_per_node=8,  # PCIe cards of a server
        power_w=150,
        roofs=printed(
            (A10_SHEET, {TF32: 62.5e12, BF16: 125e12, FP16: 125e12, INT8: 250e12, VECTOR_FP32: 31.2e12, DRAM: 600e9}),
            (FP64_GUIDE, {VECTOR_FP64: 0.488e12}),
        ),
        source="NVIDIA A10 product brief; NVML total: public nvidia-smi output",
    ),
    Gpu(
        name="rtx-4090",
        nvml_names=("NVIDIA GeForce RTX 4090",),
        aliases=("4090",),
        architecture=ADA_GEFORCE,
        sm_count=128,
        boost_hz=2.52e9,
        max_hz=3.105e9,  # of the reference card; overclocked boards offer up to 2 % more
        memory=Memory(24564 * MIB, 384, 2 * 10.501e9),
        l2_bytes=72 * MIB,
        link_bytes_per_s=32e9,
        link_reduces=False,
        gpus_per_node=8,  # PCIe cards of a server
        power_w=450,
        roofs=printed(
            (ADA_PAPER, {TF32: 82.6e12, BF16: 165.2e12, FP16: 165.2e12, FP8: 330.3e12, INT8: 660.6e12}),
            (ADA_PAPER, {VECTOR_FP32: 82.6e12, DRAM: 1.008e12}),
            (FP64_GUIDE, {VECTOR_FP64: 1.29e12}),
        ),
        source="NVIDIA Ada whitepaper; NVML total, highest clocks: public nvidia-smi output",
    ),
    Gpu(
        name="rtx-5090",
        nvml_names=("NVIDIA GeForce RTX 5090",),
        aliases=("5090",),
        architecture=BLACKWELL_GEFORCE,
        sm_count=170,
        boost_hz=2.407e9,
        max_hz=3.09e9,  # of the reference card; overclocked boards offer up to 2 % more
        memory=Memory(32607 * MIB, 512, 2 * 14.001e9),
        l2_bytes=96 * MIB,
        link_bytes_per_s=64e9,
        link_reduces=False,
        gpus_per_node=8,  # PCIe cards of a server
        power_w=575,
        roofs=printed(
            (
                BLACKWELL_PAPER,
                {TF32: 104.8e12, BF16: 209.5e12, FP16: 209.5e12, FP8: 419e12, INT8: 838e12, FP4: 1676e12},
            ),
            (BLACKWELL_PAPER, {VECTOR_FP32: 104.8e12, DRAM: 1.792e12}),
            (FP64_GUIDE, {VECTOR_FP64: 1.637e12}),
        ),
        source="NVIDIA RTX Blackwell whitepaper; NVML total, highest clocks: public nvidia-smi output",
    ),
    _RTX_PRO_6000,
    # The server edition has lower clocks and slower memory than the workstation edition.
    replace(
        _RTX_PRO_6000,
        name="rtx-pro-6000-blackwell-server",
        nvml_names=("NVIDIA RTX PRO 6000 Blackwell Server Edition",),
        boost_hz=2.43e9,
        max_hz=2.43e9,
        memory=Memory(97887 * MIB, 512, 2 * 12.481e9),
        roofs=printed(
            (AT_2430_MHZ, {BF16: 467.8e12, FP16: 467.8e12, FP8: 935.6e12, INT8: 935.6e12, FP4: 1871.2e12}),
            (FP64_GUIDE, {VECTOR_FP64: 1.827e12}),
            # The datasheet says 120 TFLOP/s, but the driver does not offer the clock that this needs.
            ("public CUDA driver attributes: 188 SMs at 2430 MHz", {VECTOR_FP32: 117e12}),
            ("NVIDIA RTX PRO 6000 Blackwell Server Edition datasheet", {DRAM: 1.597e12}),
        ),
        source="public CUDA driver attributes and nvidia-smi output; power: the datasheet",
    ),
)

GPUS: Mapping[str, Gpu] = MappingProxyType({gpu.name: gpu for gpu in _TABLE})
_BY_NVML_NAME = MappingProxyType({name: gpu for gpu in _TABLE for name in gpu.nvml_names})


def resolve(name: str) -> Gpu:
    """Return the GPU with this name or alias. `a100` means the 80 GB SXM part, `h100` and `h200` the SXM parts.

    Raises UnknownGpu listing the known names.
    """
    return resolve_all(name)[0]


def resolve_all(name: str) -> tuple[Gpu, ...]:
    """Return every SKU with this name or alias, the default first: `resolve_all("h100")` includes the H100 PCIe.

    Case does not matter; '_' and ' ' count as '-'. Raises UnknownGpu listing the known names.
    """
    key = name.strip().lower().replace("_", "-").replace(" ", "-")
    if key in GPUS:
        return (GPUS[key],)
    covered = tuple(gpu for gpu in GPUS.values() if key in gpu.aliases)
    if not covered:
        aliases = dict.fromkeys(alias for gpu in GPUS.values() for alias in gpu.aliases)
        raise UnknownGpu(_unknown(name, key, (*GPUS, *aliases)))
    return covered


def find_gpu(nvml_name: str) -> Gpu:
    """Return the GPU that NVML calls exactly `nvml_name`; raises UnknownGpu listing the known product names."""
    try:
        return _BY_NVML_NAME[nvml_name]
    except KeyError:
        raise UnknownGpu(_unknown(nvml_name, nvml_name, _BY_NVML_NAME)) from None


def held_clock_roofs(gpu: Gpu, sm_hz: float) -> Roofs:
    """The compute roofs of `gpu` at an SM clock of `sm_hz`."""
    return {
        unit: Ceiling(gpu.sm_count * flop * sm_hz, f"{gpu.sm_count} SMs x {flop} FLOP/clock/SM x {sm_hz / 1e6:.0f} MHz")
        for unit, flop in gpu.architecture.flop_per_clock_per_sm.items()
    }


def physical_roofs(gpu: Gpu) -> Roofs:
    """Roofs that no kernel exceeds: compute at the highest SM clock; DRAM at the larger of pin rate and datasheet."""
    roofs = dict(held_clock_roofs(gpu, gpu.max_hz))
    dram = gpu.roofs.get(Resource.DRAM)
    _, bits, rate = gpu.memory
    if bits is not None and rate is not None:
        pins = Ceiling(bits * rate / 8, f"{bits} bits x {rate / 1e9:.4g} Gbit/s per pin")
        dram = pins if dram is None else max(dram, pins, key=lambda ceiling: ceiling.per_s)
    if dram is not None:
        roofs[Resource.DRAM] = dram
    return roofs


def ridge_flop_per_byte(roofs: Roofs, resource: Resource) -> float:
    """The arithmetic intensity above which `resource`, not DRAM, is the limit. Raises MissingCeiling."""
    return find_ceiling(resource, roofs).per_s / find_ceiling(Resource.DRAM, roofs).per_s


def _unknown(name: str, key: str, known: Iterable[str]) -> str:
    names = tuple(known)
    close = difflib.get_close_matches(key, names, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    return f"unknown GPU {name!r}; {hint}known: {', '.join(names)}"
