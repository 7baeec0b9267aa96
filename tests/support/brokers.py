"""A real MQTT broker on the loopback, and somebody who listens to it."""

import json
import os
import queue
import shutil
import signal
import socket
import subprocess

import pytest

from tests.support.waiting import WAIT_S, wait_until


class Broker:
    """Debian's mosquitto; it keeps subscriptions and what their owners have not heard yet, over a restart too."""

    def __init__(self, folder, *options):
        program = shutil.which("mosquitto", path=os.environ["PATH"] + ":/usr/sbin")
        if not program:
            pytest.skip("mosquitto is not installed (sudo apt-get install mosquitto)")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._folder = folder
        config = folder / "mosquitto.conf"
        lines = [f"listener {self.port} 127.0.0.1", "persistence true", f"persistence_location {folder}/"]
        lines += ["max_queued_messages 0", "user root"] if os.getuid() == 0 else ["max_queued_messages 0"]
        config.write_text("\n".join([*lines, *(options or ["allow_anonymous true"])]) + "\n")
        self._command = [program, "-c", str(config)]
        self.start()

    def start(self):
        self.process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(self._answers)

    def _answers(self):
        assert self.process.poll() is None, "mosquitto did not start"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self):
        self.process.terminate()
        self.process.wait(WAIT_S)

    def freeze(self):
        """Have it write down who listens, and do nothing more."""
        self.process.send_signal(signal.SIGUSR1)
        wait_until((self._folder / "mosquitto.db").exists)
        self.process.send_signal(signal.SIGSTOP)

    def kill(self):
        self.process.kill()
        self.process.wait(WAIT_S)


class Listener:
    """Hears every message of a broker, those that came while it was cut off too."""

    def __init__(self, port, name="listener"):
        mqtt = pytest.importorskip("paho.mqtt.client", reason="paho-mqtt is not installed")
        versions = getattr(mqtt, "CallbackAPIVersion", None)
        options = {"callback_api_version": versions.VERSION2} if versions else {}
        self._client = mqtt.Client(client_id=name, clean_session=False, **options)
        self._messages: queue.Queue = queue.Queue()
        subscribed: queue.Queue = queue.Queue()
        self._client.on_connect = lambda client, *rest: client.subscribe("#", qos=1)
        self._client.on_subscribe = lambda *rest: subscribed.put(True)
        self._client.on_message = lambda client, userdata, message: self._messages.put(message)
        self._client.reconnect_delay_set(1, 1)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        subscribed.get(timeout=WAIT_S)

    def next(self, topic):
        """The next message's object under a topic; those of other topics before it are passed over."""
        return json.loads(self.next_bytes(topic).decode("utf-8"))

    def next_bytes(self, topic):
        """The same for a message that is not JSON."""
        while True:
            message = self._messages.get(timeout=WAIT_S)
            if message.topic == topic:
                return message.payload

    def several(self, start, count):
        """The objects of the next messages under topics with this start, by topic."""
        found = {}
        while len(found) < count:
            message = self._messages.get(timeout=WAIT_S)
            if message.topic.startswith(start):
                found[message.topic] = json.loads(message.payload.decode("utf-8"))
        return found

    def frames_until(self, last, topic="line/4"):
        """The numbers of the frames that came, up to the ``last``."""
        found = [self.next(topic)["frame"]]
        while found[-1] != last:
            found.append(self.next(topic)["frame"])
        return found

    def close(self):
        self._client.disconnect()
        self._client.loop_stop()
