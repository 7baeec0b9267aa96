"""Writes fragmented MP4 with H.264 through an OpenCV with GStreamer: browsers play it, no matter how its writer ended.

A fragment is written twice a second.  pip's OpenCV has no H.264 encoder.
"""

import contextlib
import functools
import os
import tempfile
from typing import TYPE_CHECKING, Iterator, Optional, Tuple

from ...device.machine import is_jetson
from ...files.read import native_path

if TYPE_CHECKING:
    from types import ModuleType

    import cv2
    import numpy as np

# Encoder elements, the cheapest for the processor first: a Jetson's hardware, x264.
_JETSONS = (
    "nvvidconv ! video/x-raw(memory:NVMM),format=NV12 ! nvv4l2h264enc iframeinterval={key} idrinterval={key} insert-sps-pps=1",
)
_ENCODERS = ("video/x-raw,format=I420 ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max={key}",)
_PIPELINE = (
    "appsrc ! videoconvert ! {encoder} ! video/x-h264 ! h264parse ! mp4mux fragment-duration=500 ! "
    'filesink buffer-mode=unbuffered location="{path}"'
)


class H264:
    """Writes frames to a path; otherwise the same arguments as WebM."""

    def __init__(self, path: str, size: Tuple[int, int], fps: float) -> None:
        self._writer = _open(path, size, fps, encoder() or "")

    def add(self, image: "np.ndarray") -> None:
        """Append a frame, BGR pixels."""
        self._writer.write(image)

    def update(self) -> None:
        """Do nothing: GStreamer updates the file by itself."""

    def finish(self) -> None:
        """Write the remaining bytes."""
        self._writer.release()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress OpenCV's warnings about encoders that are not installed while they are tried; not possible in 4.1.1."""
    import cv2

    levels: "Optional[ModuleType]" = (
        cv2 if hasattr(cv2, "setLogLevel") else getattr(getattr(cv2, "utils", None), "logging", None)
    )
    if levels is None or not hasattr(levels, "setLogLevel") or "OPENCV_LOG_LEVEL" in os.environ:
        yield
        return
    before = levels.getLogLevel()
    levels.setLogLevel(0)
    try:
        yield
    finally:
        levels.setLogLevel(before)


def _open(path: str, size: Tuple[int, int], fps: float, encoder: str) -> "cv2.VideoWriter":
    import cv2

    writer = cv2.VideoWriter()
    quoted = native_path(os.path.abspath(path)).replace("\\", "\\\\").replace('"', '\\"')
    pipeline = _PIPELINE.format(encoder=encoder.format(key=max(round(fps), 1)), path=quoted)
    writer.open(pipeline, cv2.CAP_GSTREAMER, 0, float(fps), tuple(size))
    return writer


@functools.lru_cache(1)
def encoder() -> Optional[str]:
    """Return the elements of the first encoder with which this OpenCV can write a small video, or None."""
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
