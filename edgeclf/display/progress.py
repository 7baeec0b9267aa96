"""Progress: a bar on a terminal, occasional lines in a log, a few lines below a notebook's cell, nothing elsewhere.

A terminal and a log get it on stderr, if the command line or the caller turned it on.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import time
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from edgeclf_runtime.text.terminal import message as shown
from edgeclf_runtime.text.terminal import printable, show_message

T = TypeVar("T")
_LOG_EVERY_S = 10.0
_WIDTH = 22
_CELL_LINES = 40
"""Most lines below a notebook's cell; warnings are kept besides."""
_CELL_EVERY_S = 0.1
_BAR = 24
_enabled: bool | None = None


def show_progress(enabled: bool | None = True) -> None:
    """Turn progress and messages, warnings included, on or off; None, the default, shows them in a notebook only."""
    global _enabled
    _enabled = enabled


def say(message: str) -> None:
    """Show a message, if progress is on."""
    if cell := _cell():
        cell.say(message)
    elif _enabled:
        show_message(message)


def say_report(report: object) -> None:
    """Show a report, if progress is on: each line is a message of its own, so no line is indented and tables stay aligned."""
    for line in str(report).split("\n"):
        say(line)


def track(items: Iterable[T], what: str, total: int) -> Iterator[T]:
    """Yield the items and show progress; ``what`` names the work."""
    with progress(what, total) as advance:
        for item in items:
            yield item
            advance()


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[], None]]:
    """Show progress; yields a function to call after each of ``total`` steps."""
    if cell := _cell():
        with cell.progress(what, total) as advance:
            yield advance
    elif not _enabled:
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


class _Cell:
    """Progress below one cell of a notebook, in a single output that is replaced: the last messages, and work under way.

    It needs no widgets, and a saved notebook keeps the last state.
    """

    _latest: _Cell | None = None

    def __init__(self, number: int) -> None:
        # timm imports it, and it would warn below the cell that its own bars lack ipywidgets; ours need none.
        with contextlib.suppress(ImportError), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            importlib.import_module("tqdm.auto")
        self.number, self._name = number, ""
        self._lines: list[str] = []
        self._works: list[_Work] = []
        self._shown_at = 0.0

    @classmethod
    def of(cls, number: int) -> _Cell:
        """Return the output of the cell that is running, by its number."""
        if cls._latest is None or cls._latest.number != number:
            cls._latest = cls(number)
        return cls._latest

    def say(self, message: str) -> None:
        """Add a message; the oldest make room, except for warnings."""
        self._lines += shown(message).split("\n")
        others = [line for line in self._lines if not _is_warning(line)]
        for line in others[: max(0, len(others) - _CELL_LINES)]:
            self._lines.remove(line)
        self._show()

    @contextmanager
    def progress(self, what: str, total: int) -> Iterator[Callable[[], None]]:
        """Show a bar; yields a function to call after each of ``total`` steps."""
        work = _Work(printable(what), total)
        self._works.append(work)

        def advance() -> None:
            work.count += 1
            if time.monotonic() - self._shown_at > _CELL_EVERY_S:
                self._show()

        try:
            yield advance
        except BaseException:
            self._works.remove(work)
            self._show()
            raise
        self._works.remove(work)
        self.say(f"{what}: {total} in {work.seconds:.1f} s")

    def _show(self) -> None:
        from IPython.display import display, update_display

        self._shown_at = time.monotonic()
        text = {"text/plain": "\n".join([*self._lines, *map(str, self._works)])}
        if self._name:
            update_display(text, display_id=self._name, raw=True)
        else:
            self._name = f"edgeclf-{uuid.uuid4()}"
            display(text, display_id=self._name, raw=True)


class _Work:
    """Work under way."""

    def __init__(self, what: str, total: int) -> None:
        self.what, self.total, self.count = what, total, 0
        self._start = time.monotonic()

    @property
    def seconds(self) -> float:
        """Time since it began."""
        return time.monotonic() - self._start

    def __str__(self) -> str:
        share = min(1.0, self.count / max(1, self.total))
        bar = ("\u2501" * round(share * _BAR)).ljust(_BAR, "\u2500")
        left = f", about {self.seconds / share - self.seconds:.0f} s left" if share else ""
        return f"{self.what:<{_WIDTH}}  {bar}  {self.count}/{self.total}  {self.seconds:.0f} s{left}"


def _is_warning(line: str) -> bool:
    return line.startswith("warning:")


def _cell() -> _Cell | None:
    """Return the output of the notebook's running cell; None outside of a notebook, or if progress is off."""
    ipython = sys.modules.get("IPython")
    if _enabled is False or ipython is None:
        return None
    shell = ipython.get_ipython()
    # A terminal's shell has no kernel.
    return _Cell.of(shell.execution_count) if getattr(shell, "kernel", None) is not None else None
