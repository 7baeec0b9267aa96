"""Decides who may see the live page, by host name, token and origin of each request.

A request that is not allowed raises a Refusal.
"""

import collections
import hashlib
import hmac
import ipaddress
import logging
import re
import secrets
import socket
import threading
import time
from typing import TYPE_CHECKING, Dict, Iterable, NamedTuple, Optional, Set, Tuple
from urllib.parse import unquote_to_bytes

from ...errors import OptionError
from .http import Refusal, Request
from .secrets import TOKEN_VARIABLE, open_tls, read_token

if TYPE_CHECKING:
    import os
    import ssl
    from typing import Union

    Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]
    PathLike = Union[str, "os.PathLike[str]"]

_log = logging.getLogger(__name__)
STRONG_TOKEN_BYTES = 16
TRIES = 10  # wrong tokens that one machine may try in a row, and then
RECOVER_S = 5.0  # one more each time this many seconds have passed
_MACHINES = 1024  # number of machines whose wrong tokens are remembered
_LOGGED_NAMES = 3
_NAME = re.compile(r"[a-z0-9_]([a-z0-9_.-]{0,252}[a-z0-9_])?\Z")
_HOST = re.compile(r"(?P<host>\[[0-9a-f:.]+\]|[a-z0-9_.-]{1,253})(:[0-9]{1,5})?\Z")
_NO_TOKEN = (
    "a token is required: open the address that was printed when the program started, or add ?token=TOKEN to this one"
)


class Access(NamedTuple):
    """The user's decisions about who may see the page.

    token       what a visitor must know; None makes one if a network reaches the page
    names       host names that it answers to, besides this machine's own
    public      True needs no token, even from a network
    tls         ssl.SSLContext for https, or None
    proxies     networks (``ipaddress``) of proxies whose X-Forwarded-For and X-Forwarded-Proto are trusted; with one, the
                page counts as reachable from a network
    """

    token: Optional[bytes] = None
    names: Tuple[str, ...] = ()
    public: bool = False
    tls: "Optional[ssl.SSLContext]" = None
    proxies: "Tuple[Network, ...]" = ()


def open_access(
    token_file: "Optional[PathLike]" = None,
    names: Iterable[str] = (),
    public: bool = False,
    certificate: "Optional[PathLike]" = None,
    key: "Optional[PathLike]" = None,
    proxies: Iterable[str] = (),
) -> Access:
    """Return the Access for command line options; the token may also be in EDGECLF_LIVE_TOKEN.

    Raises OptionError if an option cannot be used.
    """
    token = read_token(token_file)
    if public and token is not None:
        raise OptionError(
            "--live-open shows the page without a token, but {} sets one: leave out one of them".format(
                "--live-token-file" if token_file else TOKEN_VARIABLE
            )
        )
    return Access(
        token, tuple(map(host_name, names)), public, open_tls(certificate, key), tuple(map(_proxy_network, proxies))
    )


def _proxy_network(text: str) -> "Network":
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise OptionError(
            "--live-proxy {!r} is not an IP address ({}): give the proxy's address, such as 127.0.0.1".format(
                text, error
            )
        )


def host_name(name: str) -> str:
    """Return a host name as browsers send it; raises OptionError if it is not one."""
    try:
        ascii_name = name.rstrip(".").encode("idna").decode("ascii").lower()
    except UnicodeError:
        ascii_name = ""
    if not _NAME.match(ascii_name):
        raise OptionError(
            "--live-name {!r} is not a host name: give one such as camera.example.com, without http:// or a port".format(
                name
            )
        )
    return ascii_name


