"""A table at any width, in Markdown and as CSV: no number is lost, and no cell breaks its row."""

import csv
import io

import pytest

from predict.table import Bold, Column, Table, cell
from predict.units import Unit

COLUMNS = (
    Column("gpu", "GPU", is_key=True),
    Column("gpus", "n", Unit.GPUS, is_key=True),
    Column("tpot_s", "TPOT", Unit.SECONDS),
    Column("rate", "tokens/s", Unit.TOKENS_PER_S),
    Column("price", "$/1M", Unit.USD),
)
ROWS = ({"gpu": "h100-sxm", "gpus": 8, "tpot_s": 0.024, "rate": 1335.9, "price": 1.04}, {"gpu": "l4", "gpus": 16})
TABLE = Table(COLUMNS, ROWS)


def test_numbers_are_short_and_aligned_under_their_heading():
    assert TABLE.text(80).splitlines() == [
        "GPU        n     TPOT  tokens/s  $/1M",
        "h100-sxm   8  24.0 ms     1,336  1.04",
        "l4        16        -         -     -",
    ]


@pytest.mark.parametrize("width", range(22, 45))
def test_a_narrow_table_is_cut_and_keeps_every_number(width):
    parts = TABLE.text(width).split("\n\n")
    assert all(part.splitlines()[1].startswith("h100-sxm   8") for part in parts)
    shown = [text for part in parts for text in part.splitlines()[1].split()[2:]]
    assert shown == ["24.0", "ms", "1,336", "1.04"]
    # One column beside the names is the least: 12 and 2 and 8.
    assert max(len(line) for part in parts for line in part.splitlines()) <= width


def test_markdown_escapes_what_would_end_a_cell_or_open_a_tag():
    table = Table((Column("name", "a|b"), Column("n", "n", Unit.GPUS)), ({"name": "x | <y>\nz", "n": 1},))
    assert table.markdown().splitlines() == ["| a\\|b | n |", "|---|--:|", "| x \\| &lt;y> z | 1 |"]


def test_markdown_takes_a_text_at_its_word():
    text = "`code` [link](javascript:x) *strong* _soft_ a_name \\ \x1b[0m"
    said = r"\`code\` \[link\](javascript:x) \*strong\* \_soft\_ a_name \\ \\x1b\[0m"
    assert Table((Column("a", "a"),), ({"a": text},)).markdown().splitlines()[-1] == f"| {said} |"


def test_a_cell_in_bold_is_so_in_markdown_alone_and_its_text_is_taken_at_its_word():
    table = Table((Column("a", "a"),), ({"a": Bold("5 * 3")},))
    assert table.markdown().splitlines()[-1] == r"| **5 \* 3** |"
    assert (table.text(80).splitlines()[-1], table.csv().splitlines()[-1]) == ("5 * 3", "5 * 3")


def test_a_terminal_is_shown_the_control_characters_of_a_cell():
    assert Table((Column("a", "a"),), ({"a": "\x1b[31mred"},)).text(80).splitlines()[-1] == "\\x1b[31mred"


def test_csv_holds_the_values_in_si_units_and_quotes_what_it_must():
    table = Table((Column("why", "why"), *COLUMNS), ({"why": 'a, "b"', **ROWS[0], "fits": True}, ROWS[1]))
    assert table.csv().splitlines()[1] == '"a, ""b""",h100-sxm,8,0.024,1335.9,1.04'
    read = list(csv.DictReader(io.StringIO(table.csv())))
    assert read[0]["why"] == 'a, "b"'
    assert read[1]["tpot_s"] == ""


def test_columns_without_a_value_are_left_out():
    assert Table(COLUMNS, ({"gpu": "l4", "rate": 0.5},)).without_empty().text(80).splitlines() == [
        "GPU  tokens/s",
        "l4        0.5",
    ]


def test_a_table_without_rows_is_its_headings():
    empty = Table(COLUMNS, ()).without_empty()
    assert empty.text(80) == "GPU  n  TPOT  tokens/s  $/1M"
    assert empty.csv() == "gpu,gpus,tpot_s,rate,price"
    assert len(empty.markdown().splitlines()) == 2


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (None, Unit.USD, "-"),
        (True, Unit.NAME, "yes"),
        (False, Unit.NAME, "no"),
        (12345.6, Unit.USD, "12,346"),
        (5.5, Unit.REQUESTS, "5.5"),
        (1234567, Unit.TOKENS, "1,234,567"),
        (0.5, Unit.SHARE, "50.0 %"),
    ],
)
def test_a_cell_is_as_short_as_its_heading_allows(value, unit, text):
    assert cell(value, unit) == text
