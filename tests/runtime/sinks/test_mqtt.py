import os
import shutil
import signal
import socket
import subprocess
import sys

import pytest

from edgeclf_runtime.errors import DependencyError, OutputError
from edgeclf_runtime.results import Origin, StreamEvent
from edgeclf_runtime.sinks import open_sink
from edgeclf_runtime.sinks.mqtt import sink as mqtt
from edgeclf_runtime.sinks.mqtt.sink import MqttSink, default_spool, parse_address
from tests.support.brokers import WAIT_S, Broker, Listener
from tests.support.results import LOST, came, result, went
from tests.support.waiting import wait_until

# A separate program that writes results and then waits to be killed.
PROGRAM = """
import sys, time
from edgeclf_runtime.sinks.mqtt.sink import MqttSink
from tests.support.results import result
sink = MqttSink(sys.argv[1], spool=sys.argv[2])
for number in range(int(sys.argv[3])):
    sink.write(result(number))
print("written", flush=True)
time.sleep(600)
"""


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(mqtt, "RETRY_S", (1, 1))


@pytest.fixture
def broker(tmp_path):
    pytest.importorskip("paho.mqtt.client", reason="paho-mqtt is not installed")
    (tmp_path / "broker").mkdir()
    started = Broker(tmp_path / "broker")
    yield started
    started.process.kill()
    started.process.wait(WAIT_S)


@pytest.fixture
def listener(broker):
    opened = Listener(broker.port)
    yield opened
    opened.close()


@pytest.fixture
def connect(broker, tmp_path):
    """Open a sink for the broker, with a spool in the test's folder."""
    opened = []

    def connect(**options):
        address = f"mqtt://127.0.0.1:{broker.port}/line/4"
        opened.append(open_sink(address, **dict({"spool": tmp_path / "spool"}, **options)))
        return opened[-1]

    yield connect
    for sink in opened:
        sink.close()


def write(sink, start, stop):
    for number in range(start, stop):
        sink.write(result(number))


def parts(tmp_path):
    return [name for name in os.listdir(str(tmp_path / "spool")) if name.endswith(".part")]


