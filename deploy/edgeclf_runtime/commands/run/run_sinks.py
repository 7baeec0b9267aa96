"""Opens the outputs of ``run``, as its options say."""

import functools
import logging
import os
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, Optional, Tuple

from ...device.credentials import password_from, read_password
from ...device.process_secrets import WEBHOOK
from ...errors import OptionError
from ...text.stdio import write_stderr
from ...text.terminal import printable
from ..output import print_json, print_text

if TYPE_CHECKING:
    from argparse import Namespace

    from ...capture.camera import Camera
    from ...classify.classifier import Classifier
    from ...results import Origin
    from ...sinks.base import Sink
    from ...sinks.live.server import LivePage
    from ...sinks.live.sink import LiveSink
    from ...sinks.uncertain_frames import UncertainSink

    _Open = Callable[[], Sink]

_log = logging.getLogger(__name__)


def find_sinks(
    arguments: "Namespace", classifier: "Classifier", camera: "Camera", origin: "Origin", page: "Optional[LivePage]"
) -> "Iterator[Tuple[str, _Open]]":
    """Yield the name of each sink, and the function that opens it; ``page`` is that of --live."""
    if not arguments.quiet:
        print_ = print_json if arguments.json else print_text
        yield "stdout", _sparse(arguments, camera, functools.partial(_open_printer, print_, arguments.json))
    yield from _targets(arguments, camera, origin)
    every_frame = camera.policy == "all"
    if arguments.uncertain:
        yield arguments.uncertain, functools.partial(_open_uncertain, arguments, every_frame)
    if arguments.snapshots:
        yield arguments.snapshots, functools.partial(_open_snapshots, arguments, every_frame)
    if arguments.clips:
        yield arguments.clips, functools.partial(_open_clips, arguments, every_frame)
    if arguments.webhook:
        yield "the webhook", functools.partial(_open_webhook, arguments, _webhook_secret(arguments), every_frame)
    if arguments.on_event:
        yield arguments.on_event, functools.partial(_open_program, arguments, every_frame)
    if page is not None:
        yield "the live page", functools.partial(_open_live, arguments, classifier, page, origin)


def place_outputs(arguments: "Namespace") -> None:
    """Give a camera with a name outputs of its own: files, folders and topics with its name."""
    from ...sinks import MQTT_SINK, check_target

    if not arguments.camera:
        return
    name = arguments.camera
    targets = []
    for target in arguments.sink:
        stem, ending = os.path.splitext(target)
        mqtt = check_target(target) == MQTT_SINK
        targets.append("{}/{}".format(target, name) if mqtt else "{}-{}{}".format(stem, name, ending))
    arguments.sink = targets
    for option in ("uncertain", "snapshots", "clips"):
        folder = getattr(arguments, option)
        if folder:
            setattr(arguments, option, os.path.join(folder, name))


def check_outputs(arguments: "Namespace") -> None:
    """Raise EdgeclfError for outputs that could not be opened, before a model and a camera are."""
    from ...sinks import MQTT_SINK, check_target

    for target in arguments.sink:
        if check_target(target) == MQTT_SINK:
            from ...sinks.mqtt.address import parse_address
            from ...sinks.mqtt.client import Tls, tls_context

            tls_context(parse_address(target), Tls(*_mqtt_files(arguments)))
    _check_home_assistant(arguments)
    if arguments.webhook:
        from ...sinks.actions.webhook import own_context, parse_url

        own_context(parse_url(arguments.webhook), arguments.webhook_ca)
    elif arguments.webhook_ca:
        raise OptionError(
            "--webhook-ca is for the address of --webhook, and there is none: add --webhook https://HOST/PATH"
        )


def live_page(arguments: "Namespace", several: bool) -> "Optional[LivePage]":
    """Return the LivePage of --live, which all cameras share, or None."""
    from ...sinks.live.access import open_access
    from ...sinks.live.server import LivePage

    if not arguments.live:
        return None
    names = ("token_file", "name", "open", "cert", "key", "proxy")
    access = open_access(*(getattr(arguments, "live_" + name) for name in names))
    return LivePage(arguments.live, access, several)


def _targets(arguments: "Namespace", camera: "Camera", origin: "Origin") -> "Iterator[Tuple[str, _Open]]":
    """Yield the name of each --sink, and the function that opens it."""
    from ...capture.camera import IMAGES_FPS
    from ...sinks import MQTT_SINK, check_target, open_sink
    from ...text.addresses import shown_uri

    every_frame = camera.policy == "all"
    fps = (camera.rate or IMAGES_FPS) if every_frame else None
    password = optional_password(arguments.mqtt_password_file)
    tls = _mqtt_files(arguments)
    for target in arguments.sink:
        options = (fps, password, origin, every_frame, tls, bool(arguments.event))
        kind = check_target(target)
        home = _home_assistant(arguments, origin) if kind == MQTT_SINK and arguments.home_assistant is not None else {}
        open_: _Open = functools.partial(open_sink, target, *options, **home)
        if kind != "video":
            open_ = _sparse(arguments, camera, open_)
        if arguments.event and arguments.every is not None and target.lower().endswith(".csv"):
            _log.warning(
                "%s holds events only, because the rows of a CSV file are of one kind: use a .jsonl file for the results of "
                "frames, too",
                shown_uri(target),
            )
        yield shown_uri(target), open_


