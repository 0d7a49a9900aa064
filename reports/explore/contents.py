"""The sections of the page in the order of the lessons, and what each is controlled by."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from reports.explore.charts import Chart
from reports.explore.controls import POINTS
from reports.explore.section import Section
from reports.explore.sections.backward import BACKWARD
from reports.explore.sections.batching import BATCHING
from reports.explore.sections.cache import CACHE
from reports.explore.sections.dollars import COSTS
from reports.explore.sections.flop import FLOPS
from reports.explore.sections.memory import MEMORY
from reports.explore.sections.parallelism import PARALLELISM
from reports.explore.sections.phases import PHASES
from reports.explore.sections.speculation import SPECULATION
from reports.explore.sections.time import TIME
from reports.explore.sections.whole import WHOLE

SECTIONS: Mapping[str, Section] = MappingProxyType(
    {
        each.name: each
        for each in (
            *(TIME, FLOPS, BACKWARD, MEMORY, PHASES, CACHE),
            *(SPECULATION, BATCHING, PARALLELISM, COSTS, WHOLE),
        )
    }
)


def controls_of(section: Section) -> tuple[str, ...]:
    """Its own controls, those of its kernel last."""
    return (*section.controls, *((section.kernel.control, POINTS) if section.kernel else ()))


def charts_of(section: Section) -> Iterator[Chart]:
    """Its charts, that of its kernel last."""
    yield from section.charts
    if section.kernel:
        yield section.kernel.chart
