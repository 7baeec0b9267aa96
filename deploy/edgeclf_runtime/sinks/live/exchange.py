"""Answers one request for the live page: the page, its images, its state, the metrics."""

import base64
import functools
import hashlib
import json
import logging
import re
import socket
from typing import TYPE_CHECKING, Callable, Optional

from ...bundle.examples import example_number
from ...errors import BundleError
from . import metrics
from .clients import CLIENT_TIMEOUT_S, REQUEST_TIMEOUT_S, Client, machine
from .http import Header, Refusal, Request, head, read_request

if TYPE_CHECKING:
    from .server import Server

EVENTS_PER_S = 10
HEARTBEAT_S = 1.0
_HEALTH = "/healthz"  # one word, which whoever watches the device may know without the token
_TLS_HANDSHAKE = b"\x16"  # its first byte
_NEXT_PICTURE = b"--picture\r\nContent-Type: image/jpeg\r\n\r\n"
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
_log = logging.getLogger(__name__)


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

    def __init__(self, server: "Server", client: Client) -> None:
        self.server, self.sink, self.client = server, server.sink, client
        self.policy = server.policy

    def answer(self) -> None:
        try:
            request = self._read()
            if request is not None:
                self._allowed(request)(request)
        except Refusal as refusal:
            self._refuse(refusal)
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

    def _allowed(self, request: Request) -> Callable[[Request], None]:
        """Return the method that answers the request, or raise Refusal."""
        gate = self.server.gate
        if request.method not in ("GET", "HEAD"):
            raise Refusal(501, "only GET and HEAD are answered", ("Allow", "GET, HEAD"))
        request.check_no_body()
        gate.check_host(request, self.server.url)
        gate.check_site(request, navigable=request.path == "/")
        self.client.address = machine(gate.visitor(request, self.client.peer))
        from_url = request.path != _HEALTH and gate.admit(request, self.client.address)
        answer = _ANSWERS.get(request.path)
        if answer is None and example_number(request.path[1:]) is not None:
            answer = Exchange._example
        if answer is None:
            raise Refusal(404, "nothing is here; available: {}".format(", ".join(_ANSWERS)))
        return self._redirect if from_url else functools.partial(answer, self)

    def _redirect(self, request: Request) -> None:
        """Redirect to the same address without the token, which would stay in the address bar and the history."""
        # Relative, because a proxy may serve the page under another path.
        location = "./" + request.path.rpartition("/")[2]
        self._begin(303, "text/plain", 0, ("Location", location), self.server.gate.cookie(request, self.client.peer))

    def _page(self, request: Request) -> None:
        self._answer(200, "text/html; charset=utf-8", self.server.page)

    def _example(self, request: Request) -> None:
        """Answer with a training image's picture, if the bundle's manifest lists it."""
        number = example_number(request.path[1:])
        file = None if number is None else self.sink.examples.get(number)
        if file is None:
            raise Refusal(404, "there is no such training image in the bundle")
        try:
            picture = file.read()
        except BundleError as error:
            self.sink.examples.clear()  # logged once; what else was changed is not served either
            _log.warning("the live page shows no training images any more: %s", error)
            raise Refusal(404, "the training image cannot be read: see the program's log")
        # Its address names the bundle, so it never changes.
        self._answer(200, "image/jpeg", picture, ("Cache-Control", "private, max-age=86400, immutable"))

    def _state(self, request: Request) -> None:
        state = dict(self.sink.state(), labels=self.sink.labels)
        self._answer(200, "application/json", json.dumps(state).encode("ascii"))

    def _metrics(self, request: Request) -> None:
        self._answer(200, metrics.KIND, self.sink.metrics().encode("utf-8"))

    def _health(self, request: Request) -> None:
        state = self.sink.state()["state"]
        status, word = (200, "ok") if state == "live" else (503, state)
        self._answer(status, "text/plain; charset=utf-8", "{}\n".format(word).encode("ascii"))

    def _picture(self, request: Request) -> None:
        picture = self.sink.picture(0, 2 * HEARTBEAT_S, self._gone)
        if picture is None:
            raise Refusal(503, "no frame arrived within {:g} s".format(2 * HEARTBEAT_S))
        self._answer(200, "image/jpeg", picture[1])

    def _pictures(self, request: Request) -> None:
        number = 0
        self._watch(request, "pictures", "multipart/x-mixed-replace; boundary=picture", _NEXT_PICTURE)
        while self._watched():
            picture = self.sink.picture(number, HEARTBEAT_S, self._gone)
            if picture is not None:
                number, jpeg = picture
                # Firefox shows an image once it has seen the boundary after it, Chromium the next image's headers, so these are
                # sent right away: without the length, which is not known yet.
                self.client.send(jpeg + b"\r\n" + _NEXT_PICTURE)

    def _events(self, request: Request) -> None:
        self._watch(request, "events", "text/event-stream", b"retry: 1000\n\n")
        news, page = -1, self.client.page
        while self._watched():
            news = self.sink.wait(news, HEARTBEAT_S, self._gone)
            state = self.sink.state()
            if page:
                state["pictures"] = self.server.clients.shows(page)
            self.client.send(b"data: " + json.dumps(state).encode("ascii") + b"\n\n")
            self.client.pause(1.0 / EVENTS_PER_S)

    def _watch(self, request: Request, what: str, kind: str, first: bytes) -> None:
        if not self._head_only():
            self.server.clients.watch(self.client, what, request.argument(b"page") or b"")
        self._begin(200, kind, None, ("X-Accel-Buffering", "no"))  # else nginx buffers the stream
        if not self._head_only():
            self.client.send(first)

    def _watched(self) -> bool:
        """Return whether the client is still there, and gets a body."""
        return not (self._head_only() or self.sink.closed or self.client.left())

    def _gone(self) -> bool:
        return self.client.gone

    def _head_only(self) -> bool:
        return self.request is not None and self.request.method == "HEAD"

    def _refuse(self, refusal: Refusal) -> None:
        kind, body = "text/plain; charset=utf-8", (refusal.reason + "\n").encode("utf-8")
        if refusal.status == 401 and self.request is not None and self.request.path == "/":
            elsewhere = self.request.fields.get(b"sec-fetch-site") in ([b"cross-site"], [b"same-site"])
            kind, self.policy = "text/html; charset=utf-8", _DOOR_POLICY
            body = _DOOR % (_ONCE_MORE if elsewhere else b"", body)
        self._answer(refusal.status, kind, body, *refusal.headers)

    def _answer(self, status: int, kind: str, body: bytes, *headers: Header) -> None:
        self._begin(status, kind, len(body), *headers)
        if not self._head_only():
            self.client.send(body)

    def _begin(self, status: int, kind: str, length: Optional[int] = None, *headers: Header) -> None:
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


_ANSWERS = {
    "/": Exchange._page,
    "/picture.jpg": Exchange._picture,
    "/picture.mjpg": Exchange._pictures,
    "/state.json": Exchange._state,
    "/metrics": Exchange._metrics,
    _HEALTH: Exchange._health,
    "/events": Exchange._events,
}
