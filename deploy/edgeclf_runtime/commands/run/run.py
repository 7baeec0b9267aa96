"""``run``: classifies a source's frames until it ends, and writes the results into sinks."""

import contextlib
import json
import logging
import os
from typing import TYPE_CHECKING, List, Optional, Sequence, Tuple, Union

from ...device.process_secrets import CAMERA, MQTT
from ...text.redaction import learn
from ...text.terminal import show_message
from ..classify import open_classifier, show_tuning
from ..output import print_text
from .cameras import DECISION, cameras_of
from .run_sinks import find_sinks, optional_password, place_outputs
from .together import go_together, parts_of

if TYPE_CHECKING:
    from argparse import Namespace

    from ...capture.camera import Camera
    from ...capture.source import Source
    from ...classify.classifier import Classifier
    from ...classify.tuning.choice import Choice
    from ...device.systemd import Notifier
    from ...sinks.base import Sink
    from ...streaming.health.watch import Health
    from ...streaming.label_events import LabelEvents

_log = logging.getLogger(__name__)

_VERIFY_S = 600.0


def run(arguments: "Namespace") -> None:
    """Classify frames until each source ends or the program is stopped."""
    from ...bundle.open_bundle import open_bundle
    from ...device.systemd import Notifier, is_service, speaking
    from ...results import find_origin

    cameras = cameras_of(arguments)
    if arguments.print_config:
        from ..parser import run_parser
        from .config_file import config_of

        print_text(json.dumps(config_of(run_parser(), arguments), indent=1), newline="\n")
        return
    for one in cameras:
        _warn_of_typed_passwords(one)
    find_origin(device=arguments.device_name)  # reports an invalid name before a camera and a model are opened
    wait = is_service() if arguments.wait is None else arguments.wait
    with contextlib.ExitStack() as stack:
        notifier = stack.enter_context(speaking(Notifier()))
        with notifier.busy(_VERIFY_S, "verifying the bundle"):
            arguments.bundle = open_bundle(arguments.bundle)
        for number, one in enumerate(cameras):
            one.bundle = arguments.bundle
            place_outputs(one, number)
        events = [_label_events(one) for one in cameras]
        found = [_find(one) for one in cameras]
        choice, at_once = _choose(arguments, cameras, found)
        # Cameras open in separate processes while the model loads in this one.
        opened = [stack.enter_context(_open_camera(*pair)) for pair in zip(cameras, found)]
        classifier = stack.enter_context(open_classifier(arguments, at_once, choice))
        parts = [notifier] if len(cameras) == 1 else parts_of(notifier, [one.camera for one in cameras])
        streams = [
            _Stream(one, classifier, camera, part, rules)
            for one, camera, part, rules in zip(cameras, opened, parts, events)
        ]
        for stream in streams:
            stack.enter_context(stream.outputs)
            stream.open(wait)
        show_message("{} on {}".format(classifier.model, classifier.backend))
        if len(streams) == 1:
            streams[0].go()
        else:
            go_together(streams)


class _Stream:
    """One camera of a run, with its results and outputs.

    arguments   those of this camera
    notifier    what is told of it
    events      its LabelEvents, or None
    """

    def __init__(
        self,
        arguments: "Namespace",
        classifier: "Classifier",
        camera: "Camera",
        notifier: "Notifier",
        events: "Optional[LabelEvents]",
    ) -> None:
        from ...streaming.motion import MotionGate
        from ...streaming.run_loop import Run

        self.name = arguments.camera
        self._arguments, self._camera = arguments, camera
        self._classifier = _own_decision(arguments, classifier)
        self.outputs = contextlib.ExitStack()
        self._sinks: "List[Sink]" = []
        motion = MotionGate(arguments.roi, arguments.rotation) if arguments.when_motion else None
        self.loop = Run(self._classifier, camera, self._sinks, notifier, events, motion)

    def open(self, wait: bool) -> None:
        """Open its outputs once the camera is open; ``outputs`` closes them.

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
        for opener in find_sinks(arguments, self._classifier, camera, self._origin):
            self._sinks.append(self.outputs.enter_context(open_late(*opener) if wait else opener[1]()))

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


def _own_decision(arguments: "Namespace", classifier: "Classifier") -> "Classifier":
    """Return the classifier, deciding as a camera's own options say if it has any."""
    own = [found for name, found in arguments.own if name == arguments.camera]
    if not any(set(DECISION).intersection(vars(found)) for found in own):
        return classifier
    return classifier.deciding(arguments.bundle, **{name: getattr(arguments, name) for name in DECISION})


