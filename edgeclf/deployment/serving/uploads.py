"""Reads what clients send, within limits of size, memory and time."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import anyio
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from .refusal import Refusal, too_busy

# It logs each form that is damaged, so that clients could fill this server's log.
logging.getLogger("python_multipart").setLevel(logging.CRITICAL)

READ_S = 30.0
"""Time for a body to arrive."""
# A client that is still sending would not read the answer, so the rest of a body that is too large is read, within limits.
_DRAIN_S, _DRAIN_TIMES = 2.0, 4
_MOST_MEMORY = 256 << 20
_FORM = "multipart/form-data"
# curl --data-binary sends the second of them.
_RAW = ("", "application/x-www-form-urlencoded", "application/octet-stream")


class Uploads:
    """Reads bodies of at most ``most`` bytes; all that are held together have at most 256 MB.  For one event loop."""

    def __init__(self, most: int, memory: int = _MOST_MEMORY) -> None:
        self.most = most
        self._left = max(memory, most)

    @contextmanager
    def holding(self) -> Iterator[Body]:
        """Yield a Body, whose memory counts until the block ends."""
        body = Body(self)
        try:
            yield body
        finally:
            self._left += body.held

    def take(self, size: int) -> None:
        """Count bytes; raises Refusal with status 503 if too many are held."""
        if size > self._left:
            raise too_busy("the server holds as many uploads as its memory allows")
        self._left -= size


class Body:
    """One request's body; held: the bytes that are counted for it."""

    def __init__(self, uploads: Uploads) -> None:
        self._uploads = uploads
        self.held = 0

    async def read(self, request: Request) -> bytes:
        """Return a request's body.

        Raises Refusal: 413 if it is too large, even if it does not say how large it is; 408 if it takes too long; 415 if
        it is compressed; 400 if it ends early; 503 if too much is held.
        """
        if request.headers.get("content-encoding", "identity").lower() != "identity":
            raise Refusal(415, "the body is compressed; a body without Content-Encoding was expected")
        told = request.headers.get("content-length", "")
        size = int(told) if told.isdecimal() else 0
        if size > self._uploads.most and "expect" in request.headers:
            raise self._too_large()  # it is not sent before we agree
        kept, stream = bytearray(), request.stream()
        with anyio.move_on_after(READ_S) as limit:
            try:
                async for part in stream:
                    size = max(size, self.held + len(part))
                    if size > self._uploads.most:
                        await self._drain(stream)
                        break
                    self._uploads.take(len(part))
                    self.held += len(part)
                    kept += part
            except ClientDisconnect:
                raise Refusal(400, "the body ended early") from None
        if size > self._uploads.most:
            raise self._too_large()
        if limit.cancelled_caught:
            raise Refusal(408, f"the body did not arrive within {READ_S:.0f} s", {"Connection": "close"})
        return bytes(kept)

    def _too_large(self) -> Refusal:
        most = self._uploads.most / 1e6
        return Refusal(
            413, f"the body is larger than the {most:g} MB allowed; shrink the image", {"Connection": "close"}
        )

    async def _drain(self, stream: AsyncIterator[bytes]) -> None:
        """Read and forget the rest of a body."""
        size = 0
        with anyio.move_on_after(_DRAIN_S):
            async for part in stream:
                size += len(part)
                if size > _DRAIN_TIMES * self._uploads.most:
                    return


def image_in(body: bytes, content_type: str) -> bytes:
    """Return the image file in a body: the body itself, or the file of a form.

    Raises Refusal: 415 for a body of another kind, 400 for a form without exactly one file.
    """
    kind, parameters = parse_options_header(content_type)
    name = kind.decode("latin-1").lower()
    if name in _RAW or name.startswith("image/"):
        return body
    if name != _FORM:
        raise Refusal(415, f"the body has the type {name[:100]!a}; an image or a form ({_FORM}) was expected")
    files = _files(body, parameters.get(b"boundary", b""))
    if len(files) != 1:
        raise Refusal(400, f"the form has {len(files)} files; one was expected, as curl -F image=@photo.jpg sends it")
    return files[0]


def _files(body: bytes, boundary: bytes) -> list[bytes]:
    """Return the files of a form: its parts with a file name."""
    parts: list[tuple[bytearray, bytearray]] = []
    callbacks = {
        "on_part_begin": lambda: parts.append((bytearray(), bytearray())),
        "on_header_field": lambda data, start, end: parts[-1][0].extend(b"\n" + data[start:end] + b":"),
        "on_header_value": lambda data, start, end: parts[-1][0].extend(data[start:end]),
        "on_part_data": lambda data, start, end: parts[-1][1].extend(data[start:end]),
    }
    try:
        parser = MultipartParser(boundary, callbacks)  # type: ignore[arg-type]
        parser.write(body)
        parser.finalize()
    except FormParserError:
        raise Refusal(400, "the form cannot be read; it is damaged or cut off") from None
    return [bytes(content) for header, content in parts if b"filename" in header.lower()]
