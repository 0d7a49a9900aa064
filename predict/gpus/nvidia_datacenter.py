"""NVIDIA's GPUs for data centers with HBM. A number without a public source is absent.

Tensor peaks are dense, with fp32 accumulation. The tests check them against the architecture's rates: SMs x
FLOP/clock/SM x boost clock must give the printed peak.
"""

from dataclasses import replace

from predict.gpus.architectures import (
    AMPERE,
    BF16,
    BLACKWELL,
    BLACKWELL_ULTRA,
    DRAM,
    FP4,
    FP8,
    FP16,
    FP64,
    HOPPER,
    HOPPER_H20,
    INT4,
    INT8,
    TF32,
    VECTOR_FP32,
    VECTOR_FP64,
    VOLTA,
)
from predict.gpus.gpu import Memory, NvidiaGpu, printed
from predict.resources import Ceiling
from predict.units import MIB

HALVED = "the figure with sparsity halved"
A100_SHEET = "NVIDIA A100 datasheet"
HOPPER_PAPER = "NVIDIA H100 whitepaper, table of GPU specifications"
H100_SHEET = "NVIDIA H100 datasheet"
H100_DENSE = f"{H100_SHEET}, {HALVED}"
H200_SHEET = "NVIDIA H200 datasheet"
H200_DENSE = f"{H200_SHEET}, {HALVED}"
GH200_SHEET = "NVIDIA GH200 datasheet"
GH200_DENSE = f"{GH200_SHEET}, {HALVED}"
HGX_B200 = "NVIDIA HGX B200 specifications, an eighth"
HGX_B200_DENSE = f"{HGX_B200}, {HALVED}"
HGX_B300 = "NVIDIA HGX B300 specifications, an eighth"
B300_SHEET = "NVIDIA Blackwell Ultra datasheet via aiconfigurator b300_sxm.yaml"
NVL72 = "NVIDIA GB200 NVL72 specifications, a 72nd"
NVL72_DENSE = f"{NVL72}, {HALVED}"
NVL72_ULTRA = "NVIDIA GB300 NVL72 specifications, the dense figure of one GPU"
GB300_SHEET = "NVIDIA Blackwell Ultra datasheet via aiconfigurator gb300.yaml"

