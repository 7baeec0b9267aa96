"""A camera's password: accepted sources, and places where it must never appear."""

import base64
import json
import os
import re
import subprocess
import sys
from urllib.parse import quote

import pytest

from edgeclf_runtime.capture.diagnosis import diagnosis
from edgeclf_runtime.capture.open_camera import find_source, open_camera
from edgeclf_runtime.device.credentials import read_password
from edgeclf_runtime.device.process_secrets import CAMERA, MQTT, child_environment
from edgeclf_runtime.errors import CameraError, EdgeclfError, OptionError, OutputError
from edgeclf_runtime.sinks import open_sink
from edgeclf_runtime.text import redaction
from tests.runtime.capture.test_gstreamer import run_by_system, with_gstreamer
from tests.support.cameras import Server, has_rtsp_server
from tests.support.http_servers import HttpServer, basic, response
from tests.support.pictures import encode, noise
from tests.support.starting import output_of, start

PASSWORD = "p@ss#1/ %"
# Any part of it that could be recognized.
PIECES = ("p@ss", "ss#1", "p%40ss", "ss%231", base64.b64encode(b"admin:" + PASSWORD.encode()).decode())
with_rtsp = pytest.mark.skipif(
    not has_rtsp_server(), reason="Debian's python3-gi and gir1.2-gst-rtsp-server-1.0 are not installed"
)


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch):
    """Each test has its own secrets."""
    monkeypatch.setattr(redaction, "_known", {})
    monkeypatch.setattr(redaction, "_pattern", None)
    monkeypatch.delenv(CAMERA, raising=False)
    monkeypatch.delenv(MQTT, raising=False)


def closed_camera(method="digest"):
    return Server("rtsp", CAMERA_USER="admin", CAMERA_SECRET=PASSWORD, CAMERA_AUTH=method)


def password_file(folder, text=PASSWORD + "\n", mode=0o600):
    path = folder / "password"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    path.chmod(mode)
    return path


