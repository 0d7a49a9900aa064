"""The server over a real socket: who is let in, what is refused and how, and that nothing ends it."""

import asyncio
import contextlib
import hashlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from urllib.parse import urlencode

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.exceptions import HTTPException

from predict.errors import BadQuantity
from reports.explore import server
from reports.explore.desk import MOST_WAITING, read_query
from reports.explore.dropped import LARGEST_BYTES, MOST_FILES, Dropped
from reports.explore.guards import HEADERS, LONGEST_TARGET_BYTES
from reports.explore.worker import FAULT
from tests.installed import ROOT
from tests.reports.explore.begins import SECRET
from tests.reports.explore.serving import ASSETS, PAGE

LONG_S = 60.0  # a limit that a loaded machine does not reach
LEAKS = (b"Traceback", b'File "', b".py", b"site-packages", str(ROOT).encode(), SECRET.encode())


class Live:
    """A server in a process of its own."""

    def __init__(self, limit_s):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.reports.explore.serving", str(limit_s)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.line = self.process.stdout.readline()
        self.port = int(re.fullmatch(r"Explore at http://127\.0\.0\.1:(\d+)/ \(Ctrl\+C ends it\)\n", self.line)[1])
        self.host = f"127.0.0.1:{self.port}"

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=LONG_S)

    def ask(self, target, method="GET", body=None, headers=(), host=True):
        """The response to a request with these headers, each a pair, and one Host unless told otherwise."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LONG_S)
        connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        for name, value in (*([("Host", self.host)] if host else []), *headers):
            connection.putheader(name, value)
        if body is not None:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        response = connection.getresponse()
        content = response.read()
        connection.close()
        assert [leak for leak in LEAKS if leak in content] == []
        assert {name: response.headers[name] for name in HEADERS} == dict(HEADERS)
        assert "server" not in response.headers
        told = SimpleNamespace(status=response.status, headers=response.headers, content=content, json=None)
        if response.headers.get_content_type() == "application/json" and content:
            told.json = json.loads(content)
        return told

    def send(self, content):
        """All that comes back on a connection for these bytes, until it ends or nothing comes for a second."""
        with self.connect() as connection:
            connection.settimeout(1)
            try:
                connection.sendall(content)
                return read_all(connection)
            except (ConnectionError, TimeoutError):
                return b""

    def drop(self, content, name="config.json"):
        return self.ask(f"/config?name={name}", "POST", content)

    def end(self, sent=signal.SIGINT):
        self.process.send_signal(sent)
        out, err = self.process.communicate(timeout=LONG_S)
        return self.process.returncode, out, err


def read_all(connection):
    found = bytearray()
    try:
        while part := connection.recv(65536):
            found += part
    except (ConnectionError, TimeoutError):
        pass
    return bytes(found)


@pytest.fixture(scope="module")
def live():
    one = Live(limit_s=LONG_S)
    yield one
    status, out, err = one.end()
    assert (status, out) == (0, "")
    assert err.count("Traceback") == err.count(SECRET)  # of the bug that a test asks for, and no other
    assert "Invalid HTTP" not in err


def refused(reply, status, *words):
    """It has that status, and its JSON says in one line what to do."""
    assert reply.status == status
    assert list(reply.json) == ["error"]
    (line,) = reply.json["error"].splitlines()
    assert all(word in line for word in words), line
    assert reply.headers["Cache-Control"] == "no-store"


def test_it_listens_on_this_machine_alone(live):
    listening = [each.laddr for each in psutil.Process(live.process.pid).net_connections() if each.status == "LISTEN"]
    assert [(address.ip, address.port) for address in listening] == [("127.0.0.1", live.port)]


def test_the_page_and_its_files_are_served(live):
    page = live.ask("/")
    assert (page.status, page.content) == (200, PAGE.encode())
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    for name, asset in ASSETS.items():
        found = live.ask(f"/{name}")
        assert (found.status, found.content) == (200, asset.content)
        assert found.headers.get_content_type() == asset.media_type
        assert found.headers["Cache-Control"] == "no-cache"
        again = live.ask(f"/{name}", headers=[("If-None-Match", found.headers["ETag"])])
        assert (again.status, again.content) == (304, b"")
        assert live.ask(f"/{name}", headers=[("If-None-Match", '"of another version"')]).status == 200


def test_head_has_the_headers_alone(live):
    for target in ("/", "/vega.js", "/answer/decode?batch=1"):
        got, head = live.ask(target), live.ask(target, "HEAD")
        assert (head.status, head.content) == (got.status, b"")
        assert head.headers["Content-Length"] == str(len(got.content))
    assert live.ask("/nowhere", "HEAD").status == 404


def test_an_answer_gets_the_section_and_the_query_as_pairs(live):
    told = live.ask("/answer/decode?batch=8&gpu=h100&batch=16&name=%C3%A9+%26&empty=&bare")
    assert (told.status, told.headers["Cache-Control"]) == (200, "no-store")
    assert told.json["section"] == "decode"
    pairs = [["batch", "8"], ["gpu", "h100"], ["batch", "16"], ["name", "\xe9 &"], ["empty", ""], ["bare", ""]]
    assert (told.json["query"], told.json["content"]) == (pairs, None)


def test_a_refusal_of_the_answers_is_passed_on(live):
    refused(live.ask("/answer/bad"), 400, "batch must be positive")


def test_a_bug_tells_the_client_nothing(live):
    refused(live.ask("/answer/bug"), 500, FAULT)


def test_a_bug_of_the_server_tells_the_client_no_more():
    class Broken:
        def ask(self, request):
            raise ZeroDivisionError(SECRET)

    scope = {"type": "http", "method": "GET", "path": "/answer/decode", "raw_path": b"/answer/decode"}
    scope |= {"query_string": b"", "headers": [(b"host", b"localhost:8765")], "root_path": "", "scheme": "http"}
    sent = []

    async def receive():
        await asyncio.sleep(0 if not sent else LONG_S)
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    app = server.make_app(Broken(), PAGE, ASSETS, port=8765)
    with pytest.raises(ZeroDivisionError):  # for the terminal
        asyncio.run(app(scope, receive, send))
    start, body = sent
    headers = {name.decode(): value.decode() for name, value in start["headers"]}
    assert (start["status"], json.loads(body["body"])) == (500, {"error": FAULT})
    assert {name: headers[name.lower()] for name in HEADERS} == dict(HEADERS)
    assert headers["cache-control"] == "no-store"


# Who is let in.


@pytest.mark.parametrize(
    "host",
    """evil.example:{port} evil.example 127.0.0.1 localhost 127.0.0.1:1 127.0.0.1.evil.example:{port} 0.0.0.0:{port}
    127.0.0.1:{port}:{port} evil@127.0.0.1:{port} [::]:{port} 127.0.0.1:{port}/ {port}""".split(),
)
@pytest.mark.parametrize("target", ["/", "/answer/decode", "/nowhere"])
def test_a_name_that_was_made_to_mean_this_machine_is_refused(live, host, target):
    refused(live.ask(target, headers=[("Host", host.format(port=live.port))], host=False), 403, f"http://{live.host}/")


@pytest.mark.parametrize("host", ["127.0.0.1:{port}", "localhost:{port}", "[::1]:{port}", "LocalHost:{port}"])
def test_this_machine_has_these_names(live, host):
    assert live.ask("/", headers=[("Host", host.format(port=live.port))], host=False).status == 200


def test_one_host_is_named(live):
    twice = f"GET / HTTP/1.1\r\nHost: {live.host}\r\nHost: {live.host}\r\nConnection: close\r\n\r\n".encode()
    assert live.send(twice).split()[1] in (b"400", b"403")
    assert live.send(b"GET / HTTP/1.0\r\n\r\n").split()[1] == b"403"
    assert live.send(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n").split()[1] == b"400"


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "https://{host}", "http://127.0.0.1", "http://127.0.0.1:1", "null", "", "{host}"]
)
@pytest.mark.parametrize(("method", "target"), [("GET", "/"), ("GET", "/answer/decode"), ("POST", "/config?name=a")])
def test_another_origin_is_refused(live, origin, method, target):
    reply = live.ask(target, method, b"{}" if method == "POST" else None, [("Origin", origin.format(host=live.host))])
    refused(reply, 403, f"http://{live.host}/")


def test_our_own_origin_is_let_in(live):
    for name in ("127.0.0.1", "localhost"):
        origin = ("Origin", f"http://{name}:{live.port}")
        assert live.ask("/config?name=a", "POST", b"{}", [origin]).status == 200
    refused(live.ask("/answer/decode", headers=[origin, ("Origin", "http://evil.example")]), 403)


@pytest.mark.parametrize("site", ["cross-site", "same-site", "anything", ""])
def test_what_the_browser_says_is_of_another_site_is_refused(live, site):
    header = [("Sec-Fetch-Site", site)]
    for target in ("/answer/decode", "/vega.js"):
        refused(live.ask(target, headers=header), 403)
    refused(live.ask("/config?name=a", "POST", b"{}", header), 403)
    assert live.ask("/", headers=header).status == 200  # a link to the page


@pytest.mark.parametrize("site", ["same-origin", "none"])
def test_what_the_browser_says_is_of_this_page_is_let_in(live, site):
    assert live.ask("/answer/decode", headers=[("Sec-Fetch-Site", site)]).status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "FOO"])
def test_other_methods_are_refused(live, method):
    for target in ("/", "/vega.js", "/answer/decode"):
        refused(live.ask(target, method), 405, "open /")
    if method != "POST":
        refused(live.ask("/config?name=a", method), 405)
    refused(live.ask("/nowhere", method), 404)


def test_a_file_is_only_dropped(live):
    refused(live.ask("/config?name=a"), 405)


def test_a_request_to_become_a_web_socket_is_none(live):
    headers = [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")]
    assert live.ask("/answer/decode", headers=headers).status == 200


# Addresses.

OTHERS = """/../etc/passwd /%2e%2e/etc/passwd /%2e%2e%2fetc%2fpasswd //evil.example/ //evil.example /answer /answer/
/answer/decode/ /answer/../../etc /answer/.. /answer/%00 /answer/%2e%2e /answer/DECODE /answer/a%0d%0ab /ANSWER/decode
/config/ /explore.js/ /explore.py /worker.py /.git/config /answer/de%63ode /;/ /answer/-x /%zz /\\evil /answer/a;b
/favicon.ico http://evil.example/ /answer/decode#x * evil.example:80 /answer//decode /./ /answer/{long}""".split()


