"""Each event arrives at a web address, signed, once it can be reached, and nothing there can hold up a run."""

import hashlib
import hmac
import json
import os
import socket
import threading
import time

import pytest

from edgeclf_runtime.errors import OptionError, OutputError
from edgeclf_runtime.sinks.actions import webhook
from edgeclf_runtime.sinks.actions.webhook import WebhookSink, parse_url
from tests.support.cameras import free_port
from tests.support.certificates import Signer
from tests.support.receivers import Receiver
from tests.support.results import came, result, went
from tests.support.waiting import wait_until


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(webhook, "RETRY_S", (0.02, 0.05))


@pytest.fixture
def receive():
    opened = []

    def receive(*statuses, **options):
        opened.append(Receiver(*statuses, **options))
        return opened[-1]

    yield receive
    for one in opened:
        one.close()


def parts(folder):
    return [name for name in os.listdir(str(folder)) if name.endswith(".part")]


def test_each_event_is_posted_as_its_json_with_a_signature(receive, tmp_path):
    receiver = receive()
    with WebhookSink(receiver.url, b"geheim", tmp_path / "spool") as sink:
        sink.write(result(0))
        sink.label_event(came(3))
        sink.label_event(went(3))
    assert len(receiver.got) == 2
    path, headers, body = receiver.got[0]
    assert (path, headers["Content-Type"]) == ("/hook?key=1", "application/json")
    assert json.loads(body.decode("utf-8")) == came(3).to_dict()
    assert headers["X-Hub-Signature-256"] == "sha256=" + hmac.new(b"geheim", body, hashlib.sha256).hexdigest()
    assert (sink.lost, parts(tmp_path / "spool")) == (0, [])


def test_without_a_secret_there_is_no_signature(receive, tmp_path):
    receiver = receive()
    with WebhookSink(receiver.url, None, tmp_path / "spool") as sink:
        sink.label_event(came())
    assert "X-Hub-Signature-256" not in receiver.got[0][1]


def test_what_fails_is_sent_again_in_order_until_it_is_accepted(receive, tmp_path, caplog):
    receiver = receive(503, 429, 500, 200)
    with WebhookSink(receiver.url, None, tmp_path / "spool") as sink:
        sink.label_event(came())
        sink.label_event(went())
        wait_until(lambda: len(receiver.got) == 5)
    assert receiver.events() == ["start"] * 4 + ["end"]
    assert sink.lost == 0
    said = [record.getMessage() for record in caplog.records]
    assert "answers with status 503; events wait in" in said[0]
    assert said[-1].endswith("accepts events again")
    assert "/hook" not in "".join(said)  # it may be a secret


def test_an_event_that_is_refused_is_lost_and_does_not_block_the_next(receive, tmp_path):
    receiver = receive(422, 200)
    with WebhookSink(receiver.url, None, tmp_path / "spool") as sink:
        sink.label_event(came())
        wait_until(lambda: sink.losses)  # the next one is sent while the sink is closed
        sink.label_event(went())
    assert receiver.events() == ["start", "end"]
    assert sink.losses == {"status 422": 1}


def test_a_redirect_is_not_followed(receive, tmp_path, caplog):
    elsewhere = receive()
    receiver = receive((307, {"Location": elsewhere.url}))
    with WebhookSink(receiver.url, None, tmp_path / "spool") as sink:
        sink.label_event(came())
        wait_until(lambda: len(receiver.got) > 2)
    assert elsewhere.got == []
    assert "status 307 (a redirect, which is not followed: name the address itself)" in caplog.text
    assert len(parts(tmp_path / "spool")) == 1


def test_a_server_that_hangs_holds_up_nothing_and_is_tried_again(receive, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(webhook, "TIMEOUT_S", 0.2)
    receiver = receive("hang", 200)
    with WebhookSink(receiver.url, None, tmp_path / "spool") as sink:
        sink.label_event(came())
        wait_until(lambda: len(receiver.got) == 2 and not parts(tmp_path / "spool"))
    assert "cannot be reached" in caplog.text


def test_an_end_does_not_wait_for_a_server_that_hangs(receive, tmp_path, monkeypatch):
    monkeypatch.setattr(webhook, "CLOSE_S", 0.1)
    receiver = receive("hang")
    sink = WebhookSink(receiver.url, None, tmp_path / "spool")
    sink.label_event(came())
    wait_until(lambda: receiver.got)
    start = time.monotonic()
    sink.close()
    assert time.monotonic() - start < webhook.TIMEOUT_S / 2
    assert len(parts(tmp_path / "spool")) == 1


def test_a_server_that_drips_its_answer_is_cut_off(tmp_path, monkeypatch):
    monkeypatch.setattr(webhook, "TIMEOUT_S", 0.3)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)

        def drip():
            client, _ = listener.accept()
            try:
                while True:
                    client.sendall(b"HTTP/1.1 200 OK\r\n" if not sent else b"X")
                    sent.append(1)
                    threading.Event().wait(0.05)
            except OSError:
                pass

        sent = []
        threading.Thread(target=drip, daemon=True).start()
        address = parse_url(f"http://127.0.0.1:{listener.getsockname()[1]}/")
        with pytest.raises((OSError, webhook.http.client.HTTPException)):
            webhook.post(address, b"{}", None)
    assert sent


def test_events_of_an_outage_and_of_an_earlier_run_are_delivered_in_order(receive, tmp_path):
    port = free_port()
    url = f"http://127.0.0.1:{port}/"
    with WebhookSink(url, None, tmp_path / "spool") as sink:
        sink.label_event(came())
        wait_until(lambda: sink._outage.lasts)
        sink.label_event(went())
    assert sink.lost == 0
    receiver = receive(port=port)
    with WebhookSink(url, None, tmp_path / "spool") as sink:
        wait_until(lambda: len(receiver.got) == 2)
    assert receiver.events() == ["start", "end"]


