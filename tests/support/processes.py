"""Waiting for what no event announces."""

import time

from tests.support.starting import WAIT_S


def becomes_true(condition):
    """Return whether a condition is met within WAIT_S."""
    deadline = time.monotonic() + WAIT_S
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def ends(pid):
    """Return whether a process ends within WAIT_S; one that nobody has collected yet has ended."""

    def ended():
        try:
            with open(f"/proc/{pid}/stat") as stream:
                return stream.read().rsplit(")", 1)[1].split()[0] == "Z"
        except OSError:
            return True

    return becomes_true(ended)
