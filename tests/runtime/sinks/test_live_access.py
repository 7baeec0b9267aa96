"""Access to the live page: host names, tokens, certificates."""

import contextlib
import os
import re
import shutil
import socket
import ssl
import subprocess
import threading
from urllib.parse import quote, urlsplit

import pytest

from edgeclf_runtime.errors import OptionError
from edgeclf_runtime.sinks.live import access as live_access
from edgeclf_runtime.sinks.live import clients
from edgeclf_runtime.sinks.live.access import TOKEN_VARIABLE, TRIES, Access, open_access
from edgeclf_runtime.sinks.live.sink import LiveSink
from tests.support.attackers import connect, crowd, say
from tests.support.waiting import wait_until
from tests.support.watching import ask

TOKEN = "a token+with /odd? \u00fcmlauts;=&%"
PATHS = ("/", "/picture.jpg", "/picture.mjpg", "/state.json", "/events")
HOSTNAME = socket.gethostname()


def network(**access):
    """A page for every network of this machine."""
    return LiveSink("0.0.0.0:0", ["3"], access=Access(**access))


@pytest.fixture
def sink():
    with network(token=TOKEN.encode("utf-8")) as opened:
        yield opened


@pytest.fixture
def opened():
    with network(public=True, names=("cam.example.com",)) as sink:
        yield sink


def get(sink, path="/", address="127.0.0.1", **headers):
    """(status, headers as text, body) of a request to a page at any address."""
    headers = dict({"Host": "localhost"}, **{name.replace("_", "-"): value for name, value in headers.items()})
    lines = [f"GET {path} HTTP/1.1"] + ["{}: {}".format(*field) for field in headers.items()]
    head, _, body = say(sink, "\r\n".join([*lines, "", ""]).encode("utf-8"), address).partition(b"\r\n\r\n")
    return int(head.split()[1]), head.decode("latin-1"), body.decode("utf-8")


def cookie_of(head):
    return re.search(r"Set-Cookie: ([^;\r]+)", head).group(1)


@pytest.mark.parametrize(
    "host",
    [
        "192.168.0.7",
        "10.0.0.1:8080",
        "[fe80::1]:80",
        "[2001:db8::7]",
        "localhost",
        "LocalHost.:9",
        HOSTNAME,
        HOSTNAME.split(".")[0].upper() + ".local:8080",
        "cam.example.com",
        "CAM.example.com.:443",
    ],
)
def test_a_page_for_the_network_answers_to_addresses_and_to_its_own_names(opened, host):
    assert get(opened, Host=host)[0] == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8080",
        "192.168.0.7.evil.example",
        "cam.example.com.evil.example",
        "localhost.evil.example",
        "evil.local",
        "1.2.3",
        "0x7f000001",
        "127.1",
        "::1",
        "[127.0.0.1]",
        "[::1",
        "user@localhost",
        "localhost/",
        "localhost:port",
        "localhost, evil.example",
        "",
    ],
)
def test_a_page_for_the_network_refuses_every_other_name_and_says_what_to_do(opened, host):
    for path in PATHS:
        status, _, body = get(opened, path, Host=host)
        assert status == 403
        assert body.startswith("this page does not answer to that host name: open " + opened.url)
    assert ("--live-name " + host.partition(":")[0] in body) == bool(re.match(r"[a-z0-9.]+(:\d+)?$", host))


def test_a_request_names_exactly_one_host(opened):
    for fields in (b"", b"Host: localhost\r\nHost: localhost\r\n", b"HOST: localhost\r\nhost: evil.example\r\n"):
        answer = say(opened, b"GET /state.json HTTP/1.1\r\n" + fields + b"\r\n")
        assert answer.startswith(b"HTTP/1.0 400 ")


def test_a_page_for_this_machine_answers_to_a_proxys_name_too():
    with LiveSink(":0", [], access=Access(names=("cam.example.com",))) as sink:
        assert get(sink, Host="cam.example.com")[0] == 200
        assert get(sink, Host="192.168.0.7")[0] == get(sink, Host=HOSTNAME + ".example")[0] == 403


