"""Shows a real Home Assistant the entities of a stream, and checks their states.

    python3.12 -m venv HOME && HOME/bin/pip install homeassistant==2024.12.5 paho-mqtt==1.6.1
    python3 benchmarks/streams/home_assistant.py --home-assistant HOME/bin/python [--json]

Method: a mosquitto, and Home Assistant itself with its MQTT integration and nothing else set up, both on the loopback; at its
first start it installs what its web page needs by pip.  Then ``MqttSink`` sends what a run with ``--home-assistant`` sends: labels
with quotes, braces and emoji among them come and go, and the camera is lost.  Home Assistant's own states are compared with what
was sent, and the time from the sink's start to the last entity's first state is measured.

Exit codes: 0 all states are right, and the entities were there within 5 seconds; 3 not.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[2] / "deploy")]

from edgeclf_runtime.images.frame import Frame  # noqa: E402
from edgeclf_runtime.results import ENDED_LEFT, EventEnd, LabelEvent, Origin, StreamEvent  # noqa: E402
from edgeclf_runtime.sinks.mqtt.home_assistant import HomeAssistant  # noqa: E402
from edgeclf_runtime.sinks.mqtt.sink import MqttSink  # noqa: E402
from tests.support.brokers import Broker  # noqa: E402

LABELS = ("cat", 'say "hi" \\ {{ }} {% x %}', "\u732b \U0001f600", "on/off+#", "it's")
MOST_S = 5.0
# Prints a JSON line for each change of a state, and one twenty times a second: time, entity, state, name.
_CHILD = """
import asyncio, json, sys, time
from homeassistant import bootstrap, runner

async def main():
    hass = await bootstrap.async_setup_hass(runner.RuntimeConfig(config_dir=sys.argv[1], skip_pip=False))
    await hass.async_start()
    seen = {}
    print(json.dumps(["started"]), flush=True)
    while True:
        for one in hass.states.async_all():
            if seen.get(one.entity_id) != one.state:
                seen[one.entity_id] = one.state
                print(json.dumps([time.time(), one.entity_id, one.state, one.name]), flush=True)
        print(json.dumps([time.time(), "", "", ""]), flush=True)
        await asyncio.sleep(0.05)

asyncio.run(main())
"""


def main() -> None:
    """Start the three programs, send events, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home-assistant", required=True, metavar="PYTHON", help="interpreter with Home Assistant")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        broker = Broker(folder)
        _configure(folder / "config", broker.port)
        command = [arguments.home_assistant, "-c", _CHILD, str(folder / "config")]
        home = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            report = _show(_lines(home), broker.port, str(folder / "spool"))
        finally:
            for process in (home, broker.process):
                process.kill()
                process.wait()
    if arguments.json:
        print(json.dumps(report))
    else:
        print(f"entities: {report['entities']}, all there after {report['seconds']:.2f} s ({MOST_S:g} allowed)")
        print("\n".join(report["wrong"]) or "every state is right")
    raise SystemExit(3 if report["wrong"] or report["seconds"] > MOST_S else 0)


def _configure(folder: Path, port: int) -> None:
    """Write a configuration of Home Assistant as its own dialog for MQTT leaves it."""
    (folder / ".storage").mkdir(parents=True)
    (folder / "configuration.yaml").write_text("")
    moment = "2024-12-01T00:00:00+00:00"
    entry: dict[str, Any] = dict.fromkeys(("disabled_by", "unique_id"))
    entry |= dict.fromkeys(("pref_disable_new_entities", "pref_disable_polling"), False)
    entry |= {"created_at": moment, "modified_at": moment, "discovery_keys": {}, "options": {}, "source": "user"}
    entry |= {"domain": "mqtt", "entry_id": "broker", "title": "broker", "version": 1, "minor_version": 2}
    entry["data"] = {"broker": "127.0.0.1", "port": port, "discovery": True}
    facts = {"version": 1, "minor_version": 4, "key": "core.config_entries", "data": {"entries": [entry]}}
    (folder / ".storage" / "core.config_entries").write_text(json.dumps(facts))


def _lines(home: subprocess.Popen[str]) -> Iterator[list[Any]]:
    assert home.stdout
    for line in home.stdout:
        yield json.loads(line)


def _show(lines: Iterator[list[Any]], port: int, spool: str) -> dict[str, Any]:
    """Send events once Home Assistant has started, and compare its states after each."""
    next(lines)
    states: dict[str, str] = {}
    wrong: list[str] = []

    def wait(what: str, right: Callable[[], bool]) -> float:
        """Read states until they are right; return the time of the last one."""
        at = changed = time.time()
        until = at + 2 * MOST_S
        while not right() and at < until:
            at, entity, state, name = next(lines)
            if entity:
                states[name if entity.startswith("binary") else entity] = state
                changed = at
        if not right():
            wrong.append(f"{what}: {states}")
        return changed

    names = [f"line 4 {label}" for label in LABELS]
    sensor, picture, problem = "sensor.line_4_label", "image.line_4_latest_event", "line 4 Problem"
    start = time.time()
    home = HomeAssistant(LABELS, Origin(device="line 4"), "pets")
    with MqttSink(f"mqtt://127.0.0.1:{port}/line/4", spool=spool, home=home) as sink:
        first = {**dict.fromkeys((*names, problem), "off"), sensor: "none", picture: "unknown"}
        at = wait("at the start", lambda: all(states.get(name) == state for name, state in first.items()))
        for label, name in zip(LABELS, names, strict=True):
            event = _event(label)
            sink.label_event(event)
            there = {name: "on", sensor: label}
            wait(f"{label} came", lambda there=there: there.items() <= states.items() and states[picture] < "3")
            sink.label_event(event._replace(end=EventEnd(ENDED_LEFT, event.started_at + 2, 2.0)))
            gone = {name: "off", sensor: "none"}
            wait(f"{label} went", lambda gone=gone: gone.items() <= states.items())
        sink.event(StreamEvent("lost", "no frame for 3 s", time.time()))
        lost = {**dict.fromkeys((*names, sensor, picture), "unavailable"), problem: "on"}
        wait("the camera is lost", lambda: lost.items() <= states.items())
    wait("the program has ended", lambda: states[problem] == "unavailable")
    return {"entities": len(names) + 3, "seconds": at - start, "wrong": wrong}


def _event(label: str) -> LabelEvent:
    moment = time.time()
    image = np.full((480, 640, 3), 90, np.uint8)
    frame = Frame(image, 1, moment, time.monotonic(), 0.0, "")
    return LabelEvent(str(moment), label, moment, 1, None, 0.9, frame, 16)


if __name__ == "__main__":
    main()
