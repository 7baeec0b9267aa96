"""The streams of a run's cameras, and a camera that does not open in a reload."""

import argparse
import contextlib

from edgeclf_runtime.commands.run.reload import Reload
from edgeclf_runtime.commands.run.streams import Streams
from edgeclf_runtime.commands.run.together import Parts
from edgeclf_runtime.errors import OutputError
from tests.runtime.commands.test_run_cameras import Told


class Stream:
    """A stream that notes what it is asked for."""

    def __init__(self, name, done, error=None):
        self.name, self._done, self._error = name, done, error

    def open(self, wait):
        if self._error is not None:
            raise self._error

    def close(self):
        self._done.append(self.name)

    def __exit__(self, kind, error, traceback):
        self._done.append((self.name, kind))


def test_streams_are_closed_at_the_end_the_latest_first_and_with_what_has_happened():
    done = []
    with contextlib.suppress(KeyError), Streams() as streams:
        for name in "abc":
            streams.add(Stream(name, done))
        streams.close("b")
        streams.close("b")
        raise KeyError
    assert done == ["b", ("c", KeyError), ("a", KeyError)]


def test_a_camera_whose_outputs_do_not_open_in_a_reload_is_closed_and_nothing_waits_for_it(caplog):
    done, streams, told = [], Streams(), Told()
    told._every_s = 0.0
    parts = Parts(told)
    door = parts.add("door")
    door.ready("classifying")

    def open_(one):
        parts.add(one.camera)
        return Stream(one.camera, done, OutputError("the disk is full"))

    reload = Reload(argparse.Namespace(), [], streams, None, open_, parts, None)
    assert not reload._begin(argparse.Namespace(camera="yard"), None)
    assert (done, list(streams)) == (["yard"], [])
    assert "yard is left out until the file is read again: the disk is full" in caplog.text
    door.alive()
    assert "WATCHDOG=1" in told.said
