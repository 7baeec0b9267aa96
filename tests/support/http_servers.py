"""A server on loopback whose answers a test writes itself."""

import base64
import hashlib
import re
import socket
import ssl
import threading
from contextlib import suppress

import pytest

from edgeclf_runtime.capture.open_camera import open_camera
from edgeclf_runtime.errors import CameraError


class HttpServer:
    """Answers each request with what ``answer(path, headers)`` returns: raw bytes, or an iterable of them.

    address     to listen at, a port of loopback unless it is given
    requests    the path and the headers of each request, as they came
    """

    def __init__(self, answer, address=("127.0.0.1", 0)):
        self._answer = answer
        self._wrap = lambda client: client
        self.requests = []
        self._listener = socket.socket()
        self._listener.bind(address)
        self._listener.listen(8)
        self.port = self._listener.getsockname()[1]
        self._open = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def uri(self, path="/camera", user=""):
        """The address of a path."""
        return f"http://{user}127.0.0.1:{self.port}{path}"

    def encrypt(self, certificate, key):
        """Speak HTTPS from now on."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if hasattr(ssl, "PROTOCOL_TLS_SERVER") else ssl.PROTOCOL_TLS)
        context.load_cert_chain(certificate, key)
        self._wrap = lambda client: context.wrap_socket(client, server_side=True)

    def _accept(self):
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._open.append(client)
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        with suppress(OSError), self._wrap(client) as client, client.makefile("rb") as stream:
            line = stream.readline().split()
            if len(line) < 2:
                return  # looked whether the port answers
            headers = {}
            for header in iter(stream.readline, b"\r\n"):
                name, _, value = header.decode().partition(":")
                headers[name.lower()] = value.strip()
            path = line[1].decode()
            self.requests.append((path, headers))
            answer = self._answer(path, headers)
            for part in [answer] if isinstance(answer, bytes) else answer:
                client.sendall(part)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        for end in self._open:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


def response(body=b"", kind="image/jpeg", status="200 OK", length=True, **headers):
    """A whole response; it ends with the connection where ``length`` is not told."""
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    lines += [f"Content-Length: {len(body)}"] if length else []
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def stream_head(boundary="frame"):
    """The head of an MJPEG stream."""
    return response(kind=f"multipart/x-mixed-replace; boundary={boundary}", length=False)


def part(data, boundary="frame", length=True):
    """A part of it."""
    told = f"Content-Length: {len(data)}\r\n" if length else ""
    return f"--{boundary}\r\nContent-Type: image/jpeg\r\n{told}\r\n".encode() + data + b"\r\n"


def basic(user, password):
    """What a request must carry for Basic authentication."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def digest_is_right(header, user, password, algorithm="MD5"):
    """Return whether a request's Digest authorization is that of a user and password (RFC 7616, with qop=auth)."""
    given = {name: quoted or plain for name, quoted, plain in re.findall(r'(\w+)=(?:"([^"]*)"|([^,\s]+))', header)}

    def hashed(*texts):
        return hashlib.new(algorithm.replace("-", "").lower(), ":".join(texts).encode()).hexdigest()

    first, second = hashed(user, given["realm"], password), hashed("GET", given["uri"])
    wanted = hashed(first, given["nonce"], given["nc"], given["cnonce"], "auth", second)
    return given["username"] == user and given["response"] == wanted


def read_on(camera):
    """Read until an error is raised."""
    while True:
        camera.read()


def refusal(uri, **options):
    """Give the message with which a camera is refused, when it is opened or read."""
    with pytest.raises(CameraError) as caught, open_camera(uri, **options) as camera:
        camera.read()
    return str(caught.value)