def processes_of(pid):
    """A process and its descendants, with their command lines and environments."""
    parents = {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{entry}/stat") as stream:
                parents[int(entry)] = int(stream.read().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue  # it has just ended
    found = {pid}
    for _ in parents:
        found |= {child for child, parent in parents.items() if parent in found}
    shown = []
    for each in found:
        for name in ("cmdline", "environ"):
            with open(f"/proc/{each}/{name}", "rb") as stream:
                shown.append(stream.read().decode("utf-8", "replace"))
    assert len(found) > 1
    return shown


def leaks(*texts, pieces=PIECES):
    return [(piece, text) for text in texts for piece in pieces if piece in text]


def run_until_the_end(bundle, *arguments, **environment):
    """Start a run over a few frames; return its labels and everything that is visible from outside."""
    arguments = ("run", *arguments, "--json", "--frames", "20", "--timeout", "20")
    process = start(bundle, *arguments, environment=environment)
    first = process.stdout.readline().decode("utf-8")
    shown = processes_of(process.pid) if first else []
    code, out, err = output_of(process)
    assert code == 0, err
    return [json.loads(line)["label"] for line in (first + out).splitlines()], [first, out, err, *shown]


@pytest.mark.slow
@with_rtsp
@pytest.mark.parametrize("method", ["digest", "basic"])
def test_a_run_takes_the_password_from_the_environment_and_shows_it_nowhere(bundle, method):
    with closed_camera(method) as server:
        source = server.uri().replace("rtsp://", "rtsp://admin@")
        labels, shown = run_until_the_end(bundle, "--source", source, **{CAMERA: PASSWORD, MQTT: PASSWORD})
    assert len(labels) == 20
    assert leaks(*shown) == []


@pytest.mark.slow
@with_rtsp
@pytest.mark.parametrize("form", ["rtsp://admin@{}", "rtsp://admin:{{password}}@{}", "RTSP://admin@{}"])
def test_a_run_takes_the_password_from_a_file_and_shows_it_nowhere(bundle, tmp_path, form):
    with closed_camera() as server:
        source = form.format(server.uri().replace("rtsp://", ""))
        path = password_file(tmp_path)
        labels, shown = run_until_the_end(bundle, "--source", source, "--password-file", path)
    assert len(labels) == 20
    assert leaks(*shown) == []


@pytest.mark.slow
@with_rtsp
def test_a_typed_password_causes_one_warning_and_is_removed_from_the_process_list(bundle):
    with closed_camera() as server:
        source = server.uri().replace("rtsp://", "rtsp://admin:{}@".format(quote(PASSWORD, safe="")))
        labels, shown = run_until_the_end(bundle, "--source=" + source)
    assert len(labels) == 20
    assert leaks(*shown) == []
    warnings = [
        line for line in shown[2].splitlines() if line.startswith("WARNING: the address of the source contains")
    ]
    assert len(warnings) == 1
    assert "EDGECLF_CAMERA_PASSWORD or --password-file" in warnings[0]


@pytest.mark.slow
@with_rtsp
def test_a_wrong_password_is_an_error_that_does_not_show_it(bundle, tmp_path):
    path = password_file(tmp_path, "wr@ng one")
    with closed_camera() as server:
        source = server.uri().replace("rtsp://", "rtsp://admin@")
        code, out, err = output_of(start(bundle, "run", "--source", source, "--password-file", path))
    assert (code, out) == (1, "")
    assert '"method DESCRIBE failed: 401 ' in err
    assert "the camera rejects the user name and password: use an account of the camera" in err
    assert leaks(err, pieces=("wr@ng", "wr%40ng")) == []


@pytest.mark.slow
@with_rtsp
@with_gstreamer
def test_a_pipeline_takes_the_password_too(monkeypatch):
    read = (
        "import os, sys\n"
        "from edgeclf_runtime.capture.open_camera import open_camera\n"
        "with open_camera(sys.argv[1], timeout_s=20) as camera: print(camera.read().image.shape)"
    )
    with closed_camera() as server:
        pipeline = "gst://rtspsrc location={} user-id=admin user-pw={{password}} protocols=tcp ! decodebin"
        monkeypatch.setenv(CAMERA, PASSWORD)
        found = run_by_system(read, pipeline.format(server.uri()))
    assert found.stdout == b"(120, 160, 3)\n", found.stderr.decode()
    assert leaks(found.stderr.decode()) == []


@pytest.mark.slow
def test_an_http_camera_takes_the_password_as_a_user_and_as_a_parameter(monkeypatch):
    def answer(path, headers):
        right = headers.get("authorization") == basic("me", PASSWORD) or path.endswith(quote(PASSWORD, safe=""))
        challenge = {"WWW_Authenticate": 'Basic realm="x"'}
        return response(encode(".png", noise(32, 16)), "image/png") if right else response(status="401 No", **challenge)

    monkeypatch.setenv(CAMERA, PASSWORD)
    with HttpServer(answer) as server:
        for uri in (server.uri(user="me@"), server.uri("/video?user=me&pwd={password}")):
            with open_camera(uri) as camera:
                assert camera.read().image.shape == (16, 32, 3)


@pytest.mark.parametrize(
    ("password", "quoted"),
    [
        (PASSWORD, '"p@ss#1/ %"'),
        ('a"b\\c', '"a\\"b\\\\c"'),
        ("! fakesink", '"! fakesink"'),
        ('"q"', '"\\"\\\\042\\\\161\\\\042\\""'),
    ],
)
def test_a_password_in_a_pipeline_is_quoted_and_in_its_addresses_percent_encoded(password, quoted):
    template = 'gst://a user-pw={password} ! b user-pw="{password}" ! c location=rtsp://u:{password}@h/x ! appsink'
    expected = "a user-pw={0} ! b user-pw={0} ! c location=rtsp://u:{1}@h/x ! appsink"
    source = find_source(template, password=password)
    assert source.location == expected.format(quoted, quote(password, safe=""))
    assert source.name == "gst://a user-pw=... ! b user-pw=... ! c location=rtsp://h/x ! appsink"


@pytest.mark.parametrize(
    ("uri", "location"),
    [
        ("rtsp://me@host/x", "rtsp://me:p%40ss%231%2F%20%25@host/x"),
        ("rtsp://me:{password}@host/x", "rtsp://me:p%40ss%231%2F%20%25@host/x"),
        ("http://host/v?user=me&pwd={password}", "http://host/v?user=me&pwd=p%40ss%231%2F%20%25"),
        (
            "rtsp://host/user=me_password={password}_channel=1",
            "rtsp://host/user=me_password=p%40ss%231%2F%20%25_channel=1",
        ),
        ("rtsp://me:own@host/x", "rtsp://me:own@host/x"),
        ("rtsp://me:@host/x", "rtsp://me:@host/x"),
        ("rtsp://host/x", "rtsp://host/x"),
    ],
)
def test_a_password_is_put_where_it_belongs(monkeypatch, uri, location):
    monkeypatch.setenv(CAMERA, PASSWORD)
    source = find_source(uri)
    assert source.location == location
    assert leaks(source.name) == []


def test_a_missing_password_and_an_unused_one_are_reported(caplog):
    with pytest.raises(CameraError, match=r"rtsp://host/x needs a password: set the environment variable EDGECLF_CAM"):
        find_source("rtsp://me:{password}@host/x")
    find_source("rtsp://host/x", password="unused one")
    assert "the password is not used: rtsp://host/x has neither a user name" in caplog.text


@pytest.mark.parametrize(
    ("uri", "advice", "hidden"),
    [
        ("rtsp://admin:p@ss#1@10.0.0.1/x", "'@' as %40, '#' as %23", ("p@", "ss#", "#1", "10.0")),
        ("rtsp://admin:pa/ss@HOST", "'/' as %2F", ("pa/", "ss@")),
        ("rtsp://admin:12/ss@HOST/x", "'/' as %2F", ("12", "/ss")),
        ("rtsp://admin:wo?rd@HOST", "'?' as %3F", ("wo?", "rd@")),
        ("rtsp://admin:wo:rd@HOST", "':' as %3A", ("wo:", "rd@")),
        ("rtsp://admin:wo%rd@HOST", "'%' as %25", ("wo%", "rd@")),
        ("rtsp://admin:wo rd@HOST", "' ' as %20", ("wo ", "rd@")),
        ("rtsp://admin:w\u00f6rd@HOST", "two hexadecimal digits per UTF-8 byte", ("w\u00f6", "rd@")),
        ('rtsp://admin:wo"rd@HOST', "everything except A-Z a-z 0-9", ('wo"', "rd@")),
        ("rtsp://admin:wo\nrd@HOST", "control character", ("wo\n", "rd@")),
        ("rtsp://us@er:word@HOST", "'@' as %40", ("us@", "er:", "word@")),
        ("rtsp://us/er:word@HOST", "'/' as %2F", ("us/", "er:", "word@")),
        ("HTTP://admin:wo#rd@HOST/x", "'#' as %23", ("wo#", "rd@")),
        ("rtsps://admin:wo[rd@[fe80::1]:322/x", "'[' as %5B", ("wo[", "rd@")),
        ("rtsp://admin:word@HOST:port/x", "expected rtsp://HOST:PORT/PATH", ("word@", "admin")),
        ("rtsp://admin:word@", "expected rtsp://HOST:PORT/PATH", ("word@", "admin")),
        ("rtsp://admin:word", "expected rtsp://HOST:PORT/PATH", ("admin:word",)),
        ("rtsp://HOST:8554/x@y", "'@' belongs to the path, write that as %40", ("8554",)),
    ],
)
def test_an_ambiguous_address_is_refused_without_showing_it(uri, advice, hidden):
    with pytest.raises(CameraError) as caught:
        open_camera(uri)
    assert advice in str(caught.value)
    assert "--password-file" in str(caught.value)
    assert leaks(str(caught.value), repr(caught.value), pieces=hidden) == []


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("rtsp://admin:word@10.0.0.1:8554/ch/101", "rtsp://10.0.0.1:8554/ch/101"),
        ("RTSP://admin:word@host/x", "rtsp://host/x"),
        ("rtsp://:word@host/x", "rtsp://host/x"),
        ("rtsp://admin:word@[fe80::1]:554/x", "rtsp://[fe80::1]:554/x"),
        ("rtsp://[fe80::1]/x@y", "rtsp://[fe80::1]/x%40y"),
        ("http://host/video?user=a&password=b", "http://host/video?..."),
        ("http://host/x?channel=2&token=abc&subtype=1", "http://host/x?channel=2&...&subtype=1"),
        (
            "rtsp://10.0.0.1/user=admin_password=xyz_channel=1_stream=0.sdp",
            "rtsp://10.0.0.1/channel=1&stream=0.sdp&...",
        ),
        ("rtsps://10.0.0.1:7441/aBcD1234eFgH5678?enableSrtp", "rtsps://10.0.0.1:7441/...?..."),
        ("http://host/live/me:word/1.ts", "http://host/live/.../1.ts"),
        ("http://host/x#word", "http://host/x"),
        (
            "gst://souphttpsrc location=https://u:w@h/x?sig=z user-pw=b proxy-pw=c cookies=d ! queue ! appsink",
            "gst://souphttpsrc location=https://h/x?... user-pw=... proxy-pw=... cookies=... ! queue ! appsink",
        ),
        (
            'gst://srtsrc uri="srt://h:1?passphrase=a" passphrase = "b c" ! x',
            "gst://srtsrc uri=srt://h:1?... passphrase=... ! x",
        ),
        ("gst://rtspsrc user-pw=my own word latency=0 ! queue", "gst://rtspsrc user-pw=... ... ... latency=0 ! queue"),
        ("gst://rtspsrc location=rtsp://u:a b@h/x ! queue", "gst://rtspsrc location=rtsp://... ... ! queue"),
        ('gst://x extra-headers="h,Authorization=\\"Basic YQ==\\"" ! y', "gst://x extra-headers=... ! y"),
    ],
)
def test_a_name_identifies_the_camera_without_secrets(uri, name):
    assert find_source(uri).name == name


