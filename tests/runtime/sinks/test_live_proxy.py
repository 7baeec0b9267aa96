"""The live page behind a real nginx, with the configuration from deploy/README.md."""

import contextlib
import http.client
import json
import os
import re
import shutil
import socket
import subprocess
from urllib.parse import urlsplit

import pytest

from edgeclf_runtime.errors import OptionError
from edgeclf_runtime.sinks.live.access import TRIES, Access, open_access
from edgeclf_runtime.sinks.live.sink import LiveSink
from tests.support.brokers import WAIT_S
from tests.support.pictures import encode, noise
from tests.support.results import result
from tests.support.waiting import wait_until
from tests.support.watching import read_jpeg

README = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..", "deploy", "README.md")
TOKEN = "a token of some length"
CONFIG = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {folder}/1; proxy_temp_path {folder}/2; fastcgi_temp_path {folder}/3;
    uwsgi_temp_path {folder}/4; scgi_temp_path {folder}/5;
    upstream cam {{ server 127.0.0.1:{page}; }}
    server {{ listen 127.0.0.1:{port}; {lines} }}
}}
"""


class Proxy:
    """An nginx on ``port`` that passes requests on to a page."""

    def __init__(self, folder, sink, lines):
        program = shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin")
        if not program:
            pytest.skip("nginx is not installed (sudo apt-get install nginx-light)")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        page = urlsplit(sink.url).port
        lines = lines.replace("8080", str(page))
        (folder / "nginx.conf").write_text(CONFIG.format(folder=folder, page=page, port=self.port, lines=lines))
        command = [program, "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        wait_until(self._answers)

    def _answers(self):
        assert self.process.poll() is None, "nginx did not start"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self):
        self.process.terminate()
        self.process.wait(WAIT_S)


class Answer:
    """The answer to a request, with its head read and its body still open."""

    def __init__(self, port, path, address="127.0.0.1", **headers):
        self.connection = socket.create_connection(("127.0.0.1", port), WAIT_S, (address, 0))
        headers = dict(
            {"Host": "www.example.com"}, **{name.replace("_", "-"): value for name, value in headers.items()}
        )
        lines = [f"GET {path} HTTP/1.0"] + ["{}: {}".format(*field) for field in headers.items()]
        self.connection.sendall("\r\n".join([*lines, "", ""]).encode("utf-8"))
        self.body = self.connection.makefile("rb")
        self.status = int(self.body.readline().split()[1])
        self.headers = {}
        for line in iter(self.body.readline, b"\r\n"):
            name, _, value = line.decode("latin-1").partition(": ")
            self.headers[name] = value.strip()

    def text(self):
        with self:
            return self.body.read().decode("utf-8")

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.body.close()
        self.connection.close()


def status(*arguments, **headers):
    with Answer(*arguments, **headers) as answer:
        return answer.status


def readme_lines():
    with open(README, encoding="utf-8") as stream:
        (lines,) = re.findall(r"```nginx\n(.*?)```", stream.read(), re.DOTALL)
    return lines


@pytest.fixture
def show(tmp_path):
    """Show a page behind an nginx: show(lines, access) gives the sink and the proxy's port."""
    opened = []

    def show(lines, **access):
        classify = lambda image: result().result  # noqa: E731
        access = open_access(**access) if access else Access()
        sink = LiveSink("127.0.0.1:0", ["cat", "dog"], access=access, classify=classify)
        opened.append(sink.close)
        proxy = Proxy(tmp_path, sink, lines)
        opened.append(proxy.stop)
        return sink, proxy.port

    yield show
    for close in reversed(opened):
        close()


@pytest.fixture
def documented(show, tmp_path):
    """A page configured as in deploy/README.md."""
    (tmp_path / "token").write_text(TOKEN)
    options = {"token_file": str(tmp_path / "token"), "names": ["www.example.com"], "proxies": ["127.0.0.1"]}
    return show(readme_lines(), **options)


def cookie_of(port, path="/line4/", **headers):
    with Answer(port, path + "?token=" + TOKEN.replace(" ", "%20"), **headers) as answer:
        assert answer.status == 303
        assert answer.headers["Location"] == "./"
        return answer.headers["Set-Cookie"]


def test_a_visitor_gets_in_by_the_token_and_stays_by_the_cookie(documented):
    sink, port = documented
    assert status(port, "/line4/") == 401
    cookie = cookie_of(port).split(";")[0]
    sink.write(result(7))
    for path in ("", "state.json", "events", "picture.mjpg"):
        assert status(port, "/line4/" + path, Cookie=cookie) == 200
    assert '"frame": 7' in Answer(port, "/line4/state.json", Cookie=cookie).text()


def test_the_cookie_is_for_the_folder_of_the_page_only_and_for_https_where_the_visitor_speaks_it(documented):
    _, port = documented
    cookie = cookie_of(port)
    assert "Path" not in cookie
    assert "Secure" not in cookie
    # The proxy's header counts, not its visitor's.
    assert "Secure" not in cookie_of(port, X_Forwarded_Proto="https")


