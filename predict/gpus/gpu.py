"""What is known of a GPU: its memory, its links, and its dense peaks, each with a source.

`Gpu` is what a prediction needs. `NvidiaGpu` adds what a measurement needs: the name that NVML reports, and the
multiprocessors and clocks behind the peaks.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from predict.resources import Ceiling, Resource, Roofs, find_ceiling


class Architecture(NamedTuple):
    """Compute capability and rates of an SM."""

    sm: int  # compute capability x 10: 90 for 9.0
    # Dense FLOP (operations for int formats); a multiply-add counts 2. Vector rates: CUDA C++ programming guide, table
    # "throughput of native arithmetic instructions"; tensor rates: the whitepaper of each architecture.
    flop_per_clock_per_sm: Mapping[Resource, int]
    # Parts of L2, each of which keeps what the SMs beside it read. Two parts hold some data twice, so less fits.
    l2_partitions: int = 1


class Memory(NamedTuple):
    """The memory of one SKU."""

    bytes: int  # as the driver reports the total
    bus_bits: int | None = None
    pin_bits_per_s: float | None = None  # per data pin


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """A machine to predict for. A number without a public source is None or has no key."""

    name: str  # the key everywhere: "h100-sxm"
    aliases: tuple[str, ...] = ()  # `--gpu` takes these too; a shared alias means the first GPU in the table
    memory: Memory
    link_bytes_per_s: float | None = None  # one direction; NVLink or its like, or PCIe for GPUs without one
    # Whether a switch between the GPUs reduces an all-reduce, as NVLink SHARP does. "Third-generation NVSwitch systems
    # (NVLink4) with Hopper and later" can (NCCL documentation, NCCL_NVLS_ENABLE); A100's switches, bridges and PCIe
    # cannot.
    link_reduces: bool | None = None
    # GPUs that `link_bytes_per_s` joins: a board with its switches, the domain of a rack's switches, a bridged pair, or
    # the cards of a server without NVLink. Beyond them a GPU sends at `network_bytes_per_s`. Sources: the datasheets of
    # DGX A100, H100, H200, B200, B300 and GB200, which give every GPU its own adapter, and those of the bridges.
    gpus_per_node: int | None = None
    network_bytes_per_s: float | None = None  # of one GPU to other nodes, one direction; PCIe beyond a bridge
    power_w: float | None = None
    roofs: Roofs
    source: str  # of every number above that has no source of its own

    @property
    def may_reduce_in_switch(self) -> bool:
        """Whether a bound must assume a switch that reduces: True unless `link_reduces` is False."""
        return self.link_reduces is not False


@dataclass(frozen=True, slots=True, kw_only=True)
class NvidiaGpu(Gpu):
    """An SKU that `bench` can measure: the driver says what it is, and its peaks follow from its clocks."""

    nvml_names: tuple[str, ...]  # exactly as NVML reports the product
    architecture: Architecture
    sm_count: int
    boost_hz: float  # the clock behind the printed tensor peaks
    max_hz: float  # the highest SM clock that the driver offers
    l2_bytes: int | None = None
    # Reason why a printed roof is not SMs x FLOP/clock/SM x boost clock (fp64 and vectors: boost or highest clock).
    not_from_clock: Mapping[Resource, str] = field(default_factory=dict)


def printed(*figures: tuple[str, Mapping[Resource, float]]) -> Roofs:
    """The roofs that the sources print, in the order of `Resource`."""
    roofs = {unit: Ceiling(per_s, source) for source, rates in figures for unit, per_s in rates.items()}
    return {unit: roofs[unit] for unit in Resource if unit in roofs}


def held_clock_roofs(gpu: NvidiaGpu, sm_hz: float) -> Roofs:
    """The compute roofs of `gpu` at an SM clock of `sm_hz`."""
    return {
        unit: Ceiling(gpu.sm_count * flop * sm_hz, f"{gpu.sm_count} SMs x {flop} FLOP/clock/SM x {sm_hz / 1e6:.0f} MHz")
        for unit, flop in gpu.architecture.flop_per_clock_per_sm.items()
    }


def physical_roofs(gpu: NvidiaGpu) -> Roofs:
    """Roofs that no kernel exceeds: compute at the highest SM clock; DRAM at the larger of pin rate and datasheet."""
    roofs = dict(held_clock_roofs(gpu, gpu.max_hz))
    dram = gpu.roofs.get(Resource.DRAM)
    _, bits, rate = gpu.memory
    if bits is not None and rate is not None:
        pins = Ceiling(bits * rate / 8, f"{bits} bits x {rate / 1e9:.4g} Gbit/s per pin")
        dram = pins if dram is None else max(dram, pins, key=lambda ceiling: ceiling.per_s)
    if dram is not None:
        roofs[Resource.DRAM] = dram
    return roofs


def ridge_flop_per_byte(roofs: Roofs, resource: Resource) -> float:
    """The arithmetic intensity above which `resource`, not DRAM, is the limit. Raises MissingCeiling."""
    return find_ceiling(resource, roofs).per_s / find_ceiling(Resource.DRAM, roofs).per_s