def start_program(port, spool, count):
    """Start PROGRAM and wait until it has written its results."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, f"mqtt://127.0.0.1:{port}/line/4", str(spool), str(count)],
        env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout.readline() == b"written\n"
    return process


def end_program(process):
    process.kill()
    process.stdout.close()
    process.wait(WAIT_S)


def test_each_result_arrives_as_its_json_line_and_leaves_the_spool(connect, listener, tmp_path):
    with connect() as sink:
        sink.write(result(0, label="T\u00fcr"))
        assert listener.next("line/4") == result(0, label="T\u00fcr").to_dict()
        write(sink, 1, 200)
        assert listener.frames_until(199) == list(range(1, 200))
        wait_until(lambda: parts(tmp_path) == [])
    assert sink.lost == 0


def test_events_of_labels_have_a_topic_of_their_own_also_from_the_spool_of_an_earlier_program(
    connect, listener, broker
):
    with connect() as sink:
        sink.label_event(came(3))
        assert listener.next("line/4/event") == came(3).to_dict()
    broker.stop()
    with connect() as sink:
        sink.write(result(4))
        sink.label_event(went(3))
    broker.start()
    with connect():
        assert listener.next("line/4") == result(4).to_dict()
        assert listener.next("line/4/event") == went(3).to_dict()


def test_the_cameras_state_is_retained_and_offline_at_the_end(connect, listener, broker):
    with connect() as sink:
        assert listener.next("line/4/state")["state"] == "live"
        sink.event(LOST)
        assert listener.next("line/4/state") == LOST.to_dict()
        late = Listener(broker.port, "late")
        assert late.next("line/4/state") == LOST.to_dict()
        late.close()
    late = Listener(broker.port, "later")
    assert late.next("line/4/state")["state"] == "offline"
    late.close()


def test_the_state_is_live_again_once_the_better_backend_is_back(connect, listener):
    with connect() as sink:
        listener.next("line/4/state")
        for state, shown in (("degraded", "degraded"), ("restored", "live")):
            event = StreamEvent(state, "another backend", 0.0)
            sink.event(event)
            assert listener.next("line/4/state") == dict(event._replace(state=shown).to_dict(), backend=event.to_dict())


def test_the_retained_state_is_all_that_holds_and_none_hides_another(connect, listener, broker):
    slower = StreamEvent("degraded", "int8 failed", 1.0)
    dark = StreamEvent("changed", "it got dark", 2.0, verdicts=("dark",))
    well = StreamEvent("normal", "as in training", 4.0)
    back = StreamEvent("restored", "int8 again", 6.0)
    expected = [  # each event, and the one that the state shows then
        (slower, slower),
        (dark, dark),
        (LOST, LOST),
        (StreamEvent("live", "back after 1.0 s", 3.0), dark),
        (well, slower),
        (StreamEvent("live", "1280x720", 5.0), slower),
        (back, back._replace(state="live")),
    ]
    with connect() as sink:
        listener.next("line/4/state")
        for event, shown in expected:
            sink.event(event)
            state = listener.next("line/4/state")
            assert shown.to_dict().items() <= state.items()
        assert (state["backend"], state["health"]) == (back.to_dict(), well.to_dict())
        late = Listener(broker.port, "late")
        assert late.next("line/4/state") == state
        late.close()


def test_a_result_says_why_it_is_unknown_and_another_reason_does_not_wait(connect, listener):
    unclear = result(0, label="unknown", candidate="cat")
    strange = result(1, label="unknown", candidate="cat")
    unclear = unclear._replace(
        result=unclear.result._replace(reason="confidence", distance=1.5, label_set=("cat", "dog"))
    )
    strange = strange._replace(result=strange.result._replace(reason="distance", distance=6.25, label_set=()))
    with connect(every_s=60.0) as sink:
        for item in (unclear, strange, unclear):
            sink.write(item)
        found = [listener.next("line/4") for _ in range(2)]
        sink.write(result(3, label="end"))
        found.append(listener.next("line/4"))
    assert [(line["label"], line.get("reason")) for line in found] == [
        ("unknown", "confidence"),
        ("unknown", "distance"),
        ("end", None),
    ]
    assert [(line["distance"], line["label_set"]) for line in found[:2]] == [(1.5, ["cat", "dog"]), (6.25, [])]


def test_every_message_names_bundle_source_and_device(connect, listener):
    origin = Origin("0123456789ab", "csi://0", "line 4")
    with connect(origin=origin) as sink:
        found = [listener.next("line/4/state")]
        sink.write(result(0)._replace(origin=origin))
        found.append(listener.next("line/4"))
        sink.event(LOST._replace(origin=origin))
        found.append(listener.next("line/4/state"))
    found.append(listener.next("line/4/state"))
    assert [message["state"] for message in found] == ["live", "live", "lost", "offline"]
    assert all(origin.to_dict().items() <= message.items() for message in found)


def test_a_program_that_is_killed_is_offline(listener, broker, tmp_path):
    process = start_program(broker.port, tmp_path / "spool", 1)
    assert listener.next("line/4/state")["state"] == "live"
    end_program(process)
    assert listener.next("line/4/state")["state"] == "offline"


@pytest.mark.slow
def test_a_broker_that_comes_late_gets_everything_in_order(connect, listener, broker, tmp_path, caplog):
    broker.stop()
    sink = connect()
    write(sink, 0, 300)
    wait_until(lambda: caplog.messages)
    assert len(parts(tmp_path)) > 1
    broker.start()
    assert listener.frames_until(299) == list(range(300))
    assert len(caplog.messages) == 2
    assert f"the MQTT broker at 127.0.0.1:{broker.port}: cannot be reached (" in caplog.messages[0]
    assert f"results wait in {tmp_path / 'spool'}" in caplog.messages[0]
    assert caplog.messages[1].endswith("is connected")


@pytest.mark.slow
def test_a_broker_that_is_killed_gets_what_it_had_not_acknowledged_in_order(connect, listener, broker, caplog):
    sink = connect()
    write(sink, 0, 20)
    assert listener.frames_until(19) == list(range(20))
    broker.freeze()
    write(sink, 20, 400)
    broker.kill()
    write(sink, 400, 500)
    wait_until(lambda: caplog.messages)
    broker.start()
    # The broker itself repeats what the listener had not acknowledged yet.
    assert [number for number in listener.frames_until(499) if number >= 20] == list(range(20, 500))
    assert sink.lost == 0
    assert "ended the connection; results wait in" in caplog.messages[0]


@pytest.mark.slow
def test_a_broker_that_restarts_in_the_middle_of_the_stream_misses_nothing(connect, listener, broker):
    sink = connect()
    write(sink, 0, 400)
    broker.stop()
    write(sink, 400, 500)
    broker.start()
    # Unacknowledged messages may arrive twice, but always in order.
    assert list(dict.fromkeys(listener.frames_until(499))) == list(range(500))


@pytest.mark.slow
def test_a_broker_that_never_answers_is_told(tmp_path, caplog, monkeypatch):
    pytest.importorskip("paho.mqtt.client", reason="paho-mqtt is not installed")
    monkeypatch.setattr(mqtt, "ANSWER_S", 0)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(1)
        with MqttSink(f"mqtt://127.0.0.1:{silent.getsockname()[1]}/t", spool=tmp_path / "spool") as sink:
            write(sink, 0, 2)
    assert len(caplog.messages) == 1
    assert "does not answer; results wait in" in caplog.text


@pytest.mark.slow
def test_what_was_not_delivered_is_by_the_next_start_of_the_program(connect, listener, broker):
    broker.stop()
    with connect() as sink:
        write(sink, 0, 120)
    broker.start()
    with connect() as sink:
        write(sink, 120, 130)
        assert listener.frames_until(129) == list(range(130))


@pytest.mark.slow
def test_a_program_that_is_killed_loses_nothing_that_it_had_written(connect, listener, broker, tmp_path):
    broker.stop()
    end_program(start_program(broker.port, tmp_path / "spool", 120))
    broker.start()
    connect()
    assert listener.frames_until(119) == list(range(120))


@pytest.mark.slow
def test_only_what_the_broker_acknowledged_leaves_the_spool(connect, listener, broker, tmp_path):
    sink = connect()
    write(sink, 0, 1)
    assert listener.frames_until(0) == [0]
    wait_until(lambda: parts(tmp_path) == [])
    broker.freeze()
    write(sink, 1, 100)
    sink.close()  # neither of them waits for the broker
    assert parts(tmp_path)
    broker.process.send_signal(signal.SIGCONT)
    with connect():
        assert set(listener.frames_until(99)) == set(range(1, 100))


def test_a_short_run_is_delivered_before_it_ends(connect, listener):
    with connect() as sink:
        write(sink, 0, 3)
    assert listener.frames_until(2) == [0, 1, 2]


@pytest.mark.slow
def test_when_the_spool_is_full_the_oldest_results_are_lost_and_counted(connect, listener, broker):
    broker.stop()
    sink = connect(max_bytes=40_000)
    write(sink, 0, 500)
    broker.start()
    found = listener.frames_until(499)
    assert found == list(range(500 - len(found), 500))
    assert sink.lost == 500 - len(found) > 0


def test_results_of_one_label_keep_their_distance(connect, listener):
    with connect(every_s=1.0) as sink:
        for number in range(30):  # three seconds
            sink.write(result(number, label="cat" if number % 10 else "dog"))
    found = [listener.next("line/4") for _ in range(6)]
    assert [(line["frame"], line["label"]) for line in found] == [
        (0, "dog"),
        (1, "cat"),
        (10, "dog"),
        (11, "cat"),
        (20, "dog"),
        (21, "cat"),
    ]
    assert sink.lost == 0


@pytest.fixture
def closed_broker(tmp_path):
    """A broker that requires a password."""
    pytest.importorskip("paho.mqtt.client", reason="paho-mqtt is not installed")
    (tmp_path / "broker").mkdir()
    users = tmp_path / "broker" / "users"
    if not shutil.which("mosquitto_passwd"):
        pytest.skip("mosquitto_passwd is not installed (sudo apt-get install mosquitto)")
    subprocess.check_call(["mosquitto_passwd", "-c", "-b", str(users), "me", "s:cret"], stderr=subprocess.DEVNULL)
    started = Broker(tmp_path / "broker", "allow_anonymous false", f"password_file {users}")
    yield started
    started.process.kill()
    started.process.wait(WAIT_S)


@pytest.mark.slow
def test_a_wrong_password_is_told_and_a_right_one_taken(closed_broker, tmp_path, caplog, monkeypatch):
    with MqttSink(f"mqtt://me:gue%21ss@127.0.0.1:{closed_broker.port}/t", spool=tmp_path / "spool") as sink:
        sink.write(result())
        wait_until(lambda: caplog.messages)
    assert len(caplog.messages) == 1
    assert "refuses the connection (" in caplog.text
    assert "uthori" in caplog.text
    assert "gue" not in caplog.text
    assert parts(tmp_path)
    monkeypatch.setenv("EDGECLF_MQTT_PASSWORD", "s:cret")
    for address in ("mqtt://me:s%3Acret@127.0.0.1:{}/t", "mqtt://me@127.0.0.1:{}/t"):
        with MqttSink(address.format(closed_broker.port), spool=tmp_path / "spool") as sink:
            sink.write(result())
            wait_until(lambda: parts(tmp_path) == [])


@pytest.mark.slow
def test_tls_is_spoken_with_a_broker_that_can_be_trusted(tmp_path, monkeypatch, caplog):
    pytest.importorskip("paho.mqtt.client", reason="paho-mqtt is not installed")
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    (tmp_path / "broker").mkdir()
    key, certificate = str(tmp_path / "key.pem"), str(tmp_path / "certificate.pem")
    make = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    subprocess.check_call([*make.split(), "-keyout", key, "-out", certificate], stderr=subprocess.DEVNULL)
    broker = Broker(tmp_path / "broker", "allow_anonymous true", f"keyfile {key}", f"certfile {certificate}")
    try:
        address = f"mqtts://localhost:{broker.port}/t"
        with MqttSink(address, spool=tmp_path / "spool") as sink:
            sink.write(result())
            wait_until(lambda: caplog.messages)
        assert "cannot be reached" in caplog.messages[0]
        assert "certificate verify failed" in caplog.messages[0]
        assert parts(tmp_path)
        monkeypatch.setenv("SSL_CERT_FILE", certificate)
        with MqttSink(address, spool=tmp_path / "spool"):
            wait_until(lambda: parts(tmp_path) == [])
    finally:
        broker.process.kill()
        broker.process.wait(WAIT_S)


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("mqtt://host", "it does not have this form"),
        ("mqtt://host/", "it does not have this form"),
        ("mqtt:///topic", "it does not have this form"),
        ("mqtt://host:port/topic", "it does not have this form"),
        ("mqtt://host:70000/topic", "a port is a number from 1 to 65535"),
        ("mqtt://host/all/#", "a topic for publishing must not contain [+] or #"),
        ("mqtt://host/+/state", "a topic for publishing must not contain [+] or #"),
        ("mqtt://a..b/topic", "the host name is not valid"),
    ],
)
def test_a_wrong_address_is_told_what_is_wrong(address, reason):
    with pytest.raises(OutputError, match=reason + r"; expected mqtt://\[USER"):
        open_sink(address)


def test_a_password_is_not_repeated_in_an_error():
    with pytest.raises(OutputError) as caught:
        open_sink("mqtt://me:s:cret@host:x/topic")
    assert "cret" not in str(caught.value)


def test_an_address_has_its_parts_and_the_usual_ports():
    parts = parse_address("mqtt://me:a%2Fb@[::1]/line 4/x")
    assert parts == {
        "scheme": "mqtt",
        "user": "me",
        "password": "a/b",
        "host": "::1",
        "port": 1883,
        "topic": "line 4/x",
    }
    assert parse_address("mqtts://host/t")["port"] == 8883
    assert parse_address("mqtt://host:99/t")["port"] == 99


def test_each_broker_and_topic_has_a_spool_of_its_own(monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", "/var/state")
    assert default_spool(parse_address("mqtt://host/a/b")) == "/var/state/edgeclf/mqtt/host%3A1883%2Fa%2Fb"
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert default_spool(parse_address("mqtt://host/t")).startswith("/home/me/.local/state/edgeclf/mqtt/")


def test_without_paho_the_error_names_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "paho.mqtt.client", None)
    with pytest.raises(DependencyError, match=r"MQTT needs paho-mqtt.*-m pip install paho-mqtt"):
        open_sink("mqtt://host/topic")


def test_the_last_will_is_an_object_as_every_state_is():
    assert mqtt.OFFLINE["state"] == "offline"
