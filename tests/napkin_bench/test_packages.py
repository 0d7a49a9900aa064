"""The names of our packages are common: where Python finds another of them, the command says so before it begins."""

import shutil
import sys

import pytest

from napkin_bench.packages import MARK, NAMES
from tests.installed import ROOT, console_script, execute


def make_package(folder, docstring):
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(f'"""{docstring}"""\nraise SystemExit("it was loaded")\n')
    return folder / "__init__.py"


@pytest.mark.parametrize("name", NAMES)
def test_each_package_says_whose_it_is(name):
    text = (ROOT / name / "__init__.py").read_text()
    assert MARK in text.partition('"""\n')[0]


@pytest.mark.parametrize("name", NAMES)
def test_another_package_that_is_found_first_is_named(tmp_path, name):
    other = make_package(tmp_path / "first" / name, "Another project.")
    result = execute(console_script(tmp_path), "predict", "gpus", path=(tmp_path / "first", ROOT), cwd=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: napkin-bench needs its own package `{name}`, but Python finds {other} ")
    assert "environment of its own" in result.stderr
    assert "PYTHONPATH" in result.stderr
    assert result.stderr.count("\n") == 1


def test_the_other_commands_say_it_too(tmp_path):
    other = make_package(tmp_path / "first" / "kernels", "Another project.")
    result = execute(sys.executable, "-m", "bench", "doctor", path=(tmp_path / "first", ROOT), cwd=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    assert f"but Python finds {other} first" in result.stderr
    assert "off PYTHONPATH" in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_package_in_the_current_folder_disturbs_only_what_looks_there(tmp_path):
    here = make_package(tmp_path / "here" / "reports", "Reports of mine.").parent.parent
    result = execute(sys.executable, "-m", "bench", "doctor", cwd=here)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.endswith("or run `napkin-bench`, which does not look in the current folder\n")
    assert execute(console_script(tmp_path), "doctor", "--help", cwd=here).returncode == 0


@pytest.fixture
def site(tmp_path):
    """A folder of installed packages, as far as the check reads them."""
    shutil.copytree(ROOT / "napkin_bench", tmp_path / "site" / "napkin_bench")
    for name in NAMES:
        make_package(tmp_path / "site" / name, "Part of napkin-bench.")
    return tmp_path / "site"


def test_a_package_that_was_installed_over_ours_is_named(tmp_path, site):
    shutil.rmtree(site / "kernels")
    other = make_package(site / "kernels", "Kernels from a hub.")
    result = execute(console_script(tmp_path), "list", path=(site,), cwd=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    assert f"package `kernels`, but another package was installed over it, {other}: " in result.stderr


def test_what_another_package_took_along_when_it_left_is_missed(tmp_path, site):
    (site / "kernels" / "catalog.py").touch()
    (site / "kernels" / "__init__.py").unlink()
    result = execute(console_script(tmp_path), "list", path=(site,), cwd=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    assert f"{site / 'kernels' / '__init__.py'} is missing: install napkin-bench again" in result.stderr
