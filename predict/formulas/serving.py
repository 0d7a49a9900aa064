"""Serving: latency and throughput of prefill and decode, batch sizes, and utilization of slots and of the KV cache.

Arguments are scalars or arrays. Times are lower bounds: no launch latency, no queue, no host time. `context` counts the
tokens in a request's KV cache. Each step reads the weights once for the whole batch and the cache of every request
once. MFU is the share of the peak FLOP rate that is reached, MBU the share of the peak bandwidth.
"""

import heapq

import numpy as np
from numpy.typing import ArrayLike

from predict import checks
from predict.errors import BadQuantity
from predict.workloads import Count, FloatArray, Number


def prefill_s(params: Number, tokens: Number, peak_flop_per_s: Number, mfu: Number = 1.0) -> Number:
    """Time to process a prompt if compute-bound: 2*params*tokens / (peak*mfu) seconds, an estimate of the TTFT.
    Attention scores are not counted. Source: the napkin-math lesson's companion 03a; Kaplan et al. 2020, 2.1."""
    checks.positive(params=params, peak_flop_per_s=peak_flop_per_s)
    checks.not_negative(tokens=tokens)
    checks.efficiency(mfu=mfu)
    return 2 * params * tokens / (peak_flop_per_s * mfu)


def decode_step_s(weight_bytes: Number, kv_bytes: Number, bandwidth_bytes_per_s: Number, mbu: Number = 1.0) -> Number:
    """Time of one decode step (TPOT) if memory-bound: (weight_bytes + kv_bytes) / (bandwidth*mbu) seconds. `kv_bytes`
    is the cache of the whole batch. Source: Pope et al. 2022, section 2; companion lesson 03a."""
    checks.positive(weight_bytes=weight_bytes, bandwidth_bytes_per_s=bandwidth_bytes_per_s)
    checks.not_negative(kv_bytes=kv_bytes)
    checks.efficiency(mbu=mbu)
    return (weight_bytes + kv_bytes) / (bandwidth_bytes_per_s * mbu)


def mixed_step_s(
    params: Number,
    batch: Number,
    weight_bytes: Number,
    kv_bytes: Number,
    peak_flop_per_s: Number,
    bandwidth_bytes_per_s: Number,
) -> Number:
    """Time of one decode step at any batch: kv_bytes/bandwidth + max(2*batch*params/peak, weight_bytes/bandwidth)
    seconds. Attention is always memory-bound; the weights are memory-bound until the batch reaches the ridge point.
    `kv_bytes` is the cache of the whole batch. Source: Austin et al. 2025, "How to Scale Your Model", chapter on
    inference."""
    checks.positive(
        params=params,
        batch=batch,
        weight_bytes=weight_bytes,
        peak_flop_per_s=peak_flop_per_s,
        bandwidth_bytes_per_s=bandwidth_bytes_per_s,
    )
    checks.not_negative(kv_bytes=kv_bytes)
    weights_s = np.maximum(2 * batch * params / peak_flop_per_s, weight_bytes / bandwidth_bytes_per_s)
    return kv_bytes / bandwidth_bytes_per_s + weights_s


def latency_s(ttft_s: Number, tpot_s: Number, generated: Number) -> Number:
    """End-to-end time of one request: ttft + (generated - 1)*tpot seconds; prefill makes the first token."""
    checks.not_negative(ttft_s=ttft_s, tpot_s=tpot_s)
    checks.whole(generated=generated)
    return ttft_s + (generated - 1) * tpot_s


