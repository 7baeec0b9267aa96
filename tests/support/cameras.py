"""Real cameras on loopback, and what can happen to them.

A Server is a program that sends moving pictures; a Proxy lies between it and the runtime, to
break connections in ways that a server does not.
"""

import contextlib
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

HERE = Path(__file__).resolve().parent
SYSTEM_PYTHON = "/usr/bin/python3"
RTSP_MODULES = "import gi; gi.require_version('GstRtspServer', '1.0')"


def has_rtsp_server():
    """Return whether Debian's GStreamer RTSP server is installed."""
    if not os.path.exists(SYSTEM_PYTHON):
        return False
    return subprocess.call([SYSTEM_PYTHON, "-c", RTSP_MODULES], stderr=subprocess.DEVNULL) == 0


def free_port():
    """Return a port of loopback that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """A camera server, ``kind`` "mjpeg" or "rtsp"; the same port whenever it is started.

    environment     further variables for it
    """

    def __init__(self, kind, width=160, height=120, fps=30, **environment):
        self.kind, self.size, self.fps = kind, (width, height), fps
        self._environment = environment
        self.port = free_port()
        self.process = None

    @property
    def command(self):
        """The program and its arguments."""
        python = SYSTEM_PYTHON if self.kind == "rtsp" else sys.executable
        script = HERE / f"{self.kind}_server.py"
        return [python, str(script), *map(str, (self.port, self.size[0], self.size[1], self.fps))]

    def uri(self, port=None):
        """The address of its pictures, by way of another port where one is given."""
        return {"mjpeg": "http://127.0.0.1:{}/camera.mjpg", "rtsp": "rtsp://127.0.0.1:{}/camera"}[self.kind].format(
            port or self.port
        )

    def start(self):
        """Start it, and wait until it answers."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        environment.update(self._environment)
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, env=environment)
        assert self.process.stdout.readline() == b"ready\n"
        return self

    def kill(self):
        """End it without a word."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()
            self.process = None

    def pause(self):
        """Stop it with its connections open: it answers nothing any more."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        """Let it go on."""
        self.process.send_signal(signal.SIGCONT)

    def __enter__(self):
        return self.start()

    def __exit__(self, *exception):
        self.kill()


class Proxy:
    """Hands bytes on between a port of its own and a server's, until it is told to do worse."""

    def __init__(self, port):
        self._target = port
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(8)
        self.port = self._listener.getsockname()[1]
        self._garbage = False
        self._pairs = []
        self._closing = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def reset(self):
        """Reset every connection (TCP RST)."""
        for client, server in list(self._pairs):
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._drop(client, server)

    def send_garbage(self, on=True):
        """Replace what the server sends by random bytes."""
        self._garbage = on

    def _run(self):
        while not self._closing:
            sockets = [self._listener] + [end for pair in list(self._pairs) for end in pair]
            try:
                readable = select.select(sockets, [], [], 0.1)[0]
            except (OSError, ValueError):
                continue  # a pair was dropped meanwhile
            for end in readable:
                if end is self._listener:
                    self._accept()
                else:
                    self._pass_on(end)

    def _accept(self):
        client, _ = self._listener.accept()
        try:
            self._pairs.append((client, socket.create_connection(("127.0.0.1", self._target), timeout=5)))
        except OSError:
            client.close()

    def _pass_on(self, end):
        for client, server in list(self._pairs):
            if end not in (client, server):
                continue
            try:
                data = end.recv(65536)
                if self._garbage and end is server:
                    data = os.urandom(len(data))
                (server if end is client else client).sendall(data)
            except OSError:
                data = b""
            if not data:
                self._drop(client, server)

    def _drop(self, client, server):
        with contextlib.suppress(ValueError):
            self._pairs.remove((client, server))
        client.close()
        server.close()

    def close(self):
        """Drop every connection and stop listening."""
        self._closing = True
        self._thread.join()
        for client, server in list(self._pairs):
            self._drop(client, server)
        self._listener.close()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()
