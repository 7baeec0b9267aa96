"""MQTT with certificates, passwords and permissions, and several programs on one topic; uses a real mosquitto."""

import os
import shutil
import stat
import subprocess

import pytest

from edgeclf_runtime.errors import OptionError
from edgeclf_runtime.sinks import open_sink
from edgeclf_runtime.sinks.mqtt import sink as mqtt
from edgeclf_runtime.sinks.mqtt.client import Tls
from tests.runtime.sinks.test_mqtt import parts
from tests.support.brokers import WAIT_S, Broker, Listener
from tests.support.certificates import Signer
from tests.support.results import result
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    pytest.importorskip("paho.mqtt.client", reason="paho-mqtt is not installed")
    monkeypatch.setattr(mqtt, "RETRY_S", (1, 1))


@pytest.fixture
def start_broker(tmp_path):
    """Start a broker with these lines of configuration."""
    started = []

    def start(*lines):
        folder = tmp_path / f"broker {len(started)}"
        folder.mkdir()
        started.append(Broker(folder, *lines))
        return started[-1]

    yield start
    for broker in started:
        broker.process.kill()
        broker.process.wait(WAIT_S)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return Signer(tmp_path_factory.mktemp("certificates"), "root")


@pytest.fixture(scope="module")
def between(root):
    """An intermediate authority, certified by the root."""
    return root.sign("between", "authority")


@pytest.fixture(scope="module")
def server(between):
    return between.sign("server", "server")


@pytest.fixture(scope="module")
def client(between):
    return between.sign("client", "client")


def encrypted(server, *lines):
    return ("allow_anonymous true", f"keyfile {server.key}", f"certfile {server.chain}", "tls_version tlsv1.2", *lines)


def deliver(broker, tmp_path, host="localhost", **options):
    """Publish one result, and return when the broker has acknowledged it."""
    with open_sink(f"mqtts://{host}:{broker.port}/t", spool=tmp_path / "spool", **options) as sink:
        sink.write(result())
        wait_until(lambda: parts(tmp_path) == [])


def refused(broker, tmp_path, caplog, user="", scheme="mqtts", host="localhost", **options):
    """The first log message about a broker that accepts nothing."""
    with open_sink(f"{scheme}://{user}{host}:{broker.port}/t", spool=tmp_path / "spool", **options) as sink:
        sink.write(result())
        wait_until(lambda: caplog.messages)
        assert parts(tmp_path)
    return caplog.messages[0]


def test_an_authority_of_ones_own_is_trusted_and_no_other(start_broker, root, between, server, tmp_path, caplog):
    broker = start_broker(*encrypted(server))
    reason = refused(broker, tmp_path, caplog)
    assert "certificate verify failed" in reason
    assert "give its authority's certificate with --mqtt-ca" in reason
    for authority in (root, between, server):  # the root, the intermediate authority, and the certificate itself
        deliver(broker, tmp_path, tls=Tls(ca=authority.certificate))
    caplog.clear()
    other = Signer(tmp_path, "other")
    assert "certificate verify failed" in refused(broker, tmp_path, caplog, tls=Tls(ca=other.certificate))


def test_an_authority_as_old_recipes_make_it_is_trusted(start_broker, tmp_path):
    authority = Signer(tmp_path, "old", "old authority")
    broker = start_broker(*encrypted(authority.sign("server", "server")))
    deliver(broker, tmp_path, tls=Tls(ca=authority.certificate))


def test_a_certificate_of_another_host_is_refused(start_broker, root, server, tmp_path, caplog):
    broker = start_broker(*encrypted(server))
    reason = refused(broker, tmp_path, caplog, host="127.0.0.1", tls=Tls(ca=root.certificate))
    assert "cannot be reached (" in reason
    assert "127.0.0.1" in reason.partition("(")[2]


