"""Small good image files of every kind that edgeclf reads, made by OpenCV, by Pillow and by the writers here."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator

import cv2
import numpy as np
from PIL import Image

WIDTH, HEIGHT = 72, 52
_EXIF = b"Exif\0\0MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 274, 3, 1, 6, 0, 0)
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def make_corpus() -> list[tuple[str, bytes]]:
    """Return the name and the bytes of each file; the first part of a name is its format."""
    return [*_jpegs(), *_pngs(), *_bmps(), *_webps(), *_tiffs()]


def picture(width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """Return smooth colors with an edge and noise, uint8 BGR."""
    y, x = np.mgrid[0:height, 0:width]
    noise = np.random.RandomState(7).randint(0, 24, (height, width, 3))
    smooth = np.stack([x * 3, y * 4, (x + y) * 2], 2) + (x > y)[..., None] * 60
    return ((smooth + noise) % 256).astype(np.uint8)


def _encoded(suffix: str, image: np.ndarray, *options: int) -> bytes:
    return cv2.imencode(suffix, image, options)[1].tobytes()


def _saved(kind: str, image: Image.Image, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def _pillow(mode: str) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(picture()[:, :, ::-1])).convert(mode)


def _frames() -> list[Image.Image]:
    return [Image.fromarray(np.roll(picture(), 9 * step, 1)) for step in range(3)]


def _jpegs() -> Iterator[tuple[str, bytes]]:
    yield "jpeg baseline", _encoded(".jpg", picture(), cv2.IMWRITE_JPEG_QUALITY, 90)
    yield "jpeg restarts", _encoded(".jpg", picture(), cv2.IMWRITE_JPEG_RST_INTERVAL, 2)
    yield "jpeg progressive", _encoded(".jpg", picture(), cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    yield "jpeg gray", _encoded(".jpg", picture()[:, :, 1])
    yield "jpeg gray progressive", _encoded(".jpg", picture()[:, :, 1], cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    yield "jpeg 4:4:4", _saved("JPEG", _pillow("RGB"), subsampling=0, comment=b"a comment", dpi=(72, 72))
    yield "jpeg 4:1:1", _saved("JPEG", _pillow("RGB"), subsampling="4:1:1", optimize=True)
    yield "jpeg cmyk", _saved("JPEG", _pillow("CMYK"))
    yield "jpeg cmyk progressive", _saved("JPEG", _pillow("CMYK"), progressive=True)
    yield "jpeg exif", _saved("JPEG", _pillow("RGB"), exif=_EXIF, icc_profile=bytes(range(200)))
    yield "jpeg two pictures", _saved("MPO", _frames()[0], save_all=True, append_images=_frames()[1:])


def _pngs() -> Iterator[tuple[str, bytes]]:
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        image = Image.fromarray(picture()[:, :, 0].astype(np.uint16) * 257) if mode == "I;16" else _pillow(mode)
        yield f"png {mode}", _saved("PNG", image)
    yield "png transparent palette", _saved("PNG", _pillow("P"), transparency=bytes(range(100)), bits=8)
    yield "png palette of 4 bits", _saved("PNG", _pillow("RGB").quantize(12), bits=4)
    yield "png 16-bit color", _encoded(".png", picture().astype(np.uint16) * 257)
    yield "png text", _saved("PNG", _pillow("RGB"), exif=_EXIF[6:], icc_profile=bytes(range(200)), dpi=(72, 72))
    # Of more than the bytes that edgeclf leaves to libpng.
    yield (
        "png large",
        _saved("PNG", Image.fromarray(np.random.RandomState(0).randint(0, 256, (280, 280, 3)).astype("u1"))),
    )
    yield "png interlaced", interlaced_png(picture())
    yield "png interlaced gray", interlaced_png(picture()[:, :, :1])
    yield "png animated", _saved("PNG", _frames()[0], save_all=True, append_images=_frames()[1:])
    yield (
        "png animated, other still",
        _saved("PNG", _frames()[0], save_all=True, default_image=True, append_images=_frames()[1:]),
    )


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """Return one chunk of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def interlaced_png(image: np.ndarray) -> bytes:
    """Return an Adam7 PNG of uint8 pixels with 1 or 3 channels, without filters."""
    height, width, channels = image.shape
    passes = [image[top::down, left::across] for left, top, across, down in _PASSES]
    rows = b"".join(b"\0" + row.tobytes() for part in passes if part.size for row in part)
    header = struct.pack(">IIBBBBB", width, height, 8, 2 if channels == 3 else 0, 0, 0, 1)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def _bmps() -> Iterator[tuple[str, bytes]]:
    for mode in ("1", "L", "P", "RGB", "RGBA"):
        yield f"bmp {mode}", _saved("BMP", _pillow(mode))
    yield "bmp 32 bits", _encoded(".bmp", cv2.cvtColor(picture(), cv2.COLOR_BGR2BGRA))
    rows = picture()[::-1].tobytes()
    yield "bmp os/2", struct.pack("<2sI4xIIHHHH", b"BM", 26 + len(rows), 26, 12, WIDTH, HEIGHT, 1, 24) + rows
    yield "bmp top down", _bmp(24, 0, picture().tobytes(), height=-HEIGHT)
    pixels = np.ascontiguousarray(picture()[:, :, :2])
    yield "bmp 16 bits", _bmp(16, 0, pixels.tobytes())
    yield "bmp 16 bits, masks", _bmp(16, 3, pixels.tobytes(), struct.pack("<III", 0xF800, 0x7E0, 0x1F))
    palette = bytes(range(256)) * 4
    for bits, compression in ((8, 1), (4, 2)):
        colors = palette[: 4 << bits]
        yield f"bmp rle{bits}", _bmp(bits, compression, _run_lengths(bits), colors)
    # OpenCV reads no RLE4 that ends early.
    yield "bmp rle8 with gaps", _bmp(8, 1, _run_lengths(8, gaps=True), palette)


