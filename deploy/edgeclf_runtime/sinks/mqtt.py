"""Results and the camera's state on an MQTT broker (3.1.1), through paho-mqtt 1.x or 2.x.

Each result is on disk until the broker has acknowledged it (QoS 1): a broker that is away, or
a program that is started anew, loses none; after a crash some may come twice.
Knows nothing of cameras or of classification.
"""

import json
import logging
import os
import queue
import ssl
import sys
import threading
import time
import uuid
from typing import Any, Dict, Optional, Set
from urllib.parse import quote

from .. import addresses
from ..credentials import MQTT, check_password, password_from
from ..errors import OutputError
from ..redaction import learn, protect
from .base import Sink
from .outage import Outage
from .spool import Spool

_log = logging.getLogger(__name__)
FORM = "mqtt://[USER[:PASSWORD]@]HOST[:PORT]/TOPIC"
PORTS = {"mqtt": 1883, "mqtts": 8883}
KEEPALIVE_S = 20
RETRY_S = 1, 30
CLOSE_S = 0.9
ANSWER_S = 10.0
OFFLINE = json.dumps({"state": "offline", "reason": "the program ended, or its connection was lost"})


class MqttSink(Sink):
    """Publishes each result's JSON line to TOPIC, and the camera's state, retained, to TOPIC/state.

    address     mqtt://[USER[:PASSWORD]@]HOST[:PORT]/TOPIC, or mqtts:// for TLS; user and password are
                percent-encoded, and so is an "@" in the topic
    spool       folder for what is not delivered yet; by default one for this broker and topic under
                ~/.local/state/edgeclf
    max_bytes   of the spool; the oldest results are deleted and counted in ``lost``
    every_s     least time between two results of the same label; those between are left out
    password    of an address with a user and no password; None takes the environment's EDGECLF_MQTT_PASSWORD

    The state is an event's JSON object; whose ``state`` is "offline" where the program has ended or is cut off.
    Raises OutputError where the address is wrong, the spool cannot be written, or paho-mqtt is not installed.
    """

    def __init__(self, address, spool=None, max_bytes=50_000_000, every_s=0.0, password=None):
        parts = parse_address(address, password)
        self._topic, self._every_s = parts["topic"], every_s
        self._client = _new_client(parts)
        self._broker = "{host}:{port}".format(**parts)
        self._outage = Outage(_log, "the MQTT broker at {}".format(self._broker))
        self._spool = Spool(spool or default_spool(parts), max_bytes)
        self._due: Dict[str, float] = {}
        self._state = json.dumps({"state": "live", "reason": "the program has started", "at": round(time.time(), 6)})
        self._answer_due = time.monotonic() + ANSWER_S
        self._connected = self._state_due = self._closed = self._taken = False
        self._deadline: Optional[float] = None
        self._gone = threading.Event()
        # What wakes the delivery: the number of an acknowledged message, or None.
        self._news: "queue.Queue" = queue.Queue()
        self._client.will_set(self._topic + "/state", OFFLINE, qos=1, retain=True)
        self._client.on_connect = self._on_connect
        self._client.on_connect_fail = self._on_connect_fail
        self._client.on_disconnect = self._on_disconnect
        self._client.on_publish = self._on_publish
        self._client.reconnect_delay_set(*RETRY_S)
        self._client.connect_async(parts["host"], parts["port"], KEEPALIVE_S)
        self._thread = threading.Thread(target=self._deliver, name="mqtt", daemon=True)
        self._client.loop_start()
        self._thread.start()

    # The four callbacks run in paho's thread; of 2.x's further arguments none is needed.

    def _on_connect(self, client, userdata, flags, code, *rest):
        from paho.mqtt.client import connack_string

        if self._closed:
            client.disconnect()
            return
        if code != 0:
            reason = connack_string(code)
            self._outage.begin("refuses the connection ({}); results wait in {}".format(reason, self._spool.folder))
            return
        self._outage.end("is there")
        self._connected = self._state_due = True
        self._news.put(None)

    def _on_connect_fail(self, client, userdata):
        # Called where the failure is handled.
        self._outage.begin("cannot be reached ({}); results wait in {}".format(sys.exc_info()[1], self._spool.folder))

    def _on_disconnect(self, client, userdata, *rest):
        if self._connected and not self._closed:
            self._outage.begin("has gone; results wait in {}".format(self._spool.folder))
        self._connected = False
        self._gone.set()

    def _on_publish(self, client, userdata, number, *rest):
        self._news.put(number)

    def write(self, item):
        label, captured = item.result.label, item.frame.captured
        if captured < self._due.get(label, captured):
            return
        self._due[label] = captured + self._every_s
        # A broker that accepts connections and says nothing; and paho before 1.6 tells of no failure to connect.
        if not self._connected and time.monotonic() >= self._answer_due:
            self._outage.begin("does not answer; results wait in {}".format(self._spool.folder))
        self._spool.append(item.to_json().encode("utf-8"))
        self.lost = self._spool.lost
        self._news.put(None)

    def event(self, event):
        self._set_state(event.to_json())

    def _set_state(self, state):
        self._state, self._state_due = state, True
        self._news.put(None)

    def _deliver(self):
        """Send what is due, and more of it when the broker has acknowledged all; until the sink is closed."""
        waiting: Set[int] = set()
        while self._left_s() != 0:
            try:
                waiting.discard(self._news.get(timeout=self._left_s()))
            except queue.Empty:
                break
            # After an interruption paho sends again what is waiting; anything else would overtake it.
            if self._connected and not waiting:
                waiting = self._send()
                if self._deadline is not None and not waiting:
                    break

    def _left_s(self):
        return None if self._deadline is None else max(self._deadline - time.monotonic(), 0)

    def _send(self):
        """Send the state and the oldest results of the spool; returns the numbers of the messages."""
        if self._taken:
            self._spool.discard()
        lines = self._spool.take()
        self._taken = bool(lines)
        return self._send_state() | {self._client.publish(self._topic, line, qos=1).mid for line in lines}

    def _send_state(self):
        if not self._state_due:
            return set()
        self._state_due = False
        return {self._client.publish(self._topic + "/state", self._state, qos=1, retain=True).mid}

    def close(self):
        if self._closed:
            return
        self._deadline = time.monotonic() + CLOSE_S
        self._set_state(OFFLINE)
        self._thread.join()
        self._closed = True
        if self._connected:
            self._send_state()
        self._gone.clear()
        if self._client.disconnect() == 0:
            self._gone.wait(max(self._left_s(), 0.1))
        self._spool.close()


