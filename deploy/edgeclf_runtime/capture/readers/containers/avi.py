"""Reads AVI files: RIFF chunks (Microsoft's AVI RIFF File Reference, and OpenDML 1.02 for files above 1 GB)."""

import struct
from typing import IO, Iterator, Optional, Tuple

from .header import UNTAGGED, VideoHeader

_MOST_CHUNKS = 1 << 21
_MOST_HEADER_BYTES = 1 << 20
# Some writers count the eight bytes of a chunk's header as part of it.
_SLACK_BYTES = 8
# Motion JPEG and MPEG-4.
_ALWAYS_601 = (b"MJPG", b"FMP4", b"XVID", b"DIVX", b"DX50", b"MP4V")
_PLACEHOLDER_BYTES = 8  # a chunk of at most this size means "repeat the previous frame"


def read(stream: IO[bytes], size: float) -> VideoHeader:
    """Return the VideoHeader in an open AVI file."""
    _, video = _video(stream)
    if video is None:
        return VideoHeader("AVI", fault="it contains no video, only sound or data")
    scale, rate, _, length = struct.unpack_from("<4I", video, 20)
    end = _end(stream)
    missing = int(end - size) if end > size + _SLACK_BYTES else 0
    header = VideoHeader("AVI", matrix=UNTAGGED if video[4:8].upper() in _ALWAYS_601 else None, missing_bytes=missing)
    return header._replace(frames=length, duration_s=length * scale / rate) if scale and rate and length else header


def walk(stream: IO[bytes], size: float) -> Iterator[Optional[float]]:
    """Yield each frame's time in seconds: each chunk is one step, and one without an image is an empty step."""
    number, video = _video(stream)
    scale, rate = struct.unpack_from("<2I", video or b"", 20)
    prefix = "{:02d}".format(number).encode("ascii")
    step = 0
    for kind, length in _chunks(stream, size):
        if kind[:2] == prefix and kind[2:] in (b"dc", b"db"):
            yield step * scale / rate if length > _PLACEHOLDER_BYTES else None
            step += 1


def _video(stream: IO[bytes]) -> Tuple[int, Optional[bytes]]:
    """Return the number of the first video stream and its header, or (0, None)."""
    stream.seek(12)
    kind, length, inside = struct.unpack("<4sI4s", stream.read(12))
    if kind != b"LIST" or inside != b"hdrl" or length > _MOST_HEADER_BYTES:
        raise ValueError("no header")
    header = stream.read(length - 4)
    number, at = 0, 0
    while at + 12 <= len(header):
        kind, length, inside = struct.unpack_from("<4sI4s", header, at)
        if kind == b"LIST" and inside == b"strl":
            if header[at + 12 : at + 16] == b"strh" and header[at + 20 : at + 24] == b"vids":
                return number, header[at + 20 : at + 12 + length]
            number += 1
        at += 8 + length + (length & 1)
    return 0, None


def _end(stream: IO[bytes]) -> int:
    """Return where the last RIFF chunk ends; a writer that was killed leaves its length as 0."""
    at = end = 0
    for _ in range(_MOST_CHUNKS):
        stream.seek(at)
        head = stream.read(8)
        if len(head) < 8 or not head.startswith(b"RIFF"):
            break
        (length,) = struct.unpack_from("<I", head, 4)
        if not length:
            break
        end = at + 8 + length
        at = end + (length & 1)
    return end


def _chunks(stream: IO[bytes], size: float) -> Iterator[Tuple[bytes, int]]:
    """Yield the kind and length of each chunk in the lists of frames."""
    at = 0
    for _ in range(_MOST_CHUNKS):
        stream.seek(at)
        head = stream.read(12)
        if len(head) < 8:
            return
        kind, length = struct.unpack_from("<4sI", head)
        if kind == b"RIFF" or (kind == b"LIST" and head[8:12] in (b"movi", b"rec ")):
            at += 12
            continue
        if at + 8 + length > size:
            return
        yield kind, length
        at += 8 + length + (length & 1)
