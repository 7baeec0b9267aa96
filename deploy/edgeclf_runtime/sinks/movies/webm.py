"""Writes WebM, which browsers play: VP8 key frames, as found in WebP images, in Matroska.

Each frame is a cluster, so the file plays up to its last whole frame no matter how its writer ended.
RFC 8794 (EBML), RFC 9559 (Matroska), RFC 6386 (VP8), RFC 9649 (WebP).
"""

import struct
from typing import IO, TYPE_CHECKING, List, Tuple

if TYPE_CHECKING:
    import numpy as np

_UNKNOWN_SIZE = b"\x01\xff\xff\xff\xff\xff\xff\xff"
_CUE_EVERY_S = 1.0


def encode(image: "np.ndarray") -> bytes:
    """Return BGR pixels as a VP8 key frame."""
    import cv2

    data: bytes = cv2.imencode(".webp", image, [cv2.IMWRITE_WEBP_QUALITY, 75])[1].tobytes()
    at = 12  # after RIFF, its size, and WEBP
    while at < len(data):
        kind, size = struct.unpack_from("<4sI", data, at)
        if kind == b"VP8 ":
            return data[at + 8 : at + 8 + size]
        at += 8 + size + size % 2
    raise ValueError("OpenCV made a WebP image without a VP8 frame")


class WebM:
    """Writes encoded frames to a seekable binary stream.

    size    (width, height) of the frames
    fps     frames per second
    """

    def __init__(self, stream: IO[bytes], size: Tuple[int, int], fps: float) -> None:
        self._stream, self._fps, self._frames = stream, fps, 0
        self._cues: List[Tuple[int, int]] = []
        ebml = b"".join(
            _element(number, value)
            for number, value in (
                (0x4286, _number(1)),
                (0x42F7, _number(1)),
                (0x42F2, _number(4)),
                (0x42F3, _number(8)),
                (0x4282, b"webm"),
                (0x4287, _number(4)),
                (0x4285, _number(2)),
            )
        )
        video = _element(0xB0, _number(size[0])) + _element(0xBA, _number(size[1]))
        track = b"".join(
            _element(number, value)
            for number, value in (
                (0xD7, _number(1)),
                (0x73C5, _number(1)),
                (0x9C, _number(0)),
                (0x83, _number(1)),
                (0x23E383, _number(round(1e9 / fps))),
                (0x86, b"V_VP8"),
                (0xE0, video),
            )
        )
        info = _element(0x2AD7B1, _number(1000000)) + _element(0x4D80, b"edgeclf") + _element(0x5741, b"edgeclf")
        info += _element(0x4489, struct.pack(">d", 0.0))
        head = _element(0x1A45DFA3, ebml) + b"\x18\x53\x80\x67" + _UNKNOWN_SIZE
        self._segment = len(head)
        head += _element(0xEC, bytes(len(_seek_head(0)) - 5))  # room for the seek head
        head += _element(0x1549A966, info)
        self._duration_at = len(head) - 8
        stream.write(head + _element(0x1654AE6B, _element(0xAE, track)))

    def _ms(self, frames: int) -> int:
        return round(1000 * frames / self._fps)

    def add(self, data: bytes) -> None:
        """Append a frame."""
        moment = self._ms(self._frames)
        if self._frames >= len(self._cues) * self._fps * _CUE_EVERY_S:
            self._cues.append((moment, self._stream.tell() - self._segment))
        # Track 1, 0 ms after the cluster's time, a key frame.
        self._stream.write(
            _element(0x1F43B675, _element(0xE7, _number(moment)) + _element(0xA3, b"\x81\0\0\x80" + data))
        )
        self._frames += 1

    def update(self) -> None:
        """Update the header, so that players know how long the file is."""
        end = self._stream.tell()
        self._stream.seek(self._duration_at)
        self._stream.write(struct.pack(">d", float(self._ms(self._frames))))
        self._stream.seek(end)

    def finish(self) -> None:
        """Write the index that makes seeking fast."""
        self.update()
        end = self._stream.tell()
        points = [
            _element(
                0xBB,
                _element(0xB3, _number(moment))
                + _element(0xB7, _element(0xF7, _number(1)) + _element(0xF1, _number(at))),
            )
            for moment, at in self._cues
        ]
        self._stream.write(_element(0x1C53BB6B, b"".join(points)))
        self._stream.seek(self._segment)
        self._stream.write(_seek_head(end - self._segment))
        self._stream.seek(0, 2)


def _seek_head(cues_at: int) -> bytes:
    seek = _element(0x53AB, b"\x1c\x53\xbb\x6b") + _element(0x53AC, struct.pack(">Q", cues_at))
    return _element(0x114D9B74, _element(0x4DBB, seek))


def _number(value: int) -> bytes:
    return value.to_bytes(max((value.bit_length() + 7) // 8, 1), "big")


def _element(number: int, data: bytes) -> bytes:
    """Return an EBML element, with its size in four bytes."""
    return number.to_bytes((number.bit_length() + 7) // 8, "big") + struct.pack(">I", len(data) | 0x10000000) + data
