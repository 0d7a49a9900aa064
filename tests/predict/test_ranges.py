"""Lists and ranges of sizes as people write them."""

import pytest

from predict.errors import BadQuantity
from predict.ranges import read_sizes


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("8", [8]),
        ("1,4,16", [1, 4, 16]),
        ("16, 4,4 ,1", [1, 4, 16]),
        ("1:8", [1, 2, 4, 8]),
        ("1:100", [1, 2, 4, 8, 16, 32, 64, 100]),
        ("3:20", [3, 6, 12, 20]),
        ("5:5", [5]),
        ("10:40:10", [10, 20, 30, 40]),
        ("10:39:10", [10, 20, 30]),
        ("1k:4k", [1024, 2048, 4096]),
        ("1M,2K", [2048, 1048576]),
        ("1:4,6:8:1,7", [1, 2, 4, 6, 7, 8]),
    ],
)
def test_sizes_are_lists_and_ranges(text, sizes):
    assert list(read_sizes(text, "--batch")) == sizes


BAD_SIZES = {
    "": "must be a number such as 512, 8k",
    "8,": "must be a number such as 512, 8k",
    ":": "must be a number such as 512, 8k",
    "1:": "must be a number such as 512, 8k",
    "0": "not a whole number",
    "-4": "not a whole number",
    "1:-4": "not a whole number",
    "1.5": "not a whole number",
    "many": "must be a number such as 512, 8k",
    "4g": "must be a number such as 512, 8k",
    "٣": "must be a number such as 512, 8k",
    "1:10:0": "not a whole number",
    "9" * 5000: "too large a number",
    f"{2**40 + 1}": "not a whole number",
    "512:1": "is empty: 512 is above 1",
    "512:1:1": "is empty",
    "1:2:3:4": "is not a range",
    "1:20000001:1": "at most 20,000,000",
    "1:1048576m:1": "at most 20,000,000",
}


@pytest.mark.parametrize(("text", "message"), BAD_SIZES.items(), ids=[text[:12] for text in BAD_SIZES])
def test_sizes_that_make_no_sense_are_refused_by_option(text, message):
    with pytest.raises(BadQuantity, match=message) as caught:
        read_sizes(text, "--context")
    assert "--context" in str(caught.value)
