"""Outputs that appear whole or not at all: written beside their place, and renamed.

Knows nothing of what the files hold.
"""

import contextlib
import os
import shutil
import tempfile

from .errors import OutputError


def claim_output(path, overwrite=False, marker=None):
    """Check that ``path`` may be written, before any work is done for it.

    An empty folder counts as free.  ``marker`` names a file that a folder must hold for
    ``overwrite`` to replace it, so that a slip of the keyboard never deletes somebody's data.

    Raises OutputError where the path is taken, or its parent cannot be written.
    """
    path = os.path.abspath(str(path))
    if os.path.isdir(path) and not os.path.islink(path):
        entries = os.listdir(path)
        if entries and not overwrite:
            raise OutputError("{} exists and is not empty: choose another --output, or pass --overwrite".format(path))
        if entries and marker not in entries:
            raise OutputError(
                "{} holds no {}, so edgeclf did not make it and will not replace it: "
                "choose another --output, or remove it yourself".format(path, marker)
            )
    elif os.path.lexists(path) and not (overwrite and marker is None):
        raise OutputError(
            "{} exists: choose another --output{}".format(path, "" if marker else ", or pass --overwrite")
        )
    parent = os.path.dirname(path)
    while not os.path.lexists(parent):
        parent = os.path.dirname(parent)
    if not os.path.isdir(parent):
        raise OutputError("{} is no folder, so {} cannot be written: choose another --output".format(parent, path))
    if not os.access(parent, os.W_OK | os.X_OK):
        raise OutputError("{} cannot be written: choose another --output".format(parent))
    return path


@contextlib.contextmanager
def new_folder(path, overwrite=False, marker=None):
    """Give a temporary folder beside ``path`` and rename it to ``path`` when the block ends well.

    When the block raises (Ctrl-C included) the temporary folder is removed and whatever stood
    at ``path`` is as it was.  See :func:`claim_output` for ``overwrite`` and ``marker``.
    """
    path = claim_output(path, overwrite, marker)
    parent, name = os.path.split(path)
    with _cannot_be_written(path):
        os.makedirs(parent, exist_ok=True)
        work = tempfile.mkdtemp(prefix=".{}.".format(name), dir=parent)
    try:
        os.chmod(work, 0o777 & ~_umask())
        yield work
        # Somebody else may have taken the path while the block was at work.
        claim_output(path, overwrite, marker)
        with _cannot_be_written(path):
            _replace(work, path)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _replace(work, path):
    """Rename a folder to ``path``; what stood there is removed, and stands there again where that fails."""
    if not os.path.isdir(path):
        os.rename(work, path)
        return
    parent, name = os.path.split(path)
    aside = tempfile.mkdtemp(prefix=".{}.old.".format(name), dir=parent)
    old = os.path.join(aside, name)
    try:
        os.rename(path, old)
        os.rename(work, path)
    finally:
        if not os.path.lexists(path):
            os.rename(old, path)
        shutil.rmtree(aside, ignore_errors=True)


@contextlib.contextmanager
def new_file(path, overwrite=False):
    """Give a temporary path beside ``path``, of the same suffix, and rename it when the block ends well."""
    if os.path.isdir(str(path)):
        raise OutputError("{} is a folder, a file was expected: choose another --output".format(path))
    path = claim_output(path, overwrite)
    parent, name = os.path.split(path)
    with _cannot_be_written(path):
        os.makedirs(parent, exist_ok=True)
        handle, work = tempfile.mkstemp(prefix=".", suffix="." + name, dir=parent)
    os.close(handle)
    try:
        os.chmod(work, 0o666 & ~_umask())
        yield work
        claim_output(path, overwrite)
        with _cannot_be_written(path):
            os.replace(work, path)
    finally:
        if os.path.exists(work):
            os.remove(work)


@contextlib.contextmanager
def _cannot_be_written(path):
    try:
        yield
    except OSError as error:
        raise OutputError("{} cannot be written ({}): choose another --output".format(path, error.strerror))


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask
