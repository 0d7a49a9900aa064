"""Puts the scorecard together: the evidence of each machine, from tables, a run and public measurements."""

from collections.abc import Mapping, Sequence

from reports.accuracy.document import table_lines
from reports.accuracy.endtoend import Judged
from reports.accuracy.validate import Group
from reports.run.load import Run
from reports.scorecard.claims import read_claims
from reports.scorecard.points import of_points
from reports.scorecard.records import of_records
from reports.scorecard.verdict import Evidence, Judgment, judge

Found = Mapping[int, Evidence | str]  # evidence, or the reason why there is none, by a claim's number
ByMachine = Mapping[str, Found]


def of_run(run: Run) -> ByMachine:
    """The evidence of a run's records."""
    return {run.machine: of_records(run)}


def of_models(judged: Sequence[Judged]) -> ByMachine:
    """The evidence of public measurements of whole models, by GPU."""
    gpus = sorted({each.gpu for each in judged})
    return {gpu: of_points([each for each in judged if each.gpu == gpu]) for gpu in gpus}


def merged(*parts: ByMachine) -> ByMachine:
    """The evidence of several sources, by machine; where two tell of a claim, evidence goes before a reason."""
    found: dict[str, dict[int, Evidence | str]] = {}
    for part in parts:
        for machine, by_claim in part.items():
            known = found.setdefault(machine, {})
            known |= {
                number: each
                for number, each in by_claim.items()
                if isinstance(each, Evidence) or not isinstance(known.get(number), Evidence)
            }
    return found


def judge_all(evidence: ByMachine) -> list[Judgment]:
    """Every claim on every machine."""
    return [
        judge(claim, machine, found.get(claim.number, claim.missing))
        for claim in read_claims()
        for machine, found in evidence.items()
    ]


def sources_of(groups: Sequence[Group], judged: Sequence[Judged]) -> list[str]:
    """Who measured: the tables, and the publishers of points."""
    return [*table_lines(groups), *dict.fromkeys(each.point.publisher for each in judged)]
