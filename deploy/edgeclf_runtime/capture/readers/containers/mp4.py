"""Reads MP4, MOV and 3GP files: nested boxes (ISO/IEC 14496-12 and Apple's QuickTime File Format)."""

import math
import struct
from typing import IO, Dict, Iterator, List, Optional, Tuple

from . import h264
from .header import UNTAGGED, Affine, VideoHeader, orientation_of

FIRST_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot", b"styp")
_MOST_BOXES = 1 << 18
_MOST_INDEX_BYTES = 64 << 20  # a day of video has 20 MB
_MOST_FRAMES = 1 << 21
_VISUAL_ENTRY = 86  # bytes of a sample entry before its boxes
# Codecs with a fixed matrix, whatever the container says.
_CODECS = {b"avc1": "H264", b"avc3": "H264", b"hvc1": "H265", b"hev1": "H265"}
_ALWAYS_601 = (b"jpeg", b"mjpa", b"mjpb", b"mjpg", b"vp08")


def read(stream: IO[bytes], size: float) -> VideoHeader:
    """Return the VideoHeader in an open MP4 or MOV file."""
    index: Optional[bytes] = None
    fragmented, end = False, 0.0
    for kind, start, end in _boxes_of(stream, size):
        if kind == b"moov" and index is None:
            if end - start > _MOST_INDEX_BYTES:
                raise ValueError("an index of {} bytes".format(end - start))
            stream.seek(start)
            content = stream.read(int(end - start))
            index = content if len(content) == end - start else None
        fragmented = fragmented or kind == b"moof"
    missing = int(end - size) if end > size else 0
    if index is None:
        return VideoHeader("MP4", missing_bytes=missing, fault="its index is missing, so the file is incomplete")
    boxes = dict(_boxes(index))
    track = next((track for track in _tracks(index) if track.get(b"hdlr", b"")[8:12] == b"vide"), None)
    if track is None:
        return VideoHeader("MP4", missing_bytes=missing, fault="it contains no video, only sound or data")
    movie = _movie_matrix(boxes.get(b"mvhd", b""))
    header = VideoHeader("MP4", _orientation(track, movie), _matrix(track), missing_bytes=missing, codec=_codec(track))
    return header if fragmented or _extended(index) else _with_times(header, track, boxes, size)


def walk(stream: IO[bytes], size: float) -> Iterator[Optional[float]]:
    """Yield VideoHeader.times: an MP4 file lists them in its header, unless it is fragmented."""
    yield from read(stream, size).times or ()


def index_is_last(head: bytes) -> bool:
    """Return whether a file that begins with these bytes has its index after the frames, so that it cannot be read from a pipe."""
    at = 0
    while at + 16 <= len(head):
        size, kind = struct.unpack_from(">I4s", head, at)
        if kind in (b"mdat", b"moov"):
            return kind == b"mdat"
        size = struct.unpack_from(">Q", head, at + 8)[0] if size == 1 else size
        if size < 8:
            return False
        at += size
    return False


def _boxes_of(stream: IO[bytes], size: float) -> Iterator[Tuple[bytes, int, float]]:
    """Yield kind, start and end of the content of each box in a file; the last may end after the end of the file."""
    at = 0
    for _ in range(_MOST_BOXES):
        stream.seek(at)
        head = stream.read(16)
        if len(head) < 8:
            return
        length, kind = struct.unpack_from(">I4s", head)
        start = at + 8
        if length == 1:
            (length,), start = struct.unpack_from(">Q", head, 8), at + 16
        end: float = size if length == 0 else at + length
        if end < start or not _is_kind(kind):
            return  # something else follows the video
        yield kind, start, end
        if length == 0:
            return
        at += length


def _is_kind(kind: bytes) -> bool:
    return all(32 <= letter < 127 or letter == 0xA9 for letter in kind)


def _boxes(data: bytes) -> Iterator[Tuple[bytes, bytes]]:
    """Yield kind and content of each box in bytes."""
    at = 0
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        start = at + 8
        if length == 1:
            (length,), start = struct.unpack_from(">Q", data, start), at + 16
        end = len(data) if length == 0 else at + length
        if end < start or end > len(data):
            return
        yield kind, data[start:end]
        at = end


def _tracks(index: bytes) -> Iterator[Dict[bytes, bytes]]:
    """Yield the boxes of each track that we use, as one dictionary."""
    for kind, content in _boxes(index):
        if kind != b"trak":
            continue
        track: Dict[bytes, bytes] = {}
        nested = [content]
        while nested:
            for inner, inside in _boxes(nested.pop()):
                if inner in (b"mdia", b"minf", b"stbl", b"edts"):
                    nested.append(inside)
                else:
                    # Keep the first: a data description holds another handler box.
                    track.setdefault(inner, inside)
        yield track


def _extended(index: bytes) -> bool:
    return any(kind == b"mvex" for kind, _ in _boxes(index))


