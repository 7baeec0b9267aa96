"""Sends HTTP requests to a camera: to one address, without redirects, with limits on everything."""

import contextlib
import hashlib
import http.client
import os
import re
from typing import TYPE_CHECKING, Dict, Iterable
from urllib.parse import SplitResult, quote, unquote, urlsplit

from ... import __version__
from ...errors import CameraError
from ..diagnosis import cure

if TYPE_CHECKING:
    from ..source import Source

TIMEOUT_S = 10.0
_MOST_DRAINED = 1 << 16
_MOST_SHOWN = 300
_REDIRECTS = (301, 302, 303, 307, 308)
_HASHES = {"MD5": hashlib.md5, "SHA-256": hashlib.sha256}
_PARAMETER = re.compile(r'([\w-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')


class Address:
    """An address that is requested again and again; the URL's user name and password are sent if it asks for them."""

    def __init__(self, source: "Source") -> None:
        parts = urlsplit(source.location)
        self.name, self._location = source.name, source.location
        self._user, self._password = unquote(parts.username or ""), unquote(parts.password or "")
        path = quote(parts.path or "/", safe="%/:=&?~+!$,;'@()*[]")
        self._path = path + ("?" + quote(parts.query, safe="%/:=&?~+!$,;'@()*[]") if parts.query else "")
        self._link = _connection(parts)
        self._challenge: Dict[str, str] = {}
        self._count = 0

    def get(self) -> http.client.HTTPResponse:
        """Request the address; returns a response with status 200.  Raises CameraError for any other answer."""
        response = self._ask()
        if response.status == 401 and self._user:
            challenge = challenge_of(response.headers.get_all("WWW-Authenticate") or [])
            if challenge:
                self._drain(response)
                self._challenge, self._count = challenge, 0
                response = self._ask()
        if response.status != 200:
            self.close()
            raise CameraError(self._refusal(response))
        return response

    def _ask(self) -> http.client.HTTPResponse:
        fresh = self._link.sock is None
        try:
            return self._request()
        except (http.client.HTTPException, ConnectionError) as error:
            self._link.close()
            if fresh:
                raise CameraError(self._failure(error))
        except (OSError, ValueError) as error:
            self._link.close()
            raise CameraError(self._failure(error))
        # The camera has closed a connection that was kept open.
        try:
            return self._request()
        except (http.client.HTTPException, OSError, ValueError) as error:
            self._link.close()
            raise CameraError(self._failure(error))

    def _request(self) -> http.client.HTTPResponse:
        headers = {"User-Agent": "edgeclf/" + __version__, "Accept": "*/*"}
        if self._challenge:
            self._count += 1
            headers["Authorization"] = self._authorization()
        self._link.request("GET", self._path, headers=headers)
        return self._link.getresponse()

    def _authorization(self) -> str:
        if self._challenge["scheme"] == "basic":
            import base64

            pair = "{}:{}".format(self._user, self._password).encode("utf-8")
            return "Basic " + base64.b64encode(pair).decode("ascii")
        return digest(self._challenge, self._user, self._password, "GET", self._path, self._count)

    def _drain(self, response: http.client.HTTPResponse) -> None:
        """Read the rest of a response, so that the connection can be used again."""
        with contextlib.suppress(http.client.HTTPException, OSError):
            response.read(_MOST_DRAINED)
        if not response.isclosed():
            self._link.close()

    def _refusal(self, response: http.client.HTTPResponse) -> str:
        if response.status in _REDIRECTS:
            return "{} redirects to {}, which is not followed; use that address if it is the camera's".format(
                self.name, _without_password(response.headers.get("Location", "nowhere"))
            )
        if response.status == 401:
            wanted = "rejects the user name and password" if self._user else "requires a user name and a password"
            return "{} {} (401); use an account of the camera".format(self.name, wanted)
        advice = cure("{} {}".format(response.status, response.reason), self._location)
        return "{} answers {} {}; expected the address of an MJPEG stream or a JPEG image{}".format(
            self.name, response.status, shown(response.reason), ": " + advice if advice else ""
        )

    def _failure(self, error: Exception) -> str:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            return (
                "{} has a certificate that this machine does not trust ({}); set SSL_CERT_FILE to the camera's "
                "certificate".format(self.name, shown(getattr(error, "verify_message", "")) or "self-signed")
            )
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        advice = cure(reason, self._location) or "check the address"
        return "{} cannot be read by HTTP ({}); {}".format(self.name, shown(reason), advice)

    def close(self) -> None:
        """Close the connection."""
        self._link.close()


def _connection(parts: SplitResult) -> http.client.HTTPConnection:
    if parts.scheme.lower() == "https":
        return http.client.HTTPSConnection(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
    return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT_S)


def shown(text: object) -> str:
    """Return a stranger's text as a message may show it: printable, on one line, shortened."""
    return "".join(letter if letter.isprintable() else "?" for letter in str(text))[:_MOST_SHOWN]


def _without_password(url: str) -> str:
    return shown(re.sub(r"//[^/?#]*@", "//", url))


def challenge_of(headers: Iterable[str]) -> Dict[str, str]:
    """Return the parameters of the best supported challenge, Digest before Basic; empty if there is none."""
    found: Dict[str, Dict[str, str]] = {}
    for header in headers:
        scheme, _, rest = header.strip().partition(" ")
        values = {name.lower(): quoted or plain for name, quoted, plain in _PARAMETER.findall(rest)}
        values["scheme"] = scheme.lower()
        known = scheme.lower() == "basic" or ("nonce" in values and values.get("algorithm", "MD5").upper() in _HASHES)
        if known and scheme.lower() in ("basic", "digest"):
            found.setdefault(scheme.lower(), values)
    return found.get("digest") or found.get("basic") or {}


def digest(challenge: Dict[str, str], user: str, password: str, method: str, path: str, count: int) -> str:
    """Return the answer to a Digest challenge: RFC 7616, section 3.4."""
    algorithm = challenge.get("algorithm", "MD5").upper()

    def hashed(*parts: str) -> str:
        return _HASHES[algorithm](":".join(parts).encode("utf-8")).hexdigest()

    nonce, realm = challenge["nonce"], challenge.get("realm", "")
    first, second = hashed(user, realm, password), hashed(method, path)
    fields = {"username": user, "realm": realm, "nonce": nonce, "uri": path}
    if "auth" in re.split(r"[\s,]+", challenge.get("qop", "")):
        times, ours = "{:08x}".format(count), os.urandom(8).hex()
        fields["response"] = hashed(first, nonce, times, ours, "auth", second)
        tail = ', qop=auth, nc={}, cnonce="{}"'.format(times, ours)
    else:
        fields["response"], tail = hashed(first, nonce, second), ""
    if "opaque" in challenge:
        fields["opaque"] = challenge["opaque"]
    answer = ", ".join('{}="{}"'.format(name, value.replace('"', "")) for name, value in fields.items())
    return "Digest {}, algorithm={}{}".format(answer, algorithm, tail)
