"""Exchange, one request to the live page: it is read, allowed or refused, and answered."""

import base64
import hashlib
import json
import re
import socket
from typing import TYPE_CHECKING, Iterable, Mapping, Optional

from .clients import CLIENT_TIMEOUT_S, REQUEST_TIMEOUT_S, Client, machine
from .http import Header, Refusal, Request, head, read_request
from .openapi import API
from .overview import PREFIX
from .posted.body import MAX_BODY_BYTES
from .routes import METHODS, Route, find_route

if TYPE_CHECKING:
    from .routes import Routes
    from .server import Server
    from .sink import LiveSink

# What is read, and dropped, of a refused body: most programs read an answer only when they have sent everything.
UNREAD_UPLOAD_BYTES = 4 * MAX_BODY_BYTES
UPLOAD_GOODBYE_S = 5.0
_TLS_HANDSHAKE = b"\x16"  # its first byte
_DOOR = b"""<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>edgeclf</title>%s
<style>body { max-width: 34rem; margin: 12vh auto; padding: 0 1.2rem; font: 1.1rem/1.5 system-ui, sans-serif; }
input, button { font: inherit; padding: .3em .6em; }</style>
<p>%s</p>
<form><input name="token" type="password" aria-label="token" autocomplete="current-password" required autofocus> <button>open</button></form>
</html>
"""
# When the visitor comes from another site, the browser withholds the new cookie; a reload by the page itself sends it.
_ONCE_MORE = b'<meta http-equiv="refresh" content="0; url=./">'


def _hash(tag: str, page: bytes) -> str:
    (text,) = re.findall("<{0}>(.*?)</{0}>".format(tag).encode("ascii"), page, re.DOTALL)
    return "'sha256-{}'".format(base64.b64encode(hashlib.sha256(text).digest()).decode("ascii"))


def policy_of(page: bytes) -> str:
    """Return the Content-Security-Policy that allows only the page's own style and script."""
    return (
        "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; connect-src 'self'; "
        "img-src 'self' data:; style-src {}; script-src {}".format(_hash("style", page), _hash("script", page))
    )


_DOOR_POLICY = "default-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; style-src " + _hash(
    "style", _DOOR
)


