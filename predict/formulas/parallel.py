"""Several GPUs: the time of collectives, and their cost under tensor, pipeline and data parallelism.

Bandwidth is that of one GPU in one direction (H100 over NVLink: 450 GB/s, not the 900 GB/s of both directions).
`latency_s` is the time of one step: from one GPU to the next, or to the switch and back. The default is 0, which is far
too low for short messages. Collectives run around a ring, but an all-reduce takes the least of a ring and of a switch
that reduces (NVLink SHARP, InfiniBand SHARP): nothing is faster. `in_switch=False` is the ring alone, for links without
such a switch (A100, PCIe). Arguments are scalars or arrays.
"""

import math
import operator
from dataclasses import dataclass

import numpy as np

from predict import checks
from predict.errors import BadQuantity
from predict.workloads import Number


@dataclass(frozen=True, slots=True)
class Link:
    """The link from one GPU to other nodes, if every GPU has its own adapter. Its latency depends on the network."""

    name: str
    bytes_per_s: float  # per GPU, one direction
    source: str


_ROADMAP = "InfiniBand Trade Association, InfiniBand roadmap"
INFINIBAND_HDR = Link("InfiniBand HDR", 25e9, f"{_ROADMAP}: HDR, 4 lanes, 200 Gbit/s")
INFINIBAND_NDR = Link("InfiniBand NDR", 50e9, f"{_ROADMAP}: NDR, 4 lanes, 400 Gbit/s")
INFINIBAND_XDR = Link("InfiniBand XDR", 100e9, f"{_ROADMAP}: XDR, 4 lanes, 800 Gbit/s")


def all_reduce_bytes(message_bytes: Number, gpus: Number, *, in_switch: bool = True) -> Number:
    """Bytes that each of n GPUs sends in an all-reduce of S = `message_bytes`: (1 + 1/n) * S through a switch that
    reduces, or the ring's bytes if those are fewer (n < 3). With in_switch=False 2(n-1)/n * S, around a ring. Through
    the switch a GPU sends its whole buffer to be summed, then its reduced 1/n to be copied to all. Source: Patarasuk
    and Yuan 2009; NVIDIA nccl-tests, doc/PERFORMANCE.md."""
    checks.not_negative(message_bytes=message_bytes)
    checks.whole(gpus=gpus)
    around_a_ring = 2 * (gpus - 1) / gpus
    factor = np.minimum(around_a_ring, 1 + 1 / gpus) if in_switch else around_a_ring
    return factor * message_bytes


def all_gather_s(message_bytes: Number, gpus: Number, bytes_per_s: Number, latency_s: Number = 0.0) -> Number:
    """Time of a ring all-gather: (n-1)*latency + (n-1)/n * S/bandwidth seconds. S = `message_bytes` is the gathered
    buffer; every GPU contributes 1/n of it. Source: Thakur et al. 2005."""
    return _ring_pass_s(message_bytes, gpus, bytes_per_s, latency_s)


def reduce_scatter_s(message_bytes: Number, gpus: Number, bytes_per_s: Number, latency_s: Number = 0.0) -> Number:
    """Time of a ring reduce-scatter: (n-1)*latency + (n-1)/n * S/bandwidth seconds. S = `message_bytes` is the buffer
    on each GPU; the GPU ends with a reduced 1/n of it. Source: Thakur et al. 2005."""
    return _ring_pass_s(message_bytes, gpus, bytes_per_s, latency_s)


def all_reduce_s(
    message_bytes: Number, gpus: Number, bytes_per_s: Number, latency_s: Number = 0.0, *, in_switch: bool = True
) -> Number:
    """Time of an all-reduce: 2*latency + `all_reduce_bytes` / bandwidth seconds, the least over a ring and a switch
    that reduces. With in_switch=False it is the ring's reduce-scatter and all-gather, which take 2(n-1) latencies.
    `message_bytes` is the buffer on each GPU. Source: as for `all_reduce_bytes`."""
    checks.not_negative(latency_s=latency_s)
    checks.positive(bytes_per_s=bytes_per_s)
    sent_bytes = all_reduce_bytes(message_bytes, gpus, in_switch=in_switch)
    steps = np.minimum(2 * (gpus - 1), 2) if in_switch else 2 * (gpus - 1)
    return steps * latency_s + sent_bytes / bytes_per_s


