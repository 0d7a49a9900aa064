"""The GPUs and the models as tables."""

from collections.abc import Mapping

from predict.gpus import GPUS, NVIDIA_GPUS, Gpu, ridge_flop_per_byte
from predict.model.presets import PRESETS, find_model
from predict.resources import Resource
from predict.table import Column, Table
from predict.units import Unit

SIXTEEN_BITS = (Resource.TENSOR_BF16, Resource.TENSOR_FP16)
KV_BYTES = 2  # of an element of the cache in 16 bits
GPU_COLUMNS = (
    Column("gpu", "GPU", is_key=True),
    Column("tensor_16_bit_flop_per_s", "16-bit TFLOP/s", Unit.TFLOP_PER_S),
    Column("tensor_fp8_flop_per_s", "fp8 TFLOP/s", Unit.TFLOP_PER_S),
    Column("vector_fp32_flop_per_s", "fp32 TFLOP/s", Unit.TFLOP_PER_S),
    Column("dram_bytes_per_s", "DRAM TB/s", Unit.TB_PER_S),
    Column("ridge_flop_per_byte", "ridge FLOP/B", Unit.FLOP_PER_BYTE),
    Column("memory_bytes", "memory GiB", Unit.GIB),
    Column("can_be_measured", "bench runs it"),
    Column("aliases", "--gpu also takes"),
)
GPU_NOTE = (
    "Dense peaks, accumulating in fp32; 16-bit: bf16, or fp16 where there is no bf16. The napkin knows all of them,"
    " bench measures NVIDIA's. --json has the source of each number."
)
MODEL_COLUMNS = (
    Column("model", "model", is_key=True),
    Column("params", "params", Unit.PARAMS),
    Column("active_params", "active", Unit.PARAMS),
    Column("layers", "layers", Unit.COUNT),
    Column("hidden", "hidden", Unit.COUNT),
    Column("weight_bytes", "weights GB", Unit.GB),
    Column("kv_bytes_per_token", "KV/token KiB", Unit.KIB),
    Column("context_limit", "context", Unit.TOKENS),
    Column("source", "source"),
)


def gpu_table() -> Table:
    """The GPUs: dense peaks, bandwidth, ridge point, memory, other names."""
    return Table(GPU_COLUMNS, tuple(map(_gpu_row, GPUS.values())))


def model_table() -> Table:
    """The presets: size, shape, weights as they ship, KV cache per token in 16 bits, source."""
    return Table(MODEL_COLUMNS, tuple(map(_model_row, PRESETS)))


def _gpu_row(gpu: Gpu) -> Mapping[str, object]:
    def rate(resource: Resource) -> float | None:
        return gpu.roofs[resource].per_s if resource in gpu.roofs else None

    unit = next(unit for unit in SIXTEEN_BITS if unit in gpu.roofs)
    return {
        "gpu": gpu.name,
        "tensor_16_bit_flop_per_s": rate(unit),
        "tensor_fp8_flop_per_s": rate(Resource.TENSOR_FP8),
        "vector_fp32_flop_per_s": rate(Resource.VECTOR_FP32),
        "dram_bytes_per_s": rate(Resource.DRAM),
        "ridge_flop_per_byte": ridge_flop_per_byte(gpu.roofs, unit) if Resource.DRAM in gpu.roofs else None,
        "memory_bytes": gpu.memory.bytes,
        "can_be_measured": gpu.name in NVIDIA_GPUS,
        "aliases": ", ".join(gpu.aliases) or None,
    }


def _model_row(name: str) -> Mapping[str, object]:
    model = find_model(name)
    return {
        "model": model.name,
        "params": model.params,
        "active_params": model.active_params,
        "layers": model.layers,
        "hidden": model.hidden,
        "weight_bytes": float(model.stored_bytes()),
        "kv_bytes_per_token": KV_BYTES * float(model.kv_elements_per_token),
        "context_limit": model.context_limit or None,
        "source": PRESETS[name].source,
    }
