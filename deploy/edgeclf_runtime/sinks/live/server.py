"""The live page's HTTP server, from the standard library only: the page, its images, its state.

It listens on this machine only unless a host is given, answers GET and HEAD for clients that know the token, and keeps
other web sites' pages out.  LiveSink provides the images and the state.
"""

import contextlib
import errno
import ipaddress
import logging
import os
import re
import socket
import socketserver
import threading
import time
from typing import TYPE_CHECKING, Any, Dict, Iterator, NamedTuple, Optional, Tuple

from ...errors import OutputError, Unavailable
from .access import Access, Gate
from .clients import Client, Places
from .exchange import Exchange, policy_of
from .http import Request
from .overview import PREFIX
from .routes import CAMERA, OVERVIEW, Routes

if TYPE_CHECKING:
    from .sink import LiveSink

CLOSE_TIMEOUT_S = 1.0
# What the kernel may buffer for a slow client: about one image, so that the next one is recent.
_SEND_BUFFER_BYTES = 1 << 17
_FOLDER = os.path.dirname(os.path.abspath(__file__))
_ADDRESS = re.compile(r"(?:(?P<host>\[[^\]]+\]|[^:\[\]]*):)?(?P<port>[0-9]{1,5})\Z")
_REFUSED = {
    errno.EADDRINUSE: "another program is using that port; stop it, or choose another port",
    errno.EADDRNOTAVAIL: "this machine does not have that address; choose one of its own, or 0.0.0.0 for all of them",
    errno.EACCES: "only root may use ports below 1024; choose one from 1024 to 65535",
}
_LATER = (errno.EADDRINUSE, errno.EADDRNOTAVAIL)
_log = logging.getLogger(__name__)


