"""Manages the live page's connections: how many there may be, how long each may take, and which one makes room.

A connection waits for its request and answer, or it watches a stream of events or images; there are PLACES of each kind.
A newcomer is always admitted: the connection that matters least is closed.  See :meth:`Places._least`.
"""

import collections
import contextlib
import fcntl
import ipaddress
import select
import socket
import struct
import termios
import threading
import time
from typing import TYPE_CHECKING, Callable, List, Optional, Sequence, Set

if TYPE_CHECKING:
    import ssl

PLACES = 32  # of each kind; a page watches a stream of each
MAX_THREADS = 4 * PLACES  # including those that are about to end
REQUEST_TIMEOUT_S = 5.0  # from the connection to the end of the request, TLS handshake included
CLIENT_TIMEOUT_S = 10.0  # for an answer, or for the next image of a stream
STALLED_S = 2.0  # a stream's client that takes longer for an image is closed first
GOODBYE_S = 1.0  # for a refused client to read the reason
# More than both kernels buffer for a client that reads nothing: 2 x 212,992 and 2 x 131,072 bytes.
READER_BYTES = 1 << 20
_GRACE_S = 0.3  # lets a client's own thread notice its deadline first and report it
_LEFT = getattr(select, "POLLRDHUP", 0x2000)
_RECEIVE_BYTES = 8192
_UNREAD_BYTES = 1 << 18


