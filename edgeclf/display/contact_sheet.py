"""A contact sheet: rows of pictures of one size on one page, each row with a caption."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from edgeclf_runtime.text.terminal import printable

_SMALLEST, _LARGEST = 96, 256
"""Sides of a picture on the page; smaller ones are enlarged without interpolation, larger ones reduced."""
_GAP, _MARGIN, _LINE = 6, 16, 22
# Between the first picture of a row and the others.
_FIRST_GAP = 24
_BACKGROUND, _TEXT, _FAINT = (255, 255, 255), (20, 20, 20), (100, 100, 100)
_TITLE_SIZE, _TEXT_SIZE = 20, 14
# Letters of a line for each pixel of its width.
_LETTERS = 0.14
_LEAST_WIDTH = 420


class Row(NamedTuple):
    """A row of the page."""

    caption: str
    pictures: Sequence[np.ndarray]
    """Each uint8 [height, width, 3], RGB, all of one size."""


def draw_sheet(title: str, text: str, headings: tuple[str, str], rows: Sequence[Row]) -> Image.Image:
    """Return the page.

    headings: above the first picture of the rows, and above the others.
    """
    side = max(rows[0].pictures[0].shape[:2])
    shown = side * math.ceil(_SMALLEST / side) if side < _SMALLEST else min(side, _LARGEST)
    count = max(len(row.pictures) for row in rows)
    width = max(_LEAST_WIDTH, 2 * _MARGIN + count * (shown + _GAP) + _FIRST_GAP)
    lines = textwrap.wrap(text, int(width * _LETTERS))
    top = _MARGIN + _TITLE_SIZE + _GAP + _LINE * len(lines) + _LINE
    height = top + len(rows) * (_LINE + shown + 2 * _GAP) + _MARGIN
    page = Image.new("RGB", (width, height), _BACKGROUND)
    draw = ImageDraw.Draw(page)
    _write(draw, _MARGIN, _MARGIN, title, _TITLE_SIZE, width)
    for number, line in enumerate(lines):
        _write(draw, _MARGIN, _MARGIN + _TITLE_SIZE + _GAP + number * _LINE, line, _TEXT_SIZE, width)
    for number, heading in enumerate(headings):
        _write(draw, _left(number, shown), top - _LINE, heading, _TEXT_SIZE, width, _FAINT)
    for row in rows:
        _write(draw, _MARGIN, top + _GAP, row.caption, _TEXT_SIZE, width)
        for number, pixels in enumerate(row.pictures):
            page.paste(_scaled(pixels, shown), (_left(number, shown), top + _LINE + _GAP))
        top += _LINE + shown + 2 * _GAP
    return page


def _left(number: int, shown: int) -> int:
    return _MARGIN + number * (shown + _GAP) + (_FIRST_GAP if number else 0)


def _scaled(pixels: np.ndarray, shown: int) -> Image.Image:
    picture = Image.fromarray(pixels)
    if picture.width == shown:
        return picture
    return picture.resize((shown, shown), Image.Resampling.NEAREST if shown > picture.width else Image.Resampling.BOX)


def _write(
    draw: ImageDraw.ImageDraw,
    left: int,
    top: int,
    text: str,
    size: int,
    width: int,
    color: tuple[int, int, int] = _TEXT,
) -> None:
    """Write one line, shortened to the page."""
    font = _font(size)
    text = printable(text)
    room = width - left - _MARGIN
    if draw.textlength(text, font) > room:
        while text and draw.textlength(text + "…", font) > room:
            text = text[:-1]
        text += "…"
    draw.text((left, top), text, color, font)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    # Pillow's own font has only Latin letters.
    try:
        return ImageFont.truetype("DejaVuSans.ttf", size)
    except OSError:
        return ImageFont.load_default(size)
