"""The Python call: `from predict import estimate`. `python -m predict model` prints what it returns."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

from predict.answers.answer import answer
from predict.answers.asking import ask
from predict.answers.breakdown import breakdowns
from predict.answers.lines import SERVING, Answer, Line, Use
from predict.answers.question import ASKED, Question
from predict.answers.verdict import verdicts
from predict.formulas.memory import Optimizer, Recompute, WeightFormat
from predict.gpus import Gpu
from predict.model.kept import Kernels
from predict.model.passes import Logits, Mask
from predict.model.transformer import Model
from predict.suggest import did_you_mean
from predict.units import DType


@dataclass(frozen=True)
class Estimate:
    """What is known about a model on a machine.

    `estimate[key]` is a number in SI units, `lines[key]` the same with its label, unit and formula. A number that
    cannot be known is absent, and a note says why.
    """

    question: Question
    answer: Answer

    @cached_property
    def lines(self) -> Mapping[str, Line]:
        """Every line of the answer by its key, in the order of the page."""
        return MappingProxyType({line.key: line for section in self.answer.sections for line in section.lines})

    @property
    def notes(self) -> tuple[str, ...]:
        """Assumptions, and the reasons why numbers are absent."""
        return self.answer.notes

    def __getitem__(self, key: str) -> float | str:
        """The value of a line. Raises KeyError naming the closest key."""
        if key not in self.lines:
            hint = did_you_mean(key, self.lines)
            raise KeyError(f"no {key} in this estimate{hint}its notes say what is absent and why")
        return self.lines[key].value

    def __contains__(self, key: object) -> bool:
        """Whether a number of that key is known."""
        return key in self.lines

    def flat(self, uses: frozenset[Use] = SERVING) -> dict[str, object]:
        """The assumptions, the values, where the time goes, and the notes, ready for JSON. Every use has all of them;
        the verdict, and whether it fits, are those of the first of `uses`."""
        verdict = verdicts(self.question, uses)[0]
        return {
            **self.question.assumptions(),
            "fits": verdict.fits,
            "verdict": verdict.lines,
            **{key: line.value for key, line in self.lines.items()},
            "breakdown": [row for each in breakdowns(self.question) for row in each.rows()],
            "notes": self.notes,
        }

    def to_json(self, uses: frozenset[Use] = SERVING) -> str:
        """The text that `python -m predict model --json` prints."""
        return json.dumps(self.flat(uses), indent=2, allow_nan=False)


def estimate(
    model: str | Path | Model,
    *,
    gpu: str | Gpu,
    gpus: int | str | None = None,
    tp: int | str | None = None,
    pp: int | str | None = None,
    dp: int | str | None = None,
    ep: int | str | None = None,
    link_between_nodes: float | str | None = None,
    batch: int | str | None = None,
    seq: int | str | None = None,
    context: int | str | None = None,
    attention: Mask | str | None = None,
    logits: Logits | str | None = None,
    weights: WeightFormat | str | None = None,
    kv: DType | str | None = None,
    compute: DType | str | None = None,
    recompute: Recompute | str | None = None,
    kernels: Kernels | str | None = None,
    zero: int | str | None = None,
    micro_batch: int | str | None = None,
    optimizer: Optimizer | str | None = None,
    tokens: float | str | None = None,
    price: float | str | None = None,
    token_price: float | str | None = None,
    hbm: float | str | None = None,
    overhead: float | str | None = None,
    mfu: float | str | None = None,
    mbu: float | str | None = None,
    draft: Model | str | None = None,
    accept: float | str | None = None,
    prefix: int | str | None = None,
    chunk: int | str | None = None,
) -> Estimate:
    """Estimate a whole model: FLOP, memory, prefill, decode, training and money.

    `model` is a preset's name, the path of a config.json, or a `Model`. The other arguments are the options of
    `python -m predict model`, whose --help explains them. They take values, or texts as people write them ("8k",
    "80GB"); None is the option's default. Raises a `predict.errors.NapkinError` for bad input.

        from predict import estimate
        found = estimate("llama-3-70b", gpu="h100", gpus=2, batch=4, seq=8192)
        found["tpot_s"]
    """
    given = locals()
    return estimate_of(model, {field: given[option] for option, field in OPTIONS.items() if given[option] is not None})


def estimate_of(model: str | Path | Model, fields: Mapping[str, object]) -> Estimate:
    """The same for fields of `Question` by name, each a text or a value."""
    question = ask(model, fields)
    return Estimate(question, answer(question))


# Argument of `estimate` -> field of `Question`.
OPTIONS: Mapping[str, str] = MappingProxyType(
    {(asked.option or name).replace("-", "_"): name for name, (_, asked) in ASKED.items() if asked.help}
)
