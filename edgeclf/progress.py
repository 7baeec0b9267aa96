"""Progress on stderr: a bar on a terminal, occasional lines in a log, nothing when used as a library."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from edgeclf_runtime.text.terminal import printable, show_message

T = TypeVar("T")
_LOG_EVERY_S = 10.0
_WIDTH = 22
_enabled = False


def show_progress(enabled: bool = True) -> None:
    """Turn progress on (the command line does) or off (the default)."""
    global _enabled
    _enabled = enabled


def say(message: str) -> None:
    """Write a line to stderr, if progress is on."""
    if _enabled:
        show_message(message)


def track(items: Iterable[T], what: str, total: int) -> Iterator[T]:
    """Yield the items and show progress; ``what`` names the work."""
    with progress(what, total) as advance:
        for item in items:
            yield item
            advance()


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[], None]]:
    """Show progress; yields a function to call after each of ``total`` steps."""
    if not _enabled:
        yield lambda: None
    elif sys.stderr.isatty():
        with _bar(what, total) as advance:
            yield advance
    else:
        with _lines(what, total) as advance:
            yield advance


@contextmanager
def _bar(what: str, total: int) -> Iterator[Callable[[], None]]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn(f"{{task.description:<{_WIDTH}}}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    # Results may go to stdout meanwhile, and may be piped.
    with Progress(*columns, console=Console(stderr=True), redirect_stdout=False) as bars:
        task = bars.add_task(printable(what), total=total)
        yield lambda: bars.advance(task)


@contextmanager
def _lines(what: str, total: int) -> Iterator[Callable[[], None]]:
    start = said = time.monotonic()
    count = 0

    def advance() -> None:
        nonlocal count, said
        count += 1
        if time.monotonic() - said > _LOG_EVERY_S and count < total:
            said = time.monotonic()
            say(f"{what}: {count} of {total}")

    yield advance
    say(f"{what}: {total} in {time.monotonic() - start:.1f} s")
