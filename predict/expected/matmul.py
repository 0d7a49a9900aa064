"""Expected time of C[m,n] = A[m,k] @ B[k,n]: launch, tiles on the SMs, bytes from DRAM, joining the parts of a split k.

    t = launch + (sms^3 + dram^3)^(1/3) + join + narrow
    sms = waves * (max(math, load) + store),  waves = tiles * splits / SMs, rounded up if tiles run in whole waves

A tile multiplies its padded rows and columns (math) and loads its operands from L2 (load). A smaller tile uses each
loaded element less often. The model takes the fastest tile and split of k, as a library would.
"""

import itertools
from types import MappingProxyType

import numpy as np

from predict.expected.time_model import Constant, Constants, Dims, Machine, Switch, Switches, Terms, TimeModel, p_norm
from predict.units import Formats
from predict.workloads import FloatArray, matmul

TILES = ((256, 128), (128, 256), (128, 128), (64, 256), (256, 64), (128, 64), (64, 128), (64, 64))
SPLITS = (1, 2, 3, 4, 6, 8, 16, 32)
# Rows: tile height, tile width, parts of k. Each column is one candidate.
CANDIDATES = np.array([(*tile, split) for tile, split in itertools.product(TILES, SPLITS)], dtype=np.float64).T
UNSPLIT = CANDIDATES[:, CANDIDATES[2] == 1]

K_STEP_BYTES = 64  # k is padded to a multiple of this many operand bytes
EPILOGUE_BYTES = 5.0  # traffic between an SM and L2 per element of the result
JOIN_BYTES = 2.0  # DRAM traffic per element and part: fp32 written and read, three quarters of it inside L2
RESIDENT = 0.5  # share of L2 that keeps A between calls; the two halves of L2 hold copies of each other's lines
OVERLAP = 3.0  # p of the p-norm of SM time and DRAM time
GPU_LAUNCH_AT_MOST_S = 20e-6  # a longer launch is CPU time, which overlaps with the GPU's work
ROWS_AT_ONCE = 1024  # limits memory and keeps temporaries in cache

CONSTANTS = MappingProxyType(
    {
        "launch_s": Constant("s", 3.5e-6, 1e-6, 4e-4, 1.0, "time of an empty call"),
        "math_share": Constant("of the peak", 0.82, 0.4, 1.0, 0.12, "rate of the tensor cores in a tile's loop over k"),
        "dram_share": Constant("of the bandwidth", 0.82, 0.4, 1.0, 0.10, "bytes that come from DRAM"),
        "tile_edge": Constant("elements", 140.0, 20.0, 600.0, 0.20, "edge of the square tile that L2 feeds at peak"),
        "join_s": Constant("s", 2.5e-6, 3e-7, 1.2e-5, 0.4, "adding the parts of a split k, per call"),
        "token_s": Constant("s", 2e-9, 5e-11, 5e-8, 1.5, "narrowing one row of A", only_narrowed=True),
        "narrow_bytes": Constant(
            "bytes", 3.0, 0.05, 15.0, 0.8, "DRAM traffic of narrowing one element", only_narrowed=True
        ),
    }
)
SWITCHES = MappingProxyType(
    {
        "whole_waves": Switch("tiles run in whole waves, else evenly over the SMs (persistent, stream-K)", 0.85),
        "fixed_tiles": Switch("m alone sets the tile height and k is never split, else the fastest choice", 0.95),
        "hidden_by_launch": Switch("a call takes the larger of launch and work, else their sum", 0.95),
    }
)


def default_switches(machine: Machine) -> Switches:
    """From Hopper on, a library's kernels are persistent: one block per SM computes tile after tile."""
    return {"whole_waves": machine.sm < 90, "fixed_tiles": False, "hidden_by_launch": False}


def terms(dims: Dims, machine: Machine, formats: Formats, constants: Constants, on: Switches) -> Terms:
    """Time and terms of each row. Dims: m, n, k."""
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
    load_s = constants["tile_edge"] / sm_flop_per_s  # time per element from L2 to one SM

    math = 2 * height * width * depth / (sm_flop_per_s * constants["math_share"])
    # Padded rows and columns are computed, but neither loaded nor stored.
    rows, columns = np.minimum(height, m), np.minimum(width, n)
    load = (rows + columns * (formats.matrix_bytes / element)) * depth * load_s
    store = rows * columns * (EPILOGUE_BYTES / element) * load_s
    waves = np.ceil(m / height) * np.ceil(n / width) * splits / machine.sm_count
    waves = np.ceil(waves) if on["whole_waves"] else np.maximum(waves, 1)
    sms = waves * (np.maximum(math, load) + store)

    a, b, c = m * k * element, n * k * formats.matrix_bytes, m * n * formats.activation.bytes
    # The previous kernel leaves A in L2, but not B. The larger the working set, the less of A is still there.
    cold = np.clip((a + b + c) / (RESIDENT * machine.l2_bytes) - 1, 0, 1)
    dram = (cold * a + b + c) / (machine.bytes_per_s * constants["dram_share"])
    join = (splits > 1) * (constants["join_s"] + splits * m * n * JOIN_BYTES / machine.bytes_per_s)
    work = p_norm(sms, dram, OVERLAP) + join
    return {"sms": sms, "dram": dram, "join": join, "work": work}


def napkin_s(dims: Dims, machine: Machine, formats: Formats) -> FloatArray:
    """The bound, with the result in the format of A."""
    return machine.bound_s(matmul(dims["m"], dims["n"], dims["k"], formats.compute, formats.weight_bits))


MATMUL = TimeModel("matmul", ("m", "n", "k"), CONSTANTS, SWITCHES, default_switches, terms, napkin_s)
