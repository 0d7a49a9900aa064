"""The forms of a command's output, and its width."""

import json

import pytest
import typer
from typer.testing import CliRunner

from predict.errors import BadQuantity
from predict.forms import Form, table_text, with_form
from predict.table import Column, Table
from predict.terminal import LEAST_WIDTH, PLAIN_WIDTH, PROSE_WIDTH, terminal_width, wrapped
from predict.units import Unit

TABLE = Table((Column("op", "op", is_key=True), Column("time_s", "time", Unit.SECONDS)), ({"op": "a", "time_s": 2e-6},))
APP = typer.Typer()


@APP.command()
@with_form
def show(name: str, *, form: Form, loud: bool = False) -> None:
    """What the test calls."""
    typer.echo(f"{name} {loud}\n{table_text(TABLE, form, lambda: [dict(row) for row in TABLE.rows])}")


def printed(*options):
    result = CliRunner().invoke(APP, ["x", *options])
    if result.exception:
        raise result.exception
    return result.output.partition("\n")[2].rstrip()


def test_a_command_prints_the_form_that_is_asked_for():
    assert printed() == "op     time\na   2.00 us"
    assert printed("--csv") == "op,time_s\na,2e-06"
    assert printed("--markdown").splitlines() == ["| op | time |", "|---|--:|", "| a | 2.00 us |"]
    assert json.loads(printed("--json", "--loud")) == [{"op": "a", "time_s": 2e-6}]


def test_two_forms_are_refused_by_name():
    with pytest.raises(BadQuantity, match="give one of --json or --csv"):
        printed("--csv", "--json")


def test_a_form_is_chosen_before_the_command_begins():
    assert "x False" not in CliRunner().invoke(APP, ["x", "--csv", "--json"]).output


@pytest.mark.parametrize(
    ("said", "width"),
    [("120", 120), ("80", 80), ("7", LEAST_WIDTH), ("", PLAIN_WIDTH), ("0", PLAIN_WIDTH), ("wide", PLAIN_WIDTH)],
)
def test_piped_output_is_as_wide_as_columns_says(monkeypatch, capsys, said, width):
    monkeypatch.setenv("COLUMNS", said)
    assert terminal_width() == width


def test_sentences_stay_narrow_on_a_wide_terminal_and_break_no_word():
    lines = wrapped("word " * 60 + "x" * 130, 200)
    assert max(map(len, lines[:-1])) <= PROSE_WIDTH
    assert lines[-1] == "x" * 130


def test_a_percent_sign_stays_with_its_number():
    assert wrapped("not explained 32 %.", 17) == ["not explained", "32 %."]
