"""Which requests are let in, and the headers of every reply.

The server listens on this machine alone, but any web page that its user visits can send requests here. A page whose
name was made to mean 127.0.0.1 (DNS rebinding) sends its own name as Host; any other page sends an Origin or
Sec-Fetch-Site that is not ours. The replies' own headers let a browser load nothing from elsewhere, and show the page
in no frame.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reports.explore.worker import Reply, refuse

LONGEST_TARGET_BYTES = 8192
LONGEST_HEADERS_BYTES = 32_768  # of all together
PLAIN_PATH = re.compile(rb"/[A-Za-z0-9._/-]*")  # no path of ours needs an escape
HEADERS: Mapping[str, str] = MappingProxyType(
    {
        # Vega makes functions of its expressions, and styles its tooltip.
        "Content-Security-Policy": (
            "default-src 'none'; script-src 'self' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
            "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        ),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin",
    }
)


def as_response(reply: Reply) -> Response:
    """A reply of JSON as a response."""
    return Response(reply.body, reply.status, media_type="application/json")


class Guards:
    """ASGI middleware around the whole app."""

    def __init__(self, app: ASGIApp, *, port: int) -> None:
        names = ("127.0.0.1", "localhost", "[::1]")
        self._app = app
        self._address = f"http://127.0.0.1:{port}/"
        self._hosts = {f"{name}:{port}" for name in names} | (set(names) if port == 80 else set())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request, or let the app answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        refused = self._refused(scope)
        app = self._app if refused is None else as_response(refused)
        await app(scope, receive, send_guarded)

    def _refused(self, scope: Scope) -> Reply | None:
        """Why this request is not let in; None if it is."""
        headers, path, query = Headers(scope=scope), scope["raw_path"], scope["query_string"]
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        if len(hosts) != 1 or hosts[0].lower() not in self._hosts:
            return refuse(403, f"this server is known by another name: open {self._address}")
        if any(origin not in {f"http://{host}" for host in self._hosts} for origin in origins):
            return refuse(403, f"another site may not ask here: open {self._address}")
        from_here = {"same-origin", "none"}.issuperset(headers.getlist("sec-fetch-site"))
        if path != b"/" and not from_here:  # the page itself may be linked from anywhere
            return refuse(403, f"another site may not ask here: open {self._address}")
        if len(path) + len(query) + 1 > LONGEST_TARGET_BYTES:
            return refuse(414, f"the address is longer than {LONGEST_TARGET_BYTES:,} bytes: ask for less at once")
        if sum(len(name) + len(value) for name, value in scope["headers"]) > LONGEST_HEADERS_BYTES:
            return refuse(431, f"the headers are longer than {LONGEST_HEADERS_BYTES:,} bytes: clear your cookies")
        if not PLAIN_PATH.fullmatch(path):
            return refuse(404, f"nothing is here: open {self._address}")
        return None
