"""Reads an RTSP stream that GStreamer decodes in hardware, and measures whether the decoder keeps up with the camera."""

import time
from typing import TYPE_CHECKING, Optional

from .opencv_reader import OpenCVReader, open_stream
from .reader import DecoderError, Reading

if TYPE_CHECKING:
    import numpy as np

    from ..source import Source


class HardwareStream(OpenCVReader):
    """An RTSP stream by a Source's pipeline; its first frame has been decoded once it is open."""

    def __init__(self, source: "Source") -> None:
        super().__init__(source, open_stream(source), start=time.monotonic())
        self._progress = Progress()
        self._first: Optional[Reading] = super().read()

    def read(self, out: "Optional[np.ndarray]" = None) -> Reading:
        """See Reader.read()."""
        import cv2

        if self._first is not None:
            first, self._first = self._first, None
            return first
        reading = super().read(out)
        if self._progress.wants(reading[1]):
            share = self._progress.add(reading[1], self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1e3)
            if share is not None:
                raise DecoderError(
                    "it decodes {} slower than the camera sends, {:.2f} s of video in a second".format(
                        self._source.name, share
                    )
                )
        return reading


class Progress:
    """Compares the time in a stream with the clock, in the first half minute; later a machine may be busy with other things.

    A decoder that is too slow falls behind the stream.  A camera that pauses does so once, so two spans in a row must be slow.
    """

    _SPAN_S, _WATCHED_S, _LEAST_SHARE = 3.0, 30.0, 0.75

    def __init__(self) -> None:
        self._began: Optional[float] = None
        self._clock_s = self._stream_s = 0.0
        self._slow = 0

    def wants(self, clock_s: float) -> bool:
        """Return whether the stream's time is needed now."""
        if self._began is None:
            return True
        return clock_s - self._began <= self._WATCHED_S and clock_s - self._clock_s >= self._SPAN_S

    def add(self, clock_s: float, stream_s: float) -> Optional[float]:
        """Take the stream's time at a time of the clock; returns how fast the decoder is, as a share, if that is too slow."""
        share = 1.0
        if self._began is None:
            self._began = clock_s
        elif stream_s > self._stream_s:  # OpenCV may not know it, and a camera may begin again
            share = (stream_s - self._stream_s) / (clock_s - self._clock_s)
        self._clock_s, self._stream_s = clock_s, stream_s
        self._slow = self._slow + 1 if share < self._LEAST_SHARE else 0
        return share if self._slow == 2 else None
