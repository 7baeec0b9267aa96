"""Outputs that appear whole or not at all: written beside their place, put on the disk, and renamed.

Knows nothing of what the files hold.
"""

import contextlib
import os

from ..errors import OutputError
from .stage import busy_message, failure_message, place, recover, staged

ANOTHER_OUTPUT, OVERWRITE = "choose another --output", ", or pass --overwrite"
OTHER_CACHE = "set XDG_CACHE_HOME to a folder that can be written"


def claim_output(path, overwrite=False, marker=None):
    """Check that ``path`` may be written, before any work is done for it.

    An empty folder counts as free.  ``marker`` names a file that a folder must hold for
    ``overwrite`` to replace it, so that a slip of the keyboard never deletes somebody's data.
    What a dead process left of the output is removed, or the old output put back.

    Raises OutputError where the path is taken, its parent cannot be written, or another process is writing it.
    """
    path = os.path.abspath(str(path))
    _recover(path)
    return _claim(path, overwrite, marker)


def _recover(path):
    try:
        recover(path)
    except BlockingIOError as error:
        raise OutputError(busy_message(path, error))
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        pass  # of the folders above, which are checked next
    except OSError as error:
        raise OutputError(failure_message(path, error))


def _claim(path, overwrite, marker=None):
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
    elif os.path.exists(path) and not os.path.isfile(path):
        raise OutputError(
            "{} is a device, a pipe or a socket and is not replaced: choose another --output".format(path)
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
def _advice(elsewhere):
    """Let the messages of OutputErrors in the block advise something else than the host's options."""
    try:
        yield
    except OutputError as error:
        if elsewhere == ANOTHER_OUTPUT:
            raise
        raise OutputError(str(error).replace(OVERWRITE, "").replace(ANOTHER_OUTPUT, elsewhere))


@contextlib.contextmanager
def new_folder(path, overwrite=False, marker=None, durable=True, wait_s=None):
    """Give a temporary folder beside ``path`` and rename it to ``path`` when the block ends well.

    When the block raises (Ctrl-C included) the temporary folder is removed and whatever stood
    at ``path`` is as it was; when the process is killed, the next one that writes ``path`` removes it.
    See :func:`claim_output` for ``overwrite`` and ``marker``.
    durable     whether to wait until everything is on the disk, so that a power cut loses nothing
    wait_s      for another process that writes the same output, stage.WAIT_S unless given; OutputError if it takes longer
    """
    path = os.path.abspath(str(path))
    _claim(path, overwrite, marker)
    with staged(path, folder=True, wait_s=wait_s) as work:
        _claim(path, overwrite, marker)
        yield work
        # Somebody else may have taken the path while the block was at work.
        _claim(path, overwrite, marker)
        place(work, path, overwrite, durable)


@contextlib.contextmanager
def new_file(path, overwrite=False, durable=True, wait_s=None, elsewhere=ANOTHER_OUTPUT):
    """Give a temporary path beside ``path``, of the same suffix, and rename it when the block ends well.

    See :func:`new_folder` for what happens when it does not, ``durable`` and ``wait_s``.
    elsewhere   what messages advise if the path cannot be written, for programs without the host's --output
    """
    with _advice(elsewhere), _new_file(path, overwrite, durable, wait_s) as work:
        yield work


@contextlib.contextmanager
def _new_file(path, overwrite, durable, wait_s):
    path = os.path.abspath(str(path))
    if os.path.isdir(path):
        raise OutputError("{} is a folder, a file was expected: choose another --output".format(path))
    _claim(path, overwrite)
    with staged(path, folder=False, wait_s=wait_s) as work:
        _claim(path, overwrite)
        yield work
        _claim(path, overwrite)
        place(work, path, overwrite, durable)
