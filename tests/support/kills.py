"""Ends a call in the middle, as the kernel or a power cut would: by SIGKILL at one of its system calls, or by an error."""

import os
import signal

from edgeclf_runtime.files import filesystem

CALLS = ("rename", "replace", "link", "mkdir", "unlink", "rmdir", "fsync")


def kill_at(number, after, call):
    """Make a call in a process of its own and kill that at its ``number``-th change of names or flush.

    after       whether the change is made before the process dies

    Returns whether it was killed: False if the call ended well before.
    """
    pid = os.fork()
    if pid == 0:
        try:
            _count(number, after)
            call()
            os._exit(0)
        finally:
            os._exit(1)
    status = os.waitpid(pid, 0)[1]
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert status == 0
    return False


def kill_everywhere(call):
    """Yield after each kill that is possible: before and after the first call, the second, and so on."""
    number = 1
    while kill_at(number, False, call):
        yield f"before call {number}"
        if kill_at(number, True, call):
            yield f"after call {number}"
        number += 1


def _count(number, after):
    made = []

    def counted(function):
        def call(*args, **kwargs):
            made.append(function)
            mine = len(made)
            if mine == number and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            try:
                return function(*args, **kwargs)
            finally:
                if mine == number:
                    os.kill(os.getpid(), signal.SIGKILL)

        return call

    for name in CALLS:
        setattr(os, name, counted(getattr(os, name)))
    os.remove = os.unlink
    filesystem._renameat2 = counted(filesystem._renameat2)


def tree(folder):
    """The contents of every file in a folder, by path; what links point to; None if there is no folder."""
    if not os.path.isdir(str(folder)):
        return None
    found = {}
    for path in folder.rglob("*"):
        name = str(path.relative_to(folder))
        found[name] = os.readlink(str(path)) if path.is_symlink() else path.read_bytes() if path.is_file() else None
    return found
