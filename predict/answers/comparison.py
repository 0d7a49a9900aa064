"""Several machines in one view: a model on each of them, the cheapest token first."""

import itertools
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from predict.answers.estimate import Estimate, estimate_of
from predict.answers.lines import Unit
from predict.answers.machine import Machine
from predict.answers.sections.timing import too_many
from predict.answers.table import Column, Table
from predict.errors import BadQuantity, MissingCeiling
from predict.model.transformer import Model

COLUMNS = (
    Column("gpu", "GPU", is_key=True),
    Column("gpus", "n", Unit.GPUS, is_key=True),
    Column("fits", "fits"),
    Column("max_batch", "max batch", Unit.REQUESTS),
    Column("ttft_s", "TTFT", Unit.SECONDS),
    Column("prefill_expected_s", "expected", Unit.SECONDS),
    Column("tpot_s", "TPOT", Unit.SECONDS),
    Column("decode_step_expected_s", "expected", Unit.SECONDS),
    Column("decode_tokens_per_s", "tokens/s", Unit.TOKENS_PER_S),
    Column("decode_tokens_per_s_per_gpu", "per GPU", Unit.TOKENS_PER_S),
    Column("usd_per_1m_tokens", "$/1M", Unit.USD),
    Column("decode_bound", "bound"),
)
REASON = Column("reason", "reason")  # why a machine has no times: a note on the page, a column elsewhere


@dataclass(frozen=True, slots=True)
class MachineRow:
    """What is known about a model on one machine."""

    machine: Machine
    estimate: Estimate | None
    reason: str = ""  # why there is no estimate, or no time in it

    def flat(self) -> dict[str, object]:
        """The answer as flat as that of one machine; without one, the machine and the reason."""
        if self.estimate is None:
            return {"gpu": self.machine.gpu.name, "gpus": self.machine.gpus, "reason": self.reason}
        return self.estimate.flat()

    def cells(self) -> dict[str, object]:
        """The values of `COLUMNS`."""
        found: dict[str, object] = {"gpu": self.machine.gpu.name, "gpus": self.machine.gpus, "fits": self.fits}
        found["reason"] = self.reason or None
        if self.estimate is not None:
            lines = self.estimate.lines
            found |= {column.key: lines[column.key].value for column in COLUMNS if column.key in lines}
        if self.serves:
            found["decode_tokens_per_s_per_gpu"] = self._number("decode_tokens_per_s") / self.machine.gpus
            found["decode_bound"] = str(found["decode_bound"]).partition(".")[0]
        return found

    @property
    def serves(self) -> bool:
        """Whether times are known."""
        return not self.reason

    @property
    def fits(self) -> bool | None:
        """Whether weights and caches fit; None if no replica can be split over the GPUs."""
        return self._number("max_batch") >= self.estimate.question.batch if self.estimate and self.serves else None

    @property
    def order(self) -> tuple[bool, bool, float]:
        """For sorting: what fits, then what serves at all, then the price of a token."""
        return not self.fits, not self.serves, self._number("usd_per_1m_tokens") if self.serves else 0.0

    def _number(self, key: str) -> float:
        assert self.estimate is not None
        return float(self.estimate[key])


def compare_machines(
    model: str | Path | Model, machines: Sequence[Machine], fields: Mapping[str, object]
) -> list[MachineRow]:
    """The model on each machine, with the other fields of `Question`. What fits comes first, the cheapest token before.

    A machine that the model cannot run on is a row with its reason. What is wrong on every machine is raised.
    """
    rows, errors = [], []
    for machine in machines:
        try:
            found = estimate_of(model, {**fields, **machine.fields})
        except (MissingCeiling, BadQuantity) as error:
            errors.append(error)
            rows.append(MachineRow(machine, None, str(error)))
        else:
            serves = "tpot_s" in found
            rows.append(MachineRow(machine, found, "" if serves else too_many(found.question, "times")))
    if len(errors) == len(rows):
        raise errors[0]
    return sorted(rows, key=lambda row: row.order)


def machine_table(rows: Sequence[MachineRow]) -> Table:
    """One line for each machine, with the reason of one that has no times."""
    return Table((*COLUMNS, REASON), tuple(row.cells() for row in rows)).without_empty()


def machine_page(rows: Sequence[MachineRow], width: int) -> str:
    """The table and its notes, at most `width` columns wide."""
    question = next(row.estimate.question for row in rows if row.estimate is not None)
    prices = ", ".join(dict.fromkeys(f"${row.machine.price(question):g} {row.machine.gpu.name}" for row in rows))
    title = (
        f"{question.model.name}: prompts of {question.seq:,} tokens, then decode of batch {question.batch:,} after "
        f"{question.context:,} tokens each; per GPU-hour {prices}"
    )
    table = Table(COLUMNS, tuple(row.cells() for row in rows)).without_empty()
    lines = [*textwrap.wrap(title, width), "", table.text(width), "", "Notes"]
    for note in machine_notes(rows):
        lines += textwrap.wrap(note, width, initial_indent="  - ", subsequent_indent="    ")
    return "\n".join(lines)


def machine_notes(rows: Sequence[MachineRow]) -> Iterator[str]:
    """Why numbers are absent, then what is true of every machine that has them."""
    for row in rows:
        if row.reason:
            yield f"{row.machine.name}: {row.reason}"
    serving = [row.estimate for row in rows if row.estimate is not None and row.serves]
    bare = dict.fromkeys(each.question.gpu.name for each in serving if "decode_step_expected_s" not in each)
    if bare:
        yield f"{', '.join(bare)}: bounds only, because these kernels are not calibrated there"
    for note in dict.fromkeys(itertools.chain.from_iterable(each.notes for each in serving)):
        if all(note in each.notes for each in serving) and not note.startswith("no expected time"):
            yield note
