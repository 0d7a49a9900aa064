"""A user's function is found by its name; whatever is wrong with it is one line that says so."""

import re
import sys
import textwrap

import pytest
import torch

from bench.callables import BadCallable, check_arguments, check_name, is_callable, load


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The user's folder, and a process that has seen none of its modules."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    load.cache_clear()
    yield tmp_path
    load.cache_clear()
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(folder, name, source):
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(textwrap.dedent(source))


def test_only_a_name_with_a_colon_is_a_users():
    assert is_callable("my.kernels:gemm")
    assert is_callable("./my.py:gemm")
    assert not is_callable("triton@128x64-w8-s3")


@pytest.mark.parametrize("name", ["gemm", ":gemm", "kernels:", " : ", ""])
def test_a_name_without_module_or_function_is_refused(name):
    with pytest.raises(BadCallable, match=r"takes module:function or \./file\.py:function"):
        check_name(name)


def test_a_function_of_a_package_in_the_current_folder_is_found(folder):
    write(folder, "mine/__init__.py", "")
    write(folder, "mine/kernels.py", "def gemm(a, b):\n    return a @ b\n")
    assert load("mine.kernels:gemm")(2 * torch.ones(1, 1), 3 * torch.ones(1, 1)).item() == 6


def test_a_method_of_an_object_is_found(folder):
    write(folder, "mine_too.py", "class Scale:\n    def twice(self, x):\n        return 2 * x\nscale = Scale()\n")
    assert load("mine_too:scale.twice")(21) == 42


def test_a_file_is_run_once_for_all_its_functions_and_finds_its_neighbors(folder):
    write(folder, "here/neighbor_of_mine.py", "three = 3\n")
    write(
        folder,
        "here/mine.py",
        """
        import pathlib
        from neighbor_of_mine import three
        with pathlib.Path("runs").open("a") as log:
            log.write("x")
        def thrice(x):
            return three * x
        def nothing(x):
            return 0 * x
        """,
    )
    assert load("./here/mine.py:thrice")(5) == 15
    assert load("here/mine.py:nothing")(5) == 0
    assert (folder / "runs").read_text() == "x"


def test_two_files_of_one_name_are_two(folder):
    write(folder, "a/mine.py", "def f():\n    return 1\n")
    write(folder, "b/mine.py", "def f():\n    return 2\n")
    assert (load("a/mine.py:f")(), load("b/mine.py:f")()) == (1, 2)


def test_a_file_of_the_user_does_not_stand_in_for_a_module_of_ours(folder):
    write(folder, "bench.py", "def gemm(a, b):\n    return a @ b\n")
    with pytest.raises(
        BadCallable, match=r"bench is a module of napkin-bench: .* give its path, \./bench\.py:function"
    ):
        load("bench:gemm")
    assert load("./bench.py:gemm") is not None
    assert sys.path[-1] == str(folder)


@pytest.mark.parametrize(
    ("source", "name", "message"),
    [
        ("", "absent_module:f", "--callable absent_module:f: no module 'absent_module' is installed or in "),
        ("", "./absent.py:f", "--callable ./absent.py:f: no file ./absent.py in "),
        ("", "wrong:f", "--callable wrong:f: wrong has no f"),
        ("def my_gemm(): ...", "./wrong.py:my_gem", "./wrong.py has no my_gem: did you mean my_gemm?"),
        ("f = 3", "wrong:f", "--callable wrong:f: f is no function but of type int"),
        ("import absent_package", "wrong:f", "importing wrong failed: ModuleNotFoundError: No module named 'ab"),
        ("x = 1\ndef f(:", "wrong:f", "importing wrong failed: SyntaxError: invalid syntax (wrong.py, line 2)"),
        ("x = 1\nraise ValueError('no card')", "wrong:f", "importing wrong failed: ValueError: no card (wrong.py:2)"),
        ("raise SystemExit(3)", "wrong:f", "importing wrong failed: SystemExit: 3 (wrong.py:1)"),
        ("open('absent.bin')", "./wrong.py:f", "importing ./wrong.py failed: FileNotFoundError: "),
    ],
)
def test_what_cannot_be_imported_is_refused_in_one_line(folder, source, name, message):
    write(folder, "wrong.py", source)
    with pytest.raises(BadCallable, match=re.escape(message)) as caught:
        load(name)
    assert "\n" not in str(caught.value)


def takes_three(a, b, c):
    return a


@pytest.mark.parametrize(
    ("function", "keywords", "message"),
    [
        (
            takes_three,
            {},
            "is called with 2 tensors, but takes (a, b, c): missing a required argument: 'c'; `python",
        ),
        (lambda a: a, {}, "is called with 2 tensors, but takes (a): too many positional arguments"),
        (lambda a, b: a, {"window": 4}, "called with 2 tensors and window=, but takes (a, b): got an unexpected"),
        (lambda a, b, *, window: a, {"window": 4}, None),
        (lambda *tensors, **options: tensors[0], {"window": 4}, None),
        (torch.mm, {}, None),  # written in C: it has no signature to read
    ],
)
def test_a_function_takes_the_inputs_of_its_op(function, keywords, message):
    inputs = (torch.ones(1), torch.ones(1))
    if message is None:
        check_arguments("mine:f", "matmul", function, inputs, keywords)
    else:
        with pytest.raises(BadCallable, match=re.escape(message)):
            check_arguments("mine:f", "matmul", function, inputs, keywords)
