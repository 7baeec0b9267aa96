"""Who may see the live page: the host names that it answers to, its token, its certificate.

Knows nothing of connections or pictures; raises Refusal for a request that is not granted.
"""

import collections
import hashlib
import hmac
import ipaddress
import re
import secrets
import socket
import threading
import time
from typing import Any, Dict, NamedTuple, Optional, Tuple
from urllib.parse import unquote_to_bytes

from ..credentials import LIVE as TOKEN_VARIABLE
from ..credentials import secret_bytes
from ..errors import OutputError
from ..files import read_bytes
from .live_http import Refusal

MAX_TOKEN_BYTES = 512
STRONG_TOKEN_BYTES = 16
TRIES = 10  # wrong tokens that one machine may try at once, and then
RECOVER_S = 5.0  # one more each so many seconds
_MACHINES = 1024  # whose wrong tokens are remembered
_MAX_PEM_BYTES = 1 << 20
_NAME = re.compile(r"[a-z0-9_]([a-z0-9_.-]{0,252}[a-z0-9_])?\Z")
_HOST = re.compile(r"(?P<host>\[[0-9a-f:.]+\]|[a-z0-9_.-]{1,253})(:[0-9]{1,5})?\Z")
_NO_TOKEN = (
    "a token is needed: open the address that was printed when the program started, or add ?token=TOKEN to this one"
)


class Access(NamedTuple):
    """What the user decided about who may see the page.

    token       what a visitor must know, or None: one is made where the page is for a network
    names       host names that it answers to, besides this machine's own
    public      without a token, even for a network
    tls         ssl.SSLContext for https, or None
    """

    token: Optional[bytes] = None
    names: Tuple[str, ...] = ()
    public: bool = False
    tls: Any = None


def open_access(token_file=None, names=(), public=False, certificate=None, key=None):
    """Return the Access that a command line asks for; the token may stand in EDGECLF_LIVE_TOKEN too.

    Raises OutputError for what cannot be used.
    """
    token = _read_token(token_file)
    if public and token is not None:
        raise OutputError(
            "--live-open shows the page without a token, but {} gives one: leave one of them out".format(
                "--live-token-file" if token_file else TOKEN_VARIABLE
            )
        )
    return Access(token, tuple(map(host_name, names)), public, open_tls(certificate, key))


def host_name(name):
    """Return a host name as a browser sends it; raises OutputError for what is none."""
    try:
        ascii_name = name.rstrip(".").encode("idna").decode("ascii").lower()
    except UnicodeError:
        ascii_name = ""
    if not _NAME.match(ascii_name):
        raise OutputError(
            "--live-name {!r} is not a host name: give one such as camera.example.com, without http:// and port".format(
                name
            )
        )
    return ascii_name


def _read_token(path):
    """Return the token of a file or of the environment as bytes, or None."""
    if path is not None:
        source, advice = "--live-token-file {}".format(path), "write one line of up to {} bytes".format(MAX_TOKEN_BYTES)
        try:
            token = read_bytes(path, MAX_TOKEN_BYTES + 2)
        except OSError as error:
            raise OutputError("{} cannot be read ({}): name a file with the token".format(source, error.strerror))
        except ValueError as error:
            raise OutputError("{} is {}: {}".format(source, error, advice))
        token = token[:-1] if token.endswith(b"\n") else token
        token = token[:-1] if token.endswith(b"\r") else token
    else:
        source, advice = TOKEN_VARIABLE, "set it to one line of up to {} bytes, or unset it".format(MAX_TOKEN_BYTES)
        token = secret_bytes(TOKEN_VARIABLE)
        if token is None:
            return None
    # The token itself is never quoted.
    if not token.strip() or token != token.strip() or re.search(rb"[\x00-\x1f\x7f]", token):
        raise OutputError("{} holds no token (empty, blanks around it, or several lines): {}".format(source, advice))
    if len(token) > MAX_TOKEN_BYTES:
        raise OutputError("{} is larger than {} bytes: {}".format(source, MAX_TOKEN_BYTES, advice))
    return token


