"""Reads cameras by HTTP: an MJPEG stream, or a JPEG image that is requested again and again.

Video files by HTTP are in ``capture/readers/http_video.py``.  FFmpeg is not used for HTTP, because it follows redirects
and playlists to any address.  Images are checked and decoded like image files.
"""

import http.client
import threading
import time
from typing import TYPE_CHECKING, Callable, Optional, Tuple

from ...errors import CameraError, ImageError
from ...images.read import decode_image
from ..source import FLIPS
from .http_client import Address, shown
from .http_parts import MOST_OF_A_PICTURE, boundary_of, parts
from .http_video import Fetched, not_followed, open_http_video
from .reader import Pace, Reader, Reading

if TYPE_CHECKING:
    import numpy as np

    from ..source import Source

SNAPSHOTS_A_SECOND = 1
_DAMAGED_AT_MOST = 10  # images in a row
_JPEG, _ENOUGH_BYTES, _MOST_SPACE = b"\xff\xd8\xff", 16, 4096
_PATIENCE_S = 2.5  # less than the 3 s after which a camera without a frame is lost
_PLAYLIST_TYPES = ("mpegurl", "dash+xml", "scpls", "/sdp", "xspf", "smil")


def open_http(source: "Source") -> Reader:
    """Open a network Source by HTTP; returns its Reader.  Raises CameraError."""
    address = Address(source)
    response = address.get()
    kind = response.headers.get_content_type()
    if any(name in kind for name in _PLAYLIST_TYPES):
        raise CameraError(not_followed(source, kind))
    if kind.startswith("multipart/"):
        return MjpegReader(source, address, response)
    if kind.startswith("image/"):
        return SnapshotReader(source, address, response)
    if kind in ("text/html", "application/json"):
        raise CameraError(
            "{} is {}, not an image; expected the address of an MJPEG stream or a JPEG image".format(
                source.name, "a web page" if kind == "text/html" else "JSON"
            )
        )
    fetched = Fetched(source, response)
    # A playlist may begin with white space.
    while (
        len(fetched.head.strip()) < _ENOUGH_BYTES
        and len(fetched.head) < _MOST_SPACE
        and fetched.read(len(fetched.head) + 1)
    ):
        pass
    if fetched.head.startswith(_JPEG) and response.length is not None:
        return SnapshotReader(source, address, response, fetched.head)
    return open_http_video(source, address, response, fetched)


class PictureReader(Reader):
    """Images that arrive as encoded bytes.

    dropped     images that were never decoded because a newer one had arrived
    """

    def __init__(self, source: "Source", address: Address) -> None:
        self._source, self._address = source, address
        self._flip = FLIPS.get(source.flip or "")
        self._count = 0

    def read(self, out: "Optional[np.ndarray]" = None) -> Reading:
        """See Reader.read()."""
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

    def _next(self) -> Tuple[bytes, float]:
        """Return the next image's bytes, and when they had arrived."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the connection."""
        self._address.close()


class MjpegReader(PictureReader):
    """The newest image of a stream (multipart/x-mixed-replace), read by a thread so that none waits in the network."""

    def __init__(self, source: "Source", address: Address, response: http.client.HTTPResponse) -> None:
        super().__init__(source, address)
        self._newest: Optional[Tuple[bytes, float]] = None
        self._resting = False
        self._ended: Optional[str] = None
        self._changed = threading.Condition()
        threading.Thread(target=self._receive, args=(response,), name="mjpeg", daemon=True).start()

    def _receive(self, response: http.client.HTTPResponse) -> None:
        reason = "it closed the connection"
        try:
            for data in parts(response.read1, boundary_of(response.headers)):
                with self._changed:
                    self.dropped += self._newest is not None and not self._resting
                    self.rested += self._newest is not None and self._resting
                    self._newest = data, time.monotonic()
                    self._changed.notify()
        except (http.client.HTTPException, OSError, ValueError) as error:
            reason = shown(str(error) or type(error).__name__)
        with self._changed:
            self._ended = reason
            self._changed.notify()

    def rest(self, until: float, resting: Callable[[], bool]) -> None:
        """See Reader.rest(): images arrive, and are not decoded."""
        with self._changed:
            self._resting = True
            while resting() and not self._ended and time.monotonic() < until:
                self._changed.wait(max(until - time.monotonic(), 0.0))
            self._resting = False

    def _next(self) -> Tuple[bytes, float]:
        with self._changed:
            self._changed.wait_for(lambda: self._newest or self._ended)
            if self._newest:
                newest, self._newest = self._newest, None
                return newest
        raise CameraError(
            "{} delivers no {}: {}".format(self._source.name, "more frames" if self._count else "frames", self._ended)
        )


class SnapshotReader(PictureReader):
    """An image that is requested again and again: at the Source's rate, or once a second.

    head        the first bytes of the first image, already read to recognize it because the server did not state its type

    After a failure the server is asked again until the last image is _PATIENCE_S old.
    """

    still = True  # the server decides when there is another image

    def __init__(
        self, source: "Source", address: Address, response: http.client.HTTPResponse, head: bytes = b""
    ) -> None:
        super().__init__(source, address)
        self._response: Optional[http.client.HTTPResponse] = response  # to the first request
        self._head, self._named = head, not head
        self._fps = source.fps or SNAPSHOTS_A_SECOND
        self._pace = Pace(self._fps)
        self._last = time.monotonic()

    def _next(self) -> Tuple[bytes, float]:
        while True:
            self._pace.wait()
            try:
                data = self._ask()
            except CameraError:
                if time.monotonic() + 1 / self._fps > self._last + _PATIENCE_S:
                    raise
                time.sleep(1 / self._fps)
                self._pace = Pace(self._fps)  # do not catch up on missed images
                continue
            self._last = time.monotonic()
            return data, self._last

    def _ask(self) -> bytes:
        response, self._response = self._response or self._address.get(), None
        kind = response.headers.get_content_type()
        if self._named and not kind.startswith("image/"):
            self._address.close()
            raise CameraError("{} is {} now, expected an image".format(self._source.name, shown(kind)))
        try:
            data, self._head = self._head + response.read(MOST_OF_A_PICTURE + 1), b""
        except (http.client.HTTPException, OSError) as error:
            self._address.close()
            raise CameraError("the connection to {} broke ({})".format(self._source.name, shown(error)))
        if len(data) > MOST_OF_A_PICTURE:
            raise CameraError("{} is larger than {} MB".format(self._source.name, MOST_OF_A_PICTURE >> 20))
        return data
