"""Expected time of attention in decode: one new token per request attends to its cache.

    t = launch + requests + (tiles^3 + traffic^3)^(1/3) + combine + copies, at least `roof_s`

A block streams tiles of keys and values for the query heads that share them; a partial tile costs as much as a full
one. Blocks run in waves over the SMs. If there are too few, each block's keys are split over idle SMs (split-KV) and a
second launch combines the parts. Requests are scheduled one by one; query heads that take the place of a prompt's rows
are copied there and back.
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
from predict.workloads import Amounts, FloatArray, attention_decode

OVERLAP = 3.0  # p of the p-norm of tiles and traffic
ROWS = 64  # query heads of a KV head that one block takes
NARROW_ROWS = 16  # query heads that one instruction multiplies
MOST_PARTS = 32  # of the keys of a KV head
MOST_PARTS_OF_ROWS, BLOCKS_OF_ROWS = 128, 2  # where heads take the place of rows: parts, and blocks at once on an SM
TILES_AT_ONCE = 2  # tiles that one block of two warpgroups streams at once, from datacenter Blackwell on
COMBINE_ROWS = 8  # rows of partial results that one combining block reads from each part in turn
SCHEDULED = 992  # requests whose parts one launch schedules

CONSTANTS = MappingProxyType(
    {
        "launch_s": LAUNCH,
        "dram_share": TRAFFIC,
        "tile_s": TILE,
        "stream_bytes_per_s": Constant(
            "B/s", 4e10, 8e9, 3e11, 1.2, "keys and values into one SM", scale=Scale.SM_CLOCK
        ),
        "wide_s": Constant(
            "s", 2e-7, 5e-9, 5e-6, 1.8, f"a tile of keys for more than {NARROW_ROWS} query heads, beyond its stream"
        ),
        "combine_s": COMBINE,
        "sequence_s": Constant("s", 4e-9, 1e-10, 1e-7, 2.0, f"scheduling, per request of at most {SCHEDULED}"),
        "l2_gain": Constant("x DRAM", 2.0, 1.0, 8.0, 0.75, "rate of data that stay in L2 between calls"),
    }
)
SWITCHES = MappingProxyType(
    {
        "splits_keys": Switch("the keys of a request are split over idle SMs", must_gain=SWITCH_GAIN),
        "packs_groups": Switch("query heads of a KV head share a block", must_gain=SWITCH_GAIN),
        "swaps_groups": Switch("packed query heads take the place of a prompt's rows", must_gain=SWITCH_GAIN),
    }
)


def terms(dims: Dims, machine: Machine, formats: Formats, constants: Constants, on: Switches) -> Terms:
    """Time and terms of each row. Dims: batch, context (new token included), heads, kv_heads, head_dim, window (0:
    none). Condition: warm, 1 if calls find in L2 what the one before left."""
    batch = dims["batch"]
    tiles_s, splits = _tiles(dims, machine, formats, constants, on)
    moved_s = _traffic_s(dims, machine, formats, constants, on)
    stream, l2_gain = constants["stream_bytes_per_s"], constants["l2_gain"]
    combined = splits * COMBINE_ROWS * 4 * dims["head_dim"] / stream
    combine_s = np.where(splits > 1, constants["combine_s"] + combined, 0)
    copies_s = np.zeros(batch.size)
    if on["packs_groups"] and on["swaps_groups"]:
        copied = 2 * 2 * formats.activation.bytes * batch * dims["heads"] * dims["head_dim"]
        of_copies_s = traffic_s(copied, kept(copied, dims, machine), machine, constants, l2_gain)
        copies_s = np.where(are_copied(dims), COPIES * constants["combine_s"] + of_copies_s, 0)
    requests_s = np.minimum(batch, SCHEDULED) * constants["sequence_s"]
    launch_s = np.full(batch.size, constants["launch_s"])
    hidden_s = p_norm(tiles_s, moved_s, OVERLAP)
    roof = roof_s(_amounts(dims, formats.activation, formats), dims, machine)
    return Terms(
        np.maximum(launch_s + requests_s + hidden_s + combine_s + copies_s, roof),
        {
            "launch": launch_s,
            "requests": requests_s,
            "tiles": tiles_s,
            "traffic": moved_s,
            "combine": combine_s,
            "copies": copies_s,
        },
    )


def _tiles(
    dims: Dims, machine: Machine, formats: Formats, constants: Constants, on: Switches
) -> tuple[FloatArray, FloatArray]:
    """Time of the blocks on the SMs without the first block's start, and the number of parts of a block's keys."""
    batch, context, window = dims["batch"], dims["context"], dims["window"]
    group = dims["heads"] / dims["kv_heads"] if on["packs_groups"] else np.ones(batch.size)
    per_group = np.ceil(group / ROWS)
    blocks = batch * dims["heads"] / group * per_group
    tile = key_tile(dims["head_dim"], machine)
    key_tiles = _key_tiles(context, window, tile, machine)
    swaps = on["packs_groups"] and on["swaps_groups"]
    most, at_once = (MOST_PARTS_OF_ROWS, BLOCKS_OF_ROWS) if swaps else (MOST_PARTS, 1)
    splits = parts(blocks, np.minimum(key_tiles, most), at_once * machine.sm_count)
    if not on["splits_keys"]:
        splits = np.ones(batch.size)
    elif swaps:
        splits = np.where(group == 1, 1, splits)
    per_split = np.ceil(key_tiles / splits)
    splits = np.ceil(key_tiles / per_split)
    waves = np.ceil(blocks * splits / machine.sm_count)
    streamed = per_split
    if has_warpgroups(machine) and machine.sm >= 100:
        streamed = np.ceil(per_split / TILES_AT_ONCE) * TILES_AT_ONCE
    # A tile's masked keys cost as much as the others.
    tile_bytes = 2 * tile * dims["head_dim"] * (formats.kv_bits / 8)
    row_bytes = 2 * formats.activation.bytes * dims["head_dim"]  # Q and O
    read_s = (streamed * tile_bytes + group / per_group * row_bytes) / constants["stream_bytes_per_s"]
    wide_s = np.where(group > NARROW_ROWS, per_split * constants["wide_s"], 0)
    start_s = constants["tile_s"]
    return waves * (start_s + read_s + wide_s) - start_s, splits


def _key_tiles(context: FloatArray, window: FloatArray, tile: FloatArray, machine: Machine) -> FloatArray:
    """Tiles of keys that hold the keys that a token attends to."""
    first = np.where(window > 0, np.maximum(context - window, 0), 0)
    touched = np.floor((context - 1) / tile) - np.floor(first / tile) + 1
    more = (machine.sm == 90) & (window > 0) & (first >= tile)  # Hopper's kernel reads one tile before the window
    return np.asarray(touched + more)


def _traffic_s(dims: Dims, machine: Machine, formats: Formats, constants: Constants, on: Switches) -> FloatArray:
    """Time of the bytes: once from DRAM or L2; again for each further head of a group that is not packed."""
    l2_gain = constants["l2_gain"]
    moved = _amounts(dims, formats.activation, formats).bytes
    once_s = traffic_s(moved, kept(moved, dims, machine), machine, constants, l2_gain)
    if on["packs_groups"]:
        return once_s
    seen = _seen(dims)
    of_head = 2 * dims["batch"] * seen * dims["head_dim"] * (formats.kv_bits / 8)
    again = (dims["heads"] - dims["kv_heads"]) * of_head
    return np.asarray(once_s + traffic_s(again, kept(of_head, dims, machine), machine, constants, l2_gain))


def napkin_s(dims: Dims, machine: Machine, formats: Formats) -> FloatArray:
    """The bound, with Q and O in the compute format."""
    return machine.bound_s(_amounts(dims, formats.compute, formats))


def _seen(dims: Dims) -> FloatArray:
    """Keys that the new token attends to: the window's latest."""
    context, window = dims["context"], dims["window"]
    return np.asarray(np.where(window > 0, np.minimum(context, window), context))


def _amounts(dims: Dims, queries: DType, formats: Formats) -> Amounts:
    """Attention of the new token, with Q and O in the format `queries`."""
    others = {name: dims[name] for name in ("batch", "heads", "kv_heads", "head_dim")}
    return attention_decode(context=_seen(dims), **others, dtype=queries, kv_bits=formats.kv_bits)


def default_switches(machine: Machine) -> Switches:
    """Kernels of warpgroups multiply 64 rows at least, so that heads need not take the place of rows."""
    return {"splits_keys": True, "packs_groups": True, "swaps_groups": not has_warpgroups(machine)}


DECODE = TimeModel(
    "attention_decode",
    ("batch", "context", "heads", "kv_heads", "head_dim", "window"),
    CONSTANTS,
    SWITCHES,
    default_switches,
    terms,
    napkin_s,
    misfit=MISFIT,
    conditions=("warm",),
)
