"""The GPU table: one literal per SKU, dense peaks, a public source beside every number.

A number without a public source is absent. Tensor peaks are dense and count fp32 accumulation (GeForce cards halve
it). `flop_per_clock_per_sm` is what guards the table: SMs x FLOP/clock/SM x boost clock must give the printed peak.
"""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from predict.errors import UnknownGpu
from predict.resources import Ceiling, Resource, Roofs, find_ceiling
from predict.units import MIB


@dataclass(frozen=True, slots=True)
class Gpu:
    """One SKU. `None` where no public source gives the number."""

    name: str  # the key everywhere: "h100-sxm"
    nvml_names: tuple[str, ...]  # exactly as NVML reports the product
    aliases: tuple[str, ...]  # what `--gpu` takes besides the name; SKUs may share one, the first in the table is meant
    sm: int  # compute capability x 10: 90 for 9.0
    sm_count: int
    boost_hz: float  # the clock behind the printed tensor peaks
    max_hz: float  # the highest SM clock that the driver offers
    flop_per_clock_per_sm: Mapping[Resource, int]
    memory_bytes: int  # as NVML reports the total
    memory_bus_bits: int | None
    memory_pin_bits_per_s: float | None  # per data pin
    l2_bytes: int | None
    link_bytes_per_s: float | None  # NVLink, or PCIe where there is none, one direction
    power_w: float
    roofs: Roofs
    source: str  # for every number above that has no source of its own
    # Why a printed roof is not SMs x FLOP/clock/SM x the boost clock (fp64 and vectors: that or the highest clock).
    not_from_clock: Mapping[Resource, str] = field(default_factory=dict)


# Dense FLOP (operations for int8) per clock and SM, a multiply-add being 2. Vector rates: CUDA C++ programming guide,
# table "throughput of native arithmetic instructions"; tensor rates: the whitepaper of each architecture.
AMPERE: Mapping[Resource, int] = MappingProxyType(
    {
        Resource.TENSOR_FP64: 128,
        Resource.TENSOR_TF32: 1024,
        Resource.TENSOR_BF16: 2048,
        Resource.TENSOR_FP16: 2048,
        Resource.TENSOR_INT8: 4096,
        Resource.TENSOR_INT4: 8192,  # the last architecture of the datacenter line that multiplies int4
        Resource.VECTOR_FP64: 64,
        Resource.VECTOR_FP32: 128,
    }
)
AMPERE_GA10X: Mapping[Resource, int] = MappingProxyType(
    {
        Resource.TENSOR_TF32: 512,
        Resource.TENSOR_BF16: 1024,
        Resource.TENSOR_FP16: 1024,
        Resource.TENSOR_INT8: 2048,
        Resource.VECTOR_FP64: 4,
        Resource.VECTOR_FP32: 256,
    }
)
ADA: Mapping[Resource, int] = MappingProxyType({**AMPERE_GA10X, Resource.TENSOR_FP8: 2048})
ADA_GEFORCE: Mapping[Resource, int] = MappingProxyType(
    {
        **ADA,
        # fp32 accumulation runs at half rate on GeForce; int8 accumulates in int32 and does not.
        Resource.TENSOR_TF32: 256,
        Resource.TENSOR_BF16: 512,
        Resource.TENSOR_FP16: 512,
        Resource.TENSOR_FP8: 1024,
    }
)
HOPPER: Mapping[Resource, int] = MappingProxyType(
    {
        Resource.TENSOR_FP64: 256,
        Resource.TENSOR_TF32: 2048,
        Resource.TENSOR_BF16: 4096,
        Resource.TENSOR_FP16: 4096,
        Resource.TENSOR_FP8: 8192,
        Resource.TENSOR_INT8: 8192,
        Resource.VECTOR_FP64: 128,
        Resource.VECTOR_FP32: 256,
    }
)
BLACKWELL: Mapping[Resource, int] = MappingProxyType(
    {
        Resource.TENSOR_FP64: 128,
        Resource.TENSOR_TF32: 4096,
        Resource.TENSOR_BF16: 8192,
        Resource.TENSOR_FP16: 8192,
        Resource.TENSOR_FP8: 16384,
        Resource.TENSOR_INT8: 16384,
        Resource.TENSOR_FP4: 32768,
        Resource.VECTOR_FP64: 128,
        Resource.VECTOR_FP32: 256,
    }
)
# Blackwell Ultra trades int8 and fp64 for 1.5 times the fp4.
BLACKWELL_ULTRA: Mapping[Resource, int] = MappingProxyType(
    {
        Resource.TENSOR_TF32: 4096,
        Resource.TENSOR_BF16: 8192,
        Resource.TENSOR_FP16: 8192,
        Resource.TENSOR_FP8: 16384,
        Resource.TENSOR_INT8: 512,
        Resource.TENSOR_FP4: 49152,
        Resource.VECTOR_FP64: 4,
        Resource.VECTOR_FP32: 256,
    }
)
BLACKWELL_RTX: Mapping[Resource, int] = MappingProxyType({**ADA, Resource.TENSOR_FP4: 4096})
BLACKWELL_GEFORCE: Mapping[Resource, int] = MappingProxyType({**ADA_GEFORCE, Resource.TENSOR_FP4: 4096})

