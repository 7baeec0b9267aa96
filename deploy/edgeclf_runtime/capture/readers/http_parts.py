"""Splits an MJPEG stream (multipart/x-mixed-replace) into its images, as lenient as real cameras require."""

import struct
from email.message import Message
from typing import Callable, Dict, Iterator

from ...images.formats import read_picture

MOST_OF_A_PICTURE = 64 << 20
_MOST_OF_A_HEADER, _MOST_BETWEEN = 1 << 13, 1 << 16
_CHUNK = 1 << 16
_END_OF_JPEG = b"\xff\xd9"


def boundary_of(headers: Message) -> bytes:
    """Return the start of the lines between parts; many cameras include the dashes in the parameter."""
    given = headers.get_param("boundary") or ""
    given = given if isinstance(given, str) else ""
    return b"--" + given.strip("\"' ").lstrip("-").encode("latin-1", "replace")


def parts(read: Callable[[int], bytes], boundary: bytes) -> Iterator[bytes]:
    """Yield each image of a stream as bytes.

    read        function that returns the next available bytes, at most as many as requested; b"" at the end
    boundary    see boundary_of()

    Raises ValueError if the stream is not valid.
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
    """Bytes that were received and not used yet.  Raises EOFError when there are no more."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read
        self.held = bytearray()

    def fill(self) -> None:
        """Wait for more bytes."""
        data = self._read(_CHUNK)
        if not data:
            raise EOFError
        self.held += data

    def take(self, count: int) -> bytes:
        """Return the next ``count`` bytes."""
        while len(self.held) < count:
            self.fill()
        data = bytes(self.held[:count])
        del self.held[:count]
        return data

    def line(self, most: int) -> bytes:
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
                raise ValueError("a line of more than {} bytes between the images".format(most))


def _skip_to(buffer: Buffer, boundary: bytes) -> None:
    """Read to the end of the next boundary line."""
    skipped = 0
    while skipped <= _MOST_BETWEEN:
        line = buffer.line(_MOST_OF_A_HEADER)
        if line.startswith(boundary):
            return
        skipped += len(line) + 1
    raise ValueError("{} bytes without a boundary between the images".format(skipped))


def _headers(buffer: Buffer) -> Dict[str, str]:
    headers: Dict[str, str] = {}
    size = 0
    while True:
        line = buffer.line(_MOST_OF_A_HEADER)
        size += len(line) + 1
        if size > _MOST_OF_A_HEADER:
            raise ValueError("more than {} bytes of headers before an image".format(_MOST_OF_A_HEADER))
        if not line:
            return headers
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip().lower()


def _bounded(size: int) -> int:
    if size > MOST_OF_A_PICTURE:
        raise ValueError("an image of more than {} MB".format(MOST_OF_A_PICTURE >> 20))
    return size


def _until_end(buffer: Buffer, boundary: bytes) -> bytes:
    """Return an image of unknown length: up to the next boundary, or to its own end if nothing follows yet."""
    searched = 0
    while True:
        at = buffer.held.find(b"\n" + boundary, max(0, searched - len(boundary)))
        if at >= 0:
            return buffer.take(at + 1).rstrip(b"\r\n")
        _bounded(len(buffer.held))
        # An embedded thumbnail ends with the same bytes.
        if buffer.held[-4:].rstrip(b"\r\n").endswith(_END_OF_JPEG) and _is_whole(bytes(buffer.held)):
            return buffer.take(len(buffer.held)).rstrip(b"\r\n")
        searched = len(buffer.held)
        buffer.fill()


def _is_whole(data: bytes) -> bool:
    try:
        read_picture(data)
    except (ValueError, IndexError, struct.error):
        return False
    return True
