"""Image files built part by part: what no encoder writes, and what a decoder might be misled by."""

import struct
import zlib

from tests.support.pictures import png_chunk

SIGNATURE = b"\x89PNG\r\n\x1a\n"
UPRIGHT = ["red", "green", "blue", "yellow"]
"""Colors of the corners of quarters(), if it is upright."""


def segment(marker, body):
    """A segment of a JPEG file."""
    return bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body


def frame(width, height, marker=0xC0, components=1):
    """A JPEG's frame header."""
    names = b"".join(bytes((number + 1, 0x11, 0)) for number in range(components))
    return segment(marker, struct.pack(">BHHB", 8, height, width, components) + names)


def scan(components=1, band=(0, 63, 0), body=b""):
    """A JPEG's scan header and its data."""
    names = b"".join(bytes((number + 1, 0)) for number in range(components))
    return segment(0xDA, bytes((components,)) + names + bytes(band)) + body


def tables():
    """A JPEG's tables, with one code each: a flat block, and a run of up to 32767 of them."""
    codes = bytes([0, 1] + [0] * 14)
    return (
        segment(0xDB, b"\0" + bytes([1]) * 64)
        + segment(0xC4, b"\0" + codes + b"\0")
        + segment(0xC4, b"\x10" + codes + b"\xe0")
    )


def progressive_jpeg(width, height, scans):
    """A progressive gray JPEG whose scans all refine the same coefficients, of 13 bytes each and more."""
    runs = -(-(-(-width // 8) * -(-height // 8)) // 32767)
    bits = ("00" + "1" * 14) * runs
    body = bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)).replace(b"\xff", b"\xff\0")
    refining = scan(band=(1, 63, 0x10), body=body)
    return b"\xff\xd8" + tables() + frame(width, height, 0xC2) + refining * scans + b"\xff\xd9"


def hidden_frame(marker, width, height, shown):
    """A JPEG of that size, where who reads a length behind a marker that has none finds the shown header inside a comment."""
    start = b"\xff\xd8\xff" + bytes((marker,)) + segment(0xFE, bytes(65000 - 2))
    # The "length" is 0xFFFE, the comment's own marker.
    decoy = bytes(4 + 0xFFFE - len(start) - 4) + shown
    return start + segment(0xFE, decoy) + tables() + frame(width, height) + scan() + b"\xff\xd9"


def png(width, height, bits, color, *chunks, interlace=0):
    """A PNG file with those chunks between its header and its end."""
    header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, interlace)
    parts = ((b"IHDR", header), *chunks, (b"IEND", b""))
    return SIGNATURE + b"".join(png_chunk(*part) for part in parts)


def png_chunks(data):
    """The kinds of a PNG file's chunks, in order."""
    kinds, at = [], 8
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        kinds.append(kind)
        at += 12 + length
    return kinds


def zeros(count):
    """So many zeros, deflated."""
    packer = zlib.compressobj(9)
    return (
        b"".join(packer.compress(bytes(min(1 << 24, count - at))) for at in range(0, count, 1 << 24)) + packer.flush()
    )


def riff(*chunks):
    """A WebP file of those chunks."""
    body = b"WEBP" + b"".join(webp_chunk(*chunk) for chunk in chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def webp_chunk(kind, body):
    """One chunk of a WebP file."""
    return kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def canvas(width, height, flags):
    """The body of a WebP's extended header."""
    return struct.pack("<I", flags) + struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]


def bmp(width, height, body, bits=24, compression=0, header_bytes=40, file_bytes=0, colors=b""):
    """A Windows bitmap with those numbers in its header."""
    info = struct.pack("<IiiHHIIiiII", header_bytes, width, height, 1, bits, compression, 0, 0, 0, 0, 0)
    return struct.pack("<2sI4xI", b"BM", file_bytes, 54 + len(colors)) + info + colors + body


def tiff(tags, body=b"", order="<", following=0):
    """A TIFF file: tags as (tag, type, values), the body at byte 8, and the place of a further directory."""
    body += b"\0" * (len(body) % 2)
    directory_at = 8 + len(body)
    values_at, entries, values = directory_at + 2 + 12 * len(tags) + 4, b"", b""
    for tag, kind, numbers in tags:
        letter = {1: "B", 3: "H", 4: "I", 7: "B", 8: "h", 9: "i"}[kind]
        data = struct.pack(f"{order}{len(numbers)}{letter}", *numbers)
        place = data.ljust(4, b"\0") if len(data) <= 4 else struct.pack(order + "I", values_at + len(values))
        entries += struct.pack(order + "HHI", tag, kind, len(numbers)) + place
        values += data + b"\0" * (len(data) % 2) if len(data) > 4 else b""
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", directory_at)
    return start + body + struct.pack(order + "H", len(tags)) + entries + struct.pack(order + "I", following) + values


def strips(image, pack=bytes, rows=16, **changes):
    """The tags and the body of an RGB TIFF in strips; ``changes`` replaces the values of a tag, as in t257=[8]."""
    height, width = image.shape[:2]
    pieces = [pack(image[at : at + rows, :, ::-1].tobytes()) for at in range(0, height, rows)]
    places = [8 + sum(len(piece) for piece in pieces[:number]) for number in range(len(pieces))]
    tags = {256: [width], 257: [height], 258: [8, 8, 8], 259: [1 if pack is bytes else 8], 262: [2], 273: places}
    tags.update({277: [3], 278: [rows], 279: [len(piece) for piece in pieces]})
    tags.update({int(name[1:]): values for name, values in changes.items()})
    return [(tag, 4 if tag in (273, 279) else 3, tags[tag]) for tag in sorted(tags)], b"".join(pieces)


def refusal(data):
    """Decode image data that must be refused, and return the reason."""
    import pytest

    from edgeclf_runtime.errors import ImageError
    from edgeclf_runtime.images.read import decode_image

    with pytest.raises(ImageError) as caught:
        decode_image(data, "photo")
    assert str(caught.value).startswith("photo: ")
    return str(caught.value)