A100_WHITEPAPER = "NVIDIA A100 whitepaper, table of GPU specifications"
A100_DATASHEET = "NVIDIA A100 datasheet"
HOPPER_WHITEPAPER = "NVIDIA H100 whitepaper, table of GPU specifications"
H100_DATASHEET = "NVIDIA H100 datasheet"
H100_DATASHEET_DENSE = "NVIDIA H100 datasheet, the figure with sparsity halved"
H200_DATASHEET = "NVIDIA H200 datasheet"
H200_DATASHEET_DENSE = "NVIDIA H200 datasheet, the figure with sparsity halved"
HGX_B200 = "NVIDIA HGX B200 specifications, an eighth"
HGX_B200_DENSE = "NVIDIA HGX B200 specifications, an eighth, the figure with sparsity halved"
HGX_B300 = "NVIDIA HGX B300 specifications, an eighth"
HGX_B300_DENSE = "NVIDIA HGX B300 specifications, an eighth, the figure with sparsity halved"
GB200_NVL72 = "NVIDIA GB200 NVL72 specifications, a 72nd"
GB200_NVL72_DENSE = "NVIDIA GB200 NVL72 specifications, a 72nd, the figure with sparsity halved"
L4_DATASHEET = "NVIDIA L4 datasheet"
L4_DATASHEET_DENSE = "NVIDIA L4 datasheet, the figure with sparsity halved"
L40S_DATASHEET = "NVIDIA L40S datasheet, the dense figure"
A10_DATASHEET = "NVIDIA A10 datasheet, the dense figure"
ADA_WHITEPAPER = "NVIDIA Ada whitepaper, dense, fp32 accumulation"
BLACKWELL_RTX_WHITEPAPER = "NVIDIA RTX Blackwell whitepaper, dense, fp32 accumulation"
BLACKWELL_PRO_WHITEPAPER = "NVIDIA RTX PRO Blackwell whitepaper, dense, fp32 accumulation"
RTX_PRO_SERVER_AT_2430 = "aiconfigurator rtx_pro_6000_server.yaml: the architecture's rates at 2430 MHz"
# The vendor prints nothing; the guide's throughput table says 2 fp64 multiply-adds per clock and SM.
FP64_GUIDE = "CUDA C++ programming guide: 4 fp64 FLOP/clock/SM, at the boost clock"

