"""Calls that may never return, and the handling of results that arrive too late."""

import signal
import threading

import pytest

from edgeclf_runtime.classify.golden import check_golden
from edgeclf_runtime.device.time_limit import Hung, within
from tests.support.faults import ERRORS, Watched


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_what_a_call_raises_is_raised(error):
    def fail():
        raise error

    with pytest.raises(type(error)):
        within(30, "it", fail)
    assert within(30, "it", max, 1, 2) == 2


@pytest.mark.parametrize("fails", [False, True])
def test_a_late_result_is_handed_over_once(fails):
    leave, cleared = threading.Event(), threading.Event()
    given = []

    def call():
        assert leave.wait(30)
        return 1 / 0 if fails else "found"

    with pytest.raises(Hung, match=r"it did not answer within 0\.01 s"):
        within(0.01, "it", call, late=lambda found: (given.append(found), cleared.set()))
    assert given == []
    leave.set()
    assert cleared.wait(30)
    assert given == [None if fails else "found"]


def test_a_result_after_an_interruption_is_handed_over_too():
    leave, cleared = threading.Event(), threading.Event()
    main = threading.main_thread().ident

    def call():
        signal.pthread_kill(main, signal.SIGINT)
        return leave.wait(30)

    with pytest.raises(KeyboardInterrupt):
        within(30, "it", call, late=lambda found: cleared.set())
    leave.set()
    assert cleared.wait(30)


def test_a_runner_whose_golden_images_hang_is_closed_when_it_returns(two_backends):
    from edgeclf_runtime.runners import open_runner

    leave = threading.Event()
    model = two_backends.model("fp32")
    real = open_runner("onnxruntime", two_backends.file(model.file))
    runner = Watched(real, lambda number: leave.wait(30))
    with pytest.raises(Hung):
        check_golden(two_backends, model, runner, 0.01)
    assert not runner.was_closed.is_set()
    leave.set()
    assert runner.was_closed.wait(30)
    assert runner.wrong == []
