"""Posting pictures to the live page's server by plain sockets."""

import json
import threading

import numpy as np

from edgeclf_runtime.results import Result
from tests.support.attackers import say
from tests.support.pictures import encode, noise

JPEG, PNG = encode(".jpg", noise(64, 48)), encode(".png", noise(32, 16))
RESULT = Result("3", 0.9, [("3", 0.9)], {"inference": 1.0}, "fp32", "fake", np.array([0.9]))
HEAD = b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\n"


class Desk:
    """A classifier that notes the shapes of its pictures, and waits at ``door`` with each."""

    def __init__(self):
        self.shapes, self.inside, self.most_inside = [], 0, 0
        self.door = threading.Event()
        self.door.set()

    def classify(self, image):
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        self.door.wait(30)
        self.inside -= 1
        self.shapes.append(image.shape)
        return RESULT


def message(*headers, **options):
    """The bytes of a request: message(b"Content-Type: image/png", content=PNG, length=5)."""
    content = options.get("content", JPEG)
    length = options.get("length", len(content))
    return HEAD + b"".join(line + b"\r\n" for line in headers) + b"Content-Length: %d\r\n\r\n" % length + content


def read(answer):
    """Status, headers and JSON of an answer's bytes."""
    head, _, content = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), head.decode("latin-1"), json.loads(content.decode("ascii"))


def error(sink, request):
    """Status and message of a refusal."""
    status, head, value = read(say(sink, request))
    assert "Content-Type: application/json\r\n" in head
    assert set(value) == {"error"}
    return status, value["error"]
