"""Bodies of requests to the live page's server: pictures and forms, damaged, endless and too large."""

import contextlib
import socket
import zlib

import pytest

from edgeclf_runtime.sinks.live import answers
from edgeclf_runtime.sinks.live.posted import body
from edgeclf_runtime.sinks.live.posted.body import MAX_BODY_BYTES, MAX_HELD_BYTES
from tests.support.attackers import connect, crowd, say
from tests.support.posting import HEAD, JPEG, PNG, error, message, read
from tests.support.waiting import wait_until
from tests.support.watching import ask

FORM = b"Content-Type: multipart/form-data; boundary=%s\r\n"
PART = b'Content-Disposition: form-data; name="file"; filename="a.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'


def form(*contents, **options):
    """A form of these parts."""
    boundary = options.get("boundary", b"--x")
    parts = [b"--" + boundary + b"\r\n" + PART + content + b"\r\n" for content in contents]
    return b"".join(parts) + b"--" + boundary + b"--\r\n"


@pytest.mark.parametrize(
    "headers",
    [(), (b"Content-Type: image/png",), (b"content-type: Application/Octet-Stream",), (b"Content-Type: image/x; a=b",)],
)
def test_a_picture_is_read_by_its_content(sink, desk, headers):
    assert read(say(sink, message(*headers, content=PNG)))[2]["label"] == "3"
    assert desk.shapes == [(16, 32, 3)]


@pytest.mark.parametrize("boundary", [b"--x", b'"a b"', b"0'+_.-", b'"(),/:=?"; charset=utf-8', b"x; a=b"])
def test_a_form_with_one_file_is_the_same(sink, desk, boundary):
    plain = boundary.partition(b";")[0].strip(b'"')
    for content in (form(PNG, boundary=plain), b"\r\n" + form(PNG, boundary=plain)):
        assert read(say(sink, message((FORM % boundary).strip(), content=content)))[0] == 200
    assert desk.shapes == [(16, 32, 3)] * 2


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (form(), "the form has no part; one file was expected"),
        (form(PNG, PNG, JPEG), "the form has more than one part; one file was expected"),
        (form(PNG)[3:], "it does not begin with its boundary"),
        (b"----x", "a boundary is not the end of its line"),
        (b"----xy\r\n" + PART, "a boundary is not the end of its line"),
        (form(PNG)[:-7], "its last boundary is missing"),
        (form(PNG).replace(b"\r\n\r\n", b"\r\n \r\n", 1), "a part has no header Content-Disposition: form-data"),
        (b"----x\r\nContent-Type: image/png\r\n\r\n" + PNG + b"\r\n----x--", "a part has no header"),
        (b"----x\r\n" + b"X: y\r\n" * 5000 + PART + PNG + b"\r\n----x--", "a part has no header"),
        (form(b""), "the picture: the file is empty"),
        (b"--" * 100000, "it does not begin with its boundary"),
    ],
)
def test_a_form_that_is_not_one_file_is_refused(sink, content, expected):
    status, text = error(sink, message((FORM % b"--x").strip(), content=content))
    assert status == 400
    assert expected in text


@pytest.mark.parametrize("boundary", [b"", b'"', b'" "', b'"a"b', b"a b", b"x" * 71, b"\xff", b'"' + b"x" * 71 + b'"'])
def test_a_boundary_that_is_not_valid_is_refused(sink, boundary):
    status, text = error(sink, message((FORM % boundary).strip(), content=form(PNG, boundary=boundary)))
    assert (status, "no valid boundary" in text) == (400, True)


