"""The model's name in a log: which preset it means, and whether it contradicts the model that was asked for.

Names differ by publisher, fine-tune, format and date ("meta-llama/Meta-Llama-3-8B-Instruct", "/models/my-llama3-8b"),
so a log is refused only where a name clearly says another model: a preset of another shape, another family, or another
size. Anything else is told in a note.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from predict.errors import BadModel
from predict.model.presets import PRESETS, find_model
from predict.model.transformer import Model

# "8b", "0.6b", "30b", "a3b", "8x7b", "e4b"; then words and version numbers.
_TOKEN = re.compile(r"(?:[ae]|\d+x)?\d+(?:\.\d+)?[bm](?![a-z])|[a-z]+|\d+(?:\.\d+)*")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)([bm])")
_CACHED = re.compile(r"models--(.+?)--([^/]+)")  # a folder of the Hugging Face cache
# Words that name a family. A name with one of another family contradicts. Servers are called gpt-something whatever
# they run.
FAMILIES = frozenset(
    {
        *("llama", "mistral", "mixtral", "qwen", "gemma", "deepseek", "phi", "granite", "olmo", "smollm"),
        *("kimi", "glm", "minimax", "opt", "falcon", "nemotron", "command", "internlm", "yi", "ernie", "bloom"),
    }
)
LEAST_MILLIONS = 20  # "1m" in a name is a context
MOST_OFF = 1.5  # times the parameters that a size in a name may differ: Gemma's "2b" has 2.6 billion
FORMATS = ("fp8", "nvfp4", "fp4", "mxfp4", "awq", "gptq", "int4", "int8", "w4a16", "w8a16", "w8a8")


@dataclass(frozen=True, slots=True)
class Name:
    """A model's name, taken apart."""

    text: str  # without publisher and folders
    tokens: tuple[str, ...]

    @classmethod
    def of(cls, given: str) -> "Name":
        """The last part of a path or of publisher/name; of a folder of the Hugging Face cache, the name in it."""
        cached = _CACHED.search(given)
        text = cached[2] if cached else re.split(r"[/\\]", given.rstrip("/\\"))[-1]
        return cls(text, tuple(_TOKEN.findall(text.lower())))

    @property
    def families(self) -> frozenset[str]:
        """The families that it names."""
        return FAMILIES & set(self.tokens)

    @property
    def sizes(self) -> tuple[str, ...]:
        """The sizes that it names: "8b", "a3b", "8x7b"."""
        return tuple(token for token in self.tokens if _is_size(token))

    @property
    def params(self) -> float | None:
        """Parameters, if it names one plain size."""
        plain = [match for token in self.sizes if (match := _SIZE.fullmatch(token))]
        return float(plain[0][1]) * {"b": 1e9, "m": 1e6}[plain[0][2]] if len(plain) == 1 else None

    @property
    def formats(self) -> tuple[str, ...]:
        """The formats of weights that it names."""
        words = set(re.split(r"[^a-z0-9]+", self.text.lower()))
        return tuple(name for name in FORMATS if name in words)


def find_named(given: str) -> str | None:
    """The preset that a name means: all words of it stand in the name, one behind the other, and no family and no size
    is left over. The one with most words if several do; None if none does."""
    name = Name.of(given)
    found = [(len(words), preset) for preset, words in _presets() if _holds(name, words)]
    return max(found)[1] if found else None


def contradiction(given: str, model: Model) -> str:
    """Why a log's name cannot mean `model`; empty if it can."""
    name, named = Name.of(given), find_named(given)
    if named is not None and _same_shape(find_model(named), model):
        return ""
    if named is not None and (name.sizes or name.tokens == Name.of(named).tokens):
        return f"{name.text} is {named}"
    known = Name.of(model.name)
    if name.families and known.families and not name.families & known.families:
        return f"{name.text} is of another family"
    params = name.params
    if params is not None and not 1 / MOST_OFF <= params / model.params <= MOST_OFF:
        return f"{name.text} names {params / 1e9:g}B parameters, and {model.name} has {model.params / 1e9:.3g}B"
    return ""


def check_name(file: str, names: tuple[str | None, str | None], model: Model) -> str:
    """A note about the name of the model in a log, empty if it is clear. `names` are those of model and tokenizer; the
    tokenizer's counts where the model has an alias. Raises BadModel for a log of another model."""
    given = next((each for each in names if each and (find_named(each) or Name.of(each).sizes)), names[0])
    if given is None:
        return f"{file} does not name its model: {model.name} is taken on trust"
    if reason := contradiction(given, model):
        raise BadModel(f"{file} is of another model than --model {model.name}: {reason}")
    named = find_named(given)
    if named is None or not _same_shape(find_model(named), model):
        return f"{file} calls its model {given!r}: that it is {model.name} is taken on trust"
    return ""


def _is_size(token: str) -> bool:
    if plain := _SIZE.fullmatch(token):
        return plain[2] == "b" or float(plain[1]) >= LEAST_MILLIONS
    return token[-1] == "b" and token[-2:-1].isdigit()


def _presets() -> Iterator[tuple[str, tuple[str, ...]]]:
    for preset, published in PRESETS.items():
        for spelling in (preset, *published.aliases):
            yield preset, Name.of(spelling).tokens


def _holds(name: Name, words: tuple[str, ...]) -> bool:
    """Whether `words` stand in the name one behind the other, with no family and no size beside them."""
    starts = range(len(name.tokens) - len(words) + 1)
    if not any(name.tokens[start : start + len(words)] == words for start in starts):
        return False
    return name.families <= set(words) and set(name.sizes) <= set(words)


def _same_shape(one: Model, other: Model) -> bool:
    return (one.params, one.layers, one.hidden) == (other.params, other.layers, other.hidden)