@pytest.mark.parametrize("target", [each.format(long="a" * 65) if "{" in each else each for each in OTHERS])
def test_other_addresses_are_nothing(live, target):
    refused(live.ask(target), 404)
    reply = live.send(f"GET {target} HTTP/1.1\r\nHost: {live.host}\r\nConnection: close\r\n\r\n".encode())
    assert reply.startswith(b"HTTP/1.1 404 ")
    assert b"\r\nlocation:" not in reply.lower()


@pytest.mark.parametrize(
    "query", ["%", "%z", "a=%2", "a=%ff", "a=%00", "%0a=1", "a=%1b[0m", "a=%7f", "a=%c0%af", "&" * 201]
)
def test_a_query_that_is_no_text_is_refused(live, query):
    reply = live.ask(f"/answer/decode?{query}")
    refused(reply, 400, "the address has more" if "&" in query else "ask again from the page")


def test_a_long_address_is_refused_and_one_at_the_limit_is_not(live):
    start = "/answer/decode?a="
    rest = "b" * (LONGEST_TARGET_BYTES - len(start))
    assert live.ask(start + rest).json["query"] == [["a", rest]]
    refused(live.ask(start + rest + "b"), 414, "8,192")
    refused(live.ask("/" + "a" * LONGEST_TARGET_BYTES), 414)


