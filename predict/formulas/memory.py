"""Bytes of weights, training state, activations and KV cache, and how many GPUs, tokens or requests fit.

Convention: sizes are bytes (80 GB is 80e9, 80 GiB is 80 * 2**30). A 16-bit element is 2 bytes. An activation is what
one layer keeps for its backward pass. Int arguments give an exact int if the result is whole; arrays give sweeps.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

import numpy as np

from predict import checks
from predict.errors import BadQuantity
from predict.suggest import unknown
from predict.units import DTYPE_SPELLINGS, si
from predict.workloads import Count, Number

# What a process holds besides weights, KV cache and activations: CUDA context, NCCL buffers, workspaces, graphs. A
# round figure: aiconfigurator (commit 095f58a) reserves 3.5 GiB as `other_mem`, up to 392 MiB for NCCL.
RUNTIME_OVERHEAD_BYTES = 3_500_000_000
# Of a card below 35 GB: vLLM leaves a tenth (gpu_memory_utilization, 0.9 by default).
RUNTIME_OVERHEAD_SHARE = 0.1

# Relative tolerance: a few dozen float64 roundings, less than one byte in 100 TB.
_ROUNDING = 1e-14


@dataclass(frozen=True, slots=True)
class WeightFormat:
    """How weights are stored."""

    name: str
    bits: int  # of one weight, without its share of the scale
    group: int | None = None  # weights that share one scale; None: one per tensor or output channel, under 0.1 %
    scale_bits: int = 0  # of one scale
    zero_bits: int = 0  # of one zero point
    source: str = field(kw_only=True)

    @property
    def bits_per_weight(self) -> float:
        """Bits of a weight, including its share of the scale and zero point."""
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
        raise BadQuantity(unknown("weight format", name, WEIGHT_FORMATS, DTYPE_SPELLINGS)) from None


def bits_per_weight(bits: Number, group: Number | None = None, scale_bits: Number = 0, zero_bits: Number = 0) -> Number:
    """Bits of a weight: bits + (scale_bits + zero_bits)/group, its own plus its share of the scale. Raises BadQuantity
    for a scale or a zero point without a group."""
    checks.positive(bits=bits)
    checks.not_negative(scale_bits=scale_bits, zero_bits=zero_bits)
    if group is None:
        if np.any(np.add(scale_bits, zero_bits) > 0):
            raise BadQuantity("group must say how many weights share scale_bits and zero_bits")
        return bits
    checks.whole(group=group)
    return bits + (scale_bits + zero_bits) / group


def weight_bytes(params: Number, bits_per_weight: Number = 16) -> Number:
    """Bytes of the weights: params * bits/8, or 2 per parameter in 16 bits."""
    checks.positive(params=params, bits_per_weight=bits_per_weight)
    return _quotient(params * bits_per_weight, 8)


@dataclass(frozen=True, slots=True)
class Optimizer:
    """Bytes per parameter that training keeps."""

    name: str
    weight_bytes: float  # weights that the passes use
    gradient_bytes: float
    master_bytes: float  # fp32 copy that the optimizer updates; 0 if the weights are fp32 themselves
    moment_bytes: float  # all moments together
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
            # Not counted: the fp32 maximum of each block of 2048 moments, 0.4 % of the moments.
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
        raise BadQuantity(unknown("optimizer", name, OPTIMIZERS)) from None


@dataclass(frozen=True, slots=True)
class TrainingState:
    """Bytes that stay in memory between training steps. Activations are not included."""

    weight_bytes: Number
    gradient_bytes: Number
    optimizer_bytes: Number  # master copy and moments

    @property
    def total_bytes(self) -> Number:
        """Weights, gradients and optimizer state together."""
        return self.weight_bytes + self.gradient_bytes + self.optimizer_bytes


def training_state(params: Number, optimizer: Optimizer = OPTIMIZERS["adam"]) -> TrainingState:
    """Training state of the whole model: 2N + 2N + 12N = 16N bytes with mixed-precision Adam (ZeRO section 3.1)."""
    checks.positive(params=params)
    return TrainingState(
        weight_bytes=params * optimizer.weight_bytes,
        gradient_bytes=params * optimizer.gradient_bytes,
        optimizer_bytes=params * optimizer.optimizer_bytes,
    )


def sharded_state(
    params: Number, zero_stage: int, data_parallel: Number, optimizer: Optimizer = OPTIMIZERS["adam"]
) -> TrainingState:
    """Training state on each GPU under ZeRO. Stage 0 shards nothing, stage 1 the optimizer state, stage 2 also the
    gradients, stage 3 (FSDP) also the weights. For stages 0 to 3 Adam takes 16N, 4N + 12N/dp, 2N + 14N/dp and 16N/dp
    bytes. Raises BadQuantity for another stage. Source: Rajbhandari et al. 2020, ZeRO (arXiv 1910.02054) section 5."""
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
    """What the backward pass recomputes instead of keeping."""

    NONE = "none"
    SELECTIVE = "selective"  # the attention scores
    FLASH = "flash"  # the scores, inside FlashAttention's backward kernel: same bytes as SELECTIVE, fewer FLOP
    OPS = "ops"  # every second matrix and all between; attention's output is kept: torchtitan's selective policy "op"
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
    """Bytes that one GELU layer keeps on each GPU. Elements have 16 bits; s = seq, b = batch, h = hidden, a = heads,
    t = tensor_parallel. With sequence_parallel the bytes are the t = 1 form divided by t.

        NONE              sbh(34 + 5as/h)    t > 1: sbh(10 + 24/t + 5as/(ht))
        SELECTIVE, FLASH  34sbh              t > 1: sbh(10 + 24/t)
        OPS               16sbh              t > 1: sbh(2 + 14/t)
        FULL              2sbh, the input    t > 1: 2sbh

    34 is 11 for attention, 19 for the MLP and 4 for the norms. 5as/h is the softmax (2), its dropout mask (1) and the
    dropout's output (2). Source: Korthikanti et al. 2022, Reducing activation recomputation (arXiv 2205.05198),
    table 2. OPS keeps the input (2), Q and V (2 each), attention's output (2) and that of the up matrix (8), like
    torchtitan's selective policy "op".

    Without dropout there are no masks: a layer keeps 32sbh + 2as^2b + 8sb bytes, or 32sbh + 4asb + 8sb if it does not
    keep the scores. 8sb is the mean and deviation of two norms in 16 bits; 4asb is the fp32 log-sum-exp. Source: what
    torch's autograd saves for a GPT-2 layer with exact GELU. Raises BadQuantity for t > 1 without dropout, because it
    is not known how this form splits.
    """
    checks.whole(batch=batch, seq=seq, hidden=hidden, heads=heads, tensor_parallel=tensor_parallel)
    tokens = seq * batch
    keeps_scores = recompute == Recompute.NONE
    common: Number  # the same on all t GPUs
    split: Number  # divided among them
    if recompute == Recompute.FULL:
        common, split = 2 * tokens * hidden, 0
    elif recompute == Recompute.OPS:
        common, split = 2 * tokens * hidden, 14 * tokens * hidden
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
    """Bytes of attention scores per element of sbh: 5as/h. The rest of a layer takes 34 bytes per element.
    Source: Korthikanti et al. 2022, section 5."""
    checks.whole(seq=seq, hidden=hidden, heads=heads)
    return 5 * heads * seq / hidden


def selective_memory_saving(seq: Number, hidden: Number, heads: Number) -> Number:
    """Share of the activations that selective recomputation frees: (5as/h)/(34 + 5as/h).
    Source: Korthikanti et al. 2022, section 5."""
    scores = attention_score_share(seq, hidden, heads)
    return scores / (34 + scores)


def selective_flop_overhead(seq: Number, hidden: Number, layers: Number, vocab: Number) -> Number:
    """Share of a training step's FLOP that selective recomputation adds: (1 + s/3h + v/12hL)/(1 + s/6h + v/12hL) - 1.
    This is the published form. Counted as 4bs^2h FLOP per layer, one more forward pass of the scores is a third of it.
    Source: Korthikanti et al. 2022, appendix A."""
    checks.whole(seq=seq, hidden=hidden, layers=layers, vocab=vocab)
    logits = vocab / (12 * hidden * layers)
    return (1 + seq / (3 * hidden) + logits) / (1 + seq / (6 * hidden) + logits) - 1


def megatron_activation_bytes_per_layer(batch: Number, seq: Number, hidden: Number, intermediate: Number) -> Number:
    """Bytes that a layer keeps without its scores: sbh(18 + 4I/h), with I = intermediate; 34sbh if I = 4h. The 4I are
    the input and output of the activation function. SwiGLU has two inputs, but the formula counts one.
    Source: Megatron-LM, theoretical_memory_usage.py, for tensor parallelism of 1."""
    checks.whole(batch=batch, seq=seq, hidden=hidden, intermediate=intermediate)
    return seq * batch * (18 * hidden + 4 * intermediate)


def logits_bytes(batch: Number, seq: Number, vocab: Number) -> Number:
    """Bytes of the logits: 6bsV, 2 for the 16-bit logits and 4 for the fp32 copy that the loss uses."""
    checks.whole(batch=batch, seq=seq, vocab=vocab)
    return 6 * batch * seq * vocab


def output_layer_bytes(batch: Number, seq: Number, hidden: Number, vocab: Number) -> Number:
    """Bytes that the output layer keeps: 4sbh(1 + V/h), for the last norm's input (2), its own input (2), fp32 logits.
    Source: Korthikanti et al. 2022 section 4.3; Megatron-LM, theoretical_memory_usage.py."""
    checks.whole(batch=batch, seq=seq, hidden=hidden, vocab=vocab)
    return 4 * seq * batch * (hidden + vocab)


def kv_bytes_per_token(layers: Number, kv_heads: Number, head_dim: Number, bytes_per_element: Number = 2) -> Number:
    """Bytes that a token caches: 2 * layers * kv_heads * head_dim * bytes, a key and a value per layer and KV head.
    kv_heads equals heads for MHA (4Ld bytes in 16 bits), is fewer for GQA and 1 for MQA."""
    checks.whole(layers=layers, kv_heads=kv_heads, head_dim=head_dim)
    checks.positive(bytes_per_element=bytes_per_element)
    return 2 * layers * kv_heads * head_dim * bytes_per_element


def mla_kv_bytes_per_token(layers: Number, kv_rank: Number, rope_dim: Number, bytes_per_element: Number = 2) -> Number:
    """Bytes that a token caches under multi-head latent attention: layers * (kv_rank + rope_dim) * bytes. All heads
    share one latent vector and one rotary key. Source: DeepSeek-V3 (arXiv 2412.19437) section 2.1."""
    checks.whole(layers=layers, kv_rank=kv_rank, rope_dim=rope_dim)
    checks.positive(bytes_per_element=bytes_per_element)
    return layers * (kv_rank + rope_dim) * bytes_per_element


def kv_share_per_gpu(kv_heads: Number, gpus: Number) -> Number:
    """Share of the KV cache on each GPU: max(1/gpus, 1/kv_heads). Tensor parallelism splits the cache by KV heads; each
    GPU holds at least one head."""
    checks.whole(kv_heads=kv_heads, gpus=gpus)
    return np.maximum(1 / gpus, 1 / kv_heads)


def paged_kv_bytes(tokens: Number, block: Number, kv_bytes_per_token: Number) -> Number:
    """Bytes that a request holds in whole blocks of `block` tokens: ceil(tokens/block) * block * kv_bytes_per_token.
    Source: Kwon et al. 2023, PagedAttention (arXiv 2309.06180) section 4."""
    checks.not_negative(tokens=tokens)
    checks.whole(block=block)
    checks.positive(kv_bytes_per_token=kv_bytes_per_token)
    return _ceil_quotient(tokens, block) * block * kv_bytes_per_token


def page_waste_tokens(block: Number) -> Number:
    """Mean empty tokens in a request's last block: (block - 1)/2 if all lengths are equally likely."""
    checks.whole(block=block)
    return (block - 1) / 2


