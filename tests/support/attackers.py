"""Clients of the live page that mean no good, by plain sockets."""

import contextlib
import socket
from urllib.parse import urlsplit

from tests.support.watching import WAIT_S


def connect(sink, address="127.0.0.1", receive_bytes=None):
    """A connection to the page from one of this machine's addresses."""
    connection = socket.socket()
    connection.settimeout(WAIT_S)
    if receive_bytes:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    connection.bind((address, 0))
    connection.connect(("127.0.0.1", urlsplit(sink.url).port))
    return connection


@contextlib.contextmanager
def crowd(sink, count, sent=b"", addresses=("127.0.0.1",), receive_bytes=None):
    """So many connections, from each address in turn, that have sent the same."""
    with contextlib.ExitStack() as stack:
        connections = []
        for number in range(count):
            connection = connect(sink, addresses[number % len(addresses)], receive_bytes)
            connections.append(stack.enter_context(contextlib.closing(connection)))
            with contextlib.suppress(OSError):
                connection.sendall(sent)
        yield connections


def say(sink, data, address="127.0.0.1"):
    """Everything that the page answers to these bytes."""
    with contextlib.closing(connect(sink, address)) as connection:
        connection.sendall(data)
        with connection.makefile("rb") as reader:
            return reader.read()


def status(sink, data, address="127.0.0.1"):
    """The number of the answer to these bytes."""
    return int(say(sink, data, address).split(b" ")[1])
