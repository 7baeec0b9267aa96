"""Turns of threads that share a backend which infers for one at a time."""

import threading

import pytest

from edgeclf_runtime.classify.active_backend import Backends, InUse
from edgeclf_runtime.classify.rejection import Rejection
from edgeclf_runtime.fake import FakeRunner
from tests.support.waiting import wait_until


@pytest.fixture
def backends():
    shared = Backends(InUse(FakeRunner([1.0]), "model", 1.0, Rejection(0.0)))
    assert not shared.in_use.runner.concurrent
    yield shared
    shared.close()


def test_a_camera_that_waits_comes_before_a_thread_that_has_just_inferred(backends):
    """Posted pictures in a row delay each of the camera's frames by one inference at most."""
    turns, waits = [], threading.Event()

    def camera():
        waits.set()
        backends.leave(enter("camera"))

    def enter(who):
        in_use = backends.enter()
        turns.append(who)
        return in_use

    posted = enter("posted")
    thread = threading.Thread(target=camera)
    thread.start()
    waits.wait()
    wait_until(lambda: backends._changed._waiters)
    backends.leave(posted)
    backends.leave(enter("posted"))
    thread.join()
    assert turns == ["posted", "camera", "posted"]


def test_threads_infer_in_the_order_in_which_they_came(backends):
    turns, threads = [], []

    def infer(number):
        in_use = backends.enter()
        turns.append(number)
        backends.leave(in_use)

    first = backends.enter()
    for number in range(8):
        threads.append(threading.Thread(target=infer, args=(number,)))
        threads[-1].start()
        wait_until(lambda: len(backends._changed._waiters) == len(threads))
    backends.leave(first)
    for thread in threads:
        thread.join()
    assert turns == list(range(8))


def test_closing_releases_every_thread_that_waits_for_its_turn(backends):
    refused = []

    def infer():
        try:
            backends.enter()
        except Exception as error:
            refused.append(str(error))

    inside = backends.enter()
    threads = [threading.Thread(target=infer) for _ in range(4)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(backends._changed._waiters) == 4)
    closing = threading.Thread(target=backends.close)
    closing.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 4
    backends.leave(inside)
    closing.join()
