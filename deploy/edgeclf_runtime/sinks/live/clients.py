"""The live page's connections: how many there may be, how long each may take, and who has to go for another.

A connection waits for its request and answer, or it watches a stream of events or pictures; each kind has PLACES.
Whoever comes in gets a place: the one that is worth least to a viewer goes.  See :meth:`Places._least`.
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
from typing import List, Optional, Set

PLACES = 32  # of each kind; a page watches a stream of each
MAX_THREADS = 4 * PLACES  # those that are just ending included
REQUEST_TIMEOUT_S = 5.0  # from the connection to the end of the request, TLS handshake included
CLIENT_TIMEOUT_S = 10.0  # for an answer, or for the next picture of a stream
STALLED_S = 2.0  # a stream's client that takes longer to take a picture goes first
GOODBYE_S = 1.0  # for a refused client to read why
# More than the kernel holds back for a client that reads nothing, its side and ours: 2 x 212,992 and 2 x 131,072.
READER_BYTES = 1 << 20
_GRACE_S = 0.3  # a client's thread comes first to its deadline, and can say why it ends
_LEFT = getattr(select, "POLLRDHUP", 0x2000)
_RECEIVE_BYTES = 8192
_UNREAD_BYTES = 1 << 18


class Client:
    """One connection; used by its own thread, except :meth:`end`.

    connection  what is read and written: ``raw``, or TLS over it
    peer        the IP address that is connected, perhaps a proxy's
    address     the machine that it comes from: an IPv4 address, or the /64 network of an IPv6 address
    deadline    ``time.monotonic()`` at which it is ended, or None while nothing is expected of it
    watching    "events" or "pictures", or None before it watches a stream
    page        the page that it watches for, as the page calls itself
    sent        bytes that it was sent so far
    """

    def __init__(self, raw, address):
        self.raw = self.connection = raw
        self.peer = address
        self.address = machine(address)
        self.since = time.monotonic()
        self.deadline: Optional[float] = self.since + REQUEST_TIMEOUT_S
        self.watching: Optional[str] = None
        self.page = b""
        self.sent = 0
        self._ended = threading.Event()
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @property
    def gone(self):
        """Whether it was ended."""
        return self._ended.is_set()

    def pause(self, seconds):
        """Wait, but not longer than until it is ended."""
        self._ended.wait(seconds)

    def secure(self, context):
        """Shake hands for TLS, within the deadline."""
        # A duplicate, since SSLSocket.shutdown() is not safe beside a thread that writes: end() takes the other.
        self.connection = context.wrap_socket(self.raw.dup(), server_side=True, do_handshake_on_connect=False)
        self._limit()
        self.connection.do_handshake()

    def peek(self):
        """Return the first byte without taking it."""
        self._limit()
        return self.raw.recv(1, socket.MSG_PEEK)

    def receive(self):
        """Return the next bytes; none at the end.  Raises OSError, at the deadline socket.timeout."""
        self._limit()
        return self.connection.recv(_RECEIVE_BYTES)

    def _limit(self):
        self.connection.settimeout(max((self.deadline or 0) - time.monotonic(), 0.001))

    def expect(self, seconds):
        """End it unless what comes next is done in so many seconds."""
        self.deadline = time.monotonic() + seconds

    def send(self, data):
        """Send bytes within CLIENT_TIMEOUT_S, or raise OSError."""
        self.expect(CLIENT_TIMEOUT_S)
        if self.gone:
            raise ConnectionAbortedError("another client took the place")
        # The timeout is sendall's as a whole without TLS, and a part's with it; Places.expire() knows the deadline.
        self.connection.settimeout(CLIENT_TIMEOUT_S)
        self.connection.sendall(data)
        self.sent += len(data)
        if self.watching:
            self.deadline = None

    def left(self):
        """Whether it was ended, or the other side has closed it."""
        poll = select.poll()
        poll.register(self.raw, _LEFT)
        return self.gone or bool(poll.poll(0))

    def stalled(self, now):
        """Whether it watches and has not taken what it was sent for STALLED_S."""
        return bool(self.watching) and self.deadline is not None and self.deadline - now < CLIENT_TIMEOUT_S - STALLED_S

    def unread(self):
        """Whether the other side's machine has not taken all that was sent; of one that reads it soon has."""
        return struct.unpack("i", fcntl.ioctl(self.raw, termios.TIOCOUTQ, bytes(4)))[0] > 0

    def end(self):
        """Let every call of the client's thread return at once."""
        self._ended.set()
        with contextlib.suppress(OSError):  # the other side may have closed it
            self.raw.shutdown(socket.SHUT_RDWR)

    def say_goodbye(self):
        """Take what the other side still sends, a little: closing at once would take back the answer it has not read."""
        deadline = time.monotonic() + GOODBYE_S
        self.deadline = deadline
        self._finish()
        left = _UNREAD_BYTES
        while left > 0 and not self.gone:
            self.raw.settimeout(max(deadline - time.monotonic(), 0.001))
            taken = len(self.raw.recv(_UNREAD_BYTES))
            left -= taken or left

    def _finish(self):
        with contextlib.suppress(OSError, ValueError):
            if self.connection is not self.raw:
                self.connection.settimeout(0)
                self.connection.unwrap()  # says that the answer is complete, and does not wait for the other side's word
        with contextlib.suppress(OSError):
            self.raw.shutdown(socket.SHUT_WR)

    def close(self):
        """Close it; afterwards nobody may end it any more."""
        self._finish()
        self.connection.close()
        self.raw.close()


