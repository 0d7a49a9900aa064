"""Arguments written name=value, as `kernel` takes its dimensions and `formula` its quantities."""

from collections.abc import Iterable

from predict.errors import BadWorkload


def read_pairs(arguments: Iterable[str]) -> dict[str, str]:
    """Read ["m=16", "k=4"]; raises BadWorkload naming what is not name=value or stands twice."""
    pairs: dict[str, str] = {}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not (name and equals):
            raise BadWorkload(f"sizes are written name=size, such as m=16, not {argument!r}")
        if name in pairs:
            raise BadWorkload(f"{name} is given twice")
        pairs[name] = value
    return pairs
