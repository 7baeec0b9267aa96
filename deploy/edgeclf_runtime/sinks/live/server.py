"""The live page's HTTP server, of the standard library alone: the page, its pictures, its state.

Listens on this machine alone unless a host is named, answers GET and HEAD to whoever knows the token, and
lets no other web site's page look in.  Knows nothing of frames or results; it asks LiveSink for bytes and JSON.
"""

import base64
import errno
import hashlib
import ipaddress
import json
import logging
import os
import re
import socket
import socketserver
import threading
import time
from typing import Any

from ...errors import OutputError, Unavailable
from .access import Access, Gate
from .clients import CLIENT_TIMEOUT_S, REQUEST_TIMEOUT_S, Client, Places, machine
from .http import Refusal, head, read_request

EVENTS_PER_S = 10
HEARTBEAT_S = 1.0
CLOSE_TIMEOUT_S = 1.0
# What the kernel may hold back for a slow client: about one picture, so that the next one is new.
_SEND_BUFFER_BYTES = 1 << 17
_TLS_HANDSHAKE = b"\x16"  # its first byte
_PAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "live.html")
_ADDRESS = re.compile(r"(?:(?P<host>\[[^\]]+\]|[^:\[\]]*):)?(?P<port>[0-9]{1,5})\Z")
_REFUSED = {
    errno.EADDRINUSE: "another program listens there; stop it, or choose another port",
    errno.EADDRNOTAVAIL: "this machine has no such address; choose one of its own, or 0.0.0.0 for all of them",
    errno.EACCES: "a port below 1024 is for root alone; choose one from 1024 to 65535",
}
_LATER = (errno.EADDRINUSE, errno.EADDRNOTAVAIL)
_DOOR = b"""<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>edgeclf</title>%s
<style>body { max-width: 34rem; margin: 12vh auto; padding: 0 1.2rem; font: 1.1rem/1.5 system-ui, sans-serif; }
input, button { font: inherit; padding: .3em .6em; }</style>
<p>%s</p>
<form><input name="token" type="password" aria-label="token" autocomplete="current-password" required autofocus> <button>open</button></form>
</html>
"""
# After a link on another site a browser keeps the new cookie back; what this page itself asks for brings it.
_ONCE_MORE = b'<meta http-equiv="refresh" content="0; url=./">'
_log = logging.getLogger(__name__)


def listen(address, sink, access=None):
    """Start to serve a LiveSink at an address and return the server; see LiveSink for ``address``.

    Raises OutputError where the address is none, or cannot be listened on.
    """
    host, port = page_address(address)
    with open(_PAGE, "rb") as stream:
        page = stream.read()
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, _, _, _, bound = min(found, key=lambda entry: entry[0] != socket.AF_INET)
        server = Server(family, bound, page, sink, access or Access(), host)
    except (OSError, UnicodeError) as error:
        reason = _REFUSED.get(getattr(error, "errno", 0), "{}; choose another address".format(error))
        # An address comes with its network, a port is free when its last user has gone.
        later = getattr(error, "errno", 0) in _LATER or isinstance(error, socket.gaierror)
        text = "the live page cannot listen on port {} of {}: {}".format(port, host, reason)
        raise Unavailable(text) if later else OutputError(text)
    if not server.loopback and not server.gate.guarded:
        _log.warning("anybody on the network who opens %s sees this camera", server.url)
    elif not server.loopback and not server.secure:
        _log.warning(
            "%s is not encrypted: who can read the network's traffic sees its token and its pictures; "
            "--live-cert and --live-key encrypt it",
            server.url,
        )
    return server


def page_address(address):
    """Return the host and the port that ``[HOST:]PORT`` names; OutputError where it names none."""
    match = _ADDRESS.match(str(address))
    if not match or int(match.group("port")) > 65535:
        raise OutputError(
            "{!r} is no address for the live page: give :8080 for this machine alone, "
            "or HOST:8080 (0.0.0.0:8080 for every network)".format(address)
        )
    return (match.group("host") or "127.0.0.1").strip("[]"), int(match.group("port"))


