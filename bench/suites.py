"""The suites as data: the workloads of each, on a GPU and on a CPU. `bench.order` puts them in order."""

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from predict.errors import BadRun, MissingCeiling
from predict.expected.probes import PROBES, probe_workloads
from predict.expert_rows import RULES
from predict.resources import Roofs
from predict.roofline import predict
from predict.serving_loop import RULES as SERVING
from predict.suggest import did_you_mean, quoted
from predict.units import GIB, MIB, DType, find_dtype
from predict.workloads import Workload, dim_names, make_workload


@dataclass(frozen=True, slots=True)
class Limits:
    """The machine that a suite is sized for."""

    device: str  # "cuda" or "cpu"
    memory_bytes: int | None  # None if unknown: a case that does not fit is then an outcome of its own
    last_level_cache_bytes: int | None  # None if unknown
    dtype: DType  # of matmul and attention: bf16 on a GPU; on a CPU the faster of fp32 and bf16
    roofs: Roofs | None = None  # measured; on a CPU they bound how long one launch may take
    gpu: str | None = None  # the SKU; None for a CPU or a card that the table lacks


@dataclass(frozen=True, slots=True)
class RowWise:
    """An op between the products of a layer: its dimensions beside the rows, and whether the smoke suite holds it."""

    op: str
    sizes: tuple[int, ...]
    smoke: bool = False


# At Llama-3-8B's sizes. Softmax has an eighth of the vocabulary: the logits of one of eight GPUs.
ROW_WISE = (
    RowWise("rmsnorm", (4096,)),
    RowWise("add_rmsnorm", (4096,)),
    RowWise("swiglu", (14336,)),
    RowWise("rope", (32, 128)),
    RowWise("softmax", (16032,)),
)
# At GPT-2 small's sizes, in the long suites only.
GPT2_ROW_WISE = (RowWise("layernorm", (768,)), RowWise("add_layernorm", (768,)), RowWise("gelu", (3072,)))

# (n, k) of the projections of real models: what one layer multiplies its tokens by.
GPT2_SMALL = ((2304, 768), (768, 768), (3072, 768), (768, 3072))  # qkv, out, up, down
LLAMA3_8B = ((6144, 4096), (4096, 4096), (28672, 4096), (4096, 14336))  # qkv, out, gate+up, down
LLAMA3_70B = ((10240, 8192), (57344, 8192), (8192, 28672))  # qkv, gate+up, down

# A block of each, and one that a CPU trains within a second; in the order of the op's dimensions. GPT-2's own MLP has
# two matrices of 3072; three of 2048, with a gate, have as many parameters and FLOP.
GPT2_SMALL_BLOCK = {"heads": 12, "kv_heads": 12, "head_dim": 64, "inner": 2048}
LLAMA3_8B_BLOCK = {"heads": 32, "kv_heads": 8, "head_dim": 128, "inner": 14336}
SMALL_BLOCK = {"heads": 8, "kv_heads": 4, "head_dim": 64, "inner": 1536}
WIDE_BLOCK = {"heads": 16, "kv_heads": 4, "head_dim": 64, "inner": 4096}  # over a CPU's cache

# (experts, active, n, k) of the gate and up projections of mixtures.
MIXTURES = ((8, 2, 28672, 4096), (128, 8, 1536, 2048))  # Mixtral-8x7B, Qwen3-30B-A3B
SMALL_MIXTURE = (8, 2, 2048, 1024)

# A whole model, as published: its MLPs have two matrices.
GPT2_SMALL_MODEL = {
    "layers": 12,
    "heads": 12,
    "kv_heads": 12,
    "head_dim": 64,
    "inner": 3072,
    "vocab": 50257,
    "matrices": 2,
}

Heads = tuple[int, int, int]  # heads, kv_heads, head_dim
GPT2_HEADS, LLAMA3_8B_HEADS, CPU_HEADS = (12, 12, 64), (32, 8, 128), (8, 4, 128)

ALL_BATCHES = (1, 2, 4, 8, 16, 32, 64, 96, 128, 129, 192, 256, 384, 512, 1024, 2048, 4096, 8192)
SOME_BATCHES = (1, 4, 16, 64, 128, 256, 512, 1024, 4096)

