"""The hidden work path beside an output, and the step that moves finished work to the output's path.

NAME is written as ``.edgeclf_.NAME``, which stays locked as long as its process lives.  The next process that writes
NAME removes what a dead process left there.  If the file system cannot exchange two names, the old NAME becomes
``.edgeclf_old.NAME`` for a moment, and the next process restores it if the new one did not arrive.
"""

import contextlib
import errno
import os
import shutil
import time
from typing import Callable, Iterator, List, Optional, Tuple, TypeVar

from ..errors import OutputError
from .filesystem import Lock, exchange, flush, flush_tree, lock, rename_new

WAIT_S = 10.0
"""Time to wait for another process that writes the same output: most finish within a second."""
_PAUSE_S = 0.05
# Without locks, work that has not changed for this long belongs to a dead process.
_DEAD_S = 3600.0
_NEW, _OLD = ".edgeclf_.", ".edgeclf_old."
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
_T = TypeVar("_T")
Undo = Callable[[], None]


def work_path(path: str) -> str:
    """Return the hidden path where an output is written until it is whole."""
    return _hidden(path, _NEW)


def longest_name(name: str) -> str:
    """Return the longest of the hidden names that an output needs while it is written."""
    return _OLD + name


def _hidden(path: str, prefix: str) -> str:
    parent, name = os.path.split(path)
    return os.path.join(parent, prefix + name)


@contextlib.contextmanager
def staged(path: str, folder: bool, wait_s: Optional[float] = None) -> Iterator[str]:
    """Yield an empty, locked, hidden file or folder beside ``path``; remove it at the end unless it was placed.

    Raises OutputError if it cannot be created, if another process writes the same output for longer than ``wait_s``,
    or if the disk fills up within the block.
    """
    with cannot_be_written(path):
        made = _make_folders(os.path.dirname(path))
        try:
            held = waiting(path, lambda: _begin(path, folder), wait_s)
        except BaseException:
            _remove_folders(made)
            raise
    work = work_path(path)
    try:
        yield work
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise OutputError(failure_message(path, error))
        raise
    finally:
        _end(work, held)
        _remove_folders(made)


def _begin(path: str, folder: bool) -> Lock:
    recover(path)
    work = work_path(path)
    if folder:
        os.mkdir(work)
    else:
        os.close(os.open(work, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666))
    return lock(work)


def _end(work: str, held: Lock) -> None:
    """Remove work that was not placed, unless it is another process's that has begun since."""
    with contextlib.suppress(OSError):
        if held.holds(work):
            discard(work)
        else:  # a library may have replaced the file
            remove_dead(work)
    held.close()


def waiting(path: str, attempt: Callable[[], _T], wait_s: Optional[float] = None) -> _T:
    """Return the result of a call, retried while another process writes the output; OutputError if that takes too long."""
    begun = time.monotonic()
    end = begun + (WAIT_S if wait_s is None else wait_s)
    while True:
        try:
            return attempt()
        except BlockingIOError as error:
            if time.monotonic() >= end:
                raise OutputError(busy_message(path, error))
        except (FileExistsError, FileNotFoundError):  # created or removed by another process at the same moment
            if time.monotonic() >= min(end, begun + WAIT_S):
                raise
        time.sleep(_PAUSE_S)


def busy_message(path: str, error: OSError) -> str:
    """Return the message for an output that another process is writing."""
    doubt = " (its file system has no locks: if no other process is writing it, remove {})".format(error.filename)
    return "{} is being written by another process: wait for it, or choose another --output{}".format(
        path, doubt if error.filename else ""
    )


def is_busy(path: str) -> bool:
    """Return whether a process is writing this output now."""
    try:
        recover(path)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


def recover(path: str) -> None:
    """Remove what a dead process left of an output, and restore the old output if the new one had not replaced it.

    Raises BlockingIOError if a process is writing the output now.
    """
    with contextlib.suppress(FileNotFoundError):
        old = _hidden(path, _OLD)
        held = lock(old)
        try:
            _put_back(old, path)
        finally:
            held.close()
    remove_dead(work_path(path))


def _put_back(old: str, path: str) -> None:
    try:
        # Fails if the new output, which is not empty, is already there.
        os.rename(old, path)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
        if os.path.lexists(work_path(path)):
            raise OSError(errno.ENOTEMPTY, "its old content is here, but something else has taken its name", old)
        _discard_old(old, path)


def _discard_old(old: str, path: str) -> None:
    """Remove an old output that has been replaced."""
    # Renamed first: anything under the old name must be whole, since it may be restored.
    work = work_path(path)
    if old != work:
        os.rename(old, work)
    discard(work)


