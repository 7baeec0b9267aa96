"""Outputs that appear whole or not at all: written beside their final path, flushed to disk, then renamed."""

import contextlib
import os
from typing import TYPE_CHECKING, Iterator, Optional

from ..errors import OutputError
from .stage import busy_message, failure_message, longest_name, place, recover, staged

if TYPE_CHECKING:
    from .read import AnyPath

ANOTHER_OUTPUT, OVERWRITE = "choose another --output", ", or pass --overwrite"
OTHER_CACHE = "set XDG_CACHE_HOME to a folder that can be written"


def claim_output(path: "AnyPath", overwrite: bool = False, marker: Optional[str] = None) -> str:
    """Check that ``path`` can be written, before any work is done for it; return the absolute path.

    An empty folder counts as free.  ``marker`` names a file that an existing folder must contain before ``overwrite``
    replaces it, so that a typo never deletes someone's data.  Leftovers of a killed process are removed, and the old
    output is restored if that process had moved it away.

    Raises OutputError if the path is taken, its parent cannot be written, or another process is writing it.
    """
    path = os.path.abspath(str(path))
    check_length(path)
    _recover(path)
    return _claim(path, overwrite, marker)


def _recover(path: str) -> None:
    try:
        recover(path)
    except BlockingIOError as error:
        raise OutputError(busy_message(path, error))
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        pass  # about a parent folder; those are checked next
    except OSError as error:
        raise OutputError(failure_message(path, error))


def _claim(path: str, overwrite: bool, marker: Optional[str] = None) -> str:
    if os.path.isdir(path) and not os.path.islink(path):
        entries = os.listdir(path)
        if entries and not overwrite:
            raise OutputError("{} exists and is not empty: choose another --output, or pass --overwrite".format(path))
        if entries and marker not in entries:
            raise OutputError(
                "{} has no {}, so edgeclf did not create it and will not replace it: "
                "choose another --output, or remove it yourself".format(path, marker)
            )
    elif os.path.lexists(path) and not (overwrite and marker is None):
        raise OutputError(
            "{} exists: choose another --output{}".format(path, "" if marker else ", or pass --overwrite")
        )
    elif os.path.exists(path) and not os.path.isfile(path):
        raise OutputError(
            "{} is a device, a pipe or a socket and will not be replaced: choose another --output".format(path)
        )
    parent = os.path.dirname(path)
    while not os.path.lexists(parent):
        parent = os.path.dirname(parent)
    if not os.path.isdir(parent):
        raise OutputError("{} is not a folder, so {} cannot be written: choose another --output".format(parent, path))
    if not os.access(parent, os.W_OK | os.X_OK):
        raise OutputError("{} cannot be written: choose another --output".format(parent))
    check_length(path)
    return path


def check_length(path: "AnyPath") -> None:
    """Raise OutputError if the file system has no room for the name of an output, or for the hidden one while it is written."""
    path = os.path.abspath(str(path))
    parent = os.path.dirname(path)
    names = [longest_name(os.path.basename(path))]
    while not os.path.isdir(parent) and parent != os.path.dirname(parent):
        names.append(os.path.basename(parent))
        parent = os.path.dirname(parent)
    try:
        most = os.pathconf(parent, "PC_NAME_MAX")
    except (OSError, ValueError):
        return
    if max(len(os.fsencode(name)) for name in names) > most:
        raise OutputError(
            "{} cannot be written (File name too long: {} bytes at most were expected): choose another --output".format(
                path, most - len(longest_name(""))
            )
        )


@contextlib.contextmanager
def named_by(option: str) -> Iterator[None]:
    """Let the OutputErrors of the block name the option that gave the path, if it is not --output."""
    try:
        yield
    except OutputError as error:
        raise OutputError(str(error).replace(ANOTHER_OUTPUT, "choose another " + option)) from None


@contextlib.contextmanager
def _advice(elsewhere: str) -> Iterator[None]:
    """Replace the host's options in the OutputErrors of the block with other advice."""
    try:
        yield
    except OutputError as error:
        if elsewhere == ANOTHER_OUTPUT:
            raise
        raise OutputError(str(error).replace(OVERWRITE, "").replace(ANOTHER_OUTPUT, elsewhere))


@contextlib.contextmanager
def new_folder(
    path: "AnyPath",
    overwrite: bool = False,
    marker: Optional[str] = None,
    durable: bool = True,
    wait_s: Optional[float] = None,
) -> Iterator[str]:
    """Yield a temporary folder beside ``path``, and rename it to ``path`` if the block succeeds.

    If the block raises (Ctrl-C included), the temporary folder is removed and ``path`` stays as it was.  If the process
    is killed, the next one that writes ``path`` removes the folder.

    overwrite, marker   see :func:`claim_output`
    durable     whether to wait until everything is on the disk, so that a power cut loses nothing
    wait_s      time to wait for another process that writes the same output, by default stage.WAIT_S; then OutputError
    """
    path = os.path.abspath(str(path))
    _claim(path, overwrite, marker)
    with staged(path, folder=True, wait_s=wait_s) as work:
        _claim(path, overwrite, marker)
        yield work
        # Someone else may have taken the path while the block ran.
        _claim(path, overwrite, marker)
        place(work, path, overwrite, durable)


@contextlib.contextmanager
def new_file(
    path: "AnyPath",
    overwrite: bool = False,
    durable: bool = True,
    wait_s: Optional[float] = None,
    elsewhere: str = ANOTHER_OUTPUT,
) -> Iterator[str]:
    """Yield a temporary path beside ``path``, with the same suffix, and rename it to ``path`` if the block succeeds.

    See :func:`new_folder` for what happens if it fails, and for ``durable`` and ``wait_s``.

    elsewhere   advice in messages if the path cannot be written, for programs without the host's --output
    """
    with _advice(elsewhere), _new_file(path, overwrite, durable, wait_s) as work:
        yield work


@contextlib.contextmanager
def _new_file(path: "AnyPath", overwrite: bool, durable: bool, wait_s: Optional[float]) -> Iterator[str]:
    path = os.path.abspath(str(path))
    if os.path.isdir(path):
        raise OutputError("{} is a folder, a file was expected: choose another --output".format(path))
    _claim(path, overwrite)
    with staged(path, folder=False, wait_s=wait_s) as work:
        _claim(path, overwrite)
        yield work
        _claim(path, overwrite)
        place(work, path, overwrite, durable)
