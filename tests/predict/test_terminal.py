import pytest

from predict.terminal import printable, wrapped


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, µs and ≈", "plain, µs and ≈"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\x07b\x9bc", "a\\x07b\\x9bc"),
        ("turned \u202e round", "turned \\u202e round"),
        ("two\u2028lines", "two\\u2028lines"),
        ("half \ud800", "half \\ud800"),
        ("a\tb\nc", "a\tb\nc"),
    ],
)
def test_what_a_terminal_would_obey_is_shown_as_its_escape(text, shown):
    assert printable(text) == shown


def test_wrapped_sentences_hold_no_control_character():
    assert wrapped("a name \x1b[2J of a record", 40) == ["a name \\x1b[2J of a record"]