def test_a_client_shows_its_certificate_to_a_broker_that_asks(start_broker, root, server, client, tmp_path, caplog):
    broker = start_broker(*encrypted(server, f"cafile {root.certificate}", "require_certificate true"))
    reason = refused(broker, tmp_path, caplog, tls=Tls(ca=root.certificate))
    assert "closes the connection (" in reason or "cannot be reached (" in reason
    assert "does it require a client certificate (--mqtt-cert and --mqtt-key)?" in reason
    deliver(broker, tmp_path, tls=Tls(root.certificate, client.chain, client.key))


def test_a_clients_certificate_that_the_broker_does_not_trust_is_said(start_broker, root, server, tmp_path, caplog):
    broker = start_broker(*encrypted(server, f"cafile {root.certificate}", "require_certificate true"))
    mine = Signer(tmp_path, "mine").sign("client", "client")
    reason = refused(broker, tmp_path, caplog, tls=Tls(root.certificate, mine.certificate, mine.key))
    assert "does it trust the certificate given with --mqtt-cert?" in reason


@pytest.fixture
def closed_broker(start_broker, tmp_path):
    """A broker where "me" may publish under t, and "guest" may not publish."""
    users = tmp_path / "users"
    if not shutil.which("mosquitto_passwd"):
        pytest.skip("mosquitto_passwd is not installed (sudo apt-get install mosquitto)")
    for option, name in (("-c", "me"), ("-D", ""), ("", "guest")):
        if option != "-D":
            command = ["mosquitto_passwd", *([option] if option else []), "-b", str(users), name, "secret"]
            subprocess.check_call(command, stderr=subprocess.DEVNULL)
    (tmp_path / "acl").write_text("user me\ntopic readwrite t/#\ntopic readwrite t\n\nuser guest\ntopic read x\n")
    return start_broker("allow_anonymous false", f"password_file {users}", f"acl_file {tmp_path / 'acl'}")


@pytest.mark.parametrize("user", ["me:wrong@", "nobody:secret@", ""])
def test_a_broker_that_refuses_a_user_is_quoted(closed_broker, tmp_path, caplog, user):
    reason = refused(closed_broker, tmp_path, caplog, user, "mqtt")
    assert "refuses the connection (" in reason
    assert "uthori" in reason


def test_a_broker_that_ends_each_connection_for_a_missing_right_is_said_once(closed_broker, tmp_path, caplog):
    with open_sink(f"mqtt://guest:secret@127.0.0.1:{closed_broker.port}/t", spool=tmp_path / "spool") as sink:
        sink.write(result())
        wait_until(
            lambda: (
                "ends each connection soon after accepting it: may this user publish to t and t/state?" in caplog.text
            )
        )
        said = len(caplog.messages)
        connections = sink._short
        wait_until(lambda: sink._short > connections + 1)
        assert len(caplog.messages) == said


def test_a_broker_that_speaks_tls_only_is_guessed(start_broker, server, tmp_path, caplog):
    broker = start_broker(*encrypted(server))
    assert "does it expect TLS (mqtts://)?" in refused(broker, tmp_path, caplog, scheme="mqtt")


def test_a_broker_without_tls_is_said(start_broker, tmp_path, caplog):
    reason = refused(start_broker("allow_anonymous true"), tmp_path, caplog)
    assert "cannot be reached (" in reason
    assert "does it use TLS? Without TLS, the address is mqtt://" in reason


def test_a_host_without_an_address_is_said(tmp_path, caplog):
    with open_sink("mqtt://no-such-host.invalid/t", spool=tmp_path / "spool"):
        wait_until(lambda: caplog.messages)
    assert "the MQTT broker at no-such-host.invalid:1883: cannot be reached (" in caplog.messages[0]


def test_a_new_reason_is_said_and_an_old_one_not_again(closed_broker, tmp_path, caplog, monkeypatch):
    closed_broker.stop()
    with open_sink(f"mqtt://me:wrong@127.0.0.1:{closed_broker.port}/t", spool=tmp_path / "spool"):
        wait_until(lambda: caplog.messages)
        closed_broker.start()
        wait_until(lambda: len(caplog.messages) > 1)
        closed_broker.stop()
    assert ["cannot be reached" in message for message in caplog.messages] == [True, False]
    assert "refuses the connection" in caplog.messages[1]