def test_the_spool_is_bounded_and_the_oldest_events_are_lost(tmp_path):
    url = f"http://127.0.0.1:{free_port()}/"
    with WebhookSink(url, None, tmp_path / "spool", max_bytes=40_000) as sink:
        for number in range(400):
            sink.label_event(came(number, id=str(number)))
        assert sum(os.path.getsize(str(tmp_path / "spool" / name)) for name in parts(tmp_path / "spool")) <= 40_000
        assert sink.losses["the spool was full"] > 100


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://host/a", "it does not have this form"),
        ("host/secret-path", "it does not have this form"),
        ("https://me:secret-word@host/", "it must not contain a user"),
        ("http://host/a b", "must be percent-encoded"),
        ("http://host/\u00fc", "must be percent-encoded"),
        ("http://host:99999/", "a port is a number"),
        ("http://host/\r\nX-Evil: secret", "control character"),
    ],
)
def test_a_wrong_address_is_refused_without_its_secrets(url, words, tmp_path):
    with pytest.raises(OutputError, match=words) as caught:
        WebhookSink(url, None, tmp_path / "spool")
    assert "secret" not in str(caught.value)
    assert "expected http://HOST" in str(caught.value)


def test_certificates_are_verified(receive, tmp_path, monkeypatch):
    signer = Signer(tmp_path, "root")
    server_certificate = signer.sign("localhost", "server")
    server = receive(204, tls=(server_certificate.certificate, server_certificate.key))
    address = parse_url(f"https://localhost:{server.port}/x")
    with pytest.raises(webhook.ssl.SSLError):
        webhook.post(address, b"{}", None)
    monkeypatch.setenv("SSL_CERT_FILE", signer.certificate)
    assert webhook.post(address, b"{}", None) == (204, "", 0.0)


def test_an_authority_of_ones_own_is_trusted_and_no_other(receive, tmp_path, caplog):
    root = Signer(tmp_path, "root")
    server = root.sign("server", "server")
    receiver = receive(204, tls=(server.certificate, server.key))
    url = f"https://localhost:{receiver.port}/hook"
    with WebhookSink(url, None, tmp_path / "spool") as sink:
        sink.label_event(came())
        wait_until(lambda: caplog.messages)
    assert "certificate verify failed" in caplog.messages[0]
    assert ": give its authority's certificate with --webhook-ca; events wait in" in caplog.messages[0]
    assert not receiver.got
    caplog.clear()
    with WebhookSink(url, None, tmp_path / "spool", ca=root.certificate) as sink:
        sink.label_event(went())
    assert receiver.events() == ["start", "end"]
    with WebhookSink(url, None, tmp_path / "other", ca=Signer(tmp_path, "other").certificate) as sink:
        sink.label_event(came())
        wait_until(lambda: caplog.messages)
    assert "certificate verify failed" in caplog.messages[0]
    assert "--webhook-ca" not in caplog.messages[0]


def test_a_certificate_of_another_host_is_refused_though_its_authority_is_trusted(receive, tmp_path, caplog):
    root = Signer(tmp_path, "root")
    server = root.sign("server", "server")
    receiver = receive(204, tls=(server.certificate, server.key))
    with WebhookSink(f"https://127.0.0.1:{receiver.port}/", None, tmp_path / "spool", ca=root.certificate) as sink:
        sink.label_event(came())
        wait_until(lambda: caplog.messages)
    assert "127.0.0.1" in caplog.messages[0].partition("cannot be reached (")[2]
    assert not receiver.got


@pytest.mark.parametrize(
    ("scheme", "name", "message"),
    [
        ("https", "gone", "--webhook-ca .*gone cannot be read .*: give a PEM file"),
        ("https", "key", "--webhook-ca .*key contains no certificate in PEM: give a file with a certificate"),
        ("https", "broken", "--webhook-ca .*broken cannot be used .*: give a file with certificates in PEM"),
        ("http", "broken", "is for encrypted connections, and the address of --webhook is http://h: use https://"),
    ],
)
def test_a_file_that_holds_no_authority_is_refused_before_anything_is_sent(tmp_path, scheme, name, message):
    (tmp_path / "key").write_text("-----BEGIN PRIVATE KEY-----\n")
    (tmp_path / "broken").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    with pytest.raises(OptionError, match=message):
        WebhookSink(scheme + "://h/p", None, tmp_path / "spool", ca=str(tmp_path / name))


def test_it_waits_as_long_as_the_receiver_asks(receive, tmp_path, monkeypatch):
    receiver = receive((503, {"Retry-After": "1800"}), 200)
    waited = []
    with WebhookSink(receiver.url, None, tmp_path / "spool") as sink:
        monkeypatch.setattr(sink._closing, "wait", waited.append)
        sink.label_event(came())
        wait_until(lambda: len(receiver.got) == 2)
    assert waited == [1800.0]


NOON = 1796040000.0  # 30 November 2026, 12:00 UTC


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        (" 0 ", 0.0),
        ("Mon, 30 Nov 2026 12:01:30 GMT", 90.0),
        ("Mon, 30 Nov 2026 11:00:00 GMT", 0.0),
        ("9" * 400, 3600.0),
        ("Mon, 30 Nov 9999 12:00:00 GMT", 3600.0),
        ("-5", 0.0),
        ("1.5", 0.0),
        ("soon", 0.0),
        ("Mon, 99 Foo 2026 99:99:99 GMT", 0.0),
        ("", 0.0),
        (None, 0.0),
    ],
)
def test_the_time_to_wait_is_seconds_or_a_date(value, seconds):
    assert webhook.retry_after(value, NOON) == seconds
