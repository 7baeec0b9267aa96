"""A camera's password: accepted sources, and places where it must never appear."""

import json
import os
from urllib.parse import quote

import pytest

from edgeclf_runtime.capture.open_camera import find_source, open_camera
from edgeclf_runtime.device.credentials import read_password
from edgeclf_runtime.device.process_secrets import CAMERA, MQTT, child_environment
from edgeclf_runtime.errors import CameraError, OutputError
from edgeclf_runtime.sinks import open_sink
from tests.runtime.capture.test_gstreamer import run_by_system, with_gstreamer
from tests.support.cameras import Server, has_rtsp_server
from tests.support.http_servers import HttpServer, basic, response
from tests.support.passwords import PASSWORD, leaks, password_file
from tests.support.pictures import encode, noise
from tests.support.starting import output_of, start

with_rtsp = pytest.mark.skipif(
    not has_rtsp_server(), reason="Debian's python3-gi and gir1.2-gst-rtsp-server-1.0 are not installed"
)


def closed_camera(method="digest"):
    return Server("rtsp", CAMERA_USER="admin", CAMERA_SECRET=PASSWORD, CAMERA_AUTH=method)


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


def test_an_mqtt_password_comes_from_a_file_too(tmp_path):
    from edgeclf_runtime.sinks.mqtt.sink import parse_address

    path = password_file(tmp_path)
    assert parse_address("mqtt://me@host/t", read_password(str(path)))["password"] == PASSWORD
    with pytest.raises(OutputError, match="'/' as %2F") as caught:
        open_sink("mqtt://me:12/ss@host/topic")
    assert leaks(str(caught.value), pieces=("12", "ss@")) == []
