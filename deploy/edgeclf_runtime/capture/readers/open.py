"""Opens a source with the reader of its kind, in the capture process."""

import time


def open_source(source):
    """Open a Source; returns a reader with ``read(out) -> (image, captured, capture_ms)`` and ``close()``.

    Raises CameraError where it cannot be opened.  A reader's module is imported when it is needed: OpenCV takes a while.
    """
    if source.kind == "test":
        from .generated import GeneratedReader

        return GeneratedReader(source)
    if source.by_http:
        from .http_camera import open_http

        return open_http(source)
    if source.kind == "file":
        from .film import open_film

        return open_film(source)
    from .video import VideoReader, open_stream

    if source.kind == "device":
        from ..v4l2.device import open_device

        capture, *granted = open_device(source)
        return VideoReader(source, capture, granted)
    start = time.monotonic()
    return VideoReader(source, open_stream(source), start=start)