def open_tls(certificate, key):
    """Return an ssl.SSLContext for TLS 1.2 and later from two PEM files, or None for none; raises OutputError."""
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise OutputError("https needs both --live-cert and --live-key: give the certificate and its key, in PEM")
    _check_pem("--live-cert", certificate, rb"-----BEGIN CERTIFICATE-----", "a certificate")
    _check_pem(
        "--live-key", key, rb"-----BEGIN (?!ENCRYPTED)([A-Z]+ )?PRIVATE KEY-----", "a private key without a password"
    )
    try:
        import ssl
    except ImportError as error:
        raise OutputError("this Python has no TLS ({}): leave --live-cert and --live-key out".format(error))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if hasattr(context, "minimum_version"):
        context.minimum_version = ssl.TLSVersion.TLSv1_2
    else:  # Python 3.6
        context.options |= ssl.OP_NO_SSLv3 | ssl.OP_NO_TLSv1 | ssl.OP_NO_TLSv1_1
    context.options |= getattr(ssl, "OP_NO_RENEGOTIATION", 0)
    try:
        # A key with a password would make OpenSSL ask the terminal.
        context.load_cert_chain(str(certificate), str(key), password=lambda: "")
    except (OSError, ValueError) as error:  # SSLError is an OSError
        reason = getattr(error, "reason", None) or str(error)
        what = "are not a pair" if reason == "KEY_VALUES_MISMATCH" else "cannot be used ({})".format(reason)
        raise OutputError(
            "--live-cert {} and --live-key {} {}: give a certificate and its own key, in PEM".format(
                certificate, key, what
            )
        )
    return context


def _check_pem(option, path, begin, what):
    try:
        data = read_bytes(path, _MAX_PEM_BYTES)
    except OSError as error:
        raise OutputError("{} {} cannot be read ({}): name a PEM file".format(option, path, error.strerror))
    except ValueError as error:
        raise OutputError("{} {} is {}: name a PEM file".format(option, path, error))
    if not re.search(begin, data):
        raise OutputError("{} {} holds no {} in PEM: name a file with {}".format(option, path, what[2:], what))


