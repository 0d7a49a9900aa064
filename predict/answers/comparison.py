"""Several machines in one view: a model on each of them, what fits first, then the cheapest."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from predict.answers.estimate import Estimate, estimate_of
from predict.answers.fit import serving_fit, training_fit
from predict.answers.lines import SERVING, Use, Weight
from predict.answers.machine import Machine
from predict.answers.sections.timing import too_many
from predict.errors import BadQuantity, MissingCeiling
from predict.model.transformer import Model
from predict.table import Column, Table
from predict.terminal import wrapped
from predict.units import Unit, people_count

_NAMES = (
    Column("gpu", "GPU", is_key=True),
    Column("gpus", "n", Unit.GPUS, is_key=True),
    Column("layout", "layout", is_key=True),
    Column("fits", "fits"),
)
COLUMNS: Mapping[Use, tuple[Column, ...]] = MappingProxyType(
    {
        Use.SERVE: (
            *_NAMES,
            Column("max_batch", "largest", Unit.REQUESTS),
            Column("ttft_one_s", "TTFT", Unit.SECONDS),
            Column("ttft_one_expected_s", "exp.", Unit.SECONDS),
            Column("tpot_s", "TPOT", Unit.SECONDS),
            Column("decode_step_expected_s", "exp.", Unit.SECONDS),
            Column("decode_tokens_per_s", "tokens/s", Unit.TOKENS_PER_S),
            Column("decode_tokens_per_s_per_gpu", "per GPU", Unit.TOKENS_PER_S),
            Column("usd_per_1m_tokens", "$/1M", Unit.USD),
            Column("decode_bound", "bound"),
        ),
        Use.TRAIN: (
            *_NAMES,
            Column("min_gpus_training", "least GPUs", Unit.GPUS),
            Column("train_step_s", "step", Unit.SECONDS),
            Column("train_step_expected_s", "exp.", Unit.SECONDS),
            Column("train_tokens_per_s_per_gpu", "tokens/s/GPU", Unit.TOKENS_PER_S),
            Column("train_days", "days", Unit.DAYS),
            Column("train_usd", "$", Unit.USD),
            Column("train_usd_expected", "exp.", Unit.USD),
        ),
    }
)
REASON = Column("reason", "reason")  # why a machine has no times: a note on the page, a column elsewhere


# What machines that fit are sorted by.
PRICE: Mapping[Use, str] = MappingProxyType({Use.SERVE: "usd_per_1m_tokens", Use.TRAIN: "train_usd"})
TITLE: Mapping[Use, str] = MappingProxyType(
    {
        Use.SERVE: "{model}: TTFT of a prompt of {seq:,} tokens, decode of batch {batch:,} after {context:,} each",
        Use.TRAIN: "{model}: training steps of {batch:,} x {seq:,} tokens, {tokens} in all",
    }
)


@dataclass(frozen=True, slots=True)
class MachineRow:
    """What is known about a model on one machine."""

    machine: Machine
    estimate: Estimate | None
    error: str = ""  # why there is no estimate

    def flat(self, uses: frozenset[Use] = SERVING) -> dict[str, object]:
        """The answer as flat as that of one machine; without one, the machine and the reason."""
        if self.estimate is None:
            return {"gpu": self.machine.gpu.name, "gpus": self.machine.gpus, "reason": self.error}
        return self.estimate.flat(uses)

    def reason(self, use: Use) -> str:
        """Why the machine has no numbers of a use; empty if it has some."""
        if self.estimate is None:
            return self.error
        return "" if PRICE[use] in self.estimate else too_many(self.estimate.question, "times")

    def fits(self, use: Use) -> bool | None:
        """Whether everything fits into memory; None without numbers."""
        if self.estimate is None or self.reason(use):
            return None
        return (serving_fit if use is Use.SERVE else training_fit)(self.estimate.question).fits

    def order(self, use: Use) -> tuple[bool, bool, float]:
        """For sorting: what fits, then what has numbers, then the price."""
        reason = self.reason(use)
        price = float(self.estimate[PRICE[use]]) if self.estimate and not reason else 0.0
        return not self.fits(use), bool(reason), price

    def cells(self, use: Use) -> dict[str, object]:
        """The values of the columns of a use, and the reason."""
        found: dict[str, object] = {"gpu": self.machine.gpu.name, "gpus": self.machine.gpus}
        found |= {"fits": self.fits(use), "reason": self.reason(use) or None}
        if self.estimate is not None and not self.reason(use):
            lines, q = self.estimate.lines, self.estimate.question
            found |= {column.key: lines[column.key].value for column in COLUMNS[use] if column.key in lines}
            per_gpu = q.batch / self.machine.gpus
            if use is Use.SERVE:
                found["decode_tokens_per_s_per_gpu"] = per_gpu / float(self.estimate["tpot_s"])
                found.setdefault("layout", "tp 1")  # one GPU has no line for it
                found["decode_bound"] = str(found["decode_bound"]).partition(".")[0]
            else:
                found["train_tokens_per_s_per_gpu"] = per_gpu * q.seq / float(self.estimate["train_step_s"])
        return found


def compare_machines(
    model: str | Path | Model, machines: Sequence[Machine], fields: Mapping[str, object]
) -> list[MachineRow]:
    """The model on each machine, with the other fields of `Question`. A machine that the model cannot run on is a row
    with its reason. What is wrong on every machine is raised."""
    rows, errors = [], []
    for machine in machines:
        try:
            rows.append(MachineRow(machine, estimate_of(model, {**fields, **machine.fields})))
        except (MissingCeiling, BadQuantity) as error:
            errors.append(error)
            rows.append(MachineRow(machine, None, str(error)))
    if len(errors) == len(rows):
        raise errors[0]
    return rows


def machine_table(rows: Sequence[MachineRow], use: Use) -> Table:
    """One line for each machine: what fits first, then the cheapest; with the reason of one without numbers."""
    ordered = sorted(rows, key=lambda row: row.order(use))
    cells = [row.cells(use) for row in ordered]
    if all(row.get("layout") in (None, f"tp {row['gpus']}") for row in cells):  # as the number of GPUs says
        cells = [{**row, "layout": None} for row in cells]
    return Table((*COLUMNS[use], REASON), tuple(cells)).without_empty()


def machine_page(rows: Sequence[MachineRow], uses: frozenset[Use], width: int) -> str:
    """A table and its notes for each use, at most `width` columns wide."""
    return "\n\n".join("\n".join(_part(rows, use, width)) for use in Use if use in uses)


def machine_notes(rows: Sequence[MachineRow], use: Use) -> Iterator[str]:
    """Why numbers are absent, what changes a decision on some machine, then what is assumed on all."""
    for row in rows:
        if reason := row.reason(use):
            yield f"{row.machine.name}: {reason}"
    known = [(row.machine.name, row.estimate) for row in rows if row.estimate is not None and not row.reason(use)]
    bare = dict.fromkeys(each.question.gpu.name for _, each in known if "decode_step_expected_s" not in each)
    if bare and use is Use.SERVE:
        yield f"{', '.join(bare)}: bounds only, because these kernels are not calibrated there"
    names: dict[tuple[Weight, str], list[str]] = {}
    for name, each in known:
        for note in each.answer.shown(frozenset({use})).remarks:
            if note.weight is not Weight.ABSENT:
                names.setdefault((note.weight, note.text), []).append(name)
    for (weight, text), on in sorted(names.items(), key=lambda item: item[0][0]):
        if len(on) == len(known):
            yield text
        elif weight is Weight.DECISION:
            yield f"{', '.join(on)}: {text}"


def _part(rows: Sequence[MachineRow], use: Use, width: int) -> Iterator[str]:
    q = next(row.estimate.question for row in rows if row.estimate is not None)
    title = TITLE[use].format(
        model=q.model.name, seq=q.seq, batch=q.batch, context=q.context, tokens=people_count(q.tokens)
    )
    prices = ", ".join(dict.fromkeys(f"${row.machine.price(q):g} {row.machine.gpu.name}" for row in rows))
    table = machine_table(rows, use)
    yield from wrapped(f"{title}; a GPU-hour costs {prices}", width)
    yield from ("", Table(tuple(each for each in table.columns if each is not REASON), table.rows).text(width), "")
    yield "Notes"
    for note in machine_notes(rows, use):
        yield from wrapped(note, width, "  - ", "    ")