def _bmp(bits: int, compression: int, body: bytes, colors: bytes = b"", height: int = HEIGHT) -> bytes:
    info = struct.pack("<IiiHHIIiiII", 40, WIDTH, height, 1, bits, compression, len(body), 0, 0, 0, 0)
    return struct.pack("<2sI4xI", b"BM", 54 + len(colors + body), 54 + len(colors)) + info + colors + body


def _run_lengths(bits: int, gaps: bool = False) -> bytes:
    """Return rows of runs and of literal pixels; with gaps, rows that end early, jumps and an early end."""
    body = b""
    for y in range(HEIGHT - 14 if gaps else HEIGHT):
        if gaps and y % 5 == 2:
            body += bytes((20, y, 0, 2, 9, 0, 10, y + 1))  # 20 pixels, 9 to the right, 10 pixels
        elif gaps and y % 5 == 4:
            body += bytes((0, 2, 3, 1, WIDTH - 3, y))  # 3 to the right and 1 up, and the rest of that row
        else:
            literal = bytes((x * y) & 255 for x in range(12 if bits == 8 else 6))
            body += bytes((30, y * 3 & 255, 0, 12)) + literal + bytes((WIDTH - 42, y))
        body += b"\0\0"
    return body + b"\0\1"


def _webps() -> Iterator[tuple[str, bytes]]:
    yield "webp lossy", _saved("WEBP", _pillow("RGB"), quality=80)
    yield "webp lossy, transparent", _saved("WEBP", _pillow("RGBA"), quality=60, exif=_EXIF)
    yield "webp lossless", _saved("WEBP", _pillow("RGB"), lossless=True)
    yield "webp lossless, transparent", _saved("WEBP", _pillow("RGBA"), lossless=True, icc_profile=bytes(200))
    yield "webp palette", _saved("WEBP", _pillow("RGB").quantize(6).convert("RGB"), lossless=True)
    for lossless in (False, True):
        frames = _frames()
        yield "webp animated", _saved("WEBP", frames[0], save_all=True, append_images=frames[1:], lossless=lossless)


