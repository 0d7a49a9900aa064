"""The page of `explore` before a real server, in a browser: what it shows is what the command line prints.

`test_drawn_states_show_the_numbers_of_the_command_line` asks the server for five sections at each of 50 drawn states,
with the queries that the page sends; `test_the_page_shows_the_numbers_of_the_command_line` opens 12 others in the
browser and reads every number that is shown there.
"""

import contextlib
import csv
import functools
import http.client
import io
import json
import random
import re
import shlex
from types import SimpleNamespace
from urllib.parse import urlencode, urlsplit

import pytest
import typer

from predict.__main__ import app
from predict.errors import NapkinError
from predict.gpus import GPUS
from predict.model.presets import PRESETS
from predict.units import Unit, show
from reports.explore.contents import SECTIONS, charts_of, controls_of
from reports.explore.controls import CONTROLS, SHARED
from reports.explore.state import State
from tests.reports.explore.conftest import LONG_S

PREDICT = typer.main.get_command(app)


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
    out = io.StringIO()
    try:
        with contextlib.redirect_stdout(out):
            PREDICT([*words, form], prog_name="predict", standalone_mode=False)
    except NapkinError as error:
        return str(error)
    return json.loads(out.getvalue()) if form == "--json" else out.getvalue()


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


def sizes_of(name, answer):
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
            state[name] = draw.choice(choices.get(name) or sizes_of(name, offered))
    if draw.random() < 0.4:
        shape = {**asking.answer("flop", state).json, "own": ("layers", "hidden", "mlp", "vocab")}
        cache = {**asking.answer("cache", state).json, "own": ("layers", "kv_heads")}
        for name, answer in [(name, each) for each in (shape, cache) for name in each["own"] if "controls" in each]:
            if draw.random() < 0.3 and (stops := sizes_of(name, answer)):
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
        for section in draw.sample(list(SECTIONS), 5):
            reply = asking.answer(section, state)
            if reply.status == 400:
                assert refused_alike(reply.json["error"], section, state), (section, state, reply.json)
                continue
            assert reply.status == 200, (section, state, reply.json)
            numbers = [(key, text, value, place) for key, _, text, value, _, _, place, _ in reply.json["numbers"]]
            assert differing(numbers, reply.json["commands"]) == [], state
            valid += 1
    assert valid > 0.8 * 50 * 5


def read(shown):
    """Numbers and commands as they stand on the page."""
    # Whole numbers beyond 2**53 are written with other digits in JavaScript.
    numbers = [(key, text, json.loads(value, parse_int=float), place) for key, text, value, place in shown["numbers"]]
    several = len(shown["commands"]) > 1
    for place, command in enumerate(shown["commands"], 1):
        assert not several or command.endswith(f"  # ({place})")
    return numbers, [command.split("  # (")[0] for command in shown["commands"]]


TALL = {"width": 1280, "height": 12_000}  # all sections are in view


def test_the_page_shows_the_numbers_of_the_command_line(open_page, asking):
    draw, valid = random.Random(11), 0
    opened = open_page(is_refused=True, viewport=TALL)
    for _ in range(12):
        state = drawn_state(draw, asking)
        opened.open(urlencode(state))
        for section in SECTIONS:
            shown = opened.shown(section)
            if shown["error"]:
                assert refused_alike(shown["error"], section, state), (section, state, shown["error"])
                continue
            assert differing(*read(shown)) == [], state
            valid += 1
    assert valid > 0.8 * 12 * len(SECTIONS)


# Every section, chart and control.


def test_every_section_answers_when_it_is_scrolled_to_and_draws_every_chart_that_has_rows(open_page, asking):
    opened = open_page()
    opened.see("time")
    assert not any("/answer/answer" in url for url in opened.requests)  # nobody has looked there yet
    for section in SECTIONS:
        shown = opened.see(section)
        assert shown["error"] == ""
        assert shown["says"]
        assert all(shown["says"])
        rows = asking.answer(section, {}).json["data"]
        for chart in charts_of(SECTIONS[section]):
            figure = opened.page.locator(f'#{section} [data-chart="{chart.name}"]')
            marks = figure.locator("svg .role-mark path, svg .role-mark text").count()
            is_empty = "is-empty" in (figure.get_attribute("class") or "")
            assert (marks > 0, is_empty) == (bool(rows[chart.name]), not rows[chart.name]), chart.name


# States between which every control should matter.
SERVING = {"gpus": "2", "batch": "8", "draft": "llama-3.2-1b", "points": "run AMD EPYC"}
TRAINING = {"use": "train", "gpus": "2", "batch": "8", "context": "4096", "seq": "2048", "draft": "llama-3.2-1b"}
# What cannot matter, by section, with the reason.
CANNOT_MATTER = {
    # FLOP of a forward pass over prompts are the model's alone, whatever computes them from whichever bits.
    "flop": {"gpu", "gpus", "weights", "kv", "compute", "context"},
    # A training has weights in its own formats, and no cache.
    "backward": {"weights", "kv", "context"},
    # Bytes are held in the formats in which they are stored, not in that of the products.
    "memory": {"compute"},
    # A request's context is its prompt and the tokens that it makes.
    "phases": {"context"},
}
MOST_STEPS = 3  # to values that may be alike: h100-sxm and h100-pcie have the same memory


