"""Files with one line for each result: JSON lines, and CSV.

A file that has reached its size is renamed to NAME.1, NAME.1 to NAME.2 and so on, and the
oldest goes: a device runs for months, and its disk is small.  Knows nothing of classification.
"""

import csv
import datetime
import io
import logging
import os
import re
from typing import Any

from ..errors import OutputError, Unavailable
from .base import Sink
from .folders import open_folder
from .outage import Outage

_log = logging.getLogger(__name__)
# The stages that a stream's results are timed by, a column each.
STAGES = ("capture", "preprocess", "inference", "postprocess")
# What begins a formula in Excel, LibreOffice or Google Sheets, in full width too, and behind what they strip (OWASP,
# "CSV Injection").
_FORMULA = re.compile("[\\s\0]*[=+\\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n]")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


class _LinesSink(Sink):
    """A file that lines are added to, each written at once and whole.

    max_bytes   size at which the file is put aside and a new one begun
    backups     files that are kept beside the newest, 1 or more

    Raises OutputError where the path is no file, or cannot be written.
    """

    header = b""
    earlier = b""  # what the header of an earlier version's files begins with

    def __init__(self, path, max_bytes=10_000_000, backups=5):
        self._path = self.name = os.path.abspath(str(path))
        self._names = [self._path] + ["{}.{}".format(self._path, number) for number in range(1, backups + 1)]
        self._max_bytes = max_bytes
        self._outage = Outage(_log, self._path)
        self._stream: Any = None
        open_folder(os.path.dirname(self._path))
        try:
            self._open()
        except OSError as error:
            raise Unavailable("{} cannot be written ({}): choose another file".format(path, error.strerror))

    def _open(self):
        # A device or a pipe would be renamed one day, or hold up everything.
        if os.path.lexists(self._path) and not os.path.isfile(self._path):
            raise OutputError("{} is not a file: choose another".format(self._path))
        self._stream = io.FileIO(self._path, "a+")
        self._stream.seek(0)
        first = self._stream.readline(len(self.header))
        if self.earlier and first.startswith(self.earlier):
            self._put_aside()
            return
        if not self.header.startswith(first):
            raise OutputError(
                "{} begins with {!r}, where {!r} was expected: choose another file".format(
                    self._path, first.decode("utf-8", "replace").strip(), self.header.decode("utf-8").strip()
                )
            )
        if first != self.header:  # new, or a power cut left a part of it
            self._stream.truncate(0)
            self._add(self.header)
        self._end_torn_line()

    def _end_torn_line(self):
        """End what a power cut left of a line, so that it spoils no other."""
        size = self._stream.seek(0, os.SEEK_END)
        if size:
            self._stream.seek(size - 1)
            if self._stream.read(1) != b"\n":
                self._add(b"\n")

    def _add(self, line):
        size = self._stream.seek(0, os.SEEK_END)
        try:
            if self._stream.write(line) < len(line):
                raise OSError("the disk is full")
        except OSError:
            self._stream.truncate(size)
            raise

    def append(self, text):
        """Write one line, or count it as lost."""
        line = text.encode("utf-8", "backslashreplace") + b"\n"
        try:
            self._ready(len(line))
            self._add(line)
        except (OSError, OutputError) as error:
            self._outage.begin("results are lost: {}".format(error))
            self.lose(error)
        else:
            self._outage.end("results are written again; {} were lost".format(self.lost))

    def _ready(self, length):
        """Open the file where it is not there under its name any more, and put it aside where it is full."""
        if not self._is_open():
            self._close()
            self._open()
        if len(self.header) < self._stream.tell() > self._max_bytes - length:
            self._put_aside()

    def _put_aside(self):
        """Begin a new file; the present one keeps a number."""
        self._close()
        for new, old in zip(self._names[:0:-1], self._names[-2::-1]):
            if os.path.lexists(old):
                os.replace(old, new)
        self._open()

    def _is_open(self):
        try:
            return self._stream is not None and os.path.samestat(os.stat(self._path), os.fstat(self._stream.fileno()))
        except FileNotFoundError:
            return False

    def _close(self):
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def close(self):
        self._close()


class JsonLinesSink(_LinesSink):
    """One JSON object a line, for results and for events (those have no ``frame``)."""

    def write(self, item):
        self.append(item.to_json())

    def event(self, event):
        self.append(event.to_json())


class CsvSink(_LinesSink):
    """One row a result, under a header; times as ISO 8601 in UTC and as seconds since 1970.

    A label, model or file name that a spreadsheet would run as a formula (it begins with = + - @, a tab or a
    carriage return, and is no number) has an apostrophe before it; JSON lines hold it as it is.
    An existing file is added to if it has the same header, put aside if an earlier version wrote it, and refused
    otherwise.
    """

    columns = (
        ("frame", "captured_at", "captured_at_s", "label", "rejected", "candidate", "confidence", "age_ms")
        + tuple("{}_ms".format(stage) for stage in STAGES)
        + ("model", "backend", "name", "bundle", "source", "device")
    )
    header = (",".join(columns) + "\n").encode("ascii")
    earlier = b"frame,captured_at,captured_at_s,label,confidence,"

    def write(self, item):
        fields = item.to_dict()
        fields["captured_at_s"] = fields["captured_at"]
        fields["captured_at"] = iso_time(fields["captured_at"])
        fields["rejected"] = "true" if fields["rejected"] else "false"
        fields.update(("{}_ms".format(stage), value) for stage, value in fields["timings_ms"].items())
        row = io.StringIO()
        # Only what is in the line's end is quoted inside of a cell, in most versions of Python.
        csv.writer(row, lineterminator="\r\n").writerow([_cell(fields.get(column, "")) for column in self.columns])
        self.append(row.getvalue()[: -len("\r\n")])


def _cell(value):
    """Return a cell's value, text that would be a formula made to be text; numbers stay numbers."""
    if not isinstance(value, str) or not _FORMULA.match(value) or _NUMBER.fullmatch(value):
        return value
    return "'" + value


def iso_time(seconds):
    """Return seconds since 1970 as ISO 8601 in UTC, to the millisecond."""
    moment = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
