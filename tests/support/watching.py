"""Watching the live page as a browser does, with only the standard library."""

import http.client
import re
import socket
from urllib.parse import urlsplit

import cv2
import numpy as np

from tests.support.waiting import WAIT_S


def ask(sink, path="/", method="GET", **headers):
    """The answer to one request; its body is read by the test."""
    connection = http.client.HTTPConnection(urlsplit(sink.url).hostname, urlsplit(sink.url).port, timeout=WAIT_S)
    connection.request(method, path, headers=headers)
    return connection.getresponse()


def stuck_client(sink):
    """A connection that asks for pictures and reads none."""
    stuck = socket.socket()
    stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    stuck.connect((urlsplit(sink.url).hostname, urlsplit(sink.url).port))
    stuck.sendall(b"GET /picture.mjpg HTTP/1.0\r\nHost: localhost\r\n\r\n")
    return stuck


def gray(jpeg):
    return int(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR).mean().round())


def next_picture(answer):
    """The next JPEG of a multipart stream."""
    assert answer.readline() == b"--picture\r\n"
    assert answer.readline() == b"Content-Type: image/jpeg\r\n"
    assert answer.readline() == b"\r\n"
    return read_jpeg(answer)


def read_jpeg(answer):
    """The JPEG that comes next, up to its end and that of its line."""
    jpeg = b""
    while not jpeg.endswith(b"\xff\xd9\r\n"):
        line = answer.readline()
        assert line, "the stream of pictures ended"
        jpeg += line
    return jpeg[:-2]


def cookie_of(head):
    return re.search(r"Set-Cookie: ([^;\r]+)", head).group(1)
