"""Reads the body of a request: a picture, as it is or as the one file of a form, with limits on its size, time and memory."""

import re
import socket
import threading
from typing import Callable, List

from ..http import MAX_HEAD_BYTES, Refusal, Request

MAX_BODY_BYTES = 32 << 20  # a JPEG of 50 megapixels has 25 MB
MAX_HELD_BYTES = 2 * MAX_BODY_BYTES  # of all bodies together
BODY_TIMEOUT_S = 30.0
FORM = "multipart/form-data"
KINDS = ("image/jpeg", "image/png", "application/octet-stream", FORM)
_LENGTH = re.compile(rb"[0-9]{1,15}\Z")
# RFC 2046, 5.1.1; quoted, it may hold any of these, otherwise no separators (RFC 2045, 5.1).
_BOUNDARY = re.compile(
    rb";[ \t]*boundary=(?:\"([0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-])\"|([0-9A-Za-z'+_.-]{1,70}))[ \t]*(?:;|\Z)",
    re.IGNORECASE,
)
_DISPOSITION = re.compile(rb"(?:\A|\r\n)content-disposition:[ \t]*form-data[ \t]*(?:;|\r\n|\Z)", re.IGNORECASE)


def kind_of(request: Request) -> str:
    """Return the media type of a request's body; raises Refusal for one that is not a picture's."""
    coding = request.field(b"content-encoding")
    if coding not in (None, b"identity"):
        raise Refusal(415, "Content-Encoding is {}; send the picture as it is, without it".format(_shown(coding)))
    value = request.field(b"content-type")
    if value is None:
        return "application/octet-stream"
    kind = value.partition(b";")[0].strip(b" \t").lower().decode("latin-1")
    if kind not in KINDS and not kind.startswith("image/"):
        expected = ", ".join(KINDS[:-1])
        raise Refusal(415, "Content-Type is {}; {} or {} was expected".format(_shown(value), expected, FORM))
    return kind


def length_of(request: Request) -> int:
    """Return the announced number of bytes; raises Refusal without one, or for more than MAX_BODY_BYTES."""
    if b"transfer-encoding" in request.fields:
        raise Refusal(411, "Transfer-Encoding is not read; send the picture with a Content-Length")
    value = request.field(b"content-length")
    if value is None:
        raise Refusal(411, "the header Content-Length is missing; send the picture with its number of bytes")
    if not _LENGTH.match(value):
        raise Refusal(400, "Content-Length is {}; a number of bytes was expected".format(_shown(value)))
    length = int(value)
    if length == 0:
        raise Refusal(400, "the body is empty; the bytes of a picture were expected")
    if length > MAX_BODY_BYTES:
        found = "the body has {} bytes; at most {} were expected: shrink the picture".format(length, MAX_BODY_BYTES)
        raise Refusal(413, found)
    return length


class Memory:
    """The memory for the bodies of all requests.  Safe to use from several threads."""

    def __init__(self) -> None:
        self.held_bytes = 0
        self._lock = threading.Lock()

    def take(self, count: int) -> None:
        """Count bytes that have arrived; raises Refusal if all bodies together would have more than MAX_HELD_BYTES."""
        with self._lock:
            if self.held_bytes + count > MAX_HELD_BYTES:
                raise Refusal(503, "too many pictures are being sent: try again in 1 s", ("Retry-After", "1"))
            self.held_bytes += count

    def give_back(self, count: int) -> None:
        """Count bytes that are no longer needed."""
        with self._lock:
            self.held_bytes -= count


class Body:
    """The bytes of one request's body, as long as ``with`` lasts; ``content`` holds what has arrived."""

    def __init__(self, memory: Memory) -> None:
        self.content = bytearray()
        self._memory, self._held_bytes = memory, 0

    def read(self, length: int, first: bytes, receive: Callable[[], bytes]) -> None:
        """Read until there are ``length`` bytes; what follows them is not looked at.

        first       the bytes that came with the head
        receive     function that returns the next bytes, b"" at the end; it raises socket.timeout when it is too late

        Memory is counted as bytes arrive: announcing a body costs nothing.  Raises Refusal if they do not arrive.
        """
        chunk = first[:length]
        while True:
            self._memory.take(len(chunk))
            self._held_bytes += len(chunk)
            self.content += chunk
            if len(self.content) == length:
                return
            try:
                chunk = receive()[: length - len(self.content)]
            except socket.timeout:
                raise Refusal(408, self._incomplete(length, "arrived within {:g} s".format(BODY_TIMEOUT_S)))
            if not chunk:
                raise Refusal(400, self._incomplete(length, "arrived before the connection was closed"))

    def _incomplete(self, length: int, when: str) -> str:
        return "{} of the {} bytes announced with Content-Length {}".format(len(self.content), length, when)

    def __enter__(self) -> "Body":
        return self

    def __exit__(self, *exception: object) -> None:
        self.content = bytearray()
        self._memory.give_back(self._held_bytes)
        self._held_bytes = 0


def picture_in(request: Request, kind: str, content: bytearray) -> bytes:
    """Return the bytes of the picture: the body, or the one file of a form (RFC 7578).  Raises Refusal for another form."""
    if kind != FORM:
        return bytes(content)
    match = _BOUNDARY.search(request.field(b"content-type") or b"")
    if match is None:
        raise Refusal(400, "Content-Type has no valid boundary; {}; boundary=... was expected".format(FORM))
    parts = _parts(content, b"--" + (match.group(1) or match.group(2)))
    if len(parts) != 1:
        raise Refusal(400, "the form has {} part; one file was expected".format("more than one" if parts else "no"))
    return parts[0]


def _parts(content: bytearray, delimiter: bytes) -> List[bytes]:
    """Return the content of each part; of many only the first two, because one is expected."""
    start = 2 if content.startswith(b"\r\n") else 0
    parts: List[bytes] = []
    if not content.startswith(delimiter, start):
        raise _damaged("it does not begin with its boundary")
    start += len(delimiter)
    while not content.startswith(b"--", start) and len(parts) < 2:
        if not content.startswith(b"\r\n", start):
            raise _damaged("a boundary is not the end of its line")
        start += 2
        ends = content.find(b"\r\n\r\n", start, start + MAX_HEAD_BYTES)
        if ends < 0 or not _DISPOSITION.search(bytes(content[start:ends])):
            raise _damaged("a part has no header Content-Disposition: form-data")
        end = content.find(b"\r\n" + delimiter, ends + 2)
        if end < 0:
            raise _damaged("its last boundary is missing")
        parts.append(bytes(content[ends + 4 : end]))
        start = end + 2 + len(delimiter)
    return parts


def _damaged(why: str) -> Refusal:
    return Refusal(400, "the form is not valid: {}; one file as {} was expected".format(why, FORM))


def _shown(value: object) -> str:
    text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
    return ascii(text if len(text) <= 60 else text[:60] + "...")