class Client:
    """One connection; used only by its own thread, except :meth:`end`.

    connection  the socket to read and write: ``raw``, or TLS over it
    peer        the connected IP address, perhaps a proxy's
    address     the machine it comes from: an IPv4 address, or the /64 network of an IPv6 address
    deadline    ``time.monotonic()`` at which it is closed, or None while nothing is expected of it
    watching    "events" or "pictures", or None before it watches a stream
    page        the page that it watches for, by the id that the page gives itself
    sent        number of bytes sent to it so far
    answered    whether it only has to read its answer
    """

    def __init__(self, raw: socket.socket, address: str) -> None:
        self.raw = raw
        self.connection = raw
        self._tls: "Optional[ssl.SSLSocket]" = None
        self.peer = address
        self.address = machine(address)
        self.since = time.monotonic()
        self.deadline: Optional[float] = self.since + REQUEST_TIMEOUT_S
        self.watching: Optional[str] = None
        self.page = b""
        self.sent = 0
        self.answered = False
        self._ended = threading.Event()
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @property
    def gone(self) -> bool:
        """True if it was closed by another thread."""
        return self._ended.is_set()

    def pause(self, seconds: float) -> None:
        """Wait, but stop waiting when it is closed."""
        self._ended.wait(seconds)

    def secure(self, context: "ssl.SSLContext") -> None:
        """Do the TLS handshake, within the deadline."""
        # On a duplicate, because SSLSocket.shutdown() is not safe while another thread writes: end() uses the original.
        tls = context.wrap_socket(self.raw.dup(), server_side=True, do_handshake_on_connect=False)
        self.connection = self._tls = tls
        self._limit()
        tls.do_handshake()

    def peek(self) -> bytes:
        """Return the first byte without taking it."""
        self._limit()
        return self.raw.recv(1, socket.MSG_PEEK)

    def receive(self) -> bytes:
        """Return the next bytes, b"" at the end.  Raises OSError, and socket.timeout at the deadline."""
        self._limit()
        return self.connection.recv(_RECEIVE_BYTES)

    def _limit(self) -> None:
        self.connection.settimeout(max((self.deadline or 0) - time.monotonic(), 0.001))

    def expect(self, seconds: float) -> None:
        """Close it unless what comes next is done within this time."""
        self.deadline = time.monotonic() + seconds

    def send(self, data: bytes) -> None:
        """Send bytes within CLIENT_TIMEOUT_S, or raise OSError."""
        self.expect(CLIENT_TIMEOUT_S)
        if self.gone:
            raise ConnectionAbortedError("another client took the place")
        # Without TLS the timeout covers all of sendall, with TLS each part; Places.expire() enforces the deadline.
        self.connection.settimeout(CLIENT_TIMEOUT_S)
        self.connection.sendall(data)
        self.sent += len(data)
        if self.watching:
            self.deadline = None

    def left(self) -> bool:
        """Return whether it was closed, by either side."""
        poll = select.poll()
        poll.register(self.raw, _LEFT)
        return self.gone or bool(poll.poll(0))

    def stalled(self, now: float) -> bool:
        """Return whether it watches a stream and has not read what was sent for STALLED_S."""
        return bool(self.watching) and self.deadline is not None and self.deadline - now < CLIENT_TIMEOUT_S - STALLED_S

    def unread(self) -> bool:
        """Return whether the other machine has not received everything yet; one that reads soon has."""
        return bool(struct.unpack("i", fcntl.ioctl(self.raw, termios.TIOCOUTQ, bytes(4)))[0] > 0)

    def end(self) -> None:
        """Make every call of the client's thread return at once."""
        self._ended.set()
        with contextlib.suppress(OSError):  # the other side may have closed it
            self.raw.shutdown(socket.SHUT_RDWR)

    def say_goodbye(self, most_bytes: int = _UNREAD_BYTES, seconds: float = GOODBYE_S) -> None:
        """Read so much of what still arrives: closing immediately would discard the answer before it is read."""
        deadline = time.monotonic() + seconds
        self.deadline, self.answered = deadline, True
        self._finish()
        left = most_bytes
        while left > 0 and not self.gone:
            self.raw.settimeout(max(deadline - time.monotonic(), 0.001))
            taken = len(self.raw.recv(_UNREAD_BYTES))
            left -= taken or left

    def _finish(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            if self._tls is not None:
                self._tls.settimeout(0)
                self._tls.unwrap()  # tells the other side that the answer is complete, without waiting for its reply
        with contextlib.suppress(OSError):
            self.raw.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close it; no other thread may call end() afterwards."""
        self._finish()
        self.connection.close()
        self.raw.close()


def machine(address: str) -> str:
    """Return what identifies a machine's connections: it may own all addresses of an IPv6 network."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if ip.version == 6 and ip.ipv4_mapped:
        return str(ip.ipv4_mapped)
    return str(ip) if ip.version == 4 else str(ipaddress.ip_network((int(ip), 64), strict=False))


class Places:
    """The connected clients and their threads; ``len()`` counts clients.

    wake        function that is called when a client was closed that may be waiting for news
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._closed = False
        self._clients: List[Client] = []
        self._threads: Set[threading.Thread] = set()
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return len(self._clients)

    def enter(self, client: Client, serve: Callable[[Client], None]) -> bool:
        """Call ``serve(client)`` in a thread of its own; returns False if that is not possible."""
        thread = threading.Thread(target=self._run, args=(client, serve), name="live client", daemon=True)
        with self._changed:
            self._make_room(None)
            # Threads of closed clients end in a moment; meanwhile new connections wait in the kernel.
            self._changed.wait_for(lambda: self._closed or len(self._threads) < MAX_THREADS)
            if self._closed:
                return False
            self._clients.append(client)
            self._threads.add(thread)
            try:
                thread.start()
            except RuntimeError:  # the machine has no thread left
                self._clients.remove(client)
                self._threads.discard(thread)
                return False
        return True

    def _run(self, client: Client, serve: Callable[[Client], None]) -> None:
        try:
            serve(client)
        finally:
            with self._changed:
                if client in self._clients:
                    self._clients.remove(client)
            # Only now: until it was removed, another thread could have shut down a reused socket number.
            client.close()
            with self._changed:
                self._threads.discard(threading.current_thread())
                self._changed.notify_all()

    def shows(self, page: bytes) -> bool:
        """Return whether a client watches images for this page."""
        with self._changed:
            return any(client.watching == "pictures" and client.page == page for client in self._clients)

    def watch(self, client: Client, kind: str, page: bytes) -> None:
        """Count a client, whose request is complete, among those that watch "events" or "pictures"."""
        with self._changed:
            if client in self._clients:
                self._make_room(kind)
                client.watching, client.page = kind, page

    def _make_room(self, kind: Optional[str]) -> None:
        peers = [client for client in self._clients if client.watching == kind]
        if len(peers) >= PLACES:
            self._end(self._least(peers))

    @staticmethod
    def _least(peers: Sequence[Client]) -> Client:
        """Return the client to close for a newcomer.

        First one that does not read what it is sent; then one of the machine with the most connections; among those, one
        that was answered, or has not read much yet and seems to have stopped; then the oldest.
        """
        now = time.monotonic()
        held = collections.Counter(client.address for client in peers)
        return max(
            peers,
            key=lambda client: (
                client.stalled(now),
                held[client.address],
                client.answered,
                client.sent < READER_BYTES,
                client.unread(),
                -client.since,
            ),
        )

    def _end(self, client: Client) -> None:
        self._clients.remove(client)
        client.end()
        self._wake()

    def expire(self) -> None:
        """Close the clients whose deadline has passed; called several times a second."""
        late = time.monotonic() - _GRACE_S
        with self._changed:
            for client in list(self._clients):
                if client.deadline is not None and client.deadline < late:
                    self._end(client)

    def close(self) -> List[threading.Thread]:
        """Close every client and admit no others; returns the threads that are about to end."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            for client in list(self._clients):
                self._end(client)
            return list(self._threads)
