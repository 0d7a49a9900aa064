"""Reads off the PTX for Hopper how many products of fp8 are summed before fp32 takes the sum over.

The tensor cores there add products of fp8 in about 14 bits, whatever format the result has (DeepSeek-V3 technical
report, arXiv 2412.19437, section 3.3.2), so a long sum must be cut: each part begins at zero, which the instruction is
told by an operand of 0 where others have a predicate, and is added to the rest in fp32.
"""

import re
from collections.abc import Iterator

MOST_PRODUCTS = 128  # as in that report: the fewest that cost nothing where two groups of warps take turns

_LABEL = re.compile(r"^(\$L__BB\w+):")
_BRANCH = re.compile(r"\bbra(?:\.uni)?\s+(\$L__BB\w+);")
_IS_PRODUCT = re.compile(r"\bwgmma\.mma_async\S*\.e[45]m[23]\b")
# m64n128k32.f32.e4m3.e4m3 {%r1, ...}, a, b, %p1 or 0, 1, 1;
_PRODUCT = re.compile(r"k(\d+)\.f32\.\S+\s+\{\s*(%\w+).*\},.*,\s*(\S+),\s*-?1,\s*-?1;")


def why_imprecise(ptx: str) -> str | None:
    """What is wrong with the sums of fp8 in this code for Hopper, or None where nothing is."""
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
    """First and last line of each stretch that a branch backwards repeats."""
    labels: dict[str, int] = {}
    for number, line in enumerate(lines):
        if label := _LABEL.match(line):
            labels[label[1]] = number
        elif (branch := _BRANCH.search(line)) and branch[1] in labels:
            yield labels[branch[1]], number


def _products(lines: list[str]) -> Iterator[tuple[int, str, bool]]:
    """Of each product of fp8: how many elements of k it sums, into which first register, and whether from zero."""
    for line in lines:
        if _IS_PRODUCT.search(line):
            product = _PRODUCT.search(line)
            assert product, line
            yield int(product[1]), product[2], product[3] == "0"
