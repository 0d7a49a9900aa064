"""Expected time of C[m,n] = A[m,k] @ B[k,n]: launch, tiles on the SMs against bytes from DRAM, joining a split k.

    t = launch + (sms^3 + dram^3)^(1/3) + join + narrow
    sms = waves * (max(math, load) + store),  waves = tiles * splits / SMs, rounded up where tiles run in rounds

A tile multiplies its padded rows and columns (math), and takes in its operands from L2 (load): the smaller the tile,
the less each element is used. The tile and the split of k are those that take the least time, as a library picks them.
"""

import itertools
from types import MappingProxyType

import numpy as np

from predict.expected.time_model import Constant, Constants, Dims, Machine, Switch, Switches, Terms, TimeModel, p_norm
from predict.units import Formats
from predict.workloads import FloatArray, matmul

TILES = ((256, 128), (128, 256), (128, 128), (64, 256), (256, 64), (128, 64), (64, 128), (64, 64))
SPLITS = (1, 2, 3, 4, 6, 8, 16, 32)
# Rows: tile height, tile width, parts of k; one column for each choice.
CANDIDATES = np.array([(*tile, split) for tile, split in itertools.product(TILES, SPLITS)], dtype=np.float64).T
UNSPLIT = CANDIDATES[:, CANDIDATES[2] == 1]

K_STEP_BYTES = 64  # k is padded to this many bytes of an operand
EPILOGUE_BYTES = 5.0  # traffic between an SM and L2 for each element of the result
JOIN_BYTES = 2.0  # DRAM traffic per element and part: fp32 written and read, three quarters of it inside L2
RESIDENT = 0.5  # share of L2 that keeps A from call to call: its two halves hold copies of each other's lines
OVERLAP = 3.0  # p of tiles against DRAM
GPU_LAUNCH_AT_MOST_S = 20e-6  # what takes longer is the CPU, whose time hides the work of the GPU
ROWS_AT_ONCE = 1024  # bounds memory, and keeps the temporaries in cache

CONSTANTS = MappingProxyType(
    {
        "launch_s": Constant("s", 3.5e-6, 1e-6, 4e-4, 1.0, "an empty call"),
        "math_share": Constant("of the peak", 0.82, 0.4, 1.0, 0.12, "tensor units inside a tile's loop over k"),
        "dram_share": Constant("of the bandwidth", 0.82, 0.4, 1.0, 0.10, "bytes that come from DRAM"),
        "tile_edge": Constant("elements", 140.0, 20.0, 600.0, 0.20, "edge of the square tile that L2 feeds at peak"),
        "join_s": Constant("s", 2.5e-6, 3e-7, 1.2e-5, 0.4, "adding up the parts of a split k, a call"),
        "token_s": Constant("s", 2e-9, 5e-11, 5e-8, 1.5, "narrowing one row of A", only_narrowed=True),
        "narrow_bytes": Constant(
            "bytes", 3.0, 0.05, 15.0, 0.8, "DRAM traffic of narrowing an element", only_narrowed=True
        ),
    }
)
SWITCHES = MappingProxyType(
    {
        "whole_waves": Switch("tiles run in rounds of one per SM, else spread evenly (persistent, stream-K)", 0.85),
        "fixed_tiles": Switch("tile height from m alone and k never split, else the fastest", 0.95),
        "hidden_by_launch": Switch("a call takes the larger of launch and work, else their sum", 0.95),
    }
)


def default_switches(machine: Machine) -> Switches:
    """From Hopper on a library's kernels are persistent: one block per SM takes tile after tile."""
    return {"whole_waves": machine.sm < 90, "fixed_tiles": False, "hidden_by_launch": False}


