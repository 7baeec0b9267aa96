"""Widths of text in a terminal: Chinese, Japanese and Korean letters take two columns, accents of their own none."""

from __future__ import annotations

import unicodedata

_NO_COLUMN = frozenset(("Mn", "Me", "Cf"))


def width(text: str) -> int:
    """Return the columns that a text takes (Unicode's annex 11; an ambiguous letter takes one)."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.category(letter) in _NO_COLUMN else 1 + (unicodedata.east_asian_width(letter) in "WF")
        for letter in text
    )


def left(text: str, columns: int) -> str:
    """Return a text with spaces behind it, up to so many columns."""
    return text + " " * (columns - width(text))


def right(text: str, columns: int) -> str:
    """Return a text with spaces before it, up to so many columns."""
    return " " * (columns - width(text)) + text


def fitted(text: str, most: int) -> str:
    """Return a text that takes so many columns at most, its end left out."""
    if width(text) <= most:
        return text
    end = len(text)
    while width(text[:end]) > most - 1:
        end -= 1
    return text[:end] + "…"