def runtime_overhead_bytes(hbm_bytes: Number) -> Number:
    """Bytes of a GPU that the runtime keeps, besides activations: 3.5 GB, or a tenth of a card below 35 GB. Sources:
    aiconfigurator's `other_mem`; vLLM's default gpu_memory_utilization of 0.9."""
    checks.positive(hbm_bytes=hbm_bytes)
    return np.minimum(RUNTIME_OVERHEAD_BYTES, RUNTIME_OVERHEAD_SHARE * np.asarray(hbm_bytes))[()]


def min_gpus(total_bytes: Number, hbm_bytes: Number, overhead_bytes: Number = 0) -> Count:
    """GPUs that hold `total_bytes` split evenly: ceil(total/(hbm - overhead)). The runtime takes `overhead_bytes` of
    each GPU. Raises BadQuantity if the overhead leaves nothing."""
    checks.positive(total_bytes=total_bytes)
    return _ceil_quotient(total_bytes, _usable_bytes(hbm_bytes, overhead_bytes))


def free_bytes(gpus: Number, hbm_bytes: Number, resident_bytes: Number, overhead_bytes: Number = 0) -> Number:
    """Bytes left for the KV cache on all GPUs together: gpus * (hbm - overhead) - resident. The GPUs together hold
    `resident_bytes` once. Negative if these do not fit."""
    checks.whole(gpus=gpus)
    checks.not_negative(resident_bytes=resident_bytes)
    return gpus * _usable_bytes(hbm_bytes, overhead_bytes) - resident_bytes