@pytest.mark.parametrize(
    ("line", "statuses"),
    [
        (f"GET /{'a' * 100_000} HTTP/1.1", (b"400", b"414")),
        (f"GET / HTTP/1.1\r\nX: {'a' * 100_000}", (b"400", b"431")),
        ("GET / HTTP/1.1" + "\r\nX: a" * 20_000, (b"400", b"431")),
    ],
    ids=["target", "header", "headers"],
)
def test_a_huge_head_is_refused(live, line, statuses):
    """By uvicorn, or where all of it arrived at once by the guards."""
    with live.connect() as connection:
        with contextlib.suppress(ConnectionError):  # the server had read enough of it
            connection.sendall(f"{line}\r\nHost: {live.host}\r\nConnection: close\r\n\r\n".encode())
        reply = read_all(connection)
    assert reply == b"" or reply.split()[1] in statuses
    assert live.ask("/").status == 200


@given(st.binary(max_size=200))
def test_reading_a_query_gives_pairs_or_refuses(query):
    with contextlib.suppress(HTTPException):
        pairs = read_query(query)
        assert all(" " <= sign != "\x7f" for pair in pairs for part in pair for sign in part)


@given(
    st.lists(
        st.tuples(st.text(st.characters(exclude_categories=["C"])), st.text(st.characters(exclude_categories=["C"])))
    )
)
def test_a_query_is_read_as_it_was_written(pairs):
    pairs = [(name, value) for name, value in pairs if name or value]
    assert list(read_query(urlencode(pairs).encode())) == pairs


