"""Videos for the tests: containers with JPEG frames, made here, and one of H.264, which OpenCV cannot write."""

import base64
import struct

import cv2
import numpy as np

from tests.support.pictures import encode

# Red and green above blue and yellow (pictures.quarters), 64 x 32 pixels, two frames, tagged BT.709 in the stream and in the
# container: ffmpeg -f rawvideo -pix_fmt rgb24 -s 64x32 -r 25 -i FILE -vf scale=out_color_matrix=bt709,format=yuv420p
# -c:v libx264 -qp 10 -preset ultrafast -colorspace bt709 -color_primaries bt709 -color_trc bt709.
BT709_MP4 = base64.b64decode(
    "AAAAIGZ0eXBpc29tAAACAGlzb21pc28yYXZjMW1wNDEAAAAIZnJlZQAAAI9tZGF0AAAAemWIhDoZigACh3EEAAQlUIQABMIWBxE8sOInl4HI2lhyNp"
    "ZFjMUAAWJIgQABGFQgCAAK56zabcDiJZYcRLLIsVigACNjEEAATiEJAAEx9BxG8sOI3l+HImlhyJpbdbrWKcUAAUDI4AAhGxEAAS3EQ0w1hxGssOI1"
    "l+1wAAAABUGaIoTAAAADDG1vb3YAAABsbXZoZAAAAAAAAAAAAAAAAAAAA+gAAABQAAEAAAEAAAAAAAAAAAAAAAABAAAAAAAAAAAAAAAAAAAAAQAAAA"
    "AAAAAAAAAAAAAAQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAIAAAJbdHJhawAAAFx0a2hkAAAAAwAAAAAAAAAAAAAAAQAAAAAAAABQAAAA"
    "AAAAAAAAAAAAAAAAAAABAAAAAAAAAAAAAAAAAAAAAQAAAAAAAAAAAAAAAAAAQAAAAABAAAAAIAAAAAAAJGVkdHMAAAAcZWxzdAAAAAAAAAABAAAAUA"
    "AAAAAAAQAAAAAB021kaWEAAAAgbWRoZAAAAAAAAAAAAAAAAAAAMgAAAAQAVcQAAAAAAC1oZGxyAAAAAAAAAAB2aWRlAAAAAAAAAAAAAAAAVmlkZW9I"
    "YW5kbGVyAAAAAX5taW5mAAAAFHZtaGQAAAABAAAAAAAAAAAAAAAkZGluZgAAABxkcmVmAAAAAAAAAAEAAAAMdXJsIAAAAAEAAAE+c3RibAAAAL5zdH"
    "NkAAAAAAAAAAEAAACuYXZjMQAAAAAAAAABAAAAAAAAAAAAAAAAAAAAAABAACAASAAAAEgAAAAAAAAAAQxMYXZjIGxpYngyNjQAAAAAAAAAAAAAAAAA"
    "AAAAAAAAABj//wAAADFhdmNDAULACv/hABlnQsAK2hFpqAgICgAAAwACAAADAGQeJE1AAQAFaM4BDyAAAAATY29scm5jbHgAAQABAAEAAAAAFGJ0cn"
    "QAAAAAAAA0vAAANLwAAAAYc3R0cwAAAAAAAAABAAAAAgAAAgAAAAAUc3RzcwAAAAAAAAABAAAAAQAAABxzdHNjAAAAAAAAAAEAAAABAAAAAgAAAAEA"
    "AAAcc3RzegAAAAAAAAAAAAAAAgAAAH4AAAAJAAAAFHN0Y28AAAAAAAAAAQAAADAAAAA9dWR0YQAAADVtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABtZG"
    "lyYXBwbAAAAAAAAAAAAAAAAAhpbHN0"
)
# A matrix of tkhd: where a pixel to the right and one below go, in 16.16 fixed point.
MATRICES = {
    1: (1, 0, 0, 1),
    2: (-1, 0, 0, 1),
    3: (-1, 0, 0, -1),
    4: (1, 0, 0, -1),
    5: (0, 1, 1, 0),
    6: (0, 1, -1, 0),
    7: (0, -1, -1, 0),
    8: (0, -1, 1, 0),
}


def shade(value, width=32, height=16):
    """A JPEG of one gray."""
    return encode(".jpg", np.full((height, width, 3), value, np.uint8))


def shades(count):
    """JPEG frames, each ten grays lighter than the last."""
    return [shade(number % 25 * 10) for number in range(count)]


