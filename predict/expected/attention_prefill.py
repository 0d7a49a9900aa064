"""Expected time of attention in prefill: over a prompt, causal unless it is full.

    t = launch + write + (tiles^p + traffic^p)^(1/p) + combine + copies, at least `roof_s`; p is the constant `overlap`

A block multiplies its queries with tiles of keys, and takes their exponentials; a partial tile costs as much as a full
one. Blocks run in waves over the SMs. If there are too few, each block's keys are split over idle SMs and a second
launch combines the parts. The heads of a single token that share a KV head are packed by copies, if not by the kernel.
"""

from types import MappingProxyType

import numpy as np

from predict.expected.attention import (
    COMBINE,
    COPIES,
    LAUNCH,
    MISFIT,
    SWITCH_GAIN,
    TILE,
    TRAFFIC,
    are_copied,
    has_warpgroups,
    kept,
    key_tile,
    parts,
    roof_s,
    traffic_s,
)
from predict.expected.time_model import (
    Constant,
    Constants,
    Dims,
    Machine,
    Scale,
    Switch,
    Switches,
    Terms,
    TimeModel,
    p_norm,
)
from predict.units import DType, Formats
from predict.workloads import Amounts, FloatArray, Number, attention_full, attention_window

ROW_GROUP = 64  # query rows of one warpgroup; a block runs only the warpgroups that its rows need
MIN_TILES_PER_PART = 4  # fewest key tiles per part for which splitting a prompt's keys pays
WRITE_THREADS = 512  # threads of the block that writes one token's keys and values
UNEVEN = 0.8  # of the difference between the longest and the mean block, what SMs wait in a further wave
STEP = 2.0  # p of the p-norm of a tile's products and its exponentials
L2_GAIN = MappingProxyType({1: 4.0, 2: 1.7})  # by L2 partitions: rate of data that stay in L2, in rates of DRAM

CONSTANTS = MappingProxyType(
    {
        "launch_s": LAUNCH,
        "math_share": Constant("of the peak", 0.7, 0.05, 1.0, 0.45, "matrix products inside a block"),
        "softmax": Constant("x", 1.3, 0.05, 6.0, 0.9, "time of the exponentials, in that of their instructions"),
        "dram_share": TRAFFIC,
        "tile_s": TILE,
        "combine_s": COMBINE,
        "write_bytes_per_s": Constant(
            "B/s", 8e11, 5e10, 2e13, 1.0, "keys and values into the cache", scale=Scale.ALL_SMS
        ),
        "overlap": Constant("p", 1.5, 1.0, 4.0, 0.4, "1: tiles and traffic add up; large: they overlap fully"),
    }
)
SWITCHES = MappingProxyType(
    {
        "packs_groups": Switch("query heads of a KV head share blocks", must_gain=SWITCH_GAIN),
        "splits_keys": Switch("few blocks split their keys over idle SMs", must_gain=SWITCH_GAIN),
        "longest_first": Switch("blocks with the most keys run first", must_gain=SWITCH_GAIN),
    }
)


def terms(dims: Dims, machine: Machine, formats: Formats, constants: Constants, on: Switches) -> Terms:
    """Time and terms of each row. Dims: batch, seq, heads, kv_heads, head_dim, window (0: none). Conditions: warm, 1 if
    calls find in L2 what the one before left; full, 1 if each token attends to all of its prompt."""
    batch, seq = dims["batch"], dims["seq"]
    tiles_s, splits = _tiles(dims, machine, constants, on)
    amounts = _amounts(dims, formats.activation, formats)
    moved_s = _traffic_s(amounts.bytes, dims, machine, constants)
    write_s = _write_s(dims, machine, formats, constants)
    combine_s = np.where(splits > 1, constants["combine_s"], 0)
    copies_s = np.zeros(batch.size)
    if not on["packs_groups"]:  # one token: its heads are packed by copies
        copied = 2 * 2 * formats.activation.bytes * batch * dims["heads"] * dims["head_dim"]
        one_token_s = COPIES * constants["combine_s"] + _traffic_s(copied, dims, machine, constants)
        copies_s = np.where((seq == 1) & (dims["window"] == 0) & are_copied(dims), one_token_s, 0)
    launch_s = np.full(batch.size, constants["launch_s"])
    hidden_s = p_norm(tiles_s, moved_s, constants["overlap"])
    time_s = np.maximum(launch_s + write_s + hidden_s + combine_s + copies_s, roof_s(amounts, dims, machine))
    return Terms(
        time_s,
        {
            "launch": launch_s,
            "tiles": tiles_s,
            "traffic": moved_s,
            "write": write_s,
            "combine": combine_s,
            "copies": copies_s,
        },
    )


