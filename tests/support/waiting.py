"""Waiting for what tells nobody when it happens."""

import time

WAIT_S = 30


def wait_until(condition):
    """Ask every 10 ms until the condition holds; fail after WAIT_S."""
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"it did not come true in {WAIT_S} s"
        time.sleep(0.01)
