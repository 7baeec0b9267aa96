"""The times of frames, with and without those of OpenCV."""

import pytest

from edgeclf_runtime.capture.readers.video_clock import VideoClock, in_order, video_rate

TIMES_MS = [0, 40, 80, 330, 430, 470, 510, 1510]


class Clock:
    """A VideoClock's positions, in ms."""

    def __init__(self, listed_ms=(), trusted=True, rate=25):
        self._clock = VideoClock(iter([time / 1e3 for time in listed_ms]), trusted, rate)

    def __call__(self, *said_ms):
        return [round(self._clock.next(said / 1e3) * 1e3) for said in said_ms]


def test_a_clock_says_what_opencv_says_from_the_first_frame_on():
    assert Clock()(1480, 1520, 1600, 1600) == [0, 40, 120, 120]


def test_a_clock_fills_in_the_last_frames_of_opencv_4_5_4_to_4_6():
    assert Clock([0, 40, 80, 330, 430])(0, 40, 80, 0, 0) == [0, 40, 80, 330, 430]
    assert Clock()(0, 40, 80, 0, 0) == [0, 40, 80, 120, 160]


def test_a_clock_counts_by_the_container_where_opencv_says_nothing():
    assert Clock([500, 540, 580, 830], trusted=False)(40, 80, 120, 160, 200) == [0, 40, 80, 330, 370]
    assert Clock(trusted=False, rate=10)(100, 200, 300) == [0, 100, 200]


def test_a_clock_never_goes_back():
    assert Clock()(1000, 1040, 20, 60, 100) == [0, 40, 80, 120, 160]


def test_times_are_put_in_order_and_empty_steps_are_left_out():
    stored = [0, 120, 40, None, 80, 240, 160, 200, *range(280, 3000, 40)]
    assert list(in_order(stored)) == list(range(0, 3000, 40))


@pytest.mark.parametrize(
    ("times_ms", "said", "rate"),
    [
        ([0, 33, 67, 100, 133], 30.0, 30.0),
        ([0, 40, 80, 120], 1000.0, 25.0),
        (TIMES_MS, 5.3, 25.0),
        ([0, 1, 2, 1000, 2000, 3000], 2.0, 120),
        ([0], 30.0, 30.0),
        ([], 1000.0, None),
        ([0, 0, 0], 0.0, None),
    ],
)
def test_the_rate_of_a_video(times_ms, said, rate):
    assert video_rate([time / 1e3 for time in times_ms], said) == pytest.approx(rate)
