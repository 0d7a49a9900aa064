"""What a user's function prints reaches its record, and not our own output."""

import ast
import gc
import os
import subprocess
import sys
from pathlib import Path

from bench.printed import KEPT_CHARACTERS, MOST_BYTES, Printed, redirected

ROOT = Path(__file__).resolve().parents[2]

PRINTS = """
import ctypes, os, sys
from bench.printed import Printed, redirected
printed = Printed()
print("before")
with redirected(printed.file):
    print("from Python")
    os.write(1, b"from C\\n")
    ctypes.CDLL(None).puts(b"from the C library's buffer")
    print("an error", file=sys.stderr)
print("after")
print(sorted(printed.tail().splitlines()))
"""


def test_what_python_and_c_print_is_kept_and_nothing_else_is():
    done = subprocess.run([sys.executable, "-c", PRINTS], cwd=ROOT, capture_output=True, text=True, check=True)
    before, after, kept = done.stdout.splitlines()
    assert (before, after, done.stderr) == ("before", "after", "")
    assert ast.literal_eval(kept) == ["an error", "from C", "from Python", "from the C library's buffer"]


def test_only_the_end_is_kept():
    printed = Printed()
    printed.file.write_text("a" * 5000 + "b" * (KEPT_CHARACTERS - 1) + "\n")
    assert printed.tail() == "b" * (KEPT_CHARACTERS - 1)
    printed.clear()
    assert printed.tail() is None


def test_bytes_that_are_no_text_do_no_harm():
    printed = Printed()
    printed.file.write_bytes(b"\xff\xfeend")
    assert printed.tail().endswith("end")


def test_what_prints_without_end_does_not_fill_the_disk(capfd):
    printed = Printed()
    with redirected(printed.file):
        os.write(1, b"x" * (MOST_BYTES + 1))
        printed.shorten()
        assert printed.file.stat().st_size < MOST_BYTES
        os.write(1, b"and on")
    assert printed.tail().endswith("xxxand on")
    printed.shorten()
    assert printed.tail().endswith("xxxand on")


def test_the_file_goes_with_its_owner():
    printed = Printed()
    file = printed.file
    assert file.exists()
    del printed
    gc.collect()
    assert not file.exists()


def test_a_function_that_closes_stdout_does_not_close_ours(capfd):
    printed = Printed()
    with redirected(printed.file):
        os.close(1)
    os.write(1, b"still here\n")
    assert capfd.readouterr().out == "still here\n"
