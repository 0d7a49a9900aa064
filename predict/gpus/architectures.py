"""What an SM of each NVIDIA architecture does per clock, and short names of the units for the tables."""

from predict.gpus.gpu import Architecture
from predict.resources import Resource

# A bare format means the tensor cores.
FP64, TF32, BF16, FP16 = Resource.TENSOR_FP64, Resource.TENSOR_TF32, Resource.TENSOR_BF16, Resource.TENSOR_FP16
FP8, INT8, FP4, INT4 = Resource.TENSOR_FP8, Resource.TENSOR_INT8, Resource.TENSOR_FP4, Resource.TENSOR_INT4
VECTOR_FP64, VECTOR_FP32, DRAM = Resource.VECTOR_FP64, Resource.VECTOR_FP32, Resource.DRAM

VOLTA = Architecture(70, {FP16: 1024, VECTOR_FP64: 64, VECTOR_FP32: 128})
TURING = Architecture(75, {FP16: 1024, INT8: 2048, INT4: 4096, VECTOR_FP64: 4, VECTOR_FP32: 128})
# The last data center architecture that multiplies int4. "The L2 cache is divided into two partitions" (A100
# whitepaper); latencies show the same on the H100 (Chips and Cheese, "Nvidia's H100: Funny L2, and Tons of Bandwidth"),
# and Blackwell's data center chips are two dies.
AMPERE = Architecture(
    80,
    {FP64: 128, TF32: 1024, BF16: 2048, FP16: 2048, INT8: 4096, INT4: 8192, VECTOR_FP64: 64, VECTOR_FP32: 128},
    l2_partitions=2,
)
_GRAPHICS = {TF32: 512, BF16: 1024, FP16: 1024, INT8: 2048, VECTOR_FP64: 4, VECTOR_FP32: 256}
# On GeForce, fp32 accumulation runs at half rate. int8 accumulates in int32 at full rate.
_GEFORCE = {**_GRAPHICS, TF32: 256, BF16: 512, FP16: 512}
AMPERE_GA10X = Architecture(86, {**_GRAPHICS, INT4: 4096})
AMPERE_GEFORCE = Architecture(86, {**_GEFORCE, INT4: 4096})
ADA = Architecture(89, {**_GRAPHICS, FP8: 2048, INT4: 4096})
ADA_GEFORCE = Architecture(89, {**_GEFORCE, FP8: 1024, INT4: 4096})
# The L40's datasheet prints half of the L40S's rates for every format, the integers too.
ADA_L40 = Architecture(89, {**_GEFORCE, FP8: 1024, INT8: 1024, INT4: 2048})
HOPPER = Architecture(
    90,
    {FP64: 256, TF32: 2048, BF16: 4096, FP16: 4096, FP8: 8192, INT8: 8192, VECTOR_FP64: 128, VECTOR_FP32: 256},
    l2_partitions=2,
)
# The H20's tensor cores work at a quarter of Hopper's rates.
HOPPER_H20 = Architecture(
    90, {TF32: 512, BF16: 1024, FP16: 1024, FP8: 2048, INT8: 2048, VECTOR_FP32: 256}, l2_partitions=2
)
_DATACENTER_BLACKWELL = {TF32: 4096, BF16: 8192, FP16: 8192, FP8: 16384, VECTOR_FP32: 256}
BLACKWELL = Architecture(
    100, {**_DATACENTER_BLACKWELL, FP64: 128, INT8: 16384, FP4: 32768, VECTOR_FP64: 128}, l2_partitions=2
)
# Blackwell Ultra has 1.5 times the fp4 rate, but much lower int8 and fp64 rates.
BLACKWELL_ULTRA = Architecture(103, {**_DATACENTER_BLACKWELL, INT8: 512, FP4: 49152, VECTOR_FP64: 4}, l2_partitions=2)
BLACKWELL_RTX = Architecture(120, {**_GRAPHICS, FP8: 2048, FP4: 4096})
BLACKWELL_GEFORCE = Architecture(120, {**_GEFORCE, FP8: 1024, FP4: 4096})