# Dropped files.


def test_a_dropped_file_is_known_by_its_bytes(live):
    content = b'{"model_type": "llama"}'
    told = live.drop(content, "my%20config.json")
    assert (told.status, told.json["section"], told.json["query"]) == (200, "config", [["name", "my config.json"]])
    assert told.json["content"].encode() == content
    assert told.json["config"] == hashlib.sha256(content).hexdigest()[:16]
    found = live.ask(f"/answer/decode?batch=1&config={told.json['config']}")
    assert found.json["content"].encode() == content


def test_a_file_that_the_answers_refuse_is_not_kept(live):
    content = b"not a configuration"
    assert (live.drop(content).status, live.drop(content).json) == (400, {"error": "not JSON"})
    refused(live.ask(f"/answer/decode?config={hashlib.sha256(content).hexdigest()[:16]}"), 410, "drop it")


def test_only_so_many_files_are_kept(live):
    ids = [live.drop(str(number).encode()).json["config"] for number in range(MOST_FILES)]
    assert live.ask(f"/answer/decode?config={ids[0]}").status == 200  # so that the second was used longest ago
    live.drop(b"one more")
    assert live.ask(f"/answer/decode?config={ids[0]}").json["content"] == "0"
    refused(live.ask(f"/answer/decode?config={ids[1]}"), 410, "drop it onto the page again")
    assert live.ask(f"/answer/decode?config={ids[2]}").status == 200


@given(st.lists(st.integers(0, 9)))
def test_the_file_that_was_used_longest_ago_makes_room(used):
    dropped, order = Dropped(3), []
    for number in used:
        dropped.keep(bytes([number]))
        order = [*(each for each in order if each != number), number][-3:]
    kept = [number for number in range(10) if dropped.find(hashlib.sha256(bytes([number])).hexdigest()[:16])]
    assert kept == sorted(order)


@pytest.mark.parametrize("config", ["", "0" * 16, "../../etc/passwd", "é"])
def test_an_unknown_file_is_gone(live, config):
    refused(live.ask(f"/answer/decode?config={config.encode().hex() if config == 'é' else config}"), 410)


def test_one_file_is_named(live):
    refused(live.ask("/answer/decode?config=a&config=b"), 400, "more than once")
    for query in ("", "?name=", "?name=a&name=b", f"?name={'a' * 256}"):
        refused(live.ask(f"/config{query}", "POST", b"{}"), 400, "?name=config.json")
    refused(live.ask("/config?name=%00", "POST", b"{}"), 400)


