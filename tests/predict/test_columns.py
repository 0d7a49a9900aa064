"""A table at any width: no column is lost, no cell is cut."""

import pytest

from predict.columns import TextColumn, draw

WHY = ("the driver does not tell the clock", "nothing to do")
COLUMNS = (
    TextColumn("subject", ("clock", "memory"), is_key=True),
    TextColumn("what to do", WHY),
    TextColumn("times of the fastest", ("1.00x", "12.50x"), is_text=False),
)


def test_a_table_that_fits_is_one_line_a_row():
    assert draw(COLUMNS, 66).splitlines() == [
        "subject  what to do                          times of the fastest",
        "clock    the driver does not tell the clock                 1.00x",
        "memory   nothing to do                                     12.50x",
    ]


def test_a_wider_one_breaks_headings_in_two_and_wraps_texts():
    # 7 and 2 and 24 and 2 and 8 is the least: "times of" over "the fastest" would take 11.
    assert draw(COLUMNS, 46).splitlines() == [
        "                                      times of",
        "subject  what to do                the fastest",
        "clock    the driver does not tell        1.00x",
        "         the clock",
        "memory   nothing to do                  12.50x",
    ]


def test_columns_that_do_not_fit_stand_below_behind_the_names_of_their_rows():
    assert draw(COLUMNS, 40).splitlines() == [
        "subject  what to do",
        "clock    the driver does not tell the",
        "         clock",
        "memory   nothing to do",
        "",
        "subject  times of the fastest",
        "clock                   1.00x",
        "memory                 12.50x",
    ]


def test_rows_become_blocks_where_no_column_fits_beside_the_names():
    assert draw(COLUMNS, 26).splitlines() == [
        "subject clock",
        "  what to do",
        "    the driver does not",
        "    tell the clock",
        "  times of the fastest",
        "    1.00x",
        "subject memory",
        "  what to do",
        "    nothing to do",
        "  times of the fastest",
        "    12.50x",
    ]


@pytest.mark.parametrize("width", range(18, 90))
def test_no_word_is_lost_or_cut_at_any_width(width):
    text = draw(COLUMNS, width)
    words = [word for column in COLUMNS for cell in (column.heading, *column.cells) for word in cell.split()]
    assert set(words) <= set(text.split())
    assert max(map(len, text.splitlines())) <= width


def test_long_names_wrap_at_their_hyphens_before_rows_become_blocks():
    names = TextColumn("workload", ("matmul-m16-n28672-k8192-bf16", "launch-fp32"), is_key=True)
    assert draw((names, TextColumn("about", ("1.20 s", "225 ms"), is_text=False)), 34).splitlines() == [
        "workload                     about",
        "matmul-m16-n28672-k8192-    1.20 s",
        "bf16",
        "launch-fp32                 225 ms",
    ]


def test_a_word_wider_than_the_table_stays_whole():
    path = "openai-community/gpt2/resolve/main/config.json"
    text = draw((TextColumn("model", ("gpt-2",), is_key=True), TextColumn("source", (path,))), 40)
    assert path in text.split()


def test_a_line_break_in_a_heading_or_cell_does_not_break_its_row():
    columns = (TextColumn("gpu", ("a", "b"), is_key=True), TextColumn("the\nreason", ("first\nsecond", "third")))
    assert draw(columns, 80).splitlines() == ["gpu  the reason", "a    first second", "b    third"]