def makespan_s(requests: Number, batch: Number, latency_s: Number) -> Number:
    """Time of an offline job in waves of `batch` equal requests: ceil(requests/batch) * latency seconds."""
    checks.whole(requests=requests, batch=batch)
    checks.not_negative(latency_s=latency_s)
    return -(-requests // batch) * latency_s


def decode_ceiling_tokens_per_s(
    context: Number, kv_bytes_per_token: Number, bandwidth_bytes_per_s: Number, mbu: Number = 1.0
) -> Number:
    """Decode rate that no batch exceeds: bandwidth*mbu / (context*kv) tokens per second, the limit of
    batch / decode_step_s. Requests do not share reads of the cache. Source: companion lesson 03b."""
    checks.positive(context=context, kv_bytes_per_token=kv_bytes_per_token, bandwidth_bytes_per_s=bandwidth_bytes_per_s)
    checks.efficiency(mbu=mbu)
    return bandwidth_bytes_per_s * mbu / (context * kv_bytes_per_token)


def kv_crossover_batch(weight_bytes: Number, context: Number, kv_bytes_per_token: Number) -> Number:
    """Batch at which the caches take as many bytes as the weights: weight_bytes / (context*kv) requests, not rounded.
    Below it batching is nearly free; above it every request slows the step. Source: companion lesson 03a."""
    checks.positive(weight_bytes=weight_bytes, context=context, kv_bytes_per_token=kv_bytes_per_token)
    return weight_bytes / (context * kv_bytes_per_token)


def max_decode_batch(
    tpot_s: Number,
    weight_bytes: Number,
    context: Number,
    kv_bytes_per_token: Number,
    bandwidth_bytes_per_s: Number,
    mbu: Number = 1.0,
) -> Number:
    """Largest batch whose memory-bound step takes at most `tpot_s`: (tpot*bandwidth*mbu - weight_bytes) / (context*kv)
    requests, not rounded; 0 if the weights alone take longer. Source: companion lesson 03b, the knee at an SLO."""
    checks.positive(
        tpot_s=tpot_s,
        weight_bytes=weight_bytes,
        context=context,
        kv_bytes_per_token=kv_bytes_per_token,
        bandwidth_bytes_per_s=bandwidth_bytes_per_s,
    )
    checks.efficiency(mbu=mbu)
    return np.maximum(0.0, tpot_s * bandwidth_bytes_per_s * mbu - weight_bytes) / (context * kv_bytes_per_token)


def kv_slots(free_bytes: Number, context: Number, kv_bytes_per_token: Number) -> Number:
    """Requests whose caches fit into the free memory: free_bytes / (context*kv), not rounded."""
    checks.positive(context=context, kv_bytes_per_token=kv_bytes_per_token)
    checks.not_negative(free_bytes=free_bytes)
    return free_bytes / (context * kv_bytes_per_token)


def decode_intensity_limit(params: Number, context: Number, kv_bytes_per_token: Number) -> Number:
    """Arithmetic intensity of decode that no batch exceeds: 2*params / (context*kv) FLOP per byte. If it is below the
    ridge point, decode is memory-bound at every batch."""
    checks.positive(params=params, context=context, kv_bytes_per_token=kv_bytes_per_token)
    return 2 * params / (context * kv_bytes_per_token)


def batch_to_saturate(
    ridge_flop_per_byte: Number, n: Number | None = None, k: Number | None = None, weight_bits: Number = 16
) -> Number:
    """Rows m at which C[m,n] = A[m,k] @ B[k,n] reaches the ridge point r. Weights take w = weight_bits/8 bytes,
    activations 2: solving 2mnk / (w*n*k + 2*m*k + 2*m*n) = r gives m = (r*w/2) / (1 - r*(1/n + 1/k)).

    None for n or k leaves out its term, as if it were infinite; without both m = r*weight_bits/16. Raises BadQuantity
    if n*k/(n+k), the intensity of an infinite batch, is not above the ridge point. Source: Williams et al. 2009 for the
    ridge point; the efficiency lesson's "batch of 156" is the form without n and k.
    """
    checks.positive(ridge_flop_per_byte=ridge_flop_per_byte, weight_bits=weight_bits)
    inverse: Number = 0.0
    for name, size in (("n", n), ("k", k)):
        if size is not None:
            checks.whole(**{name: size})
            inverse = inverse + 1 / size
    share_of_weights = 1 - ridge_flop_per_byte * inverse
    if np.any(np.less_equal(share_of_weights, 0)):
        raise BadQuantity(
            "no batch saturates: activations keep the intensity below n*k/(n+k), which must be above "
            "ridge_flop_per_byte; use a larger n or k"
        )
    return ridge_flop_per_byte * weight_bits / 16 / share_of_weights


def gemm_intensity(m: Number, n: Number, k: Number, bytes_per_element: Number = 2) -> Number:
    """Arithmetic intensity of C[m,n] = A[m,k] @ B[k,n]: 2mnk / ((mk + kn + mn) * bytes_per_element) FLOP per byte."""
    checks.whole(m=m, n=n, k=k)
    checks.positive(bytes_per_element=bytes_per_element)
    return 2 * m * n * k / ((m * k + k * n + m * n) * bytes_per_element)


def gemm_tiles(m: Count, n: Count, tile_m: Count, tile_n: Count) -> Count:
    """Thread blocks of a tiled matmul without split-K: ceil(m/tile_m) * ceil(n/tile_n)."""
    checks.whole(m=m, n=n, tile_m=tile_m, tile_n=tile_n)
    return -(-m // tile_m) * -(-n // tile_n)


def gemm_waves(m: Count, n: Count, tile_m: Count, tile_n: Count, sms: Count) -> Count:
    """Waves of a matmul's tiles over `sms` SMs, one tile per SM: ceil(tiles/sms). Source: NVIDIA, "Matrix
    Multiplication Background User's Guide", section on wave quantization."""
    checks.whole(sms=sms)
    return -(-gemm_tiles(m, n, tile_m, tile_n) // sms)


def wave_efficiency(m: Count, n: Count, tile_m: Count, tile_n: Count, sms: Count) -> Number:
    """Share of the SM slots in all waves that hold a tile: tiles / (waves*sms). Source: as for `gemm_waves`."""
    return gemm_tiles(m, n, tile_m, tile_n) / (gemm_waves(m, n, tile_m, tile_n, sms) * sms)


def concurrency(rate_per_s: Number, latency_s: Number) -> Number:
    """Requests in the system on average: rate * latency. Source: Little 1961."""
    checks.not_negative(rate_per_s=rate_per_s, latency_s=latency_s)
    return rate_per_s * latency_s


def bytes_in_flight(bandwidth_bytes_per_s: Number, latency_s: Number) -> Number:
    """Bytes that must be in flight to keep a memory busy: bandwidth * latency. Source: Little 1961."""
    checks.not_negative(bandwidth_bytes_per_s=bandwidth_bytes_per_s, latency_s=latency_s)
    return bandwidth_bytes_per_s * latency_s


def mfu(flop: Number, time_s: Number, peak_flop_per_s: Number) -> Number:
    """Model FLOP utilization: flop / (time*peak). `flop` counts the model's own FLOP; with recomputed FLOP the result
    is the hardware FLOP utilization, HFU. It may exceed 1. Source: Chowdhery et al. 2022 (PaLM), appendix B."""
    checks.not_negative(flop=flop)
    checks.positive(time_s=time_s, peak_flop_per_s=peak_flop_per_s)
    return flop / (time_s * peak_flop_per_s)


def mbu(bytes_moved: Number, time_s: Number, bandwidth_bytes_per_s: Number) -> Number:
    """Model bandwidth utilization: bytes / (time*bandwidth). `bytes_moved` counts the weights and the cache that a step
    must read. It may exceed 1. Source: Databricks 2023, "LLM Inference Performance Engineering: Best Practices"."""
    checks.not_negative(bytes_moved=bytes_moved)
    checks.positive(time_s=time_s, bandwidth_bytes_per_s=bandwidth_bytes_per_s)
    return bytes_moved / (time_s * bandwidth_bytes_per_s)


def static_batch_utilization(lengths: ArrayLike, slots: int | None = None) -> float:
    """Share of slot-steps that make a token under static batching, where a batch ends with its longest request:
    sum(lengths) / (slots * sum of the maximum of each batch).

    `lengths` are tokens to generate, in order of arrival. Each batch takes `slots` requests; a smaller last batch still
    occupies all slots. Without `slots` all requests form one batch: mean/max. Source: the efficiency lesson; Yu et al.
    2022 (Orca).
    """
    tokens = _check_lengths(lengths)
    width = tokens.size if slots is None else slots
    checks.whole(slots=width)
    batches = np.pad(tokens, (0, -tokens.size % width)).reshape(-1, width)
    return float(tokens.sum() / (width * batches.max(axis=1).sum()))


def static_utilization_exponential(batch: Count) -> Number:
    """Expected mean over expected maximum of `batch` exponential lengths: 1/H_batch, H_n = 1 + 1/2 + ... + 1/n."""
    checks.whole(batch=batch)
    index = np.asarray(batch, dtype=np.int64)
    harmonic = np.cumsum(1 / np.arange(1, index.max() + 1))
    utilization: Number = 1 / harmonic[index - 1]
    return utilization


def static_utilization_uniform(batch: Number) -> Number:
    """Expected mean over expected maximum of `batch` lengths uniform from 0 to a limit: (batch+1) / (2*batch)."""
    checks.whole(batch=batch)
    return (batch + 1) / (2 * batch)


def continuous_batch_utilization(lengths: ArrayLike, slots: int) -> float:
    """Share of slot-steps that make a token under continuous batching, where a request takes the first free slot:
    sum(lengths) / (slots*makespan). `lengths` are as in `static_batch_utilization`. Slots stay idle only at the end,
    when no request waits. Source: Yu et al. 2022 (Orca); Graham 1966 for list scheduling."""
    tokens = _check_lengths(lengths)
    checks.whole(slots=slots)
    free_at = [0.0] * slots
    for length in tokens.tolist():
        heapq.heapreplace(free_at, free_at[0] + length)
    return float(tokens.sum() / (slots * max(free_at)))


def paged_kv_utilization(length: Number, block: Number) -> Number:
    """Share of its pages that a request fills: length / (ceil(length/block) * block), both in tokens. Source: Kwon et
    al. 2023 (PagedAttention), section 4."""
    checks.whole(length=length, block=block)
    return length / (-(-length // block) * block)


def contiguous_kv_utilization(mean_length: Number, max_length: Number) -> Number:
    """Share of a cache that is used if every request reserves `max_length` tokens: mean_length / max_length. Raises
    BadQuantity if the mean is above the maximum. Source: Kwon et al. 2023, section 3.1."""
    checks.positive(mean_length=mean_length, max_length=max_length)
    if np.any(np.greater(mean_length, max_length)):
        raise BadQuantity("mean_length must be at most max_length")
    return mean_length / max_length


def kv_slots_gain(mean_length: Number, max_length: Number, block: Number) -> Number:
    """Requests that fit with pages over requests that fit if each reserves `max_length`: max_length / (mean_length +
    (block-1)/2). The last page of a request wastes (block-1)/2 tokens on average. Raises BadQuantity if the mean is
    above the maximum. Source: Kwon et al. 2023, sections 3.1 and 4."""
    checks.whole(block=block)
    reserved = contiguous_kv_utilization(mean_length, max_length)
    return mean_length / (mean_length + (block - 1) / 2) / reserved


def _check_lengths(lengths: ArrayLike) -> FloatArray:
    tokens = np.asarray(lengths, dtype=np.float64)
    if tokens.ndim != 1 or not tokens.size:
        raise BadQuantity("lengths must be a list of at least one request")
    checks.positive(lengths=tokens)
    return tokens
