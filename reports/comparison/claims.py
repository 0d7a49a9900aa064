"""The rules of thumb judged on every side, a column each."""

from collections.abc import Sequence

from predict.errors import BadRecord
from reports.accuracy.endtoend import Judged
from reports.accuracy.validate import Group, validate
from reports.comparison.sides import Side
from reports.run.load import Run
from reports.scorecard.card import Found, judge_all, merged, of_models
from reports.scorecard.kernels import of_kernels
from reports.scorecard.records import of_records
from reports.scorecard.verdict import Judgment, Verdict

Groups = dict[str, Sequence[Group]]  # of tables, by side


def groups_of_sides(sides: Sequence[Side]) -> Groups:
    """The kernel families of every side that is made of tables. Raises BadRecord where those cannot be validated."""
    return {side.name: validate(side.source).groups for side in sides if not isinstance(side.source, Run)}


def judge_sides(sides: Sequence[Side], groups: Groups, judged: Sequence[Judged] = ()) -> list[Judgment]:
    """Every claim on every side, and on the GPUs of public measurements of whole models."""
    evidence: dict[str, Found] = {}
    for side in sides:
        if isinstance(side.source, Run):
            evidence[side.name] = of_records(side.source)
        else:
            evidence[side.name] = of_kernels(groups[side.name]) if side.name in groups else {}
    return judge_all(merged(evidence, of_models(judged)))


def judge_what_can_be(sides: Sequence[Side]) -> tuple[list[Judgment], list[str]]:
    """Every claim on every side, and a note for each side whose tables are too small to judge one."""
    groups: Groups = {}
    notes = []
    for side in sides:
        try:
            groups |= groups_of_sides([side])
        except BadRecord as error:
            notes.append(f"{side.name}: its tables judge no claim: {error}")
    return judge_sides(sides, groups), notes


def claim_sentences(judgments: Sequence[Judgment]) -> list[str]:
    """How many claims hold on each side; none where no claim was judged."""
    known = [each for each in judgments if each.verdict is not Verdict.UNKNOWN]
    said = []
    for side in dict.fromkeys(each.machine for each in known):
        found = [each.verdict for each in known if each.machine == side]
        within, fail = (found.count(verdict) for verdict in (Verdict.WITHIN, Verdict.FAILS))
        rest = [f"{within} within a wider tolerance"] if within else []
        rest += [f"{fail} not"] if fail else []
        said.append(
            f"on {side} {found.count(Verdict.HOLDS)} of {len(found)} hold{''.join(f', {each}' for each in rest)}"
        )
    return [f"Rules of thumb that were measured: {'; '.join(said)}."] if said else []