BF16, FP16, FP32, TF32 = (find_dtype(name) for name in ("bf16", "fp16", "fp32", "tf32"))
FP8, INT8 = (find_dtype(name) for name in ("fp8", "int8"))

# The longest napkin of one CPU launch: warm-up, samples and an fp64 reference take ten times that.
CPU_LAUNCH_LIMIT_S: Mapping[str, float] = MappingProxyType(
    {"smoke": 0.05, "quick": 0.1, "standard": 0.3, "full": 1.0, "kernels": 0.3, "calibration": 0.1}
)

# The most seconds of sampling that a case gets; it stops earlier if its median is known.
SUITE_BUDGET_S: Mapping[str, float] = MappingProxyType(
    {"smoke": 0.1, "quick": 0.3, "standard": 0.5, "full": 0.5, "kernels": 0.5, "calibration": 0.5}
)


def _sized(op: str, dtype: DType, *sizes: tuple[int, ...]) -> list[Workload]:
    """`op` at each of these sizes, which are in the order of its dimensions."""
    return [make_workload(op, dict(zip(dim_names(op), size, strict=True)), dtype) for size in sizes]


def matmuls(
    shapes: Iterable[tuple[int, int]], batches: Iterable[int], *dtypes: DType, op: str = "matmul"
) -> list[Workload]:
    """Activations of m tokens times a weight of k x n, every dtype, shape and batch; `op` says how they are stored."""
    sizes = [(m, n, k) for (n, k), m in itertools.product(shapes, batches)]
    return [workload for dtype in dtypes for workload in _sized(op, dtype, *sizes)]


def quantized(shapes: Iterable[tuple[int, int]], batches: Iterable[int]) -> list[Workload]:
    """8-bit and 4-bit weights for bf16 activations, and both operands in 8 bits."""
    shapes, batches = tuple(shapes), tuple(batches)
    return [
        *matmuls(shapes, batches, BF16, op="matmul_w8a16"),
        *matmuls(shapes, batches, BF16, op="matmul_w4a16"),
        *matmuls(shapes, batches, FP8, INT8, op="matmul_scaled"),
    ]


def row_wise(tokens: Iterable[int], dtype: DType, *, smoke: bool = False) -> list[Workload]:
    """The ops of ROW_WISE on these numbers of rows; with `smoke` only those that the smoke suite holds."""
    return _on_rows(tokens, dtype, (row for row in ROW_WISE if row.smoke or not smoke))


def all_row_wise(tokens: Iterable[int], dtype: DType) -> list[Workload]:
    """The ops of ROW_WISE and of GPT2_ROW_WISE on these numbers of rows."""
    return _on_rows(tokens, dtype, (*ROW_WISE, *GPT2_ROW_WISE))


def _on_rows(tokens: Iterable[int], dtype: DType, ops: Iterable[RowWise]) -> list[Workload]:
    return [
        workload
        for count, row in itertools.product(tokens, ops)
        for workload in _sized(row.op, dtype, (count, *row.sizes))
    ]


def mixtures(shapes: Iterable[tuple[int, int, int, int]], tokens: Iterable[int], dtype: DType) -> list[Workload]:
    """The product of a layer's experts for each shape (experts, active, n, k) and number of tokens, whose rows are
    spread evenly and by a power law."""
    sizes = [(count, *shape) for shape, count in itertools.product(shapes, tokens)]
    return [workload for op in RULES for workload in _sized(op, dtype, *sizes)]


def prefills(
    sequences: Iterable[int], dtype: DType, heads: Heads = LLAMA3_8B_HEADS, *, batch: int = 1
) -> list[Workload]:
    """Causal attention over prompts."""
    return _sized("attention_prefill", dtype, *((batch, seq, *heads) for seq in sequences))


def decodes(
    batches: Iterable[int], contexts: Iterable[int], dtype: DType, heads: Heads = LLAMA3_8B_HEADS
) -> list[Workload]:
    """One query per sequence over a KV cache."""
    sizes = itertools.product(batches, contexts)
    return _sized("attention_decode", dtype, *((batch, context, *heads) for batch, context in sizes))


