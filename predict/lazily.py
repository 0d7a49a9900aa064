"""Loads modules when they are first used: a command explains and completes itself without what only its work needs.

    with lazily():  # torch
        from bench import worker

makes `worker` stand for a module that is loaded when a name in it is asked for. `from bench.worker import WorkerBench`
would ask at once, so modules are imported whole, and annotations that name them stay text
(`from __future__ import annotations`).
"""

import importlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


@contextmanager
def lazily() -> Iterator[None]:
    """Modules that are imported within load at their first use. Packages load at once."""
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in finder.put_off:  # who imports them elsewhere, or walks over all modules, meets none of these
            package, _, module = name.rpartition(".")
            delattr(sys.modules[package], module)
            del sys.modules[name]


class _Later(ModuleType):
    """Stands for the module of its name."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):  # what imports ask of every module
            raise AttributeError(name)
        return getattr(importlib.import_module(self.__name__), name)


class _Finder(MetaPathFinder, Loader):
    """Finds modules in packages where the other finders do, and puts off their loading."""

    def __init__(self) -> None:
        self.put_off: list[str] = []

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        others = (finder for finder in sys.meta_path if finder is not self)
        spec = next((found for each in others if (found := each.find_spec(fullname, path, target))), None)
        if spec is None or spec.submodule_search_locations is not None:
            return spec
        return ModuleSpec(fullname, self)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Later(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        self.put_off.append(module.__name__)