def _movie_matrix(header: bytes) -> Affine:
    return _quarter_matrix(header, 48 if header[:1] == b"\1" else 36)


def _quarter_matrix(header: bytes, at: int) -> Affine:
    """Return a, b, c, d of a matrix of 16.16 fixed-point numbers."""
    a, b, _, c, d = struct.unpack_from(">5i", header, at)
    return a, b, c, d


def _orientation(track: Dict[bytes, bytes], movie: Affine) -> int:
    header = track[b"tkhd"]
    a, b, c, d = _quarter_matrix(header, 52 if header[:1] == b"\1" else 40)
    e, f, g, h = movie if any(movie) else (1, 0, 0, 1)
    return orientation_of(a * e + b * g, a * f + b * h, c * e + d * g, c * f + d * h)


def _codec(track: Dict[bytes, bytes]) -> str:
    return _CODECS.get(track[b"stsd"][12:16], "")


def _matrix(track: Dict[bytes, bytes]) -> Optional[int]:
    """Return the color matrix: the one in the encoded stream, else the container's."""
    entry = track[b"stsd"][8:]
    codec = entry[4:8]
    if codec in _ALWAYS_601:
        return UNTAGGED
    boxes = dict(_boxes(entry[_VISUAL_ENTRY:]))
    colors = boxes.get(b"colr", b"")
    found: Optional[int] = struct.unpack_from(">H", colors, 8)[0] if colors[:4] in (b"nclx", b"nclc") else None
    if b"avcC" in boxes:
        stream = h264.matrix(boxes[b"avcC"])
        found = stream if stream != UNTAGGED or found is None else found
    elif b"vpcC" in boxes and found is None:
        found = boxes[b"vpcC"][9]
    return UNTAGGED if found is None and codec == b"mp4v" else found


def _with_times(header: VideoHeader, track: Dict[bytes, bytes], boxes: Dict[bytes, bytes], size: float) -> VideoHeader:
    scale = _scale(track[b"mdhd"])
    count = _count(track, size)
    steps = _run_lengths(track[b"stts"], count)
    shifts = _run_lengths(track[b"ctts"], count) if b"ctts" in track else [0] * count
    listed, at = [], 0
    for step, shift in zip(steps, shifts):
        listed.append((at + shift, step))
        at += step
    shown = _edited(sorted(listed), track.get(b"elst"), scale, _scale(boxes[b"mvhd"]))
    if shown is None:
        return header
    if not shown:
        return header._replace(fault="its index lists no frames, so the file is incomplete")
    first, (last, step) = shown[0][0], shown[-1]
    return header._replace(
        times=[(time - first) / scale for time, _ in shown], frames=len(shown), duration_s=(last + step - first) / scale
    )


def _count(track: Dict[bytes, bytes], size: float) -> int:
    """Return the number of frames; raises ValueError for more than the file can hold."""
    compact = b"stsz" not in track
    table = track[b"stz2"] if compact else track[b"stsz"]
    frame_bytes, count = struct.unpack_from(">II", table, 4)
    most = 2 * len(table) if compact else (len(table) - 12) // 4
    if frame_bytes and not compact:
        most = _MOST_FRAMES if math.isinf(size) else int(size // frame_bytes)
    if count > min(most, _MOST_FRAMES):
        raise ValueError("an index of {} frames".format(count))
    return count


def _scale(header: bytes) -> int:
    (scale,) = struct.unpack_from(">I", header, 20 if header[:1] == b"\1" else 12)
    return int(scale)


def _run_lengths(table: bytes, count: int) -> List[int]:
    """Return one number per frame from a table of (how many, number)."""
    numbers: List[int] = []
    (entries,) = struct.unpack_from(">I", table, 4)
    for at in range(8, min(8 + 8 * entries, len(table) - 7), 8):
        times, number = struct.unpack_from(">Ii", table, at)
        numbers += [number] * min(times, count - len(numbers))
    return numbers + [numbers[-1] if numbers else 0] * (count - len(numbers))


def _edited(
    shown: List[Tuple[int, int]], edits: Optional[bytes], scale: int, movie_scale: int
) -> Optional[List[Tuple[int, int]]]:
    """Return the frames that the edit list keeps, as FFmpeg does; None for a list with several parts."""
    parts: List[Tuple[float, float]] = []
    for duration, time in _edits(edits or b""):
        if time >= 0:
            parts.append((time, time + duration * scale / movie_scale if duration else float("inf")))
    if len(parts) > 1:
        return None
    first, last = parts[0] if parts else (-float("inf"), float("inf"))
    return [frame for frame in shown if first <= frame[0] < last]


def _edits(table: bytes) -> Iterator[Tuple[int, int]]:
    wide = table[:1] == b"\1"
    (entries,) = struct.unpack_from(">I", table, 4) if table else (0,)
    for number in range(min(entries, 1000)):
        yield (
            struct.unpack_from(">Qq", table, 8 + 20 * number)
            if wide
            else struct.unpack_from(">Ii", table, 8 + 12 * number)
        )
