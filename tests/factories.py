"""Records and roofs for tests that need some, with round numbers that are easy to follow by hand."""

import dataclasses
from statistics import median

from bench.record import HARNESS, SCHEMA, Check, Environment, Measurement, Record, RoofSet, Status
from predict.resources import Ceiling, Resource, Roofs
from predict.roofline import predict
from predict.units import find_dtype
from predict.workloads import make_workload

# 100 TFLOP/s and 1 TB/s: the ridge is at 100 FLOP/byte.
ROOFS: Roofs = {Resource.TENSOR_BF16: Ceiling(100e12, "made up"), Resource.DRAM: Ceiling(1e12, "made up")}
MEASURED: Roofs = {
    Resource.TENSOR_BF16: Ceiling(80e12, "measured"),
    Resource.DRAM_READ: Ceiling(0.9e12, "measured"),
    Resource.DRAM_COPY: Ceiling(0.8e12, "measured"),
}


def make_environment(**changes: object) -> Environment:
    """A made-up GPU box."""
    fields: dict[str, object] = {
        "device": "cuda",
        "name": "NVIDIA H200",
        "gpu": "h200-sxm",
        "sm": 90,
        "sm_count": 132,
        "memory_bytes": 143771 * 2**20,
        "last_level_cache_bytes": 60 * 2**20,
        "threads": None,
        "driver": "580.0",
        "cuda": "13.0",
        "power_limit_w": 700.0,
        "max_sm_hz": 1.98e9,
        "ecc": True,
        "mig": False,
        "torch": "2.13.0",
        "triton": "3.7.1",
        "python": "3.11.7",
        "platform": "Linux",
        "commit": "0123abc",
        "dirty": False,
        "warm_cache": False,
        "forced": False,
        "mismatches": (),
        "utc": "2026-01-01T00:00:00+00:00",
    }
    return Environment(**{**fields, **changes})  # type: ignore[arg-type]


def make_record(
    op: str = "matmul",
    dims: dict[str, int] | None = None,
    *,
    dtype: str = "bf16",
    implementation: str = "torch",
    time_s: float = 1e-3,
    status: Status = Status.MEASURED,
    reason: str | None = None,
    roofs: RoofSet | None = None,
    environment: Environment | None = None,
) -> Record:
    """A record of six samples around time_s, at most 4 % off it, so that it is stable; unmeasured where the status says
    so."""
    workload = make_workload(op, {"m": 16, "n": 8192, "k": 8192} if dims is None else dims, find_dtype(dtype))
    roofs = roofs or RoofSet(datasheet=ROOFS, measured=MEASURED)
    timed = status in (Status.MEASURED, Status.IMPOSSIBLE, Status.THROTTLED)
    return Record(
        schema=SCHEMA,
        harness=HARNESS,
        workload=workload,
        implementation=implementation,
        status=status,
        reason=reason if status is Status.MEASURED else reason or f"made up: {status}",
        prediction=predict(workload.amounts, roofs.primary),
        roofs=roofs,
        check=Check(relative_error=1e-3, max_error=1e-2, relative_bound=2e-3, max_bound=2e-2) if timed else None,
        measurement=Measurement(
            times_s=tuple(factor * time_s for factor in (1.0, 1.04, 0.96, 1.0, 1.02, 0.98)),
            method="cuda_event",
            launches_per_sample=1,
            stop="converged",
            cold_l2=True,
            sm_hz=1.755e9,
            power_w=650.0,
            temperature_c=60.0,
            throttle=(),
        )
        if timed
        else None,
        environment=environment or make_environment(),
    )


def unstable(record: Record) -> Record:
    """The record with the same median of six samples, which span 80 to 120 % of it."""
    assert record.measurement is not None
    time_s = median(record.measurement.times_s)
    times_s = tuple(factor * time_s for factor in (0.8, 0.9, 1.0, 1.0, 1.1, 1.2))
    return dataclasses.replace(record, measurement=dataclasses.replace(record.measurement, times_s=times_s))
