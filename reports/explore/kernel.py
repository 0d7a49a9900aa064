"""The figure of one kernel: its time over a dimension, as bound, expected and refined, under measured points."""

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from predict.answers.arithmetic import seconds
from predict.answers.question import Question
from predict.answers.times import decode_times, prefill_times
from predict.errors import MissingCeiling
from predict.gpus import Gpu
from predict.model.kernels import decode_kernels, prefill_kernels
from predict.model.model_kernel import ModelKernel
from predict.resources import Roofs
from predict.units import Unit, duration, show
from reports.explore.answered import Answered, Number, Row, Stops, mark
from reports.explore.charts import ARITHMETIC, BOUND, EXPECTED, MEMORY, REFINED, Chart, curves, log_seconds, log_sizes
from reports.explore.curves import Curve, kernel_curve, sizes_between
from reports.explore.points import LEAST_SIZES, Family, Point, Source, varied
from reports.explore.state import PROGRAM, State

MOST_MEASURED = 12  # kernels that are offered beside the model's own
NONE = "none"  # says that no points are drawn
SERIES = (BOUND, MEMORY, ARITHMETIC, EXPECTED, REFINED)
LARGEST = {"m": 8192, "seq": 2**17, "context": 2**20}  # that a curve goes to without measured points


@dataclass(frozen=True, slots=True)
class Kernel:
    """An op with all its dimensions but one."""

    op: str
    dtype: str
    fixed: tuple[tuple[str, int], ...]
    label: str = ""

    @property
    def text(self) -> str:
        """In an address: matmul bf16 n=4096 k=4096."""
        return " ".join([self.op, self.dtype, *(f"{name}={size}" for name, size in self.fixed)])

    @property
    def vary(self) -> str:
        """The dimension that it is drawn over."""
        found = varied(self.op)
        assert found is not None
        return found


@dataclass(frozen=True, slots=True)
class KernelFigure:
    """Which kernels a section draws: those of a phase that have a dimension."""

    control: str  # that chooses one
    chart: Chart
    phase: str
    vary: str
    size: Callable[[Question], int]  # of that dimension now

    def own(self, q: Question) -> list[Kernel]:
        """The model's kernels of the kind, in the order of the pass."""
        found = [each for each in _kernels(q, self.phase) if each.op and varied(each.op) == self.vary]
        return list(dict.fromkeys(self._kernel(each) for each in found))

    def _kernel(self, each: ModelKernel) -> Kernel:
        assert each.op is not None
        fixed = tuple((name, size) for name, size in each.dims.items() if name != self.vary)
        sizes = ", ".join(f"{name} {size:,}" for name, size in fixed)
        return Kernel(each.op, each.dtype.name, fixed, f"{each.name}: {each.op} {sizes} in {each.dtype.name}")


def kernel_chart(name: str, title: str, across: str) -> Chart:
    """The chart of such a figure."""
    return curves(name, title, log_sizes(across), log_seconds("time of one run"), SERIES)


