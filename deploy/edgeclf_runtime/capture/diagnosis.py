"""Why a source does not work, by what its reader said, and what to do about it.

The reader is FFmpeg, GStreamer, OpenCV, the system, or our own client for HTTP; all of them quote the camera's status
or the system's error.
"""

import re
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from ..text.addresses import CAMERA_PORTS, secret_spans
from .gst_command import launch_command
from .v4l2.device import cameras

_PASSWORD = "by the environment's EDGECLF_CAMERA_PASSWORD or by --password-file"


class Case(NamedTuple):
    """A fault that a reader names: statuses, a pattern of its words, and what to do."""

    statuses: str
    words: str
    cure: str

    def matches(self, text):
        """Whether this is what a text says; ports and addresses are no statuses."""
        status = r"(?<![\w:./])(?:{})(?![\w./:])".format(self.statuses)
        return bool((self.statuses and re.search(status, text)) or re.search(self.words, text))


# The first that matches counts.  Status codes are RTSP's (RFC 2326, section 7.1.1) and HTTP's.
_CASES = (
    Case(
        "401",
        r"Unauthori[sz]ed|authentication failed|Not authorized",
        "the camera {refuses}",
    ),
    Case(
        "403",
        r"Forbidden",
        "the camera knows the address and does not let this user see it: give another user, {password}, or allow it in "
        "the camera's settings",
    ),
    Case("454", r"Session Not Found", "the camera has ended the session; it is opened again"),
    Case(
        "404|405|410",
        r"Not [Ff]ound(?! in)|Method Not Allowed",
        "the camera has nothing at this path: see its manual for the path of its stream",
    ),
    Case(
        "461",
        r"[Uu]nsupported [Tt]ransport|onmatching transport",
        "the camera does not send by TCP: set OPENCV_FFMPEG_CAPTURE_OPTIONS='rtsp_transport;udp' in the environment",
    ),
    Case(
        "453|503|429",
        r"Not Enough Bandwidth|Service Unavailable",
        "the camera serves as many viewers as it can: close others, or take its smaller stream",
    ),
    Case("30[1-8]", r"\bMoved\b", "the camera names another address: give that one"),
    Case(r"4\d\d", r"Bad Request", "the camera does not accept this address: see its manual for the address"),
    Case(r"5\d\d", r"Server Error", "the camera has a fault of its own: see its log, start it again"),
    Case(
        "",
        r"[Cc]onnection refused",
        "the machine is there and nothing listens on port {port}: see whether the camera has started, and its port",
    ),
    Case(
        "",
        r"No route to host|[Nn]etwork is (?:unreachable|down)|Host is (?:unreachable|down)",
        "no way leads to {host}: see whether cable and address are right, and whether the camera is on",
    ),
    Case(
        "",
        r"Name or service not known|resolve (?:host|name)|name resolution|nodename nor servname|No address associated|"
        r"resolving|unknown host",
        "nobody knows the name {host}: see whether it is right, or give the camera's IP address",
    ),
    Case(
        "",
        r"certificate|[Cc]ert\b|TLS|SSL|handshake",
        "the connection cannot be encrypted: see whether the port is the one for encrypted streams; SSL_CERT_FILE names "
        "a camera's own certificate",
    ),
    Case(
        "",
        r"[Tt]imed? ?out|answers nothing|[Tt]imeout",
        "{host} does not answer: see whether cable and address are right, and whether the camera is on",
    ),
    Case(
        "",
        r"Failed to connect|Could not connect",
        "{host} is not reached: see whether cable, address and port are right, and whether the camera is on",
    ),
    Case(
        "",
        r"codec parameters|[Nn]o decoder|[Uu]nsupported codec|[Cc]ould not find codec|decoder .*not found",
        "this OpenCV does not decode the camera's video: set the camera to H.264",
    ),
    Case(
        "",
        r"Invalid data|which is not RTSP|Protocol not found|Could not parse|[Ii]nvalid (?:response|reply)",
        "what answers on port {port} sends something else: see whether the address is the camera's",
    ),
    Case(
        "",
        r"Connection reset|End of file|[Bb]roken pipe|closed|Input/output error",
        "the camera closed the connection: see whether the address is right, and whether it serves as many viewers as it can",
    ),
)


def diagnosis(source, said, what=""):
    """Return what a Source's reader said, and what to do, as the end of a sentence.

    said    the reader's words, a list of lines; empty if it said nothing
    what    our own words before that sentence
    """
    quoted = "; ".join(said)
    advice = _advice(source, [*said, what])
    return '"{}": {}'.format(quoted, advice) if quoted else advice


def cure(text, location):
    """Return what to do about what was said of an address, "" if nothing is known."""
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


def _refuses(user, password):
    if not user:
        return "asks for a user name and a password: give them as USER@HOST in the address, the password " + _PASSWORD
    if not password:
        return "asks for the password: give it " + _PASSWORD
    return "refuses the user name and password: give those of the camera, the password " + _PASSWORD


class _Parts(NamedTuple):
    user: str
    password: str
    host: str
    port: Any


def _parts(location):
    """Return the parts of an address, or of the first one in a pipeline."""
    found = re.search(r"(?:rtspt?u?s?|https?)://[^\s\"']+", location, re.IGNORECASE)
    try:
        parts = urlsplit(found.group() if found else "")
        port: Any = parts.port or CAMERA_PORTS.get(parts.scheme.lower()) or "of the address"
    except ValueError:
        return _Parts("", "", "", "of the address")
    user = parts.username or ("user" if re.search(r"\buser-id\s*=", location) else "")
    password = parts.password or ("password" if secret_spans(location) else "")
    return _Parts(user, password, parts.hostname or "", port)


def _advice(source, said):
    known = "" if source.kind == "device" else cure(" ".join(said), source.location)
    if source.kind == "gstreamer":
        command = "see what this says: " + launch_command(source.location)
        return "{}; {}".format(known, command) if known else command
    if source.kind == "network":
        return known or (
            "see whether it is connected, whether the address is right, and whether it serves as many viewers as it can"
        )
    return "see whether it is connected" + (". " + cameras() if source.kind == "device" else "")
