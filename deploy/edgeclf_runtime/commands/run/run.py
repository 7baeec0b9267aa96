"""``run``: classifies a source's frames until it ends, and writes the results into sinks."""

import contextlib
import json
import logging
import os
from typing import TYPE_CHECKING, List, Optional, Sequence, Tuple, Union

from ...device.process_secrets import CAMERA, MQTT
from ...device.stop_signals import calling_on_hangup
from ...text.redaction import learn
from ...text.terminal import show_message
from ..classify import open_classifier, show_tuning
from ..output import print_text
from .camera_stream import CameraStream, label_events
from .cameras import cameras_of
from .reload import Reload
from .run_sinks import check_outputs, live_page, optional_password, place_outputs
from .streams import Streams
from .together import Parts, go_together

if TYPE_CHECKING:
    from argparse import Namespace

    from ...capture.camera import Camera
    from ...capture.source import Source
    from ...classify.tuning.choice import Choice

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
        for one in cameras:
            one.bundle = arguments.bundle
            place_outputs(one)
        page = live_page(arguments, len(cameras) > 1)
        events = [label_events(one) for one in cameras]
        check_outputs(arguments)
        found = [_find(one) for one in cameras]
        choice, at_once = _choose(arguments, cameras, found)
        alone = len(cameras) == 1 and arguments.again is None
        parts = Parts(notifier)
        with contextlib.ExitStack() as early:
            # Cameras open in separate processes while the model loads in this one.
            opened = [early.enter_context(_open_camera(*pair)) for pair in zip(cameras, found)]
            classifier = stack.enter_context(open_classifier(arguments, at_once, choice))
            streams = stack.enter_context(Streams())
            for one, camera, rules in zip(cameras, opened, events):
                part = notifier if alone else parts.add(one.camera)
                streams.add(CameraStream(one, classifier, camera, part, rules, page))
            early.pop_all()  # the streams close their cameras from here on
        del camera, opened  # a reload may close them
        streams.open(wait)
        show_message("{} on {}".format(classifier.model, classifier.backend))
        if alone:
            streams.only.go()
        elif arguments.again is None:
            go_together(streams)
        else:

            def open_again(one: "Namespace") -> CameraStream:
                rules, camera = label_events(one), _open_camera(one, _find(one))
                return CameraStream(one, classifier, camera, parts.add(one.camera), rules, page)

            reload = Reload(arguments, cameras, streams, _find, open_again, parts, page)
            with calling_on_hangup(reload.ask):
                go_together(streams, reload.look)


def _find(arguments: "Namespace") -> "Union[List[str], Source]":
    """Return a camera's source; CameraError or OptionError if there is none."""
    from ...capture.masked_camera import read_mask
    from ...capture.open_camera import find_camera

    if arguments.mask:
        read_mask(arguments.mask)  # reports a wrong one before anything is opened
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
        arguments.decode,
    )


def _open_camera(arguments: "Namespace", found: "Union[List[str], Source]") -> "Camera":
    from ...capture.masked_camera import MaskedCamera, read_mask
    from ...capture.open_camera import open_found

    mask = read_mask(arguments.mask) if arguments.mask else None
    pace = (arguments.fps, arguments.policy, arguments.timeout, arguments.frozen)
    camera = open_found(found, arguments.source, *pace)
    return camera if mask is None else MaskedCamera(camera, mask)


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
    # Several cameras' frames are inferred side by side, each by fewer threads: the threads of one inference would wait for each other.
    at_once = (arguments.threads or cores()) if files or len(cameras) > 1 else 1
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
