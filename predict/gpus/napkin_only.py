"""Machines of other vendors. Only the napkin knows them: `bench` measures NVIDIA's GPUs.

Peaks are dense. A number without a public source is absent; TPUs have no published peak of their vector units. Memory
is what the software reports, which is a little less than the vendor prints.
"""

from dataclasses import replace

from predict.gpus.architectures import BF16, DRAM, FP4, FP8, FP16, FP64, INT8, TF32, VECTOR_FP32, VECTOR_FP64
from predict.gpus.gpu import Gpu, Memory, printed
from predict.resources import Ceiling
from predict.units import GIB

MI300X_SHEET = "AMD Instinct MI300X data sheet"
MI355X_SHEET = "AMD Instinct MI355X data sheet"
# The data sheet rounds to two figures.
MI355X_EXACT = "AMD CDNA 4 whitepaper: 256 CUs x FLOP/clock/CU x 2.4 GHz"
V5E_PAGE = "Google Cloud documentation, TPU v5e"
V5P_PAGE = "Google Cloud documentation, TPU v5p"
V6E_PAGE = "Google Cloud documentation, TPU v6e"

# Seven links of 64 GB/s join each of eight GPUs to every other; nothing between them reduces.
_MI300X = Gpu(
    name="mi300x",
    memory=Memory(206_141_652_992),
    link_bytes_per_s=448e9,
    link_reduces=False,
    gpus_per_node=8,
    power_w=750,
    roofs=printed(
        (MI300X_SHEET, {FP64: 163.4e12, TF32: 653.7e12, BF16: 1307.4e12, FP16: 1307.4e12, FP8: 2614.9e12}),
        (MI300X_SHEET, {INT8: 2614.9e12, VECTOR_FP64: 81.7e12, VECTOR_FP32: 163.4e12, DRAM: 5.325e12}),
    ),
    source="AMD Instinct MI300X data sheet; memory: public rocm-smi output",
)
# The chips of a slice form a torus without switches: a node is a pod, and beyond it is the data center's network.
_V5E = Gpu(
    name="tpu-v5e",
    aliases=("v5e",),
    memory=Memory(63 * GIB // 4),
    link_bytes_per_s=200e9,
    link_reduces=False,
    gpus_per_node=256,
    network_bytes_per_s=3.125e9,
    roofs=printed((V5E_PAGE, {BF16: 197e12, INT8: 393e12, DRAM: 819e9})),
    source="Google Cloud documentation, TPU v5e: half of the bidirectional bandwidths; memory: public XLA messages",
)

NAPKIN_ONLY = (
    _MI300X,
    replace(
        _MI300X,
        name="mi325x",
        memory=Memory(256 * GIB),
        power_w=1000,
        roofs={**_MI300X.roofs, DRAM: Ceiling(6.0e12, "AMD Instinct MI325X data sheet")},
        source="AMD Instinct MI325X data sheet; memory: ROCm documentation, GPU specifications",
    ),
    Gpu(
        name="mi355x",
        memory=Memory(309_220_868_096),
        link_bytes_per_s=537.6e9,  # seven links of 76.8 GB/s
        link_reduces=False,
        gpus_per_node=8,
        power_w=1400,
        roofs=printed(
            (MI355X_SHEET, {FP64: 78.6e12, VECTOR_FP64: 78.6e12, VECTOR_FP32: 157.3e12, DRAM: 8.0e12}),
            (MI355X_EXACT, {BF16: 2516.6e12, FP16: 2516.6e12, FP8: 5033.2e12, INT8: 5033.2e12, FP4: 10066.3e12}),
        ),
        source="AMD Instinct MI355X data sheet; memory: public rocm-smi output",
    ),
    _V5E,
    Gpu(
        name="tpu-v5p",
        aliases=("v5p",),
        memory=Memory(9574 * GIB // 100),
        link_bytes_per_s=600e9,
        link_reduces=False,
        gpus_per_node=8960,
        network_bytes_per_s=6.25e9,
        roofs=printed(
            (V5P_PAGE, {BF16: 459e12, FP8: 459e12, DRAM: 2.765e12}),
            ("jax-ml/scaling-book, table of TPUs", {INT8: 918e12}),
        ),
        source="Google Cloud documentation, TPU v5p: half of the bidirectional bandwidths; memory: public XLA messages",
    ),
    Gpu(
        name="tpu-v6e",
        aliases=("v6e", "trillium"),
        memory=Memory(125 * GIB // 4),
        link_bytes_per_s=400e9,
        link_reduces=False,
        gpus_per_node=256,
        network_bytes_per_s=12.5e9,
        roofs=printed((V6E_PAGE, {BF16: 918e12, INT8: 1836e12, DRAM: 1.64e12})),
        source="Google Cloud documentation, TPU v6e: half of the bidirectional bandwidths; memory: public XLA messages",
    ),
)
