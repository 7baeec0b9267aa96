"""HomeAssistant, the retained messages by which Home Assistant finds a stream's labels, by its MQTT discovery.

https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery
"""

import functools
import hashlib
import json
import logging
import re
from typing import TYPE_CHECKING, Dict, List, Sequence, Tuple

from ... import __version__
from ...errors import OptionError
from ...images.jpeg import MAX_SIDE, encode_jpeg
from ...results import NOWHERE, Origin
from .retained import Payload

if TYPE_CHECKING:
    from ...files.schema import JsonObject
    from ...results import LabelEvent

_log = logging.getLogger(__name__)
PREFIX = "homeassistant"
MOST_LABELS = 100
"""Labels with an entity of their own."""
_NO_LABEL = "none"
_ONLINE = "{{{{ 'offline' if value_json.state in {} else 'online' }}}}"
_BOOLEAN = {"payload_on": "True", "payload_off": "False"}  # as Jinja writes them


class HomeAssistant:
    """The entities of one stream, and the state of those about labels.

    labels      the labels that have events, in the order of the rules; the first MOST_LABELS have an entity each
    origin      of the results; its device is the name of the device
    model       name of the bundle
    prefix      of the topics that Home Assistant reads, as set there

    Entities: the label that is there; for each label, whether it is there; the best picture of the latest event; whether
    something is wrong.  They are unavailable while the program or its camera is away.  Raises OptionError for a wrong prefix.
    """

    def __init__(self, labels: Sequence[str], origin: Origin = NOWHERE, model: str = "", prefix: str = PREFIX) -> None:
        if not prefix.strip("/") or set(prefix) & set("+#\0"):
            raise OptionError(
                "--home-assistant {!r} is not the beginning of a topic; {} was expected, unless Home Assistant has another "
                "discovery prefix".format(prefix, PREFIX)
            )
        self._labels, self._origin, self._model = labels, origin, model
        self._prefix = prefix.strip("/")
        self._there: "Dict[str, LabelEvent]" = {}  # by id, in the order of their coming
        if len(labels) > MOST_LABELS:
            _log.warning(
                "Home Assistant gets an entity for each of the first %d of %d labels; give --event only for those that you need",
                MOST_LABELS,
                len(labels),
            )

    def entities(self, topic: str) -> Dict[str, Payload]:
        """Return the topic and the description of each entity.

        topic       of the results; those of the camera's state, the labels and the picture are below it
        """
        identity = "edgeclf_" + hashlib.sha256(topic.encode("utf-8")).hexdigest()[:12]
        device: "JsonObject" = {"identifiers": [identity], "name": self._origin.device or "edgeclf " + topic}
        device.update(manufacturer="edgeclf", sw_version=__version__)
        if self._model:
            device["model"] = self._model
        found: Dict[str, Payload] = {}
        for component, name, about in self._descriptions(topic):
            about.update(unique_id="{}_{}".format(identity, name), device=device)
            about["origin"] = {"name": "edgeclf", "sw_version": __version__}
            found["{}/{}/{}/{}/config".format(self._prefix, component, identity, name)] = json.dumps(about)
        return found

    def _descriptions(self, topic: str) -> "List[Tuple[str, str, JsonObject]]":
        """Return component, name and description of each entity."""
        there: "JsonObject" = {
            "availability_topic": topic + "/state",
            "availability_template": _ONLINE.format(["offline", "lost"]),
        }
        label = dict(there, name="Label", icon="mdi:tag", state_topic=topic + "/labels")
        label.update(
            value_template="{{ value_json.label or '%s' }}" % _NO_LABEL, json_attributes_topic=topic + "/labels"
        )
        trouble: "JsonObject" = {"name": "Problem", "device_class": "problem", "entity_category": "diagnostic"}
        trouble.update(_BOOLEAN, state_topic=topic + "/state", json_attributes_topic=topic + "/state")
        trouble.update(value_template="{{ value_json.state != 'live' }}", availability_topic=topic + "/state")
        trouble["availability_template"] = _ONLINE.format(["offline"])
        picture = dict(there, name="Latest event", image_topic=topic + "/image", content_type="image/jpeg")
        entities = [("sensor", "label", label), ("binary_sensor", "problem", trouble), ("image", "event", picture)]
        for text in self._labels[:MOST_LABELS]:
            # A JSON string is a string of Jinja's too.
            template = "{{ value_json.present[%s] }}" % json.dumps(text, ensure_ascii=False)
            about = dict(there, name=text, state_topic=topic + "/labels", value_template=template, **_BOOLEAN)
            entities.append(("binary_sensor", "label_" + _word(text), about))
        return entities

    def states(self, topic: str) -> Dict[str, Payload]:
        """Return the topic and the state of the entities about labels."""
        latest = next(reversed(list(self._there.values())), None)
        present = {event.label for event in self._there.values()}
        state: "JsonObject" = {"label": None, "confidence": None, "since": None}
        if latest is not None:
            state.update(label=latest.label, confidence=round(latest.confidence, 6))
            state["since"] = round(latest.started_at, 6)
        state["present"] = {label: label in present for label in self._labels[:MOST_LABELS]}
        return {topic + "/labels": json.dumps(state)}

    def take(self, event: "LabelEvent", topic: str) -> Dict[str, Payload]:
        """Take an event; returns what it changes, by topic."""
        if event.end is None:
            self._there[event.id] = event
        else:
            self._there.pop(event.id, None)
        changed = self.states(topic)
        if event.best.image is not None:
            changed[topic + "/image"] = functools.partial(encode_jpeg, event.best.image, most_side=MAX_SIDE)
        return changed


def _word(label: str) -> str:
    """Return a word for a topic that only this label has."""
    return "{}_{}".format(
        re.sub("[^A-Za-z0-9]+", "_", label)[:40], hashlib.sha256(label.encode("utf-8")).hexdigest()[:6]
    )
