"""Completion: the console script offers it, its scripts work, and the `python -m` commands do not offer it."""

import importlib
import os
import shutil

import pytest
import typer

from tests.installed import EXTRAS, ROOT, console_script, execute, refuse

BASH = shutil.which("bash")


@pytest.fixture
def complete(tmp_path):
    """Complete a line in bash, with the script that the command gives and without any extra."""
    command = console_script(tmp_path)
    path = (ROOT, refuse(tmp_path / "site", *EXTRAS))
    script = execute(command, path=path, cwd=tmp_path, _NAPKIN_BENCH_COMPLETE="source_bash").stdout

    def reply(line):
        words = line.split(" ")
        typed = " ".join(word or "''" for word in words)
        asked = f"COMP_WORDS=({typed}); COMP_CWORD={len(words) - 1}"
        call = f'{asked}; _napkin_bench_completion napkin-bench; printf "%s\\n" "${{COMPREPLY[@]}}"'
        where = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
        result = execute(BASH, "-c", f"{script}\n{call}", path=path, cwd=tmp_path, **where)
        assert result.stderr == ""
        return result.stdout.split()

    return reply


@pytest.mark.skipif(BASH is None, reason="needs bash")
@pytest.mark.parametrize(
    ("line", "some", "others"),
    [
        ("napkin-bench ", {"predict", "run", "report", "kernels"}, {"render", "bench"}),
        ("napkin-bench sh", {"show"}, {"run"}),
        ("napkin-bench predict mod", {"model", "models"}, {"kernel"}),
        ("napkin-bench run --su", {"--suite"}, {"--gpu"}),
        ("napkin-bench predict model llama-3-7", {"llama-3-70b"}, {"llama-3-8b"}),
        ("napkin-bench predict model llama-3-8b --gpu h100,h20", {"h100,h200", "h100,h200-sxm"}, {"h200"}),
        ("napkin-bench predict kernel attention_d", {"attention_decode"}, {"matmul"}),
        ("napkin-bench run --suite sta", {"standard"}, {"smoke"}),
        ("napkin-bench kernels compile --ar", {"--arch"}, {"--every"}),
    ],
)
def test_bash_completes_a_line(complete, line, some, others):
    found = set(complete(line))
    assert some <= found
    assert not others & found


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_get_the_same_words_with_their_meaning(tmp_path, shell):
    where = {"_TYPER_COMPLETE_ARGS": "napkin-bench sh", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    result = execute(console_script(tmp_path), cwd=tmp_path, _NAPKIN_BENCH_COMPLETE=f"complete_{shell}", **where)
    assert (result.returncode, result.stderr) == (0, "")
    assert "show" in result.stdout
    assert "Print the tables of a run" in result.stdout
    script = execute(console_script(tmp_path), cwd=tmp_path, _NAPKIN_BENCH_COMPLETE=f"source_{shell}").stdout
    assert "napkin-bench" in script
    assert "_NAPKIN_BENCH_COMPLETE=complete_" in script


@pytest.mark.skipif(BASH is None, reason="needs bash")
def test_installing_writes_a_script_that_bash_reads(tmp_path):
    command = console_script(tmp_path)
    result = execute(BASH, "-c", f"{command} --install-completion; exit $?", cwd=tmp_path, HOME=str(tmp_path))
    assert result.returncode == 0, result.stderr
    assert execute(BASH, "-n", tmp_path / ".bash_completions" / "napkin-bench.sh", cwd=tmp_path).returncode == 0
    assert "napkin-bench.sh" in (tmp_path / ".bashrc").read_text()


@pytest.mark.parametrize("package", ["predict", "kernels", "bench", "reports"])
def test_what_a_shell_knows_as_python_offers_no_completion(package):
    command = typer.main.get_command(importlib.import_module(f"{package}.__main__").app)
    assert [name for parameter in command.params for name in parameter.opts if "completion" in name] == []
