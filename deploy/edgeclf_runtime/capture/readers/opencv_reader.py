"""Reads cameras, streams and video files through OpenCV.

Every call here can block forever or crash, because drivers and decoders do.  So this module is used only in the capture
process (``capture/child.py``), which its parent can kill.

FFmpeg opens whatever a file tells it to: a playlist names other files, and addresses.  So it is limited to container
formats that consist of one stream of bytes, and to the one protocol that the source itself needs.
"""

import contextlib
import os
import re
import sys
import time
from typing import TYPE_CHECKING, Callable, Iterator, List, Optional, Tuple

from ...errors import CameraError, SourceError
from ...files.read import native_path
from ...images.read import MAX_PIXELS
from ..source import FLIPS, too_large
from .frame_layouts import frame_as_bgr
from .reader import Reader, ReaderError, Reading
from .rtsp_probe import probe

if TYPE_CHECKING:
    from typing import NoReturn  # not in Python 3.6.1

    import cv2
    import numpy as np

    from ..source import Source

    # Takes an image and the array to fill, if there is one; returns the next image.
    Step = Callable[[np.ndarray, Optional[np.ndarray]], np.ndarray]

_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
# TCP, because lost UDP packets show as gray smears; no buffering, because only the newest frame matters.
_RTSP_OPTIONS = "rtsp_transport;tcp|fflags;nobuffer|flags;low_delay|{};{:.0f}"
# Together with the time for a probe, less than the parent waits.
_RTSP_TIMEOUT_S = 6.0
# FFmpeg 5 renamed the option; in older versions the new name means to listen for a connection.
_TIMEOUT_OPTION, _OLD_TIMEOUT_OPTION, _FFMPEG_5 = "timeout", "stimeout", 59
_RTSP_PROTOCOLS, _RTSP_FORMATS = "tcp,tls,udp,rtp,srtp", "rtsp"
# FFmpeg's demuxers that read only the bytes they are given: not concat, hls, dash, sdp, image2, ...
CONTAINERS = (
    "avi,mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,mpegts,mpeg,mpegvideo,mpjpeg,mjpeg,mjpeg_2000,h261,h263,h264,hevc,vvc,m4v,"
    "av1,obu,ivf,flv,live_flv,asf,ogg,nut,mxf,dv,gif,apng,rm,swf,wtv,vc1,vc1test,yuv4mpegpipe,nsv,nuv,dirac,dnxhd,cavsvideo,"
    "avs,avs2,avs3,smk,smjpeg,roq,film_cpk,jpeg_pipe,png_pipe,bmp_pipe,tiff_pipe,webp_pipe"
)
_HEAD_BYTES = 4096
_PLAYLISTS = (
    (b"#extm3u", "an HLS or M3U playlist"),
    (b"ffconcat", "a concat playlist"),
    (b"[playlist]", "a PLS playlist"),
    (b"[reference]", "an ASX playlist"),
    (b"<asx", "an ASX playlist"),
    (b"<?xml", "an XML file, as DASH and XSPF playlists are"),
    (b"<mpd", "a DASH playlist"),
    (b"<smil", "a SMIL playlist"),
    (b"v=0", "an SDP description"),
    (b"rtsptext", "a QuickTime playlist"),
)


def playlist_name(head: bytes) -> Optional[str]:
    """Return the kind of playlist that begins with these bytes, or None."""
    head = head[:_HEAD_BYTES].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return next((name for begin, name in _PLAYLISTS if head.startswith(begin)), None)


def open_pipe(handle: int) -> "cv2.VideoCapture":
    """Open a video that comes through a pipe, by its read handle; returns OpenCV's capture."""
    import cv2

    _allow("pipe", CONTAINERS, "")
    with _quiet():
        return cv2.VideoCapture("pipe:{}".format(handle), cv2.CAP_FFMPEG)


def open_path(path: str) -> "cv2.VideoCapture":
    """Open a video file; returns OpenCV's capture."""
    import cv2

    _allow("file", CONTAINERS, "")
    with _quiet():
        # An absolute path, because FFmpeg would take text before a colon for a protocol.
        return cv2.VideoCapture(native_path(os.path.abspath(path)), _ffmpeg())