@pytest.mark.parametrize("path", PATHS[1:])
@pytest.mark.parametrize(
    "headers",
    [
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Origin": "http://evil.example"},
        {"Origin": "http://localhost:9"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"},
    ],
)
def test_another_sites_page_gets_neither_pictures_nor_results(opened, path, headers):
    assert get(opened, path, **headers)[0] == 403


def test_the_page_itself_and_a_link_to_it_get_in(opened):
    assert get(opened, "/state.json", Sec_Fetch_Site="same-origin")[0] == 200
    assert get(opened, "/state.json", Sec_Fetch_Site="none")[0] == 200
    assert get(opened, "/state.json", Host="localhost:80", Origin="http://LOCALHOST:80")[0] == 200
    assert get(opened, "/", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate")[0] == 200
    assert get(opened, "/", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors")[0] == 403


@pytest.mark.parametrize("path", PATHS)
def test_without_the_token_nothing_is_shown(sink, path):
    for headers in ({}, {"Authorization": "Basic YTpi"}, {"Cookie": "edgeclf_live=1; ;=; x"}):
        status, head, body = get(sink, path, **headers)
        assert status == 401
        assert "WWW-Authenticate: Bearer" in head
        assert "a token is required: open the address that was printed" in body


def test_the_token_in_the_address_becomes_a_cookie_and_leaves_the_address(sink):
    for path, plain in (("/", "./"), ("/state.json", "./state.json")):
        status, head, _ = get(sink, path + "?x=1&token=" + quote(TOKEN, safe=""))
        assert status == 303
        assert f"Location: {plain}\r\n" in head
        assert re.search(r"Set-Cookie: edgeclf_live_\d+=[0-9a-f]{64}; HttpOnly; SameSite=Strict\r\n", head)
        assert TOKEN not in head
    assert get(sink, "/", Cookie=cookie_of(head))[0] == 200
    assert get(sink, "/?token=wrong", Cookie=cookie_of(head))[0] == 303


def test_a_program_brings_the_token_in_a_header(sink):
    for scheme in ("Bearer ", "bearer  "):
        assert get(sink, "/state.json", Authorization=scheme + TOKEN)[0] == 200
    assert get(sink, "/state.json", Authorization="Bearer " + TOKEN + "x")[0] == 401


@pytest.mark.parametrize("cookie", ["a=b; {}", '{}; a="x;y', ";;=; {} ;", "edgeclf_live=x; {}", "\u00fc=\u00fc;{}"])
def test_the_cookie_is_found_among_others(sink, cookie):
    own = cookie_of(get(sink, "/?token=" + quote(TOKEN, safe=""))[1])
    assert get(sink, "/state.json", Cookie=cookie.format(own))[0] == 200
    assert get(sink, "/state.json", Cookie=cookie.format(own[:-1]))[0] == 401
    assert get(sink, "/state.json", Cookie=cookie.format(own.partition("=")[0] + "="))[0] == 401


def test_a_page_that_stays_open_gets_in_after_a_restart_with_the_same_long_token():
    with network(token=b"0123456789abcdef") as sink:
        port, cookie = urlsplit(sink.url).port, cookie_of(get(sink, "/?token=0123456789abcdef")[1])
    for token, expected in ((b"0123456789abcdef", 200), (b"0123456789abcdeg", 401)):
        with LiveSink(f"0.0.0.0:{port}", [], access=Access(token=token)) as sink:
            assert get(sink, Cookie=cookie)[0] == expected


def test_a_short_token_cannot_be_guessed_from_its_cookie():
    with network(token=b"1234") as first, network(token=b"1234") as second:
        cookies = {cookie_of(get(sink, "/?token=1234")[1]).partition("=")[2] for sink in (first, second)}
    assert len(cookies) == 2


def test_wrong_tokens_are_limited_for_the_machine_that_tries_them(sink, monkeypatch):
    cookie = cookie_of(get(sink, "/?token=" + quote(TOKEN, safe=""))[1])
    for number in range(TRIES):
        assert get(sink, f"/?token=guess{number}")[0] == 401
    for right in (quote(TOKEN, safe=""), "guess"):
        status, head, body = get(sink, "/?token=" + right)
        assert (status, "Retry-After: 5\r\n" in head) == (429, True)
        assert body == "too many wrong tokens: try again in 5 s\n"
    assert get(sink, "/state.json", Cookie=cookie)[0] == 200, "who was let in stays in"
    assert get(sink, "/?token=" + quote(TOKEN, safe=""), "127.0.0.2")[0] == 303
    monkeypatch.setattr(live_access, "RECOVER_S", 1e-9)
    assert get(sink, "/?token=" + quote(TOKEN, safe=""))[0] == 303


def test_right_tokens_are_not_limited(sink):
    for _ in range(2 * TRIES):
        assert get(sink, "/state.json", Authorization="Bearer " + TOKEN)[0] == 200


def test_a_page_for_the_network_makes_a_token_of_its_own_each_time(caplog):
    with network() as first, network() as second:
        token = urlsplit(first.invitation).query
        assert re.match(r"token=[A-Za-z0-9_-]{24}$", token)
        assert first.invitation == first.url + "?" + token != second.invitation
        assert get(first)[0] == 401
        assert get(first, "/?" + token)[0] == 303
        assert token[6:] not in caplog.text
    assert "is not encrypted: anyone who can read the network's traffic sees the token and the images" in caplog.text


def test_a_token_of_the_user_is_never_printed(caplog):
    with network(token=b"geheim-geheim-geheim") as sink:
        get(sink, "/?token=geheim-geheim-geheim")
        assert sink.invitation == sink.url
    assert "geheim" not in caplog.text


def test_a_page_for_this_machine_needs_a_token_only_if_it_was_given_one():
    with LiveSink(":0", []) as sink:
        assert sink.invitation == sink.url
        assert ask(sink).status == 200
    with LiveSink(":0", [], access=Access(token=b"geheim")) as sink:
        assert ask(sink, "/state.json").status == 401
        assert ask(sink, "/state.json", Authorization="Bearer geheim").status == 200


@pytest.mark.parametrize("written", [b"geheim", b"geheim\n", b"geheim\r\n"])
def test_the_token_is_a_files_line_or_the_environments(tmp_path, monkeypatch, written):
    (tmp_path / "token").write_bytes(written)
    assert open_access(str(tmp_path / "token")).token == b"geheim"
    monkeypatch.setenv(TOKEN_VARIABLE, "\u00fcber")
    assert open_access().token == "\u00fcber".encode("utf-8")
    assert open_access(str(tmp_path / "token")).token == b"geheim"


@pytest.mark.parametrize(
    "written", [b"", b"\n", b"  \n", b" geheim\n", b"geheim\nheimlich\n", b"geheim\x00", b"x" * 513]
)
def test_a_file_that_holds_no_token_is_refused_without_quoting_it(tmp_path, written):
    (tmp_path / "token").write_bytes(written)
    with pytest.raises(OptionError, match="write one line of up to 512 bytes") as caught:
        open_access(str(tmp_path / "token"))
    assert "geheim" not in str(caught.value)


def test_what_is_no_token_in_the_environment_or_no_file_is_refused(tmp_path, monkeypatch):
    with pytest.raises(OptionError, match=r"cannot be read .No such file"):
        open_access(str(tmp_path / "token"))
    os.mkfifo(str(tmp_path / "pipe"))
    with pytest.raises(OptionError, match="it is a pipe, a regular file was expected"):
        open_access(str(tmp_path / "pipe"))
    monkeypatch.setenv(TOKEN_VARIABLE, "")
    with pytest.raises(OptionError, match=TOKEN_VARIABLE + " is not a valid token .*or unset it"):
        open_access()


def test_without_a_token_and_with_one_are_not_both_possible(monkeypatch):
    monkeypatch.setenv(TOKEN_VARIABLE, "geheim")
    with pytest.raises(OptionError, match="--live-open shows the page without a token, but EDGECLF_LIVE_TOKEN sets"):
        open_access(public=True)


@pytest.mark.parametrize("name", ["", "http://cam", "cam:80", "a b", "cam/", "-cam", "x" * 300, "cam\r\nSet-Cookie: x"])
def test_what_is_no_host_name_is_refused(name):
    with pytest.raises(OptionError, match=r"is not a host name: give one such as camera\.example\.com"):
        open_access(names=[name])


def test_host_names_are_taken_as_browsers_send_them():
    assert open_access(names=["CAM.example.com.", "k\u00fcche.local"]).names == (
        "cam.example.com",
        "xn--kche-0ra.local",
    )


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


def test_a_viewer_by_tls_who_reads_nothing_has_a_deadline_and_holds_up_no_end(pair, monkeypatch):
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
        sink.close()
        assert [thread for thread in threading.enumerate() if thread.name.startswith("live")] == []


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