def remove_dead(work: str) -> None:
    """Remove hidden work if its process is dead; BlockingIOError if it is alive."""
    try:
        held = lock(work)
    except FileNotFoundError:
        return
    try:
        if not held.sure and _age_s(work) < _DEAD_S:
            raise BlockingIOError(errno.EWOULDBLOCK, "it may be in use", work)
        discard(work)
    finally:
        held.close()


def _age_s(work: str) -> float:
    names = [work] + ([os.path.join(work, name) for name in os.listdir(work)] if os.path.isdir(work) else [])
    return time.time() - max(os.lstat(name).st_mtime for name in names)


def discard(path: str) -> None:
    """Remove a file, a link, or a folder with its content."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.remove(path)


def place(work: str, path: str, replace: bool = False, durable: bool = True) -> None:
    """Move finished work to its output's path, and remove what was there.

    If this raises, the old output is unchanged.

    replace     whether anything but an empty folder may be replaced
    durable     whether to wait until everything is on the disk
    """
    with cannot_be_written(path):
        if durable:
            flush_tree(work)
        if not replace or _is_free(path):
            commit(path, durable, *_to_free_name(work, path))
        elif os.path.isdir(work):
            with contextlib.closing(waiting(path, lambda: lock(path))):
                commit(path, durable, *swap_folders(work, path))
        else:
            _replace_file(work, path, durable)


def _is_free(path: str) -> bool:
    return not os.path.lexists(path) or (os.path.isdir(path) and not os.path.islink(path) and not os.listdir(path))


def _to_free_name(work: str, path: str) -> Tuple[None, Undo]:
    """Rename to a free name; return None, since there is no old output, and a function that undoes it."""
    if not os.path.isdir(work):
        rename_new(work, path)
        return None, lambda: os.rename(path, work)
    empty = os.path.isdir(path)
    # Fails if the folder there is not empty.
    os.rename(work, path)

    def undo() -> None:
        os.rename(path, work)
        if empty:
            os.mkdir(path)

    return None, undo


def swap_folders(work: str, path: str) -> Tuple[str, Undo]:
    """Replace a folder with another; return the old folder's new path, and a function that undoes the step.

    The caller holds the old folder's lock, so that no other process takes it for a dead process's leftover.
    """
    if _exchanged(work, path):
        return work, lambda: exchange(work, path)
    old = _hidden(path, _OLD)
    try:
        os.rename(path, old)
        os.rename(work, path)
    except BaseException:
        if not os.path.lexists(path):
            os.rename(old, path)
        raise

    def undo() -> None:
        os.rename(path, work)
        os.rename(old, path)

    return old, undo


def _replace_file(work: str, path: str, durable: bool) -> None:
    held: Optional[Lock] = None
    if durable:
        # Exchanged, not replaced, so that the old file can be restored if the disk fails at the very end.
        with contextlib.suppress(OSError):
            held = lock(path)
    try:
        if held is None or not _exchanged(work, path):
            os.replace(work, path)
            commit(path, durable, None, lambda: None)
        else:
            commit(path, durable, work, lambda: exchange(work, path))
    finally:
        if held is not None:
            held.close()


def _exchanged(work: str, path: str) -> bool:
    try:
        exchange(work, path)
    except OSError:
        return False
    return True


def commit(
    path: str, durable: bool, left: Optional[str], undo: Undo, rescue: Optional[Callable[[], None]] = None
) -> None:
    """Flush the disk, then remove the old output; undo the step if the disk fails.

    left        the old output's path, None if there is none
    rescue      called before anything is removed
    """
    try:
        if durable:
            flush(os.path.dirname(path))
    except BaseException:
        undo()
        raise
    if rescue is not None:
        rescue()
    if left is not None:
        # The next process tries again to remove what cannot be removed now.
        with contextlib.suppress(OSError):
            _discard_old(left, path)


def _make_folders(path: str) -> List[str]:
    """Create a folder and its missing parents; return the created ones, innermost first."""
    missing = []
    while not os.path.isdir(path):
        missing.append(path)
        path = os.path.dirname(path)
    for folder in reversed(missing):
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder)
            flush(os.path.dirname(folder))
    return missing


def _remove_folders(paths: List[str]) -> None:
    for path in paths:
        with contextlib.suppress(OSError):
            os.rmdir(path)


@contextlib.contextmanager
def cannot_be_written(path: str) -> Iterator[None]:
    """Turn an OSError into an OutputError that names the output."""
    try:
        yield
    except OSError as error:
        raise OutputError(failure_message(path, error))


def failure_message(path: str, error: OSError) -> str:
    """Return the message for an output that could not be written because of an OSError."""
    advice = "free some space, or choose another --output" if error.errno in _NO_ROOM[:2] else "choose another --output"
    at = "" if error.filename in (None, path) else ": {}".format(error.filename)
    return "{} cannot be written ({}{}): {}".format(path, error.strerror or error, at, advice)