def parse_address(address, password=None):
    """Return scheme, host, port, topic, user and password of an MQTT address; OutputError where it is none.

    password    of an address with a user and no password; None takes the environment's
    """
    learn(str(address))
    try:
        parsed = addresses.parse_address(str(address))
        topic = parsed.tail[1:].replace("%40", "@")
        reason = _fault(parsed, topic)
    except ValueError as error:
        reason = str(error)
    if reason:
        raise OutputError(
            "{!r} is no MQTT address: {}. Expected was {}, or {} with the password in the environment's {} or by "
            "--mqtt-password-file".format(
                addresses.shown_uri(str(address)), reason, FORM, "mqtt://USER@HOST/TOPIC", MQTT
            )
        )
    return {
        "scheme": parsed.scheme,
        "host": parsed.plain_host,
        "port": parsed.port or PORTS[parsed.scheme],
        "topic": topic,
        "user": parsed.plain_user or None,
        "password": _password(parsed, password),
    }


def _password(parsed, password):
    found = parsed.plain_password
    if not found and password is not None:
        check_password(password, "the MQTT password")
    found = found or password or password_from(MQTT)
    if found:
        protect(found)
    return found


def _fault(parsed, topic):
    if parsed.scheme not in PORTS or not parsed.tail.startswith("/") or not topic:
        return "it has not this form"
    if set(topic) & set("+#\0"):
        return "a topic to publish to has no + and no #"
    return ""


def default_spool(parts):
    """Return the folder for what one broker and topic have not received yet."""
    state = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    return os.path.join(state, "edgeclf", "mqtt", quote("{host}:{port}/{topic}".format(**parts), safe=""))


def _new_client(parts):
    try:
        import paho.mqtt.client as mqtt
    except ImportError as error:
        raise OutputError(
            "MQTT needs paho-mqtt, which is not there for {} ({}); install it: {} -m pip install paho-mqtt".format(
                sys.executable, error, sys.executable
            )
        )
    options: Dict[str, Any] = {"client_id": "edgeclf-" + uuid.uuid4().hex[:12]}
    if hasattr(mqtt, "CallbackAPIVersion"):  # 2.x
        options["callback_api_version"] = mqtt.CallbackAPIVersion.VERSION2
    client = mqtt.Client(**options)
    # No limit of its own: what is sent at a time is one file of the spool.
    client.max_inflight_messages_set(0)
    if parts["user"]:
        client.username_pw_set(parts["user"], parts["password"])
    if parts["scheme"] == "mqtts":
        client.tls_set_context(ssl.create_default_context())
    return client
