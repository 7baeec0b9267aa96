"""Atomic update of a folder: adds several files that belong together, or none of them.

A new folder is made next to the old one, from links to the old files, and the two are exchanged
in one step.  This needs a writable parent, and would break a program whose working directory is
the folder.  In these cases the new files are moved in one by one from a hidden folder inside,
and the next command that reads or writes the folder completes an update that was killed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from edgeclf_runtime.files.filesystem import flush, flush_tree, lock
from edgeclf_runtime.files.outputs import new_folder
from edgeclf_runtime.files.stage import (
    cannot_be_written,
    commit,
    discard,
    recover,
    staged,
    swap_folders,
    waiting,
)

from ..errors import OutputError

_WORK, _COMMIT = ".edgeclf_update", ".edgeclf_commit"
# Errors for a folder that is a mount point, or whose parent belongs to another user.
_FIXED = (errno.EBUSY, errno.EPERM, errno.EACCES, errno.EXDEV, errno.EINVAL)
_MOST_ENTRIES = 2000
"""Above this, linking takes too long."""


@contextlib.contextmanager
def updated_folder(path: str | Path) -> Iterator[Path]:
    """Yield an empty folder to write files into, and add them all to ``path`` at once if the block succeeds.

    Other files in ``path`` stay.  Raises OutputError if it cannot be written, or if another process is writing it.
    """
    if not os.path.isdir(path):
        with new_folder(path) as work:
            yield Path(work)
        return
    # A run that is a symbolic link stays one.
    folder = os.path.realpath(path)
    with contextlib.ExitStack() as stack:
        with cannot_be_written(folder):
            stack.enter_context(contextlib.closing(waiting(folder, lambda: lock(folder))))
            _complete(folder)
        update = _exchanged if _can_be_exchanged(folder) else _moved
        yield stack.enter_context(update(folder))


def copy_folder(source: str | Path, target: str | Path, without: Sequence[str] = ()) -> None:
    """Copy a folder's files, but not their permissions and times, which a file system may refuse to set.

    target: may exist.  without: names to leave out.
    """
    Path(target).mkdir(exist_ok=True)
    for entry in os.scandir(source):
        if entry.name in without:
            continue
        if entry.is_dir():
            copy_folder(entry.path, Path(target, entry.name), without)
        else:
            shutil.copyfile(entry.path, Path(target, entry.name))


def settle(path: str | Path) -> None:
    """Complete or remove a folder's update that was killed; does nothing while another process is updating it.

    Raises OutputError if an update is half done and cannot be completed.
    """
    folder = os.path.realpath(path)
    with contextlib.suppress(OSError):
        recover(folder)
    if not any(os.path.lexists(os.path.join(folder, name)) for name in (_WORK, _COMMIT)):
        return
    try:
        held = lock(folder)
    except BlockingIOError:
        return
    except OSError:
        held = None
    try:
        _complete(folder)
    except OSError as error:
        if os.path.lexists(os.path.join(folder, _COMMIT)):
            raise OutputError(
                f"a command was killed while it updated {folder}, and the update cannot be completed "
                f"({error.strerror}): run this again as a user who can write there"
            ) from None
    finally:
        if held:
            held.close()


@contextlib.contextmanager
def _exchanged(folder: str) -> Iterator[Path]:
    with staged(folder, folder=True) as work:
        yield Path(work)
        with cannot_be_written(folder):
            new = set(os.listdir(work))
            try:
                _add_links(folder, work)
                os.utime(work)
                flush_tree(work)
                left, undo = swap_folders(work, folder)
            except OSError as error:
                if error.errno not in _FIXED:
                    raise
                _move(work, new, folder)
            else:
                commit(folder, True, left, undo, lambda: _rescue(left, folder, new))


def _add_links(source: str, target: str) -> None:
    """Add the files of ``source`` that ``target`` lacks, as hard links if the file system supports them, else as copies."""
    for entry in os.scandir(source):
        path = os.path.join(target, entry.name)
        if entry.is_dir(follow_symlinks=False):
            os.makedirs(path, exist_ok=True)
            _add_links(entry.path, path)
        elif not os.path.lexists(path):
            try:
                os.link(entry.path, path, follow_symlinks=False)
            except OSError:
                shutil.copy2(entry.path, path, follow_symlinks=False)
    facts = os.stat(source)
    with contextlib.suppress(PermissionError):
        os.chown(target, facts.st_uid, facts.st_gid)
    with contextlib.suppress(OSError):
        shutil.copystat(source, target)


def _rescue(old: str, new: str, changed: set[str]) -> None:
    """Move files that were added to the old folder after linking into the new one."""
    for entry in os.scandir(old):
        path = os.path.join(new, entry.name)
        if entry.name in changed:
            continue
        if entry.is_dir(follow_symlinks=False) and os.path.isdir(path):
            _rescue(entry.path, path, set())
        elif not os.path.lexists(path) or not os.path.samestat(os.lstat(path), entry.stat(follow_symlinks=False)):
            os.replace(entry.path, path)


def _can_be_exchanged(folder: str) -> bool:
    parent, facts = os.path.dirname(folder), os.stat(folder)
    return (
        os.access(parent, os.W_OK | os.X_OK)
        and os.stat(parent).st_dev == facts.st_dev
        and (os.geteuid() == 0 or (facts.st_uid == os.geteuid() and facts.st_gid in (os.getegid(), *os.getgroups())))
        and _is_small(folder, facts.st_dev)
        and not _is_in_use(folder)
    )


def _is_small(folder: str, device: int) -> bool:
    entries = 0
    for path, folders, files in os.walk(folder):
        entries += len(folders) + len(files)
        if entries > _MOST_ENTRIES or os.stat(path).st_dev != device:
            return False
    return True


def _is_in_use(folder: str) -> bool:
    """Return whether a process, such as the user's shell, has its working directory in the folder."""
    processes = [name for name in os.listdir("/proc") if name.isdigit()] if os.path.isdir("/proc") else []
    directories = [os.getcwd()]
    for process in processes:
        with contextlib.suppress(OSError):  # the process ended, or belongs to another user
            directories.append(os.readlink(f"/proc/{process}/cwd"))
    return any(f"{directory}/".startswith(f"{folder}/") for directory in directories)


