"""Clients of the live page that block connections, and others that must get in anyway."""

import contextlib
import socket
import threading
import time

import numpy as np
import pytest

from edgeclf_runtime.images.frame import Frame
from edgeclf_runtime.results import Result, StreamResult
from edgeclf_runtime.sinks.live import clients
from edgeclf_runtime.sinks.live.clients import MAX_THREADS, PLACES, machine
from edgeclf_runtime.sinks.live.sink import LiveSink
from tests.support.attackers import connect, crowd, say
from tests.support.pictures import noise
from tests.support.waiting import wait_until
from tests.support.watching import ask, next_picture

REQUEST = b"GET /%s HTTP/1.1\r\nHost: localhost\r\n\r\n"
RESULT = Result("3", 0.9, [("3", 0.9)], {}, "fp32", "fake", np.array([0.9]))
OTHERS = [f"127.0.0.{number}" for number in range(2, 10)]


@pytest.fixture
def sink():
    """A page that gets, 50 times a second, an image that does not fit into a connection's buffers."""
    stop, image = threading.Event(), noise(640, 480)
    with LiveSink(":0", ["3"]) as opened:

        def feed():
            while not stop.wait(0.02):
                now = time.monotonic()
                opened.write(StreamResult(Frame(image, 0, 1.5e9, now, 1.0, ""), RESULT, 1.0))

        thread = threading.Thread(target=feed)
        thread.start()
        yield opened
        stop.set()
        thread.join()


def is_open(connection):
    """Return whether the page has not closed this connection."""
    connection.settimeout(0)
    try:
        return connection.recv(1) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


INCOMPLETE = [b"", b"G", b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ", b"GET /?" + b"x" * 3000]


@pytest.mark.parametrize("sent", INCOMPLETE, ids=["silent", "a byte", "a header", "a long address"])
def test_requests_that_never_end_keep_nobody_out(sink, sent):
    with crowd(sink, 3 * PLACES, sent) as connections:
        assert ask(sink).status == 200
        next_picture(ask(sink, "/picture.mjpg"))
        assert len(sink._server.clients) <= PLACES + 2
        assert not is_open(connections[0]), "the oldest goes first"
        assert is_open(connections[-1])


@pytest.mark.parametrize("sent", INCOMPLETE[:3], ids=["silent", "a byte", "a header"])
def test_a_request_has_a_deadline_as_a_whole(sink, sent, monkeypatch):
    monkeypatch.setattr(clients, "REQUEST_TIMEOUT_S", 0.3)
    with contextlib.closing(connect(sink)) as slow:
        slow.sendall(sent)
        stop = threading.Event()

        def trickle():
            with contextlib.suppress(OSError):
                while sent and not stop.wait(0.05):
                    slow.sendall(b"x")

        thread = threading.Thread(target=trickle)
        thread.start()
        answer = slow.makefile("rb").read()
        stop.set()
        thread.join()
    assert answer.startswith(b"HTTP/1.0 408 ") == bool(sent)
    wait_until(lambda: not sink._server.clients)


def test_a_client_that_half_closes_before_its_request_is_complete_is_let_go(sink):
    with crowd(sink, PLACES, b"GET / HT") as connections:
        for connection in connections:
            connection.shutdown(socket.SHUT_WR)
        wait_until(lambda: not sink._server.clients)


def test_a_client_that_half_closes_behind_its_request_gets_the_answer(sink):
    with contextlib.closing(connect(sink)) as connection:
        connection.sendall(REQUEST % b"state.json")
        connection.shutdown(socket.SHUT_WR)
        assert connection.makefile("rb").read().startswith(b"HTTP/1.0 200 ")


@pytest.mark.parametrize("path", [b"picture.mjpg", b"events", b"picture.jpg"])
@pytest.mark.parametrize("addresses", [["127.0.0.1"], OTHERS], ids=["one machine", "several machines"])
def test_clients_that_read_nothing_keep_nobody_out(sink, path, addresses):
    with crowd(sink, 3 * PLACES, REQUEST % path, addresses, receive_bytes=2048):
        for _ in range(3):
            assert ask(sink).status == 200
            next_picture(ask(sink, "/picture.mjpg"))
            assert ask(sink, "/events").readline() == b"retry: 1000\n"
        assert len(sink._server.clients) <= 3 * PLACES


def test_a_viewer_stays_while_one_machine_opens_stream_after_stream(sink):
    pictures, events = ask(sink, "/picture.mjpg"), ask(sink, "/events")
    with crowd(sink, 4 * PLACES, REQUEST % b"picture.mjpg", ["127.0.0.2"], receive_bytes=2048):
        for _ in range(5):
            next_picture(pictures)
            assert events.readline()


@pytest.mark.slow
def test_a_viewer_that_reads_stays_though_its_own_machine_opens_stream_after_stream(sink):
    pictures = ask(sink, "/picture.mjpg")
    while max(client.sent for client in sink._server.clients._clients) < clients.READER_BYTES:
        next_picture(pictures)
    with crowd(sink, 3 * PLACES, REQUEST % b"picture.mjpg", receive_bytes=2048):
        for _ in range(5):
            next_picture(pictures)


def test_a_stream_that_is_not_read_is_ended_at_its_deadline(sink, monkeypatch):
    monkeypatch.setattr(clients, "CLIENT_TIMEOUT_S", 0.3)
    with crowd(sink, 5, REQUEST % b"picture.mjpg", receive_bytes=2048):
        wait_until(lambda: len(sink._server.clients) == 5)
        wait_until(lambda: not sink._server.clients)


@pytest.mark.slow
def test_a_stream_that_is_read_drop_by_drop_is_ended_at_its_deadline(sink, monkeypatch):
    monkeypatch.setattr(clients, "CLIENT_TIMEOUT_S", 0.5)
    with contextlib.closing(connect(sink, receive_bytes=2048)) as slow:
        slow.sendall(REQUEST % b"picture.mjpg")
        wait_until(lambda: sink._server.clients)
        with contextlib.suppress(OSError):
            while sink._server.clients and slow.recv(10):
                time.sleep(0.01)
    wait_until(lambda: not sink._server.clients)


def test_a_viewer_who_leaves_in_the_middle_of_a_picture_leaves_nothing_behind(sink, new_threads):
    for path in (b"picture.mjpg", b"events", b"picture.jpg"):
        with crowd(sink, PLACES, REQUEST % path):
            pass
    wait_until(lambda: not sink._server.clients and not new_threads())


@pytest.mark.slow
def test_threads_are_bounded_while_connections_come_and_go(sink, new_threads):
    seen = []
    for path in (b"picture.mjpg", b"events", b"nothing", b"picture.jpg"):
        with crowd(sink, 4 * PLACES, REQUEST % path, OTHERS):
            seen.append(len(new_threads()))
    assert max(seen) <= MAX_THREADS


def test_closing_ends_clients_of_every_kind(sink, new_threads):
    kinds = [b"", b"GET /", REQUEST % b"picture.mjpg", REQUEST % b"events", REQUEST % b"nothing"]
    with contextlib.ExitStack() as stack:
        for sent in kinds:
            stack.enter_context(crowd(sink, 8, sent, receive_bytes=2048))
        sink.close()
        wait_until(lambda: not new_threads())


def test_what_follows_a_request_is_not_answered(sink):
    assert say(sink, REQUEST % b"state.json" * 3).count(b"HTTP/1.0") == 1


def test_the_addresses_of_one_machine_count_as_one():
    assert machine("192.168.0.7") == machine("::ffff:192.168.0.7") == "192.168.0.7"
    assert machine("fe80::1%eth0") == machine("fe80::2") != machine("fe81::1")