def with_kernel(answered: Answered, figure: KernelFigure, state: State, sources: Sequence[Source]) -> Answered:
    """The answer with the figure."""
    q = state.question()
    if not q.serves:
        return answered
    source = _source(state["points"], q, sources)
    own = tuple(figure.own(q))
    offered = _offered(own, source, figure.vary)
    kernel = _chosen(state[figure.control], own, offered, source)
    controls = {**answered.controls, "points": _sources_stops(source, sources), figure.control: _stops(kernel, offered)}
    if kernel is None:
        notes = (*answered.notes, "no kernel of this pass is an op that can be drawn")
        return replace(answered, controls=controls, notes=notes)
    points = list(source.points(kernel.op, kernel.dtype, dict(kernel.fixed))) if source else []
    size = figure.size(q)
    gpu, roofs, machine = _machine(q, source)
    try:
        curve = _curve(kernel, size, points, gpu, roofs)
    except MissingCeiling as error:  # another machine's roofs: the page's own GPU has been asked before
        return replace(answered, controls=controls, says=(*answered.says, f"The kernel is not drawn: {error}."))
    command = _command(kernel, size, gpu)
    name, basis = figure.chart.name, f"{kernel.op} on {machine}: {curve.basis}"
    return replace(
        answered,
        commands=(*answered.commands, *([command] if command else [])),
        numbers=(
            *answered.numbers,
            *(_numbers(curve, kernel, size, len(answered.commands), machine) if command else ()),
        ),
        data={
            **answered.data,
            name: list(_rows(curve, kernel.vary)),
            f"{name}_marks": [mark(size, "this size", f"{kernel.vary} {size:,}")],
            f"{name}_points": [{"x": each.size, "y": each.time_s, "by": each.by, "says": each.says} for each in points],
        },
        says=(*answered.says, _measured(state["points"], points, source)),
        notes=(*answered.notes, basis),
        controls=controls,
    )


def _kernels(q: Question, phase: str) -> tuple[ModelKernel, ...]:
    if phase == "decode":
        return decode_kernels(decode_times(q).replica, q.batch, max(q.context, 1))
    return prefill_kernels(prefill_times(q).replica, q.batch, q.seq, q.prompt_logits)


def _source(text: str, q: Question, sources: Sequence[Source]) -> Source | None:
    """The source of that name; without a name that of the question's GPU. None if there is none: who passes an address
    on has other sources."""
    if text == NONE or not sources:
        return None
    if text:
        return next((each for each in sources if each.name == text), None)
    return next((each for each in sources if each.gpu and each.gpu.name == q.gpu.name), None)


def _machine(q: Question, source: Source | None) -> tuple[Gpu | None, Roofs, str]:
    """Whose curves are drawn: those of the machine that measured, else of the page's GPU."""
    if source is None:
        return q.gpu, q.gpu.roofs, q.gpu.name
    return source.gpu, source.roofs, source.machine


@functools.lru_cache(maxsize=256)
def _offered(own: tuple[Kernel, ...], source: Source | None, vary: str) -> Mapping[str, Kernel]:
    """The model's kernels, and the measured ones that are nearest to the first of them, by the text that chooses them.
    If nothing like them was measured, those that were measured at most sizes."""
    found = {each.text: each for each in own}
    families = [each for each in source.families if varied(each.op) == vary] if source else []
    alike = [each for each in families if own and (each.op, each.dtype) == (own[0].op, own[0].dtype)]
    ordered = sorted(alike, key=lambda each: _distance(each, own[0])) if alike else families
    for family in ordered[:MOST_MEASURED]:
        sizes = ", ".join(f"{name} {size:,}" for name, size in family.fixed.items())
        label = f"measured at {family.sizes} sizes: {family.op} {sizes} in {family.dtype}"
        kernel = Kernel(family.op, family.dtype, tuple(family.fixed.items()), label)
        found.setdefault(kernel.text, kernel)
    return found


def _distance(family: Family, kernel: Kernel) -> float:
    """How far sizes are apart, in powers of two; a family with other dimensions is far from all."""
    sizes = dict(kernel.fixed)
    if sizes.keys() != family.fixed.keys():
        return math.inf
    return sum(abs(math.log2(size / sizes[name])) for name, size in family.fixed.items())


def _chosen(text: str, own: Sequence[Kernel], offered: Mapping[str, Kernel], source: Source | None) -> Kernel | None:
    """The kernel of that text; without one, the model's first that was measured at several sizes, else its first, else
    a measured one."""
    if text in offered:
        return offered[text]
    for kernel in own if source else ():
        points = source.points(kernel.op, kernel.dtype, dict(kernel.fixed)) if source else ()
        if len({each.size for each in points}) >= LEAST_SIZES:
            return kernel
    return next(iter(offered.values()), None)