def test_the_largest_file_is_kept_and_a_larger_one_refused(live):
    assert live.drop(b"x" * LARGEST_BYTES).status == 200
    refused(live.drop(b"x" * (LARGEST_BYTES + 1)), 413, "1,000,000 bytes")
    head = f"POST /config?name=a HTTP/1.1\r\nHost: {live.host}\r\nConnection: close\r\n"
    for length in (10**9, 10**18):  # refused before a byte of it is sent
        assert live.send(f"{head}Content-Length: {length}\r\n\r\n".encode()).startswith(b"HTTP/1.1 413 ")


def test_a_file_of_unsaid_length_is_read_no_further_than_it_may_be(live):
    with live.connect() as connection:
        connection.sendall(
            f"POST /config?name=a HTTP/1.1\r\nHost: {live.host}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        )
        for _ in range(LARGEST_BYTES // 10_000 + 1):
            connection.sendall(b"2710\r\n" + b"x" * 10_000 + b"\r\n")
        assert connection.recv(13) == b"HTTP/1.1 413 "  # though the file has not ended


@pytest.mark.parametrize("length", ["-1", "x", "1e3", "1, 2", "0x10", ""])
def test_a_length_that_is_none_is_refused(live, length):
    head = f"POST /config?name=a HTTP/1.1\r\nHost: {live.host}\r\nContent-Length: {length}\r\n\r\n"
    assert live.send(head.encode()).startswith(b"HTTP/1.1 400 ")


def test_a_file_that_does_not_arrive_whole_changes_nothing(live):
    content = b"half of a file"
    with live.connect() as connection:
        connection.sendall(
            f"POST /config?name=a HTTP/1.1\r\nHost: {live.host}\r\nContent-Length: 99\r\n\r\n".encode() + content
        )
    refused(live.ask(f"/answer/decode?config={hashlib.sha256(content).hexdigest()[:16]}"), 410)


# Load.


def test_only_so_many_wait_and_the_others_are_told(live, tmp_path):
    gate, others = tmp_path / "open", 8
    connections = [live.connect() for _ in range(MOST_WAITING + others)]
    for connection in connections:
        connection.sendall(
            f"GET /answer/gate?file={gate} HTTP/1.1\r\nHost: {live.host}\r\nConnection: close\r\n\r\n".encode()
        )
    replies, end_s = {}, time.monotonic() + LONG_S
    while len(replies) < others and time.monotonic() < end_s:
        for connection in set(connections) - set(replies):
            connection.settimeout(0.01)
            if found := read_all(connection):
                replies[connection] = found
    assert live.ask("/").status == 200  # the page itself waits for nobody
    assert Counter(reply.split()[1] for reply in replies.values()) == {b"503": others}
    assert all(b'{"error": "busy: 32 questions wait' in reply for reply in replies.values())
    gate.touch()
    for connection in set(connections) - set(replies):
        connection.settimeout(LONG_S)
        assert read_all(connection).startswith(b"HTTP/1.1 200 ")
    for connection in connections:
        connection.close()


def test_what_nobody_waits_for_any_more_is_not_computed(live, tmp_path):
    gate = tmp_path / "open"
    before = live.ask("/answer/count").json["count"]
    with live.connect() as first, live.connect() as second:
        first.sendall(f"GET /answer/gate?file={gate} HTTP/1.1\r\nHost: {live.host}\r\n\r\n".encode())
        live.ask("/")
        second.sendall(f"GET /answer/count HTTP/1.1\r\nHost: {live.host}\r\n\r\n".encode())
        live.ask("/")
        second.close()
        live.ask("/")  # the server has seen all of that in this order
        gate.touch()
        assert first.recv(13) == b"HTTP/1.1 200 "
    assert live.ask("/answer/count").json["count"] == before + 1


def test_a_thousand_requests_leave_no_trace(live):
    process = psutil.Process(live.process.pid)
    live.drop(b"x" * LARGEST_BYTES)
    before = process.memory_info().rss, process.num_threads()
    connection = http.client.HTTPConnection("127.0.0.1", live.port, timeout=LONG_S)
    for number in range(1000):
        connection.request("GET", f"/answer/decode?number={number}")
        response = connection.getresponse()
        assert (response.status, json.loads(response.read())["query"]) == (200, [["number", str(number)]])
    connection.close()
    with ThreadPoolExecutor(20) as pool:
        statuses = list(pool.map(lambda number: live.ask(f"/answer/decode?n={number}").status, range(200)))
    assert set(statuses) == {200}
    assert process.memory_info().rss - before[0] < 30e6
    assert process.num_threads() <= before[1] + 2
    assert len(process.net_connections()) < 50


# Whatever is sent, the server goes on, and its replies tell nothing of it.

METHODS = st.sampled_from(["GET", "HEAD", "POST", "CONNECT", "get", "G\x00T", ""]) | st.text(max_size=10)
TARGETS = st.sampled_from(["/", "/answer/decode", "/answer/decode?", "/config?name=a", "*", "//", "/%"]) | st.text()
NAMES = st.sampled_from(
    ["Host", "Origin", "Content-Length", "Transfer-Encoding", "Cookie", "Expect", "Range", "Sec-Fetch-Site", "Upgrade"]
) | st.text(max_size=20)
VALUES = st.sampled_from(["0", "5", "-1", "chunked", "gzip", "100-continue", "bytes=0-", "h2c", "\r\n x"]) | st.text()


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(METHODS, TARGETS, st.lists(st.tuples(NAMES, VALUES), max_size=4), st.binary(max_size=50), st.booleans())
def test_requests_of_any_kind_are_survived(live, method, target, headers, body, names_us):
    lines = [f"{method} {target} HTTP/1.1", "Connection: close", *([f"Host: {live.host}"] if names_us else [])]
    lines += [f"{name}: {value}" for name, value in headers]
    survive(live, "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogatepass") + body)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300) | st.text(max_size=300).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_bytes_of_any_kind_are_survived(live, content):
    survive(live, content + b"\r\n\r\n")


