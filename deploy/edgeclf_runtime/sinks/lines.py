"""Writes results to files with one line each: JSON lines and CSV.

A file that has reached its maximum size is renamed to NAME.1, NAME.1 to NAME.2 and so on, and the oldest is deleted: a
device runs for months, and its disk is small.
"""

import csv
import datetime
import io
import logging
import os
import re
from typing import TYPE_CHECKING, Mapping, Optional, Tuple, Union

from ..errors import OutputError, Unavailable
from .base import Sink
from .folders import open_folder
from .outage import Outage

if TYPE_CHECKING:
    from ..results import LabelEvent, StreamEvent, StreamResult

_log = logging.getLogger(__name__)
# The timed stages of a stream's results; each has a column.
STAGES = ("capture", "preprocess", "inference", "postprocess")
# The start of a formula in Excel, LibreOffice or Google Sheets, also in full-width characters, and after characters
# that they strip (OWASP, "CSV Injection").
_FORMULA = re.compile("[\\s\0]*[=+\\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n]")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


class _LinesSink(Sink):
    """A file that lines are appended to, each written immediately and as a whole.

    max_bytes   size at which the file is renamed and a new one begun
    backups     number of older files that are kept, 1 or more

    Raises OutputError if the path is not a file, or cannot be written.
    """

    header = b""
    earlier: Tuple[bytes, ...] = ()  # the beginnings of earlier versions' headers

    def __init__(self, path: "Union[str, os.PathLike[str]]", max_bytes: int = 10_000_000, backups: int = 5) -> None:
        self._path = self.name = os.path.abspath(str(path))
        self._names = [self._path] + ["{}.{}".format(self._path, number) for number in range(1, backups + 1)]
        self._max_bytes = max_bytes
        self._outage = Outage(_log, self._path)
        self._stream: Optional[io.FileIO] = None
        open_folder(os.path.dirname(self._path))
        try:
            self._open()
        except OSError as error:
            raise Unavailable("{} cannot be written ({}): choose another file".format(path, error.strerror))

    def _open(self) -> io.FileIO:
        # A device or a pipe could block, and would be renamed some day.
        if os.path.lexists(self._path) and not os.path.isfile(self._path):
            raise OutputError("{} is not a file: choose another".format(self._path))
        stream = self._stream = io.FileIO(self._path, "a+")
        stream.seek(0)
        first = stream.readline(len(self.header))
        if first != self.header and first.startswith(self.earlier):
            return self._put_aside()
        if not self.header.startswith(first):
            raise OutputError(
                "{} begins with {!r}, but {!r} was expected: choose another file".format(
                    self._path, first.decode("utf-8", "replace").strip(), self.header.decode("utf-8").strip()
                )
            )
        if first != self.header:  # new, or cut short by a power failure
            stream.truncate(0)
            self._add(stream, self.header)
        self._end_torn_line(stream)
        return stream

    def _end_torn_line(self, stream: io.FileIO) -> None:
        """End a line that a power failure cut short, so that it does not damage the next."""
        size = stream.seek(0, os.SEEK_END)
        if size:
            stream.seek(size - 1)
            if stream.read(1) != b"\n":
                self._add(stream, b"\n")

    def _add(self, stream: io.FileIO, line: bytes) -> None:
        size = stream.seek(0, os.SEEK_END)
        try:
            if (stream.write(line) or 0) < len(line):
                raise OSError("the disk is full")
        except OSError:
            stream.truncate(size)
            raise

    def append(self, text: str) -> None:
        """Write one line, or count it as lost."""
        line = text.encode("utf-8", "backslashreplace") + b"\n"
        try:
            self._add(self._ready(len(line)), line)
        except (OSError, OutputError) as error:
            self._outage.begin("results are lost: {}".format(error))
            self.lose(error)
        else:
            self._outage.end("results are written again; {} were lost".format(self.lost))

    def _ready(self, length: int) -> io.FileIO:
        """Return the open file, opened again if it was moved or deleted, and a new one if it is full."""
        stream = self._stream
        if stream is None or not self._is_current(stream):
            self._close()
            stream = self._open()
        if len(self.header) < stream.tell() > self._max_bytes - length:
            stream = self._put_aside()
        return stream

    def _put_aside(self) -> io.FileIO:
        """Rename the file by adding a number, and begin a new one."""
        self._close()
        for new, old in zip(self._names[:0:-1], self._names[-2::-1]):
            if os.path.lexists(old):
                os.replace(old, new)
        return self._open()

    def _is_current(self, stream: io.FileIO) -> bool:
        """Return whether the path still leads to the open file."""
        try:
            return os.path.samestat(os.stat(self._path), os.fstat(stream.fileno()))
        except FileNotFoundError:
            return False

    def _close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def close(self) -> None:
        self._close()


