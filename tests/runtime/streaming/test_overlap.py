import itertools
import threading
import time
from typing import Any, List

import pytest

from edgeclf_runtime.errors import CameraLost, EndOfStream
from edgeclf_runtime.streaming.overlap import Ahead
from edgeclf_runtime.streaming.prefetch import Ready

INFER_S = 0.05


class Frames:
    """Stands in for a Prefetch: hands out numbers, or given items, and raises those that are errors."""

    dropped = 7

    def __init__(self, items=None):
        self.items = itertools.count() if items is None else iter(items)
        self.closed = False

    def get(self, timeout_s):
        item: Any = next(self.items, None)
        if isinstance(item, Exception):
            raise item
        if item is None:
            time.sleep(min(timeout_s, 0.01))
            return None
        return Ready(item, item, 0.0)

    def close(self):
        self.closed = True


class Inferences:
    """An inference that takes INFER_S."""

    def __init__(self):
        self.begun: List[int] = []

    def __call__(self, made):
        self.begun.append(made)
        time.sleep(INFER_S)
        return -made


@pytest.fixture
def infer():
    return Inferences()


def is_soon(true):
    end = time.monotonic() + 30
    while not true() and time.monotonic() < end:
        time.sleep(0.005)
    return true()


def test_the_inference_replaces_the_prepared_input(infer):
    with Ahead(Frames([3, 4]), infer) as ahead:
        assert [ahead.get(30), ahead.get(30)] == [Ready(3, -3, 0.0), Ready(4, -4, 0.0)]
        assert ahead.dropped == 7


def test_the_next_inference_begins_before_a_quick_caller_is_back(infer):
    with Ahead(Frames(), infer) as ahead:
        for _ in range(2):
            ahead.get(30)
        assert is_soon(lambda: len(infer.begun) == 3)


def test_a_camera_slower_than_the_classifier_needs_no_other_thread():
    threads = []
    with Ahead(Frames([1]), lambda made: threads.append(threading.get_ident())) as ahead:
        ahead.get(30)
    assert threads == [threading.get_ident()]


def test_for_a_slow_caller_nothing_is_inferred_until_it_asks(infer):
    with Ahead(Frames(), infer) as ahead:
        for count in (1, 2, 3):
            ahead.get(30)
            time.sleep(2 * INFER_S)
            assert len(infer.begun) == count


def test_one_frame_of_a_file_is_inferred_ahead_of_even_a_slow_caller(infer):
    with Ahead(Frames(), infer, always=True) as ahead:
        for count in (2, 3, 4):
            ahead.get(30)
            time.sleep(3 * INFER_S)
            assert len(infer.begun) == count


def test_without_a_frame_get_returns_none(infer):
    with Ahead(Frames([]), infer) as ahead:
        assert ahead.get(0.01) is None


def test_get_waits_for_an_inference_that_hangs():
    def infer(made):
        if made == 5:
            woken.wait(30)
        return -made

    woken = threading.Event()
    with Ahead(Frames([1, 5]), infer, always=True) as ahead:
        ahead.get(30)
        threading.Timer(0.2, woken.set).start()
        assert ahead.get(0.01).made == -5


def test_a_loss_is_raised_in_order_and_reading_goes_on(infer):
    with Ahead(Frames([1, CameraLost("gone"), 2]), infer, always=True) as ahead:
        assert ahead.get(30).made == -1
        with pytest.raises(CameraLost, match="gone"):
            ahead.get(30)
        assert ahead.get(30).made == -2


def test_the_end_comes_after_the_last_result(infer):
    with Ahead(Frames([1, EndOfStream("over")]), infer, always=True) as ahead:
        assert ahead.get(30).made == -1
        with pytest.raises(EndOfStream, match="over"):
            ahead.get(30)


def test_an_error_of_an_inference_is_raised_by_get(infer):
    with Ahead(Frames([1]), lambda made: 1 / 0) as ahead, pytest.raises(ZeroDivisionError):
        ahead.get(30)


def test_closing_ends_the_thread_and_the_prefetch(infer, new_threads):
    frames = Frames()
    with Ahead(frames, infer) as ahead:
        ahead.get(30)
        assert len(new_threads()) == 1
    assert frames.closed
    assert not new_threads()
