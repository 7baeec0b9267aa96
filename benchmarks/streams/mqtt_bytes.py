"""Counts the bytes of MQTT for an hour of a still scene: a message for each frame, compared with events.

    python3 benchmarks/streams/mqtt_bytes.py

Method: a relay in front of a real mosquitto counts the bytes in both directions, MQTT's own acknowledgments included; TCP's
headers are not.  The results of an hour at 30 frames a second, one label whose confidence is noisy, go through
the sinks that `run --sink mqtt://...` opens, without and with `--event '*'`, as fast as the broker takes them.  Keeping a
connection alive costs bytes by the clock: these are counted for a minute in which nothing is published, and multiplied by 60.

Needs mosquitto and paho-mqtt.  Run it from the repository's root.
"""

import argparse
import contextlib
import json
import pathlib
import socket
import sys
import tempfile
import threading
import time

import numpy as np

sys.path[:0] = [str(pathlib.Path(__file__).parents[2]), str(pathlib.Path(__file__).parents[2] / "deploy")]

from edgeclf_runtime.classify.decision import Decider  # noqa: E402
from edgeclf_runtime.classify.rejection import Rejection  # noqa: E402
from edgeclf_runtime.commands.bench import machine_facts  # noqa: E402
from edgeclf_runtime.images.frame import Frame  # noqa: E402
from edgeclf_runtime.results import Origin, Result, StreamResult  # noqa: E402
from edgeclf_runtime.sinks import open_sink  # noqa: E402
from edgeclf_runtime.sinks.sparse import SparseSink  # noqa: E402
from edgeclf_runtime.streaming.event_rules import parse_rule  # noqa: E402
from edgeclf_runtime.streaming.label_events import LabelEvents  # noqa: E402
from tests.support.brokers import Broker  # noqa: E402

RATE = 30
LABELS = ["defective", "functional"]
PICTURE = np.zeros((8, 8, 3), np.uint8)


class Relay:
    """A port that passes everything on to the broker, and its answers back, and counts the bytes."""

    def __init__(self, port):
        self._target, self.bytes = port, 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            client, _ = self._listener.accept()
            server = socket.create_connection(("127.0.0.1", self._target))
            for ends in ((client, server), (server, client)):
                threading.Thread(target=self._pass_on, args=ends, daemon=True).start()

    def _pass_on(self, source, target):
        with contextlib.suppress(OSError):
            while True:
                data = source.recv(1 << 16)
                self.bytes += len(data)
                target.sendall(data)
                if not data:
                    target.shutdown(socket.SHUT_WR)
                    return


def results(count):
    """Yield the results of a still scene: one label, a noisy confidence."""
    chance = np.random.RandomState(0)
    decider, origin = Decider(LABELS, 5), Origin("34849e8686b8", "rtsp://10.0.0.7/stream1", "line 4")
    for number in range(count):
        first = float(np.clip(0.93 + 0.03 * chance.standard_normal(), 0.6, 0.999))
        confidences = np.array([1 - first, first])
        decision = decider.decide(confidences, 1, Rejection(0.0), None)
        timings = {"preprocess": 0.455, "inference": 3.852, "postprocess": 0.268}
        fields = dict(decision._asdict(), confidences=confidences, model="int8-cpu", backend="onnxruntime")
        frame = Frame(PICTURE, number, 1.8e9 + number / RATE, number / RATE, 0.49, "")
        yield StreamResult(frame, Result(timings_ms=timings, **fields), 4.62, 0, origin)


def bytes_of(port, folder, count, events):
    """Return the bytes of this many results, and of the connection's begin and end."""
    relay = Relay(port)
    sink = open_sink(f"mqtt://127.0.0.1:{relay.port}/line/4", spool=folder, wait=True)
    if events is not None:
        sink = SparseSink(sink, None, "latest")
    with sink:
        for item in results(count):
            sink.write(item)
            for event in events.take(item, item.frame.captured) if events else ():
                sink.label_event(event)
        for event in events.end("stopped") if events else ():
            sink.label_event(event)
    if sink.lost:
        raise SystemExit(f"{sink.lost} results were lost")
    return relay.bytes


def idle_bytes(port, folder, idle_s):
    """Return the bytes of a connection that is only kept alive, in this time."""
    relay = Relay(port)
    with open_sink(f"mqtt://127.0.0.1:{relay.port}/line/4", spool=folder):
        time.sleep(2)  # until it is connected
        before = relay.bytes
        time.sleep(idle_s)
        return relay.bytes - before


def main():
    """Measure and print the bytes for an hour."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60, help="of the stream (default: 60)")
    parser.add_argument("--idle", type=float, default=60, metavar="S", help="seconds without messages (default: 60)")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    count = int(arguments.minutes * 60 * RATE)
    with tempfile.TemporaryDirectory() as folder:
        broker = Broker(pathlib.Path(folder))
        try:
            events = LabelEvents([parse_rule("*")], LABELS)
            found = {"frames": bytes_of(broker.port, folder + "/a", count, None)}
            found["events"] = bytes_of(broker.port, folder + "/b", count, events)
            found["alive"] = idle_bytes(broker.port, folder + "/c", arguments.idle) * 3600 / arguments.idle
        finally:
            broker.kill()
    hours = arguments.minutes / 60
    way = {name: (found[name] / hours) + found["alive"] for name in ("frames", "events")}
    way["share"] = way["events"] / way["frames"]
    if arguments.json:
        print(json.dumps(dict(way, alive=found["alive"], machine=machine_facts())))
        return
    print(f"a message for each frame  {way['frames'] / 1e6:10.2f} MB an hour")
    print(
        f"events                    {way['events'] / 1e6:10.4f} MB an hour, {found['alive'] / 1e6:.4f} of them to stay connected"
    )
    print(f"share                     {way['share']:10.3%}")


if __name__ == "__main__":
    main()
