"""The GPU table: one literal per SKU, dense peaks, a public source beside every number.

A number without a public source is absent. Tensor peaks are dense and count fp32 accumulation (GeForce cards halve
it). `flop_per_clock_per_sm` is what guards the table: SMs x FLOP/clock/SM x boost clock must give the printed peak.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from predict.errors import UnknownGpu
from predict.resources import Ceiling, Resource, Roofs
from predict.units import GB, GIB, KIB, MIB


@dataclass(frozen=True, slots=True)
class Gpu:
    """One SKU. `None` where no public source gives the number."""

    name: str  # the key everywhere: "h100-sxm"
    nvml_names: tuple[str, ...]  # exactly as NVML reports the product
    aliases: tuple[str, ...]  # what `--gpu` takes besides the name
    sm: int  # compute capability x 10: 90 for 9.0
    sm_count: int
    boost_hz: float  # the clock behind the printed peaks
    max_hz: float  # the highest SM clock that the driver offers
    flop_per_clock_per_sm: Mapping[Resource, int]
    memory_bytes: int  # as NVML reports the total
    memory_bus_bits: int | None
    memory_pin_bits_per_s: float | None  # per data pin
    l2_bytes: int | None
    link_bytes_per_s: float | None  # NVLink, or PCIe where there is none, one direction
    power_w: float
    roofs: Roofs
    source: str  # for every number above that has no source of its own
