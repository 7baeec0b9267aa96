"""MP4 in fragments, with H.264, by an OpenCV with GStreamer: browsers play it, whenever its writer ended.

A fragment is written twice a second.  pip's OpenCV has no encoder of H.264.
"""

import contextlib
import functools
import os
import tempfile
from typing import Any

from ...device.machine import is_jetson
from ...files.read import native_path

# The encoders' elements, the cheapest for the processor first: a Jetson's hardware, x264.
_JETSONS = (
    "nvvidconv ! video/x-raw(memory:NVMM),format=NV12 ! nvv4l2h264enc iframeinterval={key} idrinterval={key} insert-sps-pps=1",
)
_ENCODERS = ("video/x-raw,format=I420 ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max={key}",)
_PIPELINE = (
    "appsrc ! videoconvert ! {encoder} ! video/x-h264 ! h264parse ! mp4mux fragment-duration=500 ! "
    'filesink buffer-mode=unbuffered location="{path}"'
)


class H264:
    """Writes frames to a path; arguments else as those of WebM."""

    def __init__(self, path, size, fps):
        self._writer = _open(path, size, fps, encoder())

    def add(self, image):
        """Append a frame, BGR pixels."""
        self._writer.write(image)

    def update(self):
        """GStreamer does so by itself."""

    def finish(self):
        """Write the rest."""
        self._writer.release()


@contextlib.contextmanager
def _quiet():
    """Keep OpenCV from warning of encoders that are not installed, which is known by trying; 4.1.1 cannot be kept from it."""
    import cv2

    levels: Any = cv2 if hasattr(cv2, "setLogLevel") else getattr(getattr(cv2, "utils", None), "logging", None)
    if not hasattr(levels, "setLogLevel") or "OPENCV_LOG_LEVEL" in os.environ:
        yield
        return
    before = levels.getLogLevel()
    levels.setLogLevel(0)
    try:
        yield
    finally:
        levels.setLogLevel(before)


def _open(path, size, fps, encoder):
    import cv2

    writer = cv2.VideoWriter()
    quoted = native_path(os.path.abspath(path)).replace("\\", "\\\\").replace('"', '\\"')
    pipeline = _PIPELINE.format(encoder=encoder.format(key=max(round(fps), 1)), path=quoted)
    writer.open(pipeline, cv2.CAP_GSTREAMER, 0, float(fps), tuple(size))
    return writer


@functools.lru_cache(1)
def encoder():
    """Return the first encoder's elements by which this OpenCV writes a small video, or None."""
    import cv2
    import numpy as np

    if not any(" GStreamer:" in line and "YES" in line for line in cv2.getBuildInformation().splitlines()):
        return None
    with tempfile.TemporaryDirectory() as folder, _quiet():
        for number, candidate in enumerate((_JETSONS if is_jetson() else ()) + _ENCODERS):
            path = os.path.join(folder, "{}.mp4".format(number))
            writer = _open(path, (320, 240), 15.0, candidate)
            if writer.isOpened():
                for shade in range(15):
                    writer.write(np.full((240, 320, 3), 16 * shade, np.uint8))
                writer.release()
                with open(path, "rb") as stream:
                    if b"moof" in stream.read():
                        return candidate
    return None