def all_to_all_s(message_bytes: Number, gpus: Number, bytes_per_s: Number, latency_s: Number = 0.0) -> Number:
    """Time of a pairwise all-to-all: (n-1)*latency + (n-1)/n * S/bandwidth seconds. S = `message_bytes` is the buffer
    on each GPU: the GPU keeps 1/n of it and sends 1/n to each other GPU in turn. Source: Thakur et al. 2005, for long
    messages."""
    return _ring_pass_s(message_bytes, gpus, bytes_per_s, latency_s)


def bus_bandwidth_bytes_per_s(message_bytes: Number, gpus: Number, time_s: Number) -> Number:
    """Rate at which a measured all-reduce used each GPU's link: 2(n-1)/n * S/time bytes per second. Compare it with the
    link's bandwidth in one direction. Source: NVIDIA nccl-tests, doc/PERFORMANCE.md."""
    checks.not_negative(message_bytes=message_bytes)
    checks.whole(gpus=gpus)
    checks.positive(time_s=time_s)
    return 2 * (gpus - 1) / gpus * message_bytes / time_s


def hierarchical_all_reduce_s(
    message_bytes: Number,
    nodes: Number,
    gpus_per_node: Number,
    intra_bytes_per_s: Number,
    inter_bytes_per_s: Number,
    latency_s: Number = 0.0,
    *,
    in_switch: bool = True,
) -> Number:
    """Time of an all-reduce over nodes of g GPUs, in seconds: a reduce-scatter of S inside each node, an all-reduce of
    S/g between nodes over each GPU's own link, and an all-gather of S inside each node. S = `message_bytes` is the
    buffer on each GPU. Both networks take `latency_s` per step, and both reduce in their switches unless
    in_switch=False."""
    checks.whole(nodes=nodes, gpus_per_node=gpus_per_node)
    checks.positive(intra_bytes_per_s=intra_bytes_per_s, inter_bytes_per_s=inter_bytes_per_s)
    inside = all_reduce_s(message_bytes, gpus_per_node, intra_bytes_per_s, latency_s, in_switch=in_switch)
    shard_bytes = message_bytes / gpus_per_node
    return inside + all_reduce_s(shard_bytes, nodes, inter_bytes_per_s, latency_s, in_switch=in_switch)


def link_gap(intra_bytes_per_s: Number, inter_bytes_per_s: Number) -> Number:
    """Bandwidth inside a node over bandwidth between nodes: intra / inter, both in one direction. The napkin-math
    lesson's 18x divides both directions of NVLink by one of InfiniBand; the like-for-like ratio is 9x."""
    checks.positive(intra_bytes_per_s=intra_bytes_per_s, inter_bytes_per_s=inter_bytes_per_s)
    return intra_bytes_per_s / inter_bytes_per_s


def tensor_parallel_message_bytes(tokens: Number, hidden: Number, bytes_per_element: Number = 2) -> Number:
    """Bytes that one all-reduce of tensor parallelism sums: tokens * hidden * bytes_per_element."""
    checks.whole(tokens=tokens, hidden=hidden)
    checks.positive(bytes_per_element=bytes_per_element)
    return tokens * hidden * bytes_per_element


def tensor_parallel_comm_s(
    layers: Number,
    tokens: Number,
    hidden: Number,
    gpus: Number,
    bytes_per_s: Number,
    latency_s: Number = 0.0,
    bytes_per_element: Number = 2,
    *,
    in_switch: bool = True,
) -> Number:
    """Time of a forward pass's communication in seconds: 2 all-reduces per layer, after attention and after the MLP.
    The backward pass takes the same time again. Source: Shoeybi et al. 2019 (Megatron-LM), section 3."""
    checks.whole(layers=layers)
    message_bytes = tensor_parallel_message_bytes(tokens, hidden, bytes_per_element)
    return 2 * layers * all_reduce_s(message_bytes, gpus, bytes_per_s, latency_s, in_switch=in_switch)