def terms(dims: Dims, machine: Machine, formats: Formats, constants: Constants, on: Switches) -> Terms:
    """Time and terms of each row of m, n, k."""
    m, n, k = dims["m"], dims["n"], dims["k"]
    tile = _choose_tiles(m, n, k, machine, formats, constants, on)
    parts = _on_gpu((m, n, k), tile, machine, formats, constants, on)
    work = parts.pop("work")
    narrow = np.zeros(m.size)
    if formats.narrows:
        dram = machine.bytes_per_s * constants["dram_share"]
        narrow = constants["token_s"] * m + constants["narrow_bytes"] * m * k / dram
    work = work + narrow
    launch_s = constants["launch_s"]
    launch = np.full(m.size, launch_s if on["hidden_by_launch"] else min(launch_s, GPU_LAUNCH_AT_MOST_S))
    time_s = np.maximum(launch, work) if on["hidden_by_launch"] else launch + work
    return Terms(time_s, {"launch": launch, **parts, "narrow": narrow})


def _choose_tiles(
    m: FloatArray, n: FloatArray, k: FloatArray, machine: Machine, formats: Formats, constants: Constants, on: Switches
) -> FloatArray:
    candidates = UNSPLIT if on["fixed_tiles"] else CANDIDATES
    chosen = np.empty((3, m.size))
    for start in range(0, m.size, ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        columns = (m[rows, np.newaxis], n[rows, np.newaxis], k[rows, np.newaxis])
        work = _on_gpu(columns, candidates, machine, formats, constants, on)["work"]
        if on["fixed_tiles"]:
            height = np.clip(2 ** np.ceil(np.log2(m[rows])), 64, 256)
            work = np.where(candidates[0] == height[:, np.newaxis], work, np.inf)
        chosen[:, rows] = candidates[:, work.argmin(axis=1)]
    return chosen


def _on_gpu(
    shape: tuple[FloatArray, FloatArray, FloatArray],
    tile: FloatArray,
    machine: Machine,
    formats: Formats,
    constants: Constants,
    on: Switches,
) -> dict[str, FloatArray]:
    """The kernel itself for tiles of tile[0] x tile[1] and k cut into tile[2] parts."""
    (m, n, k), (height, width, splits) = shape, tile
    element = formats.compute.bytes
    step = K_STEP_BYTES / element
    depth = np.ceil(k / splits / step) * step
    sm_flop_per_s = machine.flop_per_s / machine.sm_count
    load_s = constants["tile_edge"] / sm_flop_per_s  # one element from L2 into one SM

    math = 2 * height * width * depth / (sm_flop_per_s * constants["math_share"])
    # Rows outside the matrix are computed, but neither loaded nor stored.
    rows, columns = np.minimum(height, m), np.minimum(width, n)
    load = (rows + columns * (formats.weight_bits / 8 / element)) * depth * load_s
    store = rows * columns * (EPILOGUE_BYTES / element) * load_s
    waves = np.ceil(m / height) * np.ceil(n / width) * splits / machine.sm_count
    waves = np.ceil(waves) if on["whole_waves"] else np.maximum(waves, 1)
    sms = waves * (np.maximum(math, load) + store)

    a, b, c = m * k * element, n * k * (formats.weight_bits / 8), m * n * formats.activation.bytes
    # A comes from the kernel before and is warm; B is not. A goes cold as the working set outgrows L2.
    cold = np.clip((a + b + c) / (RESIDENT * machine.l2_bytes) - 1, 0, 1)
    dram = (cold * a + b + c) / (machine.bytes_per_s * constants["dram_share"])
    join = (splits > 1) * (constants["join_s"] + splits * m * n * JOIN_BYTES / machine.bytes_per_s)
    work = p_norm(sms, dram, OVERLAP) + join
    return {"sms": sms, "dram": dram, "join": join, "work": work}


def napkin_s(dims: Dims, machine: Machine, formats: Formats) -> FloatArray:
    """The bound, the result in the format of A."""
    return machine.bound_s(matmul(dims["m"], dims["n"], dims["k"], formats.compute, formats.weight_bits))


MATMUL = TimeModel("matmul", ("m", "n", "k"), CONSTANTS, SWITCHES, default_switches, terms, napkin_s)
