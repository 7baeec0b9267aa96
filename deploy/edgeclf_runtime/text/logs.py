"""The log on stderr: which records it shows, and how they look."""

import logging
import os
import time

from .stdio import write_stderr
from .terminal import message

LEVELS = ("debug", "info", "warning", "error")
_OWN = "edgeclf_runtime"


class LogFormatter(logging.Formatter):
    """Log records as messages, with the local time (ISO 8601, milliseconds, offset from UTC) if the format asks for it."""

    def formatTime(self, record, datefmt=None):  # noqa: N802 - logging's name
        """See logging.Formatter."""
        moment = time.localtime(record.created)
        offset = time.strftime("%z", moment)
        shown = time.strftime("%Y-%m-%dT%H:%M:%S", moment)
        return "{}.{:03d}{}:{}".format(shown, int(record.msecs) % 1000, offset[:3], offset[3:])

    def format(self, record):
        """See logging.Formatter."""
        return message(super().format(record))


class _Stderr(logging.Handler):
    """Writes to what is sys.stderr at that time."""

    def emit(self, record):
        try:
            write_stderr(self.format(record) + "\n")
        except Exception:  # as every handler: a record that cannot be shown stops nothing
            self.handleError(record)


def log_to_stderr(level=None):
    """Show log records from a level on, one of LEVELS, with their times; None: warnings and errors, without times.

    To systemd's journal no times are written: it has its own.
    """
    chosen = getattr(logging, (level or "warning").upper())
    handler = _Stderr()
    timed = level is not None and not is_journal()
    handler.setFormatter(
        LogFormatter("%(asctime)s %(levelname)s: %(message)s" if timed else "%(levelname)s: %(message)s")
    )
    # Other libraries log what nobody asked for.
    logging.basicConfig(level=max(chosen, logging.WARNING), handlers=[handler])
    logging.getLogger(_OWN).setLevel(chosen if level else logging.NOTSET)


def is_journal():
    """Whether stderr leads to systemd's journal (man systemd.exec, "JOURNAL_STREAM")."""
    try:
        found = os.fstat(2)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == "{}:{}".format(found.st_dev, found.st_ino)