@pytest.mark.parametrize(
    ("request_", "status", "expected"),
    [
        (HEAD + b"\r\n", 411, "Content-Length is missing"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 411, "Transfer-Encoding is not read"),
        (HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\nhello", 411, "Transfer-Encoding is not read"),
        (HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400, "occurs 2 times"),
        (HEAD + b"Content-Length: -1\r\n\r\n", 400, "Content-Length is '-1'; a number of bytes was expected"),
        (HEAD + b"Content-Length: 1e3\r\n\r\n", 400, "Content-Length is '1e3'"),
        (HEAD + b"Content-Length: " + b"9" * 400 + b"\r\n\r\n", 400, "Content-Length is '9999"),
        (message(content=b""), 400, "the body is empty"),
        (message(length=MAX_BODY_BYTES + 1), 413, "has 33554433 bytes; at most 33554432 were expected"),
        (message(b"Content-Type: text/html"), 415, "Content-Type is 'text/html'; image/jpeg, image/png, "),
        (message(b"Content-Type: application/x-www-form-urlencoded"), 415, "was expected"),
        (message(b"Content-Encoding: gzip"), 415, "Content-Encoding is 'gzip'; send the picture as it is"),
        (message(b"Expect: a present"), 417, "Expect has another value"),
        (message(content=b"GIF89a" + b"x" * 99), 400, "the picture: "),
        (message(content=JPEG[: len(JPEG) // 2]), 400, "the picture: "),
        (message(content=PNG[:30]), 400, "the PNG is truncated"),
    ],
)
def test_what_is_no_picture_is_refused_with_what_was_wrong(sink, desk, request_, status, expected):
    found, text = error(sink, request_)
    assert found == status
    assert expected in text
    assert desk.shapes == []


def test_a_picture_with_too_many_pixels_is_refused_by_its_header(sink, desk):
    header = b"IHDR" + (60000).to_bytes(4, "big") * 2 + PNG[24:29]
    bomb = PNG[:12] + header + zlib.crc32(header).to_bytes(4, "big") + PNG[33:]
    status, text = error(sink, message(content=bomb))
    assert (status, "60000 x 60000 is 3600.0 megapixels, more than the 50 allowed" in text) == (400, True)
    assert desk.shapes == []


def test_a_client_that_asks_first_is_told_to_send_the_body_or_why_not(sink):
    with contextlib.closing(connect(sink)) as connection:
        connection.sendall(message(b"Expect: 100-continue")[: -len(JPEG)])
        with connection.makefile("rb") as reader:
            assert (reader.readline(), reader.readline()) == (b"HTTP/1.1 100 Continue\r\n", b"\r\n")
            connection.sendall(JPEG)
            assert read(reader.read())[0] == 200
    asked = message(b"Expect: 100-continue", length=MAX_BODY_BYTES + 1)[: -len(JPEG)]
    assert error(sink, asked)[0] == 413


def test_a_body_that_comes_in_pieces_is_read_and_what_follows_it_is_not(sink, desk):
    with contextlib.closing(connect(sink)) as connection:
        for byte in message(content=PNG):
            connection.sendall(bytes([byte]))
        assert read(connection.makefile("rb").read())[0] == 200
    with contextlib.closing(connect(sink)) as connection:
        connection.sendall(message(content=PNG) + message(content=PNG))
        assert connection.makefile("rb").read().count(b"HTTP/1.0") == 1
    assert len(desk.shapes) == 2


def test_a_body_that_ends_too_soon_is_reported(sink):
    with contextlib.closing(connect(sink)) as connection:
        connection.sendall(message(content=b"x" * 10, length=20))
        connection.shutdown(socket.SHUT_WR)
        status, _, value = read(connection.makefile("rb").read())
    assert (status, value["error"][:55]) == (400, "10 of the 20 bytes announced with Content-Length arrive")
    wait_until(lambda: not sink.queue.memory.held_bytes)


def test_a_body_that_does_not_come_in_time_is_given_up(sink, monkeypatch):
    monkeypatch.setattr(answers, "BODY_TIMEOUT_S", 0.2)
    with contextlib.closing(connect(sink)) as connection:
        connection.sendall(message(length=len(JPEG) + 1))
        assert read(connection.makefile("rb").read())[0] == 408
    assert sink.queue.memory.held_bytes == 0


def test_a_refused_client_that_sends_a_large_body_first_can_read_why(sink):
    large = b"x" * (8 << 20)
    assert error(sink, message(b"Content-Type: text/plain", content=large))[0] == 415
    assert error(sink, message(content=large * 8))[0] == 413


def test_announcing_bodies_takes_no_memory_and_sending_them_takes_a_bounded_amount(sink, monkeypatch):
    with crowd(sink, 20, message(length=MAX_BODY_BYTES, content=b"")):
        assert read(say(sink, message()))[0] == 200
    monkeypatch.setattr(body, "MAX_HELD_BYTES", 100000)
    with crowd(sink, 9, message(length=MAX_BODY_BYTES, content=b"x" * 10000)):
        wait_until(lambda: sink.queue.memory.held_bytes >= 90000)
        status, text = error(sink, message(content=b"x" * 20000))
        assert (status, text) == (503, "too many pictures are being sent: try again in 1 s")
    wait_until(lambda: not sink.queue.memory.held_bytes)
    assert MAX_HELD_BYTES == 2 * MAX_BODY_BYTES


@pytest.mark.parametrize(
    "sent", [HEAD, message(length=9999), HEAD + b"Content-Length: 9999\r\n\r\n"], ids=["head", "half", "none"]
)
def test_bodies_that_never_end_keep_nobody_out(sink, sent):
    with crowd(sink, 100, sent):
        assert read(say(sink, message()))[0] == 200
        assert ask(sink, "/state.json").status == 200
    wait_until(lambda: not sink.queue.memory.held_bytes)