def machine(address):
    """Return what the connections of one machine have in common: it may have all addresses of an IPv6 network."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if ip.version == 6 and ip.ipv4_mapped:
        return str(ip.ipv4_mapped)
    return str(ip) if ip.version == 4 else str(ipaddress.ip_network((int(ip), 64), strict=False))


class Places:
    """The clients that are connected, and their threads; ``len()`` counts clients.

    wake        called when a client that may wait for news was ended
    """

    def __init__(self, wake):
        self._wake = wake
        self._closed = False
        self._clients: List[Client] = []
        self._threads: Set[threading.Thread] = set()
        self._changed = threading.Condition()

    def __len__(self):
        return len(self._clients)

    def enter(self, client, serve):
        """Call ``serve(client)`` in a thread of its own; returns False if there can be none."""
        thread = threading.Thread(target=self._run, args=(client, serve), name="live client", daemon=True)
        with self._changed:
            self._make_room(None)
            # They have been ended and do so in a moment; meanwhile the kernel keeps who comes.
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

    def _run(self, client, serve):
        try:
            serve(client)
        finally:
            with self._changed:
                if client in self._clients:
                    self._clients.remove(client)
            # Not before: a socket's number could be another's by the time that it is shut down.
            client.close()
            with self._changed:
                self._threads.discard(threading.current_thread())
                self._changed.notify_all()

    def shows(self, page):
        """Whether a client watches pictures for this page."""
        with self._changed:
            return any(client.watching == "pictures" and client.page == page for client in self._clients)

    def watch(self, client, kind, page):
        """Give a client, whose request is complete, a place among those that watch "events" or "pictures"."""
        with self._changed:
            if client in self._clients:
                self._make_room(kind)
                client.watching, client.page = kind, page

    def _make_room(self, kind):
        peers = [client for client in self._clients if client.watching == kind]
        if len(peers) >= PLACES:
            self._end(self._least(peers))

    @staticmethod
    def _least(peers):
        """Return the client that goes for another.

        First one that takes nothing of what it is sent; then one of the machine that has most; there one
        that has not proved yet that it reads, and seems not to; then the oldest.
        """
        now = time.monotonic()
        held = collections.Counter(client.address for client in peers)
        return max(
            peers,
            key=lambda client: (
                client.stalled(now),
                held[client.address],
                client.sent < READER_BYTES,
                client.unread(),
                -client.since,
            ),
        )

    def _end(self, client):
        self._clients.remove(client)
        client.end()
        self._wake()

    def expire(self):
        """End the clients whose deadline is over; called several times a second."""
        late = time.monotonic() - _GRACE_S
        with self._changed:
            for client in list(self._clients):
                if client.deadline is not None and client.deadline < late:
                    self._end(client)

    def close(self):
        """End every client, and let no other in; returns the threads that are about to end."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            for client in list(self._clients):
                self._end(client)
            return list(self._threads)
