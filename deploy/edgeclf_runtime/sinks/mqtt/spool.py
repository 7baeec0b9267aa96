"""Spool, a queue of lines on disk that keeps their order until they have been delivered.

The lines are in small files, each taken as a whole and deleted as a whole.  A program that dies in between takes its
first file again when it restarts, so every line is delivered at least once.
"""

import contextlib
import fcntl
import io
import logging
import os
import threading
from collections import deque
from typing import Callable, Deque, Iterable, List, Optional

from ...errors import OutputError
from ...files.read import open_regular
from ..folders import open_folder
from ..outage import Outage

_log = logging.getLogger(__name__)
PART_BYTES = 16_000
RETRY_S = 0.5
MOST_PROGRAMS = 64  # publishing to the same topic
UNWRITABLE = "the spool could not be written"


class SpoolBusyError(OutputError):
    """Another program is using the spool's folder."""


def open_spool(folder: str, max_bytes: int) -> "Spool":
    """Return the Spool in ``folder`` or, if other programs use that, in FOLDER~2, FOLDER~3 ...

    It takes over what programs that ended have left in the others.  Raises OutputError as Spool does.
    """
    names = [folder] + ["{}~{}".format(folder, number) for number in range(2, MOST_PROGRAMS + 1)]
    for name in names:
        try:
            spool = Spool(name, max_bytes)
        except SpoolBusyError:
            continue
        for other in names:
            if other != name and os.path.isdir(other):
                with contextlib.suppress(OSError, OutputError):
                    spool.adopt(Spool(other, max_bytes))
        return spool
    raise OutputError(
        "{} and {} more folders are in use by other programs: use another topic".format(folder, len(names) - 1)
    )


class _Part:
    """One file; ``lines`` is filled only while lines are being added to it, else [].

    stored          number of lines that are in the file
    stored_bytes    their size
    """

    def __init__(self, path: str, lines: Iterable[bytes] = (), size: int = 0) -> None:
        self.path, self.size = path, size
        self.lines: List[bytes] = list(lines)
        self.stored = self.stored_bytes = 0

    @property
    def saved(self) -> bool:
        return self.stored == len(self.lines)


