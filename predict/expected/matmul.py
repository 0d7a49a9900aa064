"""Expected time of C[m,n] = A[m,k] @ B[k,n]: launch, tiles on the SMs, bytes from DRAM and L2, joining the parts of k.

    t = launch + work, or max(launch, work) for a launch over 20 us, which is the host's
    work = overlapped(sms, memory) + join + narrow,  overlapped(a, b) = (a^4 + b^4)^(1/4) + at most 1 us of the shorter
    sms = waves * (max(loop, steps * latency) + store),  waves = max(tiles * splits / SMs, 1), or rounded up

A tile multiplies its padded rows and columns (math), widens weights that are stored in fewer bits, and loads its
operands from L2 (load); its loop takes the longer of both. A step over k takes at least the latency of one. A smaller
tile uses each loaded element less often. The model takes the fastest tile and split of k, as a library would. What
calls leave in L2, the next one reads and writes there.
"""

import itertools
from types import MappingProxyType

import numpy as np

from predict.expected.time_model import Constant, Constants, Dims, Machine, Switch, Switches, Terms, TimeModel, p_norm
from predict.units import Formats
from predict.workloads import FloatArray, matmul

TILES = ((256, 128), (128, 256), (128, 128), (64, 256), (256, 64), (128, 64), (64, 128), (64, 64))
SMALL_TILES = ((64, 32), (32, 64))  # of kernels that do not split k
SPLITS = (1, 2, 3, 4, 6, 8, 16, 32)
# Rows: tile height, tile width, parts of k. Each column is one candidate.
CANDIDATES = np.array([(*tile, split) for tile, split in itertools.product(TILES, SPLITS)], dtype=np.float64).T
UNSPLIT = np.array([(*tile, 1) for tile in (*TILES, *SMALL_TILES)], dtype=np.float64).T

K_STEP_BYTES = 64  # a step over k takes this many bytes of a row
STEP_CLOCKS = 72  # latency of a step that waits for the one before
SCALED_STEP_CLOCKS = 144  # of formats whose blocks of elements have scales of their own
NARROW_POWER = 0.25  # the tensor cores reach less of a peak that is higher: (bits / 16) to this power
EPILOGUE_BYTES = 5.0  # traffic between an SM and L2 per element of the result
JOIN_BYTES = 2.0  # DRAM traffic of a split k per element and part: fp32 written and read, three quarters inside L2
L2_SHARE = 0.37  # of the rate at which tiles load from L2: what one pass over operands that L2 holds reaches
WRITE_COST = 1.2  # a byte written to DRAM, in bytes read
L2_WRITE_COST = 2.0  # a byte written to L2, in bytes read
# By L2 partitions: what calls use of L2 if the next one finds all of it there, and if it finds none. Each of two
# partitions holds copies of the other's lines.
RESIDENT = MappingProxyType({1: (0.8, 1.0), 2: (0.5, 1.0)})
OVERLAP = 4.0  # p of the p-norms of math and load, and of SMs and memory
EXPOSED_S = 1e-6  # of the shorter of SM and memory time at most this much is not hidden: first loads, last stores
GPU_LAUNCH_AT_MOST_S = 20e-6  # a longer launch is CPU time, which hides the GPU's work
ROWS_AT_ONCE = 512  # limits memory and keeps temporaries in cache