@contextlib.contextmanager
def _moved(folder: str) -> Iterator[Path]:
    work = os.path.join(folder, _WORK)
    try:
        with cannot_be_written(folder):
            os.mkdir(work)
        yield Path(work)
        with cannot_be_written(folder):
            _complete_new(folder)
    finally:
        with contextlib.suppress(OSError):
            _complete(folder)


def _move(work: str, names: set[str], folder: str) -> None:
    """Move the new files into the folder, if the two folders cannot be exchanged."""
    try:
        os.mkdir(os.path.join(folder, _WORK))
        for name in names:
            shutil.move(os.path.join(work, name), os.path.join(folder, _WORK, name))
        _complete_new(folder)
    finally:
        with contextlib.suppress(OSError):
            _complete(folder)


def _complete_new(folder: str) -> None:
    work, ready = os.path.join(folder, _WORK), os.path.join(folder, _COMMIT)
    flush_tree(work)
    os.rename(work, ready)
    try:
        flush(folder)
    except OSError:
        os.rename(ready, work)
        raise
    # From here on the update will be completed, whatever happens.
    _complete(folder)


def _complete(folder: str) -> None:
    """Complete an update that was ready, or remove one that was not; the caller holds the folder's lock."""
    work, ready = os.path.join(folder, _WORK), os.path.join(folder, _COMMIT)
    if os.path.lexists(ready):
        for name in os.listdir(ready):
            os.replace(os.path.join(ready, name), os.path.join(folder, name))
        flush(folder)
        os.rmdir(ready)
    if os.path.lexists(work):
        discard(work)
