"""The page of `explore` before a real server, in a browser: what it shows is what the command line prints.

`test_drawn_states_show_the_numbers_of_the_command_line` asks the server for 50 drawn states of all sections with the
queries that the page sends; `test_the_page_shows_the_numbers_of_the_command_line` opens 12 others in the browser and
reads every number that is shown there.
"""

import csv
import functools
import http.client
import io
import json
import random
import re
import shlex
from types import SimpleNamespace
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from typer.testing import CliRunner

from predict.__main__ import app
from predict.errors import NapkinError
from predict.gpus import GPUS
from predict.model.presets import PRESETS
from predict.units import Unit, show
from reports.explore.contents import SECTIONS, charts_of, controls_of
from reports.explore.controls import CONTROLS, SHARED
from reports.explore.dropped import LARGEST_BYTES
from reports.explore.state import State
from tests.reports.explore.conftest import LONG_S, ROWS
from tests.reports.report.test_html import contrast

RUNNER = CliRunner()


def named(section):
    """The controls that a section asks with."""
    return (*SHARED, *controls_of(SECTIONS[section]))


# Numbers are those of the command line.

UNITS_OF_FORMULAS = {
    "serving.latency_s": Unit.SECONDS,
    "serving.static_batch_utilization": Unit.SHARE,
    "serving.continuous_batch_utilization": Unit.SHARE,
    "speculation.expected_tokens": Unit.TOKENS,
    "speculation.speedup": Unit.TIMES,
    "speculation.best_k": Unit.TOKENS,
}
KERNEL_KEYS = ("napkin_s", "expected_s", "refined_s")
GIBI = 2**30


@functools.cache
def printed(command, form="--json"):
    """What a command that the page shows prints in a form; NapkinError as text if it refuses."""
    program, package, *words = shlex.split(command)
    assert (program, package) == ("napkin-bench", "predict")
    result = RUNNER.invoke(app, [*words, form])
    if isinstance(result.exception, NapkinError):
        return str(result.exception)
    assert result.exit_code == 0, (command, result.output)
    return json.loads(result.stdout) if form == "--json" else result.stdout


@functools.cache
def units(command):
    """The unit of each key that `predict model` prints, as its CSV says."""
    rows = list(csv.DictReader(io.StringIO(printed(command, "--csv"))))
    return {row["key"]: Unit.SHARE if row["unit"] == "1" else Unit(row["unit"]) for row in rows}


UNITS = {}  # of keys that any command had


def expected(command, key):
    """Value and unit of a number as the command prints them."""
    found = printed(command)
    assert isinstance(found, dict), (command, found)
    match shlex.split(command)[2]:
        case "formula":
            assert found["formula"] == key
            return found["value"], UNITS_OF_FORMULAS[key]
        case "kernel":
            assert key in KERNEL_KEYS
            return found[key], Unit.SECONDS
        case "model":
            if key not in UNITS:
                UNITS.update(units(command))
            return found[key], UNITS[key]


def differing(numbers, commands):
    """Numbers that are not what their commands print; each is a key, a text, a value and which command it is of."""
    wrong = []
    for key, text, value, place in numbers:
        there, unit = expected(commands[place], key)
        if value != there or text != show(there, unit):
            wrong.append((commands[place], key, text, value, there))
    return wrong


def sizes_of(section, name, answer):
    """What a control may say, in an answer to the state before it."""
    control = CONTROLS[name]
    offered = answer["controls"].get(name, {"stops": [], "choices": []})
    return [value for value, _ in (control.choices or offered["choices"])] or list(control.stops or offered["stops"])


class Asking:
    """Asks the server as the page does, on one connection."""

    def __init__(self, address):
        self.connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=LONG_S)

    def get(self, target):
        self.connection.request("GET", target)
        response = self.connection.getresponse()
        return SimpleNamespace(status=response.status, json=json.loads(response.read()))

    def answer(self, section, state):
        """The reply to a section at a state: texts of controls that are not at their defaults."""
        said = {name: state[name] for name in named(section) if name in state}
        return self.get(f"/answer/{section}?{urlencode(said)}")


@pytest.fixture(scope="module")
def asking(address):
    one = Asking(address)
    yield one
    one.connection.close()


def drawn_state(draw, asking):
    """Texts of some controls, most of which go together."""
    choices = {
        "model": list(PRESETS),
        "gpu": ["h100-sxm", "h200-sxm", "b200", "a100-sxm-80gb", "l4", draw.choice(list(GPUS))],
        "gpus": ["1", "2", "4", "8", "16"],
        "batch": ["1", "3", "16", "48", "256", "4k"],
        "seq": ["128", "1000", "2k", "8k", "32k"],
        "context": ["0", "512", "4096", "16k", "100k"],
        "weights": ["bf16", "fp8", "int4", "mxfp4"],
        "kv": ["bf16", "fp8"],
        "compute": ["bf16", "fp8"],
        "lengths": ["7", "100,3,50", "1k, 20,20,400"],
        "tokens": ["1B", "300B", "15T"],
    }
    offered = asking.answer("flop", {}).json
    state = {}
    for name in CONTROLS:
        if name.startswith("kernel_") or name in ("points", "layers", "hidden", "mlp", "vocab", "kv_heads"):
            continue
        if draw.random() < (1 if name == "model" else 0.45):
            state[name] = draw.choice(choices.get(name) or sizes_of("flop", name, offered))
    if draw.random() < 0.4:
        shape = {**asking.answer("flop", state).json, "own": ("layers", "hidden", "mlp", "vocab")}
        cache = {**asking.answer("cache", state).json, "own": ("layers", "kv_heads")}
        for name, found in [(name, found) for found in (shape, cache) for name in found["own"] if "controls" in found]:
            if draw.random() < 0.3 and (stops := sizes_of("", name, found)):
                state[name] = draw.choice(stops)
    return {name: text for name, text in state.items() if text != CONTROLS[name].default}


def refused_alike(words, section, state):
    """Whether a command refuses with the same words what the page refuses."""
    said = State.of([(name, state[name]) for name in named(section) if name in state])
    own = tuple(name for name in controls_of(SECTIONS[section]) if CONTROLS[name].field)
    commands = said.command(), said.command(*own), said.command(*own, option="--train")
    return words in [" ".join(found.split()) for found in map(printed, commands) if isinstance(found, str)]


def test_drawn_states_show_the_numbers_of_the_command_line(asking):
    draw, valid = random.Random(7), 0
    for _ in range(50):
        state = drawn_state(draw, asking)
        for section in SECTIONS:
            reply = asking.answer(section, state)
            if reply.status == 400:
                assert refused_alike(reply.json["error"], section, state), (section, state, reply.json)
                continue
            assert reply.status == 200, (section, state, reply.json)
            numbers = [(key, text, value, place) for key, _, text, value, _, _, place, _ in reply.json["numbers"]]
            assert differing(numbers, reply.json["commands"]) == [], state
            valid += 1
    assert valid > 0.8 * 50 * len(SECTIONS)