CONSTANTS = MappingProxyType(
    {
        "launch_s": Constant("s", 3.5e-6, 1e-6, 4e-4, 1.0, "time of an empty call"),
        "math_share": Constant("of the peak", 0.83, 0.4, 1.0, 0.15, "rate of the tensor cores in a tile's loop over k"),
        "dram_share": Constant("of the bandwidth", 0.82, 0.4, 1.0, 0.10, "bytes that come from DRAM"),
        "tile_edge": Constant("elements", 105.0, 20.0, 600.0, 0.20, "edge of the square tile that L2 feeds at peak"),
        "join_s": Constant("s", 2.6e-6, 3e-7, 1.2e-5, 0.15, "adding the parts of a split k, per call"),
        "token_s": Constant("s", 2e-9, 5e-11, 5e-8, 1.5, "narrowing one row of A", only_narrowed=True),
        "narrow_bytes": Constant("bytes", 5.0, 0.5, 25.0, 0.6, "traffic of narrowing one element", only_narrowed=True),
        "widen_bytes": Constant(
            "bytes a clock", 48.0, 4.0, 512.0, 0.5, "widening weights on one SM", only_widened=True
        ),
    }
)
SWITCH_GAIN = 0.5
SWITCHES = MappingProxyType(
    {
        "whole_waves": Switch("tiles run in whole waves, else evenly over the SMs", 0.85, SWITCH_GAIN),
        "fixed_tiles": Switch("m alone sets the tile height, else the fastest choice", 0.95, SWITCH_GAIN),
        "splits_k": Switch("k is split over idle SMs, if the tiles are not fixed", 0.95, SWITCH_GAIN),
    }
)


