"""Versions of libraries, as numbers that can be compared."""

import re
from typing import Optional, Tuple


def version_numbers(version: str, most: Optional[int] = None) -> Tuple[int, ...]:
    """Return the numbers of a version, or at most so many of them: (4, 5, 4) of "4.5.4-dev"."""
    return tuple(map(int, re.findall(r"\d+", version)[:most]))
