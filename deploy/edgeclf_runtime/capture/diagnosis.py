"""Explains why a source does not work, from what its reader printed, and says what to do about it.

The reader is FFmpeg, GStreamer, OpenCV, the operating system or our own HTTP client; all of them quote the camera's
status code or the system's error.
"""

import re
from typing import TYPE_CHECKING, List, NamedTuple, Sequence, Union
from urllib.parse import urlsplit

from ..text.addresses import CAMERA_PORTS
from ..text.secret_patterns import secret_spans
from .gst_command import launch_command
from .v4l2.device import cameras

if TYPE_CHECKING:
    from .source import Source

_PASSWORD = "in the environment variable EDGECLF_CAMERA_PASSWORD or with --password-file"


class Case(NamedTuple):
    """A known fault: status codes, a pattern for its words, and what to do."""

    statuses: str
    words: str
    cure: str

    def matches(self, text: str) -> bool:
        """Return whether a text reports this fault; digits in ports and addresses are not status codes."""
        status = r"(?<![\w:./])(?:{})(?![\w./:])".format(self.statuses)
        return bool((self.statuses and re.search(status, text)) or re.search(self.words, text))


# The first match counts.  Status codes are those of RTSP (RFC 2326, section 7.1.1) and HTTP.
_CASES = (
    Case(
        "401",
        r"Unauthori[sz]ed|authentication failed|Not authorized",
        "the camera {refuses}",
    ),
    Case(
        "403",
        r"Forbidden",
        "the camera does not allow this user to view the stream: use another account (its password {password}), or "
        "allow this user in the camera's settings",
    ),
    Case("454", r"Session Not Found", "the camera ended the session; it is reopened"),
    Case(
        "404|405|410",
        r"Not [Ff]ound(?! in)|Method Not Allowed",
        "the camera has no stream at this path: see its manual for the right path",
    ),
    Case(
        "461",
        r"[Uu]nsupported [Tt]ransport|onmatching transport",
        "the camera does not support TCP: set OPENCV_FFMPEG_CAPTURE_OPTIONS='rtsp_transport;udp' in the environment",
    ),
    Case(
        "453|503|429",
        r"Not Enough Bandwidth|Service Unavailable",
        "the camera has too many viewers: close others, or use its smaller stream",
    ),
    Case("30[1-8]", r"\bMoved\b", "the camera redirects to another address: use that one"),
    Case(r"4\d\d", r"Bad Request", "the camera rejects this address: see its manual for the right one"),
    Case(r"5\d\d", r"Server Error", "the camera reports an internal error: check its log, or restart it"),
    Case(
        "",
        r"[Cc]onnection refused",
        "the host is up, but nothing listens on port {port}: check whether the camera has started, and its port",
    ),
    Case(
        "",
        r"No route to host|[Nn]etwork is (?:unreachable|down)|Host is (?:unreachable|down)",
        "{host} cannot be reached: check the cable and the address, and whether the camera is on",
    ),
    Case(
        "",
        r"Name or service not known|resolve (?:host|name)|name resolution|nodename nor servname|No address associated|"
        r"resolving|unknown host",
        "the host name {host} is unknown: check its spelling, or use the camera's IP address",
    ),
    Case(
        "",
        r"certificate|[Cc]ert\b|TLS|SSL|handshake",
        "the connection cannot be encrypted: check whether this is the port for encrypted streams; for a camera's own "
        "certificate, set SSL_CERT_FILE to its file",
    ),
    Case(
        "",
        r"[Tt]imed? ?out|answers nothing|[Tt]imeout",
        "{host} does not answer: check the cable and the address, and whether the camera is on",
    ),
    Case(
        "",
        r"Failed to connect|Could not connect",
        "connecting to {host} failed: check the cable, the address and the port, and whether the camera is on",
    ),
    Case(
        "",
        r"codec parameters|[Nn]o decoder|[Uu]nsupported codec|[Cc]ould not find codec|decoder .*not found",
        "this OpenCV cannot decode the camera's video: set the camera to H.264",
    ),
    Case(
        "",
        r"Invalid data|which is not RTSP|Protocol not found|Could not parse|[Ii]nvalid (?:response|reply)",
        "the server on port {port} sends something else: check whether this is the camera's address",
    ),
    Case(
        "",
        r"Connection reset|End of file|[Bb]roken pipe|closed|Input/output error",
        "the camera closed the connection: check the address, and whether the camera has too many viewers",
    ),
)


def diagnosis(source: "Source", said: Sequence[str], what: str = "") -> str:
    """Return what a Source's reader printed, and what to do, as the end of a sentence.

    said    the lines that the reader printed, without noise; empty if there are none
    what    our own words before that sentence
    """
    quoted = "; ".join(said)
    advice = _advice(source, [*said, what])
    return '"{}": {}'.format(quoted, advice) if quoted else advice


def cure(text: str, location: str) -> str:
    """Return what to do about an error of an address, "" if nothing is known."""
    parts = _parts(location)
    for case in _CASES:
        if case.matches(text):
            return case.cure.format(
                refuses=_refuses(bool(parts.user), bool(parts.password)),
                password=_PASSWORD,
                host=parts.host or "the camera",
                port=parts.port,
            )
    return ""


def _refuses(user: bool, password: bool) -> str:
    if not user:
        return "requires a user name and a password: write USER@HOST in the address, and give the password " + _PASSWORD
    if not password:
        return "requires a password: give it " + _PASSWORD
    return "rejects the user name and password: use an account of the camera, and give its password " + _PASSWORD


class _Parts(NamedTuple):
    user: str
    password: str
    host: str
    port: Union[int, str]


def _parts(location: str) -> _Parts:
    """Return the parts of an address, or of the first one in a pipeline."""
    found = re.search(r"(?:rtspt?u?s?|https?)://[^\s\"']+", location, re.IGNORECASE)
    try:
        parts = urlsplit(found.group() if found else "")
        port: Union[int, str] = parts.port or CAMERA_PORTS.get(parts.scheme.lower()) or "of the address"
    except ValueError:
        return _Parts("", "", "", "of the address")
    user = parts.username or ("user" if re.search(r"\buser-id\s*=", location) else "")
    password = parts.password or ("password" if secret_spans(location) else "")
    return _Parts(user, password, parts.hostname or "", port)


def _advice(source: "Source", said: List[str]) -> str:
    known = "" if source.kind == "device" else cure(" ".join(said), source.location)
    if source.kind == "gstreamer":
        command = "see what this command prints: " + launch_command(source.location)
        return "{}; {}".format(known, command) if known else command
    if source.kind == "network":
        return known or (
            "check whether it is connected, whether the address is right, and whether it has too many viewers"
        )
    return "check whether it is connected" + (". " + cameras() if source.kind == "device" else "")
