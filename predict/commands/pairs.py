"""Reads name=value arguments: the dimensions of `kernel` and the quantities of `formula`."""

from collections.abc import Iterable

from predict.errors import BadWorkload


def read_pairs(arguments: Iterable[str]) -> dict[str, str]:
    """Read ["m=16", "k=4"]. Raises BadWorkload for an argument that is not name=value or is repeated."""
    pairs: dict[str, str] = {}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not (name and equals):
            raise BadWorkload(f"arguments are written name=size, such as m=16, not {argument!r}")
        if name in pairs:
            raise BadWorkload(f"{name} is given twice")
        pairs[name] = value
    return pairs
