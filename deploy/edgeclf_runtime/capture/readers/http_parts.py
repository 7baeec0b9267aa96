"""Pictures of an MJPEG stream (multipart/x-mixed-replace): the parts of an endless body, as cameras really send them."""

import struct
from typing import Dict

from ...images.formats import read_picture

MOST_OF_A_PICTURE = 64 << 20
_MOST_OF_A_HEADER, _MOST_BETWEEN = 1 << 13, 1 << 16
_CHUNK = 1 << 16
_END_OF_JPEG = b"\xff\xd9"


def boundary_of(headers):
    """Return what begins the lines between parts; many cameras write the dashes into the parameter."""
    given = headers.get_param("boundary") or ""
    given = given if isinstance(given, str) else ""
    return b"--" + given.strip("\"' ").lstrip("-").encode("latin-1", "replace")


def parts(read, boundary):
    """Yield each picture of a stream as bytes.

    read        returns the next bytes that are there, at most as many as it is asked for; b"" at the end
    boundary    see boundary_of()

    Raises ValueError for what is no such stream.
    """
    buffer = Buffer(read)
    try:
        while True:
            _skip_to(buffer, boundary)
            headers = _headers(buffer)
            length = headers.get("content-length", "")
            data = buffer.take(_bounded(int(length))) if length.isdecimal() else _until_end(buffer, boundary)
            if data and headers.get("content-type", "image/jpeg").startswith("image/"):
                yield data
    except EOFError:
        return


class Buffer:
    """Bytes that were received and not taken yet.  Raises EOFError when there will be no more."""

    def __init__(self, read):
        self._read = read
        self.held = bytearray()

    def fill(self):
        """Wait for more."""
        data = self._read(_CHUNK)
        if not data:
            raise EOFError
        self.held += data

    def take(self, count):
        """Return the next ``count`` bytes."""
        while len(self.held) < count:
            self.fill()
        data = bytes(self.held[:count])
        del self.held[:count]
        return data

    def line(self, most):
        """Return the next line without its end; ValueError if it is longer than ``most``."""
        searched = 0
        while True:
            at = self.held.find(b"\n", searched)
            if at < 0 and len(self.held) <= most:
                searched = len(self.held)
                self.fill()
            elif 0 <= at <= most:
                return self.take(at + 1).rstrip(b"\r\n")
            else:
                raise ValueError("a line of more than {} bytes between the pictures".format(most))


def _skip_to(buffer, boundary):
    """Read on to the end of the next line that is a boundary."""
    skipped = 0
    while skipped <= _MOST_BETWEEN:
        line = buffer.line(_MOST_OF_A_HEADER)
        if line.startswith(boundary):
            return
        skipped += len(line) + 1
    raise ValueError("{} bytes without a boundary between the pictures".format(skipped))


def _headers(buffer):
    headers: Dict[str, str] = {}
    size = 0
    while True:
        line = buffer.line(_MOST_OF_A_HEADER)
        size += len(line) + 1
        if size > _MOST_OF_A_HEADER:
            raise ValueError("more than {} bytes of headers before a picture".format(_MOST_OF_A_HEADER))
        if not line:
            return headers
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip().lower()


def _bounded(size):
    if size > MOST_OF_A_PICTURE:
        raise ValueError("a picture of more than {} MB".format(MOST_OF_A_PICTURE >> 20))
    return size


def _until_end(buffer, boundary):
    """Return a picture whose length nobody tells: up to the next boundary, or to its own end if nothing follows yet."""
    searched = 0
    while True:
        at = buffer.held.find(b"\n" + boundary, max(0, searched - len(boundary)))
        if at >= 0:
            return buffer.take(at + 1).rstrip(b"\r\n")
        _bounded(len(buffer.held))
        # A thumbnail within ends in the same way.
        if buffer.held[-4:].rstrip(b"\r\n").endswith(_END_OF_JPEG) and _is_whole(bytes(buffer.held)):
            return buffer.take(len(buffer.held)).rstrip(b"\r\n")
        searched = len(buffer.held)
        buffer.fill()


def _is_whole(data):
    try:
        read_picture(data)
    except (ValueError, IndexError, struct.error):
        return False
    return True