class OpenCVReader(Reader):
    """A source that OpenCV's VideoCapture opens.

    capture     OpenCV's
    granted     what a device granted, as a sentence, and whether that is what was requested
    start       ``time.monotonic()`` when opening began, if known
    """

    def __init__(
        self,
        source: "Source",
        capture: "cv2.VideoCapture",
        granted: Tuple[str, bool] = ("", True),
        start: Optional[float] = None,
    ) -> None:
        import cv2

        self._source, (self.granted, self.as_asked) = source, granted
        self._count = 0
        self._capture = capture
        if not capture.isOpened():
            raise self._unopened(start)
        width, height = capture.get(cv2.CAP_PROP_FRAME_WIDTH), capture.get(cv2.CAP_PROP_FRAME_HEIGHT)
        if width * height > MAX_PIXELS:
            capture.release()
            raise SourceError(too_large(int(width), int(height), source.name))
        self._height = int(height)
        self._steps: List[Step] = []
        flip = FLIPS.get(source.flip or "")
        if flip is not None:
            self._steps.append(lambda image, out: cv2.flip(image, flip, out))
        self._stored: "Optional[np.ndarray]" = None

    def read(self, out: "Optional[np.ndarray]" = None) -> Reading:
        """See Reader.read()."""
        if not self._capture.grab():
            self._end()
        captured = time.monotonic()
        image = self._retrieve(out)
        return image, captured, (time.monotonic() - captured) * 1e3

    def rest(self, until: float, resting: Callable[[], bool]) -> None:
        """See Reader.rest(): each frame is fetched, or the next one would be an old one, but not converted."""
        while resting() and time.monotonic() < until:
            if not self._capture.grab():
                self._end()
            self.rested += 1

    def _retrieve(self, out: "Optional[np.ndarray]") -> "np.ndarray":
        """Decode the grabbed frame, and apply the steps."""
        ok, image = self._capture.retrieve(self._stored if self._steps else out)
        if not ok or image is None or not image.size:
            self._end()
        if self._steps:
            self._stored = image
        image = frame_as_bgr(image, self._source, self._height)
        for step in self._steps:
            image = step(image, out if step is self._steps[-1] else None)
        self._count += 1
        return image

    def _unopened(self, start: Optional[float]) -> CameraError:
        """Return the error for a source that OpenCV did not open."""
        source = self._source
        is_rtsp = source.location.lower().startswith("rtsp://")
        probed = probe(source.address, source.name) if source.address and is_rtsp else ""
        late = source.kind == "network" and start is not None and time.monotonic() - start >= _RTSP_TIMEOUT_S
        # FFmpeg does not report a timeout.
        return ReaderError("{} cannot be opened{}".format(source.name, ", it timed out" if late else ""), probed)

    def _end(self) -> "NoReturn":
        raise ReaderError("{} delivers no {}".format(self._source.name, "more frames" if self._count else "frames"))

    def close(self) -> None:
        """Stop the camera properly, as its driver expects."""
        self._capture.release()


def open_stream(source: "Source") -> "cv2.VideoCapture":
    """Open an RTSP stream or a pipeline; returns OpenCV's capture.  Raises SourceError if this OpenCV has no GStreamer."""
    import cv2

    if source.pipeline:
        return cv2.VideoCapture(source.pipeline, cv2.CAP_GSTREAMER)
    if source.kind == "gstreamer":
        if not has_gstreamer():
            raise SourceError(needs_gstreamer(source.name))
        return cv2.VideoCapture(source.location, cv2.CAP_GSTREAMER)
    found = re.search(r"avformat:\s+YES \((\d+)\.", cv2.getBuildInformation())
    option = _TIMEOUT_OPTION if found and int(found.group(1)) >= _FFMPEG_5 else _OLD_TIMEOUT_OPTION
    _allow(_RTSP_PROTOCOLS, _RTSP_FORMATS, _RTSP_OPTIONS.format(option, _RTSP_TIMEOUT_S * 1e6))
    return cv2.VideoCapture(source.location, _ffmpeg())


def has_gstreamer() -> bool:
    """Return whether this OpenCV was built with GStreamer."""
    return _was_built_with("GStreamer")


def needs_gstreamer(name: str) -> str:
    """Return the error message for something that needs it."""
    import cv2

    return (
        "{} needs an OpenCV with GStreamer, which OpenCV {} of {} lacks: use the system's python3-opencv package "
        "(JetPack includes it), not pip's".format(name, cv2.__version__, sys.executable)
    )


def _ffmpeg() -> int:
    """Return OpenCV's code for FFmpeg, or for any reader if OpenCV was built without FFmpeg.

    Otherwise OpenCV would try other readers after FFmpeg refuses: image patterns, and ones that print the address.
    """
    import cv2

    return cv2.CAP_FFMPEG if _was_built_with("FFMPEG") else cv2.CAP_ANY


def _was_built_with(pattern: str) -> bool:
    import cv2

    return re.search(pattern + r":\s+YES", cv2.getBuildInformation()) is not None


def _allow(protocols: str, formats: str, options: str) -> None:
    """Let FFmpeg open only these protocols and formats; its other options are the user's, or ``options``."""
    options = os.environ.get(_OPTIONS, options)
    limits = "protocol_whitelist;{}|format_whitelist;{}".format(protocols, formats)
    # If an option is given twice, the last one counts.
    os.environ[_OPTIONS] = options + "|" + limits if options else limits


def silence() -> None:
    """Discard everything that decoders print to stderr from now on."""
    os.dup2(1, 2)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Discard what OpenCV's readers print about a file that they cannot read; the error reports it once.

    stdout is used because it is /dev/null in the capture process, which may no longer open files.
    """
    stderr = os.dup(2)
    os.dup2(1, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
