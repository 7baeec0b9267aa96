"""A server of the digits' bundle, and clients."""

import contextlib
import http.client
import json
from urllib.parse import urlsplit

import pytest

from edgeclf.deployment.serving.app import make_app
from edgeclf.deployment.serving.engine import Engine
from edgeclf.deployment.serving.metrics import Metrics
from edgeclf.deployment.serving.models import Models, Served
from edgeclf.deployment.serving.serve import listening
from edgeclf.deployment.serving.server import Server
from edgeclf.deployment.serving.state import Serving
from edgeclf.deployment.serving.uploads import Uploads
from edgeclf.options import ServeOptions
from edgeclf_runtime.classify.classifier import Classifier
from edgeclf_runtime.images.preprocess import Preprocessing


class Client:
    """Sends requests to a server, each on a connection of its own."""

    def __init__(self, server):
        self.server = server
        self.host = urlsplit(server.address).netloc

    def send(self, method, path, body=None, headers=None, **options):
        """The status and the headers of an answer, and its body: JSON if it says so, or bytes."""
        connection = http.client.HTTPConnection(self.host, timeout=30)
        try:
            connection.request(method, path, body, headers or {}, **options)
            answer = connection.getresponse()
            data = answer.read()
            kind = answer.headers.get("Content-Type", "")
            return answer.status, answer.headers, json.loads(data) if kind == "application/json" else data
        finally:
            connection.close()

    def get(self, path):
        return self.send("GET", path)

    def post(self, path, body, kind="application/octet-stream", **headers):
        return self.send("POST", path, body, {"Content-Type": kind, **headers})


@pytest.fixture(scope="module")
def client(bundle):
    """A client of a server of two models."""
    options = ServeOptions(port=0, max_mb=1, at_once=2)
    with listening([bundle, f"other={bundle}"], options) as server:
        yield Client(server)


@pytest.fixture(scope="module")
def image(digits):
    """An image file's bytes."""
    return (digits / "8" / "000.png").read_bytes()


@pytest.fixture
def serve_runner():
    """Serve a runner as the model "it": serve_runner(RUNNER, threads, queue) gives its client."""
    with contextlib.ExitStack() as stack:

        def serve(runner, threads=1, queue=1, **facts):
            models, metrics = Models(), Metrics()
            engine = Engine(threads, queue, metrics)
            models.add(Served("it", "1", Classifier(runner, ["3", "5", "8"], Preprocessing(64, 64)), **facts))
            server = Server(make_app(Serving(models, engine, Uploads(1_000_000), metrics)), "127.0.0.1", 0)
            for close in (models.close, engine.close, server.stop):
                stack.callback(close)
            server.start()
            return Client(server)

        yield serve
