"""The live page's HTTP server, of the standard library alone: the page, its pictures, its state.

Listens on this machine alone unless a host is named, answers GET and HEAD, and lets no other
web site's page look in.  Knows nothing of frames or results; it asks LiveSink for bytes and JSON.
"""

import base64
import contextlib
import errno
import hashlib
import http.server
import ipaddress
import json
import logging
import os
import re
import socket
import socketserver
import threading
import time
from typing import Dict

from ..errors import OutputError

MAX_CLIENTS = 16  # open connections; a page has two
EVENTS_PER_S = 10
HEARTBEAT_S = 1.0
CLIENT_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 1.0
# What the kernel may hold back for a slow client: about one picture, so that the next one is new.
_SEND_BUFFER_BYTES = 1 << 17
_PAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "live.html")
_ADDRESS = re.compile(r"(?:(?P<host>\[[^\]]+\]|[^:\[\]]*):)?(?P<port>[0-9]{1,5})\Z")
_LOOPBACK_HOST = re.compile(r"(localhost|127(\.[0-9]+){3}|\[::1\])(:[0-9]+)?\Z", re.IGNORECASE)
_REFUSED = {
    errno.EADDRINUSE: "another program listens there; stop it, or choose another port",
    errno.EADDRNOTAVAIL: "this machine has no such address; choose one of its own, or 0.0.0.0 for all of them",
    errno.EACCES: "a port below 1024 is for root alone; choose one from 1024 to 65535",
}
_log = logging.getLogger(__name__)


def listen(address, sink):
    """Start to serve a LiveSink at an address and return the server; see LiveSink for ``address``.

    Raises OutputError where the address is none, or cannot be listened on.
    """
    host, port = _parse(address)
    with open(_PAGE, "rb") as stream:
        page = stream.read()
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, _, _, _, bound = min(found, key=lambda entry: entry[0] != socket.AF_INET)
        server = Server(family, bound, page, sink)
    except (OSError, UnicodeError) as error:
        reason = _REFUSED.get(getattr(error, "errno", 0), "{}; choose another address".format(error))
        raise OutputError("the live page cannot listen on port {} of {}: {}".format(port, host, reason))
    if not server.loopback:
        _log.warning("anybody on the network who opens %s sees this camera", server.url)
    return server


def _parse(address):
    match = _ADDRESS.match(str(address))
    if not match or int(match.group("port")) > 65535:
        raise OutputError(
            "{!r} is no address for the live page: give :8080 for this machine alone, "
            "or HOST:8080 (0.0.0.0:8080 for every network)".format(address)
        )
    return (match.group("host") or "127.0.0.1").strip("[]"), int(match.group("port"))


