"""JSON that a user gives as a file."""

import json
from collections.abc import Callable
from pathlib import Path

from predict.errors import NapkinError

Pairs = list[tuple[str, object]]


def read_json(
    path: Path,
    kind: str,
    *,
    max_bytes: int,
    error: type[NapkinError],
    object_of: Callable[[Pairs], dict[str, object]] = dict,
) -> object:
    """What the file `path` holds, which should be `kind` ("a config.json"). `object_of` makes an object of its pairs.
    Raises `error` with one line for a file that cannot be read, has more than `max_bytes`, or is no JSON."""
    try:
        with path.open("rb") as file:
            text = file.read(max_bytes + 1)
        if len(text) > max_bytes:
            raise error(f"{path} has more than {max_bytes} bytes, too many for {kind}")
        return json.loads(text, object_pairs_hook=object_of)
    except OSError as reason:
        raise error(f"cannot read {path}: {reason.strerror}") from None
    except json.JSONDecodeError as reason:
        where = f"line {reason.lineno}: {reason.msg}"
        raise error(f"{path} is not valid JSON ({where}); is the file complete?") from None
    except (ValueError, RecursionError):  # not text, a number with thousands of digits, or very deep brackets
        raise error(f"{path} is not a readable JSON file") from None
