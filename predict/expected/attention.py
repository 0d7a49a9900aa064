"""Expected time of attention: prefill (causal, over a prompt) and decode (one new token per request).

    t = launch + write + sequences + (tiles^p + traffic^p)^(1/p) + combine + layout

A block multiplies its queries with tiles of 128 keys; a partial tile costs as much as a full one. Blocks run in waves
over the SMs. If there are too few blocks, each block's keys are split over idle SMs (split-KV) and a second launch
combines the parts.
"""

from types import MappingProxyType

import numpy as np

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
from predict.workloads import Amounts, FloatArray, Number, attention_decode, attention_window

KEY_TILE = 128  # keys that a block multiplies at once
ROW_GROUP = 64  # query rows of one warpgroup; a block runs only the warpgroups that its rows need
FILLED = 0.8  # no kernel splits the keys if its blocks fill this share of the SMs
MIN_TILES_PER_SPLIT = 4  # fewest key tiles per part for which splitting a prompt's keys pays
WRITE_THREADS = 512  # threads of the block that writes one token's keys and values, if threads are the limit
EXP_PER_CLOCK = 16  # exponentials per clock and SM from sm 80 on (CUDA C++ programming guide)
EXP_EXPOSED = 0.5  # share of the exponentials that do not overlap with the matrix products
COMBINE_ROWS = 8  # rows of partial results that one combining block reads from each part in turn
DECODE_OVERLAP = 2.0  # p of decode
L2_SHARE = 0.5  # usable share of L2, because each half of a large L2 holds a copy of what it reads
SWITCH_GAIN = 2.0

_LAUNCH = Constant("s", 1.1e-5, 1e-6, 6e-5, 0.9, "time of an empty call: launches and the first tile's latency")
_TRAFFIC = Constant("of the bandwidth", 0.8, 0.3, 0.97, 0.3, "bytes that come from DRAM")
_TILE = Constant("s", 2.5e-6, 5e-8, 2e-5, 1.2, "start and end of one block on an SM, per wave")
_COMBINE = Constant("s", 3e-6, 5e-8, 1e-5, 1.2, "second launch that adds up the parts when keys are split")
_L2_GAIN = Constant("x DRAM", 1.5, 1.0, 6.0, 0.6, "rate of data that stay in L2 between calls")

PREFILL_CONSTANTS = MappingProxyType(
    {
        "launch_s": _LAUNCH,
        "math_share": Constant("of the peak", 0.7, 0.15, 1.0, 0.45, "matrix products inside a block"),
        "dram_share": _TRAFFIC,
        "tile_s": _TILE,
        "combine_s": _COMBINE,
        "write_bytes_per_s": Constant(
            "B/s", 8e11, 5e10, 2e13, 1.2, "keys and values into the cache", scale=Scale.ALL_SMS
        ),
        "overlap": Constant("p", 1.7, 1.0, 4.0, 0.45, "1: tiles and traffic add up; large: they overlap fully"),
        "l2_gain": _L2_GAIN,
    }
)
DECODE_CONSTANTS = MappingProxyType(
    {
        "launch_s": _LAUNCH,
        "dram_share": _TRAFFIC,
        "tile_s": _TILE,
        "stream_bytes_per_s": Constant(
            "B/s", 4e10, 8e9, 3e11, 0.9, "keys and values into one SM", scale=Scale.SM_CLOCK
        ),
        "combine_s": _COMBINE,
        "layout_s": Constant("s", 1e-6, 5e-8, 2.5e-5, 2.2, "copies of Q and O if batch, KV heads and group exceed 1"),
        "sequence_s": Constant("s", 4e-9, 1e-10, 1e-7, 1.8, "scheduling, per request of the batch"),
        "l2_gain": _L2_GAIN,
    }
)
PREFILL_SWITCHES = MappingProxyType(
    {
        "packs_groups": Switch("query heads of a KV head share blocks", must_gain=SWITCH_GAIN),
        "splits_keys": Switch("few blocks split their keys over idle SMs", must_gain=SWITCH_GAIN),
        "caps_write": Switch("threads limit the cache write, else elements", must_gain=SWITCH_GAIN),
    }
)
DECODE_SWITCHES = MappingProxyType(
    {
        "splits_keys": Switch("the keys of a request are split over idle SMs", must_gain=SWITCH_GAIN),
        "splits_mha": Switch("keys are also split if no heads share them (MHA)", must_gain=SWITCH_GAIN),
    }
)