_TABLE = (
    Gpu(
        name="a100-sxm-80gb",
        nvml_names=("NVIDIA A100-SXM4-80GB",),
        aliases=("a100", "a100-80gb", "a100-sxm"),
        sm=80,
        sm_count=108,
        boost_hz=1.41e9,
        max_hz=1.41e9,
        flop_per_clock_per_sm=AMPERE,
        memory_bytes=81920 * MIB,
        memory_bus_bits=5120,
        memory_pin_bits_per_s=2 * 1.593e9,
        l2_bytes=40 * MIB,
        link_bytes_per_s=300e9,
        power_w=400,
        roofs={
            Resource.TENSOR_FP64: Ceiling(19.5e12, A100_DATASHEET),
            Resource.TENSOR_TF32: Ceiling(156e12, A100_DATASHEET),
            Resource.TENSOR_BF16: Ceiling(312e12, A100_DATASHEET),
            Resource.TENSOR_FP16: Ceiling(312e12, A100_DATASHEET),
            Resource.TENSOR_INT8: Ceiling(624e12, A100_DATASHEET),
            Resource.TENSOR_INT4: Ceiling(1248e12, A100_WHITEPAPER),
            Resource.VECTOR_FP64: Ceiling(9.7e12, A100_DATASHEET),
            Resource.VECTOR_FP32: Ceiling(19.5e12, A100_DATASHEET),
            Resource.DRAM: Ceiling(2.039e12, A100_DATASHEET),
        },
        source="NVIDIA A100 whitepaper; NVML total and memory clock: public nvidia-smi output",
    ),
    Gpu(
        name="a100-sxm-40gb",
        nvml_names=("NVIDIA A100-SXM4-40GB",),
        aliases=("a100", "a100-40gb", "a100-sxm"),
        sm=80,
        sm_count=108,
        boost_hz=1.41e9,
        max_hz=1.41e9,
        flop_per_clock_per_sm=AMPERE,
        memory_bytes=40960 * MIB,
        memory_bus_bits=5120,
        memory_pin_bits_per_s=2 * 1.215e9,
        l2_bytes=40 * MIB,
        link_bytes_per_s=300e9,
        power_w=400,
        roofs={
            Resource.TENSOR_FP64: Ceiling(19.5e12, A100_DATASHEET),
            Resource.TENSOR_TF32: Ceiling(156e12, A100_DATASHEET),
            Resource.TENSOR_BF16: Ceiling(312e12, A100_DATASHEET),
            Resource.TENSOR_FP16: Ceiling(312e12, A100_DATASHEET),
            Resource.TENSOR_INT8: Ceiling(624e12, A100_DATASHEET),
            Resource.TENSOR_INT4: Ceiling(1248e12, A100_WHITEPAPER),
            Resource.VECTOR_FP64: Ceiling(9.7e12, A100_DATASHEET),
            Resource.VECTOR_FP32: Ceiling(19.5e12, A100_DATASHEET),
            Resource.DRAM: Ceiling(1.555e12, A100_DATASHEET),
        },
        source="NVIDIA A100 whitepaper; NVML total: public nvidia-smi output",
    ),
    Gpu(
        name="a100-pcie-80gb",
        nvml_names=("NVIDIA A100 80GB PCIe",),
        aliases=("a100", "a100-80gb", "a100-pcie"),
        sm=80,
        sm_count=108,
        boost_hz=1.41e9,
        max_hz=1.41e9,
        flop_per_clock_per_sm=AMPERE,
        memory_bytes=81920 * MIB,
        memory_bus_bits=5120,
        memory_pin_bits_per_s=2 * 1.512e9,
        l2_bytes=40 * MIB,
        link_bytes_per_s=300e9,  # with the NVLink bridge
        power_w=300,
        roofs={
            Resource.TENSOR_FP64: Ceiling(19.5e12, A100_DATASHEET),
            Resource.TENSOR_TF32: Ceiling(156e12, A100_DATASHEET),
            Resource.TENSOR_BF16: Ceiling(312e12, A100_DATASHEET),
            Resource.TENSOR_FP16: Ceiling(312e12, A100_DATASHEET),
            Resource.TENSOR_INT8: Ceiling(624e12, A100_DATASHEET),
            Resource.TENSOR_INT4: Ceiling(1248e12, A100_WHITEPAPER),
            Resource.VECTOR_FP64: Ceiling(9.7e12, A100_DATASHEET),
            Resource.VECTOR_FP32: Ceiling(19.5e12, A100_DATASHEET),
            Resource.DRAM: Ceiling(1.935e12, A100_DATASHEET),
        },
        source="NVIDIA A100 80GB PCIe product brief; NVML total: public nvidia-smi output",
    ),
    Gpu(
        name="a100-pcie-40gb",
        nvml_names=("NVIDIA A100-PCIE-40GB",),
        aliases=("a100", "a100-40gb", "a100-pcie"),
        sm=80,
        sm_count=108,
        boost_hz=1.41e9,
        max_hz=1.41e9,
        flop_per_clock_per_sm=AMPERE,
        memory_bytes=40960 * MIB,
        memory_bus_bits=5120,
        memory_pin_bits_per_s=2 * 1.215e9,
        l2_bytes=40 * MIB,
        link_bytes_per_s=300e9,  # with the NVLink bridge
        power_w=250,
        roofs={
            Resource.TENSOR_FP64: Ceiling(19.5e12, A100_DATASHEET),
            Resource.TENSOR_TF32: Ceiling(156e12, A100_DATASHEET),
            Resource.TENSOR_BF16: Ceiling(312e12, A100_DATASHEET),
            Resource.TENSOR_FP16: Ceiling(312e12, A100_DATASHEET),
            Resource.TENSOR_INT8: Ceiling(624e12, A100_DATASHEET),
            Resource.TENSOR_INT4: Ceiling(1248e12, A100_WHITEPAPER),
            Resource.VECTOR_FP64: Ceiling(9.7e12, A100_DATASHEET),
            Resource.VECTOR_FP32: Ceiling(19.5e12, A100_DATASHEET),
            Resource.DRAM: Ceiling(1.555e12, A100_DATASHEET),
        },
        source="NVIDIA A100 PCIe product brief; NVML total: public nvidia-smi output",
    ),
    Gpu(
        name="h100-sxm",
        nvml_names=("NVIDIA H100 80GB HBM3",),
        aliases=("h100",),
        sm=90,
        sm_count=132,
        boost_hz=1.83e9,  # of the 8- to 32-bit tensor operations; the vector units and fp64 are printed at 1980 MHz
        max_hz=1.98e9,
        flop_per_clock_per_sm=HOPPER,
        memory_bytes=81559 * MIB,
        memory_bus_bits=5120,
        memory_pin_bits_per_s=2 * 2.619e9,
        l2_bytes=50 * MIB,
        link_bytes_per_s=450e9,
        power_w=700,
        roofs={
            Resource.TENSOR_FP64: Ceiling(66.9e12, HOPPER_WHITEPAPER),
            Resource.TENSOR_TF32: Ceiling(494.7e12, HOPPER_WHITEPAPER),
            Resource.TENSOR_BF16: Ceiling(989.4e12, HOPPER_WHITEPAPER),
            Resource.TENSOR_FP16: Ceiling(989.4e12, HOPPER_WHITEPAPER),
            Resource.TENSOR_FP8: Ceiling(1978.9e12, HOPPER_WHITEPAPER),
            Resource.TENSOR_INT8: Ceiling(1978.9e12, HOPPER_WHITEPAPER),
            Resource.VECTOR_FP64: Ceiling(33.5e12, HOPPER_WHITEPAPER),
            Resource.VECTOR_FP32: Ceiling(66.9e12, HOPPER_WHITEPAPER),
            Resource.DRAM: Ceiling(3.35e12, H100_DATASHEET),
        },
        source="NVIDIA H100 whitepaper; NVML total, highest clocks: public nvidia-smi output",
    ),
    Gpu(
        name="h100-pcie",
        nvml_names=("NVIDIA H100 PCIe",),
        aliases=("h100",),
        sm=90,
        sm_count=114,
        boost_hz=1.62e9,  # of the 8- to 32-bit tensor operations; the vector units and fp64 are printed at 1755 MHz
        max_hz=1.755e9,
        flop_per_clock_per_sm=HOPPER,
        memory_bytes=81559 * MIB,
        memory_bus_bits=5120,
        memory_pin_bits_per_s=2 * 1.593e9,
        l2_bytes=50 * MIB,
        link_bytes_per_s=300e9,  # with the NVLink bridge
        power_w=350,
        roofs={
            Resource.TENSOR_FP64: Ceiling(51.2e12, HOPPER_WHITEPAPER),
            Resource.TENSOR_TF32: Ceiling(378e12, HOPPER_WHITEPAPER),
            Resource.TENSOR_BF16: Ceiling(756e12, HOPPER_WHITEPAPER),
            Resource.TENSOR_FP16: Ceiling(756e12, HOPPER_WHITEPAPER),
            Resource.TENSOR_FP8: Ceiling(1513e12, HOPPER_WHITEPAPER),
            Resource.TENSOR_INT8: Ceiling(1513e12, HOPPER_WHITEPAPER),
            Resource.VECTOR_FP64: Ceiling(25.6e12, HOPPER_WHITEPAPER),
            Resource.VECTOR_FP32: Ceiling(51.2e12, HOPPER_WHITEPAPER),
            # The datasheet rounds to 2 TB/s, which a read kernel has been seen to beat by 1 %.
            Resource.DRAM: Ceiling(2.039e12, HOPPER_WHITEPAPER),
        },
        source="NVIDIA H100 whitepaper, H100 PCIe product brief PB-11133; NVML total: public nvidia-smi output",
    ),
    Gpu(
        name="h100-nvl",
        nvml_names=("NVIDIA H100 NVL",),
        aliases=("h100",),
        sm=90,
        sm_count=132,
        boost_hz=1.545e9,  # not published: what makes 835.5 TFLOP/s; vector and fp64 are printed at 1785 MHz
        max_hz=1.785e9,
        flop_per_clock_per_sm=HOPPER,
        memory_bytes=95830 * MIB,
        memory_bus_bits=6016,
        memory_pin_bits_per_s=2 * 2.619e9,
        l2_bytes=None,
        link_bytes_per_s=300e9,  # with the NVLink bridge
        power_w=400,
        roofs={
            Resource.TENSOR_FP64: Ceiling(60e12, H100_DATASHEET),
            Resource.TENSOR_TF32: Ceiling(417.5e12, H100_DATASHEET_DENSE),
            Resource.TENSOR_BF16: Ceiling(835.5e12, H100_DATASHEET_DENSE),
            Resource.TENSOR_FP16: Ceiling(835.5e12, H100_DATASHEET_DENSE),
            Resource.TENSOR_FP8: Ceiling(1670.5e12, H100_DATASHEET_DENSE),
            Resource.TENSOR_INT8: Ceiling(1670.5e12, H100_DATASHEET_DENSE),
            Resource.VECTOR_FP64: Ceiling(30e12, H100_DATASHEET),
            Resource.VECTOR_FP32: Ceiling(60e12, H100_DATASHEET),
            Resource.DRAM: Ceiling(3.9e12, H100_DATASHEET),
        },
        source="NVIDIA H100 datasheet, H100 NVL product brief; NVML total: public nvidia-smi output",
    ),
    Gpu(
        name="h200-sxm",
        nvml_names=("NVIDIA H200",),
        aliases=("h200",),
        sm=90,
        sm_count=132,
        boost_hz=1.83e9,  # of the 8- to 32-bit tensor operations; the vector units and fp64 are printed at 1980 MHz
        max_hz=1.98e9,
        flop_per_clock_per_sm=HOPPER,
        memory_bytes=143771 * MIB,
        memory_bus_bits=6016,  # 94 of 96 64-bit channels are enabled, hence 141 GB of 144
        memory_pin_bits_per_s=2 * 3.201e9,
        l2_bytes=60 * MIB,
        link_bytes_per_s=450e9,
        power_w=700,
        roofs={
            Resource.TENSOR_FP64: Ceiling(67e12, H200_DATASHEET),
            Resource.TENSOR_TF32: Ceiling(494.5e12, H200_DATASHEET_DENSE),
            Resource.TENSOR_BF16: Ceiling(989.5e12, H200_DATASHEET_DENSE),
            Resource.TENSOR_FP16: Ceiling(989.5e12, H200_DATASHEET_DENSE),
            Resource.TENSOR_FP8: Ceiling(1979e12, H200_DATASHEET_DENSE),
            Resource.TENSOR_INT8: Ceiling(1979e12, H200_DATASHEET_DENSE),
            Resource.VECTOR_FP64: Ceiling(34e12, H200_DATASHEET),
            Resource.VECTOR_FP32: Ceiling(67e12, H200_DATASHEET),
            Resource.DRAM: Ceiling(4.8e12, H200_DATASHEET),
        },
        source="NVIDIA H200 datasheet; clocks, NVML total, L2 and bus width: public driver attributes",
    ),
    Gpu(
        name="h200-nvl",
        nvml_names=("NVIDIA H200 NVL",),
        aliases=("h200",),
        sm=90,
        sm_count=132,
        boost_hz=1.545e9,  # not published: what makes 835.5 TFLOP/s; vector and fp64 are printed at 1785 MHz
        max_hz=1.785e9,
        flop_per_clock_per_sm=HOPPER,
        memory_bytes=143771 * MIB,
        memory_bus_bits=6016,
        memory_pin_bits_per_s=2 * 3.201e9,
        l2_bytes=None,
        link_bytes_per_s=450e9,  # with the NVLink bridge
        power_w=600,
        roofs={
            Resource.TENSOR_FP64: Ceiling(60e12, H200_DATASHEET),
            Resource.TENSOR_TF32: Ceiling(417.5e12, H200_DATASHEET_DENSE),
            Resource.TENSOR_BF16: Ceiling(835.5e12, H200_DATASHEET_DENSE),
            Resource.TENSOR_FP16: Ceiling(835.5e12, H200_DATASHEET_DENSE),
            Resource.TENSOR_FP8: Ceiling(1670.5e12, H200_DATASHEET_DENSE),
            Resource.TENSOR_INT8: Ceiling(1670.5e12, H200_DATASHEET_DENSE),
            Resource.VECTOR_FP64: Ceiling(30e12, H200_DATASHEET),
            Resource.VECTOR_FP32: Ceiling(60e12, H200_DATASHEET),
            Resource.DRAM: Ceiling(4.8e12, H200_DATASHEET),
        },
        source="NVIDIA H200 datasheet, H200 NVL product brief; NVML total, highest clock: public nvidia-smi output",
    ),
    # Blackwell
    Gpu(
        name="b200",
        nvml_names=("NVIDIA B200",),
        aliases=(),
        sm=100,
        sm_count=148,
        boost_hz=1.855e9,  # not published: what makes 2.25 PFLOP/s; vector and fp64 are printed at 1965 MHz
        max_hz=1.965e9,
        flop_per_clock_per_sm=BLACKWELL,
        memory_bytes=183359 * MIB,
        memory_bus_bits=7680,
        memory_pin_bits_per_s=2 * 3.996e9,
        l2_bytes=253 * MIB // 2,
        link_bytes_per_s=900e9,
        power_w=1000,
        roofs={
            Resource.TENSOR_FP64: Ceiling(37e12, HGX_B200),
            Resource.TENSOR_TF32: Ceiling(1125e12, HGX_B200_DENSE),
            Resource.TENSOR_BF16: Ceiling(2250e12, HGX_B200_DENSE),
            Resource.TENSOR_FP16: Ceiling(2250e12, HGX_B200_DENSE),
            Resource.TENSOR_FP8: Ceiling(4500e12, HGX_B200_DENSE),
            Resource.TENSOR_INT8: Ceiling(4500e12, HGX_B200_DENSE),
            Resource.TENSOR_FP4: Ceiling(9000e12, HGX_B200_DENSE),
            Resource.VECTOR_FP64: Ceiling(37e12, HGX_B200),
            Resource.VECTOR_FP32: Ceiling(75e12, HGX_B200),
            # Not the 8 TB/s of the DGX datasheet: 180 GB cards enable 7680 of 8192 bits, which carry 7.67 TB/s.
            Resource.DRAM: Ceiling(7.7e12, "NVIDIA Blackwell datasheet via aiconfigurator b200_sxm.yaml"),
        },
        source="CUDA driver attributes via pytorch/ao PR 4002; NVML total, highest clock: public nvidia-smi output",
    ),
    Gpu(
        name="b300",
        nvml_names=("NVIDIA B300 SXM6 AC",),
        aliases=(),
        sm=103,
        sm_count=148,
        boost_hz=1.855e9,  # not published: what makes 2.25 PFLOP/s
        max_hz=2.032e9,
        flop_per_clock_per_sm=BLACKWELL_ULTRA,
        memory_bytes=275040 * MIB,
        memory_bus_bits=7680,
        memory_pin_bits_per_s=2 * 3.996e9,
        l2_bytes=126 * MIB,
        link_bytes_per_s=900e9,
        power_w=1100,
        roofs={
            Resource.TENSOR_TF32: Ceiling(1125e12, HGX_B300_DENSE),
            Resource.TENSOR_BF16: Ceiling(2250e12, HGX_B300_DENSE),
            Resource.TENSOR_FP16: Ceiling(2250e12, HGX_B300_DENSE),
            Resource.TENSOR_FP8: Ceiling(4500e12, HGX_B300_DENSE),
            Resource.TENSOR_INT8: Ceiling(
                153.5e12, "NVIDIA Blackwell Ultra datasheet via aiconfigurator b300_sxm.yaml"
            ),
            Resource.TENSOR_FP4: Ceiling(13.5e15, HGX_B300),  # printed dense: 108 PFLOP/s for eight
            Resource.VECTOR_FP64: Ceiling(1.25e12, HGX_B300),
            Resource.VECTOR_FP32: Ceiling(75e12, HGX_B300),
            Resource.DRAM: Ceiling(7.75e12, "NVIDIA Blackwell Ultra datasheet via aiconfigurator b300_sxm.yaml"),
        },
        source="public CUDA driver attributes and nvidia-smi output; power: aiconfigurator b300_sxm.yaml",
        not_from_clock={
            Resource.TENSOR_INT8: "printed at the highest clock",
            Resource.VECTOR_FP64: "printed for a board of eight, rounded to one figure",
            Resource.VECTOR_FP32: "printed for a board of eight, rounded to one figure",
        },
    ),
    Gpu(
        name="gb200",
        nvml_names=("NVIDIA GB200",),
        aliases=(),
        sm=100,
        sm_count=152,
        boost_hz=2.008e9,  # not published: what makes 2.5 PFLOP/s; vector and fp64 are printed at 2062 MHz
        max_hz=2.062e9,
        flop_per_clock_per_sm=BLACKWELL,
        memory_bytes=189471 * MIB,
        memory_bus_bits=None,  # differs from unit to unit: drivers have reported 7936 and 8064 bits
        memory_pin_bits_per_s=None,
        l2_bytes=126 * MIB,
        link_bytes_per_s=900e9,
        power_w=1200,
        roofs={
            Resource.TENSOR_FP64: Ceiling(40e12, GB200_NVL72),
            Resource.TENSOR_TF32: Ceiling(1250e12, GB200_NVL72_DENSE),
            Resource.TENSOR_BF16: Ceiling(2500e12, GB200_NVL72_DENSE),
            Resource.TENSOR_FP16: Ceiling(2500e12, GB200_NVL72_DENSE),
            Resource.TENSOR_FP8: Ceiling(5000e12, GB200_NVL72_DENSE),
            Resource.TENSOR_INT8: Ceiling(5000e12, GB200_NVL72_DENSE),
            Resource.TENSOR_FP4: Ceiling(10e15, GB200_NVL72_DENSE),
            Resource.VECTOR_FP64: Ceiling(40e12, GB200_NVL72),
            Resource.VECTOR_FP32: Ceiling(80e12, GB200_NVL72),
            Resource.DRAM: Ceiling(8.0e12, GB200_NVL72),
        },
        source="public driver attributes and nvidia-smi output; L2, highest clock: stas00/ml-engineering",
    ),
    Gpu(
        name="l4",
        nvml_names=("NVIDIA L4",),
        aliases=(),
        sm=89,
        sm_count=58,
        boost_hz=2.04e9,
        max_hz=2.04e9,
        flop_per_clock_per_sm=ADA,
        memory_bytes=23034 * MIB,
        memory_bus_bits=192,
        memory_pin_bits_per_s=2 * 6.251e9,
        l2_bytes=48 * MIB,
        link_bytes_per_s=32e9,
        power_w=72,
        roofs={
            Resource.TENSOR_TF32: Ceiling(60e12, L4_DATASHEET_DENSE),
            Resource.TENSOR_BF16: Ceiling(121e12, L4_DATASHEET_DENSE),
            Resource.TENSOR_FP16: Ceiling(121e12, L4_DATASHEET_DENSE),
            Resource.TENSOR_FP8: Ceiling(242.5e12, L4_DATASHEET_DENSE),
            Resource.TENSOR_INT8: Ceiling(242.5e12, L4_DATASHEET_DENSE),
            Resource.VECTOR_FP64: Ceiling(0.473e12, FP64_GUIDE),
            Resource.VECTOR_FP32: Ceiling(30.3e12, L4_DATASHEET),
            Resource.DRAM: Ceiling(300e9, L4_DATASHEET),
        },
        source="NVIDIA L4 product brief; NVML total, highest clock: public nvidia-smi output",
    ),
    Gpu(
        name="l40s",
        nvml_names=("NVIDIA L40S",),
        aliases=(),
        sm=89,
        sm_count=142,
        boost_hz=2.52e9,
        max_hz=2.52e9,
        flop_per_clock_per_sm=ADA,
        memory_bytes=46068 * MIB,
        memory_bus_bits=384,
        memory_pin_bits_per_s=2 * 9.001e9,
        l2_bytes=96 * MIB,
        link_bytes_per_s=32e9,
        power_w=350,
        roofs={
            Resource.TENSOR_TF32: Ceiling(183e12, L40S_DATASHEET),
            Resource.TENSOR_BF16: Ceiling(362.05e12, L40S_DATASHEET),
            Resource.TENSOR_FP16: Ceiling(362.05e12, L40S_DATASHEET),
            Resource.TENSOR_FP8: Ceiling(733e12, L40S_DATASHEET),
            Resource.TENSOR_INT8: Ceiling(733e12, L40S_DATASHEET),
            Resource.VECTOR_FP64: Ceiling(1.431e12, FP64_GUIDE),
            Resource.VECTOR_FP32: Ceiling(91.6e12, L40S_DATASHEET),
            Resource.DRAM: Ceiling(864e9, L40S_DATASHEET),
        },
        source="NVIDIA L40S product brief; NVML total, highest clocks: public nvidia-smi output",
    ),
    Gpu(
        name="a10",
        nvml_names=("NVIDIA A10",),
        aliases=(),
        sm=86,
        sm_count=72,
        boost_hz=1.695e9,
        max_hz=1.695e9,
        flop_per_clock_per_sm=AMPERE_GA10X,
        memory_bytes=23028 * MIB,
        memory_bus_bits=384,
        memory_pin_bits_per_s=2 * 6.251e9,
        l2_bytes=6 * MIB,
        link_bytes_per_s=32e9,
        power_w=150,
        roofs={
            Resource.TENSOR_TF32: Ceiling(62.5e12, A10_DATASHEET),
            Resource.TENSOR_BF16: Ceiling(125e12, A10_DATASHEET),
            Resource.TENSOR_FP16: Ceiling(125e12, A10_DATASHEET),
            Resource.TENSOR_INT8: Ceiling(250e12, A10_DATASHEET),
            Resource.VECTOR_FP64: Ceiling(0.488e12, FP64_GUIDE),
            Resource.VECTOR_FP32: Ceiling(31.2e12, A10_DATASHEET),
            Resource.DRAM: Ceiling(600e9, A10_DATASHEET),
        },
        source="NVIDIA A10 product brief; NVML total: public nvidia-smi output",
    ),
    Gpu(
        name="rtx-4090",
        nvml_names=("NVIDIA GeForce RTX 4090",),
        aliases=("4090",),
        sm=89,
        sm_count=128,
        boost_hz=2.52e9,
        max_hz=3.105e9,  # of the reference card; overclocked boards offer up to 2 % more
        flop_per_clock_per_sm=ADA_GEFORCE,
        memory_bytes=24564 * MIB,
        memory_bus_bits=384,
        memory_pin_bits_per_s=2 * 10.501e9,
        l2_bytes=72 * MIB,
        link_bytes_per_s=32e9,
        power_w=450,
        roofs={
            Resource.TENSOR_TF32: Ceiling(82.6e12, ADA_WHITEPAPER),
            Resource.TENSOR_BF16: Ceiling(165.2e12, ADA_WHITEPAPER),
            Resource.TENSOR_FP16: Ceiling(165.2e12, ADA_WHITEPAPER),
            Resource.TENSOR_FP8: Ceiling(330.3e12, ADA_WHITEPAPER),
            Resource.TENSOR_INT8: Ceiling(660.6e12, ADA_WHITEPAPER),
            Resource.VECTOR_FP64: Ceiling(1.29e12, FP64_GUIDE),
            Resource.VECTOR_FP32: Ceiling(82.6e12, ADA_WHITEPAPER),
            Resource.DRAM: Ceiling(1.008e12, ADA_WHITEPAPER),
        },
        source="NVIDIA Ada whitepaper; NVML total, highest clocks: public nvidia-smi output",
    ),
    Gpu(
        name="rtx-5090",
        nvml_names=("NVIDIA GeForce RTX 5090",),
        aliases=("5090",),
        sm=120,
        sm_count=170,
        boost_hz=2.407e9,
        max_hz=3.09e9,  # of the reference card; overclocked boards offer up to 2 % more
        flop_per_clock_per_sm=BLACKWELL_GEFORCE,
        memory_bytes=32607 * MIB,
        memory_bus_bits=512,
        memory_pin_bits_per_s=2 * 14.001e9,
        l2_bytes=96 * MIB,
        link_bytes_per_s=64e9,
        power_w=575,
        roofs={
            Resource.TENSOR_TF32: Ceiling(104.8e12, BLACKWELL_RTX_WHITEPAPER),
            Resource.TENSOR_BF16: Ceiling(209.5e12, BLACKWELL_RTX_WHITEPAPER),
            Resource.TENSOR_FP16: Ceiling(209.5e12, BLACKWELL_RTX_WHITEPAPER),
            Resource.TENSOR_FP8: Ceiling(419e12, BLACKWELL_RTX_WHITEPAPER),
            Resource.TENSOR_INT8: Ceiling(838e12, BLACKWELL_RTX_WHITEPAPER),
            Resource.TENSOR_FP4: Ceiling(1676e12, BLACKWELL_RTX_WHITEPAPER),
            Resource.VECTOR_FP64: Ceiling(1.637e12, FP64_GUIDE),
            Resource.VECTOR_FP32: Ceiling(104.8e12, BLACKWELL_RTX_WHITEPAPER),
            Resource.DRAM: Ceiling(1.792e12, BLACKWELL_RTX_WHITEPAPER),
        },
        source="NVIDIA RTX Blackwell whitepaper; NVML total, highest clocks: public nvidia-smi output",
    ),
    Gpu(
        name="rtx-pro-6000-blackwell-workstation",
        nvml_names=("NVIDIA RTX PRO 6000 Blackwell Workstation Edition",),
        aliases=("rtx-pro-6000-blackwell", "rtx-pro-6000"),
        sm=120,
        sm_count=188,
        boost_hz=2.617e9,
        max_hz=3.09e9,
        flop_per_clock_per_sm=BLACKWELL_RTX,
        memory_bytes=97887 * MIB,
        memory_bus_bits=512,
        memory_pin_bits_per_s=2 * 14.001e9,
        l2_bytes=128 * MIB,
        link_bytes_per_s=64e9,
        power_w=600,
        roofs={
            Resource.TENSOR_TF32: Ceiling(251.9e12, BLACKWELL_PRO_WHITEPAPER),
            Resource.TENSOR_BF16: Ceiling(503.8e12, BLACKWELL_PRO_WHITEPAPER),
            Resource.TENSOR_FP16: Ceiling(503.8e12, BLACKWELL_PRO_WHITEPAPER),
            Resource.TENSOR_FP8: Ceiling(1007.6e12, BLACKWELL_PRO_WHITEPAPER),
            Resource.TENSOR_INT8: Ceiling(1007.6e12, BLACKWELL_PRO_WHITEPAPER),
            Resource.TENSOR_FP4: Ceiling(2015.2e12, BLACKWELL_PRO_WHITEPAPER),
            Resource.VECTOR_FP64: Ceiling(1.968e12, FP64_GUIDE),
            Resource.VECTOR_FP32: Ceiling(126e12, BLACKWELL_PRO_WHITEPAPER),
            Resource.DRAM: Ceiling(1.792e12, BLACKWELL_PRO_WHITEPAPER),
        },
        source="NVIDIA RTX PRO Blackwell whitepaper; NVML total, highest clock: public nvidia-smi output",
    ),
    # Its own SKU: lower clocks and slower memory than the workstation edition.
    Gpu(
        name="rtx-pro-6000-blackwell-server",
        nvml_names=("NVIDIA RTX PRO 6000 Blackwell Server Edition",),
        aliases=("rtx-pro-6000-blackwell", "rtx-pro-6000"),
        sm=120,
        sm_count=188,
        boost_hz=2.43e9,
        max_hz=2.43e9,
        flop_per_clock_per_sm=BLACKWELL_RTX,
        memory_bytes=97887 * MIB,
        memory_bus_bits=512,
        memory_pin_bits_per_s=2 * 12.481e9,
        l2_bytes=128 * MIB,
        link_bytes_per_s=64e9,
        power_w=600,
        roofs={
            Resource.TENSOR_BF16: Ceiling(467.8e12, RTX_PRO_SERVER_AT_2430),
            Resource.TENSOR_FP16: Ceiling(467.8e12, RTX_PRO_SERVER_AT_2430),
            Resource.TENSOR_FP8: Ceiling(935.6e12, RTX_PRO_SERVER_AT_2430),
            Resource.TENSOR_INT8: Ceiling(935.6e12, RTX_PRO_SERVER_AT_2430),
            Resource.TENSOR_FP4: Ceiling(1871.2e12, RTX_PRO_SERVER_AT_2430),
            Resource.VECTOR_FP64: Ceiling(1.827e12, FP64_GUIDE),
            # The datasheet says 120, which needs a clock that the driver does not offer.
            Resource.VECTOR_FP32: Ceiling(117e12, "public CUDA driver attributes: 188 SMs at 2430 MHz"),
            Resource.DRAM: Ceiling(1.597e12, "NVIDIA RTX PRO 6000 Blackwell Server Edition datasheet"),
        },
        source="public CUDA driver attributes and nvidia-smi output; power: the datasheet",
    ),
)