def default_switches(machine: Machine) -> Switches:
    """On Hopper and datacenter Blackwell kernels are persistent: one block per SM computes tile after tile."""
    return {"whole_waves": machine.sm // 10 not in (9, 10), "fixed_tiles": False, "splits_k": True}


def terms(dims: Dims, machine: Machine, formats: Formats, constants: Constants, on: Switches) -> Terms:
    """Time and terms of each row. Dims: m, n, k. Condition: weight_sets, the sets of weights that calls take in turn;
    0 if other kernels run in between."""
    m, n, k = dims["m"], dims["n"], dims["k"]
    memory_s = _memory_s(dims, machine, formats, constants)
    tile = _choose_tiles(m, n, k, memory_s, machine, formats, constants, on)
    parts = _on_gpu((m, n, k), tile, machine, formats, constants, on)
    narrow = _narrow_s(m, k, machine, formats, constants)
    work = overlapped(parts["sms"], memory_s) + parts["join"] + narrow
    launch = np.full(m.size, constants["launch_s"])
    is_short = constants["launch_s"] <= GPU_LAUNCH_AT_MOST_S
    time_s = launch + work if is_short else np.maximum(launch, work)
    return Terms(
        time_s, {"launch": launch, "sms": parts["sms"], "memory": memory_s, "join": parts["join"], "narrow": narrow}
    )


def overlapped(a: FloatArray, b: FloatArray) -> FloatArray:
    """The time of two that hide each other but for `EXPOSED_S` at most."""
    shorter = np.minimum(a, b)
    return p_norm(a, b, OVERLAP) + shorter * (EXPOSED_S / (shorter + EXPOSED_S))


def _memory_s(dims: Dims, machine: Machine, formats: Formats, constants: Constants) -> FloatArray:
    """Time of the bytes: from DRAM, or from L2 what earlier calls left there. The previous kernel leaves A; the weights
    stay too if calls take few sets of them in turn."""
    m, n, k = dims["m"], dims["n"], dims["k"]
    a, b, c = m * k * formats.compute.bytes, n * k * formats.matrix_bytes, m * n * formats.activation.bytes
    sets = np.asarray(dims.get("weight_sets", 0.0))
    cold = _cold(a + b + c, machine)
    cold_weights = np.where(sets > 0, _cold(a + sets * b + c, machine), 1.0)
    dram_per_s, l2_per_s = _rates(machine, formats, constants)
    dram = cold * (a + WRITE_COST * c) + cold_weights * b
    l2 = (1 - cold) * (a + L2_WRITE_COST * c) + (1 - cold_weights) * b
    return dram / dram_per_s + l2 / l2_per_s


def _cold(used_bytes: FloatArray, machine: Machine) -> FloatArray:
    """The share that L2 has lost when calls come back to what they use."""
    first, last = RESIDENT[machine.l2_partitions]
    return np.clip((used_bytes / machine.l2_bytes - first) / (last - first), 0, 1)


def _rates(machine: Machine, formats: Formats, constants: Constants) -> tuple[float, float]:
    """Bytes per second from DRAM, and of one pass over operands in L2."""
    dram_per_s = machine.bytes_per_s * constants["dram_share"]
    l2_per_s = L2_SHARE * machine.sm_count * formats.compute.bytes / _load_s(machine, constants)
    return dram_per_s, max(dram_per_s, l2_per_s)


def _load_s(machine: Machine, constants: Constants) -> float:
    """Time per element from L2 to one SM."""
    return constants["tile_edge"] / (machine.flop_per_s / machine.sm_count)


def _narrow_s(m: FloatArray, k: FloatArray, machine: Machine, formats: Formats, constants: Constants) -> FloatArray:
    """Time of the kernel that narrows A."""
    if not formats.narrows:
        return np.zeros(m.size)
    cold = _cold(m * k * (formats.activation.bytes + formats.compute.bytes), machine)
    dram_per_s, l2_per_s = _rates(machine, formats, constants)
    moved = constants["narrow_bytes"] * m * k
    return np.maximum(constants["token_s"] * m, moved * (cold / dram_per_s + (1 - cold) / l2_per_s))


def _choose_tiles(
    m: FloatArray,
    n: FloatArray,
    k: FloatArray,
    memory_s: FloatArray,
    machine: Machine,
    formats: Formats,
    constants: Constants,
    on: Switches,
) -> FloatArray:
    """Height, width and parts of k [3, rows] of the candidate with the least work for each row."""
    candidates = CANDIDATES if on["splits_k"] and not on["fixed_tiles"] else UNSPLIT
    chosen = np.empty((3, m.size))
    for start in range(0, m.size, ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        columns = (m[rows, np.newaxis], n[rows, np.newaxis], k[rows, np.newaxis])
        parts = _on_gpu(columns, candidates, machine, formats, constants, on)
        work = overlapped(parts["sms"], memory_s[rows, np.newaxis]) + parts["join"]
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
    """Tiles of tile[0] x tile[1] with k in tile[2] parts: their time on the SMs, and that of joining the parts."""
    (m, n, k), (height, width, splits) = shape, tile
    element = formats.compute.bytes
    steps = np.ceil(k / splits * element / K_STEP_BYTES)
    depth = steps * (K_STEP_BYTES / element)
    sm_flop_per_s = machine.flop_per_s / machine.sm_count
    load_s = _load_s(machine, constants)

    share = constants["math_share"] * (min(formats.compute.bits, 16) / 16) ** NARROW_POWER
    math = 2 * height * width * depth / (sm_flop_per_s * share)
    # Padded rows and columns are computed, but neither loaded nor stored.
    rows, columns = np.minimum(height, m), np.minimum(width, n)
    stored = columns * (formats.matrix_bytes / element)
    load = (rows + stored) * depth * load_s
    if formats.widens:
        math = math + depth * stored * element / (constants["widen_bytes"] * machine.clock_hz)
    loop = p_norm(math, load, OVERLAP) if on["whole_waves"] else np.maximum(math, load)
    latency = (SCALED_STEP_CLOCKS if formats.compute.bits < 8 else STEP_CLOCKS) / machine.clock_hz
    store = rows * columns * (EPILOGUE_BYTES / element) * load_s
    waves = np.ceil(m / height) * np.ceil(n / width) * splits / machine.sm_count
    waves = np.ceil(waves) if on["whole_waves"] or on["fixed_tiles"] else np.maximum(waves, 1)
    sms = waves * (np.maximum(loop, steps * latency) + store)
    join = (splits > 1) * (constants["join_s"] + splits * m * n * JOIN_BYTES / machine.bytes_per_s)
    return {"sms": sms, "join": join}


def napkin_s(dims: Dims, machine: Machine, formats: Formats) -> FloatArray:
    """The bound, with the result in the format of A."""
    return machine.bound_s(matmul(dims["m"], dims["n"], dims["k"], formats.compute, formats.weight_bits))


MATMUL = TimeModel(
    "matmul",
    ("m", "n", "k"),
    CONSTANTS,
    SWITCHES,
    default_switches,
    terms,
    napkin_s,
    conditions=("weight_sets",),
)
