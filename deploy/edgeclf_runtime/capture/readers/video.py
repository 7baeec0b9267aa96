"""OpenCV's readers for cameras, streams and video files.

Every call here may block for ever or crash, since drivers and decoders do: this module is for
the capture process alone (``capture/child.py``), which its parent can kill.

FFmpeg opens what a file tells it to: a playlist names other files, and addresses.  So it is given a list of
formats, containers of one stream of bytes, and of protocols, the one that the source itself needs.
"""

import contextlib
import os
import re
import sys
import time
from typing import Any, Callable, List

from ...errors import SourceError
from ...files.read import native_path
from ...images.layouts import frame_as_bgr
from ...images.read import MAX_PIXELS
from ..source import FLIPS, too_large
from .base import Reader, ReaderError
from .rtsp_probe import probe

_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
# TCP, because lost UDP packets show as grey smears; no buffering, because newest is what counts.
_RTSP_OPTIONS = "rtsp_transport;tcp|fflags;nobuffer|flags;low_delay|{};{:.0f}"
# With the time that asking again takes, less than the parent waits.
_RTSP_TIMEOUT_S = 6.0
# FFmpeg 5 has renamed the option; to older ones the new name means to wait for a caller.
_TIMEOUT_OPTION, _OLD_TIMEOUT_OPTION, _FFMPEG_5 = "timeout", "stimeout", 59
_RTSP_PROTOCOLS, _RTSP_FORMATS = "tcp,tls,udp,rtp,srtp", "rtsp"
# FFmpeg's demuxers that read nothing but the bytes they are given: not concat, hls, dash, sdp, image2, ...
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


def playlist_name(head):
    """Return what kind of playlist begins with these bytes, or None."""
    head = head[:_HEAD_BYTES].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return next((name for begin, name in _PLAYLISTS if head.startswith(begin)), None)


def open_pipe(handle):
    """Open a video that comes through a pipe, by its reading end's handle; returns OpenCV's capture."""
    import cv2

    _allow("pipe", CONTAINERS, "")
    with _quiet():
        return cv2.VideoCapture("pipe:{}".format(handle), cv2.CAP_FFMPEG)


def open_path(path):
    """Open a video file; returns OpenCV's capture."""
    import cv2

    _allow("file", CONTAINERS, "")
    with _quiet():
        # An absolute path: FFmpeg would take a colon for a protocol's.
        return cv2.VideoCapture(native_path(os.path.abspath(path)), _ffmpeg())


class VideoReader(Reader):
    """Whatever OpenCV's VideoCapture opens, frame after frame.

    capture     OpenCV's
    granted     what a device granted, as a sentence, and whether that is what was asked
    start       ``time.monotonic()`` when its opening began, if that is known
    """

    def __init__(self, source, capture, granted=("", True), start=None):
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
        # Each takes an image and the array to fill, and returns the next image.
        self._steps: List[Callable[[Any, Any], Any]] = []
        if source.flip in FLIPS:
            self._steps.append(lambda image, out: cv2.flip(image, FLIPS[source.flip], out))
        self._stored: Any = None

    def read(self, out=None):
        """Read the next frame, into ``out`` where it has the frame's shape.

        Returns the image (BGR, uint8 [height, width, 3]), the ``time.monotonic()`` at which it
        arrived, and the milliseconds from then (a film: from the call) until it was decoded.
        Raises EndOfStream after a film's last frame, IncompleteFilm where that comes too soon, and CameraError where
        a camera delivers none.
        """
        if not self._capture.grab():
            self._end()
        captured = time.monotonic()
        image = self._retrieve(out)
        return image, captured, (time.monotonic() - captured) * 1e3

    def _retrieve(self, out):
        """Decode the frame that was grabbed, and take the steps."""
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

    def _unopened(self, start):
        """Return the error of a source that OpenCV did not open."""
        source = self._source
        probed = probe(source.address, source.name) if source.location.lower().startswith("rtsp://") else ""
        late = source.kind == "network" and start is not None and time.monotonic() - start >= _RTSP_TIMEOUT_S
        # FFmpeg does not say this one.
        return ReaderError("{} cannot be opened{}".format(source.name, ", it timed out" if late else ""), probed)

    def _end(self):
        raise ReaderError("{} delivers no frame{}".format(self._source.name, " any more" if self._count else ""))

    def close(self):
        """Stop the camera in order, as its driver likes it."""
        self._capture.release()


def open_stream(source):
    """Open an RTSP stream or a pipeline; returns OpenCV's capture.  Raises SourceError if this OpenCV has no GStreamer."""
    import cv2

    if source.kind == "gstreamer":
        if not _was_built_with("GStreamer"):
            raise SourceError(
                "{} needs an OpenCV with GStreamer, and OpenCV {} of {} has none: use the python3-opencv of the "
                "system (JetPack brings it), not pip's".format(source.name, cv2.__version__, sys.executable)
            )
        return cv2.VideoCapture(source.location, cv2.CAP_GSTREAMER)
    found = re.search(r"avformat:\s+YES \((\d+)\.", cv2.getBuildInformation())
    option = _TIMEOUT_OPTION if found and int(found.group(1)) >= _FFMPEG_5 else _OLD_TIMEOUT_OPTION
    _allow(_RTSP_PROTOCOLS, _RTSP_FORMATS, _RTSP_OPTIONS.format(option, _RTSP_TIMEOUT_S * 1e6))
    return cv2.VideoCapture(source.location, _ffmpeg())


def _ffmpeg():
    """Return OpenCV's code for FFmpeg, or for any reader where it was built without.

    Any reader would also be tried where FFmpeg refuses: patterns of images, and messages that hold the address.
    """
    import cv2

    return cv2.CAP_FFMPEG if _was_built_with("FFMPEG") else cv2.CAP_ANY


def _was_built_with(pattern):
    import cv2

    return re.search(pattern + r":\s+YES", cv2.getBuildInformation()) is not None


def _allow(protocols, formats, options):
    """Let FFmpeg open these protocols and formats alone; its other options are the user's, or ``options``."""
    options = os.environ.get(_OPTIONS, options)
    limits = "protocol_whitelist;{}|format_whitelist;{}".format(protocols, formats)
    # Of an option that is given twice, the last counts.
    os.environ[_OPTIONS] = options + "|" + limits if options else limits


def silence():
    """Keep off stderr whatever decoders say from now on."""
    os.dup2(1, 2)


@contextlib.contextmanager
def _quiet():
    """Keep off stderr what each of OpenCV's readers says of a file that it does not read; the error says it once.

    The capture process's stdout is /dev/null, which it may not open any more.
    """
    stderr = os.dup(2)
    os.dup2(1, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
