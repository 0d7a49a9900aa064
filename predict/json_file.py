"""JSON that a user gives as a file."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from predict.errors import NapkinError

Pairs = list[tuple[str, object]]
_SPACE = re.compile(r"[ \t\r\n]*")


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
    with _refusing(path, error):
        return json.loads(_read(path, kind, max_bytes, error), object_pairs_hook=object_of)


def strict_json(text: str | bytes) -> object:
    """What JSON of our own programs holds. Raises ValueError with one line for what is none: brackets too deep, a name
    given twice, NaN or infinity, a number of thousands of digits."""
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        where = f"column {error.colno}" if error.lineno == 1 else f"line {error.lineno}, column {error.colno}"
        raise ValueError(f"not JSON ({error.msg} at {where})") from None
    except RecursionError:
        raise ValueError("not JSON (brackets inside brackets, too deep to read)") from None


def _object(pairs: Pairs) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(name for name, times in Counter(name for name, _ in pairs).items() if times > 1)
        raise ValueError(f"{twice} is given twice")
    return found


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is no number of JSON")


def parse_json(content: bytes, origin: str, *, error: type[NapkinError]) -> object:
    """What JSON that did not come as a file holds; `origin` names it. Raises `error` with one line if it is none."""
    with _refusing(origin, error):
        return json.loads(content)


def read_json_values(path: Path, kind: str, *, max_bytes: int, error: type[NapkinError]) -> list[object]:
    """Every JSON value that the file holds, one behind the other: one value, or JSON lines. Raises as `read_json` does,
    and for an empty file."""
    with _refusing(path, error):
        content = _read(path, kind, max_bytes, error)
        text = content.decode(json.detect_encoding(content))
        return list(_values(text))


def _values(text: str) -> Iterator[object]:
    decoder, place = json.JSONDecoder(), len(text) - len(text.lstrip())
    while True:
        value, place = decoder.raw_decode(text, place)
        yield value
        gap = _SPACE.match(text, place)
        assert gap is not None  # it may be empty
        place = gap.end()
        if place == len(text):
            return


def _read(path: Path, kind: str, max_bytes: int, error: type[NapkinError]) -> bytes:
    with path.open("rb") as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise error(f"{path} has more than {max_bytes} bytes, too many for {kind}")
    return content


@contextmanager
def _refusing(path: Path | str, error: type[NapkinError]) -> Iterator[None]:
    """Say in one line why a file cannot be read."""
    try:
        yield
    except OSError as reason:
        raise error(f"cannot read {path}: {reason.strerror}") from None
    except json.JSONDecodeError as reason:
        where = f"line {reason.lineno}: {reason.msg}"
        raise error(f"{path} is not valid JSON ({where}); is the file complete?") from None
    except (ValueError, RecursionError):  # not text, a number with thousands of digits, or very deep brackets
        raise error(f"{path} is not a readable JSON file") from None
