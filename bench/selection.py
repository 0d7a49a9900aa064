"""What a run measures: the workloads of a suite, of a grid or of a model's pass, by some implementations or by all.

selection = Selection("suite quick", functools.partial(suite, "quick"), Filter(only=("attention_*",)))
selection.jobs(limits)
"""

import fnmatch
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from bench.callables import check_name
from bench.cases import implementation_names
from bench.grid import Grid
from bench.lab import Job
from bench.model_run import ModelRun, PassSize, Phase
from bench.order import arrange
from bench.passes import ModelPass
from bench.suites import Limits, check_suite, further_probes, suite
from predict.errors import BadRun
from predict.model.presets import find_model
from predict.suggest import did_you_mean, quoted
from predict.units import DType
from predict.workloads import Workload

MOST_CASES = 10_000  # that a grid may have without being asked again
WITH_A_MODEL = "full"  # the suite that measures the passes of a model too
# The model and its passes, by device: a small one on a CPU.
MODELS: Mapping[str, tuple[str, tuple[PassSize, ...]]] = MappingProxyType(
    {
        "cuda": ("llama-3-8b", (PassSize(Phase.DECODE, 8, 8192), PassSize(Phase.PREFILL, 1, 4096))),
        "cpu": ("gpt-2-small", (PassSize(Phase.DECODE, 1, 1024), PassSize(Phase.PREFILL, 1, 128))),
    }
)


@dataclass(frozen=True, slots=True)
class Filter:
    """Patterns as a shell has them (attention_*); without any, all pass."""

    only: tuple[str, ...] = ()  # of ops or ids of workloads
    implementations: tuple[str, ...] = ()
    callables: tuple[str, ...] = ()  # of a user, which are measured beside the implementations; no patterns

    def takes(self, workload: Workload) -> bool:
        """Whether the workload is asked for."""
        return not self.only or any(_matches(name, self.only) for name in (workload.op, workload.id))

    def names(self, op: str, device: str) -> tuple[str, ...]:
        """The implementations of `op` that are asked for and measured on the device; a user's last."""
        names = implementation_names(op, device)
        known = (name for name in names if not self.implementations or _matches(name, self.implementations))
        return *known, *self.callables


ALL = Filter()


@dataclass(frozen=True, slots=True)
class Selection:
    """What a run measures after the roof probes."""

    name: str  # for the progress bar
    workloads: Callable[[Limits], Iterable[Workload]]  # called before and after the roofs are known
    filter: Filter = ALL
    has_formats_of_its_own: bool = False  # those of a user, which may need further roofs
    refuse: Callable[[Limits], None] = lambda _: None  # raises BadRun for what does not fit
    passes: Callable[[Limits], tuple[ModelPass, ...]] = lambda _: ()  # of a model, that the workloads make up
    refused: Callable[[Limits], tuple[str, ...]] = lambda _: ()  # lines on what is asked for and no workload

    def jobs(self, limits: Limits) -> tuple[Job, ...]:
        """Each workload by each implementation, the most telling first."""
        taken = [workload for workload in self._all(limits) if self.filter.takes(workload)]
        return arrange(
            Job(workload, name) for workload in taken for name in self.filter.names(workload.op, limits.device)
        )

    def check(self, limits: Limits) -> None:
        """Raise BadRun for what does not fit here, and if the filter leaves nothing, saying what there is."""
        self.refuse(limits)
        workloads = self._all(limits)
        taken = [workload for workload in workloads if self.filter.takes(workload)]
        if not taken:
            ops = tuple(dict.fromkeys(workload.op for workload in workloads))
            meant = did_you_mean(self.filter.only[0], ops)
            only = ",".join(self.filter.only)
            raise BadRun(f"--only {only} matches nothing of {self.name}{meant}its ops: {', '.join(ops)}")
        here = tuple(dict.fromkeys(name for each in taken for name in implementation_names(each.op, limits.device)))
        if not any(self.filter.names(each.op, limits.device) for each in taken):
            named = ", ".join(dict.fromkeys(each.op for each in taken))
            asked = "".join(f" {each}" for each in self.filter.implementations)
            meant = did_you_mean(asked, here)
            known = ", ".join(here) or "none"
            have = "have" if "," in named else "has"
            raise BadRun(f"{named} {have} no implementation{asked} on a {limits.device}{meant}known here: {known}")

    def probes(self, limits: Limits) -> tuple[Job, ...]:
        """Roof probes in formats that the machine's usual ones lack."""
        if not self.has_formats_of_its_own:
            return ()
        workloads = further_probes(self._all(limits), limits)
        return tuple(Job(each, name) for each in workloads for name in implementation_names(each.op, limits.device))

    def left_out(self, limits: Limits) -> tuple[str, ...]:
        """Lines for the user: combinations that make no sense, and patterns that match nothing here."""
        workloads = self._all(limits)
        ops = tuple(dict.fromkeys(each.op for each in workloads))
        nothing = (
            f"--only {each} matches nothing of {self.name}{did_you_mean(each, ops)}its ops: {', '.join(ops)}"
            for each in self.filter.only
            if not any(_matches(name, (each,)) for workload in workloads for name in (workload.op, workload.id))
        )
        names = {name for each in workloads for name in implementation_names(each.op, limits.device)}
        patterns = [each for each in self.filter.implementations if not any(_matches(name, (each,)) for name in names)]
        known = ", ".join(sorted(names))
        unmatched = (
            f"no implementation {quoted(each)} on a {limits.device}{did_you_mean(each, names)}known here: {known}"
            for each in patterns
        )
        return (*self.refused(limits), *nothing, *unmatched)

    def _all(self, limits: Limits) -> tuple[Workload, ...]:
        return tuple({workload.id: workload for workload in self.workloads(limits)}.values())


