"""The live page over TLS."""

import contextlib
import os
import shutil
import ssl
import subprocess
from urllib.parse import urlsplit

import pytest

from edgeclf_runtime.errors import OptionError
from edgeclf_runtime.sinks.live import clients, server
from edgeclf_runtime.sinks.live.access import open_access
from edgeclf_runtime.sinks.live.sink import LiveSink
from tests.support import posting
from tests.support.attackers import connect, crowd, say
from tests.support.pictures import encode, noise
from tests.support.waiting import WAIT_S, wait_until
from tests.support.watching import cookie_of


def make_pair(folder, name, *key):
    files = [str(folder / (name + suffix)) for suffix in (".crt", ".key")]
    command = ["openssl", "req", "-x509", "-days", "2", "-subj", "/CN=localhost", "-out", files[0], "-keyout", files[1]]
    command += ["-addext", "subjectAltName=DNS:localhost", *list(key or ["-newkey", "rsa:2048", "-nodes"])]
    subprocess.check_call(command, stderr=subprocess.DEVNULL)
    return files


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A certificate and its key."""
    if not shutil.which("openssl"):
        pytest.skip("openssl is missing: apt-get install openssl")
    return make_pair(tmp_path_factory.mktemp("tls"), "own")


@pytest.fixture
def secure(pair):
    with LiveSink("0.0.0.0:0", [], access=open_access(certificate=pair[0], key=pair[1])) as sink:
        yield sink


def say_secretly(sink, pair, data, **limits):
    """Everything that the page answers to these bytes over TLS."""
    context = ssl.create_default_context(cafile=pair[0])
    for name, value in limits.items():
        setattr(context, name, value)
    with contextlib.closing(context.wrap_socket(connect(sink), server_hostname="localhost")) as connection:
        connection.sendall(data)
        with connection.makefile("rb") as reader:
            return reader.read()


def test_with_a_certificate_the_page_is_encrypted(secure, pair, caplog):
    assert secure.invitation.startswith("https://")
    request = f"GET /?{urlsplit(secure.invitation).query} HTTP/1.1\r\nHost: localhost\r\n\r\n"
    answer = say_secretly(secure, pair, request.encode("ascii"))
    assert b"SameSite=Strict; Secure\r\n" in answer
    cookie = cookie_of(answer.decode("ascii"))
    request = f"GET /state.json HTTP/1.1\r\nHost: localhost\r\nCookie: {cookie}\r\n\r\n"
    assert say_secretly(secure, pair, request.encode("ascii")).startswith(b"HTTP/1.0 200 OK\r\n")
    assert "not encrypted" not in caplog.text


def test_a_picture_is_posted_encrypted(pair):
    access = open_access(certificate=pair[0], key=pair[1], public=True)
    with LiveSink("0.0.0.0:0", ["3"], access=access, classify=posting.Desk().classify) as sink:
        picture = encode(".png", noise(800, 600))
        assert say_secretly(sink, pair, posting.message(content=picture)).startswith(b"HTTP/1.0 200 OK\r\n")
        refused = say_secretly(sink, pair, posting.message(b"Content-Type: text/plain", content=picture))
        assert refused.startswith(b"HTTP/1.0 415 ")


def test_without_encryption_nothing_is_shown_of_an_encrypted_page(secure):
    answer = say(secure, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert answer.startswith(b"HTTP/1.0 400 ")
    assert answer.endswith(f"this page is encrypted: open {secure.url}\n".encode("ascii"))


@pytest.mark.skipif(not hasattr(ssl, "TLSVersion"), reason="Python 3.6 cannot limit its own side")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tls_is_at_least_1_2(secure, pair):
    with pytest.raises(OSError):  # noqa: PT011 - by the libraries' versions
        say_secretly(secure, pair, b"", maximum_version=ssl.TLSVersion.TLSv1_1)
    assert say_secretly(secure, pair, b"GET /\r\n", maximum_version=ssl.TLSVersion.TLSv1_2).startswith(b"HTTP/1.0 400")


@pytest.mark.slow
@pytest.mark.parametrize("sent", [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01", b"\x16" + b"\xff" * 50])
def test_a_handshake_that_is_never_finished_keeps_nobody_out_and_has_a_deadline(secure, pair, sent, monkeypatch):
    with crowd(secure, 3 * clients.PLACES, sent):
        assert say_secretly(secure, pair, b"GET / HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.0 400 ")
    wait_until(lambda: not secure._server.clients)
    monkeypatch.setattr(clients, "REQUEST_TIMEOUT_S", 0.2)
    with crowd(secure, 3, sent):
        wait_until(lambda: not secure._server.clients)


def test_a_viewer_by_tls_who_leaves_is_noticed(secure, pair):
    token = urlsplit(secure.invitation).query[6:]
    context = ssl.create_default_context(cafile=pair[0])
    with contextlib.closing(context.wrap_socket(connect(secure), server_hostname="localhost")) as connection:
        request = f"GET /picture.mjpg HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n"
        connection.sendall(request.encode("ascii"))
        assert connection.recv(8) == b"HTTP/1.0"
        assert len(secure._server.clients) == 1
    wait_until(lambda: not secure._server.clients)


def test_a_viewer_by_tls_who_reads_nothing_has_a_deadline_and_holds_up_no_end(pair, monkeypatch, new_threads):
    access = open_access(certificate=pair[0], key=pair[1])
    context = ssl.create_default_context(cafile=pair[0])
    with LiveSink(":0", [], access=access) as sink, contextlib.ExitStack() as stack:

        def watch():
            connection = context.wrap_socket(connect(sink, receive_bytes=2048), server_hostname="localhost")
            stack.enter_context(contextlib.closing(connection))
            connection.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert connection.recv(8) == b"HTTP/1.0"

        monkeypatch.setattr(sink, "state", lambda: {"title": "x" * 1000000})
        monkeypatch.setattr(clients, "CLIENT_TIMEOUT_S", 0.3)
        watch()
        wait_until(lambda: not sink._server.clients)
        monkeypatch.setattr(clients, "CLIENT_TIMEOUT_S", 1000)
        watch()
        monkeypatch.setattr(server, "CLOSE_TIMEOUT_S", WAIT_S)
        sink.close()
        assert not new_threads()


def test_the_servers_own_thread_has_ended_on_the_busiest_machine(monkeypatch):
    monkeypatch.setattr(server, "CLOSE_TIMEOUT_S", 0)
    for _ in range(10):
        with LiveSink(":0", []) as sink:
            thread = sink._server._thread
        assert not thread.is_alive()


@pytest.mark.slow
def test_a_certificate_and_a_key_that_do_not_fit_or_are_none_say_what_to_do(pair, tmp_path):
    other = make_pair(tmp_path, "other")
    locked = make_pair(tmp_path, "locked", "-newkey", "rsa:2048", "-passout", "pass:geheim")
    (tmp_path / "text").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    os.mkfifo(str(tmp_path / "pipe"))
    for certificate, key, message in [
        (pair[0], None, "https needs both --live-cert and --live-key"),
        (None, pair[1], "https needs both --live-cert and --live-key"),
        (pair[0], other[1], "do not match: give a certificate and its private key"),
        (pair[1], pair[1], "--live-cert .* contains no certificate in PEM"),
        (pair[0], pair[0], "--live-key .* contains no private key without a password in PEM"),
        (locked[0], locked[1], "--live-key .* contains no private key without a password in PEM"),
        (str(tmp_path / "text"), pair[1], "cannot be used"),
        (str(tmp_path / "nothing"), pair[1], "--live-cert .* cannot be read .No such file"),
        (str(tmp_path), pair[1], "it is a folder, a regular file was expected"),
        (pair[0], str(tmp_path / "pipe"), "--live-key .* cannot be read .it is a pipe"),
        (pair[0], os.devnull, "it is a device, a regular file was expected"),
    ]:
        with pytest.raises(OptionError, match=message):
            open_access(certificate=certificate, key=key)
