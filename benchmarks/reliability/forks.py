"""Commands that are forked where they begin to write, so that they can be killed there a hundred times.

Knows nothing of what the commands are.
"""

import json
import os
import signal
import sys
import time

CALLS = ("rename", "replace", "link", "mkdir", "unlink", "rmdir", "fsync")


class Template:
    """A process that has run a command up to where it writes, and lets a copy of itself go on from there."""

    def __init__(self, run):
        requests, self._requests = os.pipe()
        self._replies, replies = os.pipe()

        def go():
            # Else this process would wait for itself when the other is gone.
            os.close(self._requests)
            run(lambda: serve(requests, replies))

        self.pid = fork(go)
        os.close(requests)
        os.close(replies)
        self._ask = os.fdopen(self._requests, "w")
        self._told = os.fdopen(self._replies)
        self._told.readline()

    def go_on(self, number=0, after=False, seconds=None):
        """Let a copy go on, and be killed at its ``number``-th call or after some seconds.

        Returns how many calls it made, None if it was killed.
        """
        self._ask.write(json.dumps([number, after, seconds]) + "\n")
        self._ask.flush()
        return json.loads(self._told.readline())

    def close(self):
        self._ask.close()
        self._told.close()
        os.waitpid(self.pid, 0)


def serve(requests, replies):
    """Fork a copy for each request; returns in the copies."""
    asked, told = os.fdopen(requests), os.fdopen(replies, "w")
    told.write("ready\n")
    told.flush()
    for line in asked:
        number, after, seconds = json.loads(line)
        read, write = os.pipe()
        copy = os.fork()
        if copy == 0:
            os.close(read)
            count_calls(number, after, write)
            return
        os.close(write)
        if seconds is not None:
            time.sleep(seconds)
            os.kill(copy, signal.SIGKILL)
        _, status = os.waitpid(copy, 0)
        with os.fdopen(read) as pipe:
            counted = pipe.read()
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        if not killed and status:
            counted = "-1"
        told.write(json.dumps(None if killed else int(counted.split()[-1])) + "\n")
        told.flush()
    os._exit(0)


def count_calls(number, after, report):
    """Let this process be killed at its ``number``-th call that changes names or waits for the disk."""
    from edgeclf_runtime.files import filesystem

    made = [0]

    def counted(function):
        def call(*args, **kwargs):
            made[0] += 1
            mine = made[0]
            os.write(report, b"%d\n" % mine)
            if mine == number and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            try:
                return function(*args, **kwargs)
            finally:
                if mine == number and after:
                    os.kill(os.getpid(), signal.SIGKILL)

        return call

    for name in CALLS:
        setattr(os, name, counted(getattr(os, name)))
    os.remove = os.unlink
    filesystem._renameat2 = counted(filesystem._renameat2)


def fork(call):
    """Start a process that makes a call and ends; returns its id."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        call()
        code = 0
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(code)


def wait(pid):
    """Wait for a process that must end well."""
    if os.waitpid(pid, 0)[1]:
        raise SystemExit("a command failed without having been killed")