def prefill_terms(dims: Dims, machine: Machine, formats: Formats, constants: Constants, on: Switches) -> Terms:
    """Time and terms of each row. Dims: batch, seq, heads, kv_heads, head_dim, window (0: none)."""
    batch, seq, kv_heads, head_dim = dims["batch"], dims["seq"], dims["kv_heads"], dims["head_dim"]
    tiles_s, splits = _prefill_tiles(dims, machine, constants, on)
    amounts = _prefill_amounts(dims, formats.activation, formats)
    traffic_s = _traffic_s(amounts.bytes, machine, constants)
    # The measured time includes writing keys and values to the cache: read in 16 bits, written in the cache's format.
    copied = (formats.activation.bytes + formats.kv_bits / 8) * 2 * batch * seq
    per_token = kv_heads * head_dim
    written = np.minimum(per_token, WRITE_THREADS) if on["caps_write"] else per_token
    write_s = np.maximum(
        copied * written / constants["write_bytes_per_s"], _traffic_s(copied * per_token, machine, constants)
    )
    combine_s = np.where(splits > 1, constants["combine_s"], 0)
    launch_s = np.full(batch.size, constants["launch_s"])
    hidden_s = p_norm(tiles_s, traffic_s, constants["overlap"])
    roof_s = _roof_s(amounts, machine)
    time_s = np.maximum(launch_s + write_s + hidden_s + combine_s, roof_s)
    parts = {"launch": launch_s, "tiles": tiles_s, "dram": traffic_s, "write": write_s, "combine": combine_s}
    return Terms(time_s, parts)


def decode_terms(dims: Dims, machine: Machine, formats: Formats, constants: Constants, on: Switches) -> Terms:
    """Time and terms of each row. Dims: batch, context (new token included), heads, kv_heads, head_dim, window."""
    batch, context, heads, kv_heads = dims["batch"], dims["context"], dims["heads"], dims["kv_heads"]
    head_dim, window = dims["head_dim"], dims["window"]
    group = heads / kv_heads
    blocks_per_head = np.ceil(group / ROW_GROUP)
    blocks = batch * kv_heads * blocks_per_head
    key_tiles = _within(np.ceil(context / KEY_TILE), window)
    may_split = on["splits_keys"] & ((group > 1) | on["splits_mha"])
    splits = np.where(may_split, _splits(blocks, key_tiles, machine), 1)
    per_split = np.ceil(key_tiles / splits)
    splits = np.ceil(key_tiles / per_split)
    query_bytes = 2 * formats.activation.bytes * head_dim  # Q and O of one row
    # A tile's masked keys cost as much as the others.
    block_bytes = 2 * per_split * KEY_TILE * head_dim * (formats.kv_bits / 8) + query_bytes * group / blocks_per_head
    stream = constants["stream_bytes_per_s"]
    waves = np.ceil(blocks * splits / machine.sm_count)
    tiles_s = waves * (constants["tile_s"] + block_bytes / stream) - constants["tile_s"]
    amounts = _decode_amounts(dims, formats.activation, formats)
    traffic_s = _traffic_s(amounts.bytes, machine, constants)
    combine_s = np.where(splits > 1, constants["combine_s"] + splits * COMBINE_ROWS * 4 * head_dim / stream, 0)
    layout_s = np.where((group > 1) & (batch > 1) & (kv_heads > 1), constants["layout_s"], 0)
    launch_s = np.full(batch.size, constants["launch_s"])
    sequences_s = batch * constants["sequence_s"]
    hidden_s = p_norm(tiles_s, traffic_s, DECODE_OVERLAP)
    roof_s = _roof_s(amounts, machine)
    time_s = np.maximum(launch_s + sequences_s + hidden_s + combine_s + layout_s, roof_s)
    return Terms(
        time_s,
        {
            "launch": launch_s,
            "tiles": tiles_s,
            "dram": traffic_s,
            "combine": combine_s,
            "layout": layout_s,
            "sequences": sequences_s,
        },
    )


