"""Damage to image files: of bytes, of numbers, and of the parts that each format is made of."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable

from image_corpus import png_chunk

Parts = list[bytes]
_NUMBERS = (0, 1, 2, 3, 4, 7, 8, 16, 100, 127, 128, 255, 256, 5000, 7000, 9000, 20000, 32767, 32768, 60000, 65535)
_LARGE = (*_NUMBERS, 1 << 20, 1 << 24, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, (1 << 32) - 100)
_TAGS = (256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 284, 292, 317, 320, 322, 323, 324, 325, 338, 339, 530)
_MARKERS = (0x01, 0xC0, 0xC1, 0xC2, 0xC4, 0xC9, 0xD0, 0xD7, 0xD8, 0xD9, 0xDA, 0xDB, 0xDC, 0xDD, 0xE1, 0xEE, 0xFE, 0xFF)


def damaged(files: list[tuple[str, bytes]], seed: int, number: int) -> tuple[str, bytes]:
    """Return the name and the bytes of a damaged file, always the same for a seed and a number."""
    chance = random.Random(f"{seed} {number}")
    kind = chance.choice(sorted({name.split()[0] for name, _ in files}))
    same = [file for file in files if file[0].split()[0] == kind]
    name, data = chance.choice(same)
    for _ in range(chance.choice((1, 1, 1, 2, 2, 3))):
        _, other = chance.choice(same)
        data = chance.choice(_KINDS)(chance, data, other)
    return name, data


def _flip(chance: random.Random, data: bytes, other: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        if changed:
            changed[_place(chance, len(changed))] = chance.choice((0, 255, chance.randrange(256)))
    return bytes(changed)


def _flip_bit(chance: random.Random, data: bytes, other: bytes) -> bytes:
    changed = bytearray(data)
    if changed:
        changed[_place(chance, len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _place(chance: random.Random, size: int) -> int:
    """Return a place in a file, half of them in its first 200 bytes."""
    return chance.randrange(min(size, 200) if chance.random() < 0.5 else size)


def _number(chance: random.Random, data: bytes, other: bytes = b"") -> bytes:
    at = _place(chance, len(data) + 1)
    field = struct.pack(chance.choice("<>") + "I", chance.choice(_LARGE))
    if chance.random() < 0.5:
        field = struct.pack(chance.choice("<>") + "H", chance.choice(_NUMBERS))
    return data[:at] + field + data[at + len(field) :]


def _cut(chance: random.Random, data: bytes, other: bytes) -> bytes:
    data = data[: chance.randrange(len(data) + 1)]
    ends = {b"\xff\xd8": b"\xff\xd9", b"\x89P": png_chunk(b"IEND", b"")}
    return data + (ends.get(data[:2], b"") if chance.random() < 0.7 else b"")


def _remove(chance: random.Random, data: bytes, other: bytes) -> bytes:
    at = chance.randrange(len(data) + 1)
    return data[:at] + data[at + chance.choice((1, 2, 4, 12, 100)) :]


def _insert(chance: random.Random, data: bytes, other: bytes) -> bytes:
    at = _place(chance, len(data) + 1)
    block = chance.choice(
        (
            bytes(chance.randrange(256) for _ in range(chance.choice((1, 2, 8, 40)))),
            bytes((0xFF, chance.choice(_MARKERS))),
            data[at : at + chance.choice((4, 12, 100))] * chance.choice((1, 2, 50)),
            bytes(chance.choice((4, 1000, 20000))),
        )
    )
    return data[:at] + block + data[at:]


def _splice(chance: random.Random, data: bytes, other: bytes) -> bytes:
    return data[: chance.randrange(len(data) + 1)] + other[chance.randrange(len(other) + 1) :]


def _parts(chance: random.Random, data: bytes, other: bytes) -> bytes:
    """Damage the parts of a file: drop, repeat, move, mix with those of another file, or change one inside."""
    split, join, change = _FORMATS.get(data[:2], _FORMATS[b"BM"])
    try:
        parts, others = split(data), split(other)
    except (struct.error, IndexError):
        parts, others = [], []
    if not parts or not others:
        return _flip(chance, data, other)
    at, to = chance.randrange(len(parts)), chance.randrange(len(parts) + 1)
    how = chance.randrange(8)
    if how == 0:
        del parts[at]
    elif how == 1:
        parts[to:to] = [parts[at]] * chance.choice((1, 1, 2, 30))
    elif how == 2:
        parts.insert(to % len(parts), parts.pop(at))
    elif how == 3:
        parts.insert(to, chance.choice(others))
    else:
        parts[at] = change(chance, parts[at])
    return join(parts)


def _jpeg_parts(data: bytes) -> Parts:
    parts, at = [data[:2]], 2
    while data[at] == 0xFF and data[at + 1] != 0xD9:
        end = at + 2 + struct.unpack_from(">H", data, at + 2)[0]
        if data[at + 1] == 0xDA:
            while not (data[end] == 0xFF and data[end + 1] >= 0xC0 and not 0xD0 <= data[end + 1] <= 0xD7):
                end += 1
        parts.append(data[at:end])
        at = end
    return [*parts, data[at:]]


def _change_segment(chance: random.Random, part: bytes) -> bytes:
    if chance.random() < 0.2:
        return b"\xff" + bytes((chance.choice(_MARKERS),)) + part[2:]
    if part[1:2] in (b"\xc0", b"\xc2") and chance.random() < 0.5:
        sides = struct.pack(">HH", chance.choice(_NUMBERS), chance.choice(_NUMBERS))
        return part[:5] + sides + part[9:]
    return _number(chance, part) if chance.random() < 0.5 else _flip(chance, part, b"")


def _png_parts(data: bytes) -> Parts:
    parts, at = [], 8
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        parts.append(data[at + 4 : at + 8 + length])
        at += 12 + length
    return parts


def _join_png(parts: Parts) -> bytes:
    # With the right checksum the damage gets as far as the decoder.
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(part[:4], part[4:]) for part in parts)


def _change_chunk(chance: random.Random, part: bytes) -> bytes:
    kind, body = part[:4], part[4:]
    if kind == b"IHDR" and chance.random() < 0.7:
        at, field = chance.choice(((0, ">I"), (4, ">I"), (8, "B"), (9, "B"), (12, "B")))
        value = chance.choice(_LARGE if field == ">I" else (0, 1, 2, 3, 4, 6, 8, 16))
        return kind + body[:at] + struct.pack(field, value) + body[at + struct.calcsize(field) :]
    if kind == b"IDAT" and chance.random() < 0.5:
        try:
            raw = zlib.decompress(body)
        except zlib.error:
            return kind + _flip(chance, body, b"")
        return kind + zlib.compress(chance.choice((_flip, _cut, _remove, _insert))(chance, raw, b""))
    return kind + chance.choice((_flip, _number, _cut, _insert))(chance, body or b"\0", b"")


def _riff_parts(data: bytes) -> Parts:
    parts, at = [], 12
    while at + 8 <= len(data):
        (length,) = struct.unpack_from("<I", data, at + 4)
        parts.append(data[at : at + 8 + length + length % 2])
        at += 8 + length + length % 2
    return parts


def _join_riff(parts: Parts) -> bytes:
    body = b"WEBP" + b"".join(parts)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _change_riff(chance: random.Random, part: bytes) -> bytes:
    """Damage a chunk behind its own header, or a frame's inner chunks."""
    return part[:8] + chance.choice((_flip, _flip_bit, _number))(chance, part[8:] or b"\0", b"")