def kv_capacity_tokens(free_bytes: Number, kv_bytes_per_token: Number) -> Count:
    """Most tokens that all requests can cache: floor(free/kv_bytes_per_token); 0 if `free_bytes` is negative."""
    checks.positive(kv_bytes_per_token=kv_bytes_per_token)
    return _floor_quotient(_spare(free_bytes), kv_bytes_per_token)


def max_requests(free_bytes: Number, kv_bytes_per_request: Number) -> Count:
    """Most requests that fit at once: floor(free/kv_bytes_per_request); 0 if `free_bytes` is negative."""
    checks.positive(kv_bytes_per_request=kv_bytes_per_request)
    return _floor_quotient(_spare(free_bytes), kv_bytes_per_request)


def max_context(free_bytes: Number, kv_bytes_per_token: Number, batch: Number) -> Count:
    """Longest context that each of `batch` requests can have: floor(free/(batch * kv_bytes_per_token)) tokens; 0 if
    `free_bytes` is negative."""
    checks.positive(kv_bytes_per_token=kv_bytes_per_token)
    checks.whole(batch=batch)
    return _floor_quotient(_spare(free_bytes), batch * kv_bytes_per_token)


def _usable_bytes(hbm_bytes: Number, overhead_bytes: Number) -> Number:
    """Memory of one GPU that is free for data: hbm - overhead. Raises BadQuantity if there is none."""
    checks.positive(hbm_bytes=hbm_bytes)
    checks.not_negative(overhead_bytes=overhead_bytes)
    if np.any(np.greater_equal(overhead_bytes, hbm_bytes)):
        kept, whole = si(float(np.max(overhead_bytes)), "B"), si(float(np.min(hbm_bytes)), "B")
        raise BadQuantity(f"an overhead of {kept} leaves nothing of the {whole} of a GPU")
    return hbm_bytes - overhead_bytes


def _spare(free_bytes: Number) -> Number:
    """The free bytes, or 0 if they are negative. Raises BadQuantity if they are not finite."""
    spare = np.maximum(free_bytes, 0) if isinstance(free_bytes, np.ndarray) else max(free_bytes, 0)
    checks.not_negative(free_bytes=spare)
    return spare


def _quotient(size: Number, parts: Number) -> Number:
    """size/parts; an int if both are ints and there is no remainder."""
    if isinstance(size, int) and isinstance(parts, int) and size % parts == 0:
        return size // parts
    return size / parts


def _floor_quotient(total: Number, each: Number) -> Count:
    """total/each rounded down. Exact for ints. A float within `_ROUNDING` of a whole number counts as that number."""
    if isinstance(total, int) and isinstance(each, int):
        return total // each
    quotient = np.divide(total, each)
    nearest = np.rint(quotient)
    is_whole = np.abs(quotient - nearest) <= _ROUNDING * np.abs(quotient)
    floor = np.where(is_whole, nearest, np.floor(quotient))
    return floor if floor.ndim else int(floor)


def _ceil_quotient(total: Number, each: Number) -> Count:
    """total/each rounded up, with the same tolerance."""
    return -_floor_quotient(-total, each)
