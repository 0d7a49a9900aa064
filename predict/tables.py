"""The GPUs and the models as tables."""

from collections.abc import Mapping

from predict.expected.calibrations import Known
from predict.expected.coverage import coverage, coverage_text
from predict.expected.kernel import TIME_MODELS
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
    Column("expected_from", "expected time from"),
    Column("aliases", "--gpu also takes"),
)
# Of each op in 16 bits, in CSV.
EXPECTED_COLUMNS = tuple(
    Column(f"{op}_{key}", f"{op}_{key}", unit)
    for op in TIME_MODELS
    for key, unit in (("basis", Unit.NAME), ("measured_on", Unit.NAME), ("error", Unit.SHARE))
)
GPU_NOTE = (
    "Dense peaks, accumulating in fp32; 16-bit: bf16, or fp16 where there is no bf16. The napkin knows all of them,"
    " bench measures NVIDIA's. Expected times of 16-bit kernels come from measurements of the GPU itself, of another of"
    " its architecture, or, poorly, of another architecture. Beside them stand their measured mean errors, from the"
    " best op to the worst. --json has them by op and format, and the source of each number."
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


def gpu_table(*, by_op: bool = False) -> Table:
    """The GPUs: dense peaks, bandwidth, ridge point, memory, what expected times rest on, other names. `by_op` adds a
    column for each op that has expected times."""
    columns = (*GPU_COLUMNS, *EXPECTED_COLUMNS) if by_op else GPU_COLUMNS
    return Table(columns, tuple(map(_gpu_row, GPUS.values())))


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
        "expected_from": coverage_text(gpu),
        "aliases": ", ".join(gpu.aliases) or None,
        **_expected_row(gpu),
    }


def _expected_row(gpu: Gpu) -> Mapping[str, object]:
    row: dict[str, object] = {}
    for (op, fmt), found in coverage(gpu).items():
        if fmt == "bf16" and isinstance(found, Known):
            values = (found.basis.name.lower(), found.shipped.gpu, found.expected_error)
            row |= zip((f"{op}_basis", f"{op}_measured_on", f"{op}_error"), values, strict=True)
    return row


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
