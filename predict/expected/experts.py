"""Expected time of the experts of a MoE layer on one GPU: routing, two grouped products, their activation, the sum.

    t = launch + share + up + down + move + sort, at least the bound
    up, down = (sms^2.5 + dram^2.5)^(1/2.5),  sms = max(tiles * columns / SMs, 1) * (math + tile) + empty tiles

Rows are sorted by expert, and no tile has rows of two experts: with few rows for each, most of a tile is padding. What
is read of the weights is that of experts with a row. The op's sizes are those of the whole layer: its experts are
shared by `ep` GPUs and each of them is cut in `tp` parts, so that a GPU works on the rows that `expert_load` gives to
the busiest, with intermediate / tp columns. `tokens` are those of all these GPUs.
"""

from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from predict.expected.expert_load import ExpertLoad, expert_load
from predict.expected.time_model import Constant, Constants, Dims, Machine, Switch, Switches, Terms, TimeModel, p_norm
from predict.units import Formats
from predict.workloads import FloatArray

HEIGHTS = (16, 32, 64, 128)  # rows of a tile
COARSE = (16, 64)  # those of kernels that were not tuned: for at most as many tokens as experts, for more
WIDTH = 128  # columns of a tile
OVERLAP = 2.5  # p of the p-norm of SM time and DRAM time
TIES = 0.1  # rows of one set of experts tell nearly the same: probes as telling as this spread over the layers
ALIGNED = 16  # elements: kernels load rows of other lengths in smaller pieces

CONSTANTS = MappingProxyType(
    {
        "launch_s": Constant("s", 3e-5, 3e-6, 5e-4, 0.7, "time of an empty call: all its launches"),
        "math_share": Constant("of the peak", 0.5, 0.05, 1.0, 0.45, "matrix products inside a tile, padding included"),
        "dram_share": Constant("of the bandwidth", 0.8, 0.1, 1.0, 0.2, "weights that come from DRAM"),
        "tile_s": Constant("s", 1e-6, 1e-8, 1e-4, 0.7, "start and end of a tile on an SM"),
        "move_share": Constant(
            "of the bandwidth", 0.4, 0.05, 2.0, 0.6, "rows between the kernels: copy, activate, sum"
        ),
        "row_s": Constant("s", 3e-10, 1e-12, 1e-7, 1.5, "sorting one row by its expert"),
        "share_s": Constant("s", 2e-6, 1e-7, 1e-4, 1.5, "finding the own experts, if GPUs share them"),
        "uneven": Constant("x", 2.0, 1.0, 8.0, 0.6, "reads of weights whose rows are no multiple of 16 elements"),
    }
)
SWITCHES = MappingProxyType(
    {
        "whole_group": Switch("a GPU moves the rows of other GPUs' experts too, and starts their tiles", must_gain=0.5),
        "coarse_tiles": Switch(
            "tiles have 16 rows up to as many tokens as experts, then 64; else the fastest of 16 to 128", must_gain=0.5
        ),
        "gathers": Switch(
            "few rows of a power law go to one GPU first (how some tables were measured), else to all", must_gain=1.0
        ),
    }
)


def default_switches(machine: Machine) -> Switches:  # noqa: ARG001
    """Tuned kernels that know their own rows."""
    return dict.fromkeys(SWITCHES, False)