class LivePage:
    """The live page's server, which listens as long as the sink of a camera is on it, or it is held.

    address, access     see LiveSink
    several             whether its first page is that of all cameras, even while there is only one
    """

    def __init__(self, address: str, access: Optional[Access] = None, several: bool = False) -> None:
        self._address, self._access, self.several = address, access, several
        self._server: "Optional[Server]" = None
        self._sinks: "Dict[str, LiveSink]" = {}
        self._lock = threading.Lock()
        self._held = False

    def join(self, name: str, sink: "LiveSink") -> "Tuple[Server, bool]":
        """Serve the sink of a camera; its address is PREFIX and its name if it has one.  Returns the server, and whether it is new.

        Raises OutputError as listen() does.
        """
        with self._lock:
            is_new = self._server is None
            if self._server is None:
                self._server = listen(self._address, self, self._access)
            self._sinks = dict(self._sinks, **{name: sink})
            return self._server, is_new

    def leave(self, name: str) -> None:
        """Serve the sink of a camera no longer; with the last one, the server stops."""
        with self._lock:
            self._sinks = {other: sink for other, sink in self._sinks.items() if other != name}
        self._stop_if_unused()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """During the block, go on without sinks: the token of a new server could be another one."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
            self._stop_if_unused()

    def _stop_if_unused(self) -> None:
        with self._lock:
            if self._sinks or self._held or self._server is None:
                return
            server, self._server = self._server, None
        server.stop()

    def cameras(self) -> "Dict[str, LiveSink]":
        """Return the sinks by the names of their cameras."""
        return self._sinks


class Html(NamedTuple):
    """A page, and the Content-Security-Policy that it is sent with."""

    text: bytes
    policy: str


def read_html(name: str) -> Html:
    """Read a page of this folder."""
    with open(os.path.join(_FOLDER, name), "rb") as stream:
        text = stream.read()
    return Html(text, policy_of(text))


def listen(address: str, page: LivePage, access: Optional[Access] = None) -> "Server":
    """Start serving the sinks of a LivePage, and return the server; see LiveSink for ``address``.

    Raises OutputError if the address is not valid, or cannot be listened on.
    """
    host, port = page_address(address)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, _, _, _, bound = min(found, key=lambda entry: entry[0] != socket.AF_INET)
        server = Server(family, bound, page, access or Access(), host)
    except (OSError, UnicodeError) as error:
        reason = _REFUSED.get(getattr(error, "errno", 0), "{}; choose another address".format(error))
        # An address appears with its network, and a port becomes free when its last user ends.
        later = getattr(error, "errno", 0) in _LATER or isinstance(error, socket.gaierror)
        text = "the live page cannot listen on port {} of {}: {}".format(port, host, reason)
        raise Unavailable(text) if later else OutputError(text)
    if not server.loopback and not server.gate.guarded:
        _log.warning("anyone on the network who opens %s can see this camera", server.url)
    elif not server.loopback and not server.secure:
        _log.warning(
            "%s is not encrypted: anyone who can read the network's traffic sees the token and the images; "
            "use --live-cert and --live-key to encrypt it",
            server.url,
        )
    return server


def page_address(address: str) -> Tuple[str, int]:
    """Return the host and port of ``[HOST:]PORT``; raises OutputError if it has another form."""
    match = _ADDRESS.match(str(address))
    if not match or int(match.group("port")) > 65535:
        raise OutputError(
            "{!r} is not an address for the live page: give :8080 for this machine only, "
            "or HOST:8080 (0.0.0.0:8080 for every network)".format(address)
        )
    return (match.group("host") or "127.0.0.1").strip("[]"), int(match.group("port"))


class Server(socketserver.TCPServer):
    """Serves each client in its own thread, at ``url``, until :meth:`stop`.

    invitation  the ``url`` to show to the user: with the token, if one was generated
    """

    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, family: int, address: Tuple[Any, ...], live: LivePage, access: Access, host: str) -> None:
        self.address_family, self._live, self.tls = family, live, access.tls
        self.page, self.overview = read_html("live.html"), read_html("overview.html")
        self.clients = Places(self._wake)
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

    def cameras(self) -> "Dict[str, LiveSink]":
        """Return the sinks by the names of their cameras."""
        return self._live.cameras()

    def place(self, request: Request) -> "Tuple[Request, Routes, Optional[LiveSink]]":
        """Return the request as the camera that it is for has it, that camera's routes, and its sink.

        Without a camera, the routes are those about all cameras, or none if there is no such camera.
        """
        sinks = self.cameras()
        if request.path.startswith(PREFIX):
            name, slash, path = request.path[len(PREFIX) :].partition("/")
            sink = sinks.get(name) if slash and name else None
            return (request, {}, None) if sink is None else (request._replace(path="/" + path), CAMERA, sink)
        if len(sinks) > 1 or self._live.several:
            return request, OVERVIEW, None
        return request, CAMERA, next(iter(sinks.values()), None)

    def _wake(self) -> None:
        for sink in self.cameras().values():
            sink.wake()

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        super().server_bind()

    def get_request(self) -> Tuple["socket.socket", Any]:
        try:
            return super().get_request()
        except OSError:
            time.sleep(0.05)  # out of file descriptors: the connection still waits, so select() returns immediately
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        try:
            if self.clients.enter(Client(request, client_address[0]), self._serve):
                return
        except OSError:
            pass  # the client went away
        request.close()

    def service_actions(self) -> None:
        self.clients.expire()

    def _serve(self, client: Client) -> None:
        try:
            Exchange(self, client).answer()
        except OSError:
            pass  # the client went away, or was closed
        except Exception:
            _log.exception("the live page failed to answer a request")

    def stop(self) -> None:
        """Close every connection, and wait for the server's thread, and at most CLOSE_TIMEOUT_S for its clients' threads."""
        deadline = time.monotonic() + CLOSE_TIMEOUT_S
        threads = self.clients.close()
        self.shutdown()
        self.server_close()
        self._thread.join()  # it has nothing more to do, so it ends at once
        for thread in threads:
            thread.join(max(deadline - time.monotonic(), 0))