def _tiff_parts(data: bytes) -> Parts:
    """Return what comes before the first directory's entries, each entry, and the rest."""
    order = "<" if data[:2] == b"II" else ">"
    (at,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, at)
    at += 2
    return [data[:at], *(data[at + 12 * n : at + 12 * n + 12] for n in range(count)), data[at + 12 * count :]]


def _join_tiff(parts: Parts) -> bytes:
    entries = [part for part in parts[1:-1] if len(part) == 12]
    if len(parts[0]) < 10 or parts[0][:2] not in (b"II", b"MM"):
        return b"".join(parts)
    order = "<" if parts[0][:2] == b"II" else ">"
    # At the end, so that what the entries point to stays in its place.
    body = b"".join(parts)
    directory = struct.pack(order + "H", len(entries)) + b"".join(entries) + bytes(4)
    return body[:4] + struct.pack(order + "I", len(body)) + body[8:] + directory


def _change_entry(chance: random.Random, part: bytes) -> bytes:
    if len(part) != 12:
        return _flip(chance, part, b"")
    order = chance.choice("<>")
    tag, kind, count = struct.unpack_from(order + "HHI", part)
    value, how = part[8:], chance.randrange(5)
    if how == 0:
        tag = chance.choice(_TAGS)
    elif how == 1:
        kind = chance.choice((0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 16, 255))
    elif how == 2:
        count = chance.choice(_LARGE)
    else:
        value = struct.pack(order + "I", chance.choice(_LARGE))
    return struct.pack(order + "HHI", tag, kind, count) + value


def _bmp_parts(data: bytes) -> Parts:
    return [data[:14], *(data[at : at + 4] for at in range(14, 54, 4)), data[54:1078], data[1078:]]


_FORMATS: dict[bytes, tuple[Callable[[bytes], Parts], Callable[[Parts], bytes], Callable[..., bytes]]] = {
    b"\xff\xd8": (_jpeg_parts, b"".join, _change_segment),
    b"\x89P": (_png_parts, _join_png, _change_chunk),
    b"RI": (_riff_parts, _join_riff, _change_riff),
    b"II": (_tiff_parts, _join_tiff, _change_entry),
    b"MM": (_tiff_parts, _join_tiff, _change_entry),
    b"BM": (_bmp_parts, b"".join, _number),
}
_KINDS = (_flip, _flip_bit, _number, _cut, _remove, _insert, _splice, _parts, _parts, _parts, _parts)