def avi(path, count, fps=50, width=32, height=16):
    """Write an AVI video of gray frames, each ten grays lighter than the last; returns its path."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), fps, (width, height))
    for number in range(count):
        writer.write(np.full((height, width, 3), number % 25 * 10, np.uint8))
    writer.release()
    return path


def _box(kind, *contents):
    data = b"".join(contents)
    return struct.pack(">I4s", len(data) + 8, kind) + data


def mov(frames, durations, orientation=1, matrix=None, index_first=True, size=(32, 16), scale=1000, handler=b"vide"):
    """The bytes of a QuickTime video of JPEG frames.

    durations   of each frame, in 1/scale s
    orientation of the frames as EXIF has it, for the track's matrix; or the ``matrix`` itself, in 16.16 fixed point
    """
    pictures = b"".join(frames)
    lead = _box(b"ftyp", b"qt  ", bytes(4), b"qt  ")
    index = _index(frames, durations, matrix or [part << 16 for part in MATRICES[orientation]], size, scale, handler)
    start = len(lead) + 8 + (len(index(0)) if index_first else 0)
    media = _box(b"mdat", pictures)
    return lead + index(start) + media if index_first else lead + media + index(start)


def _index(frames, durations, matrix, size, scale, handler):
    a, b, c, d = matrix
    width, height = size
    total = sum(durations)
    head = struct.pack(">IIIII", 0, 0, 0, scale, total)
    plain = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    turned = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    movie = _box(b"mvhd", head, struct.pack(">IH10x", 1 << 16, 256), plain, bytes(24), struct.pack(">I", 2))
    track = _box(
        b"tkhd",
        struct.pack(">IIIIII8xHHHH", 3, 0, 0, 1, 0, total, 0, 0, 0, 0),
        turned,
        struct.pack(">II", width << 16, height << 16),
    )
    entry = (
        struct.pack(">6xH16xHHIIIH", 1, width, height, 72 << 16, 72 << 16, 0, 1)
        + bytes(32)
        + struct.pack(">Hh", 24, -1)
    )
    described = _box(b"stsd", struct.pack(">II", 0, 1), _box(b"jpeg", entry))
    times = _box(b"stts", struct.pack(">II", 0, len(durations)), *(struct.pack(">II", 1, step) for step in durations))
    chunks = _box(b"stsc", struct.pack(">IIIII", 0, 1, 1, len(frames), 1))
    sizes = _box(b"stsz", struct.pack(">III", 0, 0, len(frames)), *(struct.pack(">I", len(frame)) for frame in frames))

    def at(start):
        table = _box(b"stbl", described, times, chunks, sizes, _box(b"stco", struct.pack(">III", 0, 1, start)))
        data = _box(b"dinf", _box(b"dref", struct.pack(">II", 0, 1), _box(b"url ", struct.pack(">I", 1))))
        media = _box(b"minf", _box(b"vmhd", struct.pack(">I8x", 1)), data, table)
        kind = _box(b"hdlr", struct.pack(">II4s12x", 0, 0, handler), b"\0")
        header = _box(b"mdhd", head, bytes(4))
        return _box(b"moov", movie, _box(b"trak", track, _box(b"mdia", header, kind, media)))

    return at


def _element(kind, *contents):
    data = b"".join(contents)
    return bytes.fromhex(kind) + struct.pack(">Q", len(data) | 1 << 56) + data


def _number(kind, value):
    return _element(kind, struct.pack(">I", value))


def mkv(frames, times_ms, roll=None, yaw=None, duration_ms=None, endless=False, size=(32, 16)):
    """The bytes of a Matroska video of JPEG frames, each shown at its time.

    roll, yaw   degrees of the projection
    endless     without lengths of the whole and of what it holds, as it is written live
    """
    pose = [
        _element(kind, struct.pack(">f", angle)) for kind, angle in (("7675", roll), ("7673", yaw)) if angle is not None
    ]
    video = _element("e0", _number("b0", size[0]), _number("ba", size[1]), *([_element("7670", *pose)] if pose else []))
    track = _element(
        "ae", _number("d7", 1), _number("73c5", 1), _element("83", b"\1"), _element("86", b"V_MJPEG"), video
    )
    told = [] if endless else [_element("4489", struct.pack(">d", duration_ms or times_ms[-1] + 40))]
    info = _element("1549a966", _number("2ad7b1", 1000000), _element("4d80", b"test"), _element("5741", b"test"), *told)
    blocks = []
    for frame, time_ms in zip(frames, times_ms):
        blocks.append(_element("1f43b675", _number("e7", time_ms), _element("a3", b"\x81\0\0\x80", frame)))
    body = info + _element("1654ae6b", track) + b"".join(blocks)
    head = _element("1a45dfa3", _element("4282", b"matroska"), _number("4287", 4), _number("4285", 2))
    length = b"\x01" + b"\xff" * 7 if endless else struct.pack(">Q", len(body) | 1 << 56)
    return head + bytes.fromhex("18538067") + length + body
