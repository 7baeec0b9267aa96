"""Sends each event of a label to a web address, by POST, and tries again while it cannot be reached.

Each event stays on disk until the address has accepted it, so an outage or a restart loses none; after a crash some may be sent
twice: a receiver knows them by ``id`` and ``event``.
"""

import contextlib
import email.utils
import hashlib
import hmac
import http.client
import logging
import os
import socket
import ssl
import threading
import time
from typing import TYPE_CHECKING, Optional, Tuple, Union

from ... import __version__
from ...errors import OptionError, OutputError
from ...files.user_folders import state_folder
from ...text import addresses
from ..base import Sink, reason_of
from ..certificates import client_context, is_unverified
from ..mqtt.spool import Spool, open_spool
from ..outage import Outage

if TYPE_CHECKING:
    from ...results import LabelEvent, StreamResult

_log = logging.getLogger(__name__)
TIMEOUT_S = 10.0  # for a whole request: name, connection, answer
RETRY_S = 1.0, 60.0  # the first pause after a failure, and the longest
MOST_ASKED_S = 3600.0  # longest pause that a Retry-After gets
CLOSE_S = 0.9
FLUSH_S = 10.0  # without progress, at the end of a run
MAX_BYTES = 10_000_000
# Answers about the event itself: it would be refused again.
_REFUSALS = (400, 405, 406, 410, 411, 413, 414, 415, 422, 501)
CA = "--webhook-ca"
_FORM = "http://HOST[:PORT]/PATH or https://HOST[:PORT]/PATH"


class WebhookSink(Sink):
    """Posts each LabelEvent's JSON to an address; status 200 to 299 accepts it.

    url         http:// or https:// without a user; redirects are not followed
    secret      key of the signature; None: no signature
    spool       folder for events that are not delivered yet; by default one for this address in ~/.local/state/edgeclf
    max_bytes   of the spool; the oldest events are deleted and counted in ``losses``
    wait        True waits when the spool is full, instead of losing events: for sources that are not live
    ca          PEM file of the authorities that may sign the certificate of https://, in place of the system's

    With a secret, the header ``X-Hub-Signature-256`` is "sha256=" and the HMAC-SHA256 of the body in hexadecimal digits, as GitHub's
    webhooks have it.  Raises OutputError if the address is wrong or the spool cannot be written, OptionError if ``ca`` is wrong.
    """

    def __init__(
        self,
        url: str,
        secret: Optional[bytes] = None,
        spool: Optional[str] = None,
        max_bytes: int = MAX_BYTES,
        wait: bool = False,
        ca: Optional[str] = None,
    ) -> None:
        self._address, self._secret, self._wait = parse_url(url), secret, wait
        self._context = own_context(self._address, ca)
        # The path may be a secret, as it is for many chat programs.
        self.name = "the webhook at {}".format(_place(self._address))
        self._spool = Spool(spool, max_bytes) if spool else open_spool(_default_spool(url), max_bytes)
        self._spool.lose = self.lose
        self._outage, self._refusals = Outage(_log, self.name), Outage(_log, self.name)
        self._news, self._progress = threading.Event(), threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._deliver, name="webhook", daemon=True)
        self._news.set()  # what an earlier program has left
        self._thread.start()

    def write(self, item: "StreamResult") -> None:
        """Leave a result out: only events are sent."""

    def label_event(self, event: "LabelEvent") -> None:
        self._spool.append(event.to_json().encode("utf-8"), self._wait)
        self._news.set()

    def _deliver(self) -> None:
        while not self._closing.is_set():
            self._news.wait()
            self._news.clear()
            lines = self._spool.take()
            for line in lines:
                self._deliver_one(line)
                if self._closing.is_set():
                    return
            if lines:
                self._spool.discard()
                self._progress.set()
                self._news.set()  # there may be more

    def _deliver_one(self, line: bytes) -> None:
        """Send one event until it is accepted or refused, or the sink is closed."""
        pause_s = RETRY_S[0]
        while not self._closing.is_set():
            asked_s = 0.0
            try:
                status, where, asked_s = post(self._address, line, self._secret, self._context)
            except (OSError, http.client.HTTPException, ValueError) as error:
                kind, trouble = "away", "cannot be reached ({})".format(reason_of(error) or type(error).__name__)
                if is_unverified(error) and self._context is None:
                    trouble += ": give its authority's certificate with {}".format(CA)
            else:
                if 200 <= status < 300:
                    for outage in (self._outage, self._refusals):
                        outage.end("accepts events again")
                    return
                if status in _REFUSALS:
                    self._outage.end("answers again")
                    self._refusals.begin("refuses an event (status {}), which is lost".format(status), str(status))
                    self.lose("status {}".format(status))
                    return
                kind, trouble = str(status), "answers with status {}{}".format(status, where)
            self._outage.begin("{}; events wait in {}".format(trouble, self._spool.folder), kind)
            self._closing.wait(max(pause_s, asked_s))
            pause_s = min(2 * pause_s, RETRY_S[1])

    def flush(self) -> None:
        left, until = len(self._spool), time.monotonic() + FLUSH_S
        while left and not self._outage.lasts and time.monotonic() < until:
            self._progress.wait(0.1)
            self._progress.clear()
            if len(self._spool) != left:
                left, until = len(self._spool), time.monotonic() + FLUSH_S

    def close(self) -> None:
        if self._closing.is_set():
            return
        # An event that has just been written is usually delivered in this time.
        until = time.monotonic() + CLOSE_S
        while len(self._spool) and not self._outage.lasts and time.monotonic() < until:
            self._progress.wait(0.05)
            self._progress.clear()
        self._closing.set()
        self._news.set()
        self._thread.join(max(until - time.monotonic(), 0.05))
        self._spool.close()


