"""Bad input is one line and a status; good input is JSON without NaN."""

import json
import shlex

import numpy as np
import pytest
from typer.testing import CliRunner

from predict.__main__ import app
from reports.explore.answering import MOST_WORDS, answer
from reports.explore.contents import SECTIONS
from reports.explore.state import State
from reports.explore.steps import decode_steps, steps_of
from reports.explore.worker import Request

CONFIG = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 128,
    "vocab_size": 100,
}


def ask(section, content=None, **texts):
    reply = answer(Request(section, tuple(texts.items()), content))
    return reply.status, json.loads(reply.body)


def refused(section, status, content=None, **texts):
    found, body = ask(section, content, **texts)
    assert (found, list(body)) == (status, ["error"])
    assert len(body["error"].splitlines()) == 1
    return body["error"]


@pytest.mark.parametrize(
    ("section", "texts", "says"),
    [
        ("time", {"batch": "0"}, "batch"),
        ("time", {"batch": "many"}, "batch must be a number"),
        ("time", {"gpu": "h1000"}, "h1000"),
        ("time", {"speed": "1"}, "parameter"),
        ("time", {"gpus": "70000"}, "gpus=70000"),
        ("time", {"compute": "fp4"}, "no peak for it"),
        ("flop", {"layers": "0"}, "layers"),
        ("batching", {"lengths": ","}, "takes 1 to 64 numbers"),
        ("batching", {"lengths": "500,ten"}, "tokens of a request"),
        ("batching", {"lengths": "500,0"}, "each request makes 1 to 100,000 tokens"),
        ("batching", {"slots": "65"}, "Slots"),
        ("backward", {"step": "8"}, "Step of the graph"),
        ("speculation", {"depth": "0"}, "Tokens drafted"),
        ("speculation", {"accept": "120%"}, "Acceptance must be from 0 to 100%"),
        ("phases", {"generated": "1"}, "Tokens made"),
        ("dollars", {"mfu": "0"}, "mfu"),
        ("dollars", {"price": "0"}, "price"),
    ],
)
def test_bad_input_is_one_line(section, texts, says):
    assert says in refused(section, 400, **texts)


def test_a_section_that_is_not_known_is_not_found():
    assert "section" in refused("tme", 404)


def test_a_long_value_is_cut():
    content = json.dumps({**CONFIG, "model_type": "x" * 5000}).encode()
    found = refused("config", 400, content, name="config.json")
    assert len(found) <= MOST_WORDS + 3


def test_a_dropped_file_tells_its_name_and_its_model():
    status, body = ask("config", json.dumps(CONFIG).encode(), name="tiny.json")
    assert (status, list(body)) == (200, ["model", "name"])
    assert body["name"]


def test_a_dropped_file_that_is_no_model_is_one_line():
    assert "config.json" in refused("config", 400, b"[]", name="config.json")
    assert refused("config", 400, b'{"model_type":\n\n"llama"}', name="config.json")


def test_a_dropped_model_answers_every_section():
    for section in SECTIONS:
        status, body = ask(section, json.dumps(CONFIG).encode(), config="0", file="tiny.json", seq="128")
        assert status == 200, (section, body)
        assert all("--config tiny.json" in each for each in body["commands"] if " model " in each)


def test_controls_that_say_nothing_show_what_they_stand_for():
    _, body = ask("flop", seq="1k")
    assert (body["controls"]["seq"]["shown"], body["controls"]["context"]["shown"]) == ("1024", "1024")


def test_a_huge_batch_is_answered_and_a_larger_one_refused():
    """Its divisors are found without trying every number."""
    assert ask("backward", batch="999999937")[0] == 200
    for section in SECTIONS:
        assert "more than the 1,000,000,000" in refused(section, 400, batch=str(2**70))


def test_numbers_are_those_of_the_json_of_their_commands():
    # What the page shows under a command is what that command prints.
    said = {"model": "llama-2-7b", "gpu": "a100-sxm-40gb", "gpus": "2", "seq": "1024", "batch": "4"}
    for section in SECTIONS:
        _, body = ask(section, **said)
        printed = [_printed(command) for command in body["commands"]]
        assert body["numbers"], section
        for key, _, _, value, _, _, command, _ in body["numbers"]:
            found = printed[command]["value"] if "formula" in printed[command] else printed[command][key]
            assert found == pytest.approx(value, rel=1e-12) if not isinstance(value, str) else found == value


def _printed(command):
    words = [word for word in shlex.split(command)[2:] if word != "--train"]
    result = CliRunner().invoke(app, [*words, "--json"])
    assert result.exit_code == 0, (command, result.output)
    return json.loads(result.stdout)


def test_steps_of_a_batch_are_the_same_alone_and_among_others():
    state = State.of([])
    steps, alone = steps_of(state.asked()), decode_steps(state.question(), [64])
    place = steps.batches.index(64)
    np.testing.assert_allclose([steps.bound_s[place], steps.expected_s[place]], [*alone.bound_s, *alone.expected_s])
