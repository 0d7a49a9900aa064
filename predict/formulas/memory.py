"""Bytes: weights, training state, activations, KV cache, and how many GPUs, tokens or requests they leave room for.

Convention: sizes are bytes (80 GB is 80e9, 80 GiB is 80 * 2**30), a 16-bit element is 2 bytes, an activation is what
one layer keeps for its backward pass. Ints give exact ints wherever the formula is whole; arrays give whole sweeps.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

import numpy as np

from predict import checks
from predict.errors import BadQuantity
from predict.workloads import Count, Number

# What a serving process holds beside weights and KV cache: CUDA context, NCCL buffers, workspaces. Nothing here adds it
# unasked. A round figure: aiconfigurator (commit 095f58a) reserves 3.5 GiB as `other_mem`, and up to 392 MiB for NCCL.
RUNTIME_OVERHEAD_BYTES = 3_500_000_000

# Relative: a few dozen roundings of float64, and less than a byte in 100 TB.
_ROUNDING = 1e-14


@dataclass(frozen=True, slots=True)
class WeightFormat:
    """How weights are stored: `bits` each, and one scale (and zero point) for every `group` of them.

    Where `group` is None the scales are too few to count: one per tensor or per output channel, under 0.1 %.
    """

    name: str
    bits: int
    group: int | None = None
    scale_bits: int = 0
    zero_bits: int = 0
    source: str = field(kw_only=True)

    @property
    def bits_per_weight(self) -> float:
        """What a weight costs with its share of the scales, in bits."""
        return float(bits_per_weight(self.bits, self.group, self.scale_bits, self.zero_bits))


WEIGHT_FORMATS: Mapping[str, WeightFormat] = MappingProxyType(
    {
        weights.name: weights
        for weights in (
            WeightFormat("fp32", 32, source="IEEE 754 binary32"),
            WeightFormat("bf16", 16, source="Kalamkar et al. 2019, A study of bfloat16 (arXiv 1905.12322)"),
            WeightFormat("fp16", 16, source="IEEE 754 binary16"),
            WeightFormat("fp8", 8, source="Micikevicius et al. 2022, FP8 formats (arXiv 2209.05433); scale per tensor"),
            WeightFormat(
                "fp8-block",
                8,
                128 * 128,
                32,
                source="DeepSeek-V3 (arXiv 2412.19437) section 3.3: 128 x 128, fp32 scale",
            ),
            WeightFormat("int8", 8, source="gpt-fast quantize.py: weight-only int8, one scale per output channel"),
            WeightFormat("int4", 4, 128, 16, source="GPTQ (arXiv 2210.17323), symmetric, group 128, fp16 scale"),
            WeightFormat(
                "int4-zero",
                4,
                128,
                16,
                16,
                source="AWQ (arXiv 2306.00978), asymmetric GPTQ: fp16 zero point (4.16 bits where it is packed in 4)",
            ),
            WeightFormat(
                "int4-g32", 4, 32, 16, 16, source="gpt-fast quantize.py: int4, group 32, scale and zero in bf16"
            ),
            WeightFormat("mxfp4", 4, 32, 8, source="OCP Microscaling Formats (MX) 1.0: blocks of 32, E8M0 scale"),
            WeightFormat("nvfp4", 4, 16, 8, source="NVIDIA NVFP4: blocks of 16, E4M3 scale; fp32 scale per tensor"),
        )
    }
)


def find_weight_format(name: str) -> WeightFormat:
    """Return the weight format called `name`; raises BadQuantity listing the known ones."""
    try:
        return WEIGHT_FORMATS[name]
    except KeyError:
        raise BadQuantity(f"unknown weight format {name!r}; known: {', '.join(WEIGHT_FORMATS)}") from None


def bits_per_weight(bits: Number, group: Number | None = None, scale_bits: Number = 0, zero_bits: Number = 0) -> Number:
    """A weight costs bits + (scale_bits + zero_bits)/group: itself and its share of the scale. Without a group there is
    nothing to share, and a scale or a zero point raises BadQuantity."""
    checks.positive(bits=bits)
    checks.not_negative(scale_bits=scale_bits, zero_bits=zero_bits)
    if group is None:
        if np.any(np.add(scale_bits, zero_bits) > 0):
            raise BadQuantity("group must say how many weights share scale_bits and zero_bits")
        return bits
    checks.whole(group=group)
    return bits + (scale_bits + zero_bits) / group


def weight_bytes(params: Number, bits_per_weight: Number = 16) -> Number:
    """The weights take params * bits/8 bytes: 2 bytes per parameter in 16 bits."""
    checks.positive(params=params, bits_per_weight=bits_per_weight)
    return _quotient(params * bits_per_weight, 8)


@dataclass(frozen=True, slots=True)
class Optimizer:
    """Bytes per parameter that training keeps: weights and gradients as the passes use them, the fp32 master copy that
    the optimizer updates (0 where the weights are fp32 themselves), and its moments together."""

    name: str
    weight_bytes: float
    gradient_bytes: float
    master_bytes: float
    moment_bytes: float
    source: str

    @property
    def optimizer_bytes(self) -> float:
        """Master copy and moments: what ZeRO-1 shards."""
        return self.master_bytes + self.moment_bytes

    @property
    def state_bytes_per_param(self) -> float:
        """Everything together: 16 for mixed-precision Adam."""
        return self.weight_bytes + self.gradient_bytes + self.optimizer_bytes


OPTIMIZERS: Mapping[str, Optimizer] = MappingProxyType(
    {
        optimizer.name: optimizer
        for optimizer in (
            Optimizer("adam", 2, 2, 4, 8, "Rajbhandari et al. 2020, ZeRO (arXiv 1910.02054) section 3.1"),
            Optimizer("adam-fp32-gradients", 2, 4, 4, 8, "Megatron-LM: gradients accumulate in fp32"),
            # The fp32 maximum of each block of moments, 0.4 % of them at 1 per 2048, is not counted.
            Optimizer("adam-8bit", 2, 2, 4, 2, "Dettmers et al. 2022, 8-bit optimizers (arXiv 2110.02861)"),
            Optimizer("adam-fp32", 4, 4, 0, 8, "Kingma and Ba 2015, Adam (arXiv 1412.6980), all in fp32"),
        )
    }
)


def find_optimizer(name: str) -> Optimizer:
    """Return the optimizer called `name`; raises BadQuantity listing the known ones."""
    try:
        return OPTIMIZERS[name]
    except KeyError:
        raise BadQuantity(f"unknown optimizer {name!r}; known: {', '.join(OPTIMIZERS)}") from None


@dataclass(frozen=True, slots=True)
class TrainingState:
    """Bytes that outlive a training step; activations come on top."""

    weight_bytes: Number
    gradient_bytes: Number
    optimizer_bytes: Number  # master copy and moments

    @property
    def total_bytes(self) -> Number:
        """Weights, gradients and optimizer state together."""
        return self.weight_bytes + self.gradient_bytes + self.optimizer_bytes


def training_state(params: Number, optimizer: Optimizer = OPTIMIZERS["adam"]) -> TrainingState:
    """The whole model holds 2N + 2N + 12N = 16N bytes with mixed-precision Adam (ZeRO section 3.1)."""
    checks.positive(params=params)
    return TrainingState(
        weight_bytes=params * optimizer.weight_bytes,
        gradient_bytes=params * optimizer.gradient_bytes,
        optimizer_bytes=params * optimizer.optimizer_bytes,
    )


def sharded_state(
    params: Number, zero_stage: int, data_parallel: Number, optimizer: Optimizer = OPTIMIZERS["adam"]
) -> TrainingState:
    """Each GPU holds its ZeRO shard: stage 1 divides the optimizer state by the data-parallel GPUs, stage 2 the
    gradients too, stage 3 (FSDP) the weights too; stage 0 nothing. Adam's 16N bytes become 16N, 4N + 12N/dp,
    2N + 14N/dp, 16N/dp. Raises BadQuantity for another stage. Source: Rajbhandari et al. 2020, ZeRO (arXiv 1910.02054)
    section 5."""
    if zero_stage not in (0, 1, 2, 3):
        raise BadQuantity(f"zero_stage must be 0, 1, 2 or 3, not {zero_stage}")
    checks.whole(data_parallel=data_parallel)
    state = training_state(params, optimizer)
    return TrainingState(
        weight_bytes=_quotient(state.weight_bytes, data_parallel if zero_stage >= 3 else 1),
        gradient_bytes=_quotient(state.gradient_bytes, data_parallel if zero_stage >= 2 else 1),
        optimizer_bytes=_quotient(state.optimizer_bytes, data_parallel if zero_stage >= 1 else 1),
    )


class Recompute(StrEnum):
    """What the backward pass computes again instead of keeping."""

    NONE = "none"
    SELECTIVE = "selective"  # the attention scores
    FLASH = "flash"  # the scores too, inside the backward kernel of FlashAttention: as many bytes, fewer FLOP
    FULL = "full"  # the whole layer, from its input


def activation_bytes_per_layer(
    batch: Number,
    seq: Number,
    hidden: Number,
    heads: Number,
    *,
    recompute: Recompute = Recompute.NONE,
    tensor_parallel: Number = 1,
    sequence_parallel: bool = False,
    dropout: bool = True,
) -> Number:
    """One GELU layer keeps these bytes on each GPU, with 16-bit elements, s = seq, b = batch, h = hidden, a = heads and
    t = tensor_parallel; sequence_parallel divides all of the t = 1 form by t.

        NONE       sbh(34 + 5as/h)    t > 1: sbh(10 + 24/t + 5as/(ht))
        SELECTIVE  34sbh              t > 1: sbh(10 + 24/t); FLASH likewise
        FULL       2sbh, the input    t > 1: 2sbh

    34 is 11 of attention, 19 of the MLP and 4 of the norms; 5as/h is the softmax (2), its dropout mask (1) and what
    leaves the dropout (2). Source: Korthikanti et al. 2022, Reducing activation recomputation (arXiv 2205.05198),
    table 2.

    Without dropout a layer keeps 32sbh + 2as^2b + 8sb, or 32sbh + 4asb + 8sb where the scores are not kept: no masks;
    8sb is mean and deviation of two norms in 16 bits, 4asb the fp32 log-sum-exp. Source: what torch's autograd saves
    for a GPT-2 layer with exact GELU. How that splits over t GPUs is not known and raises BadQuantity.
    """
    checks.whole(batch=batch, seq=seq, hidden=hidden, heads=heads, tensor_parallel=tensor_parallel)
    tokens = seq * batch
    keeps_scores = recompute == Recompute.NONE
    common: Number  # the same on all t GPUs
    split: Number  # divided among them
    if recompute == Recompute.FULL:
        common, split = 2 * tokens * hidden, 0
    elif dropout:
        common = 10 * tokens * hidden
        split = 24 * tokens * hidden + (5 * heads * seq * tokens if keeps_scores else 0)
    elif np.any(np.greater(tensor_parallel, 1)):
        raise BadQuantity("tensor_parallel must be 1 with dropout=False: how that form splits is not known")
    else:
        common = 32 * tokens * hidden + 8 * tokens
        split = 2 * heads * seq * tokens if keeps_scores else 4 * heads * tokens
    if sequence_parallel:
        return _quotient(common + split, tensor_parallel)
    return common + _quotient(split, tensor_parallel)


def attention_score_share(seq: Number, hidden: Number, heads: Number) -> Number:
    """The attention scores take 5as/h bytes per element of sbh, where the rest of a layer takes 34.
    Source: Korthikanti et al. 2022, section 5."""
    checks.whole(seq=seq, hidden=hidden, heads=heads)
    return 5 * heads * seq / hidden


def selective_memory_saving(seq: Number, hidden: Number, heads: Number) -> Number:
    """Selective recomputation frees (5as/h)/(34 + 5as/h) of the activations.
    Source: Korthikanti et al. 2022, section 5."""
    scores = attention_score_share(seq, hidden, heads)
    return scores / (34 + scores)


def selective_flop_overhead(seq: Number, hidden: Number, layers: Number, vocab: Number) -> Number:
    """Selective recomputation adds (1 + s/3h + v/12hL)/(1 + s/6h + v/12hL) - 1 of a training step's FLOP. Kept as
    published: by the count of 4bs^2h FLOP per layer, one more forward pass of the scores is a third of it.
    Source: Korthikanti et al. 2022, appendix A."""
    checks.whole(seq=seq, hidden=hidden, layers=layers, vocab=vocab)
    logits = vocab / (12 * hidden * layers)
    return (1 + seq / (3 * hidden) + logits) / (1 + seq / (6 * hidden) + logits) - 1


def megatron_activation_bytes_per_layer(batch: Number, seq: Number, hidden: Number, intermediate: Number) -> Number:
    """A layer that keeps no scores, with an MLP I = intermediate wide, keeps sbh(18 + 4I/h) bytes: 34sbh where I = 4h.
    The 4I are input and output of the activation; of SwiGLU, which has two inputs, it counts one.
    Source: Megatron-LM, theoretical_memory_usage.py, for tensor parallelism of 1."""
    checks.whole(batch=batch, seq=seq, hidden=hidden, intermediate=intermediate)
    return seq * batch * (18 * hidden + 4 * intermediate)


def logits_bytes(batch: Number, seq: Number, vocab: Number) -> Number:
    """The logits take 6bsV bytes: 2 in 16 bits, and 4 of the fp32 copy that the loss is computed from."""
    checks.whole(batch=batch, seq=seq, vocab=vocab)
    return 6 * batch * seq * vocab


def output_layer_bytes(batch: Number, seq: Number, hidden: Number, vocab: Number) -> Number:
    """The output layer keeps 4sbh(1 + V/h) bytes: the inputs of the last norm and of itself, 2 each, and fp32 logits.
    Source: Korthikanti et al. 2022 section 4.3; Megatron-LM, theoretical_memory_usage.py."""
    checks.whole(batch=batch, seq=seq, hidden=hidden, vocab=vocab)
    return 4 * seq * batch * (hidden + vocab)


def kv_bytes_per_token(layers: Number, kv_heads: Number, head_dim: Number, bytes_per_element: Number = 2) -> Number:
    """A token caches 2 * layers * kv_heads * head_dim * bytes: a key and a value per layer and KV head. kv_heads is
    heads for MHA (4Ld bytes in 16 bits), fewer for GQA, 1 for MQA."""
    checks.whole(layers=layers, kv_heads=kv_heads, head_dim=head_dim)
    checks.positive(bytes_per_element=bytes_per_element)
    return 2 * layers * kv_heads * head_dim * bytes_per_element


def mla_kv_bytes_per_token(layers: Number, kv_rank: Number, rope_dim: Number, bytes_per_element: Number = 2) -> Number:
    """A token caches layers * (kv_rank + rope_dim) * bytes under multi-head latent attention: one latent for keys and
    values of all heads, and one key part with the position. Source: DeepSeek-V3 (arXiv 2412.19437) section 2.1."""
    checks.whole(layers=layers, kv_rank=kv_rank, rope_dim=rope_dim)
    checks.positive(bytes_per_element=bytes_per_element)
    return layers * (kv_rank + rope_dim) * bytes_per_element


def kv_share_per_gpu(kv_heads: Number, gpus: Number) -> Number:
    """Each GPU holds max(1/gpus, 1/kv_heads) of a KV cache: tensor parallelism splits by KV heads, and beyond that
    every GPU keeps a whole one."""
    checks.whole(kv_heads=kv_heads, gpus=gpus)
    return np.maximum(1 / gpus, 1 / kv_heads)


def paged_kv_bytes(tokens: Number, block: Number, kv_bytes_per_token: Number) -> Number:
    """A request holds whole blocks of `block` tokens: ceil(tokens/block) * block * kv_bytes_per_token.
    Source: Kwon et al. 2023, PagedAttention (arXiv 2309.06180) section 4."""
    checks.not_negative(tokens=tokens)
    checks.whole(block=block)
    checks.positive(kv_bytes_per_token=kv_bytes_per_token)
    return _ceil_quotient(tokens, block) * block * kv_bytes_per_token


def page_waste_tokens(block: Number) -> Number:
    """A request leaves (block - 1)/2 tokens of its last block empty on average, every length being as likely."""
    checks.whole(block=block)
    return (block - 1) / 2


def min_gpus(total_bytes: Number, hbm_bytes: Number, overhead_bytes: Number = 0) -> Count:
    """It takes ceil(total/(hbm - overhead)) GPUs to hold `total_bytes` split evenly, `overhead_bytes` of each being
    taken. Raises BadQuantity where the overhead leaves nothing."""
    checks.positive(total_bytes=total_bytes)
    return _ceil_quotient(total_bytes, _usable_bytes(hbm_bytes, overhead_bytes))


def free_bytes(gpus: Number, hbm_bytes: Number, resident_bytes: Number, overhead_bytes: Number = 0) -> Number:
    """All GPUs together have gpus * (hbm - overhead) - resident left for a KV cache, `resident_bytes` being held once
    over all of them. Negative where they do not fit."""
    checks.whole(gpus=gpus)
    checks.not_negative(resident_bytes=resident_bytes)
    return gpus * _usable_bytes(hbm_bytes, overhead_bytes) - resident_bytes


def kv_capacity_tokens(free_bytes: Number, kv_bytes_per_token: Number) -> Count:
    """All requests together cache at most floor(free/kv_bytes_per_token) tokens; 0 where `free_bytes` is negative."""
    checks.positive(kv_bytes_per_token=kv_bytes_per_token)
    return _floor_quotient(_spare(free_bytes), kv_bytes_per_token)


def max_requests(free_bytes: Number, kv_bytes_per_request: Number) -> Count:
    """At most floor(free/kv_bytes_per_request) requests fit at once; 0 where `free_bytes` is negative."""
    checks.positive(kv_bytes_per_request=kv_bytes_per_request)
    return _floor_quotient(_spare(free_bytes), kv_bytes_per_request)


def max_context(free_bytes: Number, kv_bytes_per_token: Number, batch: Number) -> Count:
    """Of `batch` requests each has a context of at most floor(free/(batch * kv_bytes_per_token)) tokens; 0 where
    `free_bytes` is negative."""
    checks.positive(kv_bytes_per_token=kv_bytes_per_token)
    checks.whole(batch=batch)
    return _floor_quotient(_spare(free_bytes), batch * kv_bytes_per_token)


def _usable_bytes(hbm_bytes: Number, overhead_bytes: Number) -> Number:
    """What one GPU offers, hbm - overhead; raises BadQuantity where that is nothing."""
    checks.positive(hbm_bytes=hbm_bytes)
    checks.not_negative(overhead_bytes=overhead_bytes)
    if np.any(np.greater_equal(overhead_bytes, hbm_bytes)):
        raise BadQuantity("overhead_bytes must be below hbm_bytes: it leaves no memory")
    return hbm_bytes - overhead_bytes


def _spare(free_bytes: Number) -> Number:
    """The free bytes, 0 where negative; raises BadQuantity where they are not a finite number."""
    spare = np.maximum(free_bytes, 0) if isinstance(free_bytes, np.ndarray) else max(free_bytes, 0)
    checks.not_negative(free_bytes=spare)
    return spare


def _quotient(size: Number, parts: Number) -> Number:
    """The ratio size/parts; an int where both are ints and nothing is left over."""
    if isinstance(size, int) and isinstance(parts, int) and size % parts == 0:
        return size // parts
    return size / parts


def _floor_quotient(total: Number, each: Number) -> Count:
    """The ratio total/each rounded down: exactly for ints; for floats, what is within rounding of a whole number is
    that number."""
    if isinstance(total, int) and isinstance(each, int):
        return total // each
    quotient = np.divide(total, each)
    nearest = np.rint(quotient)
    is_whole = np.abs(quotient - nearest) <= _ROUNDING * np.abs(quotient)
    floor = np.where(is_whole, nearest, np.floor(quotient))
    return floor if floor.ndim else int(floor)


def _ceil_quotient(total: Number, each: Number) -> Count:
    """The ratio total/each rounded up, with the same care."""
    return -_floor_quotient(-total, each)