@pytest.mark.parametrize(
    ("scheme", "tls", "reason"),
    [
        ("mqtt", {"ca": "root"}, "are for encrypted connections: use mqtts://host:8883/t"),
        ("mqtts", {"certificate": "client"}, "needs both --mqtt-cert and --mqtt-key"),
        ("mqtts", {"key": "client"}, "needs both --mqtt-cert and --mqtt-key"),
        ("mqtts", {"ca": "gone"}, "--mqtt-ca .*gone cannot be read"),
        ("mqtts", {"ca": "key"}, "--mqtt-ca .* contains no certificate in PEM"),
        ("mqtts", {"certificate": "root", "key": "client"}, "do not match"),
        ("mqtts", {"certificate": "client", "key": "root certificate"}, "--mqtt-key .* contains no private key"),
    ],
)
def test_files_that_cannot_be_used_are_refused_at_once(root, client, tmp_path, scheme, tls, reason):
    files = {"root": root.certificate, "gone": "/gone", "key": client.key, "root certificate": root.certificate}
    files["client"] = client.key if tls.get("key") == "client" else client.certificate
    if tls == {"certificate": "root", "key": "client"}:
        files["client"] = client.key
    with pytest.raises(OptionError, match=reason):
        open_sink(
            f"{scheme}://host/t", spool=tmp_path / "spool", tls=Tls(**{name: files[file] for name, file in tls.items()})
        )


def test_a_key_that_everybody_can_read_is_warned_of(client, tmp_path, caplog):
    shutil.copy(client.key, str(tmp_path / "key"))
    for mode, count in ((0o644, 1), (0o640, 0), (0o600, 0)):
        caplog.clear()
        os.chmod(str(tmp_path / "key"), mode)
        tls = Tls(certificate=client.certificate, key=str(tmp_path / "key"))
        open_sink("mqtts://no-such-host.invalid/t", spool=tmp_path / "spool", tls=tls).close()
        warnings = [message for message in caplog.messages if "can read the private key" in message]
        assert len(warnings) == count
    assert stat.S_IMODE(os.stat(client.key).st_mode) == 0o600


def test_two_programs_on_one_topic_both_deliver_everything(start_broker, tmp_path, monkeypatch):
    broker = start_broker("allow_anonymous true")
    listener = Listener(broker.port)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    address = f"mqtt://127.0.0.1:{broker.port}/line/4"
    with open_sink(address) as one, open_sink(address) as two:
        for number in range(50):
            one.write(result(number, label="one"))
            two.write(result(number, label="two"))
    found = [listener.next("line/4") for _ in range(100)]
    for label in ("one", "two"):
        assert [line["frame"] for line in found if line["label"] == label] == list(range(50))
    listener.close()


def test_what_one_of_two_programs_left_is_delivered_by_the_next(start_broker, tmp_path, monkeypatch):
    broker = start_broker("allow_anonymous true")
    listener = Listener(broker.port)
    broker.stop()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    address = f"mqtt://127.0.0.1:{broker.port}/line/4"
    with open_sink(address) as one, open_sink(address) as two:
        one.write(result(1))
        two.write(result(2))
    broker.start()
    with open_sink(address):
        assert sorted(listener.next("line/4")["frame"] for _ in range(2)) == [1, 2]
    listener.close()


def test_a_full_spool_of_a_file_waits_for_the_broker(start_broker, tmp_path):
    broker = start_broker("allow_anonymous true")
    listener = Listener(broker.port)
    address = f"mqtt://127.0.0.1:{broker.port}/line/4"
    with open_sink(address, spool=tmp_path / "spool", max_bytes=40_000, wait=True) as sink:
        for number in range(500):
            sink.write(result(number))
    assert listener.frames_until(499) == list(range(500))
    assert sink.lost == 0
    listener.close()
