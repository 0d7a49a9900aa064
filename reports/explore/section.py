"""A section of the page: a question, its controls, its charts, and what answers it."""

from collections.abc import Callable
from dataclasses import dataclass

from reports.explore.answered import Answered
from reports.explore.charts import Chart
from reports.explore.kernel import KernelFigure
from reports.explore.state import State


@dataclass(frozen=True, slots=True)
class Section:
    """One question of the lessons."""

    name: str  # in the address of its answer, and of its heading
    title: str  # the question
    lead: str  # what to try, in a sentence or two
    answer: Callable[[State], Answered]
    controls: tuple[str, ...] = ()  # beside the shared ones
    charts: tuple[Chart, ...] = ()
    kernel: KernelFigure | None = None  # a kernel of it, with measured points over its curves
