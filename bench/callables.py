"""A user's function as an implementation of an op, named as it was typed.

    load("mypackage.kernels:my_gemm")  # a module that can be imported
    load("./kernels.py:my_gemm")       # a file

The current folder is searched last, so that a user's `bench.py` never stands in for ours. Importing may need the GPU:
only a worker loads functions.
"""

import functools
import importlib
import importlib.util
import inspect
import sys
import traceback
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType

from torch import Tensor

from kernels.implementation import Result
from predict.errors import BadRun
from predict.suggest import did_you_mean

_SEPARATOR = ":"  # no name in the catalog has one
_OURS = frozenset({"bench", "kernels", "predict", "reports"})


class BadCallable(BadRun):
    """A function that cannot be imported, is not callable, or takes or returns other tensors than its op."""


def is_callable(implementation: str) -> bool:
    """Whether the name of an implementation means a user's function."""
    return _SEPARATOR in implementation


def check_name(name: str) -> None:
    """Raise BadCallable unless `name` reads module:function."""
    place, separator, function = name.rpartition(_SEPARATOR)
    if not (separator and place.strip() and function.strip()):
        raise BadCallable(f"--callable takes module:function or ./file.py:function, not {name!r}")


@functools.cache
def load(name: str) -> Callable[..., Result]:
    """Import a function. Raises BadCallable if that fails, whatever its module raises."""
    check_name(name)
    place, _, function = name.rpartition(_SEPARATOR)
    try:
        found = functools.reduce(getattr, function.split("."), _import(name, place))
    except AttributeError:
        known = [each for each, value in vars(_import(name, place)).items() if callable(value)]
        meant = did_you_mean(function, known).rstrip("; ")
        raise BadCallable(f"--callable {name}: {place} has no {function}{meant}{_shadowed(place)}") from None
    if not callable(found):
        raise BadCallable(f"--callable {name}: {function} is no function but of type {type(found).__name__}")
    run: Callable[..., Result] = found
    return run


def check_arguments(
    name: str, op: str, run: Callable[..., object], inputs: tuple[Tensor, ...], keywords: Mapping[str, int]
) -> None:
    """Raise BadCallable unless `run` can be called with the inputs of `op`."""
    try:
        signature = inspect.signature(run)
    except ValueError:  # of some functions in C
        return
    try:
        signature.bind(*inputs, **keywords)
    except TypeError as error:
        named = f" and {', '.join(f'{each}=' for each in keywords)}" if keywords else ""
        count = f"{len(inputs)} tensor{'s' if len(inputs) > 1 else ''}{named}"
        listed = f"`python -m bench inputs {op}` lists them"
        raise BadCallable(f"{name} is called with {count}, but takes {signature}: {error}; {listed}") from None


def _import(name: str, place: str) -> ModuleType:
    """The module or file, with the current folder at the end of the path."""
    _search(Path.cwd())
    if place.endswith(".py") and not Path(place).is_file():
        raise BadCallable(f"--callable {name}: no file {place} in {Path.cwd()}")
    try:
        return _import_file(Path(place).resolve()) if place.endswith(".py") else importlib.import_module(place)
    except BaseException as error:  # noqa: BLE001 - a module may raise anything, SystemExit too
        if isinstance(error, ModuleNotFoundError) and error.name and f"{place}.".startswith(f"{error.name}."):
            missing = f"no module {error.name!r} is installed or in {Path.cwd()}"
            raise BadCallable(f"--callable {name}: {missing}{_shadowed(place)}") from None
        raise BadCallable(f"--callable {name}: importing {place} failed: {_one_line(error)}") from None


def _import_file(file: Path) -> ModuleType:
    """A file as a module, whose name no other has. It is run once, however many functions are taken from it."""
    name = f"napkin_bench_callable_{zlib.crc32(str(file).encode()):08x}_{file.stem}"
    if name in sys.modules:
        return sys.modules[name]
    _search(file.parent)
    module = ModuleType(name)
    if (spec := importlib.util.spec_from_file_location(name, file)) and spec.loader:
        module = sys.modules[name] = importlib.util.module_from_spec(spec)  # dataclasses look their module up
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return module


def _search(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def _shadowed(place: str) -> str:
    """What to do if a module of ours has the name of the user's."""
    if place.partition(".")[0] not in _OURS:
        return ""
    return f"; {place} is a module of napkin-bench: for a file of yours give its path, ./{place}.py:function"


def _one_line(error: BaseException) -> str:
    """Type, first line of the message, and where it was raised; a SyntaxError's message says where."""
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error}"
    frame = traceback.extract_tb(error.__traceback__)[-1]
    text = (str(error).strip() or "no message").splitlines()[0]
    return f"{type(error).__name__}: {text} ({Path(frame.filename).name}:{frame.lineno})"