GPUS: Mapping[str, Gpu] = MappingProxyType({gpu.name: gpu for gpu in _TABLE})
_BY_NVML_NAME = MappingProxyType({name: gpu for gpu in _TABLE for name in gpu.nvml_names})


def resolve(name: str) -> Gpu:
    """Return the GPU that `name` or an alias means: `a100`, `h100` and `h200` mean the SXM part (of the A100, 80 GB).

    Raises UnknownGpu listing the known names.
    """
    return resolve_all(name)[0]


def resolve_all(name: str) -> tuple[Gpu, ...]:
    """Return every SKU that `name` covers, the one it means first: an H100 PCIe is one of `resolve_all("h100")`.

    Case does not matter, and '_' and ' ' stand for '-'. Raises UnknownGpu listing the known names.
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
    """What the compute units of `gpu` can do at an SM clock of `sm_hz`."""
    return {
        unit: Ceiling(gpu.sm_count * flop * sm_hz, f"{gpu.sm_count} SMs x {flop} FLOP/clock/SM x {sm_hz / 1e6:.0f} MHz")
        for unit, flop in gpu.flop_per_clock_per_sm.items()
    }


def physical_roofs(gpu: Gpu) -> Roofs:
    """The line that nothing crosses: compute at the highest SM clock, DRAM at the larger of pin rate and datasheet."""
    roofs = dict(held_clock_roofs(gpu, gpu.max_hz))
    dram = gpu.roofs.get(Resource.DRAM)
    if gpu.memory_bus_bits is not None and gpu.memory_pin_bits_per_s is not None:
        bits, pin = gpu.memory_bus_bits, gpu.memory_pin_bits_per_s
        pins = Ceiling(bits * pin / 8, f"{bits} bits x {pin / 1e9:.4g} Gbit/s per pin")
        dram = pins if dram is None else max(dram, pins, key=lambda ceiling: ceiling.per_s)
    if dram is not None:
        roofs[Resource.DRAM] = dram
    return roofs


def ridge_flop_per_byte(roofs: Roofs, resource: Resource) -> float:
    """The arithmetic intensity above which `resource` and no longer DRAM is the limit; raises MissingCeiling."""
    return find_ceiling(resource, roofs).per_s / find_ceiling(Resource.DRAM, roofs).per_s


def _unknown(name: str, key: str, known: Iterable[str]) -> str:
    names = tuple(known)
    close = difflib.get_close_matches(key, names, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    return f"unknown GPU {name!r}; {hint}known: {', '.join(names)}"
