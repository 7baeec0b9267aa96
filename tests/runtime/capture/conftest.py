"""Servers of HTTP, and streams of theirs that do not end by themselves."""

import threading

import pytest

from tests.support.http_servers import HttpServer


@pytest.fixture
def serve():
    """Start a server: serve(answer) where answer(path, headers) returns a response, or is one."""
    servers = []

    def start(answer):
        servers.append(HttpServer(answer if callable(answer) else lambda path, headers: answer))
        return servers[-1]

    yield start
    for server in servers:
        server.__exit__()


@pytest.fixture
def held():
    """An event that a stream waits for until the test ends."""
    event = threading.Event()
    yield event
    event.set()