def test_a_proxy_that_speaks_https_makes_the_cookie_secure(show, tmp_path):
    (tmp_path / "token").write_text(TOKEN)
    options = {"token_file": str(tmp_path / "token"), "names": ["www.example.com"], "proxies": ["127.0.0.0/8"]}
    _, port = show(readme_lines().replace("$scheme", "https"), **options)
    assert "; Secure" in cookie_of(port)


@pytest.mark.slow
def test_pictures_and_events_come_at_once(documented):
    sink, port = documented
    cookie = cookie_of(port).split(";")[0]
    with Answer(port, "/line4/events", Cookie=cookie) as events:
        for number in range(3):
            sink.write(result(number))
            for line in events.body:
                if f'"frame": {number}'.encode("ascii") in line:
                    break
    with Answer(port, "/line4/picture.mjpg", Cookie=cookie) as pictures:
        for number in range(3):
            wait_until(lambda: sink._watched_until > 0)
            sink.write(result(number))
            for line in pictures.body:
                if line == b"Content-Type: image/jpeg\r\n":
                    pictures.body.readline()
                    assert read_jpeg(pictures.body).startswith(b"\xff\xd8")
                    break


def test_wrong_tokens_are_counted_by_visitor_and_not_by_proxy(documented):
    _, port = documented
    for _ in range(TRIES):
        assert status(port, "/line4/?token=wrong", "127.0.0.2") == 401
    assert status(port, "/line4/?token=wrong", "127.0.0.2") == 429
    # A visitor who claims to be another is still the same.
    assert status(port, "/line4/?token=wrong", "127.0.0.2", X_Forwarded_For="127.0.0.9") == 429
    assert cookie_of(port, address="127.0.0.3")


@pytest.mark.parametrize("chunked", [False, True])
def test_a_picture_is_posted_through_the_proxy(documented, chunked):
    _, port = documented
    picture = encode(".png", noise(1200, 900))
    assert len(picture) > 2_000_000
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
    headers = {"Host": "www.example.com", "Authorization": "Bearer " + TOKEN}
    with contextlib.closing(connection):
        # nginx collects the pieces of a chunked body, and passes it on with its length.
        connection.request(
            "POST", "/line4/v1/classify", iter([picture]) if chunked else picture, headers, encode_chunked=chunked
        )
        answer = connection.getresponse()
        assert (answer.status, json.loads(answer.read().decode("ascii"))["label"]) == (200, "cat")
    with Answer(port, "/line4/v1/classify", Authorization=headers["Authorization"]) as refused:
        assert (refused.status, refused.headers["Allow"]) == (405, "POST")


def test_without_a_proxy_that_was_named_nobody_is_believed(show, tmp_path):
    (tmp_path / "token").write_text(TOKEN)
    _, port = show(readme_lines(), token_file=str(tmp_path / "token"), names=["www.example.com"])
    for number in range(TRIES):
        assert status(port, "/line4/?token=wrong", f"127.0.0.{number + 2}") == 401
    assert status(port, "/line4/?token=wrong", "127.0.0.99") == 429


def test_a_page_behind_a_proxy_that_was_named_needs_a_token(show):
    sink, port = show("location / { proxy_pass http://127.0.0.1:8080; }", proxies=["127.0.0.1"])
    assert sink.invitation.partition("?token=")[2]
    assert status(port, "/") == 401


@pytest.mark.parametrize(
    ("lines", "name"),
    [
        ("location / { proxy_pass http://127.0.0.1:8080; }", None),  # nginx's own Host: 127.0.0.1:8080
        ("location / { proxy_pass http://cam; }", "cam"),
        ("location / { proxy_pass http://127.0.0.1:8080; proxy_set_header Host $host; }", "www.example.com"),
        ("location / { proxy_pass http://127.0.0.1:8080; proxy_set_header Host $http_host; }", "www.example.com"),
    ],
)
def test_each_way_to_write_the_host_header_works(show, lines, name):
    _, port = show(lines, names=[name] if name else [])
    for path in ("/", "/state.json"):
        # As browsers request what a page needs; without Sec-Fetch-Site, Origin may be missing, too.
        assert status(port, path, Sec_Fetch_Site="same-origin", Origin="http://www.example.com") == 200
        assert status(port, path) == 200
    assert status(port, "/state.json", Sec_Fetch_Site="cross-site", Origin="http://evil.example") == 403
    assert status(port, "/state.json", Origin="http://evil.example") == 403


def test_a_name_that_a_proxy_passes_on_is_refused_and_whoever_started_the_page_is_told_how_to_allow_it(show, caplog):
    _, port = show("location / { proxy_pass http://127.0.0.1:8080; proxy_set_header Host $host; }")
    for _ in range(2):
        assert status(port, "/") == 403
    (message,) = [message for message in caplog.messages if "--live-name" in message]
    assert "--live-name www.example.com" in message


@pytest.mark.parametrize("address", ["proxy.example.com", "127.0.0.1:80", "127.0.0.1/8", "", "*"])
def test_a_proxy_that_is_no_address_is_refused(address):
    with pytest.raises(OptionError, match=r"--live-proxy .* is not an IP address"):
        open_access(proxies=[address])