class Server(socketserver.TCPServer):
    """Serves each client in a thread of its own, at ``url``, until :meth:`stop`.

    invitation  the ``url`` to show to the user: with the token, if it was made here
    """

    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, family, address, page, sink, access, host):
        self.address_family, self.page, self.sink, self.tls = family, page, sink, access.tls
        self.policy = _policy(page)
        self.clients = Places(sink.wake)
        super().__init__(address, socketserver.BaseRequestHandler)
        bound, port = self.socket.getsockname()[:2]
        ip = ipaddress.ip_address(bound.partition("%")[0])
        self.loopback, self.secure = ip.is_loopback, access.tls is not None
        self.gate = Gate(access, host, self.loopback, port)
        name = socket.gethostname() if ip.is_unspecified else "[{}]".format(bound) if ip.version == 6 else bound
        self.url = "{}://{}:{}/".format("https" if self.secure else "http", name, port)
        self.invitation = self.url + ("?token=" + self.gate.made if self.gate.made else "")
        self._thread = threading.Thread(target=self.serve_forever, args=(0.1,), name="live page", daemon=True)
        self._thread.start()

    def server_bind(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        super().server_bind()

    def get_request(self):
        try:
            return super().get_request()
        except OSError:
            time.sleep(0.05)  # out of file descriptors: the connection still waits, and select() returns at once
            raise

    def process_request(self, request, client_address):
        try:
            if self.clients.enter(Client(request, client_address[0]), self._serve):
                return
        except OSError:
            pass  # the client went away
        request.close()

    def service_actions(self):
        self.clients.expire()

    def _serve(self, client):
        try:
            _Exchange(self, client).answer()
        except OSError:
            pass  # the client went away, or was ended
        except Exception:
            _log.exception("the live page failed to answer a request")

    def stop(self):
        """End every connection, and return when the threads have ended, or after CLOSE_TIMEOUT_S."""
        deadline = time.monotonic() + CLOSE_TIMEOUT_S
        threads = self.clients.close()
        self.shutdown()
        self.server_close()
        for thread in [self._thread] + threads:
            thread.join(max(deadline - time.monotonic(), 0))


def _hash(tag, page):
    (text,) = re.findall("<{0}>(.*?)</{0}>".format(tag).encode("ascii"), page, re.DOTALL)
    return "'sha256-{}'".format(base64.b64encode(hashlib.sha256(text).digest()).decode("ascii"))


def _policy(page):
    """Return the Content-Security-Policy that lets the page's own style and script run and nothing else."""
    return (
        "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; connect-src 'self'; "
        "img-src 'self' data:; style-src {}; script-src {}".format(_hash("style", page), _hash("script", page))
    )


_DOOR_POLICY = "default-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; style-src " + _hash(
    "style", _DOOR
)


class _Exchange:
    """One client's request and its answer."""

    request: Any = None  # a Request, once it was read

    def __init__(self, server, client):
        self.server, self.sink, self.client = server, server.sink, client
        self.policy = server.policy

    def answer(self):
        try:
            if self._read():
                self._allowed()()
        except Refusal as refusal:
            self._refuse(refusal)
            self.client.say_goodbye()

    def _read(self):
        """Read the request; returns whether there is one.  Raises Refusal for what is none."""
        client = self.client
        if self.server.secure:
            if client.peek() != _TLS_HANDSHAKE:
                read_request(client.receive)
                raise Refusal(400, "this page is encrypted: open {}".format(self.server.url))
            client.secure(self.server.tls)
        pieces = [client.receive()]
        if not pieces[0]:
            return False  # browsers open connections in advance
        try:
            self.request = read_request(lambda: pieces.pop() if pieces else client.receive())
        except socket.timeout:
            raise Refusal(408, "a request within {:g} s was expected".format(REQUEST_TIMEOUT_S))
        client.expect(CLIENT_TIMEOUT_S)
        return True

    def _allowed(self):
        """Return the method that answers the request, or raise Refusal."""
        request, gate = self.request, self.server.gate
        if request.method not in ("GET", "HEAD"):
            raise Refusal(501, "only GET and HEAD are answered", ("Allow", "GET, HEAD"))
        request.check_no_body()
        gate.check_host(request, self.server.url)
        gate.check_site(request, navigable=request.path == "/")
        self.client.address = machine(gate.visitor(request, self.client.peer))
        from_url = gate.admit(request, self.client.address)
        answer = _ANSWERS.get(request.path)
        if answer is None:
            raise Refusal(404, "there is nothing here; there are {}".format(", ".join(_ANSWERS)))
        return self._redirect if from_url else lambda: answer(self)

    def _redirect(self):
        """Lead to the same without the token, which would stay in the browser's address bar and history."""
        # Relative, since a proxy may serve the page under a path of its own.
        location = "./" + self.request.path[1:]
        self._begin(
            303, "text/plain", 0, ("Location", location), self.server.gate.cookie(self.request, self.client.peer)
        )

    def _page(self):
        self._answer(200, "text/html; charset=utf-8", self.server.page)

    def _state(self):
        state = dict(self.sink.state(), labels=self.sink.labels)
        self._answer(200, "application/json", json.dumps(state).encode("ascii"))

    def _picture(self):
        picture = self.sink.picture(0, 2 * HEARTBEAT_S, self._gone)
        if picture is None:
            raise Refusal(503, "no frame came in {:g} s".format(2 * HEARTBEAT_S))
        self._answer(200, "image/jpeg", picture[1])

    def _pictures(self):
        number = 0
        self._watch("pictures", "multipart/x-mixed-replace; boundary=picture", b"--picture\r\n")
        while self._watched():
            picture = self.sink.picture(number, HEARTBEAT_S, self._gone)
            if picture is not None:
                number, jpeg = picture
                lines = "Content-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n".format(len(jpeg))
                # A browser shows a picture when it has seen the boundary behind it, so that comes at once.
                self.client.send(lines.encode("ascii") + jpeg + b"\r\n--picture\r\n")

    def _events(self):
        self._watch("events", "text/event-stream", b"retry: 1000\n\n")
        news, page = -1, self.client.page
        while self._watched():
            news = self.sink.wait(news, HEARTBEAT_S, self._gone)
            state = self.sink.state()
            if page:
                state["pictures"] = self.server.clients.shows(page)
            self.client.send(b"data: " + json.dumps(state).encode("ascii") + b"\n\n")
            self.client.pause(1.0 / EVENTS_PER_S)

    def _watch(self, what, kind, first):
        if not self._head_only():
            self.server.clients.watch(self.client, what, self.request.argument(b"page") or b"")
        self._begin(200, kind, None, ("X-Accel-Buffering", "no"))  # nginx would collect it
        if not self._head_only():
            self.client.send(first)

    def _watched(self):
        """Whether the client is still there, and is to get a body."""
        return not (self._head_only() or self.sink.closed or self.client.left())

    def _gone(self):
        return self.client.gone

    def _head_only(self):
        return self.request is not None and self.request.method == "HEAD"

    def _refuse(self, refusal):
        kind, body = "text/plain; charset=utf-8", (refusal.reason + "\n").encode("utf-8")
        if refusal.status == 401 and self.request.path == "/":
            elsewhere = self.request.fields.get(b"sec-fetch-site") in ([b"cross-site"], [b"same-site"])
            kind, self.policy = "text/html; charset=utf-8", _DOOR_POLICY
            body = _DOOR % (_ONCE_MORE if elsewhere else b"", body)
        self._answer(refusal.status, kind, body, *refusal.headers)

    def _answer(self, status, kind, body, *headers):
        self._begin(status, kind, len(body), *headers)
        if not self._head_only():
            self.client.send(body)

    def _begin(self, status, kind, length=None, *headers):
        fields = [("Server", "edgeclf"), ("Connection", "close"), ("Content-Type", kind)]
        if length is not None:
            fields.append(("Content-Length", str(length)))
        fields += headers
        fields += [
            ("Cache-Control", "no-store"),
            ("Content-Security-Policy", self.policy),
            ("Cross-Origin-Resource-Policy", "same-origin"),
            ("Referrer-Policy", "no-referrer"),
            ("X-Content-Type-Options", "nosniff"),
        ]
        self.client.send(head(status, fields))


_ANSWERS = {
    "/": _Exchange._page,
    "/picture.jpg": _Exchange._picture,
    "/picture.mjpg": _Exchange._pictures,
    "/state.json": _Exchange._state,
    "/events": _Exchange._events,
}
