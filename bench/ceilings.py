"""The measured roofs: the best rate of this machine's roof probes, per unit and per mix of reads and writes."""

from collections.abc import Iterable

from bench.record import Record, Status
from bench.stats import summarize
from predict.resources import WRITTEN_SHARE, Ceiling, Resource, Roofs
from predict.units import DType, find_dtype, si

_BANDWIDTH_OPS = frozenset({"stream_read", "stream_write", "stream_copy", "stream_triad"})


def measured_roofs(roof_probes: Iterable[Record]) -> Roofs:
    """The roofs that the records of roof probes show; the best probe of each counts.

    Streams and matrix-vector products (m=1) give bandwidth, other products FLOP/s, a read that was timed warm L2. A
    probe's rate is that of its fastest tenth of samples: other work on the machine does not lower a roof. Only status
    `measured` counts: an impossible rate is no roof, nor is that of a throttled card.

    What a stream reads while it also writes can be read alone as fast, and written likewise. And no 16-bit format has a
    lower roof than fp32: its numbers are fp32's too, and where a CPU has no instruction for them, kernels multiply in
    fp32.
    """
    roofs: dict[Resource, Ceiling] = {}
    for record in roof_probes:
        if record.status is not Status.MEASURED or record.measurement is None:
            continue
        time_s = summarize(record.measurement.times_s).p10_s
        source = (
            f"measured {record.environment.utc[:10]}: {record.workload.id} by {record.implementation},"
            f" {record.measurement.method}"
        )
        for resource, amount in _probed(record):
            if amount and (resource not in roofs or amount / time_s > roofs[resource].per_s):
                roofs[resource] = Ceiling(amount / time_s, source)
    fp32 = roofs.get(Resource.VECTOR_FP32)
    for half in (Resource.TENSOR_BF16, Resource.TENSOR_FP16):
        if half in roofs and fp32 and roofs[half].per_s < fp32.per_s:
            own = f"{half} itself reached {si(roofs[half].per_s, 'FLOP/s')}: {roofs[half].source}"
            roofs[half] = Ceiling(fp32.per_s, f"{fp32.source}; {own}")
    return roofs


def faster_dtype(roofs: Roofs) -> DType:
    """bf16 where its matmul roof is above fp32's on this machine (AMX, AVX512-BF16), else fp32."""
    bf16, fp32 = roofs.get(Resource.TENSOR_BF16), roofs.get(Resource.VECTOR_FP32)
    return find_dtype("bf16" if bf16 and fp32 and bf16.per_s > fp32.per_s else "fp32")


def _probed(record: Record) -> list[tuple[Resource, float]]:
    """(resource, amount) pairs whose rate this probe shows."""
    workload, amounts = record.workload, record.workload.amounts
    moved = float(amounts.bytes)
    if workload.op in _BANDWIDTH_OPS or (workload.op == "matmul" and workload.dims["m"] == 1):
        if record.measurement is not None and record.measurement.cold_l2 is False:
            return [(Resource.L2, moved)] if workload.op == "stream_read" else []
        read, written = float(amounts.bytes_read), float(amounts.bytes_written)
        mix = min(WRITTEN_SHARE, key=lambda mix: abs(WRITTEN_SHARE[mix] - written / moved))
        parts = [(Resource.DRAM_READ, read), (Resource.DRAM_WRITE, written)]
        return [(mix, moved), *(parts if workload.op in _BANDWIDTH_OPS else ())]
    if workload.op in ("matmul", "matmul_scaled"):
        return [(unit, float(flop)) for unit, flop in amounts.flop_by_unit.items()]
    return []
