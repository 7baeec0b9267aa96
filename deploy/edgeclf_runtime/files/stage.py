"""The hidden place beside an output where it is made, and the step that puts it in the output's place.

NAME is made as ``.edgeclf_.NAME``, locked as long as its process lives.  What a dead process left there is
removed by the next one that writes NAME.  Where the file system cannot exchange two names, the old NAME is
``.edgeclf_old.NAME`` for a moment, and the next process puts it back if the new one did not arrive.
Knows nothing of who may overwrite what.
"""

import contextlib
import errno
import os
import shutil
import time

from ..errors import OutputError
from .filesystem import exchange, flush, flush_tree, lock, rename_new

WAIT_S = 10.0
"""For another process that writes the same output: most are done within a second."""
_PAUSE_S = 0.05
# Without locks, what nobody has changed for so long is a dead process's.
_DEAD_S = 3600.0
_NEW, _OLD = ".edgeclf_.", ".edgeclf_old."
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


def work_path(path):
    """Return the hidden name that an output has until it is whole."""
    return _hidden(path, _NEW)


def _hidden(path, prefix):
    parent, name = os.path.split(path)
    return os.path.join(parent, prefix + name)


@contextlib.contextmanager
def staged(path, folder, wait_s=None):
    """Give an empty hidden file or folder beside ``path``, locked; unless it was placed it is removed at the end.

    Raises OutputError if it cannot be made, or another process writes the same output for longer than ``wait_s``;
    also for a disk that gets full within the block.
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


def _begin(path, folder):
    recover(path)
    work = work_path(path)
    if folder:
        os.mkdir(work)
    else:
        os.close(os.open(work, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666))
    return lock(work)


def _end(work, held):
    """Remove a work that was not placed; not that of another process, which may have begun since."""
    with contextlib.suppress(OSError):
        if held.holds(work):
            discard(work)
        else:  # a library may have put another file there
            remove_dead(work)
    held.close()


def waiting(path, attempt, wait_s=None):
    """Return what a call returns, tried again while another process is at it; OutputError if that takes too long."""
    begun = time.monotonic()
    end = begun + (WAIT_S if wait_s is None else wait_s)
    while True:
        try:
            return attempt()
        except BlockingIOError as error:
            if time.monotonic() >= end:
                raise OutputError(busy_message(path, error))
        except (FileExistsError, FileNotFoundError):  # made or removed by another process at the same moment
            if time.monotonic() >= min(end, begun + WAIT_S):
                raise
        time.sleep(_PAUSE_S)


def busy_message(path, error):
    """Return the message for an output that another process is making."""
    doubt = " (its file system keeps no locks: if no other process writes it, remove {})".format(error.filename)
    return "{} is being written by another process: wait for it, or choose another --output{}".format(
        path, doubt if error.filename else ""
    )


def is_busy(path):
    """Whether a process is making this output now."""
    try:
        recover(path)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


def recover(path):
    """Remove what a dead process left of an output, and put the old output back if it had got no further.

    Raises BlockingIOError if a process is making the output now.
    """
    with contextlib.suppress(FileNotFoundError):
        old = _hidden(path, _OLD)
        held = lock(old)
        try:
            _put_back(old, path)
        finally:
            held.close()
    remove_dead(work_path(path))


def _put_back(old, path):
    try:
        # Refused if the new one has arrived, which is not empty.
        os.rename(old, path)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
        if os.path.lexists(work_path(path)):
            raise OSError(errno.ENOTEMPTY, "its old content is here, and something else has taken its name", old)
        _discard_old(old, path)


def _discard_old(old, path):
    """Remove an old output that has been replaced."""
    # What has the old name is whole, for it may be put back.
    work = work_path(path)
    if old != work:
        os.rename(old, work)
    discard(work)


def remove_dead(work):
    """Remove a hidden work if its process is dead; BlockingIOError if it lives."""
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


def _age_s(work):
    names = [work] + ([os.path.join(work, name) for name in os.listdir(work)] if os.path.isdir(work) else [])
    return time.time() - max(os.lstat(name).st_mtime for name in names)


def discard(path):
    """Remove a file, a link, or a folder with what is in it."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.remove(path)


def place(work, path, replace=False, durable=True):
    """Put a finished work in its output's place, and remove what stood there.

    When this raises, what stood there stands there still.
    replace     whether something other than an empty folder may stand there
    durable     whether to wait until all of it is on the disk
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


def _is_free(path):
    return not os.path.lexists(path) or (os.path.isdir(path) and not os.path.islink(path) and not os.listdir(path))


def _to_free_name(work, path):
    """Rename to a name that is free; returns None, since nothing is left, and what undoes it."""
    if not os.path.isdir(work):
        rename_new(work, path)
        return None, lambda: os.rename(path, work)
    empty = os.path.isdir(path)
    # Onto a folder that is not empty this is refused.
    os.rename(work, path)

    def undo():
        os.rename(path, work)
        if empty:
            os.mkdir(path)

    return None, undo


def swap_folders(work, path):
    """Put a folder in the place of another; returns where the old one is now, and what undoes it.

    The caller holds the old folder's lock: another process would take it for what a dead one left.
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

    def undo():
        os.rename(path, work)
        os.rename(old, path)

    return old, undo


def _replace_file(work, path, durable):
    held = None
    if durable:
        # To have the old file back if the disk fails at the very end, it is exchanged, not replaced.
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


def _exchanged(work, path):
    try:
        exchange(work, path)
    except OSError:
        return False
    return True


def commit(path, durable, left, undo, rescue=None):
    """Wait for the disk, then remove what is left of the old output; undo the step if the disk fails.

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
        # What cannot be removed is tried again by the next process.
        with contextlib.suppress(OSError):
            _discard_old(left, path)


def _make_folders(path):
    """Make a folder and those above it, and return those that were made, the innermost first."""
    missing = []
    while not os.path.isdir(path):
        missing.append(path)
        path = os.path.dirname(path)
    for folder in reversed(missing):
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder)
            flush(os.path.dirname(folder))
    return missing


def _remove_folders(paths):
    for path in paths:
        with contextlib.suppress(OSError):
            os.rmdir(path)


@contextlib.contextmanager
def cannot_be_written(path):
    """Turn an OSError into an OutputError that names the output."""
    try:
        yield
    except OSError as error:
        raise OutputError(failure_message(path, error))


def failure_message(path, error):
    """Return the message for an output that an OSError prevents."""
    advice = "free some space, or choose another --output" if error.errno in _NO_ROOM[:2] else "choose another --output"
    at = "" if error.filename in (None, path) else ": {}".format(error.filename)
    return "{} cannot be written ({}{}): {}".format(path, error.strerror or error, at, advice)
