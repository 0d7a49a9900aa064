"""What the controls say, read from the address; the question that it asks, and the command that asks the same."""

import functools
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import Self

from predict.answers.asking import ask, usual_seq
from predict.answers.question import ASKED, Question, in_json
from predict.errors import BadModel, BadQuantity
from predict.gpus import resolve
from predict.json_file import parse_json
from predict.model.config.changes import read_changes
from predict.model.config.reader import config_name, from_config
from predict.model.presets import find_model, find_preset
from predict.model.transformer import Model
from predict.suggest import no_choice, unknown
from predict.terminal import printable
from predict.units import Kind, read_quantity
from reports.explore.controls import CONTROLS, DROPPED, SHAPE, SHARED

PROGRAM = "napkin-bench predict"
# What the command takes by itself; the defaults of the others depend on the model.
DEFAULTS: Mapping[str, str] = MappingProxyType(
    {
        each.name: f"{each.default:g}" if isinstance(each.default, float) else str(in_json(each.default))
        for each in fields(Question)
        if each.default is not MISSING and each.name in ASKED and not ASKED[each.name][1].optional
    }
)
LONGEST_TEXT = 200  # characters of a control


@dataclass(frozen=True, slots=True)
class State:
    """The text of each control that is not at its default, and the config.json that was dropped. A control that is
    empty is at its default."""

    texts: Mapping[str, str]
    config: bytes | None = None

    @classmethod
    def of(cls, query: Iterable[tuple[str, str]], config: bytes | None = None) -> Self:
        """The state of an address. Raises BadQuantity for a parameter that is not known, given twice, or too long."""
        texts: dict[str, str] = {}
        for name, text in query:
            if name not in CONTROLS and name not in DROPPED:
                raise BadQuantity(unknown("parameter", name, CONTROLS))
            if name in texts:
                raise BadQuantity(f"{name} is given twice: leave one out")
            texts[name] = _checked(name, text)
        kept = {
            name: text for name, text in texts.items() if text and (name in DROPPED or text != CONTROLS[name].default)
        }
        return cls(MappingProxyType(kept), config)

    def __getitem__(self, name: str) -> str:
        return self.texts.get(name, CONTROLS[name].default)

    def with_texts(self, **texts: str) -> "State":
        """The same with other texts of some controls."""
        return State(MappingProxyType({**self.texts, **texts}), self.config)

    def size(self, name: str, low: int = 1, high: int = 10**9) -> int:
        """A control that counts. Raises BadQuantity for what is no whole number from `low` to `high`."""
        found = read_quantity(self[name], CONTROLS[name].label, Kind.SIZE)
        if not isinstance(found, int) or not low <= found <= high:
            raise BadQuantity(
                f"{CONTROLS[name].label} must be a whole number from {low:,} to {high:,}, not {self[name]}"
            )
        return found

    def share(self, name: str) -> float:
        """A control that is a share. Raises BadQuantity for what is not from 0 to 1."""
        found = float(read_quantity(self[name], CONTROLS[name].label, Kind.SHARE))
        if not 0 <= found <= 1:
            raise BadQuantity(f"{CONTROLS[name].label} must be from 0 to 100%, not {self[name]}")
        return found

    def asked(self, *others: str) -> "Asked":
        """What the shared controls and `others` ask."""
        return Asked(self["model"], self.config, self.file, self._changes(), self._fields(others))

    def question(self, *others: str) -> Question:
        """The question that they ask. Raises the errors of asking."""
        return self.asked(*others).question

    @property
    def file(self) -> str:
        """The name of the config.json that was dropped."""
        return self.texts.get("file") or "config.json"

    def command(self, *others: str, option: str = "") -> str:
        """The command that asks the same."""
        words = [*PROGRAM.split(), "model"]
        words += ["--config", self.file] if self.config is not None else [self["model"]]
        words += [word for change in self._changes() for word in ("--set", change)]
        for field, text in self._fields(others):
            words += [f"--{ASKED[field][1].option or field}", text] if text != DEFAULTS.get(field) else []
        return shlex.join([*words, *([option] if option else [])])

    def _fields(self, others: Iterable[str]) -> tuple[tuple[str, str], ...]:
        """Fields of `Question` with their texts. Of two controls of one field the later counts."""
        fields: dict[str, str] = {}
        for name in (*SHARED, *others):
            if (field := CONTROLS[name].field) and self[name]:
                fields[field] = self[name]
        if "acceptance" in fields and "draft" not in fields:
            del fields["acceptance"]
        if "context" in fields and "seq" not in fields:  # which the command line takes from it: here they are apart
            fields["seq"] = str(usual_seq(_model(self["model"], self.config, self.file, self._changes())))
        return tuple(fields.items())

    def _changes(self) -> tuple[str, ...]:
        """What --set takes."""
        return tuple(f"{SHAPE[name].changes}={self[name]}" for name in SHAPE if self[name])


@dataclass(frozen=True, slots=True)
class Asked:
    """The texts that make a question: what is computed of it is remembered by them."""

    preset: str
    config: bytes | None
    file: str
    changes: tuple[str, ...]
    fields: tuple[tuple[str, str], ...]

    @property
    def question(self) -> Question:
        """The question. The same is asked once: what it remembers of its passes serves every section."""
        return _question(self)


@functools.lru_cache(maxsize=64)
def _question(asked: Asked) -> Question:
    """As the command line asks: a preset that is not changed by its name, whose training is known."""
    is_published = asked.config is None and not asked.changes
    model = asked.preset if is_published else _model(asked.preset, asked.config, asked.file, asked.changes)
    return ask(model, dict(asked.fields))


@functools.lru_cache(maxsize=16)
def _model(preset: str, config: bytes | None, file: str, changes: tuple[str, ...]) -> Model:
    """The model of a config.json that was dropped, or of the list; with changes. Raises BadModel."""
    if config is None:
        return find_model(preset, read_changes(changes))
    fields = parse_json(config, file, error=BadModel)
    if not isinstance(fields, dict):
        raise BadModel(f"{file} holds no JSON object; drop the config.json of a model")
    return from_config(fields, config_name(fields, Path(file).stem), file, read_changes(changes))


def _gpu_name(text: str) -> str:
    if text.lower().strip().endswith(".json"):
        raise BadQuantity("the page reads no file of a GPU: choose one of its list")
    return resolve(text).name


# Names that the command line knows under other spellings, or takes for files. The page reads no file.
_FIND: Mapping[str, Callable[[str], str]] = MappingProxyType(
    {
        "model": lambda text: find_preset(text)[0],
        "draft": lambda text: find_preset(text)[0],
        "gpu": _gpu_name,
    }
)


def _checked(name: str, text: str) -> str:
    """The text of a parameter as its control has it. Raises the errors of finding a name."""
    if len(text) > LONGEST_TEXT:
        raise BadQuantity(f"{name} has more than {LONGEST_TEXT} characters")
    if name == "file":
        return printable(Path(text).name)
    if name in DROPPED or not text:
        return text
    control = CONTROLS[name]
    if name in _FIND:
        return _FIND[name](text)
    known = [choice for choice, _ in control.choices]
    if known and text not in known:
        raise BadQuantity(no_choice(control.label, text, filter(None, known)))
    return text
