"""AVI with Motion JPEG: cheap to encode by every OpenCV, and played by desktop players, not by browsers.

How many frames there are, and their sizes together, are written at the end.
"""

import struct

# A part (RIFF chunk) of the file; more follow it, as "AVIX" (OpenDML AVI 1.02).
MOST_BYTES = 1 << 30
_KEY_FRAME = 0x10


def encode(image):
    """Return BGR pixels as a JPEG image."""
    import cv2

    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()


class Avi:
    """Writes encoded frames to a binary stream that can seek; arguments as those of WebM."""

    def __init__(self, stream, size, fps):
        self._stream, self._size, self._fps = stream, size, fps
        self._frames, self._index = 0, []
        self._begin_part(b"AVI ", self._lists())

    def _begin_part(self, kind, lists=b""):
        self._part = self._stream.tell()
        self._stream.write(b"RIFF\0\0\0\0" + kind + lists + b"LIST\0\0\0\0movi")
        self._movi = self._stream.tell() - 4

    def _lists(self):
        """Return what describes the stream."""
        size, jpeg = self._size, b"MJPG"
        frame_us, rate = round(1e6 / self._fps), round(1000 * self._fps)
        avih = struct.pack("<14I", frame_us, 0, 0, _KEY_FRAME, self._frames, 0, 1, 0, *size, 0, 0, 0, 0)
        strh = struct.pack(
            "<4s4s10I4H", b"vids", jpeg, 0, 0, 0, 1000, rate, 0, self._frames, 0, 0xFFFFFFFF, 0, 0, 0, *size
        )
        strf = struct.pack("<3I2H4s5I", 40, *size, 1, 24, jpeg, size[0] * size[1] * 3, 0, 0, 0, 0)
        stream = _chunk(b"LIST", b"strl" + _chunk(b"strh", strh) + _chunk(b"strf", strf))
        return _chunk(b"LIST", b"hdrl" + _chunk(b"avih", avih) + stream)

    def add(self, data):
        """Append a frame."""
        if self._stream.tell() - self._part > MOST_BYTES - len(data):
            self._end_part()
            self._begin_part(b"AVIX")
        if not self._part:
            self._index.append(struct.pack("<4s3I", b"00dc", _KEY_FRAME, self._stream.tell() - self._movi, len(data)))
        self._stream.write(_chunk(b"00dc", data))
        self._frames += 1

    def update(self):
        """Nothing: some players stop where a number in the head tells them to, and read on to the end if it is 0."""

    def _write_at(self, at, data):
        end = self._stream.tell()
        self._stream.seek(at)
        self._stream.write(data)
        self._stream.seek(end)

    def _end_part(self):
        self._write_at(self._movi - 4, struct.pack("<I", self._stream.tell() - self._movi))
        if not self._part:
            self._stream.write(_chunk(b"idx1", b"".join(self._index)))  # makes jumping fast
        self._write_at(self._part + 4, struct.pack("<I", self._stream.tell() - self._part - 8))

    def finish(self):
        """Write what is known at the end only."""
        self._end_part()
        self._write_at(12, self._lists())


def _chunk(kind, data):
    return kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)