def _curve(kernel: Kernel, size: int, points: Sequence[Point], gpu: Gpu | None, roofs: Roofs) -> Curve:
    """As far as its points go, and through `size`."""
    measured = [each.size for each in points]
    low = min([size, *measured]) if measured else min(size, 1 if kernel.vary == "m" else 128)
    high = max([size, *measured]) if measured else max(size, LARGEST[kernel.vary])
    sizes = sizes_between(low, high, size)
    return kernel_curve(kernel.op, kernel.dtype, dict(kernel.fixed), kernel.vary, sizes, gpu, roofs)


def _rows(curve: Curve, vary: str) -> Iterator[Row]:
    lines = zip(
        SERIES, (curve.bound_s, curve.memory_s, curve.compute_s, curve.expected_s, curve.refined_s), strict=True
    )
    for series, times_s in lines:
        for size, time_s in zip(
            curve.sizes, times_s.tolist() if times_s is not None else (), strict=times_s is not None
        ):
            if time_s > 0:
                says = f"{vary} {size:,}: {series.name} {duration(time_s, 4)}"
                yield {"x": size, "y": time_s, "series": series.name, "says": says}


def _command(kernel: Kernel, size: int, gpu: Gpu | None) -> str:
    """The command that prints the kernel's times at one size; none for a machine that it does not know."""
    if gpu is None:
        return ""
    dims = [f"{name}={each}" for name, each in (*kernel.fixed, (kernel.vary, size))]
    return " ".join([PROGRAM, "kernel", kernel.op, *dims, "--gpu", gpu.name, "--dtype", kernel.dtype])


def _numbers(curve: Curve, kernel: Kernel, size: int, command: int, machine: str) -> Iterator[Number]:
    place = curve.sizes.index(size)
    sizes = ", ".join(f"{name} {each:,}" for name, each in (*kernel.fixed, (kernel.vary, size)))
    group = f"One kernel: {kernel.op} {sizes} on {machine}"
    terms = [seconds(float(times_s[place])) for times_s in (curve.compute_s, curve.memory_s) if times_s is not None]
    refined = ""
    if curve.expected_s is not None and curve.refined_s is not None:
        factor = float(curve.refined_s[place] / curve.expected_s[place])
        refined = f"{seconds(float(curve.expected_s[place]))} x {factor:.5g}"
    for key, label, times_s, formula, arithmetic in (
        (
            "napkin_s",
            "bound",
            curve.bound_s,
            "the larger of FLOP / peak, bytes / bandwidth",
            f"max({', '.join(terms)})",
        ),
        ("expected_s", "expected", curve.expected_s, "the op's form with measured constants", ""),
        ("refined_s", "refined", curve.refined_s, "expected x what the form leaves over at this size", refined),
    ):
        if times_s is not None:
            value = float(times_s[place])
            yield Number(key, label, show(value, Unit.SECONDS), value, formula, arithmetic, command, group)


def _measured(asked: str, points: Sequence[Point], source: Source | None) -> str:
    if source is None and asked not in ("", NONE):
        return f"No measured points are called {asked!r} here: start with the run or the tables that have them."
    if source is None:
        return "The kernel is drawn without measured points."
    drawn = f"The kernel is drawn for {source.machine}"
    if not points:
        return f"{drawn}; {source.name} has none of its sizes: choose one that was measured."
    return f"{drawn}, with {len(points):,} measured points."


def _sources_stops(source: Source | None, sources: Sequence[Source]) -> Stops:
    none = (NONE, "none" if sources else "none: start with --run or --tables")
    choices = tuple((each.name, each.name) for each in sources)
    return Stops(source.name if source else NONE, choices=(*choices, none))


def _stops(kernel: Kernel | None, offered: Mapping[str, Kernel]) -> Stops:
    return Stops(kernel.text if kernel else "", choices=tuple((text, each.label) for text, each in offered.items()))