def terms(dims: Dims, machine: Machine, formats: Formats, constants: Constants, on: Switches) -> Terms:
    """Time and terms of each row. Dims: tokens, hidden, intermediate, active, experts, tp, ep, skew (0: even), matrices
    (3 of an expert with a gate, else 2)."""
    tokens, hidden, gpus = dims["tokens"], dims["hidden"], dims["ep"]
    load = expert_load(tokens, dims["active"], dims["experts"], gpus, dims["skew"], gathers=on["gathers"])
    routed, element = tokens * dims["active"], formats.activation.bytes
    down_k = dims["intermediate"] / dims["tp"]
    up_n = (dims["matrices"] - 1) * down_k
    started = {height: _tiles(load, height, gpus, on) for height in HEIGHTS}
    best = _coarse(tokens, dims["experts"] / gpus) if on["coarse_tiles"] else None
    products = []
    for n, k, reads in ((up_n, hidden, 1.0), (hidden, down_k, np.where(down_k % ALIGNED, constants["uneven"], 1.0))):
        read = load.touched * n * k * formats.matrix_bytes * reads + load.rows * (n + k) * element
        dram_s = read / (machine.bytes_per_s * constants["dram_share"])
        columns = np.ceil(n / WIDTH)
        times = [
            p_norm(_sms_s(height, k, columns, started[height], machine, constants), dram_s, OVERLAP)
            for height in HEIGHTS
        ]
        products.append(np.min(times, axis=0) if best is None else np.choose(best, times))
    moved = (routed if on["whole_group"] else load.rows) * (up_n + down_k + hidden) + tokens * hidden
    move_s = moved * element / (machine.bytes_per_s * constants["move_share"])
    parts = {
        "launch": np.full(tokens.size, constants["launch_s"]),
        "share": np.where(gpus > 1, constants["share_s"], 0),
        "up": products[0],
        "down": products[1],
        "move": move_s,
        "sort": routed * constants["row_s"],
    }
    return Terms(np.maximum(np.sum(list(parts.values()), axis=0), napkin_s(dims, machine, formats)), parts)


def _tiles(load: ExpertLoad, height: int, gpus: FloatArray, on: Switches) -> tuple[FloatArray, FloatArray]:
    """Tiles of `height` rows for one column of tiles: those that are multiplied, and those that only start and end."""
    own = load.tiles(height)
    if not on["whole_group"]:
        return own, np.zeros_like(own)
    return own, np.where(gpus > 1, np.maximum(load.all_tiles(height) - own, 0), 0)


def _sms_s(
    height: int,
    k: FloatArray,
    columns: FloatArray,
    tiles: tuple[FloatArray, FloatArray],
    machine: Machine,
    constants: Constants,
) -> FloatArray:
    """Time of the tiles on the SMs."""
    multiplied, empty = tiles
    math_s = 2 * height * WIDTH * k * machine.sm_count / (machine.flop_per_s * constants["math_share"])
    waves = np.maximum(multiplied * columns / machine.sm_count, 1)
    time_s = waves * (math_s + constants["tile_s"]) + empty * columns / machine.sm_count * constants["tile_s"]
    return np.asarray(time_s)


def _coarse(tokens: FloatArray, own_experts: FloatArray) -> NDArray[np.intp]:
    """The place in HEIGHTS of each row's tile in kernels that were not tuned."""
    few, many = (HEIGHTS.index(height) for height in COARSE)
    return np.asarray(np.where(tokens <= own_experts, few, many), dtype=np.intp)


def napkin_s(dims: Dims, machine: Machine, formats: Formats) -> FloatArray:
    """The bound, whichever way the tokens fall: the busiest GPU has at least its share of the rows. Evenly these touch
    as many experts as they can; by a power law perhaps no more than one token does. Every token that comes is read once
    and written once."""
    own, rows = dims["experts"] / dims["ep"], dims["tokens"] * dims["active"] / dims["ep"]
    weights = dims["matrices"] * dims["hidden"] * dims["intermediate"] / dims["tp"]
    touched = np.where(dims["skew"] == 0, rows, dims["active"] / dims["ep"])
    held = np.minimum(np.ceil(touched), own) * weights * formats.matrix_bytes
    tokens = rows / np.minimum(dims["active"], own)
    moved = 2 * tokens * dims["hidden"] * formats.activation.bytes
    return np.maximum(2 * rows * weights / machine.flop_per_s, (held + moved) / machine.bytes_per_s)


MOE_LAYER = TimeModel(
    "moe_layer",
    ("tokens", "hidden", "intermediate", "active", "experts", "tp", "ep", "skew", "matrices"),
    CONSTANTS,
    SWITCHES,
    default_switches,
    terms,
    napkin_s,
    ties=TIES,
)
