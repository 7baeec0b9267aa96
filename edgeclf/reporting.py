"""Progress on stderr: a bar on a terminal, a line now and then in a log, nothing in a library.

Knows nothing of what is being counted.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
_LOG_EVERY_S = 10.0
_enabled = False


def show_progress(enabled: bool = True) -> None:
    """Turn progress on (the command line does) or off (the default)."""
    global _enabled
    _enabled = enabled


def say(message: str) -> None:
    """Write a line to stderr, where progress is on."""
    if _enabled:
        print(message, file=sys.stderr, flush=True)


def track(items: Iterable[T], what: str, total: int) -> Iterator[T]:
    """Yield the items and show how far the loop is: ``what`` is named in the present participle."""
    if not _enabled:
        yield from items
    elif sys.stderr.isatty():
        yield from _bar(items, what, total)
    else:
        yield from _lines(items, what, total)


def _bar(items: Iterable[T], what: str, total: int) -> Iterator[T]:
    from rich.console import Console
    from rich.progress import track as rich_track

    yield from rich_track(items, f"{what:<24}", total, console=Console(stderr=True))


def _lines(items: Iterable[T], what: str, total: int) -> Iterator[T]:
    start = said = time.monotonic()
    for count, item in enumerate(items):
        if time.monotonic() - said > _LOG_EVERY_S:
            said = time.monotonic()
            say(f"{what}: {count} of {total}")
        yield item
    say(f"{what}: {total} in {time.monotonic() - start:.1f} s")
