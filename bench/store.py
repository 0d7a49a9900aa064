"""The results file: one record a line, each flushed to disk, read back strictly. Needs no torch."""

import os
from dataclasses import dataclass
from pathlib import Path

from bench.record import Record, from_line, to_line
from predict.errors import BadRecord, NapkinError

RECORDS = "records.jsonl"


@dataclass(frozen=True, slots=True)
class Stored:
    """What a results file holds."""

    records: tuple[Record, ...]  # the latest of each key, in the order in which keys first appear
    broken: tuple[str, ...] = ()  # `file:line: reason` for each line that was skipped


def append(file: Path, record: Record) -> None:
    """Add one line and wait until it is on disk, so that it survives whatever happens next."""
    with file.open("a", encoding="utf-8") as lines:
        lines.write(to_line(record) + "\n")
        lines.flush()
        os.fsync(lines.fileno())


def read(file: Path, *, skip_broken: bool = False) -> Stored:
    """Read a results file. Raises BadRecord with file and line for the first truncated or foreign line; `skip_broken`
    lists such lines instead."""
    records: dict[tuple[str, str], Record] = {}
    broken: list[str] = []
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                record = _read_line(line)
            except NapkinError as error:
                if not skip_broken:
                    raise BadRecord(f"{file}:{number}: {error}; --skip-broken reads the rest") from None
                broken.append(f"{file}:{number}: {error}")
            else:
                records[record.key] = record
    return Stored(tuple(records.values()), tuple(broken))


def _read_line(line: bytes) -> Record:
    try:
        return from_line(line.decode())
    except ValueError as error:  # not UTF-8, or a value that its own type refuses
        raise BadRecord(str(error)) from None