class Gate:
    """Decides about each request to one page.

    access      an Access
    host        the name or address that the page was asked to listen on
    loopback    whether only this machine can reach it
    port        that it listens on

    made        the token that was generated for it, as text; None if the user gave one or there is none
    """

    def __init__(self, access: Access, host: str, loopback: bool, port: int) -> None:
        self._proxies = access.proxies
        self._local = loopback and not access.proxies  # reachable from this machine only
        self.made = None if access.token or access.public or self._local else secrets.token_urlsafe(18)
        self._token = access.token or (self.made.encode("ascii") if self.made else None)
        self._cookie_name = "edgeclf_live_{}".format(port).encode("ascii")  # browsers share cookies between ports
        self._cookie = self._make_cookie()
        self._secure = access.tls is not None
        self._names = {"localhost"}.union(access.names)
        if not loopback:
            own = socket.gethostname().lower()
            self._names.update((own, own.split(".")[0], own.split(".")[0] + ".local", host.lower()))
        self._refused: Set[str] = set()
        self._tries = _Tries()

    @property
    def guarded(self) -> bool:
        """True if a token is required."""
        return self._token is not None

    def _make_cookie(self) -> bytes:
        if self._token is None:
            return b""
        # Derived from the token, so that open pages keep working after a restart.  Not from a short token, which could
        # be guessed from the cookie: wrong cookies are not counted, because old ones are not an attack.
        key = self._token if len(self._token) >= STRONG_TOKEN_BYTES else secrets.token_bytes(32)
        return hmac.new(key, b"edgeclf live page", hashlib.sha256).hexdigest().encode("ascii")

    def check_host(self, request: Request, url: str) -> None:
        """Raise a Refusal unless the request names this page's host: another site's name can be made to lead here (DNS rebinding)."""
        value = request.field(b"host")
        if value is None:
            raise Refusal(400, "the Host header is missing")
        match = _HOST.match(value.decode("latin-1").lower())
        host = match.group("host").rstrip(".") if match else ""
        if host in self._names or _is_address(host, self._local):
            return
        advice = ", or start the program with --live-name {}".format(host) if _NAME.match(host) else ""
        if self._local:
            self._log_name(host)
            raise Refusal(403, "this page is available on this machine only: open {}".format(url))
        raise Refusal(403, "this page does not answer to that host name: open {}{}".format(url, advice))

    def _log_name(self, host: str) -> None:
        """Explain --live-name to the user who started the page, not to the visitor."""
        if _NAME.match(host) and host not in self._refused and len(self._refused) < _LOGGED_NAMES:
            self._refused.add(host)
            _log.warning(
                "refused a request for the live page as %s; if it came from your proxy, allow it with --live-name %s",
                host,
                host,
            )

    def check_site(self, request: Request, navigable: bool) -> None:
        """Raise a Refusal if another site's page sent the request.

        navigable   whether other sites may link here
        """
        if navigable and request.field(b"sec-fetch-mode") in (None, b"navigate"):
            return
        site = request.field(b"sec-fetch-site")
        if site is None:  # compared only if the browser sends no Sec-Fetch-Site, because a proxy may change Host
            origin, host = request.field(b"origin"), request.field(b"host") or b""
            own = origin is None or origin.partition(b"://")[2].lower() == host.lower()
        else:
            own = site in (b"same-origin", b"none")
        if not own:
            raise Refusal(403, "this request came from another site's page: open the live page itself")

    def visitor(self, request: Request, address: str) -> str:
        """Return the visitor's address: behind trusted proxies, the last address in X-Forwarded-For that is not one of them."""
        values = b",".join(request.fields.get(b"x-forwarded-for", [])).decode("latin-1").split(",")
        for value in reversed(values):
            if not self._from_proxy(address) or not _is_ip(value.strip()):
                break
            address = value.strip()
        return address

    def _from_proxy(self, address: str) -> bool:
        ip = ipaddress.ip_address(address.partition("%")[0])
        ip = getattr(ip, "ipv4_mapped", None) or ip
        return any(ip in network for network in self._proxies if network.version == ip.version)

    def admit(self, request: Request, address: str) -> bool:
        """Check that a visitor knows the token; returns whether it came in the URL, where it must not stay.

        Raises Refusal without a valid token, and after more than TRIES wrong ones from one machine.
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
                raise Refusal(401, "wrong token; " + _NO_TOKEN, ("WWW-Authenticate", "Bearer"))
            self._tries.forgive(address)
        return bool(offered)

    def _has_cookie(self, request: Request) -> bool:
        found = False
        for pair in b";".join(request.fields.get(b"cookie", [])).split(b";"):
            name, _, value = pair.partition(b"=")
            if name.strip(b" \t") == self._cookie_name:
                found |= hmac.compare_digest(value.strip(b' \t"'), self._cookie)
        return found

    def cookie(self, request: Request, address: str) -> Tuple[str, str]:
        """Return the header that makes a browser remember that it sent the token.

        address     of the connection: if that is a proxy with https, the cookie is for https only
        """
        secure = self._secure or (self._from_proxy(address) and request.field(b"x-forwarded-proto") == b"https")
        # Without a path, the cookie is for the folder in the URL: a proxy may serve several pages, each in its own.
        text = "{}={}; HttpOnly; SameSite=Strict{}".format(
            self._cookie_name.decode("ascii"), self._cookie.decode("ascii"), "; Secure" if secure else ""
        )
        return "Set-Cookie", text


def _is_address(host: str, loopback: bool) -> bool:
    """Return whether a host is an IP address, which needs no name lookup; for a local page, one of this machine's."""
    try:
        ip = ipaddress.ip_address(host[1:-1] if host.startswith("[") else host)
    except ValueError:
        return False
    return (ip.version == 6) == host.startswith("[") and (ip.is_loopback or not loopback)


def _is_ip(text: str) -> bool:
    try:
        return bool(ipaddress.ip_address(text))
    except ValueError:
        return False


def _offered(request: Request) -> Tuple[bytes, ...]:
    """Return the possible values of a URL's first ?token=: a form writes a blank as +, a person means + itself."""
    value = request.argument(b"token")
    return () if value is None else (unquote_to_bytes(value), unquote_to_bytes(value.replace(b"+", b" ")))


def _bearer(request: Request) -> Optional[bytes]:
    scheme, _, value = (request.field(b"authorization") or b"").partition(b" ")
    return value.strip(b" ") if scheme.lower() == b"bearer" else None


class _Tries:
    """Wrong tokens by machine: one that tries many has to wait, but no other."""

    def __init__(self) -> None:
        self._left: Dict[str, Tuple[float, float]] = collections.OrderedDict()
        self._lock = threading.Lock()

    def begin(self, address: str) -> None:
        """Count a try before the token is checked; raises Refusal if the machine has none left."""
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

    def forgive(self, address: str) -> None:
        """Take a try back: the token was right."""
        with self._lock:
            left, since = self._left.pop(address, (TRIES, 0.0))
            self._left[address] = (min(left + 1, TRIES), since)
