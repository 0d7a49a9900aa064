"""The least time that is physically possible: under it, the timing or the formula is wrong.

It comes of the highest clock that the driver offers and the pin rate of the memory, not of the datasheet's peaks.
"""

from bench.record import Measurement
from bench.stats import summarize
from predict.gpus import NvidiaGpu, physical_roofs
from predict.resources import Resource, find_ceiling
from predict.units import duration
from predict.workloads import Amounts

TOLERANCE = 0.02


def floor_s(amounts: Amounts, gpu: NvidiaGpu, *, l2_bytes: int, cold_l2: bool | None) -> float:
    """The least time that `gpu` can physically take, in seconds; `l2_bytes` as the device itself reports it.

    The last writes may still be in L2 when a kernel ends, and with a warm cache so may the operands: up to `l2_bytes`
    of them need not cross to DRAM. Raises MissingCeiling for a unit that this GPU lacks.
    """
    roofs = physical_roofs(gpu)
    times_s = [float(flop) / find_ceiling(unit, roofs).per_s for unit, flop in amounts.flop_by_unit.items()]
    read, written = float(amounts.bytes_read), float(amounts.bytes_written)
    cacheable = written if cold_l2 else read + written
    crossing = read + written - min(cacheable, l2_bytes)
    return max([*times_s, crossing / find_ceiling(Resource.DRAM, roofs).per_s])


def impossibility(amounts: Amounts, measurement: Measurement, gpu: NvidiaGpu, *, l2_bytes: int) -> str | None:
    """Why this measurement cannot be true, or None."""
    least_s = floor_s(amounts, gpu, l2_bytes=l2_bytes, cold_l2=measurement.cold_l2)
    median_s = summarize(measurement.times_s).median_s
    if median_s * (1 + TOLERANCE) >= least_s:
        return None
    return (
        f"{duration(median_s)} is under {duration(least_s)}, the least a {gpu.name} can physically take:"
        " the timing or the formula is wrong"
    )
