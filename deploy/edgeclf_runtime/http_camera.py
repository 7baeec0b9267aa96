"""Cameras by HTTP: an MJPEG stream, a JPEG image that is asked for again and again, a video.

Read here and not by FFmpeg, which follows redirects and playlists to whatever address they name.
Pictures are decoded as files are, checked before; a video goes to FFmpeg through a pipe.
"""

import contextlib
import http.client
import os
import threading
import time
from typing import Any, Optional

from .errors import CameraError, ImageError
from .http_client import Address, shown
from .http_parts import MOST_OF_A_PICTURE, boundary_of, parts
from .images import decode_image
from .sources import FLIPS, Pace
from .video import VideoReader, open_pipe, playlist_name

SNAPSHOTS_A_SECOND = 1
_DAMAGED_AT_MOST = 10  # pictures, one after another
_CHUNK = 1 << 16
_PLAYLIST_TYPES = ("mpegurl", "dash+xml", "scpls", "/sdp", "xspf", "smil")


def open_http(source):
    """Open a network Source by HTTP; returns a reader as ``video.VideoReader`` is.  Raises CameraError."""
    address = Address(source)
    response = address.get()
    kind = response.headers.get_content_type()
    if any(name in kind for name in _PLAYLIST_TYPES):
        raise CameraError(_playlist(source, kind))
    if kind.startswith("multipart/"):
        return MjpegReader(source, address, response)
    if kind.startswith("image/"):
        return SnapshotReader(source, address, response)
    if kind in ("text/html", "application/json"):
        raise CameraError(
            "{} is {}, not a picture; the address of an MJPEG stream or a JPEG image was expected".format(
                source.name, "a web page" if kind == "text/html" else "JSON"
            )
        )
    return _open_film(source, address, response)


def _playlist(source, name):
    return "{} is {}, which is not followed; give the address of the stream itself".format(source.name, name)


class PictureReader:
    """Pictures that come as bytes.

    dropped     pictures that were never decoded, because a newer one had come
    """

    rate = None
    dropped = 0

    def __init__(self, source, address):
        self._source, self._address = source, address
        self._flip: Any = FLIPS.get(source.flip)
        self._count = 0

    def read(self, out=None):
        """See ``video.VideoReader.read``."""
        damaged = 0
        while True:
            data, captured = self._next()
            before = time.monotonic()
            try:
                image = decode_image(data, self._source.name)
                break
            except ImageError as error:
                damaged += 1
                if not self._count or damaged >= _DAMAGED_AT_MOST or "megapixels" in str(error):
                    raise CameraError(str(error))
        if self._flip is not None:
            import cv2

            image = cv2.flip(image, self._flip)
        self._count += 1
        return image, captured, (time.monotonic() - before) * 1e3

    def _next(self):
        """Return the bytes of the next picture, and when they had arrived."""
        raise NotImplementedError

    def close(self):
        """Close the connection."""
        self._address.close()


class MjpegReader(PictureReader):
    """The newest picture of a stream (multipart/x-mixed-replace), read by a thread so that none waits in the network."""

    def __init__(self, source, address, response):
        super().__init__(source, address)
        self._newest: Any = None
        self._ended: Optional[str] = None
        self._changed = threading.Condition()
        threading.Thread(target=self._receive, args=(response,), name="mjpeg", daemon=True).start()

    def _receive(self, response):
        reason = "it closed the connection"
        try:
            for data in parts(response.read1, boundary_of(response.headers)):
                with self._changed:
                    self.dropped += self._newest is not None
                    self._newest = data, time.monotonic()
                    self._changed.notify()
        except (http.client.HTTPException, OSError, ValueError) as error:
            reason = shown(str(error) or type(error).__name__)
        with self._changed:
            self._ended = reason
            self._changed.notify()

    def _next(self):
        with self._changed:
            self._changed.wait_for(lambda: self._newest or self._ended)
            if self._newest:
                newest, self._newest = self._newest, None
                return newest
        raise CameraError(
            "{} delivers no frame{}: {}".format(self._source.name, " any more" if self._count else "", self._ended)
        )


class SnapshotReader(PictureReader):
    """An image that is asked for again and again: at the Source's rate, or once a second."""

    def __init__(self, source, address, response):
        super().__init__(source, address)
        self._response: Any = response  # to the first request
        self._pace = Pace(source.fps or SNAPSHOTS_A_SECOND)

    def _next(self):
        self._pace.wait()
        response, self._response = self._response or self._address.get(), None
        kind = response.headers.get_content_type()
        if not kind.startswith("image/"):
            raise CameraError("{} is {} now, an image was expected".format(self._source.name, shown(kind)))
        try:
            data = response.read(MOST_OF_A_PICTURE + 1)
        except (http.client.HTTPException, OSError) as error:
            raise CameraError("{} broke off ({})".format(self._source.name, shown(error)))
        if len(data) > MOST_OF_A_PICTURE:
            raise CameraError("{} is larger than {} MB".format(self._source.name, MOST_OF_A_PICTURE >> 20))
        return data, time.monotonic()


def _open_film(source, address, response):
    """Open what is neither a stream nor an image; it has an end where its length is known."""
    try:
        head = response.read1(_CHUNK)
    except (http.client.HTTPException, OSError) as error:
        raise CameraError("{} broke off ({})".format(source.name, shown(error)))
    playlist = playlist_name(head)
    if playlist:
        raise CameraError(_playlist(source, playlist))
    finite = response.length is not None or response.chunked
    return FilmReader(source, address, _Pipe(response, head), finite)


class FilmReader(VideoReader):
    """A video by HTTP, which FFmpeg reads from a pipe."""

    def __init__(self, source, address, pipe, finite):
        self._address, self._pipe = address, pipe
        super().__init__(source, open_pipe(pipe.handle, finite), finite)

    def _end(self):
        if self._pipe.broken:
            raise CameraError("{} broke off ({})".format(self._source.name, self._pipe.broken))
        super()._end()

    def close(self):
        """See VideoReader.close()."""
        self._address.close()
        super().close()


class _Pipe:
    """A thread that writes a response into a pipe.

    handle      the end to read from
    broken      why it ended before the response did, else ""
    """

    def __init__(self, response, head):
        self.handle, self._end = os.pipe()
        self.broken = ""
        threading.Thread(target=self._write, args=(response, head), name="film", daemon=True).start()

    def _write(self, response, data):
        with contextlib.suppress(BrokenPipeError), os.fdopen(self._end, "wb", buffering=0) as pipe:
            try:
                while data:
                    pipe.write(data)
                    data = response.read1(_CHUNK)
                if response.length:
                    self.broken = "{} bytes are missing".format(response.length)
            except BrokenPipeError:
                raise
            except (http.client.HTTPException, OSError) as error:
                self.broken = shown(str(error) or type(error).__name__)