def test_the_suggested_pipeline_is_shown_without_secrets_and_otherwise_unchanged():
    closed = find_source("gst://rtspsrc location=rtsp://a:b@h/x user-pw=secret ! decodebin")
    assert (
        'gst-launch-1.0 -v rtspsrc location=rtsp://a:"$EDGECLF_CAMERA_PASSWORD"@h/x user-pw="$EDGECLF_CAMERA_PASSWORD" '
        "! decodebin ! videoconvert"
    ) in str(CameraError(diagnosis(closed, [])))


@pytest.mark.parametrize(
    "uri", ["rtmp://u:word@h/x", "rtsp:admin:word@h/x", "rtsp:/admin:word@h", "admin:word@h", "x,login=word"]
)
def test_an_invalid_source_is_reported_without_its_password(uri):
    with pytest.raises(CameraError, match="no such source") as caught:
        open_camera(uri)
    assert "word" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty; a password was expected"),
        ("\n", "is empty; a password was expected"),
        ("two\nlines\n", "has several lines"),
        ("\x1b[0m", "has several lines or a control character"),
        (b"\xff\xfe", "is not UTF-8"),
        ("x" * 5000, "is larger than 4096 bytes"),
    ],
)
def test_a_file_without_a_password_is_refused(tmp_path, text, message):
    with pytest.raises(OptionError, match=message):
        read_password(str(password_file(tmp_path, text)))


