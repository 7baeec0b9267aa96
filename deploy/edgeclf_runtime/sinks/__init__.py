"""The places where results go, in one table; each is imported only when it is opened."""

import importlib
import os

from ..errors import OutputError
from ..results import NOWHERE
from ..text.addresses import shown_uri

# How a target begins or ends: module and class.
SINKS = {
    ".jsonl": ("lines", "JsonLinesSink"),
    ".csv": ("lines", "CsvSink"),
    ".webm": ("video", "VideoSink"),
    ".mp4": ("video", "VideoSink"),
    ".avi": ("video", "VideoSink"),
    "mqtt://": ("mqtt.sink", "MqttSink"),
    "mqtts://": ("mqtt.sink", "MqttSink"),
}
FORMS = (
    "NAME.jsonl or NAME.csv (one line for each result)",
    "NAME.webm, NAME.mp4 or NAME.avi (a video with the results drawn in)",
    "mqtt://[USER[:PASSWORD]@]HOST[:PORT]/TOPIC (mqtts:// for TLS)",
)


def open_sink(target, fps=None, password=None, origin=NOWHERE, wait=False, tls=None, **options):
    """Open what a target names, one of FORMS; see ``base.py`` for what a sink is.

    fps         where every frame of a file comes, and not as time passes: the rate that a video of them has
    password    of a broker whose address has a user and no password; None takes the environment's
    origin      of the results, see results.py
    wait        for a sink that is slow, instead of losing results: for files that are not live
    tls         files for mqtts://, or None for each: the authorities' certificates, an own certificate, and its key
    options     what else the sink's class takes beside its target

    Raises OutputError where the target has no known form, or can never be written.
    """
    target = str(target)
    module, name = _find(target)
    if module == "mqtt.sink":
        options.update(password=password, origin=origin, wait=wait, tls=tls)
    if fps is not None and module == "video":
        options["fps"] = fps
    return getattr(importlib.import_module("." + module, __name__), name)(target, **options)


def check_target(target):
    """Return the name of the module for a target; raises OutputError as open_sink() does where its form is wrong."""
    module, _ = _find(str(target))
    if module == "mqtt.sink":
        from .mqtt.sink import parse_address

        parse_address(target)
    return module


def _find(target):
    scheme, separator, _ = target.partition("://")
    kind = scheme.lower() + separator if separator else os.path.splitext(target)[1].lower()
    if kind not in SINKS:
        raise OutputError("there is no output {!r}; an output is {}".format(shown_uri(target), ", ".join(FORMS)))
    return SINKS[kind]
