"""The kernels of prefill and of a decode step on one GPU, each with its bound, and its expected time where its op is
calibrated: what `bench run --model` measures."""

from collections.abc import Iterator
from dataclasses import dataclass

from predict.answers.question import Question
from predict.answers.times import Timed, decode_times, prefill_times
from predict.errors import MissingCeiling
from predict.expected.calibrations import Known
from predict.expected.refined import BASIS_KEYS, estimate, known_json, summary, with_estimate
from predict.gpus import Gpu
from predict.model.kernels import decode_kernels, prefill_kernels
from predict.model.kinds import KernelKind
from predict.model.model_kernel import ModelKernel
from predict.roofline import Prediction
from predict.table import Column, Table
from predict.units import Unit, duration

COLUMNS = (
    Column("kernel", "", is_key=True),
    Column("measured_as", "op and sizes"),
    Column("dtype", "dtype"),
    Column("count", "runs", Unit.COUNT),
    Column("bound_s", "bound", Unit.SECONDS),
    Column("bound_share", "share", Unit.SHARE),
    Column("bound_by", "by"),
    Column("expected_s", "expected", Unit.SECONDS),
    Column("refined_s", "refined", Unit.SECONDS),
)
CSV_COLUMNS = (
    *(Column(key, key) for key in ("pass", "component", "kernel", "op", "sizes", "dtype")),
    *(column for column in COLUMNS if column.unit is not Unit.NAME or column.key == "bound_by"),
    Column("reason", "reason"),
)


@dataclass(frozen=True, slots=True)
class KernelRow:
    """One kernel in one pass. Times are of one run, the share is that of all its runs."""

    kernel: ModelKernel
    bound: Prediction | None  # None: its work is not counted, or a roof is not known
    reason: str  # why it has no op, or no bound
    known: Known | None = None  # what its expected time rests on

    @property
    def all_bounds_s(self) -> float:
        """The bound of all its runs; 0 without a bound."""
        return self.kernel.count * float(self.bound.napkin_s) if self.bound else 0.0


@dataclass(frozen=True, slots=True)
class KernelTable:
    """The kernels of one pass."""

    name: str  # "prefill", "decode step"
    of: str  # what the pass is over
    times: Timed
    rows: tuple[KernelRow, ...]

    @property
    def bounds_s(self) -> float:
        """The sum of all bounds."""
        return sum(row.all_bounds_s for row in self.rows)

    @property
    def title(self) -> str:
        """For a person."""
        layout = self.times.replica.layout
        on = f"on one of {layout.gpus} GPUs ({layout.text})" if layout.gpus > 1 else "on one GPU"
        article = "a " if self.name == "decode step" else ""
        return f"Kernels of {article}{self.name} {on}: {self.of}"

    @property
    def remarks(self) -> Iterator[str]:
        """The sum beside the pass's bound, and why kernels have no op."""
        expected = "" if self.times.expected_s is None else f", expected {duration(self.times.expected_s)}"
        yield (
            f"Bounds are of one run. All runs add up to {duration(self.bounds_s)}, with what kernels hand each other; "
            f"the pass without that takes at least {duration(self.times.bound_s)}{expected}."
        )
        if (stages := self.times.replica.layout.pp) > 1:
            yield f"Runs are those of all {stages} stages together."
        yield from self._experts()
        rests_on: dict[str, list[str]] = {}
        for row in self.rows:
            if row.known:
                rests_on.setdefault(summary(row.known), []).append(f"{row.kernel.op} in {row.kernel.dtype.name}")
        yield from (f"Expected times of {', '.join(dict.fromkeys(ops))}: {what}." for what, ops in rests_on.items())
        reasons: dict[str, list[str]] = {}
        for row in self.rows:
            if row.reason:
                reasons.setdefault(row.reason, []).append(row.kernel.name)
        for reason, names in reasons.items():
            yield f"{', '.join(dict.fromkeys(names))}: {reason}."

    def _experts(self) -> Iterator[str]:
        """How many experts the grouped products have, where these are not all."""
        replica = self.times.replica
        dims = (row.kernel.dims for row in self.rows if row.kernel.kind is KernelKind.EXPERTS)
        found = sorted({each["experts"] for each in dims if "experts" in each})
        here = replica.model.experts.copies // replica.layout.ep if replica.model.experts else 0
        if found and found[0] < here:
            yield f"Tokens come to {found[0]} of {here} experts on average, and the products have as many."

    def table(self) -> Table:
        """For a person: names and numbers."""
        return Table(COLUMNS, tuple(self.flat())).without_empty()

    def flat(self) -> Iterator[dict[str, object]]:
        """A row for each kernel, ready for JSON; `dims` are those of one run."""
        for row in self.rows:
            kernel, bound = row.kernel, row.bound
            sizes = ", ".join(str(size) for size in kernel.dims.values())
            yield {
                "pass": self.name,
                "component": str(kernel.kind),
                "kernel": kernel.name,
                "op": kernel.op,
                "dims": dict(kernel.dims),
                "sizes": " ".join(f"{name}={size}" for name, size in kernel.dims.items()),
                "measured_as": f"{kernel.op}({sizes})" if kernel.op else None,
                "dtype": kernel.dtype.name,
                "count": kernel.count,
                "bound_s": float(bound.napkin_s) if bound else None,
                "bound_share": row.all_bounds_s / self.bounds_s if bound and self.bounds_s else None,
                "bound_by": str(bound.bound) if bound else None,
                "expected_s": float(bound.expected_s) if bound and bound.expected_s is not None else None,
                "refined_s": float(bound.refined_s) if bound and bound.refined_s is not None else None,
                **(known_json(row.known) if row.known else dict.fromkeys(BASIS_KEYS)),
                "reason": row.reason or None,
            }


def kernel_tables(q: Question) -> tuple[KernelTable, ...]:
    """The kernels of prefill and of a decode step, in the layout that is fastest for each. Raises BadQuantity if no
    replica can be spread over the GPUs."""
    prefill, decode = prefill_times(q), decode_times(q)
    read = prefill_kernels(prefill.replica, q.batch, q.seq, q.prompt_logits)
    made = decode_kernels(decode.replica, q.batch, q.context)
    prompts = f"{q.batch:,} x {q.seq:,} tokens"
    requests = f"batch {q.batch:,}, {q.context:,} cached tokens each"
    return (
        KernelTable("prefill", prompts, prefill, tuple(_row(each, q.gpu, prefill) for each in read)),
        KernelTable("decode step", requests, decode, tuple(_row(each, q.gpu, decode) for each in made)),
    )


def _row(kernel: ModelKernel, gpu: Gpu, times: Timed) -> KernelRow:
    workload = kernel.workload
    try:
        bound = kernel.bound(times.replica.roofs)
    except MissingCeiling as error:
        return KernelRow(kernel, None, kernel.reason or str(error))
    if bound is None or workload is None:
        return KernelRow(kernel, bound, kernel.reason)
    try:
        found = estimate(workload, gpu)
    except MissingCeiling:
        return KernelRow(kernel, bound, kernel.reason)
    return KernelRow(kernel, with_estimate(bound, found), kernel.reason, found.known)
