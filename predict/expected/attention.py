"""What expected times of attention's prefill and decode share: tiles of keys, parts of them, and what stays in L2."""

from types import MappingProxyType

import numpy as np

from predict.expected.time_model import Constant, Constants, Dims, Machine
from predict.workloads import Amounts, FloatArray, Number

WARPGROUP_TILE = 128  # keys that a block multiplies at once, where four warps multiply together
TILE_ELEMENTS = 16384  # of a tile of keys elsewhere: wider heads have tiles of fewer keys
FILLED = 0.8  # no kernel splits the keys if its blocks fill this share of the SMs
# Usable share of L2 by its partitions: each of two partitions holds copies of the other's lines.
KEPT = MappingProxyType({1: 1.0, 2: 0.7})
EDGE = 0.2  # data of KEPT * (1 - EDGE) stay in L2 whole, of KEPT * (1 + EDGE) not at all
COPIES = 1.2  # of `combine_s`: launches that copy queries and results
SWITCH_GAIN = 2.0
MISFIT = 0.2  # error of the forms in log(time), for the sake of which probes spread over the sizes

LAUNCH = Constant("s", 9e-6, 1e-6, 6e-5, 0.75, "time of an empty call: launches and the first tile's latency")
TRAFFIC = Constant("of the bandwidth", 0.85, 0.3, 0.97, 0.25, "bytes that come from DRAM")
TILE = Constant("s", 1.7e-6, 5e-8, 2e-5, 1.0, "start and end of one block on an SM, per wave")
COMBINE = Constant("s", 3e-6, 5e-8, 1e-5, 1.0, "second launch that adds up the parts when keys are split")


def has_warpgroups(machine: Machine) -> bool:
    """Whether four warps multiply together: on Hopper and datacenter Blackwell."""
    return 90 <= machine.sm < 120


def key_tile(head_dim: FloatArray, machine: Machine) -> FloatArray:
    """Keys that a block multiplies at once."""
    if has_warpgroups(machine):
        return np.full_like(head_dim, WARPGROUP_TILE)
    return np.asarray(2 ** np.floor(np.log2(TILE_ELEMENTS / head_dim)))


def parts(blocks: FloatArray, most: FloatArray, slots: int) -> FloatArray:
    """Parts [rows] of each block's keys, at most `most`, so that all run at once in `slots` places."""
    fitting = np.clip(np.floor(slots / blocks), 1, most)
    return np.asarray(np.where(blocks >= FILLED * slots, 1, fitting))


def are_copied(dims: Dims) -> FloatArray:
    """Whether packing the query heads that share a KV head needs copies of the queries and of the results."""
    batch, kv_heads = dims["batch"], dims["kv_heads"]
    return np.asarray((dims["heads"] > kv_heads) & (batch > 1) & (kv_heads > 1))


def kept(moved: Number, dims: Dims, machine: Machine) -> FloatArray:
    """The share of data of `moved` bytes [rows] that stays in L2 between calls; none where other kernels run in between
    (the condition `warm`)."""
    usable = KEPT[machine.l2_partitions] * machine.l2_bytes
    fits = np.clip((1 + EDGE - np.asarray(moved) / usable) / (2 * EDGE), 0, 1)
    return np.asarray(fits * np.asarray(dims.get("warm", 0.0)))


def traffic_s(moved: Number, in_l2: FloatArray, machine: Machine, constants: Constants, l2_gain: float) -> FloatArray:
    """Time of `moved` bytes, of which the share `in_l2` comes `l2_gain` times as fast as from DRAM."""
    dram_s = np.asarray(moved) / (constants["dram_share"] * machine.bytes_per_s)
    return np.asarray(dram_s * (1 - in_l2 + in_l2 / l2_gain))


def roof_s(amounts: Amounts, dims: Dims, machine: Machine) -> FloatArray:
    """Lower bound: FLOP at the peak rate, or all bytes at the DRAM bandwidth; calls that are `warm` read no byte there
    if L2 holds them all."""
    stays = np.less(amounts.bytes, machine.l2_bytes) & (np.asarray(dims.get("warm", 0.0)) > 0)
    from_dram = np.where(stays, 0, amounts.bytes)
    return np.maximum(amounts.flop / machine.flop_per_s, from_dram / machine.bytes_per_s)
