"""The machine of a run: versions, roofs and clocks, and warnings about the whole run."""

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from bench.record import Environment, RoofSet
from predict.resources import Resource, Roofs
from predict.units import si
from reports.run.load import Run
from reports.tables import TextTable


@dataclass(frozen=True, slots=True)
class Caution:
    """A warning about a whole run."""

    says: str
    remedy: str  # what to do about it


def machine_lines(environment: Environment) -> tuple[str, str]:
    """One line on device and clocks, one on versions."""
    return ", ".join(_hardware(environment)), ", ".join(_software(environment))


def cautions(run: Run) -> tuple[Caution, ...]:
    """What makes the whole run doubtful: mismatches, --force, a warm cache, a slice of a card, facts unknown to the
    driver, several harnesses or environments, broken lines."""
    return tuple(Caution(says, remedy) for says, remedy in (*_of_machine(run.environment), *_of_records(run)))


def warning_lines(run: Run) -> tuple[str, ...]:
    """What `cautions` say, without the remedies."""
    return tuple(each.says for each in cautions(run))


def _of_machine(environment: Environment) -> Iterator[tuple[str, str]]:
    for mismatch in environment.mismatches:
        yield (
            f"the driver contradicts the GPU table: {mismatch}",
            "look at the card with `make doctor`, and correct its row in predict/gpus/ if the driver is right",
        )
    if environment.forced:
        yield (
            "forced: this is not the machine that --gpu named, so the roofs may be another card's",
            "measure again without --force",
        )
    if environment.warm_cache:
        yield (
            "warm cache: operands may sit in the last-level cache, so a time may beat the DRAM roof",
            "measure again without --warm-cache",
        )
    if environment.mig:
        judge = "the roofs of the whole card" if environment.gpu else "roofs measured on it"
        yield f"MIG is on: this is a slice of a card, judged by {judge}", "measure on a whole card"
    if environment.unknown:
        yield (
            f"the driver does not tell: {', '.join(environment.unknown)}",
            "allow the process to ask NVML, or judge by the measured roofs alone",
        )


def _of_records(run: Run) -> Iterator[tuple[str, str]]:
    if len(run.harnesses) > 1:
        yield (
            f"the records were taken by harness {run.harnesses_text}, whose times are not comparable",
            "measure all of it again into an empty folder",
        )
    if len(run.environments) > 1:
        yield (
            f"the records come from {len(run.environments)} different environments; the last one is shown",
            "measure all of it again on one machine with one installation",
        )
    if run.broken:
        yield (
            f"{len(run.broken)} broken lines were skipped, the first: {run.broken[0]}",
            "go on with --resume, which measures what is missing",
        )


def expected_lines(run: Run) -> tuple[str, ...]:
    """What the expected times rest on: a line for each calibrated op and format."""
    return tuple(
        f"{op} in {dtype}: {run.bases[op, dtype]}; calibrated from {each.probes} measured rows, {each.source}"
        for (op, dtype), each in sorted(run.calibrations.items())
    )


def clock_text(frame: pd.DataFrame) -> str:
    """The SM clocks held during the measurements; "" if the machine does not tell them."""
    clocks = frame["sm_hz"].dropna()
    if clocks.empty:
        return ""
    low, middle, high = (si(hz, "Hz", 4) for hz in (clocks.min(), clocks.median(), clocks.max()))
    return f"SM clock held: median {middle}, from {low} to {high}"


def slow_bf16(run: Run) -> str:
    """That bf16 is slower than fp32 on a CPU, as a sentence without its stop, with what it means for the rows; "" where
    it is not, or the measured roofs judge nothing."""
    bf16, fp32 = (run.roofs.measured.get(unit) for unit in (Resource.TENSOR_BF16, Resource.VECTOR_FP32))
    if run.roofs.datasheet or bf16 is None or fp32 is None or bf16.per_s > fp32.per_s:
        return ""
    products = run.frame[(run.frame["op"] == "matmul") & (run.frame["dtype"] == "bf16")]
    reached = (products["flop"] / products["p10_s"]).max()
    own_per_s = min(bf16.per_s, reached) if reached > 0 else bf16.per_s
    judged = (
        "bf16 rows are judged by the fp32 roof, since they can be computed in fp32"
        if bf16.per_s == fp32.per_s
        else "bf16 rows are judged by the bf16 roof, and what computes in fp32, as weight-only products do, may pass it"
    )
    return (
        f"bf16 is slower than fp32 on this CPU, {si(own_per_s, 'FLOP/s')} against {si(fp32.per_s, 'FLOP/s')}: it has no"
        f" instructions for bf16 products (AMX, AVX512-BF16), or PyTorch does not use them; {judged}"
    )


def roof_table(roofs: RoofSet) -> TextTable:
    """Every known roof: the datasheet's and the measured rate, and their sources."""
    rows = tuple(
        (resource.value, _rate(resource, roofs.datasheet), _rate(resource, roofs.measured), _sources(resource, roofs))
        for resource in Resource
        if resource in roofs.datasheet or resource in roofs.measured
    )
    return TextTable("roofs", ("roof", "datasheet", "measured", "source"), rows)


def _hardware(environment: Environment) -> Iterator[str]:
    yield environment.name
    if environment.gpu and environment.gpu != environment.name:
        yield f"SKU {environment.gpu}"
    if environment.sm_count:
        yield f"{environment.sm_count} SMs"
    if environment.threads:
        yield f"{environment.threads} threads"
    if environment.cpus is not None and environment.cpus < 1:
        yield f"{environment.cpus:g} of a CPU"
    if environment.max_sm_hz:
        yield f"SM clock up to {si(environment.max_sm_hz, 'Hz', 4)}"
    if environment.power_limit_w:
        yield f"power limit {environment.power_limit_w:g} W"


def _software(environment: Environment) -> Iterator[str]:
    versions = {
        "driver": environment.driver,
        "CUDA": environment.cuda,
        "torch": environment.torch,
        "Triton": environment.triton,
        "Python": environment.python,
        **dict(sorted(environment.packages.items())),
    }
    yield from (f"{name} {version}" for name, version in versions.items() if version)
    if environment.commit:
        yield f"commit {environment.commit}{' with local changes' if environment.dirty else ''}"


def _rate(resource: Resource, roofs: Roofs) -> str:
    return si(roofs[resource].per_s, "FLOP/s" if resource.is_compute else "B/s") if resource in roofs else ""


def _sources(resource: Resource, roofs: RoofSet) -> str:
    kinds = (("datasheet", roofs.datasheet), ("measured", roofs.measured))
    named = [(kind, known[resource].source) for kind, known in kinds if resource in known]
    return "; ".join(source if source.startswith(kind) else f"{kind}: {source}" for kind, source in named)