def tensor_parallel_tax(
    peak_flop_per_s: Number, bytes_per_s: Number, hidden: Number, gpus: Number, mfu: Number = 1.0
) -> Number:
    """Communication time over compute time of a layer on t GPUs: peak*mfu*(t-1) / (3*bandwidth*hidden). The layer has
    24*tokens*hidden^2 FLOP and 16-bit activations. Messages go around a ring; latency is not counted.

    Each GPU does 1/t of the compute, in 24*T*h^2 / (t*peak*mfu) seconds; the two all-reduces of 2*T*h bytes take
    8*T*h*(t-1) / (t*bandwidth) seconds. The companion lesson 07a omits that t and prints peak/(3*bandwidth*h).
    """
    checks.positive(peak_flop_per_s=peak_flop_per_s, bytes_per_s=bytes_per_s)
    checks.whole(hidden=hidden, gpus=gpus)
    checks.efficiency(mfu=mfu)
    return peak_flop_per_s * mfu * (gpus - 1) / (3 * bytes_per_s * hidden)


def expert_hit_share(experts: int, active: int, parts: int, groups: int = 1, active_groups: int = 1) -> float:
    """Share of the tokens that need one of `parts` equal parts of a layer's experts, such as those of one GPU: the
    chance that it holds at least one of a token's `active` experts, all choices being equally likely. With groups a
    token first chooses `active_groups` of the `groups` (DeepSeek-V2, 2024, section 2.2.2)."""
    checks.whole(experts=experts, active=active, parts=parts, groups=groups, active_groups=active_groups)
    if active > experts or parts > experts or active_groups > groups:
        raise BadQuantity("active and parts must be at most experts, and active_groups at most groups")
    size, held = experts // groups, experts // parts  # experts of a group; of a part
    whole = groups // parts  # groups that a part holds; a smaller part is inside one group
    if not whole:
        return active_groups / groups * (1 - _missed(active_groups * size, active, held))
    chosen = range(min(whole, active_groups) + 1)
    ways = [math.comb(whole, each) * math.comb(groups - whole, active_groups - each) for each in chosen]
    missed = [_missed(active_groups * size, active, each * size) for each in chosen]
    return float(1 - sum(map(operator.mul, ways, missed)) / sum(ways))


def _missed(experts: int, active: int, held: int) -> float:
    """Chance that none of `active` experts out of `experts` is among the `held` ones."""
    return math.comb(max(experts - held, 0), active) / math.comb(experts, active)


def pipeline_bubble(stages: Number, microbatches: Number, interleave: Number = 1) -> Number:
    """Idle share of a step's time: (p-1) / (v*m + p-1) for p stages, m microbatches and v chunks of layers per stage.
    Source: Huang et al. 2019 (GPipe); Narayanan et al. 2021, section 2.2, for v > 1."""
    checks.whole(stages=stages, microbatches=microbatches, interleave=interleave)
    return (stages - 1) / (interleave * microbatches + stages - 1)


def pipeline_overhead(stages: Number, microbatches: Number, interleave: Number = 1) -> Number:
    """Idle time over the time without a bubble: (p-1) / (v*m), with p, m and v as in `pipeline_bubble`.
    Source: Narayanan et al. 2021, section 2.2."""
    checks.whole(stages=stages, microbatches=microbatches, interleave=interleave)
    return (stages - 1) / (interleave * microbatches)


def pipeline_step_s(ideal_s: Number, stages: Number, microbatches: Number, interleave: Number = 1) -> Number:
    """Time of a step with its bubble: ideal * (1 + (p-1)/(v*m)) seconds. `ideal_s` is the time without a bubble."""
    checks.not_negative(ideal_s=ideal_s)
    return ideal_s * (1 + pipeline_overhead(stages, microbatches, interleave))


def pipeline_memory_factor(stages: Number, interleave: Number) -> Number:
    """Activations that the first stage holds, over those of all layers for one microbatch: 1 + (p-1)/(p*v) for v > 1
    chunks per stage. For v = 1 (no interleaving) it is 1, because the 1F1B schedule starts fewer microbatches before
    the first backward pass. Source: Korthikanti et al. 2022, section on pipelines."""
    checks.whole(stages=stages, interleave=interleave)
    factor: Number = np.where(np.greater(interleave, 1), 1 + (stages - 1) / (stages * interleave), 1.0)[()]
    return factor


