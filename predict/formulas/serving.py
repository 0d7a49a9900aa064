"""Serving a model, in formulas: latency and throughput of prefill and decode, batches, use of slots and of the cache.

Scalars or arrays. Times are floors: no launch latency, no queue, no host. `context` counts the tokens that a request
holds in its KV cache; weights are read once a step for the whole batch, a cache once per request. MFU and MBU are the
shares of the peak rate and of the peak bandwidth that are reached.
"""

import heapq

import numpy as np
from numpy.typing import ArrayLike

from predict import checks
from predict.errors import BadQuantity
from predict.workloads import Count, FloatArray, Number


def prefill_s(params: Number, tokens: Number, peak_flop_per_s: Number, mfu: Number = 1.0) -> Number:
    """Time to process a prompt, compute-bound: 2*params*tokens / (peak*mfu) seconds, the napkin of the time to first
    token. Attention scores are left out. Source: the napkin-math lesson's companion 03a; Kaplan et al. 2020, 2.1."""
    checks.positive(params=params, peak_flop_per_s=peak_flop_per_s)
    checks.not_negative(tokens=tokens)
    checks.efficiency(mfu=mfu)
    return 2 * params * tokens / (peak_flop_per_s * mfu)


def decode_step_s(weight_bytes: Number, kv_bytes: Number, bandwidth_bytes_per_s: Number, mbu: Number = 1.0) -> Number:
    """Time of one decode step, memory-bound: (weight_bytes + kv_bytes) / (bandwidth*mbu) seconds, the time per output
    token; `kv_bytes` is the cache of the whole batch. Source: Pope et al. 2022, section 2; companion lesson 03a."""
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
    seconds. Attention is always memory-bound, the weights are until the batch reaches the ridge; `kv_bytes` is the
    cache of the whole batch. Source: Austin et al. 2025, "How to Scale Your Model", chapter on inference."""
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
    """Time to drain an offline job in waves of `batch` alike requests: ceil(requests/batch) * latency seconds."""
    checks.whole(requests=requests, batch=batch)
    checks.not_negative(latency_s=latency_s)
    return -(-requests // batch) * latency_s


def decode_ceiling_tokens_per_s(
    context: Number, kv_bytes_per_token: Number, bandwidth_bytes_per_s: Number, mbu: Number = 1.0
) -> Number:
    """Decode rate that no batch exceeds, since each request reads its own cache: bandwidth*mbu / (context*kv) tokens
    per second, the limit of batch / decode_step_s. Source: companion lesson 03b."""
    checks.positive(context=context, kv_bytes_per_token=kv_bytes_per_token, bandwidth_bytes_per_s=bandwidth_bytes_per_s)
    checks.efficiency(mbu=mbu)
    return bandwidth_bytes_per_s * mbu / (context * kv_bytes_per_token)


def kv_crossover_batch(weight_bytes: Number, context: Number, kv_bytes_per_token: Number) -> Number:
    """Batch at which the caches weigh as much as the weights: weight_bytes / (context*kv) requests, not rounded. Below
    it batching is nearly free, above it every request slows the step. Source: companion lesson 03a."""
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
    requests, not rounded; 0 where the weights alone take longer. Source: companion lesson 03b, the knee at an SLO."""
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
    """Requests whose caches fit into the memory left over: free_bytes / (context*kv), not rounded."""
    checks.positive(context=context, kv_bytes_per_token=kv_bytes_per_token)
    checks.not_negative(free_bytes=free_bytes)
    return free_bytes / (context * kv_bytes_per_token)


def decode_intensity_limit(params: Number, context: Number, kv_bytes_per_token: Number) -> Number:
    """Arithmetic intensity of decoding that no batch exceeds: 2*params / (context*kv) FLOP per byte. Where it is below
    the ridge, decoding stays memory-bound at every batch."""
    checks.positive(params=params, context=context, kv_bytes_per_token=kv_bytes_per_token)
    return 2 * params / (context * kv_bytes_per_token)


