"""NVIDIA's cards with GDDR: for inference, workstations and games. A number without a public source is absent.

Tensor peaks are dense, with fp32 accumulation, which GeForce cards run at half rate. The tests check them against the
architecture's rates: SMs x FLOP/clock/SM x boost clock must give the printed peak.
"""

from dataclasses import replace

from predict.gpus.architectures import (
    ADA,
    ADA_GEFORCE,
    ADA_L40,
    AMPERE_GA10X,
    AMPERE_GEFORCE,
    BF16,
    BLACKWELL_GEFORCE,
    BLACKWELL_RTX,
    DRAM,
    FP4,
    FP8,
    FP16,
    INT4,
    INT8,
    TF32,
    TURING,
    VECTOR_FP32,
    VECTOR_FP64,
)
from predict.gpus.gpu import Memory, NvidiaGpu, printed
from predict.units import MIB

HALVED = "the figure with sparsity halved"
L4_SHEET = "NVIDIA L4 datasheet"
L40_SHEET = "NVIDIA L40 datasheet, the dense figure"
L40S_SHEET = "NVIDIA L40S datasheet, the dense figure"
A10_SHEET = "NVIDIA A10 datasheet, the dense figure"
GA102_PAPER = "NVIDIA GA102 whitepaper, dense, fp32 accumulation"
ADA_PAPER = "NVIDIA Ada whitepaper, dense, fp32 accumulation"
ADA_PRO_PAPER = "NVIDIA Ada whitepaper for professional GPUs, dense"
BLACKWELL_PAPER = "NVIDIA RTX Blackwell whitepaper, dense, fp32 accumulation"
PRO_PAPER = "NVIDIA RTX PRO Blackwell whitepaper, dense, fp32 accumulation"
AT_2430_MHZ = "aiconfigurator rtx_pro_6000_server.yaml: the architecture's rates at 2430 MHz"
# The vendor prints no fp64 peak. The guide's throughput table gives 2 fp64 multiply-adds per clock and SM.
FP64_GUIDE = "CUDA C++ programming guide: 4 fp64 FLOP/clock/SM, at the boost clock"

_RTX_PRO_6000 = NvidiaGpu(
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

GRAPHICS = (
    NvidiaGpu(
        name="t4",
        nvml_names=("Tesla T4",),
        architecture=TURING,
        sm_count=40,
        boost_hz=1.59e9,
        max_hz=1.59e9,
        memory=Memory(15360 * MIB, 256, 2 * 5.001e9),
        l2_bytes=4 * MIB,
        link_bytes_per_s=16e9,
        link_reduces=False,
        gpus_per_node=8,  # PCIe cards of a server
        power_w=70,
        roofs=printed(
            ("NVIDIA T4 datasheet", {FP16: 65e12, INT8: 130e12, INT4: 260e12, VECTOR_FP32: 8.1e12, DRAM: 320e9}),
            (FP64_GUIDE, {VECTOR_FP64: 0.254e12}),
        ),
        source="NVIDIA Turing whitepaper; NVML total, clocks, bus, L2: public driver attributes and nvidia-smi output",
    ),
    NvidiaGpu(
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
    NvidiaGpu(
        name="l40",
        nvml_names=("NVIDIA L40",),
        architecture=ADA_L40,
        sm_count=142,
        boost_hz=2.49e9,
        max_hz=2.49e9,
        memory=Memory(46068 * MIB, 384, 2 * 9.001e9),
        l2_bytes=96 * MIB,
        link_bytes_per_s=32e9,
        link_reduces=False,
        gpus_per_node=8,  # PCIe cards of a server
        power_w=300,
        roofs=printed(
            (L40_SHEET, {TF32: 90.5e12, BF16: 181.05e12, FP16: 181.05e12, FP8: 362e12, INT8: 362e12, INT4: 724e12}),
            (L40_SHEET, {VECTOR_FP32: 90.5e12, DRAM: 864e9}),
            (FP64_GUIDE, {VECTOR_FP64: 1.414e12}),
        ),
        source="NVIDIA L40 product brief; NVML total, highest clocks: public nvidia-smi output",
    ),
    NvidiaGpu(
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
    NvidiaGpu(
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
    NvidiaGpu(
        name="rtx-a6000",
        nvml_names=("NVIDIA RTX A6000",),
        aliases=("a6000",),
        architecture=AMPERE_GA10X,
        sm_count=84,
        boost_hz=1.8e9,
        max_hz=2.1e9,
        memory=Memory(49140 * MIB, 384, 2 * 8.001e9),
        l2_bytes=6 * MIB,
        link_bytes_per_s=56.25e9,  # with the NVLink bridge
        link_reduces=False,
        gpus_per_node=2,  # the bridge; beyond it PCIe 4.0
        network_bytes_per_s=32e9,
        power_w=300,
        roofs=printed(
            (GA102_PAPER, {TF32: 77.4e12, BF16: 154.8e12, FP16: 154.8e12, INT8: 309.7e12, INT4: 619.3e12}),
            (GA102_PAPER, {VECTOR_FP32: 38.7e12, DRAM: 768e9}),
            (FP64_GUIDE, {VECTOR_FP64: 0.605e12}),
        ),
        source="NVIDIA GA102 whitepaper; NVML total, clocks, bus, L2: public driver attributes and nvidia-smi output",
    ),
    NvidiaGpu(
        name="rtx-6000-ada",
        nvml_names=("NVIDIA RTX 6000 Ada Generation",),
        architecture=ADA,
        sm_count=142,
        boost_hz=2.505e9,
        max_hz=3.105e9,
        memory=Memory(49140 * MIB, 384, 2 * 10.001e9),
        l2_bytes=96 * MIB,
        link_bytes_per_s=32e9,
        link_reduces=False,
        gpus_per_node=8,  # PCIe cards of a server
        power_w=300,
        roofs=printed(
            (ADA_PRO_PAPER, {TF32: 182.1e12, BF16: 364.2e12, FP16: 364.2e12}),
            (ADA_PRO_PAPER, {FP8: 728.5e12, INT8: 728.5e12, INT4: 1457e12, VECTOR_FP32: 91.1e12, DRAM: 960e9}),
            (FP64_GUIDE, {VECTOR_FP64: 1.423e12}),
        ),
        source="NVIDIA RTX 6000 Ada datasheet; NVML total, SMs, highest clocks: public nvidia-smi output",
    ),
    NvidiaGpu(
        name="rtx-3090",
        nvml_names=("NVIDIA GeForce RTX 3090",),
        aliases=("3090",),
        architecture=AMPERE_GEFORCE,
        sm_count=82,
        boost_hz=1.695e9,
        max_hz=2.1e9,  # of the reference card; overclocked boards offer more
        memory=Memory(24576 * MIB, 384, 2 * 9.751e9),
        l2_bytes=6 * MIB,
        link_bytes_per_s=56.25e9,  # with the NVLink bridge
        link_reduces=False,
        gpus_per_node=2,  # the bridge; beyond it PCIe 4.0
        network_bytes_per_s=32e9,
        power_w=350,
        roofs=printed(
            (GA102_PAPER, {TF32: 35.6e12, BF16: 71e12, FP16: 71e12, INT8: 284e12, INT4: 568e12}),
            (GA102_PAPER, {VECTOR_FP32: 35.6e12, DRAM: 936e9}),
            (FP64_GUIDE, {VECTOR_FP64: 0.556e12}),
        ),
        source="NVIDIA GA102 whitepaper; NVML total, clocks, bus, L2: public driver attributes and nvidia-smi output",
    ),
    NvidiaGpu(
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
    NvidiaGpu(
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