def of_suite(name: str, chosen: Filter = ALL) -> Selection:
    """The workloads of a suite; of the full one also the passes of a model. Raises BadRun if there is no such suite."""
    check_suite(name)
    if name != WITH_A_MODEL:
        return Selection(f"suite {name}", lambda limits: suite(name, limits), chosen)
    return Selection(
        f"suite {name}",
        lambda limits: (*suite(name, limits), *(each for run in _models(limits) for each in run.workloads(limits))),
        chosen,
        passes=lambda limits: tuple(each for run in _models(limits) for each in run.passes(limits)),
    )


def _models(limits: Limits) -> tuple[ModelRun, ...]:
    """The model whose passes the full suite measures, kernel by kernel and as one; none where it does not fit."""
    name, sizes = MODELS[limits.device]
    asked = ModelRun(find_model(name), sizes)
    try:
        asked.check(limits)
    except BadRun:
        return ()
    return (asked,)


def of_grids(grids: Sequence[Grid], chosen: Filter, device: str, *, yes: bool) -> Selection:
    """Ops at the sizes that a user names. Raises BadRun for more than MOST_CASES without `yes`."""
    cases = sum(len(grid) * len(chosen.names(grid.op, device)) for grid in grids)
    if cases > MOST_CASES and not yes:
        raise BadRun(f"these are {cases:,} cases, more than {MOST_CASES:,}; narrow the grid, or say --yes")
    ops = ", ".join(dict.fromkeys(grid.op for grid in grids))
    return Selection(
        ops,
        lambda limits: _of_grids(grids, limits.dtype),
        chosen,
        has_formats_of_its_own=True,
        refused=lambda limits: tuple(_refused(grids, limits.dtype)),
    )


def of_model(asked: ModelRun, chosen: Filter = ALL) -> Selection:
    """The kernels of a model's passes, and its layers as a whole."""
    return Selection(
        asked.name, asked.workloads, chosen, has_formats_of_its_own=True, refuse=asked.check, passes=asked.passes
    )


def read_filter(only: str | None, implementation: str | None, callables: Sequence[str] = ()) -> Filter:
    """The patterns of --only and --implementation, comma-separated, and the functions of --callable. Raises BadCallable
    for one that does not read module:function."""
    for name in callables:
        check_name(name)
    return Filter(_split(only), _split(implementation), tuple(dict.fromkeys(callables)))


def _of_grids(grids: Iterable[Grid], default: DType) -> Iterator[Workload]:
    for grid in grids:
        yield from grid.workloads(default)


def _refused(grids: Iterable[Grid], default: DType) -> Iterator[str]:
    for grid in grids:
        if reasons := grid.refused(default):
            yield f"{len(reasons)} of {len(grid)} combinations of {grid.op} are left out, such as: {reasons[0]}"


def _split(patterns: str | None) -> tuple[str, ...]:
    return tuple(each.strip() for each in (patterns or "").split(",") if each.strip())


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
