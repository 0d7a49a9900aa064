"""Where the time goes: each pass by kind of kernel, with its bound and its expected time.

The bound of a kind is the larger of its own FLOP and bytes. The kinds' bounds can add up to more than the pass's bound,
which lets the FLOP of one kind hide behind the bytes of another.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from predict.answers.lines import Use
from predict.answers.question import Question
from predict.answers.times import Timed, decode_times, expected_step, prefill_times
from predict.expected.model_pass import ExpectedPass
from predict.expected.training import ExpectedStep
from predict.formulas.memory import Recompute
from predict.model.kinds import KernelKind, passes_by_kind
from predict.model.passes import Pass, training_step
from predict.resources import Resource, matmul_unit
from predict.table import Column, Table
from predict.units import Unit, duration

OVERLAPPED = 1.01  # the parts' bounds over the pass's from which a reader is told that they overlap
COLUMNS = (
    Column("component", "", is_key=True),
    Column("bound_s", "bound", Unit.SECONDS),
    Column("bound_share", "share", Unit.SHARE),
    Column("bound_by", "by"),
    Column("expected_s", "expected", Unit.SECONDS),
    Column("expected_share", "share", Unit.SHARE),
)


@dataclass(frozen=True, slots=True)
class Share:
    """One kind of kernel in one pass."""

    kind: KernelKind
    bound_s: float | None  # of this kind alone; None: it has none
    bound_share: float | None  # of the sum of all kinds' bounds
    bound_by: str | None  # the resource that takes longest
    expected_s: float | None = None  # None: nothing is calibrated
    expected_share: float | None = None  # of the pass's expected time


@dataclass(frozen=True, slots=True)
class Breakdown:
    """One pass by kind of kernel."""

    name: str  # "prefill", "decode step", "training step"
    use: Use
    shares: tuple[Share, ...]
    bound_s: float  # of the whole pass
    expected_s: float | None

    def rows(self) -> Iterator[dict[str, object]]:
        """Flat rows for the JSON."""
        for share in self.shares:
            yield {
                "pass": self.name,
                "component": str(share.kind),
                "bound_s": share.bound_s,
                "bound_share": share.bound_share,
                "bound_by": share.bound_by,
                "expected_s": share.expected_s,
                "expected_share": share.expected_share,
            }

    @property
    def title(self) -> str:
        """The title of `table`."""
        expected = "" if self.expected_s is None else f", expected {duration(self.expected_s)}"
        return f"Where the time goes: {self.name}, at least {duration(self.bound_s)}{expected}"

    @property
    def overlap(self) -> str:
        """What to say if the parts' bounds add up to more than the pass's; else empty."""
        together_s = sum(share.bound_s or 0 for share in self.shares)
        if together_s <= self.bound_s * OVERLAPPED:
            return ""
        return f"Their own bounds add up to {duration(together_s)}: in the pass they overlap."

    def table(self) -> Table:
        """A row for each kind of kernel."""
        return Table(COLUMNS, tuple(self.rows())).without_empty()


def breakdowns(q: Question) -> tuple[Breakdown, ...]:
    """Prefill and a decode step, if one replica can be split over the GPUs, and a training step."""
    training = _of_training(q)
    if not q.serves:
        return (training,)
    return _of_pass("prefill", prefill_times(q)), _of_pass("decode step", decode_times(q)), training


def _of_pass(name: str, times: Timed) -> Breakdown:
    """Each kind takes its share of the FLOP and of the bytes, copies included, that the pass is timed for."""
    bound, layout = times.bound, times.replica.layout
    kinds = dict(passes_by_kind(bound.timed))

    def moved(part: Pass) -> float:
        return float(part.weight_bytes_on(layout) + part.cache_bytes_on(layout))

    flop, all_moved = float(bound.timed.flop), moved(bound.timed)
    (unit,) = (str(term.resource) for term in bound.terms if term.resource.is_compute)
    bounds = {
        kind: max(
            (float(bound.compute_s) * float(part.flop) / flop, unit),
            (float(bound.dram_s) * moved(part) / all_moved, str(Resource.DRAM)),
        )
        for kind, part in kinds.items()
    }
    links = (term for term in bound.terms if term.resource in (Resource.LINK, Resource.NETWORK))
    if slowest := max(links, key=lambda term: float(term.time_s), default=None):
        bounds[KernelKind.LINK] = float(slowest.time_s), str(slowest.resource)
    return _breakdown(name, Use.SERVE, bounds, times.bound_s, times.expected)


def _of_training(q: Question) -> Breakdown:
    """FLOP alone: the traffic of a training step is not counted. MFU counts no recomputed FLOP, the bound does."""
    recompute = Recompute.NONE if q.mfu else q.recompute
    step = training_step(q.model, q.batch, q.seq, mask=q.mask, recompute=recompute)
    per_s = q.gpus * q.training_flop_per_s * (q.mfu or 1)
    unit = str(matmul_unit(q.training_dtype))
    bounds = {kind: (float(part.flop) / per_s, unit) for kind, part in passes_by_kind(step) if part.flop}
    expected = expected_step(q)
    bound_s = sum(time_s for time_s, _ in bounds.values())
    return _breakdown("training step", Use.TRAIN, bounds, bound_s, None if isinstance(expected, str) else expected)


def _breakdown(
    name: str,
    use: Use,
    bounds: Mapping[KernelKind, tuple[float, str]],
    bound_s: float,
    expected: ExpectedPass | ExpectedStep | None,
) -> Breakdown:
    """Kinds in the order of `KernelKind`; the bound of a training step has none for traffic, optimizer and waiting."""
    total_s = sum(time_s for time_s, _ in bounds.values())

    def share(kind: KernelKind) -> Share:
        time_s, resource = bounds.get(kind, (None, None))
        part = None if time_s is None else time_s / total_s
        if expected is None:
            return Share(kind, time_s, part, resource)
        expected_s = expected.times.get(kind, 0.0)
        return Share(kind, time_s, part, resource, expected_s, expected_s / expected.time_s)

    shares = tuple(share(kind) for kind in KernelKind if kind in bounds or (expected and kind in expected.times))
    return Breakdown(name, use, shares, bound_s, expected.time_s if expected else None)
