"""Requests to a camera by HTTP: one address, no redirects, everything bounded.

Knows nothing of pictures.
"""

import contextlib
import hashlib
import http.client
import os
import re
from typing import Any, Dict
from urllib.parse import quote, unquote, urlsplit

from ... import __version__
from ...errors import CameraError
from ..diagnosis import cure

TIMEOUT_S = 10.0
_MOST_DRAINED = 1 << 16
_MOST_SHOWN = 300
_REDIRECTS = (301, 302, 303, 307, 308)
_HASHES = {"MD5": hashlib.md5, "SHA-256": hashlib.sha256}
_PARAMETER = re.compile(r'([\w-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')


class Address:
    """An address that is asked again and again; user and password of its URL are sent if it asks for them."""

    def __init__(self, source):
        parts = urlsplit(source.location)
        self.name, self._location = source.name, source.location
        self._user, self._password = unquote(parts.username or ""), unquote(parts.password or "")
        path = quote(parts.path or "/", safe="%/:=&?~+!$,;'@()*[]")
        self._path = path + ("?" + quote(parts.query, safe="%/:=&?~+!$,;'@()*[]") if parts.query else "")
        self._link = _connection(parts)
        self._challenge: Dict[str, str] = {}
        self._count = 0

    def get(self):
        """Ask for the address; returns a response with status 200.  Raises CameraError for any other answer."""
        response = self._ask()
        if response.status == 401 and self._user:
            challenge = _challenge(response.headers.get_all("WWW-Authenticate") or [])
            if challenge:
                self._drain(response)
                self._challenge, self._count = challenge, 0
                response = self._ask()
        if response.status != 200:
            self.close()
            raise CameraError(self._refusal(response))
        return response

    def _ask(self):
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
        # The camera has closed a connection that was kept.
        try:
            return self._request()
        except (http.client.HTTPException, OSError, ValueError) as error:
            self._link.close()
            raise CameraError(self._failure(error))

    def _request(self):
        headers = {"User-Agent": "edgeclf/" + __version__, "Accept": "*/*"}
        if self._challenge:
            self._count += 1
            headers["Authorization"] = self._authorization()
        self._link.request("GET", self._path, headers=headers)
        return self._link.getresponse()

    def _authorization(self):
        if self._challenge["scheme"] == "basic":
            import base64

            pair = "{}:{}".format(self._user, self._password).encode("utf-8")
            return "Basic " + base64.b64encode(pair).decode("ascii")
        return _digest(self._challenge, self._user, self._password, self._path, self._count)

    def _drain(self, response):
        """Read what is left of a response, so that the connection can be used again."""
        with contextlib.suppress(http.client.HTTPException, OSError):
            response.read(_MOST_DRAINED)
        if not response.isclosed():
            self._link.close()

    def _refusal(self, response):
        if response.status in _REDIRECTS:
            return "{} redirects to {}, which is not followed; give that address if it is the camera's".format(
                self.name, _without_password(response.headers.get("Location", "nowhere"))
            )
        if response.status == 401:
            wanted = "refuses the user name and password" if self._user else "asks for a user name and a password"
            return "{} {} (401); give those of the camera".format(self.name, wanted)
        advice = cure("{} {}".format(response.status, response.reason), self._location)
        return "{} answers {} {}; the address of an MJPEG stream or a JPEG image was expected{}".format(
            self.name, response.status, shown(response.reason), ": " + advice if advice else ""
        )

    def _failure(self, error):
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            return (
                "{} has a certificate that this machine does not trust ({}); name the camera's certificate by "
                "SSL_CERT_FILE".format(self.name, shown(getattr(error, "verify_message", "")) or "self-signed")
            )
        said = getattr(error, "strerror", None) or str(error) or type(error).__name__
        advice = cure(said, self._location) or "see whether the address is right"
        return "{} cannot be read by HTTP ({}); {}".format(self.name, shown(said), advice)

    def close(self):
        """Close the connection."""
        self._link.close()


def _connection(parts) -> Any:
    if parts.scheme.lower() == "https":
        return http.client.HTTPSConnection(parts.hostname, parts.port, timeout=TIMEOUT_S)
    return http.client.HTTPConnection(parts.hostname, parts.port, timeout=TIMEOUT_S)


def shown(text):
    """Return a stranger's text as a message may show it: one line, not long."""
    return "".join(letter if letter.isprintable() else "?" for letter in str(text))[:_MOST_SHOWN]


def _without_password(url):
    return shown(re.sub(r"//[^/?#]*@", "//", url))


def _challenge(headers):
    """Return the parameters of the best challenge that we can answer, empty for none: Digest before Basic."""
    found: Dict[str, Dict[str, str]] = {}
    for header in headers:
        scheme, _, rest = header.strip().partition(" ")
        values = {name.lower(): quoted or plain for name, quoted, plain in _PARAMETER.findall(rest)}
        values["scheme"] = scheme.lower()
        known = scheme.lower() == "basic" or ("nonce" in values and values.get("algorithm", "MD5").upper() in _HASHES)
        if known and scheme.lower() in ("basic", "digest"):
            found.setdefault(scheme.lower(), values)
    return found.get("digest") or found.get("basic") or {}


def _digest(challenge, user, password, path, count):
    """Return the answer to a Digest challenge: RFC 7616, section 3.4."""
    algorithm = challenge.get("algorithm", "MD5").upper()

    def hashed(*parts):
        return _HASHES[algorithm](":".join(parts).encode("utf-8")).hexdigest()

    nonce, realm = challenge["nonce"], challenge.get("realm", "")
    first, second = hashed(user, realm, password), hashed("GET", path)
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
