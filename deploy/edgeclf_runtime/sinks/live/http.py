"""An HTTP request's head, read up to a limit and parsed strictly, and an answer's.

A connection carries one request.  What follows its head is never taken for another, so nothing can be
smuggled behind it.
"""

import http
import re
from typing import Dict, List, NamedTuple

MAX_TARGET_BYTES = 4096
MAX_HEAD_BYTES = 16384  # a browser sends this host's cookies, of every port
MAX_FIELDS = 100
_METHOD = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,32}\Z")
_FIELD_NAME = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+\Z")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


class Refusal(Exception):  # noqa: N818 - an answer, not a failure
    """A request is not granted.

    status      HTTP's number
    reason      a sentence for whoever asked, text without markup
    headers     more headers of the answer, (name, value) each
    """

    def __init__(self, status, reason, *headers):
        super().__init__(reason)
        self.status, self.reason, self.headers = status, reason, headers


class Request(NamedTuple):
    """A request's head; ``fields`` holds every value of a header by its name in lower case."""

    method: str
    path: str
    query: bytes
    fields: Dict[bytes, List[bytes]]

    def field(self, name):
        """Return a header's value, or None; a Refusal if it is there twice, as readers would choose differently."""
        values = self.fields.get(name, [])
        if len(values) > 1:
            raise Refusal(400, "the header {} is there {} times".format(name.decode("ascii"), len(values)))
        return values[0] if values else None

    def argument(self, name):
        """Return the query's first value of a name, as it is written, or None."""
        for part in self.query.split(b"&"):
            found, _, value = part.partition(b"=")
            if found == name:
                return value
        return None

    def check_no_body(self):
        """Raise a Refusal if a body is announced: no answer here depends on one, and how long it is can be disputed."""
        if b"transfer-encoding" in self.fields or self.field(b"content-length") not in (None, b"0"):
            raise Refusal(400, "a request without a body was expected")


def read_request(receive):
    """Return the Request that a client sends.

    receive     function that returns the next bytes, none at the end

    Raises Refusal if they are no request, or a longer one than MAX_TARGET_BYTES, MAX_HEAD_BYTES, MAX_FIELDS allow.
    """
    data = bytearray()
    line = None
    end = -1
    while end < 0:
        chunk = receive()
        data += chunk
        if not chunk or not data[:1].isalpha():
            raise Refusal(400, "a complete HTTP request was expected")
        if line is None and b"\n" in chunk:
            # At once: what is no HTTP, or HTTP/0.9, may never send an empty line.
            line = _parse_line(bytes(data[: data.index(b"\n") + 1]))
        if line is None and len(data) > MAX_TARGET_BYTES:
            raise _too_long()
        end = data.find(b"\r\n\r\n", max(0, len(data) - len(chunk) - 3))
        if max(end, len(data) if end < 0 else 0) > MAX_HEAD_BYTES:
            raise Refusal(431, "headers of at most {} bytes were expected".format(MAX_HEAD_BYTES))
    assert line is not None  # the end of the head is the end of a line, too
    method, target = line
    path, _, query = target.partition(b"?")
    return Request(method, path.decode("ascii"), query, _parse_fields(bytes(data[:end]).split(b"\r\n")[1:]))


def _parse_line(line):
    words = line[:-2].split(b" ")
    if not line.endswith(b"\r\n") or len(words) != 3 or not _METHOD.match(words[0]):
        raise Refusal(400, "a request line such as GET / HTTP/1.1 was expected")
    method, target, version = words
    if version not in (b"HTTP/1.0", b"HTTP/1.1"):
        raise Refusal(505, "HTTP/1.0 or HTTP/1.1 was expected")
    if len(target) > MAX_TARGET_BYTES:
        raise _too_long()
    if not target.startswith(b"/") or not all(0x21 <= byte <= 0x7E for byte in target):
        raise Refusal(400, "a path such as / was expected: this is no proxy")
    return method.decode("ascii"), target


def _too_long():
    return Refusal(414, "an address of at most {} bytes was expected".format(MAX_TARGET_BYTES))


def _parse_fields(lines):
    if len(lines) > MAX_FIELDS:
        raise Refusal(431, "at most {} headers were expected".format(MAX_FIELDS))
    fields: Dict[bytes, List[bytes]] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        # A blank before the colon, a continued line, a bare line end: readers have disagreed about each.
        if not colon or not _FIELD_NAME.match(name) or _CONTROL.search(value):
            raise Refusal(400, "headers such as Host: localhost were expected")
        fields.setdefault(name.lower(), []).append(value.strip(b" \t"))
    return fields


def head(status, headers):
    """Return the bytes of an answer's head; ``headers`` are (name, value) each."""
    lines = ["HTTP/1.0 {} {}".format(status, http.HTTPStatus(status).phrase)]
    lines += ["{}: {}".format(name, value) for name, value in headers]
    # A line end in a value would begin another header.
    assert not any("\r" in line or "\n" in line for line in lines), lines
    return "\r\n".join(lines + ["", ""]).encode("latin-1")
