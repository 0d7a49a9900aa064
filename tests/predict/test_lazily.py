"""Modules that load when they are first used."""

# ruff: noqa: PLC0415 - when an import happens is what is tested

import sys
from types import SimpleNamespace

import pytest

from predict.lazily import lazily


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package with a module `work` that writes down when it is loaded."""
    folder = tmp_path / "napkin_made_up"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "work.py").write_text("import sys\nsys.napkin_loaded.append(__name__)\nANSWER = 42\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "napkin_loaded", [], raising=False)
    yield SimpleNamespace(loaded=sys.napkin_loaded, folder=folder)
    for name in [name for name in sys.modules if name.startswith("napkin_made_up")]:
        del sys.modules[name]


def test_a_module_loads_when_a_name_in_it_is_asked_for(package):
    with lazily():
        from napkin_made_up import work
    assert package.loaded == []
    assert work.ANSWER == 42
    assert work.ANSWER == 42
    assert package.loaded == ["napkin_made_up.work"]


def test_who_imports_it_elsewhere_gets_the_module_itself(package, monkeypatch):
    with lazily():
        from napkin_made_up import work as later
    assert "napkin_made_up.work" not in sys.modules  # torch walks over all modules, and would load it half-way
    from napkin_made_up import work

    assert package.loaded == ["napkin_made_up.work"]
    monkeypatch.setattr(work, "ANSWER", 7)
    assert later.ANSWER == 7


def test_a_module_that_is_loaded_already_is_taken_as_it_is(package):
    from napkin_made_up import work as loaded

    with lazily():
        from napkin_made_up import work
    assert work is loaded


def test_a_module_that_does_not_exist_is_missed_at_once(package):
    with pytest.raises(ImportError), lazily():
        from napkin_made_up import wrok  # noqa: F401
    assert not [finder for finder in sys.meta_path if type(finder).__module__ == "predict.lazily"]


def test_what_a_module_misses_is_told_when_it_is_used(package):
    (package.folder / "broken.py").write_text("import a_package_that_does_not_exist\n")
    with lazily():
        from napkin_made_up import broken
    with pytest.raises(ModuleNotFoundError, match="a_package_that_does_not_exist"):
        broken.ANSWER  # noqa: B018
