"""Takes questions from the page to the worker: reads addresses and dropped files, and lets only so many wait."""

import asyncio
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import parse_qsl

from starlette import requests
from starlette.exceptions import HTTPException
from starlette.responses import Response

from reports.explore.dropped import LARGEST_BYTES, Dropped
from reports.explore.guards import as_response
from reports.explore.worker import Reply, Request, Worker, refuse

MOST_WAITING = 32  # requests; a page asks for a few at a time
FILE_LIMIT_S = 10.0  # for a dropped file to arrive, from this machine
MOST_FIELDS = 200  # of a query; a question about a model has some 60
LONGEST_NAME = 255  # characters of a file's name, as file systems have it
SECTION = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Desk:
    """Answers the page's requests, in the order in which they came."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._dropped = Dropped()
        self._turn = asyncio.Lock()
        self._waiting = 0

    async def answer(self, request: requests.Request) -> Response:
        """GET /answer/SECTION?query."""
        section = request.path_params["section"]
        if not SECTION.fullmatch(section):
            raise HTTPException(404, "no such section: ask again from the page")
        pairs = read_query(request.scope["query_string"])
        config = self._find_dropped(pairs)
        with self._place():
            return as_response(await self._ask(request, Request(section, pairs, config)))

    async def keep(self, request: requests.Request) -> Response:
        """POST /config?name=NAME with a file as its body."""
        names = [value for key, value in read_query(request.scope["query_string"]) if key == "name"]
        if len(names) != 1 or not 0 < len(names[0]) <= LONGEST_NAME:
            raise HTTPException(400, f"give the file one name of up to {LONGEST_NAME} characters: ?name=config.json")
        with self._place():
            content = await _read_body(request)
            reply = await self._ask(request, Request("config", (("name", names[0]),), content))
        if reply.status != 200:  # it would only take the place of one that can be read
            return as_response(reply)
        found = {**json.loads(reply.body), "config": self._dropped.keep(content)}
        return as_response(Reply(200, json.dumps(found, allow_nan=False).encode()))

    async def _ask(self, request: requests.Request, question: Request) -> Reply:
        async with self._turn:
            if await request.is_disconnected():  # a slider was moved on: nobody waits for this any more
                return refuse(503, "whoever asked this has gone")
            return await asyncio.to_thread(self._worker.ask, question)

    @contextmanager
    def _place(self) -> Iterator[None]:
        if self._waiting >= MOST_WAITING:
            text = f"busy: {MOST_WAITING} questions wait already; ask again in a moment"
            raise HTTPException(503, text, {"Retry-After": "1"})
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1

    def _find_dropped(self, pairs: tuple[tuple[str, str], ...]) -> bytes | None:
        """The file that a query names; None if it names none."""
        names = [value for key, value in pairs if key == "config"]
        if not names:
            return None
        if len(names) > 1:
            raise HTTPException(400, "config is given more than once: name one file")
        content = self._dropped.find(names[0])
        if content is None:
            raise HTTPException(410, "that config.json is no longer here: drop it onto the page again")
        return content


def read_query(query: bytes) -> tuple[tuple[str, str], ...]:
    """Names and values of a query in their order. Raises HTTPException for what is no text."""
    text = query.decode("latin-1")
    if _BROKEN_ESCAPE.search(text) or not text.isascii():
        raise HTTPException(400, "the address has a sign that is not escaped: ask again from the page")
    try:
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=MOST_FIELDS)
    except UnicodeDecodeError:
        raise HTTPException(400, "the address is not UTF-8: ask again from the page") from None
    except ValueError:
        raise HTTPException(400, f"the address has more than {MOST_FIELDS} fields: ask for less at once") from None
    if any(_CONTROL.search(part) for pair in pairs for part in pair):
        raise HTTPException(400, "the address has control characters: ask again from the page")
    return tuple(pairs)


async def _read_body(request: requests.Request) -> bytes:
    """The file that a request brings; no byte more is kept than may be. Raises HTTPException."""
    too_large = HTTPException(413, f"a config.json has at most {LARGEST_BYTES:,} bytes: drop a smaller file")
    if int(request.headers.get("content-length", "0")) > LARGEST_BYTES:
        raise too_large
    content = bytearray()
    try:
        async with asyncio.timeout(FILE_LIMIT_S):
            async for part in request.stream():
                content += part
                if len(content) > LARGEST_BYTES:
                    raise too_large
    except TimeoutError:
        raise HTTPException(408, f"the file did not arrive within {FILE_LIMIT_S:g} s: drop it again") from None
    except requests.ClientDisconnect:
        raise HTTPException(400, "the file did not arrive whole: drop it again") from None
    return bytes(content)
