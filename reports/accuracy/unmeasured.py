"""The part of docs/accuracy.md about GPUs that nobody measured: each measured GPU, told by another one."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from predict.expected.calibrations import Basis, Carried, library
from predict.units import percent
from reports.accuracy.document import Section
from reports.accuracy.relatives import relative_errors
from reports.accuracy.validate import Group
from reports.calibration.errors import errors
from reports.files import template
from reports.tables import TextTable

TEMPLATE = Path(__file__).with_name("unmeasured.md.jinja")
_COLUMNS = (
    "op", "dtype", "kernel", "GPU", "by", "expected, 16 probes", "refined, 16 probes", "expected, no probe",
    "refined, no probe",
)  # fmt: skip
_BASIS = {Basis.SIBLING: "the same architecture", Basis.OTHER: "another architecture"}


def unmeasured(groups: Sequence[Group]) -> Section | None:
    """The section about `groups`; None if no other GPU tells anything of them."""
    rows = tuple(_rows(groups))
    if not rows:
        return None
    carried = tuple(_carried(each) for each in library().carried)
    columns = ("op", "format", "KV cache", "window", "by a GPU of", "pairs", "expected", "refined")
    text = template(TEMPLATE).render(
        groups=TextTable("By another GPU", _COLUMNS, rows),
        carried=TextTable("Carried", columns, carried).without_empty_columns(),
    )
    return Section("GPUs that nobody measured", text.strip())


def _rows(groups: Sequence[Group]) -> Iterator[tuple[str, ...]]:
    """A row for each group that a GPU of its architecture tells of, the same kernel measured on both."""
    for group in groups:
        known = group.relative.known
        if known is None or known.basis is not Basis.SIBLING or not group.is_plain:
            continue
        if known.shipped.kernel != group.kernel_source:
            continue
        found = relative_errors(group.relative, group.shapes.time_s, group.is_judged)
        probed = errors(group.judged).mape_expected
        values = (probed, found.mape_refined, found.mape_expected_no_probe, found.mape_refined_no_probe)
        names = (group.op, group.dtype, group.kernel_source, group.gpu, known.shipped.gpu)
        yield (*names, *map(_percent, values))


def _carried(each: Carried) -> tuple[str, ...]:
    window = "yes" if each.window else ""
    counts = (str(each.groups), _percent(each.expected_error), _percent(each.refined_error))
    return (each.op, each.format, each.cache or "", window, _BASIS[each.basis], *counts)


def _percent(value: float | None) -> str:
    return "" if value is None else percent(value)