def generations(contexts: Iterable[int], dtype: DType, *, heads: int = 32, head_dim: int = 128) -> list[Workload]:
    """One token of one attention layer, with and without a cache, as in the lesson: every head has its own K and V."""
    sizes = [(1, context, heads, heads, head_dim) for context in contexts]
    return [
        workload
        for size in sizes
        for workload in (*_sized("generate_cached", dtype, size), *_sized("generate_uncached", dtype, size))
    ]


def blocks(
    model: Mapping[str, int], sequences: Iterable[int], batches: Iterable[int], contexts: Iterable[int], dtype: DType
) -> list[Workload]:
    """A block of `model` over prompts, decoding with a cache, and training on one sequence; the last always in bf16."""
    block = tuple(model.values())
    prompts = [(1, seq, *block) for seq in sequences]
    steps = [(batch, context, *block) for batch, context in itertools.product(batches, contexts)]
    return [
        *_sized("block_forward", dtype, *prompts),
        *_sized("block_decode", dtype, *steps),
        *_sized("block_train", BF16, *prompts),
    ]


def attentions(sequences: Iterable[int], caches: Iterable[tuple[int, int]], dtype: DType) -> list[Workload]:
    """Every kind of attention at Llama-3-8B's shape (latent attention at DeepSeek-V3's), over prompts of these lengths
    and caches of these (batch, context); and the prefill, decode and products that they are compared with
    (`reports/run/rules.py`)."""
    heads = LLAMA3_8B_HEADS
    prompts = [
        workload
        for seq in sequences
        for workload in (
            *_sized("attention_prefill", dtype, (1, seq, *heads)),
            *_sized("attention_full", dtype, (1, seq, *heads)),
            *_sized("attention_window", dtype, (1, seq, seq // 4, *heads)),
            *_sized("attention_packed", dtype, (8, seq, *heads)),
            *_sized("attention_chunk", dtype, (1, min(512, seq // 2), seq, *heads)),
            *_sized("attention_backward", dtype, (1, seq, *heads)),
            *_sized("matmul", dtype, (seq, 4096, 4096)),
            *_sized("linear_backward", dtype, (seq, 4096, 4096)),
        )
    ]
    tokens = [
        workload
        for batch, context in caches
        for workload in (
            *_sized("attention_decode", dtype, (batch, context, *heads)),
            *_sized("attention_chunk", dtype, *((batch, queries, context, *heads) for queries in (1, 4, 8, 16))),
            *_sized("attention_decode_fp8", BF16, (batch, context, *heads)),
            *_sized("attention_paged", dtype, *((batch, context, page, *heads) for page in (16, 64, 256))),
            *_sized("attention_mla", dtype, (batch, context, 128, 512, 64)),
        )
    ]
    return [*prompts, *tokens]


def whole_models(
    model: Mapping[str, int], sequences: Iterable[int], caches: Iterable[tuple[int, int]], dtype: DType
) -> list[Workload]:
    """A whole model over one prompt of each length, and decoding with caches of these (batch, context)."""
    prompts = [make_workload("model_forward", {"batch": 1, "seq": seq, **model}, dtype) for seq in sequences]
    sizes = ({"batch": batch, "context": context, **model} for batch, context in caches)
    return [*prompts, *(make_workload("model_decode", size, dtype) for size in sizes)]


def trainings(model: Mapping[str, int], sequences: Iterable[int], layers: int) -> list[Workload]:
    """Training steps of one block and of several, whose activations are kept or computed again; in bf16. Prompts of
    several lengths tell what a parameter takes and what a token does."""
    block = tuple(model.values())
    single = [(1, seq, *block) for seq in sequences]
    several = [
        make_workload("block_train", {"batch": 1, "seq": seq, **model, "layers": layers, "forwards": forwards}, BF16)
        for seq, forwards in itertools.product(sequences, (1, 2))
    ]
    return [*_sized("block_train", BF16, *single), *several]


def loops(model: Mapping[str, int], context: int, slots: int, layers: int, dtype: DType) -> list[Workload]:
    """A server's loop under static and continuous batching, whose requests make 48 and 8 tokens in turn; and 24 tokens
    of one sequence, one by one and with guesses of which 80 % are right."""
    served = {"slots": slots, "requests": 2 * slots, "long": 48, "short": 8, "context": context, **model}
    made = {"context": context, "tokens": 24, "layers": layers, **model}
    drafted = [{**made, "guesses": guesses, "accepted": 80} for guesses in (3, 5)]
    return [
        *(make_workload(op, served, dtype) for op in SERVING),
        make_workload("generate_tokens", made, dtype),
        *(make_workload("generate_drafted", each, dtype) for each in drafted),
    ]


def _model_blocks(sequences: Iterable[int], batches: Iterable[int], contexts: Iterable[int]) -> list[Workload]:
    """Blocks of a small model and of a common one."""
    sizes = tuple(sequences), tuple(batches), tuple(contexts)
    return [workload for model in (GPT2_SMALL_BLOCK, LLAMA3_8B_BLOCK) for workload in blocks(model, *sizes, BF16)]


def calibrations(dtype: DType) -> list[Workload]:
    """The probes that calibrate expected times, of every op that has some."""
    return [workload for op in PROBES for workload in probe_workloads(op, dtype)]


GPU_SUITES: Mapping[str, tuple[Workload, ...]] = MappingProxyType(
    {
        "smoke": (
            *matmuls(((4096, 4096),), (1, 16, 4096), BF16),
            *prefills((2048,), BF16),
            *decodes((8,), (4096,), BF16),
            *generations((1024,), BF16),
            *row_wise((64,), BF16, smoke=True),
        ),
        "quick": (
            *matmuls(((28672, 4096),), SOME_BATCHES, BF16),
            *prefills((512, 1024, 2048, 4096, 8192), BF16),
            *decodes((1, 16, 64), (1024, 8192, 32768), BF16),
            *generations((128, 512, 2048, 8192), BF16),
            *quantized(((28672, 4096),), (1, 64)),
            *row_wise((8192,), BF16),
        ),
        "standard": (
            *matmuls(LLAMA3_8B[2:], ALL_BATCHES, BF16),
            *matmuls((*LLAMA3_8B[:2], *GPT2_SMALL[1:3], *LLAMA3_70B[1:]), SOME_BATCHES, BF16),
            *matmuls(((4096, 4096),), (1, 64, 1024, 4096), FP16, TF32, FP32),
            *prefills((512, 1024, 2048, 4096, 8192, 16384), BF16),
            *prefills((512, 2048, 8192), BF16, GPT2_HEADS),
            *decodes((1, 8, 64, 256), (1024, 4096, 16384), BF16),
            *decodes((1, 8), (131072,), BF16),
            *decodes((8,), (4096, 32768), BF16, (32, 32, 128)),
            *generations((128, 512, 1024, 2048, 4096, 8192, 32768), BF16),
            *quantized(((28672, 4096), (57344, 8192)), (1, 16)),
            *quantized(((28672, 4096),), (256, 4096)),
            *mixtures(MIXTURES, (1, 16, 256, 4096), BF16),
            *all_row_wise((64, 8192), BF16),
            *attentions((4096,), ((64, 4096),), BF16),
            *_model_blocks((1024,), (1, 64), (8192,)),
            *whole_models(GPT2_SMALL_MODEL, (1024,), ((1, 1024), (64, 1024)), BF16),
            *trainings(LLAMA3_8B_BLOCK, (16, 1024), 4),
            *loops(LLAMA3_8B_BLOCK, 1024, 16, 4, BF16),
            *calibrations(BF16),
        ),
        "full": (
            *matmuls((*GPT2_SMALL, *LLAMA3_8B, *LLAMA3_70B), ALL_BATCHES, BF16),
            *matmuls(LLAMA3_8B, ALL_BATCHES, FP16, TF32, FP32),
            *prefills((512, 1024, 2048, 4096, 8192, 16384), BF16),
            *prefills((512, 1024, 2048, 4096, 8192), BF16, batch=4),
            *prefills((512, 1024, 2048, 4096, 8192, 16384), BF16, GPT2_HEADS),
            *decodes((1, 2, 4, 8, 16, 32, 64, 128, 256), (1024, 4096, 16384, 65536, 131072), BF16),
            *decodes((1, 8, 64), (1024, 8192, 32768), BF16, (32, 32, 128)),
            *decodes((1, 8, 64), (1024, 8192, 32768), BF16, GPT2_HEADS),
            *generations((128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768), BF16),
            *quantized((*LLAMA3_8B, *LLAMA3_70B), (1, 4, 16, 64, 256, 1024, 4096)),
            *mixtures(MIXTURES, (1, 4, 16, 64, 256, 1024, 4096, 16384), BF16),
            *all_row_wise((1, 64, 1024, 8192, 32768), BF16),
            *_sized("softmax", BF16, (4096, 32768), (2048, 131072)),
            *attentions((1024, 4096, 16384), ((1, 32768), (8, 8192), (64, 4096)), BF16),
            *_model_blocks((1024, 4096), (1, 8, 64), (1024, 8192)),
            *whole_models(GPT2_SMALL_MODEL, (128, 1024), ((1, 1024), (8, 1024), (64, 1024)), BF16),
            *trainings(GPT2_SMALL_BLOCK, (16, 1024), 8),
            *trainings(LLAMA3_8B_BLOCK, (16, 4096), 4),
            *loops(LLAMA3_8B_BLOCK, 1024, 16, 4, BF16),
            *calibrations(BF16),
        ),
        # The sizes at which kernels are judged, each by its roof or by the best peer.
        "kernels": (
            *matmuls((*LLAMA3_8B, *LLAMA3_70B), (1, 2, 4, 8, 16, 64, 256, 1024, 2048, 4096, 8192), BF16),
            *quantized((LLAMA3_8B[2], *LLAMA3_70B[1:]), (1, 4, 16)),
            *quantized((LLAMA3_8B[2],), (256, 4096)),
            *mixtures(MIXTURES, (1, 16, 256, 4096), BF16),
            *all_row_wise((64, 8192, 32768), BF16),
            *_sized("softmax", BF16, (4096, 32768), (2048, 131072)),
            *prefills((4096, 8192, 16384), BF16),
            *decodes((8, 64), (8192,), BF16),
            *attentions((4096, 16384), ((64, 8192),), BF16),
        ),
        "calibration": tuple(calibrations(BF16)),
    }
)
SUITES = tuple(GPU_SUITES)


def _cpu_weight(limits: Limits) -> tuple[int, int]:
    """(n, k) of Llama-3-8B's output projection, made taller until it is over twice the last-level cache."""
    n, k = 4096, 4096
    while n * k * limits.dtype.bytes <= 2 * (limits.last_level_cache_bytes or 0):
        n *= 2
    return n, k


def _cpu_suites(limits: Limits) -> dict[str, list[Workload]]:
    """The same families, sized for a CPU."""
    dtype, weight = limits.dtype, _cpu_weight(limits)
    standard = [
        *matmuls((weight,), (1, 2, 4, 8, 16, 32, 64, 128, 256, 512), dtype),
        *matmuls(GPT2_SMALL, (1, 8, 64, 512), dtype),
        *prefills((128, 256, 512, 1024, 2048, 4096), dtype, CPU_HEADS),
        *prefills((256, 1024, 2048), dtype, GPT2_HEADS),
        *decodes((1, 4, 16), (1024, 4096, 16384, 32768), dtype, CPU_HEADS),
        *decodes((1, 4), (1024, 4096, 16384), dtype, (8, 8, 128)),
        *generations((128, 256, 512, 1024, 2048, 4096), dtype, heads=8),
        *matmuls((weight,), (1, 32), BF16, op="matmul_w8a16"),
        *mixtures((SMALL_MIXTURE,), (1, 64), dtype),
        *all_row_wise((4096,), dtype),
        *attentions((256,), ((2, 512),), dtype),
        *blocks(SMALL_BLOCK, (64, 256), (1, 8), (1024,), dtype),
    ]
    return {
        "smoke": [
            *matmuls(((2048, 2048),), (1, 64), dtype),
            *prefills((256,), dtype, (8, 2, 64)),
            *decodes((1,), (2048,), dtype, (8, 2, 64)),
            *generations((128,), dtype, heads=8, head_dim=64),
            *row_wise((64,), dtype, smoke=True),
        ],
        "quick": [
            *matmuls((weight,), (1, 2, 4, 8, 16, 32, 64, 128), dtype),
            *prefills((256, 512, 1024), dtype, CPU_HEADS),
            *decodes((1, 8), (1024, 4096, 16384), dtype, CPU_HEADS),
            *generations((128, 256, 512, 1024), dtype, heads=8),
        ],
        "standard": standard,
        "full": [
            *standard,
            *matmuls(LLAMA3_8B[2:3], (1, 16, 256), dtype),
            *matmuls(((4096, 4096),), (1, 16, 256), FP32 if dtype is BF16 else BF16),
            *decodes((4, 16), (4096, 16384), dtype, (8, 1, 128)),
            *matmuls((weight,), (1,), BF16),
            *trainings(SMALL_BLOCK, (16, 512), 4),
            *trainings(WIDE_BLOCK, (16,), 2),
            *loops(WIDE_BLOCK, 256, 8, 4, dtype),
        ],
        # No kernel of ours runs on a CPU.
        "kernels": [*matmuls((weight,), (1, 8, 64), dtype), *quantized((weight,), (1,)), *row_wise((64, 4096), dtype)],
        # No expected time comes of these: its forms are those of GPU kernels.
        "calibration": calibrations(dtype),
    }


def check_suite(name: str) -> None:
    """Raise BadRun, listing the suites, if none is called `name`."""
    if name not in SUITES:
        raise BadRun(f"there is no suite {quoted(name)}{did_you_mean(name, SUITES)}known: {', '.join(SUITES)}")


def suite(name: str, limits: Limits) -> tuple[Workload, ...]:
    """The workloads of suite `name` for `limits`, each once. Raises BadRun listing the suites.

    On a CPU whose roofs are known, workloads whose napkin is over CPU_LAUNCH_LIMIT_S are left out.
    """
    check_suite(name)
    workloads = GPU_SUITES[name] if limits.device == "cuda" else _cpu_suites(limits)[name]
    roofs = limits.roofs
    if limits.device == "cpu" and roofs is not None:
        workloads = [workload for workload in workloads if _is_affordable(workload, roofs, CPU_LAUNCH_LIMIT_S[name])]
    return tuple({workload.id: workload for workload in workloads}.values())


def _is_affordable(workload: Workload, roofs: Roofs, limit_s: float) -> bool:
    """Whether one launch stays within the limit; True if a roof that it needs was not measured."""
    try:
        return bool(predict(workload.amounts, roofs).napkin_s <= limit_s)
    except MissingCeiling:
        return True


def roof_probes(limits: Limits) -> tuple[Workload, ...]:
    """The workloads that measure the machine's own roofs; every run begins with them."""
    if limits.device == "cuda":
        size_bytes = _fitted(2048 * MIB, limits, share=16)
        products = [
            *matmuls(((8192, 8192), (16384, 4096)), (8192,), BF16),
            *matmuls(((8192, 8192),), (8192,), FP16),
            *matmuls(((8192, 8192),), (4096,), TF32),
            *matmuls(((4096, 4096),), (4096,), FP32),
        ]
    else:
        cache_bytes = limits.last_level_cache_bytes or 64 * MIB
        size_bytes = _fitted(max(64 * MIB, 4 * cache_bytes), limits, share=48)  # other programs use that memory too
        products = [
            *matmuls(((8192, 8192),), (1,), FP32),  # a matrix-vector product measures reads too
            *matmuls(((2048, 2048), (4096, 1024), (1024, 4096)), (512,), FP32),
            *matmuls(((2048, 2048), (4096, 1024)), (256,), BF16),
        ]
    return (make_workload("launch", {}, FP32), *_streams(size_bytes), *products)


def further_probes(workloads: Iterable[Workload], limits: Limits) -> tuple[Workload, ...]:
    """A product in each format of these workloads that no roof probe has."""
    probed = {probe.dtype for probe in roof_probes(limits) if probe.op.startswith("matmul")}
    asked = dict.fromkeys(workload.dtype for workload in workloads if workload.amounts.flop)
    shape, m = ((8192, 8192), 8192) if limits.device == "cuda" else ((2048, 2048), 256)
    return tuple(
        probe
        for dtype in asked
        if dtype not in probed
        for probe in matmuls((shape,), (m,), dtype, op="matmul_scaled" if dtype in (FP8, INT8) else "matmul")
    )


def l2_roof_probe(limits: Limits) -> Workload | None:
    """A read of half the L2, to be timed warm; None if the size of L2 is unknown."""
    if limits.last_level_cache_bytes is None:
        return None
    return make_workload("stream_read", {"n": limits.last_level_cache_bytes // 2 // 4}, FP32)


def _streams(size_bytes: int) -> list[Workload]:
    """Read, write, copy and triad over fp32 vectors of `size_bytes`."""
    n = size_bytes // 4
    return [make_workload(op, {"n": n}, FP32) for op in ("stream_read", "stream_write", "stream_copy", "stream_triad")]


_WEIGHTS = (*LLAMA3_8B, LLAMA3_70B[1])
_LARGE_WEIGHTS = (LLAMA3_8B[2], LLAMA3_70B[1])
_NORM_SIZES = tuple(itertools.product((1, 8192), (4096, 8192, 16384)))  # rows, cols: one token, and a long prompt


# The variants of attention; the ops elsewhere have shapes of their own below, or no configurations.
_TUNED_ELSEWHERE = ("attention_prefill", "attention_decode", "matmul", "linear_backward")
_VARIANTS = [
    workload
    for workload in attentions((1024, 8192), ((8, 8192), (64, 4096)), BF16)
    if workload.op not in _TUNED_ELSEWHERE
]

# The few shapes of each op on which configurations of its kernel are compared.
TUNING: Mapping[str, tuple[Workload, ...]] = MappingProxyType(
    {
        "matmul": tuple(matmuls(_WEIGHTS, (1, 16, 64, 256, 1024, 4096), BF16)),
        **{op: tuple(each for each in mixtures(MIXTURES, (1, 16, 256, 4096), BF16) if each.op == op) for op in RULES},
        "matmul_scaled": tuple(matmuls(_LARGE_WEIGHTS, (1, 16, 64, 256, 4096), FP8, INT8, op="matmul_scaled")),
        **{op: tuple(matmuls(_LARGE_WEIGHTS, (1, 4, 16, 64), BF16, op=op)) for op in ("matmul_w8a16", "matmul_w4a16")},
        **{
            op: tuple(_sized(op, BF16, *_NORM_SIZES)) for op in ("rmsnorm", "add_rmsnorm", "layernorm", "add_layernorm")
        },
        "softmax": tuple(_sized("softmax", BF16, (4096, 4096), (4096, 32768), (1024, 131072))),
        **{op: tuple(_sized(op, BF16, (8192, 14336))) for op in ("swiglu", "gelu")},
        "rope": tuple(_sized("rope", BF16, (8192, 32, 128))),
        "attention_prefill": (*prefills((1024, 8192), BF16), *prefills((1024, 8192), BF16, (32, 8, 64))),
        "attention_decode": (*decodes((8,), (8192,), BF16), *decodes((64,), (4096,), BF16)),
        **{variant.op: tuple(each for each in _VARIANTS if each.op == variant.op) for variant in _VARIANTS},
        **{stream.op: (stream,) for stream in _streams(GIB)},
    }
)


def tuning_workloads(op: str, dtype: DType | None) -> tuple[Workload, ...]:
    """The shapes that `op` is tuned on, in `dtype` if one is given. Raises BadRun listing the ops that have shapes, and
    BadWorkload for a dtype that the op does not take."""
    if op not in TUNING:
        raise BadRun(f"there are no shapes to tune {op} on; ops that have shapes: {', '.join(TUNING)}")
    workloads = (make_workload(each.op, each.dims, dtype or each.dtype) for each in TUNING[op])
    return tuple({workload.id: workload for workload in workloads}.values())


def _fitted(size_bytes: int, limits: Limits, *, share: int) -> int:
    """Bytes of an array: `size_bytes`, or 1/share of the memory so that several fit with their copies in fp64."""
    if limits.memory_bytes is None:
        return size_bytes
    return min(size_bytes, max(1, limits.memory_bytes // share // MIB) * MIB)
