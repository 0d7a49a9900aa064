"""The server of the page: its routes, its socket on this machine alone, and how it ends.

What is no HTTP at all never reaches the app: uvicorn answers it with status 400 and one line of text.
"""

import errno
import hashlib
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Mapping
from types import FrameType
from typing import NamedTuple

import uvicorn
from starlette import requests
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import Response
from starlette.routing import Route

from predict.errors import BadQuantity
from reports.explore.desk import Desk
from reports.explore.guards import HEADERS, LONGEST_HEADERS_BYTES, LONGEST_TARGET_BYTES, Guards, as_response
from reports.explore.worker import FAULT, Worker, refuse

ADDRESS = "127.0.0.1"  # never another: whoever reaches this server may ask it anything
BACKLOG = 128  # connections that the system holds until they are taken
KEEP_ALIVE_S = 5  # a connection that is idle for so long is closed
LAST_WORDS_S = 1  # for replies that are still on their way when the server ends
_SAID = {404: "nothing is here: open /", 405: "this address is not asked that way: open /"}

Endpoint = Callable[[requests.Request], Awaitable[Response]]


class Asset(NamedTuple):
    """A file of the page, such as its script."""

    content: bytes
    media_type: str


def make_app(worker: Worker, page: str, assets: Mapping[str, Asset], *, port: int) -> Starlette:
    """The app behind the page. `assets` are named as the page names them, such as explore.js; `port` is where the
    server listens, since only requests to that address are let in."""
    desk = Desk(worker)
    app = Starlette(
        routes=[
            Route("/", _file(Asset(page.encode(), "text/html"))),
            *(Route(f"/{name.removeprefix('/')}", _file(asset)) for name, asset in assets.items()),
            Route("/answer/{section}", desk.answer),
            Route("/config", desk.keep, methods=["POST"]),
        ],
        middleware=[Middleware(Guards, port=port)],
        exception_handlers={HTTPException: _tell, Exception: _tell_fault},
    )
    app.router.redirect_slashes = False
    return app


def listen(port: int) -> socket.socket:
    """A socket that listens on this machine alone; port 0 takes a free one. Raises BadQuantity."""
    # Named TCP, asyncio sends each part of a reply at once: else the second waits 40 ms for the client to confirm one.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    if os.name == "posix":  # a port that was left a moment ago is free; elsewhere this would share one in use
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((ADDRESS, port))
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            raise BadQuantity(f"port {port} is taken: give another --port") from None
        if error.errno in (errno.EACCES, errno.EPERM):
            raise BadQuantity(f"port {port} is for administrators: give a --port of 1024 or more") from None
        raise
    return listening


def port_of(listening: socket.socket) -> int:
    """The port on which it listens."""
    port = listening.getsockname()[1]
    assert isinstance(port, int)
    return port


class Server(uvicorn.Server):
    """Ends at Ctrl+C or SIGTERM. Then it calls `at_end`, which lets no reply take long, and logs nothing more: what
    is cut off is no news."""

    def __init__(self, app: Starlette, at_end: Callable[[], None]) -> None:
        config = uvicorn.Config(
            app,
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_level="error",  # a request that is no HTTP is worth a warning to uvicorn
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=LAST_WORDS_S,
            h11_max_incomplete_event_size=LONGEST_TARGET_BYTES + LONGEST_HEADERS_BYTES,
        )
        super().__init__(config)
        self._at_end = at_end

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End: uvicorn calls this at a signal."""
        logging.getLogger("uvicorn.error").disabled = True
        self._at_end()
        super().handle_exit(sig, frame)


def serve(app: Starlette, listening: socket.socket, at_end: Callable[[], None]) -> None:
    """Say where the page is, and answer until Ctrl+C or SIGTERM; then call `at_end` and return."""
    assert threading.current_thread() is threading.main_thread()  # where signals arrive
    server = Server(app, at_end)
    # uvicorn sends itself the signal again when it has ended, to the handlers that it found.
    before = {each: signal.signal(each, server.handle_exit) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        sys.stdout.write(f"Explore at http://{ADDRESS}:{port_of(listening)}/ (Ctrl+C ends it)\n")
        sys.stdout.flush()
        server.run(sockets=[listening])
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _file(asset: Asset) -> Endpoint:
    """Answers with a file, or with 304 whom the file that it has is still the same."""
    content, media_type = asset
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": "no-cache"}

    async def answer(request: requests.Request) -> Response:
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=media_type, headers=headers)

    return answer


async def _tell(_: requests.Request, error: Exception) -> Response:
    """What is wrong with a request, in one line."""
    assert isinstance(error, HTTPException)
    response = as_response(refuse(error.status_code, _SAID.get(error.status_code, error.detail)))
    response.headers.update(error.headers or {})
    return response


async def _tell_fault(_: requests.Request, __: Exception) -> Response:
    """A bug of ours; Starlette raises it again after this reply, so that the terminal has its traceback.

    This reply does not pass the guards, which would add the headers."""
    response = as_response(refuse(500, FAULT))
    response.headers.update({**HEADERS, "Cache-Control": "no-store"})
    return response