class Spool:
    """A queue of lines in a folder; safe between two threads, and locked against a second program.

    max_bytes   on disk; beyond it the oldest lines are deleted and counted in ``lost``
    lose        function that is called with a reason and a number of lost lines

    While the disk cannot be written, the newest PART_BYTES are kept in memory.
    Raises OutputError if the folder cannot be written, and SpoolBusyError if another program uses it.
    """

    def __init__(self, folder: str, max_bytes: int) -> None:
        self.folder = open_folder(folder, mode=0o700)
        self.lost = 0
        self.lose: Optional[Callable[[str, int], None]] = None
        self._max_bytes = max_bytes
        self._mutex = threading.Condition(threading.RLock())
        self._lock = self._lock_folder()
        self._tail: Optional[_Part] = None
        self._taken = False
        names = sorted(name for name in os.listdir(self.folder) if name.endswith(".part"))
        paths = [os.path.join(self.folder, name) for name in names]
        self._parts: Deque[_Part] = deque(_Part(path, size=os.path.getsize(path)) for path in paths)
        self._bytes = sum(part.size for part in self._parts)
        self._next = int(names[-1].split(".")[0]) + 1 if names else 0
        self._full = Outage(_log, self.folder)
        self._broken = Outage(_log, self.folder)

    def _lock_folder(self) -> io.FileIO:
        lock = io.FileIO(os.path.join(self.folder, "lock"), "a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise SpoolBusyError("{} is in use by another program: use another spool folder".format(self.folder))
        return lock

    def adopt(self, other: "Spool") -> None:
        """Take over the files of another spool, and close it."""
        try:
            for part in other._parts:
                path = os.path.join(self.folder, "{:012d}.part".format(self._next))
                os.rename(part.path, path)
                self._parts.append(_Part(path, size=part.size))
                self._bytes += part.size
                self._next += 1
        finally:
            other.close()

    def append(self, line: bytes, wait: bool = False) -> None:
        """Add a line: bytes without a line end.

        wait        True waits until there is room for it, instead of dropping the oldest lines
        """
        line += b"\n"
        with self._mutex:
            while wait and not self._has_room(len(line)):
                self._full.begin("is full: waiting until results are delivered or the disk can be written")
                self._mutex.wait(RETRY_S)
            tail = self._tail
            if tail is None or tail.size + len(line) > PART_BYTES:
                tail = self._begin_part()
            tail.lines.append(line)
            tail.size += len(line)
            self._bytes += len(line)
            self._save(tail)
            while self._bytes > self._max_bytes and len(self._parts) > 1 + self._taken:
                self._full.begin("has reached {} MB, the oldest results are lost".format(self._max_bytes // 10**6))
                self._drop(int(self._taken), "the spool was full")

    def _has_room(self, size: int) -> bool:
        """Return whether a line can be added without dropping others."""
        tail = self._tail
        if tail is not None and not tail.saved and tail.size + size > PART_BYTES:
            self._save(tail)
            if not tail.saved:
                return False
        return self._bytes + size <= self._max_bytes or len(self._parts) <= 1 + self._taken

    def _begin_part(self) -> _Part:
        if self._tail is not None and not self._tail.saved:
            self._drop(len(self._parts) - 1, UNWRITABLE)
        self._tail = part = _Part(os.path.join(self.folder, "{:012d}.part".format(self._next)))
        self._parts.append(part)
        self._next += 1
        return part

    def _save(self, part: _Part) -> None:
        try:
            with open(part.path, "ab") as stream:
                if stream.tell() < part.stored_bytes:  # the file was deleted
                    part.stored = part.stored_bytes = 0
                # Remove what a failed write may have left after the stored lines.
                stream.truncate(part.stored_bytes)
                stream.writelines(part.lines[part.stored :])
        except OSError as error:
            self._broken.begin("cannot be written, results wait in memory: {}".format(error))
        else:
            part.stored, part.stored_bytes = len(part.lines), part.size
            self._broken.end("is written again")

    def _drop(self, index: int, reason: str) -> None:
        """Delete a part, and count its lines as lost."""
        self._count(reason, len(self._lines(self._parts[index])))
        self._remove(index)

    def _count(self, reason: str, lines: int) -> None:
        self.lost += lines
        if self.lose and lines:
            self.lose(reason, lines)

    def _lines(self, part: _Part) -> List[bytes]:
        if part.lines:
            return part.lines
        try:
            with open_regular(part.path) as stream:
                lines = stream.readlines()
        except OSError as error:
            self._broken.begin("cannot be read, results are lost: {}".format(error))
            return []
        # A power failure can leave half a line, or zeros in place of one.
        return [line for line in lines if line.endswith(b"\n") and b"\0" not in line]

    def _remove(self, index: int) -> None:
        part = self._parts[index]
        del self._parts[index]
        self._bytes -= part.size
        if part is self._tail:
            self._tail = None
        try:
            os.remove(part.path)
        except OSError:
            if part.saved:
                self._broken.begin("cannot delete {}".format(part.path))

    def take(self) -> List[bytes]:
        """Return the oldest lines, up to PART_BYTES of them, without line ends; [] if there are none.

        They stay on disk until :meth:`discard`.
        """
        with self._mutex:
            while self._parts:
                part = self._parts[0]
                if part is self._tail:
                    self._tail = None
                lines = self._lines(part)
                if lines:
                    self._taken = True
                    return [line[:-1] for line in lines]
                self._remove(0)
            self._full.end("is empty again; {} results were lost".format(self.lost))
            return []

    def discard(self) -> None:
        """Delete the lines that were taken last."""
        with self._mutex:
            self._taken = False
            self._remove(0)
            self._mutex.notify_all()

    def __len__(self) -> int:
        """The number of files."""
        return len(self._parts)

    def close(self) -> None:
        """Release the folder and keep its content; lines that cannot be written are lost."""
        with self._mutex:
            for part in self._parts:
                if not part.saved:
                    self._save(part)
                    self._count(UNWRITABLE, len(part.lines) - part.stored)
        self._lock.close()
