"""Finds and evaluates formulas by name for the command line: `serving.batch_to_saturate`, `speculation.speedup`, ..."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType

from numpy.typing import ArrayLike

from predict.errors import BadQuantity
from predict.formulas import continuous, memory, money, parallel, serving, speculation
from predict.formulas.memory import Recompute
from predict.suggest import did_you_mean, no_choice, quoted, unknown
from predict.units import Kind, kind_of, read_quantity
from predict.workloads import Count, Number

Formula = Callable[..., object]
NUMBERS = (Number, Count, float, int)  # what a formula may return


def _formulas() -> Iterator[tuple[str, Formula]]:
    for module in (memory, serving, continuous, speculation, parallel, money):
        for name, function in vars(module).items():
            is_own = inspect.isfunction(function) and function.__module__ == module.__name__
            if is_own and not name.startswith("_") and inspect.signature(function).return_annotation in NUMBERS:
                yield f"{module.__name__.rpartition('.')[2]}.{name}", function


# Every public function of these modules that returns a number.
FORMULAS: Mapping[str, Formula] = MappingProxyType(dict(_formulas()))


def find_formula(name: str) -> tuple[str, Formula]:
    """Return the full name of a formula and its function. `name` may leave out the module. Raises BadQuantity."""
    found = [full for full in FORMULAS if name in (full, full.partition(".")[2])]
    if len(found) == 1:
        return found[0], FORMULAS[found[0]]
    bare = {full.partition(".")[2]: full for full in FORMULAS}
    raise BadQuantity(unknown("formula", name, FORMULAS, bare, listed_by="python -m predict formulas"))


def evaluate(name: str, arguments: Mapping[str, str]) -> object:
    """Evaluate a formula. `arguments` holds text. Raises BadQuantity for a missing, unknown or unreadable argument."""
    full, formula = find_formula(name)
    parameters = inspect.signature(formula).parameters
    takes = f"it takes {', '.join(parameters)}"
    if others := [argument for argument in arguments if argument not in parameters]:
        raise BadQuantity(f"{full} has no {quoted(others[0])}{did_you_mean(others[0], parameters)}{takes}")
    needed = [each.name for each in parameters.values() if each.default is inspect.Parameter.empty]
    if missing := [argument for argument in needed if argument not in arguments]:
        raise BadQuantity(f"{full} needs {', '.join(f'{each}=...' for each in missing)}; {takes}")
    kinds = {each: _kind(each, full) for each in arguments}
    return formula(
        **{each: _read(each, text, parameters[each].annotation, kinds[each]) for each, text in arguments.items()}
    )


def _kind(name: str, formula: str) -> Kind:
    """What an argument counts. Tokens are counted in powers of two, except those that a model is trained on."""
    return Kind.AMOUNT if name == "tokens" and formula.startswith("money.") else kind_of(name)


def _read(name: str, text: str, annotation: object, kind: Kind) -> object:
    """Convert text by the parameter's type: a number, a list ("1,2"), a list of lists ("1,2;3"), true or false, or a
    `Recompute` value."""
    if annotation is ArrayLike:
        return [read_quantity(item, name, kind) for item in text.split(",")]
    if annotation in (Sequence[Sequence[float]], Iterable[Sequence[int]]):
        return [[read_quantity(item, name, kind) for item in group.split(",")] for group in text.split(";")]
    if annotation is bool:
        if text not in ("true", "false"):
            raise BadQuantity(f"{name} must be true or false, not {text!r}")
        return text == "true"
    if annotation is Recompute:
        if text not in list(Recompute):
            raise BadQuantity(no_choice(name, text, Recompute))
        return Recompute(text)
    return read_quantity(text, name, kind)
