"""Reads Matroska and WebM files: nested EBML elements (RFC 9559, RFC 8794)."""

import struct
from typing import IO, Dict, Iterator, Optional, Tuple

from . import h264
from .header import UNTAGGED, VideoHeader

MAGIC = b"\x1a\x45\xdf\xa3"
_SEGMENT, _INFO, _TRACKS, _CLUSTER = 0x18538067, 0x1549A966, 0x1654AE6B, 0x1F43B675
_TIMESTAMP_SCALE, _DURATION = 0x2AD7B1, 0x4489
_TRACK, _TRACK_NUMBER, _TRACK_TYPE, _CODEC, _CODEC_PRIVATE, _VIDEO = 0xAE, 0xD7, 0x83, 0x86, 0x63A2, 0xE0
_COLOR, _MATRIX, _PROJECTION, _PROJECTION_TYPE = 0x55B0, 0x55B1, 0x7670, 0x7671
_YAW, _PITCH, _ROLL = 0x7673, 0x7674, 0x7675
_TIMESTAMP, _SIMPLE_BLOCK, _GROUP, _BLOCK = 0xE7, 0xA3, 0xA0, 0xA1
_MOST_ELEMENTS, _MOST_HEADER_BYTES = 1 << 21, 1 << 24
_HEAD_BYTES = 12
_INVISIBLE = 8
_CODECS = {b"V_MPEG4/ISO/AVC": "H264", b"V_MPEGH/ISO/HEVC": "H265"}
_ALWAYS_601 = (b"V_MJPEG", b"V_VP8")
_VIDEO_TYPE = b"\1"


def read(stream: IO[bytes], size: float) -> VideoHeader:
    """Return the VideoHeader in an open Matroska or WebM file."""
    missing, tracks = 0.0, b""
    info: Dict[int, bytes] = {}
    for kind, start, end in _top(stream):
        if kind == _SEGMENT:
            missing = max(end - size, 0) if end is not None else 0
        elif kind in (_INFO, _TRACKS) and end is not None and end - start <= _MOST_HEADER_BYTES:
            stream.seek(start)
            content = stream.read(end - start)
            info, tracks = (dict(_elements(content)), tracks) if kind == _INFO else (info, content)
        if kind == _CLUSTER and tracks:
            break
    track = _video(tracks)
    if track is None:
        fault = "it contains no video, only sound or data" if tracks else "its header is truncated"
        return VideoHeader("Matroska", missing_bytes=int(missing), fault=fault)
    video = dict(_elements(track.get(_VIDEO, b"")))
    duration_s = _real(info[_DURATION]) * _scale_s(info) if _DURATION in info else None
    return VideoHeader(
        "Matroska",
        _orientation(video),
        _matrix(track, video),
        duration_s=duration_s,
        missing_bytes=int(missing),
        codec=_CODECS.get(track.get(_CODEC, b"").rstrip(b"\0"), ""),
    )


def walk(stream: IO[bytes], size: float) -> Iterator[Optional[float]]:
    """Yield each frame's time in seconds, from the blocks of the first video track."""
    scale_s, cluster = _scale_s({}), 0
    number: Optional[int] = None
    for kind, start, end in _top(stream):
        if end is None or kind not in (_INFO, _TRACKS, _TIMESTAMP, _SIMPLE_BLOCK, _BLOCK) or end > size:
            continue
        stream.seek(start)
        content = stream.read(min(end - start, _HEAD_BYTES if kind in (_SIMPLE_BLOCK, _BLOCK) else _MOST_HEADER_BYTES))
        if kind == _INFO:
            scale_s = _scale_s(dict(_elements(content)))
        elif kind == _TRACKS:
            track = _video(content)
            number = _unsigned(track[_TRACK_NUMBER]) if track else None
        elif kind == _TIMESTAMP:
            cluster = _unsigned(content)
        else:
            of, at = _number(content, 0, keep=False)
            shift, flags = struct.unpack_from(">hB", content, at)
            if of == number and not flags & _INVISIBLE:
                yield (cluster + shift) * scale_s


def _top(stream: IO[bytes]) -> Iterator[Tuple[int, int, Optional[int]]]:
    """Yield kind, start and end of the elements of interest, containers before their content; an unknown end is None."""
    at = 0
    for _ in range(_MOST_ELEMENTS):
        stream.seek(at)
        head = stream.read(_HEAD_BYTES)
        if len(head) < 2:
            return
        kind, length_at = _number(head, 0, keep=True)
        length, start = _number(head, length_at, keep=False)
        unknown = length == (1 << 7 * (start - length_at)) - 1
        start += at
        yield kind, start, None if unknown else start + length
        if kind not in (_SEGMENT, _CLUSTER, _GROUP):
            if unknown:
                return
            start += length
        at = start


def _elements(data: bytes) -> Iterator[Tuple[int, bytes]]:
    """Yield kind and content of each element in bytes."""
    at = 0
    while at < len(data):
        kind, at = _number(data, at, keep=True)
        length, at = _number(data, at, keep=False)
        yield kind, data[at : at + length]
        at += length


def _number(data: bytes, at: int, keep: bool) -> Tuple[int, int]:
    """Return a variable-size integer (with its length marker if ``keep``, as in an element's kind), and where it ends."""
    first = data[at]
    length = 9 - first.bit_length()
    if not 1 <= length <= 8 or at + length > len(data):
        raise ValueError("a number is truncated")
    value = int.from_bytes(data[at : at + length], "big")
    return value if keep else value & (1 << 7 * length) - 1, at + length


def _unsigned(data: bytes) -> int:
    return int.from_bytes(data[:8], "big")


def _real(data: bytes) -> float:
    return float(struct.unpack(">d" if len(data) == 8 else ">f", data)[0]) if data else 0.0


def _scale_s(info: Dict[int, bytes]) -> float:
    return _unsigned(info.get(_TIMESTAMP_SCALE, b"\x0f\x42\x40")) / 1e9


def _video(tracks: bytes) -> Optional[Dict[int, bytes]]:
    """Return the elements of the first video track, or None."""
    found = (dict(_elements(content)) for kind, content in _elements(tracks) if kind == _TRACK)
    return next((track for track in found if track.get(_TRACK_TYPE) == _VIDEO_TYPE), None)


def _orientation(video: Dict[int, bytes]) -> int:
    """Return the EXIF orientation of a rectangular projection; a yaw of 180 degrees mirrors it."""
    projection = dict(_elements(video.get(_PROJECTION, b"")))
    if _unsigned(projection.get(_PROJECTION_TYPE, b"\0")):
        return 1
    yaw, pitch, roll = (round(_real(projection.get(kind, b"")), 3) for kind in (_YAW, _PITCH, _ROLL))
    if pitch or yaw % 180:
        return 0
    turned = {0.0: 1, 90.0: 8, 180.0: 3, 270.0: 6}.get(roll % 360, 0)  # clockwise, as FFmpeg reads ProjectionPoseRoll
    return {1: 2, 3: 4, 6: 5, 8: 7}.get(turned, 0) if yaw else turned


def _matrix(track: Dict[int, bytes], video: Dict[int, bytes]) -> Optional[int]:
    codec = track.get(_CODEC, b"").rstrip(b"\0")
    if codec in _ALWAYS_601:
        return UNTAGGED
    element = dict(_elements(video.get(_COLOR, b""))).get(_MATRIX)
    found = None if element is None else _unsigned(element)
    if codec == b"V_MPEG4/ISO/AVC":
        stream = h264.matrix(track.get(_CODEC_PRIVATE, b""))
        found = stream if stream != UNTAGGED or found is None else found
    return found
