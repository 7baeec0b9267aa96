"""``run``: classifies a source's frames until it ends, and writes the results into sinks."""

import contextlib
import functools
import logging
import os
from typing import TYPE_CHECKING, Callable, Iterator, List, Optional, Tuple, Union

from ..device.credentials import read_password
from ..device.process_secrets import CAMERA, MQTT
from ..text.redaction import learn
from ..text.stdio import write_stderr
from ..text.terminal import printable, show_message
from .classify import open_classifier, show_tuning
from .output import print_json, print_text

if TYPE_CHECKING:
    from argparse import Namespace

    from ..capture.camera import Camera
    from ..capture.source import Source
    from ..classify.classifier import Classifier
    from ..classify.tuning.choice import Choice
    from ..results import Origin
    from ..sinks.base import Sink
    from ..sinks.live.access import Access
    from ..sinks.live.sink import LiveSink
    from ..sinks.uncertain_frames import UncertainSink
    from ..streaming.health.watch import Health

_log = logging.getLogger(__name__)

_VERIFY_S = 600.0


def run(arguments: "Namespace") -> None:
    """Classify frames until the source ends or the program is stopped."""
    from ..bundle.open_bundle import open_bundle
    from ..capture.open_camera import open_found
    from ..device.systemd import Notifier, is_service, speaking
    from ..results import find_origin
    from ..sinks.late_sink import open_late
    from ..streaming.run_loop import Run
    from ..streaming.smoothing import Smoother

    _warn_of_typed_passwords(arguments)
    find_origin(device=arguments.device_name)  # reports an invalid name before a camera and a model are opened
    wait = is_service() if arguments.wait is None else arguments.wait
    with contextlib.ExitStack() as stack:
        notifier = stack.enter_context(speaking(Notifier()))
        with notifier.busy(_VERIFY_S, "verifying the bundle"):
            arguments.bundle = open_bundle(arguments.bundle)
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
        openers = _sinks(arguments, classifier, camera, origin)
        outputs = stack.enter_context(contextlib.ExitStack())
        sinks = [outputs.enter_context(open_late(*opener) if wait else opener[1]()) for opener in openers]
        show_message("{} on {}".format(classifier.model, classifier.backend))
        health = _open_health(arguments, camera)
        loop = Run(classifier, camera, sinks, notifier)
        try:
            smoother = Smoother(arguments.smooth, arguments.margin) if arguments.smooth else None
            with outputs:  # closed before the summary: it counts what they could not deliver
                loop.go(smoother, arguments.roi, arguments.rotation, arguments.frames, origin, health)
        finally:
            with contextlib.suppress(OSError):  # the terminal may be closed
                show_message(loop.summary())


def _open_health(arguments: "Namespace", camera: "Camera") -> "Optional[Health]":
    """Return the Health that watches the camera; None with --no-health, or if the bundle has no baseline."""
    from ..streaming.health.watch import open_health

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
    from ..capture.open_camera import actual_policy, find_camera
    from ..classify.decision import allowed_indices
    from ..classify.selection import candidates
    from ..classify.tuning.choice import choose, measures_by_itself
    from ..device.machine import cores

    found = find_camera(
        arguments.source,
        arguments.width,
        arguments.height,
        arguments.fps,
        arguments.flip,
        arguments.policy,
        arguments.timeout,
        arguments.frozen,
        _password(arguments.password_file),
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


def _password(path: Optional[str]) -> Optional[str]:
    return None if path is None else read_password(path)


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


def _sinks(
    arguments: "Namespace", classifier: "Classifier", camera: "Camera", origin: "Origin"
) -> "Iterator[Tuple[str, Callable[[], Sink]]]":
    """Yield the name of each sink, and the function that opens it."""
    from ..capture.camera import IMAGES_FPS
    from ..sinks import open_sink
    from ..sinks.printer import PrintSink
    from ..text.addresses import shown_uri

    if not arguments.quiet:
        yield "stdout", lambda: PrintSink(print_json if arguments.json else print_text, arguments.json)
    every_frame = camera.policy == "all"
    fps = (camera.rate or IMAGES_FPS) if every_frame else None
    password = _password(arguments.mqtt_password_file)
    tls = (arguments.mqtt_ca, arguments.mqtt_cert, arguments.mqtt_key)
    for target in arguments.sink:
        yield shown_uri(target), functools.partial(open_sink, target, fps, password, origin, every_frame, tls)
    if arguments.uncertain:
        yield arguments.uncertain, functools.partial(_open_uncertain, arguments, every_frame)
    if arguments.live:
        from ..sinks.live.access import open_access

        names = ("token_file", "name", "open", "cert", "key", "proxy")
        access = open_access(*(getattr(arguments, "live_" + name) for name in names))
        yield "the live page", functools.partial(_open_live, arguments, classifier, access)


def _open_uncertain(arguments: "Namespace", every_frame: bool) -> "UncertainSink":
    from ..sinks.uncertain_frames import UncertainSink

    max_bytes, every_s = arguments.uncertain_megabytes << 20, 0.0 if every_frame else 1.0
    return UncertainSink(arguments.uncertain, arguments.uncertain_below, max_bytes, every_s, wait=every_frame)


def _open_live(arguments: "Namespace", classifier: "Classifier", access: "Access") -> "LiveSink":
    from ..sinks.live.sink import LiveSink

    bundle, limits = arguments.bundle, classifier.limits
    live = LiveSink(arguments.live, classifier.labels, bundle.name, access, arguments.source, limits, bundle)
    # Not redacted: its token is for the reader of this line.
    write_stderr(printable("live page: {}".format(live.invitation)) + "\n")
    return live
