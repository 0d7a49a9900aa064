"""The scorecard as a person reads it: a matrix of verdicts by claim and machine, and a section for each claim."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from predict.table import Column, Table
from predict.terminal import Style, styled, wrapped
from predict.units import Unit, percent
from reports.files import template
from reports.scorecard.claims import Claim
from reports.scorecard.verdict import Judgment, Verdict
from reports.tables import TextTable

TEMPLATE = Path(__file__).with_name("scorecard.md.jinja")
TITLE = "Scorecard: rules of thumb against measured times"
COLUMNS = (
    Column("claim", "claim", Unit.COUNT, is_key=True),
    Column("name", "name", is_key=True),
    Column("machine", "machine", is_key=True),
    Column("verdict", "verdict"),
    Column("median_error", "median error", Unit.SHARE),
    Column("tolerance", "tolerance", Unit.SHARE),
    Column("rows", "rows", Unit.COUNT),
    Column("sentence", "what was measured"),
)


def flat(judgments: Sequence[Judgment]) -> Table:
    """A row for each claim and machine."""
    return Table(COLUMNS, tuple(each.row() for each in judgments))


def matrix(judgments: Sequence[Judgment]) -> TextTable:
    """Verdicts by claim and machine; claims that no machine measured are left out."""
    machines = list(dict.fromkeys(each.machine for each in judgments))
    rows = []
    for claim, found in _by_claim(judgments):
        if any(each.verdict is not Verdict.UNKNOWN for each in found):
            texts = {each.machine: each.text for each in found}
            rows.append((str(claim.number), claim.name, *(texts.get(machine, "") for machine in machines)))
    return TextTable("Verdicts", ("", "claim", *machines), tuple(rows), names=2)


def unmeasured(judgments: Sequence[Judgment]) -> list[tuple[Claim, str]]:
    """The claims that no machine measured, each with the reason."""
    found = _by_claim(judgments)
    return [(claim, each[0].reason) for claim, each in found if all(one.verdict is Verdict.UNKNOWN for one in each)]


def in_terminal(judgments: Sequence[Judgment], width: int) -> Iterator[str]:
    """The matrix, what each judgment says, and what was not measured."""
    yield from (styled(line, Style.BOLD) for line in wrapped(TITLE, width))
    yield matrix(judgments).table.text(width)
    for claim, found in _by_claim(judgments):
        known = [each for each in found if each.evidence is not None]
        if known:
            yield ""
            yield from wrapped(f"{claim.number}. {claim.says}", width)
            for each in known:
                yield from wrapped(f"{each.machine}: {each.text}. {each.sentence}", width, "  ", "    ")
    if missing := unmeasured(judgments):
        yield ""
        yield from (styled(line, Style.BOLD) for line in wrapped("Not measured", width))
        for claim, reason in missing:
            yield from wrapped(f"{claim.number}. {claim.name}: {reason}", width, "", "   ")


def document(judgments: Sequence[Judgment], sources: Sequence[str], *, knees: str = "") -> str:
    """The scorecard in Markdown. `sources` say who measured; `knees` is the path of the figure of knees, if any."""
    return template(TEMPLATE).render(
        knees=knees,
        matrix=matrix(judgments),
        claims=[
            (claim, percent(claim.tolerance), percent(claim.at_most), _of_claim(found))
            for claim, found in _by_claim(judgments)
            if any(each.evidence is not None for each in found)
        ],
        missing=unmeasured(judgments),
        sources=sources,
    )


def _of_claim(found: Sequence[Judgment]) -> list[tuple[str, str, str]]:
    """Machine, verdict and sentence of each judgment; those are left out that only say what it takes."""
    told = [each for each in found if each.evidence is not None or each.reason != each.claim.missing]
    return [(each.machine, each.text, each.sentence) for each in told]


def _by_claim(judgments: Sequence[Judgment]) -> list[tuple[Claim, list[Judgment]]]:
    found: dict[int, list[Judgment]] = {}
    for each in judgments:
        found.setdefault(each.claim.number, []).append(each)
    return [(found[number][0].claim, found[number]) for number in sorted(found)]
