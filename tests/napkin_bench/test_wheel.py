"""The wheel: what it holds and asks for, and that its plain installation predicts, from any folder."""

import json
import re
import shutil
import subprocess
import sys
import zipfile
from types import SimpleNamespace

import pytest

from napkin_bench.packages import NAMES
from tests.installed import EXTRAS, ROOT, console_script, execute, refuse, unlucky_folder

PACKAGES = (*NAMES, "napkin_bench")
BUILD = "import sys; from setuptools.build_meta import build_wheel; print(build_wheel(sys.argv[1]))"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy of the checkout and unpacked as an installation is."""
    folder = tmp_path_factory.mktemp("wheel")
    source, site = folder / "source", folder / "site"
    ignore = shutil.ignore_patterns("__pycache__", "data")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package, ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    built = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", BUILD, folder], cwd=source, capture_output=True, text=True, check=True
    )
    with zipfile.ZipFile(folder / built.stdout.split()[-1]) as archive:
        archive.extractall(site)
    (info,) = site.glob("*.dist-info")
    return SimpleNamespace(site=site, info=info, script=console_script(folder), plain=refuse(folder / "plain", *EXTRAS))


def test_the_wheel_holds_every_module_and_its_data(wheel):
    ours = {
        path.relative_to(ROOT)
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.suffix in (".py", ".css", ".jinja", ".js", ".json", ".npy", ".toml", ".typed")
        and "data" not in path.parts
    }
    assert len({path.suffix for path in ours}) == 8
    held = {path.relative_to(wheel.site) for path in wheel.site.rglob("*") if path.is_file()}
    assert ours == {path for path in held if path.parts[0] in PACKAGES}


def test_a_plain_installation_asks_for_what_predicting_needs(wheel):
    required = re.findall(r"^Requires-Dist: (.+)$", (wheel.info / "METADATA").read_text(), re.MULTILINE)
    assert sorted(re.match(r"\w+", each)[0] for each in required if "extra ==" not in each) == [
        "numpy",
        "rich",
        "typer",
    ]
    assert any(each.startswith("torch") and "extra == 'bench'" in each.replace('"', "'") for each in required)
    assert "napkin-bench = napkin_bench.__main__:main" in (wheel.info / "entry_points.txt").read_text()


@pytest.fixture
def installed(wheel, tmp_path):
    """Run the installed command in a folder of files with unlucky names; plainly installed or with all extras."""
    cwd = unlucky_folder(tmp_path / "here")

    def call(*arguments, plain=True):
        return execute(wheel.script, *arguments, path=(wheel.site, *([wheel.plain] if plain else [])), cwd=cwd)

    return call


@pytest.mark.parametrize(
    ("command", "some"),
    [
        ("--version", r"napkin-bench \d+\.\d+\.\d+\n"),
        ("predict kernel matmul m=16 n=8192 k=8192 --gpu h100 --explain", "napkin 40.2 us"),
        ("predict model llama-3-70b --gpu h100 --gpus 2 --batch 4 --seq 8192", r"TPOT 22.3\s+ms"),
        ("predict model llama-3-8b --gpu h100,h200 --markdown", r"\| h200-sxm"),
        ("predict model llama-3-8b --gpu h100 --gpus 1 --isl 1k --osl 100", "Best: 1 x h100-sxm"),
        ("predict formula speculation.speedup alpha=0.8 k=4 c=0.15 --json", '"value": '),
        ("predict formulas", "speculation.speedup"),
        ("predict gpus", "h200-sxm"),
        ("predict models", "llama-3-70b"),
        ("predict ops", "attention_decode"),
        ("--help", "doctor"),
    ],
)
def test_a_plain_installation_answers_every_question_of_predict_from_any_folder(installed, command, some):
    result = installed(*command.split())
    assert (result.returncode, result.stderr) == (0, "")
    assert re.search(some, result.stdout)


def test_measuring_and_reading_work_from_any_folder_too(installed):
    run = next((ROOT / "reports" / "data").rglob("records.jsonl")).parent
    assert json.loads(installed("show", str(run), "--json", plain=False).stdout)
    result = installed("list", "--gpu", "cpu", "--suite", "smoke", "--json", plain=False)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)[0]["workload"] == "launch-fp32"


def test_a_process_that_the_command_starts_loads_no_file_of_the_current_folder(wheel, tmp_path):
    """A worker is Python with a line of code, which looks in the current folder first."""
    code = (
        "import multiprocessing, sys\n"
        "import napkin_bench.__main__ as command\n"
        "command._run = lambda *_, **__: None\n"
        "command.main()\n"
        "if __name__ == '__main__':\n"
        "    worker = multiprocessing.get_context('spawn').Process(target=print, args=('at work',))\n"
        "    worker.start()\n"
        "    worker.join()\n"
        "    sys.exit(worker.exitcode)\n"
    )
    (tmp_path / "program.py").write_text(code)
    cwd = unlucky_folder(tmp_path / "here")
    result = execute(sys.executable, tmp_path / "program.py", path=(wheel.site,), cwd=cwd)
    assert (result.returncode, result.stdout) == (0, "at work\n"), result.stderr