def test_a_password_file_that_is_not_a_file_is_refused(tmp_path):
    os.mkfifo(str(tmp_path / "pipe"))
    for name, reason in (("pipe", "it is a pipe"), (".", "it is a folder"), ("gone", "No such file")):
        with pytest.raises(OptionError, match=reason + r".*name a file with the password as its only line"):
            read_password(str(tmp_path / name))


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_the_line_end_is_not_part_of_the_password(tmp_path, end, caplog):
    assert read_password(str(password_file(tmp_path, " pass word " + end))) == " pass word "
    assert caplog.messages == []


@pytest.mark.slow
def test_a_password_file_that_is_missing_is_named(fails):
    for option in (["--password-file=/gone/file"], ["--password-file", "/gone/file"]):
        assert "the password file /gone/file cannot be read (No such file" in fails(
            "run", "--source", "test://", *option
        )


def test_a_password_file_that_others_can_read_causes_a_warning(tmp_path, caplog):
    read_password(str(password_file(tmp_path, mode=0o644)))
    assert "every user of this machine can read the password file" in caplog.text


def test_children_get_the_environment_without_the_passwords(monkeypatch):
    for variable in (CAMERA, MQTT, "EDGECLF_LIVE_TOKEN"):
        monkeypatch.setenv(variable, PASSWORD)
    monkeypatch.setenv("OTHER", "value")
    environment = child_environment({"OTHER": "default", "FURTHER": "default"})
    assert (environment["OTHER"], environment["FURTHER"]) == ("value", "default")
    assert PASSWORD not in environment.values()


def test_the_doctors_and_the_builds_children_get_no_password(monkeypatch):
    from edgeclf_runtime.commands.doctor.checks import ask

    monkeypatch.setenv(CAMERA, PASSWORD)
    assert PASSWORD not in ask("import os\nreturn list(os.environ.values())").found


# Free text