def _tiffs() -> Iterator[tuple[str, bytes]]:
    for name in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        for mode in ("L", "RGB", "CMYK"):
            yield f"tiff {mode} {name}", _saved("TIFF", _pillow(mode), compression=name)
    for name in ("raw", "group3", "group4", "tiff_ccitt"):
        yield f"tiff 1 {name}", _saved("TIFF", _pillow("1"), compression=name)
    yield "tiff palette", _saved("TIFF", _pillow("P"), compression="tiff_lzw")
    yield "tiff RGBA", _saved("TIFF", _pillow("RGBA"), compression="tiff_lzw")
    yield "tiff YCbCr", _saved("TIFF", _pillow("YCbCr"), compression="jpeg")
    yield "tiff YCbCr raw", _saved("TIFF", _pillow("YCbCr"))
    yield "tiff 16-bit", _encoded(".tif", picture().astype(np.uint16) * 257)
    yield "tiff 16-bit gray", _encoded(".tif", picture()[:, :, 0].astype(np.uint16) * 257)
    yield "tiff two pages", _saved("TIFF", _pillow("RGB"), save_all=True, append_images=[_pillow("L")])
    for order in "<>":
        for name, pack in (("raw", bytes), ("deflate", zlib.compress)):
            yield f"tiff tiles {name} {order}", tiff(order, pack, tile=16)
            yield f"tiff strips {name} {order}", tiff(order, pack, tile=0)
    yield "tiff planes", tiff("<", bytes, tile=0, planar=True)
    yield "tiff turned", tiff(">", bytes, tile=0, orientation=6)


def tiff(order: str, pack: Callable[[bytes], bytes], tile: int, planar: bool = False, orientation: int = 1) -> bytes:
    """Return an RGB TIFF in tiles of tile x tile pixels, or in strips of 16 rows."""
    pixels = np.ascontiguousarray(picture()[:, :, ::-1])
    pieces = [pack(piece.tobytes()) for plane in _planes(pixels, planar) for piece in _pieces(plane, tile)]
    places = [8 + sum(map(len, pieces[:number])) for number in range(len(pieces))]
    kind = {bytes: 1, zlib.compress: 8}[pack]
    tags = [(256, 3, [WIDTH]), (257, 3, [HEIGHT]), (258, 3, [8, 8, 8]), (259, 3, [kind]), (262, 3, [2])]
    tags += [(274, 3, [orientation]), (277, 3, [3]), (284, 3, [2 if planar else 1])]
    sizes = [len(piece) for piece in pieces]
    if tile:
        tags += [(322, 3, [tile]), (323, 3, [tile]), (324, 4, places), (325, 4, sizes)]
    else:
        tags += [(273, 4, places), (278, 3, [16]), (279, 4, sizes)]
    return _with_tags(order, b"".join(pieces), sorted(tags))


def _planes(pixels: np.ndarray, planar: bool) -> list[np.ndarray]:
    return [pixels[:, :, channel : channel + 1] for channel in range(3)] if planar else [pixels]


def _pieces(plane: np.ndarray, tile: int) -> Iterator[np.ndarray]:
    if not tile:
        yield from (plane[y : y + 16] for y in range(0, HEIGHT, 16))
        return
    padded = np.pad(plane, ((0, -HEIGHT % tile), (0, -WIDTH % tile), (0, 0)))
    for y in range(0, HEIGHT, tile):
        yield from (padded[y : y + tile, x : x + tile] for x in range(0, WIDTH, tile))


def _with_tags(order: str, body: bytes, tags: list[tuple[int, int, list[int]]]) -> bytes:
    body += b"\0" * (len(body) % 2)
    at = 8 + len(body)
    behind, entries = at + 2 + 12 * len(tags) + 4, b""
    values = b""
    for tag, kind, numbers in tags:
        data = struct.pack(f"{order}{len(numbers)}{'H' if kind == 3 else 'I'}", *numbers)
        place = data.ljust(4, b"\0") if len(data) <= 4 else struct.pack(order + "I", behind + len(values))
        entries += struct.pack(order + "HHI", tag, kind, len(numbers)) + place
        values += data if len(data) > 4 else b""
    directory = struct.pack(order + "H", len(tags)) + entries + bytes(4) + values
    return (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", at) + body + directory
