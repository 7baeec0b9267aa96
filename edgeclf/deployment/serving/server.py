"""A web server in a thread of its own, so that signals end the program as they end every command."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Any

import uvicorn

from ...errors import EdgeclfError

STOP_S = 1
"""Time for the requests under way when the server ends."""
_MOST_CONNECTIONS = 512


class Server:
    """Serves an application on a port, 0 for a free one, from start() to stop().  Raises EdgeclfError if it is taken."""

    def __init__(self, app: Any, host: str, port: int) -> None:
        self._socket = _listen(host, port)
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            http="h11",
            ws="none",
            limit_concurrency=_MOST_CONNECTIONS,
            timeout_graceful_shutdown=STOP_S,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), name="server", daemon=True)
        found, port = self._socket.getsockname()[:2]
        self.address = f"http://{f'[{found}]' if ':' in found else found}:{port}"

    def start(self) -> None:
        """Begin to answer; connections that came before wait until then."""
        self._thread.start()

    def wait(self) -> None:
        """Wait until the server ends, which it does only if something is wrong."""
        while self._thread.is_alive():
            self._thread.join(0.5)

    def stop(self) -> None:
        """End the server; requests under way have STOP_S seconds."""
        self._server.should_exit = True
        if self._thread.ident is not None:
            self._thread.join(STOP_S + 1)
        with contextlib.suppress(OSError):
            self._socket.close()


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listening = socket.socket(family, socket.SOCK_STREAM)
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
