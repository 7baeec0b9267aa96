"""The command ``edgeclf serve``: its start, its errors and its end."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest

import edgeclf
from edgeclf.deployment.serving import serve as serving
from edgeclf.deployment.serving.models import named_paths
from edgeclf.deployment.serving.server import Server

WAIT_S = 60


@contextlib.contextmanager
def started(*arguments):
    """A server in a process of its own, and its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "edgeclf", "serve", *map(str, arguments), "--port", "0", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    limit = threading.Timer(WAIT_S, process.kill)
    limit.start()
    try:
        yield process, json.loads(process.stdout.readline())
    finally:
        limit.cancel()
        process.kill()
        process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_server_even_during_an_upload(bundle, digits, number, code):
    with started(bundle) as (process, found):
        assert [model["name"] for model in found["models"]] == ["digits"]
        data = (digits / "3" / "000.png").read_bytes()
        with urllib.request.urlopen(f"{found['address']}/classify", data, timeout=WAIT_S) as answer:
            assert json.load(answer)["label"] in ("3", "5", "8")
        host, port = found["address"].removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as upload:
            upload.sendall(b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf")
            process.send_signal(number)
            _, said = process.communicate(timeout=WAIT_S)
    assert process.returncode == code
    assert said.splitlines()[1:] == ["interrupted; nothing half-written was left behind"]


def test_the_command_suggests_a_request(command, bundle, monkeypatch):
    monkeypatch.setattr(serving.Listening, "wait", lambda self: None)
    code, out, err = command("serve", bundle, f"other={bundle}", "--port", "0")
    assert code == 0
    first, second, address = out.splitlines()
    assert first.startswith("digits: ")
    assert second.startswith("other: ")
    *opening, last = err.splitlines()
    assert [line.partition(";")[0] for line in opening] == ["opening digits", "opening other"]
    assert last == f"next: curl -F image=@photo.jpg {address.split()[2]}/classify"


def test_the_function_serves_until_it_is_interrupted(bundle, monkeypatch):
    def interrupt(self):
        assert urllib.request.urlopen(f"{self.address}/models").status == 200
        raise KeyboardInterrupt

    monkeypatch.setattr(serving.Listening, "wait", interrupt)
    with pytest.raises(KeyboardInterrupt):
        edgeclf.serve(bundle, port=0)


def test_a_port_that_is_taken_is_an_error_before_a_model_is_opened(command, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, _, err = command("serve", tmp_path, "--port", port)
    expected = (
        f"error: port {port} of 127.0.0.1 cannot be used (Address already in use); choose another --port or --host\n"
    )
    assert (code, err) == (1, expected)


def test_answers_do_not_wait_for_the_acknowledgment_of_their_first_part():
    server = Server(None, "127.0.0.1", 0)
    try:
        # asyncio sets TCP_NODELAY for connections of such a socket only.
        assert server._socket.proto == socket.IPPROTO_TCP
    finally:
        server.stop()


def wait_after(event, server):
    event.set()
    server.wait()


def test_requests_under_way_are_answered_after_ctrl_c(caplog):
    came, waits = threading.Event(), threading.Event()

    async def app(scope, receive, send):
        came.set()
        await asyncio.sleep(0.2)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})

    server = Server(app, "127.0.0.1", 0)
    server.start()
    with ThreadPoolExecutor(2) as pool:
        answer = pool.submit(lambda: urllib.request.urlopen(server.address, timeout=WAIT_S).read())
        pool.submit(lambda: (came.wait(WAIT_S), waits.wait(WAIT_S), os.kill(os.getpid(), signal.SIGINT)))
        with pytest.raises(KeyboardInterrupt):
            wait_after(waits, server)
        server.stop()
        assert answer.result() == b"done"
    assert caplog.text == ""


def test_what_is_not_a_bundle_is_an_error(command, tmp_path):
    code, _, err = command("serve", tmp_path, "--port", "0")
    assert code == 1
    assert "is not a complete bundle" in err


def test_names_are_those_of_the_folders_unless_they_are_given(tmp_path):
    assert list(named_paths(["a/pets.edge", "b=a/pets.edge", "cells"])) == ["pets", "b", "cells"]
    odd = tmp_path / "x=y.edge"
    odd.mkdir()
    assert named_paths([str(odd)]) == {"x=y": odd}


@pytest.mark.parametrize(
    ("bundles", "words"),
    [
        (["a/pets.edge", "b/pets.edge"], "both have the name 'pets'; give one another name: OTHER=b/pets.edge"),
        (["=pets.edge"], "gives no name; NAME=PATH was expected"),
        (["pets="], "gives no name; NAME=PATH was expected"),
    ],
)
def test_a_name_that_is_missing_or_taken_is_wrong_usage(command, bundles, words):
    code, _, err = command("serve", *bundles)
    assert code == 2
    assert words in err


def test_without_fastapi_the_extra_is_named(bundle, monkeypatch):
    monkeypatch.setattr(serving, "find_spec", lambda name: None if name == "fastapi" else name)
    with pytest.raises(edgeclf.DependencyError, match=r"serving needs fastapi.*'edgeclf\[serve\]'"):
        edgeclf.serve(bundle)


def test_a_server_for_the_network_says_that_it_has_no_password(command, bundle, monkeypatch):
    monkeypatch.setattr(serving.Listening, "wait", lambda self: None)
    _, _, err = command("serve", bundle, "--host", "0.0.0.0", "--port", "0")
    assert "answers everyone who can reach it; there is no password and no encryption" in err