def data_parallel_min_tokens(peak_flop_per_s: Number, bytes_per_s: Number, mfu: Number = 1.0) -> Number:
    """Tokens per GPU and step above which the all-reduce of 16-bit gradients hides behind the backward pass: peak*mfu /
    bandwidth, for any model and any number of GPUs.

    The backward pass of N parameters over t tokens takes 4*N*t / (peak*mfu) seconds; the all-reduce of 2*N bytes takes
    at most 2 * 2*N / bandwidth. The same limit holds for both passes of `fully_sharded_step_s`.
    Source: companion lesson 07a; Austin et al. 2025, "How to Scale Your Model", chapter on training.
    """
    checks.positive(peak_flop_per_s=peak_flop_per_s, bytes_per_s=bytes_per_s)
    checks.efficiency(mfu=mfu)
    return peak_flop_per_s * mfu / bytes_per_s


def data_parallel_step_s(
    forward_s: Number,
    backward_s: Number,
    gradient_bytes: Number,
    gpus: Number,
    bytes_per_s: Number,
    latency_s: Number = 0.0,
    *,
    overlap: bool = True,
    in_switch: bool = True,
) -> Number:
    """Time of a training step with replicated parameters: forward + max(backward, all-reduce of the gradients) seconds;
    without overlap the sum of the three. Source: Li et al. 2020 (PyTorch DDP), section 3.2."""
    checks.not_negative(forward_s=forward_s, backward_s=backward_s, gradient_bytes=gradient_bytes)
    communication_s = all_reduce_s(gradient_bytes, gpus, bytes_per_s, latency_s, in_switch=in_switch)
    return forward_s + _together_s(backward_s, communication_s, overlap=overlap)


def fully_sharded_comm_s(parameter_bytes: Number, gpus: Number, bytes_per_s: Number, latency_s: Number = 0.0) -> Number:
    """Time of a step's communication with sharded parameters: 3(n-1)*latency + 3(n-1)/n * S/bandwidth seconds, with
    S = `parameter_bytes`. That is an all-gather for each pass and a reduce-scatter of gradients: 1.5 ring all-reduces.
    Source: Rajbhandari et al. 2020 (ZeRO), section 7."""
    checks.not_negative(parameter_bytes=parameter_bytes)
    gather = all_gather_s(parameter_bytes, gpus, bytes_per_s, latency_s)
    return 2 * gather + reduce_scatter_s(parameter_bytes, gpus, bytes_per_s, latency_s)


def fully_sharded_step_s(
    forward_s: Number,
    backward_s: Number,
    parameter_bytes: Number,
    gpus: Number,
    bytes_per_s: Number,
    latency_s: Number = 0.0,
    *,
    overlap: bool = True,
) -> Number:
    """Time of a training step with sharded parameters: max(forward, all-gather) + max(backward, all-gather +
    reduce-scatter) seconds; without overlap each maximum is a sum. Gradients take as many bytes as parameters. Source:
    Zhao et al. 2023 (PyTorch FSDP), section 3.3."""
    checks.not_negative(forward_s=forward_s, backward_s=backward_s, parameter_bytes=parameter_bytes)
    gather = all_gather_s(parameter_bytes, gpus, bytes_per_s, latency_s)
    scatter = reduce_scatter_s(parameter_bytes, gpus, bytes_per_s, latency_s)
    return _together_s(forward_s, gather, overlap=overlap) + _together_s(backward_s, gather + scatter, overlap=overlap)


def _ring_pass_s(message_bytes: Number, gpus: Number, bytes_per_s: Number, latency_s: Number) -> Number:
    """Time of n-1 steps. In each step every GPU sends 1/n of the buffer to the next GPU."""
    checks.not_negative(message_bytes=message_bytes, latency_s=latency_s)
    checks.whole(gpus=gpus)
    checks.positive(bytes_per_s=bytes_per_s)
    return (gpus - 1) * (latency_s + message_bytes / (gpus * bytes_per_s))


def _together_s(compute_s: Number, communication_s: Number, *, overlap: bool) -> Number:
    if overlap:
        return np.maximum(compute_s, communication_s)
    return compute_s + communication_s