def survive(live, content):
    """Send it, half-close, and ask for the page on another connection."""
    with live.connect() as connection:
        try:
            connection.sendall(content)
            connection.settimeout(0.02)
            reply = read_all(connection)
        except ConnectionError:  # the server had read enough of it
            reply = b""
    assert [leak for leak in LEAKS if leak in reply] == []
    assert reply == b"" or re.match(rb"HTTP/1\.1 (100|200|304|400|403|404|405|408|410|413|414|431|503) ", reply)
    assert live.ask("/").status == 200


# How it begins and ends.


def test_a_port_that_is_taken_is_told():
    with server.listen(0) as first:
        port = server.port_of(first)
        with pytest.raises(BadQuantity, match=f"^port {port} is taken: give another --port$"):
            server.listen(port)
    server.listen(port).close()


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_its_child_at_once(sent, tmp_path):
    one = Live(limit_s=600)
    child = one.ask("/answer/decode").json["pid"]
    with one.connect() as waiting, one.connect() as idle, one.connect() as half:
        waiting.sendall(f"GET /answer/gate?file={tmp_path / 'never'} HTTP/1.1\r\nHost: {one.host}\r\n\r\n".encode())
        half.sendall(f"POST /config?name=a HTTP/1.1\r\nHost: {one.host}\r\nContent-Length: 9\r\n\r\n".encode())
        assert one.ask("/").status == 200
        assert one.end(sent) == (0, "", "")
        assert read_all(waiting).startswith(b"HTTP/1.1 503 ")
        assert read_all(idle) == b""
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE


def test_an_answer_over_the_limit_is_refused_and_the_next_one_given():
    one = Live(limit_s=0.5)
    refused(one.ask("/answer/spin"), 503, "longer than 0.5 s")
    refused(one.ask("/answer/exit"), 503, "ended")
    assert one.ask("/answer/bad").status == 400
    assert one.end() == (0, "", "")
