"""``run``: classifies a source's frames until it ends, and writes the results into sinks."""

import contextlib
import logging
import os
from typing import TYPE_CHECKING, List, Optional, Tuple, Union

from ...device.process_secrets import CAMERA, MQTT
from ...text.redaction import learn
from ...text.terminal import show_message
from ..classify import open_classifier, show_tuning
from .run_sinks import find_sinks, optional_password

if TYPE_CHECKING:
    from argparse import Namespace

    from ...capture.camera import Camera
    from ...capture.source import Source
    from ...classify.tuning.choice import Choice
    from ...streaming.health.watch import Health
    from ...streaming.label_events import LabelEvents

_log = logging.getLogger(__name__)

_VERIFY_S = 600.0


def run(arguments: "Namespace") -> None:
    """Classify frames until the source ends or the program is stopped."""
    from ...bundle.open_bundle import open_bundle
    from ...capture.open_camera import open_found
    from ...device.systemd import Notifier, is_service, speaking
    from ...results import find_origin
    from ...sinks.late_sink import open_late
    from ...streaming.motion import MotionGate
    from ...streaming.run_loop import Run
    from ...streaming.smoothing import Smoother

    _warn_of_typed_passwords(arguments)
    find_origin(device=arguments.device_name)  # reports an invalid name before a camera and a model are opened
    wait = is_service() if arguments.wait is None else arguments.wait
    with contextlib.ExitStack() as stack:
        notifier = stack.enter_context(speaking(Notifier()))
        with notifier.busy(_VERIFY_S, "verifying the bundle"):
            arguments.bundle = open_bundle(arguments.bundle)
        events = _label_events(arguments)
        found, choice, at_once = _choose(arguments)
        # The camera opens in a separate process while the model loads in this one.
        pace = (arguments.fps, arguments.policy, arguments.timeout, arguments.frozen)
        camera = stack.enter_context(open_found(found, arguments.source, *pace))
        classifier = stack.enter_context(open_classifier(arguments, at_once, choice))
        if not (wait and camera.comes_back):
            camera.wait_opened()
            if camera.mode and camera.as_asked:  # otherwise the camera has logged a warning
                show_message("{}: {}".format(camera.name, camera.mode))
        origin = find_origin(classifier.bundle_id, camera.name, arguments.device_name)
        openers = find_sinks(arguments, classifier, camera, origin)
        outputs = stack.enter_context(contextlib.ExitStack())
        sinks = [outputs.enter_context(open_late(*opener) if wait else opener[1]()) for opener in openers]
        show_message("{} on {}".format(classifier.model, classifier.backend))
        health = _open_health(arguments, camera)
        motion = MotionGate(arguments.roi, arguments.rotation) if arguments.when_motion else None
        loop = Run(classifier, camera, sinks, notifier, events, motion)
        try:
            smoother = Smoother(arguments.smooth, arguments.margin) if arguments.smooth else None
            with outputs:  # closed before the summary: it counts what they could not deliver
                loop.go(smoother, arguments.roi, arguments.rotation, arguments.frames, origin, health)
        finally:
            with contextlib.suppress(OSError):  # the terminal may be closed
                show_message(loop.summary())


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


def _choose(arguments: "Namespace") -> "Tuple[Union[List[str], Source], Optional[Choice], int]":
    """Return the source, the Choice of models and backends (None: to be chosen while the source opens), and how many images
    may be inferred at once.

    A first start measures before the camera opens: its decoder would take processor time, and the figures are for every
    source.  It does so after the source was found, so that a mistyped one is reported at once.
    """
    from ...capture.open_camera import actual_policy, find_camera
    from ...classify.decision import allowed_indices
    from ...classify.selection import candidates
    from ...classify.tuning.choice import choose, measures_by_itself
    from ...device.machine import cores

    found = find_camera(
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
    at_once = (arguments.threads or cores()) if actual_policy(found, arguments.policy) == "all" else 1
    allowed_indices(arguments.bundle.labels, arguments.allow, arguments.deny)
    pairs = candidates(arguments.bundle, arguments.model, arguments.backend)
    if not (arguments.tune or (arguments.tune is None and measures_by_itself(pairs))):
        return found, None, at_once
    choice = choose(arguments.bundle, pairs, arguments.threads, at_once, arguments.tune, show_tuning(arguments))
    return found, choice, at_once


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
