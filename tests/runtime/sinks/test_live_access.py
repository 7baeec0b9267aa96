"""Access to the live page: host names and tokens."""

import os
import re
import socket
from urllib.parse import quote, urlsplit

import pytest

from edgeclf_runtime.errors import OptionError
from edgeclf_runtime.sinks.live import access as live_access
from edgeclf_runtime.sinks.live.access import TOKEN_VARIABLE, TRIES, Access, open_access
from edgeclf_runtime.sinks.live.sink import LiveSink
from tests.support.attackers import say
from tests.support.watching import ask, cookie_of

TOKEN = "a token+with /odd? \u00fcmlauts;=&%"
PATHS = ("/", "/picture.jpg", "/picture.mjpg", "/state.json", "/events")
HOSTNAME = socket.gethostname()


def network(**access):
    """A page for every network of this machine."""
    return LiveSink("0.0.0.0:0", ["3"], access=Access(**access))


@pytest.fixture
def sink():
    with network(token=TOKEN.encode("utf-8")) as opened:
        yield opened


@pytest.fixture
def opened():
    with network(public=True, names=("cam.example.com",)) as sink:
        yield sink


def get(sink, path="/", address="127.0.0.1", **headers):
    """(status, headers as text, body) of a request to a page at any address."""
    headers = dict({"Host": "localhost"}, **{name.replace("_", "-"): value for name, value in headers.items()})
    lines = [f"GET {path} HTTP/1.1"] + ["{}: {}".format(*field) for field in headers.items()]
    head, _, body = say(sink, "\r\n".join([*lines, "", ""]).encode("utf-8"), address).partition(b"\r\n\r\n")
    return int(head.split()[1]), head.decode("latin-1"), body.decode("utf-8")


@pytest.mark.parametrize(
    "host",
    [
        "192.168.0.7",
        "10.0.0.1:8080",
        "[fe80::1]:80",
        "[2001:db8::7]",
        "localhost",
        "LocalHost.:9",
        HOSTNAME,
        HOSTNAME.split(".")[0].upper() + ".local:8080",
        "cam.example.com",
        "CAM.example.com.:443",
    ],
)
def test_a_page_for_the_network_answers_to_addresses_and_to_its_own_names(opened, host):
    assert get(opened, Host=host)[0] == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8080",
        "192.168.0.7.evil.example",
        "cam.example.com.evil.example",
        "localhost.evil.example",
        "evil.local",
        "1.2.3",
        "0x7f000001",
        "127.1",
        "::1",
        "[127.0.0.1]",
        "[::1",
        "user@localhost",
        "localhost/",
        "localhost:port",
        "localhost, evil.example",
        "",
    ],
)
def test_a_page_for_the_network_refuses_every_other_name_and_says_what_to_do(opened, host):
    for path in PATHS:
        status, _, body = get(opened, path, Host=host)
        assert status == 403
        assert body.startswith("this page does not answer to that host name: open " + opened.url)
    assert ("--live-name " + host.partition(":")[0] in body) == bool(re.match(r"[a-z0-9.]+(:\d+)?$", host))


def test_a_request_names_exactly_one_host(opened):
    for fields in (b"", b"Host: localhost\r\nHost: localhost\r\n", b"HOST: localhost\r\nhost: evil.example\r\n"):
        answer = say(opened, b"GET /state.json HTTP/1.1\r\n" + fields + b"\r\n")
        assert answer.startswith(b"HTTP/1.0 400 ")


def test_a_page_for_this_machine_answers_to_a_proxys_name_too():
    with LiveSink(":0", [], access=Access(names=("cam.example.com",))) as sink:
        assert get(sink, Host="cam.example.com")[0] == 200
        assert get(sink, Host="192.168.0.7")[0] == get(sink, Host=HOSTNAME + ".example")[0] == 403


