"""Opens the outputs of results, from one table; each module is imported only when it is needed."""

import importlib
import os
from typing import TYPE_CHECKING, Callable, Optional, Sequence, Tuple, Union

from ..errors import OutputError
from ..results import NOWHERE, Origin
from ..text.addresses import shown_uri

if TYPE_CHECKING:
    from .base import Sink

MQTT_SINK = "mqtt.sink"
# By how a target begins or ends: module and class.
SINKS = {
    ".jsonl": ("lines", "JsonLinesSink"),
    ".csv": ("lines", "CsvSink"),
    ".webm": ("video", "VideoSink"),
    ".mp4": ("video", "VideoSink"),
    ".avi": ("video", "VideoSink"),
    "mqtt://": (MQTT_SINK, "MqttSink"),
    "mqtts://": (MQTT_SINK, "MqttSink"),
}
FORMS = (
    "NAME.jsonl or NAME.csv (one line for each result)",
    "NAME.webm, NAME.mp4 or NAME.avi (a video with the results drawn into it)",
    "mqtt://[USER[:PASSWORD]@]HOST[:PORT]/TOPIC (mqtts:// for TLS)",
)


def open_sink(
    target: "Union[str, os.PathLike[str]]",
    fps: Optional[float] = None,
    password: Optional[str] = None,
    origin: Origin = NOWHERE,
    wait: bool = False,
    tls: Optional[Sequence[Optional[str]]] = None,
    events: bool = False,
    **options: object,
) -> "Sink":
    """Open the Sink for a target, one of FORMS.

    fps         if all frames of a file are written, however long that takes: the rate of a video of them
    password    of a broker whose address has a user name but no password; None reads the environment
    origin      of the results, see results.py
    wait        True waits for a slow sink instead of losing results: for sources that are not live
    tls         files for mqtts://, None for each that is not needed: CA certificates, own certificate, its key
    events      True: a CSV file has rows of LabelEvents, in place of rows of results
    options     further arguments of the sink's class

    Raises OutputError if the target has no known form, or can never be written; DependencyError if a library is missing.
    """
    target = str(target)
    module, name = _find(target)
    if module == MQTT_SINK:
        options.update(password=password, origin=origin, wait=wait, tls=tls)
    if fps is not None and module == "video":
        options["fps"] = fps
    if events and name == "CsvSink":
        name = "EventCsvSink"
    make: "Callable[..., Sink]" = getattr(importlib.import_module("." + module, __name__), name)
    return make(target, **options)


def check_target(target: "Union[str, os.PathLike[str]]") -> str:
    """Return the name of the module for a target; raises OutputError, like open_sink(), if its form is wrong."""
    module, _ = _find(str(target))
    if module == MQTT_SINK:
        from .mqtt.sink import parse_address

        parse_address(str(target))
    return module


def _find(target: str) -> Tuple[str, str]:
    scheme, separator, _ = target.partition("://")
    kind = scheme.lower() + separator if separator else os.path.splitext(target)[1].lower()
    if kind not in SINKS:
        raise OutputError("unknown output {!r}; expected {}".format(shown_uri(target), ", ".join(FORMS)))
    return SINKS[kind]
