"""What Home Assistant reads from a broker: the entities of a stream, and their states."""

import json
import logging

import numpy as np
import pytest

from edgeclf_runtime.errors import OptionError
from edgeclf_runtime.images.read import decode_image
from edgeclf_runtime.results import Origin
from edgeclf_runtime.sinks.mqtt.home_assistant import MOST_LABELS, HomeAssistant
from tests.support.brokers import Broker, Listener
from tests.support.results import LOST, came, went

TOPIC = "line/4"
STRANGE = ("cat", "a dog", 'say "hi" \\ {{ }} {% x %}', "\u732b \U0001f600", "on/off+#", "it's")


@pytest.fixture
def broker(tmp_path):
    pytest.importorskip("paho.mqtt.client", reason="paho-mqtt is not installed")
    started = Broker(tmp_path)
    yield started
    started.kill()


@pytest.fixture
def connect(broker, tmp_path):
    from edgeclf_runtime.sinks.mqtt.sink import MqttSink

    def connect(labels=STRANGE, **options):
        home = HomeAssistant(labels, **options)
        return MqttSink(f"mqtt://127.0.0.1:{broker.port}/{TOPIC}", spool=str(tmp_path / "spool"), home=home)

    return connect


def entities(**options):
    found = HomeAssistant(STRANGE, **options).entities(TOPIC)
    return {topic: json.loads(text) for topic, text in found.items()}


def test_the_broker_keeps_every_entity_and_the_state_that_it_reads(connect, broker):
    with connect(origin=Origin(device="line 4"), model="pets") as sink:
        sink.label_event(came(3))
    late = Listener(broker.port)
    found = late.several("homeassistant/", 3 + len(STRANGE))
    assert found == entities(origin=Origin(device="line 4"), model="pets")
    [device] = {json.dumps(about["device"]) for about in found.values()}
    assert json.loads(device)["name"] == "line 4"
    assert json.loads(device)["model"] == "pets"
    assert len({about["unique_id"] for about in found.values()}) == len(found)
    late.close()


def test_labels_come_and_go_with_the_picture_of_the_latest_event(connect, broker):
    listener = Listener(broker.port)
    picture = np.full((480, 640, 3), 90, np.uint8)
    with connect() as sink:
        assert listener.next("line/4/labels")["label"] is None
        sink.label_event(came(3, image=picture))
        state = listener.next("line/4/labels")
        assert state["label"] == "cat"
        assert state["confidence"] == 0.9
        assert [label for label, there in state["present"].items() if there] == ["cat"]
        image = decode_image(listener.next_bytes("line/4/image"))
        assert image.shape == (480, 640, 3)
        assert abs(int(image[9, 9, 0]) - 90) < 3
        sink.label_event(came(5, "a dog", id="2"))
        assert listener.next("line/4/labels")["label"] == "a dog"
        sink.label_event(went(5, label="a dog", id="2"))
        assert listener.next("line/4/labels")["label"] == "cat"
        sink.label_event(went(3))
        state = listener.next("line/4/labels")
        assert state["label"] is None
        assert not any(state["present"].values())
    listener.close()


def render(template, payload):
    jinja2 = pytest.importorskip("jinja2", reason="jinja2 is not installed")
    return jinja2.Environment().from_string(template).render(value_json=json.loads(payload))


@pytest.mark.parametrize("label", STRANGE)
def test_the_templates_read_the_state_of_every_label(label):
    home = HomeAssistant(STRANGE)
    labels = [json.loads(text) for text in home.entities(TOPIC).values()]
    [about] = [one for one in labels if one.get("name") == label]
    [sensor] = [one for one in labels if one.get("name") == "Label"]
    for event, shown, there in ((came(1, label), label, "payload_on"), (went(1, label=label), "none", "payload_off")):
        [text] = home.take(event, TOPIC).values()
        assert render(about["value_template"], text) == about[there]
        assert render(sensor["value_template"], text) == shown


def test_entities_are_unavailable_without_a_camera_but_the_problem_is_told():
    lost, offline, live = LOST.to_json(), json.dumps({"state": "offline"}), json.dumps({"state": "live"})
    for topic, about in entities().items():
        available = [render(about["availability_template"], text) for text in (live, lost, offline)]
        if "/problem/" in topic:
            assert available == ["online", "online", "offline"]
            assert [render(about["value_template"], text) for text in (live, lost)] == ["False", "True"]
        else:
            assert available == ["online", "offline", "offline"]


def test_entities_of_very_many_labels_are_limited_and_the_rest_is_told(caplog):
    caplog.set_level(logging.WARNING)
    found = HomeAssistant([str(number) for number in range(1000)]).entities(TOPIC)
    assert len(found) == 3 + MOST_LABELS
    assert "the first 100 of 1000 labels" in caplog.text


@pytest.mark.parametrize("prefix", ["", "/", "home/+", "#"])
def test_a_prefix_that_is_no_topic_is_refused(prefix):
    with pytest.raises(OptionError, match="homeassistant was expected"):
        HomeAssistant(["cat"], prefix=prefix)