class JsonLinesSink(_LinesSink):
    """One JSON object per line, for results and for events (which have no ``frame``; those of labels have ``event``)."""

    def write(self, item: "StreamResult") -> None:
        self.append(item.to_json())

    def event(self, event: "StreamEvent") -> None:
        self.append(event.to_json())

    def label_event(self, event: "LabelEvent") -> None:
        self.append(event.to_json())


class _CsvSink(_LinesSink):
    """A file of rows with the same columns."""

    columns: Tuple[str, ...] = ()

    def append_row(self, fields: Mapping[str, object]) -> None:
        """Write the row of these fields, by column."""
        row = io.StringIO()
        # Most versions of Python quote only those line breaks in a cell that are part of the line terminator.
        csv.writer(row, lineterminator="\r\n").writerow([csv_cell(fields.get(column, "")) for column in self.columns])
        self.append(row.getvalue()[: -len("\r\n")])


class CsvSink(_CsvSink):
    """One row per result, under a header; times as ISO 8601 in UTC and as seconds since 1970.

    A label, model or file name that a spreadsheet would run as a formula (it begins with = + - @, a tab or a carriage
    return, and is not a number) gets a leading apostrophe; JSON lines hold it unchanged.  An existing file is appended to if
    it has the same header, renamed if an earlier version wrote it, and refused otherwise.
    """

    columns = (
        ("frame", "captured_at", "captured_at_s", "label", "rejected", "candidate", "confidence")
        + ("reason", "distance", "age_ms")
        + tuple("{}_ms".format(stage) for stage in STAGES)
        + ("model", "backend", "name", "bundle", "source", "device")
    )
    header = (",".join(columns) + "\n").encode("ascii")
    earlier = (
        b"frame,captured_at,captured_at_s,label,confidence,",
        b"frame,captured_at,captured_at_s,label,rejected,candidate,confidence,age_ms,",
    )

    def write(self, item: "StreamResult") -> None:
        fields = item.to_dict()
        fields["captured_at_s"] = fields["captured_at"]
        fields["captured_at"] = iso_time(fields["captured_at"])
        fields["rejected"] = "true" if fields["rejected"] else "false"
        fields.update(("{}_ms".format(stage), value) for stage, value in fields["timings_ms"].items())
        self.append_row(fields)


class EventCsvSink(_CsvSink):
    """One row for each LabelEvent, and none for results; otherwise like CsvSink."""

    columns = (
        ("event", "id", "label", "started_at", "started_at_s", "ended_at", "ended_at_s", "duration_s", "reason")
        + ("frames", "confidence", "start_frame", "position_s", "best_frame", "best_at", "best_at_s", "best_name")
        + ("bundle", "source", "device")
    )
    header = (",".join(columns) + "\n").encode("ascii")

    def write(self, item: "StreamResult") -> None:
        """Leave a result out: its columns are others."""

    def label_event(self, event: "LabelEvent") -> None:
        fields = event.to_dict()
        for name in ("started_at", "ended_at", "best_at"):
            if name in fields:
                fields[name + "_s"] = fields[name]
                fields[name] = iso_time(fields[name])
        self.append_row(fields)


def csv_cell(value: object) -> object:
    """Return a cell's value; a text that would be a formula gets a leading apostrophe, numbers stay numbers."""
    if not isinstance(value, str) or not _FORMULA.match(value) or _NUMBER.fullmatch(value):
        return value
    return "'" + value


def iso_time(seconds: float) -> str:
    """Return seconds since 1970 as ISO 8601 in UTC, to the millisecond."""
    moment = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
