"""A web server in a thread of its own, so that signals end the program as they end every command."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from typing import Any

import uvicorn

from ...errors import EdgeclfError

STOP_S = 1
"""Time for the requests under way when the server ends."""
_MOST_CONNECTIONS = 512
_LOOK_EVERY_S = 0.5

_log = logging.getLogger("uvicorn.error")


class Server:
    """Serves an application on a port, 0 for a free one, from start() to stop().  Raises EdgeclfError if it is taken."""

    def __init__(self, app: Any, host: str, port: int) -> None:
        self._socket = _listen(host, port)
        config = uvicorn.Config(
            app,
            log_config=None,
            log_level="error",  # a warning for each request that is not HTTP would let clients fill the log
            access_log=False,
            lifespan="off",
            server_header=False,
            http="h11",
            ws="none",
            limit_concurrency=_MOST_CONNECTIONS,
            timeout_graceful_shutdown=STOP_S,
        )
        self._server = uvicorn.Server(config)
        # Not Thread.join(): Ctrl-C in the middle of it marks the thread as ended in Python 3.10 to 3.12.
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="server", daemon=True)
        found, port = self._socket.getsockname()[:2]
        self.address = f"http://{f'[{found}]' if ':' in found else found}:{port}"

    def start(self) -> None:
        """Begin to answer; connections that came before wait until then."""
        self._thread.start()

    def wait(self) -> None:
        """Wait for stop(); raises EdgeclfError if the server ends by itself."""
        # A signal that comes just before the wait begins does not end it, so it is begun again and again.
        while not self._ended.wait(_LOOK_EVERY_S):
            pass
        if not self._server.should_exit:
            raise EdgeclfError("the server has ended by itself; the messages above say why")

    def _run(self) -> None:
        try:
            self._server.run([self._socket])
        finally:
            self._ended.set()

    def stop(self) -> None:
        """End the server; requests under way have STOP_S seconds."""
        self._server.should_exit = True
        if self._thread.ident is not None:
            _log.addFilter(_nothing)
            self._ended.wait(STOP_S + 1)
            _log.removeFilter(_nothing)
        with contextlib.suppress(OSError):
            self._socket.close()


def _nothing(record: logging.LogRecord) -> bool:
    """Drop what uvicorn logs of requests that are cut off at the end."""
    return False


def _listen(host: str, port: int) -> socket.socket:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        family, kind, protocol, _, address = found
        # Without its protocol, asyncio does not switch off Nagle's algorithm, and each answer takes 40 ms longer.
        listening = socket.socket(family, kind, protocol)
    except OSError as error:
        raise EdgeclfError(
            f"{host} is not an address of this machine ({error.strerror}); choose another --host"
        ) from None
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(128)
    except OSError as error:
        listening.close()
        raise EdgeclfError(
            f"port {port} of {host} cannot be used ({error.strerror}); choose another --port or --host"
        ) from None
    return listening
