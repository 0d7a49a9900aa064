"""The config.json files that were dropped onto the page: kept in memory only, and only so many."""

import hashlib
from collections import OrderedDict

LARGEST_BYTES = 1_000_000  # of one file: the longest configurations that are published have 100 kB
MOST_FILES = 32


class Dropped:
    """Files by an id that follows from their bytes. The one that was used longest ago makes room for a new one."""

    def __init__(self, most: int = MOST_FILES) -> None:
        self._most = most
        self._files: OrderedDict[str, bytes] = OrderedDict()

    def keep(self, content: bytes) -> str:
        """Keep a file; its id."""
        name = hashlib.sha256(content).hexdigest()[:16]
        self._files[name] = content
        self._files.move_to_end(name)
        while len(self._files) > self._most:
            self._files.popitem(last=False)
        return name

    def find(self, name: str) -> bytes | None:
        """The file of that id; None if it was never here, or had to make room."""
        if name in self._files:
            self._files.move_to_end(name)
        return self._files.get(name)
