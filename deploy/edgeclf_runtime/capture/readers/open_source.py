"""Opens a source with the reader for its kind, in the capture process."""

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..source import Source
    from .reader import Reader


def open_source(source: "Source") -> "Reader":
    """Open a Source; returns its Reader.  Raises CameraError if it cannot be opened.

    A reader's module is imported when it is needed, because importing OpenCV takes a while.
    """
    if source.kind == "test":
        from .generated import GeneratedReader

        return GeneratedReader(source)
    if source.by_http:
        from .http_camera import open_http

        return open_http(source)
    if source.kind == "file":
        from .video_file import open_video_file

        return open_video_file(source)
    if source.pipeline:
        from .hardware_stream import HardwareStream

        return HardwareStream(source)
    from .opencv_reader import OpenCVReader, open_stream

    if source.kind == "device":
        from ..v4l2.device import open_device

        capture, granted, as_asked = open_device(source)
        return OpenCVReader(source, capture, (granted, as_asked))
    start = time.monotonic()
    return OpenCVReader(source, open_stream(source), start=start)