def batch_to_saturate(
    ridge_flop_per_byte: Number, n: Number | None = None, k: Number | None = None, weight_bits: Number = 16
) -> Number:
    """Rows m at which C[m,n] = A[m,k] @ B[k,n] reaches the ridge r, for weights of w = weight_bits/8 bytes and
    activations of 2: solving 2mnk / (w*n*k + 2*m*k + 2*m*n) = r gives m = (r*w/2) / (1 - r*(1/n + 1/k)).

    `None` for n or k means so large that its activations weigh nothing; without both m = r*weight_bits/16. Raises
    BadQuantity where n*k/(n+k), the intensity of an endless batch, is not above the ridge. Source: Williams et al. 2009
    for the ridge; the efficiency lesson's "batch of 156" is the form without n and k.
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
            "no batch saturates: n and k are so small that activations keep the intensity below n*k/(n+k), "
            "which must be above ridge_flop_per_byte"
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
    """Rounds in which `sms` SMs work off a matmul's tiles, one tile each: ceil(tiles/sms). Source: NVIDIA, "Matrix
    Multiplication Background User's Guide", section on wave quantization."""
    checks.whole(sms=sms)
    return -(-gemm_tiles(m, n, tile_m, tile_n) // sms)


def wave_efficiency(m: Count, n: Count, tile_m: Count, tile_n: Count, sms: Count) -> Number:
    """Share of the SMs' rounds that hold a tile: tiles / (waves*sms). Source: as for `gemm_waves`."""
    return gemm_tiles(m, n, tile_m, tile_n) / (gemm_waves(m, n, tile_m, tile_n, sms) * sms)


def concurrency(rate_per_s: Number, latency_s: Number) -> Number:
    """Requests in the system on average: rate * latency. Source: Little 1961."""
    checks.not_negative(rate_per_s=rate_per_s, latency_s=latency_s)
    return rate_per_s * latency_s


def bytes_in_flight(bandwidth_bytes_per_s: Number, latency_s: Number) -> Number:
    """Bytes that must be under way to keep a memory busy: bandwidth * latency. Source: Little 1961."""
    checks.not_negative(bandwidth_bytes_per_s=bandwidth_bytes_per_s, latency_s=latency_s)
    return bandwidth_bytes_per_s * latency_s


def mfu(flop: Number, time_s: Number, peak_flop_per_s: Number) -> Number:
    """Model FLOP utilization: flop / (time*peak), counting the model's own FLOP; with recomputed FLOP it is
    hardware utilization, HFU. Above 1 is returned as it is. Source: Chowdhery et al. 2022 (PaLM), appendix B."""
    checks.not_negative(flop=flop)
    checks.positive(time_s=time_s, peak_flop_per_s=peak_flop_per_s)
    return flop / (time_s * peak_flop_per_s)


def mbu(bytes_moved: Number, time_s: Number, bandwidth_bytes_per_s: Number) -> Number:
    """Model bandwidth utilization: bytes / (time*bandwidth), counting the weights and the cache that a step must read.
    Above 1 is returned as it is. Source: Databricks 2023, "LLM Inference Performance Engineering: Best Practices"."""
    checks.not_negative(bytes_moved=bytes_moved)
    checks.positive(time_s=time_s, bandwidth_bytes_per_s=bandwidth_bytes_per_s)
    return bytes_moved / (time_s * bandwidth_bytes_per_s)


def static_batch_utilization(lengths: ArrayLike, slots: int | None = None) -> float:
    """Share of slot-steps that make a token when a batch leaves only with its longest request: sum(lengths) over
    slots * sum of every batch's maximum.

    `lengths` are tokens to generate, in order of arrival; every `slots` of them form a batch, and a last, smaller batch
    occupies all slots too. Without `slots` all requests are one batch: mean/max. Source: the efficiency lesson; Yu et
    al. 2022 (Orca).
    """
    tokens = _check_lengths(lengths)
    width = tokens.size if slots is None else slots
    checks.whole(slots=width)
    batches = np.pad(tokens, (0, -tokens.size % width)).reshape(-1, width)
    return float(tokens.sum() / (width * batches.max(axis=1).sum()))


def static_utilization_exponential(batch: Count) -> Number:
    """Expected mean/max of `batch` exponential lengths, means over means: 1/H_batch, H_n = 1 + 1/2 + ... + 1/n."""
    checks.whole(batch=batch)
    index = np.asarray(batch, dtype=np.int64)
    harmonic = np.cumsum(1 / np.arange(1, index.max() + 1))
    utilization: Number = 1 / harmonic[index - 1]
    return utilization


def static_utilization_uniform(batch: Number) -> Number:
    """Expected mean/max of `batch` lengths uniform from 0 to a limit, means over means: (batch+1) / (2*batch)."""
    checks.whole(batch=batch)
    return (batch + 1) / (2 * batch)


def continuous_batch_utilization(lengths: ArrayLike, slots: int) -> float:
    """Share of slot-steps that make a token when the next request takes a slot as soon as one is free: sum(lengths) /
    (slots*makespan). `lengths` as in `static_batch_utilization`; what is lost is the end, when nothing waits any more.
    Source: Yu et al. 2022 (Orca); Graham 1966 for list scheduling."""
    tokens = _check_lengths(lengths)
    checks.whole(slots=slots)
    free_at = [0.0] * slots
    for length in tokens.tolist():
        heapq.heapreplace(free_at, free_at[0] + length)
    return float(tokens.sum() / (slots * max(free_at)))


def paged_kv_utilization(length: Number, block: Number) -> Number:
    """Share of its pages that a request of `length` tokens fills: length / (ceil(length/block) * block). Source: Kwon
    et al. 2023 (PagedAttention), section 4."""
    checks.whole(length=length, block=block)
    return length / (-(-length // block) * block)


def contiguous_kv_utilization(mean_length: Number, max_length: Number) -> Number:
    """Share of a cache in use that reserves `max_length` tokens per request: mean_length / max_length. Raises
    BadQuantity where the mean is above the maximum. Source: Kwon et al. 2023, section 3.1."""
    checks.positive(mean_length=mean_length, max_length=max_length)
    if np.any(np.greater(mean_length, max_length)):
        raise BadQuantity("mean_length must be at most max_length")
    return mean_length / max_length


def kv_slots_gain(mean_length: Number, max_length: Number, block: Number) -> Number:
    """How many times more requests fit with pages than with a reservation of `max_length` each: max_length /
    (mean_length + (block-1)/2). The last page of a request wastes (block-1)/2 tokens on average. Raises BadQuantity as
    `contiguous_kv_utilization` does. Source: Kwon et al. 2023, sections 3.1 and 4."""
    checks.whole(block=block)
    reserved = contiguous_kv_utilization(mean_length, max_length)
    return mean_length / (mean_length + (block - 1) / 2) / reserved


def _check_lengths(lengths: ArrayLike) -> FloatArray:
    tokens = np.asarray(lengths, dtype=np.float64)
    if tokens.ndim != 1 or not tokens.size:
        raise BadQuantity("lengths must be a list of at least one request")
    checks.positive(lengths=tokens)
    return tokens