class Gate:
    """Decides about each request of one page.

    access      an Access
    host        the name or address that the page was asked to listen on
    loopback    whether only this machine can reach it
    port        that it listens on

    made        the token that was made for it, as text, or None: it is the user's or there is none
    """

    def __init__(self, access, host, loopback, port):
        self.loopback = loopback
        self.made = None if access.token or access.public or loopback else secrets.token_urlsafe(18)
        self._token = access.token or (self.made.encode("ascii") if self.made else None)
        self._cookie_name = "edgeclf_live_{}".format(port).encode("ascii")  # a browser's cookies know no port
        self._cookie = self._make_cookie()
        self._secure = access.tls is not None
        self._names = {"localhost"}.union(access.names)
        if not loopback:
            own = socket.gethostname().lower()
            self._names.update((own, own.split(".")[0], own.split(".")[0] + ".local", host.lower()))
        self._tries = _Tries()

    @property
    def guarded(self):
        """Whether a token is needed."""
        return self._token is not None

    def _make_cookie(self):
        if self._token is None:
            return b""
        # Pages that stay open go on after a restart.  A short token could be guessed from such a cookie, and
        # wrong cookies are not counted: old ones are no attack.
        key = self._token if len(self._token) >= STRONG_TOKEN_BYTES else secrets.token_bytes(32)
        return hmac.new(key, b"edgeclf live page", hashlib.sha256).hexdigest().encode("ascii")

    def check_host(self, request, url):
        """Raise a Refusal unless the request is for a name of this page: another site's may lead here (DNS rebinding)."""
        value = request.field(b"host")
        if value is None:
            raise Refusal(400, "the header Host was expected")
        match = _HOST.match(value.decode("latin-1").lower())
        host = match.group("host").rstrip(".") if match else ""
        if host in self._names or _is_address(host, self.loopback):
            return
        if self.loopback:
            raise Refusal(403, "this page is for this machine alone: open {}".format(url))
        advice = ", or start it with --live-name {}".format(host) if _NAME.match(host) else ""
        raise Refusal(403, "this page does not answer to that host name: open {}{}".format(url, advice))

    def check_site(self, request, navigable):
        """Raise a Refusal if another site's page asks.

        navigable   whether a link of another site may lead here
        """
        if navigable and request.field(b"sec-fetch-mode") in (None, b"navigate"):
            return
        origin, host = request.field(b"origin"), request.field(b"host") or b""
        if request.field(b"sec-fetch-site") not in (None, b"same-origin", b"none") or (
            origin is not None and origin.partition(b"://")[2].lower() != host.lower()
        ):
            raise Refusal(403, "another site's page asked for this: open the live page itself")

    def admit(self, request, address):
        """Check that a visitor knows the token; returns whether it came in the URL, where it must not stay.

        Raises Refusal without it, and for more wrong ones than TRIES from one machine.
        """
        if not self._token:
            return False
        offered = _offered(request)
        if not self._has_cookie(request):
            bearer = _bearer(request)
            tokens = [token for token in (bearer,) + offered if token is not None]
            if not tokens:
                raise Refusal(401, _NO_TOKEN, ("WWW-Authenticate", "Bearer"))
            self._tries.begin(address)
            if not any(hmac.compare_digest(token, self._token) for token in tokens):
                raise Refusal(401, "that is not the token. " + _NO_TOKEN, ("WWW-Authenticate", "Bearer"))
            self._tries.forgive(address)
        return bool(offered)

    def _has_cookie(self, request):
        found = False
        for pair in b";".join(request.fields.get(b"cookie", [])).split(b";"):
            name, _, value = pair.partition(b"=")
            if name.strip(b" \t") == self._cookie_name:
                found |= hmac.compare_digest(value.strip(b' \t"'), self._cookie)
        return found

    def cookie(self):
        """Return the header that makes a browser remember that it brought the token."""
        text = "{}={}; Path=/; HttpOnly; SameSite=Strict{}".format(
            self._cookie_name.decode("ascii"), self._cookie.decode("ascii"), "; Secure" if self._secure else ""
        )
        return "Set-Cookie", text


def _is_address(host, loopback):
    """Whether a host is an IP address, where no name can lead elsewhere; of a page for this machine, its own."""
    try:
        ip = ipaddress.ip_address(host[1:-1] if host.startswith("[") else host)
    except ValueError:
        return False
    return (ip.version == 6) == host.startswith("[") and (ip.is_loopback or not loopback)


def _offered(request):
    """Return what a URL's first ?token= may mean: a form writes a blank as +, a person a + as it is."""
    value = request.argument(b"token")
    return () if value is None else (unquote_to_bytes(value), unquote_to_bytes(value.replace(b"+", b" ")))


def _bearer(request):
    scheme, _, value = (request.field(b"authorization") or b"").partition(b" ")
    return value.strip(b" ") if scheme.lower() == b"bearer" else None


class _Tries:
    """Wrong tokens, by machine: one that tries many has to wait, and only that one."""

    def __init__(self):
        self._left: Dict[str, Tuple[float, float]] = collections.OrderedDict()
        self._lock = threading.Lock()

    def begin(self, address):
        """Count a try, before it is known whether it is right; raises Refusal if the machine has none left."""
        now = time.monotonic()
        with self._lock:
            left, since = self._left.pop(address, (TRIES, now))
            left = min(left + (now - since) / RECOVER_S, TRIES)
            if len(self._left) >= _MACHINES:
                del self._left[next(iter(self._left))]
            self._left[address] = (left - 1 if left >= 1 else left, now)
        if left < 1:
            wait_s = int((1 - left) * RECOVER_S) + 1
            raise Refusal(429, "too many wrong tokens: try again in {} s".format(wait_s), ("Retry-After", str(wait_s)))

    def forgive(self, address):
        """Take a try back: the token was right."""
        with self._lock:
            left, since = self._left.pop(address, (TRIES, 0.0))
            self._left[address] = (min(left + 1, TRIES), since)
