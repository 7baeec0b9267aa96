"""The documentation's pages, and the commands and programs in them."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Pages that a user reads from top to bottom: their commands are run, in this order.
GUIDES = [ROOT / "README.md", ROOT / "docs/tutorial.md", *sorted(ROOT.glob("docs/*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
PROGRAMS = r"(?:sudo )?(?:edgeclf|python3|git|scp|mkdocs)\b"


def guides():
    """Return each guide once, with the name for a test."""
    return {path.relative_to(ROOT).as_posix(): path for path in GUIDES}


def blocks(path, language):
    """Return the texts of a page's blocks of code in a language, "" for those without one."""
    return [text for found, text in BLOCK.findall(path.read_text(encoding="utf-8")) if found == language]


def command_lines(path):
    """Return the commands in a page's blocks of code, without their comments; outputs and listings are left out."""
    lines = [re.sub(r"\s+# .*", "", line) for text in blocks(path, "") for line in text.splitlines()]
    return [line for line in lines if re.match(PROGRAMS, line)]
