"""Ending by a signal that arrives in the middle of something."""

import os
import queue
import signal
import sys
import threading
import weakref

import pytest

from edgeclf_runtime.device.stop_signals import Terminated, stoppable
from tests.support.processes import becomes_true
from tests.support.starting import WAIT_S


class Signalled:
    """A waiter's lock; SIGTERM arrives when it has been released."""

    def __init__(self, lock):
        self._lock = lock

    def acquire(self, *arguments):
        return self._lock.acquire(*arguments)

    def release(self):
        self._lock.release()
        terminate()


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


def wait_for_the_end():
    """Return after WAIT_S, or raise a signal's exception."""
    becomes_true(lambda: False)


def ended_by(act):
    """Run a function as a program; return the exit code of the signal that arrives in the meantime."""
    try:
        with stoppable():
            act()
            wait_for_the_end()
    except Terminated as ended:
        return ended.exit_code
    return None


@pytest.fixture
def waiting():
    """Make a thread wait on a Condition whose next ``notify()`` SIGTERM interrupts; waiting(condition) returns its Thread."""

    def wait(condition, predicate):
        with condition:
            condition.wait_for(predicate, WAIT_S)

    def start(condition, predicate):
        thread = threading.Thread(target=wait, args=(condition, predicate), daemon=True)
        thread.start()
        assert becomes_true(lambda: condition._waiters)
        with condition:
            condition._waiters[0] = Signalled(condition._waiters[0])
        return thread

    return start


def event(waiting):
    made = threading.Event()
    return waiting(made._cond, made.is_set), made.set


def jobs(waiting):
    made = queue.Queue()
    return waiting(made.not_empty, lambda: made.queue), lambda: made.put(1)


def condition(waiting):
    made, closing = threading.Condition(), []

    def close():
        with made:
            closing.append(True)
            made.notify_all()

    return waiting(made, lambda: closing), close


@pytest.mark.parametrize("make", [event, jobs, condition])
def test_a_condition_that_a_signal_interrupted_can_be_notified_again(waiting, make):
    threads = []

    def program():
        thread, notify = make(waiting)
        try:
            notify()
            wait_for_the_end()
        finally:
            notify()
            thread.join(WAIT_S)
            threads.append(thread)

    assert ended_by(program) == 143
    assert [thread.is_alive() for thread in threads] == [False]


class Deleted:
    def __del__(self):
        terminate()
        os.getpid()  # a handler runs between two instructions


def finalized():
    class Thing:
        pass

    thing = Thing()
    weakref.finalize(thing, lambda: (terminate(), os.getpid()))


def deleted():
    Deleted()


def generator():
    def steps():
        try:
            yield
        finally:
            terminate()
            os.getpid()

    next(steps())


def caught():
    try:
        terminate()
        os.getpid()
    except BaseException:
        pass


@pytest.mark.parametrize("drop", [finalized, deleted, generator, caught])
def test_a_signal_is_not_lost_where_exceptions_are(drop, monkeypatch):
    monkeypatch.setattr(sys, "unraisablehook", lambda what: None, raising=False)  # pytest's would keep them
    assert ended_by(drop) == 143


def test_nothing_is_printed_of_a_signal_in_a_finalizer(capfd):
    assert [ended_by(drop) for drop in (finalized, deleted)] == [143, 143]
    assert capfd.readouterr() == ("", "")


def test_a_cleanup_that_takes_long_is_not_interrupted():
    done = []

    def program():
        try:
            terminate()
            wait_for_the_end()
        finally:
            threading.Event().wait(0.5)  # longer than a dropped signal takes to be sent again
            done.append(True)

    assert ended_by(program) == 143
    assert done
