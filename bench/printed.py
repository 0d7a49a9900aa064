"""What a user's function prints, kept out of our own output: while it runs, the worker's stdout and stderr are a file.

The parent owns the file, so that what was printed before a crash is still there.
"""

import contextlib
import ctypes
import os
import sys
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path

KEPT_CHARACTERS = 2000
MOST_BYTES = 2**20  # of the file; what prints without end must not fill the disk


class Printed:
    """The file, in the parent; it is gone with this object."""

    def __init__(self) -> None:
        descriptor, name = tempfile.mkstemp(prefix="napkin-bench-", suffix=".txt")
        os.close(descriptor)
        self.file = Path(name)
        weakref.finalize(self, self.file.unlink, missing_ok=True)

    def clear(self) -> None:
        """Forget what was printed so far."""
        os.truncate(self.file, 0)

    def shorten(self) -> None:
        """Cut a long file to its end. The worker appends, so it goes on after that."""
        if self.file.stat().st_size > MOST_BYTES:
            end = self._end()
            os.truncate(self.file, 0)
            with self.file.open("ab") as file:
                file.write(end)

    def tail(self) -> str | None:
        """The last 2000 characters; None if nothing was printed."""
        return self._end().decode(errors="replace")[-KEPT_CHARACTERS:].strip() or None

    def _end(self) -> bytes:
        with self.file.open("rb") as file:
            file.seek(max(0, self.file.stat().st_size - 4 * KEPT_CHARACTERS))
            return file.read(4 * KEPT_CHARACTERS)


@contextlib.contextmanager
def redirected(file: Path) -> Iterator[None]:
    """Inside the block, append to `file` whatever this process prints, from C too."""
    _flush()
    before = [os.dup(1), os.dup(2)]
    appending = os.open(file, os.O_WRONLY | os.O_APPEND)
    try:
        os.dup2(appending, 1)
        os.dup2(appending, 2)
        yield
    finally:
        _flush()
        for number, descriptor in enumerate(before, start=1):
            os.dup2(descriptor, number)
            os.close(descriptor)
        os.close(appending)


def _flush() -> None:
    """Write out what Python and C still buffer."""
    with contextlib.suppress(OSError, ValueError):  # a function may have closed them
        sys.stdout.flush()
        sys.stderr.flush()
    if os.name == "posix":
        ctypes.CDLL(None).fflush(None)
