"""The log on stderr: which records are shown, and their format."""

import logging
import os
import time
from typing import Optional

from .stdio import write_stderr
from .terminal import message

LEVELS = ("debug", "info", "warning", "error")
_OWN = "edgeclf_runtime"


class LogFormatter(logging.Formatter):
    """Formats log records as messages.

    If the format asks for the time: local time, ISO 8601, with milliseconds and the offset from UTC.
    """

    def formatTime(self, record: logging.LogRecord, datefmt: Optional[str] = None) -> str:  # noqa: N802 - logging's name
        """See logging.Formatter."""
        moment = time.localtime(record.created)
        offset = time.strftime("%z", moment)
        shown = time.strftime("%Y-%m-%dT%H:%M:%S", moment)
        return "{}.{:03d}{}:{}".format(shown, int(record.msecs) % 1000, offset[:3], offset[3:])

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        return message(super().format(record))


class _Stderr(logging.Handler):
    """Writes to whatever sys.stderr is at the time."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            write_stderr(self.format(record) + "\n")
        except Exception:  # as in every handler: a record that cannot be shown must not stop the program
            self.handleError(record)


def log_to_stderr(level: Optional[str] = None) -> None:
    """Show log records on stderr.

    level       the lowest level shown, one of LEVELS, with times; None shows warnings and errors, without times

    Times are left out in systemd's journal, which adds its own.
    """
    chosen = getattr(logging, (level or "warning").upper())
    handler = _Stderr()
    timed = level is not None and not is_journal()
    handler.setFormatter(
        LogFormatter("%(asctime)s %(levelname)s: %(message)s" if timed else "%(levelname)s: %(message)s")
    )
    # Other libraries' debug and info records are never wanted.
    logging.basicConfig(level=max(chosen, logging.WARNING), handlers=[handler])
    logging.getLogger(_OWN).setLevel(chosen if level else logging.NOTSET)


def is_journal() -> bool:
    """Return whether stderr is systemd's journal (man systemd.exec, "JOURNAL_STREAM")."""
    try:
        found = os.fstat(2)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == "{}:{}".format(found.st_dev, found.st_ino)