def _prefill_tiles(dims: Dims, machine: Machine, constants: Constants, on: Switches) -> tuple[FloatArray, FloatArray]:
    """Time of the blocks on the SMs without the first block's start, and the number of parts of a block's keys."""
    batch, seq, heads, kv_heads = dims["batch"], dims["seq"], dims["heads"], dims["kv_heads"]
    window = dims["window"]
    group = heads / kv_heads
    block_rows = 128 if machine.sm >= 90 else 64  # Hopper on: two warpgroups of 64 rows (wgmma)
    packed = (seq == 1) | on["packs_groups"]  # for one token every kernel packs the group
    rows = np.where(packed, seq * group, seq)
    per_head = np.ceil(rows / block_rows)
    blocks = batch * np.where(packed, kv_heads, heads) * per_head
    key_tiles = np.ceil(seq / KEY_TILE)
    longest = _within(key_tiles, window)
    mean = longest * (1 - (longest - 1) / (2 * key_tiles))  # causal: block i has i + 1 key tiles, or the window's
    most = np.ceil(key_tiles / MIN_TILES_PER_SPLIT)
    splits = _splits(blocks, most, machine) if on["splits_keys"] else np.ones_like(blocks)
    mma_rows = np.minimum(np.ceil(rows / per_head / ROW_GROUP) * ROW_GROUP, block_rows)
    sm_flop_per_s = constants["math_share"] * machine.flop_per_s / machine.sm_count
    products_s = 4 * mma_rows * KEY_TILE * dims["head_dim"] / sm_flop_per_s
    exponentials_s = EXP_EXPOSED * mma_rows * KEY_TILE / (EXP_PER_CLOCK * machine.clock_hz)
    step_s = products_s + exponentials_s
    start_s = constants["tile_s"]
    waves = np.ceil(blocks * splits / machine.sm_count)
    even_s = waves * (start_s + mean / splits * step_s)
    return np.asarray(np.maximum(even_s, start_s + longest / splits * step_s) - start_s), splits


def prefill_napkin_s(dims: Dims, machine: Machine, formats: Formats) -> FloatArray:
    """The bound, with Q and O in the compute format."""
    return machine.bound_s(_prefill_amounts(dims, formats.compute, formats))


def decode_napkin_s(dims: Dims, machine: Machine, formats: Formats) -> FloatArray:
    """The bound, with Q and O in the compute format."""
    return machine.bound_s(_decode_amounts(dims, formats.compute, formats))


def _prefill_amounts(dims: Dims, queries: DType, formats: Formats) -> Amounts:
    """Causal attention with Q and O in the format `queries`, and K and V in the cache's format."""
    whole = {**dims, "window": np.where(dims["window"] > 0, dims["window"], dims["seq"])}
    return attention_window(**whole, dtype=queries, kv_bits=formats.kv_bits)


def _decode_amounts(dims: Dims, queries: DType, formats: Formats) -> Amounts:
    """The new token attends to the window's latest keys; Q and O have the format `queries`."""
    context, window = dims["context"], dims["window"]
    seen = np.where(window > 0, np.minimum(context, window), context)
    others = {name: dims[name] for name in ("batch", "heads", "kv_heads", "head_dim")}
    return attention_decode(context=seen, **others, dtype=queries, kv_bits=formats.kv_bits)


def _roof_s(amounts: Amounts, machine: Machine) -> FloatArray:
    """Lower bound: FLOP at the peak rate, or the bytes that L2 cannot keep between calls at the DRAM bandwidth."""
    from_dram = np.where(np.less(amounts.bytes, machine.l2_bytes), 0, amounts.bytes)
    return np.maximum(amounts.flop / machine.flop_per_s, from_dram / machine.bytes_per_s)


def _within(key_tiles: FloatArray, window: FloatArray) -> FloatArray:
    """Most key tiles that one block needs. A window touches one tile more than it fills."""
    reached = np.minimum(key_tiles, np.ceil(window / KEY_TILE) + 1)
    return np.asarray(np.where(window > 0, reached, key_tiles))


def _splits(blocks: FloatArray, most: FloatArray, machine: Machine) -> FloatArray:
    fitting = np.clip(np.floor(machine.sm_count / blocks), 1, most)
    return np.asarray(np.where(blocks >= FILLED * machine.sm_count, 1, fitting))


def _traffic_s(moved: Number, machine: Machine, constants: Constants) -> FloatArray:
    """DRAM time, reduced for data that stay in L2: all data up to L2_SHARE of L2, none from twice that size on."""
    resident = np.clip(2 - moved / (L2_SHARE * machine.l2_bytes), 0, 1)
    dram_s = moved / (constants["dram_share"] * machine.bytes_per_s)
    return dram_s * (1 - resident + resident / constants["l2_gain"])


def _always(*names: str) -> Switches:
    return dict.fromkeys(names, True)


PREFILL = TimeModel(
    "attention_prefill",
    ("batch", "seq", "heads", "kv_heads", "head_dim", "window"),
    PREFILL_CONSTANTS,
    PREFILL_SWITCHES,
    lambda machine: {**_always("packs_groups", "splits_keys"), "caps_write": False},  # noqa: ARG005
    prefill_terms,
    prefill_napkin_s,
)
DECODE = TimeModel(
    "attention_decode",
    ("batch", "context", "heads", "kv_heads", "head_dim", "window"),
    DECODE_CONSTANTS,
    DECODE_SWITCHES,
    lambda machine: _always("splits_keys", "splits_mha"),  # noqa: ARG005
    decode_terms,
    decode_napkin_s,
)
