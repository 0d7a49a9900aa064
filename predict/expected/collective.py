"""Expected time of a collective over the links of one machine.

A library such as NCCL sends in chunks around a ring or a tree. Its time is a start, steps (n - 1, or log2 n of a tree),
the wire, the GPU's own shard, and filling the pipeline; at least the bound, and where the host's start hides the work
(`hidden_by_launch`) the longer of both.

    t = start + steps(n) * step + x + 2 sqrt(fill * x)
    x = W(n, S) / (link * share(n)) + S / n / (DRAM * shard_share),  share(n) = link_share * doubling_share^log2(n / 2)

S is the whole buffer in bytes (the output of all_gather, the input of reduce_scatter), n the number of GPUs, W the
bytes that each GPU sends: S (n - 1) / n, twice that for all_reduce. The square root is the cost of a pipeline with the
best number of chunks: c chunks over k more hops, each chunk costing d, take (c + k) (x / c + d). The best c gives
x + k d + 2 sqrt(k d x), so `fill` is k d.

An engine's own all-reduce (`direct`) reads the other GPUs' memory: no chunks, no fill. Either each GPU reads all of the
others' buffers at once, or it reduces its shard, waits for the others once more, and reads their shards.

    t = start + steps(n) * step + min((n - 1) S / (link * share(n)), x + start)

Messages from `DIRECT_BYTES` on go through the library.
"""

from functools import partial
from types import MappingProxyType

import numpy as np

from predict.errors import MissingCeiling
from predict.expected.time_model import Constant, Constants, Dims, Machine, Switch, Switches, Terms, TimeModel
from predict.formulas import parallel
from predict.units import Formats
from predict.workloads import FloatArray

COLLECTIVES = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all")
# Buffer of an engine's own all-reduce: vLLM's CustomAllreduce has 8 MiB, TensorRT-LLM's workspace 8 or 16 MB.
DIRECT_BYTES = 2**23

CONSTANTS = MappingProxyType(
    {
        "start_s": Constant("s", 5.5e-6, 5e-7, 2e-4, 0.7, "launch, first flag and last barrier, without data"),
        "step_s": Constant("s", 1e-6, 1e-8, 3e-5, 1.0, "flags: time per further GPU"),
        "link_share": Constant("of the link", 0.82, 0.05, 1.5, 0.25, "one-way rate; over 1 if the switch reduces"),
        "shard_share": Constant("of DRAM", 0.3, 0.02, 2.0, 0.5, "rate at which a GPU moves its own shard"),
        "doubling_share": Constant("1", 1.0, 0.3, 1.3, 0.15, "link rate left per doubling of GPUs; 1 with a switch"),
        "fill_s": Constant("s", 2.7e-6, 5e-8, 1e-4, 0.7, "hops times cost per chunk: pipeline fill and drain"),
    }
)
SWITCHES = MappingProxyType(
    {
        "tree": Switch("flags follow a tree (log2(n) steps), else a ring (n - 1 steps)", 0.85),
        "direct": Switch("short messages are read from the other GPUs' memory, else sent in chunks", 0.95),
        "hidden_by_launch": Switch("a call takes the larger of launch and work, else their sum", 0.95),
    }
)


def sent_bytes(op: str, dims: Dims, *, in_switch: bool = False) -> FloatArray:
    """Bytes that each GPU sends around a ring; with `in_switch`, an all-reduce goes through a switch that reduces."""
    gpus, message_bytes = dims["gpus"], dims["message_bytes"]
    if op == "all_reduce":
        return np.asarray(parallel.all_reduce_bytes(message_bytes, gpus, in_switch=in_switch))
    return (gpus - 1) / gpus * message_bytes


def terms(op: str, dims: Dims, machine: Machine, formats: Formats, constants: Constants, on: Switches) -> Terms:
    """Time and terms of each row. Dims: gpus, message_bytes. Raises MissingCeiling if the link rate is not known."""
    gpus, message_bytes, link = dims["gpus"], dims["message_bytes"], _link_bytes_per_s(machine)
    steps = np.log2(gpus) if on["tree"] else gpus - 1
    share = constants["link_share"] * constants["doubling_share"] ** np.log2(gpus / 2)
    wire_s = sent_bytes(op, dims) / (share * link)
    shard_s = message_bytes / gpus / (constants["shard_share"] * machine.bytes_per_s)
    start_s = constants["start_s"] + steps * constants["step_s"]
    fill_s = 2 * np.sqrt(constants["fill_s"] * (wire_s + shard_s))
    wait_s = np.zeros_like(wire_s)
    if on["direct"]:
        is_direct = message_bytes < DIRECT_BYTES
        whole_s = (gpus - 1) * message_bytes / (share * link)
        at_once = is_direct & (whole_s <= wire_s + shard_s + constants["start_s"])
        wait_s = np.where(is_direct & ~at_once, constants["start_s"], 0)
        wire_s, shard_s = np.where(at_once, whole_s, wire_s), np.where(at_once, 0, shard_s)
        fill_s = np.where(is_direct, 0, fill_s)
    work_s = wire_s + shard_s + fill_s + wait_s
    time_s = np.maximum(start_s, work_s) if on["hidden_by_launch"] else start_s + work_s
    parts = {"start": start_s, "wire": wire_s, "shard": shard_s, "fill": fill_s, "wait": wait_s}
    return Terms(np.maximum(time_s, napkin_s(op, dims, machine, formats)), parts)


def napkin_s(op: str, dims: Dims, machine: Machine, formats: Formats) -> FloatArray:  # noqa: ARG001
    """The bound: bytes that each GPU must send at the link's one-way rate. Raises MissingCeiling if it is not known."""
    return sent_bytes(op, dims, in_switch=machine.may_reduce_in_switch) / _link_bytes_per_s(machine)


def _link_bytes_per_s(machine: Machine) -> float:
    if machine.link_bytes_per_s is None:
        raise MissingCeiling("the rate of the link between the GPUs is not known, and a collective needs it")
    return machine.link_bytes_per_s


COLLECTIVE_MODELS = tuple(
    TimeModel(
        op,
        ("gpus", "message_bytes"),
        CONSTANTS,
        SWITCHES,
        lambda machine: dict.fromkeys(SWITCHES, False),  # noqa: ARG005
        partial(terms, op),
        partial(napkin_s, op),
    )
    for op in COLLECTIVES
)
