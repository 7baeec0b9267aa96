import contextlib
import http.client
import re
import socket
from urllib.parse import urlsplit

import pytest

from edgeclf_runtime.errors import OutputError
from edgeclf_runtime.sinks.live.access import Access
from edgeclf_runtime.sinks.live.http import head
from edgeclf_runtime.sinks.live.sink import LiveSink
from tests.support.attackers import connect, say, status
from tests.support.watching import WAIT_S, ask


@pytest.fixture
def sink():
    with LiveSink(":0", ["3", "5", "8"]) as opened:
        yield opened


def test_the_page_needs_nothing_but_itself_and_lets_nothing_else_in(sink):
    answer = ask(sink)
    page = answer.read().decode("utf-8")
    assert answer.status == 200
    assert page.startswith("<!DOCTYPE html>")
    assert re.findall(r'(?:src|href)="(?!data:)', page) + re.findall(r"@import|url\(|//cdn|https://", page) == []
    assert answer.getheader("Cache-Control") == "no-store"
    assert answer.getheader("Content-Security-Policy").startswith("default-src 'none'; ")
    assert "unsafe" not in answer.getheader("Content-Security-Policy")
    assert answer.getheader("Cross-Origin-Resource-Policy") == "same-origin"


def test_another_sites_name_for_this_machine_is_refused(sink):
    for name in ("evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80", "", "192.168.0.7"):
        for path in ("/", "/picture.jpg", "/state.json", "/events"):
            answer = ask(sink, path, Host=name)
            assert answer.status == 403
            assert answer.read().decode("utf-8") == f"this page is available on this machine only: open {sink.url}\n"
    for name in ("localhost", "LOCALHOST:9000", "127.0.0.1:1", "[::1]:8080"):
        assert ask(sink, Host=name).status == 200


def test_it_is_only_read(sink):
    for method in ("PUT", "DELETE", "OPTIONS", "PATCH"):
        assert ask(sink, method=method).status == 501
    for path in ("/", "/state.json", "/picture.mjpg", "/healthz"):
        answer = ask(sink, path, "POST")
        assert (answer.status, answer.getheader("Allow")) == (405, "GET, HEAD")
    for path in ("/", "/state.json", "/picture.mjpg", "/events"):
        head = ask(sink, path, "HEAD")
        assert (head.status, head.read()) == (200, b"")
    assert ask(sink, "/../../../etc/passwd").status == 404
    assert ask(sink, "/x").read().startswith(b"nothing is here; available: /, /picture.jpg, ")


HOST = b"Host: localhost\r\n"


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (b"GET / HTTP/1.0\r\n" + HOST + b"\r\n", 200),
        (b"GET / HTTP/1.1\r\n" + HOST + b"\r\n", 200),
        (b"GET / HTTP/1.1\r\nhOST:localhost \t\r\n\r\n", 200),
        (b"GET / HTTP/1.1\r\n" + HOST + b"Content-Length: 0\r\n\r\n", 200),
        (b"GET /\r\n", 400),
        (b"GET\r\n", 400),
        (b"GET / HTTP/1.1\n", 400),
        (b"GET / HTTP/0.9\r\n", 505),
        (b"GET / HTTP/1.10\r\n", 505),
        (b"GET / HTTP/2.0\r\n", 505),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"GET / http/1.1\r\n", 505),
        (b"GET  / HTTP/1.1\r\n", 400),
        (b"GET /\tHTTP/1.1\r\n", 400),
        (b"GET / HTTP/1.1 \r\n", 400),
        (b"G\x00T / HTTP/1.1\r\n", 400),
        (b"GET /\x00 HTTP/1.1\r\n", 400),
        (b"GET /\xc3\xbc HTTP/1.1\r\n", 400),
        (b"GET http://evil.example/ HTTP/1.1\r\n", 400),
        (b"GET http://localhost/state.json HTTP/1.1\r\n", 400),
        (b"CONNECT evil.example:443 HTTP/1.1\r\n", 400),
        (b"OPTIONS * HTTP/1.1\r\n", 400),
        (b"GET //evil.example/ HTTP/1.1\r\n" + HOST + b"\r\n", 404),
        (b"GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\n" + HOST + b"\r\n", 404),
        (b"get / HTTP/1.1\r\n" + HOST + b"\r\n", 501),
        (b"TRACE / HTTP/1.1\r\n" + HOST + b"\r\n", 501),
        (b"\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00", 400),
        (b"\xff" * 100, 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"Host : localhost\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b" continued\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"no colon\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b": no name\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: a\nY: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: a\rY: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: a\x00b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\nhello", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"Content-Length: 0\r\nContent-Length: 5\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"Authorization: a\r\nAuthorization: b\r\n\r\n", 200),
        (b"GET /" + b"x" * 4200 + b" HTTP/1.1\r\n", 414),
        (b"GET /" + b"x" * 100000, 414),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"x" * 20000, 431),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"x" * 1000000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: y\r\n" * 200 + b"\r\n", 431),
    ],
)
def test_what_is_no_plain_request_is_refused_at_once(sink, request_, expected):
    assert status(sink, request_) == expected


