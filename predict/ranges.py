"""Lists and ranges of sizes as people write them: 1,4,16 or 1:512 or 10:90:10."""

from collections.abc import Sequence

from predict.errors import BadQuantity
from predict.units import Kind, read_quantity

LARGEST_SIZE = 2**40  # keeps every count of tokens exact
MOST_SIZES = 20_000_000
RANGES = "8; 1,4,16; 1:512 doubles up to 512; 10:90:10 takes steps; k is 1024, m is 1024^2."  # for a help text


def read_sizes(text: str, name: str) -> tuple[int, ...]:
    """Read sizes: "8", "1,4,16", "1:512" (doubling, the end always included), "10:100:10" (steps); k is 1024, m 1024^2.

    Returns them sorted, without duplicates. Raises BadQuantity, naming the option or dimension `name`.
    """
    ranges = [_read_range(part.strip(), name) for part in text.split(",")]
    count = sum(map(len, ranges))
    if count > MOST_SIZES:
        raise BadQuantity(f"{name} {text!r} holds {count:,} sizes; at most {MOST_SIZES:,} are read")
    return tuple(sorted({size for each in ranges for size in each}))


def _read_range(text: str, name: str) -> Sequence[int]:
    match [_read_size(number, name) for number in text.split(":")]:
        case [only]:
            return (only,)
        case [first, last, *_] if first > last:
            raise BadQuantity(f"{name}: {text!r} is empty: {first} is above {last}")
        case [first, last]:
            return [*(first << power for power in range((last // first).bit_length())), last]
        case [first, last, step]:
            return range(first, last + 1, step)
        case _:
            raise BadQuantity(f"{name}: {text!r} is not a range; write a, a:b (doubling) or a:b:step")


def _read_size(text: str, name: str) -> int:
    size = read_quantity(text, name, Kind.SIZE)
    if not isinstance(size, int) or not 1 <= size <= LARGEST_SIZE:
        raise BadQuantity(f"{name}: {text!r} is not a whole number from 1 to {LARGEST_SIZE}")
    return size
