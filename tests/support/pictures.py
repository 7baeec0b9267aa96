"""Pictures for the tests, the same on every machine, and files that OpenCV cannot write.

Python 3.6 and nothing but numpy and OpenCV, as everything in this folder.
"""

import base64
import struct
import zlib

import cv2
import numpy as np

RED, GREEN, BLUE, YELLOW = (40, 40, 200), (40, 200, 40), (200, 40, 40), (60, 220, 220)

# 16 x 16 pixels, red and green above blue and yellow, as an Adobe CMYK JPEG.
CMYK_JPEG = base64.b64decode(
    "/9j/7gAOQWRvYmUAZAAAAAAA/9sAQwANCQoLCggNCwoLDg4NDxMgFRMSEhMnHB4XIC4pMTAuKS0sMzpKPjM2RjcsLUBXQUZMTlJTUjI+WmFaUG"
    "BKUVJP/8AAFAgAEAAQBEMRAE0RAFkRAEsRAP/EABYAAQEBAAAAAAAAAAAAAAAAAAcABv/EABQQAQAAAAAAAAAAAAAAAAAAAAD/2gAOBEMATQBZ"
    "AEsAAD8A1jEsSTg6YkkHTEjebxSn/9k="
)


def noise(width, height):
    """A picture with detail of every size, made only of integers: BGR, uint8."""
    y, x = np.mgrid[0:height, 0:width].astype(np.int64)
    fine = ((x * 7919 + y * 104729) * (x + 3 * y + 17) >> 3) % 61
    coarse = [(x * 3 + y * 2) // 5, (x * y) // 97, (x * x + y * y) // 301]
    return np.stack([(channel + fine) % 256 for channel in coarse], 2).astype(np.uint8)


def quarters(width=32, height=16):
    """Red and green above blue and yellow, so that every turn and flip shows."""
    image = np.empty((height, width, 3), np.uint8)
    image[: height // 2, : width // 2], image[: height // 2, width // 2 :] = RED, GREEN
    image[height // 2 :, : width // 2], image[height // 2 :, width // 2 :] = BLUE, YELLOW
    return image


def corners(image):
    """The names of the colors top left, top right, bottom left and bottom right."""
    height, width = image.shape[:2]
    names = {"red": RED, "green": GREEN, "blue": BLUE, "yellow": YELLOW}
    pixels = [image[y, x].astype(int) for y in (height // 4, -height // 4) for x in (width // 4, -width // 4)]
    return [min(names, key=lambda name: np.abs(pixel - names[name]).sum()) for pixel in pixels]


def encode(suffix, image, *options):
    """The bytes of an image file as OpenCV writes it."""
    return cv2.imencode(suffix, image, list(options))[1].tobytes()


def with_orientation(data, orientation):
    """A JPEG, PNG or WebP file's bytes with an EXIF orientation in them."""
    exif = b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 274, 3, 1, orientation, 0, 0)
    if data.startswith(b"\xff\xd8"):
        return data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 8) + b"Exif\0\0" + exif + data[2:]
    if data.startswith(b"\x89PNG"):
        return data[:33] + png_chunk(b"eXIf", exif) + data[33:]
    height, width = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape[:2]
    canvas = struct.pack("<4sIB3xHBHB", b"VP8X", 10, 8, width - 1, 0, height - 1, 0)
    body = b"WEBP" + canvas + data[12:] + struct.pack("<4sI", b"EXIF", len(exif)) + exif
    return b"RIFF" + struct.pack("<I", len(body)) + body


def png_chunk(kind, data):
    """One chunk of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_bomb(width, height):
    """A PNG of some kilobytes that decodes to width x height gray pixels."""
    rows = zlib.compress(bytes((width // 8 + 1) * height), 9)
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", rows) + png_chunk(b"IEND", b"")