# NVLink's mesh of eight has no switch.
_V100 = NvidiaGpu(
    name="v100-sxm-32gb",
    nvml_names=("Tesla V100-SXM2-32GB",),
    aliases=("v100", "v100-sxm", "v100-32gb"),
    architecture=VOLTA,
    sm_count=80,
    boost_hz=1.53e9,
    max_hz=1.53e9,
    memory=Memory(32768 * MIB, 4096, 2 * 0.877e9),
    l2_bytes=6 * MIB,
    link_bytes_per_s=150e9,
    link_reduces=False,
    gpus_per_node=8,
    power_w=300,
    roofs=printed(
        ("NVIDIA V100 datasheet", {FP16: 125e12, VECTOR_FP64: 7.8e12, VECTOR_FP32: 15.7e12, DRAM: 900e9}),
    ),
    source="NVIDIA V100 whitepaper; NVML total, clocks, bus, L2: public driver attributes and nvidia-smi output",
)
# The datasheet lists the same compute peaks for every A100; memory and power differ.
_A100 = NvidiaGpu(
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
_H100_SXM = NvidiaGpu(
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
)
_GH200 = NvidiaGpu(
    name="gh200-96gb",
    nvml_names=("NVIDIA GH200 480GB", "NVIDIA GH200 120GB"),  # the size of the CPU's memory
    aliases=("gh200",),
    architecture=HOPPER,
    sm_count=132,
    boost_hz=1.83e9,
    max_hz=1.98e9,
    memory=Memory(97871 * MIB, 6144, 2 * 2.619e9),
    l2_bytes=60 * MIB,
    link_bytes_per_s=450e9,
    power_w=900,
    roofs=printed(
        (GH200_SHEET, {FP64: 67e12, VECTOR_FP64: 34e12, VECTOR_FP32: 67e12}),
        (GH200_DENSE, {TF32: 494.5e12, BF16: 989.5e12, FP16: 989.5e12, FP8: 1979e12, INT8: 1979e12}),
        # The datasheet rounds to 4 TB/s.
        ("public driver attributes: 6144 bits x 5.238 Gbit/s per pin", {DRAM: 4.023e12}),
    ),
    source="NVIDIA GH200 datasheet; NVML total, clocks, bus, L2, power: public driver attributes and nvidia-smi output",
)

DATA_CENTER = (
    # Ampere
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
    # As the A100, but for NVLink, which is cut for export.
    replace(
        _A100,
        name="a800-sxm-80gb",
        nvml_names=("NVIDIA A800-SXM4-80GB",),
        aliases=("a800",),
        link_bytes_per_s=200e9,
        source="as the A100; NVLink of 400 GB/s in both directions: NVIDIA A800 datasheet",
    ),
    # Hopper
    _H100_SXM,
    NvidiaGpu(
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
    NvidiaGpu(
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
    NvidiaGpu(
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
    NvidiaGpu(
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
    # As the H100 SXM, but for NVLink and fp64, which are cut for export.
    replace(
        _H100_SXM,
        name="h800",
        nvml_names=("NVIDIA H800",),
        aliases=(),
        link_bytes_per_s=200e9,
        roofs={unit: roof for unit, roof in _H100_SXM.roofs.items() if unit not in (FP64, VECTOR_FP64)}
        | {VECTOR_FP64: Ceiling(1e12, "NVIDIA H800 datasheet")},
        not_from_clock={VECTOR_FP64: "cut for export"},
        source="as the H100 SXM; NVLink of 400 GB/s in both directions: NVIDIA H800 datasheet",
    ),
    NvidiaGpu(
        name="h20",
        nvml_names=("NVIDIA H20",),
        architecture=HOPPER_H20,
        sm_count=78,
        boost_hz=1.853e9,  # not published; derived from 148 TFLOP/s
        max_hz=1.98e9,
        memory=Memory(97871 * MIB, 6144, 2 * 2.619e9),
        l2_bytes=60 * MIB,
        link_bytes_per_s=450e9,
        link_reduces=True,
        gpus_per_node=8,  # HGX H20
        power_w=500,
        roofs=printed(
            ("NVIDIA H20 datasheet", {TF32: 74e12, BF16: 148e12, FP16: 148e12, FP8: 296e12, INT8: 296e12, DRAM: 4e12}),
            # The datasheet says 44 TFLOP/s, but the driver does not offer the clock that this needs.
            ("public driver attributes: 78 SMs at 1980 MHz", {VECTOR_FP32: 39.5e12}),
        ),
        source="NVIDIA H20 datasheet; NVML total, SMs, clocks, power: public driver attributes and nvidia-smi output",
    ),
    # On a board with its CPU, which shares the power. The links join boards in many ways: what is a node is not known.
    _GH200,
    replace(
        _GH200,
        name="gh200-144gb",
        nvml_names=("NVIDIA GH200 144G HBM3e",),
        memory=Memory(146831 * MIB),
        roofs={**_GH200.roofs, DRAM: Ceiling(4.9e12, GH200_SHEET)},
        source="NVIDIA GH200 datasheet; NVML total, L2: public driver attributes and nvidia-smi output",
    ),
    # Blackwell
    NvidiaGpu(
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
    NvidiaGpu(
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
    NvidiaGpu(
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
    NvidiaGpu(
        name="gb300",
        nvml_names=("NVIDIA GB300",),
        architecture=BLACKWELL_ULTRA,
        sm_count=152,
        boost_hz=2.008e9,  # not published; derived from 2.5 PFLOP/s
        max_hz=2.07e9,
        memory=Memory(284208 * MIB),
        l2_bytes=126 * MIB,
        link_bytes_per_s=900e9,
        link_reduces=True,
        gpus_per_node=72,  # NVL72; beyond it ConnectX-8, 800 Gbit/s
        network_bytes_per_s=100e9,
        power_w=1400,
        roofs=printed(
            (NVL72_ULTRA, {TF32: 1250e12, BF16: 2500e12, FP16: 2500e12, FP8: 5000e12, VECTOR_FP32: 80e12}),
            (GB300_SHEET, {INT8: 165e12, FP4: 15e15, DRAM: 8.0e12}),
        ),
        source="aiconfigurator gb300.yaml; SMs, highest clock, power: public driver attributes and nvidia-smi output; "
        "L2: as the B300, which is its GPU (Google Cloud, accelerator-optimized machines)",
        not_from_clock={INT8: "printed for a rack, rounded to 2 % over the highest clock"},
    ),
    # Volta
    _V100,
    replace(
        _V100,
        name="v100-sxm-16gb",
        nvml_names=("Tesla V100-SXM2-16GB",),
        aliases=("v100", "v100-sxm", "v100-16gb"),
        memory=Memory(16384 * MIB, 4096, 2 * 0.877e9),
    ),
)
