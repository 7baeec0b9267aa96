import doctest
import time

import numpy as np
import pytest

from edgeclf_runtime import fake
from edgeclf_runtime.errors import BackendError, CameraLost, EndOfStream, OptionError
from edgeclf_runtime.fake import FakeCamera, FakeRunner
from tests.support.pictures import encode, noise


def test_the_example_in_the_documentation_gives_what_it_says():
    failed, tried = doctest.testmod(fake)
    assert (failed, tried > 5) == (0, True)


def test_a_runner_gives_its_rows_in_turn_whatever_the_batch():
    with FakeRunner([[1, 2], [3, 4], [5, 6]]) as runner:
        assert runner.infer(np.zeros((2, 8, 8, 3))).tolist() == [[1, 2], [3, 4]]
        assert runner.infer(np.zeros((2, 8, 8, 3))).tolist() == [[5, 6], [1, 2]]
    assert runner.closed
    assert FakeRunner([1, 2]).infer(np.zeros((3, 8, 8, 3))).tolist() == [[1, 2]] * 3


def test_a_runner_gives_features_if_it_was_given_some():
    runner = FakeRunner([[1, 2], [3, 4]], features=[[5, 6, 7], [8, 9, 10]])
    logits, features = runner.infer_outputs(np.zeros((3, 8, 8, 3)))
    assert logits.tolist() == [[1, 2], [3, 4], [1, 2]]
    assert features.tolist() == [[5, 6, 7], [8, 9, 10], [5, 6, 7]]
    assert FakeRunner([1, 2]).infer_outputs(np.zeros((1, 8, 8, 3))).features is None


def test_a_runner_fails_when_requested():
    runner = FakeRunner([1, 2], fail_after=1)
    runner.infer(np.zeros((1, 8, 8, 3)))
    for _ in range(2):
        with pytest.raises(BackendError, match="the fake backend fails after 1 inferences"):
            runner.infer(np.zeros((1, 8, 8, 3)))


def test_a_camera_delivers_pixels_and_files_and_ends(tmp_path):
    (tmp_path / "a.png").write_bytes(encode(".png", noise(16, 8)))
    with FakeCamera([noise(8, 8), tmp_path / "a.png"]) as camera:
        first, second = camera.read(), camera.read(1.0)
        assert (first.number, first.name, first.image.shape) == (0, "", (8, 8, 3))
        assert (second.number, second.name, second.image.shape) == (1, "a.png", (8, 16, 3))
        assert second.captured >= first.captured
        with pytest.raises(EndOfStream, match="delivered 2 frames"):
            camera.read()
    assert camera.dropped == camera.skipped == 0


def test_a_camera_that_loops_starts_over_and_keeps_counting():
    camera = FakeCamera([noise(8, 8), noise(16, 8)], loop=True)
    frames = [camera.read() for _ in range(5)]
    assert [frame.number for frame in frames] == [0, 1, 2, 3, 4]
    assert [frame.image.shape[1] for frame in frames] == [8, 16, 8, 16, 8]


def test_a_camera_is_lost_once_and_is_back():
    camera = FakeCamera([noise(8, 8)] * 2, fail_after=1)
    camera.read()
    with pytest.raises(CameraLost, match="lost after 1 frames"):
        camera.read()
    assert camera.read().number == 1


def test_a_frame_that_is_not_due_is_none_and_comes_later():
    with FakeCamera([noise(8, 8)] * 2, fps=0.001) as camera:
        assert camera.read().number == 0
        assert camera.read(0.001) is None
        assert camera.read(0) is None
    start = time.monotonic()
    with FakeCamera([noise(8, 8)] * 3, fps=50) as camera:
        assert [camera.read().captured - start >= due for due in (0, 0.02, 0.04)] == [True] * 3


def test_closing_a_camera_releases_a_waiting_read():
    camera = FakeCamera([noise(8, 8)] * 2, fps=0.001)
    camera.read()
    camera.close()
    with pytest.raises(EndOfStream):
        camera.read()


def test_a_camera_without_images_is_refused():
    with pytest.raises(OptionError, match="needs at least one"):
        FakeCamera([])