def parse_url(url: str) -> addresses.Address:
    """Return the parts of a webhook's address; raises OutputError, without its path, if it is not one."""
    try:
        parsed = addresses.parse_address(url)
        reason = "" if parsed.scheme in ("http", "https") else "it does not have this form"
        if parsed.plain_user or parsed.plain_password:
            reason = "it must not contain a user"
        elif not all(32 < ord(letter) < 127 for letter in parsed.tail):
            reason = "spaces, and letters that are not ASCII, must be percent-encoded"
    except ValueError as error:
        reason = str(error)
    if reason:
        raise OutputError("the address of --webhook is not valid: {}; expected {}".format(reason, _FORM))
    return parsed


def own_context(address: addresses.Address, ca: Optional[str]) -> Optional[ssl.SSLContext]:
    """Return an ssl.SSLContext that trusts the user's own authorities, or None for the system's; OptionError for a wrong file."""
    if ca is None:
        return None
    if address.scheme != "https":
        raise OptionError(
            "{} is for encrypted connections, and the address of --webhook is {}: use https://, or leave {} out".format(
                CA, _place(address), CA
            )
        )
    return client_context(CA, ca)


def _place(address: addresses.Address) -> str:
    """Return scheme, host and port of an address."""
    port = "" if address.port is None else ":{}".format(address.port)
    return "{}://{}{}".format(address.scheme, address.host, port)


def _default_spool(url: str) -> str:
    state = state_folder()
    if state is None:
        raise OutputError("no folder is available for undelivered events: set XDG_STATE_HOME to a writable one")
    return os.path.join(state, "webhook", hashlib.sha256(url.encode("utf-8")).hexdigest()[:16])


def signature(secret: bytes, body: bytes) -> str:
    """Return the header value that proves that a body was sent by somebody who knows the secret."""
    return "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest()


def post(
    address: addresses.Address, body: bytes, secret: Optional[bytes], context: Optional[ssl.SSLContext] = None
) -> Tuple[int, str, float]:
    """Send a body; returns the status, for a redirect the words " (a redirect, which is not followed)", and the seconds to wait.

    context     as own_context() returns it

    Raises OSError or HTTPException if no connection, or no answer to it, comes within TIMEOUT_S, however slowly it comes.
    """
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "edgeclf/" + __version__,
        "Connection": "close",
    }
    if secret is not None:
        headers["X-Hub-Signature-256"] = signature(secret, body)
    connection = _connection(address, context)
    cut = threading.Event()
    late = threading.Timer(TIMEOUT_S, _cut, [connection, cut])
    late.daemon = True
    late.start()
    try:
        tail = address.tail.partition("#")[0]
        connection.request("POST", tail if tail.startswith("/") else "/" + tail, body, headers)
        answer = connection.getresponse()
        status, asked_s = answer.status, retry_after(answer.getheader("Retry-After"), time.time())
    finally:
        late.cancel()
        connection.close()
    if cut.is_set():  # the end of a connection looks like the end of an answer
        raise socket.timeout("its answer took longer than {:g} s".format(TIMEOUT_S))
    note = " (a redirect, which is not followed: name the address itself)" if 300 <= status < 400 else ""
    return status, note, asked_s


def retry_after(value: Optional[str], now: float) -> float:
    """Return the seconds of a header Retry-After (RFC 9110, 10.2.3), at most MOST_ASKED_S; 0 if there is none, or it is not valid.

    value       seconds, or a date
    now         seconds since 1970
    """
    text = (value or "").strip()
    if text.isdecimal():
        return min(float(text[:10]), MOST_ASKED_S)
    date = email.utils.parsedate_tz(text) if text else None
    try:
        return 0.0 if date is None else min(max(email.utils.mktime_tz(date) - now, 0.0), MOST_ASKED_S)
    except (ValueError, OverflowError):
        return 0.0


def _connection(
    address: addresses.Address, context: Optional[ssl.SSLContext]
) -> Union[http.client.HTTPConnection, http.client.HTTPSConnection]:
    if address.scheme == "https":
        # The system's authorities may be updated while the program runs.
        context = context or client_context(CA)
        return http.client.HTTPSConnection(address.plain_host, address.port, timeout=TIMEOUT_S, context=context)
    return http.client.HTTPConnection(address.plain_host, address.port, timeout=TIMEOUT_S)


def _cut(connection: http.client.HTTPConnection, cut: threading.Event) -> None:
    """End a connection that takes too long, so that its other thread goes on."""
    cut.set()
    sock = connection.sock
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