def _mqtt_files(arguments: "Namespace") -> Tuple[Optional[str], Optional[str], Optional[str]]:
    return arguments.mqtt_ca, arguments.mqtt_cert, arguments.mqtt_key


def _check_home_assistant(arguments: "Namespace") -> None:
    """Raise OptionError for --home-assistant without a broker."""
    from ...sinks import MQTT_SINK, check_target

    if arguments.home_assistant is not None and not any(check_target(target) == MQTT_SINK for target in arguments.sink):
        raise OptionError("--home-assistant reads MQTT, and there is no broker: add --sink mqtt://HOST/TOPIC")


def _home_assistant(arguments: "Namespace", origin: "Origin") -> "Dict[str, Any]":
    """Return the argument of an MQTT sink that tells Home Assistant of the labels that have events."""
    from ...sinks.mqtt.home_assistant import HomeAssistant
    from ...streaming.event_rules import parse_rule, rules_by_label

    labels = list(rules_by_label([parse_rule(text) for text in arguments.event], arguments.bundle.labels))
    return {"home": HomeAssistant(labels, origin, arguments.bundle.name, arguments.home_assistant)}


def _sparse(arguments: "Namespace", camera: "Camera", open_: "_Open") -> "_Open":
    """Return a function that opens a sink for the frames of --every, and for events."""
    from ...sinks.sparse import SparseSink

    if not (arguments.every if arguments.every is not None else arguments.event):
        return open_
    return lambda: SparseSink(open_(), arguments.every, camera.policy)


def optional_password(path: Optional[str]) -> Optional[str]:
    """Return the password in a file, or None if there is no file."""
    return None if path is None else read_password(path)


def _open_printer(print_: Callable[[str], object], as_json: bool) -> "Sink":
    from ...sinks.printer import PrintSink

    return PrintSink(print_, as_json)


def _open_uncertain(arguments: "Namespace", every_frame: bool) -> "UncertainSink":
    from ...sinks.uncertain_frames import UncertainSink

    max_bytes, every_s = arguments.uncertain_megabytes << 20, 0.0 if every_frame else 1.0
    return UncertainSink(arguments.uncertain, arguments.uncertain_below, max_bytes, every_s, wait=every_frame)


def _open_snapshots(arguments: "Namespace", every_frame: bool) -> "Sink":
    from ...sinks.actions.snapshots import SnapshotSink

    return SnapshotSink(arguments.snapshots, arguments.snapshots_megabytes << 20, wait=every_frame)


def _open_clips(arguments: "Namespace", every_frame: bool) -> "Sink":
    from ...sinks.actions.clips import ClipSink

    return ClipSink(arguments.clips, arguments.clips_megabytes << 20, wait=every_frame)


def _webhook_secret(arguments: "Namespace") -> Optional[bytes]:
    text = optional_password(arguments.webhook_secret_file) or password_from(WEBHOOK)
    return text.encode("utf-8") if text else None


def _open_webhook(arguments: "Namespace", secret: Optional[bytes], every_frame: bool) -> "Sink":
    from ...sinks.actions.webhook import WebhookSink

    return WebhookSink(arguments.webhook, secret, wait=every_frame, ca=arguments.webhook_ca)


def _open_program(arguments: "Namespace", every_frame: bool) -> "Sink":
    from ...sinks.actions.program import ProgramSink

    return ProgramSink(arguments.on_event, arguments.on_event_arg, wait=every_frame)


def _open_live(arguments: "Namespace", classifier: "Classifier", page: "LivePage", origin: "Origin") -> "LiveSink":
    from ...images.preprocess import region_in_frame
    from ...sinks.live.sink import LiveSink

    bundle, limits = arguments.bundle, classifier.limits
    classify = classifier.classify if arguments.live_classify else None
    shown = (classifier.labels, bundle.name, None, arguments.source, limits, bundle)
    region = functools.partial(region_in_frame, arguments.roi, arguments.rotation) if arguments.roi else None
    live = LiveSink(page, *shown, classify=classify, origin=origin, region=region)
    if live.first:  # all cameras share the address
        # Not redacted: its token is for the reader of this line.
        write_stderr(printable("live page: {}".format(live.invitation)) + "\n")
    return live
