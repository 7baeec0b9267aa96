"""Publishes results and the camera's state to an MQTT broker (3.1.1), and connects again if that is lost (paho-mqtt 1.x or 2.x).

Each result stays on disk until the broker has acknowledged it (QoS 1), so an unreachable broker or a restart loses none;
after a crash some may be sent twice.
"""

import functools
import json
import logging
import queue
import ssl
import sys
import threading
import time
from typing import TYPE_CHECKING, Dict, Optional, Sequence, Set, Tuple, Union

from ...results import NOWHERE, Origin
from ..base import Sink
from ..conditions import BACKEND, HEALTH, Conditions
from ..outage import Outage
from .address import default_spool, parse_address
from .client import RECEIVE_FAILED, hint, new_client
from .retained import Payload, Retained
from .spool import Spool, open_spool

if TYPE_CHECKING:
    from paho.mqtt.client import Client
    from paho.mqtt.reasoncodes import ReasonCode

    from ...results import LabelEvent, StreamEvent, StreamResult
    from .home_assistant import HomeAssistant

_log = logging.getLogger(__name__)
KEEPALIVE_S = 20
RETRY_S = 1, 30
CLOSE_S = 0.9
ANSWER_S = 10.0
SHORT_S, MOST_SHORT = 5.0, 2
EVENT_START = b'{"event": '  # a LabelEvent's line in the spool
FLUSH_S = 10.0  # without progress, at the end of a run
OFFLINE = {"state": "offline", "reason": "the program ended or lost its connection"}


