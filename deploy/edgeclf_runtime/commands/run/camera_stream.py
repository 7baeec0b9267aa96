"""CameraStream, one camera of a run: its decision, its events, its health, and its outputs."""

import contextlib
import logging
from typing import TYPE_CHECKING, List, Optional

from ...text.terminal import show_message
from .cameras import DECISION
from .run_sinks import find_sinks

if TYPE_CHECKING:
    from argparse import Namespace
    from types import TracebackType
    from typing import Type

    from ...capture.camera import Camera
    from ...classify.classifier import Classifier
    from ...device.systemd import Notifier
    from ...sinks.base import Sink
    from ...sinks.live.server import LivePage
    from ...streaming.health.watch import Health
    from ...streaming.label_events import LabelEvents

_log = logging.getLogger(__name__)


class CameraStream:
    """One camera of a run, with its results and outputs.

    arguments   those of this camera
    notifier    reports its state to systemd
    events      its LabelEvents, or None
    page        the LivePage that it shares with the others, or None
    """

    def __init__(
        self,
        arguments: "Namespace",
        classifier: "Classifier",
        camera: "Camera",
        notifier: "Notifier",
        events: "Optional[LabelEvents]",
        page: "Optional[LivePage]" = None,
    ) -> None:
        from ...streaming.motion import MotionGate
        from ...streaming.run_loop import Run

        self.name = arguments.camera
        self._arguments, self._camera, self._page = arguments, camera, page
        own = {name: getattr(arguments, name) for name in DECISION}
        self._classifier = classifier.deciding(arguments.bundle, **own)
        self.outputs = contextlib.ExitStack()
        self._sinks: "List[Sink]" = []
        motion = MotionGate(arguments.roi, arguments.rotation) if arguments.when_motion else None
        self.loop = Run(self._classifier, camera, self._sinks, notifier, events, motion)

    def open(self, wait: bool) -> None:
        """Open its outputs once the camera is open; close() closes both.

        wait    do not wait for a camera, and open outputs later that are not available yet
        """
        from ...results import find_origin
        from ...sinks.late_sink import open_late

        arguments, camera = self._arguments, self._camera
        if not (wait and camera.comes_back):
            camera.wait_opened()
            if camera.mode and camera.as_asked:  # otherwise the camera has logged a warning
                show_message("{}: {}".format(camera.name, camera.mode))
        self._origin = find_origin(self._classifier.bundle_id, camera.name, arguments.device_name, self.name)
        for opener in find_sinks(arguments, self._classifier, camera, self._origin, self._page):
            self._sinks.append(self.outputs.enter_context(open_late(*opener) if wait else opener[1]()))

    def close(self) -> None:
        """Close its outputs and its camera."""
        self.__exit__(None, None, None)

    def __enter__(self) -> "CameraStream":
        return self

    def __exit__(
        self,
        kind: "Optional[Type[BaseException]]",
        error: Optional[BaseException],
        traceback: "Optional[TracebackType]",
    ) -> Optional[bool]:
        try:
            return self.outputs.__exit__(kind, error, traceback)
        finally:
            self._camera.close()

    def go(self) -> None:
        """Classify until the source ends; then close the outputs, and say what was done."""
        from ...streaming.smoothing import Smoother

        arguments = self._arguments
        health = _open_health(arguments, self._camera)
        smoother = Smoother(arguments.smooth, arguments.margin) if arguments.smooth else None
        try:
            with self.outputs:  # closed before the summary: it counts what they could not deliver
                self.loop.go(smoother, arguments.roi, arguments.rotation, arguments.frames, self._origin, health)
        finally:
            with contextlib.suppress(OSError):  # the terminal may be closed
                show_message("{}{}".format(self._origin.prefix, self.loop.summary()))


def label_events(arguments: "Namespace") -> "Optional[LabelEvents]":
    """Return the LabelEvents of --event, or None; OptionError for a label that the bundle does not have."""
    from ...errors import OptionError
    from ...streaming.event_rules import parse_rule
    from ...streaming.label_events import LabelEvents
    from ...streaming.schedule import parse_schedule

    if not arguments.event:
        for option in ("--schedule", "--snapshots", "--clips", "--home-assistant", "--webhook", "--on-event"):
            if getattr(arguments, option[2:].replace("-", "_")):
                raise OptionError(
                    "{} is for events, and there are none: add --event, such as --event '*'".format(option)
                )
        return None
    rules = [parse_rule(text) for text in arguments.event]
    pictures = bool(arguments.snapshots or arguments.home_assistant)
    schedules = [parse_schedule(text) for text in arguments.schedule]
    return LabelEvents(rules, arguments.bundle.labels, pictures, schedules)


def _open_health(arguments: "Namespace", camera: "Camera") -> "Optional[Health]":
    """Return the Health that watches the camera; None with --no-health, or if the bundle has no baseline."""
    from ...streaming.health.watch import open_health

    if not arguments.health:
        return None
    # A file is read as fast as possible, so its time is not the camera's.
    every = 3 if camera.policy == "all" else None
    # With --allow or --deny, confidences and labels differ from those of the validation images; distances do not.
    results = not (arguments.allow or arguments.deny)
    health = open_health(arguments.bundle, camera.name, arguments.baseline, every, results)
    if health is None and arguments.baseline != "training":
        _log.warning(
            "--baseline %s has no effect: the bundle has no health baseline; make it again", arguments.baseline
        )
    return health
