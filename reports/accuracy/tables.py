"""Validated groups as a table for the terminal."""

from collections.abc import Iterable

from rich import box
from rich.table import Table

from predict.units import percent
from reports.accuracy.validate import Group
from reports.calibration.errors import errors


def validation_table(groups: Iterable[Group]) -> Table:
    """One line for each validated group: the errors of the napkin and of expected time."""
    title = "expected time: calibrated from up to 16 rows of each group, judged on all its other rows"
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left")
    shares = ("napkin\nMAPE", "expected\nMAPE", "median\nerror", "90 % are\nwithin", "within\n30 %", "beat the\nbound")
    for number, heading in enumerate(("what", "kernel", "rows", *shares)):
        table.add_column(heading, justify="left" if number < 2 else "right", no_wrap=number > 1, overflow="fold")
    for group in groups:
        found = errors(group.judged)
        errors_of = (found.mape_napkin, found.mape_expected, found.median_error, found.p90_error)
        table.add_row(
            group.title,
            group.kernel_source,
            f"{found.rows:,}",
            *(percent(share) for share in (*errors_of, found.within_30_percent)),
            f"{found.faster_than_bound:,}",
        )
    return table