class MqttSink(Sink):
    """Publishes each result's JSON line to TOPIC, each LabelEvent's to TOPIC/event, and the camera's state, retained, to TOPIC/state.

    address     mqtt://[USER[:PASSWORD]@]HOST[:PORT]/TOPIC, or mqtts:// for TLS; user, password and any "@" in the topic are
                percent-encoded
    spool       folder for undelivered results; by default one for this broker, topic and program in ~/.local/state/edgeclf
    max_bytes   of the spool; the oldest results are deleted and counted in ``losses``
    every_s     least time between two results with the same label, or rejected for the same reason; those in between are
                left out
    password    of an address with a user name but no password; None reads the environment variable EDGECLF_MQTT_PASSWORD
    origin      of the results; the states before the first result and after the last one carry it, too
    tls         a Tls (``sinks/mqtt/client.py``): files for mqtts://
    wait        True waits for the broker when the spool is full, instead of losing the oldest results: for sources that are
                not live
    home        a HomeAssistant, whose entities are published too, or None

    The state is the JSON object of the worst event that holds now ("lost", "changed", "degraded"), or of the latest, as "live",
    if all is well; ``state`` is "offline" if the program has ended or lost its connection.  Its ``backend`` and ``health`` are the
    latest events about these, once there was one.
    Raises OutputError if the address is wrong or the spool cannot be written, DependencyError if paho-mqtt is not installed.
    """

    def __init__(
        self,
        address: str,
        spool: Optional[str] = None,
        max_bytes: int = 50_000_000,
        every_s: float = 0.0,
        password: Optional[str] = None,
        origin: Origin = NOWHERE,
        tls: Optional[Sequence[Optional[str]]] = None,
        wait: bool = False,
        home: "Optional[HomeAssistant]" = None,
    ) -> None:
        parts = parse_address(address, password)
        self._topic, self._every_s, self._wait = parts["topic"], every_s, wait
        self._client = new_client(parts, tls)
        self._hint = functools.partial(hint, parts, tls)
        self.name = "{scheme}://{host}:{port}/{topic}".format(**parts)
        self._outage = Outage(_log, "the MQTT broker at {host}:{port}".format(**parts))
        self._spool = Spool(spool, max_bytes) if spool else open_spool(default_spool(parts), max_bytes)
        self._spool.lose = self.lose
        self._waiting = "results wait in {}".format(self._spool.folder)
        self._due: Dict[Tuple[str, bool, str], float] = {}
        self._conditions = Conditions()
        started = {"state": "live", "reason": "the program has started", "at": round(time.time(), 6)}
        self._home, self._retained = home, Retained()
        if home is not None:
            self._retain(dict(home.entities(self._topic), **home.states(self._topic)))
        self._retain({self._topic + "/state": json.dumps(dict(started, **origin.to_dict()))})
        self._offline = json.dumps(dict(OFFLINE, **origin.to_dict()))
        self._answer_due = time.monotonic() + ANSWER_S
        self._connected = self._closed = self._taken = self._refused = False
        self._error = ""  # the last one that paho logged
        self._since, self._short = 0.0, 0  # start of the last connection; number of short ones in a row
        self._deadline: Optional[float] = None
        self._gone, self._progress = threading.Event(), threading.Event()
        # Wakes the delivery thread: the number of an acknowledged message, or None.
        self._news: "queue.Queue[Optional[int]]" = queue.Queue()
        self._client.will_set(self._topic + "/state", self._offline, qos=1, retain=True)
        self._client.on_connect = self._on_connect
        self._client.on_connect_fail = self._on_connect_fail
        self._client.on_disconnect = self._on_disconnect
        self._client.on_publish = self._on_publish
        self._client.on_log = self._on_log
        self._client.reconnect_delay_set(*RETRY_S)
        self._client.connect_async(parts["host"], parts["port"], KEEPALIVE_S)
        self._thread = threading.Thread(target=self._deliver, name="mqtt", daemon=True)
        self._client.loop_start()
        self._thread.start()

    # The callbacks run in paho's thread.  The additional arguments of paho 2.x are not needed.

    def _on_connect(
        self, client: "Client", userdata: object, flags: object, code: "Union[int, ReasonCode]", *rest: object
    ) -> None:
        from paho.mqtt.client import connack_string

        if self._closed:
            client.disconnect()
            return
        self._refused = code != 0
        if self._refused:
            self._outage.begin("refuses the connection ({}); {}".format(connack_string(code), self._waiting), "refused")
            return
        self._since = time.monotonic()
        if self._short < MOST_SHORT:
            self._outage.end("is connected")
        self._retained.send_again()
        self._connected = True
        self._news.put(None)

    def _on_connect_fail(self, client: "Client", userdata: object) -> None:
        # paho calls this in its exception handler.
        error = sys.exc_info()[1]
        kind = "encryption" if isinstance(error, ssl.SSLError) else "away"
        self._outage.begin(self._text("cannot be reached ({})".format(error), self._hint(error)), kind)

    def _on_disconnect(self, client: "Client", userdata: object, *rest: object) -> None:
        code = str(rest[1] if len(rest) > 1 else rest[0])  # 2.x: the flags come first
        if self._closed:
            pass
        elif self._connected:
            self._log_lost_connection()
        elif code in ("16", "Keep alive timeout"):
            self._outage.begin("does not answer; {}".format(self._waiting), "away")
        elif not self._refused:
            text = "closes the connection ({})".format(self._error or "no reason given")
            self._outage.begin(self._text(text, self._hint()), "closed")
        self._connected = self._refused = False
        self._error = ""
        self._gone.set()

    def _text(self, trouble: str, hint: str) -> str:
        return "{}{}; {}".format(trouble, ": " + hint if hint else "", self._waiting)

    def _log_lost_connection(self) -> None:
        """Log that the broker ended an accepted connection."""
        self._short = self._short + 1 if time.monotonic() - self._since < SHORT_S else 0
        if self._short < MOST_SHORT:
            self._outage.begin("ended the connection; {}".format(self._waiting), "away")
        else:
            # MQTT 3.1.1 has no answer for missing permissions.
            topic = "may this user publish to {0} and {0}/state?".format(self._topic)
            self._outage.begin(self._text("ends each connection soon after accepting it", topic), "ended")

    def _on_log(self, client: "Client", userdata: object, level: object, text: str) -> None:
        if text.startswith(RECEIVE_FAILED):
            self._error = text[len(RECEIVE_FAILED) :]

    def _on_publish(self, client: "Client", userdata: object, number: int, *rest: object) -> None:
        if self._outage.lasts and time.monotonic() - self._since >= SHORT_S:
            self._outage.end("is connected")
        self._news.put(number)

    def write(self, item: "StreamResult") -> None:
        result, captured = item.result, item.frame.captured
        # With the reason: a strange image does not wait because an unclear one came just before it.
        kind = (result.label, result.rejected, result.reason)
        if captured < self._due.get(kind, captured):
            return
        self._due[kind] = captured + self._every_s
        self._append(item.to_json())

    def label_event(self, event: "LabelEvent") -> None:
        if self._home is not None:
            self._retain(self._home.take(event, self._topic))
        self._append(event.to_json())

    def _append(self, line: str) -> None:
        # A broker may accept connections and never answer, and paho before 1.6 does not report failures to connect.
        if not self._connected and time.monotonic() >= self._answer_due:
            self._outage.begin("does not answer; {}".format(self._waiting), "away")
        self._spool.append(line.encode("utf-8"), self._wait)
        self._news.put(None)

    def event(self, event: "StreamEvent") -> None:
        # The state is retained: a later reader must see all that holds, or that all is well again.
        self._conditions.take(event)
        state = (self._conditions.worst or event._replace(state="live")).to_dict()
        for subject in (BACKEND, HEALTH):
            latest = self._conditions.get(subject)
            if latest is not None:
                state[subject] = latest._replace(origin=NOWHERE).to_dict()
        self._set_state(json.dumps(state))

    def _set_state(self, state: str) -> None:
        self._retain({self._topic + "/state": state})
        self._news.put(None)

    def _retain(self, payloads: Dict[str, Payload]) -> None:
        for topic, payload in payloads.items():
            self._retained.set(topic, payload)

    def _deliver(self) -> None:
        """Send what is due, and the next part once the broker has acknowledged it all, until the sink is closed."""
        waiting: Set[int] = set()
        while self._left_s() != 0:
            try:
                waiting.discard(self._news.get(timeout=self._left_s()))
            except queue.Empty:
                break
            # After an interruption paho sends unacknowledged messages again; new ones must not overtake them.
            if self._connected and not waiting:
                waiting = self._send()
                if self._deadline is not None and not waiting:
                    break

    def _left_s(self) -> Optional[float]:
        return None if self._deadline is None else max(self._deadline - time.monotonic(), 0)

    def _send(self) -> Set[int]:
        """Send what is retained and the oldest results in the spool; returns the messages' numbers."""
        if self._taken:
            self._spool.discard()
            self._progress.set()
        lines = self._spool.take()
        self._taken = bool(lines)
        topics = [self._topic + "/event" if line.startswith(EVENT_START) else self._topic for line in lines]
        sent = zip(topics, lines)
        return self._send_retained() | {self._client.publish(topic, line, qos=1).mid for topic, line in sent}

    def _send_retained(self) -> Set[int]:
        due = self._retained.take()
        return {self._client.publish(topic, payload, qos=1, retain=True).mid for topic, payload in due}

    def flush(self) -> None:
        left, until = len(self._spool), time.monotonic() + FLUSH_S
        while left and (self._connected or not self._outage.lasts) and time.monotonic() < until:
            self._progress.wait(0.1)
            self._progress.clear()
            if len(self._spool) != left:
                left, until = len(self._spool), time.monotonic() + FLUSH_S

    def close(self) -> None:
        if self._closed:
            return
        self._deadline = time.monotonic() + CLOSE_S
        self._set_state(self._offline)
        self._thread.join()
        self._closed = True
        if self._connected:
            self._send_retained()
        self._gone.clear()
        if self._client.disconnect() == 0:
            self._gone.wait(max(self._left_s() or 0.0, 0.1))
        self._spool.close()