@pytest.mark.parametrize("path", PATHS[1:])
@pytest.mark.parametrize(
    "headers",
    [
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Origin": "http://evil.example"},
        {"Origin": "http://localhost:9"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"},
    ],
)
def test_another_sites_page_gets_neither_pictures_nor_results(opened, path, headers):
    assert get(opened, path, **headers)[0] == 403


def test_the_page_itself_and_a_link_to_it_get_in(opened):
    assert get(opened, "/state.json", Sec_Fetch_Site="same-origin")[0] == 200
    assert get(opened, "/state.json", Sec_Fetch_Site="none")[0] == 200
    assert get(opened, "/state.json", Host="localhost:80", Origin="http://LOCALHOST:80")[0] == 200
    assert get(opened, "/", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate")[0] == 200
    assert get(opened, "/", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors")[0] == 403


@pytest.mark.parametrize("path", PATHS)
def test_without_the_token_nothing_is_shown(sink, path):
    for headers in ({}, {"Authorization": "Basic YTpi"}, {"Cookie": "edgeclf_live=1; ;=; x"}):
        status, head, body = get(sink, path, **headers)
        assert status == 401
        assert "WWW-Authenticate: Bearer" in head
        assert "a token is required: open the address that was printed" in body


def test_the_token_in_the_address_becomes_a_cookie_and_leaves_the_address(sink):
    for path, plain in (("/", "./"), ("/state.json", "./state.json")):
        status, head, _ = get(sink, path + "?x=1&token=" + quote(TOKEN, safe=""))
        assert status == 303
        assert f"Location: {plain}\r\n" in head
        assert re.search(r"Set-Cookie: edgeclf_live_\d+=[0-9a-f]{64}; HttpOnly; SameSite=Strict\r\n", head)
        assert TOKEN not in head
    assert get(sink, "/", Cookie=cookie_of(head))[0] == 200
    assert get(sink, "/?token=wrong", Cookie=cookie_of(head))[0] == 303


def test_a_program_brings_the_token_in_a_header(sink):
    for scheme in ("Bearer ", "bearer  "):
        assert get(sink, "/state.json", Authorization=scheme + TOKEN)[0] == 200
    assert get(sink, "/state.json", Authorization="Bearer " + TOKEN + "x")[0] == 401


@pytest.mark.parametrize("cookie", ["a=b; {}", '{}; a="x;y', ";;=; {} ;", "edgeclf_live=x; {}", "\u00fc=\u00fc;{}"])
def test_the_cookie_is_found_among_others(sink, cookie):
    own = cookie_of(get(sink, "/?token=" + quote(TOKEN, safe=""))[1])
    assert get(sink, "/state.json", Cookie=cookie.format(own))[0] == 200
    assert get(sink, "/state.json", Cookie=cookie.format(own[:-1]))[0] == 401
    assert get(sink, "/state.json", Cookie=cookie.format(own.partition("=")[0] + "="))[0] == 401


def test_a_page_that_stays_open_gets_in_after_a_restart_with_the_same_long_token():
    with network(token=b"0123456789abcdef") as sink:
        port, cookie = urlsplit(sink.url).port, cookie_of(get(sink, "/?token=0123456789abcdef")[1])
    for token, expected in ((b"0123456789abcdef", 200), (b"0123456789abcdeg", 401)):
        with LiveSink(f"0.0.0.0:{port}", [], access=Access(token=token)) as sink:
            assert get(sink, Cookie=cookie)[0] == expected


def test_a_short_token_cannot_be_guessed_from_its_cookie():
    with network(token=b"1234") as first, network(token=b"1234") as second:
        cookies = {cookie_of(get(sink, "/?token=1234")[1]).partition("=")[2] for sink in (first, second)}
    assert len(cookies) == 2


def test_wrong_tokens_are_limited_for_the_machine_that_tries_them(sink, monkeypatch):
    cookie = cookie_of(get(sink, "/?token=" + quote(TOKEN, safe=""))[1])
    for number in range(TRIES):
        assert get(sink, f"/?token=guess{number}")[0] == 401
    for right in (quote(TOKEN, safe=""), "guess"):
        status, head, body = get(sink, "/?token=" + right)
        assert (status, "Retry-After: 5\r\n" in head) == (429, True)
        assert body == "too many wrong tokens: try again in 5 s\n"
    assert get(sink, "/state.json", Cookie=cookie)[0] == 200, "who was let in stays in"
    assert get(sink, "/?token=" + quote(TOKEN, safe=""), "127.0.0.2")[0] == 303
    monkeypatch.setattr(live_access, "RECOVER_S", 1e-9)
    assert get(sink, "/?token=" + quote(TOKEN, safe=""))[0] == 303


def test_right_tokens_are_not_limited(sink):
    for _ in range(2 * TRIES):
        assert get(sink, "/state.json", Authorization="Bearer " + TOKEN)[0] == 200


def test_a_page_for_the_network_makes_a_token_of_its_own_each_time(caplog):
    with network() as first, network() as second:
        token = urlsplit(first.invitation).query
        assert re.match(r"token=[A-Za-z0-9_-]{24}$", token)
        assert first.invitation == first.url + "?" + token != second.invitation
        assert get(first)[0] == 401
        assert get(first, "/?" + token)[0] == 303
        assert token[6:] not in caplog.text
    assert "is not encrypted: anyone who can read the network's traffic sees the token and the images" in caplog.text


def test_a_token_of_the_user_is_never_printed(caplog):
    with network(token=b"geheim-geheim-geheim") as sink:
        get(sink, "/?token=geheim-geheim-geheim")
        assert sink.invitation == sink.url
    assert "geheim" not in caplog.text


def test_a_page_for_this_machine_needs_a_token_only_if_it_was_given_one():
    with LiveSink(":0", []) as sink:
        assert sink.invitation == sink.url
        assert ask(sink).status == 200
    with LiveSink(":0", [], access=Access(token=b"geheim")) as sink:
        assert ask(sink, "/state.json").status == 401
        assert ask(sink, "/state.json", Authorization="Bearer geheim").status == 200


@pytest.mark.parametrize("written", [b"geheim", b"geheim\n", b"geheim\r\n"])
def test_the_token_is_a_files_line_or_the_environments(tmp_path, monkeypatch, written):
    (tmp_path / "token").write_bytes(written)
    assert open_access(str(tmp_path / "token")).token == b"geheim"
    monkeypatch.setenv(TOKEN_VARIABLE, "\u00fcber")
    assert open_access().token == "\u00fcber".encode("utf-8")
    assert open_access(str(tmp_path / "token")).token == b"geheim"


@pytest.mark.parametrize(
    "written", [b"", b"\n", b"  \n", b" geheim\n", b"geheim\nheimlich\n", b"geheim\x00", b"x" * 513]
)
def test_a_file_that_holds_no_token_is_refused_without_quoting_it(tmp_path, written):
    (tmp_path / "token").write_bytes(written)
    with pytest.raises(OptionError, match="write one line of up to 512 bytes") as caught:
        open_access(str(tmp_path / "token"))
    assert "geheim" not in str(caught.value)


def test_what_is_no_token_in_the_environment_or_no_file_is_refused(tmp_path, monkeypatch):
    with pytest.raises(OptionError, match=r"cannot be read .No such file"):
        open_access(str(tmp_path / "token"))
    os.mkfifo(str(tmp_path / "pipe"))
    with pytest.raises(OptionError, match="it is a pipe, a regular file was expected"):
        open_access(str(tmp_path / "pipe"))
    monkeypatch.setenv(TOKEN_VARIABLE, "")
    with pytest.raises(OptionError, match=TOKEN_VARIABLE + " is not a valid token .*or unset it"):
        open_access()


def test_without_a_token_and_with_one_are_not_both_possible(monkeypatch):
    monkeypatch.setenv(TOKEN_VARIABLE, "geheim")
    with pytest.raises(OptionError, match="--live-open shows the page without a token, but EDGECLF_LIVE_TOKEN sets"):
        open_access(public=True)


@pytest.mark.parametrize("name", ["", "http://cam", "cam:80", "a b", "cam/", "-cam", "x" * 300, "cam\r\nSet-Cookie: x"])
def test_what_is_no_host_name_is_refused(name):
    with pytest.raises(OptionError, match=r"is not a host name: give one such as camera\.example\.com"):
        open_access(names=[name])


def test_host_names_are_taken_as_browsers_send_them():
    assert open_access(names=["CAM.example.com.", "k\u00fcche.local"]).names == (
        "cam.example.com",
        "xn--kche-0ra.local",
    )
