"""Lays out docstrings for the site: their aligned lists of arguments and fields become lists in Markdown."""

from __future__ import annotations

import re
from typing import Any

import griffe

# "name, name2    what they are", and lines that go on below, indented.
ENTRY = re.compile(r"(?P<names>\w+(?:, \w+)*) {2,}(?P<text>\S.*)")


class Lists(griffe.Extension):
    """Rewrites each docstring once it is read."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Lay out the docstring of a module, class, function or attribute."""
        if obj.docstring:
            obj.docstring.value = laid_out(obj.docstring.value)


def laid_out(text: str) -> str:
    """Return a docstring with its aligned lists as Markdown."""
    text = re.sub(r":(?:meth|func|class|mod):(?=`)", "", text)
    lines: list[str] = []
    inside = False
    for line in text.splitlines():
        entry = ENTRY.fullmatch(line)
        if entry:
            names = ", ".join(f"`{name}`" for name in entry["names"].split(", "))
            lines += ([] if inside else [""]) + [f"- {names}: {entry['text']}"]
            inside = True
        elif inside and line.startswith("   "):
            lines.append(f"    {line.strip()}")
        else:
            lines += [""] if inside and line else []
            lines.append(line)
            inside = False
    return "\n".join(lines)
