"""OpenCV's readers for cameras, streams and video files.

Every call here may block for ever or crash, since drivers and decoders do: this module is for
the capture process alone (``capture_main.py``), which its parent can kill.

FFmpeg opens what a file tells it to: a playlist names other files, and addresses.  So it is given a list of
formats, containers of one stream of bytes, and of protocols, the one that the source itself needs.
"""

import contextlib
import os
import re
import sys
import time
from typing import Any

from .errors import CameraError, EndOfStream
from .files import native_path, open_regular
from .images import MAX_PIXELS
from .sources import FLIPS, Pace, advice, too_large

_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
# TCP, because lost UDP packets show as grey smears; no buffering, because newest is what counts.
_RTSP_OPTIONS = "rtsp_transport;tcp|fflags;nobuffer|flags;low_delay|stimeout;10000000"
_RTSP_PROTOCOLS, _RTSP_FORMATS = "tcp,tls,udp,rtp,srtp", "rtsp"
# FFmpeg's demuxers that read nothing but the bytes they are given: not concat, hls, dash, sdp, image2, ...
CONTAINERS = (
    "avi,mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,mpegts,mpeg,mpegvideo,mpjpeg,mjpeg,mjpeg_2000,h261,h263,h264,hevc,vvc,m4v,"
    "av1,obu,ivf,flv,live_flv,asf,ogg,nut,mxf,dv,gif,apng,rm,swf,wtv,vc1,vc1test,yuv4mpegpipe,nsv,nuv,dirac,dnxhd,cavsvideo,"
    "avs,avs2,avs3,smk,smjpeg,roq,film_cpk,jpeg_pipe,png_pipe,bmp_pipe,tiff_pipe,webp_pipe"
)
_HEAD_BYTES = 4096
# The bytes of a text; the head of a video file holds other control characters too.
_TEXT = bytes([7, 8, 9, 10, 12, 13, 27]) + bytes(range(32, 256))
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


def open_video(source):
    """Open a file, a device, an RTSP stream or a pipeline; returns a VideoReader.  Raises CameraError."""
    return VideoReader(source, _open(source), finite=source.kind == "file")


def open_pipe(handle, finite):
    """Open a video that comes through a pipe, by its reading end's handle; returns OpenCV's capture."""
    import cv2

    _allow("pipe", CONTAINERS, "")
    with _quiet():
        return cv2.VideoCapture("pipe:{}".format(handle), cv2.CAP_FFMPEG)


class VideoReader:
    """Whatever OpenCV's VideoCapture opens, frame after frame.

    capture     OpenCV's
    finite      whether it has an end that is not a loss; then "latest" plays it at its own rate
    """

    dropped = 0

    def __init__(self, source, capture, finite):
        import cv2

        self._source = source
        self._count = 0
        self._capture, self._finite = capture, finite
        if not capture.isOpened():
            raise CameraError("{} cannot be opened: {}".format(source.name, _why(source)))
        width, height = capture.get(cv2.CAP_PROP_FRAME_WIDTH), capture.get(cv2.CAP_PROP_FRAME_HEIGHT)
        if width * height > MAX_PIXELS:
            raise CameraError(too_large(int(width), int(height), source.name))
        rate = capture.get(cv2.CAP_PROP_FPS)
        self.rate = rate if finite and 0 < rate < 1000 else None
        self._pace = Pace(self.rate) if finite and source.policy == "latest" else None
        self._flip: Any = FLIPS.get(source.flip)

    def read(self, out=None):
        """Read the next frame, into ``out`` where it has the frame's shape.

        Returns the image (BGR, uint8 [height, width, 3]), the ``time.monotonic()`` at which it
        arrived, and the milliseconds from then (a file: from the call) until it was decoded.
        Raises EndOfStream after a file's last frame, CameraError where a camera delivers none.
        """
        before = time.monotonic()
        arrived = self._capture.grab()
        captured = time.monotonic()
        image: Any = None
        ok = False
        if arrived:
            ok, image = self._capture.retrieve(out)
        if not ok or image is None or not image.size:
            self._end()
        done = time.monotonic()
        if self._flip is not None:
            import cv2

            image = cv2.flip(image, self._flip)
        self._count += 1
        if self._pace:
            return image, self._pace.wait(), (done - before) * 1e3
        return image, captured, (done - (before if self._finite else captured)) * 1e3

    def _end(self):
        name = self._source.name
        if not self._finite:
            raise CameraError("{} delivers no frame{}".format(name, " any more" if self._count else ""))
        if not self._count:
            raise CameraError(
                "{} delivers no frame: the video is damaged, or too large to be decoded; replace it".format(name)
            )
        raise EndOfStream("{} ended after {} frames".format(name, self._count))

    def close(self):
        """Stop the camera in order, as its driver likes it."""
        self._capture.release()


def _why(source):
    if source.kind == "file":
        return "OpenCV reads no video in it; a video or an image was expected"
    if source.kind == "network":
        return "it sends no video that OpenCV reads, or one too large to be decoded; " + advice(source)
    return advice(source)


def _open(source):
    import cv2

    if source.kind == "file":
        return _open_file(source)
    if source.kind == "gstreamer":
        if not _was_built_with("GStreamer"):
            raise CameraError(
                "{} needs an OpenCV with GStreamer, and OpenCV {} of {} has none: use the python3-opencv of the "
                "system (JetPack brings it), not pip's".format(source.name, cv2.__version__, sys.executable)
            )
        return cv2.VideoCapture(source.location, cv2.CAP_GSTREAMER)
    if source.kind == "network":
        _allow(_RTSP_PROTOCOLS, _RTSP_FORMATS, _RTSP_OPTIONS)
        return cv2.VideoCapture(source.location, _ffmpeg())
    # By V4L2 itself: OpenCV would try GStreamer first where it has it, which ignores sizes and buffers.
    capture = cv2.VideoCapture(int(source.location), cv2.CAP_V4L2 if _was_built_with("v4l2?") else cv2.CAP_ANY)
    for key, value in (("WIDTH", source.width), ("HEIGHT", source.height), ("FPS", source.fps)):
        if value:
            capture.set(getattr(cv2, "CAP_PROP_" + ("FPS" if key == "FPS" else "FRAME_" + key)), value)
    # Fewer buffers in the driver, where it listens: each is a frame of delay.
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    return capture


def _open_file(source):
    import cv2

    try:
        with open_regular(source.location) as stream:
            head = stream.read(_HEAD_BYTES)
    except OSError as error:
        raise CameraError(
            "{} cannot be read ({}); a video or an image was expected".format(source.name, error.strerror)
        )
    playlist = playlist_name(head)
    if playlist:
        raise CameraError(
            "{} is {}: OpenCV reads no video in it; a video or an image was expected".format(source.name, playlist)
        )
    # FFmpeg would draw a text and call the pictures a video.
    if not head.translate(None, _TEXT):
        return cv2.VideoCapture()
    _allow("file", CONTAINERS, "")
    with _quiet():
        # An absolute path: FFmpeg would take a colon for a protocol's.
        return cv2.VideoCapture(native_path(os.path.abspath(source.location)), _ffmpeg())


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