@pytest.mark.parametrize(
    "form",
    [
        "rtsp://admin:{raw}@host/x",
        'could not set property to "{raw}"',
        "{coded}",
        "{lower}",
        "Authorization: Basic {basic}",
        "OSError({repr})",
        "?pwd={raw}",
    ],
)
def test_a_known_secret_is_removed_from_every_text(form):
    redaction.protect(PASSWORD, "admin")
    coded = quote(PASSWORD, safe="")
    text = form.format(raw=PASSWORD, coded=coded, lower=coded.lower(), repr=repr(PASSWORD), basic=PIECES[-1])
    assert leaks(redaction.redact(text), str(EdgeclfError(text)), pieces=(*PIECES, coded.lower())) == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cannot open rtsp://me:word@host/x: refused", "cannot open rtsp://***@host/x: refused"),
        ("cannot open 'rtsp://me:wo/r@d@host/x'", "cannot open 'rtsp://***@host/x'"),
        ('rtspsrc user-pw="two words" latency=0', "rtspsrc user-pw=*** latency=0"),
        ("GET /x?token=abc&channel=1", "GET /x?token=***&channel=1"),
        (
            "--password-file=/etc/x and --live-key=/etc/y are paths",
            "--password-file=/etc/x and --live-key=/etc/y are paths",
        ),
        ("no secret at all: a=b, rtsp://host/x", "no secret at all: a=b, rtsp://host/x"),
    ],
)
def test_anything_that_looks_like_a_secret_is_removed(text, shown):
    assert redaction.redact(text) == shown


def test_a_short_password_is_removed_only_as_a_whole_word():
    redaction.protect("cam")
    assert redaction.redact("camera cam is lost") == "camera *** is lost"


# The command line


@pytest.fixture
def fails(bundle):
    """Start a command that cannot work; return all its output."""

    def fails(*arguments, **environment):
        code, out, err = output_of(start(bundle, *arguments, environment=environment))
        assert code != 0
        assert "Traceback" not in err
        return out + err

    return fails


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "--source", "rtsp://admin:hun/ter@127.0.0.1:1/x"],
        ["run", "--source", "rtsp://admin:hunter@127.0.0.1:1/x"],
        ["run", "--source", "gst://nosuchthing user-pw=hunter ! x"],
        ["rtsp://admin:hun ter@127.0.0.1/x"],
        ["run", "--flip", "rtsp://admin:hun ter@127.0.0.1/x", "--source", "x"],
        ["run", "--frames", "http://h/x?password=hunter", "--source", "x"],
        ["run", "--source", "x", "rtsp:admin:hunter@127.0.0.1"],
        ["classify", "rtsp://admin:hunter@127.0.0.1:1/x"],
        ["run", "--source", "test://", "--sink", "mqtt://me:12/hunter@127.0.0.1/t"],
        ["run", "--source", "test://", "--sink", "mqtt:/me:hunter@127.0.0.1/t"],
        ["run", "--source", "test://", "--sink", "MQTTX://me:hunter@127.0.0.1/t"],
        ["run", "--source", "test://", "--live", "me:hunter@127.0.0.1:0"],
    ],
)
def test_a_usage_error_does_not_show_a_password(fails, arguments):
    said = fails(*arguments)
    assert re.search("error: ", said)
    assert leaks(said, pieces=("hunter", "ter@", "ter'", "12/")) == []


def test_an_unexpected_exception_does_not_show_a_password():
    script = (
        "import sys\n"
        "from edgeclf_runtime.__main__ import main\n"
        "from edgeclf_runtime.commands.dispatch import COMMANDS\n"
        "def fail(arguments): raise RuntimeError('cannot open ' + arguments.source + '\\n\\x1b]0;title\\x07')\n"
        "COMMANDS['run'] = fail\n"
        "main(sys.argv[1:], 'x.edge')"
    )
    command = [sys.executable, "-c", script, "run", "--source", "rtsp://admin:hun ter@host/x"]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
    )
    err = process.communicate()[1].decode("utf-8")
    assert "RuntimeError: cannot open rtsp://***@host/x" in err
    assert leaks(err, pieces=("hun ter", "admin", "\x1b")) == []


def test_an_mqtt_password_comes_from_a_file_too(tmp_path):
    from edgeclf_runtime.sinks.mqtt.sink import parse_address

    path = password_file(tmp_path)
    assert parse_address("mqtt://me@host/t", read_password(str(path)))["password"] == PASSWORD
    with pytest.raises(OutputError, match="'/' as %2F") as caught:
        open_sink("mqtt://me:12/ss@host/topic")
    assert leaks(str(caught.value), pieces=("12", "ss@")) == []
