"""Checks in Hopper's PTX how many fp8 products are summed before the sum is added to one in fp32.

Hopper's tensor cores add fp8 products in about 14 bits, whatever the format of the result (DeepSeek-V3 technical
report, arXiv 2412.19437, section 3.3.2). So a long sum must be cut into parts that are added in fp32. A part begins at
zero, which an operand of 0 tells the instruction where others have a predicate.
"""

import re
from collections.abc import Iterator

MOST_PRODUCTS = 128  # as in that report: the fewest that cost no time when two groups of warps take turns

_LABEL = re.compile(r"^(\$L__BB\w+):")
_BRANCH = re.compile(r"\bbra(?:\.uni)?\s+(\$L__BB\w+);")
_IS_PRODUCT = re.compile(r"\bwgmma\.mma_async\S*\.e[45]m[23]\b")
# m64n128k32.f32.e4m3.e4m3 {%r1, ...}, a, b, %p1 or 0, 1, 1;
_PRODUCT = re.compile(r"k(\d+)\.f32\.\S+\s+\{\s*(%\w+).*\},.*,\s*(\S+),\s*-?1,\s*-?1;")


def why_imprecise(ptx: str) -> str | None:
    """What is wrong with the fp8 sums in this PTX for Hopper, or None. Raises AssertionError for an fp8 product that it
    cannot read."""
    lines = ptx.splitlines()
    for first, last in [(0, len(lines)), *_loops(lines)]:
        sums: dict[str, int] = {}  # products in each sum, named by its first register
        for products, register, begins in _products(lines[first:last]):
            if not begins and register not in sums:
                return "sums products of fp8 in 14 bits for as long as a loop runs"
            sums[register] = products if begins else sums[register] + products
            if sums[register] > MOST_PRODUCTS:
                return f"sums {sums[register]} products of fp8 in 14 bits, where {MOST_PRODUCTS} are the most"
    return None


def _loops(lines: list[str]) -> Iterator[tuple[int, int]]:
    """First and last line of each loop."""
    labels: dict[str, int] = {}
    for number, line in enumerate(lines):
        if label := _LABEL.match(line):
            labels[label[1]] = number
        elif (branch := _BRANCH.search(line)) and branch[1] in labels:
            yield labels[branch[1]], number


def _products(lines: list[str]) -> Iterator[tuple[int, str, bool]]:
    """For each fp8 product: elements of k, first register of its sum, and whether it begins at zero."""
    for line in lines:
        if _IS_PRODUCT.search(line):
            product = _PRODUCT.search(line)
            assert product, line
            yield int(product[1]), product[2], product[3] == "0"