def _tiles(dims: Dims, machine: Machine, constants: Constants, on: Switches) -> tuple[FloatArray, FloatArray]:
    """Time of the blocks on the SMs without the first block's start, and the number of parts of a block's keys."""
    batch, seq, heads, kv_heads = dims["batch"], dims["seq"], dims["heads"], dims["kv_heads"]
    window = dims["window"]
    block_rows = _block_rows(machine)
    packed = on["packs_groups"] | ((seq == 1) & (window == 0))
    rows = np.where(packed, seq * heads / kv_heads, seq)
    per_head = np.ceil(rows / block_rows)
    blocks = batch * np.where(packed, kv_heads, heads) * per_head
    tile = key_tile(dims["head_dim"], machine)
    key_tiles = np.ceil(seq / tile)
    longest = np.where(window > 0, np.minimum(key_tiles, np.ceil(window / tile) + 1), key_tiles)
    mean = longest  # of all blocks
    if not _is_full(dims):
        mean = longest * (1 - (longest - 1) / (2 * key_tiles))  # causal: block i has i + 1 key tiles, or the window's
    splits = np.ones(batch.size)
    if on["splits_keys"]:
        splits = parts(blocks, np.ceil(key_tiles / MIN_TILES_PER_PART), machine.sm_count)
    mma_rows = np.minimum(np.ceil(rows / per_head / ROW_GROUP) * ROW_GROUP, block_rows)
    step_s = _step_s(mma_rows * tile, dims["head_dim"], machine, constants) / splits
    start_s = constants["tile_s"]
    waves = np.ceil(blocks * splits / machine.sm_count)
    wait = 0.0 if on["longest_first"] else UNEVEN
    even_s = waves * (start_s + mean * step_s) + np.where(waves > 1, wait * (longest - mean) * step_s, 0)
    return np.maximum(even_s, start_s + longest * step_s) - start_s, splits


def _block_rows(machine: Machine) -> int:
    """Query rows of a block: those of one, two or four warpgroups."""
    if not has_warpgroups(machine):
        return ROW_GROUP
    return 2 * ROW_GROUP if machine.sm < 100 else 4 * ROW_GROUP


def _step_s(scores: FloatArray, head_dim: FloatArray, machine: Machine, constants: Constants) -> FloatArray:
    """Time of one tile of keys: its two products, and the exponentials of its scores."""
    sm_flop_per_s = constants["math_share"] * machine.flop_per_s / machine.sm_count
    # Exponentials a clock of one SM (CUDA C++ programming guide); Blackwell Ultra has twice as many.
    exp_per_clock = 32 if machine.sm == 103 else 16
    products_s = 4 * scores * head_dim / sm_flop_per_s
    exponentials_s = constants["softmax"] * scores / (exp_per_clock * machine.clock_hz)
    return p_norm(products_s, exponentials_s, STEP)


def _write_s(dims: Dims, machine: Machine, formats: Formats, constants: Constants) -> FloatArray:
    """Time of writing keys and values to the cache, which measured times include: read in 16 bits, written in the
    cache's format."""
    copied = (formats.activation.bytes + formats.kv_bits / 8) * 2 * dims["batch"] * dims["seq"]
    per_token = dims["kv_heads"] * dims["head_dim"]
    by_threads_s = copied * np.minimum(per_token, WRITE_THREADS) / constants["write_bytes_per_s"]
    return np.maximum(by_threads_s, _traffic_s(copied * per_token, dims, machine, constants))


def _traffic_s(moved: Number, dims: Dims, machine: Machine, constants: Constants) -> FloatArray:
    return traffic_s(moved, kept(moved, dims, machine), machine, constants, L2_GAIN[machine.l2_partitions])


def napkin_s(dims: Dims, machine: Machine, formats: Formats) -> FloatArray:
    """The bound, with Q and O in the compute format."""
    return machine.bound_s(_amounts(dims, formats.compute, formats))


def _amounts(dims: Dims, queries: DType, formats: Formats) -> Amounts:
    """Attention with Q and O in the format `queries`, and K and V in the cache's format."""
    names = ("batch", "seq", "heads", "kv_heads", "head_dim")
    if _is_full(dims):
        return attention_full(**{name: dims[name] for name in names}, dtype=queries)
    window = np.where(dims["window"] > 0, dims["window"], dims["seq"])
    return attention_window(
        **{name: dims[name] for name in names}, window=window, dtype=queries, kv_bits=formats.kv_bits
    )


def _is_full(dims: Dims) -> bool:
    """Whether all rows are without a mask."""
    return bool(np.all(dims.get("full", 0)))


def default_switches(machine: Machine) -> Switches:
    """Kernels of warpgroups pack groups into their larger blocks and split keys; Hopper's sorts its blocks."""
    return {"packs_groups": True, "splits_keys": has_warpgroups(machine), "longest_first": machine.sm == 90}


PREFILL = TimeModel(
    "attention_prefill",
    ("batch", "seq", "heads", "kv_heads", "head_dim", "window"),
    CONSTANTS,
    SWITCHES,
    default_switches,
    terms,
    napkin_s,
    misfit=MISFIT,
    conditions=("warm", "full"),
)
