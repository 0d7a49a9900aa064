"""Holds what was measured against physics and the roofs, and makes a record of it."""

from dataclasses import replace

from bench.lab import Outcome
from bench.physics import impossibility
from bench.record import HARNESS, SCHEMA, Environment, Record, RoofSet, Status
from predict.errors import MissingCeiling
from predict.gpus import NVIDIA_GPUS
from predict.resources import Roofs
from predict.roofline import predict
from predict.workloads import Workload


def datasheet_roofs(environment: Environment) -> Roofs:
    """The vendor's roofs; none of a CPU, and of a card that the table lacks."""
    return NVIDIA_GPUS[environment.gpu].roofs if environment.gpu else {}


def judge(workload: Workload, outcome: Outcome, environment: Environment) -> Outcome:
    """Call a time impossible if this card cannot have reached it; a forced card is not this card."""
    l2_bytes = environment.last_level_cache_bytes
    if outcome.status is not Status.MEASURED or outcome.measurement is None:
        return outcome
    if environment.gpu is None or environment.forced or l2_bytes is None:
        return outcome
    gpu = NVIDIA_GPUS[environment.gpu]
    try:
        why = impossibility(workload.amounts, outcome.measurement, gpu, l2_bytes=l2_bytes)
    except MissingCeiling:
        return outcome  # the card lacks this unit: it computed by other means
    return outcome if why is None else replace(outcome, status=Status.IMPOSSIBLE, reason=why)


def make_record(
    workload: Workload, implementation: str, outcome: Outcome, roofs: RoofSet, environment: Environment
) -> Record:
    """The record of an outcome, predicted by the primary roofs."""
    try:
        prediction = predict(workload.amounts, roofs.primary)
    except MissingCeiling:
        prediction = None  # neither table nor roof probes have this roof; keep the time all the same
    return Record(
        schema=SCHEMA,
        harness=HARNESS,
        workload=workload,
        implementation=implementation,
        status=outcome.status,
        reason=outcome.reason,
        prediction=prediction,
        roofs=roofs,
        check=outcome.check,
        measurement=outcome.measurement,
        environment=environment,
        printed=outcome.printed,
    )