def test_a_request_that_comes_byte_by_byte_is_answered(sink):
    with contextlib.closing(connect(sink)) as connection:
        for byte in b"GET /state.json HTTP/1.1\r\nHost: localhost\r\n\r\n":
            connection.sendall(bytes([byte]))
        assert connection.makefile("rb").read().startswith(b"HTTP/1.0 200 OK\r\n")


def test_what_a_request_quotes_comes_back_as_text_without_markup(sink):
    for path, host in ((b"/<script>alert(1)</script>", b"localhost"), (b"/", b"<script>"), (b"/", b"a\x85b")):
        answer = say(sink, b"GET " + path + b" HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
        assert b"Content-Type: text/plain; charset=utf-8\r\n" in answer
        assert b"X-Content-Type-Options: nosniff\r\n" in answer
        assert b"<script" not in answer


def test_no_answer_can_be_split_by_what_a_request_says():
    with pytest.raises(AssertionError):
        head(200, [("Location", "./\r\nSet-Cookie: x=y")])


@pytest.mark.parametrize("address", [":0", "0", "127.0.0.1:0", "localhost:0"])
def test_it_listens_on_this_machine_alone(address, caplog):
    with LiveSink(address, []) as sink:
        assert re.match(r"http://127\.0\.0\.1:[1-9][0-9]*/$", sink.url)
        assert ask(sink).status == 200
    assert caplog.text == ""


def test_it_listens_on_this_machine_alone_by_ipv6_too(caplog):
    try:
        socket.socket(socket.AF_INET6).bind(("::1", 0))
    except OSError as error:
        pytest.skip(f"this machine has no IPv6: {error}")
    with LiveSink("[::1]:0", []) as sink:
        assert sink.url.startswith("http://[::1]:")
        assert ask(sink).status == 200
    assert caplog.text == ""


def test_a_host_that_is_named_opens_it_to_the_network_with_a_warning(caplog):
    with LiveSink("0.0.0.0:0", [], access=Access(names=("jetson.local",), public=True)) as sink:
        connection = http.client.HTTPConnection("127.0.0.1", urlsplit(sink.url).port, timeout=WAIT_S)
        connection.request("GET", "/", headers={"Host": "jetson.local"})
        assert connection.getresponse().status == 200
    assert f"anyone on the network who opens {sink.url} can see this camera" in caplog.text


@pytest.mark.parametrize("address", ["", "here", ":", ":70000", "1:2:3", "http://localhost:80/", ":80a", "\u0663:80:"])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(OutputError, match="is not an address for the live page: give :8080 for this machine only"):
        LiveSink(address, [])


def test_a_port_that_is_taken_or_a_host_that_is_not_here_says_what_to_do(sink):
    with pytest.raises(OutputError, match="another program is using that port; stop it, or choose another port"):
        LiveSink(str(urlsplit(sink.url).port), [])
    with pytest.raises(OutputError, match="this machine does not have that address; choose one of its own"):
        LiveSink("192.0.2.1:0", [])
    with pytest.raises(OutputError, match="the live page cannot listen on port 0 of nowhere"):
        LiveSink("nowhere.invalid:0", [])
