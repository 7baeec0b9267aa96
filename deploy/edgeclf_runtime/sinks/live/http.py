"""Reads the head of an HTTP request, with limits and strictly, and writes the head of an answer.

A connection carries one request.  Bytes after it are never read as another, so nothing can be smuggled behind it.
"""

import http
import re
from typing import Callable, Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple

MAX_TARGET_BYTES = 4096
MAX_HEAD_BYTES = 16384  # browsers send the host's cookies of all ports
MAX_FIELDS = 100
_METHOD = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,32}\Z")
_FIELD_NAME = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+\Z")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


Header = Tuple[str, str]


class Refusal(Exception):  # noqa: N818 - an answer, not a failure
    """A request is not granted.

    status      HTTP status code
    reason      a sentence for the client, without markup
    headers     additional headers of the answer, (name, value) each
    """

    def __init__(self, status: int, reason: str, *headers: Header) -> None:
        super().__init__(reason)
        self.status, self.reason, self.headers = status, reason, headers


class Request(NamedTuple):
    """A request's head; ``fields`` holds every value of a header by its lower-case name, ``rest`` what came behind the head."""

    method: str
    path: str
    query: bytes
    fields: Dict[bytes, List[bytes]]
    rest: bytes = b""

    def field(self, name: bytes) -> Optional[bytes]:
        """Return a header's value, or None; a Refusal if it occurs twice, because programs would choose different ones."""
        values = self.fields.get(name, [])
        if len(values) > 1:
            raise Refusal(400, "the header {} occurs {} times".format(name.decode("ascii"), len(values)))
        return values[0] if values else None

    def argument(self, name: bytes) -> Optional[bytes]:
        """Return the first value with this name in the query, undecoded, or None."""
        for part in self.query.split(b"&"):
            found, _, value = part.partition(b"=")
            if found == name:
                return value
        return None

    def check_no_body(self) -> None:
        """Raise a Refusal if a body is announced: no answer depends on one, and its length can be ambiguous."""
        if b"transfer-encoding" in self.fields or self.field(b"content-length") not in (None, b"0"):
            raise Refusal(400, "a request must not have a body")


def read_request(receive: Callable[[], bytes]) -> Request:
    """Return the Request that a client sends.

    receive     function that returns the next bytes, b"" at the end

    Raises Refusal for an invalid request, or one over MAX_TARGET_BYTES, MAX_HEAD_BYTES or MAX_FIELDS.
    """
    data = bytearray()
    line: Optional[Tuple[str, bytes]] = None
    end = -1
    while end < 0:
        chunk = receive()
        data += chunk
        if not chunk or not data[:1].isalpha():
            raise Refusal(400, "this is not a complete HTTP request")
        if line is None and b"\n" in chunk:
            # Parsed now, because a client without HTTP, or with HTTP/0.9, may never send an empty line.
            line = _parse_line(bytes(data[: data.index(b"\n") + 1]))
        if line is None and len(data) > MAX_TARGET_BYTES:
            raise _too_long()
        end = data.find(b"\r\n\r\n", max(0, len(data) - len(chunk) - 3))
        if max(end, len(data) if end < 0 else 0) > MAX_HEAD_BYTES:
            raise Refusal(431, "the headers are longer than {} bytes".format(MAX_HEAD_BYTES))
    assert line is not None  # the end of the head is also the end of a line
    method, target = line
    path, _, query = target.partition(b"?")
    fields = _parse_fields(bytes(data[:end]).split(b"\r\n")[1:])
    return Request(method, path.decode("ascii"), query, fields, bytes(data[end + 4 :]))


def _parse_line(line: bytes) -> Tuple[str, bytes]:
    words = line[:-2].split(b" ")
    if not line.endswith(b"\r\n") or len(words) != 3 or not _METHOD.match(words[0]):
        raise Refusal(400, "expected a request line such as GET / HTTP/1.1")
    method, target, version = words
    if version not in (b"HTTP/1.0", b"HTTP/1.1"):
        raise Refusal(505, "expected HTTP/1.0 or HTTP/1.1")
    if len(target) > MAX_TARGET_BYTES:
        raise _too_long()
    if not target.startswith(b"/") or not all(0x21 <= byte <= 0x7E for byte in target):
        raise Refusal(400, "expected a path such as /: this is not a proxy")
    return method.decode("ascii"), target


def _too_long() -> Refusal:
    return Refusal(414, "the address is longer than {} bytes".format(MAX_TARGET_BYTES))


def _parse_fields(lines: Sequence[bytes]) -> Dict[bytes, List[bytes]]:
    if len(lines) > MAX_FIELDS:
        raise Refusal(431, "there are more than {} headers".format(MAX_FIELDS))
    fields: Dict[bytes, List[bytes]] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        # Programs disagree about a blank before the colon, a continued line and a bare line end.
        if not colon or not _FIELD_NAME.match(name) or _CONTROL.search(value):
            raise Refusal(400, "expected headers such as Host: localhost")
        fields.setdefault(name.lower(), []).append(value.strip(b" \t"))
    return fields


def head(status: int, headers: Iterable[Header]) -> bytes:
    """Return the bytes of an answer's head."""
    lines = ["HTTP/1.0 {} {}".format(status, http.HTTPStatus(status).phrase)]
    lines += ["{}: {}".format(name, value) for name, value in headers]
    # A line end in a value would begin another header.
    assert not any("\r" in line or "\n" in line for line in lines), lines
    return "\r\n".join(lines + ["", ""]).encode("latin-1")
