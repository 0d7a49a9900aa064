"""Answers what the page asks: a section at a state, and whether a dropped config.json is a model."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from predict.errors import NapkinError
from predict.suggest import unknown
from reports.explore.answered import Stops
from reports.explore.contents import SECTIONS
from reports.explore.kernel import with_kernel
from reports.explore.points import Source, read_sources
from reports.explore.state import State
from reports.explore.worker import Answering, Reply, Request, refuse

MOST_WORDS = 600  # characters of what is said of a bad value: a config.json may have long ones


def begin(runs: tuple[Path, ...], tables: tuple[Path, ...]) -> Answering:
    """Read runs and tables; return what answers. Raises the errors of reading them."""
    sources = read_sources(runs, tables)
    return lambda request: answer(request, sources)


def answer(request: Request, sources: Sequence[Source] = ()) -> Reply:
    """The reply to one request; bad input is one line."""
    try:
        if request.section == "config":
            return _dropped(request)
        section = SECTIONS.get(request.section)
        if section is None:
            return refuse(404, unknown("section", request.section, SECTIONS))
        state = State.of(request.query, request.config)
        found = section.answer(state)
        if section.kernel:
            found = with_kernel(found, section.kernel, state, sources)
        return Reply(200, replace(found, controls={**found.controls, **_unsaid(state)}).to_json())
    except NapkinError as error:
        return refuse(400, _short(str(error)))


def _unsaid(state: State) -> dict[str, Stops]:
    """What controls that say nothing stand for."""
    q = state.question()
    return {"seq": Stops(str(q.seq)), "context": Stops(str(q.context))}


def _dropped(request: Request) -> Reply:
    """What a config.json that was dropped holds, as the page tells it."""
    names = dict(request.query)
    model = State.of([("file", names.get("name", ""))], request.config).question().model
    return Reply(200, json.dumps({"model": _short(model.text), "name": _short(model.name)}).encode())


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= MOST_WORDS else f"{line[:MOST_WORDS]}..."