class Exchange:
    """One client's request and its answer."""

    request: Optional[Request] = None  # once it was read
    _sends_body = False

    def __init__(self, server: "Server", client: Client) -> None:
        self.server, self.client = server, client
        self._sink: "Optional[LiveSink]" = None
        self.policy = server.page.policy

    @property
    def sink(self) -> "LiveSink":
        """The sink of the camera that the request is for; Refusal if it has just ended."""
        if self._sink is None:
            raise Refusal(503, "no camera is running")
        return self._sink

    def answer(self) -> None:
        """Read the request, and answer it."""
        try:
            request = self._read()
            if request is not None:
                self._answer(request)
        except Refusal as refusal:
            self._refuse(refusal)
            if self._sends_body:
                self.client.say_goodbye(UNREAD_UPLOAD_BYTES, UPLOAD_GOODBYE_S)
            else:
                self.client.say_goodbye()

    def _read(self) -> Optional[Request]:
        """Return the request, None if there is none.  Raises Refusal if it is not valid."""
        client = self.client
        if self.server.tls is not None:
            if client.peek() != _TLS_HANDSHAKE:
                read_request(client.receive)
                raise Refusal(400, "this page is encrypted: open {}".format(self.server.url))
            client.secure(self.server.tls)
        pieces = [client.receive()]
        if not pieces[0]:
            return None  # browsers open connections in advance
        try:
            self.request = read_request(lambda: pieces.pop() if pieces else client.receive())
        except socket.timeout:
            raise Refusal(408, "no complete request arrived within {:g} s".format(REQUEST_TIMEOUT_S))
        client.expect(CLIENT_TIMEOUT_S)
        return self.request

    def _answer(self, request: Request) -> None:
        gate = self.server.gate
        if request.method not in METHODS:
            raise Refusal(501, "only {} are answered".format(", ".join(METHODS)), ("Allow", ", ".join(METHODS)))
        gate.check_host(request, self.server.url)
        request, routes, self._sink = self.server.place(request)
        self.request = request
        gate.check_site(request, navigable=request.path == "/")
        self.client.address = machine(gate.visitor(request, self.client.peer))
        route = find_route(routes, request.path)
        from_url = not (route and route.open) and gate.admit(request, self.client.address)
        if route is None:
            raise Refusal(404, "nothing is here; available: {}".format(", ".join(self._available(routes))))
        _check_method(request, route)
        self._sends_body = route.method == "POST"
        if from_url and route.method != "POST":
            self._redirect(request)
        else:
            route.answer(self, request)

    def _available(self, routes: "Routes") -> Iterable[str]:
        """Return the paths of routes; without any, those of the cameras."""
        return routes or ("{}{}/".format(PREFIX, name) for name in self.server.cameras() if name)

    def _redirect(self, request: Request) -> None:
        """Redirect to the same address without the token, which would stay in the address bar and the history."""
        # Relative, because a proxy may serve the page under another path.
        location = "./" + request.path.rpartition("/")[2]
        self.begin(303, "text/plain", 0, ("Location", location), self.server.gate.cookie(request, self.client.peer))

    def expect_body(self, request: Request, seconds: float) -> None:
        """Wait for the request's body so long, and tell the client to send it, if it asks first."""
        expected = request.field(b"expect")
        if expected is not None and expected.lower() != b"100-continue":
            raise Refusal(417, "the header Expect has another value than 100-continue")
        if expected is not None:
            self.client.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.client.expect(seconds)

    def watch(self, request: Request, what: str, kind: str, first: bytes) -> None:
        """Begin an answer without end, of "events" or "pictures"."""
        if not self._head_only():
            self.server.clients.watch(self.client, what, request.argument(b"page") or b"")
        self.begin(200, kind, None, ("X-Accel-Buffering", "no"))  # else nginx buffers the stream
        if not self._head_only():
            self.client.send(first)

    def watched(self) -> bool:
        """Return whether the client is still there, and gets a body."""
        return not (self._head_only() or self.sink.closed or self.client.left())

    def gone(self) -> bool:
        """Return whether the client was closed by another thread."""
        return self.client.gone

    def _head_only(self) -> bool:
        return self.request is not None and self.request.method == "HEAD"

    def _refuse(self, refusal: Refusal) -> None:
        kind, body = "text/plain; charset=utf-8", (refusal.reason + "\n").encode("utf-8")
        if self.request is not None and self.request.path.startswith(API):
            kind, body = "application/json", json.dumps({"error": refusal.reason}).encode("ascii")
        elif refusal.status == 401 and self.request is not None and self.request.path == "/":
            elsewhere = self.request.fields.get(b"sec-fetch-site") in ([b"cross-site"], [b"same-site"])
            kind, self.policy = "text/html; charset=utf-8", _DOOR_POLICY
            body = _DOOR % (_ONCE_MORE if elsewhere else b"", body)
        self.reply(refusal.status, kind, body, *refusal.headers)

    def reply_json(self, value: Mapping[str, object]) -> None:
        """Answer with JSON."""
        self.reply(200, "application/json", json.dumps(value).encode("ascii"))

    def reply(self, status: int, kind: str, body: bytes, *headers: Header) -> None:
        """Answer with a body, which HEAD leaves out."""
        self.begin(status, kind, len(body), *headers)
        if not self._head_only():
            self.client.send(body)

    def begin(self, status: int, kind: str, length: Optional[int] = None, *headers: Header) -> None:
        """Send the head of an answer; ``length`` is that of its body, None for one without end."""
        fields = [("Server", "edgeclf"), ("Connection", "close"), ("Content-Type", kind)]
        if length is not None:
            fields.append(("Content-Length", str(length)))
        fields += headers
        if not any(name == "Cache-Control" for name, _ in headers):
            fields.append(("Cache-Control", "no-store"))
        fields += [
            ("Content-Security-Policy", self.policy),
            ("Cross-Origin-Resource-Policy", "same-origin"),
            ("Referrer-Policy", "no-referrer"),
            ("X-Content-Type-Options", "nosniff"),
        ]
        self.client.send(head(status, fields))


def _check_method(request: Request, route: Route) -> None:
    if request.method not in route.methods:
        allowed = ", ".join(route.methods)
        raise Refusal(405, "only {} is answered here".format(" and ".join(route.methods)), ("Allow", allowed))
    if route.method != "POST":
        request.check_no_body()