def _label_events(arguments: "Namespace") -> "Optional[LabelEvents]":
    """Return the LabelEvents of --event, or None; OptionError for a label that the bundle does not have."""
    from ...errors import OptionError
    from ...streaming.event_rules import parse_rule
    from ...streaming.label_events import LabelEvents

    if not arguments.event:
        for option in ("--snapshots", "--home-assistant", "--webhook", "--on-event"):
            if getattr(arguments, option[2:].replace("-", "_")):
                raise OptionError(
                    "{} is for events, and there are none: add --event, such as --event '*'".format(option)
                )
        return None
    rules = [parse_rule(text) for text in arguments.event]
    pictures = bool(arguments.snapshots or arguments.home_assistant)
    return LabelEvents(rules, arguments.bundle.labels, images=pictures)


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


def _find(arguments: "Namespace") -> "Union[List[str], Source]":
    """Return a camera's source; CameraError or OptionError if there is none."""
    from ...capture.open_camera import find_camera

    return find_camera(
        arguments.source,
        arguments.width,
        arguments.height,
        arguments.fps,
        arguments.flip,
        arguments.policy,
        arguments.timeout,
        arguments.frozen,
        optional_password(arguments.password_file),
        arguments.format,
        dict(arguments.control or ()),
    )


def _open_camera(arguments: "Namespace", found: "Union[List[str], Source]") -> "Camera":
    from ...capture.open_camera import open_found

    pace = (arguments.fps, arguments.policy, arguments.timeout, arguments.frozen)
    return open_found(found, arguments.source, *pace)


def _choose(
    arguments: "Namespace", cameras: "Sequence[Namespace]", found: "Sequence[Union[List[str], Source]]"
) -> "Tuple[Optional[Choice], int]":
    """Return the Choice of models and backends (None: to be chosen while the sources open), and how many images may be inferred
    at once.

    A first start measures before the cameras open: their decoders would take processor time, and the figures are for every
    source.  It does so after the sources were found, so that a mistyped one is reported at once.
    """
    from ...capture.open_camera import actual_policy
    from ...classify.decision import allowed_indices
    from ...classify.selection import candidates
    from ...classify.tuning.choice import choose, measures_by_itself
    from ...device.machine import cores

    files = any(actual_policy(source, one.policy) == "all" for one, source in zip(cameras, found))
    at_once = (arguments.threads or cores()) if files else 1
    for one in cameras:
        allowed_indices(arguments.bundle.labels, one.allow, one.deny)
    pairs = candidates(arguments.bundle, arguments.model, arguments.backend)
    if not (arguments.tune or (arguments.tune is None and measures_by_itself(pairs))):
        return None, at_once
    return choose(arguments.bundle, pairs, arguments.threads, at_once, arguments.tune, show_tuning(arguments)), at_once


def _warn_of_typed_passwords(arguments: "Namespace") -> None:
    for what, texts, variable, option in (
        # A file may be named "user:word@host.avi".
        ("the source", [] if os.path.lexists(arguments.source) else [arguments.source], CAMERA, "--password-file"),
        ("a sink", arguments.sink, MQTT, "--mqtt-password-file"),
    ):
        if any(learn(text) != text for text in texts):
            _log.warning(
                "the address of %s contains a password, and every user of this machine can read command lines in the "
                "process list: leave it out, and use the environment variable %s or %s",
                what,
                variable,
                option,
            )
