"""Reads video files and video streams by HTTP: FFmpeg gets them through a pipe.

A video file has an end: its length is known, or its container says how long it is.  Without either it is a live stream.
A file whose index comes last cannot be read from a pipe, so it is downloaded into memory first.
"""

import contextlib
import http.client
import io
import math
import os
import threading
from typing import IO, TYPE_CHECKING, Optional

from ...errors import CameraError, EndOfStream, IncompleteFilm
from ..frame_memory import FrameMemory
from .containers import VideoHeader, mp4, read_header
from .http_client import Address, shown
from .opencv_reader import OpenCVReader, open_path, open_pipe, playlist_name
from .video_file import VideoFileReader

if TYPE_CHECKING:
    from typing import NoReturn

    import cv2

    from ..source import Source

_CHUNK = 1 << 16
# An MP4 index takes megabytes, other headers a few kilobytes.
_MOST_HEADER_BYTES, _MOST_INDEX_BYTES = 1 << 16, 64 << 20
_MOST_FETCHED_BYTES = 256 << 20


def not_followed(source: "Source", name: str) -> str:
    """Return the error message for an address that refers to others."""
    return "{} is {}, which is not followed; use the address of the stream itself".format(source.name, name)


def open_http_video(
    source: "Source", address: Address, response: http.client.HTTPResponse, fetched: "Fetched"
) -> OpenCVReader:
    """Open what is neither an MJPEG stream nor an image.  Raises CameraError.

    fetched     the response's first bytes
    """
    playlist = playlist_name(fetched.head)
    if playlist:
        raise CameraError(not_followed(source, playlist))
    header = fetched.read_header()
    if mp4.index_is_last(fetched.head):
        memory = fetched.read_all()
        stream, size = os.fdopen(os.dup(memory.fileno()), "rb"), os.fstat(memory.fileno()).st_size
        capture = open_path("/proc/self/fd/{}".format(stream.fileno()))
        return HttpVideo(source, capture, read_header(stream, size), stream, size, address)
    pipe = _Pipe(response, fetched.head)
    capture = open_pipe(pipe.handle)
    if response.length is not None or header.times or header.duration_s:
        return HttpVideo(source, capture, header, None, fetched.size, address, pipe)
    return HttpStream(source, capture, address, pipe, bool(response.chunked))


class HttpVideo(VideoFileReader):
    """A video file by HTTP, read from a pipe or from memory."""

    def __init__(
        self,
        source: "Source",
        capture: "cv2.VideoCapture",
        header: VideoHeader,
        stream: Optional[IO[bytes]],
        size: float,
        address: Address,
        pipe: "Optional[_Pipe]" = None,
    ) -> None:
        self._address, self._pipe = address, pipe
        super().__init__(source, capture, header, stream, 0 if math.isinf(size) else int(size))

    def _end(self) -> "NoReturn":
        if self._pipe and self._pipe.broken and self._count:
            promised = self._header.frames or 0
            of = " of {}".format(promised) if promised > self._count else ""
            raise IncompleteFilm(
                "{} ended after {}{} frames: the connection broke ({}); the frames before that were classified".format(
                    self._source.name, self._count, of, self._pipe.broken
                )
            )
        super()._end()

    def close(self) -> None:
        """See Reader.close()."""
        self._address.close()
        super().close()


class HttpStream(OpenCVReader):
    """An endless video stream by HTTP; it ends only if the server ends a chunked response."""

    def __init__(
        self, source: "Source", capture: "cv2.VideoCapture", address: Address, pipe: "_Pipe", chunked: bool
    ) -> None:
        self._address, self._pipe, self._chunked = address, pipe, chunked
        super().__init__(source, capture)

    def _end(self) -> "NoReturn":
        if self._pipe.broken:
            raise CameraError("the connection to {} broke ({})".format(self._source.name, self._pipe.broken))
        if self._chunked and self._count:
            raise EndOfStream("{} ended after {} frames".format(self._source.name, self._count))
        super()._end()

    def close(self) -> None:
        """See Reader.close()."""
        self._address.close()
        super().close()


class Fetched:
    """The part of a response that has been received so far.

    size        bytes in total, infinite if unknown
    """

    def __init__(self, source: "Source", response: http.client.HTTPResponse) -> None:
        self._source, self._response = source, response
        self.size: float = math.inf if response.length is None else response.length
        self.head = b""

    def read(self, least: int) -> bool:
        """Read until there are ``least`` bytes, or no more; returns whether there are."""
        while len(self.head) < least:
            try:
                data = self._response.read1(_CHUNK)
            except (http.client.HTTPException, OSError) as error:
                raise CameraError("the connection to {} broke ({})".format(self._source.name, shown(error)))
            if not data:
                return False
            self.head += data
        return True

    def read_header(self) -> VideoHeader:
        """Read until the video's header is complete, or too long, and return it."""
        header = read_header(io.BytesIO(self.head), self.size)
        while header.fault and not mp4.index_is_last(self.head):
            most = _MOST_INDEX_BYTES if header.container == "MP4" else _MOST_HEADER_BYTES
            # Twice as much each time, because parsing starts over each time.
            if len(self.head) >= most or not self.read(2 * len(self.head)):
                break
            header = read_header(io.BytesIO(self.head), self.size)
        return header

    def read_all(self) -> FrameMemory:
        """Return the whole response as a FrameMemory; raises CameraError if it is too large or incomplete."""
        if self.size <= _MOST_FETCHED_BYTES or math.isinf(self.size):
            memory = FrameMemory()
            with os.fdopen(os.dup(memory.fileno()), "wb") as out:
                written = out.write(self.head)
                while written <= _MOST_FETCHED_BYTES:
                    self.head = b""
                    if not self.read(1):
                        break
                    written += out.write(self.head)
            if self._response.length:
                raise CameraError(
                    "the connection to {} broke ({} bytes are missing)".format(self._source.name, self._response.length)
                )
            if written <= _MOST_FETCHED_BYTES:
                return memory
        raise CameraError(
            "{} has its index at its end and is larger than {} MB, so it cannot be read by HTTP; download it first, or "
            "move the index with ffmpeg -i VIDEO -c copy -movflags +faststart NEW.mp4".format(
                self._source.name, _MOST_FETCHED_BYTES >> 20
            )
        )


class _Pipe:
    """A pipe that a thread fills with a response.

    handle      the end to read from
    broken      why it ended before the response did, else ""
    """

    def __init__(self, response: http.client.HTTPResponse, head: bytes) -> None:
        self.handle, self._end = os.pipe()
        self.broken = ""
        threading.Thread(target=self._write, args=(response, head), name="video", daemon=True).start()

    def _write(self, response: http.client.HTTPResponse, data: bytes) -> None:
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