class Server(socketserver.TCPServer):
    """Serves each client in a thread of its own, at ``url``, until :meth:`stop`."""

    allow_reuse_address = True
    request_queue_size = MAX_CLIENTS

    def __init__(self, family, address, page, sink):
        self.address_family, self.page, self.sink = family, page, sink
        self.policy = _policy(page)
        self.clients: Dict[socket.socket, threading.Thread] = {}
        super().__init__(address, _Handler)
        host, port = self.socket.getsockname()[:2]
        ip = ipaddress.ip_address(host.partition("%")[0])
        self.loopback = ip.is_loopback
        name = socket.gethostname() if ip.is_unspecified else "[{}]".format(host) if ip.version == 6 else host
        self.url = "http://{}:{}/".format(name, port)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.1,), name="live page", daemon=True)
        self._thread.start()

    def server_bind(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        super().server_bind()

    def process_request(self, request, client_address):
        # More than are served, so that those learn why they are not, but not without end.
        if len(self.clients) >= 2 * MAX_CLIENTS:
            self.shutdown_request(request)
            return
        thread = threading.Thread(target=self._serve, args=(request, client_address), name="live client", daemon=True)
        self.clients[request] = thread
        thread.start()

    def _serve(self, request, client_address):
        try:
            self.finish_request(request, client_address)
        except OSError:
            pass  # the client went away
        except Exception:
            _log.exception("the live page failed to answer a request")
        finally:
            self.shutdown_request(request)

    def shutdown_request(self, request):
        self.clients.pop(request, None)
        super().shutdown_request(request)

    def stop(self):
        """End every connection, and return when the threads have ended, or after CLOSE_TIMEOUT_S."""
        deadline = time.monotonic() + CLOSE_TIMEOUT_S
        self.shutdown()
        self.server_close()
        clients = list(self.clients.items())
        for request, _ in clients:
            with contextlib.suppress(OSError):  # it may just have ended by itself
                request.shutdown(socket.SHUT_RDWR)
        for thread in [self._thread] + [thread for _, thread in clients]:
            thread.join(max(deadline - time.monotonic(), 0))


def _policy(page):
    """Return the Content-Security-Policy that lets the page's own style and script run and nothing else."""
    hashes = {}
    for tag in ("style", "script"):
        (text,) = re.findall("<{0}>(.*?)</{0}>".format(tag).encode("ascii"), page, re.DOTALL)
        hashes[tag] = base64.b64encode(hashlib.sha256(text).digest()).decode("ascii")
    return (
        "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; connect-src 'self'; "
        "img-src 'self' data:; style-src 'sha256-{style}'; script-src 'sha256-{script}'".format(**hashes)
    )


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Server
    timeout = CLIENT_TIMEOUT_S
    disable_nagle_algorithm = True
    server_version, sys_version = "edgeclf", ""

    def do_GET(self):
        answer = _ANSWERS.get(self.path.partition("?")[0])
        if self.server.loopback and not _LOOPBACK_HOST.match(self.headers.get("Host", "")):
            # A web site can make its own name lead to this machine (DNS rebinding); the name gives it away.
            self._refuse(403, "this page is for this machine alone: open {}".format(self.server.url))
        elif answer is None:
            self._refuse(404, "there is nothing here; there are {}".format(", ".join(_ANSWERS)))
        elif len(self.server.clients) > MAX_CLIENTS:
            self._refuse(
                503, "{} connections are open already: close a page that shows this camera".format(MAX_CLIENTS)
            )
        else:
            answer(self)

    do_HEAD = do_GET  # noqa: N815 - the standard library's name

    def _page(self):
        self._answer(200, "text/html; charset=utf-8", self.server.page)

    def _state(self):
        state = dict(self.server.sink.state(), labels=self.server.sink.labels)
        self._answer(200, "application/json", json.dumps(state).encode("ascii"))

    def _picture(self):
        picture = self.server.sink.picture(0, 2 * HEARTBEAT_S)
        if picture is None:
            self._refuse(503, "no frame came in {:g} s".format(2 * HEARTBEAT_S))
        else:
            self._answer(200, "image/jpeg", picture[1])

    def _pictures(self):
        number = 0
        self._begin(200, "multipart/x-mixed-replace; boundary=picture")
        self._write(b"--picture\r\n")
        while self._watched():
            picture = self.server.sink.picture(number, HEARTBEAT_S)
            if picture is not None:
                number, jpeg = picture
                head = "Content-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n".format(len(jpeg))
                # A browser shows a picture when it has seen the boundary behind it, so that comes at once.
                self._write(head.encode("ascii") + jpeg + b"\r\n--picture\r\n")

    def _events(self):
        self._begin(200, "text/event-stream")
        self._write(b"retry: 1000\n\n")
        news = -1
        while self._watched():
            news = self.server.sink.wait(news, HEARTBEAT_S)
            self._write(b"data: " + json.dumps(self.server.sink.state()).encode("ascii") + b"\n\n")
            time.sleep(1.0 / EVENTS_PER_S)

    def _watched(self):
        """Whether the client is still there, and is to get a body."""
        if self.command == "HEAD" or self.server.sink.closed:
            return False
        self.connection.settimeout(0)
        try:
            return self.connection.recv(1, socket.MSG_PEEK) != b""
        except BlockingIOError:
            return True
        finally:
            self.connection.settimeout(CLIENT_TIMEOUT_S)

    def _refuse(self, status, reason):
        self._answer(status, "text/plain; charset=utf-8", (reason + "\n").encode("utf-8"))

    def _answer(self, status, kind, body):
        self._begin(status, kind, len(body))
        self._write(body)

    def _begin(self, status, kind, length=None):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def end_headers(self):
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Security-Policy", self.server.policy)
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("X-Content-Type-Options", "nosniff")
        super().end_headers()

    def _write(self, data):
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *arguments):
        """Keep requests out of the log."""


_ANSWERS = {
    "/": _Handler._page,
    "/picture.jpg": _Handler._picture,
    "/picture.mjpg": _Handler._pictures,
    "/state.json": _Handler._state,
    "/events": _Handler._events,
}