def set_next(control):
    """Set another value, with the keyboard if it is a slider; whether there is one, and the section has the control."""
    if not control.is_visible():
        return False
    if control.evaluate("(each) => each.tagName") == "SELECT":
        values = control.evaluate("(each) => [...each.options].map((option) => option.value)")
        if len(values) < 2:
            return False
        control.select_option(values[(values.index(control.input_value()) + 1) % len(values)])
    elif control.get_attribute("type") == "range":
        if control.get_attribute("max") == "0":
            return False
        control.press("ArrowLeft" if control.input_value() == control.get_attribute("max") else "ArrowRight")
    else:
        control.fill("100,200,300")
        control.press("Enter")
    return True


def matters(opened, section, name, before):
    """Whether another value of a control changes what a section shows, beside its command. Goes back after it."""
    steps, changes = 0, False
    own = name in controls_of(SECTIONS[section])
    control = opened.control(name, section if own else "shared")
    while steps < MOST_STEPS and not changes and set_next(control):
        steps += 1
        shown = opened.shown(section)
        assert shown["error"] == "", (section, name, opened.query())
        changes = any(shown[part] != before[part] for part in ("says", "numbers", "charts", "grids"))
    for _ in range(steps):
        opened.page.go_back()
    after = opened.shown(section)
    assert (after["says"], after["numbers"]) == (before["says"], before["numbers"])
    return changes


@pytest.mark.parametrize("section", SECTIONS)
def test_every_control_changes_what_its_section_shows(open_page, section):
    opened = open_page()
    left = list(named(section))
    for state in (SERVING, TRAINING):
        opened.open(urlencode(state))
        opened.page.add_style_tag(content=f"section:not(#{section}) {{ display: none; }}")  # the others need not follow
        before = opened.see(section)
        left = [name for name in left if not matters(opened, section, name, before)]
    assert set(left) == CANNOT_MATTER.get(section, set())


# The address.


def values(opened):
    return opened.page.evaluate(
        """() => [...document.querySelectorAll(".shared :is(input:not([type=file]), select), #time :is(input, select)")]
          .map((each) => each.value)"""
    )


def test_back_forward_and_reload_restore_controls_and_numbers(open_page):
    opened = open_page()
    seen = [(opened.see("time"), values(opened))]
    opened.control("batch").press("ArrowRight")
    seen.append((opened.shown("time"), values(opened)))
    opened.control("gpu").select_option("h200-sxm")
    seen.append((opened.shown("time"), values(opened)))
    assert opened.query() == {"batch": "2", "gpu": "h200-sxm"}
    assert len({shown["numbers"][0][2] for shown, _ in seen}) == 3
    moves = [("back", 1), ("back", 0), ("forward", 1), ("forward", 2), ("reload", 2)]
    for move, place in moves:
        getattr(opened.page, {"back": "go_back", "forward": "go_forward"}.get(move, move))()
        found = opened.see("time")
        assert (found["numbers"], found["says"]) == (seen[place][0]["numbers"], seen[place][0]["says"]), move
        assert values(opened) == seen[place][1], move


def test_an_address_that_is_passed_on_shows_the_same(open_page):
    opened = open_page("model=llama-3-70b")
    opened.see("cache")
    opened.control("kv_heads", "cache").press("ArrowRight")
    opened.control("gpus").press("ArrowRight")
    before = opened.shown("cache")
    assert opened.query() == {"model": "llama-3-70b", "kv_heads": "16", "gpus": "2"}  # after 8 of 64
    other = open_page(opened.page.url.partition("?")[2])
    after = other.see("cache")
    assert {**after, "charts": None} == {**before, "charts": None}
    assert other.control("kv_heads", "cache").input_value() == opened.control("kv_heads", "cache").input_value()


def test_the_button_copies_the_command(open_page):
    opened = open_page("batch=16", permissions=["clipboard-read", "clipboard-write"])
    opened.see("flop")
    opened.page.click("#flop .copy")
    opened.page.wait_for_selector("#flop .copy:text('Copied')")
    copied = opened.page.evaluate("navigator.clipboard.readText()")
    assert copied == "napkin-bench predict model llama-3-8b --gpu h100-sxm --gpus 1 --batch 16"


HOSTILE_ADDRESSES = {
    "batch=abc": ("batch", "8"),
    "batch=-1": ("batch", "8"),
    "model=../../etc/passwd": ("model", "llama-3-8b"),
    "gpu=x.json": ("gpu", "h200-sxm"),
    "gpu=%3Cimg+src%3Dx+onerror%3Dalert(1)%3E": ("gpu", "h200-sxm"),
    "weights=%E2%80%AEfp8": ("weights", "fp8"),
    "lengths=1,a,,,": ("lengths", "1,2"),
    "slots=1e9": ("slots", "2"),
}


@pytest.mark.parametrize("query", HOSTILE_ADDRESSES)
def test_an_address_that_asks_for_nonsense_is_told_in_one_line_and_can_be_corrected(open_page, query):
    name, text = HOSTILE_ADDRESSES[query]
    opened = open_page(query, is_refused=True)
    section = "batching"
    shown = opened.see(section)
    assert re.fullmatch(r"[^\n]{10,600}", shown["error"])
    assert shown["numbers"] == []
    control = opened.page.locator(f'form:visible [data-control="{name}"]').locator("select, input[type=text]").first
    if control.evaluate("(each) => each.tagName") == "SELECT":
        control.select_option(text)
    else:
        control.fill(text)
        control.press("Enter")
    shown = opened.shown(section)
    assert (shown["error"], bool(shown["numbers"])) == ("", True)
    assert opened.query().get(name, CONTROLS[name].default) == text
